//! Which messages can be part of which.

use prost_reflect::{Kind, MessageDescriptor};

/// The message and every message that can be part of it, sorted by name, without map entries and well-known types.
pub(crate) fn from(message: &MessageDescriptor) -> Vec<MessageDescriptor> {
    all(std::iter::once(message.clone()))
}

/// The same of several messages.
pub(crate) fn all(messages: impl Iterator<Item = MessageDescriptor>) -> Vec<MessageDescriptor> {
    let mut open: Vec<MessageDescriptor> = messages.collect();
    let mut known: Vec<MessageDescriptor> = Vec::new();
    while let Some(message) = open.pop() {
        if known.contains(&message) || message.package_name().starts_with("google.") {
            continue;
        }
        for field in message.fields() {
            if let Kind::Message(inner) = field.kind() {
                open.push(inner);
            }
        }
        known.push(message);
    }
    known.retain(|message| !message.is_map_entry());
    known.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    known
}
