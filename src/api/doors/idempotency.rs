//! The idempotency key of a call, with the hash that tells a repeat from another request. What is stored under a key is
//! not known here.

use aws_lc_rs::digest;
use http::HeaderMap;
use prost::Message;

use crate::api::check::Problems;
use crate::api::{Idempotency, Method};

/// The header over REST and the metadata over gRPC.
pub const HEADER: &str = "idempotency-key";
/// The header or metadata of an answer that was stored by an earlier call.
pub const REPLAYED: &str = "idempotent-replayed";
/// The longest key in characters.
pub const KEY_MAX: usize = 255;

/// The key of a call, when one was given and the rpc takes it.
pub(super) fn read(method: &Method, headers: &HeaderMap, problems: &mut Problems) -> Option<String> {
    if !method.idempotency_key {
        return None;
    }
    let mut values = headers.get_all(HEADER).iter();
    let value = values.next()?;
    let key = value.to_str().ok().filter(|key| {
        let length = (1..=KEY_MAX).contains(&key.len());
        length && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    if key.is_none() || values.next().is_some() {
        problems.field(HEADER, |problems| {
            problems.violate(format!("must be one key of 1 to {KEY_MAX} visible ASCII characters"));
        });
        return None;
    }
    key.map(str::to_owned)
}

/// The key with the hash of what was sent with it.
pub(super) fn bind(method: &Method, key: String, request: &impl Message) -> Idempotency {
    let mut hashed = Vec::with_capacity(method.grpc_path.len() + 1 + request.encoded_len());
    hashed.extend_from_slice(method.grpc_path.as_bytes());
    hashed.push(0);
    hashed.extend_from_slice(&request.encode_to_vec());
    let digest = digest::digest(&digest::SHA256, &hashed);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    Idempotency { key, hash }
}
