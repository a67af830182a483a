//! A daemon that is killed while it writes: the store opens again, and holds whole rows only.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use weft::{
    domain::{
        Batching, Caller, Code, Digest, Failure, Model, ModelKind, Retry, RunId, RunRecord, Signature,
        Timing, Tolerance, Uses, Verification,
    },
    store::{PAGE_MAX, Store, StoreError, StoredModel},
};

const CHILD: &str = "store::child_that_writes_until_it_is_killed";
/// The database's path and the round's number, for the child.
const PATH: &str = "WEFT_TEST_STORE_PATH";
const ROUND: &str = "WEFT_TEST_STORE_ROUND";
/// Runs between two acknowledgements: more than a batch, so that a kill also finds the writer between two of them.
const PER_ACK: u64 = 1500;

fn run(round: u64, at: u64) -> RunRecord {
    RunRecord {
        run: RunId::new(format!("{round}-{at}")),
        request: None,
        accepted_at_us: at.cast_signed(),
        caller: Caller::LOCAL.to_owned(),
        model: "m".parse().unwrap(),
        provenance: None,
        timing: Timing { queue: at, total: at + round, ..Timing::default() },
        error: (at.is_multiple_of(3))
            .then(|| Failure::new(Code::LaneLost, Retry::Elsewhere, format!("lost {at}"))),
    }
}

/// The model and its inputs tell the same number, so that a half-written pair shows.
fn model(at: u64) -> (StoredModel, String) {
    let model = Model {
        name: "m".parse().unwrap(),
        digest: Digest::new([0; 32]),
        bytes: at,
        signature: Signature::default(),
        tolerance: Tolerance(1e-3),
        source: "x".repeat(100_000),
        revision: None,
        licence: None,
        opset: 15,
        kind: ModelKind::Other,
        batching: Batching::barred("nothing runs"),
        external: BTreeMap::new(),
        companions: BTreeMap::new(),
        conversion: None,
    };
    let stored = StoredModel {
        model,
        added_at_us: at.cast_signed(),
        anatomy: None,
        verification: Some(Verification::begun(at.cast_signed())),
        pinned: false,
        again: false,
        uses: Uses::default(),
    };
    (stored, at.to_string())
}

#[tokio::test]
#[ignore = "runs as a process of its own, started by the test below"]
async fn child_that_writes_until_it_is_killed() {
    let path = std::env::var(PATH).expect("the parent names the database");
    let round = std::env::var(ROUND).expect("the parent names the round").parse().unwrap();
    let store = Store::open(Path::new(&path)).unwrap();
    for ack in 1.. {
        ((ack - 1) * PER_ACK..ack * PER_ACK).for_each(|at| store.record_run(run(round, at)));
        let (model, inputs) = model(round * 1_000_000 + ack);
        store.put_model(model, Some(inputs)).await.unwrap();
        store.flush().await.unwrap();
        writeln!(std::io::stdout(), "kept {ack}").unwrap();
    }
}

fn start(path: &Path, round: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", CHILD, "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Every run in the database, the oldest first.
async fn all_runs(store: &Store) -> Vec<RunRecord> {
    let (mut runs, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.runs(PAGE_MAX, cursor).await.unwrap();
        runs.extend(page.runs);
        cursor = page.next;
        if cursor.is_none() {
            runs.reverse();
            return runs;
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_rows_and_all_that_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.duckdb");
    let mut kept = Vec::new();
    for (round, acks) in (1..).zip([1, 2, 5, 11]) {
        let mut child = start(&path, round);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let seen = lines.filter(|line| line.starts_with("kept ")).take(acks as usize).count();
        let second = Store::open(&path).err();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen as u64, acks, "the child ended by itself");
        assert!(matches!(second, Some(StoreError::InUse { .. })), "{second:?}");

        let store = Store::open(&path).unwrap();
        let runs = all_runs(&store).await;
        let (before, written) = runs.split_at(kept.len());
        assert!(before == kept.as_slice(), "round {round} changed rows of an earlier one");
        assert!(written.len() as u64 >= acks * PER_ACK, "round {round} lost acknowledged rows");
        for (at, record) in (0..).zip(written) {
            assert_eq!(*record, run(round, at));
        }
        let models = store.models().await.unwrap();
        let written = models[0].model.bytes;
        assert!(written >= round * 1_000_000 + acks);
        let (expected, inputs) = model(written);
        assert_eq!(models, [expected]);
        assert_eq!(
            store.model_inputs("m".parse().unwrap(), Digest::new([0; 32])).await.unwrap(),
            Some(inputs)
        );
        store.close().await.unwrap();
        kept = runs;
    }
}
