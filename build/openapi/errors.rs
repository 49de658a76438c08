//! Refusals and failures: which an operation may answer, as responses with their reasons and headers. The catalogue in the
//! contract says what each means; nothing here does.

use std::collections::BTreeMap;

use prost_reflect::EnumValueDescriptor;
use serde_json::{Map, Value, json};

use super::auth::{OnBehalfOf, callers, on_behalf_of};
use super::prose::Prose;
use super::schema::reference;
use crate::contract::{
    Binding, BodyRule, Fallible, Package, Rpc, camel, extension, flag, list, number, suffix, text, word,
};

const SOURCE: &str = "campaigns-service";

/// One entry of the catalogue.
struct Reason {
    code: String,
    /// The name of the response that holds this reason alone.
    name: String,
    status: i64,
    about: String,
    /// Answers as the service gives them, by a name; none where they differ from case to case.
    examples: Vec<(String, Value)>,
}

/// The catalogue, and the responses that were made of it.
pub(crate) struct Errors {
    reasons: BTreeMap<i32, Reason>,
    responses: BTreeMap<String, Value>,
}

impl Errors {
    /// Reads the catalogue.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn new(package: &Package, prose: &Prose) -> Fallible<Self> {
        let kind = package.pool.get_enum_by_name("campanile.options.v1.ErrorReason");
        let kind = kind.ok_or("no ErrorReason in the contract")?;
        let values = kind.values().filter(|value| value.number() != 0);
        let reasons = values
            .map(|value| (value.number(), Reason::new(&value, prose)))
            .collect();
        Ok(Self {
            reasons,
            responses: BTreeMap::new(),
        })
    }

    /// What stands in the envelope of every error.
    pub(crate) fn schema(&self) -> Value {
        json!({
            "description": "Why a call was refused or failed. It stands in `error`, alone.",
            "type": "object",
            "required": ["code", "message", "source"],
            "properties": {
                "code": reference("ErrorCode"),
                "message": {
                    "description": "A sentence that may be shown to an end user. It names no identifiers.",
                    "type": "string"
                },
                "devMessage": {
                    "description": "What exactly is wrong and where, for the developer. Absent when there is no more to say.",
                    "type": "string"
                },
                "details": {
                    "description": "Of a request that is not valid: the path of each offending field, with the rule and the \
                                    value received. Of other errors: their facts, by the keys that the error code names. \
                                    Absent when there are none.",
                    "type": "object",
                    "additionalProperties": { "type": "string" }
                },
                "source": { "description": "Who answers.", "type": "string", "const": SOURCE }
            }
        })
    }

    /// The words of all errors.
    pub(crate) fn codes(&self) -> Value {
        let line = |reason: &Reason| format!("- `{}` ({}): {}", reason.code, reason.status, reason.about);
        let lines: Vec<String> = self.reasons.values().map(line).collect();
        let codes: Vec<&str> = self.reasons.values().map(|reason| reason.code.as_str()).collect();
        let about = "Why a call was refused or failed, with the HTTP status. More words may come: treat one that you do not \
                     know by its status.";
        json!({ "description": format!("{about}\n\n{}", lines.join("\n")), "type": "string", "enum": codes })
    }

    /// The responses that are shared by operations.
    pub(crate) fn into_responses(self) -> BTreeMap<String, Value> {
        self.responses
    }

    /// Adds the errors of an operation to its responses.
    pub(crate) fn add(&mut self, rpc: &Rpc, binding: &Binding, responses: &mut Map<String, Value>) -> Fallible<()> {
        let mut by_status: BTreeMap<i64, Vec<&Reason>> = BTreeMap::new();
        for reason in self.possible(rpc, binding)? {
            by_status.entry(reason.status).or_default().push(reason);
        }
        let mut shared = Vec::new();
        for (status, reasons) in by_status {
            let response = if let [only] = reasons.as_slice() {
                shared.push((only.name.clone(), response(&reasons)));
                json!({ "$ref": format!("#/components/responses/{}", only.name) })
            } else {
                response(&reasons)
            };
            responses.insert(status.to_string(), response);
        }
        self.responses.extend(shared);
        Ok(())
    }

    /// The reasons that every rpc may answer, as far as its kind can, and its own.
    fn possible(&self, rpc: &Rpc, binding: &Binding) -> Fallible<Vec<&Reason>> {
        let mut codes = vec![
            "BadRequest",
            "Unauthorized",
            "TooManyRequests",
            "Internal",
            "Unavailable",
            "DeadlineExceeded",
        ];
        if !callers(rpc).public || on_behalf_of(rpc) == OnBehalfOf::Forbidden {
            codes.push("Forbidden");
        }
        if !matches!(binding.body, BodyRule::None) {
            codes.extend(["PayloadTooLarge", "UnsupportedMediaType"]);
        }
        if flag(&rpc.rule, "idempotency_key") {
            codes.push("Conflict");
        }
        let own: Vec<i32> = list(&rpc.rule, "reasons")
            .iter()
            .filter_map(prost_reflect::Value::as_enum_number)
            .collect();
        for number in &own {
            if !self.reasons.contains_key(number) {
                return Err(format!(
                    "{}: reason {number} is not in the catalogue",
                    rpc.descriptor.full_name()
                )
                .into());
            }
        }
        let is_one = |(number, reason): &(&i32, &Reason)| own.contains(number) || codes.contains(&reason.name.as_str());
        Ok(self.reasons.iter().filter(is_one).map(|(_, reason)| reason).collect())
    }
}

impl Reason {
    fn new(value: &EnumValueDescriptor, prose: &Prose) -> Self {
        let rule = extension(value.parent_pool(), value.options(), "campanile.options.v1.value");
        let (status, message) = rule.map_or((0, String::new()), |rule| {
            (number(&rule, "http_status"), text(&rule, "message"))
        });
        let comment = prose.at(&value.parent_enum().parent_file(), value.path());
        let code = word(value);
        Self {
            name: camel(&suffix(value).to_lowercase()),
            status,
            examples: examples(&code, &message, &comment, prose),
            about: comment.replace("Metadata:", "Details:"),
            code,
        }
    }
}

fn examples(code: &str, message: &str, comment: &str, prose: &Prose) -> Vec<(String, Value)> {
    let example = |name: &str, message: &str, dev_message: &str, details: Value| {
        let mut error = json!({ "code": code, "message": message });
        if !dev_message.is_empty() {
            error["devMessage"] = json!(dev_message);
            error["details"] = details;
        }
        error["source"] = json!(SOURCE);
        (name.to_owned(), json!({ "value": { "error": error } }))
    };
    let said = |dev_message: &str, details: Value| vec![example(code, message, dev_message, details)];
    let key = comment
        .split_once("Metadata: `")
        .and_then(|(_, keys)| keys.strip_suffix("`."));
    let id = key.and_then(|key| prose.example(key).map(|id| (key, id)));
    match (code, id) {
        ("ERR_BAD_REQUEST", _) => said(
            "colour is not a known field",
            json!({ "colour": "is not a known field" }),
        ),
        ("ERR_UNAUTHORIZED", _) => ["apikey", "operatorkey"]
            .map(|key| example(key, &format!("{key} header is required"), "", Value::Null))
            .to_vec(),
        ("ERR_TOO_MANY_REQUESTS", _) => said(
            "rate limit of 20000 calls per minute is used up, retry after 2 s",
            json!({ "limit": "20000", "retryAfterSeconds": "2" }),
        ),
        ("ERR_PAYLOAD_TOO_LARGE", _) => said(
            "request body must not be larger than 1048576 bytes after decompression",
            json!({ "limitBytes": "1048576" }),
        ),
        (code, Some((key, id))) if code.ends_with("_NOT_FOUND") => {
            said(&format!("{key} {id} does not exist"), json!({ key: id }))
        }
        _ => vec![],
    }
}

fn response(reasons: &[&Reason]) -> Value {
    let line = |reason: &&Reason| format!("`{}`: {}", reason.code, reason.about);
    let description = match reasons {
        [only] => line(only),
        _ => reasons
            .iter()
            .map(|reason| format!("- {}", line(reason)))
            .collect::<Vec<_>>()
            .join("\n"),
    };
    let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
    let narrowed = json!({ "type": "object", "properties": { "code": { "type": "string", "enum": codes } } });
    let schema = json!({
        "type": "object",
        "required": ["error"],
        "properties": { "error": { "allOf": [reference("Error"), narrowed] } }
    });
    let examples: Map<String, Value> = reasons.iter().flat_map(|reason| reason.examples.clone()).collect();
    let mut content = json!({ "schema": schema });
    if !examples.is_empty() {
        content["examples"] = Value::Object(examples);
    }
    let mut headers = vec!["x-request-id"];
    match reasons.first().map(|reason| reason.status) {
        Some(429) => headers.extend([
            "retry-after",
            "x-rate-limit",
            "x-rate-limit-remaining",
            "x-rate-limit-reset",
        ]),
        Some(503) => headers.push("retry-after"),
        _ => {}
    }
    json!({
        "description": description,
        "headers": header_references(&headers),
        "content": { "application/json": content }
    })
}

/// References to headers of responses, by name.
pub(crate) fn header_references(names: &[&str]) -> Value {
    let one = |name: &&str| {
        (
            (*name).to_owned(),
            json!({ "$ref": format!("#/components/headers/{name}") }),
        )
    };
    Value::Object(names.iter().map(one).collect())
}

/// The headers of responses.
pub(crate) fn headers() -> Value {
    let header = |about: &str, kind: &str, example: Value| json!({ "description": about, "schema": { "type": kind, "examples": [example] } });
    let both =
        |about: &str, other: &str| format!("{about} Sent as `{other}`, too. Absent when limits are switched off.");
    json!({
        "x-request-id": header("The id of this call in the log of the service: the one the request brought, else a new one.",
            "string", json!("018bcf15-1a00-7000-8000-000000000000")),
        "x-rate-limit": header(&both("The calls allowed per minute.", "x-ratelimit-limit"), "integer", json!(20_000)),
        "x-rate-limit-remaining": header(&both("The calls left.", "x-ratelimit-remaining"), "integer", json!(19_999)),
        "x-rate-limit-reset": header(&both("When calls are let in again, in unix seconds.", "x-ratelimit-reset"),
            "integer", json!(1_705_311_002)),
        "retry-after": header("After how many seconds to try again.", "integer", json!(2)),
        "idempotent-replayed": { "description": "Present when the answer was stored by an earlier call with the same key.",
            "schema": { "type": "string", "enum": ["true"] } },
        "deprecation": { "description": "Present because the operation is deprecated.", "schema": { "type": "string" } }
    })
}
