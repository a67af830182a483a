//! Shards, run one behind the other by native ONNX Runtime as they are, against the whole: the same to the bit.

mod fixtures;
mod random;

use std::{collections::BTreeMap, path::Path};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weft::{
    backend::{
        Backend, LoadOrder, SessionName, Step,
        ort::{OrtLane, OrtLibrary},
    },
    domain::{Digest, Dim, DimBinding, Tensor},
    onnx::{
        self, Sizes,
        cut::{Shard, Whole},
    },
};

const LIBRARY: &str = concat!(env!("WEFT_NATIVE_DIR"), "/libonnxruntime.so.1");

/// What the whole of every test is said to be.
fn digest() -> Digest {
    Digest::new([7; 32])
}

/// A native lane that runs graphs as they are, and a folder that it loads them from.
pub(crate) struct Engine {
    lane: OrtLane,
    home: tempfile::TempDir,
}

impl Engine {
    pub(crate) fn new() -> Self {
        let library = OrtLibrary::load(Path::new(LIBRARY)).expect("`make setup` has brought the library");
        let lane = OrtLane::start_plain(&library, 1).expect("the CPU is always there");
        Self { lane, home: tempfile::tempdir().expect("a temporary directory") }
    }

    /// All outputs, or what the engine says against it.
    pub(crate) async fn run(&self, file: &[u8], inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let path = self.home.path().join("model.onnx");
        std::fs::write(&path, file).expect("writable");
        let session = SessionName { model: digest(), shapes: DimBinding::new() };
        let order = LoadOrder { session: session.clone(), path, delivery: None };
        self.lane.load(order).await.map_err(|error| error.to_string())?;
        let step = Step {
            session: session.clone(),
            inputs,
            outputs: Vec::new(),
            keeping: None,
            cancelled: CancellationToken::new(),
        };
        let answer = self.lane.execute(step).await;
        self.lane.unload(session).await.expect("it is loaded");
        answer.map(|answer| answer.outputs).map_err(|error| error.to_string())
    }

    /// Runs the shards in their order, each with what its inputs name, and gives all values that passed.
    async fn chained(&self, shards: &[Shard<'_>], inputs: &[Tensor]) -> BTreeMap<String, Tensor> {
        self.chained_as(&|shard| shard.bytes(), shards, inputs).await
    }

    /// The same of shards that become files in this way.
    async fn chained_as(
        &self,
        written: &dyn Fn(&Shard<'_>) -> Bytes,
        shards: &[Shard<'_>],
        inputs: &[Tensor],
    ) -> BTreeMap<String, Tensor> {
        let mut values: BTreeMap<String, Tensor> =
            inputs.iter().map(|input| (input.name.clone(), input.clone())).collect();
        for (at, shard) in shards.iter().enumerate() {
            let file = written(shard);
            let analysis = checked(&file);
            let ports = analysis.signature.inputs.iter().map(|port| port.name.as_str());
            assert_eq!(ports.collect::<Vec<_>>(), shard.inputs().collect::<Vec<_>>(), "shard {at}");
            let taken = shard.inputs().map(|name| values[name].clone()).collect::<Vec<_>>();
            analysis.signature.bind(&taken).unwrap_or_else(|failure| panic!("shard {at}: {failure:?}"));
            let made = self.run(&file, taken).await.unwrap_or_else(|error| panic!("shard {at}: {error}"));
            assert!(shard.outputs().eq(made.iter().map(|tensor| tensor.name.as_str())), "shard {at}");
            for tensor in made {
                let port = analysis.signature.outputs.iter().find(|port| port.name == tensor.name);
                assert_eq!(port.expect("an output").datatype, tensor.datatype, "{}", tensor.name);
                values.insert(tensor.name.clone(), tensor);
            }
        }
        values
    }
}

/// A shard passes every check that a model does.
fn checked(file: &Bytes) -> onnx::Analysis {
    onnx::check(file, &|_| onnx::Outside::Bytes(u64::MAX)).expect("a shard is a good model");
    onnx::analyse(file).expect("a shard is a good model")
}

/// What the whole gave is what the shards gave.
fn same(wanted: &[Tensor], values: &BTreeMap<String, Tensor>, cut: &str) {
    for output in wanted {
        let found = values.get(&output.name).unwrap_or_else(|| panic!("{cut}: no {}", output.name));
        assert_eq!(
            (found.datatype, &found.shape),
            (output.datatype, &output.shape),
            "{cut}: {}",
            output.name
        );
        assert!(found.body == output.body, "{cut}: {} differs", output.name);
    }
}

/// The sizes of a model's dimensions in these inputs.
fn sizes(file: &Bytes, inputs: &[Tensor]) -> Sizes {
    let signature = onnx::analyse(file).expect("a good model").signature;
    let mut sizes = signature.bind(inputs).expect("what the signature says");
    for port in &signature.inputs {
        let input = inputs.iter().find(|input| input.name == port.name).expect("every input");
        for (axis, (dim, size)) in port.shape.iter().zip(&input.shape).enumerate() {
            if matches!(dim, Dim::Free(_)) {
                sizes.insert(format!("{}[{axis}]", port.name), *size);
            }
        }
    }
    sizes
}

fn read(file: &Bytes, inputs: &[Tensor]) -> Whole {
    let whole = Whole::read(file, digest(), &sizes(file, inputs)).expect("a model that can be cut");
    whole.chain().check().expect("a good chain");
    whole
}
