//! The store as its callers see it, on a database in memory or in a temporary folder.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::{collections::BTreeMap, fs, path::Path, sync::mpsc as std_mpsc};

use super::{
    PAGE_MAX, RunCursor, RunPage, Spent, Store, StoreError, StoredModel, StoredPlan, StoredUses,
    StoredVerdict, open,
    schema::{MIGRATIONS, Migration, migrate},
    writer,
};
use crate::domain::{
    Adapter, Anatomy, BackendKind, Batching, Code, Conversion, Cost, Datatype, Digest, Dim, Failure,
    Fallback, InstanceId, LaneId, Model, ModelKind, Place, Plan, PlanFallback, PlanId, Port, ProofCost,
    Provenance, Recovery, Retry, RunId, RunRecord, Shard, Signature, Spares, StageKind, StageRun, Timing,
    Tolerance, Uses, Verdict, VerdictKey, VerdictStatus, Verification,
};

fn run(name: &str) -> RunRecord {
    RunRecord {
        run: RunId::new(name),
        request: Some("7b-1".parse().unwrap()),
        accepted_at_us: 1_795_000_000_123_456,
        caller: "key/0123".to_owned(),
        model: "silero-vad".parse().unwrap(),
        provenance: None,
        timing: Timing { queue: 40, transfer: 190, decode: 5, compute: 410, encode: 4, total: 650 },
        error: None,
    }
}

fn adapter() -> Adapter {
    Adapter {
        vendor: "google".into(),
        description: "SwiftShader".into(),
        software: true,
        ..Adapter::default()
    }
}

fn provenance() -> Provenance {
    Provenance {
        instance: InstanceId::new("chromium-1"),
        lane: LaneId::new("chromium-1/webgpu"),
        browser: "chromium".into(),
        browser_version: "156.0".into(),
        backend: BackendKind::Webgpu,
        placement: BTreeMap::from([("webgpu".into(), 94), ("cpu".into(), 27)]),
        adapter: Some(adapter()),
        software_adapter: true,
        webnn_device_requested: Some("npu".into()),
        sandbox: Some(false),
        engine: "onnxruntime-web@1.30.0/ort.wasm".into(),
        threads: u32::MAX,
        model_digest: Digest::new([0xab; 32]),
        verdict: VerdictStatus::Mismatch,
        plan: "single".into(),
        attempt: 3,
        converted: Some("bert from f16 weights".into()),
        batch: 5,
        fallback: Some(Fallback { wanted: "webnn".into(), reason: "no \"lane\"\nlives".into() }),
        stages: Vec::new(),
    }
}

fn model(name: &str, digest: u8) -> StoredModel {
    let port = Port {
        name: "input".into(),
        datatype: Datatype::Fp32,
        shape: vec![Dim::Fixed(1), Dim::Symbol("n".into()), Dim::Free(None)],
    };
    let model = Model {
        name: name.parse().unwrap(),
        digest: Digest::new([digest; 32]),
        bytes: u64::MAX,
        signature: Signature { inputs: vec![port.clone()], outputs: vec![port] },
        tolerance: Tolerance(1e-3),
        source: "pypi:silero-vad==6.2.3/silero_vad/data/silero_vad.onnx".into(),
        revision: digest.is_multiple_of(2).then(|| "6.2.3".into()),
        licence: digest.is_multiple_of(2).then(|| "MIT".into()),
        opset: 15,
        kind: if digest.is_multiple_of(2) { ModelKind::Audio } else { ModelKind::Other },
        batching: Batching {
            max: 3,
            delay: std::time::Duration::from_micros(1500),
            barred: digest.is_multiple_of(2).then(|| "its rows mix".into()),
        },
        external: BTreeMap::from([(Digest::new([digest + 1; 32]), 1 << 40)]),
        conversion: digest.is_multiple_of(2).then(|| Conversion {
            architecture: Some("bert".into()),
            part: Some("model".into()),
            converter: Some("weft 0.1.0".into()),
            exporter: Some("another 2.3".into()),
            source_dtype: Some("f16".into()),
            precision: Some("int4".into()),
            shard_of: Some("00".repeat(32)),
            shard_units: Some("0-3,7".into()),
            shard_ways: Some("2".into()),
            shard_activations: Some("fp16".into()),
        }),
        companions: BTreeMap::from([("1_Pooling/config.json".into(), Digest::new([digest + 2; 32]))]),
    };
    let cost = Cost {
        flops: Some("2·n".into()),
        activation_bytes: None,
        nodes: 3,
        known: 2,
        proof: Some(ProofCost { flops: 2, activation_bytes: 8 }),
    };
    let mut verification = Verification::begun(1_795_000_000_000_000);
    verification.note(StageKind::Digest, std::time::Duration::from_micros(7), Ok("4 bytes".into()));
    verification.note(StageKind::Structure, std::time::Duration::ZERO, Err("node 0 (Relu)".into()));
    StoredModel {
        model,
        added_at_us: 1_795_000_000_000_001,
        anatomy: Some(Anatomy {
            operators: [("Conv".to_owned(), 3)].into(),
            parameters: 1 << 40,
            parameter_bytes: 1 << 42,
            cost,
        }),
        verification: Some(verification),
        pinned: true,
        again: true,
        uses: Uses::default(),
    }
}

fn verdict(model: u8, backend: BackendKind, status: VerdictStatus) -> StoredVerdict {
    let key = VerdictKey {
        model: Digest::new([model; 32]),
        browser: "chromium".into(),
        browser_version: "156.0".into(),
        backend,
        engine: "ort.wasm".into(),
        adapter: Some("google swiftshader".into()),
        webnn_device: None,
        flags: vec!["--enable-unsafe-webgpu".into()],
        threads: 2,
        shapes: BTreeMap::from([("batch".into(), 1)]),
        inputs: Digest::new([9; 32]),
    };
    let error = (status != VerdictStatus::Mismatch).then_some(1.25e-6);
    let verdict =
        Verdict { status, error, tolerance: Tolerance(1e-3), inputs: 3, detail: "it's fine".into() };
    StoredVerdict { key, verdict, proven_at_us: 1_795_000_000_000_007 }
}

async fn names(store: &Store, last: u32, cursor: Option<RunCursor>) -> (Vec<String>, Option<RunCursor>) {
    let RunPage { runs, next } = store.runs(last, cursor).await.unwrap();
    (runs.iter().map(|record| record.run.to_string()).collect(), next)
}

#[tokio::test]
async fn every_kind_of_run_reads_back_as_it_was_recorded() {
    let failed = |code, retry| RunRecord {
        error: Some(Failure::new(code, retry, "it's \"so\" ✗")),
        ..run("failed")
    };
    let native = Provenance {
        backend: BackendKind::ort_cpu(),
        adapter: None,
        webnn_device_requested: None,
        fallback: None,
        verdict: VerdictStatus::Reference,
        ..provenance()
    };
    let stage = StageRun {
        stage: 1,
        run: RunId::new("a stage"),
        provenance: provenance(),
        bytes_in: u64::MAX,
        bytes_out: 0,
        timing_us: run("").timing,
    };
    let staged =
        Provenance { plan: "plan-0123".into(), stages: vec![stage.clone(), stage], ..native.clone() };
    let extreme = Timing { queue: u64::MAX, total: u64::MAX, ..Timing::default() };
    let cases = [
        run("without a lane"),
        RunRecord { provenance: Some(provenance()), ..run("everything") },
        RunRecord { provenance: Some(native), ..run("native") },
        RunRecord { provenance: Some(staged), ..run("in stages") },
        RunRecord { request: None, ..run("of an earlier version") },
        RunRecord { accepted_at_us: -1, timing: extreme, ..run("extremes") },
        RunRecord { run: RunId::new("nul \0 and ✓"), ..run("") },
        failed(Code::NoBackend, Retry::Never),
        failed(Code::LaneLost, Retry::Elsewhere),
        RunRecord { provenance: Some(provenance()), ..failed(Code::OutOfMemory, Retry::Same) },
    ];
    let store = Store::open_in_memory().unwrap();
    for case in cases {
        store.record_run(case.clone());
        store.flush().await.unwrap();
        assert_eq!(store.runs(1, None).await.unwrap().runs, [case]);
    }
}

#[tokio::test]
async fn a_plan_that_answers_much_leaves_others_what_their_stages_took() {
    let store = Store::open_in_memory().unwrap();
    for number in 0..202 {
        let plan = if number < 2 { "plan-quiet" } else { "plan-busy" }.to_owned();
        let (timing_us, run_id) = (run("").timing, RunId::new("a stage"));
        let provenance = provenance();
        let stage = StageRun { stage: number, run: run_id, provenance, bytes_in: 1, bytes_out: 1, timing_us };
        let provenance = Provenance { plan, stages: vec![stage], ..self::provenance() };
        store.record_run(RunRecord { provenance: Some(provenance), ..run("") });
    }
    let answers = store.staged_answers(Digest::new([0xab; 32])).await.unwrap();
    let kept: Vec<_> = answers.iter().map(|answer| answer.stages[0].stage).collect();
    assert_eq!(kept, (74..202).rev().chain([1, 0]).collect::<Vec<_>>());
}

#[tokio::test]
async fn plans_stay_until_they_are_removed() {
    let store = Store::open_in_memory().unwrap();
    let plan = |byte: u8| {
        let place = Place { lane: Some(LaneId::new("a-1/wasm")), ..Place::default() };
        let signature = model("m", byte).model.signature;
        let signature = Signature {
            outputs: vec![Port { name: "y".into(), ..signature.outputs[0].clone() }],
            ..signature
        };
        let shard = Shard { model: Digest::new([byte; 32]), signature: &signature, place };
        let whole = (Digest::new([byte; 32]), &signature);
        let plan = Plan::new(whole, &[shard], PlanFallback::Lanes, Spares::Shared).unwrap();
        StoredPlan {
            id: PlanId::new(format!("plan-{byte}")),
            plan,
            made_at_us: 9 - i64::from(byte),
            error: (byte > 1).then_some(2e-4),
            own: byte > 1,
        }
    };
    for byte in [1, 2, 1] {
        store.put_plan(plan(byte)).await.unwrap();
    }
    assert_eq!(store.plans().await.unwrap(), [plan(2), plan(1)]);
    store.adopt_plan(PlanId::new("plan-2")).await.unwrap();
    assert_eq!(store.plans().await.unwrap(), [StoredPlan { own: false, ..plan(2) }, plan(1)]);
    let moved = |plan: &str, at_us: i64| Recovery {
        plan: PlanId::new(plan),
        stage: 3,
        at_us,
        lane: LaneId::new("b-1/wasm"),
        fallback: (at_us % 2 == 0)
            .then(|| Fallback { wanted: "a-1/wasm".into(), reason: "it's gone".into() }),
        took_us: (at_us % 3 == 0).then(|| at_us.cast_unsigned()),
    };
    store.put_recovery(moved("plan-2", 0)).await.unwrap();
    for at_us in 0..102 {
        store.put_recovery(moved("plan-1", at_us)).await.unwrap();
    }
    let kept: Vec<_> = (2..102).rev().map(|at_us| moved("plan-1", at_us)).collect();
    assert_eq!(store.recoveries(PlanId::new("plan-1")).await.unwrap(), kept, "the newest hundred");
    assert_eq!(store.recoveries(PlanId::new("plan-2")).await.unwrap(), [moved("plan-2", 0)]);
    store.remove_plan(PlanId::new("plan-2")).await.unwrap();
    assert_eq!(store.plans().await.unwrap(), [plan(1)]);
    assert_eq!(store.recoveries(PlanId::new("plan-2")).await.unwrap(), []);
}

#[tokio::test]
async fn pages_neither_repeat_nor_skip_while_runs_are_recorded() {
    let store = Store::open_in_memory().unwrap();
    (0..5).for_each(|at| store.record_run(run(&at.to_string())));
    store.flush().await.unwrap();
    let (first, cursor) = names(&store, 2, None).await;
    store.record_run(RunRecord { accepted_at_us: 0, ..run("late") });
    store.flush().await.unwrap();
    let (second, cursor_two) = names(&store, 2, cursor).await;
    let (third, end) = names(&store, 2, cursor_two).await;
    assert_eq!([first, second, third].concat(), ["4", "3", "2", "1", "0"]);
    assert_eq!(end, None);
    assert_eq!(names(&store, 9, None).await.0.first().map(String::as_str), Some("late"));
    assert_eq!(cursor.unwrap().to_string().parse(), Ok(cursor.unwrap()));
    assert!("x".parse::<RunCursor>().is_err());
    let long = store.runs(PAGE_MAX + 1, None).await;
    assert_eq!(long, Err(StoreError::PageTooLong { asked: PAGE_MAX + 1, limit: PAGE_MAX }));
}

#[tokio::test]
async fn a_run_is_written_without_being_flushed() {
    let store = Store::open_in_memory().unwrap();
    store.record_run(run("alone"));
    let seen = async { while names(&store, 1, None).await.0.is_empty() {} };
    tokio::time::timeout(std::time::Duration::from_secs(20), seen).await.unwrap();
}

#[tokio::test]
async fn a_name_has_a_row_for_each_of_its_files_the_last_added_first() {
    let store = Store::open_in_memory().unwrap();
    let digest = |digest: u8| Digest::new([digest; 32]);
    let inputs = async |name: &str, of| store.model_inputs(name.parse().unwrap(), digest(of)).await.unwrap();
    store.put_model(model("b", 1), Some("[1]".into())).await.unwrap();
    store.put_model(model("a", 2), None).await.unwrap();
    store.put_model(model("b", 3), Some("[3]".into())).await.unwrap();
    assert_eq!(store.models().await.unwrap(), [model("a", 2), model("b", 3), model("b", 1)]);
    // Added again it is the latest, and still one.
    let again = StoredModel { added_at_us: 7, ..model("b", 1) };
    store.put_model(again.clone(), Some("[4]".into())).await.unwrap();
    assert_eq!(store.models().await.unwrap(), [model("a", 2), again.clone(), model("b", 3)]);
    assert_eq!(
        [inputs("a", 2).await, inputs("b", 1).await, inputs("b", 3).await, inputs("c", 1).await],
        [None, Some("[4]".to_owned()), Some("[3]".to_owned()), None]
    );
    let remove = async |name: &str, of| store.remove_model(name.parse().unwrap(), digest(of)).await.unwrap();
    assert_eq!([remove("b", 3).await, remove("b", 3).await], [true, false]);
    assert_eq!(store.models().await.unwrap(), [model("a", 2), again]);
}

#[tokio::test]
async fn uses_and_verifications_are_kept_per_file() {
    let store = Store::open_in_memory().unwrap();
    for stored in [model("a", 1), model("b", 1), model("b", 2)] {
        store.put_model(stored, None).await.unwrap();
    }
    let used = |name: &str, digest: u8, uses| StoredUses {
        name: name.parse().unwrap(),
        digest: Digest::new([digest; 32]),
        uses: Uses { uses, last_used_ms: uses + 1 },
    };
    store.put_uses(vec![used("b", 1, 5), used("b", 2, 6), used("gone", 1, 7)]).await.unwrap();
    store.put_uses(vec![used("b", 1, 8)]).await.unwrap();
    for name in ["a", "b"] {
        let verified = StoredModel { verification: Some(Verification::begun(9)), ..model(name, 1) };
        store.put_verification(verified, None).await.unwrap();
    }
    // A model that is added again has been used all the same.
    store.put_model(model("b", 2), None).await.unwrap();
    let kept: Vec<_> = store.models().await.unwrap();
    let told: Vec<_> = kept
        .iter()
        .map(|stored| (stored.uses.uses, stored.verification.as_ref().map(|kept| kept.at_us)))
        .collect();
    let before = Some(1_795_000_000_000_000);
    assert_eq!(told, [(0, Some(9)), (6, before), (8, Some(9))]);
    let (name, digest) = ("b".parse().unwrap(), Digest::new([2; 32]));
    store.remove_model(name, digest).await.unwrap();
    store.put_model(model("b", 2), None).await.unwrap();
    assert_eq!(
        store.models().await.unwrap()[1].uses,
        Uses::default(),
        "a removed model's uses are forgotten"
    );
}

#[tokio::test]
async fn verdicts_are_kept_per_key() {
    let store = Store::open_in_memory().unwrap();
    let unproven = verdict(1, BackendKind::Wasm, VerdictStatus::Unproven);
    let wrong = verdict(1, BackendKind::Webgpu, VerdictStatus::Mismatch);
    let other = verdict(2, BackendKind::ort_cpu(), VerdictStatus::Reference);
    for stored in [&unproven, &wrong, &other] {
        store.put_verdict(stored.clone()).await.unwrap();
        assert_eq!(store.verdict(&stored.key).await.unwrap().as_ref(), Some(stored));
    }
    let mut proven = verdict(1, BackendKind::Wasm, VerdictStatus::Verified);
    proven.proven_at_us += 1;
    store.put_verdict(proven.clone()).await.unwrap();
    assert_eq!(store.verdicts(Digest::new([1; 32])).await.unwrap(), [proven, wrong]);
    assert_eq!(store.verdicts(Digest::new([9; 32])).await.unwrap(), []);
    let absent = VerdictKey { threads: 9, ..other.key };
    assert_eq!(store.verdict(&absent).await.unwrap(), None);
}

#[tokio::test]
async fn a_full_queue_loses_the_newest_and_counts_them() {
    let store = Store::open_in_memory().unwrap();
    let (entered, writer_entered) = std_mpsc::channel();
    let (release, released) = std_mpsc::channel::<()>();
    let stall = store.change("stall", move |_| {
        entered.send(()).unwrap();
        released.recv().unwrap();
        Ok(())
    });
    let fill = async {
        writer_entered.recv().unwrap();
        (0..writer::QUEUE + 7).for_each(|at| store.record_run(run(&at.to_string())));
        assert_eq!(store.lost_runs(), 7);
        release.send(()).unwrap();
    };
    let (stalled, ()) = tokio::join!(stall, fill);
    stalled.unwrap();
    store.flush().await.unwrap();
    let (newest, _) = names(&store, 1, None).await;
    assert_eq!(newest, [(writer::QUEUE - 1).to_string()]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_written_is_counted_and_reported_once() {
    let store = Store::open_in_memory().unwrap();
    let sql =
        async |sql: &'static str| store.change("table", move |database| database.execute_batch(sql)).await;
    sql("ALTER TABLE runs RENAME TO hidden").await.unwrap();
    store.record_run(run("lost"));
    assert!(matches!(store.flush().await, Err(StoreError::Write { what: "runs", .. })));
    assert_eq!(store.lost_runs(), 1);
    sql("ALTER TABLE hidden RENAME TO runs").await.unwrap();
    store.record_run(run("kept"));
    store.flush().await.unwrap();
    assert_eq!(names(&store, 9, None).await.0, ["kept"]);
}

#[tokio::test]
async fn a_change_that_fails_leaves_nothing() {
    let store = Store::open_in_memory().unwrap();
    let failed: Result<(), _> = store
        .change("model", |database| {
            super::models::put_model(database, &model("half", 1), None)?;
            database.execute_batch("SELECT * FROM nowhere")
        })
        .await;
    assert!(matches!(failed, Err(StoreError::Write { what: "model", .. })));
    assert_eq!(store.models().await.unwrap(), []);
}

#[tokio::test]
async fn old_runs_are_pruned() {
    let store = Store::open_in_memory().unwrap();
    (0..5).for_each(|at| store.record_run(run(&at.to_string())));
    let pruned = store.change("prune", |database| writer::prune(database, 4)).await.unwrap();
    assert_eq!((pruned, names(&store, 9, None).await.0), (3, vec!["4".to_owned(), "3".to_owned()]));
}

#[tokio::test]
async fn closing_and_dropping_write_what_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.duckdb");
    let store = Store::open(&path).unwrap();
    store.record_run(run("before close"));
    store.close().await.unwrap();
    store.record_run(run("after close"));
    assert_eq!(store.lost_runs(), 1);
    assert_eq!(store.flush().await, Err(StoreError::Closed));
    assert_eq!(store.models().await, Err(StoreError::Closed));
    assert_eq!(store.put_model(model("m", 1), None).await, Err(StoreError::Closed));

    let store = Store::open(&path).unwrap();
    store.record_run(run("before drop"));
    drop(store);

    let store = Store::open(&path).unwrap();
    assert_eq!(names(&store, 9, None).await.0, ["before drop", "before close"]);
}

/// A database file of this weft, closed.
fn sound(path: &Path) {
    drop(Store::open(path).unwrap());
}

fn overwrite(path: &Path, range: std::ops::Range<usize>) {
    let mut bytes = fs::read(path).unwrap();
    bytes[range].fill(0x5a);
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_cannot_be_opened_is_named() {
    type Prepare = fn(&Path);
    let corrupt = "is corrupt or no database of ours";
    let cases: [(&str, Prepare, &str); 7] = [
        ("empty", |path| fs::write(path, "").unwrap(), corrupt),
        ("text", |path| fs::write(path, "hello, this is no database\n").unwrap(), corrupt),
        (
            "cut short",
            |path| {
                sound(path);
                fs::OpenOptions::new().write(true).open(path).unwrap().set_len(5000).unwrap();
            },
            corrupt,
        ),
        (
            "header overwritten",
            |path| {
                sound(path);
                overwrite(path, 0..64);
            },
            corrupt,
        ),
        (
            "blocks overwritten",
            |path| {
                sound(path);
                overwrite(path, 12_288..fs::metadata(path).unwrap().len() as usize);
            },
            corrupt,
        ),
        ("a folder", |path| fs::create_dir(path).unwrap(), "could not open"),
        ("no such folder/db", |_| {}, "could not open"),
    ];
    for (name, prepare, expected) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        prepare(&path);
        let message = Store::open(&path).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains(name), "{name}: {message}");
    }
}

#[test]
fn a_database_whose_making_was_cut_short_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.duckdb");
    for leftover in ["weft.duckdb.new", "weft.duckdb.new.wal"] {
        fs::write(folder.path().join(leftover), "half").unwrap();
    }
    sound(&path);
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["weft.duckdb"]);
}

#[test]
fn models_of_an_earlier_weft_are_each_the_only_version() {
    let (database, path) = (duckdb::Connection::open_in_memory().unwrap(), Path::new("earlier"));
    migrate(&database, path, &MIGRATIONS[..8]).unwrap();
    let add = "INSERT INTO models (name, digest, bytes, signature, tolerance, source, opset, inputs, added_at, kind)
        VALUES (?, repeat(?, 64), 1, '{\"inputs\":[],\"outputs\":[]}', 0.5, 'a file', 17, '[]', make_timestamp(?), NULL)";
    for (name, digit, added) in [("b", "1", 20), ("a", "2", 10)] {
        database.execute(add, duckdb::params![name, digit, added]).unwrap();
    }
    migrate(&database, path, MIGRATIONS).unwrap();
    let sql = "SELECT name || digest[1] || nth || kind || epoch_us(added_at) FROM models ORDER BY nth";
    let rows: Vec<String> = database
        .prepare(sql)
        .unwrap()
        .query_map([], |row| row.get(0))
        .unwrap()
        .collect::<Result<_, _>>()
        .unwrap();
    assert_eq!(rows, ["a21other10", "b12other20"]);
}

#[test]
fn migrations_are_applied_once_in_order_and_whole() {
    const FIRST: Migration = Migration { name: "001_a", sql: "CREATE TABLE a (x INTEGER);" };
    const SECOND: Migration = Migration { name: "002_b", sql: "CREATE TABLE b (y INTEGER);" };
    const EDITED: Migration = Migration { name: "001_a", sql: "CREATE TABLE a (x BIGINT);" };
    const BROKEN: Migration =
        Migration { name: "002_broken", sql: "CREATE TABLE c (z INTEGER); INSERT INTO nowhere VALUES (1);" };
    let path = Path::new("some.duckdb");
    let at = || path.to_owned();
    let database = duckdb::Connection::open_in_memory().unwrap();
    let has = |table: &str| database.prepare(&format!("SELECT * FROM {table}")).is_ok();
    migrate(&database, path, &[FIRST]).unwrap();
    assert!(has("a"));
    let failed = migrate(&database, path, &[FIRST, BROKEN]);
    assert!(matches!(failed, Err(StoreError::Migrate { version: 2, .. })), "{failed:?}");
    assert!(!has("c"));
    migrate(&database, path, &[FIRST, SECOND]).unwrap();
    migrate(&database, path, &[FIRST, SECOND]).unwrap();
    assert!(has("b"));
    let altered = migrate(&database, path, &[EDITED, SECOND]);
    assert_eq!(altered, Err(StoreError::Altered { path: at(), version: 1 }));
    let newer = migrate(&database, path, &[FIRST]);
    assert_eq!(newer, Err(StoreError::Newer { path: at(), found: 2, known: 1 }));
}

#[test]
fn the_files_of_the_schema_are_numbered_like_their_versions() {
    for (version, migration) in (1..).zip(MIGRATIONS) {
        assert!(migration.name.starts_with(&format!("{version:03}_")), "{}", migration.name);
    }
}

#[test]
fn duckdb_keeps_to_its_limits() {
    let database = open::in_memory().unwrap();
    let setting = |name: &str| -> String {
        database
            .query_row(&format!("SELECT current_setting('{name}')::VARCHAR"), [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(setting("threads"), "1");
    assert_eq!(setting("memory_limit"), "244.1 MiB");
    assert_eq!(setting("autoinstall_known_extensions"), "false");
}

#[tokio::test]
async fn what_is_used_of_a_day_is_kept_until_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weft.duckdb");
    let spent = |caller: &str, day, used| Spent { caller: caller.into(), day, used };
    let store = Store::open(&path).unwrap();
    store.put_spent(vec![spent("key/a", 7, 1), spent("key/b", 7, 5)]).await.unwrap();
    store.put_spent(vec![spent("key/a", 7, 2)]).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&path).unwrap();
    let mut found = store.spent(7).await.unwrap();
    found.sort_by(|a, b| a.caller.cmp(&b.caller));
    assert_eq!(found, [spent("key/a", 7, 2), spent("key/b", 7, 5)]);
    assert_eq!(store.spent(8).await.unwrap(), []);
    store.put_spent(vec![spent("key/a", 8, 3)]).await.unwrap();
    assert_eq!(
        (store.spent(7).await.unwrap(), store.spent(8).await.unwrap()),
        (vec![], vec![spent("key/a", 8, 3)])
    );
    store.close().await.unwrap();
}
