//! Bulk statements: what goes in comes out, keys that are taken are passed over.

use campanile::model::Timestamp;
use campanile::model::id::{
    AppId, CategoryId, ChannelId, DeliveryId, FeedItemId, NotificationId, TemplateVersionId, UserId,
};
use campanile::store::bulk::{Rows, insert_all, insert_new};
use campanile::store::entity::{delivery, feed_item};
use campanile::store::value::Json;
use sea_orm::{ConnectionTrait, EntityTrait, QueryOrder};

use crate::on_both;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000 + millis).unwrap()
}

fn deliveries(app: AppId, notification: NotificationId, users: &[UserId]) -> Vec<delivery::Model> {
    let of = |(n, user): (i64, &UserId)| delivery::Model {
        id: DeliveryId::new(at(n)),
        app_id: app,
        notification_id: notification,
        step: 1,
        user_id: *user,
        channel_type: 2,
        channel_id: uuid::Uuid::nil().into(),
        address: String::new(),
        status: 3,
        reason: (n % 2 == 0).then(|| "because".to_owned()),
        created_at: at(n),
        updated_at: at(n),
    };
    (0..).zip(users).map(of).collect()
}

fn feed_items(app: AppId, count: i64) -> Vec<feed_item::Model> {
    let text = |n: i64| (n % 3 != 0).then(|| format!("\"quoted\" \\ \n ä 😀 [{n}] null"));
    let item = |n: i64| feed_item::Model {
        id: FeedItemId::new(at(n)),
        app_id: app,
        user_id: UserId::new(at(n)),
        notification_id: NotificationId::new(at(n)),
        delivery_id: DeliveryId::new(at(n)),
        template_version_id: TemplateVersionId::new(at(n)),
        channel_id: ChannelId::new(at(n)),
        seq: n,
        change_seq: i64::MAX - n,
        category_id: (n % 2 == 0).then(|| CategoryId::new(at(n))),
        category_name: text(n),
        label: text(n + 1),
        alternative_text: Some(String::new()),
        tags: Json::of(&["a", "b\u{0}c"]).unwrap(),
        filterable: n % 3 == 0,
        data_type: -1,
        variables: Json::of(&serde_json::json!({"z": 1, "a": [1.0, null]})).unwrap(),
        counted: n % 2 == 0,
        sent_at: at(n),
        delivered_at: None,
        read_at: (n % 4 == 0).then(|| at(n)),
        interacted_at: Some(Timestamp::MIN),
        expires_at: Some(Timestamp::MAX),
        deleted_at: None,
        created_at: at(-n),
    };
    (0..count).map(item).collect()
}

on_both! {
    async fn rows_come_out_as_they_went_in(db) {
        let store = db.open().await;
        let rows = feed_items(AppId::new(at(0)), 50);
        let written = rows.clone();
        store
            .write(move |tx| {
                let rows = written.clone();
                Box::pin(async move { insert_all::<feed_item::Entity>(tx, &rows).await })
            })
            .await
            .unwrap();
        let read = feed_item::Entity::find().order_by_asc(feed_item::Column::Seq).all(store.read()).await;
        assert_eq!(read.unwrap(), rows);
    }

    async fn rows_that_are_alike_come_out_as_they_went_in(db) {
        let store = db.open().await;
        let user = UserId::new(at(0));
        let alike = |count: i64| {
            let of = |n: i64| delivery::Model {
                id: DeliveryId::new(at(n)),
                step: i32::try_from(n).unwrap() - 1,
                reason: (count > 2).then(|| "the same".to_owned()),
                ..deliveries(AppId::new(at(0)), NotificationId::new(at(0)), &[user]).remove(0)
            };
            (0..count).map(of).collect::<Vec<_>>()
        };
        for count in [1, 2, 3] {
            let rows = alike(count);
            let written = rows.clone();
            let write = store.write(move |tx| {
                let rows = written.clone();
                Box::pin(async move {
                    insert_all::<delivery::Entity>(tx, &rows).await?;
                    // Not one value differs, and they are two rows all the same.
                    let twins = Rows::new(tx).column("user_id", [user, user]).same("address", "nowhere".to_owned());
                    let sql = format!("UPDATE deliveries SET address = (SELECT MAX(r.address) FROM {0}), \
                        updated_at = (SELECT COUNT(*) FROM {0} WHERE r.user_id = deliveries.user_id)", twins.table("r")?);
                    tx.execute_raw(twins.statement(sql, [])?).await?;
                    Ok(())
                })
            });
            write.await.unwrap();
            let read = delivery::Entity::find().order_by_asc(delivery::Column::Step).all(store.read()).await.unwrap();
            let changed = rows.into_iter().map(|row| delivery::Model {
                address: "nowhere".to_owned(),
                updated_at: Timestamp::from_millis(2).unwrap(),
                ..row
            });
            assert_eq!(read, changed.collect::<Vec<_>>());
            store
                .write(|tx| Box::pin(async move {
                    tx.execute_unprepared("DELETE FROM deliveries").await?;
                    Ok(())
                }))
                .await
                .unwrap();
        }
    }

    async fn taken_keys_are_passed_over_and_the_new_ids_are_told(db) {
        let store = db.open().await;
        let (app, notification) = (AppId::new(at(0)), NotificationId::new(at(0)));
        let users: Vec<UserId> = (0..6).map(|n| UserId::new(at(n))).collect();
        let insert = async |rows: Vec<delivery::Model>| {
            store
                .write(move |tx| {
                    let rows = rows.clone();
                    Box::pin(async move { insert_new::<delivery::Entity>(tx, &rows, delivery::Column::Id).await })
                })
                .await
                .unwrap()
        };
        let first = deliveries(app, notification, &users[..4]);
        let ids = insert(first.clone()).await;
        assert_eq!(ids, first.iter().map(|row| row.id.uuid()).collect::<Vec<_>>());
        // The same recipients again, with new ids: only the two new users' rows are new.
        let second = deliveries(app, notification, &users);
        let ids = insert(second.clone()).await;
        assert_eq!(ids, second[4..].iter().map(|row| row.id.uuid()).collect::<Vec<_>>());
        assert_eq!(insert(Vec::new()).await, Vec::<uuid::Uuid>::new());
        let all = delivery::Entity::find().all(store.read()).await.unwrap();
        assert_eq!(all.len(), 6);
    }

    async fn rows_can_be_joined_beside_further_values(db) {
        let store = db.open().await;
        let (app, other) = (AppId::new(at(0)), AppId::new(at(0)));
        let users: Vec<UserId> = (0..3).map(|n| UserId::new(at(n))).collect();
        let mut rows = deliveries(app, NotificationId::new(at(0)), &users);
        rows.extend(deliveries(other, NotificationId::new(at(0)), &users));
        store
            .write(move |tx| {
                let (rows, users) = (rows.clone(), users.clone());
                Box::pin(async move {
                    insert_all::<delivery::Entity>(tx, &rows).await?;
                    let change = Rows::new(tx)
                        .column("user_id", users[..2].iter().copied())
                        .column("reason", [Some("changed".to_owned()), None]);
                    let sql = format!(
                        "UPDATE deliveries SET reason = r.reason FROM {} \
                         WHERE deliveries.app_id = {} AND deliveries.user_id = r.user_id",
                        change.table("r")?,
                        change.parameter(0),
                    );
                    let done = tx.execute_raw(change.statement(sql, [app.into()])?).await?;
                    assert_eq!(done.rows_affected(), 2);
                    Ok(())
                })
            })
            .await
            .unwrap();
        let mut reasons = Vec::new();
        for row in delivery::Entity::find().order_by_asc(delivery::Column::CreatedAt).all(store.read()).await.unwrap() {
            if row.app_id == app {
                reasons.push(row.reason);
            }
        }
        assert_eq!(reasons, [Some("changed".to_owned()), None, Some("because".to_owned())]);
    }
}
