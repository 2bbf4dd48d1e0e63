//! How long a command may wait for the upstream.

use std::time::Duration;

use mdb_wire::Command;
use mongodb::error::Error as DriverError;
use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::labels::when_lost;

/// How long a step of a command waits for a server and a connection together.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// When a command has to end, if its client says so. What runs upstream for longer than [`WAIT_MAX`] is not ended for that:
/// a drop of many documents takes as long as it takes, as on a server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// Of a command that has just arrived. `maxTimeMS` of a `getMore` is how long it may wait for documents.
    pub(crate) fn of(command: &Command<'_>) -> Self {
        let limit = command.body.find("maxTimeMS").and_then(|e| e.as_integer());
        let limit = limit.filter(|millis| *millis > 0 && command.name != b"getMore");
        Self(limit.map(|millis| Instant::now() + Duration::from_millis(millis.unsigned_abs())))
    }

    /// Until when a step that begins now may wait for a server and a connection.
    pub(crate) fn of_step(self) -> Instant {
        let step = Instant::now() + WAIT_MAX;
        self.0.map_or(step, |end| end.min(step))
    }

    /// Awaits a short piece of work of the proxy's own driver.
    pub(crate) async fn within<T>(
        self,
        command: &Command<'_>,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        ended(command, timeout_at(self.of_step(), work).await.ok())
    }

    /// Awaits work of the proxy's own driver that takes as long as there are documents.
    pub(crate) async fn at_length<T>(
        self,
        command: &Command<'_>,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        let done = match self.0 {
            Some(end) => timeout_at(end, work).await.ok(),
            None => Some(work.await),
        };
        ended(command, done)
    }
}

/// What became of the work, which is `None` if its time was up.
fn ended<T>(command: &Command<'_>, done: Option<Result<T, DriverError>>) -> Result<T, Error> {
    let labels = when_lost(command, true);
    match done {
        Some(Ok(done)) => Ok(done),
        Some(Err(error)) => Err(Error::control(Some(error), labels)),
        None => Err(Error::control(None, labels)),
    }
}
