//! How the API's document describes what travels as text, or as one of several things.

use std::borrow::Cow;

use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, SchemaType, Type},
    },
};

use super::{
    BackendKind, Datatype, Digest, Dim, InstanceId, LaneId, LeaseId, ModelName, PlanId, RequestId, RunId,
    tensor,
};

/// Types that are text on the wire, with what they look like and what they are.
macro_rules! text {
    ($($name:ident, $pattern:expr, $doc:expr;)*) => {$(
        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                let text = ObjectBuilder::new().schema_type(Type::String).description(Some($doc));
                text.pattern($pattern).build().into()
            }
        }

        impl ToSchema for $name {
            fn name() -> Cow<'static, str> {
                Cow::Borrowed(stringify!($name))
            }
        }
    )*};
}

text! {
    InstanceId, None::<&str>, "One running browser, as `chromium-1`; `native` for the daemon's own process";
    LaneId, None::<&str>, "One execution slot, as `chromium-1/wasm`";
    LeaseId, None::<&str>, "A caller's exclusive right to an instance";
    PlanId, None::<&str>, "A model's computation in stages, named after what it consists of";
    RunId, None::<&str>, "One attempt at a request";
    RequestId, None::<&str>, "What a caller asked, in all its attempts";
    ModelName, Some("^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$"), "The name under which a model was added";
    Digest, Some("^[0-9a-f]{64}$"), "A SHA-256";
    BackendKind, Some("^(wasm|webgpu|webnn|ort-[a-z]+)$"), "What computes";
}

impl PartialSchema for Datatype {
    fn schema() -> RefOr<Schema> {
        let names = tensor::NAMES.iter().map(|(_, name)| *name);
        let text = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
        text.description(Some("The Open Inference Protocol's datatypes")).build().into()
    }
}

impl ToSchema for Datatype {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Datatype")
    }
}

impl PartialSchema for Dim {
    fn schema() -> RefOr<Schema> {
        let types = SchemaType::from_iter([Type::Integer, Type::String, Type::Null]);
        let says = "A size; a name for any size, the same wherever the name stands; or null for any size";
        ObjectBuilder::new().schema_type(types).description(Some(says)).build().into()
    }
}

impl ToSchema for Dim {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed("Dim")
    }
}
