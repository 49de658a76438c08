//! Tokens `{{key}}` in the texts of a document, and whether the variables that they name fit the place. Nothing here fills
//! one in.

use std::collections::HashMap;

use super::{Pattern, pattern};
use crate::model::render::Template;
use crate::model::variable::{VariableDefinition, VariableType};

/// The expression of one token, as `model::render` reads it.
macro_rules! token {
    () => {
        r"\{\{[ \t]*[a-zA-Z_][a-zA-Z0-9_]{0,99}[ \t]*\}\}"
    };
}
pub(crate) use token;

/// A text that is one token and nothing else.
pub static WHOLE: Pattern = pattern!(
    concat!("^", token!(), "$"),
    "must be one variable as a whole, such as {{key}}"
);

/// What a variable holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// A text.
    Text,
    /// An image with its size.
    Image,
    /// What a press does.
    Action,
}

impl Typed {
    /// The word that stands for it in a variable schema.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Text => "string",
            Self::Image => "image",
            Self::Action => "action",
        }
    }
}

impl From<VariableType> for Typed {
    fn from(variable_type: VariableType) -> Self {
        match variable_type {
            VariableType::String => Self::Text,
            VariableType::Image => Self::Image,
            VariableType::Action => Self::Action,
        }
    }
}

/// The declared variables. Keys that are not among them are texts.
#[derive(Debug, Default)]
pub struct Declared<'a>(HashMap<&'a str, Typed>);

impl<'a> Declared<'a> {
    /// The variables of a schema; of a key that stands in it twice, the first.
    #[must_use]
    pub fn of(schema: &'a [VariableDefinition]) -> Self {
        let definitions = schema.iter().rev();
        Self(
            definitions
                .map(|definition| (definition.key.as_str(), definition.variable_type.into()))
                .collect(),
        )
    }

    /// Variables of these types.
    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&'a str, Typed)]) -> Self {
        Self(pairs.iter().copied().collect())
    }

    /// What the variable with this key holds.
    #[must_use]
    pub fn of_key(&self, key: &str) -> Typed {
        self.0.get(key).copied().unwrap_or(Typed::Text)
    }

    /// How the variable with this key came to its type, for messages.
    #[must_use]
    pub fn source(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(typed) => format!("{{{{{key}}}}} is of type {}", typed.word()),
            None => format!("{{{{{key}}}}} is not declared in variableSchema and therefore of type string"),
        }
    }
}

/// The keys of the tokens in a text, in their order.
#[must_use]
pub fn keys(text: &str) -> Vec<String> {
    // Most texts have none; and what is too large to compile is refused for that, not for its tokens.
    if !text.contains("{{") {
        return Vec::new();
    }
    Template::compile(text).map_or_else(|_| Vec::new(), |template| template.keys().map(str::to_owned).collect())
}

/// Whether a text is one token and nothing else.
#[must_use]
pub fn is_whole(text: &str) -> bool {
    text.starts_with("{{") && WHOLE.matches(text)
}

/// The number of characters beside the tokens of a text.
#[must_use]
pub fn characters_beside(text: &str) -> usize {
    TOKEN.count_beside(text)
}

/// One token anywhere.
static TOKEN: Pattern = pattern!(token!(), "must hold a variable");

impl Pattern {
    fn count_beside(&self, text: &str) -> usize {
        let all = text.chars().count();
        let Some(regex) = self.compiled.as_ref() else {
            return all;
        };
        regex
            .find_iter(text)
            .fold(all, |left, found| left.saturating_sub(found.as_str().chars().count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_expression_reads_tokens_as_the_renderer_does() {
        for text in [
            "{{a}}",
            "{{ a }}",
            "{{\ta\t}}",
            "{{{a}}}",
            "{{a}}{{b}}",
            "x{{a}}y",
            "{{1}}",
            "{{}}",
            "{{a b}}",
            "{{a",
            "a}}",
            "{{a}}}",
            "{{_A9}}",
            "{{é}}",
            "{ {a}}",
            "{{a}}\n",
            "\n{{a}}",
            "{{\na}}",
        ] {
            let count = TOKEN.compiled.as_ref().unwrap().find_iter(text).count();
            assert_eq!(keys(text).len(), count, "{text:?}");
            let whole = TOKEN
                .compiled
                .as_ref()
                .unwrap()
                .find(text)
                .is_some_and(|found| found.as_str() == text);
            assert_eq!(is_whole(text), whole, "{text:?}");
        }
        let longest = "k".repeat(100);
        assert!(is_whole(&format!("{{{{{longest}}}}}")));
        assert!(!is_whole(&format!("{{{{{longest}k}}}}")));
        assert_eq!(characters_beside("A{{b}}é"), 2);
    }
}
