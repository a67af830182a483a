//! From which size on it pays to deal the products of one layer out over two lanes.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    contest::{ALIKE, NATIVE},
    models::{self, ROWS},
    plans::{self, Forecast},
};
use crate::{
    pool::Pool,
    report::Target,
    requests::Model,
    statistics::{Ratio, median, ratio},
};

/// Widths of a feed-forward part, which is four times as wide within.
const WIDTHS: [u64; 5] = [128, 256, 512, 1024, 1536];

const PAIRS: usize = 40;
const SEED: u64 = 55;

/// Milliseconds of requests that are alone, an entry per pair.
#[derive(Serialize, Deserialize)]
pub(super) struct Samples {
    width: u64,
    /// In two ways in two lanes, and their sum in the native one.
    dealt: Vec<f64>,
    /// The whole in one of the two.
    whole: Vec<f64>,
    forecast: Forecast,
}

pub(super) async fn measure(pool: &Pool, folder: &std::path::Path) -> anyhow::Result<Vec<Samples>> {
    let mut sizes = Vec::new();
    for width in WIDTHS {
        let model = models::feed_forward(folder, width)?;
        super::add(pool, &model).await?;
        sizes.push(size(pool, &model, width).await?);
    }
    Ok(sizes)
}

async fn size(pool: &Pool, model: &Model, width: u64) -> anyhow::Result<Samples> {
    let whole = plans::alone(pool, model, ALIKE[0]).await?;
    let lanes = [ALIKE[0], ALIKE[1], NATIVE];
    let split = json!({"strategy": "tensor", "lanes": lanes, "objective": {"for": "latency"}});
    let order = json!({"model": model.name, "split": split, "fallback": plans::FALLBACK});
    let dealt = plans::seen_and_made(pool, model, &order).await?;
    let mut samples = Samples { width, dealt: Vec::new(), whole: Vec::new(), forecast: dealt.forecast };
    for pair in 0..PAIRS {
        let sides = [(&dealt.id, &mut samples.dealt), (&whole.id, &mut samples.whole)];
        let turned = |sides: [_; 2]| {
            if pair % 2 == 0 {
                sides
            } else {
                let [a, b] = sides;
                [b, a]
            }
        };
        for (plan, series) in turned(sides) {
            let answers = plans::ask(pool, model, &plans::under(plan), 1).await?;
            series.extend(answers.iter().map(|answer| answer.timing.total as f64 / 1e3));
        }
    }
    Ok(samples)
}

impl Samples {
    pub(super) fn width(&self) -> u64 {
        self.width
    }

    pub(super) fn dealt(&self) -> &[f64] {
        &self.dealt
    }

    pub(super) fn whole(&self) -> &[f64] {
        &self.whole
    }

    fn ratio(&self) -> Ratio {
        let pairs: Vec<_> = self.dealt.iter().copied().zip(self.whole.iter().copied()).collect();
        ratio(&pairs, median, 1, SEED)
    }

    pub(super) fn target(&self) -> Target {
        Target {
            what: format!("{ROWS} rows of {} through a feed-forward part in two ways", self.width),
            found: format!("{:.1} ms", median(&self.dealt)),
            bound: format!("in one lane {:.1} ms", median(&self.whole)),
            ratio: self.ratio(),
            wanted: String::new(),
            met: None,
        }
    }
}

/// From which width on it pays, and what was forecast.
pub(super) fn notes(sizes: &[Samples]) -> Vec<String> {
    let pays = |size: &&Samples| size.ratio().high < 1.0;
    let last_that_does_not = sizes.iter().rposition(|size| !pays(&size));
    let from = last_that_does_not.map_or(0, |at| at + 1);
    let crossover = match sizes.get(from) {
        Some(size) => format!("two ways pay from a width of {} on", size.width),
        None => format!("two ways do not pay up to a width of {}", WIDTHS[WIDTHS.len() - 1]),
    };
    let forecast = |size: &Samples| format!("{}: {:.1}", size.width, size.forecast.latency_us / 1e3);
    let forecasts = sizes.iter().map(forecast).collect::<Vec<_>>().join(", ");
    vec![format!("{crossover}; forecast for two ways, in ms by width: {forecasts}")]
}
