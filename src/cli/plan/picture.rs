//! A split as a picture: its stages from the left to the right, the lanes they run in, and what passes between them.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    forecast::{bytes, time, units},
    text,
};

/// Pixels of a stage's box and of the room between two.
const WIDTH: usize = 210;
const HEIGHT: usize = 112;
const GAP: usize = 96;
const MARGIN: usize = 28;
const LINE: usize = 20;

/// One colour for each place where a backend computes, told apart also by who sees red and green alike.
const COLOURS: [(&str, &str); 5] = [
    ("wasm", "#dbe7f6"),
    ("webgpu", "#f9e2c7"),
    ("weft-wgsl", "#f9e2c7"),
    ("webnn", "#d9efe6"),
    ("", "#e8e8e8"),
];

pub(super) fn svg(split: &Value) -> String {
    let stages: Vec<_> = split["stages"].as_array().into_iter().flatten().collect();
    let columns = columns(&stages);
    let deepest = columns.iter().copied().max().unwrap_or_default();
    let place = |at: usize| {
        let above = columns[..at].iter().filter(|column| **column == columns[at]).count();
        (MARGIN + columns[at] * (WIDTH + GAP), 2 * MARGIN + LINE + above * (HEIGHT + MARGIN))
    };
    let rows = (0..=deepest).map(|column| columns.iter().filter(|own| **own == column).count()).max();
    let width = 2 * MARGIN + (deepest + 1) * WIDTH + deepest * GAP;
    let height = 3 * MARGIN + 2 * LINE + rows.unwrap_or(1) * (HEIGHT + MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    let title = format!("{}: {}", text(&split["name"]), text(&split["shape"]));
    line(&mut svg, (MARGIN, MARGIN + LINE / 2), &title, " font-weight=\"bold\" font-size=\"15\"");
    for (at, stage) in stages.iter().enumerate() {
        for from in stage["after"].as_array().into_iter().flatten().filter_map(Value::as_u64) {
            arrow(&mut svg, place(from as usize), place(at), &bytes(&stage["bytes_in"]));
        }
    }
    for (at, stage) in stages.iter().enumerate() {
        boxed(&mut svg, place(at), at, stage);
    }
    let forecast = &split["forecast"];
    let told = format!(
        "one request {}, {:.1} requests/s",
        time(&forecast["latency_us"]["value"]),
        forecast["per_second"]["value"].as_f64().unwrap_or_default()
    );
    line(&mut svg, (MARGIN, height - MARGIN), &told, "");
    svg + "</svg>\n"
}

/// How many stages must have run before each.
fn columns(stages: &[&Value]) -> Vec<usize> {
    let mut columns: Vec<usize> = Vec::new();
    for stage in stages {
        let after = stage["after"].as_array().into_iter().flatten().filter_map(Value::as_u64);
        let before = after.filter_map(|from| columns.get(from as usize)).max();
        columns.push(before.map_or(0, |column| column + 1));
    }
    columns
}

fn boxed(svg: &mut String, (x, y): (usize, usize), at: usize, stage: &Value) {
    let lanes: Vec<_> = stage["lanes"].as_array().into_iter().flatten().map(text).collect();
    let lanes = lanes.join(", ");
    let fill = COLOURS.iter().find(|(backend, _)| lanes.contains(backend)).map_or("white", |(_, fill)| fill);
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\" fill=\"{fill}\" stroke=\"#444\"/>"
    );
    let told = [
        (format!("{at}  {lanes}"), " font-weight=\"bold\""),
        (format!("units {}", units(stage)), ""),
        (format!("weights {}", bytes(&stage["weight_bytes"])), ""),
        (format!("compute {}", time(&stage["compute_us"]["value"])), ""),
        (format!("transfer {}", time(&stage["transfer_us"]["value"])), ""),
    ];
    for (row, (words, style)) in told.iter().enumerate() {
        line(svg, (x + 10, y + LINE * (row + 1)), words, style);
    }
}

/// From the right side of one box to the left side of another, with what comes in there.
fn arrow(svg: &mut String, from: (usize, usize), to: (usize, usize), told: &str) {
    let (x1, y1, x2, y2) = (from.0 + WIDTH, from.1 + HEIGHT / 2, to.0, to.1 + HEIGHT / 2);
    let _ = writeln!(
        svg,
        "<path d=\"M{x1} {y1} L{x2} {y2} m-8 -5 l8 5 l-8 5\" fill=\"none\" stroke=\"#444\" stroke-width=\"1.5\"/>"
    );
    line(svg, (x2 - GAP + 8, y2 - 8), told, "");
}

fn line(svg: &mut String, (x, y): (usize, usize), words: &str, style: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\"{style}>{words}</text>");
}
