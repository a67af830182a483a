//! Proofs that somebody waits for: a model judged in every lane that a caller named.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use tokio::{sync::oneshot, time::Instant};
use utoipa::ToSchema;

use super::{
    Wants,
    choose::Outlook,
    lane::{Lane, SessionState, Standing},
};
use crate::{
    backend::SessionName,
    domain::{Failure, LaneId},
    models::Entry,
};

/// What became of a model in one lane.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Judged {
    pub lane: LaneId,
    /// `verified` or `reference`; absent when the lane may not serve the model.
    pub verdict: Option<&'static str>,
    pub refused: Option<Failure>,
}

pub(super) struct Proof {
    pub(super) entry: Arc<Entry>,
    pub(super) wants: Wants,
    keep: bool,
    pub(super) done: oneshot::Sender<Vec<Judged>>,
    /// Kept from when a lane was judged: what it holds may be unloaded before the last lane is done.
    judged: BTreeMap<LaneId, Judged>,
}

impl Proof {
    pub(super) fn new(
        entry: Arc<Entry>,
        wants: Wants,
        keep: bool,
        done: oneshot::Sender<Vec<Judged>>,
    ) -> Self {
        Self { entry, wants, keep, done, judged: BTreeMap::new() }
    }

    /// What is to be kept, and where, now that it serves somewhere.
    pub(super) fn kept(&self) -> Option<(&Arc<Entry>, &Wants)> {
        let serves = self.judged.values().any(|judged| judged.refused.is_none());
        (self.keep && serves).then_some((&self.entry, &self.wants))
    }

    /// Takes note of what has been judged; answers with the sessions still to be prepared, and whether all is done.
    pub(super) fn advance(
        &mut self,
        lanes: &BTreeMap<LaneId, Lane>,
        outlook: &Outlook,
        now: Instant,
    ) -> (Vec<(LaneId, SessionName)>, bool) {
        let binding = self.entry.proof_binding();
        let (mut absent, mut open) = (Vec::new(), outlook.may_come(&self.wants));
        let counts =
            |lane: &Lane| if self.keep { lane.holds_for(&self.wants) } else { lane.named(&self.wants) };
        for (id, lane) in lanes.iter().filter(|(_, lane)| counts(lane)) {
            if self.judged.contains_key(id) {
                continue;
            }
            let session = lane.session_name(self.entry.model.digest, &binding);
            let refused = match lane.standing(&session, false, now) {
                Standing::Absent => {
                    absent.push((id.clone(), session));
                    continue;
                }
                Standing::Preparing => {
                    open = true;
                    continue;
                }
                Standing::Refused(failure) => Some(failure.clone()),
                Standing::Ready | Standing::Mixed => None,
            };
            let verdict = match lane.sessions.get(&session) {
                Some(SessionState::Ready { verdict, .. }) => Some(verdict.as_str()),
                _ => None,
            };
            self.judged.insert(id.clone(), Judged { lane: id.clone(), verdict, refused });
        }
        let done = absent.is_empty() && !open;
        (absent, done)
    }

    pub(super) fn finish(self) {
        // Whoever asked may have left.
        let _ = self.done.send(self.judged.into_values().collect());
    }
}
