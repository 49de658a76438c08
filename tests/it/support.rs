//! What the tests share.

pub(crate) mod database;
pub(crate) mod rpc;
pub(crate) mod server;
pub(crate) mod test_service;
pub(crate) mod world;
