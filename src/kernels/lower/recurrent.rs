//! LSTM, GRU and RNN, step by step: products and maps, as many as the sequence has steps.

use super::{
    LowerError,
    builder::Builder,
    operators::Lower,
    products::{After, NOTHING, product, product_into},
    site::Site,
    value::Value,
};
use crate::kernels::ir::{Call, Expr, Unary};

/// Steps that are written out; a routine of more would be longer than it is worth.
const STEPS_MAX: usize = 512;

pub(super) fn of(key: (&str, &str)) -> Option<Lower> {
    Some(match key {
        ("", "LSTM") => |builder, site| recurrent(builder, site, Cell::Lstm),
        ("", "GRU") => |builder, site| recurrent(builder, site, Cell::Gru),
        ("", "RNN") => |builder, site| recurrent(builder, site, Cell::Plain),
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru,
    Plain,
}

impl Cell {
    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Plain => 1,
        }
    }

    fn activations(self) -> &'static [Unary] {
        match self {
            Self::Lstm => &[Unary::Sigmoid, Unary::Tanh, Unary::Tanh],
            Self::Gru => &[Unary::Sigmoid, Unary::Tanh],
            Self::Plain => &[Unary::Tanh],
        }
    }
}

/// One direction of a node, in ONNX's first layout.
struct Direction<'s> {
    site: &'s Site<'s>,
    cell: Cell,
    /// `[steps, batch, gates · size]`: of the inputs, with what is added to them.
    inputs: Value,
    /// `[size, gates · size]`.
    recurrence: Value,
    /// What is added to the recurrence of a GRU's last gate, where that is done before it is reset.
    late_bias: Option<Value>,
    activations: Vec<Unary>,
    before_reset: bool,
    size: usize,
    backwards: bool,
}

fn recurrent(builder: &mut Builder, site: &Site<'_>, cell: Cell) -> Result<Vec<Value>, LowerError> {
    let batch_first = site.number("layout", 0) != 0;
    let ahead = |value: &Value| if batch_first { value.transposed(&[1, 0, 2]) } else { value.clone() };
    let (x, weights, recurrence) = (site.input(0)?, site.input(1)?, site.input(2)?);
    if x.rank() != 3 || weights.rank() != 3 || recurrence.rank() != 3 || x.len() == 0 {
        return Err(
            site.refuse(format!("takes {:?}, {:?} and {:?}", x.shape, weights.shape, recurrence.shape))
        );
    }
    let x = ahead(x);
    let (steps, batch, size) = (x.shape[0], x.shape[1], recurrence.shape[2]);
    let backwards: &[bool] = match site.text("direction") {
        None | Some("forward" | "") => &[false],
        Some("reverse") => &[true],
        Some("bidirectional") => &[false, true],
        Some(other) => return Err(site.refuse(format!("has the direction {other:?}"))),
    };
    let directions = backwards.len();
    plain(builder, site, cell, steps)?;
    if steps > STEPS_MAX {
        return Err(site.refuse(format!("has {steps} steps; kernels write out {STEPS_MAX}")));
    }
    let gates = cell.gates() * size;
    if weights.shape != [directions, gates, x.shape[2]] || recurrence.shape != [directions, gates, size] {
        return Err(site.refuse(format!("has weights of {:?} and {:?}", weights.shape, recurrence.shape)));
    }
    let datatype = x.datatype;
    let hidden = builder.fresh(datatype, &[steps, directions, batch, size])?;
    let cells = builder.fresh(datatype, &[directions, batch, size])?;
    let mut made = vec![hidden.clone(), cells.clone()];
    let mut calls = Vec::new();
    for (at, backwards) in backwards.iter().enumerate() {
        let direction = direction(builder, site, cell, &x, (at, *backwards))?;
        let mut start = |input: usize| start(builder, site, input, at, &[directions, batch, size], &ahead);
        let state = [start(5)?, start(6)?];
        direction.run(builder, state, (&hidden.at(1, at), &cells.at(0, at)), (&mut calls, &mut made))?;
    }
    if cell != Cell::Lstm {
        made.remove(1);
    }
    builder.emit_all(calls, &made);
    let last = last(&hidden, backwards);
    let outputs = if batch_first {
        vec![hidden.transposed(&[2, 0, 1, 3]), last.transposed(&[1, 0, 2]), cells.transposed(&[1, 0, 2])]
    } else {
        vec![hidden, last, cells]
    };
    Ok(outputs)
}

/// Refuses what is not the usual form.
fn plain(builder: &Builder, site: &Site<'_>, cell: Cell, steps: usize) -> Result<(), LowerError> {
    if site.node.attribute("clip").is_some() || site.number("input_forget", 0) != 0 {
        return Err(site.refuse("has clip or input_forget"));
    }
    if cell == Cell::Lstm && site.optional(7).is_some() {
        return Err(site.refuse("has peepholes"));
    }
    if let Some(lengths) = site.optional(4) {
        let known = builder.numbers(site, lengths)?;
        if known.iter().any(|length| usize::try_from(*length) != Ok(steps)) {
            return Err(site.refuse("has sequences that are shorter than the longest"));
        }
    }
    Ok(())
}

/// The state that a direction begins with.
fn start(
    builder: &mut Builder,
    site: &Site<'_>,
    input: usize,
    direction: usize,
    shape: &[usize; 3],
    ahead: &dyn Fn(&Value) -> Value,
) -> Result<Value, LowerError> {
    match site.optional(input) {
        Some(state) if state.rank() == 3 && ahead(state).shape == shape => Ok(ahead(state).at(0, direction)),
        Some(state) => Err(site.refuse(format!("begins with {:?}", state.shape))),
        None => Ok(builder.floats(&[1, 1], vec![0.0]).expanded(&shape[1..])),
    }
}

/// The hidden state of each direction's last step.
fn last(hidden: &Value, backwards: &[bool]) -> Value {
    let steps = hidden.shape[0];
    let of = |at: usize| hidden.at(0, if backwards[at] { 0 } else { steps - 1 }).at(0, at);
    let mut last = hidden.at(0, 0);
    last.offset = of(0).offset;
    if backwards.len() > 1 {
        last.strides[0] = of(1).offset as i64 - of(0).offset as i64;
    }
    last
}

fn activations(site: &Site<'_>, cell: Cell, direction: usize) -> Result<Vec<Unary>, LowerError> {
    let usual = cell.activations();
    let Some(names) = site.node.attribute("activations").map(|attribute| &attribute.strings) else {
        return Ok(usual.to_vec());
    };
    let own = names.iter().skip(direction * usual.len()).take(usual.len());
    let named = own.map(|name| match name.to_ascii_lowercase().as_slice() {
        b"sigmoid" => Ok(Unary::Sigmoid),
        b"tanh" => Ok(Unary::Tanh),
        b"relu" => Ok(Unary::Relu),
        _ => Err(site.refuse(format!("has the activation {:?}", String::from_utf8_lossy(name)))),
    });
    let named: Vec<Unary> = named.collect::<Result<_, _>>()?;
    if named.len() == usual.len() { Ok(named) } else { Err(site.refuse("names too few activations")) }
}

fn direction<'s>(
    builder: &mut Builder,
    site: &'s Site<'s>,
    cell: Cell,
    x: &Value,
    (at, backwards): (usize, bool),
) -> Result<Direction<'s>, LowerError> {
    let (weights, recurrence) = (site.input(1)?.at(0, at), site.input(2)?.at(0, at));
    let size = recurrence.shape[1];
    let gates = cell.gates() * size;
    let before_reset = cell == Cell::Gru && site.number("linear_before_reset", 0) != 0;
    let (mut bias, mut late_bias) = (None, None);
    if let Some(both) = site.optional(3) {
        let both = both.at(0, at);
        let (own, again) = (both.sliced(0, 0, 1, gates), both.sliced(0, gates, 1, gates));
        let together = if before_reset { 2 * size } else { gates };
        let parts = [own.sliced(0, 0, 1, together), again.sliced(0, 0, 1, together)];
        let sum = builder.map(&[together], &parts, x.datatype, Expr::Input(0) + Expr::Input(1))?;
        if before_reset {
            bias = Some(builder.concat(&[sum, own.sliced(0, together, 1, size)], 0)?);
            late_bias = Some(again.sliced(0, together, 1, size));
        } else {
            bias = Some(sum);
        }
    }
    let after = After { bias: bias.as_ref(), ..NOTHING };
    let inputs = product(builder, site, x, &weights.transposed(&[1, 0]), after)?;
    Ok(Direction {
        site,
        cell,
        inputs,
        recurrence: recurrence.transposed(&[1, 0]),
        late_bias,
        activations: activations(site, cell, at)?,
        before_reset,
        size,
        backwards,
    })
}

/// Calls, and the places that they write.
type Made<'m> = (&'m mut Vec<Call>, &'m mut Vec<Value>);

impl Direction<'_> {
    /// `hidden` is `[steps, batch, size]`, `cells` what an LSTM leaves, `[batch, size]`.
    fn run(
        &self,
        builder: &mut Builder,
        [mut state, mut cell]: [Value; 2],
        (hidden, cells): (&Value, &Value),
        (calls, made): Made<'_>,
    ) -> Result<(), LowerError> {
        let steps = hidden.shape[0];
        for step in 0..steps {
            let at = if self.backwards { steps - 1 - step } else { step };
            let (inputs, shown) = (self.inputs.at(0, at), hidden.at(0, at));
            if self.cell == Cell::Lstm {
                let kept = if step + 1 == steps { cells.clone() } else { self.fresh(builder, cells, made)? };
                self.lstm(builder, (&state, &inputs), [&cell, &kept, &shown], (calls, made))?;
                (state, cell) = (shown, kept);
                continue;
            }
            // What a step makes of a state may not be written where it is read.
            let next = self.fresh(builder, &shown, made)?;
            if self.cell == Cell::Gru {
                self.gru(builder, (&state, &inputs), &next, (calls, made))?;
            } else {
                let activation = Some(self.activations[0]);
                let after = After { bias: Some(&inputs), activation, ..NOTHING };
                calls.push(product_into(self.site, (&state, &self.recurrence), &next, after)?);
            }
            calls.extend(Builder::mapping(
                &shown.shape,
                std::slice::from_ref(&next),
                &shown,
                Expr::Input(0),
            )?);
            state = next;
        }
        Ok(())
    }

    /// A place of the same size.
    fn fresh(&self, builder: &mut Builder, like: &Value, made: &mut Vec<Value>) -> Result<Value, LowerError> {
        let fresh = builder.fresh(self.inputs.datatype, &like.shape)?;
        made.push(fresh.clone());
        Ok(fresh)
    }

    /// Some of the gates: what comes in and the recurrence, together.
    fn gates(
        &self,
        builder: &mut Builder,
        state: &Value,
        bias: Option<&Value>,
        (from, count): (usize, usize),
        (calls, made): Made<'_>,
    ) -> Result<Value, LowerError> {
        let recurrence = self.recurrence.sliced(1, from * self.size, 1, count * self.size);
        let gates = builder.fresh(self.inputs.datatype, &[state.shape[0], count * self.size])?;
        calls.push(product_into(self.site, (state, &recurrence), &gates, After { bias, ..NOTHING })?);
        made.push(gates.clone());
        Ok(gates)
    }

    fn gate(&self, gates: &Value, at: usize) -> Value {
        gates.sliced(1, at * self.size, 1, self.size)
    }

    fn lstm(
        &self,
        builder: &mut Builder,
        (state, inputs): (&Value, &Value),
        [cell, kept, target]: [&Value; 3],
        (calls, made): Made<'_>,
    ) -> Result<(), LowerError> {
        let gates = self.gates(builder, state, Some(inputs), (0, 4), (calls, made))?;
        let [input, output, forget, new] = [0, 1, 2, 3].map(|at| self.gate(&gates, at));
        let [f, g, h] = self.activations[..] else { unreachable!("an LSTM has three") };
        let x = Expr::Input;
        let sum = x(0).then(f) * x(3) + x(1).then(f) * x(2).then(g);
        calls.extend(Builder::mapping(&kept.shape, &[forget, input, new, cell.clone()], kept, sum)?);
        let shown = x(0).then(f) * x(1).then(h);
        calls.extend(Builder::mapping(&target.shape, &[output, kept.clone()], target, shown)?);
        Ok(())
    }

    fn gru(
        &self,
        builder: &mut Builder,
        (state, inputs): (&Value, &Value),
        target: &Value,
        (calls, made): Made<'_>,
    ) -> Result<(), LowerError> {
        let early = inputs.sliced(1, 0, 1, 2 * self.size);
        let gates = self.gates(builder, state, Some(&early), (0, 2), (calls, made))?;
        let (update, reset) = (self.gate(&gates, 0), self.gate(&gates, 1));
        let own = self.gate(inputs, 2);
        let [f, g] = self.activations[..] else { unreachable!("a GRU has two") };
        let x = Expr::Input;
        let mixed = |new: Expr| (Expr::Float(1.0) - x(0).then(f)) * new + x(0).then(f) * x(1);
        if self.before_reset {
            let again = self.gates(builder, state, self.late_bias.as_ref(), (2, 1), (calls, made))?;
            let new = (x(2) + x(3).then(f) * x(4)).then(g);
            let terms = [update, state.clone(), own, reset, again];
            calls.extend(Builder::mapping(&target.shape, &terms, target, mixed(new))?);
        } else {
            let left = builder.fresh(state.datatype, &target.shape)?;
            let kept = x(0).then(f) * x(1);
            calls.extend(Builder::mapping(&target.shape, &[reset, state.clone()], &left, kept)?);
            made.push(left.clone());
            let new = self.gates(builder, &left, Some(&own), (2, 1), (calls, made))?;
            let terms = [update, state.clone(), new];
            calls.extend(Builder::mapping(&target.shape, &terms, target, mixed(x(2).then(g)))?);
        }
        Ok(())
    }
}
