//! The header `Host`, as RFC 9112 section 3.2 has every server insist on it. It never looks at whom a request names.

use http::request::Parts;
use http::uri::Authority;
use http::{Version, header};

use crate::model::{Error, Violation};

/// The host that a request names, if it does.
pub(crate) fn authority(head: &Parts) -> Option<Authority> {
    let named = head.uri.authority().cloned();
    named.or_else(|| Authority::from_maybe_shared(head.headers.get(header::HOST)?.clone()).ok())
}

/// What is wrong with the `Host` of a request over HTTP/1.1. Earlier versions need none, later ones have `:authority`.
pub(crate) fn fault(head: &Parts) -> Option<Error> {
    if head.version != Version::HTTP_11 {
        return None;
    }
    let mut values = head.headers.get_all(header::HOST).iter();
    let problem = match (values.next(), values.next()) {
        (None, _) => Violation::new("host", "is required in HTTP/1.1"),
        (Some(_), Some(_)) => Violation::new("host", "must be sent once"),
        (Some(value), None) => {
            let text = String::from_utf8_lossy(value.as_bytes());
            if text.is_empty() || text.parse::<Authority>().is_ok() {
                return None;
            }
            Violation::new("host", "must be a host name, with a port or without").received(text)
        }
    };
    Some(Error::invalid(vec![problem]))
}
