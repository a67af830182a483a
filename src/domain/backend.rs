//! What can compute.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The kind of a lane's backend.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendKind {
    Wasm,
    Webgpu,
    Webnn,
    /// Our own kernels in a page, on its GPU.
    WeftWgsl,
    /// Our own kernels in a page, on its CPU.
    WeftWasm,
    /// Our own kernels natively, on a GPU.
    Wgpu,
    /// Native ONNX Runtime on one of its execution providers, as `ort-cpu`.
    Ort(String),
}

impl BackendKind {
    /// Whether the daemon's own process computes, not a browser.
    pub fn is_native(&self) -> bool {
        matches!(self, Self::Ort(_) | Self::Wgpu)
    }

    /// Whether it computes on a GPU's adapter, which a CPU may stand for.
    pub fn on_gpu(&self) -> bool {
        matches!(self, Self::Webgpu | Self::WeftWgsl | Self::Wgpu)
    }

    pub fn ort_cpu() -> Self {
        Self::Ort("cpu".to_owned())
    }
}

impl fmt::Display for BackendKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wasm => f.write_str("wasm"),
            Self::Webgpu => f.write_str("webgpu"),
            Self::Webnn => f.write_str("webnn"),
            Self::WeftWgsl => f.write_str("weft-wgsl"),
            Self::WeftWasm => f.write_str("weft-wasm"),
            Self::Wgpu => f.write_str("wgpu"),
            Self::Ort(provider) => write!(f, "ort-{provider}"),
        }
    }
}

impl FromStr for BackendKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wasm" => Ok(Self::Wasm),
            "webgpu" => Ok(Self::Webgpu),
            "webnn" => Ok(Self::Webnn),
            "weft-wgsl" => Ok(Self::WeftWgsl),
            "weft-wasm" => Ok(Self::WeftWasm),
            "wgpu" => Ok(Self::Wgpu),
            _ => match text.strip_prefix("ort-") {
                Some(provider)
                    if provider.bytes().all(|b| b.is_ascii_lowercase()) && !provider.is_empty() =>
                {
                    Ok(Self::Ort(provider.to_owned()))
                }
                _ => Err(format!(
                    "{text:?} is no backend: use wasm, webgpu, webnn, weft-wasm, weft-wgsl, wgpu or ort-PROVIDER, \
                     as ort-cpu"
                )),
            },
        }
    }
}

impl Serialize for BackendKind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for BackendKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
