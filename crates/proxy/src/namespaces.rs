//! What is known of collections: cached, refreshed behind the commands' backs, made true before the first write.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bson::{Bson, RawDocumentBuf, doc};
use futures_util::TryStreamExt;
use mdb_scope::{
    AppId, Behind, CollectionFacts, ForeignCollection, Isolation, Refusal, Scope, SharedValidator,
    base_id_index_name, base_index_name,
};
use mdb_upstream::wait_until_free;
use mdb_wire::Document;
use mongodb::Client;
use mongodb::error::{Error as DriverError, ErrorKind};
use mongodb::options::{ReadPreference, SelectionCriteria};
use quick_cache::Equivalent;
use quick_cache::sync::Cache;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::control::{Control, Entry};
use crate::errands::Turns;
use crate::ground::Ground;
use crate::validators::{settle, shared_validator};

mod images;
pub(crate) mod notices;
mod transaction;

/// Collections known at once. A client can name as many as it likes; each takes about a kilobyte.
const KNOWN_MAX: usize = 20_000;
/// How long a fact is taken for fresh. Older ones still serve while they are read anew: other proxies and administrators
/// change indexes seldom, and what is stale can cost an order, never isolation.
const FRESH_FOR: Duration = Duration::from_secs(30);
/// Documents up to which the base indexes of an existing collection are built at once. Above it the build would hold up
/// the write that asked for it for seconds: it is left to the administrator.
const BUILD_AT_ONCE_MAX: u64 = 100_000;
/// What the server says when a collection has 64 indexes.
const CANNOT_CREATE_INDEX: i32 = 67;
/// Loads of different collections go side by side; those of one collection one after another. So many that one which waits
/// upstream seldom holds up another app's: a fifth of a megabyte.
const LOAD_LOCKS: usize = 4096;

/// What is known of one collection for one app.
#[derive(Debug)]
pub(crate) struct Known {
    /// Indexes and the like.
    pub(crate) facts: CollectionFacts,
    /// Why the collection is not served, if it is not.
    unserved: Option<Refusal>,
    /// Whether the physical collection exists.
    pub(crate) exists: bool,
    /// Whether it keeps documents as they were before a change.
    has_images: bool,
    /// Whether a write needs nothing to be made first: base indexes and an entry in the catalog.
    is_made: bool,
    loaded_at: Instant,
    is_refreshing: AtomicBool,
}

impl Known {
    /// Whether streams can tell whose its events are: by its name, or by documents as they were before a change.
    pub(crate) fn keeps_images(&self) -> bool {
        self.facts.is_dedicated() || (self.exists && self.has_images)
    }

    /// Whether the app's condition tells documents apart there.
    ///
    /// # Errors
    /// 72 where it does not.
    pub(crate) fn served(&self) -> Result<(), Refusal> {
        self.unserved.clone().map_or(Ok(()), Err)
    }

    /// Whether the next write makes it, as a collection of the app's own.
    pub(crate) fn is_own_to_be(&self) -> bool {
        self.facts.is_dedicated() && !self.exists
    }

    /// Whether a write needs nothing to be made first.
    pub(crate) fn is_ready(&self) -> bool {
        // The server makes the app's own collections by itself, as a private one does.
        self.facts.is_dedicated() || self.is_made
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    app: AppId,
    database: Box<str>,
    collection: Box<str>,
}

/// The same without owning its parts. Hashes as [`Key`] does: field by field, strings as `str`.
struct Name<'a> {
    app: &'a AppId,
    database: &'a str,
    collection: &'a str,
}

impl Hash for Name<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.app.hash(state);
        self.database.hash(state);
        self.collection.hash(state);
    }
}

impl Equivalent<Key> for Name<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        *self.app == key.app
            && *self.database == *key.database
            && *self.collection == *key.collection
    }
}

impl Name<'_> {
    fn owned(&self) -> Key {
        Key {
            app: self.app.clone(),
            database: self.database.into(),
            collection: self.collection.into(),
        }
    }
}

/// Why a collection is not known or not ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespaceError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Driver(#[from] DriverError),
}

/// All that is known, for all apps.
#[derive(Debug)]
pub(crate) struct Namespaces {
    known: Cache<Key, Arc<Known>>,
    locks: Vec<Mutex<()>>,
}

/// The collection of a command, and on whose behalf it is looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) client: &'a Client,
    pub(crate) control_database: &'a str,
    pub(crate) database: &'a str,
    pub(crate) collection: &'a str,
    /// Where the documents are put if the collection is new.
    pub(crate) isolation: Isolation,
    /// Whether the upstream can keep documents as they were before a change (6.0).
    pub(crate) keeps_images: bool,
    /// Where what is done about it waits for its turn.
    pub(crate) errands: Turns<'a>,
}

impl<'a> Place<'a> {
    fn name(&self) -> Name<'_> {
        Name {
            app: self.scope.app(),
            database: self.database,
            collection: self.collection,
        }
    }

    pub(crate) fn control(&self) -> Control<'a> {
        Control::new(self.client, self.control_database)
    }

    pub(crate) fn documents(&self) -> mongodb::Collection<bson::Document> {
        self.client
            .database(self.database)
            .collection(self.collection)
    }
}

impl Default for Namespaces {
    fn default() -> Self {
        Self {
            known: Cache::new(KNOWN_MAX),
            locks: (0..LOAD_LOCKS).map(|_| Mutex::default()).collect(),
        }
    }
}

impl Namespaces {
    /// What is known of a collection; loads it the first time.
    pub(crate) async fn look_up(&self, place: Place<'_>) -> Result<Arc<Known>, NamespaceError> {
        let known = match self.known.get(&place.name()) {
            Some(known) => known,
            None => self.load(place, None).await?,
        };
        known.served()?;
        Ok(known)
    }

    /// Where a collection is that commands have been about; `None` for views and for what is not known.
    pub(crate) fn place_of(
        &self,
        scope: &Scope,
        database: &str,
        collection: &str,
    ) -> Option<mdb_shape::Place> {
        let known = self.known.get(&Name {
            app: scope.app(),
            database,
            collection,
        })?;
        let isolation = known.facts.isolation;
        // The app's own collections are made by the server; whether they are is not followed.
        let exists = known.exists || known.facts.is_dedicated();
        (exists && !known.facts.is_view).then(|| mdb_shape::Place {
            database: database.to_owned(),
            collection: collection.to_owned(),
            physical: scope
                .physical_collection(collection, isolation)
                .into_owned(),
            isolation,
        })
    }

    /// Whether what is known is old enough to be read anew, and nobody does so yet.
    pub(crate) fn wants_refresh(known: &Known) -> bool {
        known.loaded_at.elapsed() > FRESH_FOR && !known.is_refreshing.swap(true, Ordering::Relaxed)
    }

    /// Reads a collection's facts anew.
    pub(crate) async fn refresh(&self, place: Place<'_>) -> Result<Arc<Known>, NamespaceError> {
        let now = Instant::now();
        let known = self.load(place, Some(now)).await?;
        known.served()?;
        Ok(known)
    }

    /// Makes sure that base indexes and catalog entry are there before a write that may create the collection, outside of
    /// transactions. Gives what is known then, and whether the app did not have the collection before.
    pub(crate) async fn ready(
        &self,
        place: Place<'_>,
    ) -> Result<(Arc<Known>, bool), NamespaceError> {
        let known = self.look_up(place).await?;
        if known.is_ready() {
            return Ok((known, false));
        }
        let _alone = self.alone(place).await;
        let entry = Entry::new(place.database, place.collection, Isolation::Shared);
        let found = place.control().enter(place.scope.app(), &entry).await?;
        if found.is_some_and(|found| found == Isolation::Dedicated) {
            // Another proxy has made it the app's own since it was last looked at.
            let made = Arc::new(Known::own(read(place).await?));
            self.known.insert(place.name().owned(), Arc::clone(&made));
            return Ok((made, false));
        }
        transaction::clear(place, found.is_none()).await?;
        if found.is_none() && known.facts.validator == SharedValidator::Own {
            // Of a collection of this name that was dropped, when the proxy that did so ended.
            settle(place).await?;
        }
        if !known.facts.has_base_indexes {
            make_base_indexes(place, &known).await?;
        }
        if known.exists && !known.has_images && place.keeps_images {
            // Streams on the database are open perhaps. A write does not fail for them.
            if let Err(error) = images::keep(place).await {
                images::warn(place, &error);
            }
        }
        let made = self.remember(place, true).await?;
        Ok((made, found.is_none()))
    }

    /// Makes the physical collection, and leaves the catalog alone.
    pub(crate) async fn exist(&self, place: Place<'_>) -> Result<Arc<Known>, NamespaceError> {
        let known = self.look_up(place).await?;
        if known.exists || known.facts.is_dedicated() {
            return Ok(known);
        }
        let _alone = self.alone(place).await;
        make_base_indexes(place, &known).await?;
        Ok(self.remember(place, false).await?)
    }

    /// Makes sure that the physical collection is there and keeps documents as they were before a change, before a stream
    /// is opened.
    pub(crate) async fn watched(&self, place: Place<'_>) -> Result<Arc<Known>, NamespaceError> {
        let known = self.look_up(place).await?;
        if known.keeps_images() || !place.keeps_images {
            return Ok(known);
        }
        let _alone = self.alone(place).await;
        if !known.exists {
            make_base_indexes(place, &known).await?;
        }
        images::keep(place).await?;
        Ok(self.remember(place, known.is_made).await?)
    }

    async fn remember(&self, place: Place<'_>, is_made: bool) -> Result<Arc<Known>, DriverError> {
        let fresh = Arc::new(Known {
            is_made,
            ..read(place).await?
        });
        self.known.insert(place.name().owned(), Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Forgets a collection of the app.
    pub(crate) fn forget(&self, place: Place<'_>) {
        self.known.remove(&place.name());
    }

    /// The same by its name.
    fn forget_named(&self, app: &AppId, database: &str, collection: &str) {
        self.known.remove(&Name {
            app,
            database,
            collection,
        });
    }

    /// Forgets everything.
    fn forget_all(&self) {
        self.known.clear();
    }

    async fn load(
        &self,
        place: Place<'_>,
        newer_than: Option<Instant>,
    ) -> Result<Arc<Known>, NamespaceError> {
        let _alone = self.alone(place).await;
        let before = self.known.get(&place.name());
        if let Some(known) = &before
            && newer_than.is_none_or(|instant| known.loaded_at > instant)
        {
            return Ok(Arc::clone(known));
        }
        let mut fresh = read(place).await.inspect_err(|_| {
            if let Some(known) = &before {
                known.is_refreshing.store(false, Ordering::Relaxed);
            }
        })?;
        if let Some(known) = before.filter(|known| {
            fresh.exists && fresh.facts.has_base_indexes == known.facts.has_base_indexes
        }) {
            fresh.is_made = known.is_made;
        }
        let fresh = Arc::new(fresh);
        self.known.insert(place.name().owned(), Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Begins an errand that is the only one about the collection. The errand first: whoever is alone need not wait for one.
    async fn alone(&self, place: Place<'_>) -> impl Sized + use<'_> {
        let errand = place.errands.begin().await;
        let mut hasher = std::hash::DefaultHasher::new();
        place.name().hash(&mut hasher);
        let index = usize::try_from(hasher.finish() % LOAD_LOCKS as u64).unwrap_or(0);
        (self.locks[index].lock().await, errand)
    }
}

/// Where facts are read: the primary, another member while there is none.
fn anywhere() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::PrimaryPreferred { options: None })
}

/// Where a collection is: a physical one of the app's own decides, whatever the manifest says; else the documents that
/// the app has beside others'; else the manifest.
async fn read(place: Place<'_>) -> Result<Known, DriverError> {
    let own = place
        .scope
        .physical_collection(place.collection, Isolation::Dedicated);
    let mut cursor = place
        .client
        .database(place.database)
        .run_cursor_command(
            doc! {"listCollections": 1, "filter": {"name": {"$in": [place.collection, &*own]}}},
        )
        .selection_criteria(anywhere())
        .await?;
    let mut found = None;
    while let Some(entry) = cursor.try_next().await? {
        if entry.get_str("name").is_ok_and(|name| name == own) {
            let is_view = entry.get_str("type").is_ok_and(|kind| kind == "view");
            let facts = if is_view {
                CollectionFacts::view()
            } else {
                let indexes = read_indexes(place, &own).await?;
                CollectionFacts {
                    uuid: uuid_of(&entry),
                    ..CollectionFacts::dedicated_with(&documents(&indexes))
                }
            };
            return Ok(Known {
                facts,
                ..Known::dedicated(true)
            });
        }
        found = Some(entry);
    }
    let is_new = place.isolation == Isolation::Dedicated
        && !(found.is_some() && has_shared_documents(place).await?);
    if is_new {
        return Ok(Known::dedicated(false));
    }
    let indexes = if found.is_some() {
        read_indexes(place, place.collection).await?
    } else {
        Vec::new()
    };
    let validator = found.as_ref().map(|found| shared_validator(place, found));
    Ok(Known {
        facts: CollectionFacts {
            validator: validator.unwrap_or_default(),
            ..place.scope.collection_facts(&documents(&indexes))
        },
        unserved: found.as_ref().and_then(|options| unserved(place, options)),
        exists: found.is_some(),
        has_images: found.as_ref().is_some_and(images::has),
        is_made: false,
        loaded_at: Instant::now(),
        is_refreshing: AtomicBool::new(false),
    })
}

/// The UUID of a collection, as `listCollections` shows it; none of a time series.
fn uuid_of(entry: &bson::Document) -> Option<[u8; 16]> {
    match entry.get_document("info").ok()?.get("uuid")? {
        Bson::Binary(uuid) => uuid.bytes.as_slice().try_into().ok(),
        _ => None,
    }
}

/// Whether the app has the collection beside other apps, if only an empty one.
async fn has_shared_documents(place: Place<'_>) -> Result<bool, DriverError> {
    let app = place.scope.app();
    let is_entered = place
        .control()
        .entry(app, place.database, place.collection)
        .await?
        .is_some_and(|entry| entry.isolation == Isolation::Shared && !entry.is_provisional);
    if is_entered {
        return Ok(true);
    }
    let own = doc! {place.scope.field().as_str(): app.as_str()};
    let found = place
        .documents()
        .find_one(own)
        .projection(doc! {"_id": 1})
        .selection_criteria(anywhere())
        .await?;
    Ok(found.is_some())
}

impl Known {
    /// What rewriting needs to know, with the other collections of a command.
    pub(crate) fn ground<'a>(&'a self, foreign: &'a [ForeignCollection]) -> Ground<'a> {
        Ground {
            foreign,
            ..Ground::of(&self.facts)
        }
    }

    /// The same view, with what is known of the collection behind it.
    pub(crate) fn over(&self, behind: Behind) -> Self {
        let facts = CollectionFacts {
            behind,
            ..self.facts.clone()
        };
        Self {
            facts,
            ..Self::dedicated(true)
        }
    }

    /// A collection or view of the app's own.
    pub(crate) fn dedicated(exists: bool) -> Self {
        Self {
            facts: CollectionFacts::dedicated(),
            unserved: None,
            exists,
            has_images: false,
            is_made: false,
            loaded_at: Instant::now(),
            is_refreshing: AtomicBool::new(false),
        }
    }

    /// The same, where the catalog says that the collection is being made the app's own.
    fn own(self) -> Self {
        if self.facts.is_dedicated() {
            return self;
        }
        Self::dedicated(false)
    }
}

fn documents(raw: &[RawDocumentBuf]) -> impl Iterator<Item = Document<'_>> + Clone {
    let documents = raw.iter();
    documents.filter_map(|raw| Document::parse(raw.as_bytes()).ok())
}

async fn read_indexes(
    place: Place<'_>,
    physical: &str,
) -> Result<Vec<RawDocumentBuf>, DriverError> {
    let command = doc! {"listIndexes": physical};
    let database = place.client.database(place.database);
    let cursor = database
        .run_cursor_command(command)
        .selection_criteria(anywhere())
        .await;
    let mut cursor = match cursor {
        Ok(cursor) => cursor,
        // Gone since, or a view, which has none.
        Err(error) if matches!(server_code(&error), Some(26 | 166)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut indexes = Vec::new();
    while cursor.advance().await? {
        indexes.push(cursor.current().to_owned());
    }
    Ok(indexes)
}

/// The code of an error that the server sent.
pub(crate) fn server_code(error: &DriverError) -> Option<i32> {
    match error.kind.as_ref() {
        ErrorKind::Command(error) => Some(error.code),
        _ => None,
    }
}

/// Whether a collection, as `listCollections` shows it, has a default collation other than `simple`.
pub(crate) fn has_collation(found: &bson::Document) -> bool {
    let options = found.get_document("options");
    let collation = options.and_then(|options| options.get_document("collation"));
    collation.is_ok_and(|c| c.get_str("locale").is_ok_and(|locale| locale != "simple"))
}

/// A default collation decides how the app's condition compares, which could make apps look alike.
fn unserved(place: Place<'_>, found: &bson::Document) -> Option<Refusal> {
    if !has_collation(found) {
        return None;
    }
    Some(Refusal::invalid_options(format!(
        "collection {}.{} has a default collation and cannot be shared between apps",
        place.database, place.collection
    )))
}

async fn make_base_indexes(place: Place<'_>, known: &Known) -> Result<(), DriverError> {
    if known.exists {
        let count = place.documents().estimated_document_count().await?;
        if count > BUILD_AT_ONCE_MAX {
            tracing::warn!(
                namespace = format!("{}.{}", place.database, place.collection),
                documents = count,
                "the base indexes are missing; build them by hand: reads of apps scan the collection until then"
            );
            return Ok(());
        }
    } else if place.keeps_images {
        images::create(place).await?;
    }
    let field = place.scope.field().as_str();
    let command = doc! {
        "createIndexes": place.collection,
        "indexes": [
            {"key": {field: 1}, "name": base_index_name(field)},
            {"key": {field: 1, "_id": 1}, "name": base_id_index_name(field), "unique": true},
        ],
    };
    let database = place.client.database(place.database);
    if known.exists {
        wait_until_free(&database, place.collection).await?;
    }
    match database.run_command(command).await {
        Err(error) if server_code(&error) == Some(CANNOT_CREATE_INDEX) => {
            tracing::warn!(
                namespace = format!("{}.{}", place.database, place.collection),
                "the collection has no room for the base indexes: reads of apps scan it until others are dropped"
            );
            Ok(())
        }
        made => made.map(|_| ()),
    }
}
