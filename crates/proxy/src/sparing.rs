//! Lines of the log that anybody can cause by connecting: so many in a minute, and the rest is counted. The metrics count all.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Of one kind in a minute: enough to see what is going on, and some thirty megabytes in a day at most.
const LINES_MAX: u32 = 100;
const MINUTE: Duration = Duration::from_secs(60);

/// By kind, so that a flood of one does not hide another.
#[derive(Debug, Default)]
pub(crate) struct Complaints {
    /// What is no message.
    pub(crate) malformed: Sparing,
    /// TLS or the PROXY protocol failed.
    pub(crate) greetings: Sparing,
    /// One connection too many.
    pub(crate) limits: Sparing,
}

/// Lines of one kind.
#[derive(Debug, Default)]
pub(crate) struct Sparing(Mutex<Minute>);

#[derive(Debug, Default)]
struct Minute {
    begun_at: Option<Instant>,
    lines: u32,
    withheld: u64,
}

impl Sparing {
    /// `None` if the line is not to be written now; else how many were not since the last one.
    pub(crate) fn line(&self, now: Instant) -> Option<u64> {
        // It is whole between any two calls, so a panic elsewhere does not spoil it.
        let mut minute = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let begun_at = *minute.begun_at.get_or_insert(now);
        if now.saturating_duration_since(begun_at) >= MINUTE {
            minute.begun_at = Some(now);
            minute.lines = 0;
        }
        if minute.lines >= LINES_MAX {
            minute.withheld = minute.withheld.saturating_add(1);
            return None;
        }
        minute.lines += 1;
        Some(std::mem::take(&mut minute.withheld))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_lines_in_a_minute_and_the_rest_is_counted() {
        let sparing = Sparing::default();
        let start = Instant::now();
        let lines = |count: u32, now| (0..count).map(|_| sparing.line(now)).collect::<Vec<_>>();
        let limit = usize::try_from(LINES_MAX).unwrap();
        assert_eq!(lines(LINES_MAX, start), vec![Some(0); limit]);
        assert_eq!(lines(3, start + MINUTE / 2), [None; 3]);
        assert_eq!(lines(2, start + MINUTE), [Some(3), Some(0)]);
    }
}
