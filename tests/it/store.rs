//! The store kernel on both databases: what a write promises, and that the two schemas are one. What the nouns store is
//! proven with each noun.

mod bulk;
mod group;
mod idempotency;
mod list;
mod load;
mod postgres;
mod schema;
mod sqlite;
mod write;

use campanile::model::id::AppId;
use campanile::model::{Result, Timestamp};
use campanile::store::entity::app;
use campanile::store::{Store, Tx};
use sea_orm::{EntityTrait, QueryOrder, Set};

fn now() -> Timestamp {
    Timestamp::from_millis(1_800_000_000_000).unwrap()
}

async fn insert_app(tx: &Tx, name: &str) -> Result<()> {
    let row = app::ActiveModel {
        id: Set(AppId::new(now())),
        public_id: Set(name.to_owned()),
        name: Set(name.to_owned()),
        created_at: Set(now()),
        updated_at: Set(now()),
        version: Set(1),
    };
    app::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// The names of all apps there are, in order.
async fn names(store: &Store) -> Vec<String> {
    let rows = app::Entity::find()
        .order_by_asc(app::Column::PublicId)
        .all(store.read())
        .await;
    rows.unwrap().into_iter().map(|row| row.public_id).collect()
}
