//! What the generated code calls, under one name. Nothing is defined here.

pub use super::binding::{Answer, Binding, BodyRule};
pub use super::grpc::{self, GrpcEvents};
pub use super::http;
pub use super::messages::Messages;
pub use super::sse::{Event, Events};
pub use super::weight::{self, Inner, Part, Weighed, Weight};
pub use crate::api::check::rules::{self, BytesRule, Format, NumberRule, Pattern, TextRule, compile, float_key};
pub use crate::api::check::{Checked, Field, Problems, update};
pub use crate::api::method::{CallerKind, OnBehalfOf, RateClass};
pub use crate::api::rest::dialect::Dialect;
pub use crate::api::rest::free::{AnyJson, List, Object};
pub use crate::api::rest::json::Json;
pub use crate::api::rest::kind::{
    Bool, Bytes, Enum, F32, F64, I32, I64, Instant, KeyKind, Kind, Mask, Msg, Span, Text, U32, U64, Word, Worded,
    Words, WriteKind, take_inline, write_list, write_map,
};
pub use crate::api::rest::query;
pub use crate::api::rest::read::{self, Incoming, InlineOneof, Outcome};
pub use crate::api::rest::router::Route;
pub use crate::api::rest::writer::{Outgoing, Writer};
pub use crate::api::{Call, Method, Reply};
pub use crate::model::{Reason, Result};
pub use serde::de::{Deserializer, MapAccess};
