//! How many connections there may be: in all, and from one address.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
};

/// Why a connection is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    #[error("{0} connections are open, which is the limit")]
    All(usize),
    #[error("{0} connections from this address are open, which is the limit")]
    Address(usize),
}

#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    /// None where all callers share an address, as on loopback and behind a proxy.
    most_per_address: Option<usize>,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by: HashMap<IpAddr, usize>,
}

/// One connection's place, given back on drop.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    from: IpAddr,
}

impl Places {
    pub(super) fn new(most: usize, most_per_address: Option<usize>) -> Arc<Self> {
        Arc::new(Self { most, most_per_address, taken: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Result<Place, Full> {
        let from = counted(from);
        let mut taken = self.taken();
        if taken.all >= self.most {
            return Err(Full::All(self.most));
        }
        let of = taken.by.get(&from).copied().unwrap_or(0);
        if let Some(most) = self.most_per_address.filter(|most| of >= *most) {
            return Err(Full::Address(most));
        }
        taken.all += 1;
        taken.by.insert(from, of + 1);
        Ok(Place { places: self.clone(), from })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().expect("no holder of the places panics")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(of) = taken.by.get_mut(&self.from) {
            *of -= 1;
            if *of == 0 {
                taken.by.remove(&self.from);
            }
        }
    }
}

/// One host has at least a /64 of IPv6 to itself.
fn counted(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        IpAddr::V4(address) => address.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{Full, Places};

    #[test]
    fn places_are_counted_in_all_and_by_address() {
        let places = Places::new(4, Some(2));
        let take = |from: &str| places.take(from.parse::<IpAddr>().expect("an address"));
        let first = take("10.0.0.1").expect("a place");
        // The same address, written for a socket that takes both.
        let _second = take("::ffff:10.0.0.1").expect("a place");
        assert_eq!(take("10.0.0.1").err(), Some(Full::Address(2)));
        let _third = take("2001:db8::1").expect("a place");
        let _fourth = take("2001:db8::2:1").expect("a place");
        assert_eq!(take("10.0.0.2").err(), Some(Full::All(4)));
        drop(first);
        assert_eq!(take("2001:db8::ffff").err(), Some(Full::Address(2)), "one /64 is one host");
        assert!(take("10.0.0.1").is_ok());
    }
}
