//! Any rpc of the contract over either door, from one description of the request. It goes by the descriptors that
//! reflection serves and by nothing that the generator made, so that it can disagree with it.
//!
//! A request is written as JSON in the public dialect, with the fields of the request message at its root:
//! `{"uid": "ada", "user": {"name": "Ada"}, "etag": "v1"}`. Over REST it becomes path, query, `If-Match` and body; over gRPC
//! a message, with the update mask that REST would infer. An answer is the JSON that REST answers, whichever door it came
//! through, so one expectation serves both.
#![expect(
    clippy::panic,
    reason = "a call that cannot be made as the test asks is a fault of the test"
)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use bytes::{Buf, BufMut};
use campanile::api::doors::DESCRIPTORS;
use campanile::model::Reason;
use futures::StreamExt;
use prost::Message as _;
use prost_reflect::{
    Cardinality, DescriptorPool, DeserializeOptions, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey,
    MessageDescriptor, MethodDescriptor, ReflectMessage, Value as Field,
};
use serde_json::{Map, Value, json};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt;

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());

/// Through which door a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// REST with JSON.
    Rest,
    /// gRPC.
    Grpc,
}

/// One rpc of the contract.
#[derive(Clone, Debug)]
pub(crate) struct Rpc {
    /// Its descriptor.
    pub(crate) method: MethodDescriptor,
    /// The method of its first binding.
    pub(crate) verb: String,
    /// The path template of its first binding.
    pub(crate) path: String,
    body: String,
    response_body: String,
}

/// An answer, as REST would give it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// The HTTP status; over gRPC the one that belongs to the reason, or that of the rpc's success.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: Value,
    /// Whether it was the answer of an earlier call with the same idempotency key.
    pub(crate) replayed: bool,
    /// The seconds after which a refused call may be repeated, where it says so.
    pub(crate) retry_after: Option<u64>,
}

impl Answer {
    /// What the answer holds.
    #[track_caller]
    pub(crate) fn data(&self) -> &Value {
        assert!(self.status < 300, "{self:#?}");
        &self.body["data"]
    }

    /// The code of the refusal.
    pub(crate) fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    /// Status, code and details of the refusal, for a snapshot of what a caller is told.
    pub(crate) fn refusal(&self) -> Value {
        json!({"status": self.status, "error": self.body["error"]})
    }
}

impl Rpc {
    /// Every rpc of the contract, by service.
    pub(crate) fn all() -> Vec<Self> {
        let services = POOL
            .services()
            .filter(|service| service.package_name() == "campanile.v1");
        services
            .flat_map(|service| service.methods().map(Self::of).collect::<Vec<_>>())
            .collect()
    }

    /// The rpc with this name.
    #[track_caller]
    pub(crate) fn named(name: &str) -> Self {
        Self::all()
            .into_iter()
            .find(|rpc| rpc.name() == name)
            .unwrap_or_else(|| panic!("the contract has no rpc {name}"))
    }

    fn of(method: MethodDescriptor) -> Self {
        let Some(rule) = extension(&method.options(), "google.api.http") else {
            assert!(method.is_client_streaming(), "{} has no path", method.full_name());
            let none = String::new;
            return Self {
                method,
                verb: none(),
                path: none(),
                body: none(),
                response_body: "job".to_owned(),
            };
        };
        let text = |name: &str| rule.get_field_by_name(name).unwrap().as_str().unwrap().to_owned();
        let (verb, path) = ["get", "put", "post", "delete", "patch"]
            .into_iter()
            .map(|verb| (verb.to_uppercase(), text(verb)))
            .find(|(_, path)| !path.is_empty())
            .unwrap();
        let (body, response_body) = (text("body"), text("response_body"));
        Self {
            method,
            verb,
            path,
            body,
            response_body,
        }
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.method.name()
    }

    /// The names of the fields in its path, in proto spelling.
    pub(crate) fn path_fields(&self) -> Vec<String> {
        let open = self.path.split('{').skip(1);
        open.map(|rest| rest.split(['}', '=']).next().unwrap().to_owned())
            .collect()
    }

    /// The field of the request that its body is, `*` for all of it, empty for none.
    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    /// Whether it answers with a stream.
    pub(crate) fn is_stream(&self) -> bool {
        self.method.is_server_streaming()
    }

    /// Whether it takes a stream, and so is gRPC alone.
    pub(crate) fn takes_stream(&self) -> bool {
        self.method.is_client_streaming()
    }

    /// The kinds of caller that its rule lets in, as the contract names them.
    pub(crate) fn callers(&self) -> Vec<String> {
        let auth = self.rule().get_field_by_name("auth").unwrap().into_owned();
        let auth = auth.as_message().unwrap().clone();
        let callers = auth.get_field_by_name("callers").unwrap().into_owned();
        let kind = POOL.get_enum_by_name("campanile.options.v1.CallerKind").unwrap();
        let numbers = callers
            .as_list()
            .unwrap()
            .iter()
            .map(|value| value.as_enum_number().unwrap());
        numbers
            .map(|number| kind.get_value(number).unwrap().name().to_owned())
            .collect()
    }

    /// What its rule says of calls that act for a user, as the contract names it.
    pub(crate) fn on_behalf_of(&self) -> String {
        let auth = self.rule().get_field_by_name("auth").unwrap().into_owned();
        let number = auth
            .as_message()
            .unwrap()
            .get_field_by_name("on_behalf_of")
            .unwrap()
            .as_enum_number()
            .unwrap();
        let kind = POOL.get_enum_by_name("campanile.options.v1.OnBehalfOf").unwrap();
        kind.get_value(number).unwrap().name().to_owned()
    }

    fn grpc_path(&self) -> String {
        format!("/{}/{}", self.method.parent_service().full_name(), self.name())
    }

    fn rule(&self) -> DynamicMessage {
        extension(&self.method.options(), "campanile.options.v1.method").unwrap()
    }

    fn success(&self) -> u16 {
        let status = self
            .rule()
            .get_field_by_name("success_status")
            .unwrap()
            .as_i32()
            .unwrap();
        u16::try_from(status).ok().filter(|status| *status != 0).unwrap_or(200)
    }

    /// The field with the resource that an update changes.
    fn updated(&self) -> Option<String> {
        self.method
            .input()
            .get_field_by_name("update_mask")
            .map(|_| self.body.clone())
    }
}

/// Calls one server through one door.
#[derive(Clone)]
pub(crate) struct Client {
    /// The door.
    pub(crate) door: Door,
    url: String,
    http: reqwest::Client,
    channel: Channel,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:8080`.
    pub(crate) fn new(door: Door, url: &str) -> Self {
        Self {
            door,
            url: url.to_owned(),
            http: reqwest::Client::new(),
            channel: Endpoint::from_shared(url.to_owned()).unwrap().connect_lazy(),
        }
    }

    /// Calls an rpc with these headers, or metadata of the same names.
    pub(crate) async fn call(&self, rpc: &str, headers: &[(&str, &str)], request: &Value) -> Answer {
        let rpc = Rpc::named(rpc);
        match self.door {
            _ if rpc.takes_stream() => self.send_all(&rpc, headers, request).await,
            Door::Rest => self.rest(&rpc, headers, request).await,
            Door::Grpc => self.grpc(&rpc, headers, request).await,
        }
    }

    /// Sends the messages of a client-streaming rpc, which are the list `stream` of the request.
    async fn send_all(&self, rpc: &Rpc, headers: &[(&str, &str)], request: &Value) -> Answer {
        let messages = encoded(rpc, request["stream"].as_array().unwrap());
        self.stream(rpc, headers, futures::stream::iter(messages)).await
    }

    /// The same without an end behind the last one.
    pub(crate) async fn stream_on(&self, rpc: &str, headers: &[(&str, &str)], messages: &[Value]) -> Answer {
        let rpc = Rpc::named(rpc);
        let messages = futures::stream::iter(encoded(&rpc, messages)).chain(futures::stream::pending());
        self.stream(&rpc, headers, messages).await
    }

    async fn stream(
        &self,
        rpc: &Rpc,
        headers: &[(&str, &str)],
        messages: impl futures::Stream<Item = Vec<u8>> + Send + 'static,
    ) -> Answer {
        let mut call = Request::new(messages);
        for (name, value) in headers {
            let name = tonic::metadata::MetadataKey::from_bytes(name.as_bytes()).unwrap();
            call.metadata_mut().insert(name, value.parse().unwrap());
        }
        let path = rpc.grpc_path();
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        match client.client_streaming(call, path.parse().unwrap(), Bytewise).await {
            Ok(answer) => {
                let answer: tonic::Response<Vec<u8>> = answer;
                let message = DynamicMessage::decode(rpc.method.output(), answer.get_ref().as_slice()).unwrap();
                Answer {
                    status: rpc.success(),
                    body: enveloped(rpc, &message),
                    replayed: false,
                    retry_after: None,
                }
            }
            Err(status) => refused(&status),
        }
    }

    async fn rest(&self, rpc: &Rpc, headers: &[(&str, &str)], request: &Value) -> Answer {
        let mut fields = request.as_object().unwrap().clone();
        let input = rpc.method.input();
        let json_name = |name: &str| input.get_field_by_name(name).unwrap().json_name().to_owned();
        let mut path = rpc.path.clone();
        for name in rpc.path_fields() {
            let value = fields
                .remove(&json_name(&name))
                .unwrap_or_else(|| panic!("{} needs {name}", rpc.name()));
            path = path.replace(&format!("{{{name}}}"), &segment(value.as_str().unwrap()));
        }
        let body = match rpc.body.as_str() {
            "" => None,
            "*" => Some(Value::Object(std::mem::take(&mut fields))),
            field => Some(fields.remove(&json_name(field)).unwrap_or_else(|| json!({}))),
        };
        let etag = fields.remove("etag");
        let query: Vec<String> = fields
            .iter()
            .flat_map(|(name, value)| parameters(name, value))
            .collect();
        let url = format!(
            "{}{path}{}{}",
            self.url,
            if query.is_empty() { "" } else { "?" },
            query.join("&")
        );
        let mut call = self.http.request(rpc.verb.parse().unwrap(), url);
        if let Some(etag) = etag {
            call = call.header("if-match", format!("\"{}\"", etag.as_str().unwrap()));
        }
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        if let Some(body) = body {
            call = call.json(&body);
        }
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        let replayed = answer
            .headers()
            .get("idempotent-replayed")
            .is_some_and(|value| value == "true");
        let retry_after = seconds(&answer);
        let body = if rpc.is_stream() && status < 300 {
            json!({"data": sent_events(&answer.text().await.unwrap())})
        } else {
            answer.json().await.unwrap()
        };
        Answer {
            status,
            body,
            replayed,
            retry_after,
        }
    }

    /// Reads a path over REST, whichever rpc is behind it.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut call = self.http.get(format!("{}{path}", self.url));
        for (name, value) in headers {
            call = call.header(*name, *value);
        }
        let answer = call.send().await.unwrap();
        Answer {
            status: answer.status().as_u16(),
            replayed: false,
            retry_after: seconds(&answer),
            body: answer.json().await.unwrap(),
        }
    }

    async fn grpc(&self, rpc: &Rpc, headers: &[(&str, &str)], request: &Value) -> Answer {
        let mut message = request.as_object().unwrap().clone();
        if let Some(resource) = rpc.updated() {
            let field = rpc.method.input().get_field_by_name(&resource).unwrap();
            let keys = message
                .get(field.json_name())
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default();
            let kept: Vec<_> = keys
                .keys()
                .map(String::as_str)
                .filter(|key| is_settable(&field, key))
                .collect();
            message.entry("updateMask").or_insert_with(|| json!(kept.join(",")));
        }
        let message = dynamic(&rpc.method.input(), &Value::Object(message));
        let mut call = Request::new(message.encode_to_vec());
        for (name, value) in headers {
            let name = tonic::metadata::MetadataKey::from_bytes(name.as_bytes()).unwrap();
            call.metadata_mut().insert(name, value.parse().unwrap());
        }
        let path = rpc.grpc_path();
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        if rpc.is_stream() {
            let answer = client.server_streaming(call, path.parse().unwrap(), Bytewise).await;
            return match answer {
                Ok(answer) => streamed(rpc, answer.into_inner()).await,
                Err(status) => refused(&status),
            };
        }
        match client.unary(call, path.parse().unwrap(), Bytewise).await {
            Ok(answer) => {
                let replayed = answer
                    .metadata()
                    .get("idempotent-replayed")
                    .is_some_and(|value| value == "true");
                let message = DynamicMessage::decode(rpc.method.output(), answer.get_ref().as_slice()).unwrap();
                let body = enveloped(rpc, &message);
                Answer {
                    status: rpc.success(),
                    body,
                    replayed,
                    retry_after: None,
                }
            }
            Err(status) => refused(&status),
        }
    }
}

fn encoded(rpc: &Rpc, messages: &[Value]) -> Vec<Vec<u8>> {
    let messages = messages
        .iter()
        .map(|message| dynamic(&rpc.method.input(), message).encode_to_vec());
    messages.collect()
}

fn seconds(answer: &reqwest::Response) -> Option<u64> {
    answer.headers().get("retry-after")?.to_str().unwrap().parse().ok()
}

/// The events of a stream that has ended, as both doors tell them: name, cursor, data.
fn sent_events(text: &str) -> Vec<Value> {
    let blocks = text
        .split("\n\n")
        .filter(|block| !block.is_empty() && !block.starts_with(':'));
    let field = |block: &str, name: &str| {
        let value = block.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        value.unwrap_or_default().to_owned()
    };
    blocks
        .map(|block| {
            let data: Value = serde_json::from_str(&field(block, "data")).unwrap();
            json!({"event": field(block, "event"), "cursor": field(block, "id"), "data": data})
        })
        .collect()
}

async fn streamed(rpc: &Rpc, mut stream: tonic::Streaming<Vec<u8>>) -> Answer {
    let mut events = Vec::new();
    loop {
        match stream.message().await {
            Ok(None) => break,
            Err(status) => return refused(&status),
            Ok(Some(bytes)) => {
                let message = DynamicMessage::decode(rpc.method.output(), bytes.as_slice()).unwrap();
                let mut fields = public(&message).as_object().unwrap().clone();
                let cursor = fields.remove("cursor").unwrap_or_default();
                let (event, data) = fields.into_iter().next().unwrap();
                events.push(json!({"event": event, "cursor": cursor, "data": data}));
            }
        }
    }
    Answer {
        status: rpc.success(),
        body: json!({"data": events}),
        replayed: false,
        retry_after: None,
    }
}

/// The JSON that REST makes of a status, after checking that code and reason belong together.
fn refused(status: &Status) -> Answer {
    let details = status.get_error_details();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("a status without ErrorInfo: {status:?}"));
    let reason = Reason::ALL.iter().find(|reason| reason.word() == info.reason);
    let reason = reason.unwrap_or_else(|| panic!("an unknown reason: {status:?}"));
    assert_eq!(i32::from(status.code()), reason.grpc_code(), "{status:?}");
    let mut error = Map::new();
    error.insert("code".to_owned(), json!(info.reason));
    error.insert(
        "message".to_owned(),
        json!(details.localized_message().unwrap().message),
    );
    if !status.message().is_empty() {
        error.insert("devMessage".to_owned(), json!(status.message()));
    }
    if !info.metadata.is_empty() {
        let details: BTreeMap<_, _> = info.metadata.iter().collect();
        error.insert("details".to_owned(), json!(details));
    }
    error.insert("source".to_owned(), json!(info.domain));
    Answer {
        status: reason.http_status(),
        body: json!({"error": error}),
        replayed: false,
        retry_after: details
            .retry_info()
            .and_then(|info| info.retry_delay)
            .map(|delay| delay.as_secs()),
    }
}

fn is_settable(resource: &FieldDescriptor, key: &str) -> bool {
    let Some(field) = resource
        .kind()
        .as_message()
        .and_then(|message| message.get_field_by_json_name(key))
    else {
        return true;
    };
    let behaviors = extension_value(&field.options(), "google.api.field_behavior");
    // 3 is OUTPUT_ONLY.
    !behaviors.is_some_and(|list| {
        list.as_list()
            .is_some_and(|list| list.iter().any(|value| value.as_enum_number() == Some(3)))
    })
}

fn segment(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn parameters(name: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(|value| parameters(name, value)).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(field, value)| parameters(&format!("{name}.{field}"), value))
            .collect(),
        Value::String(text) => vec![format!("{name}={}", segment(text))],
        other => vec![format!("{name}={other}")],
    }
}

fn extension_value(options: &DynamicMessage, name: &str) -> Option<Field> {
    let extension = POOL.get_extension_by_name(name).unwrap();
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

fn extension(options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    extension_value(options, name).map(|value| value.as_message().unwrap().clone())
}

fn message_rule(message: &MessageDescriptor, name: &str) -> bool {
    extension(&message.options(), "campanile.options.v1.message")
        .and_then(|rule| rule.get_field_by_name(name).and_then(|value| value.as_bool()))
        .unwrap_or_default()
}

/// The message that JSON in the public dialect stands for.
fn dynamic(message: &MessageDescriptor, json: &Value) -> DynamicMessage {
    let canonical = canonical(message, json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    DynamicMessage::deserialize_with_options(message.clone(), canonical.clone(), &options)
        .unwrap_or_else(|fault| panic!("{} is not {canonical}: {fault}", message.full_name()))
}

/// JSON as protobuf's own mapping has it: enum values by their proto names, no short forms.
fn canonical(message: &MessageDescriptor, json: &Value) -> Value {
    if message.package_name() == "google.protobuf" {
        return json.clone();
    }
    if message_rule(message, "inline_oneof") {
        return inline(message, json);
    }
    if message_rule(message, "inline_map") {
        let field = message.fields().next().unwrap();
        return json!({field.json_name(): canonical_field(&field, json)});
    }
    let fields = json
        .as_object()
        .unwrap_or_else(|| panic!("{} is an object", message.full_name()));
    let known = fields
        .iter()
        .filter(|(_, value)| !value.is_null())
        .map(|(name, value)| {
            let field = message.get_field_by_json_name(name);
            (
                name.clone(),
                field.map_or_else(|| value.clone(), |field| canonical_field(&field, value)),
            )
        });
    Value::Object(known.collect())
}

fn inline(message: &MessageDescriptor, json: &Value) -> Value {
    let fits = |field: &FieldDescriptor| match (field.kind(), json) {
        (Kind::String, Value::String(_)) => true,
        (Kind::Message(part), Value::Object(fields)) => {
            fields.keys().all(|key| part.get_field_by_json_name(key).is_some())
        }
        _ => false,
    };
    let field = message
        .fields()
        .find(fits)
        .unwrap_or_else(|| panic!("{} takes no {json}", message.full_name()));
    json!({field.json_name(): canonical_field(&field, json)})
}

fn canonical_field(field: &FieldDescriptor, json: &Value) -> Value {
    let one = |kind: &Kind, json: &Value| match kind {
        Kind::Message(message) => canonical(message, json),
        Kind::Enum(words) => json.as_str().map_or_else(|| json.clone(), |word| by_word(words, word)),
        _ => json.clone(),
    };
    match json {
        Value::Array(values) if field.is_list() => values.iter().map(|value| one(&field.kind(), value)).collect(),
        Value::Object(entries) if field.is_map() => {
            let kind = field.kind().as_message().unwrap().map_entry_value_field().kind();
            Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), one(&kind, value)))
                    .collect(),
            )
        }
        value => one(&field.kind(), value),
    }
}

fn by_word(words: &EnumDescriptor, word: &str) -> Value {
    let value = words.values().find(|value| word_of(words, value.number()) == word);
    value.map_or_else(|| json!(word), |value| json!(value.name()))
}

fn word_of(words: &EnumDescriptor, number: i32) -> String {
    let value = words.get_value(number).unwrap();
    let option = extension(&value.options(), "campanile.options.v1.value");
    let word = option.and_then(|rule| rule.get_field_by_name("word")?.as_str().map(str::to_owned));
    let prefix = words
        .values()
        .next()
        .unwrap()
        .name()
        .trim_end_matches("UNSPECIFIED")
        .to_owned();
    word.filter(|word| !word.is_empty())
        .unwrap_or_else(|| value.name().trim_start_matches(prefix.as_str()).to_lowercase())
}

/// The body that REST answers with for a message.
fn enveloped(rpc: &Rpc, message: &DynamicMessage) -> Value {
    if rpc.response_body.is_empty() {
        return json!({"data": public(message)});
    }
    let part = |name: &str| {
        let field = message.descriptor().get_field_by_name(name)?;
        let absent = field.supports_presence() && !message.has_field(&field);
        (!absent).then(|| public_field(&field, &message.get_field(&field)))
    };
    let mut body = Map::new();
    body.insert("data".to_owned(), part(&rpc.response_body).unwrap_or_default());
    for (name, field) in [("meta", "meta"), ("pagination", "pagination")] {
        if let Some(value) = part(field) {
            body.insert(name.to_owned(), value);
        }
    }
    Value::Object(body)
}

/// A message as JSON in the public dialect.
fn public(message: &DynamicMessage) -> Value {
    let descriptor = message.descriptor();
    match descriptor.full_name() {
        "google.protobuf.Timestamp" => {
            let part = |name: &str| message.get_field_by_name(name).unwrap().into_owned();
            let seconds = part("seconds").as_i64().unwrap();
            let nanos = part("nanos").as_i32().unwrap();
            let millis = seconds * 1_000 + i64::from(nanos) / 1_000_000;
            return json!(campanile::model::Timestamp::from_millis(millis).unwrap().to_string());
        }
        "google.protobuf.Struct" => return whole_numbers(serde_json::to_value(message).unwrap()),
        _ => {}
    }
    if message_rule(&descriptor, "inline_oneof") {
        let field = descriptor.fields().find(|field| message.has_field(field));
        return field.map_or(Value::Null, |field| public_field(&field, &message.get_field(&field)));
    }
    if message_rule(&descriptor, "inline_map") {
        let field = descriptor.fields().next().unwrap();
        return public_field(&field, &message.get_field(&field));
    }
    let shown = descriptor.fields().filter(|field| {
        let is_unset_enum = field.kind().as_enum().is_some() && field.cardinality() != Cardinality::Repeated;
        message.has_field(field) || !(field.supports_presence() || is_unset_enum)
    });
    Value::Object(
        shown
            .map(|field| {
                (
                    field.json_name().to_owned(),
                    public_field(&field, &message.get_field(&field)),
                )
            })
            .collect(),
    )
}

fn public_field(field: &FieldDescriptor, value: &Field) -> Value {
    match value {
        Field::List(values) => values.iter().map(|value| public_value(&field.kind(), value)).collect(),
        Field::Map(entries) => {
            let kind = field.kind().as_message().unwrap().map_entry_value_field().kind();
            let key = |key: &MapKey| key.as_str().unwrap().to_owned();
            Value::Object(
                entries
                    .iter()
                    .map(|(name, value)| (key(name), public_value(&kind, value)))
                    .collect(),
            )
        }
        value => public_value(&field.kind(), value),
    }
}

fn public_value(kind: &Kind, value: &Field) -> Value {
    match value {
        Field::Bool(value) => json!(value),
        Field::I32(value) => json!(value),
        Field::I64(value) => json!(value),
        Field::U32(value) => json!(value),
        Field::U64(value) => json!(value),
        Field::F32(value) => json!(value),
        Field::F64(value) => json!(value),
        Field::String(value) => json!(value),
        // What a later build wrote has a number and no word yet.
        Field::EnumNumber(number) => match kind.as_enum() {
            Some(words) if words.get_value(*number).is_some() => json!(word_of(words, *number)),
            _ => json!(number),
        },
        Field::Message(message) => public(message),
        other => panic!("the contract has no {other:?}"),
    }
}

/// Free JSON with whole numbers written without a fraction, as REST writes them.
fn whole_numbers(json: Value) -> Value {
    match json {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 => format!("{float:.0}")
                .parse::<i64>()
                .map_or(json!(float), |whole| json!(whole)),
            _ => Value::Number(number),
        },
        Value::Array(values) => values.into_iter().map(whole_numbers).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| (key, whole_numbers(value)))
            .collect(),
        other => other,
    }
}

/// Messages as the bytes they are.
#[derive(Clone, Copy)]
struct Bytewise;

impl Codec for Bytewise {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytewise {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytewise {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining()).to_vec()))
    }
}
