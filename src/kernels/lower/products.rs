//! Products: of floats, and with weights of few bits.

use super::{
    LowerError,
    builder::Builder,
    einsum,
    operators::Lower,
    site::Site,
    value::{Value, broadcast},
};
use crate::{
    domain::Datatype,
    kernels::{
        host::Host,
        ir::{
            Bits, Call, Expr, GatherBits, MatMul, MatMulBits, Packing, RANK_MAX, Reduce, ReduceOp, Slot,
            Unary, View,
        },
    },
};

pub(super) fn of(key: (&str, &str)) -> Option<Lower> {
    Some(match key {
        ("", "MatMul") => matmul,
        ("", "Gemm") => gemm,
        ("", "Einsum") => einsum::einsum,
        ("com.microsoft", "FusedMatMul" | "TransposeMatMul") => fused,
        ("com.microsoft", "MatMulNBits") => bits,
        ("com.microsoft", "GatherBlockQuantized") => gather_bits,
        _ => return None,
    })
}

/// What is done to a product.
#[derive(Clone, Copy)]
pub(super) struct After<'v> {
    pub(super) alpha: f32,
    /// Repeated to the product's shape.
    pub(super) bias: Option<&'v Value>,
    pub(super) activation: Option<Unary>,
}

pub(super) const NOTHING: After<'static> = After { alpha: 1.0, bias: None, activation: None };

/// `[…, m, k]` times `[…, k, n]`, where what stands ahead is repeated to the same shape.
pub(super) fn product(
    builder: &mut Builder,
    site: &Site<'_>,
    a: &Value,
    b: &Value,
    after: After<'_>,
) -> Result<Value, LowerError> {
    let (at, to) = (a.rank() - 2, b.rank() - 2);
    let batch = broadcast(&a.shape[..at], &b.shape[..to]);
    let fits = batch.filter(|_| a.shape[at + 1] == b.shape[to]);
    let mut shape = fits.ok_or_else(|| {
        site.refuse(format!("multiplies {:?} and {:?}, which do not fit", a.shape, b.shape))
    })?;
    shape.extend([a.shape[at], b.shape[to + 1]]);
    if !a.is_float() || !b.is_float() {
        return Err(
            site.refuse(format!("multiplies {} and {}; kernels multiply floats", a.datatype, b.datatype))
        );
    }
    if shape.contains(&0) {
        return builder.empty(a.datatype, &shape);
    }
    let output = builder.fresh(a.datatype, &shape)?;
    let call = product_into(site, (a, b), &output, after)?;
    builder.emit(vec![call], &output);
    Ok(output)
}

/// The call that writes a product to a place that is there; with nothing to sum up, what comes after alone.
pub(super) fn product_into(
    site: &Site<'_>,
    (left, right): (&Value, &Value),
    output: &Value,
    After { alpha, bias, activation }: After<'_>,
) -> Result<Call, LowerError> {
    let rank = output.rank();
    let (m, n, k) = (output.shape[rank - 2], output.shape[rank - 1], left.shape[left.rank() - 1]);
    if k == 0 {
        let sum = if bias.is_some() { Expr::Input(0) } else { Expr::Float(0.0) };
        let expr = activation.map_or(sum.clone(), |op| sum.then(op));
        let inputs: Vec<Value> = bias.into_iter().cloned().collect();
        return Ok(Builder::mapping(&output.shape, &inputs, output, expr)?.expect("it has elements"));
    }
    let batch = &output.shape[..rank - 2];
    let over = |last: [usize; 2]| [batch, &last].concat();
    let mut call = MatMul {
        batch: batch.to_vec(),
        m,
        k,
        n,
        a: Builder::view(left, &over([m, k])),
        b: Builder::view(right, &over([k, n])),
        bias: bias.map(|bias| Builder::view(bias, &output.shape)),
        output: Builder::view(output, &output.shape),
        alpha,
        activation,
    };
    narrow(&mut call);
    if call.batch.len() > RANK_MAX - 2 {
        return Err(
            site.refuse(format!("multiplies along {} dimensions that lie apart", call.batch.len() + 2))
        );
    }
    Ok(Call::MatMul(call))
}

/// Makes one dimension of neighbours in the batch, and of the batch and the rows, where they lie behind each other.
fn narrow(call: &mut MatMul) {
    let mut at = 0;
    while at < call.batch.len() {
        let size = call.batch[at] as i64;
        let follows = |view: &View| view.strides[at - 1] == view.strides[at] * size;
        if size == 1 {
            drop_dimension(call, at);
        } else if at > 0 && views(call).all(follows) {
            call.batch[at - 1] *= call.batch[at];
            let kept = call.batch[at - 1];
            drop_dimension(call, at - 1);
            call.batch[at - 1] = kept;
        } else {
            at += 1;
        }
    }
    while let Some(last) = call.batch.len().checked_sub(1) {
        let rows = |view: &View| view.strides[last] == view.strides[last + 1] * call.m as i64;
        let alone = [Some(&call.a), call.bias.as_ref(), Some(&call.output)].into_iter().flatten().all(rows);
        if call.b.strides[last] != 0 || !alone {
            return;
        }
        call.m *= call.batch[last];
        drop_dimension(call, last);
    }
}

fn views(call: &MatMul) -> impl Iterator<Item = &View> {
    [Some(&call.a), Some(&call.b), call.bias.as_ref(), Some(&call.output)].into_iter().flatten()
}

fn drop_dimension(call: &mut MatMul, at: usize) {
    call.batch.remove(at);
    let views = [Some(&mut call.a), Some(&mut call.b), call.bias.as_mut(), Some(&mut call.output)];
    views.into_iter().flatten().for_each(|view| {
        view.strides.remove(at);
    });
}

/// As numpy has it: a line of numbers is a row on the left and a column on the right.
fn matmul(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    multiplied(builder, site, site.input(0)?, site.input(1)?, NOTHING)
}

fn multiplied(
    builder: &mut Builder,
    site: &Site<'_>,
    a: &Value,
    b: &Value,
    after: After<'_>,
) -> Result<Vec<Value>, LowerError> {
    if a.rank() == 0 || b.rank() == 0 {
        return Err(site.refuse("multiplies a single number"));
    }
    let (row, column) = (a.rank() == 1, b.rank() == 1);
    let a = if row { a.reshaped(&[1, a.len()]).expect("another dimension of size 1") } else { a.clone() };
    let b = if column { b.reshaped(&[b.len(), 1]).expect("another dimension of size 1") } else { b.clone() };
    let mut product = product(builder, site, &a, &b, after)?;
    let rank = product.rank();
    // The column's first, while places still count from the front.
    if column {
        product = product.at(rank - 1, 0);
    }
    if row {
        product = product.at(rank - 2, 0);
    }
    Ok(vec![product])
}

/// With its last two dimensions in the other order.
fn turned(value: &Value) -> Value {
    let mut order: Vec<usize> = (0..value.rank()).collect();
    if let Some(last) = value.rank().checked_sub(2) {
        order.swap(last, last + 1);
    }
    value.transposed(&order)
}

fn gemm(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (mut a, mut b) = (site.input(0)?.clone(), site.input(1)?.clone());
    if a.rank() != 2 || b.rank() != 2 {
        return Err(
            site.refuse(format!("multiplies {:?} and {:?}; both have two dimensions", a.shape, b.shape))
        );
    }
    if site.number("transA", 0) != 0 {
        a = turned(&a);
    }
    if site.number("transB", 0) != 0 {
        b = turned(&b);
    }
    let beta = site.real("beta", 1.0);
    let mut bias = site.optional(2).filter(|_| beta != 0.0).cloned();
    let shape = [a.shape[0], b.shape[1]];
    if let Some(bias) = &mut bias {
        if broadcast(&bias.shape, &shape).as_deref() != Some(&shape) {
            return Err(site.refuse(format!("adds {:?} to {shape:?}, which it does not fit", bias.shape)));
        }
        if beta.to_bits() != 1f32.to_bits() {
            let scaled = Expr::Input(0) * Expr::Float(beta);
            *bias = builder.map(&bias.shape, std::slice::from_ref(&*bias), bias.datatype, scaled)?;
        }
    }
    let after = After { alpha: site.real("alpha", 1.0), bias: bias.as_ref(), activation: None };
    Ok(vec![product(builder, site, &a, &b, after)?])
}

fn fused(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let of = |at: usize, turn: &str, turn_batch: &str| {
        let value = site.input(at)?;
        if site.number(turn_batch, 0) != 0 {
            return Err(site.refuse(format!("has {turn_batch}")));
        }
        Ok(if site.number(turn, 0) != 0 { turned(value) } else { value.clone() })
    };
    let (a, b) = (of(0, "transA", "transBatchA")?, of(1, "transB", "transBatchB")?);
    multiplied(builder, site, &a, &b, After { alpha: site.real("alpha", 1.0), ..NOTHING })
}

/// A table of few bits as a node has it.
struct Table<'v> {
    numbers: &'v Value,
    scales: &'v Value,
    zeros: Option<&'v Value>,
    rows: usize,
    k: usize,
    block: usize,
}

fn packing(site: &Site<'_>) -> Result<Packing, LowerError> {
    match site.number("bits", 4) {
        2 => Ok(Packing::Two),
        4 => Ok(Packing::Four),
        8 => Ok(Packing::Eight),
        bits => Err(site.refuse(format!("has weights of {bits} bits; kernels have 2, 4 and 8"))),
    }
}

impl Table<'_> {
    fn blocks(&self) -> usize {
        self.k.div_ceil(self.block)
    }

    /// Zeros that are packed, or that are whole numbers and so can be; the others the caller takes care of.
    fn bits(&self, builder: &mut Builder, site: &Site<'_>) -> Result<Bits, LowerError> {
        let packing = packing(site)?;
        let (blocks, block) = (self.blocks(), self.block);
        if !block.is_power_of_two() || !(16..=256).contains(&block) {
            return Err(
                site.refuse(format!("has blocks of {block}; kernels have powers of two from 16 to 256"))
            );
        }
        let wanted = self.rows * blocks * packing.block_bytes(block);
        if self.numbers.len() != wanted || self.scales.len() != self.rows * blocks {
            let (numbers, scales) = (&self.numbers.shape, &self.scales.shape);
            return Err(site.refuse(format!(
                "has weights of {numbers:?} and scales of {scales:?} for {} rows of {}",
                self.rows, self.k
            )));
        }
        let computed = || site.refuse("has weights that are no constant bytes");
        let numbers = builder.bytes(self.numbers).ok_or_else(computed)?;
        let row = zero_bytes(blocks, packing);
        let zeros = match self.zeros {
            Some(zeros) if !zeros.is_float() => {
                if zeros.len() != self.rows * row {
                    return Err(site.refuse(format!("has zero points of {:?}", zeros.shape)));
                }
                Some(builder.bytes(zeros).ok_or_else(computed)?)
            }
            Some(zeros) => self.packed(builder, zeros, packing),
            None => None,
        };
        let scales = builder.dense(self.scales)?.slot;
        Ok(Bits { packing, block, numbers, scales, zeros })
    }

    /// Zeros that are given as floats and known here, in the bits of the numbers; nothing where one is no such number.
    fn packed(&self, builder: &mut Builder, zeros: &Value, packing: Packing) -> Option<Slot> {
        let Some(Host::F32(known)) = builder.known(zeros) else { return None };
        let bits = width(packing);
        let whole = |zero: &f32| {
            (zero.fract() == 0.0 && (0.0..f32::from(1u16 << bits)).contains(zero)).then_some(*zero as u8)
        };
        let whole: Vec<u8> = known.iter().map(whole).collect::<Option<_>>()?;
        let pack = |numbers: &[u8]| {
            numbers.iter().rev().fold(0u16, |byte, number| byte << bits | u16::from(*number)) as u8
        };
        let rows = whole.chunks(self.blocks()).flat_map(|row| row.chunks(8 / bits as usize).map(pack));
        let bytes: Vec<u8> = rows.collect();
        let shape = [bytes.len()];
        Some(builder.constant(Datatype::Uint8, &shape, Host::Bytes(bytes.into())).slot)
    }
}

fn width(packing: Packing) -> u32 {
    match packing {
        Packing::Two | Packing::Ternary => 2,
        Packing::Three => 3,
        Packing::Four => 4,
        Packing::Eight => 8,
    }
}

fn zero_bytes(blocks: usize, packing: Packing) -> usize {
    (blocks * width(packing) as usize).div_ceil(8)
}

fn bits(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let a = site.input(0)?;
    let size = |name: &str| site.size(site.number(name, 0));
    let (k, n, block) = (size("K")?, size("N")?, size("block_size")?);
    if site.optional(4).is_some() {
        return Err(site.refuse("has g_idx"));
    }
    if site.number("weight_prepacked", 0) != 0 {
        return Err(site.refuse("has weights that are packed for one provider"));
    }
    if a.shape.last() != Some(&k) || k == 0 || n == 0 || block == 0 {
        return Err(site.refuse(format!("multiplies {:?} with a matrix of {k} and {n}", a.shape)));
    }
    let mut shape = a.shape.clone();
    *shape.last_mut().expect("it has one") = n;
    if shape.contains(&0) {
        return builder.empty(a.datatype, &shape).map(|empty| vec![empty]);
    }
    let table =
        Table { numbers: site.input(1)?, scales: site.input(2)?, zeros: site.optional(3), rows: n, k, block };
    let weights = table.bits(builder, site)?;
    let a = builder.dense(a)?;
    let bias = match site.optional(5) {
        Some(bias) if bias.shape != [n] => {
            return Err(site.refuse(format!("adds a bias of {:?}", bias.shape)));
        }
        Some(bias) => Some(builder.dense(bias)?.slot),
        None => None,
    };
    let off = match table.zeros {
        Some(zeros) if weights.zeros.is_none() => Some(off_zero(builder, site, &table, zeros, &a)?),
        _ => None,
    };
    let output = builder.fresh(a.datatype, &shape)?;
    let call =
        MatMulBits { a: a.slot, weights, bias, output: output.slot, m: a.len() / k, k, n, activation: None };
    builder.emit(vec![Call::MatMulBits(call)], &output);
    let Some(off) = off else { return Ok(vec![output]) };
    let off = off.reshaped(&shape).expect("a product is dense");
    let datatype = output.datatype;
    Ok(vec![builder.map(&shape, &[output, off], datatype, Expr::Input(0) + Expr::Input(1))?])
}

/// What is missing where zeros are floats: `(q - zero) · scale` is `(q - middle) · scale` and `(middle - zero) · scale`, which
/// all numbers of a block have in common, so that it is multiplied with the block's sum.
fn off_zero(
    builder: &mut Builder,
    site: &Site<'_>,
    table: &Table<'_>,
    zeros: &Value,
    a: &Value,
) -> Result<Value, LowerError> {
    let (blocks, rows) = (table.blocks(), a.len() / table.k);
    if zeros.len() != table.rows * blocks {
        return Err(site.refuse(format!("has zero points of {:?}", zeros.shape)));
    }
    let middle = Expr::Float(f32::from(1u16 << (width(packing(site)?) - 1)));
    let by_row = [table.rows, blocks];
    let (zeros, scales) = (builder.reshape(zeros, &by_row)?, builder.reshape(table.scales, &by_row)?);
    let off = (middle - Expr::Input(0)) * Expr::Input(1);
    let off = builder.map(&by_row, &[zeros, scales], a.datatype, off)?;
    let a = a.reshaped(&[rows, table.k]).expect("it is dense");
    let filled = blocks * table.block - table.k;
    let padded = if filled > 0 {
        let zero = builder.floats(&[1, 1], vec![0.0]).expanded(&[rows, filled]);
        builder.concat(&[a, zero.typed(site.input(0)?.datatype)], 1)?
    } else {
        a
    };
    let sums = builder.fresh(padded.datatype, &[rows, blocks])?;
    let call = Reduce {
        op: ReduceOp::Sum,
        input: padded.slot,
        output: sums.slot,
        outer: rows * blocks,
        len: table.block,
        inner: 1,
    };
    builder.emit(vec![Call::Reduce(call)], &sums);
    product(builder, site, &sums, &turned(&off), NOTHING)
}

fn gather_bits(builder: &mut Builder, site: &Site<'_>) -> Result<Vec<Value>, LowerError> {
    let (data, indices, scales) = (site.input(0)?, site.input(1)?, site.input(2)?);
    let [rows, row_bytes] = data.shape[..] else {
        return Err(site.refuse(format!("gathers from {:?}; kernels from two dimensions", data.shape)));
    };
    if site.axis(site.number("gather_axis", 0), 2)? != 0
        || site.axis(site.number("quantize_axis", 1), 2)? != 1
    {
        return Err(site.refuse("gathers columns, or has blocks along the rows"));
    }
    if scales.shape.first() != Some(&rows) {
        return Err(site.refuse(format!("has scales of {:?} for {rows} rows", scales.shape)));
    }
    let packing = packing(site)?;
    let k = row_bytes * 8 / width(packing) as usize;
    let block = site.size(site.number("block_size", 128))?;
    if block == 0 || !k.is_multiple_of(block) {
        return Err(site.refuse(format!("has rows of {k}, which no blocks of {block} fill")));
    }
    let zeros = site.optional(3);
    if zeros.is_some_and(Value::is_float) {
        return Err(site.refuse("has zero points that are floats"));
    }
    let table = Table { numbers: data, scales, zeros, rows, k, block };
    let weights = table.bits(builder, site)?;
    let shape = [indices.shape.as_slice(), &[k]].concat();
    if shape.contains(&0) {
        return builder.empty(scales.datatype, &shape).map(|empty| vec![empty]);
    }
    let indices = builder.dense(indices)?;
    let output = builder.fresh(scales.datatype, &shape)?;
    let call =
        GatherBits { weights, indices: indices.slot, output: output.slot, rows, count: indices.len(), k };
    builder.emit(vec![Call::GatherBits(call)], &output);
    Ok(vec![output])
}
