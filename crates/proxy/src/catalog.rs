//! Commands about collections, databases and indexes: composed by the proxy, in the app's own terms.

use bson::doc;
use futures_util::TryStreamExt;
use mdb_scope::{
    Catalog, CollectionFacts, Isolation, Refusal, Scope, SharedValidator, check_catalog_command,
    check_list_cursor, collection_of, dropped, dropped_indexes, drops_all,
};
use mdb_upstream::wait_until_free;
use mdb_wire::{Document, Element, Writer};
use mongodb::Client;
use mongodb::error::Error as DriverError;
use tokio::time::Instant;

use crate::automatic::TAKEN;
use crate::builds::run_behind;
use crate::control::{Control, Entry};
use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::listing::{self, ListFilter, Listed};
use crate::namespaces::{Known, Place, server_code};
use crate::reply;
use crate::validators::settle;

mod transaction;

/// Answers a command of the catalog.
pub(crate) async fn answer(
    journey: &Journey<'_>,
    row: Catalog,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let is_old = journey.is_before_five();
    let wire_version = journey.wire_version();
    check_catalog_command(
        journey.spec,
        journey.command,
        journey.control_database(),
        wire_version,
    )?;
    if matches!(row, Catalog::ListCollections | Catalog::ListIndexes) {
        check_list_cursor(journey.spec, journey.command, is_old)?;
    }
    if !journey.takes_write_concern(out).await? {
        return Ok(());
    }
    let start = out.len();
    compose(journey, row, out).await?;
    journey.await_write_concern(out, start).await
}

async fn compose(journey: &Journey<'_>, row: Catalog, out: &mut Vec<u8>) -> Result<(), Error> {
    match row {
        Catalog::ListCollections => journey.list_collections(out).await,
        Catalog::ListDatabases => journey.list_databases(out).await,
        Catalog::Create => journey.create(out).await,
        Catalog::Drop => journey.drop_collection(out).await,
        Catalog::DropDatabase => journey.drop_database(out).await,
        Catalog::CreateIndexes if journey.in_transaction() => {
            journey.create_indexes_in_transaction(out).await
        }
        Catalog::CreateIndexes => journey.create_indexes(out).await,
        Catalog::ListIndexes => journey.list_indexes(out).await,
        Catalog::DropIndexes => journey.drop_indexes(out).await,
        Catalog::KillCursors => journey.kill_cursors(out).await,
        Catalog::CurrentOp => journey.current_op(out),
        Catalog::KillOp => journey.kill_op(out).await,
        Catalog::KillAllSessions => journey.kill_all_sessions(out).await,
        Catalog::CollStats => journey.coll_stats(out).await,
        Catalog::DbStats => journey.db_stats(out).await,
        Catalog::DataSize => journey.data_size(out).await,
        Catalog::CollMod => journey.coll_mod(out).await,
        Catalog::RenameCollection => journey.rename_collection(out).await,
        Catalog::PlanCache => journey.plan_cache(out).await,
        Catalog::Validate => journey.validate(out).await,
        Catalog::Unshared(why) => journey.unshared(why, out).await,
    }
}

impl<'a> Journey<'a> {
    fn control(&self) -> Control<'a> {
        Control::new(self.shared.upstream.control(), self.control_database())
    }

    /// Awaits work of the proxy's own driver, when it is the app's turn.
    pub(crate) async fn driver<T>(
        &self,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        self.deadline.within(self.command, self.errand(work)).await
    }

    /// The same for work that takes as long as there are documents.
    pub(crate) async fn at_length<T>(
        &self,
        work: impl Future<Output = Result<T, DriverError>>,
    ) -> Result<T, Error> {
        self.deadline
            .at_length(self.command, self.errand(work))
            .await
    }

    /// Waits until no transaction holds a shared collection that is about to be changed: other apps would wait behind the change.
    pub(crate) async fn wait_until_free(&self, place: Place<'_>) -> Result<(), Error> {
        let database = place.client.database(place.database);
        let free = wait_until_free(&database, place.collection);
        self.at_length(free).await
    }

    async fn errand<T>(&self, work: impl Future<Output = T>) -> T {
        let _errand = self.errands().begin().await;
        work.await
    }

    /// The app's collections in the database: its own physical ones, those of the catalog, and those that hold a document of
    /// the app.
    pub(crate) async fn own_collections(&self, database: &str) -> Result<Vec<Listed>, Error> {
        let entries = self
            .driver(self.control().entries(self.scope.app(), Some(database)))
            .await?;
        self.collections_of(database, &entries).await
    }

    /// The same, with the entries of this and perhaps other databases at hand.
    async fn collections_of(
        &self,
        database: &str,
        entries: &[Entry],
    ) -> Result<Vec<Listed>, Error> {
        let physical = self.driver(physical_collections(self, database)).await?;
        let mut own: Vec<Listed> = physical
            .iter()
            .filter_map(|found| Listed::dedicated(self.scope, database, found, entries))
            .collect();
        for found in &physical {
            let Some(shared) = Listed::shared(self.scope.app(), database, found, entries) else {
                continue;
            };
            let entry = entries
                .iter()
                .find(|e| e.database == database && e.collection == shared.name);
            let is_sure = entry.is_some_and(|e| !e.is_provisional);
            let is_hidden = own.iter().any(|listed| listed.name == shared.name);
            if !is_hidden
                && (is_sure
                    || self
                        .driver(self.holds_documents(database, &shared.name))
                        .await?)
            {
                own.push(shared);
            }
        }
        own.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(own)
    }

    async fn list_collections(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let body = self.command.body;
        let filter = ListFilter::read(body.find("filter"))?;
        let is_name_only = body.find("nameOnly").and_then(|e| e.as_flag()) == Some(true);
        let database = self.command.database;
        let own = self.own_collections(database).await?;
        reply::ok(out, |w| {
            let cursor = w.begin_document(b"cursor");
            w.int64(b"id", 0);
            w.string(b"ns", &format!("{database}.$cmd.listCollections"));
            let batch = w.begin_array(b"firstBatch");
            let shown = own.iter().filter(|c| filter.takes(&c.shown()));
            for (index, collection) in shown.enumerate() {
                collection.write(w, index, is_name_only);
            }
            w.end(batch);
            w.end(cursor);
        });
        Ok(())
    }

    async fn list_databases(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.only_on_admin()?;
        let body = self.command.body;
        let filter = ListFilter::read(body.find("filter"))?;
        let is_name_only = body.find("nameOnly").and_then(|e| e.as_flag()) == Some(true);
        let own = self.own_databases().await?;
        reply::ok(out, |w| {
            let array = w.begin_array(b"databases");
            let shown = own
                .iter()
                .filter(|name| filter.takes(&doc! {"name": *name}));
            for (index, name) in shown.enumerate() {
                listing::database(w, index, name, is_name_only);
            }
            w.end(array);
            if !is_name_only {
                w.int64(b"totalSize", 0);
                w.int64(b"totalSizeMb", 0);
            }
        });
        Ok(())
    }

    pub(crate) async fn own_databases(&self) -> Result<Vec<String>, Error> {
        let client = self.shared.upstream.control();
        let entries = self
            .driver(self.control().entries(self.scope.app(), None))
            .await?;
        let physical = async { client.list_database_names().await };
        let mut own = Vec::new();
        for database in self.driver(physical).await? {
            let is_served = !["admin", "local", "config"].contains(&database.as_str())
                && database != self.control_database();
            if is_served && !self.collections_of(&database, &entries).await?.is_empty() {
                own.push(database);
            }
        }
        own.sort_unstable();
        Ok(own)
    }

    async fn drop_collection(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let collection = collection_of(self.command)?;
        let place = self.place(collection);
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        if known.facts.is_dedicated() {
            return self.drop_dedicated(place, &known, out).await;
        }
        let dropped = self.remove(place).await?;
        if dropped.is_none() && self.is_before_seven() {
            return Err(Refusal::namespace_not_found("ns not found").into());
        }
        reply::ok(out, |w| {
            if let Some(indexes) = dropped {
                w.int32(b"nIndexesWas", indexes);
                w.string(b"ns", &format!("{}.{collection}", self.command.database));
            }
        });
        Ok(())
    }

    async fn drop_database(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let database = self.command.database;
        let own = self.own_collections(database).await?;
        for listed in &own {
            let place = Place {
                collection: &listed.name,
                ..self.place("")
            };
            if listed.isolation == Isolation::Dedicated {
                self.remove_dedicated(place).await?;
            } else {
                self.remove(place).await?;
            }
        }
        if !own.is_empty() {
            self.mark_dropped_database().await?;
        }
        reply::ok(out, |w| {
            // 5.0 and later do not say it (4.4.2, 5.0.4, 6.0.5).
            if !own.is_empty() && self.is_before_five() {
                w.string(b"dropped", database);
            }
        });
        Ok(())
    }

    /// Takes the app's documents, indexes and catalog entry away; the physical collection stays. Gives the number of
    /// indexes that the app had, or `None` if it had no such collection.
    async fn remove(&self, place: Place<'_>) -> Result<Option<i32>, Error> {
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        let deleted = if known.exists {
            self.delete_documents(place, known.keeps_images()).await?
        } else {
            0
        };
        let left = self.forget_shared(place, &known).await?;
        let had = left || deleted > 0;
        self.end_finds(place, None);
        if had && known.keeps_images() {
            self.mark_dropped(place).await?;
        }
        let indexes = i32::try_from(known.facts.indexes.len()).unwrap_or(i32::MAX);
        Ok(had.then_some(indexes.saturating_add(1)))
    }

    /// Takes the app's indexes and catalog entry of a shared collection away, which has no documents of the app any more.
    /// Gives whether there was an entry.
    pub(crate) async fn forget_shared(
        &self,
        place: Place<'_>,
        known: &Known,
    ) -> Result<bool, Error> {
        let app = self.scope.app();
        for index in &known.facts.indexes {
            let command = doc! {"dropIndexes": place.collection, "index": &index.physical_name};
            let database = place.client.database(place.database);
            let drop = async {
                match run_behind(&database, command).await {
                    // Gone already: another proxy drops the same collection.
                    Err(error) if matches!(server_code(&error), Some(26 | 27)) => Ok(()),
                    other => other.map(|_| ()),
                }
            };
            // A build in the way may be long, and what was begun has to end.
            self.at_length(drop).await?;
        }
        let left = self
            .driver(place.control().leave(app, place.database, place.collection))
            .await?;
        if known.facts.validator == SharedValidator::Own {
            self.at_length(settle(place)).await?;
        }
        self.forward.namespaces.forget(place);
        Ok(left)
    }

    async fn create_indexes(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let collection = collection_of(self.command)?;
        let place = self.place(collection);
        let namespaces = &self.forward.namespaces;
        let known = self.namespace(namespaces.look_up(place)).await?;
        if known.facts.is_dedicated() {
            if self.create_own_indexes(place, &known, out).await? && known.is_own_to_be() {
                self.made_own(place);
            }
            return Ok(());
        }
        // Refused before anything is made.
        let none = CollectionFacts::default();
        self.with_facts(Ground::of(&none), |facts| {
            self.scope.create_indexes(self.spec, self.command, facts)
        })?;
        let (_, is_new) = self.namespace(namespaces.ready(place)).await?;
        if !known.is_ready() {
            self.tell_made(place);
        }
        if is_new {
            self.views_follow(place.database, collection).await?;
        }
        self.build_indexes(place, is_new, out).await
    }

    /// Builds the indexes of a `createIndexes` on a shared collection that is there.
    async fn build_indexes(
        &self,
        place: Place<'_>,
        is_new: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let namespaces = &self.forward.namespaces;
        let before = self.namespace(namespaces.refresh(place)).await?;
        let scoped = self.with_facts(Ground::of(&before.facts), |facts| {
            self.scope.create_indexes(self.spec, self.command, facts)
        })?;
        let Some(mut scoped) = scoped else {
            reply::ok(out, |w| {
                w.int32(b"numIndexesBefore", index_count(&before));
                w.int32(b"numIndexesAfter", index_count(&before));
                w.string(b"note", "all indexes already exist");
            });
            return Ok(());
        };
        let start = out.len();
        let ground = Ground::of(&before.facts);
        if before.exists && !self.in_transaction() {
            self.wait_until_free(place).await?;
        }
        let mut seen = self.exchange(&mut scoped, ground, out).await?;
        let is_taken = seen.code.is_some_and(|code| TAKEN.contains(&code));
        if is_taken && self.make_room(place, &before).await? {
            out.truncate(start);
            seen = self.exchange(&mut scoped, ground, out).await?;
        }
        self.tell_changed(place).await?;
        let after = self.namespace(namespaces.refresh(place)).await?;
        let has_grown = index_count(&after) > index_count(&before);
        if seen.is_ok {
            patch_reply(out, start, &mut |w, element| match element.key {
                // Of a second attempt, after the first had built them.
                b"note" if has_grown => {}
                b"numIndexesBefore" => w.int32(element.key, index_count(&before)),
                b"numIndexesAfter" => w.int32(element.key, index_count(&after)),
                b"createdCollectionAutomatically" => w.boolean(element.key, is_new),
                _ => w.element(element),
            });
        }
        Ok(())
    }

    /// Tells the other proxies that a collection has changed: the app's indexes of a shared one, or where its documents are.
    pub(crate) async fn tell_changed(&self, place: Place<'_>) -> Result<(), Error> {
        let control = place.control();
        let told = control.tell(self.scope.app(), place.database, place.collection);
        self.driver(told).await
    }

    async fn list_indexes(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let collection = collection_of(self.command)?;
        let place = self.place(collection);
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        if known.facts.is_dedicated() {
            return self.list_own_indexes(place, &known, out).await;
        }
        let database = self.command.database;
        if !self.has(place, &known).await? {
            let text = format!("ns does not exist: {database}.{collection}");
            return Err(Refusal::namespace_not_found(text).into());
        }
        reply::ok(out, |w| {
            let cursor = w.begin_document(b"cursor");
            w.int64(b"id", 0);
            w.string(b"ns", &format!("{database}.{collection}"));
            let batch = w.begin_array(b"firstBatch");
            listing::indexes(w, &known.facts);
            w.end(batch);
            w.end(cursor);
        });
        Ok(())
    }

    pub(crate) async fn holds_documents(
        &self,
        database: &str,
        name: &str,
    ) -> Result<bool, DriverError> {
        holds_documents(self.shared.upstream.control(), self.scope, database, name).await
    }

    /// Whether the app has the collection, if only an empty one.
    pub(crate) async fn has(&self, place: Place<'_>, known: &Known) -> Result<bool, Error> {
        if !known.exists || known.facts.is_dedicated() {
            return Ok(known.exists);
        }
        let control = self.control();
        let entries = control.entries(self.scope.app(), Some(place.database));
        let entries = self.driver(entries).await?;
        let is_entered = entries
            .iter()
            .any(|e| e.collection == place.collection && !e.is_provisional);
        Ok(is_entered
            || self
                .driver(self.holds_documents(place.database, place.collection))
                .await?)
    }

    async fn drop_indexes(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let collection = collection_of(self.command)?;
        let place = self.place(collection);
        let namespaces = &self.forward.namespaces;
        let known = self.namespace(namespaces.refresh(place)).await?;
        if known.facts.is_dedicated() {
            return self.drop_own_indexes(place, &known, out).await;
        }
        if !self.is_before_five() {
            dropped(self.command)?;
        }
        if !self.has(place, &known).await? {
            let text = format!("ns not found {}.{collection}", self.command.database);
            return Err(Refusal::namespace_not_found(text).into());
        }
        let dropped = dropped_indexes(self.command, &known.facts)?;
        let was = index_count(&known);
        let index = self.command.body.find("index");
        let drops_all = index.is_some_and(|index| drops_all(&index));
        if dropped.is_empty() {
            reply::ok(out, |w| {
                w.int32(b"nIndexesWas", was);
                if drops_all {
                    w.string(b"msg", "non-_id indexes dropped for collection");
                }
            });
            return Ok(());
        }
        let names: Vec<&str> = dropped.iter().map(|i| i.physical_name.as_str()).collect();
        let ground = Ground::of(&known.facts);
        let mut scoped = self.with_facts(ground, |facts| {
            self.scope
                .drop_indexes(self.spec, self.command, facts, &names)
        })?;
        let start = out.len();
        self.wait_until_free(place).await?;
        self.exchange(&mut scoped, ground, out).await?;
        self.tell_changed(place).await?;
        self.namespace(namespaces.refresh(place)).await?;
        patch_reply(out, start, &mut |w, element| match element.key {
            b"nIndexesWas" => {
                w.int32(element.key, was);
                if drops_all {
                    w.string(b"msg", "non-_id indexes dropped for collection");
                }
            }
            _ => w.element(element),
        });
        Ok(())
    }

    async fn kill_cursors(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        let app = &self.identity.app.id;
        let ids = mdb_scope::cursor_ids(self.spec, self.command, self.is_before_five())?;
        if self.begins_transaction() {
            return Err(Refusal::not_in_transaction(
                "Cannot run killCursors as the first operation in a multi-document transaction.",
            )
            .into());
        }
        let (mut killed, mut unknown) = (Vec::new(), Vec::new());
        for id in ids {
            let cursor = self.shared.cursors.look_up(app, id, Instant::now());
            let Some(cursor) = cursor.filter(|_| self.shared.cursors.close(app, id)) else {
                unknown.push(id);
                continue;
            };
            let none = CollectionFacts::default();
            let ground = Ground::of(&none);
            let mut scoped = self.with_facts(ground, |facts| {
                self.scope.kill_cursors(facts, &cursor.facts())
            })?;
            let mut ignored = Vec::new();
            match self.exchange(&mut scoped, ground, &mut ignored).await {
                Ok(_) => killed.push(id),
                // Its member is gone, and the cursor with it.
                Err(_) => unknown.push(id),
            }
        }
        reply::ok(out, |w| {
            listing::ids(w, b"cursorsKilled", &killed);
            listing::ids(w, b"cursorsNotFound", &unknown);
            listing::ids(w, b"cursorsAlive", &[]);
            listing::ids(w, b"cursorsUnknown", &[]);
        });
        Ok(())
    }
}

/// The physical collections and views of a database.
async fn physical_collections(
    journey: &Journey<'_>,
    database: &str,
) -> Result<Vec<bson::Document>, DriverError> {
    let database = journey.shared.upstream.control().database(database);
    let cursor = database
        .run_cursor_command(doc! {"listCollections": 1})
        .await?;
    cursor.try_collect().await
}

/// Whether a collection holds a document of the app: one look at the base index.
pub(crate) async fn holds_documents(
    client: &Client,
    scope: &Scope,
    database: &str,
    collection: &str,
) -> Result<bool, DriverError> {
    let own = doc! {scope.field().as_str(): scope.app().as_str()};
    let found = client
        .database(database)
        .collection::<bson::Document>(collection)
        .find_one(own)
        .projection(doc! {"_id": 1})
        .await?;
    Ok(found.is_some())
}

/// The app's own indexes, that on `_id` among them.
fn index_count(known: &Known) -> i32 {
    let own = i32::try_from(known.facts.indexes.len()).unwrap_or(i32::MAX);
    own.saturating_add(1)
}

/// Puts the app's own figures into a reply of the upstream that stands at `start`.
pub(crate) fn patch_reply(
    out: &mut Vec<u8>,
    start: usize,
    write: &mut dyn FnMut(&mut Writer, &Element<'_>),
) {
    let reply = out.split_off(start);
    let document = Document::parse_shallow(&reply).unwrap_or(Document::EMPTY);
    let mut w = Writer::new(std::mem::take(out));
    let mark = w.begin();
    for element in document.elements() {
        write(&mut w, &element);
    }
    w.end(mark);
    *out = w.into_bytes();
}
