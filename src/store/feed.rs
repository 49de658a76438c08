//! Feeds in the database: heads, which count, and items, which say.
//!
//! Whoever changes an item locks the head of its feed first, so the changes of one feed have an order, which is that of
//! `change_seq`, and two of them never wait for each other in a circle. The unread count moves only by items whose
//! `counted` flips in the same transaction.

mod change;
mod count;
mod head;
mod item;
mod version;

pub use change::{record_read, sweep_expired};
pub use count::{Expired, Unread, count_unread, unread_statement};
pub use head::{advance_categories, advance_heads, find_head_locked};
pub use item::{find_item, insert_items, list_items, visible_items};
pub use version::{SentVersion, find_versions};
