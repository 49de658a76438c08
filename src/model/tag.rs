//! Tags in filters: whether one has to be there or all. Nothing here knows what is tagged.

/// How many of the tags that a filter names something has to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TagMatch {
    /// At least one.
    #[default]
    Any,
    /// All of them.
    All,
}
