//! What the worker may do, and when it takes something for true.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::table::PROBES_MAX;

/// How far the worker may go. With `off` there is no worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Write advice down, build nothing.
    Advise,
    /// Build what is advised.
    #[default]
    Auto,
}

/// How far the worker may go for single apps, by their slugs: less than [`Settings::mode`] says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppModes {
    /// Nothing is built for these.
    pub advise: BTreeSet<String>,
    /// These are as if they had not queried.
    pub off: BTreeSet<String>,
}

/// Hours of the day in which indexes may be built, in minutes since midnight UTC. It may go over midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BuildWindow {
    /// The first minute in it.
    pub from_minute: u16,
    /// The first minute behind it.
    pub to_minute: u16,
}

impl BuildWindow {
    /// Whether an instant, in milliseconds since 1970, lies in it.
    pub fn holds(self, at_millis: i64) -> bool {
        let minute = at_millis.div_euclid(60_000).rem_euclid(24 * 60);
        let minute = u16::try_from(minute).unwrap_or(0);
        if self.from_minute <= self.to_minute {
            (self.from_minute..self.to_minute).contains(&minute)
        } else {
            minute >= self.from_minute || minute < self.to_minute
        }
    }
}

/// All settings, with their defaults in [`Settings::default`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How far the worker may go.
    pub mode: Mode,
    /// Between two merges with the other proxies, each with a round of work.
    pub interval: Duration,
    /// How often a shape must have been seen, by all proxies.
    pub seen_min: u64,
    /// Over how long.
    pub seen_over: Duration,
    /// Documents below which a scan is as good as an index.
    pub documents_min: u64,
    /// Documents examined in vain in one command.
    pub excess_min: u64,
    /// The same for each document returned.
    pub excess_ratio: u64,
    /// Documents sorted in memory by one command.
    pub sorted_min: u64,
    /// Writes to the collection for each read of the shape, above which an index costs more than it gives.
    pub writes_per_read_max: u64,
    /// Automatic indexes of one collection.
    pub automatic_max: usize,
    /// Indexes of one collection, of apps and automatic, above which none is added: the server's limit is 64, and the rest is
    /// for what apps define.
    pub indexes_max: usize,
    /// When indexes may be built; always if not given.
    pub build_window: Option<BuildWindow>,
    /// For one explain.
    pub explain_timeout: Duration,
    /// Commands on collections of apps that may come together, apart from builds.
    pub commands_max: u32,
    /// For so long there may be one of them. Each leads to about two on the control database, so that all of them together are
    /// one a second.
    pub command_every: Duration,
    /// How long a "no" holds before the candidate is looked at again. Doubled with each failed build.
    pub retry_after: Duration,
    /// Calls of a shape after the build before its latency is compared.
    pub calls_min: u64,
    /// The latency afterwards in percent of that before, above which an index is taken back.
    pub slower_percent: u64,
    /// Without use for so long an automatic index is hidden.
    pub unused_for: Duration,
    /// How long it stays hidden before it is dropped.
    pub soak_for: Duration,
    /// Apps that want the same index of several fields, from which it is made once for all.
    pub shared_from_apps: usize,
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            interval: Duration::from_secs(60),
            seen_min: 20,
            seen_over: Duration::from_secs(60),
            documents_min: 1000,
            excess_min: 500,
            excess_ratio: 10,
            sorted_min: 100,
            writes_per_read_max: 20,
            automatic_max: 8,
            indexes_max: 48,
            build_window: None,
            explain_timeout: Duration::from_secs(5),
            commands_max: 20,
            command_every: Duration::from_secs(3),
            retry_after: Duration::from_secs(10 * 60),
            calls_min: 100,
            slower_percent: 150,
            unused_for: 7 * DAY,
            soak_for: 7 * DAY,
            shared_from_apps: PROBES_MAX + 1,
        }
    }
}

/// Milliseconds, as instants are counted here.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_may_go_over_midnight() {
        let at = |hour: i64, minute: i64| (hour * 60 + minute) * 60_000 + 86_400_000 * 20_000;
        for (from, to, instant, expected) in [
            (120, 300, at(2, 0), true),
            (120, 300, at(4, 59), true),
            (120, 300, at(5, 0), false),
            (120, 300, at(1, 59), false),
            (1380, 60, at(23, 30), true),
            (1380, 60, at(0, 59), true),
            (1380, 60, at(12, 0), false),
        ] {
            let window = BuildWindow {
                from_minute: from,
                to_minute: to,
            };
            assert_eq!(window.holds(instant), expected, "{window:?} {instant}");
        }
    }
}
