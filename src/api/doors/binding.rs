//! How one rpc is bound to HTTP, as the generated table says it. Nothing is looked up or decided here.

use crate::api::Method;

/// One `google.api.http` rule of an rpc.
#[derive(Debug)]
pub struct Binding {
    /// The rpc.
    pub method: &'static Method,
    /// The HTTP method.
    pub verb: &'static str,
    /// The contract's path template.
    pub path: &'static str,
    /// What the body is.
    pub body: BodyRule,
    /// The fields of the path's variables, in their order, as paths of proto names.
    pub variables: &'static [&'static str],
    /// The fields that are no query parameters, by proto name.
    pub hidden: &'static [&'static str],
    /// The field that `If-Match` is read into.
    pub etag: Option<usize>,
    /// The field that `Last-Event-ID` is read into.
    pub cursor: Option<usize>,
    /// The field with the rows of a page.
    pub limit: Option<usize>,
    /// What of the response is shown, and where.
    pub answer: Answer,
}

/// What a request's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyRule {
    /// There is none.
    None,
    /// The whole request.
    Whole,
    /// This field of it.
    Field(usize),
}

/// What of a response is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All of it.
    Whole,
    /// This field.
    Field(usize),
    /// A list with its position and page numbers.
    List {
        /// The field of the rows.
        rows: usize,
        /// The field of the position.
        meta: Option<usize>,
        /// The field of the page numbers.
        pagination: Option<usize>,
    },
}
