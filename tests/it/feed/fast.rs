//! What keeps the feed fast when it is large: the count comes from the head and a small index, and what has expired in
//! numbers is swept once instead of being subtracted every time.

use campanile::domain::{Acting, Service, Settings, feed, notification};
use campanile::model::feed::{EXPIRED_MAX, FeedFilter, FeedSort, ItemState, ReadState, Shown, StoredItem};
use campanile::model::id::{
    ApiKeyId, AppId, CategoryId, ChannelId, FeedItemId, NotificationId, TemplateVersionId, UserId,
};
use campanile::model::page::{PageRequest, Start};
use campanile::model::tag::TagMatch;
use campanile::model::template::DataType;
use campanile::model::variable::VariableValues;
use campanile::model::{Caller, Scope, Timestamp};
use campanile::store::Store;
use campanile::store::entity::{feed_head, feed_head_category, feed_item, user};
use campanile::store::feed::{self as store, Expired, ItemFilter};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseBackend, EntityTrait, IdenStatic, Iterable, Order, QueryFilter, QueryOrder,
    QuerySelect, QueryTrait, Set, Statement,
};

use super::random;
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
        sent_at: at(0),
        expires_at,
        state: ItemState::SENT,
        engagements: Vec::new(),
    }
}

/// Fills a user's feed to what many pages would have made of it.
async fn fill_expiring(store: &Store, app: AppId, user: UserId, category: CategoryId) {
    let expiring = std::iter::repeat_n(Some(at(1_000)), EXPIRING);
    let items: Vec<_> = expiring
        .chain(std::iter::repeat_n(None, LASTING))
        .map(|expires_at| item(user, category, expires_at))
        .zip(1..)
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
                store::insert_items(tx, app, &items).await
            })
        })
        .await
        .unwrap();
}

/// Puts so many more items into the feed of every user who has one item, each copied from that, a millisecond apart and
/// unread, as so many sends would. `changes` are columns with what they hold instead, in SQL, where `n` counts from 1.
/// Says how many that makes for each user.
pub(super) async fn fill_with(store: &Store, app: AppId, count: usize, changes: &[(&str, &str)]) -> usize {
    let id = match store.read().get_database_backend() {
        DatabaseBackend::Postgres => "gen_random_uuid()",
        _ => "randomblob(16)",
    };
    let columns: Vec<String> = feed_item::Column::iter()
        .map(|column| column.as_str().to_owned())
        .collect();
    let values = columns.iter().map(|column| {
        let changed = changes
            .iter()
            .find(|(changed, _)| changed == column)
            .map(|(_, to)| (*to).to_owned());
        changed.unwrap_or_else(|| match column.as_str() {
            "id" => id.to_owned(),
            "seq" | "change_seq" => "h.seq + n".to_owned(),
            "counted" => "TRUE".to_owned(),
            "sent_at" | "created_at" => "i.sent_at + n".to_owned(),
            other => format!("i.{other}"),
        })
    });
    let values = values.collect::<Vec<_>>().join(", ");
    let counted = if changes
        .iter()
        .any(|(column, to)| *column == "counted" && *to == "FALSE")
    {
        0
    } else {
        count
    };
    let of = format!(
        "(SELECT user_id FROM feed_items WHERE app_id = $1 GROUP BY user_id HAVING COUNT(*) = {})",
        count + 1
    );
    let statements = [
        format!(
            "WITH RECURSIVE series(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < {count}) \
             INSERT INTO feed_items ({}) SELECT {values} FROM feed_items i \
             JOIN feed_heads h ON h.app_id = i.app_id AND h.user_id = i.user_id CROSS JOIN series WHERE i.app_id = $1 \
             AND i.user_id IN (SELECT user_id FROM feed_items WHERE app_id = $1 GROUP BY user_id HAVING COUNT(*) = 1)",
            columns.join(", ")
        ),
        format!(
            "UPDATE feed_heads SET seq = seq + {count}, unread = unread + {counted} WHERE app_id = $1 AND user_id IN {of}"
        ),
        format!(
            "UPDATE feed_head_categories SET unread = unread + {counted} WHERE app_id = $1 AND unread > 0 AND user_id IN {of}"
        ),
    ];
    store
        .write(move |tx| {
            let statements = statements.clone();
            Box::pin(async move {
                for sql in statements {
                    let backend = tx.get_database_backend();
                    tx.execute_raw(Statement::from_sql_and_values(backend, sql, [app.into()]))
                        .await?;
                }
                tx.execute_raw(Statement::from_string(tx.get_database_backend(), "ANALYZE"))
                    .await?;
                Ok(())
            })
        })
        .await
        .unwrap();
    count
}

async fn head(store: &Store) -> feed_head::Model {
    feed_head::Entity::find().one(store.read()).await.unwrap().unwrap()
}

/// How the database would count before anything has expired, which is how it counts nearly always, in its own words.
async fn plan(store: &Store, app: AppId, user: UserId, category: Option<CategoryId>, expired: Expired) -> String {
    let backend = store.read().get_database_backend();
    explain(
        store,
        store::unread_statement(backend, (app, user), category, at(0), expired),
    )
    .await
}

/// How the database would run a statement, in its own words.
async fn explain(store: &Store, mut statement: Statement) -> String {
    let db = store.read();
    let (explain, column) = match db.get_database_backend() {
        DatabaseBackend::Postgres => ("EXPLAIN", "QUERY PLAN"),
        _ => ("EXPLAIN QUERY PLAN", "detail"),
    };
    statement.sql = format!("{explain} {}", statement.sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let lines = rows.iter().map(|row| row.try_get::<String>("", column).unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

pub(super) async fn run(store: &Store, statements: Vec<String>) {
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
        fill_expiring(&store, app, ada, category).await;
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

    async fn lists_of_a_large_feed_are_read_from_an_index_in_its_order(db) {
        let now = at(0);
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let store = db.open().await;
        let app = random::world(&service, now).await.app;
        let acting = |user| random::acting(app, user, now);
        notification::send(&service, &acting(None), random::send_request(0, &[0], "first")).await.unwrap();
        // A hundred thousand that were read, and some that were not, older than all of them.
        fill_with(&store, app, 100_000, &[("counted", "FALSE"), ("read_at", "i.sent_at + n"), ("delivered_at", "i.sent_at + n")]).await;
        let ada = user::Entity::find().one(store.read()).await.unwrap().unwrap().id;
        let all = ItemFilter {
            user: Some(ada),
            read_state: ReadState::All,
            sent_from: None,
            sent_to: None,
            tags: Vec::new(),
            tag_match: TagMatch::Any,
            category: None,
            channel: None,
            with_deleted: false,
            with_expired: false,
            now,
        };
        let unread = ItemFilter { read_state: ReadState::Unread, ..all.clone() };
        let since = ItemFilter { sent_from: Some(at(50_000)), ..all.clone() };
        let of_app = ItemFilter { user: None, ..all.clone() };
        let backend = store.read().get_database_backend();
        for (filter, index) in [
            (&all, "feed_items_list"),
            (&since, "feed_items_list"),
            (&unread, "feed_items_unread"),
            (&of_app, "feed_items_app"),
        ] {
            for order in [Order::Asc, Order::Desc] {
                let rows = store::matching_items(backend, app, filter)
                    .order_by(feed_item::Column::SentAt, order.clone())
                    .order_by(feed_item::Column::Id, order)
                    .limit(21);
                let plan = explain(&store, rows.build(backend)).await;
                assert!(plan.contains(index), "{filter:?}\n{plan}");
                for sorting in ["TEMP B-TREE", "Sort", "SCAN feed_items\n", "Seq Scan on feed_items"] {
                    assert!(!plan.contains(sorting), "{filter:?}\n{plan}");
                }
            }
        }
        let page = PageRequest {
            limit: 20,
            sort: FeedSort::SentAt,
            order: campanile::model::page::Order::Descending,
            start: Start::First,
            totals: false,
        };
        let filter = FeedFilter { read_state: ReadState::Unread, ..FeedFilter::default() };
        let found = feed::list(&service, &acting(Some("ada")), &filter, &page, Shown::Content).await.unwrap();
        assert_eq!((found.rows.len(), found.next), (1, None));
        service.close().await;
    }

    async fn the_sweep_finds_its_work_by_indexes(db) {
        let now = at(0);
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        let store = db.open().await;
        let app = random::world(&service, now).await.app;
        notification::send(&service, &random::acting(app, None, now), random::send_request(1, &[0, 1], "x")).await.unwrap();
        fill_with(&store, app, 20_000, &[]).await;
        let backend = store.read().get_database_backend();
        let expired = explain(&store, store::expired_items(now).limit(200).build(backend)).await;
        assert!(expired.contains("feed_items_expiry"), "{expired}");
        let old = explain(&store, store::items_sent_before(app, now).limit(200).build(backend)).await;
        assert!(old.contains("feed_items_app"), "{old}");
        service.close().await;
    }
}
