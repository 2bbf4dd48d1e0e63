//! What a transaction has made outside of itself and may have left: kept in the control database until it is cleared away.

use std::time::Duration;

use bson::{Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::AppId;
use mongodb::error::Error as DriverError;

use super::{Control, Entry, id};
use crate::random;

const UNFINISHED: &str = "unfinished";
const TOKEN_BYTES: usize = 12;

/// Indexes of a collection that were made for a transaction.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unfinished {
    /// By their physical names.
    pub(crate) indexes: Vec<String>,
    /// Another one with each transaction.
    token: bson::oid::ObjectId,
}

impl Control<'_> {
    /// Writes down that indexes are about to be made for a transaction.
    pub(crate) async fn begin_indexes(
        &self,
        app: &AppId,
        (database, collection): (&str, &str),
        physical_names: &[String],
    ) -> Result<(), DriverError> {
        let token: [u8; TOKEN_BYTES] = random::bytes();
        let update = doc! {
            "$set": {"token": bson::oid::ObjectId::from_bytes(token), "at": bson::DateTime::now()},
            "$addToSet": {"indexes": {"$each": physical_names}},
        };
        let of_collection = doc! {"_id": id(app, database, collection)};
        let unfinished = self.collection(UNFINISHED);
        let written = unfinished.update_one(of_collection, update).upsert(true);
        written.await.map(|_| ())
    }

    /// What transactions have made, and perhaps left, of a collection.
    pub(crate) async fn unfinished(
        &self,
        app: &AppId,
        database: &str,
        collection: &str,
    ) -> Result<Option<Unfinished>, DriverError> {
        let of_collection = doc! {"_id": id(app, database, collection)};
        let found: Option<Document> = self.collection(UNFINISHED).find_one(of_collection).await?;
        let read = |found: Document| {
            let indexes = found.get_array("indexes").ok()?.iter();
            let indexes = indexes.filter_map(|name| name.as_str().map(str::to_owned));
            Some(Unfinished {
                indexes: indexes.collect(),
                token: found.get_object_id("token").ok()?,
            })
        };
        Ok(found.and_then(read))
    }

    /// Nothing of it is left. Not so if another transaction has begun with indexes since.
    pub(crate) async fn finish(
        &self,
        app: &AppId,
        (database, collection): (&str, &str),
        unfinished: &Unfinished,
    ) -> Result<(), DriverError> {
        let same = doc! {"_id": id(app, database, collection), "token": unfinished.token};
        let entries = self.collection(UNFINISHED);
        entries.delete_one(same).await.map(|_| ())
    }

    /// Writes down that a collection is being filled which goes when it has served, and that it still is.
    pub(crate) async fn begin_aside(&self, database: &str, aside: &str) -> Result<(), DriverError> {
        let update = doc! {"$set": {
            "aside": true, "database": database, "collection": aside, "at": bson::DateTime::now(),
        }};
        let of_aside = doc! {"_id": format!("{database}.{aside}")};
        let unfinished = self.collection(UNFINISHED);
        let written = unfinished.update_one(of_aside, update).upsert(true);
        written.await.map(|_| ())
    }

    /// It is gone.
    pub(crate) async fn end_aside(&self, database: &str, aside: &str) -> Result<(), DriverError> {
        let unfinished = self.collection(UNFINISHED);
        let of_aside = doc! {"_id": format!("{database}.{aside}")};
        unfinished.delete_one(of_aside).await.map(|_| ())
    }

    /// Those, with their databases, of which nobody has said for so long that they are being filled.
    pub(crate) async fn asides_before(
        &self,
        now: bson::DateTime,
        age: Duration,
    ) -> Result<Vec<(String, String)>, DriverError> {
        let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        let before = now.timestamp_millis().saturating_sub(age);
        let before = bson::DateTime::from_millis(before);
        let left = doc! {"aside": true, "at": {"$lt": before}};
        let mut cursor = self.collection(UNFINISHED).find(left).await?;
        let mut found = Vec::new();
        while let Some(left) = cursor.try_next().await? {
            let text = |field: &str| left.get_str(field).ok().map(str::to_owned);
            found.extend(text("database").zip(text("collection")));
        }
        Ok(found)
    }

    /// Takes the name of a collection, so that no transaction makes it meanwhile. Gives whether nobody had it: then
    /// [`Control::let_go`] must follow.
    pub(crate) async fn hold(&self, app: &AppId, entry: Entry) -> Result<bool, DriverError> {
        let entry = Entry {
            is_provisional: true,
            ..entry
        };
        self.enter(app, &entry).await.map(|before| before.is_none())
    }

    /// Ends [`Control::hold`].
    pub(crate) async fn let_go(
        &self,
        app: &AppId,
        database: &str,
        collection: &str,
    ) -> Result<(), DriverError> {
        let held = doc! {"_id": id(app, database, collection), "provisional": true};
        let entries = self.collection(mdb_scope::CATALOG);
        entries.delete_one(held).await.map(|_| ())
    }
}
