//! From which size on two ways pay, as a picture: medians with the middle half of the samples, both axes logarithmic.

use std::fmt::Write as _;

use super::tensor::Samples;
use crate::statistics::quantile;

pub(super) const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/tensor.svg");

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
/// Room for the axes' words.
const LEFT: f64 = 64.0;
const BELOW: f64 = 56.0;
const ABOVE: f64 = 36.0;
const RIGHT: f64 = 130.0;

/// Colours that are told apart without red and green, on white and on black.
const DEALT: &str = "#0072b2";
const WHOLE: &str = "#e69f00";

struct Axes {
    widths: (f64, f64),
    millis: (f64, f64),
}

impl Axes {
    fn of(sizes: &[Samples]) -> Self {
        let millis = |size: &Samples| [size.dealt().to_vec(), size.whole().to_vec()].concat();
        let all: Vec<_> = sizes.iter().flat_map(millis).collect();
        let widths = sizes.iter().map(|size| size.width() as f64);
        let ends = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)))
        };
        let (least, most) = ends(&mut all.into_iter());
        Self {
            widths: ends(&mut widths.into_iter()),
            millis: (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil())),
        }
    }

    fn x(&self, width: f64) -> f64 {
        let share = (width / self.widths.0).ln() / (self.widths.1 / self.widths.0).ln();
        LEFT + share * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, millis: f64) -> f64 {
        let share = (millis / self.millis.0).ln() / (self.millis.1 / self.millis.0).ln();
        HEIGHT - BELOW - share * (HEIGHT - BELOW - ABOVE)
    }
}

pub(super) fn svg(sizes: &[Samples]) -> String {
    let axes = Axes::of(sizes);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"13\">\n<title>One request through a feed-forward part, by its width</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
    );
    let mut decade = axes.millis.0;
    while decade <= axes.millis.1 * 1.001 {
        let (y, right) = (axes.y(decade), WIDTH - RIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{decade}</text>",
            LEFT - 8.0,
            y + 4.0
        );
        decade *= 10.0;
    }
    for size in sizes {
        let (x, y) = (axes.x(size.width() as f64), HEIGHT - BELOW + 20.0);
        let _ =
            writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{}</text>", size.width());
    }
    let middle = LEFT + (WIDTH - LEFT - RIGHT) / 2.0;
    let _ = writeln!(
        svg,
        "<text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">width of the feed-forward part</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">ms per request</text>",
        HEIGHT - 14.0,
        8.0,
        ABOVE - 20.0
    );
    series(&mut svg, &axes, sizes, Samples::dealt, (DEALT, "two lanes"));
    series(&mut svg, &axes, sizes, Samples::whole, (WHOLE, "one lane"));
    svg.push_str("</svg>\n");
    svg
}

fn series(
    svg: &mut String,
    axes: &Axes,
    sizes: &[Samples],
    of: fn(&Samples) -> &[f64],
    (colour, name): (&str, &str),
) {
    let point = |size: &Samples| {
        let at = |share| axes.y(quantile(of(size), share));
        (axes.x(size.width() as f64), at(0.5), at(0.25), at(0.75))
    };
    let points: Vec<_> = sizes.iter().map(point).collect();
    let line: Vec<_> = points.iter().map(|(x, y, ..)| format!("{x:.1},{y:.1}")).collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        line.join(" ")
    );
    for (x, y, low, high) in &points {
        let _ = writeln!(
            svg,
            "<path d=\"M{x:.1} {low:.1}V{high:.1}\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
             <circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>"
        );
    }
    if let Some((x, y, ..)) = points.last() {
        let _ =
            writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>", x + 10.0, y + 4.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_shows_what_was_measured() {
        let kept = std::fs::read_to_string(crate::RESULT).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        let sizes: Vec<Samples> =
            serde_json::from_value(kept["sharding"]["samples"]["tensor"].clone()).unwrap();
        assert_eq!(std::fs::read_to_string(FILE).unwrap(), svg(&sizes));
    }
}
