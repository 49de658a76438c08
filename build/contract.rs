//! What the generator reads: the compiled contract with its options, comments and names in Rust. It writes nothing.

use std::error::Error;
use std::path::{Path, PathBuf};

use http_path_template::{Grammar, PathTemplate};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor,
    MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};

use crate::template::Template;

pub(crate) type Fallible<T> = Result<T, Box<dyn Error>>;

/// A package to generate code for.
pub(crate) struct Package {
    /// Its name, such as `campanile.v1`.
    pub(crate) name: &'static str,
    /// How the generated code names the crate of the runtime.
    pub(crate) root: &'static str,
    /// How the generated code names the module of the package's messages.
    pub(crate) types: &'static str,
    pub(crate) pool: DescriptorPool,
    /// The encoded descriptor set, with custom options.
    pub(crate) bytes: Vec<u8>,
    pub(crate) services: Vec<Service>,
}

pub(crate) struct Service {
    pub(crate) descriptor: ServiceDescriptor,
    /// The name without `Service`.
    pub(crate) noun: String,
    pub(crate) rpcs: Vec<Rpc>,
}

pub(crate) struct Rpc {
    pub(crate) descriptor: MethodDescriptor,
    pub(crate) rule: DynamicMessage,
    pub(crate) bindings: Vec<Binding>,
}

/// One `google.api.http` rule.
pub(crate) struct Binding {
    /// The operation's name: the rpc's, and a suffix for additional bindings.
    pub(crate) name: String,
    /// Such as `GET`.
    pub(crate) verb: String,
    pub(crate) path: String,
    pub(crate) template: Template,
    pub(crate) body: BodyRule,
    /// The field that becomes the answer.
    pub(crate) response_body: Option<FieldDescriptor>,
}

pub(crate) enum BodyRule {
    None,
    Whole,
    Field(FieldDescriptor),
}

impl Package {
    /// Compiles every file of the package's folder, which is below the last of the roots.
    pub(crate) fn load(name: &'static str, root: &'static str, types: &'static str, roots: &[&str]) -> Fallible<Self> {
        let folder = Path::new(roots.last().ok_or("no proto root")?).join(name.replace('.', "/"));
        let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "proto"))
            .collect();
        files.sort();
        let mut compiler = protox::Compiler::new(roots)?;
        compiler.include_imports(true).include_source_info(true);
        for file in &files {
            compiler.open_file(file)?;
        }
        let bytes = compiler.encode_file_descriptor_set();
        let pool = DescriptorPool::decode(bytes.as_slice())?;
        let mut services: Vec<ServiceDescriptor> = pool.services().filter(|s| s.package_name() == name).collect();
        services.sort_by(|a, b| a.full_name().cmp(b.full_name()));
        let services = services.into_iter().map(Service::new).collect::<Fallible<_>>()?;
        Ok(Self {
            name,
            root,
            types,
            pool,
            bytes,
            services,
        })
    }

    pub(crate) fn rpcs(&self) -> impl Iterator<Item = (&Service, &Rpc)> {
        self.services
            .iter()
            .flat_map(|service| service.rpcs.iter().map(move |rpc| (service, rpc)))
    }

    /// The messages of the package, without map entries.
    pub(crate) fn messages(&self) -> Vec<MessageDescriptor> {
        let own = |message: &MessageDescriptor| message.package_name() == self.name && !message.is_map_entry();
        let mut messages: Vec<_> = self.pool.all_messages().filter(own).collect();
        messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
        messages
    }

    /// The enums of the package.
    pub(crate) fn enums(&self) -> Vec<EnumDescriptor> {
        let mut enums: Vec<_> = self
            .pool
            .all_enums()
            .filter(|e| e.package_name() == self.name)
            .collect();
        enums.sort_by(|a, b| a.full_name().cmp(b.full_name()));
        enums
    }
}

impl Service {
    fn new(descriptor: ServiceDescriptor) -> Fallible<Self> {
        let noun = descriptor
            .name()
            .strip_suffix("Service")
            .ok_or_else(|| format!("{}: the name of a service ends in Service", descriptor.full_name()))?
            .to_owned();
        let rpcs = descriptor.methods().map(Rpc::new).collect::<Fallible<_>>()?;
        Ok(Self { descriptor, noun, rpcs })
    }
}

impl Rpc {
    fn new(descriptor: MethodDescriptor) -> Fallible<Self> {
        let rule = extension(
            descriptor.parent_pool(),
            descriptor.options(),
            "campanile.options.v1.method",
        )
        .ok_or_else(|| {
            fault(
                &descriptor,
                "has no (campanile.options.v1.method), so nobody knows who may call it",
            )
        })?;
        let http = extension(descriptor.parent_pool(), descriptor.options(), "google.api.http");
        let Some(http) = http else {
            // A request of many messages has no form in HTTP with JSON.
            if !descriptor.is_client_streaming() {
                return Err(fault(&descriptor, "has no (google.api.http)"));
            }
            return Ok(Self {
                descriptor,
                rule,
                bindings: Vec::new(),
            });
        };
        let mut bindings = vec![Binding::new(&descriptor, &http, descriptor.name().to_owned())?];
        for extra in list(&http, "additional_bindings") {
            let extra = extra.as_message().ok_or("additional_bindings hold messages")?;
            bindings.push(Binding::new(&descriptor, extra, String::new())?);
        }
        for at in 1..bindings.len() {
            bindings[at].name = suffixed(&bindings[0], &bindings[at], at);
        }
        Ok(Self {
            descriptor,
            rule,
            bindings,
        })
    }

    /// The message that this rpc changes by mask, with the request's field that holds it.
    pub(crate) fn updates(&self) -> Option<FieldDescriptor> {
        let input = self.descriptor.input();
        input.get_field_by_name("update_mask")?;
        self.bindings.iter().find_map(|binding| match &binding.body {
            BodyRule::Field(field) => Some(field.clone()),
            BodyRule::None | BodyRule::Whole => None,
        })
    }

    pub(crate) fn side_effects(&self) -> bool {
        let options = self.descriptor.method_descriptor_proto().options.clone();
        options.unwrap_or_default().idempotency_level() != prost_types::method_options::IdempotencyLevel::NoSideEffects
    }

    pub(crate) fn deprecated(&self) -> bool {
        let options = self.descriptor.method_descriptor_proto().options.as_ref();
        options.is_some_and(prost_types::MethodOptions::deprecated)
    }

    pub(crate) fn success_status(&self) -> u16 {
        match number(&self.rule, "success_status") {
            0 => 200,
            status => u16::try_from(status).unwrap_or(200),
        }
    }

    pub(crate) fn body_bytes_max(&self) -> i64 {
        match number(&self.rule, "body_bytes_max") {
            0 => 1 << 20,
            bytes => bytes,
        }
    }
}

impl Binding {
    fn new(rpc: &MethodDescriptor, http: &DynamicMessage, name: String) -> Fallible<Self> {
        let (verb, path) = ["get", "put", "post", "delete", "patch"]
            .iter()
            .find_map(|verb| {
                let path = text(http, verb);
                (!path.is_empty()).then(|| (verb.to_uppercase(), path))
            })
            .or_else(|| {
                let custom = http.get_field_by_name("custom")?;
                let custom = custom.as_message()?;
                let path = text(custom, "path");
                (!path.is_empty()).then(|| (text(custom, "kind"), path))
            })
            .ok_or_else(|| fault(rpc, "has a (google.api.http) without a path"))?;
        PathTemplate::parse(&path, Grammar::default()).map_err(|problem| fault(rpc, &format!("{path}: {problem}")))?;
        let template = Template::parse(&path).map_err(|problem| fault(rpc, &problem))?;
        let field = |message: &MessageDescriptor, name: &str| {
            message
                .get_field_by_name(name)
                .ok_or_else(|| fault(rpc, &format!("{} has no field {name}", message.name())))
        };
        let body = match text(http, "body").as_str() {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            name => BodyRule::Field(field(&rpc.input(), name)?),
        };
        let response_body = match text(http, "response_body").as_str() {
            "" => None,
            name => Some(field(&rpc.output(), name)?),
        };
        Ok(Self {
            name,
            verb,
            path,
            template,
            body,
            response_body,
        })
    }
}

/// An additional binding is named by what its path says first that the main one's does not.
fn suffixed(main: &Binding, extra: &Binding, at: usize) -> String {
    let words = |path: &str| -> Vec<String> {
        let parts = path
            .split(['/', ':'])
            .filter(|part| !part.is_empty() && !part.contains(['{', '*']));
        parts.map(str::to_owned).collect()
    };
    let known = words(&main.path);
    let word = words(&extra.path).into_iter().find(|word| !known.contains(word));
    match word {
        Some(word) => format!("{}In{}", main.name, camel(&word)),
        None => format!("{}By{}{at}", main.name, camel(&extra.verb)),
    }
}

pub(crate) fn fault(rpc: &MethodDescriptor, problem: &str) -> Box<dyn Error> {
    format!("{}: rpc {} {problem}", rpc.parent_file().name(), rpc.full_name()).into()
}

/// A custom option, when it is set.
#[expect(
    clippy::needless_pass_by_value,
    reason = "a descriptor hands its options out by value"
)]
pub(crate) fn extension(pool: &DescriptorPool, options: DynamicMessage, name: &str) -> Option<DynamicMessage> {
    let extension = pool.get_extension_by_name(name)?;
    if !options.has_extension(&extension) {
        return None;
    }
    options.get_extension(&extension).as_message().cloned()
}

pub(crate) fn text(message: &DynamicMessage, field: &str) -> String {
    let value = message.get_field_by_name(field);
    value
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

pub(crate) fn number(message: &DynamicMessage, field: &str) -> i64 {
    match message.get_field_by_name(field).as_deref() {
        Some(Value::I32(number) | Value::EnumNumber(number)) => i64::from(*number),
        Some(Value::I64(number)) => *number,
        Some(Value::U64(number)) => i64::try_from(*number).unwrap_or(i64::MAX),
        _ => 0,
    }
}

pub(crate) fn flag(message: &DynamicMessage, field: &str) -> bool {
    message
        .get_field_by_name(field)
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
}

pub(crate) fn list(message: &DynamicMessage, field: &str) -> Vec<Value> {
    let value = message.get_field_by_name(field);
    value
        .and_then(|value| value.as_list().map(<[Value]>::to_vec))
        .unwrap_or_default()
}

/// The name of an enum value that an option holds, without the enum's prefix and in camel case.
pub(crate) fn variant(pool: &DescriptorPool, of: &str, prefix: &str, number: i64) -> Option<String> {
    let value = pool.get_enum_by_name(of)?.get_value(i32::try_from(number).ok()?)?;
    Some(camel(&value.name().trim_start_matches(prefix).to_lowercase()))
}

pub(crate) fn message_rule(message: &MessageDescriptor, rule: &str) -> bool {
    extension(message.parent_pool(), message.options(), "campanile.options.v1.message")
        .is_some_and(|options| flag(&options, rule))
}

pub(crate) fn inline_oneof(message: &MessageDescriptor) -> bool {
    message_rule(message, "inline_oneof")
}

pub(crate) fn inline_map(message: &MessageDescriptor) -> bool {
    message_rule(message, "inline_map")
}

pub(crate) fn secret(field: &FieldDescriptor) -> bool {
    field_rule(field).is_some_and(|rule| flag(&rule, "secret"))
}

pub(crate) fn field_rule(field: &FieldDescriptor) -> Option<DynamicMessage> {
    extension(field.parent_pool(), field.options(), "campanile.options.v1.field")
}

/// Whether a field has this `google.api.field_behavior`: 3 is output-only, 4 input-only, 5 immutable.
pub(crate) fn behaves(field: &FieldDescriptor, behavior: i32) -> bool {
    let Some(extension) = field.parent_pool().get_extension_by_name("google.api.field_behavior") else {
        return false;
    };
    let options = field.options();
    let values = options.get_extension(&extension);
    values
        .as_list()
        .is_some_and(|values| values.iter().any(|value| value.as_enum_number() == Some(behavior)))
}

pub(crate) fn output_only(field: &FieldDescriptor) -> bool {
    behaves(field, 3)
}

pub(crate) fn input_only(field: &FieldDescriptor) -> bool {
    behaves(field, 4)
}

/// The word of an enum value in JSON.
pub(crate) fn word(value: &EnumValueDescriptor) -> String {
    let rule = extension(value.parent_pool(), value.options(), "campanile.options.v1.value");
    match rule.map(|rule| text(&rule, "word")) {
        Some(word) if !word.is_empty() => word,
        _ => suffix(value).to_lowercase(),
    }
}

/// The name of an enum value without the enum's prefix.
pub(crate) fn suffix(value: &EnumValueDescriptor) -> String {
    let prefix = format!("{}_", snake(value.parent_enum().name()).to_uppercase());
    let name = value.name();
    name.strip_prefix(&prefix).unwrap_or(name).to_owned()
}

/// The comment before something in a file, without the space that follows the slashes.
pub(crate) fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let comment = location.map(|location| location.leading_comments()).unwrap_or_default();
    let lines: Vec<&str> = comment
        .lines()
        .map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end())
        .collect();
    lines.join("\n").trim().to_owned()
}

/// `ListUsersRequest` as `list_users_request`.
pub(crate) fn snake(name: &str) -> String {
    let mut snake = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// `choice_text` as `ChoiceText`.
pub(crate) fn camel(name: &str) -> String {
    let word = |word: &str| {
        word.chars()
            .take(1)
            .flat_map(char::to_uppercase)
            .chain(word.chars().skip(1))
            .collect()
    };
    name.split(['_', '-']).map(word).collect::<Vec<String>>().concat()
}

/// The path of a message's or enum's type below the module of its package.
pub(crate) fn rust_type(full_name: &str, package: &str) -> String {
    let inside = full_name.trim_start_matches(package).trim_start_matches('.');
    let mut parts: Vec<&str> = inside.split('.').collect();
    let last = parts.pop().unwrap_or_default().to_owned();
    let mut modules: Vec<String> = parts.into_iter().map(snake).collect();
    modules.push(last);
    modules.join("::")
}

/// A field's name as Rust writes it.
pub(crate) fn ident(name: &str) -> String {
    const KEYWORDS: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do", "dyn", "else", "enum",
        "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
        "move", "mut", "override", "priv", "pub", "ref", "return", "static", "struct", "trait", "true", "try", "type",
        "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
    ];
    if KEYWORDS.contains(&name) {
        format!("r#{name}")
    } else {
        name.to_owned()
    }
}
