//! A store that speaks S3, in the process of the tests. It checks the signature of every request, signed URLs included, and
//! lets nobody in without one; that is the work of a library that has nothing in common with the one that signs. Objects are
//! in memory, where a test may look at them and put others in their place, and the store can be slow, silent, out of order
//! or away.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::{Bytes, BytesMut};
use campanile::domain::S3Settings;
use futures::StreamExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, CompleteMultipartUploadInput, CompleteMultipartUploadOutput,
    CreateMultipartUploadInput, CreateMultipartUploadOutput, DeleteObjectInput, DeleteObjectOutput, ETag,
    ETagCondition, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput, HeadObjectInput,
    HeadObjectOutput, ListObjectsV2Input, ListObjectsV2Output, Object, PutObjectInput, PutObjectOutput, StreamingBlob,
    Timestamp, UploadPartInput, UploadPartOutput,
};
use s3s::host::{S3Host, VirtualHost};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// The one bucket that there is.
pub(crate) const BUCKET: &str = "uploads";
/// What the names of objects begin with that are the service's.
pub(crate) const PREFIX: &str = "shops/east";
/// A name that stands for the store in URLs, with the bucket before it.
pub(crate) const HOST: &str = "s3.test";
/// The access key that is known, and its secret.
const KEY_ID: &str = "depot-key";
pub(crate) const SECRET: &str = "depot/secret+that/nobody/else/knows";
/// Objects on one page of a list: so few that every list has several pages.
const PAGE: usize = 3;
/// The smallest part of an object that has more of them, but for the last one.
const PART_MIN: usize = 5 * 1024 * 1024;

/// How the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Well,
    /// Every answer takes so long.
    Slow(Duration),
    /// It takes requests and never answers.
    Silent,
    /// It answers each request that it cannot.
    Failing,
    /// It hangs up on everybody.
    Away,
    /// The next answer with more than so many bytes breaks off behind them.
    Breaks(usize),
}

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// Where the bytes that it asks for begin and end.
    pub(crate) range: Option<(u64, u64)>,
}

/// The store.
pub(crate) struct Depot {
    /// Where it is.
    pub(crate) url: String,
    shelf: Shelf,
    _task: JoinSet<()>,
}

impl Depot {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shelf = Shelf::default();
        let mut task = JoinSet::new();
        task.spawn(serve(listener, shelf.clone()));
        Self {
            url,
            shelf,
            _task: task,
        }
    }

    /// What a service has to know of it.
    pub(crate) fn settings(&self) -> S3Settings {
        S3Settings {
            bucket: BUCKET.to_owned(),
            endpoint: Some(self.url.clone()),
            region: S3Settings::REGION.to_owned(),
            access_key_id: KEY_ID.to_owned(),
            secret_access_key: SECRET.to_owned(),
            virtual_host: false,
            prefix: PREFIX.to_owned(),
            timeout: S3Settings::TIMEOUT,
        }
    }

    /// The same as variables of its environment.
    pub(crate) fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("CAMPANILE_S3_BUCKET", BUCKET),
            ("CAMPANILE_S3_ENDPOINT", &self.url),
            ("CAMPANILE_S3_ACCESS_KEY_ID", KEY_ID),
            ("CAMPANILE_S3_SECRET_ACCESS_KEY", SECRET),
            ("CAMPANILE_S3_PREFIX", PREFIX),
        ]
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.shelf.lock(|state| state.mood = mood);
    }

    /// The names of all objects.
    pub(crate) fn objects(&self) -> Vec<String> {
        self.shelf.lock(|state| state.objects.keys().cloned().collect())
    }

    /// Puts an object where perhaps another one was.
    pub(crate) fn put(&self, name: &str, content: impl Into<Bytes>) {
        self.shelf
            .lock(|state| state.objects.insert(name.to_owned(), content.into()));
    }

    pub(crate) fn remove(&self, name: &str) {
        self.shelf.lock(|state| state.objects.remove(name)).unwrap();
    }

    /// Objects in parts that nobody has completed or given up.
    pub(crate) fn unfinished(&self) -> usize {
        self.shelf.lock(|state| state.uploads.len())
    }

    /// The requests that came since this was asked the last time.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shelf.lock(|state| std::mem::take(&mut state.seen))
    }
}

/// What is kept, and what the store is to do.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<State>>);

struct State {
    mood: Mood,
    objects: BTreeMap<String, Bytes>,
    /// Parts by number, of objects by name, by the ids of their uploads.
    uploads: BTreeMap<String, (String, BTreeMap<i32, Bytes>)>,
    begun: u32,
    seen: Vec<Seen>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            mood: Mood::Well,
            objects: BTreeMap::new(),
            uploads: BTreeMap::new(),
            begun: 0,
            seen: Vec::new(),
        }
    }
}

/// Both ways to name the bucket.
struct Hosts;

impl S3Host for Hosts {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let (name, _) = host.split_once(':').unwrap_or((host, ""));
        let bucket = name.strip_suffix(HOST).and_then(|bucket| bucket.strip_suffix('.'));
        Ok(match bucket {
            Some(bucket) => VirtualHost::new(HOST).with_bucket(bucket),
            None => VirtualHost::new(host),
        })
    }
}

async fn serve(listener: TcpListener, shelf: Shelf) {
    let mut builder = S3ServiceBuilder::new(shelf.clone());
    builder.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
    builder.set_host(Hosts);
    let service = builder.build();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted.unwrap();
                connections.spawn(connection(client, service.clone(), shelf.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(client: TcpStream, service: S3Service, shelf: Shelf) {
    let answer = service_fn(move |request| answer(request, service.clone(), shelf.clone()));
    let served = Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(client), answer)
        .await;
    // A client that hangs up, or is hung up on.
    drop(served);
}

async fn answer(request: Request<Incoming>, service: S3Service, shelf: Shelf) -> io::Result<Response<Body>> {
    let seen = Seen {
        method: request.method().clone(),
        path: request.uri().path().to_owned(),
        range: range_of(&request),
    };
    let mood = shelf.lock(|state| {
        state.seen.push(seen);
        state.mood
    });
    match mood {
        Mood::Well | Mood::Breaks(_) => {}
        Mood::Slow(time) => tokio::time::sleep(time).await,
        Mood::Silent => std::future::pending().await,
        Mood::Away => return Err(io::ErrorKind::ConnectionReset.into()),
        Mood::Failing => {
            let mut answer = Response::new(Body::from("<Error><Code>SlowDown</Code></Error>".to_owned()));
            *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            return Ok(answer);
        }
    }
    let has_body = request.method() != Method::HEAD;
    let answer = service.call(request.map(Body::from)).await;
    let answer = answer.map_err(|fault| io::Error::other(format!("{fault:?}")))?;
    match mood {
        Mood::Breaks(behind) if has_body && length(&answer) > behind => {
            shelf.lock(|state| state.mood = Mood::Well);
            Ok(broken(answer, behind).await)
        }
        _ => Ok(answer),
    }
}

fn range_of<T>(request: &Request<T>) -> Option<(u64, u64)> {
    let range = request.headers().get(header::RANGE)?.to_str().unwrap();
    let (from, to) = range.strip_prefix("bytes=").unwrap().split_once('-').unwrap();
    Some((from.parse().unwrap(), to.parse().unwrap()))
}

fn length(answer: &Response<Body>) -> usize {
    let length = answer.headers().get(header::CONTENT_LENGTH);
    length.map_or(0, |length| length.to_str().unwrap().parse().unwrap())
}

/// The same answer, that ends too early.
async fn broken(answer: Response<Body>, behind: usize) -> Response<Body> {
    let (parts, body) = answer.into_parts();
    let whole = BodyExt::collect(body).await.unwrap().to_bytes();
    let pieces = [
        Ok(Frame::data(whole.slice(..behind))),
        Err(io::Error::from(io::ErrorKind::ConnectionReset)),
    ];
    // The client has to see the first piece before the connection is gone.
    let pieces = futures::stream::iter(pieces).then(async |piece| {
        tokio::time::sleep(Duration::from_millis(50)).await;
        piece
    });
    Response::from_parts(parts, Body::http_body_unsync(StreamBody::new(Box::pin(pieces))))
}

fn tag(content: &[u8]) -> ETag {
    let digest = digest(&SHA256, content);
    ETag::Strong(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn size(content: &Bytes) -> i64 {
    i64::try_from(content.len()).unwrap()
}

async fn read(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let mut whole = BytesMut::new();
    let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
    while let Some(piece) = body.next().await {
        // Its checksum is a part of the signature, so this is also what a forged body comes to.
        let piece = piece.map_err(|fault| S3Error::with_source(S3ErrorCode::IncompleteBody, fault));
        whole.extend_from_slice(&piece?);
    }
    Ok(whole.freeze())
}

impl Shelf {
    fn lock<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn object(&self, bucket: &str, key: &str, if_match: Option<&ETagCondition>) -> S3Result<Bytes> {
        check(bucket)?;
        let found = self.lock(|state| state.objects.get(key).cloned());
        let found = found.ok_or_else(|| s3_error!(NoSuchKey))?;
        match if_match.and_then(ETagCondition::as_etag) {
            Some(wanted) if *wanted != tag(&found) => Err(s3_error!(PreconditionFailed)),
            _ => Ok(found),
        }
    }
}

fn check(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET {
        Ok(())
    } else {
        Err(s3_error!(NoSuchBucket))
    }
}

#[async_trait]
impl S3 for Shelf {
    async fn head_bucket(&self, request: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        check(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn head_object(&self, request: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        let content = self.object(&input.bucket, &input.key, input.if_match.as_ref())?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(size(&content)),
            e_tag: Some(tag(&content)),
            last_modified: Some(Timestamp::from(SystemTime::UNIX_EPOCH)),
            ..HeadObjectOutput::default()
        }))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        let content = self.object(&input.bucket, &input.key, input.if_match.as_ref())?;
        let whole = u64::try_from(content.len()).unwrap();
        let (part, content_range) = match input.range {
            None => (content.clone(), None),
            Some(range) => {
                let range = range.check(whole)?;
                let place = format!("bytes {}-{}/{whole}", range.start, range.end - 1);
                let at = |offset: u64| usize::try_from(offset).unwrap();
                (content.slice(at(range.start)..at(range.end)), Some(place))
            }
        };
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(size(&part)),
            content_range,
            e_tag: Some(tag(&content)),
            last_modified: Some(Timestamp::from(SystemTime::UNIX_EPOCH)),
            body: Some(StreamingBlob::from(Body::from(part))),
            ..GetObjectOutput::default()
        }))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        check(&input.bucket)?;
        let content = read(input.body).await?;
        let e_tag = Some(tag(&content));
        self.lock(|state| {
            let is_new = input.if_none_match.is_some_and(|condition| condition.is_any());
            if is_new && state.objects.contains_key(&input.key) {
                return Err(s3_error!(PreconditionFailed));
            }
            state.objects.insert(input.key, content);
            Ok(())
        })?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag,
            ..PutObjectOutput::default()
        }))
    }

    async fn delete_object(&self, request: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        check(&request.input.bucket)?;
        self.lock(|state| state.objects.remove(&request.input.key));
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        check(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let behind = input.continuation_token.or(input.start_after).unwrap_or_default();
        let mut found: Vec<Object> = self.lock(|state| {
            let behind = (Bound::Excluded(behind), Bound::Unbounded);
            let found = state.objects.range(behind).filter(|(key, _)| key.starts_with(&prefix));
            let object = |(key, content): (&String, &Bytes)| Object {
                key: Some(key.clone()),
                size: Some(size(content)),
                e_tag: Some(tag(content)),
                last_modified: Some(Timestamp::from(SystemTime::UNIX_EPOCH)),
                ..Object::default()
            };
            found.take(PAGE + 1).map(object).collect()
        });
        let has_more = found.len() > PAGE;
        found.truncate(PAGE);
        let last = found.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            key_count: Some(i32::try_from(found.len()).unwrap()),
            contents: Some(found),
            is_truncated: Some(has_more),
            next_continuation_token: last.filter(|_| has_more),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        check(&input.bucket)?;
        let id = self.lock(|state| {
            state.begun += 1;
            let id = format!("upload-{}", state.begun);
            state.uploads.insert(id.clone(), (input.key.clone(), BTreeMap::new()));
            id
        });
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..CreateMultipartUploadOutput::default()
        }))
    }

    async fn upload_part(&self, request: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        let content = read(input.body).await?;
        let e_tag = Some(tag(&content));
        self.lock(|state| {
            let upload = state.uploads.get_mut(&input.upload_id);
            let (_, parts) = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
            parts.insert(input.part_number, content);
            Ok::<_, S3Error>(())
        })?;
        Ok(S3Response::new(UploadPartOutput {
            e_tag,
            ..UploadPartOutput::default()
        }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        let named = input.multipart_upload.and_then(|upload| upload.parts);
        let named = named.ok_or_else(|| s3_error!(MalformedXML))?;
        let e_tag = self.lock(|state| {
            let upload = state.uploads.get(&input.upload_id);
            let (key, parts) = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
            let mut whole = BytesMut::new();
            for (place, part) in named.iter().enumerate() {
                let found = parts.get(&part.part_number.unwrap_or_default());
                let found = found.filter(|found| part.e_tag.as_ref() == Some(&tag(found)));
                let found = found.ok_or_else(|| s3_error!(InvalidPart))?;
                if place + 1 < named.len() && found.len() < PART_MIN {
                    return Err(s3_error!(EntityTooSmall));
                }
                whole.extend_from_slice(found);
            }
            let (key, whole) = (key.clone(), whole.freeze());
            let e_tag = tag(&whole);
            state.objects.insert(key, whole);
            state.uploads.remove(&input.upload_id);
            Ok(e_tag)
        })?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(e_tag),
            ..CompleteMultipartUploadOutput::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        let removed = self.lock(|state| state.uploads.remove(&request.input.upload_id));
        removed.ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}
