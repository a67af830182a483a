//! Maps.

use std::fmt::Write as _;

use super::{Site, by_fours, kind};
use crate::kernels::{
    gpu::{GpuError, expr, kernel::Kernel},
    ir::{Element, Map, View},
};

pub(super) fn map(map: &Map, site: &Site<'_>) -> Result<Kernel, GpuError> {
    let wrong = |why| GpuError::Call { call: "map", why };
    let mut kernel = Kernel::new("map", include_str!("../wgsl/map.wgsl"));
    let elements: Vec<Element> = map.inputs.iter().map(|view| site.element(view.slot)).collect();
    if elements.contains(&Element::Bytes) {
        return Err(wrong("it reads weights of few bits"));
    }
    let width = width(map);
    let len = map.shape.iter().product::<usize>() / width;
    kernel.count("len", len);
    let mut places = String::new();
    if map.shape.len() > 1 {
        places.push_str("    var rest = index;\n");
    }
    for at in (0..map.shape.len()).rev() {
        let size = if at + 1 == map.shape.len() { map.shape[at] / width } else { map.shape[at] };
        if at == 0 {
            let from = if map.shape.len() > 1 { "rest" } else { "index" };
            write!(places, "    let i0 = i32({from});").expect("a text takes everything");
        } else {
            kernel.count(&format!("size{at}"), size);
            writeln!(places, "    let i{at} = i32(rest % p.size{at});\n    rest = rest / p.size{at};")
                .expect("a text takes everything");
        }
    }
    let (mut reads, mut takes) = (Vec::new(), Vec::new());
    let mut values = vec![Vec::new(); width];
    for (at, (view, element)) in map.inputs.iter().zip(&elements).enumerate() {
        let four = width == 4 && view.strides.last() == Some(&1);
        let kind = kind(*element);
        kernel.reads(
            &format!("in{at}"),
            &if four { format!("vec4<{kind}>") } else { kind.to_owned() },
            view.slot,
        );
        reads
            .push(format!("    let v{at} = in{at}[{}];", place(&mut kernel, &format!("in{at}"), view, four)));
        takes.push(format!("x{at}: {kind}"));
        for (value, part) in values.iter_mut().zip(["x", "y", "z", "w"]) {
            value.push(if four { format!("v{at}.{part}") } else { format!("v{at}") });
        }
    }
    let (value, element) = expr::write(&map.expr, &elements, &mut kernel)?;
    if element != site.element(map.output.slot) {
        return Err(wrong("it makes another kind of numbers than its slot holds"));
    }
    let computed: Vec<String> = values.iter().map(|value| format!("compute({})", value.join(", "))).collect();
    let kind = kind(element);
    let four = width == 4;
    let output = place(&mut kernel, "to", &map.output, four);
    let (held, made) = if four {
        (format!("vec4<{kind}>"), format!("vec4<{kind}>({})", computed.join(", ")))
    } else {
        (kind.to_owned(), computed.join(""))
    };
    kernel.writes("output", &held, map.output.slot);
    kernel.part("TAKES", takes.join(", "));
    kernel.part("TYPE", kind);
    kernel.part("VALUE", value);
    kernel.part("PLACES", places);
    kernel.part("READS", reads.join("\n"));
    kernel.part("OUTPUT", output);
    kernel.part("MADE", made);
    kernel.threads(len, site.tuning.flat);
    Ok(kernel)
}

/// How many elements a thread computes: four where what it reads lies behind each other, or is the same for them.
fn width(map: &Map) -> usize {
    let Some(inner) = map.shape.last() else { return 1 };
    let fits = |view: &View| view.strides.last() == Some(&0) || by_fours(view, *inner);
    let whole = by_fours(&map.output, *inner) && map.inputs.iter().all(fits);
    if whole { 4 } else { 1 }
}

/// Where a thread finds its element, counted in fours if it is one.
fn place(kernel: &mut Kernel, name: &str, view: &View, four: bool) -> String {
    let unit = if four { 4 } else { 1 };
    kernel.int(&format!("{name}_offset"), (view.offset / unit) as i64);
    let mut text = format!("u32(p.{name}_offset");
    let last = view.strides.len().saturating_sub(1);
    for (at, stride) in view.strides.iter().enumerate().filter(|(_, stride)| **stride != 0) {
        let stride = if four && at != last { stride / 4 } else { *stride };
        kernel.int(&format!("{name}_s{at}"), stride);
        write!(text, " + i{at} * p.{name}_s{at}").expect("a text takes everything");
    }
    text.push(')');
    text
}
