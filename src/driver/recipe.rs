//! What a recipe says: how one product is found, flagged and limited. Reads `browsers/*.toml`, strictly.
//!
//! It never starts anything and never reads the environment.

use std::{
    ffi::OsString,
    fmt, fs,
    io::Read as _,
    ops::Range,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::Spanned;

use super::DriverError;
use crate::domain::BackendKind;

/// Every recipe travels in the binary, so that an installed one needs no files beside it.
pub(super) const EMBEDDED: [(&str, &str); 2] = [
    ("browsers/chromium.toml", include_str!("../../browsers/chromium.toml")),
    ("browsers/chromium-webnn.toml", include_str!("../../browsers/chromium-webnn.toml")),
];

/// Flags that the driver sets itself: a second one would silently replace it.
const RESERVED_FLAGS: [&str; 5] =
    ["--user-data-dir", "--remote-debugging-port", "--enable-features", "--disable-features", "--no-sandbox"];

/// Wrapper scripts are a few KiB; browsers are many MiB.
const SHIM_MAX: u64 = 64 * 1024;

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
}

#[derive(Clone, Debug)]
pub struct Recipe {
    pub name: String,
    /// For people, as `Chromium with WebNN`.
    pub product: String,
    pub driver: DriverKind,
    /// What brings the product when it is missing.
    pub install: String,
    /// What its lanes may hold; the probe decides what they do hold.
    pub backends: Vec<BackendKind>,
    pub limits: Limits,
    find: Vec<String>,
    always: Switches,
    hardware: Switches,
    software: Switches,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Most browsers of this product at once.
    pub instances: u32,
}

/// Command-line switches; features apart, because Chromium obeys only the last list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Switches {
    pub(super) flags: Vec<String>,
    pub(super) enable_features: Vec<String>,
    pub(super) disable_features: Vec<String>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipe {
    name: Spanned<String>,
    product: String,
    driver: DriverKind,
    find: Spanned<Vec<Spanned<String>>>,
    install: String,
    backends: Vec<Spanned<BackendKind>>,
    #[serde(default)]
    flags: Vec<Spanned<String>>,
    #[serde(default)]
    enable_features: Vec<Spanned<String>>,
    #[serde(default)]
    disable_features: Vec<Spanned<String>>,
    gpu: RawGpu,
    limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGpu {
    hardware: RawSwitches,
    software: RawSwitches,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSwitches {
    #[serde(default)]
    flags: Vec<Spanned<String>>,
    #[serde(default)]
    enable_features: Vec<Spanned<String>>,
    #[serde(default)]
    disable_features: Vec<Spanned<String>>,
}

impl Recipe {
    /// The names of the embedded recipes.
    pub fn names() -> Vec<String> {
        Self::embedded().into_iter().map(|recipe| recipe.name).collect()
    }

    pub fn embedded() -> Vec<Self> {
        EMBEDDED
            .iter()
            .map(|(file, text)| Self::parse(file, text).expect("a test parses every embedded recipe"))
            .collect()
    }

    /// Reads one recipe; `file` names it in errors, and its stem must be the recipe's name.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let page = Page { file, text };
        let raw: RawRecipe =
            toml::from_str(text).map_err(|error| page.error(error.span(), error.message()))?;
        page.check_name(&raw.name)?;
        if raw.find.get_ref().is_empty() {
            return Err(page.error(Some(raw.find.span()), "at least one command or path is wanted"));
        }
        for place in raw.find.get_ref() {
            page.check_place(place)?;
        }
        for backend in &raw.backends {
            if backend.get_ref().is_native() {
                return Err(page.error(Some(backend.span()), "a browser holds no native backend"));
            }
        }
        let always = RawSwitches {
            flags: raw.flags,
            enable_features: raw.enable_features,
            disable_features: raw.disable_features,
        };
        Ok(Self {
            name: raw.name.into_inner(),
            product: raw.product,
            driver: raw.driver,
            install: raw.install,
            backends: raw.backends.into_iter().map(Spanned::into_inner).collect(),
            limits: raw.limits,
            find: raw.find.into_inner().into_iter().map(Spanned::into_inner).collect(),
            always: page.switches(always)?,
            hardware: page.switches(raw.gpu.hardware)?,
            software: page.switches(raw.gpu.software)?,
        })
    }

    /// The switches of a launch in this mode.
    pub(super) fn switches(&self, gpu: GpuMode) -> Switches {
        let mode = match gpu {
            GpuMode::Hardware => &self.hardware,
            GpuMode::Software => &self.software,
        };
        let join = |a: &[String], b: &[String]| a.iter().chain(b).cloned().collect();
        Switches {
            flags: mode.flags.clone(),
            enable_features: join(&self.always.enable_features, &mode.enable_features),
            disable_features: join(&self.always.disable_features, &mode.disable_features),
        }
    }

    /// Flags of every launch, which choose no arithmetic.
    pub(super) fn flags(&self) -> &[String] {
        &self.always.flags
    }

    /// The first candidate that is a browser of its own, not a shim to a confined one.
    pub fn locate(&self, places: &Places) -> Result<PathBuf, DriverError> {
        let mut refused = Vec::new();
        for candidate in self.find.iter().flat_map(|place| places.candidates(place)) {
            match inspect(&candidate) {
                Found::Program => return Ok(candidate),
                Found::Snap => refused.push(candidate.display().to_string()),
                Found::Nothing => {}
            }
        }
        let mut hint = self.install.clone();
        if !refused.is_empty() {
            hint = format!(
                "{} only leads to a snap, whose confinement hides our profile directory from it; {hint}",
                refused.join(", ")
            );
        }
        Err(DriverError::NotInstalled { product: self.product.clone(), hint })
    }
}

impl Places {
    fn candidates(&self, place: &str) -> Vec<PathBuf> {
        match place.strip_prefix("{cache}/") {
            Some(rest) => vec![self.cache.join(rest)],
            None if place.contains('/') => vec![PathBuf::from(place)],
            None => std::env::split_paths(&self.path).map(|folder| folder.join(place)).collect(),
        }
    }
}

enum Found {
    Program,
    Snap,
    Nothing,
}

fn inspect(candidate: &Path) -> Found {
    let Ok(target) = candidate.canonicalize() else { return Found::Nothing };
    let Ok(metadata) = fs::metadata(&target) else { return Found::Nothing };
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Found::Nothing;
    }
    let in_snap = |path: &Path| path.starts_with("/snap") || path.starts_with("/var/lib/snapd");
    let runs_snap = target.file_name().is_some_and(|name| name == "snap");
    if in_snap(candidate) || in_snap(&target) || runs_snap || is_snap_script(&target, metadata.len()) {
        return Found::Snap;
    }
    Found::Program
}

fn is_snap_script(target: &Path, size: u64) -> bool {
    if size > SHIM_MAX {
        return false;
    }
    let mut text = Vec::new();
    let read = fs::File::open(target).and_then(|file| file.take(SHIM_MAX).read_to_end(&mut text));
    let mentions = |word: &[u8]| text.windows(word.len()).any(|window| window == word);
    read.is_ok() && text.starts_with(b"#!") && (mentions(b"/snap/") || mentions(b"snap install"))
}

/// One recipe's text, for errors that name its lines.
struct Page<'a> {
    file: &'a str,
    text: &'a str,
}

impl Page<'_> {
    fn error(&self, span: Option<Range<usize>>, message: &str) -> RecipeError {
        let at = span.map_or(0, |span| span.start).min(self.text.len());
        let line = self.text[..at].matches('\n').count() + 1;
        RecipeError { file: self.file.to_owned(), line, message: message.to_owned() }
    }

    fn check_name(&self, name: &Spanned<String>) -> Result<(), RecipeError> {
        let stem = Path::new(self.file).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.get_ref() != stem {
            return Err(self.error(Some(name.span()), &format!("the file's name asks for name = {stem:?}")));
        }
        if !name.get_ref().bytes().all(allowed) {
            return Err(self.error(Some(name.span()), "a name is made of a-z, 0-9 and -"));
        }
        Ok(())
    }

    fn check_place(&self, place: &Spanned<String>) -> Result<(), RecipeError> {
        let text = place.get_ref().strip_prefix("{cache}/").unwrap_or(place.get_ref());
        if text.is_empty() || text.contains(['{', '}']) {
            let message = "a command, a path, or {cache}/ and a path is wanted";
            return Err(self.error(Some(place.span()), message));
        }
        Ok(())
    }

    fn switches(&self, raw: RawSwitches) -> Result<Switches, RecipeError> {
        for flag in &raw.flags {
            let name = flag.get_ref().split('=').next().unwrap_or_default();
            if !name.starts_with("--") {
                return Err(self.error(Some(flag.span()), "a flag starts with --"));
            }
            if RESERVED_FLAGS.contains(&name) {
                return Err(self.error(Some(flag.span()), &format!("{name} is set by the driver")));
            }
        }
        for feature in raw.enable_features.iter().chain(&raw.disable_features) {
            if feature.get_ref().is_empty() || feature.get_ref().contains(',') {
                return Err(self.error(Some(feature.span()), "one feature's name is wanted"));
            }
        }
        let plain = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
        Ok(Switches {
            flags: plain(raw.flags),
            enable_features: plain(raw.enable_features),
            disable_features: plain(raw.disable_features),
        })
    }
}
