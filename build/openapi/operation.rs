//! One operation per binding: its parameters, its body and its answers. It writes no schema of a message itself.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::auth::{OnBehalfOf, callers, on_behalf_of};
use super::bounds;
use super::errors::{Errors, header_references};
use super::prose::split;
use super::schema::{Role, Schemas, body_role, size};
use crate::contract::{Binding, BodyRule, Fallible, Rpc, Service, fault, flag, output_only};

/// Fields of messages in a query string are named down to this depth.
const QUERY_DEPTH_MAX: usize = 4;

/// What an operation is made of.
pub(crate) struct Operation<'c> {
    pub(crate) service: &'c Service,
    pub(crate) rpc: &'c Rpc,
    pub(crate) binding: &'c Binding,
}

impl Operation<'_> {
    /// The path as OpenAPI has it, with variables named like JSON fields.
    pub(crate) fn path(&self) -> Fallible<String> {
        let mut path = String::new();
        let mut rest = self.binding.path.as_str();
        while let Some((before, behind)) = rest.split_once('{') {
            let (variable, after) = behind.split_once('}').ok_or("a variable ends with a brace")?;
            let name = variable.split('=').next().unwrap_or(variable);
            path.push_str(&format!("{before}{{{}}}", self.variable(name)?.0));
            rest = after;
        }
        path.push_str(rest);
        Ok(path)
    }

    /// The operation itself.
    pub(crate) fn write(&self, schemas: &mut Schemas<'_>, errors: &mut Errors) -> Fallible<Value> {
        let descriptor = &self.rpc.descriptor;
        let comment = schemas
            .prose
            .at(&descriptor.parent_service().parent_file(), descriptor.path());
        let (mut summary, description) = split(&comment);
        if self.credential() == Some("operatorkey") && callers(self.rpc).app {
            summary.push_str(" (operator)");
        }
        let mut operation = Map::new();
        let mut put = |name: &str, value: Value| operation.insert(name.to_owned(), value);
        put("operationId", json!(self.binding.name));
        put("tags", json!([self.service.noun]));
        put("summary", json!(summary));
        if !description.is_empty() {
            put("description", json!(description));
        }
        if self.rpc.deprecated() {
            put("deprecated", json!(true));
        }
        put("security", self.security());
        let parameters = self.parameters(schemas)?;
        if !parameters.is_empty() {
            put("parameters", json!(parameters));
        }
        if let Some(body) = self.body(schemas)? {
            put("requestBody", body);
        }
        let mut responses = Map::new();
        responses.insert(self.rpc.success_status().to_string(), self.success(schemas)?);
        errors.add(self.rpc, self.binding, &mut responses)?;
        put("responses", Value::Object(responses));
        Ok(Value::Object(operation))
    }

    /// The header with the credential that this path is meant for, if any.
    fn credential(&self) -> Option<&'static str> {
        let callers = callers(self.rpc);
        let for_operator = !callers.app || self.binding.path.starts_with("/v3/admin/");
        match (callers.operator && for_operator, callers.app) {
            (true, _) => Some("operatorkey"),
            (false, true) => Some("apikey"),
            (false, false) => None,
        }
    }

    fn security(&self) -> Value {
        let needed = self.credential().map(|key| json!({ key: [] }));
        let nothing = (callers(self.rpc).public || needed.is_none()).then(|| json!({}));
        Value::Array(nothing.into_iter().chain(needed).collect())
    }

    /// A path variable's name over REST, and its field.
    fn variable(&self, path: &str) -> Fallible<(String, FieldDescriptor)> {
        let mut message = self.rpc.descriptor.input();
        let mut names = Vec::new();
        let mut parts = path.split('.').peekable();
        while let Some(part) = parts.next() {
            let field = message.get_field_by_name(part);
            let field = field.ok_or_else(|| fault(&self.rpc.descriptor, &format!("has no field for {{{path}}}")))?;
            names.push(field.json_name().to_owned());
            match (parts.peek(), field.kind()) {
                (None, _) => return Ok((names.join("."), field)),
                (Some(_), Kind::Message(inner)) => message = inner,
                (Some(_), _) => break,
            }
        }
        Err(fault(&self.rpc.descriptor, &format!("has no field for {{{path}}}")))
    }

    fn variables(&self) -> Vec<&str> {
        let parts = self.binding.path.split('{').skip(1);
        parts.filter_map(|part| part.split(['}', '=']).next()).collect()
    }

    fn parameters(&self, schemas: &mut Schemas<'_>) -> Fallible<Vec<Value>> {
        let mut parameters = Vec::new();
        for variable in self.variables() {
            let (name, field) = self.variable(variable)?;
            let mut parameter = parameter("path", &name, &field, schemas)?;
            parameter["required"] = json!(true);
            parameters.push(parameter);
        }
        let input = self.rpc.descriptor.input();
        if !matches!(self.binding.body, BodyRule::Whole) {
            self.query(&input, &[], schemas, &mut parameters)?;
        }
        let mut header = |name: &str| parameters.push(json!({ "$ref": format!("#/components/parameters/{name}") }));
        match on_behalf_of(self.rpc) {
            OnBehalfOf::Optional => header("OnBehalfOf"),
            OnBehalfOf::Required => header("OnBehalfOfRequired"),
            OnBehalfOf::BadRequest | OnBehalfOf::Forbidden => {}
        }
        if flag(&self.rpc.rule, "idempotency_key") {
            header("IdempotencyKey");
        }
        if self.is_conditional() {
            header("IfMatch");
        }
        if self.rpc.descriptor.is_server_streaming() && input.get_field_by_name("cursor").is_some() {
            header("LastEventId");
        }
        Ok(parameters)
    }

    fn is_conditional(&self) -> bool {
        self.rpc.descriptor.input().get_field_by_name("etag").is_some()
    }

    /// The fields that neither path, body nor a header gives; `trail` leads from the request to the message.
    fn query(
        &self,
        message: &MessageDescriptor,
        trail: &[FieldDescriptor],
        schemas: &mut Schemas<'_>,
        parameters: &mut Vec<Value>,
    ) -> Fallible<()> {
        for field in message.fields().filter(|field| !output_only(field)) {
            let trail = [trail, std::slice::from_ref(&field)].concat();
            let path = trail.iter().map(FieldDescriptor::name).collect::<Vec<_>>().join(".");
            if self.is_elsewhere(&path, &field) {
                continue;
            }
            match field.kind() {
                Kind::Message(inner) if !is_text_in_query(&field.kind()) => {
                    if field.is_list() || field.is_map() || trail.len() > QUERY_DEPTH_MAX {
                        return Err(fault(
                            &self.rpc.descriptor,
                            &format!("has no place in a query string for {path}"),
                        ));
                    }
                    self.query(&inner, &trail, schemas, parameters)?;
                }
                _ => {
                    let name = trail
                        .iter()
                        .map(FieldDescriptor::json_name)
                        .collect::<Vec<_>>()
                        .join(".");
                    parameters.push(parameter("query", &name, &field, schemas)?);
                }
            }
        }
        Ok(())
    }

    fn is_elsewhere(&self, path: &str, field: &FieldDescriptor) -> bool {
        let in_body = matches!(&self.binding.body, BodyRule::Field(body) if body == field);
        let in_path = self.variables().contains(&path);
        let by_header = matches!(path, "update_mask" | "etag");
        in_body || in_path || by_header
    }

    fn body(&self, schemas: &mut Schemas<'_>) -> Fallible<Option<Value>> {
        let role = body_role(&self.binding.body, self.rpc.updates().is_some());
        let (schema, required) = match &self.binding.body {
            BodyRule::None => return Ok(None),
            BodyRule::Field(field) => match field.kind() {
                Kind::Message(message) if !field.is_list() && !field.is_map() => {
                    (schemas.message(&message, role)?, bounds::required(field))
                }
                _ => (schemas.field(field, role)?, bounds::required(field)),
            },
            BodyRule::Whole => {
                let whole = schemas.whole(&self.rpc.descriptor.input(), role, &self.variables())?;
                let required = whole.get("required").is_some();
                (schemas.add(&format!("{}Request", self.binding.name), whole), required)
            }
        };
        Ok(Some(json!({
            "description": format!("At most {} of JSON.", size(self.rpc.body_bytes_max())),
            "required": required,
            "content": { "application/json": { "schema": schema } }
        })))
    }

    fn success(&self, schemas: &mut Schemas<'_>) -> Fallible<Value> {
        let output = self.rpc.descriptor.output();
        let mut headers = vec!["x-request-id", "x-rate-limit", "x-rate-limit-remaining"];
        if flag(&self.rpc.rule, "idempotency_key") {
            headers.push("idempotent-replayed");
        }
        if self.rpc.deprecated() {
            headers.push("deprecation");
        }
        let headers = header_references(&headers);
        if self.rpc.descriptor.is_server_streaming() {
            let about = "A stream of server-sent events. The data of each is JSON of this form and its id is the cursor to \
                         resume after. Lines that begin with a colon keep the connection alive; a stream that fails ends \
                         with an event named `error`, whose data is the error.";
            let schema = schemas.message(&output, Role::Answer)?;
            let content = json!({ "text/event-stream": { "schema": schema } });
            return Ok(json!({ "description": about, "headers": headers, "content": content }));
        }
        let mut properties = Map::new();
        let mut description = "What was done.".to_owned();
        match &self.binding.response_body {
            None => {
                properties.insert("data".to_owned(), schemas.message(&output, Role::Answer)?);
            }
            Some(field) => {
                description = schemas.prose.at(&field.parent_file(), field.path());
                let mut data = schemas.field(field, Role::Answer)?;
                // Said by the response already.
                data.as_object_mut().and_then(|data| data.shift_remove("description"));
                properties.insert("data".to_owned(), data);
                for name in ["meta", "pagination"] {
                    if let Some(beside) = output.get_field_by_name(name).filter(|beside| beside != field) {
                        properties.insert(name.to_owned(), schemas.field(&beside, Role::Answer)?);
                    }
                }
            }
        }
        let schema = json!({ "type": "object", "required": ["data"], "properties": properties });
        let content = json!({ "application/json": { "schema": schema } });
        Ok(json!({ "description": description, "headers": headers, "content": content }))
    }
}

fn parameter(place: &str, name: &str, field: &FieldDescriptor, schemas: &mut Schemas<'_>) -> Fallible<Value> {
    let mut schema = schemas.field(field, Role::Input)?;
    let description = schema
        .as_object_mut()
        .and_then(|schema| schema.shift_remove("description"));
    let mut parameter = json!({ "name": name, "in": place, "description": description, "schema": schema });
    if place == "query" && bounds::required(field) {
        parameter["required"] = json!(true);
    }
    if field.is_list() {
        parameter["style"] = json!("form");
        parameter["explode"] = json!(false);
    }
    Ok(parameter)
}

/// Whether a field can stand in a query string under its own name.
pub(crate) fn is_text_in_query(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => {
            matches!(
                message.full_name(),
                "google.protobuf.Timestamp" | "google.protobuf.Duration" | "google.protobuf.FieldMask"
            )
        }
        _ => true,
    }
}
