//! The worker's part of the control database: what all proxies have seen, decided and built.
//!
//! | collection | documents |
//! |---|---|
//! | `shapes` | one for each shape on a physical collection, with counters; and one for each collection, with its writes |
//! | `indexes` | one for each index that a proxy has made or tried to make |
//! | `decisions` | one for each different decision on an index, with its reason and figures |
//! | `leases` | who may work, and who may build |

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bson::{Bson, DateTime, Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::{AppId, Isolation};
use mdb_shape::{Direction, Shape, ShapeKind};
use mongodb::error::Error as DriverError;
use mongodb::options::{CollectionOptions, WriteConcern};
use mongodb::{Client, Collection};

use crate::table::{AppDelta, Calls, Delta, Namespace, Placed, SHAPES_MAX, Table};

/// Statements of one `update`: far below the server's limit of 100,000, and a few megabytes of memory.
const STATEMENTS_MAX: usize = 250;

/// Documents of `shapes` that are read at a time.
const SHAPES_AT_A_TIME: u32 = 500;

/// Shapes, decisions and dropped indexes that nobody has seen for so long are deleted.
const KEPT_MILLIS: i64 = 30 * 24 * 60 * 60 * 1000;

/// So long after a shape was first seen another proxy may still tell of writes that came before that.
const YOUNG_MILLIS: i64 = 5 * 60 * 1000;

/// Apps of one shape that are counted by name. The others count for the shape only.
const APPS_MAX: usize = 64;

/// What all proxies know of one shape.
#[derive(Debug, Clone)]
pub(crate) struct FleetShape {
    pub(crate) placed: Arc<Placed>,
    pub(crate) calls: Calls,
    /// Of each app, in the order of their slugs.
    apps: Box<[AppCalls]>,
    pub(crate) first_seen: i64,
    pub(crate) last_seen: i64,
    /// Writes to its collection before it was first seen: they say nothing about it.
    pub(crate) writes_before: u64,
}

/// What one app has to do with a shape.
#[derive(Debug, Clone)]
pub(crate) struct AppCalls {
    pub(crate) slug: Box<str>,
    pub(crate) calls: Calls,
    /// Its own writes to the collection before it was first counted here.
    pub(crate) own_before: Option<u64>,
}

/// What was written to one collection.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    pub(crate) all: u64,
    own: BTreeMap<String, u64>,
}

impl Writes {
    /// Those of one app; all where there are too many apps to count each.
    pub(crate) fn of_app(&self, app: &str) -> u64 {
        let most = if self.own.len() < APPS_MAX {
            0
        } else {
            self.all
        };
        self.own.get(app).copied().unwrap_or(most)
    }
}

/// What all proxies know.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) shapes: BTreeMap<String, Box<FleetShape>>,
    pub(crate) writes: BTreeMap<String, Writes>,
    loaded_at: Option<i64>,
}

/// The control database of one deployment.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    database: String,
}

fn millis_of(document: &Document, name: &str) -> i64 {
    document
        .get_datetime(name)
        .map_or(0, |at| at.timestamp_millis())
}

/// A count; 0 if it is not there.
pub(crate) fn count_of(document: &Document, name: &str) -> u64 {
    match document.get(name) {
        Some(Bson::Int32(n)) => u64::try_from(*n).unwrap_or(0),
        Some(Bson::Int64(n)) => u64::try_from(*n).unwrap_or(0),
        _ => 0,
    }
}

/// Counts by name.
fn counts_of(document: &Document, name: &str) -> BTreeMap<String, u64> {
    let counts = document.get_document(name).ok();
    let all = counts.into_iter().flat_map(|counts| {
        let one = |name: &String| (name.clone(), count_of(counts, name));
        counts.keys().map(one)
    });
    all.collect()
}

/// As a count is stored.
pub(crate) fn stored(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

impl Store {
    /// In this database.
    pub fn new(client: Client, database: String) -> Self {
        Self { client, database }
    }

    /// The deployment.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn collection(&self, name: &str) -> Collection<Document> {
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        self.client
            .database(&self.database)
            .collection_with_options(name, options)
    }

    /// Adds what is new to what all proxies know.
    pub(crate) async fn merge(
        &self,
        table: &mut Table,
        fleet: &Fleet,
        now: i64,
    ) -> Result<(), DriverError> {
        // Not all of them at once: as documents they take several times as much memory.
        let shapes: Vec<_> = table.changed().collect();
        for part in shapes.chunks(STATEMENTS_MAX) {
            let statements = part
                .iter()
                .map(|(id, delta)| merge_statement(id, delta, fleet, now));
            self.merge_some(statements.collect()).await?;
        }
        let writes: Vec<_> = table.writes().collect();
        for part in writes.chunks(STATEMENTS_MAX) {
            let statements = part
                .iter()
                .map(|(namespace, of_apps)| write_statement(namespace, of_apps, now));
            self.merge_some(statements.collect()).await?;
        }
        table.merged();
        Ok(())
    }

    async fn merge_some(&self, statements: Vec<Document>) -> Result<(), DriverError> {
        let command = doc! {
            "update": "shapes", "updates": statements, "ordered": false, "writeConcern": {"w": "majority"},
        };
        let database = self.client.database(&self.database);
        database.run_command(command).await.map(|_| ())
    }

    /// Reads what has changed since the last time.
    pub(crate) async fn load(
        &self,
        fleet: &mut Fleet,
        table: &Table,
        now: i64,
    ) -> Result<(), DriverError> {
        // Clocks of proxies differ; what was read twice is the same.
        const OVERLAP_MILLIS: i64 = 5 * 60 * 1000;
        let filter = match fleet.loaded_at {
            None => doc! {},
            Some(at) => doc! {"merged_at": {"$gte": DateTime::from_millis(at - OVERLAP_MILLIS)}},
        };
        let mut cursor = self
            .collection("shapes")
            .find(filter)
            .sort(doc! {"merged_at": -1})
            .limit(i64::try_from(SHAPES_MAX).unwrap_or(i64::MAX))
            .batch_size(SHAPES_AT_A_TIME)
            .await?;
        while let Some(found) = cursor.try_next().await? {
            let Ok(id) = found.get_str("_id").map(str::to_owned) else {
                continue;
            };
            let placed = fleet.shapes.get(&id).map(|known| &known.placed);
            let placed = placed.or_else(|| table.placed(&id)).cloned();
            if let Some(shape) = FleetShape::read(&found, placed) {
                fleet.shapes.insert(id, Box::new(shape));
            } else {
                let all = count_of(&found, "writes");
                let own = counts_of(&found, "own");
                fleet.writes.insert(id, Writes { all, own });
            }
        }
        fleet.loaded_at = Some(now);
        while fleet.shapes.len() > SHAPES_MAX {
            let oldest = fleet.shapes.iter().min_by_key(|(_, shape)| shape.last_seen);
            let Some(oldest) = oldest.map(|(id, _)| id.clone()) else {
                break;
            };
            fleet.shapes.remove(&oldest);
        }
        Ok(())
    }

    /// Writes a decision down: once for each reason, with how often and when it was taken.
    pub(crate) async fn decide(
        &self,
        index: &IndexRow,
        decision: &Decision,
        now: i64,
    ) -> Result<(), DriverError> {
        let id = format!("{}/{}/{}", index.id, decision.verdict, decision.reason);
        let at = DateTime::from_millis(now);
        let update = doc! {
            "$setOnInsert": {
                "database": &index.namespace.database, "collection": &index.namespace.collection,
                "index": &index.name, "verdict": decision.verdict, "reason": decision.reason, "first_at": at,
            },
            "$set": {"last_at": at, "text": &decision.text, "figures": &decision.figures},
            "$inc": {"times": 1_i64},
        };
        let decisions = self.collection("decisions");
        let done = decisions.update_one(doc! {"_id": id}, update).upsert(true);
        done.await.map(|_| ())
    }

    /// Deletes what nobody has seen for a long time.
    pub(crate) async fn forget_old(&self, now: i64) -> Result<(), DriverError> {
        let old = DateTime::from_millis(now.saturating_sub(KEPT_MILLIS));
        let shapes = self.collection("shapes");
        shapes.delete_many(doc! {"merged_at": {"$lt": old}}).await?;
        let decisions = self.collection("decisions");
        let gone = decisions.delete_many(doc! {"last_at": {"$lt": old}});
        gone.await?;
        let dropped = doc! {"state": "dropped", "state_at": {"$lt": old}};
        self.collection("indexes").delete_many(dropped).await?;
        Ok(())
    }

    /// The indexes in these states; all if none is given.
    pub(crate) async fn indexes(&self, states: &[&str]) -> Result<Vec<Document>, DriverError> {
        let filter = if states.is_empty() {
            doc! {}
        } else {
            doc! {"state": {"$in": states}}
        };
        let indexes = self.collection("indexes");
        let found = indexes.find(filter).sort(doc! {"_id": 1});
        found.await?.try_collect().await
    }

    /// Ids of indexes that cannot be had for now: refused by an operator, not built by the server, or no good.
    pub(crate) async fn blocked(&self) -> Result<BTreeSet<String>, DriverError> {
        let no_good = doc! {"state": "hidden", "why": {"$in": ["unproved", "slower"]}};
        let states = doc! {"state": {"$in": ["refused", "failed"]}};
        let filter = doc! {"$or": [states, no_good]};
        let indexes = self.collection("indexes");
        let found = indexes.find(filter).projection(doc! {"_id": 1});
        let found: Vec<Document> = found.await?.try_collect().await?;
        let ids = found.iter().filter_map(|row| row.get_str("_id").ok());
        Ok(ids.map(str::to_owned).collect())
    }

    /// What is known of one index.
    pub(crate) async fn index(&self, id: &str) -> Result<Option<Document>, DriverError> {
        self.collection("indexes").find_one(doc! {"_id": id}).await
    }

    /// Sets fields of an index; enters it if it is new.
    pub(crate) async fn set_index(
        &self,
        index: &IndexRow,
        mut fields: Document,
    ) -> Result<(), DriverError> {
        fields.insert("database", &index.namespace.database);
        fields.insert("collection", &index.namespace.collection);
        fields.insert("name", &index.name);
        let indexes = self.collection("indexes");
        let set = indexes.update_one(doc! {"_id": &index.id}, doc! {"$set": fields});
        set.upsert(true).await.map(|_| ())
    }

    /// Tells the proxies that the indexes of a collection have changed.
    pub(crate) async fn tell(&self, namespace: &Namespace) -> Result<(), DriverError> {
        let collections = self.collection("collections");
        if let Some((name, slug)) = namespace.collection.rsplit_once('@') {
            return self.tell_owner(slug, &namespace.database, name).await;
        }
        let entries = doc! {"database": &namespace.database, "collection": &namespace.collection};
        let told = collections.update_many(entries, doc! {"$inc": {"changes": 1_i64}});
        told.await.map(|_| ())
    }
}

impl Store {
    /// The same of a collection that is an app's own. Not all of those are in the catalog: then an entry that does not count
    /// comes and goes, which tells as much.
    async fn tell_owner(&self, slug: &str, database: &str, name: &str) -> Result<(), DriverError> {
        let collections = self.collection("collections");
        let id = format!("{slug}/{database}.{name}");
        let changed = doc! {"$inc": {"changes": 1_i64}};
        let told = collections.update_one(doc! {"_id": &id}, changed).await?;
        if told.matched_count > 0 {
            return Ok(());
        }
        let notice = doc! {
            "_id": &id, "app": slug, "database": database, "collection": name, "dedicated": true, "provisional": true,
        };
        match collections.insert_one(notice).await {
            // It was entered meanwhile, which the proxies were told.
            Err(error) if crate::lease::is_duplicate(&error) => return Ok(()),
            inserted => drop(inserted?),
        }
        let gone = doc! {"_id": &id, "provisional": true};
        collections.delete_one(gone).await.map(|_| ())
    }
}

/// Names an index in the control database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexRow {
    pub(crate) id: String,
    pub(crate) namespace: Namespace,
    pub(crate) name: String,
}

impl IndexRow {
    /// Of a document of `indexes`.
    pub(crate) fn read(found: &Document) -> Option<Self> {
        let text = |name: &str| found.get_str(name).ok().map(str::to_owned);
        Some(Self {
            id: text("_id")?,
            namespace: Namespace {
                database: text("database")?,
                collection: text("collection")?,
            },
            name: text("name")?,
        })
    }
}

/// What was decided of an index, and why.
#[derive(Debug, Clone)]
pub(crate) struct Decision {
    /// One of a few words: `build`, `advise`, `wait`, `no`, `keep`, `hide`, `show`, `drop`, `fail`.
    pub(crate) verdict: &'static str,
    /// One of a few words, for programs.
    pub(crate) reason: &'static str,
    /// The same for people.
    pub(crate) text: String,
    pub(crate) figures: Document,
}

/// Adds what is new of a shape.
fn merge_statement(id: &str, delta: &Delta, fleet: &Fleet, now: i64) -> Document {
    let namespace = delta.placed.namespace.to_string();
    let written = fleet.writes.get(&namespace);
    let before = written.map_or(0, |writes| writes.all);
    let known = fleet.shapes.get(id);
    let is_young = known.is_none_or(|shape| now - shape.first_seen < YOUNG_MILLIS);
    let writes = delta.writes_before.filter(|_| is_young);
    let writes = writes.map(|writes| before.saturating_add(writes));
    let new_app = |app: &str| known.is_none_or(|shape| shape.of_app(app).is_none());
    let own = delta.apps.iter().take(APPS_MAX);
    let own = own.filter(|new| new_app(new.app.as_str()));
    let own = own.map(|new| {
        let before = written.map_or(0, |writes| writes.of_app(new.app.as_str()));
        (
            format!("own_before.{}", new.app),
            stored(before.saturating_add(new.own_before)).into(),
        )
    });
    shape_statement(id, delta, writes, own.collect(), now)
}

/// Adds what was written to a collection.
fn write_statement(namespace: &Namespace, of_apps: &BTreeMap<AppId, u64>, now: i64) -> Document {
    let mut added = doc! {"writes": stored(of_apps.values().sum())};
    for (app, n) in of_apps.iter().take(APPS_MAX) {
        added.insert(format!("own.{app}"), stored(*n));
    }
    doc! {
        "q": {"_id": namespace.to_string()}, "upsert": true,
        "u": {"$inc": added, "$max": {"merged_at": DateTime::from_millis(now)}},
    }
}

fn shape_statement(
    id: &str,
    delta: &Delta,
    writes_before: Option<u64>,
    own_before: Document,
    now: i64,
) -> Document {
    let shape = &delta.placed.shape;
    let fields = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    let sort: Vec<Bson> = shape
        .sort
        .iter()
        .map(|(field, direction)| bson::bson!([field, direction.as_i32()]))
        .collect();
    let mut fixed = doc! {
        "database": &delta.placed.namespace.database, "collection": &delta.placed.namespace.collection,
        "is_dedicated": delta.placed.isolation == Isolation::Dedicated,
        "named": &shape.collection, "kind": shape.kind.as_str(),
        "equality": fields(&shape.equality), "membership": fields(&shape.membership), "sort": sort,
        "range": fields(&shape.range), "arrays": fields(&shape.arrays),
        "unindexable": i64::from(shape.unindexable), "is_special": shape.is_special,
    };
    if let Some(collation) = &shape.collation
        && let Ok(collation) = bson::deserialize_from_slice::<Document>(collation)
    {
        fixed.insert("collation", collation);
    }
    let Calls { reads, micros } = delta.calls;
    let mut added = doc! {"reads": stored(reads), "micros": stored(micros)};
    for AppDelta { app, calls, .. } in delta.apps.iter().take(APPS_MAX) {
        added.insert(format!("apps.{app}"), stored(calls.reads));
        added.insert(format!("micros_of.{app}"), stored(calls.micros));
    }
    let at = DateTime::from_millis;
    let mut newest = doc! {"last_seen": at(delta.last_seen), "merged_at": at(now)};
    if let Some(writes) = writes_before {
        newest.insert("writes_before", stored(writes));
    }
    newest.extend(own_before);
    doc! {
        "q": {"_id": id}, "upsert": true,
        "u": {
            "$setOnInsert": fixed, "$inc": added,
            "$min": {"first_seen": at(delta.first_seen)},
            "$max": newest,
        },
    }
}

impl FleetShape {
    /// Calls of an app; of all where none is given.
    pub(crate) fn calls(&self, app: Option<&str>) -> Calls {
        match app {
            None => self.calls,
            Some(app) => self.of_app(app).map(|of| of.calls).unwrap_or_default(),
        }
    }

    /// The apps that have called.
    pub(crate) fn apps(&self) -> impl Iterator<Item = &AppCalls> {
        self.apps.iter()
    }

    pub(crate) fn of_app(&self, app: &str) -> Option<&AppCalls> {
        let at = self.apps.binary_search_by(|of| (*of.slug).cmp(app));
        self.apps.get(at.ok()?)
    }

    /// Of a document of `shapes`. `placed` is where the shape is, if that is known.
    fn read(found: &Document, placed: Option<Arc<Placed>>) -> Option<Self> {
        let placed = match placed {
            Some(known) => known,
            None => Arc::new(Placed::read(found)?),
        };
        let micros = counts_of(found, "micros_of");
        let before = counts_of(found, "own_before");
        let apps = counts_of(found, "apps").into_iter().map(|(slug, reads)| {
            let micros = micros.get(&slug).copied().unwrap_or(0);
            AppCalls {
                calls: Calls { reads, micros },
                own_before: before.get(&slug).copied(),
                slug: slug.into(),
            }
        });
        Some(Self {
            placed,
            calls: Calls {
                reads: count_of(found, "reads"),
                micros: count_of(found, "micros"),
            },
            apps: apps.collect(),
            first_seen: millis_of(found, "first_seen"),
            last_seen: millis_of(found, "last_seen"),
            writes_before: count_of(found, "writes_before"),
        })
    }
}

impl Placed {
    fn read(found: &Document) -> Option<Self> {
        let texts = |name: &str| -> BTreeSet<String> {
            let array = found.get_array(name).into_iter().flatten();
            array
                .filter_map(|text| text.as_str().map(str::to_owned))
                .collect()
        };
        let database = found.get_str("database").ok()?;
        let kind = ShapeKind::parse(found.get_str("kind").ok()?)?;
        let mut shape = Shape::new(database, found.get_str("named").ok()?, kind);
        shape.equality = texts("equality");
        shape.membership = texts("membership");
        shape.range = texts("range");
        shape.arrays = texts("arrays");
        shape.sort = found
            .get_array("sort")
            .into_iter()
            .flatten()
            .filter_map(sorted_field)
            .collect();
        shape.unindexable = u32::try_from(count_of(found, "unindexable")).unwrap_or(u32::MAX);
        shape.is_special = found.get_bool("is_special").unwrap_or(false);
        let collation = found.get_document("collation").ok();
        shape.collation = collation.and_then(|c| bson::serialize_to_vec(c).ok());
        Some(Self {
            namespace: Namespace {
                database: database.to_owned(),
                collection: found.get_str("collection").ok()?.to_owned(),
            },
            isolation: if found.get_bool("is_dedicated").unwrap_or(false) {
                Isolation::Dedicated
            } else {
                Isolation::Shared
            },
            shape,
        })
    }
}

fn sorted_field(pair: &Bson) -> Option<(String, Direction)> {
    let pair = pair.as_array()?;
    let (field, direction) = (pair.first()?.as_str()?, pair.get(1)?.as_i32()?);
    Some((field.to_owned(), Direction::of(i64::from(direction))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_comes_back_as_it_was_stored() {
        let mut shape = Shape::new("shop", "products", ShapeKind::Find);
        shape.equality.insert("a.b".to_owned());
        shape.membership.insert("m".to_owned());
        shape.range.insert("r".to_owned());
        shape.arrays.insert("a".to_owned());
        shape.sort = vec![("s".to_owned(), Direction::Descending)];
        shape.unindexable = 2;
        shape.collation = bson::serialize_to_vec(&doc! {"locale": "de"}).ok();
        let placed = Placed {
            namespace: Namespace {
                database: "shop".to_owned(),
                collection: "products@a".to_owned(),
            },
            isolation: Isolation::Dedicated,
            shape,
        };
        let id = placed.id();
        let mut table = Table::default();
        table.enter_for_test(placed.clone());
        let (_, delta) = table.changed().next().unwrap();
        let statement = shape_statement(&id, delta, Some(7), doc! {}, 1);
        let update = statement.get_document("u").unwrap();
        let mut stored = update.get_document("$setOnInsert").unwrap().clone();
        stored.extend(update.get_document("$inc").unwrap().clone());
        stored.extend(update.get_document("$max").unwrap().clone());
        let read = FleetShape::read(&stored, None).unwrap();
        assert_eq!(*read.placed, placed);
        assert_eq!(read.placed.id(), id);
        assert_eq!((read.calls.reads, read.writes_before), (1, 7));
    }
}
