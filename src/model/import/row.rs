//! What the cells of an imported file are for: who a row is about, and which values they get. Nothing here reads a file.

use std::collections::{BTreeMap, BTreeSet};

use serde::de::DeserializeOwned;

use super::csv::{CELLS_MAX, Cells, refused};
use crate::model::user::{self, Uid};
use crate::model::variable::{
    ActionValue, ImageValue, VariableDefinition, VariableType, VariableValue, VariableValues,
};
use crate::model::{Error, Violation};

/// The names of the column that says who a row is about; the first is the one that is told.
const USER: [&str; 3] = ["user_id", "userId", "uid"];
/// The longest name of a column, in characters.
const NAME_MAX: usize = 100;
/// Pixels of a picture.
const PIXELS_MAX: u32 = 100_000;

/// What each column is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    names: Vec<String>,
    user: usize,
    types: BTreeMap<usize, VariableType>,
}

impl Columns {
    /// What the first row says, of a file for a template with these variables.
    ///
    /// # Errors
    /// Bad request, when it does not name every column once, and one of them as the user.
    pub fn of(cells: Cells<'_>, schema: &[VariableDefinition]) -> Result<Self, Error> {
        let mut names = Vec::new();
        for index in 0..cells.len() {
            let name = cells.text(index).ok().ok_or_else(|| super::csv::not_encoded(1))?;
            names.push(check_name(index, name.trim())?);
        }
        let mut seen = BTreeSet::new();
        if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(refused(&format!("names the column {name} twice: remove or rename one")));
        }
        let users: Vec<usize> = (0..names.len())
            .filter(|index| names.get(*index).is_some_and(|name| USER.contains(&name.as_str())))
            .collect();
        let user = match users.as_slice() {
            [one] => *one,
            [] => {
                let found = Violation::new("", "")
                    .received(names.join(", "))
                    .received
                    .unwrap_or_default();
                let problem = format!("has no column user_id: its first row names the columns, and is {found:?}");
                return Err(refused(&problem));
            }
            _ => {
                return Err(refused(
                    "has more than one of the columns user_id, userId and uid: keep one",
                ));
            }
        };
        let types = names.iter().enumerate().filter_map(|(index, name)| {
            let declared = schema.iter().find(|definition| definition.key == *name)?;
            Some((index, declared.variable_type))
        });
        Ok(Self {
            types: types.collect(),
            names,
            user,
        })
    }

    /// Who a row is about, and which values they get.
    ///
    /// # Errors
    /// Everything that is wrong with the row, by column.
    pub fn read(&self, cells: Cells<'_>) -> Result<(Uid, VariableValues), Vec<Violation>> {
        if cells.len() != self.names.len() {
            let (due, found) = (self.names.len(), cells.len());
            let rule = format!("must have {due} cells, as the first row has, but has {found}");
            return Err(vec![Violation::new("", rule)]);
        }
        let (mut uid, mut values, mut wrong) = (None, VariableValues::new(), Vec::new());
        for (index, name) in self.names.iter().enumerate() {
            let text = match cells.text(index) {
                Ok(text) => text,
                Err(violation) => {
                    wrong.push(Violation {
                        field: name.clone(),
                        ..violation
                    });
                    continue;
                }
            };
            if index == self.user {
                match user::uid_in(name, text.trim_matches([' ', '\t'])) {
                    Ok(found) => uid = Some(found),
                    Err(violation) => wrong.push(violation),
                }
            } else if !text.is_empty() {
                let declared = self.types.get(&index).copied().unwrap_or_default();
                let value = value_of(declared, name, text);
                match value.and_then(|value| value.check(name).map_or(Ok(value), Err)) {
                    Ok(value) => drop(values.insert(name.clone(), value)),
                    Err(violation) => wrong.push(violation),
                }
            }
        }
        match uid {
            Some(uid) if wrong.is_empty() => Ok((uid, values)),
            Some(_) | None => Err(wrong),
        }
    }
}

fn check_name(index: usize, name: &str) -> Result<String, Error> {
    let number = index + 1;
    if number > CELLS_MAX {
        return Err(refused(&format!("has more than {CELLS_MAX} columns: remove some")));
    }
    // As the keys of variables are in the contract, so that what is imported could have been said there.
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let begins_well = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    if name.is_empty() {
        return Err(refused(&format!(
            "has no name for column {number}: name it in the first row, or remove it"
        )));
    }
    if name.len() > NAME_MAX || !begins_well || !name.chars().all(plain) {
        let found = Violation::new("", "").received(name).received.unwrap_or_default();
        let problem = format!(
            "names column {number} {found:?}: a name has 1 to {NAME_MAX} letters a to z, digits and underscores, and does not \
             begin with a digit; rename it, or remove it"
        );
        return Err(refused(&problem));
    }
    Ok(name.to_owned())
}

/// The value that a cell stands for.
fn value_of(declared: VariableType, name: &str, text: String) -> Result<VariableValue, Violation> {
    let wrong = |example: &str, text: &str| {
        let rule = format!("must be {declared} as JSON such as {example}, as the template declares it");
        Violation::new(name, rule).received(text)
    };
    match declared {
        VariableType::String => Ok(VariableValue::Text(text)),
        VariableType::Image => object::<ImageValue>(&text)
            .filter(|image| {
                [image.width, image.height]
                    .iter()
                    .all(|size| (1..=PIXELS_MAX).contains(size))
            })
            .map(VariableValue::Image)
            .ok_or_else(|| wrong(r#"{"url":"https://…","width":640,"height":480}"#, &text)),
        VariableType::Action => object::<ActionValue>(&text)
            .map(VariableValue::Action)
            .ok_or_else(|| wrong(r#"{"type":"web","data":"https://…"}"#, &text)),
    }
}

fn object<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::super::Encoding;
    use super::super::csv::{Place, Rows, Step, delimiter_of};
    use super::*;

    fn rows(file: &[u8]) -> Rows {
        Rows::new(delimiter_of(file), Place::start(0), false)
    }

    fn first(file: &[u8], schema: &[VariableDefinition]) -> Result<Columns, Error> {
        let mut rows = rows(file);
        let mut input = file;
        if matches!(rows.read(&mut input)?, Step::More) {
            rows.read(&mut input)?;
        }
        Columns::of(rows.cells(Encoding::Utf8), schema)
    }

    fn declared(key: &str, variable_type: VariableType) -> VariableDefinition {
        VariableDefinition {
            key: key.to_owned(),
            variable_type,
            name: None,
            required: false,
            default_value: None,
        }
    }

    fn row(header: &str, line: &str, schema: &[VariableDefinition]) -> Result<(Uid, VariableValues), Vec<Violation>> {
        let columns = first(header.as_bytes(), schema).unwrap();
        let mut rows = rows(header.as_bytes());
        let text = format!("{line}\n");
        assert!(matches!(rows.read(&mut text.as_bytes()).unwrap(), Step::Row));
        columns.read(rows.cells(Encoding::Utf8))
    }

    #[test]
    fn the_first_row_names_every_column_once_and_one_of_them_is_the_user() {
        for header in ["user_id", "userId,code", "code;uid", " user_id ,First_name2", "uid,_"] {
            assert!(first(header.as_bytes(), &[]).is_ok(), "{header}");
        }
        for (header, advice) in [
            ("email,code", "no column user_id"),
            ("user_id,code,code", "code twice"),
            ("user_id,uid", "more than one"),
            ("user_id,", "no name for column 2"),
            ("user_id,first name", "names column 2 \"first name\""),
            ("user_id,a,first-name", "names column 3 \"first-name\""),
            ("user_id,2nd", "names column 2 \"2nd\""),
            ("user_id,näme", "names column 2 \"näme\""),
        ] {
            let refused = first(header.as_bytes(), &[]).unwrap_err();
            assert!(refused.dev_message().contains(advice), "{header}: {refused}");
        }
    }

    #[test]
    fn a_row_is_a_user_with_values_and_an_empty_cell_is_none() {
        let (uid, values) = row("user_id,code,name", " Ada ,,Ada L.", &[]).unwrap();
        assert_eq!(uid.as_str(), "ada");
        assert_eq!(values.keys().collect::<Vec<_>>(), ["name"]);
    }

    #[test]
    fn values_have_the_type_that_the_template_declares() {
        let schema = [
            declared("logo", VariableType::Image),
            declared("go", VariableType::Action),
        ];
        let good =
            r#"ada;{"url":"https://a.example/b.png","width":1,"height":2};{"type":"web","data":"https://a.example"}"#;
        let (_, values) = row("user_id;logo;go", good, &schema).unwrap();
        assert_eq!(values.len(), 2);
        for (line, column) in [
            ("ada;https://a.example/b.png;", "logo"),
            (r#"ada;{"url":"https://a.example/b.png","width":0,"height":2};"#, "logo"),
            (r#"ada;{"url":"javascript:alert(1)","width":1,"height":2};"#, "logo.url"),
            (r#"ada;;{"type":"phone","data":"1"}"#, "go"),
        ] {
            let wrong = row("user_id;logo;go", line, &schema).unwrap_err();
            assert_eq!(
                wrong.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(),
                [column],
                "{line}"
            );
        }
    }

    #[test]
    fn everything_that_is_wrong_with_a_row_is_told() {
        let long = "x".repeat(5_000);
        let wrong = row("user_id,code", &format!("a b,{long}"), &[]).unwrap_err();
        assert_eq!(
            wrong.iter().map(|one| one.field.as_str()).collect::<Vec<_>>(),
            ["user_id", "code"]
        );
        let wrong = row("user_id,code", "ada", &[]).unwrap_err();
        assert!(wrong.first().unwrap().rule.contains("must have 2 cells"));
    }
}
