//! Follows programs on a device: buffers and what they hold at first, dispatches, reading back.

use std::{collections::HashMap, sync::mpsc};

use super::{
    device::{Device, GpuHostError},
    elements::{Wrong, narrow, widen},
    states::States,
};
use crate::{
    domain::{Datatype, Tensor},
    kernels::gpu::program::{self, Dispatch, Fill, Kept, Port, Program, Source},
};

/// Elements of a weight that are brought at once, so that widening a large one takes little room.
const CHUNK: u64 = 4 << 20;

/// Bytes on their way to the device that are waited for: it holds them twice until they have arrived.
const UNDER_WAY_MAX: u64 = 128 << 20;

/// What the places of outputs in the buffer that is read are multiples of.
const READ_STEP: u64 = 8;

/// Why a kernel could not go on, by what it leaves in the fault's word.
const FAULTS: [&str; 2] = ["a kernel met what it cannot compute", "an index is out of range"];

/// Reads bytes of a model's file: its name, where they begin, how many.
type Files<'f> = &'f dyn Fn(&str, u64, usize) -> std::io::Result<Vec<u8>>;

/// What a model's programs share on a device: what of its files lies there, and what outlives steps.
#[derive(Default)]
pub struct Weights {
    buffers: HashMap<Weight, wgpu::Buffer>,
    pub(super) states: States,
}

#[derive(PartialEq, Eq, Hash)]
struct Weight {
    file: String,
    offset: u64,
    datatype: Datatype,
    elements: u64,
    raw: bool,
}

impl Weights {
    pub fn bytes(&self) -> u64 {
        self.buffers.values().map(wgpu::Buffer::size).sum::<u64>() + self.states.bytes()
    }
}

/// A program on a device.
pub struct Loaded {
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    pub(super) kept: Option<Kept>,
    /// All of the program's, those of shared weights too.
    buffers: Vec<wgpu::Buffer>,
    own_bytes: u64,
    fault: wgpu::Buffer,
    /// Where the fault and outputs are read.
    staging: wgpu::Buffer,
    calls: Vec<Ready>,
}

struct Ready {
    pipeline: wgpu::ComputePipeline,
    group: wgpu::BindGroup,
    groups: [u32; 3],
}

impl Loaded {
    /// What it holds beside the weights that programs share.
    pub fn bytes(&self) -> u64 {
        self.own_bytes
    }
}

impl Device {
    /// Brings a program and its weights to the device, and computes what stays.
    pub fn load(
        &self,
        program: &Program,
        block: &[u8],
        files: Files<'_>,
        weights: &mut Weights,
    ) -> Result<Loaded, GpuHostError> {
        let pipelines = self.guarded("a kernel", || Ok(self.compile(program)));
        let pipelines = pipelines.inspect_err(|_| self.forget_pipelines())?;
        let (buffers, fresh) = self.guarded("a model's buffers", || Ok(self.buffers(program, weights)))?;
        let kept: Vec<(usize, Weight)> =
            fresh.into_iter().filter_map(|(at, weight)| Some((at, weight?))).collect();
        for fill in program.fills.iter().filter(|fill| is_new(fill, &kept)) {
            self.guarded("a weight", || self.fill(fill, program, &buffers, block, files))?;
        }
        let (once, loaded) = self.guarded("a program", || {
            let uniforms = self.uniforms(program, block);
            let once = self.bind(&program.once, &pipelines, &buffers, &uniforms);
            let calls = self.bind(&program.calls, &pipelines, &buffers, &uniforms);
            Ok((once, self.ready(program, buffers.clone(), uniforms.size(), calls)))
        })?;
        if !once.is_empty() {
            self.guarded("what stays of a program", || self.follow(&loaded, &once, &[]))?;
        }
        // Only whole weights are shared: what failed above leaves none.
        weights.buffers.extend(kept.into_iter().map(|(at, weight)| (weight, buffers[at].clone())));
        if let Some(kept) = &program.kept {
            weights.states.add(kept, &buffers);
        }
        Ok(loaded)
    }

    /// Runs a step; `wanted` names outputs, all where it is empty.
    pub fn run(
        &self,
        loaded: &mut Loaded,
        inputs: &[Tensor],
        wanted: &[String],
    ) -> Result<Vec<Tensor>, GpuHostError> {
        let outputs = wanted_ports(&loaded.outputs, wanted)?;
        self.guarded("a step", || {
            for port in &loaded.inputs {
                self.write(loaded, port, inputs)?;
            }
            self.follow(loaded, &loaded.calls, &outputs)
        })
    }

    fn compile(&self, program: &Program) -> Vec<wgpu::ComputePipeline> {
        let module = |pipeline: &program::Pipeline| &program.modules[pipeline.module as usize];
        program.pipelines.iter().map(|pipeline| self.pipeline(module(pipeline), pipeline)).collect()
    }

    /// All buffers of a program, and the places of those that are not shared already; of the weights' with their names.
    fn buffers(
        &self,
        program: &Program,
        weights: &Weights,
    ) -> (Vec<wgpu::Buffer>, Vec<(usize, Option<Weight>)>) {
        let mut names: HashMap<usize, Weight> = HashMap::new();
        for fill in &program.fills {
            if let Source::File { name, offset } = &fill.source {
                let (file, raw) = (name.clone(), is_raw(fill, program));
                let Fill { datatype, elements, .. } = *fill;
                names.insert(fill.buffer as usize, Weight { file, offset: *offset, datatype, elements, raw });
            }
        }
        let mut fresh = Vec::new();
        let all = program.buffers.iter().enumerate().map(|(at, size)| {
            let name = names.remove(&at);
            let state = program.kept.as_ref().and_then(|kept| weights.states.buffer(kept, at));
            if let Some(known) = state.or_else(|| weights.buffers.get(name.as_ref()?)) {
                return known.clone();
            }
            fresh.push((at, name));
            let usage =
                wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            self.buffer(*size, usage)
        });
        let all = all.collect();
        (all, fresh)
    }

    fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.handle.create_buffer(&descriptor)
    }

    fn uniforms(&self, program: &Program, block: &[u8]) -> wgpu::Buffer {
        // A program may have no call at all.
        let size = program.uniforms.max(16);
        let buffer = self.buffer(size, wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST);
        self.queue.write_buffer(&buffer, 0, &block[..program.uniforms as usize]);
        buffer
    }

    fn fill(
        &self,
        fill: &Fill,
        program: &Program,
        buffers: &[wgpu::Buffer],
        block: &[u8],
        files: Files<'_>,
    ) -> Result<(), GpuHostError> {
        let raw = is_raw(fill, program);
        let datatype = fill.datatype;
        let size = datatype.size().ok_or(GpuHostError::Datatype { datatype })? as u64;
        let buffer = &buffers[fill.buffer as usize];
        let (mut from, mut under_way) = (0, 0);
        while from < fill.elements {
            let count = CHUNK.min(fill.elements - from);
            let (begin, length) = (from * size, (count * size) as usize);
            let read;
            let (name, bytes) = match &fill.source {
                Source::Block { offset } => ("", &block[(offset + begin) as usize..][..length]),
                Source::File { name, offset } => {
                    let error =
                        |source| GpuHostError::File { name: name.clone(), offset: offset + begin, source };
                    read = files(name, offset + begin, length).map_err(error)?;
                    (name.as_str(), read.as_slice())
                }
            };
            let (at, words) = if raw {
                let mut words = bytes.to_vec();
                words.resize(length.next_multiple_of(4), 0);
                (begin, words.into())
            } else {
                (from * 4, widen(datatype, bytes).map_err(|wrong| refused(wrong, name, datatype))?)
            };
            self.queue.write_buffer(buffer, at, &words);
            from += count;
            under_way += words.len() as u64;
            if under_way >= UNDER_WAY_MAX || from == fill.elements {
                self.queue.submit([]);
                self.wait()?;
                under_way = 0;
            }
        }
        Ok(())
    }

    fn ready(
        &self,
        program: &Program,
        buffers: Vec<wgpu::Buffer>,
        uniforms: u64,
        calls: Vec<Ready>,
    ) -> Loaded {
        let read = program.outputs.iter().map(|port| words(port).next_multiple_of(READ_STEP)).sum::<u64>();
        let staging =
            self.buffer(READ_STEP + read, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let from_files = |fill: &&Fill| matches!(fill.source, Source::File { .. });
        let weights = program.fills.iter().filter(from_files).map(|fill| u64::from(fill.buffer));
        let states = program.kept.iter().flat_map(|kept| &kept.states).map(|state| state.place);
        let shared: u64 = weights.chain(states).map(|at| program.buffers[at as usize]).sum();
        Loaded {
            inputs: program.inputs.clone(),
            outputs: program.outputs.clone(),
            kept: program.kept.clone(),
            own_bytes: program.buffers.iter().sum::<u64>() + uniforms + staging.size() - shared,
            fault: buffers[program.fault as usize].clone(),
            buffers,
            staging,
            calls,
        }
    }

    fn bind(
        &self,
        dispatches: &[Dispatch],
        pipelines: &[wgpu::ComputePipeline],
        buffers: &[wgpu::Buffer],
        uniforms: &wgpu::Buffer,
    ) -> Vec<Ready> {
        let used: std::collections::BTreeSet<u32> =
            dispatches.iter().map(|dispatch| dispatch.pipeline).collect();
        let layouts: HashMap<u32, wgpu::BindGroupLayout> =
            used.into_iter().map(|at| (at, pipelines[at as usize].get_bind_group_layout(0))).collect();
        let ready = |dispatch: &Dispatch| {
            let parameters = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: uniforms,
                offset: dispatch.uniform,
                size: wgpu::BufferSize::new(dispatch.uniform_bytes),
            });
            let others = dispatch.buffers.iter().map(|at| buffers[*at as usize].as_entire_binding());
            let entries: Vec<wgpu::BindGroupEntry<'_>> = (0..)
                .zip([parameters].into_iter().chain(others))
                .map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource })
                .collect();
            let layout = &layouts[&dispatch.pipeline];
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &entries };
            let group = self.handle.create_bind_group(&descriptor);
            Ready { pipeline: pipelines[dispatch.pipeline as usize].clone(), group, groups: dispatch.groups }
        };
        dispatches.iter().map(ready).collect()
    }

    fn write(&self, loaded: &Loaded, port: &Port, inputs: &[Tensor]) -> Result<(), GpuHostError> {
        let Some(buffer) = port.buffer else { return Ok(()) };
        let fits = |tensor: &&Tensor| {
            tensor.name == port.name && tensor.datatype == port.datatype && tensor.shape == port.shape
        };
        let found = inputs.iter().find(fits);
        let tensor = found.ok_or_else(|| GpuHostError::Input { name: port.name.clone() })?;
        let bytes = tensor.body.contiguous();
        let size = port.datatype.size().unwrap_or_default() as u64;
        if bytes.len() as u64 != words(port) / 4 * size {
            return Err(GpuHostError::Input { name: port.name.clone() });
        }
        let words =
            widen(port.datatype, &bytes).map_err(|wrong| refused(wrong, &port.name, port.datatype))?;
        self.queue.write_buffer(&loaded.buffers[buffer as usize], 0, &words);
        Ok(())
    }

    /// Dispatches calls in their order, and reads these outputs.
    fn follow(
        &self,
        loaded: &Loaded,
        calls: &[Ready],
        outputs: &[&Port],
    ) -> Result<Vec<Tensor>, GpuHostError> {
        let mut encoder = self.handle.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.clear_buffer(&loaded.fault, 0, None);
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for Ready { pipeline, group, groups: [x, y, z] } in calls {
                pass.set_pipeline(pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(*x, *y, *z);
            }
        }
        encoder.copy_buffer_to_buffer(&loaded.fault, 0, &loaded.staging, 0, 4);
        let mut end = READ_STEP;
        let mut places = Vec::with_capacity(outputs.len());
        for port in outputs {
            places.push(end);
            if let Some(buffer) = port.buffer {
                let buffer = &loaded.buffers[buffer as usize];
                encoder.copy_buffer_to_buffer(buffer, 0, &loaded.staging, end, words(port));
                end += words(port).next_multiple_of(READ_STEP);
            }
        }
        self.queue.submit([encoder.finish()]);
        let (done, told) = mpsc::channel();
        loaded.staging.slice(..end).map_async(wgpu::MapMode::Read, move |mapped| {
            // The receiver lives until it has heard of it, or the device was lost.
            let _ = done.send(mapped);
        });
        self.wait()?;
        match told.try_recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(self.lose(error.to_string())),
            Err(_) => return Err(self.lose("it gives back no memory".to_owned())),
        }
        let read = read(loaded, end, outputs, &places);
        loaded.staging.unmap();
        read.map_err(|message| self.lose(message))?
    }
}

/// What the mapped memory holds: the fault, then the outputs.
fn read(
    loaded: &Loaded,
    end: u64,
    outputs: &[&Port],
    places: &[u64],
) -> Result<Result<Vec<Tensor>, GpuHostError>, String> {
    let view = loaded.staging.slice(..end).get_mapped_range().map_err(|error| error.to_string())?;
    let fault = view[0] as usize;
    if fault != 0 {
        return Ok(Err(GpuHostError::Fault { message: FAULTS.get(fault).unwrap_or(&FAULTS[0]) }));
    }
    let tensor = |(port, place): (&&Port, &u64)| {
        let words =
            if port.buffer.is_some() { &view[*place as usize..][..words(port) as usize] } else { &[] };
        Tensor {
            name: port.name.clone(),
            datatype: port.datatype,
            shape: port.shape.clone(),
            body: narrow(port.datatype, words).into(),
        }
    };
    Ok(Ok(outputs.iter().zip(places).map(tensor).collect()))
}

/// Bytes that a port's elements take in its buffer.
fn words(port: &Port) -> u64 {
    port.shape.iter().product::<u64>() * 4
}

/// Whether a buffer takes the bytes as they lie, which are weights of few bits; else an element takes four.
fn is_raw(fill: &Fill, program: &Program) -> bool {
    program.buffers[fill.buffer as usize] < fill.elements * 4
}

/// Whether a weight is not there yet; those of the block always come anew.
fn is_new(fill: &Fill, kept: &[(usize, Weight)]) -> bool {
    matches!(fill.source, Source::Block { .. }) || kept.iter().any(|(at, _)| *at == fill.buffer as usize)
}

fn wanted_ports<'p>(ports: &'p [Port], wanted: &[String]) -> Result<Vec<&'p Port>, GpuHostError> {
    if wanted.is_empty() {
        return Ok(ports.iter().collect());
    }
    let find = |name: &String| {
        let found = ports.iter().find(|port| port.name == *name);
        found.ok_or_else(|| GpuHostError::Output { name: name.clone() })
    };
    wanted.iter().map(find).collect()
}

fn refused(wrong: Wrong, name: &str, datatype: Datatype) -> GpuHostError {
    match wrong {
        Wrong::Wide => GpuHostError::Wide { name: name.to_owned() },
        Wrong::Datatype => GpuHostError::Datatype { datatype },
    }
}

#[cfg(test)]
mod tests;
