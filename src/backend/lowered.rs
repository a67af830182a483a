//! Models as our own kernels run them: decoded once, and made a program of once for each set of sizes.
//!
//! Lanes on the kernels share what is here. It blocks while it works, so lanes ask on threads that may.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak},
};

use bytes::Bytes;

use super::BackendError;
use crate::{
    domain::{Code, Digest, Retry, Tensor},
    kernels::{
        self,
        gpu::{self, GpuError, Limits},
        lower::{Keeping, LowerError, Model, Sizes, Tailor},
        wasm::{self, WasmError},
    },
};

/// Programs of a model that are kept, those used last; making one takes some milliseconds to some hundred.
const KEPT: usize = 64;

/// What a program is for.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A GPU that bears this much.
    Gpu(Limits),
    /// The page's WebAssembly module.
    Wasm,
}

/// What a host follows, beside its block of bytes.
#[derive(Debug)]
pub enum Compiled {
    Gpu(gpu::program::Program, Bytes),
    Wasm(wasm::program::Program, Bytes),
}

/// The models that lanes have at the moment. Clones share them.
#[derive(Clone, Default)]
pub struct Lowered {
    graphs: Arc<Mutex<HashMap<Digest, Weak<Graph>>>>,
}

/// A model that can be lowered, and its programs.
pub struct Graph {
    nodes: u64,
    state: Mutex<GraphState>,
}

struct GraphState {
    tailor: Tailor,
    /// The one used last at the end.
    made: VecDeque<Made>,
}

struct Made {
    target: Target,
    sizes: Sizes,
    compiled: Arc<Compiled>,
}

impl Lowered {
    /// The model in a file, which graphs call by its digest; refused where it has an operator that no sizes can save.
    /// Blocks for as long as the disk takes.
    pub fn open(&self, digest: Digest, path: &Path) -> Result<Arc<Graph>, BackendError> {
        let known = self.graphs().get(&digest).and_then(Weak::upgrade);
        if let Some(graph) = known {
            return Ok(graph);
        }
        let unread = |error: std::io::Error| BackendError::Load {
            message: format!("{}: {error}", path.display()),
            code: Code::Internal,
            retry: Retry::Elsewhere,
        };
        let file = std::fs::read(path).map_err(unread)?;
        let model = Model::read(&file.into(), &digest.to_string()).map_err(not_lowered)?;
        model.check().map_err(not_lowered)?;
        let nodes = model.nodes();
        let state = GraphState { tailor: Tailor::new(model), made: VecDeque::new() };
        let graph = Arc::new(Graph { nodes, state: Mutex::new(state) });
        let mut graphs = self.graphs();
        graphs.retain(|_, graph| graph.strong_count() > 0);
        graphs.insert(digest, Arc::downgrade(&graph));
        Ok(graph)
    }

    fn graphs(&self) -> MutexGuard<'_, HashMap<Digest, Weak<Graph>>> {
        self.graphs.lock().expect("no holder of the table panics")
    }
}

impl Graph {
    /// Nodes of the graph, which all run where its programs do.
    pub fn nodes(&self) -> u64 {
        self.nodes
    }

    /// What a program for these inputs is made for; nothing while one is being made, which may change that.
    pub fn sizes(&self, inputs: &[Tensor], keeping: Option<Keeping>) -> Option<Result<Sizes, BackendError>> {
        let state = match self.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        Some(state.tailor.sizes(inputs, keeping).map_err(not_lowered))
    }

    /// The program for these inputs, and what it is made for. Blocks while it is made, by whomever.
    pub fn compile(
        &self,
        target: &Target,
        inputs: &[Tensor],
        keeping: Option<Keeping>,
    ) -> Result<(Sizes, Arc<Compiled>), BackendError> {
        // Whatever panicked has left no half of a program.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let sizes = state.tailor.sizes(inputs, keeping).map_err(not_lowered)?;
        if let Some(at) = state.made.iter().position(|made| made.sizes == sizes && made.target == *target) {
            let made = state.made.remove(at).expect("just found");
            let compiled = made.compiled.clone();
            state.made.push_back(made);
            return Ok((sizes, compiled));
        }
        let (sizes, routine) = state.tailor.lower(inputs, keeping).map_err(not_lowered)?;
        let routine = kernels::fuse(routine);
        let compiled = match target {
            Target::Gpu(limits) => {
                let (program, block) = gpu::compile(&routine, limits).map_err(not_for_gpu)?;
                Compiled::Gpu(program, block)
            }
            Target::Wasm => {
                let (program, block) = wasm::compile(&routine).map_err(not_for_wasm)?;
                Compiled::Wasm(program, block)
            }
        };
        let compiled = Arc::new(compiled);
        if state.made.len() == KEPT {
            state.made.pop_front();
        }
        let made = Made { target: target.clone(), sizes: sizes.clone(), compiled: compiled.clone() };
        state.made.push_back(made);
        Ok((sizes, compiled))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes it so")]
fn not_lowered(error: LowerError) -> BackendError {
    let message = error.to_string();
    match error {
        LowerError::Missing { .. } | LowerError::Shape { .. } => {
            BackendError::Execute { message, code: Code::InvalidRequest, retry: Retry::Never }
        }
        LowerError::Onnx(_) => {
            BackendError::Load { message, code: Code::InvalidRequest, retry: Retry::Never }
        }
        _ => BackendError::Uncovered { message },
    }
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes it so")]
fn not_for_gpu(error: GpuError) -> BackendError {
    let message = error.to_string();
    match error {
        GpuError::Limit { .. } => {
            BackendError::Execute { message, code: Code::TooLarge, retry: Retry::Elsewhere }
        }
        GpuError::Call { .. } => BackendError::Uncovered { message },
    }
}

#[allow(clippy::needless_pass_by_value, reason = "`map_err` passes it so")]
fn not_for_wasm(error: WasmError) -> BackendError {
    let message = error.to_string();
    match error {
        WasmError::Memory { .. } => {
            BackendError::Execute { message, code: Code::TooLarge, retry: Retry::Elsewhere }
        }
        WasmError::Wide { .. } | WasmError::Call { .. } => BackendError::Uncovered { message },
    }
}
