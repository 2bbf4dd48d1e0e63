//! A command behind which everybody waits.
//!
//! At its end a `$out` renames a collection, for which servers lock the whole database (4.4.2, 5.0.4, 6.0.5). It waits for every
//! transaction that has touched anything in there, and all others, of every app, wait behind it. So while one runs it is
//! looked at: where it waits for the lock it is ended, which takes back what it did, and sent again a little later.

use std::pin::pin;
use std::time::Duration;

use bson::doc;
use mdb_scope::written_collection;
use tokio::time::sleep;

use crate::forward::Journey;
use crate::whereabouts::{Whereabouts, end, running};

/// Between two looks; in the second it must still wait. A look is a command on the member.
const LOOK_EVERY: Duration = Duration::from_millis(100);

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
                let waiting = doc! {"waitingForLock": true};
                running(&admin, &place, waiting).await
            };
            let found = tokio::select! {
                done = &mut work => return (done, is_ended),
                found = look => found,
            };
            // What cannot be looked at goes on.
            let found = found.unwrap_or_else(|error| {
                tracing::debug!(%error, "a command that writes could not be looked at");
                Vec::new()
            });
            for id in found.iter().filter(|_| has_waited) {
                is_ended |= end(&admin, &place, id).await.is_ok();
            }
            has_waited = !found.is_empty();
        }
    }
}
