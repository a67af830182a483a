//! What a run found, against its targets: a table for people, a file for everybody else.

use serde::Serialize;

use crate::{cold, latency, origin::Origin, playwright, pool, statistics::Ratio, throughput, transfer};

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) origin: Origin,
    pub(crate) summary: Summary,
    pub(crate) samples: Samples,
}

#[derive(Serialize)]
pub(crate) struct Samples {
    pub(crate) latency: latency::Samples,
    pub(crate) playwright: playwright::Samples,
    pub(crate) throughput: Vec<throughput::Samples>,
    pub(crate) transfer: transfer::Samples,
    pub(crate) cold: cold::Samples,
    pub(crate) pool: pool::Samples,
}

#[derive(Serialize)]
pub(crate) struct Summary {
    pub(crate) targets: Vec<Target>,
    pub(crate) latency: latency::Summary,
    pub(crate) playwright: playwright::Summary,
    pub(crate) throughput: Vec<throughput::Summary>,
    pub(crate) transfer: transfer::Summary,
    pub(crate) cold: cold::Summary,
    pub(crate) pool: pool::Summary,
}

/// One line of the table.
#[derive(Serialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    pub(crate) found: String,
    pub(crate) bound: String,
    pub(crate) ratio: Ratio,
    pub(crate) wanted: String,
    pub(crate) met: bool,
}

impl Samples {
    pub(crate) fn summary(&self) -> Summary {
        let latency = self.latency.summary();
        let throughput: Vec<_> = self.throughput.iter().map(throughput::Samples::summary).collect();
        let transfer = self.transfer.summary();
        let cold = self.cold.summary();
        let mut targets = latency_targets(&latency);
        targets.extend(throughput.iter().map(throughput_target));
        targets.push(Target {
            what: "16 MiB tensor there and back".to_owned(),
            found: format!("{:.0} MiB/s", transfer.moved_mib_per_s),
            bound: format!("echo {:.0} MiB/s", transfer.echo_mib_per_s),
            ratio: transfer.ratio,
            wanted: "≥ 0.80".to_owned(),
            met: transfer.ratio.value >= 0.8,
        });
        targets.push(Target {
            what: "start to first answer".to_owned(),
            found: format!("{:.0} ms", cold.daemon_ms),
            bound: format!("bare {:.0} ms", cold.bare_ms),
            ratio: cold.ratio,
            wanted: "≤ 1.20".to_owned(),
            met: cold.ratio.value <= 1.2,
        });
        targets.extend(self.pool.targets());
        let (playwright, pool) = (self.playwright.summary(), self.pool.summary());
        Summary { targets, latency, playwright, throughput, transfer, cold, pool }
    }
}

fn latency_targets(latency: &latency::Summary) -> Vec<Target> {
    vec![
        Target {
            what: "added to silero-vad, median".to_owned(),
            found: format!("{:.0} µs", latency.added_median_us),
            bound: format!("echo {:.0} µs", latency.echo_median_us),
            ratio: latency.median,
            wanted: "interval ≤ 1.30".to_owned(),
            met: latency.median.high <= 1.3,
        },
        Target {
            what: "added to silero-vad, p99".to_owned(),
            found: format!("{:.0} µs", latency.added_p99_us),
            bound: format!("echo {:.0} µs", latency.echo_p99_us),
            ratio: latency.p99,
            wanted: "≤ 1.50".to_owned(),
            met: latency.p99.value <= 1.5,
        },
    ]
}

fn throughput_target(throughput: &throughput::Summary) -> Target {
    Target {
        what: format!("{}, {} in flight", throughput.model, throughput::IN_FLIGHT),
        found: format!("{:.1}/s", throughput.lane_per_s),
        bound: format!("in the page {:.1}/s", throughput.page_per_s),
        ratio: throughput.ratio,
        wanted: "≥ 0.95".to_owned(),
        met: throughput.ratio.value >= 0.95,
    }
}

impl Summary {
    /// The table, and below it what it does not hold.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut rows =
            vec![["measured", "weft", "bound", "ratio", "95 % interval", "target", ""].map(str::to_owned)];
        rows.extend(self.targets.iter().map(Target::row));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<_> = (0..rows[0].len()).map(width).collect();
        let padded = |row: &[String; 7]| {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        let mut lines: Vec<_> = rows.iter().map(padded).collect();
        lines.push(String::new());
        lines.extend(self.details());
        lines
    }

    fn details(&self) -> Vec<String> {
        let Self { latency, playwright, transfer, cold, .. } = self;
        vec![
            format!(
                "Playwright adds {:.0} µs to a request (median; p99 {:.0}), {:.1} times as much as weft",
                playwright.added_median,
                playwright.added_p99,
                playwright.added_median / latency.added_median_us
            ),
            format!(
                "a request's medians in µs: queue {:.0}, transfer {:.0}, decode and encode {:.0}, compute {:.0}; \
                 between client and daemon {:.0}",
                latency.queue_us,
                latency.transfer_us,
                latency.codec_us,
                latency.compute_us,
                latency.client_us
            ),
            format!(
                "the 16 MiB request's in ms: transfer {:.1}, decode and encode {:.1}, compute {:.1}; \
                 between client and daemon {:.1}",
                transfer.transfer_us / 1000.0,
                transfer.codec_us / 1000.0,
                transfer.compute_us / 1000.0,
                transfer.client_us / 1000.0
            ),
            format!(
                "starting: the daemon listens after {:.0} ms; the bare browser is navigated after {:.0} ms",
                cold.listening_ms, cold.navigated_ms
            ),
        ]
    }
}

impl Target {
    pub(crate) fn row(&self) -> [String; 7] {
        let Ratio { value, low, high } = self.ratio;
        let met = if self.met { "met" } else { "missed" };
        [
            self.what.clone(),
            self.found.clone(),
            self.bound.clone(),
            format!("{value:.2}"),
            format!("{low:.2}–{high:.2}"),
            self.wanted.clone(),
            met.to_owned(),
        ]
    }
}
