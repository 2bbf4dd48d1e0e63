//! Failed log-ins by address, so that passwords cannot be tried at any speed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::slots::network_of;

/// The failed log-ins of the current minute.
#[derive(Debug, Default)]
pub(crate) struct Failures(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    begun_at: Option<Instant>,
    failures: HashMap<IpAddr, usize>,
}

impl Failures {
    /// Whether the address has failed `max` times in this minute.
    pub(crate) fn has(&self, address: IpAddr, max: usize, now: Instant) -> bool {
        let minute = self.at(now);
        let failures = minute.failures.get(&network_of(address));
        failures.is_some_and(|failures| *failures >= max)
    }

    /// A log-in from the address has failed.
    pub(crate) fn add(&self, address: IpAddr, now: Instant) {
        let mut minute = self.at(now);
        let address = network_of(address);
        if minute.failures.len() < ADDRESSES_MAX || minute.failures.contains_key(&address) {
            *minute.failures.entry(address).or_default() += 1;
        }
    }

    /// The minute of `now`. It is whole between any two calls, so a panic elsewhere does not spoil it.
    fn at(&self, now: Instant) -> MutexGuard<'_, Minute> {
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun_at = *minute.begun_at.get_or_insert(now);
        if now.saturating_duration_since(begun_at) >= MINUTE {
            *minute = Minute {
                begun_at: Some(now),
                failures: HashMap::new(),
            };
        }
        minute
    }
}

const MINUTE: Duration = Duration::from_secs(60);
/// Of a few dozen bytes each. Whoever has more addresses than this in a minute is not stopped by counting them.
const ADDRESSES_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_failures_in_a_minute_and_none_in_the_next() {
        let failures = Failures::default();
        let start = Instant::now();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        failures.add(one, start);
        assert!(!failures.has(one, 2, start));
        failures.add(one, start + MINUTE / 2);
        assert!(failures.has(one, 2, start + MINUTE / 2));
        assert!(!failures.has(other, 2, start));
        assert!(!failures.has(one, 2, start + MINUTE));
    }
}
