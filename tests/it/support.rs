//! What the tests share.

pub(crate) mod cable;
pub(crate) mod chaos;
pub(crate) mod cluster;
pub(crate) mod database;
pub(crate) mod depot;
pub(crate) mod metrics;
pub(crate) mod rows;
pub(crate) mod rpc;
pub(crate) mod running;
pub(crate) mod server;
pub(crate) mod shop;
pub(crate) mod test_service;
pub(crate) mod world;
