//! What a caller has used of what it may: requests per second, per day, and at once.
//!
//! Counted in memory; a day's count is written beside the requests ([`super::spent`]).

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};

use super::grant;
use crate::{
    domain::{Caller, Code, Failure, Retry},
    store::Spent,
};

const DAY_S: u64 = 24 * 3600;

/// The day of UTC, counted from the Unix epoch.
pub(super) fn today() -> u32 {
    day_of(grant::now_s())
}

fn day_of(now_s: u64) -> u32 {
    u32::try_from(now_s / DAY_S).unwrap_or(u32::MAX)
}

/// What a caller may; absent is unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Its share of the lanes' time beside others.
    pub weight: u32,
    /// As many may come at once after a second of rest.
    pub rate_per_second: Option<NonZeroU32>,
    /// Days are those of UTC.
    pub quota_per_day: Option<NonZeroU32>,
    pub in_flight: Option<NonZeroU32>,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { weight: 1, rate_per_second: None, quota_per_day: None, in_flight: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("more than {rate} requests per second; try again in {} ms", .after.as_millis().max(1))]
    Rate { rate: u32, after: Duration },
    #[error("{quota} requests came today, which is the quota; the next day begins in {} s", .after.as_secs())]
    Quota { quota: u32, after: Duration },
    #[error("{most} requests are in flight, which is the limit of this caller")]
    InFlight { most: u32 },
}

impl Exceeded {
    /// When it is worth another try.
    pub fn after(&self) -> Duration {
        match self {
            Self::Rate { after, .. } | Self::Quota { after, .. } => *after,
            Self::InFlight { .. } => Duration::from_secs(1),
        }
    }
}

impl From<&Exceeded> for Failure {
    fn from(exceeded: &Exceeded) -> Self {
        Self::new(Code::RateLimited, Retry::Same, exceeded.to_string())
    }
}

/// One limit as the `RateLimit` fields tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub name: &'static str,
    pub quota: u32,
    pub window_s: u64,
    pub remaining: u32,
    /// Until the whole quota is there again.
    pub reset_s: u64,
}

#[derive(Debug)]
pub(super) struct Account {
    pub(super) caller: Caller,
    allowance: Allowance,
    rate: Option<DefaultDirectRateLimiter<StateInformationMiddleware>>,
    rate_left: AtomicU32,
    day: Mutex<Day>,
    in_flight: AtomicU32,
}

#[derive(Debug, Default)]
struct Day {
    number: u32,
    used: u32,
    /// How much of it is in the store.
    written: u32,
}

/// A request under way; its end is the drop.
#[derive(Debug)]
pub struct Entered {
    account: Arc<Account>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.account.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Account {
    pub(super) fn new(id: &str, allowance: Allowance) -> Self {
        let limiter = |rate| RateLimiter::direct(Quota::per_second(rate)).with_middleware();
        Self {
            caller: Caller { id: id.into(), weight: allowance.weight },
            rate: allowance.rate_per_second.map(limiter),
            rate_left: AtomicU32::new(allowance.rate_per_second.map_or(0, NonZeroU32::get)),
            day: Mutex::default(),
            in_flight: AtomicU32::new(0),
            allowance,
        }
    }

    /// Counts one request in, `now_s` seconds after the Unix epoch.
    pub(super) fn enter(self: &Arc<Self>, now_s: u64) -> Result<Entered, Exceeded> {
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        // From here on a refusal counts it out.
        let entered = Entered { account: self.clone() };
        if let Some(most) = self.allowance.in_flight
            && before >= most.get()
        {
            return Err(Exceeded::InFlight { most: most.get() });
        }
        self.count(now_s)?;
        Ok(entered)
    }

    /// Counts one message that asks for nothing that takes time.
    pub(super) fn count(&self, now_s: u64) -> Result<(), Exceeded> {
        if let (Some(rate), Some(limiter)) = (self.allowance.rate_per_second, &self.rate) {
            match limiter.check() {
                Ok(state) => self.rate_left.store(state.remaining_burst_capacity(), Ordering::Relaxed),
                Err(not_until) => {
                    self.rate_left.store(0, Ordering::Relaxed);
                    let after = not_until.wait_time_from(DefaultClock::default().now());
                    return Err(Exceeded::Rate { rate: rate.get(), after });
                }
            }
        }
        if let Some(quota) = self.allowance.quota_per_day {
            let mut day = self.day.lock().expect("no holder of a day's count panics");
            day.turn(now_s);
            if day.used >= quota.get() {
                let after = Duration::from_secs(DAY_S - now_s % DAY_S);
                return Err(Exceeded::Quota { quota: quota.get(), after });
            }
            day.used += 1;
        }
        Ok(())
    }

    /// Goes on with what was used of a day before.
    pub(super) fn resume(&self, number: u32, used: u32) {
        *self.day.lock().expect("no holder of a day's count panics") = Day { number, used, written: used };
    }

    /// What was used of a day's quota, unless the store has it.
    pub(super) fn unwritten(&self) -> Option<Spent> {
        let day = self.day.lock().expect("no holder of a day's count panics");
        (day.used != day.written).then(|| Spent {
            caller: self.caller.id.to_string(),
            day: day.number,
            used: day.used,
        })
    }

    pub(super) fn wrote(&self, spent: &Spent) {
        let mut day = self.day.lock().expect("no holder of a day's count panics");
        if day.number == spent.day {
            day.written = spent.used;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(Ordering::Relaxed) == 0
    }

    /// How the limits stood when the last request was counted.
    pub(super) fn standings(&self, now_s: u64) -> Vec<Standing> {
        let rate = self.allowance.rate_per_second.map(NonZeroU32::get).map(|quota| {
            let remaining = self.rate_left.load(Ordering::Relaxed);
            Standing { name: "second", quota, window_s: 1, remaining, reset_s: 1 }
        });
        let day = self.allowance.quota_per_day.map(NonZeroU32::get).map(|quota| {
            let mut day = self.day.lock().expect("no holder of a day's count panics");
            day.turn(now_s);
            let remaining = quota.saturating_sub(day.used);
            Standing { name: "day", quota, window_s: DAY_S, remaining, reset_s: DAY_S - now_s % DAY_S }
        });
        rate.into_iter().chain(day).collect()
    }
}

impl Day {
    fn turn(&mut self, now_s: u64) {
        let today = day_of(now_s);
        if self.number != today {
            *self = Self { number: today, ..Self::default() };
        }
    }
}
