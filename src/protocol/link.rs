//! Messages of the harness link, named by direction. `docs/protocol.md` describes them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::domain::{
    Adapter, BackendKind, Code, Datatype, Digest, DimBinding, FetchedBytes, LaneMemory, PageEnvironment,
    Placement, Retry,
};

/// Raised with every change of the messages; a link with another version is closed.
pub const VERSION: u32 = 5;

/// Why the daemon closes a link before it is a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    NoHello,
    Ticket,
    Epoch,
    Version,
}

impl Refusal {
    pub fn close_code(self) -> u16 {
        match self {
            Self::NoHello => 4400,
            Self::Ticket => 4401,
            Self::Epoch => 4409,
            Self::Version => 4426,
        }
    }

    pub fn reason(self) -> &'static str {
        match self {
            Self::NoHello => "the first message was not a hello",
            Self::Ticket => "unknown, used or expired ticket",
            Self::Epoch => "wrong epoch",
            Self::Version => "wrong protocol version",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    Page,
    Lane,
}

/// The first message of every link.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename = "hello")]
pub struct Hello {
    pub protocol: u32,
    pub role: Role,
    pub ticket: String,
    pub epoch: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum PageToDaemon {
    PageReady { environment: PageEnvironment },
    Heartbeat { seq: u64, visibility: String, js_heap_bytes: Option<u64> },
    LaneExited { lane: String, message: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DaemonToPage {
    Welcome,
    StartLane {
        /// A name for the Worker, new at every start.
        lane: String,
        ticket: String,
        backend: BackendKind,
        threads: u32,
        webnn_device: Option<String>,
        /// The bytes that the engine's heap may grow to.
        memory_max: u64,
    },
    StopLane {
        lane: String,
    },
}

/// What a lane measured about its backend by trying it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Capability {
    pub backend: BackendKind,
    pub engine: String,
    pub threads: u32,
    pub adapter: Option<Adapter>,
    pub features: Option<Vec<String>>,
    pub limits: Option<BTreeMap<String, u64>>,
    /// Per device type `ok` or the reason of its refusal.
    pub webnn: Option<BTreeMap<String, String>>,
    pub webnn_device: Option<String>,
    /// The bytes that the engine's heap can grow to; none natively.
    pub memory_max: Option<u64>,
    pub timing_us: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneTiming {
    pub decode: u64,
    pub wait: u64,
    pub compute: u64,
    pub encode: u64,
    pub total: u64,
}

/// A tensor's place in a header; its bytes follow the header.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TensorHeader {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<u64>,
    pub parameters: BinarySize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinarySize {
    pub binary_data_size: usize,
}

/// Announces that the body follows in messages of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub messages: usize,
    pub bytes: usize,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum DaemonToLane {
    Welcome,
    Load {
        id: u64,
        session: String,
        model: ModelFetch,
        free_dimensions: DimBinding,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Payload>,
    },
    Unload {
        id: u64,
        session: String,
    },
    /// What a session on our own kernels runs for inputs of certain sizes. The body holds its block of bytes, then its
    /// JSON.
    Program {
        id: u64,
        session: String,
        /// Its name on this link.
        program: u64,
        /// Programs of the session that go first.
        drops: Vec<u64>,
        block_bytes: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Payload>,
    },
    Step {
        id: u64,
        session: String,
        /// None where the engine runs the graph itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        program: Option<u64>,
        inputs: Vec<TensorHeader>,
        outputs: Vec<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Payload>,
    },
    Cancel {
        id: u64,
    },
}

/// What a session is made of. The body holds the digests of all files' leaves in their order, then the graph.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelFetch {
    pub digest: Digest,
    /// Bytes of the graph in the body; none where the first file is the graph. The other files are called by their
    /// digests in it.
    pub graph_bytes: usize,
    pub files: Vec<FileFetch>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileFetch {
    pub url: String,
    pub digest: Digest,
    pub bytes: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum LaneToDaemon {
    LaneReady {
        capability: Box<Capability>,
    },
    LaneUnavailable {
        reason: String,
        /// The browser offers no GPU adapter; other flags may.
        #[serde(default)]
        no_adapter: bool,
    },
    /// What the lane holds, ahead of the answer that it goes with.
    Memory(LaneMemory),
    Loaded {
        id: u64,
        placement: Placement,
        timing_us: BTreeMap<String, u64>,
        fetched_bytes: FetchedBytes,
        /// By how much the lane's memory grew meanwhile.
        grown: LaneMemory,
    },
    Unloaded {
        id: u64,
    },
    Programmed {
        id: u64,
    },
    Result {
        id: u64,
        outputs: Vec<TensorHeader>,
        timing_us: LaneTiming,
        #[serde(default)]
        payload: Option<Payload>,
    },
    Failed {
        id: u64,
        code: Code,
        message: String,
        retry: Retry,
    },
}
