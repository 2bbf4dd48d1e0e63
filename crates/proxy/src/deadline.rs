//! How long a command may wait for the upstream.

use std::time::Duration;

use mdb_wire::Command;
use tokio::time::Instant;

use crate::error::Error;
use crate::labels::when_lost;

/// How long a command without `maxTimeMS` waits for a server and a connection together.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// How long the command may wait for the upstream. `maxTimeMS` of a `getMore` is how long it may wait for documents.
pub(crate) fn wait_max(command: &Command<'_>) -> Duration {
    let limit = command.body.find("maxTimeMS").and_then(|e| e.as_integer());
    match limit {
        Some(millis) if millis > 0 && command.name != b"getMore" => {
            WAIT_MAX.min(Duration::from_millis(millis.unsigned_abs()))
        }
        _ => WAIT_MAX,
    }
}

/// Awaits work of the proxy's own driver, no longer than the command may wait.
pub(crate) async fn within<T>(
    deadline: Instant,
    command: &Command<'_>,
    work: impl Future<Output = Result<T, mongodb::error::Error>>,
) -> Result<T, Error> {
    let labels = when_lost(command, true);
    match tokio::time::timeout_at(deadline, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Error::control(Some(error), labels)),
        Err(_) => Err(Error::control(None, labels)),
    }
}
