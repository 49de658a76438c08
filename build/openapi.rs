//! The OpenAPI 3.1 document of the contract: what the REST door takes and answers, for people and for generators of
//! clients. It says nothing that the contract, its options or its comments do not.

#[path = "openapi/auth.rs"]
mod auth;
#[path = "openapi/bounds.rs"]
mod bounds;
#[path = "openapi/errors.rs"]
mod errors;
#[path = "openapi/operation.rs"]
mod operation;
#[path = "openapi/prose.rs"]
mod prose;
#[path = "openapi/schema.rs"]
mod schema;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::contract::{Fallible, Package};
use errors::Errors;
use operation::Operation;
use prose::Prose;
use schema::Schemas;

/// What holds for every operation, for readers who see this document only.
const GUIDE: &str = include_str!("openapi/guide.md");

/// The document, as JSON with its keys in a fixed order.
///
/// # Errors
/// When something in the contract cannot be said in OpenAPI, such as two paths that differ only in the names of variables.
pub(crate) fn document(package: &Package) -> Fallible<String> {
    let prose = Prose::new(package);
    let mut schemas = Schemas::new(package, &prose);
    let mut errors = Errors::new(package, &prose)?;
    let paths = paths(package, &mut schemas, &mut errors)?;
    schemas.add("Error", errors.schema());
    schemas.add("ErrorCode", errors.codes());
    let tags: Vec<Value> = package
        .services
        .iter()
        .map(|service| {
            let about = prose.at(&service.descriptor.parent_file(), service.descriptor.path());
            json!({ "name": service.noun, "description": about })
        })
        .collect();
    let responses = errors.into_responses();
    let used = json!([&paths, &responses]).to_string();
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Campanile",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Self-hosted campaigns and notifications",
            "description": prose::unwrapped(GUIDE),
            "license": { "name": "Apache License 2.0", "identifier": "Apache-2.0" }
        },
        "servers": [{ "url": "/", "description": "The service that this document was read from" }],
        "tags": tags,
        "paths": paths,
        "components": {
            "securitySchemes": security_schemes(),
            "parameters": only_used("parameters", header_parameters(), &used),
            "headers": only_used("headers", errors::headers(), &used),
            "responses": responses,
            "schemas": schemas.into_components()
        }
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

/// Operations by path and verb, in the order of the contract.
fn paths(package: &Package, schemas: &mut Schemas<'_>, errors: &mut Errors) -> Fallible<Map<String, Value>> {
    let mut paths: Map<String, Value> = Map::new();
    let mut shapes: BTreeMap<String, String> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for (service, rpc) in package.rpcs() {
        for binding in &rpc.bindings {
            let operation = Operation { service, rpc, binding };
            let path = operation.path()?;
            let known = shapes.entry(shape(&path)).or_insert_with(|| path.clone());
            if *known != path {
                return Err(format!("{path} differs from {known} only in the names of variables").into());
            }
            if !ids.insert(binding.name.clone()) {
                return Err(format!("two operations are named {}", binding.name).into());
            }
            let item = paths.entry(path.clone()).or_insert_with(|| json!({}));
            item[binding.verb.to_lowercase()] = operation.write(schemas, errors)?;
        }
    }
    Ok(paths)
}

/// A path with its variables made equal.
fn shape(path: &str) -> String {
    let parts = path
        .split('{')
        .enumerate()
        .map(|(at, part)| match part.split_once('}') {
            Some((_, behind)) if at > 0 => format!("{{}}{behind}"),
            _ => part.to_owned(),
        });
    parts.collect()
}

/// The components of a kind that the document refers to.
fn only_used(kind: &str, components: Value, document: &str) -> Value {
    let Value::Object(mut components) = components else {
        return components;
    };
    components.retain(|name, _| document.contains(&format!("\"#/components/{kind}/{name}\"")));
    Value::Object(components)
}

fn security_schemes() -> Value {
    let header =
        |name: &str, about: &str| json!({ "type": "apiKey", "in": "header", "name": name, "description": about });
    json!({
        "apikey": header("apikey", "An API key of an app, for its back ends. It belongs on servers and never in the hands of \
                                    end users. The app is the key's; a header `appid` that names another app is \
                                    `ERR_UNAUTHORIZED`."),
        "operatorkey": header("operatorkey", "The key of the operator of this installation, who manages apps and their keys.")
    })
}

fn header_parameters() -> Value {
    let header = |name: &str, about: &str, schema: Value| json!({ "name": name, "in": "header", "description": about, "schema": schema });
    let uid = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]{1,100}$", "examples": ["ada"] });
    let mut required = header("onbehalfof", "The uid of the user that the call acts for.", uid.clone());
    required["required"] = json!(true);
    json!({
        "OnBehalfOf": header("onbehalfof", "The uid of the user that the call acts for. Without it the call acts for the app.", uid),
        "OnBehalfOfRequired": required,
        "IdempotencyKey": header("Idempotency-Key", "A text of your choice that stands for this one request: sent again within \
            24 hours with the same request, it answers the same without doing anything again; with another request it is \
            `ERR_CONFLICT`. A refusal is not stored.",
            json!({ "type": "string", "pattern": "^[!-~]{1,255}$", "examples": ["order-1042-shipped"] })),
        "IfMatch": header("If-Match", "The `etag` that the entity is expected to have, in double quotes. When it has another, \
            the update is `ERR_PRECONDITION_FAILED` and changes nothing; without this header the last writer wins.",
            json!({ "type": "string", "examples": ["\"7\""] })),
        "LastEventId": header("Last-Event-ID", "The id of the last event that was seen; the stream goes on after it.",
            json!({ "type": "string" }))
    })
}
