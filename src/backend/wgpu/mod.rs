//! The native lane on our own kernels: an adapter that the `wgpu` crate finds, on one thread of this process.
//!
//! It owns the device, and what models hold there.
//! It never chooses a model, checks a request against a signature, or judges numbers.

mod device;
mod elements;
mod lane;
mod run;
mod states;

use std::path::Path;

use tokio::sync::watch;

pub use self::{
    device::{AdapterInfo, AdapterKind, Device, GpuHostError, Loaded, Weights},
    lane::Sessions,
};
use super::thread::{self, ThreadLane};
use crate::{
    domain::{Adapter, BackendKind, LaneMemory},
    kernels::gpu,
};

/// What Linux has where there is a GPU: Mesa's and others', NVIDIA's, Windows' below it, Qualcomm's.
const DEVICES: [&str; 4] = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg", "/dev/kgsl-3d0"];

/// Which adapter a lane is wanted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A hardware one, or none.
    Hardware,
    /// The best one, a software one if there is no other.
    Any,
    /// The first whose name has these words in it, whatever their case.
    Named(String),
}

#[derive(Debug, thiserror::Error)]
pub enum WgpuError {
    #[error("native.wgpu: no adapter is called {name:?}; there are {}", found.join(", "))]
    Name { name: String, found: Vec<String> },
    #[error("native.wgpu: no adapter is here that bears our kernels, not even a software one")]
    None,
    #[error("native.wgpu: {0}")]
    Device(#[from] GpuHostError),
    #[error("could not start the lane's thread: {source}")]
    Thread { source: std::io::Error },
}

impl Wanted {
    /// The one that is meant, of those that are here, the preferred ones first.
    pub fn of<'f>(&self, found: &'f [AdapterInfo]) -> Option<&'f AdapterInfo> {
        found.iter().find(|adapter| match self {
            Self::Hardware => !adapter.software(),
            Self::Any => true,
            Self::Named(name) => adapter.name.to_lowercase().contains(&name.to_lowercase()),
        })
    }
}

impl AdapterInfo {
    /// Whether processors stand in for a GPU.
    pub fn software(&self) -> bool {
        self.kind == AdapterKind::Software
    }

    /// As provenance and verdicts tell it; another driver is another adapter.
    pub fn described(&self) -> Adapter {
        Adapter {
            vendor: String::new(),
            architecture: self.api.clone(),
            device: self.name.clone(),
            description: self.driver.clone(),
            software: self.software(),
        }
    }
}

/// One execution slot on a GPU.
pub type WgpuLane = ThreadLane<Sessions>;

impl WgpuLane {
    /// Starts the lane's thread; none where only hardware is wanted and there is none.
    pub fn start(wanted: &Wanted) -> Result<Option<Self>, WgpuError> {
        let hopeless = cfg!(target_os = "linux") && !DEVICES.iter().any(|device| Path::new(device).exists());
        if *wanted == Wanted::Hardware && hopeless {
            // To look nevertheless would load software drivers, which take some 50 MiB.
            return Ok(None);
        }
        let found = Device::list();
        let Some(adapter) = wanted.of(&found) else {
            return match wanted {
                Wanted::Hardware => Ok(None),
                Wanted::Named(name) if !found.is_empty() => {
                    let found = found.into_iter().map(|adapter| adapter.name).collect();
                    Err(WgpuError::Name { name: name.clone(), found })
                }
                Wanted::Any | Wanted::Named(_) => Err(WgpuError::None),
            };
        };
        let (memory, told) = watch::channel(LaneMemory::default());
        let sessions = Sessions::new(Device::open(adapter)?, memory);
        let described = Some(adapter.described());
        let environment = thread::environment(BackendKind::Wgpu, gpu::engine(), 1, described);
        let lane = Self::begin(environment, sessions, Some(told));
        lane.map(Some).map_err(|source| WgpuError::Thread { source })
    }
}

#[cfg(test)]
mod tests;
