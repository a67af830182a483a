//! The sessions of one lane: created, run and freed on the lane's thread, or in its process.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    ffi::{CStr, CString},
    time::Instant,
};

use ort::{
    AsPointer, ErrorCode,
    logging::LogLevel,
    session::{
        OutputSelector, RunOptions, Session, SessionInputValue, SessionOutputs,
        builder::{GraphOptimizationLevel, SessionBuilder},
    },
};

use super::{OrtLibrary, placement, tensors};
use crate::{
    backend::{BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput, StepTiming, thread::Engine},
    domain::{Code, DimBinding, Failure, Retry},
};

/// What the engine makes of a graph before it runs it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Graphs {
    Optimised,
    AsTheyAre,
}

pub(super) struct Sessions {
    library: OrtLibrary,
    provider: String,
    threads: usize,
    graphs: Graphs,
    loaded: BTreeMap<SessionName, Entry>,
}

struct Entry {
    session: Session,
    loaded: Loaded,
}

impl Sessions {
    pub(super) fn new(library: OrtLibrary, provider: &str, threads: u32, graphs: Graphs) -> Self {
        let threads = threads as usize;
        Self { library, provider: provider.to_owned(), threads, graphs, loaded: BTreeMap::new() }
    }

    /// Fails if the provider cannot be used here, whatever the model.
    pub(super) fn probe(&self) -> ort::Result<()> {
        self.builder(&DimBinding::new()).map(drop)
    }

    fn load_failed(&self, error: &ort::Error) -> BackendError {
        let (code, retry) = match self.provider.as_str() {
            _ if out_of_memory(error) => (Code::OutOfMemory, Retry::Elsewhere),
            // The CPU runs whatever the engine can run at all.
            "cpu" => (Code::InvalidRequest, Retry::Never),
            _ => (Code::NoBackend, Retry::Elsewhere),
        };
        BackendError::Load { message: error.message().to_owned(), code, retry }
    }

    fn builder(&self, shapes: &DimBinding) -> ort::Result<SessionBuilder> {
        let mut builder = Session::builder(self.library.environment())?
            .with_intra_threads(self.threads)?
            .with_inter_threads(1)?
            // Waiting threads would burn the cores that browsers share with this lane.
            .with_intra_op_spinning(false)?
            .with_log_level(LogLevel::Warning)?
            .with_config_entry(placement::RECORD.0, placement::RECORD.1)?;
        if self.graphs == Graphs::AsTheyAre {
            builder = builder.with_optimization_level(GraphOptimizationLevel::Disable)?;
        }
        for (symbol, size) in shapes {
            let size = i64::try_from(*size).map_err(|error| ort::Error::new(format!("{symbol}: {error}")))?;
            builder = builder.with_dimension_override(symbol, size)?;
        }
        self.append_provider(builder)
    }

    /// Names the provider explicitly: left to itself, the engine picks a device by a policy of its own.
    fn append_provider(&self, mut builder: SessionBuilder) -> ort::Result<SessionBuilder> {
        let provider = self.library.full_name(&self.provider).unwrap_or(&self.provider);
        let environment = self.library.environment();
        let devices: Vec<_> =
            environment.devices().filter(|device| device.ep().is_ok_and(|ep| ep == provider)).collect();
        if !devices.is_empty() {
            return Ok(builder.with_devices(devices, None)?);
        }
        let name = CString::new(provider).map_err(ort::Error::from)?;
        let options = self.options();
        let keys: Vec<_> = options.iter().map(|(key, _)| key.as_ptr()).collect();
        let values: Vec<_> = options.iter().map(|(_, value)| value.as_ptr()).collect();
        // SAFETY: the builder, the name and the options outlive the call, and there is a value for each key.
        unsafe {
            let append = ort::api().SessionOptionsAppendExecutionProvider;
            ort::Error::result_from_status(append(
                builder.ptr_mut(),
                name.as_ptr(),
                keys.as_ptr(),
                values.as_ptr(),
                options.len(),
            ))?;
        }
        Ok(builder)
    }

    /// What the provider does not take from the session's own options.
    fn options(&self) -> Vec<(&'static CStr, CString)> {
        match self.provider.as_str() {
            // It computes on threads of its own.
            "openvino" => vec![(c"num_of_threads", number(self.threads))],
            _ => Vec::new(),
        }
    }
}

impl Engine for Sessions {
    fn load(&mut self, order: LoadOrder) -> Result<Loaded, BackendError> {
        if let Some(entry) = self.loaded.get(&order.session) {
            return Ok(entry.loaded.clone());
        }
        let begun = Instant::now();
        let session =
            self.builder(&order.session.shapes).and_then(|mut builder| builder.commit_from_file(&order.path));
        let session = session.map_err(|error| self.load_failed(&error))?;
        let placement = placement::read(&session).map_err(|error| self.load_failed(&error))?;
        let loaded = Loaded { placement, load_us: micros(begun), ..Loaded::default() };
        self.loaded.insert(order.session, Entry { session, loaded: loaded.clone() });
        Ok(loaded)
    }

    fn unload(&mut self, session: &SessionName) -> Result<(), BackendError> {
        self.loaded.remove(session).map(drop).ok_or_else(|| not_loaded(session))
    }

    fn execute(&mut self, step: Step) -> Result<StepOutput, BackendError> {
        let begun = Instant::now();
        step.forgets()?;
        let entry = self.loaded.get_mut(&step.session).ok_or_else(|| not_loaded(&step.session))?;
        let wanted = wanted(&entry.session, &step.outputs)?;
        let inputs: Vec<_> =
            step.inputs.iter().map(tensors::input).collect::<Result<_, _>>().map_err(refused)?;
        let views: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = step
            .inputs
            .iter()
            .zip(&inputs)
            .map(|(tensor, input)| (Cow::from(tensor.name.as_str()), SessionInputValue::from(&input.value)))
            .collect();
        let decode = micros(begun);

        let begun = Instant::now();
        let selected = wanted.iter().fold(OutputSelector::no_default(), OutputSelector::with);
        let options = RunOptions::new().map_err(|error| execute_failed(&error))?.with_outputs(selected);
        let outputs =
            entry.session.run_with_options(views, &options).map_err(|error| execute_failed(&error))?;
        let compute = micros(begun);

        let begun = Instant::now();
        let outputs = answers(wanted, outputs)?;
        Ok(StepOutput {
            outputs,
            timing: StepTiming { decode, compute, encode: micros(begun), ..StepTiming::default() },
        })
    }
}

fn number(value: usize) -> CString {
    CString::new(value.to_string()).expect("digits hold no zero byte")
}

/// The outputs to compute, in the order in which they are answered.
fn wanted(session: &Session, asked: &[String]) -> Result<Vec<String>, BackendError> {
    let has = |name: &str| session.outputs().iter().any(|output| output.name() == name);
    if let Some(unknown) = asked.iter().find(|name| !has(name)) {
        return Err(refused(Failure::invalid(format!("the model has no output {unknown:?}"))));
    }
    let all = || session.outputs().iter().map(|output| output.name().to_owned()).collect();
    let mut wanted: Vec<String> = if asked.is_empty() { all() } else { asked.to_vec() };
    let mut seen = HashSet::new();
    wanted.retain(|name| seen.insert(name.clone()));
    Ok(wanted)
}

fn answers(
    wanted: Vec<String>,
    mut outputs: SessionOutputs<'_>,
) -> Result<Vec<crate::domain::Tensor>, BackendError> {
    let answer = |name: String| {
        let value =
            outputs.remove(&name).ok_or_else(|| format!("the engine did not answer output {name:?}"))?;
        tensors::output(name, value)
    };
    let answers = wanted.into_iter().map(answer).collect::<Result<_, String>>();
    answers.map_err(|message| BackendError::Execute { message, code: Code::Internal, retry: Retry::Never })
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn not_loaded(session: &SessionName) -> BackendError {
    BackendError::NotLoaded { session: session.to_string() }
}

fn refused(failure: Failure) -> BackendError {
    BackendError::Execute { message: failure.message, code: failure.code, retry: failure.retry }
}

fn execute_failed(error: &ort::Error) -> BackendError {
    let (code, retry) = match error.code() {
        _ if out_of_memory(error) => (Code::OutOfMemory, Retry::Elsewhere),
        // What a node makes of its inputs' shapes and values is the same wherever it runs.
        ErrorCode::InvalidArgument | ErrorCode::GenericFailure | ErrorCode::RuntimeException => {
            (Code::InvalidRequest, Retry::Never)
        }
        _ => (Code::Internal, Retry::Elsewhere),
    };
    BackendError::Execute { message: error.message().to_owned(), code, retry }
}

/// The engine has no error code for it, only these words, from its arena and from C++.
fn out_of_memory(error: &ort::Error) -> bool {
    ["Failed to allocate memory", "bad_alloc", "bad allocation", "smaller than requested bytes"]
        .iter()
        .any(|words| error.message().contains(words))
}
