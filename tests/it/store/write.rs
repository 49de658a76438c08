//! `Store::write`: all or nothing, answered once durable.

use campanile::model::id::AppId;
use campanile::model::{Error, Reason, Result, Timestamp};
use campanile::store::entity::app;
use campanile::store::{Store, Tx};
use sea_orm::{EntityTrait, QueryOrder, Set};

use crate::on_both;

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

async fn names(store: &Store) -> Vec<String> {
    let rows = app::Entity::find()
        .order_by_asc(app::Column::PublicId)
        .all(store.read())
        .await;
    rows.unwrap().into_iter().map(|row| row.public_id).collect()
}

on_both! {
    async fn a_write_is_there_when_it_is_answered(db) {
        let store = db.open().await;
        let answer = store.write(|tx| Box::pin(async move { insert_app(tx, "one").await.map(|()| 7) })).await;
        assert_eq!(answer.unwrap(), 7);
        assert_eq!(names(&store).await, ["one"]);
        store.close().await;
        assert_eq!(names(&db.open().await).await, ["one"]);
    }

    async fn a_refused_write_leaves_nothing(db) {
        let store = db.open().await;
        let refused = store
            .write(|tx| Box::pin(async move {
                insert_app(tx, "half").await?;
                Err::<(), _>(Error::new(Reason::Forbidden, "no"))
            }))
            .await;
        assert_eq!(refused.unwrap_err().reason(), Reason::Forbidden);
        assert_eq!(names(&store).await, Vec::<String>::new());
    }
}
