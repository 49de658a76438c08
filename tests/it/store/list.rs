//! Lists: whatever the rows, the order and the page size, a walk sees every row once and in order, both ways.

use campanile::model::Timestamp;
use campanile::model::id::{AppId, CategoryId};
use campanile::model::page::{Affix, Order, Page, PageRequest, Position, Start, TOTAL_MAX};
use campanile::store::entity::category::{ActiveModel, Column, Entity, Model};
use campanile::store::list::{SortBy, list};
use campanile::store::{Store, Tx};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};
use tokio::runtime::Handle;
use tokio::task::block_in_place;

use crate::on_both;

const CASES: u32 = 40;
const ROWS_MAX: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sort {
    Created,
    Name,
}

impl SortBy<Entity> for Sort {
    const ID: Column = Column::Id;

    fn column(self) -> Column {
        match self {
            Self::Created => Column::CreatedAt,
            Self::Name => Column::Name,
        }
    }
}

#[derive(Clone, Debug)]
struct Case {
    /// Creation time and name, both with many ties; the number makes names unique within the app where they must be.
    rows: Vec<(i64, String)>,
    sort: Sort,
    order: Order,
    limit: u32,
}

fn cases() -> impl Strategy<Value = Case> {
    // What locales disagree about: case, accents, punctuation, digits, characters beyond the first plane.
    let name = proptest::collection::vec(
        prop_oneof![
            Just("a"),
            Just("A"),
            Just("b"),
            Just("ä"),
            Just("é"),
            Just("-"),
            Just(" "),
            Just("1"),
            Just("😀")
        ],
        1..4,
    )
    .prop_map(|letters| letters.concat());
    let rows = proptest::collection::vec((0_i64..4, name), 0..ROWS_MAX);
    let sort = prop_oneof![Just(Sort::Created), Just(Sort::Name)];
    let order = prop_oneof![Just(Order::Ascending), Just(Order::Descending)];
    (rows, sort, order, 1_u32..8).prop_map(|(rows, sort, order, limit)| Case {
        rows,
        sort,
        order,
        limit,
    })
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

async fn insert(tx: &Tx, rows: Vec<Model>) -> campanile::model::Result<()> {
    for row in rows {
        let row = ActiveModel {
            id: Set(row.id),
            app_id: Set(row.app_id),
            name: Set(row.name),
            description: Set(None),
            created_at: Set(row.created_at),
            updated_at: Set(row.updated_at),
            version: Set(1),
        };
        Entity::insert(row).exec_without_returning(tx).await?;
    }
    Ok(())
}

/// Writes the case's rows into an app of their own, and gives them in the order that the list must have.
async fn write(store: &Store, app: AppId, case: &Case) -> Vec<Model> {
    let mut rows: Vec<Model> = Vec::new();
    for (millis, name) in &case.rows {
        if rows.iter().any(|row| row.name == *name) {
            continue;
        }
        rows.push(Model {
            id: CategoryId::new(at(0)),
            app_id: app,
            name: name.clone(),
            description: None,
            created_at: at(*millis),
            updated_at: at(0),
            version: 1,
        });
    }
    let inserted = rows.clone();
    store
        .write(move |tx| {
            let rows = inserted.clone();
            Box::pin(async move { insert(tx, rows).await })
        })
        .await
        .unwrap();
    rows.sort_by(|a, b| match case.sort {
        Sort::Created => (a.created_at, a.id).cmp(&(b.created_at, b.id)),
        Sort::Name => (a.name.as_bytes(), a.id).cmp(&(b.name.as_bytes(), b.id)),
    });
    if case.order == Order::Descending {
        rows.reverse();
    }
    rows
}

async fn page(store: &Store, app: AppId, case: &Case, start: Start) -> Page<Model> {
    let request = PageRequest {
        limit: case.limit,
        sort: case.sort,
        order: case.order,
        start,
        totals: true,
    };
    let rows = Entity::find().filter(Column::AppId.eq(app));
    list(store.read(), rows, &request).await.unwrap()
}

fn require(holds: bool, what: &str) -> Result<(), TestCaseError> {
    if holds {
        Ok(())
    } else {
        Err(TestCaseError::fail(what.to_owned()))
    }
}

async fn check_walks(store: &Store, case: &Case) -> Result<(), TestCaseError> {
    let app = AppId::new(at(0));
    let expected = write(store, app, case).await;

    let mut seen: Vec<Model> = Vec::new();
    let mut start = Start::First;
    let mut last: Option<Page<Model>> = None;
    for _ in 0..=ROWS_MAX {
        let found = page(store, app, case, start).await;
        require(
            found.previous.is_some() != seen.is_empty(),
            "previous is absent exactly on the first page",
        )?;
        seen.extend(found.rows.iter().cloned());
        let next = found.next.clone();
        last = Some(found);
        match next {
            Some(position) => start = Start::Cursor(Affix::Append, position),
            None => break,
        }
    }
    require(seen == expected, "a walk forward sees every row once and in order")?;

    let last = last.ok_or_else(|| TestCaseError::fail("there was no page"))?;
    let mut seen = last.rows;
    let mut previous: Option<Position> = last.previous;
    while let Some(position) = previous.take() {
        let mut found = page(store, app, case, Start::Cursor(Affix::Prepend, position)).await;
        require(
            found.next.is_some(),
            "a page that was come to from behind has a next one",
        )?;
        require(
            found.next == found.rows.last().map(|row| edge(case.sort, row)),
            "next is the last row",
        )?;
        require(!found.rows.is_empty(), "previous is given only where there are rows")?;
        previous = found.previous.clone();
        found.rows.append(&mut seen);
        seen = found.rows;
    }
    require(seen == expected, "a walk back sees every row once and in order")
}

fn edge(sort: Sort, row: &Model) -> Position {
    Position {
        value: sort.value(row).unwrap(),
        id: row.id.uuid(),
    }
}

async fn check_pages(store: &Store, case: &Case) -> Result<(), TestCaseError> {
    let app = AppId::new(at(0));
    let expected = write(store, app, case).await;
    let size = usize::try_from(case.limit).unwrap();
    for number in 1..=u32::try_from(expected.len() / size).unwrap() + 2 {
        let skip = size * (usize::try_from(number).unwrap() - 1);
        let wanted: Vec<Model> = expected.iter().skip(skip).take(size).cloned().collect();
        let found = page(store, app, case, Start::Page(number)).await;
        require(found.rows == wanted, "a numbered page holds its rows")?;
        let total = found
            .total
            .ok_or_else(|| TestCaseError::fail("a numbered page has a total"))?;
        require(
            (total.rows, total.exact) == (u64::try_from(expected.len()).unwrap(), true),
            "the total is the number of rows, also beyond the last page",
        )?;
        require(
            found.next.is_some() == (skip + size < expected.len()),
            "next is absent on the last page",
        )?;
    }
    Ok(())
}

fn for_all_cases(check: &impl AsyncFn(&Case) -> Result<(), TestCaseError>) {
    let mut runner = TestRunner::new(Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    });
    block_in_place(|| {
        runner
            .run(&cases(), |case| Handle::current().block_on(check(&case)))
            .unwrap();
    });
}

on_both! {
    async fn a_walk_by_cursor_sees_every_row_once_in_order(db) {
        let store = db.open().await;
        for_all_cases(&async |case| check_walks(&store, case).await);
    }

    async fn numbered_pages_hold_their_rows_and_the_total(db) {
        let store = db.open().await;
        for_all_cases(&async |case| check_pages(&store, case).await);
    }

    async fn rows_that_come_and_go_neither_repeat_nor_hide_others(db) {
        let store = db.open().await;
        let case = Case {
            rows: (0..6).map(|n| (n, format!("row {n}"))).collect(),
            sort: Sort::Created,
            order: Order::Ascending,
            limit: 2,
        };
        let app = AppId::new(at(0));
        let rows = write(&store, app, &case).await;
        let first = page(&store, app, &case, Start::First).await;
        // The row at the edge goes, and one comes before it.
        let edge = rows[1].id;
        store
            .write(move |tx| Box::pin(async move {
                Entity::delete_by_id(edge).exec(tx).await?;
                let newcomer = Model {
                    id: CategoryId::new(at(0)),
                    app_id: app,
                    name: "newcomer".to_owned(),
                    description: None,
                    created_at: at(0),
                    updated_at: at(0),
                    version: 1,
                };
                insert(tx, vec![newcomer]).await
            }))
            .await
            .unwrap();
        let second = page(&store, app, &case, Start::Cursor(Affix::Append, first.next.unwrap())).await;
        assert_eq!(second.rows, rows[2..4]);
    }

    async fn totals_are_exact_up_to_their_bound(db) {
        let store = db.open().await;
        let app = AppId::new(at(0));
        let bound = usize::try_from(TOTAL_MAX).unwrap();
        let case = Case { rows: Vec::new(), sort: Sort::Name, order: Order::Ascending, limit: 3 };
        let numbered = move |from: usize, to: usize| -> Vec<Model> {
            (from..to)
                .map(|n| Model {
                    id: CategoryId::new(at(0)),
                    app_id: app,
                    name: format!("{n:05}"),
                    description: None,
                    created_at: at(0),
                    updated_at: at(0),
                    version: 1,
                })
                .collect()
        };
        let fill = async |from, to| {
            store.write(move |tx| Box::pin(async move { insert(tx, numbered(from, to)).await })).await.unwrap();
        };
        fill(0, bound).await;
        let total = page(&store, app, &case, Start::Page(1)).await.total.unwrap();
        assert_eq!((total.rows, total.exact), (TOTAL_MAX, true));
        fill(bound, bound + 2).await;
        let total = page(&store, app, &case, Start::Page(2)).await.total.unwrap();
        assert_eq!((total.rows, total.exact), (TOTAL_MAX, false));
    }
}
