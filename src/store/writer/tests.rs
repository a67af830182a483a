//! What writing leaves in memory.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use super::{BATCH_ROWS, TIDY_EVERY};
use crate::{
    domain::{RunId, RunRecord, Timing},
    store::Store,
};

/// What `CACHED` says, in bytes.
const CACHED_BYTES: u64 = 4_000_000;

/// A run whose name takes as much in the file as here.
fn run(at: u64) -> RunRecord {
    let name: String = (0..8).map(|_| rand::random::<u128>().to_string()).collect();
    RunRecord {
        run: RunId::new(name),
        request: None,
        accepted_at_us: 1_795_000_000_000_000 + at.cast_signed(),
        caller: "local".to_owned(),
        model: "magika".parse().unwrap(),
        provenance: None,
        timing: Timing { total: at, ..Timing::default() },
        error: None,
    }
}

/// Bytes of tables that the database has in memory.
async fn held(store: &Store) -> u64 {
    let sql = "SELECT sum(memory_usage_bytes)::UBIGINT FROM duckdb_memory() WHERE tag LIKE '%TABLE'";
    store.read("memory", move |connection| connection.query_row(sql, [], |row| row.get(0))).await.unwrap()
}

#[tokio::test]
async fn what_the_file_has_does_not_stay_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.duckdb");
    let store = Store::open(&path).unwrap();
    let rows = TIDY_EVERY.cast_unsigned();
    for at in 0..rows {
        store.record_run(run(at));
        if (at + 1) % BATCH_ROWS as u64 == 0 {
            store.flush().await.unwrap();
        }
    }
    store.flush().await.unwrap();
    let (held, kept) = (held(&store).await, std::fs::metadata(&path).unwrap().len());
    assert!(kept > 2 * CACHED_BYTES, "{kept} bytes in the file are too few to tell anything");
    assert!(held <= CACHED_BYTES, "{held} of {kept} bytes are in memory");
    assert_eq!(store.runs(1, None).await.unwrap().runs[0].timing.total, rows - 1);
    store.close().await.unwrap();
}
