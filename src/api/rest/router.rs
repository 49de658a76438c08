//! From an HTTP method and a path to an rpc. A literal segment wins over a parameter for every method, so a wrong method
//! there is 405; nothing is redirected, and a slash at the end is another path.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::Method as Verb;
use percent_encoding::percent_decode_str;

use super::template::{Segment, Template, Variable};
use super::{Dialect, Request, Response};
use crate::api::Method;

/// Reads a request, calls the handler and writes its answer; the values are those of the path's variables, in order.
pub type Handler = Arc<dyn Fn(Request, Vec<String>) -> BoxFuture<'static, Response> + Send + Sync>;

/// One binding of an rpc to HTTP, in one dialect.
#[derive(Clone)]
pub struct Route {
    /// The rpc.
    pub method: &'static Method,
    /// The HTTP method.
    pub verb: Verb,
    /// The path template as the dialect serves it.
    pub path: String,
    /// The dialect.
    pub dialect: &'static Dialect,
    /// What answers.
    pub handler: Handler,
    /// What answers instead when the body is a form with files.
    pub form: Option<Arc<Route>>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.verb, self.path, self.method.grpc_path)
    }
}

/// The route of a request, with the values of its path's variables.
#[derive(Clone, Debug)]
pub struct Match {
    /// The route.
    pub route: Arc<Route>,
    /// The app that the path names, in dialects that have it there.
    pub tenant: Option<String>,
    values: Vec<String>,
}

impl Match {
    /// The same for a body of this content type.
    #[must_use]
    pub fn of_type(mut self, content_type: &[u8]) -> Self {
        const FORM: &[u8] = b"multipart/form-data";
        let start = content_type.get(..FORM.len()).unwrap_or_default();
        if start.eq_ignore_ascii_case(FORM)
            && let Some(form) = &self.route.form
        {
            self.route = Arc::clone(form);
        }
        self
    }

    /// Answers the request. The layers in front have put a [`crate::api::CallHead`] into its extensions.
    pub fn call(self, request: Request) -> BoxFuture<'static, Response> {
        (self.route.handler)(request, self.values)
    }
}

/// What a router found.
#[derive(Clone, Debug)]
pub enum Found {
    /// A route.
    Route(Match),
    /// The path exists with other methods, which are listed as the `Allow` header wants them.
    MethodNotAllowed {
        /// Such as `GET, HEAD, PUT`.
        allow: String,
    },
    /// No such path.
    NotFound,
}

/// All routes, as a trie.
#[derive(Debug, Default)]
pub struct Router {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    literals: BTreeMap<String, Node>,
    one: Option<Box<Node>>,
    rest: Option<Box<Node>>,
    /// What ends here, by custom verb; the empty verb is none.
    ends: BTreeMap<String, BTreeMap<String, End>>,
}

#[derive(Debug)]
struct End {
    route: Arc<Route>,
    variables: Vec<Variable>,
    tenant: Option<usize>,
    /// Where `**` begins.
    rest: Option<usize>,
}

impl Router {
    /// A router of these routes.
    ///
    /// # Errors
    /// When a template cannot be read, or two routes match the same requests.
    pub fn new(routes: Vec<Route>) -> Result<Self, String> {
        let mut router = Self::default();
        for route in routes {
            router.insert(route)?;
        }
        Ok(router)
    }

    fn insert(&mut self, route: Route) -> Result<(), String> {
        let Template {
            segments,
            mut variables,
            verb,
        } = Template::parse(&route.path)?;
        let tenant = match route.dialect.tenant {
            super::dialect::Tenant::Path(name) => variables.iter().position(|variable| variable.field == name),
            _ => None,
        };
        let tenant = tenant.map(|at| variables.remove(at).start);
        let rest = segments.iter().position(|segment| *segment == Segment::Rest);
        let mut node = &mut self.root;
        for segment in segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text).or_default(),
                Segment::One => node.one.get_or_insert_default(),
                Segment::Rest => node.rest.get_or_insert_default(),
            };
        }
        let ends = node.ends.entry(verb.unwrap_or_default()).or_default();
        let method = route.verb.as_str().to_owned();
        let problem = format!("{} {} is bound twice", route.verb, route.path);
        let end = End {
            route: Arc::new(route),
            variables,
            tenant,
            rest,
        };
        match ends.insert(method, end) {
            None => Ok(()),
            Some(_) => Err(problem),
        }
    }

    /// The route of a request's method and raw path. `HEAD` finds what `GET` would.
    #[must_use]
    pub fn find(&self, verb: &Verb, path: &str) -> Found {
        let Some(inside) = path.strip_prefix('/') else {
            return Found::NotFound;
        };
        let mut segments: Vec<&str> = inside.split('/').collect();
        let with_verb = segments.last().and_then(|last| last.rsplit_once(':'));
        if let Some((last, custom)) = with_verb {
            let whole = segments.pop();
            segments.push(last);
            if let Some(ends) = self.root.walk(&segments, custom) {
                return found(ends, verb, &segments);
            }
            segments.pop();
            segments.extend(whole);
        }
        match self.root.walk(&segments, "") {
            Some(ends) => found(ends, verb, &segments),
            None => Found::NotFound,
        }
    }
}

impl Node {
    /// What ends at this path, literals before parameters.
    fn walk(&self, segments: &[&str], custom: &str) -> Option<&BTreeMap<String, End>> {
        let Some((first, others)) = segments.split_first() else {
            return self.ends.get(custom);
        };
        if first.is_empty() {
            return None;
        }
        let literal = self.literals.get(*first);
        literal
            .and_then(|node| node.walk(others, custom))
            .or_else(|| self.one.as_ref().and_then(|node| node.walk(others, custom)))
            .or_else(|| self.rest.as_ref().and_then(|node| node.ends.get(custom)))
    }
}

fn found(ends: &BTreeMap<String, End>, verb: &Verb, segments: &[&str]) -> Found {
    let end = match ends.get(verb.as_str()) {
        None if verb == Verb::HEAD => ends.get("GET").filter(|end| !end.route.method.server_streaming),
        exact => exact,
    };
    let Some(end) = end else {
        return Found::MethodNotAllowed { allow: allow(ends) };
    };
    let text = |start: usize, to: usize| {
        let parts = segments.get(start..to).unwrap_or_default();
        let decoded = parts.iter().map(|part| percent_decode_str(part).decode_utf8_lossy());
        decoded.collect::<Vec<_>>().join("/")
    };
    let values = end.variables.iter().map(|variable| {
        let open = end.rest.is_some_and(|rest| rest < variable.end);
        text(variable.start, if open { segments.len() } else { variable.end })
    });
    Found::Route(Match {
        route: Arc::clone(&end.route),
        tenant: end.tenant.map(|at| text(at, at + 1)),
        values: values.collect(),
    })
}

fn allow(ends: &BTreeMap<String, End>) -> String {
    let mut methods: Vec<&str> = ends.keys().map(String::as_str).collect();
    let readable = ends.get("GET").is_some_and(|end| !end.route.method.server_streaming);
    if readable {
        methods.push("HEAD");
        methods.sort_unstable();
    }
    methods.join(", ")
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::api::doors;
    use crate::api::rest::Body;
    use crate::api::rest::dialect::CAMPAIGNS;

    fn route(verb: &Verb, path: &str) -> Route {
        Route {
            method: doors::METHODS[0],
            verb: verb.clone(),
            path: path.to_owned(),
            dialect: &CAMPAIGNS,
            form: None,
            handler: Arc::new(|_, _| async { Response::new(Body::empty()) }.boxed()),
        }
    }

    fn router(paths: &[&str]) -> Router {
        Router::new(paths.iter().map(|path| route(&Verb::GET, path)).collect()).unwrap()
    }

    fn values(router: &Router, path: &str) -> Option<(String, Vec<String>)> {
        match router.find(&Verb::GET, path) {
            Found::Route(found) => Some((found.route.path.clone(), found.values)),
            Found::MethodNotAllowed { .. } | Found::NotFound => None,
        }
    }

    fn found(path: &str, values: &[&str]) -> Option<(String, Vec<String>)> {
        Some((
            path.to_owned(),
            values.iter().map(|value| (*value).to_owned()).collect(),
        ))
    }

    #[test]
    fn variables_take_one_segment_several_or_the_rest() {
        let router = router(&[
            "/v3/{name=shelves/*}/books/{book}",
            "/v3/files/{path=**}",
            "/v3/files/{id}/meta:get",
        ]);
        assert_eq!(
            values(&router, "/v3/shelves/s%201/books/b"),
            found("/v3/{name=shelves/*}/books/{book}", &["shelves/s 1", "b"])
        );
        assert_eq!(
            values(&router, "/v3/files/a/b/c"),
            found("/v3/files/{path=**}", &["a/b/c"])
        );
        assert_eq!(
            values(&router, "/v3/files/a/meta"),
            found("/v3/files/{path=**}", &["a/meta"])
        );
        assert_eq!(
            values(&router, "/v3/files/a/meta:get"),
            found("/v3/files/{id}/meta:get", &["a"])
        );
        assert_eq!(values(&router, "/v3/files"), None);
        assert_eq!(values(&router, "/v3/files/"), None);
    }

    #[test]
    fn a_literal_that_leads_nowhere_gives_way() {
        let router = router(&["/users/availability", "/users/{uid}/feed", "/users/{uid}"]);
        assert_eq!(
            values(&router, "/users/availability"),
            found("/users/availability", &[])
        );
        assert_eq!(
            values(&router, "/users/availability/feed"),
            found("/users/{uid}/feed", &["availability"])
        );
    }

    #[test]
    fn a_path_is_bound_once_for_each_method() {
        let twice = Router::new(vec![route(&Verb::GET, "/a/{b}"), route(&Verb::GET, "/a/{c}")]);
        assert_eq!(twice.unwrap_err(), "GET /a/{c} is bound twice");
        let methods = Router::new(vec![route(&Verb::GET, "/a/{b}"), route(&Verb::PUT, "/a/{c}")]).unwrap();
        let Found::MethodNotAllowed { allow } = methods.find(&Verb::POST, "/a/x") else {
            panic!("it is not allowed");
        };
        assert_eq!(allow, "GET, HEAD, PUT");
    }
}
