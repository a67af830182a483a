//! How the document describes an inference, which travels through the protocol's own codec.

use std::borrow::Cow;

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{Ref, RefOr, Schema},
};

use crate::domain::{Datatype, Provenance, Timing};

pub(super) struct InferenceRequest;
pub(super) struct InferenceResponse;

impl PartialSchema for InferenceRequest {
    fn schema() -> RefOr<Schema> {
        read(json!({
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object", "description": "`backend`, `timeout`, `priority` and more"},
                "inputs": {"type": "array", "items": tensor()},
                "outputs": {"type": "array", "items": {
                    "type": "object",
                    "required": ["name"],
                    "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
                }},
            },
        }))
    }
}

impl ToSchema for InferenceRequest {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("InferenceRequest")
    }
}

impl PartialSchema for InferenceResponse {
    fn schema() -> RefOr<Schema> {
        let of = |name: Cow<'static, str>| Ref::from_schema_name(name);
        read(json!({
            "type": "object",
            "required": ["model_name", "model_version", "outputs", "parameters"],
            "properties": {
                "id": {"type": "string"},
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "outputs": {"type": "array", "items": tensor()},
                "parameters": {
                    "type": "object",
                    "required": ["run", "provenance", "timing_us"],
                    "properties": {
                        "run": {"type": "string"},
                        "provenance": of(Provenance::name()),
                        "timing_us": of(Timing::name()),
                    },
                },
            },
        }))
    }
}

impl ToSchema for InferenceResponse {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("InferenceResponse")
    }
}

fn tensor() -> Value {
    json!({
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": {
            "name": {"type": "string"},
            "datatype": Ref::from_schema_name(Datatype::name()),
            "shape": {"type": "array", "items": {"type": "integer"}},
            "parameters": {"type": "object"},
            "data": {"type": "array", "items": {}, "description": "Flat or nested, unless the bytes follow"},
        },
    })
}

fn read(schema: Value) -> RefOr<Schema> {
    serde_json::from_value(schema).expect("a schema that is written here")
}
