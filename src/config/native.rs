//! Which ONNX Runtime libraries compute natively, on what, and which GPU our own kernels do: `[native]`.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{ConfigError, beside, positive, unpacked};
use crate::{backend::wgpu::Wanted, domain::BackendKind};

const OWN: &str = "native.providers";

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawNative {
    pub library: Option<PathBuf>,
    pub providers: Option<Vec<String>>,
    /// Beside that one, by names of the owner's.
    pub libraries: BTreeMap<String, Library>,
    pub threads: Option<u32>,
    pub wgpu: Option<String>,
}

#[derive(Clone, Debug)]
pub struct Native {
    /// ONNX Runtime, in this process; everything is compared with what it computes on the CPU.
    pub library: PathBuf,
    pub providers: Vec<String>,
    /// Each of their lanes is a process of its own.
    pub libraries: BTreeMap<String, Library>,
    pub threads: u32,
    /// On which adapter our own kernels compute natively, if on any.
    pub wgpu: Option<Wanted>,
}

/// Another build of ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Library {
    pub path: PathBuf,
    pub providers: Vec<String>,
}

impl RawNative {
    /// Adds a library, unless one of its providers has a lane already.
    pub fn lend(&mut self, name: &str, library: Library) {
        let has = |provider: &String| self.wanted().any(|(_, wanted)| wanted == provider.as_str());
        if !library.providers.iter().any(has) {
            self.libraries.entry(name.to_owned()).or_insert(library);
        }
    }

    /// Each lane's provider, with the key that names it.
    fn wanted(&self) -> impl Iterator<Item = (String, &str)> {
        let own = self
            .providers
            .as_ref()
            .map_or_else(|| vec!["cpu"], |own| own.iter().map(String::as_str).collect());
        let own = own.into_iter().map(|provider| (OWN.to_owned(), provider));
        let others = self.libraries.iter().flat_map(|(name, library)| {
            library
                .providers
                .iter()
                .map(move |provider| (format!("native.libraries.{name}"), provider.as_str()))
        });
        own.chain(others)
    }

    pub(super) fn lanes(&self) -> usize {
        self.wanted().count()
    }

    pub(super) fn resolve(self, share: u32) -> Result<Native, ConfigError> {
        let mut seen = BTreeSet::new();
        for (key, provider) in self.wanted() {
            let invalid = |problem: String| Err(ConfigError::Invalid(format!("{key}: {problem}")));
            if format!("ort-{provider}").parse::<BackendKind>().is_err() {
                return invalid(format!("{provider:?} is no provider in short, as openvino"));
            }
            if provider == "cpu" && key != OWN {
                return invalid(
                    "what computes on cpu is native.library: all is compared with that".to_owned(),
                );
            }
            if !seen.insert(provider) {
                return invalid(format!("{provider} has a lane already, and no two lanes may share a name"));
            }
        }
        for (name, Library { path, providers }) in &self.libraries {
            let invalid = |key: &str, problem: &str| {
                Err(ConfigError::Invalid(format!("native.libraries.{name}.{key}: {problem}")))
            };
            if providers.is_empty() {
                return invalid("providers", "a library is there for at least one");
            }
            if !path.is_absolute() {
                return invalid("path", &format!("{} is no absolute path", path.display()));
            }
        }
        Ok(Native {
            library: self.library.unwrap_or_else(library),
            providers: self.providers.unwrap_or_else(|| vec!["cpu".to_owned()]),
            libraries: self.libraries,
            threads: positive(self.threads, share, "native.threads")?,
            wgpu: wgpu(self.wgpu.as_deref())?,
        })
    }
}

fn wgpu(said: Option<&str>) -> Result<Option<Wanted>, ConfigError> {
    Ok(match said.map(str::trim) {
        None | Some("auto") => Some(Wanted::Hardware),
        Some("on") => Some(Wanted::Any),
        Some("off") => None,
        Some("") => {
            let problem =
                "native.wgpu is auto, on, off, or words of an adapter's name, as `weft doctor` shows it";
            return Err(ConfigError::Invalid(problem.to_owned()));
        }
        Some(name) => Some(Wanted::Named(name.to_owned())),
    })
}

/// Beside the program or in the `lib` folder of an unpacked weft, else where setup put it.
fn library() -> PathBuf {
    let name = if cfg!(target_os = "macos") { "libonnxruntime.dylib" } else { "libonnxruntime.so.1" };
    let set_up = || Path::new(env!("WEFT_NATIVE_DIR")).join(name);
    unpacked(Path::new("lib").join(name)).or_else(|| beside(name)).unwrap_or_else(set_up)
}
