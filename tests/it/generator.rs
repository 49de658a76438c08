//! The generator, on a service that uses every shape once: reading, writing, checking, routing, streaming, both doors
//! and two dialects. The product's own rpcs are tested by noun.

mod contract;
mod dialect;
mod differential;
mod laws;
mod property;
mod query;
mod read;
mod route;
mod stream;
mod update;
