//! Opens the database file and names what is wrong when it cannot. Never repairs or replaces a file.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use duckdb::{Config, Connection};

use super::{StoreError, schema};

/// The database's own workers, the calling thread included.
/// Appends and key look-ups gain nothing from more, and the cores are the lanes'.
const THREADS: i64 = 1;
/// A page of runs and a batch take a few MiB; a scan of the whole history streams.
/// Above it the database spills beside the file or refuses the query.
pub(super) const MEMORY: &str = "256MB";
/// Log above which the database writes it back by itself: more than the writer leaves between two times that it does so.
const LOG: &str = "32MB";

/// The path under which errors name a database without a file.
pub(super) const IN_MEMORY: &str = ":memory:";

pub(super) fn file(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        create(path)?;
    }
    let connection = connect(path, path)?;
    schema::migrate(&connection, path, schema::MIGRATIONS)?;
    Ok(connection)
}

/// A new database gets its name when it is complete: one cut short by a kill would be refused ever after.
fn create(path: &Path) -> Result<(), StoreError> {
    let refused = |error: io::Error| StoreError::Open { path: path.to_owned(), message: error.to_string() };
    let unfinished = beside(path, ".new");
    for leftover in [&unfinished, &beside(path, ".new.wal")] {
        match fs::remove_file(leftover) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
    }
    let connection = connect(&unfinished, path)?;
    schema::migrate(&connection, path, schema::MIGRATIONS)?;
    drop(connection);
    fs::rename(&unfinished, path).map_err(refused)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// Errors name the file as `path`.
fn connect(file: &Path, path: &Path) -> Result<Connection, StoreError> {
    config()
        .and_then(|config| Connection::open_with_flags(file, config))
        .map_err(|error| refused(path, &error))
}

/// A database in memory without any table.
pub(super) fn unmigrated() -> duckdb::Result<Connection> {
    config().and_then(Connection::open_in_memory_with_flags)
}

pub(super) fn in_memory() -> Result<Connection, StoreError> {
    let path = Path::new(IN_MEMORY);
    let connection = unmigrated()
        .map_err(|error| StoreError::Open { path: path.to_owned(), message: error.to_string() })?;
    schema::migrate(&connection, path, schema::MIGRATIONS)?;
    Ok(connection)
}

fn config() -> duckdb::Result<Config> {
    // Extensions would be fetched from the network.
    let config = Config::default().threads(THREADS)?.max_memory(MEMORY)?.with("wal_autocheckpoint", LOG)?;
    config.enable_autoload_extension(false)
}

/// The library gives one code for all of these: the lock is told by its message,
/// and a file that the system lets us read and write is itself at fault.
fn refused(path: &Path, error: &duckdb::Error) -> StoreError {
    let (path, message) = (path.to_owned(), error.to_string());
    if message.contains("Could not set lock on file") {
        return StoreError::InUse { path, message };
    }
    let accessible = path.is_file() && std::fs::OpenOptions::new().read(true).write(true).open(&path).is_ok();
    if accessible { StoreError::Corrupt { path, message } } else { StoreError::Open { path, message } }
}
