//! The way in: both doors, gRPC and REST, onto the same handlers. Protobuf and HTTP are known here and nowhere else; no
//! rule of the product and no SQL is.

pub mod admission;
pub mod app;
pub mod call;
pub mod campaign;
pub mod category;
pub mod channel;
pub mod check;
pub mod convert;
pub mod doors;
pub mod edge;
pub mod feed;
pub mod field;
pub mod method;
pub mod notification;
pub mod ops;
pub mod page;
mod progress;
pub mod rest;
pub mod server;
pub mod start;
pub mod status;
pub mod template;
pub mod upload;
pub mod user;
pub mod variable;

use crate::domain::Service;

pub use call::{Call, CallHead, Door, Idempotency, Reply};
pub use method::Method;

/// The handlers of every rpc, whichever door it came through: a file per noun.
#[derive(Clone, Debug)]
pub struct Api {
    service: Service,
}

impl Api {
    /// The handlers in front of a service.
    #[must_use]
    pub const fn new(service: Service) -> Self {
        Self { service }
    }
}
