//! Lets requests in: by the name they call us, the page they come from, who sends them, and how much they may.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Api, Problem, pace,
    routes::{self, Need},
};
use crate::{
    access::{Credential, Denied, Exceeded, Grant, KEY_PREFIX, Standing},
    bridge::guard,
    domain::{Code, Failure, Retry, Scope},
    scheduler::STOPPING,
};

/// The session's cookie.
pub(super) const COOKIE: &str = "weft_session";

/// The WebSocket's subprotocol, and what a credential among the offered ones begins with: browsers can send no header.
pub(super) const SUBPROTOCOL: &str = "weft.v2";
const SUBPROTOCOL_KEY: &str = "weft.key.";

/// Names under which credentials are put into addresses, where logs and histories keep them.
const IN_ADDRESS: [&str; 8] =
    ["key", "api_key", "apikey", "api-key", "token", "access_token", "auth", "authorization"];

/// Whoever sent the request; every handler finds it among the extensions.
pub(super) async fn guarded(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    let grant = match admit(&api, &request) {
        Ok(grant) => grant,
        Err(refused) => return refused.into_response(),
    };
    let entered = match &grant {
        Some(grant) => match grant.enter() {
            Ok(entered) => Some(entered),
            Err(exceeded) => return limited(&exceeded, &grant.standings()),
        },
        None => None,
    };
    // A change that was begun is waited for.
    let under_way = if request.method().is_safe() { None } else { api.tasks.accept() };
    if under_way.is_none() && !request.method().is_safe() {
        return Problem::from(Failure::new(Code::Overloaded, Retry::Same, STOPPING)).into_response();
    }
    let known = grant.clone().unwrap_or_else(|| api.access.nobody());
    request.extensions_mut().insert(known.caller().clone());
    request.extensions_mut().insert(known);
    let (request, pace) = pace::paced(request, api.body);
    let mut response = next.run(request).await;
    if pace.is_lost() {
        response = pace::lost();
    }
    if let Some(grant) = grant {
        tell_limits(response.headers_mut(), &grant.standings());
    }
    drop((entered, under_way));
    response
}

/// What the sender may; `None` where nobody has to say who they are.
fn admit(api: &Api, request: &Request) -> Result<Option<Grant>, Problem> {
    let headers = request.headers();
    guard::check_named(headers, &api.names).map_err(|refused| forbidden(refused.message()))?;
    check_address(request.uri().query().unwrap_or_default())?;
    let path = request.extensions().get::<MatchedPath>();
    let need = routes::need(request.method(), path.map(MatchedPath::as_str));
    if need == Need::Nothing {
        return Ok(None);
    }
    let grant = match shown(headers) {
        Ok(Some(credential)) if api.access.is_required() || is_ours(credential) => {
            api.access.admit(credential)
        }
        // What other servers' clients send along is none of ours.
        _ if !api.access.is_required() => Ok(api.access.owner()),
        Ok(_) => Err(Denied::Nothing),
        Err(denied) => Err(denied),
    };
    let grant = grant.map_err(unauthorized)?;
    match need {
        Need::One(scope) if !grant.holds(scope) => Err(lacks(scope).into()),
        Need::Any if !Scope::ALL.into_iter().any(|scope| grant.holds(scope)) => {
            Err(forbidden("the credential has no scope that means anything here"))
        }
        _ => Ok(Some(grant)),
    }
}

fn is_ours(credential: Credential<'_>) -> bool {
    matches!(credential, Credential::Bearer(text) if text.starts_with(KEY_PREFIX))
}

/// Addresses end up in logs, histories and referrers, so a secret in one is refused, right or wrong.
fn check_address(query: &str) -> Result<(), Problem> {
    let secret = query.split('&').any(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let named = IN_ADDRESS.iter().any(|secret| name.eq_ignore_ascii_case(secret));
        named || value.starts_with(KEY_PREFIX)
    });
    if secret {
        let message = "a key or token in the address is refused, since addresses are written to logs: \
                       send it as Authorization: Bearer, and make another if this one was real";
        return Err(Failure::invalid(message).into());
    }
    Ok(())
}

/// The credential that a request shows: a header first, else a subprotocol, else a cookie.
fn shown(headers: &HeaderMap) -> Result<Option<Credential<'_>>, Denied> {
    let mut authorization = headers.get_all(header::AUTHORIZATION).iter();
    if let Some(value) = authorization.next() {
        let text = value.to_str().ok().filter(|_| authorization.next().is_none());
        let bearer = text.and_then(|text| text.split_once(' '));
        let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        return bearer.map(|(_, text)| Some(Credential::Bearer(text.trim()))).ok_or(Denied::Unreadable);
    }
    let mut offered = words(headers, &header::SEC_WEBSOCKET_PROTOCOL, ',');
    if let Some(key) = offered.find_map(|word| word.strip_prefix(SUBPROTOCOL_KEY)) {
        return Ok(Some(Credential::Bearer(key)));
    }
    Ok(cookie(headers).map(Credential::Cookie))
}

/// The session that a browser has.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    words(headers, &header::COOKIE, ';')
        .filter_map(|word| word.split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

/// Whether a client offers our subprotocol, which is then the one that is spoken.
pub(super) fn offers_subprotocol(headers: &HeaderMap) -> bool {
    words(headers, &header::SEC_WEBSOCKET_PROTOCOL, ',').any(|word| word == SUBPROTOCOL)
}

fn words<'a>(headers: &'a HeaderMap, name: &HeaderName, between: char) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(move |value| value.split(between)).map(str::trim)
}

fn unauthorized(denied: Denied) -> Problem {
    let failure = Failure::from(denied);
    if failure.code == Code::Unauthorized {
        return Problem::told_as(failure, StatusCode::UNAUTHORIZED);
    }
    failure.into()
}

fn forbidden(message: &str) -> Problem {
    Failure::new(Code::Unauthorized, Retry::Never, message).into()
}

pub(super) fn lacks(scope: Scope) -> Failure {
    Failure::new(Code::Unauthorized, Retry::Never, format!("this needs the scope {scope}"))
}

fn limited(exceeded: &Exceeded, standings: &[Standing]) -> Response {
    let mut response = Problem::from(Failure::from(exceeded)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, seconds(exceeded.after()).into());
    tell_limits(headers, standings);
    response
}

/// Rounded up: whoever comes back then is let in.
fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// The fields `RateLimit-Policy` and `RateLimit` of draft-ietf-httpapi-ratelimit-headers-10, which is no standard yet.
fn tell_limits(headers: &mut HeaderMap, standings: &[Standing]) {
    if standings.is_empty() {
        return;
    }
    let (mut policy, mut state) = (String::new(), String::new());
    for (at, Standing { name, quota, window_s, remaining, reset_s }) in standings.iter().enumerate() {
        let between = if at == 0 { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(policy, "{between}\"{name}\";q={quota};w={window_s}");
        let _ = write!(state, "{between}\"{name}\";r={remaining};t={reset_s}");
    }
    for (name, value) in [("ratelimit-policy", policy), ("ratelimit", state)] {
        let value = HeaderValue::from_str(&value).expect("names and numbers are visible ASCII");
        headers.insert(HeaderName::from_static(name), value);
    }
}
