//! The REST door: JSON and HTTP in front of the handlers that gRPC calls too, driven by tables from the contract. It
//! knows no rpc by name and decides nothing about one.

pub mod dialect;
pub mod error;
pub mod free;
pub mod json;
pub mod kind;
mod number;
pub mod query;
pub mod read;
pub mod router;
mod template;
pub mod writer;

pub use axum::body::Body;
pub use dialect::Dialect;
pub use router::{Found, Match, Route, Router};

/// A request as the REST door takes it.
pub type Request = http::Request<Body>;
/// A response as the REST door gives it.
pub type Response = http::Response<Body>;
