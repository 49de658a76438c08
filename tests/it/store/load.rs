//! Loading: what goes in comes out whatever the number of rows, and a key that is taken leaves nothing behind.

use campanile::model::id::{AppId, NotificationId, UserId};
use campanile::model::{Reason, Result, Timestamp};
use campanile::store::entity::{notification_recipient as recipient, user};
use campanile::store::load::{Cell, Load, Source};
use campanile::store::value::Json;
use campanile::store::{Store, Tx};
use sea_orm::{EntityTrait, QueryOrder};

use crate::on_both;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

/// Recipients, some of whom are nobody, with texts that a form of COPY or a statement could trip over.
fn recipients(app: AppId, count: usize) -> Vec<recipient::Model> {
    let notification = NotificationId::new(at(0));
    let one = |n: usize| recipient::Model {
        app_id: app,
        notification_id: notification,
        seq: i64::try_from(n).unwrap() + 1,
        uid: format!("user-{n}"),
        user_id: (!n.is_multiple_of(3)).then(|| UserId::new(at(0))),
        variables: Json::of(&serde_json::json!({"note": format!("\"{n}\"\t\\N\r\n\\.\u{0} ä 😀 ?1 $1 '{{}}'")}))
            .unwrap(),
        outcome: if n.is_multiple_of(2) { 1 } else { -1 },
    };
    (0..count).map(one).collect()
}

async fn load_recipients(tx: &Tx, rows: &[recipient::Model]) -> Result<()> {
    let Some(first) = rows.first() else {
        return Ok(());
    };
    let load = Load {
        table: "notification_recipients",
        columns: [
            ("seq", Source::Each(2)),
            ("app_id", Source::Same(Cell::Id(first.app_id.uuid()))),
            ("uid", Source::Each(0)),
            ("user_id", Source::Each(1)),
            ("notification_id", Source::Same(Cell::Id(first.notification_id.uuid()))),
            ("variables", Source::Each(3)),
            ("outcome", Source::Each(4)),
        ],
        rows: rows.len(),
    };
    let cells = |index: usize| {
        let row = &rows[index];
        [
            Cell::Text(&row.uid),
            row.user_id.map_or(Cell::Null, |user| Cell::Id(user.uuid())),
            Cell::Long(row.seq),
            Cell::Text(row.variables.as_str()),
            Cell::Short(row.outcome),
        ]
    };
    load.all(tx, cells).await
}

/// Loads users by these uids, unless one of them is taken, and then another one that is not.
async fn load_users(store: &Store, app: AppId, uids: &'static [&'static str], behind: &'static str) -> Result<bool> {
    store
        .write(move |tx| {
            Box::pin(async move {
                let load = |rows| Load {
                    table: "users",
                    columns: [
                        ("id", Source::Each(0)),
                        ("app_id", Source::Same(Cell::Id(app.uuid()))),
                        ("uid", Source::Each(1)),
                        ("name", Source::Each(1)),
                        ("name_folded", Source::Each(1)),
                        ("role", Source::Same(Cell::Text("default"))),
                        ("metadata", Source::Same(Cell::Text("null"))),
                        ("tags", Source::Same(Cell::Text("[]"))),
                        ("created_at", Source::Same(Cell::Long(0))),
                        ("updated_at", Source::Same(Cell::Long(0))),
                        ("version", Source::Same(Cell::Long(1))),
                    ],
                    rows,
                };
                let named = |uid: &'static str| [Cell::Id(UserId::new(at(0)).uuid()), Cell::Text(uid)];
                let loaded = load(uids.len()).unless_taken(tx, |index| named(uids[index])).await?;
                load(1).all(tx, |_| named(behind)).await?;
                Ok(loaded)
            })
        })
        .await
}

async fn uids(store: &Store) -> Vec<String> {
    let all = user::Entity::find()
        .order_by_asc(user::Column::Uid)
        .all(store.read())
        .await
        .unwrap();
    all.into_iter().map(|row| row.uid).collect()
}

on_both! {
    async fn as_many_rows_come_out_as_went_in_and_as_they_were(db) {
        let store = db.open().await;
        let mut expected = Vec::new();
        // Around the sizes of SQLite's statements, and more than one piece of a COPY.
        for count in [0, 1, 15, 16, 17, 64, 65, 256, 257, 700] {
            let rows = recipients(AppId::new(at(0)), count);
            let loaded = rows.clone();
            let load = store.write(move |tx| {
                let rows = loaded.clone();
                Box::pin(async move { load_recipients(tx, &rows).await })
            });
            load.await.unwrap();
            expected.extend(rows);
        }
        expected.sort_by_key(|row| (row.app_id, row.seq));
        let read = recipient::Entity::find()
            .order_by_asc(recipient::Column::AppId)
            .order_by_asc(recipient::Column::Seq);
        assert_eq!(read.all(store.read()).await.unwrap(), expected);
    }

    async fn a_taken_key_leaves_nothing_behind(db) {
        let backend = db.backend;
        let store = db.open().await;
        let app = AppId::new(at(0));
        assert!(load_users(&store, app, &["ada", "bob"], "cyd").await.unwrap());
        let again = load_users(&store, app, &["abe", "bob", "dan"], "eve").await;
        match backend {
            Backend::Postgres => {
                assert!(!again.unwrap());
                assert_eq!(uids(&store).await, ["ada", "bob", "cyd", "eve"], "the transaction went on");
            }
            Backend::Sqlite => {
                assert_eq!(again.unwrap_err().reason(), Reason::Conflict);
                assert_eq!(uids(&store).await, ["ada", "bob", "cyd"]);
            }
        }
        let refused = load_users(&store, app, &["fay"], "ada").await.unwrap_err();
        assert_eq!(refused.reason(), Reason::Conflict);
        assert!(!uids(&store).await.contains(&"fay".to_owned()));
    }
}
