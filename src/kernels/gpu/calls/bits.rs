//! Products with weights of few bits, and rows of tables of them.

use super::{
    Site,
    product::{KINDS, ROWS_MAX},
    rows::{Lie, together},
    tile::{self, EACH, Operands},
};
use crate::kernels::{
    gpu::{expr, kernel::Kernel, text, tuning::Team},
    ir::{Bits, GatherBits, MatMulBits, Packing},
};

/// How the number at `at` is had of bytes that begin at `first`, and at `other` for what lies apart.
fn number(packing: Packing) -> &'static str {
    match packing {
        Packing::Two => "({{NAME}}_byte(first + at / 4u) >> (at % 4u * 2u)) & 3u",
        Packing::Three => {
            "(({{NAME}}_byte(first + at / 4u) >> (at % 4u * 2u)) & 3u) | \
             ((({{NAME}}_byte(other + at / 8u) >> (at % 8u)) & 1u) << 2u)"
        }
        Packing::Four => "({{NAME}}_byte(first + at / 2u) >> (at % 2u * 4u)) & 15u",
        Packing::Eight => "{{NAME}}_byte(first + at)",
        Packing::Ternary => "digit_of({{NAME}}_byte(first + at / 5u), at % 5u)",
    }
}

/// What is zero where nothing says so.
fn middle(packing: Packing) -> &'static str {
    match packing {
        Packing::Two => "2.0",
        Packing::Three => "4.0",
        Packing::Four => "8.0",
        Packing::Eight => "128.0",
        Packing::Ternary => "1.0",
    }
}

fn packed(packing: Packing, name: &str) -> String {
    text::fill(include_str!("../wgsl/packed.wgsl"), &[("NUMBER", number(packing)), ("NAME", name)])
}

/// The function that gives a block's zero, where zeros are given.
fn zeros(bits: &Bits) -> String {
    if bits.zeros.is_none() {
        return String::new();
    }
    format!("{}\n{}", packed(bits.packing, "zeros"), include_str!("../wgsl/bits_zero.wgsl"))
}

/// The function that gives a weight by its row and its place in it.
fn weight(bits: &Bits) -> String {
    let zero = if bits.zeros.is_some() { "zero_of(row, block)" } else { middle(bits.packing) };
    let (numbers, zeros) = (packed(bits.packing, "numbers"), zeros(bits));
    let parts = [("NUMBERS", numbers.as_str()), ("ZEROS", &zeros), ("ZERO", zero)];
    text::fill(include_str!("../wgsl/bits.wgsl"), &parts)
}

/// Parameters of `rows` rows of `k` weights.
fn sizes(kernel: &mut Kernel, bits: &Bits, rows: usize, k: usize, site: &Site<'_>) {
    let blocks = k.div_ceil(bits.block);
    let block_bytes = bits.packing.block_bytes(bits.block);
    kernel.count("block", bits.block);
    kernel.count("blocks", blocks);
    kernel.count("block_bytes", block_bytes);
    kernel.count("row_bytes", blocks * block_bytes);
    if let Some(zeros) = bits.zeros {
        kernel.count("zero_bytes", site.len(zeros) / rows);
        // A row of zeros is packed as a block of as many, filled up to whole bytes.
        kernel.count("zero_other", blocks.next_multiple_of(8) / 4);
    }
}

fn bind(kernel: &mut Kernel, bits: &Bits) {
    kernel.reads("numbers", "u32", bits.numbers);
    kernel.reads("scales", "f32", bits.scales);
    if let Some(zeros) = bits.zeros {
        kernel.reads("zeros", "u32", zeros);
    }
}

pub(super) fn gather(call: &GatherBits, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("gather of few bits", "{{WEIGHT}}\n{{MAIN}}");
    let len = call.count * call.k;
    kernel.part("WEIGHT", weight(&call.weights));
    kernel.part("MAIN", include_str!("../wgsl/bits_gather.wgsl"));
    kernel.count("len", len);
    kernel.count("k", call.k);
    kernel.int("rows", call.rows as i64);
    sizes(&mut kernel, &call.weights, call.rows, call.k, site);
    bind(&mut kernel, &call.weights);
    kernel.reads("indices", "i32", call.indices);
    kernel.faults();
    kernel.writes("output", "f32", call.output);
    kernel.threads(len, site.tuning.flat);
    kernel
}

pub(super) fn matmul(call: &MatMulBits, site: &Site<'_>) -> Kernel {
    match Unit::of(&call.weights) {
        Some(unit) if call.m <= ROWS_MAX => vector(call, unit, site),
        _ => tiled(call, site),
    }
}

fn bias(call: &MatMulBits) -> &'static str {
    if call.bias.is_some() { " + bias[column]" } else { "" }
}

/// What both kinds of product are given, the buffers in the call's order.
fn operands(kernel: &mut Kernel, call: &MatMulBits, fours: bool, site: &Site<'_>) {
    kernel.count("m", call.m);
    kernel.count("k", call.k);
    kernel.count("n", call.n);
    sizes(kernel, &call.weights, call.n, call.k, site);
    kernel.reads("a", if fours { "vec4<f32>" } else { "f32" }, call.a);
    bind(kernel, &call.weights);
    if let Some(bias) = call.bias {
        kernel.reads("bias", "f32", bias);
    }
    kernel.writes("output", "f32", call.output);
}

fn tiled(call: &MatMulBits, site: &Site<'_>) -> Kernel {
    let parts = [("BIAS", bias(call)), ("ACTIVATION", &expr::activation(call.activation))];
    let main = text::fill(include_str!("../wgsl/bits_tile.wgsl"), &parts);
    let source = format!("{}\n{main}", weight(&call.weights));
    let tile = site.tuning.tile(call.m, call.n, 1);
    let tiled = Operands { source, four_b: EACH, along: [true, true] };
    let mut kernel = tile::kernel("product of few bits by tiles", tiled, tile, [call.m, call.n, 1]);
    operands(&mut kernel, call, false, site);
    kernel
}

/// What a thread unpacks at once: so many numbers that lie in whole words.
#[derive(Clone, Copy)]
struct Unit {
    packing: Packing,
    numbers: usize,
}

impl Unit {
    /// None where blocks do not begin at words or hold no whole units.
    fn of(bits: &Bits) -> Option<Self> {
        let packing = bits.packing;
        let numbers = match packing {
            Packing::Two => 16,
            Packing::Three => 32,
            Packing::Four => 8,
            Packing::Eight => 4,
            // The last one of a block holds fewer.
            Packing::Ternary => 20,
        };
        let whole = if packing == Packing::Ternary { 4 } else { numbers };
        bits.block.is_multiple_of(whole).then_some(Self { packing, numbers })
    }

    fn count(self, bits: &Bits, k: usize) -> usize {
        match self.packing {
            Packing::Ternary => k.div_ceil(bits.block) * (self.packing.block_bytes(bits.block) / 4),
            _ => k.div_ceil(self.numbers),
        }
    }

    /// Where a unit stands: its first number, its block, and where numbers end that count.
    fn stands(self) -> String {
        match self.packing {
            Packing::Ternary => "        let block = unit / (p.block_bytes / 4u);
        let k = block * p.block + unit % (p.block_bytes / 4u) * 20u;
        let limit = min(p.k, (block + 1u) * p.block);"
                .to_owned(),
            _ => format!(
                "        let k = unit * {}u;\n        let block = k / p.block;\n        let limit = p.k;",
                self.numbers
            ),
        }
    }

    /// The words of the unit in a column's row.
    fn words(self, column: u32) -> String {
        let row = format!("c{column} * (p.row_bytes / 4u)");
        match self.packing {
            Packing::Three => format!(
                "        let at{column} = {row} + block * (p.block_bytes / 4u);
        let part{column} = unit % (p.block / 32u);
        let w{column} = vec2<u32>(numbers[at{column} + 2u * part{column}], numbers[at{column} + 2u * part{column} + 1u]);
        let h{column} = numbers[at{column} + p.block / 16u + part{column}];"
            ),
            _ => format!("        let w{column} = numbers[{row} + unit];"),
        }
    }

    /// Four of the unit's numbers, by which four they are.
    fn four(self, four: u32, column: u32) -> String {
        let shifts = |first: u32, step: u32| {
            let shifts = (0..4).map(|at| format!("{}u", first + at * step)).collect::<Vec<_>>();
            format!("vec4<u32>({})", shifts.join(", "))
        };
        let low = |word: &str, first, step, mask| {
            format!("(vec4<u32>({word}) >> {}) & vec4<u32>({mask}u)", shifts(first, step))
        };
        let word = format!("w{column}");
        match self.packing {
            Packing::Two => low(&word, four * 8, 2, 3),
            Packing::Four => low(&word, four * 16, 4, 15),
            Packing::Eight => low(&word, 0, 8, 255),
            Packing::Three => {
                let half = if four < 4 { "x" } else { "y" };
                let lower = low(&format!("{word}.{half}"), four % 4 * 8, 2, 3);
                let upper = low(&format!("h{column}"), four * 4, 1, 1);
                format!("({lower}) | (({upper}) << vec4<u32>(2u))")
            }
            Packing::Ternary => {
                let digit = |at: u32| {
                    let number = four * 4 + at;
                    format!("(({word} >> {}u) & 255u) / {}u % 3u", number / 5 * 8, 3u32.pow(number % 5))
                };
                format!("vec4<u32>({})", (0..4).map(digit).collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn vector(call: &MatMulBits, unit: Unit, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("product of few bits by rows", include_str!("../wgsl/bits_vector.wgsl"));
    let units = unit.count(&call.weights, call.k);
    let columns = site.tuning.columns(call.n);
    let teams = call.n.div_ceil(columns as usize);
    let team = site.tuning.dots(teams, units);
    let fours = call.k.is_multiple_of(4);
    kernel.count("units", units);
    operands(&mut kernel, call, fours, site);
    let kind = KINDS[call.m - 1];
    kernel.part("ZEROS", zeros(&call.weights));
    kernel.part("A", if fours { A_BY_FOURS } else { A_ONE_BY_ONE });
    kernel.part("BIAS", bias(call));
    kernel.part("ACTIVATION", expr::activation(call.activation));
    kernel.part("COLUMNS", columns.to_string());
    let of_column = |line: &dyn Fn(u32) -> String| (0..columns).map(line).collect::<Vec<_>>().join("\n");
    kernel.part(
        "ROWS",
        of_column(&|at| {
            format!("    let c{at} = min(column + {at}u, p.n - 1u);\n    var sum{at} = {kind}();")
        }),
    );
    kernel.part("ADD", add(call, unit, columns));
    let set = set(call.m, columns, team, &mut kernel);
    kernel.part("SET", set);
    kernel.part("TEAM", team.team.to_string());
    kernel.part("TEAMS", team.teams().to_string());
    kernel.threads(teams * team.team as usize, team.size);
    kernel
}

const A_BY_FOURS: &str = "fn a_four(row: u32, k: u32, limit: u32) -> vec4<f32> {
    if (k >= limit) {
        return vec4<f32>();
    }
    return a[(row * p.k + k) / 4u];
}";

const A_ONE_BY_ONE: &str = "fn a_one(row: u32, k: u32, limit: u32) -> f32 {
    if (k >= limit) {
        return 0.0;
    }
    return a[row * p.k + k];
}

fn a_four(row: u32, k: u32, limit: u32) -> vec4<f32> {
    return vec4<f32>(
        a_one(row, k, limit),
        a_one(row, k + 1u, limit),
        a_one(row, k + 2u, limit),
        a_one(row, k + 3u, limit),
    );
}";

/// What a thread adds of a unit: each four of it with each row, for every column.
fn add(call: &MatMulBits, unit: Unit, columns: u32) -> String {
    let kind = KINDS[call.m - 1];
    let mut lines = vec![unit.stands()];
    for column in 0..columns {
        lines.push(unit.words(column));
        let zero = match call.weights.zeros {
            Some(_) => format!("zero_of(c{column}, block)"),
            None => middle(unit.packing).to_owned(),
        };
        lines.push(format!("        let zero{column} = {zero};\n        var add{column} = {kind}();"));
    }
    for four in 0..unit.numbers as u32 / 4 {
        for row in 0..call.m {
            lines.push(format!("        let x{four}_{row} = a_four({row}u, k + {}u, limit);", four * 4));
        }
        for column in 0..columns {
            let dots =
                (0..call.m).map(|row| format!("dot(n{four}_{column}, x{four}_{row})")).collect::<Vec<_>>();
            lines.push(format!(
                "        let n{four}_{column} = floats({}, zero{column});\n        add{column} = add{column} + {kind}({});",
                unit.four(four, column),
                dots.join(", ")
            ));
        }
    }
    for column in 0..columns {
        let scale = format!("scales[c{column} * p.blocks + block]");
        lines.push(format!("        sum{column} = sum{column} + add{column} * {scale};"));
    }
    lines.join("\n")
}

/// How the sums of a team's threads come together: those of all columns at once where there is one row.
fn set(m: usize, columns: u32, team: Team, kernel: &mut Kernel) -> String {
    let parts = ["x", "y", "z", "w"];
    let join = "return a + b;";
    let mut lines = Vec::new();
    let mut stores = Vec::new();
    if m == 1 {
        let kind = KINDS[columns as usize - 1];
        kernel.part("TOTAL", together("total", kind, join, team, Lie::Beside));
        let sums = (0..columns).map(|column| format!("sum{column}")).collect::<Vec<_>>().join(", ");
        lines.push(format!("    let whole = total({kind}({sums}), lane);"));
        for column in 0..columns {
            stores
                .push(format!("        set_one(0u, column + {column}u, whole.{});", parts[column as usize]));
        }
    } else {
        kernel.part("TOTAL", together("total", KINDS[m - 1], join, team, Lie::Beside));
        for column in 0..columns {
            lines.push(format!("    let whole{column} = total(sum{column}, lane);"));
            for (row, part) in parts.iter().enumerate().take(m) {
                stores.push(format!("        set_one({row}u, column + {column}u, whole{column}.{part});"));
            }
        }
    }
    format!("{}\n    if (member == 0u) {{\n{}\n    }}", lines.join("\n"), stores.join("\n"))
}
