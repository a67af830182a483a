//! Adapters that this machine has, and a device on one of them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    time::Duration,
};

use futures_util::FutureExt as _;

pub use super::run::{Loaded, Weights};
use crate::kernels::gpu::Limits;

/// How long the device may take for what it was given at once; then it is taken for lost.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(300);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterInfo {
    pub name: String,
    pub driver: String,
    /// Through which it is driven: `vulkan`, `metal`.
    pub api: String,
    pub kind: AdapterKind,
    pub limits: Limits,
    /// What it has beyond the core of WebGPU that kernels could use.
    pub features: Vec<&'static str>,
}

/// In the order in which they are preferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AdapterKind {
    Discrete,
    Integrated,
    Virtual,
    Other,
    /// Processors stand in for a GPU.
    Software,
}

#[derive(Debug, thiserror::Error)]
pub enum GpuHostError {
    #[error("the adapter {name:?} is not there")]
    Adapter { name: String },
    #[error("the adapter {name:?} gives no device: {message}")]
    Open { name: String, message: String },
    #[error("the GPU has no room for {what}")]
    OutOfMemory { what: &'static str },
    #[error("the GPU refuses {what}: {message}")]
    Refused { what: &'static str, message: String },
    #[error("the GPU was lost: {reason}")]
    Lost { reason: String },
    #[error("weights at {offset} of the file {name}: {source}")]
    File { name: String, offset: u64, source: std::io::Error },
    #[error("{name:?} holds a number that is wider than the 32 bits that our kernels compute with")]
    Wide { name: String },
    #[error("our kernels do not compute with {datatype}")]
    Datatype { datatype: crate::domain::Datatype },
    #[error("the program is made for another input {name:?}")]
    Input { name: String },
    #[error("the model has no output {name:?}")]
    Output { name: String },
    #[error("what the sequence has computed so far is gone; begin it anew")]
    Forgotten,
    /// What a kernel met in the inputs.
    #[error("{message}")]
    Fault { message: &'static str },
}

/// A device, which blocks while it works. Whoever lost it opens another.
pub struct Device {
    info: AdapterInfo,
    pub(super) handle: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    lost: Arc<OnceLock<String>>,
    /// By their sources: kernels differ by structure, so that models share most of them.
    pipelines: Mutex<HashMap<String, wgpu::ComputePipeline>>,
}

/// Kept pipelines; beyond, all are made anew.
const PIPELINES_MAX: usize = 1024;

impl Device {
    /// The adapters that can run our kernels, the preferred ones first.
    pub fn list() -> Vec<AdapterInfo> {
        let mut found: Vec<AdapterInfo> = adapters().iter().filter_map(describe).collect();
        found.sort_by_key(|info| info.kind);
        found
    }

    pub fn open(info: &AdapterInfo) -> Result<Self, GpuHostError> {
        let same = |adapter: &wgpu::Adapter| describe(adapter).is_some_and(|found| found == *info);
        let adapter = adapters().into_iter().find(same);
        let adapter = adapter.ok_or_else(|| GpuHostError::Adapter { name: info.name.clone() })?;
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let opened = adapter.request_device(&descriptor).now_or_never();
        let no = |message: String| GpuHostError::Open { name: info.name.clone(), message };
        let opened = opened.ok_or_else(|| no("it does not answer".to_owned()))?;
        let (device, queue) = opened.map_err(|error| no(error.to_string()))?;
        let lost = Arc::new(OnceLock::new());
        let told = lost.clone();
        device.set_device_lost_callback(move |reason, message| {
            let _ = told.set(format!("{reason:?}: {message}"));
        });
        let (told, name) = (lost.clone(), info.name.clone());
        device.on_uncaptured_error(Arc::new(move |error| {
            tracing::error!(adapter = name, %error, "an error of a GPU that nothing waits for");
            let _ = told.set(error.to_string());
        }));
        Ok(Self { info: info.clone(), handle: device, queue, lost, pipelines: Mutex::default() })
    }

    pub fn info(&self) -> &AdapterInfo {
        &self.info
    }

    pub fn limits(&self) -> Limits {
        self.info.limits
    }

    /// Why it can do nothing any more; such a device stays so.
    pub fn lost(&self) -> Option<&str> {
        self.lost.get().map(String::as_str)
    }

    pub(super) fn lose(&self, reason: String) -> GpuHostError {
        let reason = self.lost.get_or_init(|| reason).clone();
        GpuHostError::Lost { reason }
    }

    /// Does something whose errors the device tells afterwards.
    pub(super) fn guarded<T>(
        &self,
        what: &'static str,
        work: impl FnOnce() -> Result<T, GpuHostError>,
    ) -> Result<T, GpuHostError> {
        if let Some(reason) = self.lost.get() {
            return Err(GpuHostError::Lost { reason: reason.clone() });
        }
        let filters =
            [wgpu::ErrorFilter::OutOfMemory, wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation];
        let scopes = filters.map(|filter| self.handle.push_error_scope(filter));
        let done = work();
        let told: Vec<wgpu::Error> =
            scopes.into_iter().rev().filter_map(|scope| scope.pop().now_or_never().flatten()).collect();
        if let Some(reason) = self.lost.get() {
            return Err(GpuHostError::Lost { reason: reason.clone() });
        }
        // Where there was no room, what came of it is refused too.
        if told.iter().any(|error| matches!(error, wgpu::Error::OutOfMemory { .. })) {
            return Err(GpuHostError::OutOfMemory { what });
        }
        match told.first() {
            Some(error) => Err(GpuHostError::Refused { what, message: error.to_string() }),
            None => done,
        }
    }

    /// Waits until the device has done what it was given.
    pub(super) fn wait(&self) -> Result<(), GpuHostError> {
        let waited =
            self.handle.poll(wgpu::PollType::Wait { submission_index: None, timeout: Some(ANSWER_MAX) });
        match waited {
            Ok(_) => Ok(()),
            Err(wgpu::PollError::Timeout) => {
                Err(self.lose(format!("no answer within {} s", ANSWER_MAX.as_secs())))
            }
            Err(error) => Err(self.lose(error.to_string())),
        }
    }

    /// The pipeline of a kernel, compiled unless it is known.
    pub(super) fn pipeline(
        &self,
        source: &str,
        pipeline: &crate::kernels::gpu::program::Pipeline,
    ) -> wgpu::ComputePipeline {
        let key = format!("{}\n{:?}\n{source}", pipeline.entry, pipeline.constants);
        if let Some(known) = self.pipelines().get(&key) {
            return known.clone();
        }
        let source = wgpu::ShaderSource::Wgsl(source.into());
        let module = self.handle.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let constants: Vec<(&str, f64)> =
            pipeline.constants.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        // Kernels read of shared memory what they have written.
        let options = wgpu::PipelineCompilationOptions {
            constants: &constants,
            zero_initialize_workgroup_memory: false,
        };
        let made = self.handle.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: None,
            module: &module,
            entry_point: Some(&pipeline.entry),
            compilation_options: options,
            cache: None,
        });
        let mut pipelines = self.pipelines();
        if pipelines.len() == PIPELINES_MAX {
            pipelines.clear();
        }
        pipelines.insert(key, made.clone());
        made
    }

    /// Forgets pipelines that may not have come to be.
    pub(super) fn forget_pipelines(&self) {
        self.pipelines().clear();
    }

    fn pipelines(&self) -> MutexGuard<'_, HashMap<String, wgpu::ComputePipeline>> {
        self.pipelines.lock().expect("no holder of the pipelines panics")
    }
}

fn adapters() -> Vec<wgpu::Adapter> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL;
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    instance.enumerate_adapters(backends).now_or_never().unwrap_or_default()
}

/// None for an adapter that lacks what WebGPU promises.
fn describe(adapter: &wgpu::Adapter) -> Option<AdapterInfo> {
    let (info, limits) = (adapter.get_info(), adapter.limits());
    let compute = wgpu::DownlevelFlags::COMPUTE_SHADERS;
    let promised = adapter.get_downlevel_capabilities().flags.contains(compute)
        && limits.max_storage_buffers_per_shader_stage >= 8
        && limits.min_uniform_buffer_offset_alignment <= 256
        && limits.max_compute_workgroup_storage_size >= Limits::PROMISED.workgroup_bytes
        && limits.max_compute_invocations_per_workgroup >= Limits::PROMISED.invocations;
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Other => AdapterKind::Other,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
    };
    let has = |(feature, name)| adapter.features().contains(feature).then_some(name);
    let features = [(wgpu::Features::SHADER_F16, "shader-f16"), (wgpu::Features::SUBGROUP, "subgroups")];
    promised.then(|| AdapterInfo {
        name: info.name,
        driver: [info.driver, info.driver_info].join(" ").trim().to_owned(),
        api: info.backend.to_string(),
        kind,
        limits: Limits {
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            groups: limits.max_compute_workgroups_per_dimension,
            software: kind == AdapterKind::Software,
        },
        features: features.into_iter().filter_map(has).collect(),
    })
}
