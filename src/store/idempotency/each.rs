//! The same for several calls in one transaction, each with a key of its own or none: the keys are taken, read and answered
//! by one statement each. It never stores a refusal either.
//!
//! Keys are taken in their order, so that two transactions that share some wait for each other in one direction, and before
//! anything else is locked. Of equal calls within one transaction the first one works; the others are answered from what it
//! has stored. When it was refused nothing was stored, and they are left undecided.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use futures::future::BoxFuture;
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{KEPT_FOR, Model, Once, Written, place};
use crate::model::id::AppId;
use crate::model::{Error, Result};
use crate::store::bulk::Rows;
use crate::store::{Store, Tx};

/// One of several calls.
#[derive(Debug)]
pub(in crate::store) struct Member<I> {
    /// Its key, if it has one.
    pub(in crate::store) once: Option<Once>,
    /// What it asks for.
    pub(in crate::store) item: Arc<I>,
}

/// What became of one of several calls.
#[derive(Debug)]
pub(in crate::store) enum Decided<T> {
    /// It was done, replayed or refused.
    Now(Result<Written<T>>),
    /// It waited for an equal call, which was refused: nothing was done for it.
    NotYet,
}

impl Store {
    /// Lets `work` do what several calls ask for, except those whose keys were used before. It answers each of those that
    /// it is given, in their order, and has written nothing for those that it refuses.
    ///
    /// # Errors
    /// Those of the database and of `work` as a whole; refusals stand in the answers.
    pub(in crate::store) async fn each_at_most_once<'t, I, T>(
        &self,
        tx: &'t Tx,
        members: &[Arc<Member<I>>],
        work: impl FnOnce(Vec<Arc<I>>) -> BoxFuture<'t, Result<Vec<Result<T>>>> + Send,
    ) -> Result<Vec<Decided<T>>>
    where
        I: Send + Sync,
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        let mut taken = take(tx, members).await?;
        let works: Vec<bool> = members
            .iter()
            .map(|member| member.once.as_ref().is_none_or(|once| taken.remove(&once.place())))
            .collect();
        let (mine, others): (Vec<_>, Vec<_>) = members.iter().zip(&works).partition(|(_, works)| **works);
        let items: Vec<_> = mine.iter().map(|(member, _)| Arc::clone(&member.item)).collect();
        let mut answers = VecDeque::new();
        if !items.is_empty() {
            answers.extend(work(items).await?);
        }
        if answers.len() != mine.len() {
            return Err(Error::internal("a group was not answered one by one"));
        }
        self.store_answers(tx, mine.iter().map(|(member, _)| member.as_ref()).zip(&answers))
            .await?;
        let replayed = find(tx, others.iter().filter_map(|(member, _)| member.once.as_ref())).await?;
        let decided = members.iter().zip(works).map(|(member, works)| {
            let answer = if works { answers.pop_front() } else { None };
            match (answer, &member.once) {
                (Some(answer), _) => Decided::Now(answer.map(|value| Written { value, replayed: false })),
                (None, Some(once)) => self.replayed(once, &replayed),
                (None, None) => Decided::NotYet,
            }
        });
        Ok(decided.collect())
    }

    fn replayed<T: DeserializeOwned>(&self, once: &Once, rows: &BTreeMap<Vec<u8>, Model>) -> Decided<T> {
        match rows.get(&once.place()) {
            Some(row) => {
                let value = self.answer_of(row.clone(), once);
                Decided::Now(value.map(|value| Written { value, replayed: true }))
            }
            None => Decided::NotYet,
        }
    }

    /// Stores the answers of calls that were done, and frees the keys of those that were refused.
    async fn store_answers<'m, I: 'm, T: Serialize + 'm>(
        &self,
        tx: &Tx,
        answered: impl Iterator<Item = (&'m Member<I>, &'m Result<T>)>,
    ) -> Result<()> {
        let (mut done, mut refused) = (Vec::new(), Vec::new());
        for (member, answer) in answered {
            match (&member.once, answer) {
                (None, _) => {}
                (Some(once), Ok(value)) => done.push((once, self.stored_answer(once, value)?)),
                (Some(once), Err(_)) => refused.push(once),
            }
        }
        if !done.is_empty() {
            let keys = rows(tx, done.iter().map(|(once, _)| *once));
            let keys = keys.column("answer", done.iter().map(|(_, answer)| answer.clone()));
            let sql = format!(
                "UPDATE idempotency_keys SET answer = r.answer FROM {} WHERE {SAME}",
                keys.table("r")?
            );
            tx.execute_raw(keys.statement(sql, [])?).await?;
        }
        if !refused.is_empty() {
            let keys = rows(tx, refused.into_iter());
            let sql = format!(
                "DELETE FROM idempotency_keys WHERE (app_id, actor, rpc, key) IN \
                 (SELECT r.app_id, r.actor, r.rpc, r.key FROM {})",
                keys.table("r")?
            );
            tx.execute_raw(keys.statement(sql, [])?).await?;
        }
        Ok(())
    }
}

/// That a row is the one of a key.
const SAME: &str = "idempotency_keys.app_id = r.app_id AND idempotency_keys.actor = r.actor \
                    AND idempotency_keys.rpc = r.rpc AND idempotency_keys.key = r.key";

fn rows<'m>(tx: &Tx, keys: impl Iterator<Item = &'m Once> + Clone) -> Rows {
    Rows::new(tx)
        .column("app_id", keys.clone().map(Once::owner))
        .column("actor", keys.clone().map(|once| once.actor.clone()))
        .column("rpc", keys.clone().map(|once| once.rpc.to_owned()))
        .column("key", keys.map(|once| once.key.clone()))
}

/// The columns that name a key.
#[derive(FromQueryResult)]
struct Named {
    app_id: AppId,
    actor: String,
    rpc: String,
    key: String,
}

/// Takes each key that is free or has expired, and says which. Twins that hold one uncommitted are waited for.
async fn take<I>(tx: &Tx, members: &[Arc<Member<I>>]) -> Result<BTreeSet<Vec<u8>>> {
    // Of equal keys the first one counts, and its hash.
    let mut wanted: BTreeMap<Vec<u8>, &Once> = BTreeMap::new();
    for once in members.iter().filter_map(|member| member.once.as_ref()) {
        wanted.entry(once.place()).or_insert(once);
    }
    if wanted.is_empty() {
        return Ok(BTreeSet::new());
    }
    let all = || wanted.values().copied();
    let keys = rows(tx, all())
        .column("hash", all().map(|once| once.hash.to_vec()))
        .column("encrypted", all().map(|once| once.secret))
        .column("created_at", all().map(|once| once.now))
        .column("expires_at", all().map(|once| once.now.plus(KEPT_FOR)));
    let sql = format!(
        "INSERT INTO idempotency_keys (app_id, actor, rpc, key, hash, encrypted, created_at, expires_at) \
         SELECT app_id, actor, rpc, key, hash, encrypted, created_at, expires_at FROM {} WHERE TRUE \
         ORDER BY app_id, actor, rpc, key ON CONFLICT (app_id, actor, rpc, key) DO UPDATE SET hash = excluded.hash, \
         answer = NULL, encrypted = excluded.encrypted, created_at = excluded.created_at, \
         expires_at = excluded.expires_at WHERE idempotency_keys.expires_at <= excluded.created_at \
         RETURNING app_id, actor, rpc, key",
        keys.table("r")?,
    );
    let taken = tx.query_all_raw(keys.statement(sql, [])?).await?;
    let taken = taken.iter().map(|row| {
        let row = Named::from_query_result(row, "")?;
        Ok(place(row.app_id, &row.actor, &row.rpc, &row.key))
    });
    taken.collect()
}

/// The rows of keys, by place.
async fn find<'m>(tx: &Tx, keys: impl Iterator<Item = &'m Once> + Clone + Send) -> Result<BTreeMap<Vec<u8>, Model>> {
    let distinct: BTreeMap<Vec<u8>, &Once> = keys.map(|once| (once.place(), once)).collect();
    if distinct.is_empty() {
        return Ok(BTreeMap::new());
    }
    let keys = rows(tx, distinct.values().copied());
    let sql = format!(
        "SELECT idempotency_keys.* FROM {} {} idempotency_keys ON {SAME}",
        keys.table("r")?,
        keys.join()
    );
    let found = tx.query_all_raw(keys.statement(sql, [])?).await?;
    let found = found.iter().map(|row| {
        let row = Model::from_query_result(row, "")?;
        Ok((place(row.app_id, &row.actor, &row.rpc, &row.key), row))
    });
    found.collect()
}
