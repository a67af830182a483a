//! Several models asked at once in one lane, and each of them alone in between.

use std::time::{Duration, Instant};

use rand::seq::SliceRandom;

use super::{
    asked::{Asking, off},
    measure::{Measuring, alike, provenance},
    socket::{Answer, Refused, Socket},
};
use crate::bench::{Outcome, Scenario, statistics};

/// A model of the lane.
struct Stream {
    at: usize,
    asking: Asking,
    next: usize,
}

impl Measuring<'_> {
    /// Measures the cells of each lane in which models are to be asked at once.
    pub(super) async fn concurrent(&mut self, socket: &mut Socket) -> anyhow::Result<()> {
        let pending = |at: &usize| self.wanted(*at).scenario == Scenario::Concurrent && self.is_pending(*at);
        let mut cells: Vec<_> = (0..self.cells.len()).filter(pending).collect();
        while let Some(first) = cells.first().copied() {
            let lane = |at: usize| {
                let wanted = &self.found.suite.cells[at];
                (&wanted.browser, &wanted.backend, &wanted.varied)
            };
            let together: Vec<_> = cells.extract_if(.., |at| lane(*at) == lane(first)).collect();
            if Instant::now() < self.ends {
                self.together(socket, together).await?;
                self.draft.save(&self.cells);
            }
        }
        Ok(())
    }

    async fn together(&mut self, socket: &mut Socket, cells: Vec<usize>) -> anyhow::Result<()> {
        let mut streams = Vec::new();
        for at in cells {
            if self.prepare(socket, at).await? && self.load(at).await {
                streams.push(Stream { at, asking: self.asking(at), next: 0 });
            }
        }
        if streams.len() < 2 {
            for only in streams {
                self.ended(only.at, Outcome::Skipped, Some("no other model is left beside it".to_owned()));
            }
            return Ok(());
        }
        let names: Vec<_> = streams.iter().map(|stream| self.cells[stream.at].model.clone()).collect();
        for stream in &streams {
            let cell = &mut self.cells[stream.at];
            cell.beside = names.iter().filter(|name| **name != cell.model).cloned().collect();
        }
        let (limits, started) = (self.found.suite.limits.clone(), Instant::now());
        let mut warm_up = true;
        let mut spent = Duration::ZERO;
        loop {
            let round = Instant::now();
            if !self.round(socket, &mut streams, warm_up).await? {
                return Ok(());
            }
            spent += round.elapsed();
            let over = Instant::now() >= self.ends;
            if warm_up {
                let warm = |stream: &Stream| {
                    let had = &self.cells[stream.at].warm_up_us;
                    had.len() >= limits.warm_up && alike(had)
                };
                let warm = streams.iter().all(warm);
                if warm || over || started.elapsed() >= limits.time / 2 {
                    for stream in &streams {
                        self.cells[stream.at].warm = warm;
                    }
                    (warm_up, spent) = (false, Duration::ZERO);
                }
            } else if over || self.had_enough(&streams, spent) {
                for stream in &streams {
                    self.budget_over(stream.at);
                }
                return Ok(());
            }
        }
    }

    fn had_enough(&self, streams: &[Stream], spent: Duration) -> bool {
        let limits = &self.found.suite.limits;
        streams.iter().all(|stream| {
            let samples = &self.cells[stream.at].samples_us;
            let enough = samples.len() >= limits.samples_min;
            samples.len() >= limits.samples_max
                || enough && (spent >= limits.time || statistics::rough_spread(samples) <= limits.spread)
        })
    }

    /// Each alone and then all at once, in random order; says whether the cells may go on.
    async fn round(
        &mut self,
        socket: &mut Socket,
        streams: &mut [Stream],
        warm_up: bool,
    ) -> anyhow::Result<bool> {
        streams.shuffle(&mut rand::rng());
        let groups: Vec<Vec<usize>> =
            (0..streams.len()).map(|at| vec![at]).chain([(0..streams.len()).collect()]).collect();
        for group in groups {
            let asks: Vec<_> =
                (0..).zip(&group).map(|(id, at)| streams[*at].asking.ask(id, streams[*at].next)).collect();
            for (answered, at) in socket.ask_each(&asks).await?.into_iter().zip(&group) {
                let cell = streams[*at].at;
                let right = answered
                    .0
                    .map_err(|Refused { code, message }| (Outcome::Failed, format!("{code}: {message}")));
                let right = right.and_then(|answer| {
                    let told = provenance(&answer);
                    self.right(answer, cell).map(|error| (error, told))
                });
                match right {
                    Ok((error, told)) => {
                        let cell = &mut self.cells[cell];
                        cell.error = Some(cell.error.unwrap_or(0.0).max(error));
                        cell.provenance = told;
                        let samples = match (warm_up, group.len()) {
                            (true, 1) => continue,
                            (true, _) => &mut cell.warm_up_us,
                            (false, 1) => &mut cell.alone_us,
                            (false, _) => &mut cell.samples_us,
                        };
                        samples.push(answered.1);
                    }
                    Err((outcome, reason)) => {
                        self.broke(streams, cell, outcome, reason);
                        return Ok(false);
                    }
                }
            }
        }
        for stream in streams.iter_mut() {
            stream.next += 1;
        }
        Ok(true)
    }

    fn right(&self, answer: Answer, cell: usize) -> Result<f64, (Outcome, String)> {
        let known = &self.materials[&cell].known;
        off(known, &[answer], self.cells[cell].tolerance).map_err(|detail| (Outcome::Wrong, detail))
    }

    /// Ends a cell, and those beside it with it.
    fn broke(&mut self, streams: &[Stream], cell: usize, outcome: Outcome, reason: String) {
        let beside = format!("{} broke beside it: {reason}", self.cells[cell].model);
        self.ended(cell, outcome, Some(reason));
        for other in streams.iter().map(|stream| stream.at).filter(|at| *at != cell) {
            self.ended(other, Outcome::Skipped, Some(beside.clone()));
        }
    }
}
