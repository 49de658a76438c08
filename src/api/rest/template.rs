//! Path templates of `google.api.http`, cut into what a trie needs. The build script reads this file too, so it uses
//! nothing but the standard library; it never matches a path.

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Segment {
    /// Exactly this text.
    Literal(String),
    /// `*`: any one segment that is not empty.
    One,
    /// `**`: all that is left, at least one segment.
    Rest,
}

/// A variable and the segments it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variable {
    /// The request's field, as a path of proto names such as `user.uid`.
    pub(crate) field: String,
    /// The first segment.
    pub(crate) start: usize,
    /// One past the last.
    pub(crate) end: usize,
}

/// A template in parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    /// The steps from the root.
    pub(crate) segments: Vec<Segment>,
    /// The variables, from left to right.
    pub(crate) variables: Vec<Variable>,
    /// The custom verb behind the last segment's colon.
    pub(crate) verb: Option<String>,
}

impl Template {
    /// Reads `/v3/users/{uid}`, `/v3/{name=shelves/*}/books`, `/v3/{path=**}`, `/v3/users/{uid}:touch`.
    ///
    /// # Errors
    /// What is wrong with the template.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let fault = |why: &str| Err(format!("path template {text}: {why}"));
        let Some(path) = text.strip_prefix('/') else {
            return fault("must begin with a slash");
        };
        let (path, verb) = split_verb(path);
        let mut template = Self {
            segments: Vec::new(),
            variables: Vec::new(),
            verb: verb.map(str::to_owned),
        };
        for part in split_outside_braces(path) {
            let Some(inner) = part.strip_prefix('{') else {
                template.segments.push(segment(part));
                continue;
            };
            let Some(inner) = inner.strip_suffix('}') else {
                return fault("has a brace that is not closed, or text beside a variable");
            };
            let (field, pattern) = inner.split_once('=').unwrap_or((inner, "*"));
            let start = template.segments.len();
            template.segments.extend(pattern.split('/').map(segment));
            template.variables.push(Variable {
                field: field.to_owned(),
                start,
                end: template.segments.len(),
            });
        }
        let empty = |segment: &Segment| matches!(segment, Segment::Literal(text) if text.is_empty());
        if template.segments.iter().any(empty) {
            return fault("has an empty segment");
        }
        let rest = template.segments.iter().position(|segment| *segment == Segment::Rest);
        if rest.is_some_and(|at| at + 1 < template.segments.len()) {
            return fault("has segments after **");
        }
        Ok(template)
    }
}

fn segment(text: &str) -> Segment {
    match text {
        "*" => Segment::One,
        "**" => Segment::Rest,
        literal => Segment::Literal(literal.to_owned()),
    }
}

/// The verb stands after a colon in the last segment, outside braces.
fn split_verb(path: &str) -> (&str, Option<&str>) {
    let after_braces = path.rfind('}').map_or(0, |at| at + 1);
    let last = path.rfind('/').map_or(0, |at| at + 1).max(after_braces);
    match path.rfind(':') {
        Some(colon) if colon >= last => {
            let (path, verb) = path.split_at(colon);
            (path, Some(verb.trim_start_matches(':')))
        }
        _ => (path, None),
    }
}

fn split_outside_braces(path: &str) -> Vec<&str> {
    let mut inside = false;
    path.split(|c| {
        match c {
            '{' => inside = true,
            '}' => inside = false,
            _ => {}
        }
        c == '/' && !inside
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> Segment {
        Segment::Literal(text.to_owned())
    }

    #[test]
    fn variables_take_segments_and_the_verb_stands_behind() {
        let template = Template::parse("/v3/{name=shelves/*}/books/{book.id}:touch").unwrap();
        assert_eq!(
            template.segments,
            [
                literal("v3"),
                literal("shelves"),
                Segment::One,
                literal("books"),
                Segment::One
            ]
        );
        let variables: Vec<_> = template
            .variables
            .iter()
            .map(|v| (v.field.as_str(), v.start, v.end))
            .collect();
        assert_eq!(variables, [("name", 1, 3), ("book.id", 4, 5)]);
        assert_eq!(template.verb.as_deref(), Some("touch"));
        assert_eq!(
            Template::parse("/a/{b=**}").unwrap().segments,
            [literal("a"), Segment::Rest]
        );
        assert_eq!(Template::parse("/a:b/c").unwrap().verb, None);
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for text in ["", "a", "/a/", "//a", "/{a", "/a/{b=**}/c", "/{a}b"] {
            assert!(Template::parse(text).is_err(), "{text}");
        }
    }
}
