//! Index builds that are in the way of a command. Beside other apps they need not be the client's own, and those of the proxy
//! are not: what a server refuses meanwhile waits for their end.

use std::time::Duration;

use bson::{Bson, Document};
use mdb_upstream::wait_until_free;
use mongodb::Database;
use mongodb::error::Error as DriverError;
use tokio::time::sleep;

use crate::namespaces::server_code;

/// `BackgroundOperationInProgressForDatabase` and `BackgroundOperationInProgressForNamespace`: said before a command is begun,
/// by `collMod` and `renameCollection`, before 5.2 also by `dropIndexes`.
const BUILDING: &[i32] = &[12586, 12587];
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Most builds end within it; a long one is asked after once a second.
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Whether a command failed since an index is being built.
pub(crate) fn are_in_the_way(code: Option<i32>) -> bool {
    code.is_some_and(|code| BUILDING.contains(&code))
}

/// How long to wait after so many refusals in a row.
pub(crate) fn pause(refusals: u32) -> Duration {
    let factor = 2_u32.saturating_pow(refusals.min(16));
    PAUSE_MIN.saturating_mul(factor).min(PAUSE_MAX)
}

/// Runs a command of the proxy's own about a collection, which its first field names, once no build and no transaction is in
/// its way. Whoever calls limits the time.
pub(crate) async fn run_behind(
    database: &Database,
    command: Document,
) -> Result<Document, DriverError> {
    let named = command.values().next().and_then(Bson::as_str);
    let named = named.unwrap_or_default().to_owned();
    let mut refusals = 0;
    loop {
        wait_until_free(database, &named).await?;
        match database.run_command(command.clone()).await {
            Err(error) if are_in_the_way(server_code(&error)) => {
                sleep(pause(refusals)).await;
                refusals = refusals.saturating_add(1);
            }
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_second() {
        let millis = [0, 1, 5, 6, 1000].map(|refusals| pause(refusals).as_millis());
        assert_eq!(millis, [20, 40, 640, 1000, 1000]);
    }
}
