//! A routine under construction.
//!
//! Whatever is known here is computed here; what weights alone decide is computed once; the rest with every step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    LowerError,
    caches::Caches,
    finish,
    site::Site,
    value::{self, Value},
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Element, Port, Routine, Slot, SlotInfo, Source, State, Weight},
        reference,
    },
};

/// Elements up to which a constant is computed here: masks and positions of some hundred tokens, never weights.
pub(super) const FOLD_MAX: usize = 64 << 10;

/// Values of an input that a routine can be made for: a rate, a few sizes.
const VALUES_MAX: usize = 64;

#[derive(Default)]
pub(super) struct Builder {
    routine: Routine,
    /// Slots whose elements are known here.
    known: HashMap<Slot, Arc<Host>>,
    /// Slots that hold the same in every step: weights, and what is made of them.
    steady: HashSet<Slot>,
    /// The inputs that decide what a slot holds.
    roots: HashMap<Slot, Arc<BTreeSet<String>>>,
    /// Inputs whose values a routine may be made for.
    small: BTreeSet<String>,
    /// Of weights held as whole numbers, the slots that hold their bytes.
    bytes: HashMap<Slot, Slot>,
    pub(super) caches: Caches,
}

impl Builder {
    fn slot(&mut self, element: Element, len: usize) -> Slot {
        let slot = Slot(u32::try_from(self.routine.slots.len()).expect("graphs have fewer values"));
        self.routine.slots.push(SlotInfo { element, len });
        slot
    }

    pub(super) fn add_state(&mut self, state: State) {
        self.routine.states.push(state);
    }

    pub(super) fn states(&self) -> &[State] {
        &self.routine.states
    }

    fn held(&self, slot: Slot) -> SlotInfo {
        self.routine.slots[slot.0 as usize]
    }

    pub(super) fn element(&self, value: &Value) -> Element {
        self.held(value.slot).element
    }

    /// Whether it is row by row all that its slot holds.
    pub(super) fn is_whole(&self, value: &Value) -> bool {
        value.is_dense() && self.held(value.slot).len == value.len()
    }

    /// A place for a tensor that a call will write.
    pub(super) fn fresh(&mut self, datatype: Datatype, shape: &[usize]) -> Result<Value, LowerError> {
        let element = value::element(datatype).ok_or(LowerError::Computed { datatype })?;
        let slot = self.slot(element, shape.iter().product());
        Ok(whole(slot, datatype, shape))
    }

    pub(super) fn constant(&mut self, datatype: Datatype, shape: &[usize], host: Host) -> Value {
        debug_assert_eq!(host.len(), shape.iter().product::<usize>(), "as many elements as the shape says");
        let slot = self.slot(host.element(), host.len());
        self.known.insert(slot, Arc::new(host));
        self.steady.insert(slot);
        whole(slot, datatype, shape)
    }

    pub(super) fn floats(&mut self, shape: &[usize], values: Vec<f32>) -> Value {
        self.constant(Datatype::Fp32, shape, Host::F32(values))
    }

    pub(super) fn ints(&mut self, values: Vec<i64>) -> Value {
        self.constant(Datatype::Int64, &[values.len()], Host::I64(values))
    }

    /// 0, 1, 2, … along one axis of so many, to be repeated along the others.
    pub(super) fn counted(&mut self, rank: usize, axis: usize, len: usize) -> Value {
        let mut shape = vec![1; rank];
        shape[axis] = len;
        self.constant(Datatype::Int64, &shape, Host::I64((0..len as i64).collect()))
    }

    /// A tensor without elements.
    pub(super) fn empty(&mut self, datatype: Datatype, shape: &[usize]) -> Result<Value, LowerError> {
        let element = value::element(datatype).ok_or(LowerError::Computed { datatype })?;
        Ok(self.constant(datatype, shape, Host::zeros(element, 0)))
    }

    /// A weight that stays in its file.
    pub(super) fn stored(
        &mut self,
        datatype: Datatype,
        shape: &[usize],
        source: Source,
    ) -> Result<Value, LowerError> {
        let value = self.fresh(datatype, shape)?;
        self.weigh(value.slot, datatype, source);
        Ok(value)
    }

    fn weigh(&mut self, slot: Slot, datatype: Datatype, source: Source) {
        self.routine.weights.push(Weight { slot, datatype, source });
        self.steady.insert(slot);
    }

    /// A weight's bytes as they are stored, for kernels of few bits; nothing where it is no weight of bytes.
    pub(super) fn bytes(&mut self, value: &Value) -> Option<Slot> {
        if !matches!(value.datatype, Datatype::Uint8 | Datatype::Int8) {
            return None;
        }
        if let Some(Host::I64(values)) = self.known(value) {
            let host = Host::Bytes(values.into_iter().map(|value| value as u8).collect());
            return Some(self.constant(value.datatype, &value.shape, host).slot);
        }
        if !self.is_whole(value) {
            return None;
        }
        if let Some(slot) = self.bytes.get(&value.slot) {
            return Some(*slot);
        }
        let Weight { datatype, source, .. } =
            self.routine.weights.iter().find(|weight| weight.slot == value.slot)?.clone();
        let slot = self.slot(Element::Bytes, value.len());
        self.weigh(slot, datatype, source);
        self.bytes.insert(value.slot, slot);
        Some(slot)
    }

    /// An input that steps bring.
    pub(super) fn input(
        &mut self,
        name: &str,
        datatype: Datatype,
        shape: &[usize],
    ) -> Result<Value, LowerError> {
        let value = self.fresh(datatype, shape)?;
        if value.len() == 0 {
            return self.empty(datatype, shape);
        }
        self.roots.insert(value.slot, Arc::new([name.to_owned()].into()));
        if self.element(&value) == Element::I32 && value.len() <= VALUES_MAX {
            self.small.insert(name.to_owned());
        }
        Ok(value)
    }

    /// The elements, if they are known here.
    pub(super) fn known(&self, value: &Value) -> Option<Host> {
        if value.len() == 0 {
            return Some(Host::zeros(self.element(value), 0));
        }
        Some(self.known.get(&value.slot)?.at(&value.places()))
    }

    /// The elements of a tensor that shapes depend on.
    pub(super) fn numbers(&self, site: &Site<'_>, value: &Value) -> Result<Vec<i64>, LowerError> {
        match self.known(value) {
            Some(Host::I64(numbers)) => Ok(numbers),
            Some(_) => Err(site.refuse("takes sizes that are not whole numbers")),
            None => Err(self.unknown(site, value)),
        }
    }

    /// The same of floats.
    pub(super) fn reals(&self, site: &Site<'_>, value: &Value) -> Result<Vec<f32>, LowerError> {
        match self.known(value) {
            Some(Host::F32(reals)) => Ok(reals),
            Some(_) => Err(site.refuse("takes factors that are not floats")),
            None => Err(self.unknown(site, value)),
        }
    }

    /// Why something that must be known is not: an input's value decides it, or it comes out of the computation.
    pub(super) fn unknown(&self, site: &Site<'_>, value: &Value) -> LowerError {
        let roots = self.roots.get(&value.slot);
        match roots.and_then(|roots| roots.iter().next().filter(|_| roots.is_subset(&self.small))) {
            Some(input) => LowerError::NeedsValue { input: input.clone() },
            None => site.refuse("has sizes or places that come out of the computation"),
        }
    }

    /// Appends the calls that together write `output` and nothing else.
    pub(super) fn emit(&mut self, calls: Vec<Call>, output: &Value) {
        self.emit_all(calls, std::slice::from_ref(output));
    }

    pub(super) fn emit_all(&mut self, calls: Vec<Call>, outputs: &[Value]) {
        let made: HashSet<Slot> = outputs.iter().map(|output| output.slot).collect();
        let reads: BTreeSet<Slot> =
            calls.iter().flat_map(Call::reads).filter(|slot| !made.contains(slot)).collect();
        let known = reads.iter().all(|slot| self.known.contains_key(slot));
        let folds = known && outputs.iter().all(|output| output.len() <= FOLD_MAX);
        if folds && self.fold(&calls, outputs).is_ok() {
            return;
        }
        let roots =
            reads.iter().filter_map(|slot| self.roots.get(slot)).flat_map(|roots| roots.iter().cloned());
        let roots: BTreeSet<String> = roots.collect();
        if !roots.is_empty() {
            let roots = Arc::new(roots);
            self.roots.extend(made.iter().map(|slot| (*slot, roots.clone())));
        }
        // What failed here fails with each step, where its caller hears of it.
        if !folds && reads.iter().all(|slot| self.steady.contains(slot)) {
            self.steady.extend(made);
            self.routine.once.extend(calls);
        } else {
            self.routine.calls.extend(calls);
        }
    }

    /// Computes constants, unless one of them cannot be computed.
    fn fold(&mut self, calls: &[Call], outputs: &[Value]) -> Result<(), reference::Fault> {
        let mut memory: BTreeMap<Slot, Host> = BTreeMap::new();
        for output in outputs {
            let SlotInfo { element, len } = self.held(output.slot);
            memory.insert(output.slot, Host::zeros(element, len));
        }
        for call in calls {
            for slot in call.reads() {
                memory.entry(slot).or_insert_with(|| Host::clone(&self.known[&slot]));
            }
            reference::run(call, &mut memory)?;
        }
        for output in outputs {
            let host = memory.remove(&output.slot).expect("put in above");
            self.known.insert(output.slot, Arc::new(host));
            self.steady.insert(output.slot);
        }
        Ok(())
    }

    /// The routine, without what nobody reads.
    pub(super) fn finish(self, inputs: Vec<Port>, outputs: Vec<Port>) -> Result<Routine, LowerError> {
        let Self { mut routine, known, .. } = self;
        routine.inputs = inputs;
        routine.outputs = outputs;
        finish::finish(routine, &known)
    }
}

fn whole(slot: Slot, datatype: Datatype, shape: &[usize]) -> Value {
    Value { shape: shape.to_vec(), datatype, slot, offset: 0, strides: value::dense(shape) }
}
