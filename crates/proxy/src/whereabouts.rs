//! Where a command runs upstream, and how it is found and ended there. Everybody may look for and end operations of one's own
//! user, which is that of the proxy.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::ServerAddress;
use mongodb::Database;
use mongodb::error::Error as DriverError;
use mongodb::options::SelectionCriteria;

/// Where a command runs: on this member, for the connection that the proxy holds there from this address.
#[derive(Debug, Clone)]
pub(crate) struct Whereabouts {
    pub(crate) server: ServerAddress,
    pub(crate) local: String,
}

fn there(place: &Whereabouts) -> SelectionCriteria {
    let server = place.server.clone();
    SelectionCriteria::Predicate(Arc::new(move |info| info.address().to_string() == *server))
}

/// The ids of the operations that run there, if the conditions hold of them.
pub(crate) async fn running(
    admin: &Database,
    place: &Whereabouts,
    conditions: Document,
) -> Result<Vec<Bson>, DriverError> {
    let mut there_now = doc! {"client": &place.local, "active": true};
    there_now.extend(conditions);
    let pipeline = [
        doc! {"$currentOp": {"allUsers": false, "localOps": true}},
        doc! {"$match": there_now},
    ];
    let found = admin.aggregate(pipeline).selection_criteria(there(place));
    let operations: Vec<Document> = found.await?.try_collect().await?;
    let ids = operations.into_iter();
    Ok(ids
        .filter_map(|mut operation| operation.remove("opid"))
        .collect())
}

/// Ends an operation that runs there.
pub(crate) async fn end(
    admin: &Database,
    place: &Whereabouts,
    id: &Bson,
) -> Result<(), DriverError> {
    let kill = doc! {"killOp": 1, "op": id};
    let killed = admin.run_command(kill).selection_criteria(there(place));
    killed.await.map(|_| ())
}
