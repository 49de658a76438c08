//! What keeps the feed fast when it is large: the count comes from the head and a small index, and what has expired in
//! numbers is swept once instead of being subtracted every time.

use campanile::domain::{Acting, Service, Settings, feed};
use campanile::model::feed::{EXPIRED_MAX, StoredItem};
use campanile::model::id::{
    ApiKeyId, AppId, CategoryId, ChannelId, FeedItemId, NotificationId, TemplateVersionId, UserId,
};
use campanile::model::template::DataType;
use campanile::model::variable::VariableValues;
use campanile::model::{Caller, Scope, Timestamp};
use campanile::store::Store;
use campanile::store::entity::{feed_head, feed_head_category, feed_item, user};
use campanile::store::feed::{self as store, Expired};
use sea_orm::{ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, QueryFilter, Set, Statement};

use crate::on_both;

/// More than three sweeps' worth of items that expire, and some that do not.
const EXPIRING: usize = 3_300;
const LASTING: usize = 200;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

fn item(user: UserId, category: CategoryId, expires_at: Option<Timestamp>) -> StoredItem {
    StoredItem {
        id: FeedItemId::new(at(0)),
        user,
        notification_id: NotificationId::new(at(0)),
        version_id: TemplateVersionId::new(at(0)),
        channel_id: ChannelId::new(at(0)),
        category_id: Some(category),
        category_name: Some("News".parse().unwrap()),
        filterable: true,
        label: None,
        alternative_text: None,
        tags: Vec::new(),
        data_type: DataType::UiTemplate,
        variables: VariableValues::new(),
        counted: true,
        sent_at: at(0),
        delivered_at: None,
        read_at: None,
        expires_at,
        created_at: at(0),
    }
}

/// Fills a user's feed to what many pages would have made of it.
async fn fill(store: &Store, app: AppId, user: UserId, category: CategoryId) {
    let expiring = std::iter::repeat_n(Some(at(1_000)), EXPIRING);
    let items: Vec<_> = expiring
        .chain(std::iter::repeat_n(None, LASTING))
        .map(|expires_at| item(user, category, expires_at))
        .collect();
    let (seq, unread) = (i64::try_from(items.len()).unwrap(), i32::try_from(items.len()).unwrap());
    store
        .write(move |tx| {
            let items = items.clone();
            Box::pin(async move {
                let head = feed_head::ActiveModel {
                    app_id: Set(app),
                    user_id: Set(user),
                    seq: Set(seq),
                    unread: Set(unread),
                    purged_seq: Set(0),
                };
                let of_category = feed_head_category::ActiveModel {
                    app_id: Set(app),
                    user_id: Set(user),
                    category_id: Set(category),
                    unread: Set(unread),
                };
                feed_head::Entity::insert(head).exec_without_returning(tx).await?;
                feed_head_category::Entity::insert(of_category)
                    .exec_without_returning(tx)
                    .await?;
                store::insert_items(tx, app, &items, &[(user, seq)].into()).await
            })
        })
        .await
        .unwrap();
}

async fn head(store: &Store) -> feed_head::Model {
    feed_head::Entity::find().one(store.read()).await.unwrap().unwrap()
}

/// How the database would count before anything has expired, which is how it counts nearly always, in its own words.
async fn plan(store: &Store, app: AppId, user: UserId, category: Option<CategoryId>, expired: Expired) -> String {
    let db = store.read();
    let backend = db.get_database_backend();
    let mut statement = store::unread_statement(backend, (app, user), category, at(0), expired);
    let explain = match backend {
        DatabaseBackend::Postgres => "EXPLAIN",
        _ => "EXPLAIN QUERY PLAN",
    };
    statement.sql = format!("{explain} {}", statement.sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let line = |row: &sea_orm::QueryResult| {
        let column = if backend == DatabaseBackend::Postgres {
            "QUERY PLAN"
        } else {
            "detail"
        };
        row.try_get::<String>("", column).unwrap()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

async fn run(store: &Store, statements: Vec<String>) {
    store
        .write(move |tx| {
            let statements = statements.clone();
            Box::pin(async move {
                for sql in &statements {
                    tx.execute_unprepared(sql).await?;
                }
                Ok(())
            })
        })
        .await
        .unwrap();
}

/// Makes every change of a table's rows fail, as those of a database that ran out of space do.
pub(super) async fn refuse_changes(store: &Store, table: &str) {
    let mut statements = Vec::new();
    let action = if store.read().get_database_backend() == DatabaseBackend::Postgres {
        statements.push(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$"
                .to_owned(),
        );
        "FOR EACH ROW EXECUTE FUNCTION refuse()"
    } else {
        "BEGIN SELECT RAISE(ABORT, 'full'); END"
    };
    statements.push(format!("CREATE TRIGGER refusing BEFORE UPDATE ON {table} {action}"));
    run(store, statements).await;
}

async fn allow_changes(store: &Store, table: &str) {
    let drop = if store.read().get_database_backend() == DatabaseBackend::Postgres {
        format!("DROP TRIGGER refusing ON {table}")
    } else {
        "DROP TRIGGER refusing".to_owned()
    };
    run(store, vec![drop]).await;
}

on_both! {
    async fn expired_items_are_counted_by_their_own_index_and_swept_when_they_are_many(db) {
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let store = db.open().await;
        let app = AppId::new(at(0));
        let caller = Caller::App { app, key: ApiKeyId::new(at(0)), scope: Scope::FullAccess };
        let acting = |now| Acting::new(caller, Some("ada".parse().unwrap()), now);
        let count = async |now, category: Option<&str>| {
            let unread = feed::unread_count(&service, &acting(now), None, category).await;
            usize::try_from(unread.unwrap()).unwrap()
        };
        assert_eq!(count(at(0), None).await, 0);
        let ada = user::Entity::find().one(store.read()).await.unwrap().unwrap().id;
        let category = CategoryId::new(at(0));
        fill(&store, app, ada, category).await;
        store
            .write(|tx| Box::pin(async move {
                tx.execute_raw(Statement::from_string(tx.get_database_backend(), "ANALYZE")).await?;
                Ok(())
            }))
            .await
            .unwrap();
        let news = category.to_string();

        for category in [None, Some(category)] {
            for expired in [Expired::Few, Expired::All] {
                let plan = plan(&store, app, ada, category, expired).await;
                assert!(plan.contains("feed_items_expiring"), "{plan}");
            }
        }
        assert_eq!(count(at(999), None).await, EXPIRING + LASTING);
        assert_eq!(count(at(999), Some(&news)).await, EXPIRING + LASTING);
        let before = head(&store).await;

        // A database that cannot be written to is still read, without a trace.
        refuse_changes(&store, "feed_items").await;
        assert_eq!(count(at(1_000), None).await, LASTING);
        assert_eq!(count(at(1_000), Some(&news)).await, LASTING);
        assert_eq!(head(&store).await, before);
        allow_changes(&store, "feed_items").await;

        // A count sweeps twice at most and subtracts what that leaves.
        assert_eq!(count(at(1_000), None).await, LASTING);
        let swept = i32::try_from(EXPIRED_MAX).unwrap() * 2;
        assert_eq!(before.unread - head(&store).await.unread, swept);
        assert_eq!(count(at(1_000), Some(&news)).await, LASTING);
        let after = head(&store).await;
        let swept = i32::try_from(EXPIRED_MAX).unwrap() * 3;
        assert_eq!((before.unread - after.unread, after.seq - before.seq), (swept, i64::from(swept)));

        let changed = feed_item::Entity::find().filter(feed_item::Column::ChangeSeq.gt(before.seq)).all(store.read()).await.unwrap();
        let mut numbers: Vec<_> = changed.iter().map(|item| item.change_seq).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (before.seq + 1..=after.seq).collect::<Vec<_>>());
        assert!(changed.iter().all(|item| !item.counted && item.read_at.is_none()));

        // What is left is few enough to be subtracted, so nothing more is written.
        assert_eq!(count(at(1_001), None).await, LASTING);
        assert_eq!(head(&store).await, after);
        service.close().await;
    }
}
