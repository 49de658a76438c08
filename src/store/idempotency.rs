//! Idempotency: the key of a call is taken in the transaction of its effect, so either both are there or neither, also
//! when the service dies in between. It never stores a refusal: a call that was refused may be repeated and succeed.
//!
//! The row is inserted before the work. Of two equal calls at once the second therefore waits for the first (SQLite has one
//! writer anyway) and then finds its answer, which is stored at the end of the same transaction. A row is bound to the
//! caller and the rpc, so nobody reads somebody else's answer by guessing a key.

mod each;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, Set};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::Store;
use super::entity::idempotency_key::{ActiveModel, Column, Entity, Model};
use super::tx::Tx;
use crate::model::id::AppId;
use crate::model::{Error, Reason, Result, Timestamp};

pub(super) use each::{Decided, Member};

/// How long an answer is kept for repetitions of its call.
pub const KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// A call that carries an idempotency key.
#[derive(Clone, Debug)]
pub struct Once {
    /// The caller's app; the operator has none.
    pub app: Option<AppId>,
    /// Who calls: the API key's id, the operator, or the user acted for.
    pub actor: String,
    /// The rpc's full name.
    pub rpc: &'static str,
    /// The key that the caller chose.
    pub key: String,
    /// SHA-256 of the request in a form that is equal for equal requests.
    pub hash: [u8; 32],
    /// Whether the answer shows something that is not stored elsewhere in the clear, such as a new API key.
    pub secret: bool,
    /// When the call came.
    pub now: Timestamp,
}

/// What a write answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written<T> {
    /// The answer.
    pub value: T,
    /// Whether it is the answer of an earlier equal call, and nothing was done now.
    pub replayed: bool,
}

impl Once {
    fn owner(&self) -> AppId {
        self.app.unwrap_or_else(|| Uuid::nil().into())
    }

    fn at_key(&self) -> Condition {
        Condition::all()
            .add(Column::AppId.eq(self.owner()))
            .add(Column::Actor.eq(self.actor.as_str()))
            .add(Column::Rpc.eq(self.rpc))
            .add(Column::Key.eq(self.key.as_str()))
    }

    /// What an encrypted answer is bound to.
    fn place(&self) -> Vec<u8> {
        place(self.owner(), &self.actor, self.rpc, &self.key)
    }
}

/// A key with all that it belongs to. Lengths keep two different places from reading the same.
fn place(owner: AppId, actor: &str, rpc: &str, key: &str) -> Vec<u8> {
    format!("{owner}/{}:{actor}/{rpc}/{}:{key}", actor.len(), key.len()).into_bytes()
}

impl Store {
    /// [`Store::write`] that happens once per idempotency key; without one it happens every time.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when the key was used for another request, and whatever the closure refuses.
    pub async fn write_once<T, F>(&self, once: Option<Once>, work: F) -> Result<Written<T>>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + 'static,
    {
        let Some(once) = once else {
            let value = self.write(work).await?;
            return Ok(Written { value, replayed: false });
        };
        let shared = Arc::new((self.clone(), once, work));
        self.write(move |tx| {
            let shared = Arc::clone(&shared);
            Box::pin(async move {
                let (store, once, work) = shared.as_ref();
                store.at_most_once(tx, once, work).await
            })
        })
        .await
    }

    async fn at_most_once<T, F>(&self, tx: &Tx, once: &Once, work: &F) -> Result<Written<T>>
    where
        F: for<'t> Fn(&'t Tx) -> BoxFuture<'t, Result<T>> + Send + Sync + 'static,
        T: Serialize + DeserializeOwned,
    {
        if !take(tx, once).await? {
            let value = self.replay(tx, once).await?;
            return Ok(Written { value, replayed: true });
        }
        let value = work(tx).await?;
        Entity::update_many()
            .col_expr(Column::Answer, Expr::value(self.stored_answer(once, &value)?))
            .filter(once.at_key())
            .exec(tx)
            .await?;
        Ok(Written { value, replayed: false })
    }

    /// An answer as it is stored.
    fn stored_answer(&self, once: &Once, value: &impl Serialize) -> Result<Vec<u8>> {
        let answer = serde_json::to_vec(value).map_err(Error::internal)?;
        if once.secret {
            return self.cipher().seal(&once.place(), &answer);
        }
        Ok(answer)
    }

    /// The answer of an earlier equal call, if there was one. It takes nothing, so of two equal calls at once neither
    /// finds any.
    ///
    /// # Errors
    /// [`Reason::Conflict`] when the key was used for another request.
    pub async fn find_answer<T: DeserializeOwned>(&self, once: &Once) -> Result<Option<T>> {
        let row = Entity::find()
            .filter(once.at_key())
            .filter(Column::ExpiresAt.gt(once.now));
        let row = row.one(self.read()).await?;
        row.map(|row| self.answer_of(row, once)).transpose()
    }

    async fn replay<T: DeserializeOwned>(&self, tx: &Tx, once: &Once) -> Result<T> {
        let row: Option<Model> = Entity::find().filter(once.at_key()).one(tx).await?;
        let row = row.ok_or_else(|| Error::internal("an idempotency key is taken and cannot be read"))?;
        self.answer_of(row, once)
    }

    fn answer_of<T: DeserializeOwned>(&self, row: Model, once: &Once) -> Result<T> {
        if row.hash != once.hash {
            return Err(Error::new(
                Reason::Conflict,
                "the idempotency key was used for another request; choose a new key",
            )
            .with("idempotencyKey", &once.key));
        }
        let stored = row
            .answer
            .ok_or_else(|| Error::internal("an idempotency key has no answer"))?;
        let answer = if row.encrypted {
            self.cipher().open(&once.place(), &stored)?
        } else {
            stored
        };
        serde_json::from_slice(&answer).map_err(Error::internal)
    }

    /// Deletes keys that have expired, at most `limit` of them, and says how many.
    ///
    /// # Errors
    /// Unavailable, when the database is.
    pub async fn sweep_idempotency_keys(&self, now: Timestamp, limit: u64) -> Result<u64> {
        self.write_background(move |tx| {
            Box::pin(async move {
                let key = [Column::AppId, Column::Actor, Column::Rpc, Column::Key];
                let expired = Query::select()
                    .columns(key)
                    .from(Entity)
                    .and_where(Column::ExpiresAt.lte(now))
                    .limit(limit)
                    .take();
                let delete = Query::delete()
                    .from_table(Entity)
                    // Said twice: after waiting for a row that a call has just renewed, PostgreSQL looks at this condition
                    // again, and not at the one inside.
                    .and_where(Column::ExpiresAt.lte(now))
                    .and_where(Expr::tuple(key.map(Expr::col)).in_subquery(expired))
                    .take();
                Ok(tx.execute(&delete).await?.rows_affected())
            })
        })
        .await
    }
}

/// Takes the key if it is free or has expired. A twin that holds it uncommitted is waited for.
async fn take(tx: &Tx, once: &Once) -> Result<bool> {
    let row = ActiveModel {
        app_id: Set(once.owner()),
        actor: Set(once.actor.clone()),
        rpc: Set(once.rpc.to_owned()),
        key: Set(once.key.clone()),
        hash: Set(once.hash.to_vec()),
        answer: Set(None),
        encrypted: Set(once.secret),
        created_at: Set(once.now),
        expires_at: Set(once.now.plus(KEPT_FOR)),
    };
    let renewed = [
        Column::Hash,
        Column::Answer,
        Column::Encrypted,
        Column::CreatedAt,
        Column::ExpiresAt,
    ];
    let free = OnConflict::columns([Column::AppId, Column::Actor, Column::Rpc, Column::Key])
        .update_columns(renewed)
        .action_and_where(Expr::col((Entity, Column::ExpiresAt)).lte(once.now))
        .to_owned();
    let taken = Entity::insert(row).on_conflict(free).exec_without_returning(tx).await?;
    Ok(taken > 0)
}
