//! API keys and browsers' sessions.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::{
        Path, State,
        rejection::{PathRejection, StringRejection},
    },
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Api, Problem, admit, resources::List};
use crate::{
    access::{AccessError, Allowance, Grant, NewKey},
    domain::{Failure, Scope, Scopes},
    store::StoredKey,
    tasks,
};

/// A key as clients see it.
#[derive(Serialize, ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    pub id: String,
    pub name: String,
    pub scopes: Vec<String>,
    pub weight: u32,
    pub rate_per_second: Option<u32>,
    pub quota_per_day: Option<u32>,
    pub in_flight: Option<u32>,
    pub created_at_us: i64,
    pub expires_at_us: Option<i64>,
    pub revoked_at_us: Option<i64>,
}

impl From<StoredKey> for KeyView {
    /// Without the digest.
    fn from(key: StoredKey) -> Self {
        Self {
            id: key.id,
            name: key.name,
            scopes: key.scopes.to_string().split(' ').map(ToOwned::to_owned).collect(),
            weight: key.weight,
            rate_per_second: key.rate_per_second,
            quota_per_day: key.quota_per_day,
            in_flight: key.in_flight,
            created_at_us: key.created_at_us,
            expires_at_us: key.expires_at_us,
            revoked_at_us: key.revoked_at_us,
        }
    }
}

/// What a key that is to be made is told by, here and on the command line.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewKey)]
pub struct KeyOrder {
    #[schema(min_length = 1, max_length = 128, pattern = "^[ -~]+$")]
    pub name: String,
    /// Words with spaces or commas between them.
    #[schema(pattern = "^(infer|read|admin)([ ,](infer|read|admin))*$")]
    pub scopes: String,
    /// Its share of the lanes' time beside other callers'; 1 when it is not said.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000)]
    pub weight: Option<u32>,
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub rate_per_second: Option<NonZeroU32>,
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub quota_per_day: Option<NonZeroU32>,
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub in_flight: Option<NonZeroU32>,
    /// From now on, as `30d`.
    #[serde(default, with = "humantime_serde")]
    #[schema(value_type = Option<String>, pattern = "^[1-9][0-9]{0,2}[smhd]$")]
    pub expires_in: Option<Duration>,
}

impl TryFrom<KeyOrder> for NewKey {
    type Error = AccessError;

    fn try_from(order: KeyOrder) -> Result<Self, AccessError> {
        let scopes: Scopes = order.scopes.parse().map_err(AccessError::Invalid)?;
        let expires_at_us = order
            .expires_in
            .map(|life| tasks::now_us().saturating_add(i64::try_from(life.as_micros()).unwrap_or(i64::MAX)));
        let allowance = Allowance {
            weight: order.weight.unwrap_or(1),
            rate_per_second: order.rate_per_second,
            quota_per_day: order.quota_per_day,
            in_flight: order.in_flight,
        };
        Ok(Self { name: order.name, scopes, allowance, expires_at_us })
    }
}

/// A new key; nothing shows it again.
#[derive(Serialize, ToSchema)]
pub struct MadeKey {
    #[serde(flatten)]
    view: KeyView,
    key: String,
}

impl MadeKey {
    pub fn new(key: StoredKey, text: String) -> Self {
        Self { view: key.into(), key: text }
    }
}

/// API keys
///
/// In the order in which they were made, revoked and expired ones included.
#[utoipa::path(get, path = "/api/v1/keys", tag = "access", responses((status = 200, body = List<KeyView>)))]
pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<List<KeyView>> {
    List::whole(api.access.keys().list().into_iter().map(KeyView::from).collect())
}

/// Make an API key
///
/// The answer shows it, once.
#[utoipa::path(post, path = "/api/v1/keys", tag = "access", request_body = KeyOrder,
    responses((status = 201, body = MadeKey)))]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Response, Problem> {
    let order: KeyOrder = serde_json::from_str(&body?)
        .map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))?;
    let (key, text) = api.access.keys().add(order.try_into()?).await?;
    let mut response = (StatusCode::CREATED, Json(MadeKey::new(key, text))).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Revoke an API key
///
/// By its id or name; connections that use it are closed.
#[utoipa::path(delete, path = "/api/v1/keys/{key}", tag = "access", params(("key" = String, Path)),
    responses((status = 200, body = KeyView)))]
pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    key: Result<Path<String>, PathRejection>,
) -> Result<Json<KeyView>, Problem> {
    let Path(key) = key?;
    match api.access.keys().revoke(&key).await {
        Ok(key) => Ok(Json(key.into())),
        Err(unknown @ AccessError::UnknownKey(_)) => Err(Problem::not_found(unknown.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// What a browser is logged in as.
#[derive(Serialize, ToSchema)]
pub(super) struct Session {
    /// A key's id or a token's subject; null once the session is over.
    caller: Option<String>,
    scopes: Vec<&'static str>,
    life_s: u64,
}

/// Log in
///
/// Gives a browser a cookie in place of the credential that came with the request.
#[utoipa::path(post, path = "/api/v1/session", tag = "access", responses((status = 200, body = Session)))]
pub(super) async fn begin_session(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
) -> Response {
    let (secret, life) = api.access.begin_session(&grant);
    let life_s = life.as_secs();
    let scopes = Scope::ALL.into_iter().filter(|scope| grant.holds(*scope)).map(Scope::as_str).collect();
    let session = Session { caller: Some(grant.caller().id.to_string()), scopes, life_s };
    with_cookie(&api, &secret, session)
}

/// Log out
#[utoipa::path(delete, path = "/api/v1/session", tag = "access", responses((status = 200, body = Session)))]
pub(super) async fn end_session(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    if let Some(secret) = admit::cookie(&headers) {
        api.access.end_session(secret);
    }
    with_cookie(&api, "", Session { caller: None, scopes: Vec::new(), life_s: 0 })
}

fn with_cookie(api: &Api, secret: &str, session: Session) -> Response {
    let life_s = session.life_s;
    let secure = if api.secure { "; Secure" } else { "" };
    let cookie =
        format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life_s}{secure}", admit::COOKIE);
    let mut response = Json(session).into_response();
    let headers = response.headers_mut();
    let value = HeaderValue::from_str(&cookie).expect("hex digits and attributes are visible ASCII");
    headers.insert(header::SET_COOKIE, value);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
