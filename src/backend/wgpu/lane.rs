//! The models of one lane, their programs on its device, and what these hold.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use tokio::sync::watch;

use super::device::{AdapterInfo, Device, GpuHostError, Loaded as Program, Weights};
use crate::{
    backend::{
        BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput, StepTiming,
        lowered::{Compiled, Graph, Lowered, Target},
        thread::Engine,
    },
    domain::{BackendKind, Code, Digest, LaneMemory, Retry, Tensor},
    kernels::lower::Sizes,
};

/// Programs that a session keeps on the device, each for other sizes.
const PROGRAMS_MAX: usize = 8;

pub struct Sessions {
    adapter: AdapterInfo,
    /// None after it was lost, until the next step.
    device: Option<Device>,
    lowered: Lowered,
    loaded: BTreeMap<SessionName, Session>,
    memory: watch::Sender<LaneMemory>,
}

struct Session {
    graph: Arc<Graph>,
    files: Files,
    /// What its programs share.
    weights: Weights,
    /// The one used last at the end.
    programs: Vec<(Sizes, Program)>,
    loaded: Loaded,
}

impl Session {
    /// Drops what it has on the device, which it brings there again when it is needed.
    fn clear(&mut self) {
        self.programs.clear();
        self.weights = Weights::default();
    }

    fn bytes(&self) -> u64 {
        self.weights.bytes() + self.programs.iter().map(|(_, program)| program.bytes()).sum::<u64>()
    }

    /// Has the program for a step at the end of its own.
    fn prepare(&mut self, device: &Device, step: &Step) -> Result<(), Failed> {
        let target = Target::Gpu(device.limits());
        let (sizes, compiled) = self.graph.compile(&target, &step.inputs, step.keeping)?;
        if let Some(at) = self.programs.iter().position(|(made_for, _)| *made_for == sizes) {
            let used = self.programs.remove(at);
            self.programs.push(used);
            return Ok(());
        }
        let surplus = (self.programs.len() + 1).saturating_sub(PROGRAMS_MAX);
        self.programs.drain(..surplus);
        self.weights.retain(self.programs.iter().map(|(_, program)| program));
        let Compiled::Gpu(program, block) = &*compiled else {
            unreachable!("what is made for a GPU is a GPU's");
        };
        let read = |name: &str, offset, bytes| self.files.read(name, offset, bytes);
        let loaded = device.load(program, block, &read, &mut self.weights)?;
        self.programs.push((sizes, loaded));
        Ok(())
    }
}

/// Where a model's weights lie: in its own file, by its digest, and in those beside it.
struct Files {
    model: String,
    path: PathBuf,
}

impl Files {
    fn new(model: Digest, path: &Path) -> Self {
        Self { model: model.to_string(), path: path.to_owned() }
    }

    fn read(&self, name: &str, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let own = name == self.model;
        let file = File::open(if own { self.path.clone() } else { self.path.with_file_name(name) })?;
        let mut read = vec![0; bytes];
        file.read_exact_at(&mut read, offset)?;
        Ok(read)
    }
}

/// Why a step has no answer.
enum Failed {
    Backend(BackendError),
    Gpu(GpuHostError),
}

impl From<BackendError> for Failed {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<GpuHostError> for Failed {
    fn from(error: GpuHostError) -> Self {
        Self::Gpu(error)
    }
}

impl Sessions {
    pub(super) fn new(device: Device, memory: watch::Sender<LaneMemory>) -> Self {
        let (adapter, lowered, loaded) = (device.info().clone(), Lowered::default(), BTreeMap::new());
        Self { adapter, device: Some(device), lowered, loaded, memory }
    }

    /// A session, and a device for it, also where the last one was lost.
    fn ready(&mut self, name: &SessionName) -> Result<(&Device, &mut Session), Failed> {
        let session = self.loaded.get_mut(name).ok_or_else(|| not_loaded(name))?;
        if self.device.is_none() {
            self.device = Some(Device::open(&self.adapter)?);
            tracing::warn!(adapter = self.adapter.name, "opened an adapter again whose device was lost");
        }
        Ok((self.device.as_ref().expect("there is one now"), session))
    }

    fn prepare(&mut self, step: &Step) -> Result<(), Failed> {
        let (device, session) = self.ready(&step.session)?;
        session.prepare(device, step)
    }

    /// The same, with the whole of the device's memory when a part does not suffice.
    fn prepare_somehow(&mut self, step: &Step) -> Result<(), Failed> {
        let prepared = self.prepare(step);
        let prepared = match prepared {
            Err(Failed::Gpu(GpuHostError::OutOfMemory { .. })) => {
                self.clear();
                self.prepare(step)
            }
            prepared => prepared,
        };
        self.tell();
        prepared
    }

    fn run(&mut self, step: &Step) -> Result<Vec<Tensor>, Failed> {
        let (device, session) = self.ready(&step.session)?;
        let (_, program) = session.programs.last_mut().expect("it was prepared");
        device.carry(program, &mut session.weights, &step.inputs)?;
        Ok(device.run(program, &step.inputs, &step.outputs)?)
    }

    /// What becomes of a failure, and of the device.
    fn failed(&mut self, failed: Failed) -> BackendError {
        match failed {
            Failed::Backend(error) => error,
            Failed::Gpu(error) => {
                if self.device.as_ref().is_some_and(|device| device.lost().is_some()) {
                    self.clear();
                    self.device = None;
                }
                told(&error)
            }
        }
    }

    /// Frees what all sessions have on the device.
    fn clear(&mut self) {
        self.loaded.values_mut().for_each(Session::clear);
        self.freed();
    }

    /// What was dropped is free once the device has looked after it.
    fn freed(&self) {
        if let Some(Err(error)) = self.device.as_ref().map(Device::wait) {
            tracing::debug!(%error, "a device did not free what was dropped");
        }
        self.tell();
    }

    fn tell(&self) {
        let gpu_bytes = self.loaded.values().map(Session::bytes).sum();
        self.memory.send_replace(LaneMemory { wasm_bytes: 0, gpu_bytes });
    }
}

impl Engine for Sessions {
    fn load(&mut self, order: LoadOrder) -> Result<Loaded, BackendError> {
        if let Some(session) = self.loaded.get(&order.session) {
            return Ok(session.loaded.clone());
        }
        let begun = Instant::now();
        let graph = self.lowered.open(order.session.model, &order.path)?;
        let placement = [(BackendKind::Wgpu.to_string(), graph.nodes())].into();
        let loaded = Loaded { placement, load_us: micros(begun), ..Loaded::default() };
        let session = Session {
            graph,
            files: Files::new(order.session.model, &order.path),
            weights: Weights::default(),
            programs: Vec::new(),
            loaded: loaded.clone(),
        };
        self.loaded.insert(order.session, session);
        Ok(loaded)
    }

    fn unload(&mut self, session: &SessionName) -> Result<(), BackendError> {
        self.loaded.remove(session).ok_or_else(|| not_loaded(session))?;
        self.freed();
        Ok(())
    }

    fn execute(&mut self, step: Step) -> Result<StepOutput, BackendError> {
        let begun = Instant::now();
        self.prepare_somehow(&step).map_err(|failed| self.failed(failed))?;
        let decode = micros(begun);
        let begun = Instant::now();
        let outputs = self.run(&step).map_err(|failed| self.failed(failed))?;
        let timing = StepTiming { decode, compute: micros(begun), ..StepTiming::default() };
        Ok(StepOutput { outputs, timing })
    }
}

fn told(error: &GpuHostError) -> BackendError {
    let message = error.to_string();
    let (code, retry) = match error {
        GpuHostError::Datatype { .. } => return BackendError::Uncovered { message },
        GpuHostError::Lost { .. } | GpuHostError::Adapter { .. } | GpuHostError::Open { .. } => {
            (Code::LaneLost, Retry::Elsewhere)
        }
        GpuHostError::OutOfMemory { .. } => (Code::OutOfMemory, Retry::Elsewhere),
        GpuHostError::Wide { .. } => (Code::NoBackend, Retry::Elsewhere),
        GpuHostError::Forgotten => (Code::LaneLost, Retry::Never),
        GpuHostError::Input { .. } | GpuHostError::Output { .. } | GpuHostError::Fault { .. } => {
            (Code::InvalidRequest, Retry::Never)
        }
        GpuHostError::Refused { .. } | GpuHostError::File { .. } => (Code::Internal, Retry::Elsewhere),
    };
    BackendError::Execute { message, code, retry }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn not_loaded(session: &SessionName) -> BackendError {
    BackendError::NotLoaded { session: session.to_string() }
}

#[cfg(test)]
mod tests;
