//! Lists, for all nouns: by cursor or by numbered page, in one order on both databases. It never filters: the query that it
//! is given already holds the app's rows and nothing else.
//!
//! A page is found by the position of the row beside it and never by counting, so rows that come or go meanwhile neither
//! repeat nor hide others. One row more than asked for tells whether the list goes on.

use sea_orm::sea_query::{Expr, ExprTrait, Order as SqlOrder, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, ModelTrait, QueryFilter, QueryOrder, QuerySelect,
    Select, Value,
};
use uuid::Uuid;

use crate::model::page::{Affix, Order, Page, PageRequest, Position, SortValue, Start, TOTAL_MAX, Total};
use crate::model::{Error, Result, Timestamp};

/// How a sort field of the model stands in an entity's rows.
pub trait SortBy<E: EntityTrait>: Copy + Send + Sync {
    /// The column of the row's UUID, which breaks ties.
    const ID: E::Column;

    /// The column to sort by: an instant or a text, never null.
    fn column(self) -> E::Column;

    /// What the database sorts by. For something computed, override this and [`SortBy::value`]; a computed text must end
    /// in `COLLATE "C"` on PostgreSQL.
    fn expr(self) -> Expr {
        Expr::col(self.column().as_column_ref())
    }

    /// The same of a row that was read; `None` for a column of another type, which is a fault of the program.
    fn value(self, row: &E::Model) -> Option<SortValue> {
        match row.get(self.column()) {
            Value::BigInt(Some(millis)) => Timestamp::from_millis(millis).map(SortValue::Time),
            Value::String(Some(text)) => Some(SortValue::Text(text)),
            _ => None,
        }
    }
}

/// Reads one page of `rows`, which are filtered and not ordered yet.
///
/// # Errors
/// Those of the database.
pub async fn list<E, S>(db: &impl ConnectionTrait, rows: Select<E>, request: &PageRequest<S>) -> Result<Page<E::Model>>
where
    E: EntityTrait,
    E::Model: FromQueryResult + Send + Sync,
    S: SortBy<E>,
{
    let list = List {
        db,
        rows: &rows,
        sort: request.sort,
        order: request.order,
    };
    let limit = request.limit;
    match &request.start {
        Start::First => {
            let (page, more) = list.beside(Affix::Append, None, limit).await?;
            let mut page = list.page(page, false, more)?;
            if request.totals {
                page.total = Some(list.total(0, &page).await?);
            }
            Ok(page)
        }
        Start::Page(number) => {
            let skip = u64::from(number.saturating_sub(1)) * u64::from(limit);
            let (page, more) = list.numbered(skip, limit).await?;
            let mut page = list.page(page, skip > 0, more)?;
            page.total = Some(list.total(skip, &page).await?);
            Ok(page)
        }
        Start::Cursor(affix, position) => {
            let (page, more) = list.beside(*affix, Some(position), limit).await?;
            // The cursor's own row is usually what lies on the other side, but it may be gone by now.
            let edge = match affix {
                Affix::Append => page.first(),
                Affix::Prepend => page.last(),
            };
            let opposite = match edge {
                Some(row) => list.is_beside(opposite(*affix), &list.position(row)?).await?,
                None => false,
            };
            match affix {
                Affix::Append => list.page(page, opposite, more),
                Affix::Prepend => list.page(page, more, opposite),
            }
        }
    }
}

struct List<'l, C, E: EntityTrait, S> {
    db: &'l C,
    rows: &'l Select<E>,
    sort: S,
    order: Order,
}

impl<C, E, S> List<'_, C, E, S>
where
    C: ConnectionTrait,
    E: EntityTrait,
    E::Model: FromQueryResult + Send + Sync,
    S: SortBy<E>,
{
    /// The rows nearest to a position on one side of it, in the requested order, and whether there are more beyond.
    async fn beside(&self, affix: Affix, position: Option<&Position>, limit: u32) -> Result<(Vec<E::Model>, bool)> {
        let mut query = self.ordered(affix).limit(u64::from(limit) + 1);
        if let Some(position) = position {
            query = query.filter(self.after(affix, position));
        }
        let (mut rows, more) = cut(query.all(self.db).await?, limit);
        if affix == Affix::Prepend {
            rows.reverse();
        }
        Ok((rows, more))
    }

    async fn numbered(&self, skip: u64, limit: u32) -> Result<(Vec<E::Model>, bool)> {
        let query = self.ordered(Affix::Append).offset(skip).limit(u64::from(limit) + 1);
        Ok(cut(query.all(self.db).await?, limit))
    }

    async fn is_beside(&self, affix: Affix, position: &Position) -> Result<bool> {
        let mut query = self.rows.clone().filter(self.after(affix, position)).limit(1);
        let query = QuerySelect::query(&mut query).clear_selects().expr(Expr::val(1)).take();
        Ok(self.db.query_one(&query).await?.is_some())
    }

    fn page(&self, rows: Vec<E::Model>, before: bool, after: bool) -> Result<Page<E::Model>> {
        let edge =
            |row: Option<&E::Model>, there: bool| row.filter(|_| there).map(|row| self.position(row)).transpose();
        Ok(Page {
            next: edge(rows.last(), after)?,
            previous: edge(rows.first(), before)?,
            rows,
            total: None,
        })
    }

    /// Counts one row beyond what is told exactly; where the page itself shows the end, nothing is counted.
    async fn total(&self, skip: u64, page: &Page<E::Model>) -> Result<Total> {
        let shown = u64::try_from(page.rows.len()).map_err(Error::internal)?;
        let rows = if page.next.is_none() && (shown > 0 || skip == 0) {
            skip + shown
        } else {
            self.count().await?
        };
        Ok(Total {
            rows: Ord::min(rows, TOTAL_MAX),
            exact: rows <= TOTAL_MAX,
        })
    }

    async fn count(&self) -> Result<u64> {
        let mut rows = self.rows.clone().limit(TOTAL_MAX + 1);
        let rows = QuerySelect::query(&mut rows).clear_selects().expr(Expr::val(1)).take();
        let count = Query::select()
            .expr_as(Expr::cust("COUNT(*)"), "total")
            .from_subquery(rows, "counted")
            .take();
        let row = self.db.query_one(&count).await?;
        let total = row.map(|row| row.try_get::<i64>("", "total")).transpose()?;
        u64::try_from(total.unwrap_or_default()).map_err(Error::internal)
    }

    fn position(&self, row: &E::Model) -> Result<Position> {
        let id = match row.get(S::ID) {
            Value::Uuid(Some(id)) => id,
            _ => Uuid::nil(),
        };
        let value = self.sort.value(row);
        let value = value.ok_or_else(|| Error::internal("a list is sorted by neither an instant nor a text"))?;
        Ok(Position { value, id })
    }

    fn ordered(&self, affix: Affix) -> Select<E> {
        let order = if self.ascends(affix) {
            SqlOrder::Asc
        } else {
            SqlOrder::Desc
        };
        let id = Expr::col(S::ID.as_column_ref());
        let rows = self.rows.clone().order_by(self.sort.expr(), order.clone());
        rows.order_by(id, order)
    }

    /// A comparison of rows, which both databases answer from an index on the same columns.
    fn after(&self, affix: Affix, position: &Position) -> Expr {
        let value = match &position.value {
            SortValue::Time(time) => Expr::val(*time),
            SortValue::Text(text) => Expr::val(text.as_str()),
            SortValue::Number(number) => Expr::val(*number),
        };
        let row = Expr::tuple([self.sort.expr(), Expr::col(S::ID.as_column_ref())]);
        let cursor = Expr::tuple([value, Expr::val(position.id)]);
        if self.ascends(affix) {
            row.gt(cursor)
        } else {
            row.lt(cursor)
        }
    }

    fn ascends(&self, affix: Affix) -> bool {
        (self.order == Order::Ascending) == (affix == Affix::Append)
    }
}

fn opposite(affix: Affix) -> Affix {
    match affix {
        Affix::Append => Affix::Prepend,
        Affix::Prepend => Affix::Append,
    }
}

fn cut<T>(mut rows: Vec<T>, limit: u32) -> (Vec<T>, bool) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = rows.len() > limit;
    rows.truncate(limit);
    (rows, more)
}
