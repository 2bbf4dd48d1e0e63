//! How long a command may wait for the upstream.

use std::time::Duration;

use mdb_scope::Refusal;
use mdb_upstream::UpstreamError;
use mdb_wire::{Command, Kind};
use mongodb::error::Error as DriverError;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::labels::{Labels, NONE, when_lost};

/// Checks `maxTimeMS` as a server does of every command (6.0.5). What the command's own server will see as it is, `is_sent`
/// leaves to it: whether a string is 2 or 14 differs between commands.
pub(crate) fn check(command: &Command<'_>, is_sent: bool) -> Result<(), Refusal> {
    let limit = command.body.find("maxTimeMS");
    let Some(limit) = limit.filter(|_| command.name != b"getMore") else {
        return Ok(());
    };
    let is_number = matches!(
        limit.kind,
        Kind::Int32 | Kind::Int64 | Kind::Double | Kind::Decimal128
    );
    let out_of_range =
        |millis| Refusal::bad_value(format!("{millis} value for maxTimeMS is out of range"));
    match limit
        .as_integer()
        .map(|millis| (millis, i32::try_from(millis)))
    {
        Some((_, Ok(0..))) => Ok(()),
        // More than a server takes becomes less on its way there.
        Some((millis, Err(_))) => Err(out_of_range(millis)),
        _ if is_sent => Ok(()),
        Some((millis, Ok(_))) => Err(out_of_range(millis)),
        None if is_number => Err(Refusal::bad_value("maxTimeMS has non-integral value")),
        None => Err(Refusal::bad_value("maxTimeMS must be a number")),
    }
}

/// When a command has to end, if its client says so. What runs upstream for longer than a step may wait is not ended for
/// that: a drop of many documents takes as long as it takes, as on a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    limit: Option<Limit>,
    /// How long a step of a command waits for a server and a connection together.
    wait_max: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    end: Instant,
    max_time: Duration,
}

impl Deadline {
    /// Of a command that has just arrived. `maxTimeMS` of a `getMore` is how long it may wait for documents.
    pub(crate) fn of(command: &Command<'_>, wait_max: Duration) -> Self {
        let limit = command.body.find("maxTimeMS").and_then(|e| e.as_integer());
        let limit = limit.filter(|millis| *millis > 0 && command.name != b"getMore");
        let limit = limit.map(|millis| {
            // A limit of centuries is none that anybody meets.
            let max_time = Duration::from_millis(millis.unsigned_abs()).min(MAX_TIME_MAX);
            Limit {
                end: Instant::now() + max_time,
                max_time,
            }
        });
        Self { limit, wait_max }
    }

    /// Until when a step that begins now may wait for a server and a connection.
    pub(crate) fn of_step(self) -> Instant {
        let step = Instant::now() + self.wait_max;
        self.limit.map_or(step, |limit| limit.end.min(step))
    }

    /// What is left now of the command's `maxTimeMS` for the server, in milliseconds, rounded up; 0: nothing. `None` where it
    /// has none.
    ///
    /// A driver with a timeout of its own takes its way to the proxy off what it asks for; of the way from there to the
    /// server it does not know, and by that much the server's answer would come too late for it. So `round_trip` is taken off
    /// here. But never more than half of what is left: a way that was measured on a bad day must not end what has time.
    pub(crate) fn left_millis(self, round_trip: impl FnOnce() -> Duration) -> Option<i32> {
        let left = self.limit?.end.saturating_duration_since(Instant::now());
        let left = left.saturating_sub(round_trip().min(left / 2));
        let millis = left.as_micros().div_ceil(1000);
        Some(i32::try_from(millis).unwrap_or(i32::MAX))
    }

    /// The error of a command that can wait no longer: 50 where its own limit has passed, without labels, as a server says it
    /// (6.0.5): a driver that tried again would exceed what its user allowed.
    pub(crate) fn passed(self, labels: Labels) -> Error {
        match self.limit {
            Some(Limit { end, max_time }) if Instant::now() >= end => Error::Upstream {
                error: UpstreamError::Deadline { waited: max_time },
                labels: NONE,
            },
            _ => Error::control(None, labels),
        }
    }

    /// Awaits a short piece of work of the proxy's own driver.
    pub(crate) async fn within<T>(
        self,
        command: &Command<'_>,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        let done = timeout_at(self.of_step(), work).await.ok();
        self.ended(command, done)
    }

    /// Awaits work of the proxy's own driver that takes as long as there are documents.
    pub(crate) async fn at_length<T>(
        self,
        command: &Command<'_>,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        let done = match self.limit {
            Some(limit) => timeout_at(limit.end, work).await.ok(),
            None => Some(work.await),
        };
        self.ended(command, done)
    }

    /// What became of the work, which is `None` if its time was up.
    fn ended<T>(
        self,
        command: &Command<'_>,
        done: Option<Result<T, DriverError>>,
    ) -> Result<T, Error> {
        let labels = when_lost(command, true);
        match done {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(Error::control(Some(error), labels)),
            None => Err(self.passed(labels)),
        }
    }
}

/// Beyond it a limit is as good as none, and its end can still be reckoned.
const MAX_TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use mdb_wire::Document;
    use tokio::time::advance;

    const WAIT_MAX: Duration = Duration::from_secs(25);

    fn of(body: &bson::Document) -> Deadline {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let command = Command::inner(Document::parse(&bytes).unwrap(), "db").unwrap();
        Deadline::of(&command, WAIT_MAX)
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_spent_is_taken_off() {
        let deadline = of(&doc! {"find": "c", "maxTimeMS": 100});
        let code = || deadline.passed(crate::labels::NONE).code();
        assert_eq!(
            deadline.of_step(),
            Instant::now() + Duration::from_millis(100)
        );
        for (micros, left, expected) in [
            (0, 100, 6),
            (1, 100, 6),
            (999, 99, 6),
            (98_500, 1, 6),
            (500, 0, 50),
            (500_000, 0, 50),
        ] {
            advance(Duration::from_micros(micros)).await;
            assert_eq!(
                (deadline.left_millis(|| Duration::ZERO), code()),
                (Some(left), expected)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_to_the_server_is_taken_off_up_to_a_half() {
        let deadline = of(&doc! {"find": "c", "maxTimeMS": 100});
        for (trip_micros, left) in [
            (0, 100),
            (400, 100),
            (1_000, 99),
            (30_000, 70),
            (90_000, 50),
        ] {
            let trip = Duration::from_micros(trip_micros);
            assert_eq!(deadline.left_millis(|| trip), Some(left), "{trip:?}");
        }
        advance(Duration::from_millis(99)).await;
        assert_eq!(deadline.left_millis(|| Duration::from_secs(1)), Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_limit_of_its_own_a_command_waits_as_long_as_the_proxy() {
        for body in [
            doc! {"find": "c"},
            doc! {"find": "c", "maxTimeMS": 0},
            doc! {"find": "c", "maxTimeMS": -1},
            doc! {"getMore": 1_i64, "maxTimeMS": 70},
        ] {
            let deadline = of(&body);
            assert_eq!(deadline.left_millis(|| Duration::ZERO), None, "{body}");
            assert_eq!(deadline.of_step(), Instant::now() + WAIT_MAX, "{body}");
            assert_eq!(deadline.passed(crate::labels::NONE).code(), 6);
        }
        let long = of(&doc! {"find": "c", "maxTimeMS": i64::MAX});
        assert_eq!(long.of_step(), Instant::now() + WAIT_MAX);
        assert_eq!(long.left_millis(|| Duration::ZERO), Some(i32::MAX));
    }
}
