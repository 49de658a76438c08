//! In which form a refusal leaves: REST with its dialect, or gRPC. It never decides what is refused.

use std::error::Error as StdError;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode, header};
use tonic::Status;

use crate::api::Door;
use crate::api::rest::error::Failure;
use crate::api::rest::{self, Body, Dialect, Response, dialect};
use crate::api::{method, status};
use crate::model::{Error, Reason};

/// Media types of gRPC and gRPC-Web with protobuf messages.
const GRPC_TYPES: [&str; 6] = [
    "application/grpc",
    "application/grpc+proto",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web-text",
    "application/grpc-web-text+proto",
];

/// The form of an answer.
#[derive(Clone, Debug)]
pub(crate) enum Speech {
    /// JSON in the words of a dialect.
    Rest(&'static Dialect),
    /// gRPC or gRPC-Web.
    Grpc {
        /// The media type to answer with.
        media_type: HeaderValue,
        /// Whether it is gRPC-Web, which works over HTTP/1 too.
        web: bool,
    },
}

impl Speech {
    /// The form that a request's content type asks for.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            return Self::Rest(&dialect::CAMPAIGNS);
        };
        let text = value.to_str().unwrap_or_default();
        if !text
            .get(..16)
            .is_some_and(|start| start.eq_ignore_ascii_case("application/grpc"))
        {
            return Self::Rest(&dialect::CAMPAIGNS);
        }
        Self::Grpc {
            media_type: value.clone(),
            web: text.get(16..20).is_some_and(|rest| rest.eq_ignore_ascii_case("-web")),
        }
    }

    /// The door.
    pub(crate) const fn door(&self) -> Door {
        match self {
            Self::Rest(_) => Door::Rest,
            Self::Grpc { .. } => Door::Grpc,
        }
    }

    /// The words of refusals that name credentials; gRPC has those of the public API as metadata.
    pub(crate) const fn dialect(&self) -> &'static Dialect {
        match self {
            Self::Rest(dialect) => dialect,
            Self::Grpc { .. } => &dialect::CAMPAIGNS,
        }
    }

    /// Whether messages of this media type can be read.
    ///
    /// # Errors
    /// Unsupported media type: gRPC with another encoding of messages than protobuf.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let Self::Grpc { media_type, .. } = self else {
            return Ok(());
        };
        let text = media_type.to_str().unwrap_or_default().to_ascii_lowercase();
        let base = text.split(';').next().unwrap_or_default().trim_end();
        if GRPC_TYPES.contains(&base) {
            return Ok(());
        }
        let problem = format!("content-type {base} is not supported, use application/grpc+proto");
        Err(Error::new(Reason::UnsupportedMediaType, problem).with("contentType", base))
    }

    /// The answer to a call that is refused.
    pub(crate) fn refuse(&self, error: Error) -> Response {
        let Self::Grpc { media_type, .. } = self else {
            return rest::error::response(self.dialect(), error);
        };
        let mut response = status::to_status(&error).into_http::<Body>();
        if error.reason() == Reason::UnsupportedMediaType {
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        }
        let known = self.check().is_ok();
        response.headers_mut().insert(
            header::CONTENT_TYPE,
            if known {
                media_type.clone()
            } else {
                HeaderValue::from_static("application/grpc")
            },
        );
        response.extensions_mut().insert(Failure(Arc::new(error)));
        response
    }
}

/// Gives a gRPC answer that tonic itself made, before any handler saw the call, the details that all others have.
/// `bytes_max` is the size of a message of this rpc.
pub(crate) fn complete(
    mut response: http::Response<tonic::body::Body>,
    bytes_max: usize,
) -> http::Response<tonic::body::Body> {
    let headers = response.headers();
    let Some(status) = Status::from_header_map(headers).filter(|status| status.code() != tonic::Code::Ok) else {
        return response;
    };
    let failure = own_error(&response).unwrap_or_else(|| match status.code() {
        // tonic's word for a message that it cannot decode; our own faults have details by the time they come here.
        tonic::Code::Internal if status.details().is_empty() => {
            let problem = format!("request cannot be decoded: {}", status.message());
            Arc::new(Error::new(Reason::BadRequest, problem))
        }
        // Its word for one that is too large, packed or unpacked.
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted if status.details().is_empty() => {
            Arc::new(method::too_large(bytes_max))
        }
        _ => Arc::new(status::from_status(&status)),
    });
    if status.details().is_empty() {
        let completed = status::to_status(&failure);
        // The fields of a status are sanitized when it is built, so this cannot fail for one of ours.
        if completed.add_header(response.headers_mut()).is_err() {
            tracing::warn!(reason = failure.reason().word(), "status cannot be written as headers");
        }
    }
    response.extensions_mut().insert(Failure(failure));
    response
}

/// The error itself, where the status still carries it: only there is what caused it.
fn own_error(response: &http::Response<tonic::body::Body>) -> Option<Arc<Error>> {
    let status = response.extensions().get::<Status>()?;
    let cause = status.source()?.downcast_ref::<Arc<Error>>()?;
    Some(Arc::clone(cause))
}
