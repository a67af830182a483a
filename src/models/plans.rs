//! Plans that were proven, and how they are: their shards, run natively one after the other, answer as the whole model.
//!
//! What passes between the shards then is what each is judged by in its lane, like a model by the inputs that came with
//! it.

use std::{
    collections::BTreeMap,
    sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use sha2::{Digest as _, Sha256};
use tokio::sync::{self, Mutex};
use tokio_util::task::TaskTracker;

use super::{
    Cache, Entry, GateInputs, ModelError, Registry,
    gate::{INPUTS_MIN, compare},
    reference::{self, Loaded},
    standing::{self, Standing},
};
use crate::{
    backend::BackendError,
    domain::{
        Code, Digest, DimBinding, Failure, ModelName, Plan, PlanError, PlanId, Retry, Tensor, Tolerance,
        Verdict, VerdictStatus,
    },
    onnx::cut::CutError,
    protocol::client::TensorJson,
    store::{Store, StoreError, StoredPlan},
};

/// Plans that are kept: each is a row of every list, and is made by somebody who chose its stages.
const PLANS_MAX: usize = 256;

/// Digits of what a plan consists of that name it: enough that nobody meets two by chance.
const ID_DIGITS: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum PlansError {
    #[error(transparent)]
    Stages(#[from] PlanError),
    #[error("no plan is called {id:?}; `weft plan list` shows them")]
    Unknown { id: String },
    #[error("{PLANS_MAX} plans are kept, which is the limit: remove one with `weft plan remove ID`")]
    TooMany,
    #[error("{id} is kept for a model: `weft plan drop MODEL` gives it up")]
    Kept { id: PlanId },
    #[error("another standing plan was chosen meanwhile")]
    Changed,
    #[error("the shard {digest} of stage {stage} is not here any more: add it again, or remove the plan")]
    Gone { stage: usize, digest: Digest },
    #[error("{what} does not run natively: {source}")]
    Run { what: String, source: BackendError },
    #[error("the stages together do not answer as the whole model: {detail}")]
    Differs { detail: String },
    #[error("the model's inputs do not show whether the stages together answer as it does: {detail}")]
    Unproven { detail: String },
    #[error("it cannot be cut so: {0}")]
    Cut(#[from] CutError),
    #[error(transparent)]
    Shard(#[from] ModelError),
    #[error(transparent)]
    Files(#[from] Failure),
    #[error("stage {stage}, with what passes to it: {source}")]
    Inputs { stage: usize, source: ModelError },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PlansError> for Failure {
    fn from(error: PlansError) -> Self {
        let message = error.to_string();
        let (code, retry) = match error {
            PlansError::Stages(error) => return error.into(),
            PlansError::Files(failure) => return failure,
            PlansError::Store(error) => return error.into(),
            PlansError::Shard(error) => return error.into(),
            PlansError::Cut(_)
            | PlansError::Unknown { .. }
            | PlansError::Kept { .. }
            | PlansError::Differs { .. }
            | PlansError::Unproven { .. } => (Code::InvalidRequest, Retry::Never),
            PlansError::TooMany => (Code::Overloaded, Retry::Never),
            PlansError::Changed => (Code::Overloaded, Retry::Same),
            PlansError::Gone { .. } => (Code::ModelNotReady, Retry::Never),
            PlansError::Run { source, .. } => (source.code(), source.retry()),
            PlansError::Inputs { source, .. } => (Failure::from(source).code, Retry::Never),
        };
        Self::new(code, retry, message)
    }
}

/// A plan that was proven.
#[derive(Clone, Debug)]
pub struct KeptPlan {
    pub id: PlanId,
    pub plan: Arc<Plan>,
    /// Microseconds since the Unix epoch.
    pub made_at_us: i64,
    /// How far its answers were from the whole model's when it was proven, relative to the largest value.
    pub error: Option<f64>,
    /// Whether it was made to stand for its model, and goes when it stands no more.
    pub own: bool,
    /// Requests that run under it.
    pub(super) uses: TaskTracker,
}

impl KeptPlan {
    fn of(StoredPlan { id, plan, made_at_us, error, own }: StoredPlan) -> Self {
        let uses = TaskTracker::new();
        // Its end is waited for, whatever comes meanwhile.
        uses.close();
        Self { id, plan: Arc::new(plan), made_at_us, error, own, uses }
    }
}

/// What the whole model answers to the inputs that it is judged by.
pub struct Proof {
    pub inputs: Vec<Vec<Tensor>>,
    pub outputs: Vec<Vec<Tensor>>,
    tolerance: Tolerance,
    /// Shards that are judged by other inputs from now on.
    pub given: Vec<Arc<Entry>>,
}

impl Proof {
    /// Judges other answers to the same inputs; says how far they are off, relative to the largest value.
    pub fn check(&self, answers: &[Vec<Tensor>]) -> Result<Option<f64>, PlansError> {
        let Verdict { status, detail, error, .. } = compare(&self.outputs, answers, self.tolerance);
        match status {
            VerdictStatus::Verified | VerdictStatus::Reference => Ok(error),
            VerdictStatus::Mismatch => Err(PlansError::Differs { detail }),
            VerdictStatus::Unproven => Err(PlansError::Unproven { detail }),
        }
    }
}

pub struct Plans {
    pub(super) registry: Arc<Registry>,
    pub(super) cache: Arc<Cache>,
    pub(super) opening: Arc<Mutex<()>>,
    pub(super) store: Arc<Store>,
    kept: RwLock<BTreeMap<PlanId, KeptPlan>>,
    pub(super) standing: RwLock<Standing>,
    /// Held while another plan comes to stand, or one goes.
    pub(super) changing: Mutex<()>,
    /// Shared by those who make plans of shards; whoever removes shards has it alone.
    pub making: sync::RwLock<()>,
}

impl Plans {
    /// Reads the plans of earlier daemons. One that is not what its name says is left out.
    pub async fn open(registry: Arc<Registry>, cache: Arc<Cache>) -> Result<Self, StoreError> {
        let store = registry.store.clone();
        let mut kept = BTreeMap::new();
        for stored in store.plans().await? {
            if Self::name(&stored.plan) == stored.id {
                kept.insert(stored.id.clone(), KeptPlan::of(stored));
            } else {
                tracing::error!(plan = %stored.id, "a plan was changed in the store, and is not used");
            }
        }
        let standing = RwLock::new(standing::stored(&store).await?);
        let (opening, changing, making) = (Arc::default(), Mutex::default(), sync::RwLock::default());
        let plans =
            Self { registry, cache, opening, store, kept: RwLock::new(kept), standing, changing, making };
        if let Err(error) = plans.retire_left().await {
            tracing::warn!(%error, "plans that nobody wants stay");
        }
        Ok(plans)
    }

    /// In the order in which they were made.
    pub fn list(&self) -> Vec<KeptPlan> {
        let mut plans: Vec<_> = self.read().values().cloned().collect();
        plans.sort_by(|a, b| a.made_at_us.cmp(&b.made_at_us).then(a.id.cmp(&b.id)));
        plans
    }

    pub fn find(&self, id: &str) -> Result<KeptPlan, PlansError> {
        let unknown = || PlansError::Unknown { id: id.to_owned() };
        self.read().get(&PlanId::new(id)).cloned().ok_or_else(unknown)
    }

    /// The shards of a plan, in its order.
    pub fn shards(&self, plan: &Plan) -> Result<Vec<Arc<Entry>>, PlansError> {
        let shard =
            |(stage, digest): (usize, Digest)| self.of_file(digest).ok_or(PlansError::Gone { stage, digest });
        plan.stages.iter().map(|stage| stage.model).enumerate().map(shard).collect()
    }

    /// A model that has this file.
    pub fn of_file(&self, digest: Digest) -> Option<Arc<Entry>> {
        let name: ModelName = digest.to_string().parse().ok()?;
        self.registry.find(&name, None).ok()
    }

    /// Runs the whole model and then its stages, natively, on what the whole is judged by. Shards that came without
    /// inputs of their own are judged by what passed to them from now on.
    pub async fn prove(&self, whole: &Arc<Entry>, plan: &Plan) -> Result<Proof, PlansError> {
        let mut shards = self.shards(plan)?;
        let mut held = vec![self.cache.hold(whole).await?];
        for shard in &shards {
            held.push(self.cache.hold(shard).await?);
        }
        let inputs = whole.gate_inputs(&DimBinding::new());
        let outputs = self.run(whole, &inputs).await?;
        let tolerance = whole.model.tolerance;
        let mut proof = Proof { inputs, outputs, tolerance, given: Vec::new() };
        let mut values: Vec<Values> =
            proof.inputs.iter().map(|inputs| named_values(inputs.clone())).collect();
        for (stage, shard) in shards.iter_mut().enumerate() {
            let reads = &plan.stages[stage].inputs;
            let of =
                |values: &Values| reads.iter().filter_map(|read| values.get(&read.name).cloned()).collect();
            let inputs: Vec<Vec<Tensor>> = values.iter().map(of).collect();
            let made = self.run(shard, &inputs).await?;
            for (values, made) in values.iter_mut().zip(made) {
                values.extend(named_values(made));
            }
            if shard.given.is_empty() {
                let given = self.registry.give(shard.clone(), judged_by(&inputs)).await;
                *shard = given.map_err(|source| PlansError::Inputs { stage, source })?;
                proof.given.push(shard.clone());
            }
        }
        let wanted = |values: &Values| {
            plan.outputs.iter().filter_map(|made| values.get(&made.name).cloned()).collect::<Vec<_>>()
        };
        proof.check(&values.iter().map(wanted).collect::<Vec<_>>())?;
        Ok(proof)
    }

    pub(super) async fn run(
        &self,
        entry: &Entry,
        inputs: &[Vec<Tensor>],
    ) -> Result<Vec<Vec<Tensor>>, PlansError> {
        let failed =
            |error| PlansError::Run { what: entry.model.name.to_string(), source: reference::failed(error) };
        let run = async |loaded: &Loaded<'_>, _| loaded.run_all(inputs).await;
        self.registry.reference.with(entry, run).await.map_err(failed)?.map_err(failed)
    }

    /// What a plan is called: the same stages in the same places are the same plan.
    pub fn name(plan: &Plan) -> PlanId {
        let text = serde_json::to_string(plan).expect("a plan holds only strings, numbers and lists");
        let digest = Digest::new(Sha256::digest(text).into()).to_string();
        PlanId::new(format!("plan-{}", &digest[..ID_DIGITS]))
    }

    /// Keeps a plan that was proven, for somebody or as the daemon's own to stand for its model.
    pub async fn keep(
        &self,
        plan: Plan,
        error: Option<f64>,
        own: bool,
        made_at_us: i64,
    ) -> Result<KeptPlan, PlansError> {
        let _turn = self.changing.lock().await;
        let id = Self::name(&plan);
        if let Ok(mut kept) = self.find(id.as_str()) {
            if kept.own && !own {
                self.store.adopt_plan(id.clone()).await?;
                kept.own = false;
                self.write().insert(id, kept.clone());
            }
            return Ok(kept);
        }
        if self.read().len() >= PLANS_MAX {
            return Err(PlansError::TooMany);
        }
        let stored = StoredPlan { id, plan, made_at_us, error, own };
        self.store.put_plan(stored.clone()).await?;
        let kept = KeptPlan::of(stored);
        self.write().insert(kept.id.clone(), kept.clone());
        Ok(kept)
    }

    /// Forgets a plan; requests under way go on.
    pub async fn remove(&self, id: &str) -> Result<KeptPlan, PlansError> {
        let _turn = self.changing.lock().await;
        let kept = self.find(id)?;
        if kept.own || self.stands_for(&kept.id).is_some() {
            return Err(PlansError::Kept { id: kept.id });
        }
        self.store.remove_plan(kept.id.clone()).await?;
        self.write().remove(&kept.id);
        Ok(kept)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<PlanId, KeptPlan>> {
        self.kept.read().expect("no holder of the plans panics")
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<PlanId, KeptPlan>> {
        self.kept.write().expect("no holder of the plans panics")
    }
}

/// Values by their names.
pub(super) type Values = BTreeMap<String, Tensor>;

pub(super) fn named_values(tensors: Vec<Tensor>) -> Values {
    tensors.into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect()
}

/// As many inputs as a verdict takes: what a stage reads may be large.
pub(super) fn judged_by(inputs: &[Vec<Tensor>]) -> GateInputs {
    let set =
        |set: &Vec<Tensor>| set.iter().map(|tensor| (tensor.name.clone(), TensorJson::of(tensor))).collect();
    GateInputs { inputs: inputs.iter().take(INPUTS_MIN).map(set).collect(), shapes: Vec::new() }
}
