//! What authentication asks of the domain. It only tells facts; what follows from them is for the layer that asks.

use super::Service;
use crate::model::Result;
use crate::model::app::{KeyDigest, KeyFacts};
use crate::store::app as store;

/// What is known of the API key with this digest: nothing of one that is unknown or revoked. Whoever keeps the answer for
/// later has to forget it within five seconds, because revoking and narrowing a key has to bite by then.
///
/// # Errors
/// Those of the database.
pub async fn find_key(service: &Service, digest: KeyDigest) -> Result<Option<KeyFacts>> {
    store::find_key_facts(service.store.read(), digest).await
}
