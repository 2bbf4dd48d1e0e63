//! Rights that one worker of all proxies has at a time, by documents in the control database.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use mongodb::error::{Error as DriverError, ErrorKind, WriteFailure};
use mongodb::options::{
    CollectionOptions, ReadPreference, ReturnDocument, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};

use crate::physical::is_being_built;
use crate::table::Namespace;

/// Something that one worker may do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right {
    name: &'static str,
    /// How long a worker that says nothing keeps it.
    lasts_millis: i64,
}

/// To build indexes, whether manifests or shapes ask for them. It lasts longer than an election takes.
pub const INDEX_BUILD: Right = Right {
    name: "index_build",
    lasts_millis: 30_000,
};

/// To do what is due about automatic indexes. It is kept between rounds, and lasts longer than one without a build takes.
pub const INDEX_ROUNDS: Right = Right {
    name: "index_rounds",
    lasts_millis: 120_000,
};

impl Right {
    /// Between two renewals: two may fail.
    fn renew_every(self) -> Duration {
        Duration::from_millis(self.lasts_millis.unsigned_abs() / 3)
    }
}

/// Where leases are had. Times are the server's, so clocks of proxies need not agree.
#[derive(Debug, Clone)]
pub struct Leases {
    client: Client,
    leases: Collection<Document>,
}

/// A right that is held: until it is released, or not renewed in time.
#[derive(Debug, Clone)]
pub struct Lease {
    leases: Collection<Document>,
    right: Right,
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
        Self {
            client: client.clone(),
            leases: database.collection_with_options("leases", options),
        }
    }

    /// Takes the right to build an index on one of these collections; `None` while another worker holds it, and while the
    /// server builds what a worker that has gone has begun: it goes on with that by itself.
    ///
    /// # Errors
    /// Those of the upstream.
    pub async fn take_to_build(&self, on: &[Namespace]) -> Result<Option<Lease>, DriverError> {
        let Some((lease, left)) = self.take_on(INDEX_BUILD, on).await? else {
            return Ok(None);
        };
        for namespace in left {
            let is_busy = is_being_built(&self.client, &namespace).await;
            if !matches!(is_busy, Ok(false)) {
                lease.leave_as_found().await;
                return is_busy.map(|_| None);
            }
        }
        Ok(Some(lease))
    }

    /// Takes a right; `None` while another worker holds it.
    ///
    /// # Errors
    /// Those of the upstream.
    pub async fn take(&self, right: Right) -> Result<Option<Lease>, DriverError> {
        let taken = self.take_on(right, &[]).await?;
        Ok(taken.map(|(lease, _)| lease))
    }

    /// The same, with the collections on which the last holder worked if it did not give the right back.
    async fn take_on(
        &self,
        right: Right,
        on: &[Namespace],
    ) -> Result<Option<(Lease, Vec<Namespace>)>, DriverError> {
        let owner = ObjectId::new();
        let is_over = doc! {"$lte": [{"$ifNull": ["$expires_at", "$$NOW"]}, "$$NOW"]};
        let or = |taken: Bson, kept: &str| doc! {"$cond": ["$is_over", taken, kept]};
        let next = doc! {"$add": [{"$ifNull": ["$fence", 0_i64]}, 1_i64]};
        let until = doc! {"$add": ["$$NOW", right.lasts_millis]};
        let on: Vec<Document> = on.iter().map(entry).collect();
        let take = vec![
            doc! {"$set": {
                "is_over": is_over, "on": {"$ifNull": ["$on", []]}, "left": {"$ifNull": ["$left", []]},
            }},
            doc! {"$set": {
                "owner": or(owner.into(), "$owner"),
                "fence": or(next.into(), "$fence"),
                "expires_at": or(until.into(), "$expires_at"),
                "left": or("$on".into(), "$left"),
                "on": or(doc! {"$literal": on}.into(), "$on"),
            }},
            doc! {"$unset": "is_over"},
        ];
        let taken = self
            .leases
            .find_one_and_update(doc! {"_id": right.name}, take)
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
        let left = found.get_array("left").into_iter().flatten();
        let left = left.filter_map(|entry| namespace_of(entry.as_document()?));
        let lease = Lease {
            leases: self.leases.clone(),
            right,
            owner,
            fence: found.get_i64("fence").unwrap_or_default(),
        };
        Ok(is_mine.then(|| (lease, left.collect())))
    }
}

fn entry(namespace: &Namespace) -> Document {
    doc! {"database": &namespace.database, "collection": &namespace.collection}
}

fn namespace_of(entry: &Document) -> Option<Namespace> {
    Some(Namespace {
        database: entry.get_str("database").ok()?.to_owned(),
        collection: entry.get_str("collection").ok()?.to_owned(),
    })
}

impl Lease {
    /// The number of this holder: larger than that of every holder before.
    pub fn fence(&self) -> i64 {
        self.fence
    }

    fn mine(&self) -> Document {
        doc! {"_id": self.right.name, "owner": self.owner, "fence": self.fence}
    }

    /// Holds the right for another while. `false`: it is another worker's.
    ///
    /// # Errors
    /// Those of the upstream.
    pub async fn renew(&self) -> Result<bool, DriverError> {
        let until = doc! {"$set": {"expires_at": {"$add": ["$$NOW", self.right.lasts_millis]}}};
        let renewed = self.leases.update_one(self.mine(), vec![until]).await?;
        Ok(renewed.matched_count == 1)
    }

    /// Renews it again and again; ends when it is lost. Whoever works under the lease stops then.
    pub async fn lost(&self) {
        let lasts = Duration::from_millis(self.right.lasts_millis.unsigned_abs());
        let mut renewed_at = tokio::time::Instant::now();
        loop {
            tokio::time::sleep(self.right.renew_every()).await;
            match self.renew().await {
                Ok(true) => renewed_at = tokio::time::Instant::now(),
                Ok(false) => return,
                Err(_) if renewed_at.elapsed() >= lasts => return,
                Err(_) => {}
            }
        }
    }

    /// Gives it back. If that fails, it is over after a while by itself.
    pub async fn release(self) {
        self.end(Bson::Array(Vec::new())).await;
    }

    /// Gives it back with what the holder before has left, which is still in the way.
    async fn leave_as_found(self) {
        self.end("$left".into()).await;
    }

    async fn end(self, on: Bson) {
        let over = vec![doc! {"$set": {"expires_at": "$$NOW", "on": on}}];
        if let Err(error) = self.leases.update_one(self.mine(), over).await {
            tracing::debug!(%error, "a lease could not be given back");
        }
    }
}

pub(crate) fn is_duplicate(error: &DriverError) -> bool {
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
        let (first, second) = tokio::join!(one.take(INDEX_ROUNDS), other.take(INDEX_ROUNDS));
        let taken = [first.unwrap(), second.unwrap()].into_iter().flatten();
        let taken: Vec<Lease> = taken.collect();
        assert_eq!(taken.len(), 1);
        let [lease] = <[Lease; 1]>::try_from(taken).unwrap();
        assert!(lease.renew().await.unwrap());
        assert!(other.take(INDEX_ROUNDS).await.unwrap().is_none());
        let build = other.take_to_build(&[]).await.unwrap();
        assert!(build.is_some(), "another right");
        let fence = lease.fence();
        lease.release().await;
        let next = other.take(INDEX_ROUNDS).await.unwrap().unwrap();
        assert!(next.fence() > fence);
        // It ends by itself, and the one who had it is told so.
        expire(&one, INDEX_ROUNDS).await;
        let last = one.take(INDEX_ROUNDS).await.unwrap().unwrap();
        assert!(!next.renew().await.unwrap());
        assert!(last.renew().await.unwrap());
        next.release().await;
        assert!(last.renew().await.unwrap());
    }

    /// Whoever held it says nothing more, as after a crash: nobody writes that it is over.
    #[tokio::test]
    async fn what_is_not_renewed_is_over_by_itself_and_not_before() {
        const SHORT: Right = Right {
            name: "short",
            lasts_millis: 300,
        };
        const LONG: Right = Right {
            name: "long",
            ..INDEX_ROUNDS
        };
        let deployment = Deployment::standalone().start().await.unwrap();
        let client = Client::with_uri_str(deployment.uri()).await.unwrap();
        let [one, other] = [0; 2].map(|_| Leases::new(&client, "control"));
        let ends_at = async |right: Right| {
            let found = one.leases.find_one(doc! {"_id": right.name});
            let found = found.await.unwrap().unwrap();
            let at = found.get_datetime("expires_at").unwrap();
            at.timestamp_millis()
        };
        let long = one.take(LONG).await.unwrap().unwrap();
        let gone = one.take(SHORT).await.unwrap().unwrap();
        let first_end = ends_at(SHORT).await;
        let next = async {
            loop {
                if let Some(next) = other.take(SHORT).await.unwrap() {
                    return next;
                }
                tokio::task::yield_now().await;
            }
        };
        // Patience, should it never be over.
        let next = tokio::time::timeout(Duration::from_secs(90), next).await;
        let next = next.expect("it is not over");
        assert_eq!(next.fence(), gone.fence() + 1);
        // By the server's clock, which tells when the next one has begun.
        let begun = ends_at(SHORT).await - SHORT.lasts_millis;
        assert!(begun >= first_end, "{} ms too early", first_end - begun);
        assert!(!gone.renew().await.unwrap());
        // A longer one is not over, and a renewal makes it longer.
        assert!(other.take(LONG).await.unwrap().is_none());
        let before = ends_at(LONG).await;
        assert!(long.renew().await.unwrap());
        assert!(ends_at(LONG).await > before);
        let left = ends_at(LONG).await - ends_at(SHORT).await;
        assert!(left > LONG.lasts_millis / 2, "{left}");
    }

    async fn expire(leases: &Leases, right: Right) {
        let over = vec![doc! {"$set": {"expires_at": "$$NOW"}}];
        let named = doc! {"_id": right.name};
        leases.leases.update_one(named, over).await.unwrap();
    }

    /// The server goes on with a build when whoever asked for it has gone.
    #[tokio::test]
    async fn nobody_builds_beside_a_build_that_was_left_alone() {
        let deployment = Deployment::replica_set(1);
        let deployment = deployment.mongod_args(&["--setParameter", "enableTestCommands=1"]);
        let deployment = deployment.start().await.unwrap();
        let client = Client::with_uri_str(deployment.uri()).await.unwrap();
        let database = client.database("shop");
        let insert = doc! {"insert": "products", "documents": [{"a": 1}]};
        database.run_command(insert).await.unwrap();
        let admin = client.database("admin");
        let point = "hangAfterStartingIndexBuild";
        let hang = doc! {"configureFailPoint": point, "mode": "alwaysOn"};
        admin.run_command(hang).await.unwrap();
        let create =
            doc! {"createIndexes": "products", "indexes": [{"key": {"a": 1}, "name": "a"}]};
        let build = tokio::spawn(async move { database.run_command(create).await });
        let on = Namespace {
            database: "shop".to_owned(),
            collection: "products".to_owned(),
        };
        let leases = Leases::new(&client, "control");
        let gone = leases.take_to_build(std::slice::from_ref(&on)).await;
        let _gone = gone.unwrap().unwrap();
        while !is_being_built(&client, &on).await.unwrap() {
            tokio::task::yield_now().await;
        }
        for _ in 0..2 {
            expire(&leases, INDEX_BUILD).await;
            assert!(leases.take_to_build(&[]).await.unwrap().is_none());
        }
        let go = doc! {"configureFailPoint": point, "mode": "off"};
        admin.run_command(go).await.unwrap();
        build.await.unwrap().unwrap();
        let next = leases.take_to_build(&[]).await.unwrap().unwrap();
        next.release().await;
        assert!(leases.take_to_build(&[]).await.unwrap().is_some());
    }
}
