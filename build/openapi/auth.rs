//! Who may call an rpc, as its options say. It decides nothing about how that is shown.

use prost_reflect::{DynamicMessage, Value};

use crate::contract::{Rpc, list, number};

/// What happens to a call that names a user to act for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnBehalfOf {
    Optional,
    Required,
    BadRequest,
    Forbidden,
}

/// The rule of an rpc about the user that is acted for.
pub(crate) fn on_behalf_of(rpc: &Rpc) -> OnBehalfOf {
    match rule(rpc).map(|auth| number(&auth, "on_behalf_of")) {
        Some(1) => OnBehalfOf::Optional,
        Some(2) => OnBehalfOf::Required,
        Some(4) => OnBehalfOf::Forbidden,
        _ => OnBehalfOf::BadRequest,
    }
}

/// The kinds of credential that an rpc takes: the operator's, an app's, or none at all.
pub(crate) struct Callers {
    pub(crate) operator: bool,
    pub(crate) app: bool,
    pub(crate) public: bool,
}

/// Who is let in.
pub(crate) fn callers(rpc: &Rpc) -> Callers {
    let kinds = rule(rpc).map(|auth| list(&auth, "callers")).unwrap_or_default();
    let has = |wanted: &[i32]| {
        kinds
            .iter()
            .filter_map(Value::as_enum_number)
            .any(|kind| wanted.contains(&kind))
    };
    Callers {
        operator: has(&[1]),
        app: has(&[2, 3]),
        public: has(&[4]),
    }
}

fn rule(rpc: &Rpc) -> Option<DynamicMessage> {
    let rule = rpc.rule.get_field_by_name("auth")?;
    rule.as_message().cloned()
}
