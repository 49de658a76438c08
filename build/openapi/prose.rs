//! Comments of the contract as Markdown for readers of REST: paragraphs without line breaks, names as JSON has them. It
//! never adds a sentence of its own.

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{FileDescriptor, Kind};

use crate::contract::{Package, comment, word};

/// A first sentence longer than this is a summary only up to its colon.
const SUMMARY_MAX: usize = 90;

/// What the names in comments are called over REST.
pub(crate) struct Prose {
    names: BTreeMap<String, String>,
    examples: BTreeMap<String, String>,
}

impl Prose {
    /// Learns the names of a package.
    pub(crate) fn new(package: &Package) -> Self {
        let mut names = BTreeMap::new();
        let mut examples = BTreeMap::new();
        for field in package.messages().iter().flat_map(|m| m.fields().collect::<Vec<_>>()) {
            names.insert(field.name().to_owned(), field.json_name().to_owned());
            if field.kind() == Kind::String
                && let Some(example) = super::bounds::example(&field)
            {
                examples.entry(field.json_name().to_owned()).or_insert(example);
            }
        }
        let mut words = BTreeSet::new();
        for value in package.enums().iter().flat_map(|e| e.values().collect::<Vec<_>>()) {
            names.insert(value.name().to_owned(), word(&value));
            words.insert(word(&value));
        }
        names.retain(|name, _| !words.contains(name));
        for service in &package.services {
            names.insert(service.descriptor.name().to_owned(), service.noun.clone());
        }
        Self { names, examples }
    }

    /// The comment at a path of a file.
    pub(crate) fn at(&self, file: &FileDescriptor, path: &[i32]) -> String {
        let text = comment(file, path);
        let paragraphs: Vec<String> = text.split("\n\n").map(|paragraph| self.paragraph(paragraph)).collect();
        paragraphs.join("\n\n")
    }

    /// What a field of this name holds in examples.
    pub(crate) fn example(&self, json_name: &str) -> Option<&str> {
        self.examples.get(json_name).map(String::as_str)
    }

    fn paragraph(&self, text: &str) -> String {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let parts = line
            .split('`')
            .enumerate()
            .map(|(at, part)| match self.names.get(part) {
                Some(name) if at % 2 == 1 => name.clone(),
                _ => part.to_owned(),
            });
        parts.collect::<Vec<_>>().join("`")
    }
}

/// The first sentence without its full stop and marks, and what is left to say after it.
pub(crate) fn split(text: &str) -> (String, String) {
    let ends = text.match_indices(['.', '\n']).find(|(at, end)| {
        let (_, behind) = text.split_at(at + end.len());
        let next = behind.trim_start().chars().next();
        let gap = behind.is_empty() || behind.starts_with([' ', '\n']) || *end == "\n";
        gap && next.is_none_or(|next| next.is_uppercase() || next == '`')
    });
    let (sentence, rest) = ends.map_or((text, ""), |(at, end)| {
        let (sentence, _) = text.split_at(at);
        let (_, rest) = text.split_at(at + end.len());
        (sentence, rest.trim())
    });
    let plain = |text: &str| text.replace('`', "");
    match sentence.split_once(": ") {
        Some((short, _)) if sentence.len() > SUMMARY_MAX => (plain(short), text.to_owned()),
        _ => (plain(sentence), rest.to_owned()),
    }
}

/// A text with each paragraph on one line.
pub(crate) fn unwrapped(text: &str) -> String {
    let line = |paragraph: &str| paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    text.trim().split("\n\n").map(line).collect::<Vec<_>>().join("\n\n")
}

/// Two texts with something between them, either of which may be empty.
pub(crate) fn join(first: &str, second: &str, between: &str) -> String {
    if first.is_empty() || second.is_empty() {
        return format!("{first}{second}");
    }
    format!("{first}{between}{second}")
}
