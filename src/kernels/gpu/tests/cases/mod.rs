//! Routines of a few calls with seeded inputs: what hosts compute is compared with the reference.

mod attention;
mod maps;
mod products;
mod rows;
mod windows;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Element, Port, Routine, Slot, SlotInfo, Source, View, Weight},
    },
};

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) routine: Routine,
    pub(crate) inputs: BTreeMap<String, Host>,
    /// Of each float, beside as much relative to it.
    pub(crate) tolerance: f32,
}

pub(crate) fn all() -> Vec<Case> {
    [maps::all(), rows::all(), products::all(), attention::all(), windows::all()]
        .into_iter()
        .flatten()
        .collect()
}

/// Cases of which each step fails with an index out of range.
pub(crate) fn faults() -> Vec<Case> {
    [rows::faults(), products::faults(), attention::faults()].into_iter().flatten().collect()
}

/// Makes a case.
pub(super) struct Maker {
    routine: Routine,
    inputs: BTreeMap<String, Host>,
    seed: u64,
}

impl Maker {
    pub(super) fn new() -> Self {
        Self { routine: Routine::default(), inputs: BTreeMap::new(), seed: 0x9e37_79b9_7f4a_7c15 }
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn slot(&mut self, element: Element, len: usize) -> Slot {
        self.routine.slots.push(SlotInfo { element, len });
        Slot(self.routine.slots.len() as u32 - 1)
    }

    fn input(&mut self, datatype: Datatype, host: Host) -> Slot {
        let slot = self.slot(host.element(), host.len());
        let name = format!("in{}", slot.0);
        let port = Port { name: name.clone(), datatype, shape: vec![host.len()], slot: Some(slot) };
        self.routine.inputs.push(port);
        self.inputs.insert(name, host);
        slot
    }

    /// Numbers from -1 to 1.
    pub(super) fn floats(&mut self, len: usize) -> Slot {
        self.between(len, -1.0, 1.0)
    }

    pub(super) fn between(&mut self, len: usize, low: f32, high: f32) -> Slot {
        let values = (0..len).map(|_| low + (high - low) * ((self.random() >> 40) as f32 / (1 << 24) as f32));
        let values = values.collect();
        self.given(values)
    }

    pub(super) fn given(&mut self, values: Vec<f32>) -> Slot {
        self.input(Datatype::Fp32, Host::F32(values))
    }

    pub(super) fn ints(&mut self, values: Vec<i64>) -> Slot {
        self.input(Datatype::Int32, Host::I64(values))
    }

    /// Whole numbers from so many below 0 to as many above.
    pub(super) fn wholes(&mut self, len: usize, most: i64) -> Slot {
        let values = (0..len).map(|_| (self.random() >> 33) as i64 % (2 * most + 1) - most).collect();
        self.ints(values)
    }

    /// A weight of few bits whose bytes are below a limit.
    pub(super) fn bytes(&mut self, len: usize, limit: u64) -> Slot {
        let bytes: Bytes = (0..len).map(|_| ((self.random() >> 33) % limit) as u8).collect();
        let slot = self.slot(Element::Bytes, len);
        self.routine.weights.push(Weight { slot, datatype: Datatype::Uint8, source: Source::Bytes(bytes) });
        slot
    }

    pub(super) fn output(&mut self, element: Element, len: usize) -> Slot {
        let slot = self.slot(element, len);
        let datatype = if element == Element::F32 { Datatype::Fp32 } else { Datatype::Int32 };
        let (name, shape) = (format!("out{}", slot.0), vec![len]);
        self.routine.outputs.push(Port { name, datatype, shape, slot: Some(slot) });
        slot
    }

    pub(super) fn case(self, name: impl Into<String>, calls: Vec<Call>) -> Case {
        self.within(name, calls, 2e-5)
    }

    pub(super) fn within(mut self, name: impl Into<String>, calls: Vec<Call>, tolerance: f32) -> Case {
        self.routine.calls = calls;
        Case { name: name.into(), routine: self.routine, inputs: self.inputs, tolerance }
    }
}

/// A tensor row by row.
pub(super) fn dense(slot: Slot, shape: &[usize]) -> View {
    let mut strides = vec![0; shape.len()];
    let mut stride = 1;
    for (at, size) in shape.iter().enumerate().rev() {
        strides[at] = stride;
        stride *= *size as i64;
    }
    View { slot, offset: 0, strides }
}
