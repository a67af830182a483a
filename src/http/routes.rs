//! Who may call which route: the one table. A route that is not in it is for `admin` alone.

use axum::http::Method;

use crate::domain::Scope;

/// What a caller must hold; `admin` suffices for everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Not even a credential.
    Nothing,
    /// Any scope.
    Any,
    One(Scope),
}

const INFER: Need = Need::One(Scope::Infer);
const READ: Need = Need::One(Scope::Read);
const ADMIN: Need = Need::One(Scope::Admin);

/// By method and path as the router has it.
const ROUTES: &[(&str, &str, Need)] = &[
    // Whoever restarts daemons that do not live has no key; it tells nothing but that.
    ("GET", "/v2/health/live", Need::Nothing),
    ("GET", "/v2", Need::Any),
    ("GET", "/v2/health/ready", Need::Any),
    ("GET", "/metrics", READ),
    // Whoever asks models must see which there are and what they take.
    ("GET", "/v2/models/{name}", Need::Any),
    ("GET", "/v2/models/{name}/versions/{version}", Need::Any),
    ("GET", "/v2/models/{name}/ready", Need::Any),
    ("GET", "/v2/models/{name}/versions/{version}/ready", Need::Any),
    ("POST", "/v2/models/{name}/infer", INFER),
    ("POST", "/v2/models/{name}/versions/{version}/infer", INFER),
    ("GET", "/v2/models/stats", READ),
    ("GET", "/v2/models/{name}/stats", READ),
    ("GET", "/v2/models/{name}/versions/{version}/stats", READ),
    ("POST", "/v2/repository/index", Need::Any),
    ("POST", "/v2/repository/models/{name}/load", ADMIN),
    ("POST", "/v2/repository/models/{name}/unload", ADMIN),
    // Each message is checked for what it asks.
    ("GET", "/v2/ws", Need::Any),
    ("GET", "/api/v1/instances", READ),
    ("POST", "/api/v1/instances/{id}/restart", ADMIN),
    ("GET", "/api/v1/leases", ADMIN),
    ("POST", "/api/v1/leases", ADMIN),
    ("DELETE", "/api/v1/leases/{lease}", ADMIN),
    ("GET", "/api/v1/lanes", READ),
    ("GET", "/api/v1/runs", Need::Any),
    ("GET", "/api/v1/models", Need::Any),
    ("POST", "/api/v1/models", ADMIN),
    ("GET", "/api/v1/models/{name}", Need::Any),
    ("DELETE", "/api/v1/models/{name}", ADMIN),
    ("POST", "/api/v1/models/{name}/verify", ADMIN),
    ("POST", "/api/v1/models/{name}/load", ADMIN),
    ("POST", "/api/v1/models/{name}/unload", ADMIN),
    ("POST", "/api/v1/blobs", ADMIN),
    ("POST", "/api/v1/reload", ADMIN),
    ("POST", "/api/v1/session", Need::Any),
    ("DELETE", "/api/v1/session", Need::Any),
    ("GET", "/api/v1/keys", ADMIN),
    ("POST", "/api/v1/keys", ADMIN),
    ("DELETE", "/api/v1/keys/{key}", ADMIN),
];

/// What a request wants its caller to hold; `path` is absent where no route fits, and then nothing is told but that.
pub(super) fn need(method: &Method, path: Option<&str>) -> Need {
    let Some(path) = path else { return Need::Any };
    // A route that takes GET takes HEAD.
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let route = ROUTES.iter().find(|(of, at, _)| *of == method && *at == path);
    route.map_or(ADMIN, |(.., need)| *need)
}

#[cfg(test)]
mod tests {
    use super::{ADMIN, Method, Need, ROUTES, need};

    /// The routes as the router's source has them.
    fn routed() -> Vec<(String, String)> {
        let source = concat!(include_str!("mod.rs"), include_str!("oip/mod.rs"));
        let source: String = source.split_whitespace().collect();
        let mut routes = Vec::new();
        for route in source.split(".route(\"").skip(1) {
            let (path, rest) = route.split_once("\",").expect("a path and a handler");
            let handlers = rest.split(".route(").next().unwrap_or_default();
            for method in ["get", "post", "delete", "put", "patch"] {
                let opens = |before: &str| handlers.contains(&format!("{before}{method}("));
                if handlers.starts_with(&format!("{method}(")) || opens(".") {
                    routes.push((method.to_uppercase(), path.to_owned()));
                }
            }
        }
        routes
    }

    #[test]
    fn every_route_has_its_place_in_the_table_and_every_place_a_route() {
        let routed = routed();
        assert!(routed.len() >= 15, "{routed:?}");
        let listed = |method: &str, path: &str| ROUTES.iter().any(|(of, at, _)| (*of, *at) == (method, path));
        let missing: Vec<_> = routed.iter().filter(|(method, path)| !listed(method, path)).collect();
        assert!(missing.is_empty(), "not in the table: {missing:?}");
        let is_routed =
            |method: &str, path: &str| routed.iter().any(|route| (&*route.0, &*route.1) == (method, path));
        let dead: Vec<_> = ROUTES.iter().filter(|(method, path, _)| !is_routed(method, path)).collect();
        assert!(dead.is_empty(), "no such route: {dead:?}");
    }

    #[test]
    fn what_is_not_in_the_table_is_for_admin() {
        let cases = [
            (Method::GET, Some("/v2/health/live"), Need::Nothing),
            (Method::HEAD, Some("/v2/health/live"), Need::Nothing),
            (Method::POST, Some("/v2/health/live"), ADMIN),
            (Method::GET, Some("/new"), ADMIN),
            (Method::GET, None, Need::Any),
        ];
        for (method, path, expected) in cases {
            assert_eq!(need(&method, path), expected, "{method} {path:?}");
        }
    }
}
