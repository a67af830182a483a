//! Which lane a request goes to, what must be prepared for it, or why it cannot run. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use super::{
    Wants,
    lane::{DEPTH, Lane, Standing},
    latency::Expected,
};
use crate::{
    backend::SessionName,
    domain::{
        BackendKind, Code, Digest, DimBinding, Environment, Failure, Fallback, InstanceId, LaneId, LeaseId,
        Policy, Retry,
    },
    pool::Hold,
};

/// What of a request decides.
pub(super) struct Case<'a> {
    pub(super) model: Digest,
    pub(super) binding: &'a DimBinding,
    pub(super) wants: &'a Wants,
    /// The only lane that will do, for the sequence's sake.
    pub(super) tied: Option<&'a LaneId>,
    /// Lanes that an earlier attempt failed on.
    pub(super) excluded: &'a [LaneId],
    /// Why the last attempt failed.
    pub(super) failed: Option<&'a Failure>,
    /// What its model takes in lanes that have not run it.
    pub(super) expected: Expected<'a>,
    pub(super) now: Instant,
}

/// Lanes that may still come, those that cannot, and those that not everybody may use.
#[derive(Default)]
pub(super) struct Outlook {
    /// Instances that are not open to all.
    pub(super) holds: BTreeMap<InstanceId, Hold>,
    /// Instances that give no signs of life at the moment.
    pub(super) suspects: BTreeSet<InstanceId>,
    pub(super) starting: BTreeMap<InstanceId, (String, Vec<BackendKind>)>,
    pub(super) absent: BTreeMap<InstanceId, Vec<Absence>>,
}

pub(super) struct Absence {
    pub(super) browser: String,
    /// `None` when the whole instance failed.
    pub(super) backend: Option<BackendKind>,
    pub(super) reason: String,
}

#[derive(Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) decision: Decision,
    /// To be prepared in the background, whatever the decision.
    pub(super) prepare: Vec<(LaneId, SessionName)>,
    /// What the lanes do that it waits for, when all that could run it are full.
    pub(super) full: Option<Serving>,
}

/// Lanes that are proven for a model, and serve it or others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Serving {
    /// Requests that end in a microsecond.
    pub(super) rate: f64,
    /// Requests under way.
    pub(super) running: usize,
}

#[derive(Debug, PartialEq)]
pub(super) enum Decision {
    Run { lane: LaneId, session: SessionName, fallback: Option<Fallback> },
    Wait,
    Fail(Failure),
}

/// How much a lane is to be preferred: the least wins.
/// With a score there is nothing that two random choices would be better for than a look at all: the count of steps
/// under way is exact, since one actor starts them, and whether a lane is eligible must be looked up anyway.
type Score = (usize, f64, u64);

/// How the lanes of one kind stand for a request.
#[derive(Default)]
struct Survey<'a> {
    /// The best that is proven and has room for one more step.
    free: Option<(Score, &'a LaneId, SessionName)>,
    busy: bool,
    serving: Serving,
    /// Why some lane is not to be used at the moment.
    held: Option<&'static str>,
    preparing: bool,
    absent: Vec<(LaneId, SessionName)>,
    refused: Vec<Failure>,
}

pub(super) fn choose(case: &Case<'_>, lanes: &BTreeMap<LaneId, Lane>, outlook: &Outlook) -> Choice {
    if let Some(lease) = case.wants.lease.as_ref().filter(|lease| !outlook.leased(lease)) {
        let message = format!("no instance is leased as {lease}: it was released, or its time is over");
        let decision = Decision::Fail(Failure::new(Code::NoBackend, Retry::Never, message));
        return Choice { decision, prepare: Vec::new(), full: None };
    }
    let wanted = survey(case, lanes, outlook, |lane| match case.tied {
        Some(tied) => lane.environment().lane == *tied,
        None => lane.admitted(case.wants),
    });
    let mut prepare = wanted.absent.clone();
    if let Some((_, lane, session)) = wanted.free {
        // A sequence goes on where it began, also when that was not where it is wanted.
        let elsewhere = case.tied.is_some() && lanes.get(lane).is_some_and(|lane| !lane.admitted(case.wants));
        let fallback = elsewhere.then(|| Fallback {
            wanted: case.wants.describe(),
            reason: "its sequence is held to another lane".to_owned(),
        });
        let decision = Decision::Run { lane: lane.clone(), session, fallback };
        return Choice { decision, prepare, full: None };
    }
    let starting = outlook.may_come(case.wants);
    let returning = wanted.held.is_some() || starting;
    let hopeful = wanted.preparing || returning || !wanted.absent.is_empty();
    if wanted.busy {
        return Choice { decision: Decision::Wait, prepare, full: Some(wanted.serving) };
    }
    let mut reason = unmet(case, &wanted, lanes, outlook);
    let why = if hopeful { pending_reason(&wanted) } else { reason.message.clone() };
    let instead = |lane: &LaneId, session| {
        let fallback = Some(Fallback { wanted: case.wants.describe(), reason: why.clone() });
        Decision::Run { lane: lane.clone(), session, fallback }
    };
    let mut coming = false;
    if case.wants.stand_in && case.tied.is_none() {
        let spares = survey(case, lanes, outlook, |lane| lane.stands_in(case.wants));
        if let Some((_, lane, session)) = spares.free {
            return Choice { decision: instead(lane, session), prepare, full: None };
        }
        if spares.busy {
            return Choice { decision: Decision::Wait, prepare, full: Some(spares.serving) };
        }
        coming = spares.preparing || !spares.absent.is_empty();
        // A lane that is there and only loads is sooner ready than another that has not begun.
        if !spares.preparing && !wanted.preparing && wanted.absent.is_empty() {
            prepare.extend(emptiest(spares.absent, lanes));
        }
    }
    if case.wants.native_fallback && case.tied.is_none() {
        let native = survey(case, lanes, outlook, |lane| lane.falls_back(case.wants));
        prepare.extend(native.absent.iter().cloned());
        if let Some((_, lane, session)) = native.free {
            return Choice { decision: instead(lane, session), prepare, full: None };
        }
        if native.busy || native.preparing || native.held.is_some() || !native.absent.is_empty() {
            return Choice { decision: Decision::Wait, prepare, full: native.busy.then_some(native.serving) };
        }
        // What else could have answered says more than that nothing else is there.
        if let Some(refused) = native.refused.into_iter().next()
            && wanted.refused.is_empty()
            && case.failed.is_none()
        {
            reason = refused;
        }
    }
    let decision = if hopeful || coming { Decision::Wait } else { Decision::Fail(reason) };
    Choice { decision, prepare, full: None }
}

/// Of lanes that have not met the model the one that holds least: one spare is enough.
fn emptiest(
    absent: Vec<(LaneId, SessionName)>,
    lanes: &BTreeMap<LaneId, Lane>,
) -> Option<(LaneId, SessionName)> {
    absent.into_iter().min_by_key(|(id, _)| lanes.get(id).map(Lane::held))
}

/// The best lane of another instance that does nothing and is proven for the request: a second copy may go there.
pub(super) fn spare(
    case: &Case<'_>,
    lanes: &BTreeMap<LaneId, Lane>,
    outlook: &Outlook,
    instance: &InstanceId,
) -> Option<(LaneId, SessionName)> {
    let idle = |lane: &Lane| {
        let other = lane.environment().instance != *instance;
        other && lane.admitted(case.wants) && lane.running == 0 && lane.preparing() == 0
    };
    let (_, lane, session) = survey(case, lanes, outlook, idle).free?;
    Some((lane.clone(), session))
}

fn score(case: &Case<'_>, lane: &Lane) -> Score {
    let expected = || lane.expected(case.model, case.expected, case.now);
    match case.wants.policy {
        Policy::Fastest | Policy::BrowserFirst | Policy::Pin => (0, expected(), lane.last_start),
        Policy::NativeFirst => (usize::from(!lane.native()), expected(), lane.last_start),
        Policy::Spread => (lane.running, 0.0, lane.last_start),
    }
}

fn better(one: &Score, other: &Score) -> bool {
    let order = one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).then(one.2.cmp(&other.2));
    order.is_lt()
}

fn survey<'a>(
    case: &Case<'_>,
    lanes: &'a BTreeMap<LaneId, Lane>,
    outlook: &Outlook,
    counts: impl Fn(&Lane) -> bool,
) -> Survey<'a> {
    let mut survey = Survey::default();
    for (id, lane) in lanes.iter().filter(|(id, lane)| !case.excluded.contains(id) && counts(lane)) {
        match outlook.access(&lane.environment().instance, case.wants.lease.as_ref()) {
            Access::Open => {}
            Access::Later => {
                survey.held = Some("its browser is being drained, is leased, or gives no signs of life");
                continue;
            }
            Access::Never => continue,
        }
        if lane.draining.is_some() {
            survey.held = Some("its lane is being recycled");
            continue;
        }
        let session = lane.session_name(case.model, case.binding);
        match lane.standing(&session, case.wants.strict, case.now) {
            Standing::Ready if lane.running < DEPTH => {
                let score = score(case, lane);
                if survey.free.as_ref().is_none_or(|(best, ..)| better(&score, best)) {
                    survey.free = Some((score, id, session));
                }
            }
            Standing::Ready => {
                survey.busy = true;
                survey.serving.rate += lane.service(case.model, case.expected).max(1.0).recip();
                survey.serving.running += lane.requests;
            }
            Standing::Preparing => survey.preparing = true,
            Standing::Absent => survey.absent.push((id.clone(), session)),
            Standing::Refused(failure) => survey.refused.push(failure.clone()),
            Standing::Mixed => survey.refused.push(Failure::new(
                Code::NoBackend,
                Retry::Never,
                format!("{id} spreads the model over several execution providers, and the request is strict"),
            )),
        }
    }
    survey
}

fn pending_reason(wanted: &Survey<'_>) -> String {
    if let Some(held) = wanted.held {
        held.to_owned()
    } else if wanted.preparing || !wanted.absent.is_empty() {
        "the model is being loaded and proven there".to_owned()
    } else {
        "browsers are still starting".to_owned()
    }
}

/// Why no wanted lane can run the request.
fn unmet(case: &Case<'_>, wanted: &Survey<'_>, lanes: &BTreeMap<LaneId, Lane>, outlook: &Outlook) -> Failure {
    if let Some(failed) = case.failed {
        return failed.clone();
    }
    if let Some(first) = wanted.refused.iter().find(|failure| failure.code == Code::Quarantined) {
        return first.clone();
    }
    if let Some(first) = wanted.refused.first() {
        return first.clone();
    }
    let mut absences = outlook.absences(case.wants);
    let software = |lane: &&Lane| lane.environment().software_adapter() && lane.named(case.wants);
    absences.extend(lanes.values().find(software).map(|lane| {
        let lane = lane.environment();
        format!("{} has a software adapter, which serves only when {} is asked for", lane.lane, lane.backend)
    }));
    let why = if absences.is_empty() { "none is configured".to_owned() } else { absences.join("; ") };
    Failure::new(Code::NoBackend, Retry::Never, format!("no lane offers {}: {why}", case.wants.describe()))
}

/// Whether a request may use an instance.
enum Access {
    Open,
    /// Not now, but the instance comes back.
    Later,
    /// It names a lease that is not this instance's.
    Never,
}

impl Outlook {
    fn access(&self, instance: &InstanceId, lease: Option<&LeaseId>) -> Access {
        match (self.holds.get(instance), lease) {
            (Some(Hold::Leased(held)), Some(lease)) if held == lease => {}
            (_, Some(_)) => return Access::Never,
            (Some(Hold::Draining | Hold::Leased(_)), None) => return Access::Later,
            (None | Some(Hold::Open), None) => {}
        }
        if self.suspects.contains(instance) { Access::Later } else { Access::Open }
    }

    /// Whether an instance is there for everybody.
    pub(super) fn open(&self, instance: &InstanceId) -> bool {
        matches!(self.access(instance, None), Access::Open)
    }

    /// Whether some instance is held for this lease.
    fn leased(&self, lease: &LeaseId) -> bool {
        self.holds.values().any(|hold| matches!(hold, Hold::Leased(held) if held == lease))
    }

    /// What is known of an instance goes with it.
    pub(super) fn gone(&mut self, instance: &InstanceId) {
        self.starting.remove(instance);
        self.absent.remove(instance);
        self.holds.remove(instance);
        self.suspects.remove(instance);
    }

    /// A lane like this one may come back.
    pub(super) fn awaits(&mut self, lane: &Environment) {
        let starting = self.starting.entry(lane.instance.clone());
        starting.or_insert_with(|| (lane.browser.clone(), Vec::new())).1.push(lane.backend.clone());
    }

    /// This kind of lane has come, or never will.
    pub(super) fn arrived(&mut self, instance: &InstanceId, kind: &BackendKind) {
        if let Some((_, backends)) = self.starting.get_mut(instance) {
            backends.retain(|backend| backend != kind);
            if backends.is_empty() {
                self.starting.remove(instance);
            }
        }
    }

    pub(super) fn may_come(&self, wants: &Wants) -> bool {
        self.starting.iter().any(|(instance, (browser, backends))| {
            backends.iter().any(|backend| wants.leaves_in(instance, browser, backend))
        })
    }

    fn absences(&self, wants: &Wants) -> Vec<String> {
        let concerns = |(instance, absence): &(&InstanceId, &Absence)| match (
            &absence.backend,
            wants.lanes.as_slice(),
        ) {
            (Some(backend), _) => wants.leaves_in(instance, &absence.browser, backend),
            (None, []) => wants.browsers.is_empty() || wants.browsers.contains(&absence.browser),
            (None, lanes) => lanes.iter().any(|lane| lane.as_str().starts_with(&format!("{instance}/"))),
        };
        let describe = |absence: &Absence| match &absence.backend {
            Some(backend) => format!("{} in {}: {}", backend, absence.browser, absence.reason),
            None => format!("{}: {}", absence.browser, absence.reason),
        };
        let all = self
            .absent
            .iter()
            .flat_map(|(instance, absences)| absences.iter().map(move |absence| (instance, absence)));
        all.filter(concerns).map(|(_, absence)| describe(absence)).collect()
    }
}
