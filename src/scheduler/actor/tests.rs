//! The actor with lanes that only take time, on a clock that stands still while anything has to be done.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::{Mutex as Turn, mpsc, watch},
    time::{Instant, sleep},
};

use super::{Actor, Message};
use crate::{
    backend::{
        Activity, Backend, BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput, StepTiming,
    },
    domain::{
        BackendKind, Caller, Digest, DimBinding, Environment, Failure, InstanceId, LaneId, LaneMemory,
        LoadTiming, Placement, Policy, Uses, VerdictStatus,
    },
    events::Events,
    models::{Blobs, Entry, Held, History, Layouts, Loader, Reference, gate::Gate},
    pool::PoolEvent,
    scheduler::{
        Accepted, Answer, Ledger, Limits, Request, Scheduler, Wants,
        admission::Admission,
        lane::{Lane, SessionState},
        staged::Flows,
        tests::{LIMITS, request},
    },
    store::Store,
    tasks::Tasks,
    telemetry::Metrics,
};

/// A lane whose steps take the time of their model, one after the other.
struct Paced {
    environment: Environment,
    micros: Vec<(Digest, u64)>,
    turn: Arc<Turn<()>>,
    /// Each step of so many takes so many microseconds more.
    stalls: Option<(u64, u64)>,
    steps: AtomicU64,
}

impl Paced {
    fn new(kind: &str, micros: &[(Digest, u64)]) -> Self {
        let backend: BackendKind = kind.parse().expect("a backend");
        let environment = Environment {
            instance: InstanceId::new("fake-1"),
            lane: LaneId::new(format!("fake-1/{kind}")),
            browser: "fake".to_owned(),
            browser_version: "1".to_owned(),
            backend,
            adapter: None,
            webnn_device: None,
            sandbox: None,
            engine: "none".to_owned(),
            threads: 1,
            flags: Vec::new(),
        };
        let (turn, steps) = (Arc::default(), AtomicU64::default());
        Self { environment, micros: micros.to_vec(), turn, stalls: None, steps }
    }

    fn stalling(mut self, instance: &str, stalls: (u64, u64)) -> Self {
        self.environment.instance = InstanceId::new(instance);
        self.environment.lane = LaneId::new(format!("{instance}/{}", self.environment.backend));
        Self { stalls: Some(stalls), ..self }
    }
}

impl Backend for Paced {
    fn environment(&self) -> &Environment {
        &self.environment
    }
    fn load(&self, _: LoadOrder) -> BoxFuture<'static, Result<Loaded, BackendError>> {
        unreachable!("everything is loaded")
    }
    fn unload(&self, _: SessionName) -> BoxFuture<'static, Result<(), BackendError>> {
        unreachable!("nothing is unloaded")
    }
    fn execute(&self, step: Step) -> BoxFuture<'static, Result<StepOutput, BackendError>> {
        let (turn, sent) = (self.turn.clone(), Instant::now());
        let micros = self.micros.iter().find(|(model, _)| *model == step.session.model);
        let number = self.steps.fetch_add(1, Ordering::SeqCst) + 1;
        let stall = self.stalls.filter(|(of, _)| number.is_multiple_of(*of)).map_or(0, |(_, micros)| micros);
        let takes = Duration::from_micros(micros.expect("it is loaded").1 + stall);
        Box::pin(async move {
            let _turn = turn.lock().await;
            let wait = sent.elapsed().as_micros() as u64;
            sleep(takes).await;
            Ok(StepOutput { outputs: Vec::new(), timing: StepTiming { wait, ..StepTiming::default() } })
        })
    }
    fn activity(&self) -> Activity {
        Activity::default()
    }
    fn lost(&self) -> BoxFuture<'static, String> {
        Box::pin(std::future::pending())
    }
    fn abandon(&self, _: String) {}
}

type Told = (&'static str, Result<Answer, Failure>);

/// The scheduler with these lanes, proven for whatever they take time for.
struct Stage {
    scheduler: Scheduler,
    told: mpsc::UnboundedSender<Told>,
    answers: mpsc::UnboundedReceiver<Told>,
    _pool: mpsc::Sender<PoolEvent>,
}

fn stage(lanes: Vec<Paced>) -> Stage {
    stage_hedging(lanes, None)
}

fn stage_hedging(lanes: Vec<Paced>, hedge_percent: Option<u32>) -> Stage {
    let limits = Limits { requests: 10_000, caller_requests: 10_000, bytes: 1, hedge_percent, ..LIMITS };
    let (tasks, sweep) = (Tasks::new(), Arc::new(AtomicBool::new(false)));
    let (inbox, messages) = mpsc::channel(super::super::INBOX);
    let store = Arc::new(Store::open_in_memory().expect("a store"));
    let nothing = Arc::new(Paced::new("ort-cpu", &[]));
    let gate =
        Gate::new(Arc::new(Reference::new(nothing, || Err("nothing is proven here".into()))), store.clone());
    let home = tempfile::tempdir().expect("a temporary folder");
    let blobs = Blobs::open(home.path().join("models"), home.path(), None).expect("a folder for files");
    let loader =
        Loader::new(gate, Layouts::new(blobs, tasks.clone()), |_| unreachable!("nothing is loaded here"));
    let limits = watch::Sender::new(limits).subscribe();
    let backlog = Arc::new(AtomicUsize::new(0));
    let ledger = Ledger { store, events: Events::default(), metrics: Metrics::default() };
    let mut actor = Actor::new(
        (inbox.clone(), sweep.clone()),
        limits.clone(),
        Arc::new(loader),
        ledger.clone(),
        Arc::default(),
        backlog.clone(),
        tasks.clone(),
    );
    for backend in lanes {
        let (id, models) = (backend.environment.lane.clone(), backend.micros.clone());
        let mut lane = Lane::new(Arc::new(backend));
        for (model, _) in models {
            let ready = SessionState::Ready {
                placement: Placement::new(),
                verdict: VerdictStatus::Verified,
                used: Instant::now(),
                memory: LaneMemory::default(),
                load: LoadTiming::default(),
                _held: Held::default(),
            };
            lane.sessions.insert(SessionName { model, shapes: DimBinding::new() }, ready);
        }
        actor.lanes.insert(id, lane);
    }
    let (pool, events) = mpsc::channel(1);
    tasks.spawn("scheduler", actor.run(messages, events));
    let (told, answers) = mpsc::unbounded_channel();
    let (admission, flows) = (Admission::new(limits, tasks.clone()), Flows::default());
    let scheduler = Scheduler { inbox, sweep, admission, backlog, ledger, tasks, flows };
    Stage { scheduler, told, answers, _pool: pool }
}

/// What is asked, but for its name.
#[derive(Clone)]
struct Ask {
    caller: Caller,
    model: Digest,
    policy: Policy,
    priority: u32,
    within: Duration,
}

fn ask() -> Ask {
    let (caller, model, policy) = (Caller::local(), digest(1), Policy::Spread);
    Ask { caller, model, policy, priority: 0, within: Duration::from_secs(60) }
}

fn digest(byte: u8) -> Digest {
    Digest::new([byte; 32])
}

impl Stage {
    fn submit(&self, name: &'static str, ask: &Ask) {
        let Ask { caller, model, policy, priority, within } = ask.clone();
        let at = Instant::now();
        let template = request();
        let mut model_of = template.entry.model.clone();
        model_of.digest = model;
        let entry = Entry::new(model_of, template.entry.path.clone(), History::default(), Uses::default());
        let request = Request {
            entry: Arc::new(entry),
            caller: caller.clone(),
            wants: Wants { policy, ..Wants::default() },
            priority,
            accepted: Accepted { at, at_us: 0 },
            deadline: at + within,
            ..template
        };
        let told = self.told.clone();
        let reply = Box::new(move |result| drop(told.send((name, result))));
        let permit = self.scheduler.admit(&caller, 0).expect("there is room");
        self.scheduler.submit(request, permit, reply).map(drop).expect("the actor runs");
    }

    async fn answers(&mut self, count: usize) -> Vec<Told> {
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(self.answers.recv().await.expect("the stage holds the other end"));
        }
        answers
    }

    async fn names(&mut self, count: usize) -> Vec<&'static str> {
        let answers = self.answers(count).await;
        assert!(answers.iter().all(|(_, result)| result.is_ok()), "all are computed");
        answers.into_iter().map(|(name, _)| name).collect()
    }
}

fn count(names: &[&str], name: &str) -> usize {
    names.iter().filter(|told| **told == name).count()
}

#[tokio::test(start_paused = true)]
async fn callers_share_a_lane_by_weight_whatever_their_models_take() {
    let (dear, cheap) = (digest(1), digest(2));
    let mut stage = stage(vec![Paced::new("wasm", &[(dear, 2_000), (cheap, 1_000)])]);
    let one = Ask { caller: Caller { id: "one".into(), weight: 1 }, model: dear, ..ask() };
    let three = Ask { caller: Caller { id: "three".into(), weight: 3 }, model: cheap, ..ask() };
    // What the very first steps are charged is a guess, which may be a few steps off.
    stage.submit("one", &one);
    stage.submit("three", &three);
    stage.names(2).await;
    for _ in 0..400 {
        stage.submit("one", &one);
        stage.submit("three", &three);
    }
    let names = stage.names(280).await;
    // Every second of a lane for one is three for the other: 40 of 2 ms, and 240 of 1 ms.
    let (one, three) = (count(&names, "one") as f64 * 2.0, count(&names, "three") as f64);
    assert!((2.85..=3.15).contains(&(three / one)), "{three} ms to {one} ms");
    // Nobody else asks any more: the rest is served without a pause.
    let began = Instant::now();
    let rest = stage.names(520).await;
    let takes = count(&rest, "one") * 2 + count(&rest, "three");
    assert_eq!(began.elapsed().as_millis(), takes as u128, "the lane never stood still");
}

#[tokio::test(start_paused = true)]
async fn waiting_is_worth_a_class_a_second() {
    let mut stage = stage(vec![Paced::new("wasm", &[(digest(1), 400_000)])]);
    let with = |priority| Ask { priority, ..ask() };
    for name in ["first", "second"] {
        stage.submit(name, &ask());
    }
    stage.submit("deferred", &with(9));
    for at in 0..4 {
        stage.submit(["a", "b", "c", "d"][at], &with(8));
        sleep(Duration::from_millis(400)).await;
    }
    stage.submit("too late", &with(8));
    let names = stage.names(8).await;
    assert_eq!(names[..2], ["first", "second"]);
    let place = |name| names.iter().position(|told| *told == name).expect("it was answered");
    // From the second on it is as good as those that came with it or later.
    assert!(place("deferred") > place("a") && place("deferred") < place("too late"), "{names:?}");
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_lane_works_at_once_on_one_queue() {
    let paces = [("ort-cpu", 1_000), ("webgpu", 2_000), ("webnn", 4_000), ("wasm", 8_000)];
    // What each lane does of 300 requests, in a hundredth of them.
    for (policy, shares) in [(Policy::Fastest, [53, 27, 13, 7]), (Policy::NativeFirst, [53, 27, 13, 7])] {
        let lanes = paces.iter().map(|(kind, micros)| Paced::new(kind, &[(digest(1), *micros)]));
        let mut stage = stage(lanes.collect());
        for _ in 0..300 {
            stage.submit("", &Ask { policy, ..ask() });
        }
        let done = Arc::new(Mutex::new(std::collections::BTreeMap::<String, usize>::new()));
        for (_, result) in stage.answers(300).await {
            let answer = result.expect("it is computed");
            assert_eq!(answer.provenance.fallback, None);
            *done.lock().expect("no panic here").entry(answer.provenance.backend.to_string()).or_default() +=
                1;
        }
        let done = done.lock().expect("no panic here").clone();
        for ((kind, _), share) in paces.iter().zip(shares) {
            let found = done.get(*kind).copied().unwrap_or_default() as f64 / 3.0;
            assert!((found - f64::from(share)).abs() <= 3.0, "{policy}: {done:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_request_at_a_time_goes_where_its_policy_says() {
    let paces = [("ort-cpu", 2_000), ("webgpu", 1_000), ("webnn", 4_000), ("wasm", 8_000)];
    let cases = [
        (Policy::Fastest, [0, 40, 0, 0]),
        (Policy::NativeFirst, [40, 0, 0, 0]),
        (Policy::BrowserFirst, [0, 40, 0, 0]),
        (Policy::Spread, [10, 10, 10, 10]),
    ];
    for (policy, wanted) in cases {
        let lanes = paces.iter().map(|(kind, micros)| Paced::new(kind, &[(digest(1), *micros)]));
        let mut stage = stage(lanes.collect());
        // Each lane runs the model once, so that it is measured.
        for _ in 0..4 {
            stage.submit("", &ask());
        }
        stage.answers(4).await;
        let mut done = [0; 4];
        for _ in 0..40 {
            stage.submit("", &Ask { policy, ..ask() });
            let (_, result) = stage.answers(1).await.remove(0);
            let kind = result.expect("it is computed").provenance.backend.to_string();
            done[paces.iter().position(|(known, _)| *known == kind).expect("one of them")] += 1;
        }
        assert_eq!(done, wanted, "{policy}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_done_in_time_is_refused_at_once() {
    let mut stage = stage(vec![Paced::new("wasm", &[(digest(1), 10_000)])]);
    // Before anything is known, nothing is refused.
    for _ in 0..20 {
        stage.submit("known", &ask());
    }
    stage.names(20).await;
    for _ in 0..50 {
        stage.submit("queued", &ask());
    }
    // 50 of 10 ms, of which 2 are in the lane, then its own 10 ms.
    let began = Instant::now();
    for (name, millis) in [("hopeless", 60_001), ("urgent", 50)] {
        let within = Duration::from_millis(millis);
        stage.submit(name, &Ask { within, ..ask() });
    }
    stage.submit("urgent and late", &Ask { within: Duration::from_millis(25), priority: 1, ..ask() });
    let (name, refused) = stage.answers(1).await.remove(0);
    assert_eq!((name, began.elapsed()), ("urgent and late", Duration::ZERO), "before any step ended");
    let failure = refused.err().expect("two steps of 10 ms are under way");
    assert_eq!(
        failure.to_string(),
        "overloaded: its answer is expected in 30 ms, and its time runs out in 25"
    );
    assert_eq!(failure.retry_after_s, Some(1));
    // One of another caller has its share from the start, whatever the first has queued.
    let other = Caller { id: "other".into(), weight: 1 };
    stage.submit("other", &Ask { caller: other, within: Duration::from_millis(60), ..ask() });
    let names = stage.names(53).await;
    let place = |name| names.iter().position(|told| *told == name).expect("it was answered");
    assert!(place("other") <= 4 && place("urgent") <= 4, "{names:?}");
    assert_eq!(place("hopeless"), 52);
    assert!(matches!(stage.scheduler.inbox.try_send(Message::Sweep), Ok(())));
}

#[tokio::test(start_paused = true)]
async fn hedges_keep_to_their_share_and_cut_the_far_end() {
    // Each lane now and then takes 22 ms for a step of 2 ms, seldom both at once.
    let lane = |name, of| Paced::new("wasm", &[(digest(1), 2_000)]).stalling(name, (of, 20_000));
    let mut found = Vec::new();
    for percent in [None, Some(1), Some(5)] {
        let mut stage = stage_hedging(vec![lane("one-1", 37), lane("two-1", 41)], percent);
        let (mut slow, mut won) = (0, 0);
        for _ in 0..1000 {
            let began = Instant::now();
            stage.submit("", &ask());
            let (_, result) = stage.answers(1).await.remove(0);
            won += u32::from(result.expect("it is computed").provenance.attempt == 2);
            slow += u32::from(began.elapsed() > Duration::from_millis(10));
        }
        assert!(stage.answers.try_recv().is_err(), "each is answered once");
        found.push((slow, won));
    }
    let [(never, none), (seldom, few), (often, many)] = found[..] else { panic!("three budgets") };
    assert!(never >= 20 && none == 0, "{found:?}");
    assert!((5..=10).contains(&few) && seldom < never, "{found:?}");
    assert!((12..=50).contains(&many) && often < seldom, "{found:?}");
}

/// A caller whose one request took 22 ms in a lane, and as long in a second one where it may be hedged, is served again
/// when another caller has had as many steps of 2 ms for it.
#[tokio::test(start_paused = true)]
async fn who_is_hedged_pays_for_both_lanes() {
    let mut ahead = Vec::new();
    for percent in [None, Some(100)] {
        let lane = |name| Paced::new("wasm", &[(digest(1), 2_000)]).stalling(name, (21, 20_000));
        let mut stage = stage_hedging(vec![lane("one-1"), lane("two-1")], percent);
        for _ in 0..40 {
            stage.submit("known", &ask());
            stage.names(1).await;
        }
        let hedged = Ask { caller: Caller { id: "hedged".into(), weight: 1 }, ..ask() };
        let other = Ask { caller: Caller { id: "other".into(), weight: 1 }, ..ask() };
        let began = Instant::now();
        stage.submit("hedged", &hedged);
        stage.names(1).await;
        assert_eq!(began.elapsed().as_millis(), 22, "both lanes stall");
        // The second lane ends later.
        sleep(Duration::from_millis(10)).await;
        for _ in 0..30 {
            stage.submit("other", &other);
        }
        stage.submit("hedged", &hedged);
        let names = stage.names(31).await;
        ahead.push(names.iter().position(|name| *name == "hedged").expect("it was answered"));
    }
    let [once, twice] = ahead[..] else { panic!("two stages") };
    assert!((8..=14).contains(&(twice - once)), "22 ms more are 11 steps: {ahead:?}");
}
