//! Per service the trait that handlers implement and the doors in front of it, and the table of all rpcs.

use std::fmt::Write;

use prost_reflect::FieldDescriptor;

use crate::contract::{
    Binding, BodyRule, Fallible, Package, Rpc, Service, flag, ident, list, number, rust_type, secret, snake, variant,
};

const OPTIONS: &str = "campanile.options.v1";

/// Writes everything about services.
pub(crate) fn generate(package: &Package) -> Fallible<String> {
    let mut code = methods(package)?;
    code.push_str(&bindings(package));
    for service in &package.services {
        handler_trait(package, service, &mut code)?;
        grpc(package, service, &mut code)?;
        routes(package, service, &mut code)?;
    }
    Ok(code)
}

/// The name of an rpc's constant in the table.
fn constant(service: &Service, rpc: &Rpc) -> String {
    format!("{}_{}", snake(&service.noun), snake(rpc.descriptor.name())).to_uppercase()
}

fn methods(package: &Package) -> Fallible<String> {
    let mut code =
        String::from("/// What the contract says about each rpc.\npub mod methods {\n    use super::rt;\n\n");
    let mut all = String::new();
    for (service, rpc) in package.rpcs() {
        let name = constant(service, rpc);
        writeln!(all, "    &methods::{name},")?;
        method(package, service, rpc, &name, &mut code)?;
    }
    code.push_str("}\n\n");
    write!(
        code,
        "/// Every rpc, by service and in the contract's order.\npub static METHODS: &[&rt::Method] = &[\n{all}];\n\n\
         /// The rpc of a gRPC path.\n#[must_use]\npub fn method(grpc_path: &str) -> Option<&'static rt::Method> {{\n    match grpc_path {{\n"
    )?;
    for (service, rpc) in package.rpcs() {
        let path = grpc_path(service, rpc);
        writeln!(code, "        {path:?} => Some(&methods::{}),", constant(service, rpc))?;
    }
    code.push_str("        _ => None,\n    }\n}\n\n");
    Ok(code)
}

pub(crate) fn grpc_path(service: &Service, rpc: &Rpc) -> String {
    format!("/{}/{}", service.descriptor.full_name(), rpc.descriptor.name())
}

fn method(package: &Package, service: &Service, rpc: &Rpc, name: &str, code: &mut String) -> Fallible<()> {
    let pool = &package.pool;
    let auth = rpc.rule.get_field_by_name("auth").ok_or("no auth")?.into_owned();
    let auth = auth.as_message().ok_or("no auth")?;
    let words = |field: &str, of: &str, prefix: &str, path: &str| -> String {
        let from = if field == "callers" { auth } else { &rpc.rule };
        let names = list(from, field).into_iter().filter_map(|value| {
            let number = value.as_enum_number()?;
            variant(pool, &format!("{OPTIONS}.{of}"), prefix, i64::from(number))
        });
        names
            .map(|name| format!("rt::{path}::{name}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let callers = words("callers", "CallerKind", "CALLER_KIND_", "CallerKind");
    let reasons = words("reasons", "ErrorReason", "ERROR_REASON_", "Reason");
    let behalf = variant(
        pool,
        &format!("{OPTIONS}.OnBehalfOf"),
        "ON_BEHALF_OF_",
        number(auth, "on_behalf_of"),
    );
    let rate = variant(
        pool,
        &format!("{OPTIONS}.RateClass"),
        "RATE_CLASS_",
        number(&rpc.rule, "rate_class"),
    );
    write!(
        code,
        "    /// `{full}`.\n    pub static {name}: rt::Method = rt::Method {{\n        service: {service:?},\n        rpc: {rpc_name:?},\n        \
         grpc_path: {path:?},\n        success_status: {status},\n        callers: &[{callers}],\n        \
         on_behalf_of: rt::OnBehalfOf::{behalf},\n        idempotency_key: {key},\n        body_bytes_max: {bytes},\n        \
         rate_class: rt::RateClass::{rate},\n        reasons: &[{reasons}],\n        server_streaming: {streaming},\n        takes_file: {takes_file},\n        \
         secret_answer: {secret},\n        deprecated: {deprecated},\n    }};\n\n",
        full = rpc.descriptor.full_name(),
        service = service.descriptor.full_name(),
        rpc_name = rpc.descriptor.name(),
        path = grpc_path(service, rpc),
        status = rpc.success_status(),
        behalf = behalf.unwrap_or_default(),
        key = flag(&rpc.rule, "idempotency_key"),
        bytes = rpc.body_bytes_max(),
        rate = rate.unwrap_or_default(),
        streaming = rpc.descriptor.is_server_streaming(),
        takes_file = rpc.descriptor.is_client_streaming(),
        secret = crate::reach::from(&rpc.descriptor.output())
            .iter()
            .any(|message| message.fields().any(|field| secret(&field))),
        deprecated = rpc.deprecated(),
    )?;
    Ok(())
}

fn handler_trait(package: &Package, service: &Service, code: &mut String) -> Fallible<()> {
    write!(
        code,
        "/// What answers the rpcs of `{}`, whichever door they come through.\npub trait {}Api: Send + Sync + 'static {{\n",
        service.descriptor.name(),
        service.noun
    )?;
    for rpc in &service.rpcs {
        let (name, input, output) = signature(package, rpc);
        let answer = if rpc.descriptor.is_server_streaming() {
            format!("rt::Events<pb::{output}>")
        } else {
            format!("rt::Reply<pb::{output}>")
        };
        let request = if rpc.descriptor.is_client_streaming() {
            format!("requests: rt::Messages<pb::{input}>")
        } else {
            format!("request: pb::{input}")
        };
        writeln!(
            code,
            "    /// `{}`.\n    fn {name}(\n        &self,\n        call: rt::Call,\n        {request},\n    ) -> impl Future<Output = rt::Result<{answer}>> + Send;\n",
            rpc.descriptor.name()
        )?;
    }
    code.truncate(code.trim_end().len());
    code.push_str("\n}\n\n");
    Ok(())
}

fn signature(package: &Package, rpc: &Rpc) -> (String, String, String) {
    (
        ident(&snake(rpc.descriptor.name())),
        rust_type(rpc.descriptor.input().full_name(), package.name),
        rust_type(rpc.descriptor.output().full_name(), package.name),
    )
}

fn grpc(package: &Package, service: &Service, code: &mut String) -> Fallible<()> {
    let name = service.descriptor.name();
    let (noun, module) = (&service.noun, format!("{}_server", snake(name)));
    let largest = service.rpcs.iter().map(Rpc::body_bytes_max).max().unwrap_or_default();
    write!(
        code,
        "/// `{name}` over gRPC.\n#[derive(Debug)]\npub struct {noun}Grpc<T>(Arc<T>);\n\n\
         /// The gRPC service in front of a handler.\npub fn {snake}_grpc<T: {noun}Api>(api: &Arc<T>) -> pb::{module}::{name}Server<{noun}Grpc<T>> {{\n    \
         pb::{module}::{name}Server::new({noun}Grpc(Arc::clone(api))).max_decoding_message_size({largest})\n}}\n\n\
         #[tonic::async_trait]\nimpl<T: {noun}Api> pb::{module}::{name} for {noun}Grpc<T> {{\n",
        snake = snake(noun),
    )?;
    for rpc in &service.rpcs {
        let (call, input, output) = signature(package, rpc);
        let (answer, door) = if rpc.descriptor.is_server_streaming() {
            let stream = format!("{}Stream", rpc.descriptor.name());
            writeln!(code, "    type {stream} = rt::GrpcEvents<pb::{output}>;\n")?;
            (format!("Self::{stream}"), "stream")
        } else if rpc.descriptor.is_client_streaming() {
            (format!("pb::{output}"), "collect")
        } else {
            (format!("pb::{output}"), "unary")
        };
        let request = if rpc.descriptor.is_client_streaming() {
            format!("tonic::Streaming<pb::{input}>")
        } else {
            format!("pb::{input}")
        };
        writeln!(
            code,
            "    async fn {call}(\n        &self,\n        request: tonic::Request<{request}>,\n    ) -> Result<tonic::Response<{answer}>, tonic::Status> {{\n        \
             rt::grpc::{door}(request, |call, request| self.0.{call}(call, request)).await\n    }}\n"
        )?;
    }
    code.truncate(code.trim_end().len());
    code.push_str("\n}\n\n");
    Ok(())
}

fn binding_constant(binding: &Binding) -> String {
    snake(&binding.name).to_uppercase()
}

fn bindings(package: &Package) -> String {
    let mut code =
        String::from("/// How each rpc is bound to HTTP.\npub mod bindings {\n    use super::{methods, rt};\n\n");
    for (service, rpc) in package.rpcs() {
        for binding in &rpc.bindings {
            code.push_str(&one_binding(service, rpc, binding));
        }
    }
    code.truncate(code.trim_end().len());
    code.push_str("\n}\n\n");
    code
}

/// Where a field stands in its message's table.
pub(crate) fn index(field: &FieldDescriptor) -> usize {
    let fields = crate::messages::in_order(field.parent_message());
    fields
        .iter()
        .position(|other| other.number() == field.number())
        .unwrap_or_default()
}

fn one_binding(service: &Service, rpc: &Rpc, binding: &Binding) -> String {
    let (input, output) = (rpc.descriptor.input(), rpc.descriptor.output());
    let place = |name: &str| format!("{:?}", input.get_field_by_name(name).map(|field| index(&field)));
    let body = match &binding.body {
        BodyRule::None => "None".to_owned(),
        BodyRule::Whole => "Whole".to_owned(),
        BodyRule::Field(field) => format!("Field({})", index(field)),
    };
    let mut hidden: Vec<String> = binding
        .template
        .variables
        .iter()
        .map(|variable| variable.field.clone())
        .collect();
    if let BodyRule::Field(field) = &binding.body {
        hidden.push(field.name().to_owned());
    }
    let elsewhere = ["update_mask", "etag"].into_iter();
    hidden.extend(
        elsewhere
            .filter(|name| input.get_field_by_name(name).is_some())
            .map(str::to_owned),
    );
    let variables: Vec<&str> = binding
        .template
        .variables
        .iter()
        .map(|variable| variable.field.as_str())
        .collect();
    let part = |name: &str| format!("{:?}", output.get_field_by_name(name).map(|field| index(&field)));
    let answer = match &binding.response_body {
        None => "Whole".to_owned(),
        Some(field) if field.is_list() => format!(
            "List {{ rows: {}, meta: {}, pagination: {} }}",
            index(field),
            part("meta"),
            part("pagination")
        ),
        Some(field) => format!("Field({})", index(field)),
    };
    let limit = input
        .get_field_by_name("limit")
        .filter(|_| input.get_field_by_name("page").is_some());
    format!(
        "    /// `{verb} {path}`.\n    pub static {name}: rt::Binding = rt::Binding {{\n        method: &methods::{method},\n        verb: {verb:?},\n        \
         path: {path:?},\n        body: rt::BodyRule::{body},\n        variables: &{variables:?},\n        hidden: &{hidden:?},\n        \
         etag: {etag},\n        cursor: {cursor},\n        limit: {limit:?},\n        answer: rt::Answer::{answer},\n    }};\n\n",
        verb = binding.verb,
        path = binding.path,
        name = binding_constant(binding),
        method = constant(service, rpc),
        etag = place("etag"),
        cursor = if rpc.descriptor.is_server_streaming() {
            place("cursor")
        } else {
            "None".to_owned()
        },
        limit = limit.map(|field| index(&field)),
    )
}

fn routes(package: &Package, service: &Service, code: &mut String) -> Fallible<()> {
    write!(
        code,
        "/// The REST routes in front of a handler; those that the dialect does not serve are left out.\n\
         pub fn {}_routes<T: {}Api>(api: &Arc<T>, dialect: &'static rt::Dialect) -> Vec<rt::Route> {{\n    let routes = [\n",
        snake(&service.noun),
        service.noun
    )?;
    for rpc in &service.rpcs {
        let (call, input, _) = signature(package, rpc);
        let door = if rpc.descriptor.is_server_streaming() {
            "stream"
        } else {
            "unary"
        };
        for binding in &rpc.bindings {
            writeln!(
                code,
                "        rt::http::{door}(api, &bindings::{}, dialect, |api, call, request: pb::{input}| async move {{\n            api.{call}(call, request).await\n        }}),",
                binding_constant(binding)
            )?;
        }
    }
    code.push_str("    ];\n    routes.into_iter().flatten().collect()\n}\n\n");
    Ok(())
}
