//! The rows as sea-orm knows them, one file per table. Nothing here queries: that is in the file of each noun.

pub mod api_key;
pub mod app;
pub mod campaign;
pub mod category;
pub mod channel;
pub mod delivery;
pub mod feed_head;
pub mod feed_head_category;
pub mod feed_item;
pub mod feed_item_engagement;
pub mod idempotency_key;
pub mod import;
pub mod import_problem;
pub mod lane;
pub mod notification;
pub mod notification_recipient;
pub mod outgoing;
pub mod page;
pub mod sequence_wait;
pub mod template;
pub mod template_version;
pub mod user;
