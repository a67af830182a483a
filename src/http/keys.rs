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
use serde_json::{Value, json};

use super::{Api, Problem, admit};
use crate::{
    access::{AccessError, Allowance, Grant, NewKey},
    domain::{Failure, Scopes},
    store::StoredKey,
    tasks,
};

/// A key as clients see it.
#[derive(Serialize)]
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
#[derive(Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOrder {
    pub name: String,
    /// Words with spaces or commas between them.
    pub scopes: String,
    #[serde(default)]
    pub weight: Option<u32>,
    #[serde(default)]
    pub rate_per_second: Option<NonZeroU32>,
    #[serde(default)]
    pub quota_per_day: Option<NonZeroU32>,
    #[serde(default)]
    pub in_flight: Option<NonZeroU32>,
    /// From now on.
    #[serde(default, with = "humantime_serde")]
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

/// The answer that shows a key once.
pub fn made(key: StoredKey, text: &str) -> Value {
    let mut shown = json!(KeyView::from(key));
    shown["key"] = json!(text);
    shown
}

pub(super) async fn list(State(api): State<Arc<Api>>) -> Json<Value> {
    let items: Vec<_> = api.access.keys().list().into_iter().map(KeyView::from).collect();
    Json(json!({"items": items, "cursor": null}))
}

pub(super) async fn add(
    State(api): State<Arc<Api>>,
    body: Result<String, StringRejection>,
) -> Result<Response, Problem> {
    let order: KeyOrder = serde_json::from_str(&body?)
        .map_err(|error| Failure::invalid(format!("the body does not fit: {error}")))?;
    let (key, text) = api.access.keys().add(order.try_into()?).await?;
    let mut response = (StatusCode::CREATED, Json(made(key, &text))).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

pub(super) async fn revoke(
    State(api): State<Arc<Api>>,
    key: Result<Path<String>, PathRejection>,
) -> Result<Json<Value>, Problem> {
    let Path(key) = key?;
    match api.access.keys().revoke(&key).await {
        Ok(key) => Ok(Json(json!(KeyView::from(key)))),
        Err(unknown @ AccessError::UnknownKey(_)) => Err(Problem::not_found(unknown.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// A cookie in place of the credential that came with the request.
pub(super) async fn begin_session(
    State(api): State<Arc<Api>>,
    Extension(grant): Extension<Grant>,
) -> Response {
    let (secret, life) = api.access.begin_session(&grant);
    let life_s = life.as_secs();
    let scopes: Vec<_> = crate::domain::Scope::ALL.into_iter().filter(|scope| grant.holds(*scope)).collect();
    let scopes: Vec<_> = scopes.into_iter().map(crate::domain::Scope::as_str).collect();
    let body = json!({"caller": &*grant.caller().id, "scopes": scopes, "life_s": life_s});
    with_cookie(&api, &secret, life_s, body)
}

pub(super) async fn end_session(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    if let Some(secret) = admit::cookie(&headers) {
        api.access.end_session(secret);
    }
    with_cookie(&api, "", 0, json!({"caller": null}))
}

fn with_cookie(api: &Api, secret: &str, life_s: u64, body: Value) -> Response {
    let secure = if api.secure { "; Secure" } else { "" };
    let cookie =
        format!("{}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={life_s}{secure}", admit::COOKIE);
    let mut response = Json(body).into_response();
    let headers = response.headers_mut();
    let value = HeaderValue::from_str(&cookie).expect("hex digits and attributes are visible ASCII");
    headers.insert(header::SET_COOKIE, value);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
