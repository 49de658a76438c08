//! What things are: ids, validated values, state machines and pure rules. Nothing here is async, does I/O, or knows how
//! it is stored or served.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod app;
pub mod caller;
pub mod campaign;
pub mod card;
pub mod category;
pub mod channel;
pub mod delivery;
pub mod document;
pub mod error;
pub mod feed;
pub mod id;
pub mod import;
pub mod name;
pub mod notification;
pub mod origin;
pub mod page;
pub mod render;
pub mod retry;
pub mod slug;
pub mod tag;
pub mod template;
pub mod time;
pub mod user;
pub mod variable;
pub mod version;
pub mod word;

pub use caller::{Caller, Scope};
pub use error::{Error, Reason, Result, Violation, Violations};
pub use origin::Origin;
pub use time::{Clock, Timestamp};
