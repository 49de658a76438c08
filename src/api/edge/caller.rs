//! Who calls: credentials to a [`Caller`], the app's cross-checks, and the user that is acted for. It never looks at a
//! body, and a key is only ever compared by its digest.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::request::Parts;
use http::{HeaderMap, header};
use moka::sync::Cache;
use percent_encoding::percent_decode_str;

use crate::api::Method;
use crate::api::method::{CallerKind, OnBehalfOf};
use crate::api::rest::Dialect;
use crate::api::rest::dialect::{CredentialKind, Source, Tenant};
use crate::model::app::{KeyDigest, KeyFacts};
use crate::model::user::uid_in;
use crate::model::{Caller, Error, Reason, Result, Scope, Violation};

/// How long a key that was found is trusted. Revocation has to bite within five seconds, the time of the lookup included.
const KNOWN_FOR: Duration = Duration::from_secs(4);
/// How long a key that was not found stays unknown.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Keys remembered, known and unknown apart, so that made-up keys cannot push out real ones.
const REMEMBERED_MAX: u64 = 10_000;

/// Finds the key with this digest; `None` when there is none or it is revoked.
pub type FindKey =
    Arc<dyn Fn(KeyDigest) -> Pin<Box<dyn Future<Output = Result<Option<KeyFacts>>> + Send>> + Send + Sync>;

/// What a request's head presents.
#[derive(Clone, Debug)]
pub(crate) struct Presented<'a> {
    apikey: Option<Cow<'a, str>>,
    operatorkey: Option<Cow<'a, str>>,
    app: Option<&'a str>,
    host: Option<&'a str>,
    dialect: &'static Dialect,
}

impl<'a> Presented<'a> {
    /// Looks where the dialect has its credentials; `tenant` is the app that the path names.
    ///
    /// # Errors
    /// Bad request, when a credential is sent twice, two kinds of it, or the app is not named where it has to be.
    pub(crate) fn read(head: &'a Parts, dialect: &'static Dialect, tenant: Option<&'a str>) -> Result<Self> {
        let (mut apikey, mut operatorkey) = (None, None);
        for credential in dialect.credentials {
            let place = match credential.kind {
                CredentialKind::ApiKey => &mut apikey,
                CredentialKind::OperatorKey => &mut operatorkey,
                // No rpc of this build lets end users in.
                CredentialKind::AuthToken => continue,
            };
            if place.is_none() {
                *place = find(head, credential.source)?;
            }
        }
        if apikey.is_some() && operatorkey.is_some() {
            let rule = "must not be sent together with an API key";
            return Err(Error::invalid(vec![Violation::new("operatorkey", rule)]));
        }
        let app = match dialect.tenant {
            Tenant::Path(_) => tenant,
            Tenant::OptionalHeader(name) | Tenant::RequiredHeader(name) => once(&head.headers, name)?,
        };
        if let (Tenant::RequiredHeader(name), None) = (dialect.tenant, app) {
            return Err(Error::invalid(vec![Violation::new(name, "is required")]));
        }
        let host = head.uri.host().or_else(|| {
            let host = head.headers.get(header::HOST)?.to_str().ok()?;
            Some(host.split(':').next().unwrap_or(host))
        });
        Ok(Self {
            apikey,
            operatorkey,
            app,
            host,
            dialect,
        })
    }
}

fn find<'a>(head: &'a Parts, source: Source) -> Result<Option<Cow<'a, str>>> {
    let text = match source {
        Source::Header(name) => once(&head.headers, name)?,
        Source::Bearer => once(&head.headers, "authorization")?.and_then(|value| value.strip_prefix("Bearer ")),
        Source::Cookie(name) => once(&head.headers, "cookie")?.and_then(|cookies| {
            let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
            pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
        }),
        Source::Query(name) => head.uri.query().and_then(|query| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(own, _)| *own == name).map(|(_, value)| value)
        }),
    };
    let encoded = matches!(source, Source::Query(_));
    Ok(text.map(|text| {
        if encoded {
            percent_decode_str(text).decode_utf8_lossy()
        } else {
            text.into()
        }
    }))
}

/// The only value of a header. One that is not visible ASCII can be no name and no key of ours, so it reads as empty.
fn once<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next().map(|value| value.to_str().unwrap_or_default());
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Error::invalid(vec![Violation::new(name, "must be sent once")])),
    }
}

/// Settings of authentication.
#[derive(Clone, Default)]
pub struct Options {
    /// The operator's key; without it there are no operator calls.
    pub operator_key: Option<String>,
    /// Host name with `{appId}` and perhaps `{region}`.
    pub host_pattern: Option<String>,
    /// The word for `{region}`.
    pub region: String,
}

/// Turns credentials into callers.
pub(crate) struct Authenticator {
    find: FindKey,
    known: Cache<KeyDigest, Arc<KeyFacts>>,
    unknown: Cache<KeyDigest, ()>,
    operator: Option<KeyDigest>,
    /// What stands in a host name before and after the app's id.
    host: Option<(String, String)>,
}

impl Authenticator {
    /// An authenticator that asks `find` for keys it does not remember.
    pub(crate) fn new(find: FindKey, options: &Options) -> Self {
        let host = options.host_pattern.as_ref().and_then(|pattern| {
            let pattern = pattern.replace("{region}", &options.region).to_lowercase();
            let (before, after) = pattern.split_once("{appid}")?;
            Some((before.to_owned(), after.to_owned()))
        });
        let remember = |time| Cache::builder().max_capacity(REMEMBERED_MAX).time_to_live(time);
        Self {
            find,
            known: remember(KNOWN_FOR).build(),
            unknown: Cache::builder()
                .max_capacity(REMEMBERED_MAX)
                .time_to_live(UNKNOWN_FOR)
                .build(),
            operator: options.operator_key.as_deref().map(KeyDigest::of),
            host,
        }
    }

    /// The caller, if the rpc lets it in.
    ///
    /// # Errors
    /// Unauthenticated: no credential, an unknown one, or one of another app than the one named. Forbidden: the rpc is
    /// not for this kind of caller.
    pub(crate) async fn authenticate(&self, presented: &Presented<'_>, method: &Method) -> Result<Caller> {
        let (caller, kind) = if let Some(key) = &presented.operatorkey {
            self.check_operator(key)?;
            (Caller::Operator, CallerKind::Operator)
        } else if let Some(key) = &presented.apikey {
            let facts = self.find(KeyDigest::of(key)).await?;
            self.cross_check(presented, facts.slug.as_str())?;
            let kind = match facts.scope {
                Scope::FullAccess => CallerKind::FullAccess,
                Scope::AuthOnly => CallerKind::AuthOnly,
            };
            let KeyFacts { app, key, scope, .. } = *facts;
            (Caller::App { app, key, scope }, kind)
        } else if method.callers.contains(&CallerKind::Public) {
            (Caller::Public, CallerKind::Public)
        } else {
            return Err(missing(method, presented.dialect));
        };
        if method.callers.contains(&kind) || method.callers.contains(&CallerKind::Public) {
            Ok(caller)
        } else {
            Err(out_of_reach(kind, method))
        }
    }

    fn check_operator(&self, key: &str) -> Result<()> {
        let presented = KeyDigest::of(key);
        let equal = |own: &KeyDigest| verify_slices_are_equal(own.as_bytes(), presented.as_bytes()).is_ok();
        if self.operator.as_ref().is_some_and(equal) {
            return Ok(());
        }
        let problem = if self.operator.is_some() {
            "operatorkey is not the operator's key"
        } else {
            "operatorkey is not the operator's key: this server has none, set CAMPANILE_OPERATOR_KEY"
        };
        Err(Error::new(Reason::Unauthorized, problem))
    }

    async fn find(&self, digest: KeyDigest) -> Result<Arc<KeyFacts>> {
        let refused = || Error::new(Reason::Unauthorized, "apikey is unknown or revoked");
        if let Some(facts) = self.known.get(&digest) {
            return Ok(facts);
        }
        if self.unknown.contains_key(&digest) {
            return Err(refused());
        }
        match (self.find)(digest).await? {
            Some(facts) => {
                let facts = Arc::new(facts);
                self.known.insert(digest, Arc::clone(&facts));
                Ok(facts)
            }
            None => {
                self.unknown.insert(digest, ());
                Err(refused())
            }
        }
    }

    /// The app that a request names beside its key has to be the key's.
    fn cross_check(&self, presented: &Presented<'_>, own: &str) -> Result<()> {
        let differs = |place: &str| {
            let problem = format!("apikey belongs to another app than the {place} names");
            Err(Error::new(Reason::Unauthorized, problem))
        };
        if presented.app.is_some_and(|named| named != own) {
            return differs("request");
        }
        let named = self
            .host
            .as_ref()
            .zip(presented.host)
            .and_then(|((before, after), host)| {
                let host = host.to_lowercase();
                let named = host.strip_prefix(before.as_str())?.strip_suffix(after.as_str())?;
                (!named.is_empty() && !named.contains('.')).then(|| named.to_owned())
            });
        if named.is_some_and(|named| named != own) {
            return differs("host name");
        }
        Ok(())
    }
}

fn missing(method: &Method, dialect: &Dialect) -> Error {
    let kind = if method.callers == [CallerKind::Operator] {
        CredentialKind::OperatorKey
    } else {
        CredentialKind::ApiKey
    };
    let place = dialect.credentials.iter().find(|credential| credential.kind == kind);
    let message = match place.map(|credential| credential.source) {
        Some(Source::Header(name)) => format!("{name} header is required"),
        Some(Source::Bearer) => "authorization header is required".to_owned(),
        Some(Source::Cookie(name)) => format!("{name} cookie is required"),
        Some(Source::Query(name)) => format!("{name} parameter is required"),
        None => "a credential is required".to_owned(),
    };
    Error::new(Reason::Unauthorized, "").saying(message)
}

fn out_of_reach(kind: CallerKind, method: &Method) -> Error {
    let mut needed: Vec<_> = method.callers.iter().map(|kind| kind_word(*kind)).collect();
    needed.sort_unstable();
    let rule = format!("needs {}", needed.join(" or "));
    let problem = format!("{}/{} {rule}, received {}", method.service, method.rpc, kind_word(kind));
    Error::new(Reason::Forbidden, problem).with("rule", rule)
}

const fn kind_word(kind: CallerKind) -> &'static str {
    match kind {
        CallerKind::Operator => "the operator key",
        CallerKind::FullAccess => "an API key of scope fullAccess",
        CallerKind::AuthOnly => "an API key of scope authOnly",
        CallerKind::Public => "no credential",
    }
}

/// Whether the rpc forbids what the header asks.
///
/// # Errors
/// Forbidden, when the rpc refuses to act for a user so.
pub(crate) fn may_act_for(headers: &HeaderMap, method: &Method, dialect: &Dialect) -> Result<()> {
    let name = dialect.on_behalf_of;
    if method.on_behalf_of == OnBehalfOf::RefusedAsForbidden && headers.contains_key(name) {
        let rule = format!("acts for the app itself: {name} must not be sent");
        let problem = format!("{}/{} {rule}", method.service, method.rpc);
        return Err(Error::new(Reason::Forbidden, problem).with("rule", rule));
    }
    Ok(())
}

/// The uid to act for, lower-cased.
///
/// # Errors
/// Bad request, when the header is missing, not taken here, sent twice or malformed.
pub(crate) fn on_behalf_of(headers: &HeaderMap, method: &Method, dialect: &Dialect) -> Result<Option<String>> {
    let name = dialect.on_behalf_of;
    let refused = |rule: &str| Err(Error::invalid(vec![Violation::new(name, rule)]));
    match (method.on_behalf_of, once(headers, name)?) {
        (OnBehalfOf::Required, None) => refused("is required: the uid of the user to act for"),
        (OnBehalfOf::Optional | OnBehalfOf::RefusedAsBadRequest | OnBehalfOf::RefusedAsForbidden, None) => Ok(None),
        (OnBehalfOf::RefusedAsBadRequest | OnBehalfOf::RefusedAsForbidden, Some(_)) => {
            refused("must not be sent: the call acts for the app itself")
        }
        (OnBehalfOf::Required | OnBehalfOf::Optional, Some(value)) => match uid_in(name, value) {
            Ok(uid) => Ok(Some(uid.to_string())),
            Err(violation) => Err(Error::invalid(vec![violation])),
        },
    }
}
