//! Where work came from: the call that asked for it, as log lines and spans name it. It decides nothing, and it is nobody's
//! personal data.

use std::sync::Arc;

/// The call that work follows from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The id that ties log lines together, at most 128 characters.
    pub request_id: Option<Arc<str>>,
    /// The call's place in a trace, a W3C `traceparent`.
    pub trace_parent: Option<Arc<str>>,
}
