//! Both doors onto the handlers, generated from the contract: traits that handlers implement, the gRPC services and REST
//! routes in front of them, the tables of rpcs and bindings. The
//! generated code only wires, what it calls is in the other modules here, and none of it decides what an rpc does.

pub mod binding;
pub mod codec;
pub mod contract;
pub mod grpc;
pub mod http;
pub mod idempotency;
pub mod messages;
pub mod rt;
pub mod services;
pub mod sse;
pub mod weight;

pub use contract::*;
pub use services::Services;

/// The descriptor set of the contract with its comments and options, for reflection.
pub static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));

/// One line for each rpc, enum and bound of the contract, to compare releases by.
pub static CONTRACT: &str = include_str!(concat!(env!("OUT_DIR"), "/contract.txt"));
