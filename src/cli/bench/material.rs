//! What a cell's requests are made of and compared with: models, their variants, plans, and inputs that are joined.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    super::{models, output},
    asked::{Asking, Known},
    measure::Measuring,
    socket::{Refused, Socket},
};
use crate::{
    bench::{Outcome, Work},
    domain::{Anatomy, BackendKind, Digest, ModelName, Signature, Tensor, join},
    onnx::told_at,
};

/// What a request is refused with while its model is loaded nowhere.
const NOT_READY: &str = "model_not_ready";

/// What a cell asks and must hear.
pub(super) struct Material {
    /// As the daemon calls it: the model, or a variant of it.
    pub(super) model: ModelName,
    pub(super) digest: Digest,
    pub(super) inputs: Arc<Vec<Vec<Tensor>>>,
    pub(super) known: Known,
    pub(super) plan: Option<String>,
    /// What one of its requests takes, where the graph tells.
    work: Option<Work>,
    bytes: Option<u64>,
}

/// What has been made for cells so far, and why something could not be.
#[derive(Default)]
pub(super) struct Made {
    bases: BTreeMap<usize, Result<Arc<Base>, String>>,
    variants: BTreeMap<(usize, String), Result<Variant, String>>,
    plans: BTreeMap<(ModelName, String), Result<String, String>>,
    /// Plans that nobody had before.
    new: BTreeSet<String>,
}

/// A model of the suite, natively.
struct Base {
    digest: Digest,
    inputs: Vec<Vec<Tensor>>,
    outputs: Vec<Vec<Tensor>>,
    /// Why its requests cannot be joined.
    barred: Option<String>,
    graph: Arc<Graph>,
}

#[derive(Clone)]
struct Variant {
    name: ModelName,
    digest: Digest,
    barred: Option<String>,
    graph: Arc<Graph>,
}

/// What the daemon tells of a model's graph, as far as it can read its file.
struct Graph {
    /// Of its file, and of those that its weights lie in.
    bytes: Option<u64>,
    signature: Signature,
    anatomy: Option<Anatomy>,
}

impl Graph {
    /// What one request takes on average over these sets of inputs.
    fn work(&self, sets: &[Vec<Tensor>]) -> Option<Work> {
        let Anatomy { parameter_bytes, cost, .. } = self.anatomy.as_ref()?;
        let of_set = |set: &Vec<Tensor>| {
            let shape = |name: &String| set.iter().find(|tensor| tensor.name == *name);
            let shapes: Option<Vec<_>> =
                self.signature.inputs.iter().map(|port| Some(shape(&port.name)?.shape.clone())).collect();
            let sizes = self.signature.sizes(&shapes?);
            let at = |told: &Option<String>| told_at(told.as_ref()?, &sizes);
            Some((at(&cost.flops)?, at(&cost.activation_bytes)?))
        };
        let all: Vec<(u64, u64)> = sets.iter().map(of_set).collect::<Option<_>>()?;
        let mean = |of: fn(&(u64, u64)) -> u64| all.iter().map(of).sum::<u64>().checked_div(all.len() as u64);
        let (flops, moved) = (mean(|(flops, _)| *flops)?, mean(|(_, moved)| *moved)?);
        Some(Work { flops, bytes: moved + parameter_bytes, nodes: cost.nodes, known: cost.known })
    }
}

impl Measuring<'_> {
    /// Has the daemon know what the cell is about; says whether it may be measured.
    pub(super) async fn prepare(&mut self, socket: &mut Socket, at: usize) -> anyhow::Result<bool> {
        if self.materials.contains_key(&at) {
            return Ok(true);
        }
        let model = self.wanted(at).model;
        let base = match self.base(socket, model).await? {
            Ok(base) => base,
            Err(reason) => {
                self.ended(at, Outcome::Failed, Some(reason));
                return Ok(false);
            }
        };
        match self.material(at, &base).await? {
            Ok(material) => {
                self.cells[at].model_digest = Some(material.digest);
                (self.cells[at].work, self.cells[at].model_bytes) = (material.work, material.bytes);
                self.materials.insert(at, Arc::new(material));
                Ok(true)
            }
            Err(reason) => {
                self.cells[at].model_digest = Some(base.digest);
                self.ended(at, Outcome::Skipped, Some(reason));
                Ok(false)
            }
        }
    }

    /// The requests of a cell, in its lane or under its plan.
    pub(super) fn asking(&self, at: usize) -> Asking {
        let (wanted, material) = (self.wanted(at), &self.materials[&at]);
        match &material.plan {
            Some(plan) => Asking::under(&material.model, plan, &material.inputs),
            None => {
                let lease = self.leases.of(&wanted.browser);
                let lane = (wanted.browser.as_str(), &wanted.backend);
                Asking::in_lane(&material.model, lane, &material.inputs, lease)
            }
        }
    }

    /// The cell's material, or why it has none.
    async fn material(&mut self, at: usize, base: &Base) -> anyhow::Result<Result<Material, String>> {
        let wanted = self.wanted(at);
        let Variant { name, digest, barred, graph } = match &wanted.varied.precision {
            Some(precision) if self.found.suite.precisions.contains_key(precision) => {
                match self.variant(wanted.model, precision, base.digest).await? {
                    Ok(variant) => variant,
                    Err(reason) => return Ok(Err(reason)),
                }
            }
            _ => {
                let name = self.found.suite.models[wanted.model].name.clone();
                let (barred, graph) = (base.barred.clone(), base.graph.clone());
                Variant { name, digest: base.digest, barred, graph }
            }
        };
        let rows = wanted.varied.batch.unwrap_or(1) as usize;
        let joined = match barred.filter(|_| rows > 1) {
            Some(barred) => Err(format!("{name} cannot be asked in batches: {barred}")),
            None => joined(&base.inputs, rows).and_then(|inputs| Ok((inputs, joined(&base.outputs, rows)?))),
        };
        let (inputs, outputs) = match joined {
            Ok(joined) => joined,
            Err(reason) => return Ok(Err(reason)),
        };
        let plan = match &wanted.varied.plan {
            Some(plan) if self.found.suite.plans.contains_key(plan) => match self.plan(&name, plan).await? {
                Ok(plan) => Some(plan),
                Err(reason) => return Ok(Err(reason)),
            },
            _ => None,
        };
        let (work, bytes) = (graph.work(&inputs), graph.bytes);
        let (inputs, known) = (Arc::new(inputs), Known(outputs));
        Ok(Ok(Material { model: name, digest, inputs, known, plan, work, bytes }))
    }

    /// A model of the suite with what it natively answers, or why it answers nothing.
    async fn base(&mut self, socket: &mut Socket, model: usize) -> anyhow::Result<Result<Arc<Base>, String>> {
        if let Some(base) = self.made.bases.get(&model) {
            return Ok(base.clone());
        }
        let subject = &self.found.suite.models[model];
        let inputs = subject.inputs.as_deref().context("a model that is measured has inputs")?;
        let given = self.found.inputs(inputs)?;
        let inputs = Arc::new(given.tensors()?);
        let path = format!("/api/v1/models/{}", subject.name);
        let shown = match self.client.get(&path).await {
            Ok(shown) => shown,
            Err(absent) => {
                let Some(source) = &subject.source else { return Err(absent) };
                output::progress(&format!("adding {}", subject.name));
                let (source, name) = (self.found.source(source), subject.brought_as());
                models::bring(self.client, &source, name, &given).await?;
                self.client.get(&path).await?
            }
        };
        let mut answered = natively(socket, &subject.name, &inputs).await?;
        if answered.as_ref().is_err_and(|refused| refused.code == NOT_READY) {
            // A run that was killed in a cold start leaves it so.
            self.load_natively(&subject.name).await?;
            answered = natively(socket, &subject.name, &inputs).await?;
        }
        let base = match answered {
            Err(Refused { code, message }) => {
                Err(format!("the native lane gives nothing to compare with: {code}: {message}"))
            }
            Ok(outputs) => {
                let (digest, barred, graph) = described(&shown)?;
                Ok(Arc::new(Base { digest, inputs: inputs.to_vec(), outputs, barred, graph }))
            }
        };
        self.made.bases.insert(model, base.clone());
        Ok(base)
    }

    /// The variant of a model that the suite names, or that weft makes.
    async fn variant(
        &mut self,
        model: usize,
        precision: &str,
        original: Digest,
    ) -> anyhow::Result<Result<Variant, String>> {
        let key = (model, precision.to_owned());
        if let Some(variant) = self.made.variants.get(&key) {
            return Ok(variant.clone());
        }
        let suite = &self.found.suite;
        let subject = &suite.models[model];
        let shown = match subject.variants.get(precision) {
            Some(name) => self.client.get(&format!("/api/v1/models/{name}")).await,
            None => {
                let convert = &suite.precisions[precision].convert;
                output::progress(&format!("making {} in {convert}", subject.name));
                let made = models::variant(self.client, subject.name.as_str(), convert).await;
                made.and_then(|shown| {
                    let of: Option<Digest> = serde_json::from_value(shown["variant"]["original"].clone())?;
                    anyhow::ensure!(of == Some(original), "{} is no variant of the model", shown["name"]);
                    Ok(shown)
                })
            }
        };
        let variant = match shown {
            Ok(shown) => {
                let (digest, barred, graph) = described(&shown)?;
                let name = serde_json::from_value(shown["name"].clone()).context("a model has a name")?;
                Ok(Variant { name, digest, barred, graph })
            }
            Err(error) => Err(format!("{} in {precision}: {error:#}", subject.name)),
        };
        self.made.variants.insert(key, variant.clone());
        Ok(variant)
    }

    /// A plan of the suite for a model, made once.
    async fn plan(&mut self, model: &ModelName, name: &str) -> anyhow::Result<Result<String, String>> {
        let key = (model.clone(), name.to_owned());
        if let Some(plan) = self.made.plans.get(&key) {
            return Ok(plan.clone());
        }
        let planned = &self.found.suite.plans[name];
        let before = self.client.get("/api/v1/plans").await?;
        output::progress(&format!("making the plan {name} for {model}"));
        let mut order = planned.order.clone();
        order["model"] = json!(model);
        let plan = match self.client.post("/api/v1/plans", &order).await {
            Ok(made) => {
                let id = made["id"].as_str().context("a plan has an id")?.to_owned();
                let mut kept = before["items"].as_array().into_iter().flatten();
                if !kept.any(|kept| kept["id"] == id.as_str()) {
                    self.made.new.insert(id.clone());
                }
                Ok(id)
            }
            Err(error) => Err(format!("[plan.{name}] in line {}: {error:#}", planned.line)),
        };
        self.made.plans.insert(key, plan.clone());
        Ok(plan)
    }

    /// Plans that were made for the suite go with it.
    pub(super) async fn forget_plans(&mut self) -> anyhow::Result<()> {
        for plan in std::mem::take(&mut self.made.new) {
            self.client.delete(&format!("/api/v1/plans/{plan}")).await?;
        }
        Ok(())
    }
}

/// What the native lane answers to each of these.
async fn natively(
    socket: &mut Socket,
    model: &ModelName,
    inputs: &Arc<Vec<Vec<Tensor>>>,
) -> anyhow::Result<Result<Vec<Vec<Tensor>>, Refused>> {
    let native = ("native", &BackendKind::ort_cpu());
    let mut outputs = Vec::new();
    for ask in Asking::in_lane(model, native, inputs, None).asks(1) {
        match socket.ask(&[ask]).await?.0 {
            Ok(answers) => outputs.extend(answers.into_iter().map(|answer| answer.outputs)),
            Err(refused) => return Ok(Err(refused)),
        }
    }
    Ok(Ok(outputs))
}

/// A model's digest, why its requests never share a step, and its graph.
fn described(shown: &Value) -> anyhow::Result<(Digest, Option<String>, Arc<Graph>)> {
    let digest = serde_json::from_value(shown["digest"].clone()).context("a model's digest")?;
    let signature = serde_json::from_value(shown["signature"].clone()).context("a model's signature")?;
    let anatomy = serde_json::from_value(shown["anatomy"].clone()).context("a model's anatomy")?;
    let barred = shown["batching"]["barred"].as_str().map(str::to_owned);
    let beside = shown["external"].as_object().into_iter().flat_map(|files| files.values());
    let bytes = shown["bytes"].as_u64().map(|own| own + beside.filter_map(Value::as_u64).sum::<u64>());
    Ok((digest, barred, Arc::new(Graph { bytes, signature, anatomy })))
}

/// As many sets of tensors, each joined with those that follow it, or why they are not alike.
fn joined(sets: &[Vec<Tensor>], rows: usize) -> Result<Vec<Vec<Tensor>>, String> {
    if rows == 1 {
        return Ok(sets.to_vec());
    }
    let beyond = |tensor: &Tensor| tensor.shape.get(1..).map(<[u64]>::to_vec);
    for set in sets {
        for (tensor, first) in set.iter().zip(&sets[0]) {
            if tensor.shape.is_empty() {
                return Err(format!("{} has no first axis to join along", tensor.name));
            }
            if beyond(tensor) != beyond(first) || tensor.name != first.name {
                let name = &tensor.name;
                return Err(format!("{name} differs in more than its first axis from one set to the other"));
            }
        }
    }
    let from = |at: usize| {
        let run: Vec<&[Tensor]> = (0..rows).map(|next| sets[(at + next) % sets.len()].as_slice()).collect();
        join(&run)
    };
    Ok((0..sets.len()).map(from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Cost, Datatype, Dim, Port};

    fn tensor(shape: &[u64], values: &[u8]) -> Tensor {
        let body = bytes::Bytes::copy_from_slice(values).into();
        Tensor { name: "x".to_owned(), datatype: Datatype::Uint8, shape: shape.to_vec(), body }
    }

    #[test]
    fn sets_are_joined_with_those_that_follow_them() {
        let sets: Vec<_> = [1, 2, 3].map(|value| vec![tensor(&[1, 1], &[value])]).to_vec();
        let told = |rows| -> Vec<(u64, Vec<u8>)> {
            let joined = joined(&sets, rows).unwrap();
            joined.iter().map(|set| (set[0].shape[0], set[0].body.contiguous().to_vec())).collect()
        };
        assert_eq!(told(1), [(1, vec![1]), (1, vec![2]), (1, vec![3])]);
        assert_eq!(told(2), [(2, vec![1, 2]), (2, vec![2, 3]), (2, vec![3, 1])]);
        assert_eq!(told(4)[0], (4, vec![1, 2, 3, 1]));
    }

    #[test]
    fn a_request_takes_what_its_graph_tells_at_its_sizes() {
        let dims = vec![Dim::Symbol("n".to_owned()), Dim::Free(None), Dim::Fixed(3)];
        let port = Port { name: "x".to_owned(), datatype: Datatype::Uint8, shape: dims };
        let cost = Cost {
            flops: Some("10·n·x[1] + 2".to_owned()),
            activation_bytes: Some("n".to_owned()),
            nodes: 4,
            known: 3,
            proof: None,
        };
        let anatomy = Anatomy { parameter_bytes: 1000, cost, ..Anatomy::default() };
        let signature = Signature { inputs: vec![port], outputs: Vec::new() };
        let graph = Graph { bytes: None, signature, anatomy: Some(anatomy) };
        let set = |rows: u64| vec![tensor(&[rows, 2, 3], &vec![0; rows as usize * 6])];
        let work = |flops, bytes| Some(Work { flops, bytes, nodes: 4, known: 3 });
        assert_eq!(graph.work(&[set(1)]), work(22, 1001));
        assert_eq!(graph.work(&[set(1), set(3)]), work(42, 1002));
        assert_eq!(graph.work(&[vec![]]), None, "an input is missing");
        let unread = Graph { anatomy: None, ..graph };
        assert_eq!(unread.work(&[set(1)]), None);
    }

    #[test]
    fn what_is_not_alike_is_not_joined() {
        let cases = [
            (vec![tensor(&[], &[1])], vec![tensor(&[], &[1])], "no first axis"),
            (vec![tensor(&[1, 1], &[1])], vec![tensor(&[1, 2], &[1, 2])], "more than its first axis"),
        ];
        for (one, other, said) in cases {
            let error = joined(&[one, other], 2).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
        assert!(joined(&[vec![tensor(&[1], &[1])], vec![tensor(&[2], &[1, 2])]], 2).is_ok());
    }
}
