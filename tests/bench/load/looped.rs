//! The bound of the native lane: ONNX Runtime in a loop of this process, with the session's options of the lane.

use std::{
    borrow::Cow,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use bytes::Bytes;
use ort::{
    environment::Environment,
    session::{Session, SessionInputValue},
    value::TensorRef,
};
use weft::{
    config::{RawConfig, Surroundings},
    domain::{Datatype, Tensor},
};

use crate::{requests::Model, site::Runs};

/// The library that the daemon loads, loaded here as well.
pub(super) struct Engine(Environment);

impl Engine {
    pub(super) fn load() -> anyhow::Result<Self> {
        let config = RawConfig::default().resolve(std::env::temp_dir(), Surroundings::read()?)?;
        let library = config.native.library;
        let builder = ort::init_from(&library).with_context(|| library.display().to_string())?;
        Ok(Self(builder.with_name("bench").with_telemetry(false).build()?))
    }

    /// A loop through these inputs of a model.
    pub(super) fn looped(&self, model: &Model, threads: u64) -> anyhow::Result<Loop> {
        let session = self.session(&model.file, usize::try_from(threads)?)?;
        let sets = model.sets.iter().map(|set| set.iter().map(Input::read).collect());
        Ok(Loop { session, sets: sets.collect::<anyhow::Result<_>>()? })
    }

    fn session(&self, file: &Path, threads: usize) -> ort::Result<Session> {
        Session::builder(&self.0)?
            .with_intra_threads(threads)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .commit_from_file(file)
    }
}

pub(super) struct Loop {
    session: Session,
    sets: Vec<Vec<Input>>,
}

struct Input {
    name: String,
    shape: Vec<i64>,
    values: Values,
}

enum Values {
    Float(Vec<f32>),
    Integer(Vec<i32>),
    Long(Vec<i64>),
}

impl Input {
    fn read(tensor: &Tensor) -> anyhow::Result<Self> {
        let bytes: Bytes = tensor.body.contiguous();
        let values = match tensor.datatype {
            Datatype::Fp32 => Values::Float(elements(&bytes, f32::from_le_bytes)),
            Datatype::Int32 => Values::Integer(elements(&bytes, i32::from_le_bytes)),
            Datatype::Int64 => Values::Long(elements(&bytes, i64::from_le_bytes)),
            other => bail!("no loop takes {other:?}"),
        };
        let shape = tensor.shape.iter().map(|size| i64::try_from(*size)).collect::<Result<_, _>>()?;
        Ok(Self { name: tensor.name.clone(), shape, values })
    }

    fn value(&self) -> ort::Result<SessionInputValue<'_>> {
        let shape = self.shape.as_slice();
        Ok(match &self.values {
            Values::Float(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Values::Integer(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
            Values::Long(values) => TensorRef::from_array_view((shape, values.as_slice()))?.into(),
        })
    }
}

fn elements<const N: usize, T>(bytes: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks().0.iter().map(|chunk| read(*chunk)).collect()
}

impl Loop {
    /// Runs until the time is over, and once at least: makes the tensors, runs the session, reads the outputs.
    pub(super) fn run_for(&mut self, time: Duration) -> anyhow::Result<Runs> {
        let started = Instant::now();
        let (mut runs, mut output) = (0, Vec::new());
        while runs == 0 || started.elapsed() < time {
            let inputs = &self.sets[runs % self.sets.len()];
            let values: Vec<(Cow<'_, str>, SessionInputValue<'_>)> = inputs
                .iter()
                .map(|input| Ok((Cow::from(input.name.as_str()), input.value()?)))
                .collect::<ort::Result<_>>()?;
            let outputs = self.session.run(values)?;
            let (_, first) = outputs[0].try_extract_tensor::<f32>()?;
            output.clear();
            output.extend_from_slice(first);
            runs += 1;
        }
        let took_us = started.elapsed().as_micros() as u64;
        Ok(Runs { count: runs, took_us, output: output.into_iter().map(f64::from).collect() })
    }
}
