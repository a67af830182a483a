//! A native lane's engine in a process of its own: a process can hold only one ONNX Runtime library, and this is for the
//! others.
//!
//! The process is this program once more. It answers one order after the other over a socket, each a length and a frame,
//! and ends when the socket closes.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_util::sync::CancellationToken;

use super::{OrtError, OrtLibrary, sessions, sessions::Graphs};
use crate::{
    backend::{
        BackendError, LoadOrder, Loaded, SessionName, Step, StepOutput, StepTiming, tensors, thread::Engine,
    },
    domain::{Body, Code, Retry},
    driver::{
        companion::{self, Companion},
        ledger::RunDir,
    },
    protocol::{
        frame::{self, Frame},
        link::TensorHeader,
    },
};

/// The hidden argument under which the program becomes such a process.
pub const ARGUMENT: &str = "compute";

/// A library with its plugins loads within a second; one that wakes a device may take many.
const READY_LIMIT: Duration = Duration::from_secs(60);

#[derive(Serialize, Deserialize)]
enum Order {
    Load {
        session: SessionName,
        path: String,
    },
    Unload {
        session: SessionName,
    },
    /// The body holds the inputs.
    Execute {
        session: SessionName,
        inputs: Vec<TensorHeader>,
        outputs: Vec<String>,
    },
}

#[derive(Serialize, Deserialize)]
enum Answer {
    /// What the engine is called, before any order.
    Ready {
        engine: String,
    },
    Loaded(Loaded),
    Unloaded,
    /// The body holds the outputs.
    Executed {
        outputs: Vec<TensorHeader>,
        timing: StepTiming,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum ElsewhereError {
    #[error("{ARGUMENT} takes a library, a provider and a number of threads, and only the daemon says it")]
    Usage,
    #[error(transparent)]
    Ort(#[from] OrtError),
    #[error("the socket to the daemon: {0}")]
    Socket(#[from] io::Error),
}

/// The daemon's hold on such a process. One that has ended is started again for the next order, with what it held.
pub(super) struct Elsewhere {
    program: PathBuf,
    run: Arc<RunDir>,
    library: PathBuf,
    provider: String,
    threads: u32,
    companion: Option<Companion>,
    loaded: BTreeMap<SessionName, String>,
}

impl Elsewhere {
    /// Starts the process and waits until it can compute; answers with what its engine is called.
    pub(super) fn start(
        program: &Path,
        run: &Arc<RunDir>,
        library: &Path,
        provider: &str,
        threads: u32,
    ) -> Result<(Self, String), OrtError> {
        let mut started = Self {
            program: program.to_owned(),
            run: run.clone(),
            library: library.to_owned(),
            provider: provider.to_owned(),
            threads,
            companion: None,
            loaded: BTreeMap::new(),
        };
        let (companion, engine) = started.launch()?;
        started.companion = Some(companion);
        Ok((started, engine))
    }

    fn launch(&self) -> Result<(Companion, String), OrtError> {
        let Self { program, run, library, provider, threads, .. } = self;
        let failed = |reason: String| OrtError::Elsewhere {
            library: library.clone(),
            provider: provider.clone(),
            reason,
        };
        if !library.is_file() {
            return Err(failed("there is no such file".to_owned()));
        }
        let arguments: [OsString; 4] =
            [ARGUMENT.into(), library.into(), provider.into(), threads.to_string().into()];
        let name = format!("{ARGUMENT}-{provider}");
        let companion =
            Companion::start(program, &arguments, &name, run).map_err(|error| failed(error.to_string()))?;
        let socket = &companion.socket;
        let ready = socket
            .set_read_timeout(Some(READY_LIMIT))
            .and_then(|()| receive(socket))
            .and_then(|ready| socket.set_read_timeout(None).map(|()| ready));
        match ready {
            Ok((Answer::Ready { engine }, _)) => Ok((companion, engine)),
            Ok(_) => Err(failed("its process spoke of something else first".to_owned())),
            Err(error) => Err(failed(companion.last_words().unwrap_or_else(|| error.to_string()))),
        }
    }

    /// Has a process where the last one has ended, and has it hold what that held.
    fn revive(&mut self) -> Result<(), BackendError> {
        if self.companion.is_some() {
            return Ok(());
        }
        let (companion, _) = self.launch().map_err(|error| lost(&error.to_string()))?;
        tracing::warn!(library = %self.library.display(), provider = self.provider, "started a lane's process again");
        self.companion = Some(companion);
        for (session, path) in std::mem::take(&mut self.loaded) {
            let order = Order::Load { session: session.clone(), path: path.clone() };
            match self.exchange(&order, &Body::default()) {
                Ok(_) => drop(self.loaded.insert(session, path)),
                Err(error) => tracing::warn!(%session, %error, "not loaded again"),
            }
        }
        Ok(())
    }

    fn ask(&mut self, order: &Order, body: &Body) -> Result<(Answer, Body), BackendError> {
        self.revive()?;
        self.exchange(order, body)
    }

    fn exchange(&mut self, order: &Order, body: &Body) -> Result<(Answer, Body), BackendError> {
        let Some(companion) = &self.companion else {
            return Err(lost("it ended while it was started again"));
        };
        let socket = &companion.socket;
        match send(socket, order, body).and_then(|()| receive::<Result<Answer, BackendError>>(socket)) {
            Ok((answer, body)) => Ok((answer?, body)),
            Err(error) => {
                let said = companion.last_words().unwrap_or_else(|| "nothing".to_owned());
                self.companion = None;
                Err(lost(&format!("{error}; its last words: {said}")))
            }
        }
    }
}

/// The process is gone, and another will be there for the next order.
fn lost(reason: &str) -> BackendError {
    let message = format!("the lane's process was lost: {reason}");
    BackendError::Execute { message, code: Code::LaneLost, retry: Retry::Elsewhere }
}

impl Engine for Elsewhere {
    fn load(&mut self, order: LoadOrder) -> Result<Loaded, BackendError> {
        let Some(path) = order.path.to_str().map(str::to_owned) else {
            let message = format!("the path {} is not UTF-8", order.path.display());
            return Err(BackendError::Load { message, code: Code::NoBackend, retry: Retry::Elsewhere });
        };
        let asked = Order::Load { session: order.session.clone(), path: path.clone() };
        match self.ask(&asked, &Body::default())? {
            (Answer::Loaded(loaded), _) => {
                self.loaded.insert(order.session, path);
                Ok(loaded)
            }
            _ => Err(unexpected()),
        }
    }

    fn unload(&mut self, session: &SessionName) -> Result<(), BackendError> {
        self.loaded.remove(session);
        match self.ask(&Order::Unload { session: session.clone() }, &Body::default())? {
            (Answer::Unloaded, _) => Ok(()),
            _ => Err(unexpected()),
        }
    }

    fn execute(&mut self, step: Step) -> Result<StepOutput, BackendError> {
        let begun = Instant::now();
        step.forgets()?;
        let (inputs, body) = tensors::joined(step.inputs);
        let order = Order::Execute { session: step.session, inputs, outputs: step.outputs };
        match self.ask(&order, &body)? {
            (Answer::Executed { outputs, mut timing }, body) => {
                let outputs = tensors::apart(outputs, &body)?;
                let own = timing.decode + timing.compute + timing.encode;
                timing.transfer = (begun.elapsed().as_micros() as u64).saturating_sub(own);
                Ok(StepOutput { outputs, timing })
            }
            _ => Err(unexpected()),
        }
    }
}

fn unexpected() -> BackendError {
    lost("it answered what was not asked")
}

/// Is such a process: computes until the daemon closes the socket.
pub fn run(arguments: &[OsString]) -> Result<(), ElsewhereError> {
    let [library, provider, threads] = arguments else { return Err(ElsewhereError::Usage) };
    let provider = provider.to_str().ok_or(ElsewhereError::Usage)?;
    let threads = threads.to_str().and_then(|threads| threads.parse().ok()).ok_or(ElsewhereError::Usage)?;
    let library = OrtLibrary::load(Path::new(library))?;
    let mut engine = sessions(&library, provider, threads, Graphs::Optimised)?;
    let socket = companion::socket()?;
    send(&socket, &Answer::Ready { engine: library.engine() }, &Body::default())?;
    loop {
        let (order, body) = match receive(&socket) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (answer, body) = match answer(&mut engine, order, &body) {
            Ok((answer, body)) => (Ok(answer), body),
            Err(error) => (Err(error), Body::default()),
        };
        send(&socket, &answer, &body)?;
    }
}

fn answer(engine: &mut impl Engine, order: Order, body: &Body) -> Result<(Answer, Body), BackendError> {
    match order {
        Order::Load { session, path } => {
            let loaded = engine.load(LoadOrder { session, path: path.into(), delivery: None })?;
            Ok((Answer::Loaded(loaded), Body::default()))
        }
        Order::Unload { session } => {
            engine.unload(&session)?;
            Ok((Answer::Unloaded, Body::default()))
        }
        Order::Execute { session, inputs, outputs } => {
            let inputs = tensors::apart(inputs, body)?;
            // The daemon asks for nothing that was cancelled, and waits for what it has asked for.
            let cancelled = CancellationToken::new();
            let StepOutput { outputs, timing } =
                engine.execute(Step { session, inputs, outputs, keeping: None, cancelled })?;
            let (outputs, body) = tensors::joined(outputs);
            Ok((Answer::Executed { outputs, timing }, body))
        }
    }
}

fn send(mut to: impl Write, header: &impl Serialize, body: &Body) -> io::Result<()> {
    let head = frame::head(header);
    to.write_all(&((head.len() + body.len()) as u64).to_le_bytes())?;
    to.write_all(&head)?;
    body.parts().iter().try_for_each(|part| to.write_all(part))
}

fn receive<T: DeserializeOwned>(mut from: impl Read) -> io::Result<(T, Body)> {
    let mut size = [0; 8];
    from.read_exact(&mut size)?;
    let size = usize::try_from(u64::from_le_bytes(size)).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    from.read_exact(&mut bytes)?;
    let frame = Frame::split(&Bytes::from(bytes)).map_err(io::Error::other)?;
    Ok((frame.parse().map_err(io::Error::other)?, frame.body.into()))
}
