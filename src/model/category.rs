//! Template categories: the headings that templates are sorted under. Nothing here knows which template is in which.

use serde::{Deserialize, Serialize};

use super::Timestamp;
use super::id::CategoryId;
use super::name::Name;
use super::page::{SortField, Sortable};
use super::version::Version;

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
    /// Its name, unique in the app, to the letter.
    pub name: Name,
    /// What it is for, up to 255 characters.
    pub description: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The counter behind its etag.
    pub version: Version,
}

/// A category to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewCategory {
    /// Its name.
    pub name: Name,
    /// What it is for.
    pub description: Option<String>,
}

/// What to change about a category: what is absent stays, an inner `None` clears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CategoryPatch {
    /// A new name.
    pub name: Option<Name>,
    /// A new description, or none.
    pub description: Option<Option<String>>,
}

/// What categories are sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CategorySort {
    /// Time of creation.
    CreatedAt,
    /// Time of the last change.
    UpdatedAt,
    /// Name.
    Name,
}

impl Sortable for CategorySort {
    fn field(self) -> SortField {
        match self {
            Self::CreatedAt => SortField::CreatedAt,
            Self::UpdatedAt => SortField::UpdatedAt,
            Self::Name => SortField::Name,
        }
    }
}
