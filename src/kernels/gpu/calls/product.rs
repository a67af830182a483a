//! Products of floats, by tiles or by rows.

use std::fmt::Write as _;

use super::{
    Site,
    rows::{Lie, shared, together},
    tile::{self, EACH, Operands},
};
use crate::kernels::{
    gpu::{expr, kernel::Kernel, tuning::Team},
    ir::{MatMul, Slot, Unary, View},
};

/// Rows up to which a product goes row by row, each reading the other operand as it lies.
pub(super) const ROWS_MAX: usize = 4;

/// What holds as many floats as rows.
pub(super) const KINDS: [&str; ROWS_MAX] = ["f32", "vec2<f32>", "vec3<f32>", "vec4<f32>"];

const GET_A: &str = "fn get_a(row: u32, k: u32) -> f32 {
    if (row >= p.m) {
        return 0.0;
    }
    return a[u32(a_at + i32(row) * p.a_row + i32(k) * p.a_column)];
}";

const GET_B: &str = "fn get_b(k: u32, column: u32) -> f32 {
    if (column >= p.n) {
        return 0.0;
    }
    return b[u32(b_at + i32(k) * p.b_row + i32(column) * p.b_column)];
}";

const A_FOUR: &str = "fn a_four(row: u32, k: u32) -> vec4<f32> {
    return a[u32(a_at + i32(row) * p.a_row) + k / 4u];
}";

/// Four along what is summed over.
const B_FOUR_DOWN: &str = "fn b_four(k: u32, column: u32) -> vec4<f32> {
    return b[u32(b_at + i32(column) * p.b_column) + k / 4u];
}";

/// Four columns; beyond the last it reads what is never stored.
const B_FOUR_ACROSS: &str = "fn b_four(k: u32, column: u32) -> vec4<f32> {
    return b[u32(b_at + i32(k) * p.b_row) + column / 4u];
}";

/// A matrix in a slot, or many of them.
#[derive(Clone, Debug)]
pub(super) struct Matrix {
    pub(super) slot: Slot,
    pub(super) offset: i64,
    /// From row to row, and from column to column.
    pub(super) row: i64,
    pub(super) column: i64,
    /// As many as the product has dimensions of batches.
    pub(super) batch: Vec<i64>,
}

impl Matrix {
    fn of(view: &View) -> Self {
        let (batch, own) = view.strides.split_at(view.strides.len() - 2);
        Self {
            slot: view.slot,
            offset: view.offset as i64,
            row: own[0],
            column: own[1],
            batch: batch.to_vec(),
        }
    }

    fn transpose(&mut self) {
        std::mem::swap(&mut self.row, &mut self.column);
    }

    /// Whether it can be read by four along a stride of 1, with this for the other stride.
    fn by_fours(&self, other: i64) -> bool {
        [self.offset, other].iter().chain(&self.batch).all(|stride| stride % 4 == 0)
    }

    fn write(&self, kernel: &mut Kernel, name: &str, unit: i64) {
        kernel.int(&format!("{name}_offset"), self.offset / unit);
        kernel.int(&format!("{name}_row"), self.row / unit);
        kernel.int(&format!("{name}_column"), self.column / unit);
        for (at, stride) in self.batch.iter().enumerate() {
            kernel.int(&format!("{name}_s{at}"), stride / unit);
        }
    }
}

/// `output = activation(alpha · a b + bias)`, so many times.
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) batch: Vec<usize>,
    pub(super) m: usize,
    pub(super) k: usize,
    pub(super) n: usize,
    pub(super) a: Matrix,
    pub(super) b: Matrix,
    pub(super) bias: Option<Matrix>,
    pub(super) output: Matrix,
    pub(super) alpha: f32,
    pub(super) activation: Option<Unary>,
}

pub(super) fn matmul(call: &MatMul, site: &Site<'_>) -> Kernel {
    let product = Product {
        batch: call.batch.clone(),
        m: call.m,
        k: call.k,
        n: call.n,
        a: Matrix::of(&call.a),
        b: Matrix::of(&call.b),
        bias: call.bias.as_ref().map(Matrix::of),
        output: Matrix::of(&call.output),
        alpha: call.alpha,
        activation: call.activation,
    };
    kernel(product, site)
}

pub(super) fn kernel(mut product: Product, site: &Site<'_>) -> Kernel {
    product.simplify();
    if product.m <= ROWS_MAX { vector(&product, site) } else { tiled(&product, site) }
}

impl Product {
    fn matrices(&mut self) -> impl Iterator<Item = &mut Matrix> {
        [&mut self.a, &mut self.b, &mut self.output].into_iter().chain(&mut self.bias)
    }

    /// The same product with as few dimensions of batches as can be, and with few rows rather than few columns.
    fn simplify(&mut self) {
        for at in (0..self.batch.len()).rev() {
            if self.batch[at] == 1 || self.fold(at) {
                self.batch.remove(at);
                self.matrices().for_each(|matrix| {
                    matrix.batch.remove(at);
                });
            }
        }
        for at in (1..self.batch.len()).rev() {
            let size = self.batch[at] as i64;
            if self.matrices().all(|matrix| matrix.batch[at - 1] == matrix.batch[at] * size) {
                self.batch[at - 1] *= self.batch.remove(at);
                self.matrices().for_each(|matrix| {
                    matrix.batch.remove(at - 1);
                });
            }
        }
        if self.n <= ROWS_MAX && self.m > self.n {
            std::mem::swap(&mut self.a, &mut self.b);
            std::mem::swap(&mut self.m, &mut self.n);
            self.matrices().for_each(Matrix::transpose);
        }
    }

    /// Makes rows of a dimension of batches over which the other operand is the same.
    fn fold(&mut self, at: usize) -> bool {
        let (m, size) = (self.m, self.batch[at]);
        let behind = |matrix: &Matrix| matrix.batch[at] == matrix.row * m as i64;
        let all = [Some(&self.a), Some(&self.output), self.bias.as_ref()].into_iter().flatten().all(behind);
        if self.b.batch[at] != 0 || (m != 1 && !all) {
            return false;
        }
        if m == 1 {
            for matrix in
                [Some(&mut self.a), Some(&mut self.output), self.bias.as_mut()].into_iter().flatten()
            {
                matrix.row = matrix.batch[at];
            }
        }
        self.m *= size;
        true
    }

    fn batches(&self) -> usize {
        self.batch.iter().product()
    }

    /// The functions by which operands are read and written, and what they need; `access` reads `a` and `b`.
    fn source(&self, access: [&str; 2]) -> String {
        let mut batch = String::new();
        let mut bias_at = "";
        let mut names = vec!["a", "b", "output"];
        if self.bias.is_some() {
            names.push("bias");
            bias_at = "var<private> bias_at: i32;\n";
            batch.push_str("    bias_at = p.bias_offset;\n");
        }
        if !self.batch.is_empty() {
            batch.push_str("    var rest = batch;\n");
        }
        for at in (0..self.batch.len()).rev() {
            write!(batch, "    let i{at} = i32(rest % p.batch{at});\n    rest = rest / p.batch{at};\n")
                .expect("a text takes everything");
            for name in &names {
                writeln!(batch, "    {name}_at = {name}_at + i{at} * p.{name}_s{at};")
                    .expect("a text takes everything");
            }
        }
        let bias = " + bias[u32(bias_at + i32(row) * p.bias_row + i32(column) * p.bias_column)]";
        let parts = [
            ("BIAS_AT", bias_at),
            ("BATCH", batch.trim_end()),
            ("ACCESS", &access.join("\n\n")),
            ("BIAS", if self.bias.is_some() { bias } else { "" }),
            ("ACTIVATION", &expr::activation(self.activation)),
        ];
        crate::kernels::gpu::text::fill(include_str!("../wgsl/product.wgsl"), &parts)
    }

    /// Parameters and buffers; the operands are read by so many at once.
    fn bind(&self, kernel: &mut Kernel, [a, b]: [i64; 2]) {
        kernel.count("m", self.m);
        kernel.count("k", self.k);
        kernel.count("n", self.n);
        kernel.float("alpha", self.alpha);
        for (at, size) in self.batch.iter().enumerate() {
            kernel.count(&format!("batch{at}"), *size);
        }
        let kind = |unit| if unit == 4 { "vec4<f32>" } else { "f32" };
        self.a.write(kernel, "a", a);
        self.b.write(kernel, "b", b);
        self.output.write(kernel, "output", 1);
        kernel.reads("a", kind(a), self.a.slot);
        kernel.reads("b", kind(b), self.b.slot);
        if let Some(bias) = &self.bias {
            bias.write(kernel, "bias", 1);
            kernel.reads("bias", "f32", bias.slot);
        }
        kernel.writes("output", "f32", self.output.slot);
    }

    /// Whether columns of `b` can be read by four.
    fn across_by_fours(&self) -> bool {
        self.b.column == 1 && self.n.is_multiple_of(4) && self.b.by_fours(self.b.row)
    }

    fn along_by_fours(&self) -> bool {
        let row = if self.m == 1 { 0 } else { self.a.row };
        self.k.is_multiple_of(4)
            && self.a.column == 1
            && self.a.by_fours(row)
            && self.b.by_fours(self.b.column)
    }
}

fn tiled(product: &Product, site: &Site<'_>) -> Kernel {
    let sizes = [product.m, product.n, product.batches()];
    let tile = site.tuning.tile(sizes[0], sizes[1], sizes[2]);
    let fours = product.across_by_fours();
    let operands = Operands {
        source: product.source([GET_A, if fours { B_FOUR_ACROSS } else { GET_B }]),
        four_b: if fours { "b_four(k, column)" } else { EACH },
        along: [product.a.column == 1, product.b.column != 1],
    };
    let mut kernel = tile::kernel("product by tiles", operands, tile, sizes);
    product.bind(&mut kernel, [1, if fours { 4 } else { 1 }]);
    kernel
}

fn vector(product: &Product, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("product by rows", include_str!("../wgsl/vector.wgsl"));
    let rows = |of: &dyn Fn(usize) -> String| (0..product.m).map(of).collect::<Vec<_>>().join(", ");
    let kind = KINDS[product.m - 1];
    let columns = product.n * product.batches();
    let down = product.b.row == 1 && (product.b.column != 1 || product.n == 1);
    if down {
        let fours = product.along_by_fours();
        let unit = if fours { 4 } else { 1 };
        let team = site.tuning.dots(columns, product.k.div_ceil(unit));
        let (access, add) = if fours {
            let dots = rows(&|row| format!("dot(a_four({row}u, k), w)"));
            let add = format!("        let w = b_four(k, column);\n        sum = sum + {kind}({dots});");
            ([A_FOUR, B_FOUR_DOWN], add)
        } else {
            ([GET_A, GET_B], each(kind, &rows))
        };
        let source = product.source(access);
        write(&mut kernel, product, &Way { source, team, lie: Lie::Beside, unit, width: 1, kind, add });
        product.bind(&mut kernel, [unit as i64, unit as i64]);
        return kernel;
    }
    let fours = product.m == 1 && product.across_by_fours();
    let width = if fours { 4 } else { 1 };
    let team = site.tuning.sums(columns / width, product.k, fours);
    let (access, kind, add) = if fours {
        (
            [GET_A, B_FOUR_ACROSS],
            "vec4<f32>",
            "        sum = sum + get_a(0u, k) * b_four(k, column);".to_owned(),
        )
    } else {
        ([GET_A, GET_B], kind, each(kind, &rows))
    };
    let source = product.source(access);
    write(&mut kernel, product, &Way { source, team, lie: Lie::Apart, unit: 1, width, kind, add });
    product.bind(&mut kernel, [1, width as i64]);
    kernel
}

fn each(kind: &str, rows: &dyn Fn(&dyn Fn(usize) -> String) -> String) -> String {
    let a = rows(&|row| format!("get_a({row}u, k)"));
    format!("        sum = sum + {kind}({a}) * get_b(k, column);")
}

/// How the threads of a product by rows go.
struct Way<'w> {
    source: String,
    team: Team,
    lie: Lie,
    /// Elements along what is summed over, and columns, that a thread takes at once.
    unit: usize,
    width: usize,
    kind: &'w str,
    add: String,
}

fn write(kernel: &mut Kernel, product: &Product, way: &Way<'_>) {
    let Team { team, .. } = way.team;
    let each = product.n / way.width;
    kernel.count("columns", each * product.batches());
    kernel.count("columns_each", each);
    let (own, member) = match way.lie {
        Lie::Beside => (format!("lane / {team}u"), format!("lane % {team}u")),
        Lie::Apart => {
            let teams = way.team.teams();
            (format!("lane % {teams}u"), format!("lane / {teams}u"))
        }
    };
    let parts = ["x", "y", "z", "w"];
    let set = |at: usize| {
        let (row, column) = if way.width == 1 { (at, 0) } else { (0, at) };
        let part = if way.kind == "f32" { String::new() } else { format!(".{}", parts[at]) };
        format!("        set_one({row}u, column + {column}u, whole{part});")
    };
    let count = if way.width == 1 { product.m } else { way.width };
    kernel.part("OPERANDS", way.source.as_str());
    kernel.part("TOTAL", together("total", way.kind, "return a + b;", way.team, way.lie));
    kernel.part("OWN", own);
    kernel.part("MEMBER", member);
    kernel.part("WIDTH", way.width.to_string());
    kernel.part("UNIT", way.unit.to_string());
    kernel.part("STRIDE", (way.unit * team as usize).to_string());
    kernel.part("KIND", way.kind);
    kernel.part("ADD", way.add.as_str());
    kernel.part("SET", (0..count).map(set).collect::<Vec<_>>().join("\n"));
    shared(kernel, each * product.batches(), way.team);
}
