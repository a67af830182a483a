//! Cold starts: a browser that is launched, or a session that is created, until the first answer.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::{Value, json};
use tokio::time::timeout_at;

use super::{
    super::output,
    asked::off,
    measure::{Measuring, provenance},
    socket::{Refused, Socket},
};
use crate::bench::{Cold, Outcome, Start, State};

/// What a pool says of an instance that is launched anew, as it was heard.
#[derive(Default)]
struct Marks {
    starting: Option<Instant>,
    launched: Option<Instant>,
    page: Option<Instant>,
    lane: Option<Instant>,
}

impl Marks {
    /// Takes note of what an instance's state tells; what was of the life before counts for nothing.
    fn see(&mut self, status: &Value, lane: &str, now: Instant) {
        let anew = ["starting", "recovering"].iter().any(|state| status["state"] == *state);
        if self.starting.is_none() && !(anew && status["browser_version"].is_null()) {
            return;
        }
        self.starting.get_or_insert(now);
        if !status["browser_version"].is_null() {
            self.launched.get_or_insert(now);
        }
        if !status["page"].is_null() {
            self.page.get_or_insert(now);
        }
        if status["lanes"][lane]["state"] == "ready" {
            self.lane.get_or_insert(now);
        }
    }

    fn told(&self, lane: &Value) -> Cold {
        let between = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to).map(|(from, to)| micros(to.saturating_duration_since(from)))
        };
        let own = |part: &str| lane["capability"]["timing_us"][part].as_f64();
        Cold {
            launch_us: between(self.starting, self.launched),
            page_us: between(self.launched, self.page),
            lane_us: between(self.page, self.lane),
            import_us: own("import"),
            init_us: own("init"),
            ..Cold::default()
        }
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl Measuring<'_> {
    /// Measures a cell of cold starts, which has the machine to itself.
    pub(super) async fn cold_starts(&mut self, at: usize) -> anyhow::Result<()> {
        let start = self.wanted(at).varied.start.context("it says what starts")?;
        let browser = self.wanted(at).browser.clone();
        let samples = self.found.suite.scenarios.cold_start.samples;
        let leased = self.leases.of(&browser).is_some();
        if start == Start::Browser {
            self.unlease(&browser).await;
        }
        let mut measured = Ok(());
        for _ in 0..samples {
            let once = timeout_at(self.ends.into(), self.cold_start(at, start)).await;
            match once {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(State { outcome, reason }))) => {
                    self.ended(at, outcome, reason);
                    break;
                }
                Ok(Err(error)) => {
                    measured = Err(error);
                    break;
                }
                Err(_) => {
                    let had = self.cells[at].samples_us.len();
                    self.ended(
                        at,
                        Outcome::TimedOut,
                        Some(format!("the suite ended after {had} cold starts")),
                    );
                    break;
                }
            }
        }
        if start == Start::Browser
            && leased
            && let Err(error) = self.lease(&browser).await
        {
            output::progress(&format!("{error:#}"));
        }
        measured?;
        if self.cells[at].samples_us.len() == samples {
            self.ended(at, Outcome::Ok, None);
        }
        Ok(())
    }

    /// One sample; says how the cell has ended, when it has.
    async fn cold_start(&mut self, at: usize, start: Start) -> anyhow::Result<Option<State>> {
        let material = self.materials[&at].clone();
        let name = material.model.clone();
        self.unloaded = Some(name.clone());
        self.client.post(&format!("/api/v1/models/{name}/unload"), &json!({})).await?;
        let (wanted, mut started) = (self.wanted(at), Instant::now());
        let mut cold = Cold::default();
        if start == Start::Browser {
            let (browser, backend) = (&wanted.browser, &wanted.backend);
            match self.relaunched(browser, &format!("/{backend}"), wanted.varied.threads).await? {
                Ok((marks, lane)) => {
                    cold = marks.told(&lane);
                    started = marks.starting.unwrap_or(started);
                }
                Err(state) => return Ok(Some(state)),
            }
        }
        let place = json!({"browser": [wanted.browser], "backend": [wanted.backend]});
        let loaded = self.client.post(&format!("/api/v1/models/{name}/load"), &place).await;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(refused) => {
                return Ok(Some(State { outcome: Outcome::Failed, reason: Some(format!("{refused:#}")) }));
            }
        };
        let ready = Instant::now();
        self.unloaded = None;
        let mut socket = Socket::open(self.client).await?;
        // Without a lease, where there is none at the moment.
        let ask = self.asking(at).ask(0, self.cells[at].cold.len());
        let (answers, first_us) = socket.ask(&[ask]).await?;
        let answers = match answers {
            Ok(answers) => answers,
            Err(Refused { code, message }) => {
                let reason = Some(format!("{code}: {message}"));
                return Ok(Some(State { outcome: Outcome::Failed, reason }));
            }
        };
        let took = micros(ready.saturating_duration_since(started)) + first_us;
        let cell = &mut self.cells[at];
        match off(&material.known, &answers, cell.tolerance) {
            Ok(error) => cell.error = Some(cell.error.unwrap_or(0.0).max(error)),
            Err(detail) => return Ok(Some(State { outcome: Outcome::Wrong, reason: Some(detail) })),
        }
        cell.provenance = answers.last().and_then(provenance);
        let lane = cell.provenance.as_ref().map(|provenance| provenance.lane.to_string());
        cold.load(&loaded, lane.as_deref());
        cold.first_us = Some(first_us);
        cold.compute_us = answers[0].parameters["timing_us"]["compute"].as_f64();
        cell.samples_us.push(took);
        cell.cold.push(cold);
        Ok(None)
    }

    /// Has a browser launched anew; answers when its lane of this backend is ready, or with why it never will be.
    async fn relaunched(
        &self,
        browser: &str,
        lane: &str,
        threads: Option<u32>,
    ) -> anyhow::Result<Result<(Marks, Value), State>> {
        let ended = |outcome, reason: String| Ok(Err(State { outcome, reason: Some(reason) }));
        let instances = self.client.get("/api/v1/instances").await?;
        let items = instances["items"].as_array().into_iter().flatten();
        let of_browser: Vec<_> = items.filter(|instance| instance["browser"] == browser).collect();
        let [instance] = of_browser.as_slice() else {
            let count = of_browser.len();
            let reason =
                format!("the daemon runs {count} of {browser}, and which one answers is not the suite's");
            return ended(Outcome::Skipped, reason);
        };
        let id = instance["instance"].as_str().context("an instance has a name")?;
        let lane = format!("{id}{lane}");
        let mut socket = Socket::open(self.client).await?;
        socket.subscribe().await?;
        let order = json!({"threads": threads});
        self.client.post(&format!("/api/v1/instances/{id}/restart"), &order).await?;
        let mut marks = Marks::default();
        loop {
            let status = socket.changed().await?;
            if status["instance"] != id {
                continue;
            }
            marks.see(&status, &lane, Instant::now());
            let of_lane = &status["lanes"][&lane];
            let reason = |of: &Value| of["reason"].as_str().unwrap_or("no reason is told").to_owned();
            if marks.lane.is_some() {
                return Ok(Ok((marks, of_lane.clone())));
            }
            if status["state"] == "failed" {
                return ended(Outcome::Failed, format!("{id}: {}", reason(&status)));
            }
            if marks.starting.is_some() && of_lane["state"] == "absent" {
                return ended(Outcome::Failed, format!("{lane}: {}", reason(of_lane)));
            }
        }
    }
}

impl Cold {
    /// What the daemon says of the session in this lane.
    fn load(&mut self, loaded: &Value, lane: Option<&str>) {
        let seats = loaded["residence"]["lanes"].as_array().into_iter().flatten();
        let Some(seat) = seats.into_iter().find(|seat| seat["lane"].as_str() == lane) else { return };
        let load = &seat["load"];
        self.load_us = load["total_us"].as_f64();
        self.fetch_us = load["lane_us"]["fetch"].as_f64();
        self.create_us = load["lane_us"]["create"].as_f64();
        if self.fetch_us.is_some() {
            self.network_bytes = load["fetched_bytes"]["network"].as_u64();
            self.cache_bytes = load["fetched_bytes"]["cache"].as_u64();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_launch_are_told_apart_and_nothing_is_made_up() {
        let begin = Instant::now();
        let status = |state: &str, version: Option<&str>, page: bool, lane: &str| {
            json!({"state": state, "browser_version": version, "page": page.then_some(1),
                "lanes": {"a-1/wasm": {"state": lane}}})
        };
        let before = status("draining", Some("1"), true, "ready");
        let starting = status("recovering", None, false, "starting");
        let launched = status("recovering", Some("1"), false, "starting");
        let page = status("recovering", Some("1"), true, "starting");
        let ready = status("ready", Some("1"), true, "ready");
        let all = [&before, &starting, &launched, &page, &ready];
        let known = |cold: &Cold| [cold.launch_us, cold.page_us, cold.lane_us];
        let cases: [(&str, &[&Value], [Option<f64>; 3]); 4] = [
            ("a whole launch", &all, [Some(1e6), Some(1e6), Some(1e6)]),
            ("the life before alone", &[&before, &before], [None; 3]),
            ("as far as it went", &all[1..3], [Some(1e6), None, None]),
            ("two at once", &[&starting, &page, &ready], [Some(1e6), Some(0.0), Some(1e6)]),
        ];
        for (case, seen, wanted) in cases {
            let mut marks = Marks::default();
            for (at, status) in (0..).zip(seen) {
                marks.see(status, "a-1/wasm", begin + Duration::from_secs(at));
            }
            assert_eq!(known(&marks.told(&Value::Null)), wanted, "{case}");
        }
        let own = json!({"capability": {"timing_us": {"import": 3}}});
        let cold = Marks::default().told(&own);
        assert_eq!((cold.import_us, cold.init_us), (Some(3.0), None));
    }

    #[test]
    fn a_native_session_has_no_parts_of_a_lane() {
        let seat = |lane: &str, parts: Value| {
            json!({"residence": {"lanes": [{"lane": lane, "load": {"total_us": 9, "lane_us": parts,
                "fetched_bytes": {"network": 5, "cache": 0}}}]}})
        };
        let cases = [
            (seat("a-1/wasm", json!({"fetch": 4, "create": 2})), Some(9.0), Some(4.0), Some(5)),
            (seat("a-1/wasm", json!({})), Some(9.0), None, None),
            (seat("b-1/wasm", json!({"fetch": 4})), None, None, None),
        ];
        for (loaded, total, fetch, network) in cases {
            let mut cold = Cold::default();
            cold.load(&loaded, Some("a-1/wasm"));
            assert_eq!(
                (cold.load_us, cold.fetch_us, cold.network_bytes),
                (total, fetch, network),
                "{loaded}"
            );
        }
    }
}
