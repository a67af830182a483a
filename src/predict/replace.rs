//! When a running plan may make way for another.

/// A plan that might be better than the running one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rival<'a> {
    /// What tells it from other plans.
    pub name: &'a str,
    /// Microseconds that it is forecast to take, by the measure that the running one is judged by.
    pub micros: f64,
    /// Whether all its stages are loaded and proven in their lanes.
    pub ready: bool,
}

/// What to do with a running plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// It goes on alone.
    Keep,
    /// It goes on while the rival's stages are loaded beside it.
    Prepare,
    /// New requests go to the rival; those under way end where they began.
    Replace,
}

/// Watches a running plan for a rival that is better often enough to be worth its loading.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watch {
    /// The rival that won the last time, and how often in a row.
    leader: Option<(String, u32)>,
}

impl Watch {
    /// A rival must save this share of what the running plan takes: within less, a machine's moods decide.
    pub const GAIN_LEAST: f64 = 0.1;

    /// In a row.
    pub const WINS: u32 = 2;

    /// Compares what the running plan was measured to take, in microseconds, with the best rival.
    pub fn judge(&mut self, running_us: f64, rival: Option<Rival<'_>>) -> Advice {
        let better = |rival: &Rival<'_>| rival.micros < running_us * (1.0 - Self::GAIN_LEAST);
        let Some(rival) = rival.filter(better) else {
            self.leader = None;
            return Advice::Keep;
        };
        let before = self.leader.take().filter(|(name, _)| name == rival.name);
        let wins = before.map_or(0, |(_, wins)| wins).saturating_add(1);
        self.leader = Some((rival.name.to_owned(), wins));
        match wins {
            wins if wins < Self::WINS => Advice::Keep,
            _ if rival.ready => Advice::Replace,
            _ => Advice::Prepare,
        }
    }
}
