//! Calls of the API that are made again when the server is away for a moment. Each call has an idempotency key, so what is
//! made again is not done again.

use std::time::Duration;

use campanile::config::Api;
use campanile::pb::v1::campaign_service_client::CampaignServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::Fault;

/// How often a call is made at most.
const TRIES_MAX: u32 = 6;
/// What is waited before the second time; before each further one twice as long.
const WAIT: Duration = Duration::from_millis(250);
/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

type Calls = CampaignServiceClient<Channel>;

/// A client of one app.
pub(super) struct Client {
    api: Calls,
    key: MetadataValue<Ascii>,
    url: String,
}

impl Client {
    /// Opens a client; no connection is made before the first call.
    pub(super) fn open(settings: &Api) -> Result<Self, Fault> {
        let missing = || Fault::Usage("api_key must be set: --api-key or CAMPANILE_API_KEY".to_owned());
        let key = settings.key.as_ref().ok_or_else(missing)?;
        let wrong =
            |fault: &dyn std::error::Error| Fault::Usage(format!("api_url {} cannot be used: {fault}", settings.url));
        let mut endpoint = Endpoint::from_shared(settings.url.clone()).map_err(|fault| wrong(&fault))?;
        if settings.url.starts_with("https:") {
            let roots = ClientTlsConfig::new().with_native_roots();
            endpoint = endpoint.tls_config(roots).map_err(|fault| wrong(&fault))?;
        }
        let mut key = MetadataValue::try_from(key.reveal()).map_err(|fault| wrong(&fault))?;
        key.set_sensitive(true);
        Ok(Self {
            api: Calls::new(endpoint.connect_timeout(CONNECT_TIME_MAX).connect_lazy()),
            key,
            url: settings.url.clone(),
        })
    }

    /// The API, for calls that are not made again by themselves.
    pub(super) fn api(&self) -> Calls {
        self.api.clone()
    }

    /// A request with what the app presents.
    pub(super) fn dressed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("apikey", self.key.clone());
        request
    }

    /// Makes a call.
    pub(super) async fn call<Req, Res, How>(&self, message: &Req, how: How) -> Result<Res, Fault>
    where
        Req: Clone,
        How: AsyncFn(Calls, Request<Req>) -> Result<Response<Res>, Status>,
    {
        let once = Uuid::now_v7().to_string();
        let once: MetadataValue<Ascii> = once
            .parse()
            .map_err(|fault| Fault::Usage(format!("no idempotency key can be made: {fault}")))?;
        let mut tries = 0;
        loop {
            let mut request = self.dressed(message.clone());
            request.metadata_mut().insert("idempotency-key", once.clone());
            match how(self.api(), request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => self.wait(&status, tries).await?,
            }
            tries += 1;
        }
    }

    /// Waits before something is tried again that has failed so often, if that makes sense.
    pub(super) async fn wait(&self, status: &Status, tries: u32) -> Result<(), Fault> {
        if !may_pass(status) || tries + 1 >= TRIES_MAX {
            return Err(self.fault(status));
        }
        let hint = status
            .get_error_details()
            .retry_info()
            .and_then(|info| info.retry_delay);
        tokio::time::sleep(hint.unwrap_or_default().max(WAIT * 2_u32.pow(tries))).await;
        Ok(())
    }

    /// What a refusal says.
    pub(super) fn fault(&self, status: &Status) -> Fault {
        let details = status.get_error_details();
        let Some(info) = details.error_info() else {
            let mut problem = format!("{} does not answer: {}", self.url, status.message());
            let mut cause = std::error::Error::source(status);
            while let Some(source) = cause {
                problem.push_str(&format!(": {source}"));
                cause = source.source();
            }
            return Fault::Ended(1, problem);
        };
        let fields = details
            .bad_request()
            .map(|bad| bad.field_violations.as_slice())
            .unwrap_or_default();
        let fields: String = fields
            .iter()
            .map(|one| format!("\n  {}: {}", one.field, one.description))
            .collect();
        Fault::Ended(1, format!("{}: {}{fields}", info.reason, status.message()))
    }
}

/// Whether it may be otherwise in a moment: the server is being started again, or has too much to do.
fn may_pass(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted => true,
        // What a connection that breaks off in the middle of a call comes to.
        Code::Unknown | Code::Cancelled | Code::Internal => status.details().is_empty(),
        _ => false,
    }
}
