//! The messages of a client-streaming rpc, one by one as the handler asks for them: until it does, the sender has to wait.
//! Each is held to the bounds of the contract before the handler sees it; nothing here looks at several of them together.

use std::fmt;

use prost::Message;
use tonic::{Code, Status, Streaming};

use crate::api::check::{Checked, Problems};
use crate::api::method::too_large;
use crate::api::{Method, status};
use crate::model::{Error, Reason, Result};

/// What a handler of a client-streaming rpc reads.
pub struct Messages<Req> {
    stream: Streaming<Req>,
    method: &'static Method,
}

impl<Req> fmt::Debug for Messages<Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages")
            .field("rpc", &self.method.rpc)
            .finish_non_exhaustive()
    }
}

impl<Req: Checked + Message> Messages<Req> {
    pub(super) const fn new(stream: Streaming<Req>, method: &'static Method) -> Self {
        Self { stream, method }
    }

    /// The next message; nothing once the sender has said that there is no more.
    ///
    /// # Errors
    /// All that is wrong with the message; cancelled, when the stream broke off.
    pub async fn next(&mut self) -> Result<Option<Req>> {
        let message = self.stream.message().await;
        let Some(mut message) = message.map_err(|status| self.broken(&status))? else {
            return Ok(None);
        };
        let mut problems = Problems::new();
        problems.checking = true;
        message.prepare(&mut problems);
        problems.into_result()?;
        Ok(Some(message))
    }

    /// What the end of a stream means that the sender did not mean.
    fn broken(&self, status: &Status) -> Error {
        match status.code() {
            _ if !status.details().is_empty() => status::from_status(status),
            // tonic's words for a message that is too large, packed or unpacked.
            Code::OutOfRange | Code::ResourceExhausted => too_large(self.method.body_bytes_max),
            // And for one whose frame is not what it says it is, or is cut off.
            Code::Internal => {
                let problem = format!("the message cannot be decoded: {}", status.message());
                Error::new(Reason::BadRequest, problem)
            }
            _ => {
                let problem = format!("the stream broke off: {}", status.message());
                Error::new(Reason::Cancelled, problem)
            }
        }
    }
}
