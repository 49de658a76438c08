//! How one public API looks over REST, as data: paths, credentials, envelopes, names and formats. A dialect never
//! changes what an rpc does.

use super::error;
use crate::model::{Error, Reason};

/// One way of speaking REST. Both doors of the JSON layer, reader and writer, take it as an argument.
#[derive(Debug)]
pub struct Dialect {
    /// The name in logs and settings.
    pub name: &'static str,
    /// Where the contract's paths are served.
    pub paths: PathRule,
    /// Where credentials are looked for, in this order.
    pub credentials: &'static [Credential],
    /// How a call names the app it means, beside its credential.
    pub tenant: Tenant,
    /// The header with the uid that a call acts for.
    pub on_behalf_of: &'static str,
    /// What stands around a successful answer.
    pub envelope: Envelope,
    /// Names and defaults of pages.
    pub paging: Paging,
    /// How instants are written; every dialect reads RFC 3339 and unix seconds.
    pub timestamps: TimestampFormat,
    /// How enum values are written; every dialect reads the word and the proto name.
    pub enums: EnumCase,
    /// The status of a success, from the one that the contract names.
    pub success_status: fn(u16) -> u16,
    /// The status of a refusal or failure.
    pub error_status: fn(Reason) -> u16,
    /// Appends the body of a refusal or failure.
    pub error_body: fn(&Error, &mut Vec<u8>),
}

/// Serves paths that begin with `from` under `to` instead. `to` may hold one variable for the tenant.
#[derive(Clone, Copy, Debug)]
pub struct PathRule {
    /// The contract's prefix.
    pub from: &'static str,
    /// The dialect's prefix.
    pub to: &'static str,
}

impl PathRule {
    /// The dialect's path of a contract's path; `None` when the dialect does not serve it.
    #[must_use]
    pub fn apply(&self, path: &str) -> Option<String> {
        path.strip_prefix(self.from).map(|rest| format!("{}{rest}", self.to))
    }
}

/// What a credential proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialKind {
    /// A back end of an app.
    ApiKey,
    /// The operator of the service.
    OperatorKey,
    /// An end user.
    AuthToken,
}

/// Where a credential stands in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a header of this name, in lower case.
    Header(&'static str),
    /// In `authorization`, after `Bearer `.
    Bearer,
    /// In a cookie of this name.
    Cookie(&'static str),
    /// In a query parameter of this name.
    Query(&'static str),
}

/// A credential and its place.
#[derive(Clone, Copy, Debug)]
pub struct Credential {
    /// What it proves.
    pub kind: CredentialKind,
    /// Where it stands.
    pub source: Source,
}

/// How a call names its app. The app is always the key's; this only cross-checks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenant {
    /// In a header, if at all.
    OptionalHeader(&'static str),
    /// In a header that has to be there.
    RequiredHeader(&'static str),
    /// In the path variable of this name, which [`PathRule::to`] holds.
    Path(&'static str),
}

/// What stands around a successful answer.
#[derive(Clone, Copy, Debug)]
pub struct Envelope {
    /// The key of a single answer; without one the answer stands alone.
    pub single: Option<&'static str>,
    /// The key of a list's rows.
    pub list: &'static str,
    /// The key of a list's position; without one it is left out.
    pub meta: Option<&'static str>,
    /// The key of a list's page numbers; without one they are left out.
    pub pagination: Option<&'static str>,
}

/// Names and defaults of pages.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    /// The contract's names of parameters and of keys in `meta` and `pagination`, with the dialect's names for them.
    pub names: &'static [(&'static str, &'static str)],
    /// The rows of a page when the request does not say; without one the rpc's own default holds.
    pub limit_default: Option<i32>,
    /// The most rows of a page; the contract's bound holds as well.
    pub limit_max: i32,
}

impl Paging {
    /// The dialect's name.
    #[must_use]
    pub fn outward<'n>(&self, name: &'n str) -> &'n str {
        self.names
            .iter()
            .find(|(own, _)| *own == name)
            .map_or(name, |(_, outward)| *outward)
    }

    /// The contract's name; `None` for a name that the dialect has replaced by another.
    #[must_use]
    pub fn inward<'n>(&self, name: &'n str) -> Option<&'n str> {
        match self.names.iter().find(|(_, outward)| *outward == name) {
            Some((own, _)) => Some(own),
            None if self.names.iter().any(|(own, _)| *own == name) => None,
            None => Some(name),
        }
    }
}

/// How instants are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampFormat {
    /// RFC 3339 in UTC with three decimals.
    Iso,
    /// Whole seconds since the epoch, as a number.
    UnixSeconds,
    /// Milliseconds since the epoch, as a number.
    UnixMillis,
}

/// How enum values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnumCase {
    /// The contract's word.
    Word,
    /// The suffix of the proto name, in upper case.
    Upper,
    /// The whole proto name.
    Proto,
}

/// The dialect of the public campaigns API.
pub static CAMPAIGNS: Dialect = Dialect {
    name: "campaigns",
    paths: PathRule { from: "", to: "" },
    credentials: &[
        Credential {
            kind: CredentialKind::ApiKey,
            source: Source::Header("apikey"),
        },
        Credential {
            kind: CredentialKind::OperatorKey,
            source: Source::Header("operatorkey"),
        },
        Credential {
            kind: CredentialKind::AuthToken,
            source: Source::Header("authtoken"),
        },
    ],
    tenant: Tenant::OptionalHeader("appid"),
    on_behalf_of: "onbehalfof",
    envelope: Envelope {
        single: Some("data"),
        list: "data",
        meta: Some("meta"),
        pagination: Some("pagination"),
    },
    paging: Paging {
        names: &[],
        limit_default: None,
        limit_max: 100,
    },
    timestamps: TimestampFormat::Iso,
    enums: EnumCase::Word,
    success_status: |status| status,
    error_status: Reason::http_status,
    error_body: error::write_envelope,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_name_is_no_longer_known() {
        let paging = Paging {
            names: &[("limit", "pageSize")],
            limit_default: None,
            limit_max: 100,
        };
        assert_eq!(paging.inward("pageSize"), Some("limit"));
        assert_eq!(paging.inward("limit"), None);
        assert_eq!(paging.inward("sort"), Some("sort"));
        assert_eq!(paging.outward("limit"), "pageSize");
    }

    #[test]
    fn paths_outside_the_prefix_are_not_served() {
        let rule = PathRule {
            from: "/v3/campaigns",
            to: "/api/{tenant}",
        };
        assert_eq!(
            rule.apply("/v3/campaigns/channels"),
            Some("/api/{tenant}/channels".to_owned())
        );
        assert_eq!(rule.apply("/v3/users"), None);
    }
}
