//! A routine under construction.
//!
//! Whatever is known here is computed here; what weights alone decide is computed once; the rest with every step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    LowerError,
    site::Site,
    value::{self, Value, broadcast},
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{Call, Element, Expr, MAP_INPUTS_MAX, Map, RANK_MAX, Routine, Slot, SlotInfo, Source, View, Weight},
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
}

impl Builder {
    fn slot(&mut self, element: Element, len: usize) -> Slot {
        let slot = Slot(u32::try_from(self.routine.slots.len()).expect("graphs have fewer values"));
        self.routine.slots.push(SlotInfo { element, len });
        slot
    }

    pub(super) fn element(&self, slot: Slot) -> Element {
        self.routine.slots[slot.0 as usize].element
    }

    /// A place for a tensor that a call will write.
    pub(super) fn fresh(&mut self, datatype: Datatype, shape: &[usize]) -> Result<Value, LowerError> {
        let element = value::element(datatype)
            .ok_or_else(|| LowerError::Datatype { name: "a value within the model".to_owned(), datatype })?;
        let slot = self.slot(element, shape.iter().product());
        Ok(whole(slot, datatype, shape))
    }

    pub(super) fn constant(&mut self, datatype: Datatype, shape: &[usize], host: Host) -> Value {
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

    /// A weight that stays in its file. Few bits are held as `Element::Bytes`, whatever datatype the file calls them.
    pub(super) fn stored(
        &mut self,
        datatype: Datatype,
        element: Element,
        shape: &[usize],
        source: Source,
    ) -> Value {
        let slot = self.slot(element, shape.iter().product());
        self.routine.weights.push(Weight { slot, datatype, source });
        self.steady.insert(slot);
        whole(slot, datatype, shape)
    }

    /// An input that steps bring.
    pub(super) fn input(&mut self, name: &str, datatype: Datatype, shape: &[usize]) -> Result<Value, LowerError> {
        let wrong = || LowerError::Datatype { name: name.to_owned(), datatype };
        let element = value::element(datatype).ok_or_else(wrong)?;
        let len = shape.iter().product();
        if len == 0 {
            let empty = if element == Element::F32 { Host::F32(Vec::new()) } else { Host::I64(Vec::new()) };
            return Ok(self.constant(datatype, shape, empty));
        }
        let slot = self.slot(element, len);
        self.roots.insert(slot, Arc::new([name.to_owned()].into()));
        if element == Element::I32 && len <= VALUES_MAX {
            self.small.insert(name.to_owned());
        }
        Ok(whole(slot, datatype, shape))
    }

    /// The elements, if they are known here.
    pub(super) fn known(&self, value: &Value) -> Option<Host> {
        Some(self.known.get(&value.slot)?.at(value.places()))
    }

    /// The elements of a tensor that shapes depend on.
    pub(super) fn numbers(&self, site: &Site<'_>, value: &Value) -> Result<Vec<i64>, LowerError> {
        match self.known(value) {
            Some(Host::I64(numbers)) => Ok(numbers),
            Some(_) => Err(site.refuse("takes sizes that are not whole numbers")),
            None => Err(self.unknown(site, value)),
        }
    }

    /// Why something that must be known is not: an input's value decides it, or it comes out of the computation.
    pub(super) fn unknown(&self, site: &Site<'_>, value: &Value) -> LowerError {
        let roots = self.roots.get(&value.slot);
        match roots.and_then(|roots| roots.iter().next().filter(|_| roots.is_subset(&self.small))) {
            Some(input) => LowerError::NeedsValue { input: input.clone() },
            None => site.refuse("has sizes that come out of the computation"),
        }
    }

    /// The tensor row by row in a slot of its own.
    pub(super) fn dense(&mut self, value: &Value) -> Result<Value, LowerError> {
        if value.is_dense() && self.routine.slots[value.slot.0 as usize].len == value.len() {
            return Ok(value.clone());
        }
        self.map(&value.shape, std::slice::from_ref(value), value.datatype, Expr::Input(0))
    }

    /// How the tensor lies in its slot when it is repeated to a shape; both must fit.
    pub(super) fn view(value: &Value, shape: &[usize]) -> View {
        let ahead = shape.len() - value.rank();
        let stride = |at: usize| match at.checked_sub(ahead) {
            Some(own) if value.shape[own] != 1 => value.strides[own],
            _ => 0,
        };
        View { slot: value.slot, offset: value.offset, strides: (0..shape.len()).map(stride).collect() }
    }

    /// A map over a shape that the inputs are repeated to.
    pub(super) fn map(
        &mut self,
        shape: &[usize],
        inputs: &[Value],
        datatype: Datatype,
        expr: Expr,
    ) -> Result<Value, LowerError> {
        let output = self.fresh(datatype, shape)?;
        let call = self.mapping(shape, inputs, &output, expr)?;
        self.emit(call.into_iter().collect(), &output);
        Ok(output)
    }

    /// The same into a place that is there; nothing where there are no elements.
    pub(super) fn mapping(
        &mut self,
        shape: &[usize],
        inputs: &[Value],
        output: &Value,
        expr: Expr,
    ) -> Result<Option<Call>, LowerError> {
        if shape.contains(&0) {
            return Ok(None);
        }
        debug_assert!(inputs.len() <= MAP_INPUTS_MAX, "operators take fewer");
        let views = inputs.iter().map(|input| Self::view(input, shape)).collect();
        let mut map = Map { shape: shape.to_vec(), inputs: views, output: Self::view(output, shape), expr };
        merge(&mut map);
        if map.shape.len() > RANK_MAX {
            let problem = LowerError::Unsupported {
                operator: "Transpose".to_owned(),
                node: String::new(),
                why: format!("walks over more than {RANK_MAX} dimensions that lie apart"),
            };
            return Err(problem);
        }
        Ok(Some(Call::Map(map)))
    }

    /// Appends the calls that together write `output` and nothing else.
    pub(super) fn emit(&mut self, calls: Vec<Call>, output: &Value) {
        self.emit_all(calls, std::slice::from_ref(output));
    }

    pub(super) fn emit_all(&mut self, calls: Vec<Call>, outputs: &[Value]) {
        let made: HashSet<Slot> = outputs.iter().map(|output| output.slot).collect();
        let reads: BTreeSet<Slot> =
            calls.iter().flat_map(Call::reads).filter(|slot| !made.contains(slot)).collect();
        let roots: BTreeSet<String> =
            reads.iter().filter_map(|slot| self.roots.get(slot)).flat_map(|roots| roots.iter().cloned()).collect();
        if !roots.is_empty() {
            let roots = Arc::new(roots);
            made.iter().for_each(|slot| {
                self.roots.insert(*slot, roots.clone());
            });
        }
        let small = outputs.iter().all(|output| output.len() <= FOLD_MAX);
        if small && reads.iter().all(|slot| self.known.contains_key(slot)) {
            self.fold(&calls, outputs);
            return;
        }
        if reads.iter().all(|slot| self.steady.contains(slot)) {
            self.steady.extend(made);
            self.routine.once.extend(calls);
        } else {
            self.routine.calls.extend(calls);
        }
    }

    fn fold(&mut self, calls: &[Call], outputs: &[Value]) {
        let mut memory: BTreeMap<Slot, Host> = BTreeMap::new();
        for output in outputs {
            let SlotInfo { element, len } = self.routine.slots[output.slot.0 as usize];
            let empty = match element {
                Element::F32 => Host::F32(vec![0.0; len]),
                Element::I32 => Host::I64(vec![0; len]),
                Element::Bytes => unreachable!("no call makes bytes"),
            };
            memory.insert(output.slot, empty);
        }
        for call in calls {
            for slot in call.reads() {
                if !memory.contains_key(&slot) {
                    memory.insert(slot, Host::clone(&self.known[&slot]));
                }
            }
            reference::run(call, &mut memory);
        }
        for output in outputs {
            let host = memory.remove(&output.slot).expect("put in above");
            self.known.insert(output.slot, Arc::new(host));
            self.steady.insert(output.slot);
        }
    }

    /// The routine, without what nobody reads.
    pub(super) fn finish(self, ports: (Vec<crate::kernels::ir::Port>, Vec<crate::kernels::ir::Port>)) -> Result<Routine, LowerError> {
        let Self { mut routine, known, .. } = self;
        (routine.inputs, routine.outputs) = ports;
        prune(&mut routine);
        let mut read: BTreeSet<Slot> = routine.once.iter().chain(&routine.calls).flat_map(Call::reads).collect();
        read.extend(routine.outputs.iter().filter_map(|port| port.slot));
        routine.weights.retain(|weight| read.contains(&weight.slot));
        for slot in read {
            if let Some(host) = known.get(&slot) {
                routine.weights.push(inline(slot, host)?);
            }
        }
        renumber(&mut routine);
        Ok(routine)
    }
}

fn whole(slot: Slot, datatype: Datatype, shape: &[usize]) -> Value {
    Value { shape: shape.to_vec(), datatype, slot, offset: 0, strides: value::dense(shape) }
}

/// Makes one dimension of neighbours that lie behind each other in every view.
fn merge(map: &mut Map) {
    let Map { shape, inputs, output, .. } = map;
    let mut views: Vec<&mut View> = inputs.iter_mut().chain([output]).collect();
    let mut at = 0;
    while at < shape.len() {
        if shape[at] == 1 {
            shape.remove(at);
            views.iter_mut().for_each(|view| {
                view.strides.remove(at);
            });
        } else if at > 0
            && views.iter().all(|view| view.strides[at - 1] == view.strides[at] * shape[at] as i64)
        {
            shape[at - 1] *= shape.remove(at);
            views.iter_mut().for_each(|view| {
                view.strides.remove(at - 1);
            });
        } else {
            at += 1;
        }
    }
}

/// Drops calls that write what nobody reads.
fn prune(routine: &mut Routine) {
    let mut wanted: HashSet<Slot> = routine.outputs.iter().filter_map(|port| port.slot).collect();
    for calls in [&mut routine.calls, &mut routine.once] {
        let mut kept: Vec<Call> = Vec::with_capacity(calls.len());
        for call in std::mem::take(calls).into_iter().rev() {
            if call.writes().iter().any(|slot| wanted.contains(slot)) {
                wanted.extend(call.reads());
                kept.push(call);
            }
        }
        kept.reverse();
        *calls = kept;
    }
}

fn inline(slot: Slot, host: &Host) -> Result<Weight, LowerError> {
    let (datatype, bytes): (_, Vec<u8>) = match host {
        Host::F32(values) => (Datatype::Fp32, values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Host::I64(values) => {
            let narrow = |value: &i64| i32::try_from(*value).map_err(|_| LowerError::Wide { value: *value });
            let values: Vec<i32> = values.iter().map(narrow).collect::<Result<_, _>>()?;
            (Datatype::Int32, values.iter().flat_map(|value| value.to_le_bytes()).collect())
        }
        Host::Bytes(bytes) => (Datatype::Uint8, bytes.to_vec()),
    };
    Ok(Weight { slot, datatype, source: Source::Bytes(bytes.into()) })
}

/// Gives the slots that are left consecutive numbers.
fn renumber(routine: &mut Routine) {
    let mut numbers: BTreeMap<Slot, Slot> = BTreeMap::new();
    let mut slots = Vec::new();
    let old = std::mem::take(&mut routine.slots);
    let mut number = |slot: &mut Slot| {
        *slot = *numbers.entry(*slot).or_insert_with(|| {
            slots.push(old[slot.0 as usize]);
            Slot(u32::try_from(slots.len() - 1).expect("no more than before"))
        });
    };
    let ports = routine.inputs.iter_mut().chain(&mut routine.outputs);
    ports.filter_map(|port| port.slot.as_mut()).for_each(&mut number);
    routine.weights.iter_mut().for_each(|weight| number(&mut weight.slot));
    let calls = routine.once.iter_mut().chain(&mut routine.calls);
    calls.for_each(|call| call.each_slot(&mut number));
    routine.slots = slots;
}

/// The shape that all of these fit by repeating.
pub(super) fn common(site: &Site<'_>, values: &[Value]) -> Result<Vec<usize>, LowerError> {
    values.iter().try_fold(Vec::new(), |shape, value| {
        let both = broadcast(&shape, &value.shape);
        both.ok_or_else(|| site.refuse(format!("takes {shape:?} and {:?}, which do not fit", value.shape)))
    })
}
