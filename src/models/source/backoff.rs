//! How often a failing server is asked again, and after how long.

use std::time::Duration;

use super::SourceError;

/// Longer waits are for whoever asked: the download ends, and what came stays for the next time.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(120);

/// A server that gives this much more than ever before is on the way, however often it fails.
pub(super) const PROGRESS: u64 = 1 << 20;

#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    /// Tries after the first, without progress in between.
    pub retries: u32,
    /// Before the first of them; each wait is twice the one before.
    pub first: Duration,
}

impl Backoff {
    /// `chance` lies between 0 and 1: daemons that failed together shall not come again together.
    pub(super) fn wait(&self, failures: u32, chance: f64) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(WAIT_MAX);
        doubled.mul_f64(0.5 + chance / 2.0)
    }
}

/// The tries of one file.
#[derive(Debug)]
pub(super) struct Tries {
    backoff: Backoff,
    failures: u32,
    furthest: u64,
}

impl Tries {
    pub(super) fn new(backoff: Backoff) -> Self {
        Self { backoff, failures: 0, furthest: 0 }
    }

    /// Waits until another try may help; gives the error back when none will. `at` is how much was there when it
    /// came, `told` hears of the wait.
    pub(super) async fn again(
        &mut self,
        error: SourceError,
        at: u64,
        told: impl FnOnce(Duration, &SourceError),
    ) -> Result<(), SourceError> {
        let Some(asked) = error.passes() else { return Err(error) };
        if at >= self.furthest + PROGRESS {
            (self.furthest, self.failures) = (at, 0);
        }
        self.failures += 1;
        if self.failures > self.backoff.retries || asked > WAIT_MAX {
            return Err(error);
        }
        let wait = self.backoff.wait(self.failures, rand::random()).max(asked);
        told(wait, &error);
        tokio::time::sleep(wait).await;
        Ok(())
    }
}
