//! A routine: the calls that compute a graph's outputs from its inputs, every size known.
//!
//! Whoever lowers graphs makes it, whoever writes programs for a host reads it; it says nothing of either.
//! Numbers are 32 bits wide: floats, or whole numbers, with 0 and 1 for what is false and true.
//! ONNX's 64-bit numbers are narrowed where they come in and widened where they go out, and one that does not fit is an
//! error there.

mod slots;

use bytes::Bytes;

use crate::domain::Datatype;

/// Dimensions that a map walks over, after neighbours that lie behind each other have become one.
pub const RANK_MAX: usize = 6;

/// Slots that one map reads: with its output, what every adapter can bind at once (WebGPU promises eight).
pub const MAP_INPUTS_MAX: usize = 6;

/// A value's place, by its index among the routine's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    F32,
    I32,
    /// Bytes as they lie in a file, read four at a time: weights of few bits.
    Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotInfo {
    pub element: Element,
    /// Elements; of `Bytes`, bytes. Never none: an empty tensor has no slot that a call reads.
    pub len: usize,
}

/// How a call's shape lies in a slot: element `i` is at `offset + Σ i[d] · strides[d]`.
/// Repeated dimensions have stride 0, reversed ones a negative stride.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub slot: Slot,
    pub offset: usize,
    pub strides: Vec<i64>,
}

#[derive(Clone, Debug, Default)]
pub struct Routine {
    pub slots: Vec<SlotInfo>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub weights: Vec<Weight>,
    pub states: Vec<State>,
    /// Run once after the weights are there; what they make stays.
    pub once: Vec<Call>,
    /// Run for every step.
    pub calls: Vec<Call>,
}

/// An input or an output, dense and row by row in its slot.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    /// As clients see it; the slot holds it as its own element.
    pub datatype: Datatype,
    pub shape: Vec<usize>,
    /// None for a tensor without elements, and for an input whose value the routine was made for.
    pub slot: Option<Slot>,
}

/// Rows that outlive a step, `outer × room × inner` floats: a cache that the graph takes as one input and gives as an
/// output. The first `rows` of each are the cache; those behind are the step's own.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The input's name.
    pub name: String,
    pub slot: Slot,
    pub outer: usize,
    pub rows: usize,
    pub room: usize,
    pub inner: usize,
}

/// What a slot holds before anything runs.
#[derive(Clone, Debug)]
pub struct Weight {
    pub slot: Slot,
    /// As the source has it; the host makes the slot's element of it.
    pub datatype: Datatype,
    pub source: Source,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Bytes(Bytes),
    /// In one of the model's files, by the name that the graph calls it; as many bytes as the slot's elements take.
    File {
        name: String,
        offset: u64,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Map(Map),
    Gather(Gather),
    Reduce(Reduce),
    Softmax(Softmax),
    Norm(Norm),
    MatMul(MatMul),
    MatMulBits(MatMulBits),
    GatherBits(GatherBits),
    Attention(Attention),
    Rotary(Rotary),
    Keep(Keep),
    Conv(Conv),
    Pool(Pool),
}

/// `output[i] = expr(inputs[0][i], inputs[1][i], …)` for all `i` in `shape`.
/// With one input and nothing done to it, a copy: what transposes, slices, repeats, pads and concatenates.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// At most `RANK_MAX` dimensions, none of which is 0; empty for a single element.
    pub shape: Vec<usize>,
    pub inputs: Vec<View>,
    /// Writes each element of its slot at most once.
    pub output: View,
    pub expr: Expr,
}

/// Computed per element. What is compared gives 0 or 1 of `I32`; what is selected by is `I32`.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    Input(usize),
    Float(f32),
    Int(i32),
    Unary(Unary, Box<Expr>),
    Binary(Binary, Box<Expr>, Box<Expr>),
    /// The second where the first is not 0, else the third.
    Select(Box<Expr>, Box<Expr>, Box<Expr>),
    /// Floats become whole numbers by cutting their fraction off; to a flag, everything but 0 is 1.
    Cast(To, Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum To {
    Float,
    Int,
    Flag,
}

/// Of floats, but for `Abs`, `Neg` and `Sign`, which whole numbers have too, and `Not`, which only flags have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    Abs,
    Neg,
    Sign,
    Not,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Floor,
    Ceil,
    /// To the nearest, halves to the even neighbour.
    Round,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Tanh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Sigmoid,
    Softplus,
    /// By `Erf`.
    Gelu,
    /// By `Tanh`.
    GeluTanh,
    Silu,
    Relu,
    IsNan,
    IsInf,
}

/// Both sides are floats, or both are whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    /// Whole numbers are divided towards zero; by 0 they give 0.
    Div,
    /// The remainder with the divisor's sign.
    Mod,
    /// The remainder with the dividend's sign.
    Fmod,
    Pow,
    Min,
    Max,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// Of flags.
    And,
    Or,
    Xor,
    /// Of whole numbers.
    BitAnd,
    BitOr,
    BitXor,
}

/// `output[o, i, n] = data[o, indices[i], n]`: `outer × count × inner` elements out of `outer × axis × inner`.
/// An index below 0 counts from the end; one that is out of range fails the step.
#[derive(Clone, Debug, PartialEq)]
pub struct Gather {
    pub data: Slot,
    pub indices: Slot,
    pub output: Slot,
    pub outer: usize,
    pub axis: usize,
    pub count: usize,
    pub inner: usize,
}

/// `output[o, n]` of `input[o, 0.., n]`: over the middle of `outer × len × inner`.
#[derive(Clone, Debug, PartialEq)]
pub struct Reduce {
    pub op: ReduceOp,
    pub input: Slot,
    pub output: Slot,
    pub outer: usize,
    pub len: usize,
    pub inner: usize,
}

/// Whole numbers have `Sum`, `Max`, `Min` and `Prod`; the places are whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    SumSquare,
    L1,
    L2,
    LogSumExp,
    /// The first place of the greatest.
    ArgMax,
    ArgMin,
}

/// Over the middle of `outer × len × inner`.
#[derive(Clone, Debug, PartialEq)]
pub struct Softmax {
    pub input: Slot,
    pub output: Slot,
    pub outer: usize,
    pub len: usize,
    pub inner: usize,
    /// The logarithm of it.
    pub log: bool,
}

/// Each of `rows` rows of `len`: `(x - mean) / sqrt(variance + epsilon) · scale + bias`, or `x / sqrt(mean(x²) + epsilon)
/// · scale`. With `skip`, `x` is `input + skip`, which `sum` keeps where somebody wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Norm {
    pub kind: NormKind,
    pub input: Slot,
    pub skip: Option<Slot>,
    pub scale: Option<Slot>,
    pub bias: Option<Slot>,
    pub output: Slot,
    pub sum: Option<Slot>,
    pub rows: usize,
    pub len: usize,
    pub epsilon: f32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    Layer,
    Rms,
}

/// `output[b, i, j] = activation(alpha · Σ_k a[b, i, k] · b[b, k, j] + bias[b, i, j])`, over every `b` in `batch`.
/// The views' strides are those of `batch`, then of the two of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMul {
    pub batch: Vec<usize>,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub a: View,
    pub b: View,
    pub bias: Option<View>,
    pub output: View,
    pub alpha: f32,
    pub activation: Option<Unary>,
}

/// A product with weights of few bits: `output[i, j] = activation(Σ_k a[i, k] · w[j, k] + bias[j])`, all dense.
/// `w[j, k] = (q[j, k] - zero[j, k / block]) · scales[j, k / block]`.
/// The numbers of a row of `w` lie in `ceil(k / block)` blocks of `block · bits / 8` bytes, the first in the lowest bits.
/// For 3 bits a block holds its numbers' lower two bits, `block / 4` bytes, then their highest, `block / 8`.
/// For ternary weights five lie in a byte, the first as its lowest digit to the base of three; a block has
/// `ceil(block / 5)` bytes, filled up to a multiple of four.
#[derive(Clone, Debug, PartialEq)]
pub struct MatMulBits {
    pub a: Slot,
    pub weights: Bits,
    pub bias: Option<Slot>,
    pub output: Slot,
    pub m: usize,
    pub k: usize,
    pub n: usize,
    pub activation: Option<Unary>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Bits {
    pub packing: Packing,
    pub block: usize,
    pub numbers: Slot,
    /// Floats, `rows × ceil(k / block)`.
    pub scales: Slot,
    /// Packed as the numbers are, each row from a byte of its own; else the middle of the range is zero, which for
    /// ternary weights is 1.
    pub zeros: Option<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    Two,
    Three,
    Four,
    Eight,
    /// -1, 0 and 1 as 0, 1 and 2.
    Ternary,
}

/// Rows of a table of few bits: `output[i, k] = w[indices[i], k]`, `count` rows of `k` out of `rows`.
#[derive(Clone, Debug, PartialEq)]
pub struct GatherBits {
    pub weights: Bits,
    pub indices: Slot,
    pub output: Slot,
    pub rows: usize,
    pub count: usize,
    pub k: usize,
}

/// `softmax(scale · q kᵀ + mask) v` for `batch` × `heads`; several heads of queries share one of keys where there are
/// fewer of these. Views are over `[batch, heads, rows, size]`, those of keys and values over their own heads and rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Attention {
    pub batch: usize,
    pub heads: usize,
    pub key_heads: usize,
    pub queries: usize,
    pub keys: usize,
    /// Of a query and a key.
    pub size: usize,
    /// Of a value.
    pub value_size: usize,
    pub q: View,
    pub k: View,
    pub v: View,
    /// Added to the scores; over `[batch, heads, queries, keys]`.
    pub mask: Option<View>,
    /// How many keys each of the batch has, whole numbers; else all.
    pub lengths: Option<Slot>,
    /// A query sees the keys up to its own place, the last query the last key that its batch has.
    /// Who sees none takes zeros.
    pub causal: bool,
    /// How many keys before its own a query sees, at most.
    pub window: Option<usize>,
    pub scale: f32,
    /// `softcap · tanh(score / softcap)` before the mask.
    pub softcap: Option<f32>,
    pub output: View,
}

/// Turns pairs of each row's first `turned` elements by the angles of its position; the others pass.
/// Views are over `[batch, heads, rows, size]`. `cos` and `sin` have `turned / 2` columns and a row per position.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    pub batch: usize,
    pub heads: usize,
    pub rows: usize,
    pub size: usize,
    pub turned: usize,
    pub input: View,
    pub output: View,
    pub cos: Slot,
    pub sin: Slot,
    /// Rows of `cos` and `sin`; a position beyond fails the step.
    pub positions_max: usize,
    /// Whole numbers, `[batch, rows]`; or one, from which rows count on, where there is only one.
    pub positions: Slot,
    pub positions_len: usize,
    /// Pairs are neighbours, not halves.
    pub interleaved: bool,
}

/// Writes a step's rows into a state, from the place on that the step says: `output[b, h, at + r, i] = input[b, h, r, i]`
/// for `batch × heads` of `room` rows of `size`.
#[derive(Clone, Debug, PartialEq)]
pub struct Keep {
    pub batch: usize,
    pub heads: usize,
    pub rows: usize,
    pub size: usize,
    /// Over `[batch, heads, rows, size]`.
    pub input: View,
    /// A whole number; rows that would lie beyond `rows_max` fail the step.
    pub at: Slot,
    pub rows_max: usize,
    pub output: Slot,
    pub room: usize,
}

/// Over `[batch, channels, height, width]`; with one dimension the height is 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv {
    pub input: Slot,
    /// `[outputs, inputs / groups, kernel…]`; transposed, `[inputs, outputs / groups, kernel…]`.
    pub weight: Slot,
    pub bias: Option<Slot>,
    pub output: Slot,
    pub batch: usize,
    pub inputs: usize,
    pub outputs: usize,
    pub groups: usize,
    pub window: Window,
    pub transposed: bool,
    pub activation: Option<Unary>,
}

/// Sizes and steps along height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    /// Before the first element; what lies behind the last follows from the output.
    pub pads: [i64; 2],
}

#[derive(Clone, Debug, PartialEq)]
pub struct Pool {
    pub op: PoolOp,
    pub input: Slot,
    pub output: Slot,
    /// Batch times channels.
    pub planes: usize,
    pub window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PoolOp {
    Max,
    /// Of the elements within the input.
    Mean,
    /// Of all, with zeros outside the input.
    MeanOfAll,
}

impl Routine {
    /// The slots that are read after the last call: by clients, or by the next step.
    pub fn lasting(&self) -> impl Iterator<Item = Slot> {
        let outputs = self.outputs.iter().filter_map(|port| port.slot);
        outputs.chain(self.states.iter().map(|state| state.slot))
    }
}

impl Packing {
    /// Bytes of a block of so many numbers.
    pub fn block_bytes(self, block: usize) -> usize {
        match self {
            Self::Two => block / 4,
            Self::Three => block / 4 + block / 8,
            Self::Four => block / 2,
            Self::Eight => block,
            Self::Ternary => block.div_ceil(5).next_multiple_of(4),
        }
    }
}
