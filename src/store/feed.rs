//! Feeds in the database: heads, which count, and items, which say.
//!
//! Whoever changes an item locks the head of its feed first, so the changes of one feed have an order, which is that of
//! `change_seq`, and two of them never wait for each other in a circle. The unread count moves only by items whose
//! `counted` flips in the same transaction.

mod change;
mod count;
mod head;
mod item;
mod sweep;
mod tally;
mod unread;
mod version;

pub use change::{ItemLine, find_line, find_lines, find_marks, record_changes};
pub use count::{Expired, Unread, count_unread, unread_statement};
pub use head::{advance_categories, advance_heads, lock_head, lock_heads};
pub use item::{ItemFilter, find_item, find_items, insert_items, list_items, matching_items};
pub use sweep::{
    Candidate, close_feed, delete_items, expired_items, find_expired, find_expired_of, find_items_of, find_sent_before,
    find_unpurged_user, items_sent_before,
};
pub use tally::{Tallied, delete_tally, find_tally};
pub use unread::{UnreadWalk, find_last_seq, find_unread};
pub use version::{SentVersion, find_versions};
