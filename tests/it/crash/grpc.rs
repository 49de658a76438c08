//! Sends over gRPC, by the client that was generated from the contract. What becomes of them is looked at over REST, so
//! that the doors are compared as well.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use campanile::pb::v1;
use campanile::pb::v1::notification_service_client::NotificationServiceClient;
use prost::Message as _;
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use super::aging::Kind;
use super::load::{Outcome, Sent, recorded};
use super::server::KEY;

/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A client's way to whatever process there is.
pub(super) struct Link {
    keeps: bool,
    kept: Option<(String, Channel)>,
}

impl Link {
    /// One that keeps its connection while that lasts, or opens one for each call.
    pub(super) const fn new(keeps: bool) -> Self {
        Self { keeps, kept: None }
    }

    async fn channel(&mut self, url: &str) -> Result<Channel, tonic::transport::Error> {
        if let Some((to, channel)) = &self.kept
            && to == url
        {
            return Ok(channel.clone());
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
        let channel = endpoint.connect_timeout(CONNECT_TIME_MAX).connect().await?;
        self.kept = self.keeps.then(|| (url.to_owned(), channel.clone()));
        Ok(channel)
    }

    /// Sends once.
    pub(super) async fn attempt(&mut self, url: &str, key: &str, kind: Kind, receivers: &[String]) -> Outcome {
        let Ok(channel) = self.channel(url).await else {
            return Outcome::Refused;
        };
        match send(channel, (KEY, key), kind, receivers).await {
            Ok((_, answer)) => Outcome::Answered(200, answer),
            Err(status) => {
                self.kept = None;
                outcome(&status)
            }
        }
    }
}

/// Sends with these keys, and gives whether it was answered again, and the answer's bytes.
pub(super) async fn send(
    channel: Channel,
    (api_key, key): (&str, &str),
    kind: Kind,
    receivers: &[String],
) -> Result<(bool, Bytes), Status> {
    let template = if kind == Kind::Brief { "brief" } else { "lasting" };
    let mut request = Request::new(v1::SendNotificationRequest {
        template_id: template.to_owned(),
        receivers: receivers.to_vec(),
        tag: Some(kind.tag().to_owned()),
        ..v1::SendNotificationRequest::default()
    });
    request.set_timeout(Duration::from_secs(20));
    request.metadata_mut().insert("apikey", api_key.parse().unwrap());
    request.metadata_mut().insert("idempotency-key", key.parse().unwrap());
    let answer = NotificationServiceClient::new(channel)
        .send_notification(request)
        .await?;
    let replayed = answer
        .metadata()
        .get("idempotent-replayed")
        .is_some_and(|told| told == "true");
    // The same message has the same bytes: nothing in it is in the order of a hash.
    Ok((replayed, answer.into_inner().encode_to_vec().into()))
}

/// What became of a call that has no answer.
fn outcome(status: &Status) -> Outcome {
    let answered = status.get_error_details().error_info().is_some();
    match (answered, status.code()) {
        (true, Code::Unavailable | Code::DeadlineExceeded) => Outcome::PutOff,
        (true, _) => Outcome::Answered(u16::MAX, Bytes::from(format!("{status:?}"))),
        (false, _) if never_left(status) => Outcome::Refused,
        (false, _) => Outcome::Cut(format!("{status:?}")),
    }
}

/// Whether nobody listened, or the connection was found closed, or closing in peace without this call, before the call was
/// taken (RFC 9113, 6.8: what a GOAWAY without an error leaves out was not looked at). Most clients call again by themselves
/// then; this one leaves it to whoever calls. A call that was taken and not answered ends with the connection instead.
fn never_left(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(fault) = cause {
        let refused = fault
            .downcast_ref::<std::io::Error>()
            .is_some_and(|fault| fault.kind() == std::io::ErrorKind::ConnectionRefused);
        let unsent = fault
            .downcast_ref::<hyper::Error>()
            .is_some_and(hyper::Error::is_canceled);
        let left_out = fault.downcast_ref::<h2::Error>().is_some_and(|fault| {
            fault.is_go_away() && fault.is_remote() && fault.reason() == Some(h2::Reason::NO_ERROR)
        });
        if refused || unsent || left_out {
            return true;
        }
        cause = fault.source();
    }
    false
}

/// A send that was acknowledged over gRPC.
pub(super) fn sent(kind: Kind, receivers: Vec<String>, answer: &[u8]) -> Sent {
    let answer = v1::SendNotificationResponse::decode(answer).unwrap();
    let deliveries = |one: &v1::NotificationReceiver| -> Vec<Value> {
        one.deliveries
            .iter()
            .map(|line| json!({"feedItemId": line.feed_item_id}))
            .collect()
    };
    let done = answer.receivers.iter();
    let done = done.map(|one| json!({"receiver": one.receiver, "deliveries": deliveries(one)}));
    recorded(
        kind,
        receivers,
        json!({"notificationId": answer.notification_id, "receivers": done.collect::<Vec<_>>()}),
    )
}
