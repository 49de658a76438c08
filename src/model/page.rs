//! Lists: where a page starts, what it holds, and what to send for its neighbours. Positions are plain values of the row
//! at the edge, so a page never repeats or skips a row because others came or went.

use uuid::Uuid;

use super::Timestamp;

/// Rows beyond which a total is no longer counted exactly, and pages by number are no longer served.
pub const TOTAL_MAX: u64 = 10_000;

/// Ascending or descending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Which side of a cursor's row is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Affix {
    /// The rows after it, in the requested order.
    Append,
    /// The rows nearest before it, in the requested order.
    Prepend,
}

/// The fields that lists are sorted by: the public names of a cursor's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortField {
    /// `sentAt`.
    SentAt,
    /// `createdAt`.
    CreatedAt,
    /// `updatedAt`.
    UpdatedAt,
    /// `name`.
    Name,
    /// `channelType`.
    ChannelType,
    /// `position`.
    Position,
}

impl SortField {
    /// The public name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SentAt => "sentAt",
            Self::CreatedAt => "createdAt",
            Self::UpdatedAt => "updatedAt",
            Self::Name => "name",
            Self::ChannelType => "channelType",
            Self::Position => "position",
        }
    }
}

/// One of the fields that a certain list can be sorted by.
pub trait Sortable: Copy + PartialEq + Send + Sync + 'static {
    /// The field by its public name.
    fn field(self) -> SortField;
}

/// The value of the sort field in the row at a page's edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SortValue {
    /// An instant.
    Time(Timestamp),
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// A row's place in a list: the value of the field that the list is sorted by, ties broken by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The sort field's value.
    pub value: SortValue,
    /// The row's id.
    pub id: Uuid,
}

/// Where a page starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the beginning of a cursor walk.
    First,
    /// At a numbered page, from 1.
    Page(u32),
    /// Beside the row at a position.
    Cursor(Affix, Position),
}

/// What a list is asked for; `S` names the fields that the list can be sorted by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest<S> {
    /// Rows at most, 1 to 100.
    pub limit: u32,
    /// The field to sort by.
    pub sort: S,
    /// The direction.
    pub order: Order,
    /// Where to start.
    pub start: Start,
    /// Whether totals are wanted also for a cursor walk's first page, as small collections give them.
    pub totals: bool,
}

impl<S> PageRequest<S> {
    /// The same for a list whose rows are told apart by their sort field, and have this id in common.
    #[must_use]
    pub fn beside(mut self, id: Uuid) -> Self {
        if let Start::Cursor(_, position) = &mut self.start {
            position.id = id;
        }
        self
    }
}

/// How many rows there are in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The number of rows, at most [`TOTAL_MAX`].
    pub rows: u64,
    /// False when there are more than `rows`.
    pub exact: bool,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, in the requested order.
    pub rows: Vec<T>,
    /// Where the following page starts; absent on the last.
    pub next: Option<Position>,
    /// Where the page before starts; absent on the first.
    pub previous: Option<Position>,
    /// How many rows there are in all, where totals were wanted.
    pub total: Option<Total>,
}

impl<T> Page<T> {
    /// The same page with its rows turned into something else, unless one of them cannot be.
    ///
    /// # Errors
    /// That of the first row that cannot be turned.
    pub fn try_map<U, E>(self, turn: impl FnMut(T) -> Result<U, E>) -> Result<Page<U>, E> {
        Ok(Page {
            rows: self.rows.into_iter().map(turn).collect::<Result<_, _>>()?,
            next: self.next,
            previous: self.previous,
            total: self.total,
        })
    }

    /// The same page with its rows turned into something else.
    pub fn map<U>(self, turn: impl FnMut(T) -> U) -> Page<U> {
        Page {
            rows: self.rows.into_iter().map(turn).collect(),
            next: self.next,
            previous: self.previous,
            total: self.total,
        }
    }
}
