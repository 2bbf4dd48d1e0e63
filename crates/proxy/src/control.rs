//! The control database: what several proxies share, kept upstream where no app can see it.

use bson::{Binary, Document, doc, spec::BinarySubtype};
use futures_util::TryStreamExt;
use mdb_scope::{AppId, CATALOG, Isolation, entry_ids};
use mongodb::change_stream::ChangeStream;
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::error::Error as DriverError;
use mongodb::options::{
    CollectionOptions, ReadConcern, ReadPreference, SelectionCriteria, WriteConcern,
};
use mongodb::{Client, Collection};

use crate::random;

mod unfinished;
mod validation;

pub(crate) use validation::Validation;

/// Bytes of the key from which session keys are derived.
pub(crate) const KEY_BYTES: usize = 32;

/// Random bytes in the mark of the canary.
const CANARY_BYTES: usize = 12;

/// The control database of one deployment.
#[derive(Debug, Clone)]
pub(crate) struct Control<'a> {
    client: &'a Client,
    database: &'a str,
}

/// An entry of the catalog: a collection that an app has, also while it is empty.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) database: String,
    pub(crate) collection: String,
    /// Held while what an aborted transaction left is cleared away: it counts only with a document.
    pub(crate) is_provisional: bool,
    /// Where its documents are. Of those that are the app's own only some are entered; the physical collection counts.
    pub(crate) isolation: Isolation,
    /// A view's definition as the app says it: `viewOn`, `pipeline`, `collation`.
    pub(crate) view: Option<Document>,
    /// What the documents of a shared collection must be like, as the app says it: `validator`, `validationLevel`,
    /// `validationAction`.
    pub(crate) validation: Option<Document>,
    /// Whether the app has asked to have documents before and after changes of a shared collection.
    pub(crate) has_images: bool,
}

impl Entry {
    /// An entry that counts.
    pub(crate) fn new(database: &str, collection: &str, isolation: Isolation) -> Self {
        Self {
            database: database.to_owned(),
            collection: collection.to_owned(),
            is_provisional: false,
            isolation,
            view: None,
            validation: None,
            has_images: false,
        }
    }

    fn read(found: &Document) -> Option<Self> {
        let is_dedicated = found.get_bool("dedicated").unwrap_or(false);
        Some(Self {
            database: found.get_str("database").ok()?.to_owned(),
            collection: found.get_str("collection").ok()?.to_owned(),
            is_provisional: found.get_bool("provisional").unwrap_or(false),
            isolation: if is_dedicated {
                Isolation::Dedicated
            } else {
                Isolation::Shared
            },
            view: unstored(found, "view"),
            validation: unstored(found, "validation"),
            has_images: found.get_bool("images").unwrap_or(false),
        })
    }
}

impl<'a> Control<'a> {
    pub(crate) fn new(client: &'a Client, database: &'a str) -> Self {
        Self { client, database }
    }

    fn collection(&self, name: &str) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .read_concern(ReadConcern::local())
            .selection_criteria(SelectionCriteria::ReadPreference(
                ReadPreference::PrimaryPreferred { options: None },
            ))
            .build();
        self.client
            .database(self.database)
            .collection_with_options(name, options)
    }

    /// The key that all proxies of the deployment share; the first one that asks makes it.
    pub(crate) async fn session_key(&self) -> Result<[u8; KEY_BYTES], DriverError> {
        let keys = self.collection("keys");
        let filter = doc! {"_id": "sessions"};
        let read = |found: Option<Document>| {
            let bytes = found?.get_binary_generic("key").ok()?.clone();
            <[u8; KEY_BYTES]>::try_from(bytes).ok()
        };
        if let Some(key) = read(keys.find_one(filter.clone()).await?) {
            return Ok(key);
        }
        let bytes: [u8; KEY_BYTES] = random::bytes();
        let key = Binary {
            subtype: BinarySubtype::Generic,
            bytes: bytes.to_vec(),
        };
        keys.update_one(filter.clone(), doc! {"$setOnInsert": {"key": key}})
            .upsert(true)
            .await?;
        // Another proxy may have been first; both read what was stored, from the primary.
        let stored = self
            .client
            .database(self.database)
            .collection::<Document>("keys")
            .find_one(filter)
            .await?;
        read(stored).ok_or_else(|| {
            DriverError::custom(
                "the control database holds a session key that is not 32 bytes long",
            )
        })
    }

    /// The mark of the canary's documents: nothing that an app would write by itself.
    pub(crate) async fn canary_mark(&self) -> Result<String, DriverError> {
        let bytes: [u8; CANARY_BYTES] = random::bytes();
        let mark = format!("canary-{}", bson::oid::ObjectId::from_bytes(bytes));
        let keys = self.collection("keys");
        let filter = doc! {"_id": "canary"};
        keys.update_one(filter.clone(), doc! {"$setOnInsert": {"mark": mark}})
            .upsert(true)
            .await?;
        let stored = keys.find_one(filter).await?;
        let mark = stored.and_then(|found| found.get_str("mark").ok().map(str::to_owned));
        mark.ok_or_else(|| DriverError::custom("the control database holds no mark of the canary"))
    }

    /// Enters a collection. If it was entered before, that entry stays, and says where the documents are. Waits for a
    /// transaction that makes indexes of a new collection of this name, until that ends.
    pub(crate) async fn enter(
        &self,
        app: &AppId,
        entry: &Entry,
    ) -> Result<Option<Isolation>, DriverError> {
        let mut on_insert = doc! {
            "app": app.as_str(), "database": &entry.database, "collection": &entry.collection,
            "created_at": bson::DateTime::now(),
        };
        if entry.isolation == Isolation::Dedicated {
            on_insert.insert("dedicated", true);
        }
        if let Some(view) = &entry.view {
            on_insert.insert("view", stored(view)?);
        }
        let update = if entry.is_provisional {
            on_insert.insert("provisional", true);
            doc! {"$setOnInsert": on_insert}
        } else {
            doc! {"$setOnInsert": on_insert, "$unset": {"provisional": ""}}
        };
        let id = id(app, &entry.database, &entry.collection);
        let entries = self.collection(CATALOG);
        let before = entries
            .find_one_and_update(doc! {"_id": &id}, update)
            .upsert(true)
            .await?;
        let before = before.as_ref().and_then(Entry::read);
        if let Some(before) = before.filter(|before| !before.is_provisional) {
            return Ok(Some(before.isolation));
        }
        let (id, end) = entry_ids(id);
        let of_transactions = doc! {"_id": {"$gt": id, "$lt": end}};
        let before = entries.find_one(of_transactions).await?;
        Ok(before.as_ref().and_then(Entry::read).map(|e| e.isolation))
    }

    /// Says what a view shows from now on.
    pub(crate) async fn define_view(
        &self,
        app: &AppId,
        database: &str,
        collection: &str,
        view: &Document,
    ) -> Result<(), DriverError> {
        let of_view = doc! {"_id": id(app, database, collection)};
        let define = doc! {"$set": {"view": stored(view)?}};
        let collections = self.collection(CATALOG);
        let updated = collections.update_one(of_view, define).await;
        updated.map(|_| ())
    }

    /// Enters a shared collection, if it is not, and says whether the app wants to have documents before and after its changes.
    pub(crate) async fn define_images(
        &self,
        app: &AppId,
        (database, collection): (&str, &str),
        are_wanted: bool,
    ) -> Result<(), DriverError> {
        let entry = Entry::new(database, collection, Isolation::Shared);
        self.enter(app, &entry).await?;
        // In all of its entries: what one that a transaction made says holds beside the others.
        let of_collection = of_collection(app, database, collection);
        let define = if are_wanted {
            doc! {"$set": {"images": true}}
        } else {
            doc! {"$unset": {"images": ""}}
        };
        let collections = self.collection(CATALOG);
        let updated = collections.update_many(of_collection, define).await;
        updated.map(|_| ())
    }

    /// The entry of a collection; one that counts, if there are several.
    pub(crate) async fn entry(
        &self,
        app: &AppId,
        database: &str,
        collection: &str,
    ) -> Result<Option<Entry>, DriverError> {
        let of_collection = of_collection(app, database, collection);
        let mut cursor = self.collection(CATALOG).find(of_collection).await?;
        let mut entry: Option<Entry> = None;
        let mut has_images = false;
        while let Some(found) = cursor.try_next().await? {
            has_images |= Entry::read(&found).is_some_and(|entry| entry.has_images);
            if entry.as_ref().is_none_or(|entry| entry.is_provisional) {
                entry = Entry::read(&found).or(entry);
            }
        }
        Ok(entry.map(|entry| Entry {
            has_images,
            ..entry
        }))
    }

    /// Tells the other proxies that the definition of a collection, of an index of it for example, has changed.
    pub(crate) async fn tell(
        &self,
        app: &AppId,
        database: &str,
        collection: &str,
    ) -> Result<(), DriverError> {
        let entry = of_collection(app, database, collection);
        let changed = doc! {"$inc": {"changes": 1_i64}};
        let collections = self.collection(CATALOG);
        let updated = collections.update_one(entry, changed).await;
        updated.map(|_| ())
    }

    /// Writes down that an automatic index was dropped in favour of what an app wanted.
    pub(crate) async fn decide_drop(
        &self,
        database: &str,
        collection: &str,
        index: &str,
        reason: &str,
    ) -> Result<(), DriverError> {
        let now = bson::DateTime::now();
        let id = format!("{database}.{collection}/{index}/drop/{reason}");
        let entry = doc! {
            "$setOnInsert": {
                "database": database, "collection": collection, "index": index,
                "verdict": "drop", "reason": "in_the_way", "first_at": now, "figures": {},
            },
            "$set": {"last_at": now, "text": reason},
            "$inc": {"times": 1_i64},
        };
        let decisions = self.collection("decisions");
        let done = decisions.update_one(doc! {"_id": id}, entry).upsert(true);
        done.await.map(|_| ())
    }

    /// What changes in the catalog from now on.
    pub(crate) async fn changes(
        &self,
    ) -> Result<ChangeStream<ChangeStreamEvent<Document>>, DriverError> {
        // The server takes no other for a change stream (72).
        let collections = self.collection(CATALOG);
        let changes = collections.watch();
        changes.read_concern(ReadConcern::majority()).await
    }

    /// Takes a collection out.
    pub(crate) async fn leave(
        &self,
        app: &AppId,
        database: &str,
        collection: &str,
    ) -> Result<bool, DriverError> {
        let result = self
            .collection(CATALOG)
            .delete_many(of_collection(app, database, collection))
            .await?;
        Ok(result.deleted_count > 0)
    }

    /// The app's collections in one database, or in all.
    pub(crate) async fn entries(
        &self,
        app: &AppId,
        database: Option<&str>,
    ) -> Result<Vec<Entry>, DriverError> {
        // By the range of ids, which the index on `_id` serves: slugs have neither `/` nor what sorts behind it here.
        let prefix = match database {
            Some(database) => format!("{app}/{database}."),
            None => format!("{app}/"),
        };
        let end = format!("{prefix}\u{10FFFF}");
        let mut cursor = self
            .collection(CATALOG)
            .find(doc! {"_id": {"$gte": prefix, "$lt": end}})
            .await?;
        let mut entries = Vec::new();
        while let Some(found) = cursor.try_next().await? {
            entries.extend(Entry::read(&found));
        }
        Ok(entries)
    }
}

fn id(app: &AppId, database: &str, collection: &str) -> String {
    format!("{app}/{database}.{collection}")
}

/// The entries of a collection: the one that is made outside of transactions, and those that transactions make.
fn of_collection(app: &AppId, database: &str, collection: &str) -> Document {
    let (id, end) = entry_ids(id(app, database, collection));
    doc! {"_id": {"$gte": id, "$lt": end}}
}

/// What is stored under a name as bytes.
fn unstored(entry: &Document, name: &str) -> Option<Document> {
    let bytes = entry.get_binary_generic(name).ok()?;
    bson::deserialize_from_slice(bytes).ok()
}

/// A definition as bytes: servers before 5.0 store no document with names like `$match`.
fn stored(definition: &Document) -> Result<Binary, DriverError> {
    Ok(Binary {
        subtype: BinarySubtype::Generic,
        bytes: bson::serialize_to_vec(definition)?,
    })
}
