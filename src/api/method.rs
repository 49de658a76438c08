//! What the contract says about one rpc, as data: the generated table `METHODS` is made of these.

use crate::model::{Error, Reason};

/// One rpc of the contract.
#[derive(Debug)]
pub struct Method {
    /// Fully qualified service, such as `campanile.v1.UserService`.
    pub service: &'static str,
    /// Name of the rpc, such as `CreateUser`.
    pub rpc: &'static str,
    /// Path over gRPC, such as `/campanile.v1.UserService/CreateUser`.
    pub grpc_path: &'static str,
    /// HTTP status of success over REST.
    pub success_status: u16,
    /// The kinds of caller that are let in.
    pub callers: &'static [CallerKind],
    /// What happens to a call that names a user to act for.
    pub on_behalf_of: OnBehalfOf,
    /// Whether an idempotency key is taken.
    pub idempotency_key: bool,
    /// Largest request in bytes, after decompression.
    pub body_bytes_max: usize,
    /// The rate limit that it counts against.
    pub rate_class: RateClass,
    /// The domain errors it may answer, beside those that every rpc may.
    pub reasons: &'static [Reason],
    /// Whether the answer is a stream.
    pub server_streaming: bool,
    /// Whether the request is a file, or a stream of messages, which takes as long as it goes on coming.
    pub takes_file: bool,
    /// Whether the answer holds a credential, so that a stored copy has to be encrypted.
    pub secret_answer: bool,
    /// Whether the contract marks it deprecated.
    pub deprecated: bool,
}

/// The kinds of caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallerKind {
    /// Presents the operator key.
    Operator,
    /// Presents an API key of scope `fullAccess`.
    FullAccess,
    /// Presents an API key of scope `authOnly`.
    AuthOnly,
    /// Presents nothing.
    Public,
}

/// What happens to a call that names a user to act for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnBehalfOf {
    /// It acts for that user.
    Optional,
    /// It has to.
    Required,
    /// It is refused as a bad request.
    RefusedAsBadRequest,
    /// It is refused as forbidden.
    RefusedAsForbidden,
}

/// Which rate limit a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RateClass {
    /// The limit of most calls.
    Standard,
    /// The tighter one, of calls that create or delete users and credentials.
    Core,
}

/// The error of a request that is larger than its rpc takes.
pub(crate) fn too_large(bytes_max: usize) -> Error {
    let sentence = format!("the request must not be larger than {bytes_max} bytes after decompression");
    Error::new(Reason::PayloadTooLarge, sentence).with("limitBytes", bytes_max)
}
