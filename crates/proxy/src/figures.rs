//! Figures of collections and databases: the app's own, whatever else the physical collections hold.
//!
//! On a shared collection they are composed: documents are counted and measured by the app's condition, indexes are those of the
//! app, whose sizes no other app's documents change. On a collection of the app's own they are the server's.

use std::time::Duration;

use bson::{Bson, doc};
use mdb_scope::{
    Isolation, Refusal, automatic_index_shown, base_index_name, check_namespace, collection_of,
};
use mdb_wire::{Element, Kind, Writer};
use tokio::time::Instant;

use crate::error::Error;
use crate::forward::Journey;
use crate::namespaces::{Known, Place, server_code};
use crate::reply;

mod database;
mod stage;

pub(crate) use stage::first_batch;

/// Documents that are read to measure their size. Where an app has more, the others count as the average of these: a figure
/// costs some ten milliseconds, not a scan.
const MEASURED_MAX: i64 = 10_000;
/// How long the upstream may work for one figure.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a collection holds of the app.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    documents: i64,
    bytes: i64,
    storage_bytes: i64,
    free_bytes: i64,
    /// Names as the app says them, with bytes.
    indexes: Vec<(String, i64)>,
    is_estimate: bool,
    /// Whether servers of the upstream's version tell of orphans: from 6.0 on.
    tells_orphans: bool,
}

impl Figures {
    fn index_bytes(&self) -> i64 {
        self.indexes.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Writes them as `collStats` and `$collStats.storageStats` show them.
    fn write(&self, w: &mut Writer, scale: i64) {
        number(w, b"size", self.bytes / scale);
        number(w, b"count", self.documents);
        if self.documents > 0 {
            number(w, b"avgObjSize", self.bytes / self.documents);
        }
        if self.tells_orphans {
            w.int32(b"numOrphanDocs", 0);
        }
        number(w, b"storageSize", self.storage_bytes / scale);
        number(w, b"freeStorageSize", self.free_bytes / scale);
        w.boolean(b"capped", false);
        w.int32(
            b"nindexes",
            i32::try_from(self.indexes.len()).unwrap_or(i32::MAX),
        );
        let builds = w.begin_array(b"indexBuilds");
        w.end(builds);
        let index_bytes = self.index_bytes();
        number(w, b"totalIndexSize", index_bytes / scale);
        number(w, b"totalSize", (self.storage_bytes + index_bytes) / scale);
        let sizes = w.begin_document(b"indexSizes");
        for (name, bytes) in &self.indexes {
            number(w, name.as_bytes(), bytes / scale);
        }
        w.end(sizes);
        number(w, b"scaleFactor", scale);
    }
}

/// The least kind of integer that holds the number, as servers write figures.
pub(crate) fn number(w: &mut Writer, key: &[u8], value: i64) {
    match i32::try_from(value) {
        Ok(small) => w.int32(key, small),
        Err(_) => w.int64(key, value),
    }
}

/// A number of a server's reply; 0 if it is not there.
pub(crate) fn read(document: &bson::Document, key: &str) -> i64 {
    match document.get(key) {
        Some(Bson::Int32(n)) => i64::from(*n),
        Some(Bson::Int64(n)) => *n,
        // Sizes as doubles: below 2^53 each is whole.
        #[allow(clippy::cast_possible_truncation)]
        Some(Bson::Double(n)) => *n as i64,
        _ => 0,
    }
}

/// Reads `scale`: a number of at least 1, its fraction cut off.
///
/// # Errors
/// 14 for what is no number, 51024 below 1.
fn scale_of(element: Option<Element<'_>>, path: &str) -> Result<i64, Refusal> {
    let Some(element) = element else {
        return Ok(1);
    };
    let scale = match element.kind {
        Kind::Null => Some(1),
        _ => element.as_truncated(),
    };
    match scale {
        Some(scale) if scale >= 1 => Ok(scale),
        Some(scale) => Err(Refusal::below_minimum(format!(
            "BSON field 'scale' value must be >= 1, actual value '{scale}'"
        ))),
        None => Err(Refusal::wrong_number(path, element.kind.name())),
    }
}

const TYPE_MISMATCH: i32 = 14;

/// What servers say of a scale that is none in `dbStats`, and before 5.0 everywhere (4.4.2, 5.0.4, 6.0.5).
fn no_scale(refusal: &Refusal, wanted: &str) -> String {
    let is_number = refusal.code != TYPE_MISMATCH;
    let kind = if is_number { "" } else { "a number " };
    format!("scale has to be {kind}{wanted}")
}

impl<'a> Journey<'a> {
    /// `collStats`.
    pub(crate) async fn coll_stats(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let collection = collection_of(self.command)?;
        let place = self.place(collection);
        let Some(known) = self.shared_one(place).await? else {
            return self.own_figures(out).await;
        };
        let scale = scale_of(self.command.body.find("scale"), "collStats.scale").map_err(|r| {
            if self.is_before_five() {
                let text = no_scale(&r, ">= 1");
                r.with_text(text)
            } else {
                r
            }
        })?;
        let figures = self.measure_shared(place, &known).await?;
        reply::ok(out, |w| {
            w.string(b"ns", &format!("{}.{collection}", place.database));
            figures.write(w, scale);
        });
        Ok(())
    }

    /// `dataSize`.
    pub(crate) async fn data_size(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let target: &'a Element<'a> = &self.command.target;
        let invalid = |name: &str| {
            Refusal::invalid_namespace(format!("Invalid namespace specified '{name}'"))
        };
        let name = target.as_str().ok_or_else(|| {
            Refusal::wrong_kind("dataSize.dataSize", target.kind.name(), "string")
        })?;
        let (database, collection) = name.split_once('.').ok_or_else(|| invalid(name))?;
        check_namespace(self.command, database, collection, self.control_database())?;
        let place = Place {
            database,
            ..self.place(collection)
        };
        let begun = Instant::now();
        let figures = match self.shared_one(place).await? {
            Some(known) => self.measure_shared(place, &known).await?,
            None => self.measure_own(place).await?,
        };
        let millis = i64::try_from(begun.elapsed().as_millis()).unwrap_or(i64::MAX);
        reply::ok(out, |w| {
            // As servers: not where nothing is measured.
            if figures.documents > 0 {
                w.boolean(b"estimate", figures.is_estimate);
            }
            number(w, b"size", figures.bytes);
            number(w, b"numObjects", figures.documents);
            number(w, b"millis", millis);
        });
        Ok(())
    }

    /// The figures of the app's part of a shared collection.
    async fn measure_shared(&self, place: Place<'_>, known: &Known) -> Result<Figures, Error> {
        let (field, slug) = (place.scope.field().as_str(), place.scope.app().as_str());
        let own = doc! {field: slug};
        let measured = doc! {
            "aggregate": place.collection, "cursor": {},
            "pipeline": [
                {"$match": &own}, {"$limit": MEASURED_MAX},
                {"$group": {"_id": null, "n": {"$sum": 1}, "bytes": {"$sum": {"$bsonSize": "$$ROOT"}}}},
            ],
        };
        let hinted = |mut command: bson::Document| {
            if known.facts.has_base_indexes {
                command.insert("hint", base_index_name(field));
            }
            command
        };
        let reply = self.ask(place, hinted(measured)).await?;
        let batch = reply
            .get_document("cursor")
            .and_then(|c| c.get_array("firstBatch"));
        let only = batch.ok().and_then(|batch| batch.first()?.as_document());
        let (n, bytes) = only.map_or((0, 0), |sums| (read(sums, "n"), read(sums, "bytes")));
        let hidden = if place.scope.is_hidden() {
            place.scope.stamp_bytes()
        } else {
            0
        };
        let bytes = bytes - n * i64::try_from(hidden).unwrap_or(0);
        let documents = if n < MEASURED_MAX {
            n
        } else {
            let count = doc! {"count": place.collection, "query": &own};
            read(&self.ask(place, hinted(count)).await?, "n").max(n)
        };
        let bytes = scaled_up(bytes, documents, n);
        Ok(Figures {
            documents,
            bytes,
            storage_bytes: bytes,
            free_bytes: 0,
            indexes: self.index_sizes(place, known).await?,
            is_estimate: documents > n,
            tells_orphans: !self.is_before_six(),
        })
    }

    /// Bytes of the app's own indexes. That of `_id` is every app's; its part is not known.
    async fn index_sizes(
        &self,
        place: Place<'_>,
        known: &Known,
    ) -> Result<Vec<(String, i64)>, Error> {
        let mut indexes = vec![("_id_".to_owned(), 0)];
        if known.facts.indexes.is_empty() {
            return Ok(indexes);
        }
        let stats = match self.ask(place, doc! {"collStats": place.collection}).await {
            Err(Error::Unprivileged(reason)) => {
                tracing::debug!(reason, "the proxy's user may not see the sizes of indexes");
                bson::Document::new()
            }
            other => other?,
        };
        let empty = bson::Document::new();
        let sizes = stats.get_document("indexSizes").unwrap_or(&empty);
        let own = known.facts.indexes.iter();
        indexes.extend(own.map(|i| (i.name.clone(), read(sizes, &i.physical_name))));
        Ok(indexes)
    }

    /// The server's figures of a collection that is the app's own.
    async fn measure_own(&self, place: Place<'_>) -> Result<Figures, Error> {
        let name = place
            .scope
            .physical_collection(place.collection, Isolation::Dedicated);
        let stats = self.ask(place, doc! {"collStats": &*name}).await?;
        let sizes = stats.get_document("indexSizes").cloned();
        let sizes = sizes.unwrap_or_default();
        let own = sizes.keys();
        let own = own.filter(|name| automatic_index_shown(name).is_none());
        Ok(Figures {
            documents: read(&stats, "count"),
            bytes: read(&stats, "size"),
            storage_bytes: read(&stats, "storageSize"),
            free_bytes: read(&stats, "freeStorageSize"),
            indexes: own.map(|name| (name.clone(), read(&sizes, name))).collect(),
            is_estimate: false,
            tells_orphans: false,
        })
    }

    /// Asks the upstream in the proxy's own name, within the client's time.
    async fn ask(
        &self,
        place: Place<'_>,
        mut command: bson::Document,
    ) -> Result<bson::Document, Error> {
        let left = self
            .deadline
            .of_step()
            .saturating_duration_since(Instant::now());
        let millis = left.min(MEASURE_TIMEOUT).as_millis().max(1);
        command.insert("maxTimeMS", i64::try_from(millis).unwrap_or(i64::MAX));
        let database = place.client.database(place.database);
        let namespace = format!("{}.{}", place.database, place.collection);
        let work = async {
            match database.run_command(command).await {
                Ok(reply) => Ok(Ok(reply)),
                Err(error) => match server_code(&error) {
                    Some(50) => Ok(Err(Refusal::time_exceeded("operation exceeded time limit"))),
                    Some(166) => Ok(Err(Refusal::not_on_view(format!(
                        "Namespace {namespace} is a view, not a collection"
                    )))),
                    _ => Err(error),
                },
            }
        };
        Ok(self.driver(work).await??)
    }
}

/// The bytes of all documents by those of `n`.
fn scaled_up(bytes: i64, documents: i64, n: i64) -> i64 {
    if n == 0 {
        return bytes;
    }
    let all = i128::from(bytes) * i128::from(documents) / i128::from(n);
    i64::try_from(all).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mdb_wire::Document;

    #[test]
    fn scales() {
        let scale = |value: Bson| {
            let bytes = bson::serialize_to_vec(&doc! {"scale": value}).unwrap();
            let document = Document::parse(&bytes).unwrap();
            scale_of(document.find("scale"), "collStats.scale").map_err(|r| r.code)
        };
        for (value, expected) in [
            (Bson::Int32(1024), Ok(1024)),
            (Bson::Int64(1), Ok(1)),
            (Bson::Double(2.7), Ok(2)),
            (Bson::Null, Ok(1)),
            (Bson::Int32(0), Err(51024)),
            (Bson::Double(0.9), Err(51024)),
            (Bson::Int64(-5), Err(51024)),
            (Bson::String("1".into()), Err(14)),
        ] {
            assert_eq!(scale(value.clone()), expected, "{value}");
        }
    }

    #[test]
    fn an_average_stands_for_what_was_not_measured() {
        for (bytes, documents, n, expected) in [
            (0, 0, 0, 0),
            (300, 3, 3, 300),
            (300, 30, 3, 3_000),
            (i64::MAX, i64::MAX, 1, i64::MAX),
        ] {
            assert_eq!(scaled_up(bytes, documents, n), expected);
        }
    }
}
