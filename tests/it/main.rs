//! Behavior of the whole service, through its public doors and on both databases.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod app;
mod batch;
mod campaign;
mod catalog;
mod category;
mod channel;
mod content;
mod contract;
mod crash;
mod edge;
mod etag;
mod feed;
mod fuzz;
mod generator;
mod idempotency;
mod identity;
mod isolation;
mod later;
mod name;
mod notification;
mod observed;
mod outage;
mod process;
mod sequence;
mod store;
mod support;
mod template;
mod tidy;
mod user;
mod variable;
mod worker;
