//! What a FAKE lane on our own kernels does with its programs: it checks whatever a host relies on, and follows none.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use serde_json::Value;
use weft::{
    domain::Tensor,
    kernels::gpu::program::{Dispatch, Fill, Port, Program, Source},
};

/// Programs that a session holds.
const PROGRAMS_MAX: usize = 8;

/// What uniforms' places are multiples of.
const UNIFORM: u64 = 256;

/// The programs of each session by their numbers.
#[derive(Default)]
pub(super) struct Programs(HashMap<String, BTreeMap<u64, Program>>);

impl Programs {
    pub(super) fn unload(&mut self, session: &str) {
        self.0.remove(session);
    }

    /// Takes a program of a session whose files lie in `folder`.
    pub(super) fn take(&mut self, header: &Value, body: &[u8], folder: &Path) {
        let programs = self.0.entry(text(&header["session"])).or_default();
        for dropped in header["drops"].as_array().expect("a list") {
            programs.remove(&dropped.as_u64().expect("a number"));
        }
        let block_bytes = header["block_bytes"].as_u64().expect("a size") as usize;
        let (block, json) = body.split_at_checked(block_bytes).expect("the block is there");
        let program: Program = serde_json::from_slice(json).expect("behind the block comes the program");
        check(&program, block, folder);
        programs.insert(header["program"].as_u64().expect("a number"), program);
        assert!(programs.len() <= PROGRAMS_MAX, "the daemon says which programs go for others");
    }

    /// The program that a step names, which must be for its inputs.
    pub(super) fn of(&self, header: &Value, inputs: &[Tensor]) -> &Program {
        let number = header["program"].as_u64().expect("a step names its program");
        let programs = self.0.get(&text(&header["session"])).expect("the session has programs");
        let program = programs.get(&number).expect("a program comes ahead of its steps");
        let mut ports: Vec<_> = program.inputs.iter().collect();
        for input in inputs {
            let at = ports.iter().position(|port| is(port, input));
            ports.remove(
                at.unwrap_or_else(|| panic!("the program is not for {input:?}: {:?}", program.inputs)),
            );
        }
        assert!(ports.is_empty(), "{ports:?} are missing");
        program
    }
}

/// Whether a tensor is what a port says.
pub(super) fn is(port: &Port, tensor: &Tensor) -> bool {
    (&port.name, port.datatype, &port.shape) == (&tensor.name, tensor.datatype, &tensor.shape)
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn check(program: &Program, block: &[u8], folder: &Path) {
    let buffers = program.buffers.len() as u64;
    let known = |buffer: u32| assert!(u64::from(buffer) < buffers, "there is no buffer {buffer}");
    assert!(program.buffers.iter().all(|size| *size > 0 && size % 4 == 0), "{:?}", program.buffers);
    for Fill { buffer, datatype, elements, source } in &program.fills {
        known(*buffer);
        let bytes = elements * datatype.size().expect("weights are numbers") as u64;
        let (offset, length) = match source {
            Source::Block { offset } => (*offset, block.len() as u64),
            Source::File { name, offset } => {
                let file = std::fs::metadata(folder.join(name)).expect("the model has the file");
                (*offset, file.len())
            }
        };
        assert!(offset + bytes <= length, "{bytes} bytes at {offset} of {length}");
    }
    for Port { name, shape, buffer, .. } in program.inputs.iter().chain(&program.outputs) {
        let Some(buffer) = buffer else { continue };
        known(*buffer);
        let words = shape.iter().product::<u64>() * 4;
        assert!(words <= program.buffers[*buffer as usize], "{name} has {words} bytes");
    }
    for pipeline in &program.pipelines {
        assert!(program.modules[pipeline.module as usize].contains(&pipeline.entry), "{pipeline:?}");
    }
    assert!(program.uniforms <= block.len() as u64, "the block begins with the uniforms");
    assert!(!program.calls.is_empty(), "a model computes something");
    for Dispatch { pipeline, uniform, uniform_bytes, buffers, groups } in
        program.once.iter().chain(&program.calls)
    {
        assert!((*pipeline as usize) < program.pipelines.len(), "there is no pipeline {pipeline}");
        assert!(uniform % UNIFORM == 0 && uniform + uniform_bytes <= program.uniforms, "{uniform}");
        for buffer in buffers {
            known(*buffer);
        }
        let (written, read) = buffers.split_last().expect("something is written");
        assert!(!read.contains(written), "what is written is not read");
        assert!(groups.iter().all(|groups| (1..=65_535).contains(groups)), "{groups:?}");
    }
    known(program.fault);
}
