//! Whole documents: compiled once, with what stands where, and rendered with the values of one receiver. Nothing here knows
//! which members a document has; the tables of `model::document` do.
//!
//! A text with tokens in it takes texts. A text that is exactly one token may stand for more, as its place has it: for an
//! action, for the URL of a picture with its size, for a URL as a whole. A value that does not fit its place is a fault
//! that a send is refused for; rendered all the same, its token stays as it was written, as one without a value does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    DEPTH_MAX, Exceeded, OUTPUT_BYTES_MAX, Place, SOURCE_BYTES_MAX, Segment, Template, check_context, escaped_bytes,
    json_bytes,
};
use crate::model::document::Rule;
use crate::model::document::check::Step;
use crate::model::document::recheck::Rechecks;
use crate::model::document::token::Typed;
use crate::model::document::url::Target;
use crate::model::variable::{ActionType, VariableValue, VariableValues};

/// One compiled JSON document, whose strings are templates. Object keys are not rendered.
#[derive(Clone, Debug)]
pub struct Card {
    root: Node,
    source_bytes: usize,
    tokens: BTreeMap<Box<str>, Vec<Uses>>,
    rechecks: Rechecks,
    /// The most bytes of a push notification, for one that is.
    push_bytes_max: Option<usize>,
}

/// How often a key is used in one kind of slot, and how many bytes of the source those tokens take.
#[derive(Clone, Debug, PartialEq)]
struct Uses {
    slot: Slot,
    count: usize,
    bytes: usize,
}

/// What a token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// A part of a text.
    Part(Place),
    /// A URL as a whole, which a value of this type may give beside a text.
    Url(Target, Option<Typed>),
    /// An action as a whole.
    Action,
    /// Anything: in a document of the app's own a value stands as it is.
    Any,
    /// Width and height of an image that has none of its own.
    Size,
}

/// What a value puts into a slot.
enum Filled<'v> {
    Text(Cow<'v, str>),
    Json(Value),
    Size(u32, u32),
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Fixed(Value),
    Text(Template, Slot),
    List(Vec<Self>),
    Object {
        fields: Vec<(String, Self)>,
        /// The key of the image that gives the object its size.
        sized_by: Option<Box<str>>,
    },
}

/// Something that values break.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The keys of the variables at fault; none when it is all of them together.
    pub keys: Vec<String>,
    /// The rule, as a predicate.
    pub rule: String,
    /// What stands where the rule is broken, the type of the value, or the size that it comes to.
    pub received: Option<String>,
}

impl Card {
    /// Compiles a document of the app's own: nothing is known about its places, and a text that is exactly one token
    /// becomes whatever the value is.
    ///
    /// # Errors
    /// [`Exceeded::Source`] or [`Exceeded::Depth`].
    pub fn compile(document: &Value) -> Result<Self, Exceeded> {
        Self::with(document, Slot::Any, |_| Rechecks::default(), &[])
    }

    /// Compiles a document that passed the check of its table. `rechecks` finds the places of which the table knows more
    /// than that they are texts; `markup` names the members of the root that are HTML.
    ///
    /// # Errors
    /// [`Exceeded::Source`] or [`Exceeded::Depth`].
    pub fn compile_checked(
        document: &Value,
        rechecks: impl FnOnce(&Value) -> Rechecks,
        markup: &[&str],
    ) -> Result<Self, Exceeded> {
        Self::with(document, Slot::Part(Place::Text), rechecks, markup)
    }

    fn with(
        document: &Value,
        whole: Slot,
        rechecks: impl FnOnce(&Value) -> Rechecks,
        markup: &[&str],
    ) -> Result<Self, Exceeded> {
        let mut root = Node::compile(document, whole, DEPTH_MAX)?;
        let source_bytes = json_bytes(document);
        if source_bytes > SOURCE_BYTES_MAX {
            return Err(Exceeded::Source);
        }
        let rechecks = rechecks(document);
        for (steps, rule) in rechecks.places() {
            root.place(&steps, rule);
        }
        for member in markup {
            if let Some(Node::Text(_, slot)) = root.at(&[Step::Member(member)]) {
                *slot = Slot::Part(Place::Html);
            }
        }
        let mut tokens = BTreeMap::new();
        root.count(&mut tokens);
        Ok(Self {
            root,
            source_bytes,
            tokens,
            rechecks,
            push_bytes_max: None,
        })
    }

    /// The same as the content of a push notification, of which so many bytes are taken. Values that make it larger are a
    /// fault; it is rendered all the same.
    #[must_use]
    pub fn pushed(self, bytes_max: usize) -> Self {
        Self {
            push_bytes_max: Some(bytes_max),
            ..self
        }
    }

    /// The keys of its tokens, each once.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<&str> {
        self.tokens.keys().map(AsRef::as_ref).collect()
    }

    /// Whether a token of it has this key.
    #[must_use]
    pub fn uses(&self, key: &str) -> bool {
        self.tokens.contains_key(key)
    }

    /// The bytes that the rendered document takes as compact JSON, without rendering it.
    #[must_use]
    pub fn rendered_bytes(&self, values: &VariableValues) -> usize {
        self.tokens.iter().fold(self.source_bytes, |sum, (key, uses)| {
            let Some(value) = values.get(key.as_ref()) else {
                return sum;
            };
            uses.iter().fold(sum, |sum, uses| match uses.slot.fill(value) {
                Err(_) => sum,
                Ok(filled) => sum
                    .saturating_sub(uses.bytes)
                    .saturating_add(uses.count.saturating_mul(filled.bytes())),
            })
        })
    }

    /// The document with the values in it.
    ///
    /// # Errors
    /// [`Exceeded::Context`] or [`Exceeded::Output`].
    pub fn render(&self, values: &VariableValues) -> Result<Value, Exceeded> {
        self.check(values)?;
        self.root.render(values)
    }

    /// Whether the document can be rendered with these values, without rendering it.
    ///
    /// # Errors
    /// [`Exceeded::Context`] or [`Exceeded::Output`].
    pub fn check(&self, values: &VariableValues) -> Result<(), Exceeded> {
        check_context(values)?;
        if self.rendered_bytes(values) > OUTPUT_BYTES_MAX {
            return Err(Exceeded::Output);
        }
        Ok(())
    }

    /// Everything that these values break: places that they do not fit, caps, and the rules that the document was saved
    /// under. Where there is none, rendering shows every value.
    #[must_use]
    pub fn faults(&self, values: &VariableValues) -> Vec<Fault> {
        let mut faults = self.unfit(values);
        faults.extend(self.too_large(values));
        if !faults.is_empty() || !self.rechecks.keys().any(|key| values.contains_key(key)) {
            return faults;
        }
        let Ok(filled) = self.root.render(values) else {
            return faults;
        };
        let broken = self.rechecks.check(&filled).into_iter().map(|broken| Fault {
            keys: broken.keys.into_iter().filter(|key| values.contains_key(key)).collect(),
            rule: broken.violation.rule,
            received: broken.violation.received,
        });
        // One value in many places breaks the same rule in each; it is said once.
        for fault in broken {
            if !faults.contains(&fault) {
                faults.push(fault);
            }
        }
        faults
    }

    /// The cap that all values together pass.
    fn too_large(&self, values: &VariableValues) -> Option<Fault> {
        let pushed = self.push_bytes_max.and_then(|most| {
            let bytes = self.rendered_bytes(values);
            (bytes > most).then(|| (Exceeded::Push(most), Some(bytes.to_string())))
        });
        let (exceeded, received) = match pushed {
            Some(pushed) => pushed,
            None => (self.check(values).err()?, None),
        };
        Some(Fault {
            keys: Vec::new(),
            rule: exceeded.to_string(),
            received,
        })
    }

    fn unfit(&self, values: &VariableValues) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (key, uses) in &self.tokens {
            let Some(value) = values.get(key.as_ref()) else {
                continue;
            };
            faults.extend(uses.iter().filter_map(|uses| {
                let (rule, received) = uses.slot.fill(value).err()?;
                Some(Fault {
                    keys: vec![key.to_string()],
                    rule,
                    received: Some(received.to_owned()),
                })
            }));
        }
        faults
    }

    /// An estimate of the memory that it takes, in bytes, for caches.
    #[must_use]
    pub fn weight(&self) -> usize {
        // Compact JSON grows in memory mostly by the headers of its nodes and segments; four is what cards of a few
        // kilobytes showed.
        self.source_bytes.saturating_mul(4)
    }
}

impl Slot {
    /// What a value puts here, or the rule that it breaks and what breaks it.
    fn fill(self, value: &VariableValue) -> Result<Filled<'_>, (String, &str)> {
        let unfit = |wanted: &str| Err((wanted.to_owned(), value.variable_type().as_str()));
        match (self, value) {
            (Self::Part(place), VariableValue::Text(text)) => Ok(Filled::Text(place.escape(text))),
            (Self::Part(_), VariableValue::Image(_) | VariableValue::Action(_)) => {
                unfit("must be of type string, because it stands in a text")
            }
            (Self::Url(target, _), VariableValue::Text(url)) => whole_url(target, url),
            (Self::Url(target, Some(Typed::Image)), VariableValue::Image(image)) => whole_url(target, &image.url),
            (Self::Url(target, Some(Typed::Action)), VariableValue::Action(action)) => whole_url(target, &action.data),
            (Self::Url(_, typed), VariableValue::Image(_) | VariableValue::Action(_)) => match typed {
                Some(Typed::Image) => unfit("must be of type string or image, because it stands for a URL"),
                Some(Typed::Action) => unfit("must be of type string or action, because it stands for a URL"),
                Some(Typed::Text) | None => unfit("must be of type string, because it stands for a URL"),
            },
            (Self::Action, VariableValue::Action(action)) => {
                // It was checked when it came; what opens a URL is looked at again before anybody can press it.
                if action.action_type == ActionType::Web {
                    whole_url(Target::Link, &action.data)?;
                }
                Ok(Filled::Json(action.to_card()))
            }
            (Self::Action, VariableValue::Text(_) | VariableValue::Image(_)) => {
                unfit("must be of type action, because it stands for an action")
            }
            (Self::Any, VariableValue::Text(text)) => Ok(Filled::Text(Cow::Borrowed(text))),
            (Self::Any, VariableValue::Image(_) | VariableValue::Action(_)) => {
                // Both are plain structs, which always have a form in JSON.
                Ok(Filled::Json(serde_json::to_value(value).unwrap_or_default()))
            }
            (Self::Size, VariableValue::Image(image)) => Ok(Filled::Size(image.width, image.height)),
            (Self::Size, VariableValue::Text(_) | VariableValue::Action(_)) => Ok(Filled::Size(0, 0)),
        }
    }
}

fn whole_url(target: Target, url: &str) -> Result<Filled<'_>, (String, &str)> {
    match target.check_filled(url) {
        Ok(()) => Ok(Filled::Text(Cow::Borrowed(url))),
        Err(rule) => Err((rule, url)),
    }
}

impl Filled<'_> {
    /// The bytes that it takes between the quotes of the token, or in place of them.
    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => escaped_bytes(text),
            Self::Json(json) => json_bytes(json).saturating_sub(2),
            Self::Size(0, 0) => 0,
            Self::Size(width, height) => {
                let digits = |number: &u32| {
                    number
                        .checked_ilog10()
                        .map_or(1, |log| usize::try_from(log).unwrap_or(9).saturating_add(1))
                };
                r#","height":,"width":"#.len().saturating_add(digits(width)).saturating_add(digits(height))
            }
        }
    }
}

impl Node {
    fn compile(value: &Value, whole: Slot, depth: usize) -> Result<Self, Exceeded> {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Self::Fixed(value.clone())),
            Value::String(text) => {
                let template = Template::compile(text)?;
                Ok(if template.keys().next().is_none() {
                    Self::Fixed(value.clone())
                } else if template.whole().is_some() {
                    Self::Text(template, whole)
                } else {
                    Self::Text(template, Slot::Part(Place::Text))
                })
            }
            Value::Array(items) => {
                let depth = depth.checked_sub(1).ok_or(Exceeded::Depth)?;
                let nodes: Result<_, _> = items.iter().map(|item| Self::compile(item, whole, depth)).collect();
                nodes.map(Self::List)
            }
            Value::Object(fields) => {
                let depth = depth.checked_sub(1).ok_or(Exceeded::Depth)?;
                let nodes: Result<_, _> = fields
                    .iter()
                    .map(|(key, field)| Ok((key.clone(), Self::compile(field, whole, depth)?)))
                    .collect();
                nodes.map(|fields| Self::Object { fields, sized_by: None })
            }
        }
    }

    /// The node at the end of a path.
    fn at(&mut self, steps: &[Step<'_>]) -> Option<&mut Self> {
        let Some((step, rest)) = steps.split_first() else {
            return Some(self);
        };
        let next = match (self, step) {
            (Self::Object { fields, .. }, Step::Member(name)) => {
                // Objects of parsed JSON are in the order of their keys.
                let at = fields.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok()?;
                fields.get_mut(at).map(|(_, node)| node)
            }
            (Self::List(nodes), Step::Index(index)) => nodes.get_mut(*index),
            (Self::Fixed(_) | Self::Text(..) | Self::List(_) | Self::Object { .. }, _) => None,
        };
        next?.at(rest)
    }

    /// Notes what the text at the end of a path stands for.
    fn place(&mut self, steps: &[Step<'_>], rule: &Rule) {
        let Some(Self::Text(template, slot)) = self.at(steps) else {
            return;
        };
        let whole = template.whole().map(|(key, _)| Box::<str>::from(key));
        *slot = match (rule, &whole) {
            (Rule::Url(target, typed), Some(_)) => Slot::Url(*target, *typed),
            (Rule::Url(..), None) => Slot::Part(template.place_in_url()),
            (Rule::Kind(_), Some(_)) => Slot::Action,
            (Rule::Line(..), _) => Slot::Part(Place::Header),
            (_, _) => return,
        };
        if let (Slot::Url(_, Some(Typed::Image)), Some(key), [parents @ .., Step::Member(_)]) = (*slot, whole, steps)
            && let Some(Self::Object { fields, sized_by }) = self.at(parents)
            && is_unsized_image(fields)
        {
            *sized_by = Some(key);
        }
    }

    fn count(&self, tokens: &mut BTreeMap<Box<str>, Vec<Uses>>) {
        match self {
            Self::Fixed(_) => {}
            Self::Text(template, slot) => {
                for segment in &template.segments {
                    if let Segment::Token(key, token) = segment {
                        note(tokens, key, *slot, escaped_bytes(token));
                    }
                }
            }
            Self::List(nodes) => nodes.iter().for_each(|node| node.count(tokens)),
            Self::Object { fields, sized_by } => {
                if let Some(key) = sized_by {
                    note(tokens, key, Slot::Size, 0);
                }
                fields.iter().for_each(|(_, node)| node.count(tokens));
            }
        }
    }

    fn render(&self, values: &VariableValues) -> Result<Value, Exceeded> {
        match self {
            Self::Fixed(value) => Ok(value.clone()),
            Self::Text(template, Slot::Part(place)) => template.render(values, *place).map(Value::String),
            Self::Text(template, slot) => Ok(template.render_whole(*slot, values)),
            Self::List(nodes) => nodes.iter().map(|node| node.render(values)).collect(),
            Self::Object { fields, sized_by } => {
                let rendered: Result<Map<_, _>, _> = fields
                    .iter()
                    .map(|(key, node)| Ok((key.clone(), node.render(values)?)))
                    .collect();
                let mut rendered = rendered?;
                if let Some(VariableValue::Image(image)) = sized_by.as_deref().and_then(|key| values.get(key)) {
                    rendered.insert("width".to_owned(), image.width.into());
                    rendered.insert("height".to_owned(), image.height.into());
                }
                Ok(Value::Object(rendered))
            }
        }
    }
}

impl Template {
    /// How values are escaped in a URL that this is the source of.
    fn place_in_url(&self) -> Place {
        let Some(Segment::Literal(start)) = self.segments.first() else {
            return Place::Url;
        };
        let scheme = start.split_once(':').map_or("", |(scheme, _)| scheme);
        match ["mailto", "tel", "sms"]
            .iter()
            .any(|address| address.eq_ignore_ascii_case(scheme))
        {
            true => Place::Address,
            false => Place::Url,
        }
    }

    /// The value that the only token of this stands for, or the token.
    fn render_whole(&self, slot: Slot, values: &VariableValues) -> Value {
        let Some((key, token)) = self.whole() else {
            return Value::Null;
        };
        match values.get(key).map(|value| slot.fill(value)) {
            Some(Ok(Filled::Text(text))) => Value::String(text.into_owned()),
            Some(Ok(Filled::Json(json))) => json,
            Some(Ok(Filled::Size(..)) | Err(_)) | None => Value::String(token.to_owned()),
        }
    }
}

fn note(tokens: &mut BTreeMap<Box<str>, Vec<Uses>>, key: &str, slot: Slot, bytes: usize) {
    // There are few kinds of slots, so that looking for one is no search.
    let uses = tokens.entry(key.into()).or_default();
    match uses.iter_mut().find(|uses| uses.slot == slot) {
        Some(uses) => {
            uses.count = uses.count.saturating_add(1);
            uses.bytes = uses.bytes.saturating_add(bytes);
        }
        None => uses.push(Uses { slot, count: 1, bytes }),
    }
}

/// Whether these are the members of an image element that says nothing about its size. One that says half of it keeps its
/// own proportion.
fn is_unsized_image(fields: &[(String, Node)]) -> bool {
    let is_image = |(name, node): &(String, Node)| name == "type" && *node == Node::Fixed(Value::from("image"));
    let is_size = |(name, _): &(String, Node)| name == "width" || name == "height";
    fields.iter().any(is_image) && !fields.iter().any(is_size)
}
