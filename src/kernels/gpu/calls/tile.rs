//! Products by tiles: a group computes a tile of the output, out of tiles of both operands in shared memory.

use crate::kernels::gpu::{kernel::Kernel, tuning::Tile};

/// What is multiplied: the functions `place`, `get_a` and `set_one`, and how four columns of the other operand are had.
pub(super) struct Operands {
    pub(super) source: String,
    pub(super) four_b: &'static str,
    /// Whether neighbours along what is summed over lie behind each other, of both.
    pub(super) along: [bool; 2],
}

/// Four columns by `get_b`.
pub(super) const EACH: &str =
    "vec4<f32>(get_b(k, column), get_b(k, column + 1u), get_b(k, column + 2u), get_b(k, column + 3u))";

const PARTS: [&str; 4] = ["x", "y", "z", "w"];

/// A kernel without its buffers; `k`, `m` and `n` are parameters that the operands bring.
pub(super) fn kernel(
    name: &'static str,
    operands: Operands,
    tile: Tile,
    [m, n, batch]: [usize; 3],
) -> Kernel {
    let mut kernel = Kernel::new(name, include_str!("../wgsl/tile.wgsl"));
    let (tiles_m, tiles_n) = (m.div_ceil(tile.height() as usize), n.div_ceil(tile.width() as usize));
    let tiles = tiles_m * tiles_n * batch;
    kernel.count("tiles", tiles);
    kernel.count("tiles_m", tiles_m);
    kernel.count("tiles_n", tiles_n);
    kernel.groups = tiles as u64;
    kernel.part("OPERANDS", operands.source);
    kernel.part("FOUR_B", operands.four_b);
    let mut number = |name, number: u32| kernel.part(name, number.to_string());
    let (rows, columns, depth) = (tile.height() / 4, tile.width() / 4, tile.depth);
    number("LEN_A", tile.pitch() * depth);
    number("LEN_B", columns * depth);
    number("PITCH_A", tile.pitch());
    number("PITCH_B", columns);
    number("FOURS_A", rows * depth);
    number("FOURS_B", columns * depth);
    number("THREADS", tile.threads());
    number("ACROSS", tile.across);
    number("ROWS", tile.height());
    number("COLUMNS", tile.width());
    number("DEPTH", depth);
    let [(a_k, a_row), (b_k, b_column)] =
        [(operands.along[0], rows), (operands.along[1], columns)].map(|(along, others)| {
            if along {
                (format!("e % {depth}u"), format!("e / {depth}u"))
            } else {
                (format!("e / {others}u"), format!("e % {others}u"))
            }
        });
    kernel.part("A_K", a_k);
    kernel.part("A_ROW", a_row);
    kernel.part("B_K", b_k);
    kernel.part("B_COLUMN", b_column);
    kernel.part("ZERO", zero(tile));
    kernel.part("MULTIPLY", multiply(tile));
    kernel.part("STORE", store(tile));
    kernel
}

/// The rows and the fours of columns that a thread has, by number.
fn sums(tile: Tile) -> impl Iterator<Item = (u32, u32)> {
    (0..tile.rows * 4).flat_map(move |row| (0..tile.columns).map(move |column| (row, column)))
}

fn zero(tile: Tile) -> String {
    let lines = sums(tile).map(|(row, column)| format!("    var c{row}_{column} = vec4<f32>();"));
    lines.collect::<Vec<_>>().join("\n")
}

fn multiply(tile: Tile) -> String {
    let a = (0..tile.rows).map(|four| {
        format!("            let a{four} = tile_a[k * {}u + {}u + ty];", tile.pitch(), four * tile.down)
    });
    let b = (0..tile.columns).map(|four| {
        format!("            let b{four} = tile_b[k * {}u + {}u + tx];", tile.width() / 4, four * tile.across)
    });
    let sums = sums(tile).map(|(row, column)| {
        let (four, part) = (row / 4, PARTS[row as usize % 4]);
        format!("            c{row}_{column} = c{row}_{column} + a{four}.{part} * b{column};")
    });
    a.chain(b).chain(sums).collect::<Vec<_>>().join("\n")
}

fn store(tile: Tile) -> String {
    let lines = sums(tile).map(|(row, column)| {
        let (four, part) = (row / 4, row % 4);
        let row_at = format!("row0 + ({}u + ty) * 4u + {part}u", four * tile.down);
        let column_at = format!("column0 + ({}u + tx) * 4u", column * tile.across);
        format!("    store({row_at}, {column_at}, c{row}_{column});")
    });
    lines.collect::<Vec<_>>().join("\n")
}
