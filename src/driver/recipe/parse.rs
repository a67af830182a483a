//! Reads recipe files, strictly: whatever is wrong is named with its line.

use std::{collections::BTreeMap, ops::Range, path::Path, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{DriverKind, Limits, Platform, Pref, Recipe, RecipeError, Source, Switches};
use crate::domain::{BackendKind, ModelKind, Priors};

/// Flags that the drivers set themselves: a second one would silently replace theirs.
const RESERVED_FLAGS: [&str; 8] = [
    "--user-data-dir",
    "--remote-debugging-port",
    "--enable-features",
    "--disable-features",
    "--no-sandbox",
    "--profile",
    "--no-remote",
    "--port",
];

/// A step that is thought to take longer than this would never be given to the lane that could show otherwise.
const PRIOR_MAX_MS: f64 = 60_000.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecipe {
    name: Spanned<String>,
    product: String,
    driver: Spanned<DriverKind>,
    #[serde(default = "everywhere")]
    platforms: Vec<Platform>,
    find: Option<Spanned<Vec<Spanned<String>>>>,
    endpoint: Option<Spanned<String>>,
    install: String,
    backends: Vec<Spanned<BackendKind>>,
    version: Option<String>,
    #[serde(default)]
    display: bool,
    #[serde(default)]
    flags: Vec<Spanned<String>>,
    #[serde(default)]
    enable_features: Vec<Spanned<String>>,
    #[serde(default)]
    disable_features: Vec<Spanned<String>>,
    #[serde(default)]
    prefs: BTreeMap<Spanned<String>, Pref>,
    capabilities: Option<Spanned<toml::Table>>,
    gpu: RawGpu,
    limits: Limits,
    /// Milliseconds.
    #[serde(default)]
    priors: BTreeMap<ModelKind, BTreeMap<Spanned<BackendKind>, Spanned<f64>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGpu {
    hardware: RawSwitches,
    software: RawSwitches,
}

// `RawRecipe` has the same fields once more: flattened, their errors would lose their lines.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawSwitches {
    flags: Vec<Spanned<String>>,
    enable_features: Vec<Spanned<String>>,
    disable_features: Vec<Spanned<String>>,
    prefs: BTreeMap<Spanned<String>, Pref>,
}

fn everywhere() -> Vec<Platform> {
    vec![Platform::Linux, Platform::Macos]
}

impl Recipe {
    /// Reads one recipe; `file` names it in errors, and its stem must be the recipe's name.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let raw: RawRecipe = {
            let page = Page { file, text, driver: DriverKind::Cdp };
            toml::from_str(text).map_err(|error| page.error(error.span(), error.message()))?
        };
        let page = Page { file, text, driver: *raw.driver.get_ref() };
        page.check_name(&raw.name)?;
        for backend in &raw.backends {
            if backend.get_ref().is_native() {
                return Err(page.error(Some(backend.span()), "a browser holds no native backend"));
            }
        }
        let backends: Vec<_> = raw.backends.into_iter().map(Spanned::into_inner).collect();
        let always = RawSwitches {
            flags: raw.flags,
            enable_features: raw.enable_features,
            disable_features: raw.disable_features,
            prefs: raw.prefs,
        };
        Ok(Self {
            priors: page.priors(raw.priors, &backends)?,
            source: page.source(&raw.name, raw.find, raw.endpoint)?,
            name: raw.name.into_inner(),
            product: raw.product,
            driver: page.driver,
            platforms: raw.platforms,
            install: raw.install,
            backends,
            version: raw.version,
            display: raw.display,
            limits: raw.limits,
            always: page.switches(always)?,
            hardware: page.switches(raw.gpu.hardware)?,
            software: page.switches(raw.gpu.software)?,
            capabilities: page.capabilities(raw.capabilities)?,
        })
    }
}

/// One recipe's text, for errors that name its lines.
struct Page<'a> {
    file: &'a str,
    text: &'a str,
    driver: DriverKind,
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

    fn source(
        &self,
        name: &Spanned<String>,
        find: Option<Spanned<Vec<Spanned<String>>>>,
        endpoint: Option<Spanned<String>>,
    ) -> Result<Source, RecipeError> {
        match (find, endpoint) {
            (Some(find), None) => {
                if find.get_ref().is_empty() {
                    return Err(self.error(Some(find.span()), "at least one command or path is wanted"));
                }
                for place in find.get_ref() {
                    self.check_place(place)?;
                }
                Ok(Source::Find(find.into_inner().into_iter().map(Spanned::into_inner).collect()))
            }
            (None, Some(endpoint)) => {
                let schemes = match self.driver {
                    DriverKind::Webdriver => ["http://", "https://"].as_slice(),
                    DriverKind::Cdp => &["http://", "ws://"],
                    // Firefox speaks no TLS there.
                    DriverKind::Bidi => &["ws://"],
                };
                if !schemes.iter().any(|scheme| endpoint.get_ref().starts_with(scheme)) {
                    let message = format!("an address that starts with {} is wanted", schemes.join(" or "));
                    return Err(self.error(Some(endpoint.span()), &message));
                }
                Ok(Source::Endpoint(endpoint.into_inner()))
            }
            (Some(_), Some(endpoint)) => {
                Err(self.error(Some(endpoint.span()), "either find or endpoint is wanted, not both"))
            }
            (None, None) => Err(self.error(Some(name.span()), "find or endpoint is wanted")),
        }
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
            if self.driver != DriverKind::Cdp {
                return Err(self.error(Some(feature.span()), "only Chromium has features, driver = \"cdp\""));
            }
            if feature.get_ref().is_empty() || feature.get_ref().contains(',') {
                return Err(self.error(Some(feature.span()), "one feature's name is wanted"));
            }
        }
        if let Some(pref) = raw.prefs.keys().next()
            && self.driver != DriverKind::Bidi
        {
            return Err(self.error(Some(pref.span()), "only Firefox has preferences, driver = \"bidi\""));
        }
        let plain = |list: Vec<Spanned<String>>| list.into_iter().map(Spanned::into_inner).collect();
        Ok(Switches {
            flags: plain(raw.flags),
            enable_features: plain(raw.enable_features),
            disable_features: plain(raw.disable_features),
            prefs: raw.prefs.into_iter().map(|(name, value)| (name.into_inner(), value)).collect(),
        })
    }

    fn priors(
        &self,
        raw: BTreeMap<ModelKind, BTreeMap<Spanned<BackendKind>, Spanned<f64>>>,
        backends: &[BackendKind],
    ) -> Result<Priors, RecipeError> {
        let mut priors = Priors::new();
        for (kind, raw) in raw {
            for (backend, ms) in raw {
                if !backends.contains(backend.get_ref()) {
                    return Err(self.error(Some(backend.span()), "it is not among the recipe's backends"));
                }
                if !(*ms.get_ref() > 0.0 && *ms.get_ref() <= PRIOR_MAX_MS) {
                    let message = format!("a step takes more than 0 and at most {PRIOR_MAX_MS} milliseconds");
                    return Err(self.error(Some(ms.span()), &message));
                }
                let step = Duration::from_secs_f64(ms.get_ref() / 1e3);
                priors.entry(kind).or_default().insert(backend.into_inner(), step);
            }
        }
        Ok(priors)
    }

    fn capabilities(
        &self,
        raw: Option<Spanned<toml::Table>>,
    ) -> Result<serde_json::Map<String, serde_json::Value>, RecipeError> {
        let Some(raw) = raw else { return Ok(serde_json::Map::new()) };
        let span = raw.span();
        if self.driver != DriverKind::Webdriver {
            return Err(self.error(Some(span), "only driver = \"webdriver\" asks for capabilities"));
        }
        match serde_json::to_value(raw.into_inner()) {
            Ok(serde_json::Value::Object(map)) => Ok(map),
            _ => Err(self.error(Some(span), "a table of JSON values is wanted")),
        }
    }
}
