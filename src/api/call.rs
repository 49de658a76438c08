//! What a handler knows about a call beside its message, whichever door it came through.

use std::sync::Arc;
use std::time::Instant;

use http::uri::Authority;

use super::Method;
use super::admission::{Admission, Place, Watching};
use crate::domain::{Acting, Written};
use crate::model::{Caller, Error, Origin, Result, Timestamp, Violation};

/// The door that a call came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// gRPC and gRPC-Web.
    Grpc,
    /// REST with JSON.
    Rest,
}

impl Door {
    /// The word in metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

/// An idempotency key with the hash of the request it came with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Idempotency {
    /// The caller's key: 1 to 255 visible ASCII characters.
    pub key: String,
    /// SHA-256 of the rpc's name and the request's deterministic encoding; equal for both doors.
    pub hash: [u8; 32],
}

/// What the layers in front of both doors found out about a call. They put it into the request's extensions, and a door
/// that does not find it there answers `ERR_INTERNAL`.
#[derive(Clone, Debug)]
pub struct CallHead {
    /// The rpc.
    pub method: &'static Method,
    /// The door it came through.
    pub door: Door,
    /// Who calls.
    pub caller: Caller,
    /// The uid that the call acts for, lower-cased and well formed; not known to exist.
    pub on_behalf_of: Option<String>,
    /// When the call arrived.
    pub now: Timestamp,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The host that the request names.
    pub authority: Option<Authority>,
    /// The id that ties the call's log lines together, and is answered in `x-request-id`.
    pub request_id: Arc<str>,
    /// The call's place in a trace, a W3C `traceparent`; `None`: in none.
    pub trace_parent: Option<Arc<str>>,
    /// Where the call asks whether there is room for it; `None`: there is.
    pub admission: Option<Admission>,
}

impl CallHead {
    /// The call, once its message was read.
    #[must_use]
    pub fn with(self, idempotency: Option<Idempotency>) -> Call {
        Call {
            method: self.method,
            door: self.door,
            caller: self.caller,
            on_behalf_of: self.on_behalf_of,
            now: self.now,
            deadline: self.deadline,
            authority: self.authority,
            request_id: self.request_id,
            trace_parent: self.trace_parent,
            admission: self.admission,
            place: None,
            idempotency,
        }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The rpc.
    pub method: &'static Method,
    /// The door it came through.
    pub door: Door,
    /// Who calls.
    pub caller: Caller,
    /// The uid that the call acts for, lower-cased and well formed; not known to exist.
    pub on_behalf_of: Option<String>,
    /// When the call arrived.
    pub now: Timestamp,
    /// When the caller stops waiting.
    pub deadline: Option<Instant>,
    /// The host that the request names.
    pub authority: Option<Authority>,
    /// The id that ties the call's log lines together, and is answered in `x-request-id`.
    pub request_id: Arc<str>,
    /// The call's place in a trace, a W3C `traceparent`; `None`: in none.
    pub trace_parent: Option<Arc<str>>,
    /// Where the call asks whether there is room for it; `None`: there is.
    pub admission: Option<Admission>,
    /// Its place among the calls at work, from when it got one until its handler ends.
    pub place: Option<Arc<Place>>,
    /// The idempotency key, on rpcs that take one.
    pub idempotency: Option<Idempotency>,
}

impl Call {
    /// Waits for a place among the calls at work.
    ///
    /// # Errors
    /// Too many requests, when too many wait already.
    pub(crate) async fn enter(&mut self) -> Result<()> {
        if let Some(admission) = &self.admission {
            self.place = Some(Arc::new(admission.enter(self.caller).await?));
        }
        Ok(())
    }

    /// Takes a place among the watchers.
    ///
    /// # Errors
    /// Too many requests, when all are taken.
    pub(crate) fn watch(&self) -> Result<Option<Watching>> {
        self.admission.as_ref().map(Admission::watch).transpose()
    }

    /// Who asks, for whom, when, and under which idempotency key, as the domain wants to know it.
    ///
    /// # Errors
    /// A violation when the uid acted for is malformed.
    pub fn acting(&self) -> Result<Acting> {
        let uid = self.on_behalf_of.as_deref().map(|uid| {
            uid.parse()
                .map_err(|rule: &str| Error::invalid(vec![Violation::new("onbehalfof", rule).received(uid)]))
        });
        let mut acting = Acting::new(self.caller, uid.transpose()?, self.now);
        acting.origin = Origin {
            request_id: Some(Arc::clone(&self.request_id)),
            trace_parent: self.trace_parent.clone(),
        };
        Ok(match &self.idempotency {
            None => acting,
            Some(Idempotency { key, hash }) => {
                acting.with_key(self.method.grpc_path, self.method.secret_answer, key.clone(), *hash)
            }
        })
    }
}

/// A handler's answer.
#[derive(Clone, Debug)]
pub struct Reply<T> {
    /// The message.
    pub message: T,
    /// Whether it was stored by an earlier call with the same idempotency key.
    pub replayed: bool,
}

impl<T> Reply<T> {
    /// A fresh answer.
    #[must_use]
    pub const fn new(message: T) -> Self {
        Self {
            message,
            replayed: false,
        }
    }

    /// The answer that a write makes.
    #[must_use]
    pub fn of<V>(written: Written<V>, message: impl FnOnce(V) -> T) -> Self {
        Self {
            message: message(written.value),
            replayed: written.replayed,
        }
    }
}
