//! Background duties, each called by hand with a chosen `now`. That a running server calls them is proven in
//! `process.rs`.

use std::time::Duration;

use campanile::domain::{Service, Settings};
use campanile::model::Timestamp;
use campanile::model::id::AppId;
use campanile::store::Store;
use campanile::store::entity::idempotency_key::{ActiveModel, Column, Entity};
use campanile::worker::{Turn, sweep};
use sea_orm::{EntityTrait, QueryOrder, Set};

use crate::on_both;

fn noon() -> Timestamp {
    Timestamp::from_millis(1_705_320_000_000).unwrap()
}

/// Inserts as many idempotency keys, named `<name> 0` and so on.
pub(crate) async fn insert_keys(store: &Store, name: &str, count: u64, expires_at: Timestamp) {
    let app_id = AppId::new(expires_at);
    let rows: Vec<_> = (0..count)
        .map(|number| ActiveModel {
            app_id: Set(app_id),
            actor: Set("app".to_owned()),
            rpc: Set("rpc".to_owned()),
            key: Set(format!("{name} {number}")),
            hash: Set(vec![7; 32]),
            answer: Set(Some(b"{}".to_vec())),
            encrypted: Set(false),
            created_at: Set(expires_at),
            expires_at: Set(expires_at),
        })
        .collect();
    let inserted = store.write(move |tx| {
        let rows = rows.clone();
        Box::pin(async move {
            Entity::insert_many(rows).exec_without_returning(tx).await?;
            Ok(())
        })
    });
    inserted.await.unwrap();
}

/// The idempotency keys that there are, in order.
pub(crate) async fn keys(store: &Store) -> Vec<String> {
    let rows = Entity::find().order_by_asc(Column::Key).all(store.read()).await;
    rows.unwrap().into_iter().map(|row| row.key).collect()
}

on_both! {
    async fn a_sweep_removes_expired_keys_only_and_one_batch_a_turn(db) {
        let store = db.open().await;
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        insert_keys(&store, "old", sweep::BATCH_MAX + 1, noon()).await;
        insert_keys(&store, "new", 1, noon().plus(Duration::from_millis(1))).await;
        assert_eq!(sweep::turn(&service, noon().minus(Duration::from_millis(1))).await, Turn::Rest);
        let all = usize::try_from(sweep::BATCH_MAX).unwrap() + 2;
        assert_eq!(keys(&store).await.len(), all);
        assert_eq!(sweep::turn(&service, noon()).await, Turn::Again);
        let left = keys(&store).await;
        assert_eq!((left.len(), left[0].as_str()), (2, "new 0"));
        assert_eq!(sweep::turn(&service, noon()).await, Turn::Rest);
        assert_eq!(keys(&store).await, ["new 0"]);
    }

    async fn a_sweep_that_the_database_refuses_rests(db) {
        let service = Service::open(Settings::new(db.settings())).await.unwrap();
        service.close().await;
        assert_eq!(sweep::turn(&service, noon()).await, Turn::Rest);
    }
}
