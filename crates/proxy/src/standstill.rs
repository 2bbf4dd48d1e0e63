//! A command behind which everybody waits.
//!
//! At its end a `$out` renames a collection, for which servers lock the whole database (4.4.2, 5.0.4, 6.0.5). It waits for every
//! transaction that has touched anything in there, and all others, of every app, wait behind it. So while one runs it is
//! looked at: where it waits for the lock it is ended, which takes back what it did, and sent again a little later.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, doc};
use futures_util::TryStreamExt;
use mdb_scope::{ServerAddress, written_collection};
use mongodb::Database;
use mongodb::error::Error as DriverError;
use mongodb::options::SelectionCriteria;
use tokio::time::sleep;

use crate::forward::Journey;

/// Between two looks; in the second it must still wait. A look is a command on the member.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Where a command runs: on this member, for the connection that the proxy holds there from this address.
#[derive(Debug, Clone)]
pub(crate) struct Whereabouts {
    pub(crate) server: ServerAddress,
    pub(crate) local: String,
}

impl Journey<'_> {
    /// Whether the command can be one behind which everybody waits.
    pub(crate) fn may_stand_still(&self) -> bool {
        self.spec.name == "aggregate"
            && written_collection(self.command).is_some_and(|written| written.replaces)
    }

    /// Awaits the reply to a command, and ends it on the server where others wait behind it. Gives whether it was ended.
    pub(crate) async fn on_the_move<T>(
        &self,
        place: Whereabouts,
        work: impl Future<Output = T>,
    ) -> (T, bool) {
        let admin = self.shared.upstream.control().database("admin");
        let mut work = pin!(work);
        let (mut has_waited, mut is_ended) = (false, false);
        loop {
            let look = async {
                sleep(LOOK_EVERY).await;
                waiting(&admin, &place).await
            };
            let found = tokio::select! {
                done = &mut work => return (done, is_ended),
                found = look => found,
            };
            // What cannot be looked at goes on.
            let found = found.unwrap_or_else(|error| {
                tracing::debug!(%error, "a command that writes could not be looked at");
                None
            });
            if let (Some(id), true) = (&found, has_waited) {
                is_ended |= end(&admin, &place, id.clone()).await.is_ok();
            }
            has_waited = found.is_some();
        }
    }
}

fn there(place: &Whereabouts) -> SelectionCriteria {
    let server = place.server.clone();
    SelectionCriteria::Predicate(Arc::new(move |info| info.address().to_string() == *server))
}

/// The operation, if it waits for a lock.
async fn waiting(admin: &Database, place: &Whereabouts) -> Result<Option<Bson>, DriverError> {
    let pipeline = [
        doc! {"$currentOp": {"allUsers": false, "localOps": true}},
        doc! {"$match": {"client": &place.local, "active": true, "waitingForLock": true}},
    ];
    let found = admin.aggregate(pipeline).selection_criteria(there(place));
    let operation = found.await?.try_next().await?;
    Ok(operation.and_then(|mut operation| operation.remove("opid")))
}

async fn end(admin: &Database, place: &Whereabouts, id: Bson) -> Result<(), DriverError> {
    let kill = doc! {"killOp": 1, "op": id};
    let killed = admin.run_command(kill).selection_criteria(there(place));
    killed.await.map(|_| ())
}
