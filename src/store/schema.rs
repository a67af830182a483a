//! Brings a database to this weft's schema. Never goes back, and never touches one from a newer weft.

use std::path::Path;

use duckdb::{Connection, params};
use sha2::{Digest as _, Sha256};

use super::StoreError;
use crate::domain::Digest;

pub(super) struct Migration {
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// In order; the first is version 1. One that has been released is never edited, only followed by another.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { name: "001_initial", sql: include_str!("schema/001_initial.sql") },
    Migration { name: "002_request", sql: include_str!("schema/002_request.sql") },
    Migration { name: "003_batch", sql: include_str!("schema/003_batch.sql") },
    Migration { name: "004_access", sql: include_str!("schema/004_access.sql") },
    Migration { name: "005_kind", sql: include_str!("schema/005_kind.sql") },
    Migration { name: "006_spent", sql: include_str!("schema/006_spent.sql") },
    Migration { name: "007_source", sql: include_str!("schema/007_source.sql") },
    Migration { name: "008_files", sql: include_str!("schema/008_files.sql") },
    Migration { name: "009_versions", sql: include_str!("schema/009_versions.sql") },
    Migration { name: "010_conversion", sql: include_str!("schema/010_conversion.sql") },
    Migration { name: "011_cache", sql: include_str!("schema/011_cache.sql") },
    Migration { name: "012_variants", sql: include_str!("schema/012_variants.sql") },
    Migration { name: "013_plans", sql: include_str!("schema/013_plans.sql") },
    Migration { name: "014_plan_error", sql: include_str!("schema/014_plan_error.sql") },
    Migration { name: "015_recovery_times", sql: include_str!("schema/015_recovery_times.sql") },
    Migration { name: "016_standing_plans", sql: include_str!("schema/016_standing_plans.sql") },
    Migration { name: "017_bench", sql: include_str!("schema/017_bench.sql") },
    Migration { name: "018_bench_precision", sql: include_str!("schema/018_bench_precision.sql") },
];

impl Migration {
    fn digest(&self) -> String {
        Digest::new(Sha256::digest(self.sql).into()).to_string()
    }
}

pub(super) fn migrate(
    connection: &Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), StoreError> {
    let applied = applied(connection)
        .map_err(|error| StoreError::Corrupt { path: path.to_owned(), message: error.to_string() })?;
    let known = migrations.len() as u32;
    if let Some((found, _)) = applied.last().filter(|(found, _)| *found > known) {
        return Err(StoreError::Newer { path: path.to_owned(), found: *found, known });
    }
    for (version, migration) in (1..).zip(migrations) {
        match applied.iter().find(|(found, _)| *found == version) {
            Some((_, digest)) if *digest == migration.digest() => {}
            Some(_) => return Err(StoreError::Altered { path: path.to_owned(), version }),
            None => apply(connection, version, migration).map_err(|error| StoreError::Migrate {
                path: path.to_owned(),
                version,
                message: error.to_string(),
            })?,
        }
    }
    Ok(())
}

fn applied(connection: &Connection) -> duckdb::Result<Vec<(u32, String)>> {
    connection.execute_batch(include_str!("schema/migrations.sql"))?;
    let mut statement = connection.prepare(include_str!("queries/applied.sql"))?;
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

fn apply(connection: &Connection, version: u32, migration: &Migration) -> duckdb::Result<()> {
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(migration.sql)?;
    transaction.execute(
        include_str!("queries/record_migration.sql"),
        params![version, migration.name, migration.digest()],
    )?;
    transaction.commit()
}
