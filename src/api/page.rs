//! List parameters to a page request, and a page to its `meta` and `pagination`. The same rules for every list; which
//! fields a list can be sorted by is the noun's own affair.

use uuid::Uuid;

use super::convert;
use crate::model::Violation;
use crate::model::page::{Affix, Order, Page, PageRequest, Position, SortField, SortValue, Sortable, Start, TOTAL_MAX};
use crate::pb::campanile::v1;

/// Rows of a page when nothing is said.
pub const LIMIT_DEFAULT: u32 = 20;

/// Whether totals are given without being asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Totals {
    /// On pages by number, and on the first page of a walk without a cursor: for collections that stay small.
    Always,
    /// On pages by number only.
    ByPage,
}

/// The list parameters of one request.
#[derive(Debug)]
pub struct ListParameters<S> {
    /// `page`.
    pub page: Option<i32>,
    /// `limit`.
    pub limit: Option<i32>,
    /// `affix`.
    pub affix: Option<i32>,
    /// `id`, as it was sent.
    pub id: Option<String>,
    /// `sort`, as the noun understands it.
    pub sort: Option<S>,
    /// `order`.
    pub order: Option<i32>,
    /// The cursor values that were sent, each with the sort field that it belongs to.
    pub cursor: Vec<(S, SortValue)>,
}

/// Takes the list parameters out of a request: the request, the noun's sort type with a function from the proto's number,
/// and for each cursor value of the request the sort field that it belongs to.
#[macro_export]
macro_rules! list_parameters {
    ($request:expr, $sort:expr, { $($field:ident => $by:expr),+ $(,)? }) => {{
        let mut cursor = Vec::new();
        $(
            if let Some(value) = $request.$field.as_ref().and_then($crate::api::page::CursorValue::sort_value) {
                cursor.push(($by, value));
            }
        )+
        $crate::api::page::ListParameters {
            page: $request.page,
            limit: $request.limit,
            affix: $request.affix,
            id: $request.id.clone(),
            sort: $request.sort.and_then($sort),
            order: $request.order,
            cursor,
        }
    }};
}

/// A cursor value as requests carry it.
pub trait CursorValue {
    /// The same for the model; `None` where it is out of range, which the bounds have refused already.
    fn sort_value(&self) -> Option<SortValue>;
}

impl CursorValue for prost_types::Timestamp {
    fn sort_value(&self) -> Option<SortValue> {
        convert::instant(self).map(SortValue::Time)
    }
}

impl CursorValue for String {
    fn sort_value(&self) -> Option<SortValue> {
        Some(SortValue::Text(self.clone()))
    }
}

impl CursorValue for i32 {
    fn sort_value(&self) -> Option<SortValue> {
        Some(SortValue::Number((*self).into()))
    }
}

impl<S: Sortable> ListParameters<S> {
    /// What the list is asked for. `id_of` reads the cursor's `id`.
    ///
    /// # Errors
    /// All rules that are broken: a cursor beside a page, a cursor of another field than the sort, half a cursor, or a
    /// page too far behind.
    pub fn request(
        self,
        default_sort: S,
        totals: Totals,
        id_of: impl FnOnce(&str) -> Option<Uuid>,
    ) -> Result<PageRequest<S>, Vec<Violation>> {
        let mut broken = Vec::new();
        let limit = self
            .limit
            .and_then(|limit| u32::try_from(limit).ok())
            .unwrap_or(LIMIT_DEFAULT);
        let sort = self
            .sort
            .or_else(|| self.cursor.first().map(|(by, _)| *by))
            .unwrap_or(default_sort);
        let order = match self.order.map(v1::SortOrder::try_from) {
            Some(Ok(v1::SortOrder::Asc)) => Order::Ascending,
            _ => Order::Descending,
        };
        let by_cursor = self.id.is_some() || self.affix.is_some() || !self.cursor.is_empty();
        let start = match self.page.and_then(|page| u32::try_from(page).ok()) {
            Some(page) => {
                if by_cursor {
                    broken.push(Violation::new(
                        "page",
                        "must not stand beside a cursor (affix, id and the sort field's value)",
                    ));
                }
                if u64::from(page) * u64::from(limit) > TOTAL_MAX {
                    let rule = "times limit must not pass 10,000; read on by cursor, with the parameters in meta.next";
                    broken.push(Violation::new("page", rule).received(page));
                }
                Start::Page(page)
            }
            None if by_cursor => self.cursor_start(sort, id_of, &mut broken),
            None => Start::First,
        };
        if !broken.is_empty() {
            return Err(broken);
        }
        let totals = match start {
            Start::Page(_) => true,
            Start::First => totals == Totals::Always,
            Start::Cursor(..) => false,
        };
        Ok(PageRequest {
            limit,
            sort,
            order,
            start,
            totals,
        })
    }

    fn cursor_start(&self, sort: S, id_of: impl FnOnce(&str) -> Option<Uuid>, broken: &mut Vec<Violation>) -> Start {
        let name = sort.field().as_str();
        let mut value = None;
        for (by, given) in &self.cursor {
            if *by == sort {
                value = Some(given.clone());
            } else {
                let rule = format!("must not be sent when the list is sorted by {name}");
                broken.push(Violation::new(by.field().as_str(), rule));
            }
        }
        if value.is_none() {
            broken.push(Violation::new(name, "is required by a cursor on a list sorted by it"));
        }
        let id = match &self.id {
            None => {
                // Whoever sends a value alone has often taken it for a filter.
                let values: Vec<_> = self.cursor.iter().map(|(by, _)| by.field().as_str()).collect();
                let rule = match values.as_slice() {
                    [] => "is required by a cursor".to_owned(),
                    values => format!(
                        "is required by a cursor; {} is a part of it and no filter",
                        values.join(", ")
                    ),
                };
                broken.push(Violation::new("id", rule));
                None
            }
            Some(text) => {
                let id = id_of(text);
                if id.is_none() {
                    broken.push(Violation::new("id", "must be the id of a row of this list").received(text));
                }
                id
            }
        };
        let affix = match self.affix.map(v1::Affix::try_from) {
            Some(Ok(v1::Affix::Prepend)) => Affix::Prepend,
            _ => Affix::Append,
        };
        match (value, id) {
            (Some(value), Some(id)) => Start::Cursor(affix, Position { value, id }),
            _ => Start::First,
        }
    }
}

/// Where a page stands and what to send for its neighbours. `id` gives a row's public id.
pub fn meta<S: Sortable, T>(request: &PageRequest<S>, page: &Page<T>, id: impl Fn(&T) -> String) -> v1::ListMeta {
    let field = request.sort.field();
    let cursor = |affix: v1::Affix, position: Option<&Position>, row: Option<&T>| {
        let (position, row) = (position?, row?);
        Some(cursor_parameters(affix, field, position, id(row)))
    };
    v1::ListMeta {
        current: Some(v1::PageState {
            limit: i32::try_from(request.limit).unwrap_or(i32::MAX),
            count: i32::try_from(page.rows.len()).unwrap_or(i32::MAX),
        }),
        next: cursor(v1::Affix::Append, page.next.as_ref(), page.rows.last()),
        previous: cursor(v1::Affix::Prepend, page.previous.as_ref(), page.rows.first()),
    }
}

fn cursor_parameters(affix: v1::Affix, field: SortField, position: &Position, id: String) -> v1::CursorParams {
    let mut parameters = v1::CursorParams {
        affix: affix.into(),
        id,
        ..Default::default()
    };
    match (&position.value, field) {
        (SortValue::Time(at), SortField::SentAt) => parameters.sent_at = Some(convert::timestamp(*at)),
        (SortValue::Time(at), SortField::CreatedAt) => parameters.created_at = Some(convert::timestamp(*at)),
        (SortValue::Time(at), SortField::UpdatedAt) => parameters.updated_at = Some(convert::timestamp(*at)),
        (SortValue::Text(text), SortField::Name) => parameters.name = Some(text.clone()),
        (SortValue::Text(text), SortField::ChannelType) => parameters.channel_type = Some(text.clone()),
        (SortValue::Number(number), SortField::Position) => parameters.position = i32::try_from(*number).ok(),
        // A field has values of one type only.
        (SortValue::Time(_) | SortValue::Text(_) | SortValue::Number(_), _) => {}
    }
    parameters
}

/// Page numbers and totals, where the request has them.
pub fn pagination<S, T>(request: &PageRequest<S>, page: &Page<T>) -> Option<v1::Pagination> {
    let total = page.total?;
    let number = match request.start {
        Start::Page(number) => number,
        Start::First | Start::Cursor(..) => 1,
    };
    let count = |count: u64| i32::try_from(count).unwrap_or(i32::MAX);
    Some(v1::Pagination {
        page: count(number.into()),
        limit: count(request.limit.into()),
        total: count(total.rows),
        total_pages: count(total.rows.div_ceil(u64::from(request.limit.max(1)))),
        total_exact: (!total.exact).then_some(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum By {
        Created,
        Name,
    }

    impl Sortable for By {
        fn field(self) -> SortField {
            match self {
                Self::Created => SortField::CreatedAt,
                Self::Name => SortField::Name,
            }
        }
    }

    fn asked() -> ListParameters<By> {
        ListParameters {
            page: None,
            limit: None,
            affix: None,
            id: None,
            sort: None,
            order: None,
            cursor: Vec::new(),
        }
    }

    fn created() -> (By, SortValue) {
        (By::Created, SortValue::Time(Timestamp::from_millis(5).unwrap()))
    }

    fn fields(broken: Result<PageRequest<By>, Vec<Violation>>) -> Vec<String> {
        broken
            .unwrap_err()
            .into_iter()
            .map(|violation| violation.field)
            .collect()
    }

    #[test]
    fn the_cursor_says_what_to_sort_by() {
        let parameters = ListParameters {
            id: Some("x".into()),
            cursor: vec![created()],
            ..asked()
        };
        let request = parameters
            .request(By::Name, Totals::Always, |_| Some(Uuid::nil()))
            .unwrap();
        assert_eq!(request.sort, By::Created);
        assert!(matches!(request.start, Start::Cursor(Affix::Append, _)));
        assert!(!request.totals);
    }

    #[test]
    fn every_rule_that_is_broken_is_named() {
        let parameters = ListParameters {
            page: Some(200),
            limit: Some(100),
            cursor: vec![created()],
            ..asked()
        };
        assert_eq!(
            fields(parameters.request(By::Name, Totals::Always, |_| None)),
            ["page", "page"]
        );
        let parameters = ListParameters {
            sort: Some(By::Name),
            cursor: vec![created()],
            ..asked()
        };
        assert_eq!(
            fields(parameters.request(By::Name, Totals::Always, |_| None)),
            ["createdAt", "name", "id"]
        );
        let parameters = ListParameters {
            id: Some("feed-?".into()),
            cursor: vec![created()],
            ..asked()
        };
        assert_eq!(fields(parameters.request(By::Name, Totals::Always, |_| None)), ["id"]);
    }

    #[test]
    fn totals_follow_the_kind_of_list() {
        let request = |page, totals| {
            ListParameters { page, ..asked() }
                .request(By::Name, totals, |_| None)
                .unwrap()
        };
        assert!(request(None, Totals::Always).totals);
        assert!(!request(None, Totals::ByPage).totals);
        assert!(request(Some(100), Totals::ByPage).totals);
    }
}
