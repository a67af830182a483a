//! Where a configuration comes from, so that it can be read again.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::{Table, Value};

use super::{Config, ConfigError, RawConfig, Surroundings};

/// A file, and what the command line puts over it.
pub struct Source {
    pub file: Option<PathBuf>,
    pub home: PathBuf,
    pub surroundings: Surroundings,
    pub change: Box<dyn Fn(&mut RawConfig) + Send + Sync>,
    /// The keys that `change` has the last word on.
    pub overruled: Vec<&'static str>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("file", &self.file).field("home", &self.home).finish_non_exhaustive()
    }
}

impl Source {
    /// The file that counts: the one that was named, else the home's own when it is there.
    fn path(&self) -> Option<PathBuf> {
        let own = self.home.join("weft.toml");
        self.file.clone().or_else(|| own.exists().then_some(own))
    }

    /// What the file says now, whole and checked.
    pub fn read(self: Arc<Self>) -> Result<Config, ConfigError> {
        let (mut raw, written) = match self.path() {
            Some(path) => parse(&path)?,
            None => Default::default(),
        };
        (self.change)(&mut raw);
        // Browsers get absolute profile paths whatever the working folder becomes.
        let home = std::path::absolute(&self.home)
            .map_err(|source| ConfigError::Read { path: self.home.clone(), source })?;
        let config = raw.resolve(home, self.surroundings.clone())?;
        Ok(Config { written, source: Some(self), ..config })
    }
}

pub(super) fn parse(path: &Path) -> Result<(RawConfig, Written), ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    let wrong = |source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) };
    let raw = toml::from_str(&text).map_err(wrong)?;
    Ok((raw, Written(toml::from_str(&text).map_err(wrong)?)))
}

/// A file's keys as they stand in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Written(Table);

impl Written {
    /// Values by key, tables as `section.key`.
    fn keys(&self) -> BTreeMap<String, &Value> {
        let mut keys = BTreeMap::new();
        for (name, value) in &self.0 {
            match value {
                Value::Table(section) => {
                    keys.extend(section.iter().map(|(key, value)| (format!("{name}.{key}"), value)));
                }
                value => {
                    keys.insert(name.clone(), value);
                }
            }
        }
        keys
    }

    /// The keys that are not the same there.
    pub fn changed(&self, there: &Self) -> Vec<String> {
        let (here, there) = (self.keys(), there.keys());
        let gone = here.iter().filter(|(key, value)| there.get(*key) != Some(*value)).map(|(key, _)| key);
        let new = there.keys().filter(|key| !here.contains_key(*key));
        let mut changed: Vec<_> = gone.chain(new).cloned().collect();
        changed.sort();
        changed
    }
}
