//! How much one address may hold at a time: connections and requests cost nothing, addresses do.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The address that counts: a /64 of IPv6 is one household.
pub(super) fn household(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let s = ip.segments();
            IpAddr::V6(Ipv6Addr::new(s[0], s[1], s[2], s[3], 0, 0, 0, 0))
        }
        other => other,
    }
}

/// Places of each address. Those on this machine are not counted: they share one address, and other limits hold them.
#[derive(Clone, Debug)]
pub(super) struct Places {
    each: usize,
    taken: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
}

/// A place that is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place(Option<(IpAddr, Places)>);

impl Places {
    pub(super) fn new(each: usize) -> Self {
        Self { each, taken: Arc::default() }
    }

    /// Takes a place, if the address has one left.
    pub(super) fn take(&self, ip: IpAddr) -> Option<Place> {
        let address = household(ip);
        if address.is_loopback() {
            return Some(Place(None));
        }
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = taken.entry(address).or_default();
        if *of_address >= self.each {
            return None;
        }
        *of_address += 1;
        Some(Place(Some((address, self.clone()))))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((address, places)) = self.0.take() else { return };
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_address) = taken.get_mut(&address) {
            *of_address = of_address.saturating_sub(1);
            if *of_address == 0 {
                taken.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_takes_its_places_only_and_they_are_free_again() {
        let places = Places::new(2);
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let held = [places.take(ip("192.0.2.1")).unwrap(), places.take(ip("::ffff:192.0.2.1")).unwrap()];
        assert!(places.take(ip("192.0.2.1")).is_none());
        assert!(places.take(ip("192.0.2.2")).is_some(), "addresses do not share");
        drop(held);
        assert!(places.taken.lock().unwrap().is_empty(), "nothing is kept of those who left");
        let _held = [places.take(ip("2001:db8:1:2::1")).unwrap(), places.take(ip("2001:db8:1:2::2")).unwrap()];
        assert!(places.take(ip("2001:db8:1:2:ffff::3")).is_none(), "a /64 is one household");
        assert!(places.take(ip("2001:db8:1:3::1")).is_some());
        let local: Vec<_> = (0..9).map(|_| places.take(ip("127.0.0.1"))).collect();
        assert!(local.iter().all(Option::is_some));
    }
}
