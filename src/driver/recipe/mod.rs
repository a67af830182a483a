//! What a recipe says: how one product is found, driven, flagged and limited.
//!
//! Recipes come from `browsers/*.toml` in the program and from the home's own `browsers` folder.
//! Nothing here starts anything or reads the environment.

mod find;
mod parse;

pub use find::on_path;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use crate::domain::{BackendKind, Priors};

/// Every recipe travels in the binary, so that an installed one needs no files beside it.
pub(super) const EMBEDDED: [(&str, &str); 9] = [
    ("browsers/attach.toml", include_str!("../../../browsers/attach.toml")),
    ("browsers/chrome.toml", include_str!("../../../browsers/chrome.toml")),
    ("browsers/chromium.toml", include_str!("../../../browsers/chromium.toml")),
    ("browsers/chromium-webnn.toml", include_str!("../../../browsers/chromium-webnn.toml")),
    ("browsers/edge.toml", include_str!("../../../browsers/edge.toml")),
    ("browsers/firefox.toml", include_str!("../../../browsers/firefox.toml")),
    ("browsers/remote.toml", include_str!("../../../browsers/remote.toml")),
    ("browsers/safari.toml", include_str!("../../../browsers/safari.toml")),
    ("browsers/webkitgtk.toml", include_str!("../../../browsers/webkitgtk.toml")),
];

/// Which GPU a launch asks for. Hardware is tried first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GpuMode {
    Hardware,
    Software,
}

impl fmt::Display for GpuMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hardware => "hardware",
            Self::Software => "software",
        })
    }
}

/// Which code steers the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DriverKind {
    Cdp,
    Bidi,
    Webdriver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Platform {
    Linux,
    Macos,
}

impl Platform {
    /// Where this program runs; `None` where it never was built.
    pub fn here() -> Option<Self> {
        match std::env::consts::OS {
            "linux" => Some(Self::Linux),
            "macos" => Some(Self::Macos),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    pub name: String,
    /// For people, as `Chromium with WebNN`.
    pub product: String,
    pub driver: DriverKind,
    /// Where the product exists.
    pub platforms: Vec<Platform>,
    /// What brings the product when it is missing.
    pub install: String,
    /// What its lanes may hold; the probe decides what they do hold.
    pub backends: Vec<BackendKind>,
    /// How the version that it answers must begin, dot by dot.
    pub version: Option<String>,
    /// It has no headless mode.
    pub display: bool,
    pub limits: Limits,
    /// What steps take in its lanes, until they have run some.
    pub priors: Priors,
    pub(super) source: Source,
    always: Switches,
    hardware: Switches,
    software: Switches,
    /// Asked of a WebDriver server beside what the driver itself asks.
    pub(super) capabilities: serde_json::Map<String, Value>,
}

/// Where the browser, or the server that starts it, comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Programs to look for; the first one found is started by us.
    Find(Vec<String>),
    /// Something that runs already and stays when we go: a WebDriver server, or a browser to attach to.
    Endpoint(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most browsers of this product at once.
    pub instances: u32,
    /// An instance that holds more is drained and launched anew.
    pub memory_mb: Option<u64>,
    /// An instance that has run as many steps is drained and launched anew.
    pub runs: Option<u64>,
}

/// Command-line switches and preferences; features apart, because Chromium obeys only the last list of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Switches {
    pub(super) flags: Vec<String>,
    pub(super) enable_features: Vec<String>,
    pub(super) disable_features: Vec<String>,
    /// Firefox's.
    pub(super) prefs: BTreeMap<String, Pref>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(super) enum Pref {
    Bool(bool),
    Int(i64),
    Text(String),
}

/// As the value stands in a preferences file.
impl fmt::Display for Pref {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Text(value) => write!(f, "{}", Value::from(value.as_str())),
        }
    }
}

/// Where programs may lie.
#[derive(Clone, Debug)]
pub struct Places {
    /// What `{cache}` stands for.
    pub cache: PathBuf,
    /// A search path for commands, in the form of `PATH`.
    pub path: OsString,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{file}:{line}: {message}")]
pub struct RecipeError {
    pub file: String,
    pub line: usize,
    pub message: String,
}

impl Recipe {
    pub fn embedded() -> Vec<Self> {
        EMBEDDED
            .iter()
            .map(|(file, text)| Self::parse(file, text).expect("a test parses every embedded recipe"))
            .collect()
    }

    /// The embedded recipes and those of a folder, where one of the same name takes the other's place.
    pub fn all(folder: &Path) -> Result<Vec<Self>, RecipeError> {
        let mut recipes = Self::embedded();
        let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut files: Vec<PathBuf> =
            entries.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
        files.sort();
        for file in files {
            let name = file.display().to_string();
            let text = fs::read_to_string(&file).map_err(|error| RecipeError {
                file: name.clone(),
                line: 1,
                message: error.to_string(),
            })?;
            let own = Self::parse(&name, &text)?;
            recipes.retain(|recipe| recipe.name != own.name);
            recipes.push(own);
        }
        Ok(recipes)
    }

    /// Whether this platform can hold the product at all.
    pub fn exists_here(&self) -> bool {
        Platform::here().is_some_and(|here| self.platforms.contains(&here))
    }

    /// The switches that this mode adds to those of every launch, and every feature and preference.
    pub(super) fn switches(&self, gpu: GpuMode) -> Switches {
        let mode = match gpu {
            GpuMode::Hardware => &self.hardware,
            GpuMode::Software => &self.software,
        };
        let join = |a: &[String], b: &[String]| a.iter().chain(b).cloned().collect();
        let prefs = self.always.prefs.iter().chain(&mode.prefs);
        Switches {
            flags: mode.flags.clone(),
            enable_features: join(&self.always.enable_features, &mode.enable_features),
            disable_features: join(&self.always.disable_features, &mode.disable_features),
            prefs: prefs.map(|(name, value)| (name.clone(), value.clone())).collect(),
        }
    }

    /// Flags of every launch, which choose no arithmetic.
    pub(super) fn flags(&self) -> &[String] {
        &self.always.flags
    }
}
