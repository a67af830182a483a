//! The variants' part of the store: a row for each file that was made in another precision.

use duckdb::{OptionalExt as _, Row, params};

use super::{
    Store, StoreError,
    rows::{Cells, json},
};
use crate::domain::{Accuracy, Digest};

#[derive(Clone, Debug, PartialEq)]
pub struct StoredVariant {
    pub digest: Digest,
    /// The model that it was made of.
    pub original: Digest,
    pub recipe: String,
    /// With the weights beside it.
    pub original_bytes: u64,
    pub bytes: u64,
    pub bits_per_changed_weight: f64,
    pub bits_per_weight: f64,
    pub accuracy: Accuracy,
    /// Microseconds since the Unix epoch.
    pub made_at_us: i64,
}

impl Store {
    /// Keeps what is known of a variant, in place of what was known of the same file.
    pub async fn put_variant(&self, variant: StoredVariant) -> Result<(), StoreError> {
        self.change("variant", move |connection| {
            let columns = params![
                variant.digest.to_string(),
                variant.original.to_string(),
                variant.recipe,
                variant.original_bytes,
                variant.bytes,
                variant.bits_per_changed_weight,
                variant.bits_per_weight,
                json(&variant.accuracy),
                variant.made_at_us,
            ];
            connection.execute(include_str!("queries/put_variant.sql"), columns).map(drop)
        })
        .await
    }

    /// What is known of a file that was made here.
    pub async fn variant(&self, digest: Digest) -> Result<Option<StoredVariant>, StoreError> {
        self.read("variant", move |connection| {
            let sql = include_str!("queries/variant.sql");
            connection.query_row(sql, [digest.to_string()], read_variant).optional()
        })
        .await
    }

    /// Forgets variants that no name stands for.
    pub async fn prune_variants(&self) -> Result<(), StoreError> {
        self.change("variants", |connection| {
            connection.execute(include_str!("queries/prune_variants.sql"), []).map(drop)
        })
        .await
    }
}

fn read_variant(row: &Row<'_>) -> duckdb::Result<StoredVariant> {
    let mut cells = Cells::new(row);
    Ok(StoredVariant {
        digest: cells.parse()?,
        original: cells.parse()?,
        recipe: cells.next()?,
        original_bytes: cells.next()?,
        bytes: cells.next()?,
        bits_per_changed_weight: cells.next()?,
        bits_per_weight: cells.next()?,
        accuracy: cells.json()?,
        made_at_us: cells.next()?,
    })
}
