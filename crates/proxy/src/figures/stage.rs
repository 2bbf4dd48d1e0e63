//! Figures in a pipeline: `$collStats` and `$indexStats` on a shared collection.

use std::collections::HashMap;

use bson::doc;
use mdb_scope::{CollectionFacts, FiguresStage, Refusal, check_catalog_command, unknown_figure};
use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Kind, Writer};

use super::{no_scale, number, scale_of};
use crate::error::Error;
use crate::forward::Journey;
use crate::listing;
use crate::local::{HOST, now_millis};
use crate::namespaces::{Known, Place, server_code};
use crate::reply;

/// Where documents are gone through that are in no database.
const NO_DATABASE: &str = "operations";

/// 5.1: the first whose pipelines can begin with documents.
const WIRE_VERSION_OF_DOCUMENTS: i32 = 14;

/// How often an index was used, and since when that is counted.
#[derive(Debug, Clone, Copy)]
struct Accesses {
    ops: i64,
    since_millis: i64,
}

impl Journey<'_> {
    /// An `aggregate` that begins with figures, where the collection is not the app's own.
    pub(crate) async fn figures_of(
        &self,
        stage: FiguresStage<'_>,
        place: Place<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if let Some(known) = self.shared_one(place).await? {
            return self.figures(stage, place, &known, out).await;
        }
        let foreign = self.foreign().await?;
        let none = CollectionFacts::dedicated();
        self.travel_from(&none, foreign, out).await
    }

    /// An `aggregate` of a shared collection that begins with figures: they are composed here, the stages behind run upstream.
    async fn figures(
        &self,
        stage: FiguresStage<'_>,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let wire_version = self.wire_version();
        check_catalog_command(
            self.spec,
            self.command,
            self.control_database(),
            wire_version,
        )?;
        if self.in_transaction() {
            return Err(Refusal::not_in_transaction(format!(
                "Stage not supported inside of a multi-document transaction: {}",
                stage.name
            ))
            .into());
        }
        let explains = self.command.body.find("explain").and_then(|e| e.as_flag());
        if explains == Some(true) {
            return Err(refused(stage.name, "its figures are composed by the proxy").into());
        }
        let documents = match stage.name {
            "$collStats" => self.coll_stats_documents(stage.body, place, known).await?,
            "$indexStats" => self.index_stats_documents(stage.body, place, known).await?,
            _ => return Err(refused(stage.name, "the plan cache is shared by all apps").into()),
        };
        if self.stages_behind().is_empty() {
            let namespace = format!("{}.{}", place.database, place.collection);
            first_batch(&documents, &namespace, out);
            return Ok(());
        }
        self.go_on(stage.name, &documents, out).await
    }

    /// The stages behind the first one.
    pub(crate) fn stages_behind(&self) -> Vec<Element<'_>> {
        let pipeline = self.command.body.find("pipeline");
        let pipeline = pipeline.and_then(|p| p.as_array());
        let stages = pipeline.into_iter().flat_map(Document::elements);
        stages.skip(1).collect()
    }

    /// Runs the stages behind on the composed documents, as the app could say it by itself. Operations, of which `admin` knows,
    /// are gone through in another database, and in one batch.
    pub(crate) async fn go_on(
        &self,
        name: &str,
        documents: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self
            .hello
            .as_ref()
            .is_none_or(|h| h.wire_version_max < WIRE_VERSION_OF_DOCUMENTS)
        {
            let why = "on a server before 5.1 no stage may follow it on a shared collection";
            return Err(refused(name, why).into());
        }
        let documents = Document::parse(documents).unwrap_or(Document::EMPTY);
        let is_of_admin = self.command.database == "admin";
        let database = if is_of_admin {
            NO_DATABASE
        } else {
            self.command.database
        };
        let mut w = Writer::default();
        let mark = w.begin();
        w.int32(b"aggregate", 1);
        for element in self.command.body.elements().skip(1) {
            match element.key {
                b"pipeline" => {
                    let array = w.begin_array(element.key);
                    given(&mut w, documents);
                    for (index, stage) in self.stages_behind().iter().enumerate() {
                        w.renamed(IndexKey::new(index + 1).as_bytes(), stage);
                    }
                    w.end(array);
                }
                // No index serves given documents.
                b"hint" => {}
                b"cursor" | b"$db" if is_of_admin => {}
                _ => w.element(&element),
            }
        }
        if is_of_admin {
            let cursor = w.begin_document(b"cursor");
            w.int32(b"batchSize", i32::MAX);
            w.end(cursor);
            w.string(b"$db", database);
        }
        w.end(mark);
        let bytes = w.into_bytes();
        let body = Document::parse(&bytes).unwrap_or(Document::EMPTY);
        let command = Command::inner(body, database)?;
        Box::pin(self.with_command(&command)?.travel(out)).await
    }

    async fn coll_stats_documents(
        &self,
        body: Element<'_>,
        place: Place<'_>,
        known: &Known,
    ) -> Result<Vec<u8>, Error> {
        let Some(asked) = body.as_document() else {
            let found = match (body.as_integer(), body.as_str()) {
                (Some(number), _) => number.to_string(),
                (None, Some(text)) => format!("\"{text}\""),
                (None, None) => body.kind.name().to_owned(),
            };
            let text =
                format!("$collStats must take a nested object but found: $collStats: {found}");
            return Err(if self.is_before_five() {
                Refusal::coll_stats_shape(text).into()
            } else {
                Refusal::coll_stats_kind(text).into()
            });
        };
        if let Some(key) = asked.repeated_key() {
            let key = String::from_utf8_lossy(key);
            let text =
                format!("field '{key}' stands twice in $collStats; a field may stand once only");
            return Err(Refusal::repeated_field(text).into());
        }
        for member in asked.elements() {
            check_asked(&member, self.is_before_five())?;
        }
        let storage = asked.find("storageStats");
        let scale = storage
            .as_ref()
            .and_then(Element::as_document)
            .and_then(|s| s.find("scale"));
        let scale = scale_of(scale, "$collStats.storageStats.scale").map_err(|r| {
            if !self.is_before_five() {
                return r;
            }
            let text = no_scale(&r, ">= 1");
            let text = format!("Unable to retrieve storageStats in $collStats stage: {text}");
            Refusal::storage_stats_scale(text)
        })?;
        let counts = asked.find("count").is_some();
        let figures = if storage.is_some() || counts {
            self.measure_shared(place, known).await?
        } else {
            super::Figures::default()
        };
        Ok(array(|w| {
            let document = w.begin_document(b"0");
            w.string(b"ns", &format!("{}.{}", place.database, place.collection));
            w.string(b"host", HOST);
            w.date_time(b"localTime", now_millis());
            if storage.is_some() {
                let storage = w.begin_document(b"storageStats");
                figures.write(w, scale);
                w.end(storage);
            }
            if counts {
                number(w, b"count", figures.documents);
            }
            w.end(document);
        }))
    }

    async fn index_stats_documents(
        &self,
        body: Element<'_>,
        place: Place<'_>,
        known: &Known,
    ) -> Result<Vec<u8>, Error> {
        if body.as_document().is_none_or(|d| !d.is_empty()) {
            let text = "The $indexStats stage specification must be an empty object";
            return Err(Refusal::index_stats_shape(text).into());
        }
        let accesses = self.accesses(place, known).await?;
        let unused = Accesses {
            ops: 0,
            since_millis: self.shared.started_millis,
        };
        Ok(array(|w| {
            let id = listing::id_index_definition();
            let definitions = known.facts.indexes.iter().map(|own| {
                let found = accesses.get(own.physical_name.as_str());
                (own.definition.as_slice(), found.copied().unwrap_or(unused))
            });
            // That on `_id` serves every app: how often is not told.
            for (index, (bytes, accesses)) in [(id.as_slice(), unused)]
                .into_iter()
                .chain(definitions)
                .enumerate()
            {
                let definition = Document::parse(bytes).unwrap_or(Document::EMPTY);
                index_document(w, index, definition, accesses);
            }
        }))
    }

    /// How often the app's own indexes were used; nobody else uses them. Empty where the upstream does not tell the proxy.
    async fn accesses(
        &self,
        place: Place<'_>,
        known: &Known,
    ) -> Result<HashMap<String, Accesses>, Error> {
        if known.facts.indexes.is_empty() {
            return Ok(HashMap::new());
        }
        let names: Vec<&str> = known
            .facts
            .indexes
            .iter()
            .map(|i| i.physical_name.as_str())
            .collect();
        let command = doc! {
            "aggregate": place.collection, "cursor": {},
            "pipeline": [{"$indexStats": {}}, {"$match": {"name": {"$in": names}}}],
        };
        let database = place.client.database(place.database);
        let work = async {
            match database.run_command(command).await {
                Err(error) if server_code(&error) == Some(13) => {
                    tracing::debug!(%error, "the proxy's user may not see how often indexes are used");
                    Ok(bson::Document::new())
                }
                other => other,
            }
        };
        let reply = self.driver(work).await?;
        let batch = reply
            .get_document("cursor")
            .and_then(|c| c.get_array("firstBatch"));
        let documents = batch.into_iter().flatten().filter_map(|d| d.as_document());
        Ok(documents
            .filter_map(|found| {
                let accesses = found.get_document("accesses").ok()?;
                let since = accesses.get_datetime("since").ok()?;
                let seen = Accesses {
                    ops: super::read(accesses, "ops"),
                    since_millis: since.timestamp_millis(),
                };
                Some((found.get_str("name").ok()?.to_owned(), seen))
            })
            .collect())
    }
}

fn refused(stage: &str, why: &str) -> Refusal {
    Refusal::unauthorized(format!("stage {stage} is not allowed here: {why}"))
}

/// Checks one member of `$collStats`, in mongod's words (4.4.2, 5.0.4, 6.0.5).
fn check_asked(member: &Element<'_>, is_before_five: bool) -> Result<(), Refusal> {
    match member.key {
        b"count" | b"storageStats" if member.kind != Kind::Document && is_before_five => {
            let (name, kind) = (member.name(), member.kind.name());
            let value = member
                .as_integer()
                .map_or_else(String::new, |n| format!(" {n}"));
            let text =
                format!("{name} argument must be an object, but got {name}:{value} of type {kind}");
            Err(if name == "count" {
                Refusal::coll_stats_count_kind(text)
            } else {
                Refusal::storage_stats_kind(text)
            })
        }
        b"count" | b"storageStats" if member.kind != Kind::Document => {
            let path = format!("$collStats.{}", member.name());
            Err(Refusal::wrong_kind(&path, member.kind.name(), "object"))
        }
        b"count" | b"storageStats" => Ok(()),
        b"latencyStats" | b"queryExecStats" => Err(Refusal::unauthorized(format!(
            "$collStats.{} is not available on a shared collection: it counts the operations of all apps",
            member.name()
        ))),
        _ => Err(unknown_figure(member.name(), is_before_five)),
    }
}

/// An array, as a document.
fn array(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    let mark = w.begin();
    write(&mut w);
    w.end(mark);
    w.into_bytes()
}

fn index_document(w: &mut Writer, index: usize, definition: Document<'_>, accesses: Accesses) {
    let document = w.begin_document(IndexKey::new(index).as_bytes());
    for field in ["name", "key"] {
        if let Some(element) = definition.find(field) {
            w.element(&element);
        }
    }
    w.string(b"host", HOST);
    let counted = w.begin_document(b"accesses");
    w.int64(b"ops", accesses.ops);
    w.date_time(b"since", accesses.since_millis);
    w.end(counted);
    w.document(b"spec", definition);
    w.end(document);
}

/// `{$documents: {$literal: [...]}}` as the first stage.
fn given(w: &mut Writer, documents: Document<'_>) {
    let stage = w.begin_document(b"0");
    let given = w.begin_document(b"$documents");
    let literal = w.begin_array(b"$literal");
    for document in documents.elements() {
        w.element(&document);
    }
    w.end(literal);
    w.end(given);
    w.end(stage);
}

/// The whole result. It is small: a document for each of at most 64 indexes, or for each operation that runs.
pub(crate) fn first_batch(documents: &[u8], namespace: &str, out: &mut Vec<u8>) {
    let documents = Document::parse(documents).unwrap_or(Document::EMPTY);
    reply::ok(out, |w| {
        let cursor = w.begin_document(b"cursor");
        let batch = w.begin_array(b"firstBatch");
        for document in documents.elements() {
            w.element(&document);
        }
        w.end(batch);
        w.int64(b"id", 0);
        w.string(b"ns", namespace);
        w.end(cursor);
    });
}
