//! Attention: a group takes a few rows of queries through their keys, some at a time, and keeps the shares' sum as it goes.

use super::{
    Site, by_fours,
    rows::{Lie, together},
};
use crate::kernels::{
    gpu::{GpuError, kernel::Kernel, tuning::Team},
    ir::{Attention, View},
};

const PARTS: [&str; 4] = ["x", "y", "z", "w"];

/// How what belongs to the rows of a group is held: one row, or four side by side.
#[derive(Clone, Copy)]
struct Rows {
    count: usize,
}

impl Rows {
    fn kind(self) -> &'static str {
        if self.count == 4 { "vec4<f32>" } else { "f32" }
    }

    /// A value made of one for each row, whose place is `row` and on.
    fn each(self, kind: &str, one: impl Fn(&str) -> String) -> String {
        if self.count == 1 {
            return one("row");
        }
        let all: Vec<String> = (0..self.count).map(|at| one(&format!("row + {at}u"))).collect();
        format!("{kind}({})", all.join(", "))
    }

    /// A row's part of a value.
    fn part(self, value: &str, at: usize) -> String {
        if self.count == 1 { value.to_owned() } else { format!("{value}.{}", PARTS[at]) }
    }

    /// The least or the greatest of a value's parts.
    fn extreme(self, function: &str, value: &str) -> String {
        (1..self.count)
            .fold(self.part(value, 0), |sum, at| format!("{function}({sum}, {})", self.part(value, at)))
    }
}

pub(super) fn attention(call: &Attention, site: &Site<'_>) -> Result<Kernel, GpuError> {
    let size = site.tuning.keys;
    let share = call.heads / call.key_heads;
    let rows = share * call.queries;
    // The queries, their shares, and what the threads come together by.
    let bytes = |count: usize| (call.size + 3 * size as usize) as u64 * 4 * count as u64;
    let most = u64::from(site.limits.workgroup_bytes);
    let rows_each = Rows { count: if rows > 1 && bytes(4) <= most { 4 } else { 1 } };
    if bytes(rows_each.count) > most {
        let what = "attention's queries in shared memory".to_owned();
        return Err(GpuError::Limit { what, needed: bytes(1), most });
    }
    let mut kernel = Kernel::new("attention", include_str!("../wgsl/attention.wgsl"));
    let blocks = rows.div_ceil(rows_each.count);
    kernel.count("rows", rows);
    kernel.count("blocks", blocks);
    kernel.count("share", share);
    kernel.count("queries", call.queries);
    kernel.count("keys", call.keys);
    kernel.count("key_heads", call.key_heads);
    kernel.count("value_size", call.value_size);
    kernel.count("groups", blocks * call.key_heads * call.batch);
    kernel.float("scale", call.scale);
    let fours = by_fours(&call.k, call.size);
    bind(&mut kernel, call, fours);
    kernel.groups = (blocks * call.key_heads * call.batch) as u64;
    steps(&mut kernel, call, rows_each, fours);
    values(&mut kernel, call, rows_each, size);
    let team = Team { size, team: size };
    kernel.part("MOST", together("most", rows_each.kind(), "return max(a, b);", team, Lie::Beside));
    kernel.part("TOTAL", together("total", rows_each.kind(), "return a + b;", team, Lie::Beside));
    kernel.part("KIND", rows_each.kind());
    kernel.part("ROWS", rows_each.count.to_string());
    kernel.part("DIM", call.size.to_string());
    kernel.part("SIZE", size.to_string());
    Ok(kernel)
}

fn bind(kernel: &mut Kernel, call: &Attention, fours: bool) {
    let fourth = |view: &View| View {
        slot: view.slot,
        offset: view.offset / 4,
        strides: view.strides.iter().map(|stride| stride / 4).collect(),
    };
    kernel.view("q", &call.q);
    kernel.view("k", &if fours { fourth(&call.k) } else { call.k.clone() });
    kernel.view("v", &call.v);
    kernel.view("output", &call.output);
    kernel.reads("q", "f32", call.q.slot);
    kernel.reads("k", if fours { "vec4<f32>" } else { "f32" }, call.k.slot);
    kernel.reads("v", "f32", call.v.slot);
    if let Some(mask) = &call.mask {
        kernel.view("mask", mask);
        kernel.reads("mask", "f32", mask.slot);
    }
    if let Some(lengths) = call.lengths {
        kernel.reads("lengths", "i32", lengths);
    }
    kernel.writes("output", "f32", call.output.slot);
}

const MASK: &str = "fn mask_of(one: u32, key_head: u32, wanted: u32, key: u32) -> f32 {
    let row = min(wanted, p.rows - 1u);
    let at = p.mask_offset + i32(one) * p.mask_s0 + i32(key_head * p.share + row / p.queries) * p.mask_s1;
    return mask[u32(at + i32(row % p.queries) * p.mask_s2 + i32(key) * p.mask_s3)];
}";

/// How scores are had, and which count.
fn steps(kernel: &mut Kernel, call: &Attention, rows: Rows, fours: bool) {
    let kind = rows.kind();
    let (flags, ints) = if rows.count == 4 { ("vec4<bool>", "vec4<i32>") } else { ("bool", "i32") };
    kernel.part("MASK", if call.mask.is_some() { MASK } else { "" });
    let kept = "min(u32(max(lengths[one], 0)), p.keys)";
    kernel.part("KEPT", if call.lengths.is_some() { kept } else { "p.keys" });
    kernel.part("ASKED", rows.each(kind, |row| format!("query_of(one, key_head, {row}, i)")));
    kernel.part("OWN", rows.each(ints, |row| format!("own_key({row}, kept)")));
    let mut seen = Vec::new();
    if call.causal {
        seen.push(format!("({ints}(i32(key)) <= own)"));
    }
    let first = match call.window {
        Some(window) => {
            kernel.int("window", window.min(1 << 30) as i64);
            seen.push(format!("({ints}(i32(key) + p.window) >= own)"));
            format!("u32(max({} - p.window, 0))", rows.extreme("min", "own"))
        }
        None => "0u".to_owned(),
    };
    kernel.part("FIRST", first);
    let last = if call.causal {
        format!("min(kept, u32(max({} + 1, 0)))", rows.extreme("max", "own"))
    } else {
        "kept".to_owned()
    };
    kernel.part("LAST", last);
    kernel.part("SEEN", if seen.is_empty() { format!("{flags}(true)") } else { seen.join(" & ") });
    kernel.part("FLAGS", flags);
    let dot = if fours {
        "            for (var i = 0u; i < {{DIM}}u / 4u; i = i + 1u) {
                let four = k[u32(k_row) + i];
                x = x + asked[4u * i] * four.x + asked[4u * i + 1u] * four.y;
                x = x + asked[4u * i + 2u] * four.z + asked[4u * i + 3u] * four.w;
            }"
    } else {
        "            for (var i = 0u; i < {{DIM}}u; i = i + 1u) {
                x = x + asked[i] * k[u32(k_row + i32(i) * p.k_s3)];
            }"
    };
    kernel.part("DOT", dot);
    let cap = call.softcap.map_or_else(String::new, |cap| {
        kernel.float("cap", cap);
        let tanh: Vec<String> =
            (0..rows.count).map(|at| format!("tanh_of({} / p.cap)", rows.part("x", at))).collect();
        format!("            x = p.cap * {kind}({});", tanh.join(", "))
    });
    kernel.part("CAP", cap);
    let mask = rows.each(kind, |row| format!("mask_of(one, key_head, {row}, key)"));
    kernel.part(
        "ADD_MASK",
        if call.mask.is_some() { format!("            x = x + {mask};") } else { String::new() },
    );
    let exp = if rows.count == 4 { "exp_down4" } else { "exp_down" };
    kernel.part("LEFT", format!("{exp}(best - top)"));
    kernel.part("SHARE", format!("{exp}(score - best)"));
}

/// How a thread gathers values: those of its columns, one for each group's width of them.
fn values(kernel: &mut Kernel, call: &Attention, rows: Rows, size: u32) {
    let turns = call.value_size.div_ceil(size as usize);
    let of_turn = |line: &dyn Fn(usize) -> String| (0..turns).map(line).collect::<Vec<_>>().join("\n");
    kernel.part("ZERO", of_turn(&|turn| format!("    var made{turn} = {{{{KIND}}}}();")));
    let take = |turn: usize| {
        format!(
            "        made{turn} = made{turn} * left;
        if (lane + {0}u < p.value_size) {{
            for (var i = 0u; i < count; i = i + 1u) {{
                let v_place = v_at + i32(key0 + i) * p.v_s2 + i32(lane + {0}u) * p.v_s3;
                made{turn} = made{turn} + shares[i] * v[u32(v_place)];
            }}
        }}",
            turn * size as usize
        )
    };
    kernel.part("VALUES", of_turn(&take));
    let set = |turn: usize| {
        let column = turn * size as usize;
        let stores = (0..rows.count).map(|at| {
            let (made, whole) = (rows.part(&format!("made{turn}"), at), rows.part("whole", at));
            format!("        set_one(one, key_head, row + {at}u, lane + {column}u, {made}, {whole});")
        });
        let stores = stores.collect::<Vec<_>>().join("\n");
        format!("    if (lane + {column}u < p.value_size) {{\n{stores}\n    }}")
    };
    kernel.part("SET", of_turn(&set));
}
