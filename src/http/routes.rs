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
    // They tell what is the same of every weft.
    ("GET", "/openapi.json", Need::Nothing),
    ("GET", "/", Need::Nothing),
    ("GET", "/dashboard/{file}", Need::Nothing),
    ("GET", "/docs", Need::Nothing),
    ("GET", "/docs/errors", Need::Nothing),
    ("GET", "/docs/assets/{file}", Need::Nothing),
    ("GET", "/v1/models", Need::Any),
    ("GET", "/v1/models/{id}", Need::Any),
    ("POST", "/v1/embeddings", INFER),
    ("POST", "/api/v1/ask", INFER),
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
    ("GET", "/api/v1/activity", READ),
    ("GET", "/api/v1/suites", READ),
    ("GET", "/api/v1/runs", Need::Any),
    ("GET", "/api/v1/runs/times", Need::Any),
    ("GET", "/api/v1/runs/{run}", Need::Any),
    ("GET", "/api/v1/bench/runs", READ),
    ("POST", "/api/v1/bench/runs", ADMIN),
    ("GET", "/api/v1/bench/runs/{id}", READ),
    ("GET", "/api/v1/bench/runs/{id}/verdicts", READ),
    ("GET", "/api/v1/bench/history", READ),
    ("GET", "/api/v1/bench/suites", READ),
    // It keeps what comes out.
    ("POST", "/api/v1/bench/comparisons", ADMIN),
    ("GET", "/api/v1/models", Need::Any),
    ("POST", "/api/v1/models", ADMIN),
    ("POST", "/api/v1/conversions", ADMIN),
    ("POST", "/api/v1/tunings", ADMIN),
    ("GET", "/api/v1/models/{name}", Need::Any),
    ("DELETE", "/api/v1/models/{name}", ADMIN),
    ("POST", "/api/v1/models/{name}/verify", ADMIN),
    ("POST", "/api/v1/models/{name}/load", ADMIN),
    ("POST", "/api/v1/models/{name}/unload", ADMIN),
    ("POST", "/api/v1/models/{name}/pin", ADMIN),
    ("POST", "/api/v1/models/{name}/unpin", ADMIN),
    // Whoever asks under the plan that stands must see which it is.
    ("GET", "/api/v1/models/{name}/plan", Need::Any),
    ("PUT", "/api/v1/models/{name}/plan", ADMIN),
    ("DELETE", "/api/v1/models/{name}/plan", ADMIN),
    ("POST", "/api/v1/models/{name}/plan/review", ADMIN),
    ("POST", "/api/v1/blobs", ADMIN),
    // Another weft reads models with a key that may do nothing to this one.
    ("GET", "/api/v1/blobs/{digest}", READ),
    ("GET", "/ipfs/{cid}", READ),
    ("GET", "/api/v1/downloads", READ),
    // Whoever orders one sends the daemon to an address.
    ("POST", "/api/v1/downloads", ADMIN),
    ("GET", "/api/v1/downloads/{id}", READ),
    ("DELETE", "/api/v1/downloads/{id}", ADMIN),
    // Whoever asks under a plan must see which there are.
    ("GET", "/api/v1/plans", Need::Any),
    // It loads models and keeps lanes busy for as long as its proof takes.
    ("POST", "/api/v1/plans", ADMIN),
    ("POST", "/api/v1/plans/forecast", READ),
    ("GET", "/api/v1/plans/{id}", Need::Any),
    ("DELETE", "/api/v1/plans/{id}", ADMIN),
    ("POST", "/api/v1/reload", ADMIN),
    ("POST", "/api/v1/session", Need::Any),
    ("DELETE", "/api/v1/session", Need::Any),
    ("GET", "/api/v1/keys", ADMIN),
    ("POST", "/api/v1/keys", ADMIN),
    ("DELETE", "/api/v1/keys/{key}", ADMIN),
];

/// Methods and paths that the table has, to be compared with the router's.
#[cfg(test)]
pub(super) fn listed() -> impl Iterator<Item = (String, String)> {
    ROUTES.iter().map(|(method, path, _)| (path.to_string(), method.to_lowercase()))
}

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
    use super::{ADMIN, Method, Need, need};

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
