//! Lanes with as many threads as cells want: their browsers are launched anew, since an engine has its threads for good.

use std::collections::BTreeSet;

use serde_json::json;

use super::{super::output, measure::Measuring, places};
use crate::bench::{Outcome, Place};

/// The daemon's own lanes.
const NATIVE: &str = "native";

impl Measuring<'_> {
    /// Turns to the cells of so many threads: has their browsers' lanes take them, and skips those whose lanes have not.
    pub(super) async fn turn_to(&mut self, threads: Option<u32>) -> anyhow::Result<()> {
        self.threads = threads;
        let Some(threads) = threads else { return Ok(()) };
        let lanes = places::lanes(self.client, self.found).await?;
        let mut browsers = BTreeSet::new();
        for at in self.pending() {
            let wanted = self.wanted(at);
            let has = lanes.get(&(wanted.browser.clone(), wanted.backend.clone()));
            let other = has.is_some_and(|place| place.as_ref().is_ok_and(|place| place.threads != threads));
            if other && wanted.browser != NATIVE {
                browsers.insert(wanted.browser.clone());
            }
        }
        let mut refused = Vec::new();
        for browser in browsers {
            let doing = format!("launching {browser} with {threads} threads for each lane");
            output::progress(&doing);
            self.told.now(&doing);
            if let Err(error) = self.relaunch(&browser, Some(threads)).await {
                refused.push((browser, format!("{error:#}")));
            }
        }
        let lanes = places::lanes(self.client, self.found).await?;
        for at in self.pending() {
            let wanted = self.wanted(at);
            let lane = format!("{}/{}", wanted.browser, wanted.backend);
            let refused = refused.iter().find(|(browser, _)| *browser == wanted.browser);
            let reason = match (refused, lanes.get(&(wanted.browser.clone(), wanted.backend.clone()))) {
                (Some((_, refused)), _) => refused.clone(),
                (None, Some(Ok(place))) if place.threads == threads => continue,
                (None, Some(Ok(Place { threads: has, .. }))) if wanted.browser == NATIVE => {
                    format!("the threads of {lane} are those of `native.threads` or its share: {has}")
                }
                (None, Some(Ok(Place { threads: has, .. }))) => {
                    format!("{lane} was asked for {threads} threads and has {has}")
                }
                (None, Some(Err(reason))) => reason.clone(),
                (None, None) => format!("there is no {lane}"),
            };
            self.ended(at, Outcome::Skipped, Some(reason));
        }
        Ok(())
    }

    /// Has a browser launched anew, and to oneself again where it was.
    async fn relaunch(&mut self, browser: &str, threads: Option<u32>) -> anyhow::Result<()> {
        let leased = self.leases.of(browser).is_some();
        let restarted = self.restart(browser, threads).await;
        places::settled(self.client, &self.found.suite).await?;
        if leased {
            self.lease(browser).await?;
        }
        restarted
    }

    async fn restart(&mut self, browser: &str, threads: Option<u32>) -> anyhow::Result<()> {
        if threads.is_some() {
            self.changed.insert(browser.to_owned());
        }
        self.unlease(browser).await;
        let instances = self.client.get("/api/v1/instances").await?;
        let items = instances["items"].as_array().into_iter().flatten();
        for id in
            items.filter(|instance| instance["browser"] == browser).filter_map(|of| of["instance"].as_str())
        {
            let order = json!({"threads": threads});
            self.client.post(&format!("/api/v1/instances/{id}/restart"), &order).await?;
        }
        Ok(())
    }

    /// Has the lanes take their share again.
    pub(super) async fn give_threads_back(&mut self) -> anyhow::Result<()> {
        for browser in std::mem::take(&mut self.changed) {
            self.restart(&browser, None).await?;
        }
        Ok(())
    }

    /// Cells of the present number of threads that have not had their turn.
    fn pending(&self) -> Vec<usize> {
        (0..self.cells.len()).filter(|at| self.is_pending(*at)).collect()
    }
}
