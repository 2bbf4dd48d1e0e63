//! Documents as they were before a change, kept by the physical collections (6.0).

use bson::{Document, doc};
use mongodb::error::Error as DriverError;

use super::{Place, server_code};
use crate::builds::run_behind;

/// `NamespaceExists`.
const EXISTS: i32 = 48;

/// Whether a collection of `listCollections` keeps them.
pub(super) fn has(found: &Document) -> bool {
    let options = found.get_document("options");
    options
        .and_then(|options| options.get_document("changeStreamPreAndPostImages"))
        .and_then(|images| images.get_bool("enabled"))
        .unwrap_or(false)
}

/// Makes the physical collection so that it keeps them. Where the server does not let it, the collection is made without by
/// whoever needs it.
pub(super) async fn create(place: Place<'_>) -> Result<(), DriverError> {
    let create =
        doc! {"create": place.collection, "changeStreamPreAndPostImages": {"enabled": true}};
    let database = place.client.database(place.database);
    match database.run_command(create).await {
        // Another proxy was faster, or an older one.
        Err(error) if server_code(&error) == Some(EXISTS) => keep(place).await,
        Err(error) if server_code(&error).is_some() => {
            warn(place, &error);
            Ok(())
        }
        other => other.map(|_| ()),
    }
}

/// Lets an existing collection keep them.
pub(super) async fn keep(place: Place<'_>) -> Result<(), DriverError> {
    let change =
        doc! {"collMod": place.collection, "changeStreamPreAndPostImages": {"enabled": true}};
    let database = place.client.database(place.database);
    run_behind(&database, change).await.map(|_| ())
}

pub(super) fn warn(place: Place<'_>, error: &DriverError) {
    tracing::warn!(
        namespace = format!("{}.{}", place.database, place.collection),
        %error,
        "the collection does not keep documents as they were before a change: change streams on it would miss events"
    );
}
