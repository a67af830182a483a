//! ONNX Runtime's shared library: loaded once per process, asked for its version and execution providers.

use std::{
    ffi::{CStr, c_char},
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use ort::{environment::Environment, logging::LogLevel, sys::OrtApiBase};

use super::OrtError;

/// What ONNX Runtime appends to every provider's name.
const PROVIDER_SUFFIX: &str = "ExecutionProvider";

/// The library with its environment. Clones share both.
#[derive(Clone, Debug)]
pub struct OrtLibrary(Arc<Loaded>);

#[derive(Debug)]
pub(super) struct Loaded {
    path: PathBuf,
    version: String,
    /// In the engine's spelling, as `CPUExecutionProvider`.
    full_names: Vec<String>,
    short_names: Vec<String>,
    environment: Environment,
}

/// The engine refuses a second environment for as long as the process lives.
static LOADED: Mutex<Option<OrtLibrary>> = Mutex::new(None);

impl OrtLibrary {
    /// Loads the library, or answers the one that is loaded when it is the same file.
    pub fn load(path: &Path) -> Result<Self, OrtError> {
        let path = path.canonicalize().map_err(|_| OrtError::LibraryMissing { path: path.to_owned() })?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        match loaded.as_ref() {
            Some(library) if library.0.path == path => Ok(library.clone()),
            Some(library) => Err(OrtError::AnotherLibrary { loaded: library.0.path.clone(), wanted: path }),
            None => {
                let library = Self(Arc::new(open(path)?));
                Ok(loaded.insert(library).clone())
            }
        }
    }

    pub fn version(&self) -> &str {
        &self.0.version
    }

    /// The engine as provenance names it, as `onnxruntime@1.30.0/libonnxruntime.so.1`.
    pub fn engine(&self) -> String {
        let file = self.0.path.file_name().unwrap_or_default();
        format!("onnxruntime@{}/{}", self.0.version, file.to_string_lossy())
    }

    /// Execution providers that this library was built with, as `cpu`.
    pub fn providers(&self) -> &[String] {
        &self.0.short_names
    }

    pub(super) fn environment(&self) -> &Environment {
        &self.0.environment
    }

    /// The engine's spelling of a provider's short name.
    pub(super) fn full_name(&self, provider: &str) -> Option<&str> {
        self.0.full_names.iter().find(|name| short_name(name) == provider).map(String::as_str)
    }
}

/// `CPUExecutionProvider` as `cpu`.
pub(super) fn short_name(provider: &str) -> String {
    provider.strip_suffix(PROVIDER_SUFFIX).unwrap_or(provider).to_ascii_lowercase()
}

pub(super) fn open(path: PathBuf) -> Result<Loaded, OrtError> {
    let failed = |message: String| OrtError::Library { path: path.clone(), message };
    let builder = ort::init_from(&path).map_err(|error| failed(error.to_string()))?;
    let environment = builder.with_name("weft").with_telemetry(false).with_logger(Arc::new(log)).build();
    let environment = environment.map_err(|error| failed(error.to_string()))?;
    environment.set_log_level(LogLevel::Warning);
    let version = version(&path).map_err(|error| failed(error.to_string()))?;
    let full_names = providers().map_err(|error| failed(error.to_string()))?;
    let short_names = full_names.iter().map(|name| short_name(name)).collect();
    Ok(Loaded { path, version, full_names, short_names, environment })
}

fn log(level: LogLevel, category: &str, _id: &str, location: &str, message: &str) {
    match level {
        LogLevel::Verbose | LogLevel::Info => tracing::debug!(category, location, "{message}"),
        LogLevel::Warning => tracing::warn!(category, location, "{message}"),
        LogLevel::Error | LogLevel::Fatal => tracing::error!(category, location, "{message}"),
    }
}

/// The version that the library reports; `ort` keeps it to itself.
fn version(path: &Path) -> Result<String, libloading::Error> {
    // SAFETY: `ort` has loaded and initialised this very file, so loading it again runs no code.
    let library = unsafe { libloading::Library::new(path) }?;
    // SAFETY: this is the symbol's type in ONNX Runtime's C API, and `ort` has called it already.
    let version = unsafe {
        let base = library.get::<unsafe extern "C" fn() -> *const OrtApiBase>(b"OrtGetApiBase")?();
        CStr::from_ptr(((*base).GetVersionString)())
    };
    Ok(version.to_string_lossy().into_owned())
}

fn providers() -> ort::Result<Vec<String>> {
    let mut names: *mut *mut c_char = ptr::null_mut();
    let mut count = 0;
    // SAFETY: on success the engine has set both to an array of C strings, which is copied before it is released.
    unsafe {
        ort::Error::result_from_status((ort::api().GetAvailableProviders)(&raw mut names, &raw mut count))?;
        let list = std::slice::from_raw_parts(names, usize::try_from(count).unwrap_or(0));
        let copied = list.iter().map(|name| CStr::from_ptr(*name).to_string_lossy().into_owned()).collect();
        ort::Error::result_from_status((ort::api().ReleaseAvailableProviders)(names, count))?;
        Ok(copied)
    }
}
