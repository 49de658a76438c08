//! Template categories: the headings that templates are sorted under. Nothing here knows which template is in which.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::id::CategoryId;

/// The categories that every app starts with.
pub const SEEDED: [&str; 7] = [
    "Onboarding",
    "Transactional",
    "Marketing",
    "Product_Showcase",
    "Alerts",
    "Polls",
    "Custom",
];

/// A heading that templates are sorted under.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Category {
    /// Its id.
    pub id: CategoryId,
    /// Its name, unique in the app: 1 to 100 characters.
    pub name: String,
    /// What it is for, up to 255 characters.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// How often it was changed; the etag is made of it.
    pub version: i64,
}

/// A category to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCategory {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
}

/// What to change about a category; `None` leaves as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryPatch {
    /// A new name.
    pub name: Option<String>,
    /// A new description, or none.
    pub description: Option<Option<String>>,
}
