//! One cell of the proof of faults, as it is kept: one scenario, done several times to one subject.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{FIXTURES, proof, scenarios::Scenario, stage::Trial};

#[derive(Serialize, Deserialize)]
pub(crate) struct Cell {
    commit: String,
    machine: String,
    command: String,
    /// What is hit: an engine, or a stage of a plan over several.
    #[serde(rename = "engine")]
    subject: String,
    scenario: String,
    pub(crate) trials: Vec<Trial>,
}

impl Cell {
    /// What is known of it, if that counts, else an empty one.
    pub(crate) fn open(subject: &str, scenario: Scenario, trials: usize) -> Self {
        let commit = proof::commit();
        let stands = |cell: &Self| stands((cell.trials.len(), trials), &cell.commit, &commit);
        Self::read(subject, scenario).filter(stands).unwrap_or_else(|| Self {
            commit,
            machine: proof::machine(),
            command: proof::COMMAND.to_owned(),
            subject: subject.to_owned(),
            scenario: scenario.name().to_owned(),
            trials: Vec::new(),
        })
    }

    pub(crate) fn read(subject: &str, scenario: Scenario) -> Option<Self> {
        let file = std::fs::read(Self::file(subject, scenario.name())).ok()?;
        serde_json::from_slice(&file).ok()
    }

    /// Keeps one more trial.
    pub(crate) fn add(&mut self, trial: Trial) {
        self.trials.push(trial);
        let file = Self::file(&self.subject, &self.scenario);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, format!("{}\n", serde_json::to_string(self).unwrap())).unwrap();
    }

    fn file(subject: &str, scenario: &str) -> PathBuf {
        PathBuf::from(FIXTURES).join("measurements/faults").join(format!("{subject}-{scenario}.json"))
    }

    /// A row of the table.
    pub(crate) fn row(&self) -> String {
        let sum = |count: fn(&Trial) -> u64| self.trials.iter().map(count).sum::<u64>();
        let recoveries: Vec<f64> =
            self.trials.iter().flat_map(|trial| trial.recovery_ms.iter().copied()).collect();
        let recovery = |q| quantile(&recoveries, q).map_or("–".to_owned(), |ms| format!("{ms:.0} ms"));
        let longest = self.trials.iter().map(|trial| trial.longest_ms).fold(0.0, f64::max);
        format!(
            "| {} | {} | {} | {} | {} | {} | {} | {} | {longest:.0} ms | {} | {} |",
            self.scenario,
            self.subject,
            self.trials.len(),
            sum(|trial| trial.accepted),
            sum(|trial| trial.failed.values().sum()),
            sum(|trial| trial.retried),
            recovery(0.5),
            recovery(0.95),
            proof::short(&self.commit),
            self.machine,
        )
    }
}

/// The smallest sample that at least the share `q` of all does not exceed.
fn quantile(samples: &[f64], q: f64) -> Option<f64> {
    let mut samples = samples.to_vec();
    samples.sort_by(f64::total_cmp);
    let rank = (q * samples.len() as f64).ceil() as usize;
    samples.get(rank.max(1) - 1).copied()
}

/// Whether a cell that was begun at another commit counts: a whole one does, and keeps the commit that it names.
/// A part of one goes on only where it was begun, so that no row mixes two commits.
fn stands((trials, whole): (usize, usize), begun: &str, now: &str) -> bool {
    trials >= whole || begun == now
}

#[test]
fn only_whole_cells_outlive_their_commit() {
    let cases = [(20, "a", true), (20, "b", true), (19, "a", true), (19, "b", false)];
    for (trials, begun, wanted) in cases {
        assert_eq!(stands((trials, 20), begun, "a"), wanted, "{trials} trials, begun at {begun}");
    }
}
