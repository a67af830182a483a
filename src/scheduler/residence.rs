//! Models that were loaded or unloaded by name. Pure.
//!
//! Left alone, a model is loaded where a request wants it and goes when others need the room.
//! Nothing here outlives the daemon.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::Serialize;

use super::{
    Wants,
    lane::{Lane, SessionLoad},
};
use crate::{
    backend::SessionName,
    domain::{Code, Digest, Failure, LaneId, ModelName, Retry},
    models::Entry,
};

#[derive(Default)]
pub(super) struct Residences {
    loaded: BTreeMap<ModelName, Loaded>,
    unloaded: BTreeSet<ModelName>,
}

struct Loaded {
    entry: Arc<Entry>,
    wants: Wants,
}

/// What was last said about a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stay {
    OnDemand,
    /// Kept in every lane that it was loaded for, until it is unloaded.
    Loaded,
    /// Requests are refused until it is loaded.
    Unloaded,
}

/// Where a model sits.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Residence {
    pub stay: Stay,
    pub lanes: Vec<Seat>,
}

/// One session of a model.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Seat {
    pub lane: LaneId,
    #[serde(flatten)]
    pub session: SessionLoad,
}

impl Residences {
    pub(super) fn load(&mut self, entry: Arc<Entry>, wants: Wants) {
        let name = entry.model.name.clone();
        self.unloaded.remove(&name);
        self.loaded.insert(name, Loaded { entry, wants });
    }

    /// Says whether the model's sessions are nobody else's to keep.
    pub(super) fn unload(&mut self, entry: &Entry) -> bool {
        self.loaded.remove(&entry.model.name);
        self.unloaded.insert(entry.model.name.clone());
        !self.keeps(entry.model.digest)
    }

    /// The name stands for nothing, or for something else, from now on.
    pub(super) fn forget(&mut self, name: &ModelName) {
        self.loaded.remove(name);
        self.unloaded.remove(name);
    }

    fn keeps(&self, model: Digest) -> bool {
        self.loaded.values().any(|loaded| loaded.entry.model.digest == model)
    }

    pub(super) fn check(&self, name: &ModelName) -> Result<(), Failure> {
        if !self.unloaded.contains(name) {
            return Ok(());
        }
        let message = format!("{name} was unloaded; it serves again once it is loaded");
        Err(Failure::new(Code::ModelNotReady, Retry::Never, message))
    }

    pub(super) fn stay(&self, name: &ModelName) -> Stay {
        match (self.loaded.contains_key(name), self.unloaded.contains(name)) {
            (true, _) => Stay::Loaded,
            (false, true) => Stay::Unloaded,
            (false, false) => Stay::OnDemand,
        }
    }

    /// Sessions that loaded models still lack in this lane.
    /// What it has held once and given up since comes back on demand: it would only go again.
    pub(super) fn lacking(&self, lane: &Lane) -> Vec<(SessionName, Arc<Entry>)> {
        let lacking = |loaded: &&Loaded| {
            lane.holds_for(&loaded.wants) && !lane.kept.contains(&loaded.entry.model.digest)
        };
        let session = |Loaded { entry, .. }: &Loaded| {
            (lane.session_name(entry.model.digest, &entry.proof_binding()), entry.clone())
        };
        self.loaded.values().filter(lacking).map(session).collect()
    }
}
