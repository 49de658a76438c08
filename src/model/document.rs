//! Documents as tables: which members an object has and which rule each of them follows. The check of a document and the
//! JSON Schema that editors get come from the same table. Nothing here knows a particular document; the tables are in
//! `model::card` and `model::template::content`.
//!
//! Tokens `{{key}}` may stand in texts, and as a whole where a rule says so. Colors, numbers, words, ids and types take
//! none: what a card looks like is settled when it is saved, and only what it says is filled in later.

use std::sync::LazyLock;

use regex::Regex;

pub mod check;
pub mod recheck;
pub mod schema;
pub mod token;
pub mod url;

use token::Typed;
use url::Target;

/// What a value has to be.
#[derive(Debug)]
pub enum Rule {
    /// A text with any tokens in it.
    Text,
    /// A text that is not empty, with any tokens in it.
    Filled,
    /// One line of text, with any tokens in it, of at least and at most so many characters.
    Line(usize, usize),
    /// A text of at most so many characters beside its tokens, and of at most so many in all once they are filled in.
    Short(usize),
    /// A URL. Its scheme is literal, or it is one token as a whole, which may be of this type beside being a text.
    Url(Target, Option<Typed>),
    /// A text that names its object: once in the document, without tokens.
    Id,
    /// A text of one form, without tokens.
    Form(&'static Pattern),
    /// One of some words, without tokens.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Switch,
    /// A number in these bounds.
    Number(Bounds),
    /// One of some numbers.
    Choice(&'static [u32]),
    /// An object with these members and no others.
    Object(&'static Shape),
    /// A list of at least so many of the same.
    List(usize, &'static Rule),
    /// An object whose keys have a form and whose values are all of one kind.
    Map(&'static Pattern, &'static Rule),
    /// Either of two, which differ in their JSON type. The sentence names both: `must be a number or an object`.
    Either(&'static Rule, &'static Rule, &'static str),
    /// An object whose `type` says which members it has.
    Kind(&'static Family),
    /// Any object. Tokens in its texts are filled in.
    Free,
}

/// Bounds of a number, both included.
#[derive(Debug)]
pub struct Bounds {
    /// The least.
    pub least: u32,
    /// The most, if there is one.
    pub most: Option<u32>,
    /// Whether it has no fraction.
    pub whole: bool,
}

/// One member of an object.
#[derive(Debug)]
pub struct Member {
    /// Its name.
    pub name: &'static str,
    /// Whether it has to be there.
    pub required: bool,
    /// What its value has to be.
    pub rule: Rule,
    /// What editors say about it; may be empty.
    pub about: &'static str,
}

/// A member that has to be there.
#[must_use]
pub const fn must(name: &'static str, rule: Rule) -> Member {
    Member {
        name,
        required: true,
        rule,
        about: "",
    }
}

/// A member that may be left out.
#[must_use]
pub const fn may(name: &'static str, rule: Rule, about: &'static str) -> Member {
    Member {
        name,
        required: false,
        rule,
        about,
    }
}

/// The members of an object; all others are refused.
#[derive(Debug)]
pub struct Shape {
    /// What it is called, with its article: `a color`.
    pub noun: &'static str,
    /// The members.
    pub members: &'static [Member],
    /// Members of which at least one has to be there; may be empty.
    pub any_of: &'static [&'static str],
}

/// Objects that a `type` tells apart.
#[derive(Debug)]
pub struct Family {
    /// What one is called: `element`.
    pub noun: &'static str,
    /// The same with its article.
    pub one: &'static str,
    /// Members that all have.
    pub common: &'static [Member],
    /// The kinds, in the order of the documentation.
    pub kinds: &'static [&'static Kind],
    /// The type of variable that may stand for one as a whole.
    pub typed: Option<Typed>,
}

/// One kind of a family.
#[derive(Debug)]
pub struct Kind {
    /// Its `type`.
    pub word: &'static str,
    /// What editors say about it.
    pub about: &'static str,
    /// Its members beside `type` and the common ones.
    pub members: &'static [Member],
    /// Members of which at least one has to be there; may be empty.
    pub any_of: &'static [&'static str],
}

/// A regular expression in the common part of Rust's and of ECMA-262's language, because the check and the JSON Schema
/// use the same text.
#[derive(Debug)]
pub struct Pattern {
    /// The expression.
    pub source: &'static str,
    /// What it demands: `must be #RRGGBB`.
    pub says: &'static str,
    compiled: LazyLock<Option<Regex>>,
}

impl Pattern {
    /// An expression that is compiled when it is first used. `compile` has to compile the same `source`; the macro
    /// `pattern!` sees to that.
    pub(crate) const fn new(source: &'static str, says: &'static str, compile: fn() -> Option<Regex>) -> Self {
        Self {
            source,
            says,
            compiled: LazyLock::new(compile),
        }
    }

    /// Whether a text has the form. Nothing has the form of an expression that does not compile; a test compiles all.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.compiled.as_ref().is_some_and(|regex| regex.is_match(text))
    }

    /// Whether it compiles.
    #[cfg(test)]
    pub(crate) fn compiles(&self) -> bool {
        self.compiled.is_some()
    }
}

/// A [`Pattern`] of an expression and what it demands.
macro_rules! pattern {
    ($source:expr, $says:expr) => {
        $crate::model::document::Pattern::new($source, $says, || regex::Regex::new($source).ok())
    };
}
pub(crate) use pattern;

impl Rule {
    /// The rule as a predicate: `must be a string`.
    #[must_use]
    pub fn says(&self) -> String {
        match self {
            Self::Text => "must be a string".to_owned(),
            Self::Filled => "must be a string that is not empty".to_owned(),
            Self::Line(0, most) => format!("must be a string of one line, of at most {most} characters"),
            Self::Line(least, most) => format!("must be a string of one line, of {least} to {most} characters"),
            Self::Short(most) => format!("must be a string of at most {most} characters beside its variables"),
            Self::Url(target, _) => target.says().to_owned(),
            Self::Id => ID.says.to_owned(),
            Self::Form(pattern) => pattern.says.to_owned(),
            Self::Word([only]) => format!("must be the text {only}"),
            Self::Word(words) => format!("must be one of {}", words.join(", ")),
            Self::Switch => "must be true or false".to_owned(),
            Self::Number(bounds) => bounds.says(),
            Self::Choice(numbers) => {
                let numbers: Vec<_> = numbers.iter().map(u32::to_string).collect();
                format!("must be one of the numbers {}", numbers.join(", "))
            }
            Self::Object(shape) => format!("must be an object: {}", shape.noun),
            Self::List(0, _) => "must be a list".to_owned(),
            Self::List(1, _) => "must be a list of at least one element".to_owned(),
            Self::List(least, _) => format!("must be a list of at least {least} elements"),
            Self::Map(_, _) | Self::Free => "must be an object".to_owned(),
            Self::Either(_, _, says) => (*says).to_owned(),
            Self::Kind(family) => match family.typed {
                None => format!("must be an object: {}", family.one),
                Some(typed) => format!(
                    "must be an object, {}, or one variable of type {} as a whole",
                    family.one,
                    typed.word()
                ),
            },
        }
    }
}

impl Bounds {
    fn says(&self) -> String {
        let kind = if self.whole { "a whole number" } else { "a number" };
        match self.most {
            None => format!("must be {kind} of at least {}", self.least),
            Some(most) => format!("must be {kind} from {} to {most}", self.least),
        }
    }
}

/// What an id has to look like. Braces are left out so that nobody takes a token for a working one.
pub static ID: Pattern = pattern!(
    r"^[^\x00-\x1f\x7f{}]{1,100}$",
    "must be a string of 1 to 100 characters without braces; variables do not work in it"
);

/// One line of text.
pub static LINE: Pattern = pattern!(r"^[^\x00\r\n]*$", "must be one line");
