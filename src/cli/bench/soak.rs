//! One request after the other for a long time, with the memory of lane and browser in between.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{
    measure::{Measuring, Open},
    socket::Socket,
};
use crate::bench::{Memory, Outcome, statistics};

/// An instance's name and its lane's, as `/api/v1` has them.
struct Holders {
    instance: String,
    lane: String,
}

impl Measuring<'_> {
    /// Measures a cell for as long as the suite says.
    pub(super) async fn soak(&mut self, socket: &mut Socket, open: &mut Open) -> anyhow::Result<()> {
        let soak = self.found.suite.scenarios.soak.clone();
        let provenance = self.cells[open.at].provenance.as_ref();
        let holders = provenance.map(|provenance| Holders {
            instance: provenance.instance.to_string(),
            lane: provenance.lane.to_string(),
        });
        let started = Instant::now();
        let mut memory = vec![self.memory(holders.as_ref(), Duration::ZERO).await?];
        let mut looked = Instant::now();
        let mut interval = Vec::new();
        let until = (started + soak.time).min(self.ends);
        while Instant::now() < until {
            let Some(sample) = self.sample(socket, open).await? else { return Ok(()) };
            interval.push(sample);
            if looked.elapsed() >= soak.every {
                self.cells[open.at].samples_us.push(statistics::median(&interval));
                interval.clear();
                memory.push(self.memory(holders.as_ref(), started.elapsed()).await?);
                looked = Instant::now();
            }
        }
        let cell = &mut self.cells[open.at];
        cell.memory = memory;
        if started.elapsed() >= soak.time && !cell.samples_us.is_empty() {
            self.ended(open.at, Outcome::Ok, None);
        } else {
            let reason = format!("the suite ended after {} s of it", started.elapsed().as_secs());
            self.ended(open.at, Outcome::TimedOut, Some(reason));
        }
        Ok(())
    }

    /// What the daemon says that lane and browser hold.
    async fn memory(&self, holders: Option<&Holders>, at: Duration) -> anyhow::Result<Memory> {
        let (lanes, instances) =
            tokio::try_join!(self.client.get("/api/v1/lanes"), self.client.get("/api/v1/instances"))?;
        let find = |list: &Value, key: &str, name: &str| {
            let mut items = list["items"].as_array().into_iter().flatten();
            items.find(|item| item[key] == name).cloned().unwrap_or_default()
        };
        let lane = holders.map(|holders| find(&lanes, "lane", &holders.lane)).unwrap_or_default();
        let instance =
            holders.map(|holders| find(&instances, "instance", &holders.instance)).unwrap_or_default();
        Ok(Memory {
            at_us: at.as_secs_f64() * 1e6,
            wasm_bytes: lane["memory"]["wasm_bytes"].as_u64(),
            gpu_bytes: lane["memory"]["gpu_bytes"].as_u64(),
            browser_bytes: instance["memory_bytes"].as_u64(),
        })
    }
}
