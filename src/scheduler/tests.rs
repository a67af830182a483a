//! Which lane a request goes to, as a table; and that a refused request is told once.

mod standing_in;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Accepted, Ledger, Limits, Request, Scheduler, Under, Wants,
    admission::Admission,
    choose::{Absence, Case, Decision, Outlook, choose},
    lane::{DEPTH, Lane, SessionState},
    latency::{Expected, Means, RecipePriors},
    relief::{Relief, relief, room_for},
    staged::Flows,
};
use crate::{
    backend::{Activity, Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput},
    domain::{
        Adapter, BackendKind, Batching, Caller, Code, Digest, DimBinding, Environment, Failure, InstanceId,
        LaneId, LaneMemory, LoadTiming, Model, ModelKind, Placement, Policy, Retry, Signature, Tolerance,
        Uses, VerdictStatus,
    },
    events::Events,
    models::{Entry, Held, History},
    store::Store,
    telemetry::{Metrics, Origin},
};

/// A lane that is only looked at.
struct Scenery(Environment, watch::Sender<LaneMemory>);

impl Backend for Scenery {
    fn environment(&self) -> &Environment {
        &self.0
    }
    fn load(&self, _: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>> {
        unreachable!("choosing loads nothing")
    }
    fn unload(&self, _: SessionName) -> BoxFuture<'static, Result<(), BackendError>> {
        unreachable!("choosing unloads nothing")
    }
    fn execute(&self, _: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        unreachable!("choosing computes nothing")
    }
    fn activity(&self) -> Activity {
        Activity::default()
    }

    fn lost(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }
    fn abandon(&self, _: String) {}
    fn memory(&self) -> Option<watch::Receiver<LaneMemory>> {
        Some(self.1.subscribe())
    }
}

pub(super) fn model() -> Digest {
    Digest::new([7; 32])
}

/// How a lane stands for the model.
#[derive(Clone, Copy)]
enum Is {
    Fresh,
    Preparing,
    /// Steps running, mean microseconds of one.
    Ready(usize, u64),
    Mixed,
    Quarantined,
    Unproven,
    /// About to be recycled, with its session ready.
    Draining,
    /// Refused for a passing reason, long enough ago.
    Forgiven,
}

fn lane(name: &str, is: Is, now: Instant) -> (LaneId, Lane) {
    let (browser, backend) = name.split_once('/').expect("a lane is browser/backend");
    let (backend, software) = backend.strip_suffix("-software").map_or((backend, false), |kind| (kind, true));
    let adapter = ["webgpu", "wgpu"].contains(&backend).then(|| Adapter { software, ..Adapter::default() });
    let id = LaneId::new(name);
    let environment = Environment {
        instance: InstanceId::new(format!("{browser}-1")),
        lane: id.clone(),
        browser: browser.to_owned(),
        browser_version: "1".to_owned(),
        backend: backend.parse().expect("a backend"),
        adapter,
        webnn_device: None,
        sandbox: Some(true),
        engine: "none".to_owned(),
        threads: 1,
        flags: Vec::new(),
    };
    let mut lane = Lane::new(Arc::new(Scenery(environment, watch::Sender::default())));
    let name = lane.session_name(model(), &DimBinding::from([("n".to_owned(), 4)]));
    let ready = |providers: &[&str]| SessionState::Ready {
        placement: providers.iter().map(|provider| ((*provider).to_owned(), 1)).collect::<Placement>(),
        verdict: VerdictStatus::Verified,
        used: now,
        memory: LaneMemory::default(),
        load: LoadTiming::default(),
        _held: Held::default(),
    };
    let refused = |code, until| SessionState::Refused {
        failure: Failure::new(code, Retry::Elsewhere, format!("{id} refuses")),
        until,
    };
    let state = match is {
        Is::Fresh => return (id, lane),
        Is::Preparing => SessionState::Preparing,
        Is::Ready(running, micros) => {
            (lane.running, lane.requests) = (running, running);
            lane.measured(model(), Duration::from_micros(micros), now);
            ready(&["wasm"])
        }
        Is::Draining => {
            lane.draining = Some("its heap is full".to_owned());
            ready(&["wasm"])
        }
        Is::Mixed => ready(&["webnn", "cpu"]),
        Is::Quarantined => refused(Code::Quarantined, None),
        Is::Unproven => refused(Code::NoBackend, Some(now + Duration::from_secs(1))),
        Is::Forgiven => refused(Code::Internal, Some(now)),
    };
    lane.sessions.insert(name, state);
    (id, lane)
}

/// Nothing is known of the model, and no recipe says anything.
const UNKNOWN: Expected<'static> =
    Expected { kind: ModelKind::Vision, means: Means::UNKNOWN, priors: &RecipePriors::new() };

fn wants(text: &str) -> Wants {
    let mut wants = Wants::default();
    for word in text.split_whitespace() {
        match word {
            "native" => wants.native_fallback = true,
            "strict" => wants.strict = true,
            "fastest" => wants.policy = Policy::Fastest,
            "native-first" => wants.policy = Policy::NativeFirst,
            "spread" => wants.policy = Policy::Spread,
            "pin" => wants.policy = Policy::Pin,
            "stand-in" => wants.stand_in = true,
            _ if word.contains('/') => wants.lanes.push(LaneId::new(word)),
            _ => match word.parse::<BackendKind>() {
                Ok(backend) => wants.backends.push(backend),
                Err(_) => wants.browsers.push(word.to_owned()),
            },
        }
    }
    wants
}

/// `lane`, `lane because reason`, `wait` or `fail code: message`, and what is prepared behind a `+`.
fn decide(wanted: &str, lanes: &[(&str, Is)], excluded: &[&str], outlook: &Outlook) -> String {
    let now = Instant::now();
    let lanes: BTreeMap<_, _> = lanes.iter().map(|(name, is)| lane(name, *is, now)).collect();
    let excluded: Vec<_> = excluded.iter().map(|name| LaneId::new(*name)).collect();
    let failed = Failure::new(Code::LaneLost, Retry::Elsewhere, "it died");
    let case = Case {
        model: model(),
        binding: &DimBinding::from([("n".to_owned(), 4)]),
        wants: &wants(wanted),
        tied: None,
        excluded: &excluded,
        failed: (!excluded.is_empty()).then_some(&failed),
        expected: UNKNOWN,
        now,
    };
    let choice = choose(&case, &lanes, outlook);
    let mut text = match choice.decision {
        Decision::Run { lane, fallback: None, .. } => lane.to_string(),
        Decision::Run { lane, fallback: Some(fallback), .. } => {
            format!("{lane} for {} because {}", fallback.wanted, fallback.reason)
        }
        Decision::Wait => "wait".to_owned(),
        Decision::Fail(failure) => format!("fail {failure}"),
    };
    for (lane, _) in choice.prepare {
        text.extend([" +", lane.as_str()]);
    }
    text
}

type Lanes<'a> = &'a [(&'a str, Is)];

#[test]
fn a_request_goes_to_the_lane_that_answers_first() {
    const NATIVE: (&str, Is) = ("native/ort-cpu", Is::Ready(0, 9));
    let ready = |running| Is::Ready(running, 100);
    let cases: [(&str, Lanes<'_>, &[&str], &str); 27] = [
        ("", &[("a/wasm", ready(0))], &[], "a/wasm"),
        ("", &[("a/wasm", ready(1)), ("b/wasm", ready(0))], &[], "b/wasm"),
        ("", &[("a/wasm", Is::Draining)], &[], "wait"),
        ("", &[("a/wasm", Is::Draining), ("b/wasm", ready(1))], &[], "b/wasm"),
        (
            "native",
            &[("a/wasm", Is::Draining), NATIVE],
            &[],
            "native/ort-cpu for a browser because its lane is being recycled",
        ),
        ("", &[("a/wasm", ready(1)), ("b/wasm", Is::Ready(0, 300))], &[], "a/wasm"),
        ("", &[("a/wasm", ready(DEPTH)), ("b/wasm", ready(DEPTH))], &[], "wait"),
        ("native", &[("a/wasm", ready(DEPTH)), NATIVE], &[], "wait"),
        ("", &[("a/wasm", ready(0)), ("b/wasm", Is::Fresh)], &[], "a/wasm +b/wasm"),
        ("", &[("a/wasm", Is::Fresh)], &[], "wait +a/wasm"),
        ("", &[("a/wasm", Is::Forgiven)], &[], "wait +a/wasm"),
        ("", &[("a/wasm", Is::Preparing)], &[], "wait"),
        (
            "native",
            &[("a/wasm", Is::Preparing), NATIVE],
            &[],
            "native/ort-cpu for a browser because the model is being loaded and proven there",
        ),
        (
            "native",
            &[("a/wasm", Is::Quarantined), NATIVE],
            &[],
            "native/ort-cpu for a browser because a/wasm refuses",
        ),
        ("native", &[("native/ort-cpu", Is::Fresh)], &[], "wait +native/ort-cpu"),
        ("native", &[("native/ort-cpu", Is::Preparing)], &[], "wait"),
        ("", &[NATIVE], &[], "fail no_backend: no lane offers a browser: none is configured"),
        ("ort-cpu", &[NATIVE], &[], "native/ort-cpu"),
        (
            "",
            &[("a/webgpu-software", ready(0))],
            &[],
            "fail no_backend: no lane offers a browser: a/webgpu-software has a software adapter, which serves only when \
             webgpu is asked for",
        ),
        ("webgpu", &[("a/webgpu-software", ready(0))], &[], "a/webgpu-software"),
        (
            "webgpu a",
            &[("a/wasm", ready(0)), ("b/webgpu", ready(0))],
            &[],
            "fail no_backend: no lane offers webgpu in a: none is configured",
        ),
        (
            "",
            &[("a/wasm", Is::Unproven), ("b/wasm", Is::Quarantined)],
            &[],
            "fail quarantined: b/wasm refuses",
        ),
        ("", &[("a/wasm", Is::Unproven)], &[], "fail no_backend: a/wasm refuses"),
        ("strict", &[("a/webnn", Is::Mixed), ("b/wasm", ready(0))], &[], "b/wasm"),
        (
            "strict",
            &[("a/webnn", Is::Mixed)],
            &[],
            "fail no_backend: a/webnn spreads the model over several execution providers, and the request is strict",
        ),
        ("", &[("a/wasm", ready(0)), ("b/wasm", ready(1))], &["a/wasm"], "b/wasm"),
        (
            "native",
            &[("a/wasm", ready(0)), NATIVE],
            &["a/wasm"],
            "native/ort-cpu for a browser because it died",
        ),
    ];
    for (wanted, lanes, excluded, decision) in cases {
        assert_eq!(decide(wanted, lanes, excluded, &Outlook::default()), decision);
    }
    assert_eq!(
        decide("", &[("a/wasm", ready(0))], &["a/wasm"], &Outlook::default()),
        "fail lane_lost: it died"
    );
}

#[test]
fn a_policy_says_which_of_the_lanes_is_preferred() {
    const NATIVE: &str = "native/ort-cpu";
    let (ready, full) = (Is::Ready, |micros| Is::Ready(DEPTH, micros));
    let cases: [(&str, Lanes<'_>, &str); 23] = [
        ("fastest", &[("a/wasm", ready(0, 100)), (NATIVE, ready(0, 9))], NATIVE),
        ("fastest", &[("a/webgpu", ready(0, 8)), (NATIVE, ready(0, 9))], "a/webgpu"),
        ("fastest", &[("a/wasm", ready(0, 17)), (NATIVE, ready(1, 9))], "a/wasm"),
        ("fastest", &[("a/wasm", ready(0, 100)), (NATIVE, full(9))], "a/wasm"),
        ("fastest", &[("a/wasm", Is::Fresh), (NATIVE, ready(0, 9))], "native/ort-cpu +a/wasm"),
        ("fastest", &[("a/wasm", Is::Preparing), (NATIVE, full(9))], "wait"),
        ("fastest wasm", &[("a/wasm", ready(0, 100)), (NATIVE, ready(0, 9))], "a/wasm"),
        (
            "fastest wasm native",
            &[("a/wasm", Is::Quarantined), (NATIVE, ready(0, 9))],
            "native/ort-cpu for wasm because a/wasm refuses",
        ),
        (
            "fastest",
            &[("a/webgpu-software", ready(0, 1))],
            "fail no_backend: no lane offers any backend: a/webgpu-software has a software adapter, which serves only \
             when webgpu is asked for",
        ),
        // Of those that have not run the model, a GPU is tried before a CPU in WASM.
        ("fastest", &[("a/wasm", Is::Mixed), ("a/webgpu", Is::Mixed), ("a/webnn", Is::Mixed)], "a/webgpu"),
        ("fastest", &[("a/wasm", Is::Mixed), (NATIVE, Is::Mixed)], NATIVE),
        ("native-first", &[("a/wasm", ready(0, 1)), (NATIVE, ready(1, 900))], NATIVE),
        ("native-first", &[("a/wasm", ready(0, 100)), (NATIVE, full(9))], "a/wasm"),
        ("native-first", &[("a/wasm", ready(0, 100)), (NATIVE, Is::Preparing)], "a/wasm"),
        ("native-first webgpu", &[("a/webgpu", ready(0, 100)), (NATIVE, ready(0, 9))], "a/webgpu"),
        (
            "spread",
            &[("a/wasm", ready(1, 1)), ("a/webgpu", ready(0, 900)), (NATIVE, ready(1, 9))],
            "a/webgpu",
        ),
        ("spread", &[("a/wasm", ready(1, 1)), ("a/webgpu", full(9)), (NATIVE, full(9))], "a/wasm"),
        ("spread", &[("a/wasm", full(1)), (NATIVE, full(9))], "wait"),
        ("pin wasm", &[("a/wasm", full(100)), (NATIVE, ready(0, 9))], "wait"),
        (
            "pin wasm",
            &[("a/wasm", Is::Quarantined), (NATIVE, ready(0, 9))],
            "fail quarantined: a/wasm refuses",
        ),
        ("pin ort-cpu", &[("a/wasm", ready(0, 1)), (NATIVE, ready(1, 9))], NATIVE),
        (
            "pin a",
            &[("a/wasm", ready(0, 100)), ("a/webgpu", ready(0, 9)), ("b/wasm", ready(0, 1))],
            "a/webgpu",
        ),
        ("a-1/wasm native-1/ort-cpu", &[("b/wasm", ready(0, 1)), (NATIVE, ready(1, 9))], NATIVE),
    ];
    for (wanted, lanes, decision) in cases {
        assert_eq!(decide(wanted, lanes, &[], &Outlook::default()), decision, "{wanted}");
    }
}

#[test]
fn lanes_that_are_as_good_take_turns() {
    let now = Instant::now();
    let is = [("a/wasm", Is::Mixed), ("b/wasm", Is::Mixed), ("c/wasm", Is::Mixed)];
    let mut lanes: BTreeMap<_, _> = is.iter().map(|(name, is)| lane(name, *is, now)).collect();
    let mut start = 0;
    for policy in ["", "fastest", "spread"] {
        let mut chosen = Vec::new();
        for _ in 0..6 {
            start += 1;
            let case = Case {
                model: model(),
                binding: &DimBinding::from([("n".to_owned(), 4)]),
                wants: &wants(policy),
                tied: None,
                excluded: &[],
                failed: None,
                expected: UNKNOWN,
                now,
            };
            let Decision::Run { lane, .. } = choose(&case, &lanes, &Outlook::default()).decision else {
                panic!("all are ready");
            };
            lanes.get_mut(&lane).expect("it is there").last_start = start;
            chosen.push(lane.to_string());
        }
        chosen[..3].sort();
        assert_eq!(chosen[..3], ["a/wasm", "b/wasm", "c/wasm"], "{policy}");
        assert_eq!(chosen[3..].iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "{policy}");
    }
}

#[test]
fn what_may_still_come_is_waited_for() {
    let mut outlook = Outlook::default();
    let (instance, kinds) = (InstanceId::new("a-1"), [BackendKind::Wasm, BackendKind::Webgpu]);
    outlook.starting.insert(instance.clone(), ("a".to_owned(), kinds.to_vec()));
    let native = [("native/ort-cpu", Is::Ready(0, 9))];
    let starting = "native/ort-cpu for a browser because browsers are still starting";
    for (wanted, decision) in [
        ("", "wait"),
        ("native", starting),
        ("webgpu", "wait"),
        ("b", "fail no_backend: no lane offers b: none is configured"),
        ("webnn", "fail no_backend: no lane offers webnn: none is configured"),
    ] {
        assert_eq!(decide(wanted, &native, &[], &outlook), decision, "{wanted}");
    }
    for kind in &kinds {
        outlook.arrived(&instance, kind);
    }
    let why = |backend, reason: &str| Absence { browser: "a".to_owned(), backend, reason: reason.to_owned() };
    outlook.absent.insert(instance, vec![why(Some(BackendKind::Webgpu), "no GPU"), why(None, "gone")]);
    for (wanted, decision) in [
        ("webgpu", "fail no_backend: no lane offers webgpu: webgpu in a: no GPU; a: gone"),
        ("wasm", "fail no_backend: no lane offers wasm: a: gone"),
        ("b", "fail no_backend: no lane offers b: none is configured"),
    ] {
        assert_eq!(decide(wanted, &[], &[], &outlook), decision, "{wanted}");
    }
}

pub(super) fn request() -> Request {
    let model = Model {
        name: "m".parse().expect("a name"),
        digest: model(),
        bytes: 0,
        signature: Signature::default(),
        tolerance: Tolerance::FP32,
        source: String::new(),
        revision: None,
        licence: None,
        opset: 17,
        kind: ModelKind::Audio,
        batching: Batching::barred("nothing runs"),
        external: BTreeMap::new(),
        companions: BTreeMap::new(),
        conversion: None,
    };
    let entry = Entry::new(model, PathBuf::new(), History::default(), Uses::default());
    let at = Instant::now();
    Request {
        entry: Arc::new(entry),
        inputs: Vec::new(),
        outputs: Vec::new(),
        binding: DimBinding::new(),
        wants: Wants::default(),
        priority: 0,
        caller: Caller::local(),
        accepted: Accepted { at, at_us: 0 },
        deadline: at,
        trace: Origin::of(&http::HeaderMap::new()).trace("m"),
        sequence: None,
        under: Under::default(),
    }
}

pub(super) const LIMITS: Limits = Limits {
    requests: 0,
    caller_requests: 0,
    bytes: 0,
    lane_memory: 0,
    recycle_after: Duration::ZERO,
    age_step: Duration::from_secs(1),
    hedge_percent: None,
};

#[test]
fn what_is_pending_is_counted_by_request_caller_and_byte() {
    let limits = Limits { requests: 4, caller_requests: 3, bytes: 100, ..LIMITS };
    let limits = watch::Sender::new(limits).subscribe();
    let admission = Admission::new(limits, crate::tasks::Tasks::new());
    let (one, other) = (Caller { id: "one".into(), weight: 1 }, Caller { id: "other".into(), weight: 9 });
    let mut held = Vec::new();
    // Who asks for how many bytes, and what is said.
    let cases: [(&Caller, usize, &str); 6] = [
        (&one, 10, ""),
        (&one, 91, "overloaded: pending requests hold 10 bytes of inputs, the limit is 100"),
        (&one, 10, ""),
        (&one, 10, ""),
        (&one, 10, "rate_limited: 3 requests of this caller are pending, which is its limit"),
        (&other, 70, ""),
    ];
    for (caller, bytes, says) in cases {
        match admission.admit(caller, bytes) {
            Ok(permit) => held.push(permit),
            Err(failure) => assert_eq!(failure.to_string(), says),
        }
    }
    let refused = |caller, bytes| admission.admit(caller, bytes).err().map(|failure| failure.message);
    assert_eq!(held.len(), 4);
    assert_eq!(refused(&other, 0).as_deref(), Some("4 requests are pending, which is the limit"));
    // What was parsed holds what it has, not what its message had.
    held[3].hold(20).expect("less than before");
    let more = held[0].hold(61).map_err(|failure| failure.message);
    assert_eq!(more, Err("pending requests hold 50 bytes of inputs, the limit is 100".to_owned()));
    held.clear();
    assert_eq!((admission.pending(), refused(&one, 100)), (0, None));
}

#[test]
fn a_refused_request_is_told_by_the_refusal_alone() {
    let told = Arc::new(AtomicUsize::new(0));
    let submit = |scheduler: &Scheduler| {
        let told = told.clone();
        let reply = move |_| {
            told.fetch_add(1, Ordering::SeqCst);
        };
        let permit = scheduler.admit(&Caller::local(), 0);
        let submitted = permit.and_then(|permit| scheduler.submit(request(), permit, Box::new(reply)));
        submitted.map(drop).map_err(|failure| failure.message)
    };
    let (inbox, messages) = mpsc::channel(1);
    let scheduler = Scheduler {
        inbox,
        sweep: Arc::new(AtomicBool::new(false)),
        admission: Admission::new(
            watch::Sender::new(Limits { requests: 2, caller_requests: 2, ..LIMITS }).subscribe(),
            crate::tasks::Tasks::new(),
        ),
        backlog: Arc::default(),
        ledger: Ledger {
            store: Arc::new(Store::open_in_memory().expect("a store")),
            events: Events::default(),
            metrics: Metrics::default(),
        },
        tasks: crate::tasks::Tasks::new(),
        flows: Flows::default(),
    };
    assert_eq!(submit(&scheduler), Ok(()));
    assert_eq!(submit(&scheduler), Err("the scheduler's inbox is full".to_owned()));
    assert_eq!((told.load(Ordering::SeqCst), scheduler.pending()), (0, 1), "its place is free again");
    // Whoever was taken in is told when all is dropped.
    drop(messages);
    assert_eq!((told.load(Ordering::SeqCst), scheduler.pending()), (1, 0));
    assert_eq!(submit(&scheduler), Err("the daemon is stopping".to_owned()));
    assert_eq!(told.load(Ordering::SeqCst), 1);
}

/// A lane over a ceiling of 100 bytes that may be recycled: its sessions' bytes, oldest use first, what it holds
/// altogether, and what becomes of it: the sessions that go, `recycle`, or nothing.
#[test]
fn a_lane_over_its_ceiling_gives_up_what_was_used_longest_ago() {
    let (wasm, gpu) = (|bytes| (bytes, 0), |bytes| (0, bytes));
    let cases: [(&str, &[(u64, u64)], (u64, u64), &str); 12] = [
        ("under", &[wasm(50), wasm(50)], wasm(100), ""),
        ("a GPU gets back what its sessions held", &[gpu(10), gpu(40), gpu(60)], gpu(110), "0"),
        ("as many as it takes", &[gpu(10), gpu(40), gpu(60)], gpu(120), "0 1"),
        ("the latest stays", &[gpu(150)], gpu(150), ""),
        ("the latest stays, whatever it needs", &[gpu(10), gpu(150)], gpu(160), "0"),
        ("a heap that nothing holds", &[], wasm(101), "recycle"),
        ("a heap that little holds", &[wasm(30), wasm(20)], wasm(101), "recycle"),
        ("a heap of which enough can go", &[wasm(60), wasm(41)], wasm(101), "recycle"),
        ("a heap that its latest session needs", &[wasm(41), wasm(60)], wasm(101), "0"),
        ("a heap that one session needs", &[wasm(101)], wasm(101), ""),
        ("both", &[(10, 60), (60, 60)], (110, 120), "0"),
        ("both, for the GPU's sake alone", &[(10, 60), (20, 60)], (90, 120), "0"),
    ];
    for (what, sessions, (wasm_bytes, gpu_bytes), wanted) in cases {
        let (lane, names) = holding(sessions, LaneMemory { wasm_bytes, gpu_bytes });
        let now = lane.since;
        let mut limits = Limits { lane_memory: 100, ..LIMITS };
        let told = match relief(&lane, &limits, now) {
            None => String::new(),
            Some(Relief::Recycle(_)) => "recycle".to_owned(),
            Some(Relief::Unload(gone)) => numbers(&gone, &names),
        };
        assert_eq!(told, wanted, "{what}");
        // One that has just come up is not ended again, whatever it holds.
        limits.recycle_after = Duration::from_secs(60);
        let young = relief(&lane, &limits, now);
        assert!(!matches!(young, Some(Relief::Recycle(_))), "{what}: {young:?}");
    }
}

#[test]
fn room_for_a_load_is_twice_its_bytes() {
    let sessions = [(10, 0), (0, 30), (40, 0)];
    for (bytes, wanted) in [(0, "0"), (5, "0"), (6, "0 1"), (20, "0 1"), (21, "0 1 2"), (9999, "0 1 2")] {
        let (lane, names) = holding(&sessions, LaneMemory::default());
        assert_eq!(numbers(&room_for(&lane, bytes), &names), wanted, "{bytes}");
    }
    let (lane, _) = holding(&[], LaneMemory::default());
    assert_eq!(room_for(&lane, 1), []);
}

fn holding(sessions: &[(u64, u64)], told: LaneMemory) -> (Lane, Vec<SessionName>) {
    let now = Instant::now();
    let (_, Lane { backend, .. }) = lane("a/wasm", Is::Fresh, now);
    let environment = backend.environment().clone();
    let mut lane = Lane::new(Arc::new(Scenery(environment, watch::Sender::new(told))));
    let mut names = Vec::new();
    for (number, (wasm_bytes, gpu_bytes)) in sessions.iter().enumerate() {
        // Named against the order of their use.
        let model = Digest::new([99 - u8::try_from(number).expect("a few"); 32]);
        let name = SessionName { model, shapes: DimBinding::new() };
        let state = SessionState::Ready {
            placement: Placement::new(),
            verdict: VerdictStatus::Verified,
            used: now + Duration::from_secs(number as u64),
            memory: LaneMemory { wasm_bytes: *wasm_bytes, gpu_bytes: *gpu_bytes },
            load: LoadTiming::default(),
            _held: Held::default(),
        };
        lane.sessions.insert(name.clone(), state);
        names.push(name);
    }
    (lane, names)
}

fn numbers(gone: &[SessionName], names: &[SessionName]) -> String {
    let number = |name| names.iter().position(|other| other == name).expect("one of them").to_string();
    gone.iter().map(number).collect::<Vec<_>>().join(" ")
}
