//! What goes along rows: sums and the like, softmax, norms.

use super::{Site, kind};
use crate::kernels::{
    gpu::{GpuError, kernel::Kernel, text, tuning::Team},
    ir::{Element, Norm, NormKind, Reduce, ReduceOp, Softmax},
};

/// How the threads of a team lie among those of their group.
#[derive(Clone, Copy)]
pub(super) enum Lie {
    Beside,
    /// Neighbouring threads are of different teams.
    Apart,
}

/// A function by which the threads of each team come to one value.
pub(super) fn together(name: &str, kind: &str, join: &str, team: Team, lie: Lie) -> String {
    if team.team == 1 {
        return format!("fn {name}(own: {kind}, lane: u32) -> {kind} {{\n    return own;\n}}");
    }
    let (member, apart) = match lie {
        Lie::Beside => (format!("lane % {}u", team.team), 1),
        Lie::Apart => (format!("lane / {}u", team.teams()), team.teams()),
    };
    let parts = [
        ("NAME", name),
        ("KIND", kind),
        ("JOIN", join),
        ("SIZE", &team.size.to_string()),
        ("TEAM", &team.team.to_string()),
        ("MEMBER", &member),
        ("APART", &apart.to_string()),
    ];
    text::fill(include_str!("../wgsl/team.wgsl"), &parts)
}

/// Gives each team of a kernel a row.
pub(super) fn shared(kernel: &mut Kernel, rows: usize, team: Team) {
    kernel.part("TEAM", team.team.to_string());
    kernel.part("TEAMS", team.teams().to_string());
    kernel.threads(rows * team.team as usize, team.size);
}

fn along(kernel: &mut Kernel, [outer, len, inner]: [usize; 3], site: &Site<'_>) -> Team {
    let rows = outer * inner;
    kernel.count("rows", rows);
    kernel.count("len", len);
    kernel.count("inner", inner);
    if inner == 1 { site.tuning.rows(rows, len) } else { site.tuning.apart(rows, len) }
}

/// How a reduction goes: what it keeps, at first, with each element, of two and at the end.
struct Way {
    kind: &'static str,
    none: &'static str,
    take: &'static str,
    join: &'static str,
    finish: &'static str,
}

const BEST: &str = "struct Best {\n    value: f32,\n    place: u32,\n}";

fn way(op: ReduceOp, element: Element) -> Option<Way> {
    let float = element == Element::F32;
    let kind = kind(element);
    let sum = |take, finish| Way { kind: "f32", none: "return 0.0;", take, join: "return a + b;", finish };
    Some(match (op, float) {
        (ReduceOp::Sum, _) => {
            let none = if float { "return 0.0;" } else { "return 0;" };
            Way { kind, none, take: "return before + x;", join: "return a + b;", finish: "return found;" }
        }
        (ReduceOp::Prod, _) => {
            let none = if float { "return 1.0;" } else { "return 1;" };
            Way { kind, none, take: "return before * x;", join: "return a * b;", finish: "return found;" }
        }
        (ReduceOp::Max, _) => {
            let none = if float { "return -infinity();" } else { "return -2147483647 - 1;" };
            Way {
                kind,
                none,
                take: "return max(before, x);",
                join: "return max(a, b);",
                finish: "return found;",
            }
        }
        (ReduceOp::Min, _) => {
            let none = if float { "return infinity();" } else { "return 2147483647;" };
            Way {
                kind,
                none,
                take: "return min(before, x);",
                join: "return min(a, b);",
                finish: "return found;",
            }
        }
        (_, false) => return None,
        (ReduceOp::Mean, _) => sum("return before + x;", "return found / f32(len);"),
        (ReduceOp::SumSquare, _) => sum("return before + x * x;", "return found;"),
        (ReduceOp::L1, _) => sum("return before + abs(x);", "return found;"),
        (ReduceOp::L2, _) => sum("return before + x * x;", "return sqrt(found);"),
        (ReduceOp::LogSumExp, _) => Way {
            kind: "vec2<f32>",
            none: "return vec2<f32>(-3.4028234e38, 0.0);",
            take: "let top = max(before.x, x);\n    return vec2<f32>(top, before.y * exp_down(before.x - top) + exp_down(x - top));",
            join: "let top = max(a.x, b.x);\n    return vec2<f32>(top, a.y * exp_down(a.x - top) + b.y * exp_down(b.x - top));",
            finish: "return select(found.x + log(found.y), found.x, is_inf(found.x));",
        },
        (ReduceOp::ArgMax, _) => best(
            "return Best(-infinity(), 0xffffffffu);",
            "if (x > before.value || before.place == 0xffffffffu) {\n        return Best(x, place);\n    }\n    return before;",
            "if (b.place != 0xffffffffu && (a.place == 0xffffffffu || b.value > a.value || (b.value == a.value && b.place < a.place))) {\n        return b;\n    }\n    return a;",
        ),
        (ReduceOp::ArgMin, _) => best(
            "return Best(infinity(), 0xffffffffu);",
            "if (x < before.value || before.place == 0xffffffffu) {\n        return Best(x, place);\n    }\n    return before;",
            "if (b.place != 0xffffffffu && (a.place == 0xffffffffu || b.value < a.value || (b.value == a.value && b.place < a.place))) {\n        return b;\n    }\n    return a;",
        ),
    })
}

fn best(none: &'static str, take: &'static str, join: &'static str) -> Way {
    Way { kind: "Best", none, take, join, finish: "return i32(found.place);" }
}

pub(super) fn reduce(call: &Reduce, site: &Site<'_>) -> Result<Kernel, GpuError> {
    let element = site.element(call.input);
    let way = way(call.op, element);
    let way = way.ok_or(GpuError::Call { call: "reduce", why: "whole numbers have no such reduction" })?;
    let mut kernel = Kernel::new("reduce", include_str!("../wgsl/reduce.wgsl"));
    let team = along(&mut kernel, [call.outer, call.len, call.inner], site);
    kernel.reads("input", kind(element), call.input);
    let made = if way.kind == "Best" { "i32" } else { kind(element) };
    kernel.writes("output", made, call.output);
    kernel.part("TYPES", if way.kind == "Best" { BEST } else { "" });
    kernel.part("NONE", way.none);
    kernel.part("TAKE", way.take);
    kernel.part("FINISH", way.finish);
    kernel.part("TOGETHER", together("together", way.kind, way.join, team, Lie::Beside));
    kernel.part("KIND", way.kind);
    kernel.part("TYPE", kind(element));
    kernel.part("OUT", made);
    shared(&mut kernel, call.outer * call.inner, team);
    Ok(kernel)
}

pub(super) fn softmax(call: &Softmax, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("softmax", include_str!("../wgsl/softmax.wgsl"));
    let team = along(&mut kernel, [call.outer, call.len, call.inner], site);
    kernel.reads("input", "f32", call.input);
    kernel.writes("output", "f32", call.output);
    kernel.part("MOST", together("most", "f32", "return max(a, b);", team, Lie::Beside));
    kernel.part("TOTAL", together("total", "f32", "return a + b;", team, Lie::Beside));
    kernel.part("VALUE", if call.log { "x - log(whole)" } else { "exp_down(x) / whole" });
    shared(&mut kernel, call.outer * call.inner, team);
    kernel
}

pub(super) fn norm(call: &Norm, site: &Site<'_>) -> Kernel {
    let mut kernel = Kernel::new("norm", include_str!("../wgsl/norm.wgsl"));
    let team = site.tuning.rows(call.rows, call.len);
    kernel.count("rows", call.rows);
    kernel.count("len", call.len);
    kernel.float("epsilon", call.epsilon);
    kernel.reads("input", "f32", call.input);
    let inputs = [("skip", call.skip), ("scale", call.scale), ("bias", call.bias)];
    for (name, slot) in inputs.into_iter().filter_map(|(name, slot)| Some((name, slot?))) {
        kernel.reads(name, "f32", slot);
    }
    if let Some(slot) = call.sum {
        kernel.writes("kept", "f32", slot);
    }
    kernel.writes("output", "f32", call.output);
    let mean = "    var sum = 0.0;
    for (var i = member; i < len; i = i + {{TEAM}}u) {
        sum = sum + element(first + i);
    }
    let mean = total(sum, lane) / f32(p.len);";
    kernel.part("ELEMENT", if call.skip.is_some() { "input[i] + skip[i]" } else { "input[i]" });
    kernel.part("MEAN", if call.kind == NormKind::Layer { mean } else { "    let mean = 0.0;" });
    kernel.part("KEEP", if call.sum.is_some() { "        kept[first + i] = x;" } else { "" });
    kernel.part("SCALE", if call.scale.is_some() { " * scale[i]" } else { "" });
    kernel.part("BIAS", if call.bias.is_some() { " + bias[i]" } else { "" });
    kernel.part("TOTAL", together("total", "f32", "return a + b;", team, Lie::Beside));
    shared(&mut kernel, call.rows, team);
    kernel
}
