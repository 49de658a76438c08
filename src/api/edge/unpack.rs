//! Bodies of REST calls, unpacked where they are compressed and held to their limit on both sides of that. What they say is
//! not looked at.

use std::convert::Infallible;

use bytes::Bytes;
use http::header;
use http::request::Parts;
use tower::{BoxError, Service as _};

use super::body::Limit;
use crate::api::admission::Share;
use crate::api::rest::router::Match;
use crate::api::rest::{Body, Response};
use crate::model::{Error, Reason, Result};

/// Hands a call to the REST door, its body unpacked and limited.
///
/// # Errors
/// Unsupported media type for an encoding that is not read; what the body itself is refused for.
pub(super) async fn call_rest<B>(found: Match, head: Parts, body: B, share: Share) -> Result<Response>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let limit = Limit::new(found.route.method.body_bytes_max, share);
    let packed = match head
        .headers
        .get(header::CONTENT_ENCODING)
        .map(|value| value.to_str().unwrap_or_default())
    {
        None | Some("identity") => false,
        Some("gzip") => true,
        Some(other) => {
            let problem = format!("content-encoding {other} is not supported, use gzip or none");
            return Err(Error::new(Reason::UnsupportedMediaType, problem).with("contentEncoding", other));
        }
    };
    let response = if packed {
        let own = limit.clone();
        let unpacked = tower::service_fn(move |request: http::Request<_>| {
            let answer = found.clone().call(request.map(|body| Body::new(own.around(body, 0))));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let mut unpack = tower_http::decompression::RequestDecompression::new(unpacked);
        let request = http::Request::from_parts(head, limit.around(body, 0));
        let answer = unpack.call(request).await.map_err(Error::internal)?;
        answer.map(Body::new)
    } else {
        found
            .call(http::Request::from_parts(head, Body::new(limit.around(body, 0))))
            .await
    };
    limit.refusal().map_or(Ok(response), Err)
}
