//! Our own `{{key}}` renderer: a source is compiled once and rendered in time linear to what it reads and writes, with a
//! cap on each. It never evaluates anything, never looks at a value again, and never panics on any text.
//!
//! A token is a key between double braces, `{{code}}`. Spaces and tabs beside the key are taken as well, `{{ code }}`,
//! because most template languages have them. Whatever else stands between braces is ordinary text, and so is a token
//! whose key has no value: it stays exactly as it was written.

use std::borrow::Cow;
use std::fmt;

use serde_json::Value;

use super::variable::{VariableValue, VariableValues};

mod card;

pub use card::{Card, Fault};

/// The largest source, in bytes: one text, or one card as compact JSON.
pub const SOURCE_BYTES_MAX: usize = 65_536;
/// The largest output, in bytes: one text, or one card as compact JSON.
pub const OUTPUT_BYTES_MAX: usize = 65_536;
/// The largest sum of the bytes of keys and values that one receiver's rendering may draw on: room for 100 values of the
/// largest size with their keys.
pub const CONTEXT_BYTES_MAX: usize = 524_288;
/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 100;
/// The deepest nesting of lists and objects in a card.
pub const DEPTH_MAX: usize = 100;

/// A cap that something passes. It prints as the rule of a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    /// The source is larger than [`SOURCE_BYTES_MAX`].
    Source,
    /// A card is nested deeper than [`DEPTH_MAX`].
    Depth,
    /// Keys and values are larger than [`CONTEXT_BYTES_MAX`].
    Context,
    /// The output would be larger than [`OUTPUT_BYTES_MAX`].
    Output,
    /// A push notification would be larger than this, which is all that the services behind devices take.
    Push(usize),
}

impl fmt::Display for Exceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source => write!(f, "must not be larger than {SOURCE_BYTES_MAX} bytes"),
            Self::Depth => write!(f, "must not be nested deeper than {DEPTH_MAX} levels"),
            Self::Context => write!(
                f,
                "must not hold more than {CONTEXT_BYTES_MAX} bytes of keys and values"
            ),
            Self::Output => write!(f, "must not make the content larger than {OUTPUT_BYTES_MAX} bytes"),
            Self::Push(most) => write!(
                f,
                "must not make the push notification larger than {most} bytes as compact JSON"
            ),
        }
    }
}

impl std::error::Error for Exceeded {}

/// The kind of place that a rendered text stands in, which decides how values are escaped. The source is never escaped:
/// its author is trusted with the place it was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A text of its own, or a string inside a parsed JSON document: values are taken as they are, and what prints the
    /// document escapes them.
    Text,
    /// HTML, as text or inside a quoted attribute: `&`, `<`, `>` and both quotes become character references.
    Html,
    /// One line of a header: carriage returns, line feeds and NULs are taken out.
    Header,
    /// A part of a URL: all but the unreserved characters of RFC 3986 (section 2.3) are percent-encoded, so that a value
    /// stays within the part of the URL that it was put into.
    Url,
    /// A part of a URL that names somebody to write to or to call, `mailto:`, `tel:` or `sms:`: as a part of any URL, but
    /// `@` and `+` stand as they are. RFC 6068 and RFC 3966 give them their meaning unencoded only.
    Address,
}

impl Place {
    fn escape(self, value: &str) -> Cow<'_, str> {
        match self {
            Self::Text => Cow::Borrowed(value),
            Self::Html if value.contains(['&', '<', '>', '"', '\'']) => Cow::Owned(escape_html(value)),
            Self::Header if value.contains(['\r', '\n', '\0']) => Cow::Owned(value.replace(['\r', '\n', '\0'], "")),
            Self::Html | Self::Header => Cow::Borrowed(value),
            Self::Url => encode(value, b""),
            Self::Address => encode(value, b"@+"),
        }
    }
}

/// Percent-encodes a value, but for unreserved characters and `more`.
fn encode<'v>(value: &'v str, more: &[u8]) -> Cow<'v, str> {
    let stays =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') || more.contains(&byte);
    if value.bytes().all(stays) {
        return Cow::Borrowed(value);
    }
    let digit = |number: u8| {
        char::from_digit(u32::from(number), 16)
            .unwrap_or('0')
            .to_ascii_uppercase()
    };
    let mut out = String::with_capacity(value.len().saturating_mul(2));
    for byte in value.bytes() {
        if stays(byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', digit(byte >> 4), digit(byte & 0x0f)]);
        }
    }
    Cow::Owned(out)
}

fn escape_html(value: &str) -> String {
    let mut out = String::with_capacity(value.len().saturating_add(16));
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

/// One compiled text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    segments: Box<[Segment]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Literal(Box<str>),
    /// The key, and the token as it was written.
    Token(Box<str>, Box<str>),
}

impl Template {
    /// Compiles a text.
    ///
    /// # Errors
    /// [`Exceeded::Source`].
    pub fn compile(source: &str) -> Result<Self, Exceeded> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(Exceeded::Source);
        }
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = source;
        while let Some((before, from_braces)) = rest.find("{{").and_then(|at| rest.split_at_checked(at)) {
            literal.push_str(before);
            if let Some((key, token, after)) = token(from_braces) {
                if !literal.is_empty() {
                    segments.push(Segment::Literal(std::mem::take(&mut literal).into()));
                }
                segments.push(Segment::Token(key.into(), token.into()));
                rest = after;
            } else {
                // Only one brace is passed over: of `{{{key}}` the last two open a token. What was looked at in vain
                // holds no further brace, so no byte is looked at more than twice.
                literal.push('{');
                rest = from_braces.strip_prefix('{').unwrap_or_default();
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            segments.push(Segment::Literal(literal.into()));
        }
        Ok(Self {
            segments: segments.into(),
        })
    }

    /// The keys of its tokens.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Token(key, _) => Some(key.as_ref()),
            Segment::Literal(_) => None,
        })
    }

    /// The token, of a text that is one and nothing else.
    fn whole(&self) -> Option<(&str, &str)> {
        match self.segments.as_ref() {
            [Segment::Token(key, token)] => Some((key, token)),
            _ => None,
        }
    }

    /// The text with the values in it, escaped for `place`. A value that is no text is treated like none.
    ///
    /// # Errors
    /// [`Exceeded::Output`].
    pub fn render(&self, values: &VariableValues, place: Place) -> Result<String, Exceeded> {
        let mut out = String::new();
        for segment in &self.segments {
            let part = match segment {
                Segment::Literal(text) => Cow::Borrowed(text.as_ref()),
                Segment::Token(key, token) => values
                    .get(key.as_ref())
                    .and_then(VariableValue::as_text)
                    .map_or(Cow::Borrowed(token.as_ref()), |text| place.escape(text)),
            };
            if out.len().saturating_add(part.len()) > OUTPUT_BYTES_MAX {
                return Err(Exceeded::Output);
            }
            out.push_str(&part);
        }
        Ok(out)
    }
}

/// Reads a token at the start of `text`: its key, the token as written, and what follows.
fn token(text: &str) -> Option<(&str, &str, &str)> {
    let blank = [' ', '\t'];
    let inner = text.strip_prefix("{{")?.trim_start_matches(blank);
    let length = inner
        .bytes()
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
        .count();
    let (key, rest) = inner.split_at_checked(length)?;
    if length > KEY_BYTES_MAX || key.starts_with(|c: char| c.is_ascii_digit()) || key.is_empty() {
        return None;
    }
    let after = rest.trim_start_matches(blank).strip_prefix("}}")?;
    let token = text.get(..text.len().checked_sub(after.len())?)?;
    Some((key, token, after))
}

/// Whether values are few and small enough to render with.
///
/// # Errors
/// [`Exceeded::Context`].
pub fn check_context(values: &VariableValues) -> Result<(), Exceeded> {
    let bytes = values.iter().fold(0_usize, |sum, (key, value)| {
        sum.saturating_add(key.len()).saturating_add(value.weight())
    });
    if bytes > CONTEXT_BYTES_MAX {
        return Err(Exceeded::Context);
    }
    Ok(())
}

/// The bytes of a document as compact JSON.
#[must_use]
pub fn json_bytes(document: &Value) -> usize {
    match document {
        Value::Null => 4,
        Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(number) => number.to_string().len(),
        Value::String(text) => escaped_bytes(text).saturating_add(2),
        Value::Array(items) => enclosed(items.iter().map(json_bytes)),
        Value::Object(fields) => enclosed(
            fields
                .iter()
                .map(|(key, field)| json_bytes(field).saturating_add(escaped_bytes(key)).saturating_add(3)),
        ),
    }
}

/// Parts between brackets, with a comma between each two.
fn enclosed(parts: impl ExactSizeIterator<Item = usize>) -> usize {
    let commas = parts.len().saturating_sub(1);
    parts.fold(commas.saturating_add(2), usize::saturating_add)
}

/// The bytes of a text inside a JSON string: quotes, backslashes and control characters are escaped, nothing else is.
fn escaped_bytes(text: &str) -> usize {
    text.bytes().fold(0, |sum: usize, byte| {
        sum.saturating_add(match byte {
            b'"' | b'\\' | 0x08 | 0x09 | 0x0a | 0x0c | 0x0d => 2,
            0..=0x1f => 6,
            _ => 1,
        })
    })
}

#[cfg(test)]
#[path = "render/card_tests.rs"]
mod card_tests;
#[cfg(test)]
#[path = "render/tests.rs"]
mod tests;
