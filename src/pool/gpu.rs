//! Which browsers are known to find no hardware adapter here, so that they are not launched twice at every start.
//!
//! What is known holds as long as the machine has the same GPU devices and the browser its version.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use serde::{Deserialize, Serialize};

const FILE: &str = "gpu.json";

/// Folders whose entries are the kernel's GPU devices.
const DEVICES: [&str; 2] = ["/dev/dri", "/dev"];

#[derive(Clone)]
pub(super) struct Remembered {
    path: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Default, Serialize, Deserialize)]
struct Known {
    devices: Vec<String>,
    /// Versions by browser.
    software: BTreeMap<String, String>,
    /// Browsers that got no WebGPU, or no WebNN, from hardware flags since this daemon started.
    #[serde(skip)]
    failed: BTreeSet<String>,
}

impl Remembered {
    pub(super) fn read(home: &Path) -> Self {
        let path = home.join(FILE);
        let known: Option<Known> =
            std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let devices = devices();
        let known = known.filter(|known| known.devices == devices);
        let known = known.unwrap_or_else(|| Known { devices, ..Known::default() });
        Self { path, known: Arc::new(Mutex::new(known)) }
    }

    pub(super) fn needs_software(&self, browser: &str) -> bool {
        let known = self.known();
        known.failed.contains(browser) || known.software.contains_key(browser)
    }

    /// Notes that hardware flags gave this version no WebGPU, or no WebNN where that alone was wanted.
    /// Only for want of an adapter is that true of the next start as well; other failures may pass.
    pub(super) fn learn(&self, browser: &str, version: &str, no_adapter: bool) {
        let mut known = self.known();
        known.failed.insert(browser.to_owned());
        if no_adapter {
            known.software.insert(browser.to_owned(), version.to_owned());
            self.write(&known);
        }
    }

    /// Forgets what was known of another version; its next start tries hardware flags again.
    pub(super) fn launched(&self, browser: &str, version: &str) {
        let mut known = self.known();
        if known.software.get(browser).is_some_and(|known| known != version) {
            known.software.remove(browser);
            self.write(&known);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of what is known panics")
    }

    fn write(&self, known: &Known) {
        let text = serde_json::to_string(known).expect("what is known is strings");
        if let Err(error) = std::fs::write(&self.path, text) {
            tracing::warn!(%error, "could not note which browsers need software adapters");
        }
    }
}

fn devices() -> Vec<String> {
    let entries = DEVICES.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> =
        names.filter(|name| ["card", "renderD", "nvidia"].iter().any(|gpu| name.starts_with(gpu))).collect();
    names.sort();
    names
}
