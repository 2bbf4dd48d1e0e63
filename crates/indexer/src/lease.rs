//! The right to build: one worker of all proxies at a time, by a document in the control database.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use mongodb::options::{
    CollectionOptions, ReadPreference, ReturnDocument, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};

/// What is leased for building and dropping indexes.
pub const INDEX_BUILD: &str = "index_build";

/// How long a worker that says nothing keeps the right: longer than an election takes.
const LEASE_MILLIS: i64 = 30_000;
/// Between two renewals: two may fail.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// Where leases are had. Times are the server's, so clocks of proxies need not agree.
#[derive(Debug, Clone)]
pub struct Leases(Collection<Document>);

/// A right that is held: until it is released, or not renewed in time.
#[derive(Debug)]
pub struct Lease {
    leases: Collection<Document>,
    name: &'static str,
    owner: ObjectId,
    /// Grows with each holder: what is written with a smaller number is older.
    fence: i64,
}

impl Leases {
    /// Those of a deployment's control database.
    pub fn new(client: &Client, control_database: &str) -> Self {
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(ReadPreference::Primary))
            .build();
        let database = client.database(control_database);
        Self(database.collection_with_options("leases", options))
    }

    /// Takes a right; `None` while another worker holds it.
    pub async fn take(&self, name: &'static str) -> Result<Option<Lease>, DriverError> {
        let owner = ObjectId::new();
        let is_over = doc! {"$lte": [{"$ifNull": ["$expires_at", "$$NOW"]}, "$$NOW"]};
        let or = |taken: bson::Bson, kept: &str| doc! {"$cond": ["$is_over", taken, kept]};
        let next = doc! {"$add": [{"$ifNull": ["$fence", 0_i64]}, 1_i64]};
        let until = doc! {"$add": ["$$NOW", LEASE_MILLIS]};
        let take = vec![
            doc! {"$set": {"is_over": is_over}},
            doc! {"$set": {
                "owner": or(owner.into(), "$owner"),
                "fence": or(next.into(), "$fence"),
                "expires_at": or(until.into(), "$expires_at"),
            }},
            doc! {"$unset": "is_over"},
        ];
        let taken = self
            .0
            .find_one_and_update(doc! {"_id": name}, take)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .await;
        let found = match taken {
            Ok(found) => found.unwrap_or_default(),
            // Two workers were the first at the same moment.
            Err(error) if is_duplicate(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let is_mine = found.get_object_id("owner").is_ok_and(|by| by == owner);
        Ok(is_mine.then(|| Lease {
            leases: self.0.clone(),
            name,
            owner,
            fence: found.get_i64("fence").unwrap_or_default(),
        }))
    }
}

impl Lease {
    /// The number of this holder: larger than that of every holder before.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    fn mine(&self) -> Document {
        doc! {"_id": self.name, "owner": self.owner, "fence": self.fence}
    }

    /// Holds the right for another while. `false`: it is another worker's.
    pub async fn renew(&self) -> Result<bool, DriverError> {
        let until = doc! {"$set": {"expires_at": {"$add": ["$$NOW", LEASE_MILLIS]}}};
        let renewed = self.leases.update_one(self.mine(), vec![until]).await?;
        Ok(renewed.matched_count == 1)
    }

    /// Renews it again and again; ends when it is lost. Whoever works under the lease stops then.
    pub async fn lost(&self) {
        let mut renewed_at = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.renew().await {
                Ok(true) => renewed_at = tokio::time::Instant::now(),
                Ok(false) => return,
                Err(_)
                    if renewed_at.elapsed().as_millis() >= LEASE_MILLIS.unsigned_abs().into() =>
                {
                    return;
                }
                Err(_) => {}
            }
        }
    }

    /// Gives it back. If that fails, it is over after a while by itself.
    pub async fn release(self) {
        let over = vec![doc! {"$set": {"expires_at": "$$NOW"}}];
        if let Err(error) = self.leases.update_one(self.mine(), over).await {
            tracing::debug!(%error, "a lease could not be given back");
        }
    }
}

fn is_duplicate(error: &DriverError) -> bool {
    const DUPLICATE_KEY: i32 = 11000;
    match error.kind.as_ref() {
        ErrorKind::Command(error) => error.code == DUPLICATE_KEY,
        ErrorKind::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use mdb_testbed::Deployment;

    use super::*;

    #[tokio::test]
    async fn one_holds_it_until_it_is_released_or_over() {
        let deployment = Deployment::standalone().start().await.unwrap();
        let client = Client::with_uri_str(deployment.uri()).await.unwrap();
        let [one, other] = [0; 2].map(|_| Leases::new(&client, "control"));
        let (first, second) = tokio::join!(one.take(INDEX_BUILD), other.take(INDEX_BUILD));
        let taken = [first.unwrap(), second.unwrap()].into_iter().flatten();
        let taken: Vec<Lease> = taken.collect();
        assert_eq!(taken.len(), 1);
        let [lease] = <[Lease; 1]>::try_from(taken).unwrap();
        assert!(lease.renew().await.unwrap());
        assert!(other.take(INDEX_BUILD).await.unwrap().is_none());
        let fence = lease.fence();
        lease.release().await;
        let next = other.take(INDEX_BUILD).await.unwrap().unwrap();
        assert!(next.fence() > fence);
        // It ends by itself, and the one who had it is told so.
        let over = vec![doc! {"$set": {"expires_at": "$$NOW"}}];
        one.0
            .update_one(doc! {"_id": INDEX_BUILD}, over)
            .await
            .unwrap();
        let last = one.take(INDEX_BUILD).await.unwrap().unwrap();
        assert!(!next.renew().await.unwrap());
        assert!(last.renew().await.unwrap());
        next.release().await;
        assert!(last.renew().await.unwrap());
    }
}
