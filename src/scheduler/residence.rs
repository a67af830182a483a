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
    domain::{Code, Digest, Failure, LaneId, Model, ModelName, Retry},
    models::Entry,
};

#[derive(Default)]
pub(super) struct Residences {
    /// By file, as every request asks: two names of one may be loaded and unloaded apart.
    loaded: BTreeMap<(Digest, ModelName), Loaded>,
    unloaded: BTreeMap<Digest, BTreeSet<ModelName>>,
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
        let (name, version) = (entry.model.name.clone(), entry.model.digest);
        self.readmit(&name, version);
        self.loaded.insert((version, name), Loaded { entry, wants });
    }

    /// Says whether the model's sessions are nobody else's to keep.
    pub(super) fn unload(&mut self, entry: &Entry) -> bool {
        let (name, version) = (entry.model.name.clone(), entry.model.digest);
        self.loaded.remove(&(version, name.clone()));
        self.unloaded.entry(version).or_default().insert(name);
        !self.keeps(version)
    }

    /// The version is gone, or is another one from now on.
    pub(super) fn forget(&mut self, name: &ModelName, version: Digest) {
        self.loaded.remove(&(version, name.clone()));
        self.readmit(name, version);
    }

    fn readmit(&mut self, name: &ModelName, version: Digest) {
        if let Some(names) = self.unloaded.get_mut(&version) {
            names.remove(name);
            if names.is_empty() {
                self.unloaded.remove(&version);
            }
        }
    }

    fn keeps(&self, model: Digest) -> bool {
        self.loaded.values().any(|loaded| loaded.entry.model.digest == model)
    }

    pub(super) fn check_model(&self, model: &Model) -> Result<(), Failure> {
        self.check(&model.name, model.digest)
    }

    pub(super) fn check(&self, name: &ModelName, version: Digest) -> Result<(), Failure> {
        if !self.is_unloaded(name, version) {
            return Ok(());
        }
        let message = format!("{name} was unloaded; it serves again once it is loaded");
        Err(Failure::new(Code::ModelNotReady, Retry::Never, message))
    }

    fn is_unloaded(&self, name: &ModelName, version: Digest) -> bool {
        self.unloaded.get(&version).is_some_and(|names| names.contains(name))
    }

    pub(super) fn stay(&self, name: &ModelName, version: Digest) -> Stay {
        if self.loaded.contains_key(&(version, name.clone())) {
            Stay::Loaded
        } else if self.is_unloaded(name, version) {
            Stay::Unloaded
        } else {
            Stay::OnDemand
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
