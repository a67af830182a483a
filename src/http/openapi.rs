//! The API's document, version 3.1 of its format, made from the handlers that the router routes to.
//!
//! A handler says by `#[utoipa::path]` where it stands and what it answers when all goes well.
//! What can go wrong follows from the shape of the route, and is added here for all of them.

use axum::{
    Extension,
    http::{Method, StatusCode, header},
    response::IntoResponse,
};
use bytes::Bytes;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        self, Content, Header, ObjectBuilder, Ref, RefOr, Required, ResponseBuilder, Type,
        path::{Operation, ParameterBuilder, ParameterIn, Paths},
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
    },
};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};

use super::{
    admit::COOKIE,
    error::{OipError, OpenAiError, ProblemDetails, Protocol},
    idempotency,
    routes::{Need, need},
};
use crate::domain::StageRun;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "weft",
        description = "An inference engine made of real web browsers.\n\nErrors are told by one type in three forms: problem details (RFC 9457) on `/api` and `/ipfs`, OpenAI's object on `/v1`, the Open Inference Protocol's on `/v2`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
        version = env!("CARGO_PKG_VERSION"),
    ),
    components(schemas(ProblemDetails, OpenAiError, OipError, StageRun)),
    tags(
        (name = "open inference protocol", description = "Inference, as KServe and Triton speak it"),
        (name = "openai", description = "What OpenAI's clients ask"),
        (name = "models", description = "Files, names and verdicts"),
        (name = "plans", description = "Models in stages, each in a lane of its own"),
        (name = "pool", description = "Browsers, their lanes, and leases"),
        (name = "runs", description = "What was computed where"),
        (name = "bench", description = "What suites measured"),
        (name = "access", description = "Keys, and browsers that log in with them"),
        (name = "observation", description = "Metrics and configuration"),
        (name = "document", description = "This document"),
    )
)]
struct Document;

/// How a credential is shown: a key or a token, or what [`super::keys::begin_session`] gives for one.
const SCHEMES: [&str; 2] = ["bearer", "session"];

/// A document without routes, to begin a router with.
pub(super) fn document() -> openapi::OpenApi {
    let mut document = Document::openapi();
    // Without contact and terms that nobody filled in.
    document.info.contact = None;
    let components = document.components.get_or_insert_default();
    let session = ApiKey::Cookie(ApiKeyValue::new(COOKIE));
    let bearer = Http::new(HttpAuthScheme::Bearer);
    let schemes = [SecurityScheme::Http(bearer), SecurityScheme::ApiKey(session)];
    for (name, scheme) in SCHEMES.into_iter().zip(schemes) {
        components.add_security_scheme(name, scheme);
    }
    document
}

/// The document as it is served.
#[derive(Clone)]
pub(super) struct Served(Bytes);

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "document",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)))]
pub(super) async fn serve(Extension(Served(document)): Extension<Served>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document)
}

/// Names the operations, adds what can go wrong and who may call them, and writes the document.
pub(super) fn finish(mut document: openapi::OpenApi, access_required: bool) -> Served {
    for (path, item) in &mut document.paths.paths {
        let operations = [
            (Method::GET, &mut item.get),
            (Method::POST, &mut item.post),
            (Method::PUT, &mut item.put),
            (Method::PATCH, &mut item.patch),
            (Method::DELETE, &mut item.delete),
        ];
        for (method, operation) in operations {
            let need = if access_required { need(&method, Some(path)) } else { Need::Nothing };
            if let Some(operation) = operation {
                // Handlers of different modules share names; routes do not.
                let words = path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
                let method_name = method.as_str().to_lowercase();
                let name = std::iter::once(method_name.as_str()).chain(words);
                operation.operation_id = Some(name.collect::<Vec<_>>().join("_"));
                describe_success(operation);
                secure(need, operation);
                add_failures(path, method.is_safe(), need != Need::Nothing, operation);
            }
        }
    }
    Served(document.to_json().expect("a document holds only strings, numbers and lists").into())
}

/// What a handler says nothing of is the answer that its summary names.
fn describe_success(operation: &mut Operation) {
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            let status = status.parse::<StatusCode>().expect("a handler answers with a status");
            status.canonical_reason().unwrap_or_default().clone_into(&mut response.description);
        }
    }
}

/// Names what a credential must be good for, beside how it is shown.
fn secure(need: Need, operation: &mut Operation) {
    let scopes = match need {
        Need::Nothing => return,
        Need::Any => Vec::new(),
        Need::One(scope) => vec![scope.as_str()],
    };
    let requirement = |scheme| SecurityRequirement::new::<_, _, &str>(scheme, scopes.clone());
    operation.security = Some(SCHEMES.map(requirement).into());
}

/// Routes whose query or body names a model.
const NAMING: [&str; 8] = [
    "/api/v1/ask",
    "/api/v1/bench/runs",
    "/api/v1/bench/comparisons",
    "/api/v1/conversions",
    "/api/v1/plans",
    "/api/v1/plans/forecast",
    "/api/v1/tunings",
    "/v1/embeddings",
];

fn add_failures(path: &str, safe: bool, guarded: bool, operation: &mut Operation) {
    let addressed = path.contains('{');
    let names = addressed || NAMING.contains(&path);
    // The other protocols tell by 400 what is no request of theirs.
    let other = !matches!(Protocol::of(path), Protocol::Own);
    let downloads = path == "/api/v1/downloads";
    let body = operation.request_body.is_some();
    let parameters = operation.parameters.as_ref().is_some_and(|parameters| !parameters.is_empty());
    let failures = [
        (StatusCode::BAD_REQUEST, body && other, "The request is none of the protocol's"),
        (StatusCode::UNAUTHORIZED, guarded, "No credential, or none that is good"),
        (StatusCode::FORBIDDEN, true, "`Host` or `Origin` is wrong, or the credential lacks a scope"),
        (StatusCode::NOT_FOUND, names, "There is nothing of this name"),
        (StatusCode::CONFLICT, names && !safe, "Its state does not allow it"),
        (StatusCode::PAYLOAD_TOO_LARGE, body, "Something is over its limit of bytes"),
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, true, "The body is in a form that nothing here reads"),
        (StatusCode::UNPROCESSABLE_ENTITY, body || parameters, "The request does not fit"),
        (StatusCode::TOO_MANY_REQUESTS, true, "The caller's own limit is reached"),
        (StatusCode::INTERNAL_SERVER_ERROR, true, "The daemon is at fault"),
        (StatusCode::BAD_GATEWAY, downloads && !safe, "Downloads are off, and it is not here"),
        (
            StatusCode::SERVICE_UNAVAILABLE,
            !safe,
            "A limit is reached, nothing can serve it, or the daemon is stopping",
        ),
        (StatusCode::GATEWAY_TIMEOUT, body, "The request's time ran out"),
    ];
    for (status, _, says) in failures.into_iter().filter(|(_, possible, _)| *possible) {
        let place = operation.responses.responses.entry(status.as_u16().to_string());
        place.or_insert_with(|| failure(path, status, says).into());
    }
}

fn failure(path: &str, status: StatusCode, says: &str) -> openapi::Response {
    let protocol = Protocol::of(path);
    let schema = match protocol {
        Protocol::OpenAi => Ref::from_schema_name(OpenAiError::name()),
        Protocol::OpenInference => Ref::from_schema_name(OipError::name()),
        Protocol::Own => Ref::from_schema_name(ProblemDetails::name()),
    };
    let response = ResponseBuilder::new().description(says);
    let response = response.content(protocol.content_type(), Content::new(Some(schema)));
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer);
        return response.header("Retry-After", Header::new(seconds)).build();
    }
    response.build()
}

/// These routes of a model, and the same of its version.
pub(super) fn versioned<S: Clone + Send + Sync + 'static>(
    (schemas, paths, methods): UtoipaMethodRouter<S>,
) -> OpenApiRouter<S> {
    let version = ParameterBuilder::new()
        .name("version")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build();
    let mut of_version = Paths::new();
    for (path, item) in &paths.paths {
        let mut item = item.clone();
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            operation.parameters.get_or_insert_default().push(version.clone().into());
        }
        of_version.paths.insert(path.replacen("{name}", "{name}/versions/{version}", 1), item);
    }
    OpenApiRouter::new().routes((schemas, paths, methods.clone())).routes((Vec::new(), of_version, methods))
}

/// Says of every POST of these routes that it takes a key; the layer over them is [`idempotency::once`].
pub(super) fn keyed<S: Clone + Send + Sync + 'static>(mut routes: OpenApiRouter<S>) -> OpenApiRouter<S> {
    let key = ParameterBuilder::new()
        .name(idempotency::KEY)
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("What is asked for twice under one key happens once; kept for an hour."))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).pattern(Some(idempotency::PATTERN))))
        .build();
    for (path, item) in &mut routes.get_openapi_mut().paths.paths {
        if let Some(operation) = &mut item.post {
            operation.parameters.get_or_insert_default().push(key.clone().into());
            let conflict = failure(
                path,
                StatusCode::CONFLICT,
                "Its state does not allow it, or its key's request is under way",
            );
            operation.responses.responses.insert("409".to_owned(), conflict.into());
        }
    }
    routes
}
