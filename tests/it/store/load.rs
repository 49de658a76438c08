//! Loading: what goes in comes out whatever the number of rows, and a key that is taken leaves nothing behind.

use campanile::model::id::{AppId, NotificationId, UserId};
use campanile::model::user::{Profile, Uid, User, UserStatus};
use campanile::model::variable::VariableValues;
use campanile::model::version::Version;
use campanile::model::{Reason, Result, Timestamp};
use campanile::store::audience::{Joining, Known, look_up};
use campanile::store::entity::{notification_recipient as recipient, user};
use campanile::store::load::{Cell, Load, Source};
use campanile::store::user::insert_alike;
use campanile::store::value::Json;
use campanile::store::{Store, Tx};
use sea_orm::{ConnectionTrait, DatabaseBackend, EntityTrait, QueryOrder};

use crate::on_both;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

fn uid(number: usize) -> Uid {
    format!("user-{number:05}").parse().unwrap()
}

/// Recipients, some of whom are nobody, with texts that a statement or a document could trip over.
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

/// Loads users by these uids, unless one of them is taken; tells whether it did.
async fn load_users(tx: &Tx, app: AppId, uids: &[&str]) -> Result<bool> {
    let uids: Vec<Uid> = uids.iter().map(|uid| uid.parse().unwrap()).collect();
    let like = User {
        id: UserId::new(at(0)),
        uid: uids[0].clone(),
        profile: Profile::named("somebody".parse().unwrap()),
        status: UserStatus::Offline,
        last_active_at: None,
        deactivated_at: None,
        created_at: at(0),
        updated_at: at(0),
        version: Version::FIRST,
    };
    let users: Vec<_> = uids.iter().map(|uid| (UserId::new(at(0)), uid)).collect();
    insert_alike(tx, app, &like, &users).await
}

/// The same in a transaction, and then another one who is not taken.
async fn write_users(
    store: &Store,
    app: AppId,
    uids: &'static [&'static str],
    behind: &'static [&'static str],
) -> Result<bool> {
    store
        .write(move |tx| {
            Box::pin(async move {
                let loaded = load_users(tx, app, uids).await?;
                load_users(tx, app, behind).await?;
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
        // Around the sizes of SQLite's statements, and more than the largest of them.
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
        assert!(write_users(&store, app, &["ada", "bob"], &["cyd"]).await.unwrap());
        let again = write_users(&store, app, &["abe", "bob", "dan"], &["eve"]).await;
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
    }

    async fn uids_are_found_by_their_index_however_little_is_known_of_a_table(db) {
        let store = db.open().await;
        let (app, notification) = (AppId::new(at(0)), NotificationId::new(at(0)));
        let found = store.write(move |tx| {
            Box::pin(async move {
                if tx.get_database_backend() == DatabaseBackend::Postgres {
                    // A plan that was made while the table was empty, which a statement of many imports keeps.
                    tx.execute_unprepared("SET LOCAL plan_cache_mode = force_generic_plan").await?;
                }
                // Nobody asks how long the users take that are written in between.
                let bounded = async |time: &str| match tx.get_database_backend() {
                    DatabaseBackend::Postgres => tx.execute_unprepared(&format!("SET LOCAL statement_timeout = '{time}'")).await.map(drop),
                    _ => Ok(()),
                };
                bounded("2s").await?;
                let joining = |from: usize| (from..from + 3_000).map(|n| Joining::new(uid(n), &VariableValues::new()));
                let joining = |from: usize| joining(from).collect::<Result<Vec<_>>>();
                assert_eq!(look_up(tx, (app, notification), &joining(0)?).await?, [Known::default(); 3_000]);
                let names: Vec<String> = (0..20_000).map(|n| uid(n).to_string()).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                bounded("60s").await?;
                assert!(load_users(tx, app, &names).await?);
                bounded("2s").await?;
                look_up(tx, (app, notification), &joining(18_500)?).await
            })
        });
        let found = found.await.unwrap();
        let known = found.iter().map(|one| one.user.is_some() && one.is_taken && !one.is_present);
        assert_eq!(known.collect::<Vec<_>>(), [[true; 1_500], [false; 1_500]].concat());
    }
}
