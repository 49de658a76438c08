//! Campanile: campaigns and notifications, one binary, gRPC first, REST from the same protobuf.

pub mod api;
pub mod channel;
pub mod config;
pub mod domain;
pub mod failpoint;
pub mod files;
pub mod model;
pub mod pb;
pub mod store;
pub mod telemetry;
pub mod worker;
