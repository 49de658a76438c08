//! A bucket of a store that speaks S3: files stand in it as they would in the folder, and callers are given signed URLs of
//! the store itself, so that what they upload does not pass through the service. What is signed how is the library's.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::signer::{Method, Signer};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig};

use super::{Files, fault};
use crate::model::Result;

/// What the library calls these stores in its errors.
pub(super) const NAME: &str = "S3";
/// What of a file is sent at once: S3 takes no smaller part but the last one (5 MiB).
const PART_BYTES: u64 = 5 * 1024 * 1024;
/// Parts that S3 takes of a file.
const PARTS_MAX: u64 = 10_000;
/// What of a file is asked for at once: enough that the way there does not count, and little beside the memory of a process.
pub(super) const PIECE_BYTES: u64 = 2 * 1024 * 1024;
/// How long a connection may take.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// How often a request is made again that the store did not answer, or refused for a fault of its own. None is begun again
/// when one has taken all the time that it may.
const RETRIES_MAX: usize = 3;

/// Where a bucket is, and how its store is spoken to.
#[derive(Clone)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// The URL of the store, unless it is Amazon's.
    pub endpoint: Option<String>,
    /// The region of the bucket.
    pub region: String,
    /// The id of the access key.
    pub access_key_id: String,
    /// The secret of the access key.
    pub secret_access_key: String,
    /// Whether the bucket is a part of the host name of URLs, and not of their paths.
    pub virtual_host: bool,
    /// What the names of all objects begin with, without the slash behind it; empty for nothing.
    pub prefix: String,
    /// The longest that the store may take to answer one request.
    pub timeout: Duration,
}

impl S3Settings {
    /// The region that stores have which know none.
    pub const REGION: &str = "us-east-1";
    /// The longest that a store may take, unless a setting says otherwise.
    pub const TIMEOUT: Duration = Duration::from_secs(30);
}

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("bucket", &self.bucket)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &"***")
            .field("secret_access_key", &"***")
            .field("virtual_host", &self.virtual_host)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// What of a file is sent at once, so that the largest one has no more parts than S3 takes.
pub(super) fn part_bytes(bytes_max: u64) -> usize {
    let bytes = PART_BYTES.max(bytes_max.div_ceil(PARTS_MAX));
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The bucket.
pub(super) struct Bucket {
    whole: AmazonS3,
    /// The part of it that is the service's.
    own: PrefixStore<AmazonS3>,
}

impl Bucket {
    /// Nothing is sent before the first file.
    fn open(settings: &S3Settings) -> Result<Self> {
        let client = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIME_MAX)
            .with_timeout(settings.timeout);
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: RETRIES_MAX,
            retry_timeout: settings.timeout,
        };
        let endpoint = settings.endpoint.as_deref().map(|url| url.trim_end_matches('/'));
        let is_plain = endpoint.is_some_and(|url| url.starts_with("http:"));
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&settings.bucket)
            .with_region(&settings.region)
            .with_access_key_id(&settings.access_key_id)
            .with_secret_access_key(&settings.secret_access_key)
            .with_virtual_hosted_style_request(settings.virtual_host)
            // Not every store knows how to remove many objects in one request.
            .with_disable_bulk_delete(true)
            .with_client_options(client.with_allow_http(is_plain))
            .with_retry(retry);
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(match endpoint.split_once("://") {
                Some((scheme, host)) if settings.virtual_host => format!("{scheme}://{}.{host}", settings.bucket),
                _ => endpoint.to_owned(),
            });
        }
        let whole = builder.build().map_err(fault)?;
        let own = PrefixStore::new(whole.clone(), settings.prefix.as_str());
        Ok(Self { whole, own })
    }

    pub(super) fn store(&self) -> Arc<dyn ObjectStore> {
        Arc::new(self.own.clone())
    }

    /// Tells a bucket that does not exist from a file that does not: the answer to a question for a file is the same. What
    /// else this question comes to is no answer, as what is told of a bucket is not what is told of a file.
    pub(super) async fn check_exists(&self) -> Result<()> {
        match self.whole.head(&Path::default()).await {
            Err(missing @ object_store::Error::NotFound { .. }) => Err(fault(missing)),
            _ => Ok(()),
        }
    }
}

impl Files {
    /// The bucket; nothing when files are in a folder.
    pub(super) async fn bucket(&self) -> Result<Option<&Bucket>> {
        let Some(settings) = &self.0.settings.s3 else {
            return Ok(None);
        };
        let open = || async { Bucket::open(settings) };
        self.0.bucket.get_or_try_init(open).await.map(Some)
    }

    /// A URL of the store itself that a file can be sent to, for so long; nothing when files are in a folder.
    ///
    /// # Errors
    /// Internal, when none can be made.
    pub async fn signed_url(&self, name: &str, time: Duration) -> Result<Option<String>> {
        let Some(bucket) = self.bucket().await? else {
            return Ok(None);
        };
        let signed = bucket.own.signed_url(Method::PUT, &Path::from(name), time).await;
        Ok(Some(signed.map_err(fault)?.to_string()))
    }
}
