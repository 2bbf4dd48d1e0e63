//! Exclusive locks of collections that apps share.

use std::time::Duration;

use bson::doc;
use mongodb::Database;
use mongodb::error::{Error as DriverError, ErrorKind};
use tokio::time::sleep;

/// How long a question may wait for the lock, and everybody else behind it.
const ASKED_FOR_MILLIS: i64 = 100;

/// Between two questions, when others have their turn.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// `MaxTimeMSExpired`.
const TOO_LATE: i32 = 50;

/// No index has this name: servers refuse names with zero bytes (67).
const NO_INDEX: &str = "\0";

/// Waits until nobody holds a collection, as a transaction does that has read or written it.
///
/// A command that changes a collection or its indexes needs an exclusive lock. It waits for transactions to end, and
/// everybody who comes later waits behind it, apps that have to do with neither among them (4.4.2, 5.0.4, 6.0.5). So before it
/// is sent the lock is asked for in short questions, by a drop of an index that is not there, which changes nothing. A
/// transaction that begins in between is not seen. Whoever calls limits the time.
///
/// # Errors
/// Those of an upstream that does not answer.
pub async fn wait_until_free(database: &Database, collection: &str) -> Result<(), DriverError> {
    let mut pause = PAUSE_MIN;
    loop {
        let question =
            doc! {"dropIndexes": collection, "index": NO_INDEX, "maxTimeMS": ASKED_FOR_MILLIS};
        match database.run_command(question).await {
            Err(error) if code_of(&error) == Some(TOO_LATE) => {}
            // It was there for the asking: there is no such index, no such collection, a build that is said first.
            Err(error) if code_of(&error).is_some() => return Ok(()),
            other => return other.map(|_| ()),
        }
        sleep(pause).await;
        pause = pause.saturating_mul(2).min(PAUSE_MAX);
    }
}

fn code_of(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}
