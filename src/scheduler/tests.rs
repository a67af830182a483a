//! Which lane a request goes to, as a table; and that a refused request is told once.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{sync::mpsc, time::Instant};

use super::{
    Accepted, Limits, Request, Scheduler, Wants,
    admission::Admission,
    choose::{Absence, Case, Decision, Outlook, choose},
    lane::{DEPTH, Lane, SessionState},
};
use crate::{
    backend::{Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput},
    domain::{
        Adapter, BackendKind, Code, Digest, DimBinding, Environment, Failure, InstanceId, LaneId, Model,
        Placement, Retry, Signature, Tolerance, VerdictStatus,
    },
    models::Entry,
};

/// A lane that is only looked at.
struct Scenery(Environment);

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
    fn lost(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }
    fn abandon(&self, _: String) {}
}

fn model() -> Digest {
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
    /// Refused for a passing reason, long enough ago.
    Forgiven,
}

fn lane(name: &str, is: Is, now: Instant) -> (LaneId, Lane) {
    let (browser, backend) = name.split_once('/').expect("a lane is browser/backend");
    let (backend, software) = backend.strip_suffix("-software").map_or((backend, false), |kind| (kind, true));
    let adapter = (backend == "webgpu").then(|| Adapter { software, ..Adapter::default() });
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
    let mut lane = Lane::new(Arc::new(Scenery(environment)));
    let name = lane.session_name(model(), &DimBinding::from([("n".to_owned(), 4)]));
    let ready = |providers: &[&str]| SessionState::Ready {
        placement: providers.iter().map(|provider| ((*provider).to_owned(), 1)).collect::<Placement>(),
        verdict: VerdictStatus::Verified,
        used: now,
    };
    let refused = |code, until| SessionState::Refused {
        failure: Failure::new(code, Retry::Elsewhere, format!("{id} refuses")),
        until,
    };
    let state = match is {
        Is::Fresh => return (id, lane),
        Is::Preparing => SessionState::Preparing,
        Is::Ready(running, micros) => {
            lane.running = running;
            lane.measured(model(), Duration::from_micros(micros));
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

fn wants(text: &str) -> Wants {
    let mut wants = Wants::default();
    for word in text.split_whitespace() {
        match word {
            "native" => wants.native_fallback = true,
            "strict" => wants.strict = true,
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
        excluded: &excluded,
        failed: (!excluded.is_empty()).then_some(&failed),
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
    let cases: [(&str, Lanes<'_>, &[&str], &str); 24] = [
        ("", &[("a/wasm", ready(0))], &[], "a/wasm"),
        ("", &[("a/wasm", ready(1)), ("b/wasm", ready(0))], &[], "b/wasm"),
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

fn request() -> Request {
    let model = Model {
        name: "m".parse().expect("a name"),
        digest: model(),
        bytes: 0,
        signature: Signature::default(),
        tolerance: Tolerance::FP32,
        source: String::new(),
        licence: None,
        opset: 17,
    };
    let entry =
        Entry { model, path: PathBuf::new(), given: Vec::new(), shapes: Vec::new(), ranges: Vec::new() };
    let at = Instant::now();
    Request {
        entry: Arc::new(entry),
        inputs: Vec::new(),
        outputs: Vec::new(),
        binding: DimBinding::new(),
        wants: Wants::default(),
        priority: 0,
        accepted: Accepted { at, at_us: 0 },
        deadline: at,
    }
}

#[test]
fn a_refused_request_is_told_by_the_refusal_alone() {
    let told = Arc::new(AtomicUsize::new(0));
    let submit = |scheduler: &Scheduler| {
        let told = told.clone();
        let reply = move |_| {
            told.fetch_add(1, Ordering::SeqCst);
        };
        scheduler.submit(request(), Box::new(reply)).map(drop).map_err(|failure| failure.message)
    };
    let (inbox, messages) = mpsc::channel(1);
    let scheduler = Scheduler { inbox, admission: Admission::new(Limits { requests: 2, bytes: 0 }) };
    assert_eq!(submit(&scheduler), Ok(()));
    assert_eq!(submit(&scheduler), Err("the scheduler's inbox is full".to_owned()));
    assert_eq!((told.load(Ordering::SeqCst), scheduler.pending()), (0, 1), "its place is free again");
    // Whoever was taken in is told when all is dropped.
    drop(messages);
    assert_eq!((told.load(Ordering::SeqCst), scheduler.pending()), (1, 0));
    assert_eq!(submit(&scheduler), Err("the daemon is stopping".to_owned()));
    assert_eq!(told.load(Ordering::SeqCst), 1);
}
