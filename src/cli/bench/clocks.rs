//! What the clocks say of the time between two moments: whether the machine slept, and whether its clock was set.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Clocks are corrected by less all the time, and are read one after the other.
const TOLD: Duration = Duration::from_secs(1);

/// The one that goes on while the machine sleeps; elsewhere than on Linux none is known to.
#[cfg(target_os = "linux")]
const ASLEEP: ClockId = ClockId::CLOCK_BOOTTIME;
#[cfg(not(target_os = "linux"))]
const ASLEEP: ClockId = ClockId::CLOCK_MONOTONIC;

/// What each clock shows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clocks {
    /// Since the Unix epoch, as somebody has set it.
    wall: Duration,
    /// Stands still while the machine sleeps.
    awake: Duration,
    /// Goes on then.
    always: Duration,
}

impl Clocks {
    pub(super) fn read() -> Self {
        let read = |clock| clock_gettime(clock).map(Duration::from).unwrap_or_default();
        Self {
            wall: read(ClockId::CLOCK_REALTIME),
            awake: read(ClockId::CLOCK_MONOTONIC),
            always: read(ASLEEP),
        }
    }

    /// How long it is since, whatever the wall clock says.
    pub(super) fn elapsed(&self, now: &Self) -> Duration {
        now.always.saturating_sub(self.always)
    }

    /// What to be wary of.
    pub(super) fn warnings(&self, now: &Self) -> Vec<String> {
        let elapsed = self.elapsed(now);
        let slept = elapsed.saturating_sub(now.awake.saturating_sub(self.awake));
        let wanted = self.wall + elapsed;
        let direction = if now.wall < wanted { "back" } else { "forward" };
        let by = now.wall.abs_diff(wanted);
        let told = |time: Duration| time > TOLD;
        let slept = told(slept).then(|| {
            format!("the machine slept for {} s: what was measured then took longer", slept.as_secs())
        });
        let set = told(by).then(|| format!("the clock was set {direction} by {} s", by.as_secs()));
        slept.into_iter().chain(set).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sleep_and_clocks_that_are_set_are_told() {
        let clocks = |wall, awake, always| {
            let [wall, awake, always] = [wall, awake, always].map(Duration::from_millis);
            Clocks { wall, awake, always }
        };
        let before = clocks(1_000_000, 5_000, 7_000);
        let cases: [(&str, Clocks, &[&str]); 6] = [
            ("nothing", clocks(1_060_000, 65_000, 67_000), &[]),
            ("a little", clocks(1_060_900, 64_200, 67_000), &[]),
            (
                "sleep",
                clocks(1_060_000, 35_000, 67_000),
                &["the machine slept for 30 s: what was measured then took longer"],
            ),
            ("back", clocks(900_000, 65_000, 67_000), &["the clock was set back by 160 s"]),
            ("forward", clocks(1_090_000, 65_000, 67_000), &["the clock was set forward by 30 s"]),
            (
                "both",
                clocks(1_090_000, 35_000, 67_000),
                &[
                    "the machine slept for 30 s: what was measured then took longer",
                    "the clock was set forward by 30 s",
                ],
            ),
        ];
        for (case, now, wanted) in cases {
            assert_eq!(before.warnings(&now), wanted, "{case}");
            assert_eq!(before.elapsed(&now), Duration::from_secs(60), "{case}");
        }
        let now = Clocks::read();
        assert!(now.warnings(&Clocks::read()).is_empty());
    }
}
