//! The way in: both doors, gRPC and REST, onto the same handlers. Protobuf and HTTP are known here and nowhere else; no
//! rule of the product and no SQL is.

pub mod call;
pub mod convert;
pub mod edge;
pub mod method;
pub mod ops;
pub mod rest;
pub mod server;
pub mod status;

pub use call::{Call, CallHead, Door, Idempotency, Reply};
pub use method::Method;
