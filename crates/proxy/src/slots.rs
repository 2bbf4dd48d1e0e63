//! A count with a limit: so many of something at the same time, and no more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many are taken. The limit comes with each [`Slots::take`], since it may differ by the taker.
#[derive(Debug, Default)]
pub struct Slots(AtomicUsize);

/// One that is taken; free again when dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Slots {
    /// Takes one, unless `max` are taken already.
    pub fn take(self: &Arc<Self>, max: usize) -> Option<Slot> {
        let one_more = |taken: usize| (taken < max).then_some(taken.saturating_add(1));
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()
            .map(|_| Slot(Arc::clone(self)))
    }

    /// How many are taken now.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The same by address. IPv6 addresses of one network of 64 bits are one: whoever has one of them has all.
#[derive(Debug, Default)]
pub(crate) struct AddressSlots(Mutex<HashMap<IpAddr, usize>>);

/// One that is taken; free again when dropped.
#[derive(Debug)]
pub(crate) struct AddressSlot {
    home: Arc<AddressSlots>,
    address: IpAddr,
}

impl AddressSlots {
    /// Takes one for `address`, unless it has `max` already.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<AddressSlot> {
        let address = network_of(address);
        let mut all = self.lock();
        let taken = all.get(&address).copied().unwrap_or_default();
        if taken >= max {
            return None;
        }
        all.insert(address, taken + 1);
        Some(AddressSlot {
            home: Arc::clone(self),
            address,
        })
    }

    /// A count is right between any two calls, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AddressSlot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut taken) = self.home.lock().entry(self.address) {
            match taken.get().checked_sub(1) {
                None | Some(0) => {
                    taken.remove();
                }
                Some(fewer) => *taken.get_mut() = fewer,
            }
        }
    }
}

/// What is counted as one address.
pub(crate) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(network))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_counted_by_themselves_and_networks_as_one() {
        let slots = Arc::new(AddressSlots::default());
        let take = |address: &str| slots.take(address.parse().unwrap(), 2);
        let held = (
            take("192.0.2.1"),
            take("::ffff:192.0.2.1"),
            take("192.0.2.2"),
        );
        assert!(held.0.is_some() && held.1.is_some() && held.2.is_some());
        assert!(take("192.0.2.1").is_none());
        let network = (take("2001:db8::1"), take("2001:db8::ffff:1"));
        assert!(network.0.is_some() && network.1.is_some());
        assert!(take("2001:db8::2").is_none());
        assert!(take("2001:db8:0:1::1").is_some());
        drop((held, network));
        assert!(slots.lock().is_empty());
    }

    #[test]
    fn no_more_than_the_limit() {
        let slots = Arc::new(Slots::default());
        assert!(slots.take(0).is_none());
        let first = slots.take(2);
        let second = slots.take(2);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(2).is_none());
        drop(first);
        assert_eq!(slots.taken(), 1);
        assert!(slots.take(2).is_some());
    }
}
