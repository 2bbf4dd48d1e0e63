//! What is made of collections for transactions: before they begin, and what they leave when they are aborted.

use std::sync::Arc;

use bson::doc;
use mdb_scope::Isolation;
use mongodb::error::Error as DriverError;

use super::{Known, NamespaceError, Namespaces, Place, make_base_indexes, read, server_code};
use crate::builds::run_behind;
use crate::catalog::holds_documents;
use crate::control::Entry;

impl Namespaces {
    /// Makes ready for a write of a transaction that may create the collection, as far as that can be done outside of it: all
    /// of it before the transaction begins, nothing later, as the transaction would not see it. Gives what is known then, and
    /// whether the transaction has to enter the collection into the catalog.
    pub(crate) async fn ready_in_transaction(
        &self,
        place: Place<'_>,
        begins: bool,
    ) -> Result<(Arc<Known>, bool), NamespaceError> {
        let known = self.look_up(place).await?;
        if known.is_ready() {
            return Ok((known, false));
        }
        let _alone = self.alone(place).await;
        let entry = place.control();
        let entry = entry.entry(place.scope.app(), place.database, place.collection);
        let entry = entry.await?.filter(|entry| !entry.is_provisional);
        if entry
            .as_ref()
            .is_some_and(|entry| entry.isolation == Isolation::Dedicated)
        {
            // Another proxy has made it the app's own since it was last looked at.
            let made = Arc::new(Known::own(read(place).await?));
            self.known.insert(place.name().owned(), Arc::clone(&made));
            return Ok((made, false));
        }
        if begins {
            if entry.is_none() {
                give_way(place).await?;
            }
            if !known.facts.has_base_indexes {
                make_base_indexes(place, &known).await?;
            }
        } else if !known.facts.has_base_indexes || entry.is_none() {
            return Ok((known, entry.is_none()));
        }
        let made = self.remember(place, entry.is_some()).await?;
        Ok((made, entry.is_none()))
    }

    /// Makes the physical collection for a transaction that is about to begin, without what an aborted one has left there.
    pub(crate) async fn clean(&self, place: Place<'_>) -> Result<Arc<Known>, NamespaceError> {
        let known = self.look_up(place).await?;
        let _alone = self.alone(place).await;
        give_way(place).await?;
        if !known.facts.has_base_indexes {
            make_base_indexes(place, &known).await?;
        }
        Ok(self.remember(place, false).await?)
    }
}

/// Clears away what aborted transactions have left of a collection that the app does not have, if they have left anything.
/// Waits for one that is not over.
async fn give_way(place: Place<'_>) -> Result<(), DriverError> {
    let (control, app) = (place.control(), place.scope.app());
    let (database, collection) = (place.database, place.collection);
    if control
        .unfinished(app, database, collection)
        .await?
        .is_none()
    {
        return Ok(());
    }
    let entry = Entry::new(database, collection, Isolation::Shared);
    let is_free = control.hold(app, entry).await?;
    let cleared = clear(place, is_free).await;
    control.let_go(app, database, collection).await?;
    cleared
}

/// The same while no transaction can make the collection. Where the app has it (not `is_new`), what was left is its own.
pub(super) async fn clear(place: Place<'_>, is_new: bool) -> Result<(), DriverError> {
    let (control, app) = (place.control(), place.scope.app());
    let (database, collection) = (place.database, place.collection);
    let Some(unfinished) = control.unfinished(app, database, collection).await? else {
        return Ok(());
    };
    if is_new && !holds_documents(place.client, place.scope, database, collection).await? {
        for index in &unfinished.indexes {
            let command = doc! {"dropIndexes": collection, "index": index};
            match run_behind(&place.client.database(database), command).await {
                // Gone already, or never made.
                Err(error) if matches!(server_code(&error), Some(26 | 27)) => {}
                other => drop(other?),
            }
        }
    }
    control
        .finish(app, (database, collection), &unfinished)
        .await
}
