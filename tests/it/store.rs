//! The store kernel on both databases: what a write promises, and that the two schemas are one. What the nouns store is
//! proven with each noun.

mod bulk;
mod list;
mod write;
