//! `validate` of a shared collection: the app's documents, and its indexes against them.
//!
//! The server's own locks the collection for every app and counts all their documents. So what it would find of the app's part
//! is found by reading: every document once, every index of the app as a whole. An index is sound if exactly those documents are
//! found by it that it should hold.

use std::time::Duration;

use bson::{Bson, Document, Timestamp, doc};
use mdb_scope::{
    OwnIndex, Refusal, WIRE_VERSION_5_0, WIRE_VERSION_6_0, base_id_index_name, base_index_name,
    collection_of,
};
use mdb_wire::{Kind, Writer};
use tokio::time::Instant;

use crate::error::Error;
use crate::figures::{number, read};
use crate::forward::Journey;
use crate::ground::Ground;
use crate::namespaces::{Known, Place, server_code};
use crate::reply;

/// How long all the reading of one command may take, whatever the client allows: every app waits for the same disks.
const READING_TIMEOUT: Duration = Duration::from_secs(20);
/// How often an index is read whose documents do not agree with the others: they may have been written in between.
const ATTEMPTS: usize = 3;

/// Codes by which a server says that an index went while it was to be read, or before.
const GONE: &[i32] = &[2, 27, 175];

/// What is asked for. Servers take a value of any kind for a flag (4.4.2, 6.0.5).
#[derive(Debug, Clone, Copy)]
struct Options {
    full: bool,
    background: bool,
    metadata: bool,
    wire_version: i32,
}

/// What an index holds that is as it should be.
#[derive(Debug, Clone, PartialEq)]
enum Share {
    /// The documents that this filter finds, and no others.
    Exactly(Document),
    /// At most all of the app's: which, is known to the server alone, as with words of a text.
    AtMost(Document),
    /// It cannot be read as a whole: why.
    Unread(&'static str),
}

/// What reading an index as a whole found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scan {
    documents: i64,
    keys: i64,
}

/// What there is to say of an index.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Finding {
    Sound {
        keys: i64,
    },
    Unsound {
        keys: i64,
        why: String,
    },
    /// Documents came and went all the time.
    InUse {
        keys: Option<i64>,
    },
    Unread(&'static str),
}

#[derive(Debug)]
struct Report {
    records: i64,
    /// By the names that the app says, that of `_id` first.
    indexes: Vec<(String, Finding)>,
    read_at: Option<Timestamp>,
}

impl Journey<'_> {
    /// `validate`.
    pub(crate) async fn validate(&self, out: &mut Vec<u8>) -> Result<(), Error> {
        self.refuse_in_transaction()?;
        let place = self.place(collection_of(self.command)?);
        let Some(known) = self.shared_one(place).await? else {
            return self.own_figures(out).await;
        };
        let options = self.validate_options(&known)?;
        let namespace = format!("{}.{}", place.database, place.collection);
        let end = Instant::now() + READING_TIMEOUT;
        let report = if options.is_of_metadata() {
            self.validate_metadata(place, &known, end).await?
        } else {
            self.validate_documents(place, &known, end).await?
        };
        reply::ok(out, |w| report.write(w, &namespace, options));
        Ok(())
    }

    /// # Errors
    /// 72, before 6.0 115, for options that exclude each other.
    fn validate_options(&self, known: &Known) -> Result<Options, Refusal> {
        let is_set = |name: &str| {
            let element = self.command.body.find(name);
            element.is_some_and(|e| e.as_flag().unwrap_or(e.kind != Kind::Null))
        };
        let ground = Ground::of(&known.facts);
        let options = Options {
            full: is_set("full"),
            background: is_set("background"),
            metadata: is_set("metadata"),
            wire_version: self.with_facts(ground, |facts| facts.wire_version),
        };
        options.check()?;
        Ok(options)
    }

    /// Reads everything.
    async fn validate_documents(
        &self,
        place: Place<'_>,
        known: &Known,
        end: Instant,
    ) -> Result<Report, Error> {
        let by = base_of(place, known);
        let size = doc! {"$bsonSize": "$$ROOT"};
        // The size makes the server read each document as a whole; it fails on one that is broken.
        let sum = doc! {"_id": null, "n": {"$sum": 1}, "bytes": {"$sum": size}};
        let stages = vec![doc! {"$match": own(place)}, doc! {"$group": sum}];
        let (records, read_at) = self.counted(place, stages, by.as_deref(), end).await?;
        let mut indexes = Vec::with_capacity(known.facts.indexes.len() + 1);
        let found = match by {
            // That of `_id` is every app's: read by it, all their documents would be.
            Some(_) => {
                let name = base_id_index_name(place.scope.field().as_str());
                let share = Share::Exactly(own(place));
                self.examine(place, known, (&name, share), records, end)
                    .await?
            }
            None => Finding::Unread("the collection has no base indexes"),
        };
        indexes.push(("_id_".to_owned(), found));
        for index in &known.facts.indexes {
            let examined = (index.physical_name.as_str(), share_of(place, index));
            let found = self.examine(place, known, examined, records, end).await?;
            indexes.push((index.name.clone(), found));
        }
        Ok(Report {
            records,
            indexes,
            read_at,
        })
    }

    /// Asks of every index whether the server can read by it.
    async fn validate_metadata(
        &self,
        place: Place<'_>,
        known: &Known,
        end: Instant,
    ) -> Result<Report, Error> {
        let mut indexes = Vec::new();
        for index in &known.facts.indexes {
            if matches!(share_of(place, index), Share::Unread(_)) {
                continue;
            }
            let plan = plan(place, &index.physical_name, "queryPlanner");
            let found = match self.read_within(place, plan, end).await? {
                Some(_) => Finding::Sound { keys: 0 },
                None => Finding::InUse { keys: None },
            };
            indexes.push((index.name.clone(), found));
        }
        Ok(Report {
            records: 0,
            indexes,
            read_at: None,
        })
    }

    /// Reads an index, and compares it with the documents that it should hold.
    async fn examine(
        &self,
        place: Place<'_>,
        known: &Known,
        (physical, share): (&str, Share),
        records: i64,
        end: Instant,
    ) -> Result<Finding, Error> {
        let filter = match &share {
            Share::Unread(why) => return Ok(Finding::Unread(why)),
            Share::Exactly(filter) | Share::AtMost(filter) => filter,
        };
        let by = base_of(place, known);
        let count = || {
            let stages = vec![doc! {"$match": filter}, doc! {"$count": "n"}];
            self.counted(place, stages, by.as_deref(), end)
        };
        let mut before = if filter == &own(place) {
            records
        } else {
            count().await?.0
        };
        let mut seen = Vec::with_capacity(ATTEMPTS);
        for _ in 0..ATTEMPTS {
            let Some(scan) = self.scan(place, physical, end).await? else {
                return Ok(Finding::InUse { keys: None });
            };
            if share.agrees(before, scan.documents, before) {
                return Ok(Finding::Sound { keys: scan.keys });
            }
            let after = count().await?.0;
            if share.agrees(before, scan.documents, after) {
                return Ok(Finding::Sound { keys: scan.keys });
            }
            seen.push((before, scan, after));
            before = after;
        }
        Ok(judged(&seen))
    }

    /// Reads an index of the app as a whole. `None` if it is not there any more.
    async fn scan(
        &self,
        place: Place<'_>,
        physical: &str,
        end: Instant,
    ) -> Result<Option<Scan>, Error> {
        let plan = plan(place, physical, "executionStats");
        let reply = self.read_within(place, plan, end).await?;
        let Some(reply) = reply else { return Ok(None) };
        let stats = reply.get_document("executionStats");
        let stats = stats.map_err(|_| Error::incident("an explain without executionStats"))?;
        if !is_set(stats, "executionSuccess") {
            return match read(stats, "errorCode") {
                50 => Err(time_exceeded().into()),
                _ => Ok(None),
            };
        }
        let documents = read(stats, "nReturned");
        // Where a collation takes slugs for the same the index has another app's keys as well, which are not counted.
        let is_apart = read(stats, "totalDocsExamined") == documents;
        let keys = if is_apart {
            read(stats, "totalKeysExamined")
        } else {
            documents
        };
        Ok(Some(Scan { documents, keys }))
    }

    /// The number `n` that the stages give, 0 if they give nothing, and when it was read.
    async fn counted(
        &self,
        place: Place<'_>,
        stages: Vec<Document>,
        by: Option<&str>,
        end: Instant,
    ) -> Result<(i64, Option<Timestamp>), Error> {
        let mut command = doc! {"aggregate": place.collection, "pipeline": stages, "cursor": {}};
        if let Some(by) = by {
            command.insert("hint", by);
        }
        let Some(reply) = self.read_within(place, command, end).await? else {
            let text = "the collection was changed while it was validated";
            return Err(Refusal::other(117, "ConflictingOperationInProgress", text).into());
        };
        let cursor = reply.get_document("cursor");
        let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
        let first = batch.ok().and_then(|batch| batch.first()?.as_document());
        let read_at = reply.get_timestamp("operationTime").ok();
        Ok((first.map_or(0, |sums| read(sums, "n")), read_at))
    }

    /// Asks the upstream in the proxy's own name, until `end`. `None` where an index that it names went.
    async fn read_within(
        &self,
        place: Place<'_>,
        mut command: Document,
        end: Instant,
    ) -> Result<Option<Document>, Error> {
        let end = end.min(self.deadline.of_step());
        let left = end.saturating_duration_since(Instant::now());
        let millis = i64::try_from(left.as_millis()).unwrap_or(i64::MAX);
        if millis == 0 {
            return Err(time_exceeded().into());
        }
        command.insert("maxTimeMS", millis);
        let database = place.client.database(place.database);
        let work = async {
            match database.run_command(command).await {
                Ok(reply) => Ok(Ok(Some(reply))),
                Err(error) => match server_code(&error) {
                    Some(50) => Ok(Err(time_exceeded())),
                    Some(code) if GONE.contains(&code) => Ok(Ok(None)),
                    _ => Err(error),
                },
            }
        };
        Ok(self.driver(work).await??)
    }
}

fn time_exceeded() -> Refusal {
    Refusal::time_exceeded("operation exceeded time limit")
}

/// The app's documents.
fn own(place: Place<'_>) -> Document {
    doc! {place.scope.field().as_str(): place.scope.app().as_str()}
}

/// The index that has the app's documents.
fn base_of(place: Place<'_>, known: &Known) -> Option<String> {
    let has_base = known.facts.has_base_indexes;
    has_base.then(|| base_index_name(place.scope.field().as_str()))
}

/// A plan that goes through an index from end to end: the condition on the app, which is the index's own, narrows nothing.
fn plan(place: Place<'_>, physical: &str, verbosity: &str) -> Document {
    let find = doc! {"find": place.collection, "filter": own(place), "hint": physical};
    doc! {"explain": find, "verbosity": verbosity}
}

/// Whether a flag is true, or a number for it.
fn is_set(document: &Document, flag: &str) -> bool {
    matches!(document.get(flag), Some(Bson::Boolean(true))) || read(document, flag) != 0
}

/// What an index of the app should hold, by its definition.
fn share_of(place: Place<'_>, index: &OwnIndex) -> Share {
    let definition = Document::from_reader(index.definition.as_slice()).unwrap_or_default();
    let key = definition.get_document("key").cloned().unwrap_or_default();
    if is_set(&definition, "hidden") {
        return Share::Unread("a hidden index cannot be read");
    }
    if key.keys().any(|field| field.ends_with("$**")) {
        return Share::Unread("a wildcard index cannot be read as a whole");
    }
    let has_kind = |kind: &Bson| kind.as_str().is_some_and(|kind| kind != "hashed");
    if key.values().any(has_kind) {
        return Share::AtMost(own(place));
    }
    if let Ok(filter) = definition.get_document("partialFilterExpression") {
        if definition.contains_key("collation") {
            // Its filter compares by the collation, which could take another app for this one.
            return Share::AtMost(own(place));
        }
        return Share::Exactly(doc! {"$and": [own(place), filter]});
    }
    if is_set(&definition, "sparse") {
        let fields = key.keys().map(|field| doc! {field: {"$exists": true}});
        let any: Vec<Document> = fields.collect();
        return Share::Exactly(doc! {"$and": [own(place), {"$or": any}]});
    }
    Share::Exactly(own(place))
}

impl Share {
    /// Whether an index by which so many documents were found is as it should be, where there were so many before and after.
    fn agrees(&self, before: i64, found: i64, after: i64) -> bool {
        match self {
            Self::Exactly(_) => (before.min(after)..=before.max(after)).contains(&found),
            Self::AtMost(_) => found <= before.max(after),
            Self::Unread(_) => false,
        }
    }
}

/// What to say of an index that never agreed with the documents. Where the numbers are always the same nobody wrote.
fn judged(seen: &[(i64, Scan, i64)]) -> Finding {
    let Some(&(before, scan, after)) = seen.last() else {
        return Finding::InUse { keys: None };
    };
    if before != after || seen.iter().any(|other| *other != (before, scan, after)) {
        return Finding::InUse {
            keys: Some(scan.keys),
        };
    }
    Finding::Unsound {
        keys: scan.keys,
        why: format!(
            "{} documents are found by the index, which should hold {after}",
            scan.documents
        ),
    }
}

impl Options {
    fn is_before_five(self) -> bool {
        self.wire_version < WIRE_VERSION_5_0
    }

    /// Servers before 5.0 do not read the option.
    fn is_of_metadata(self) -> bool {
        self.metadata && !self.is_before_five()
    }

    fn has_compliance(self) -> bool {
        self.wire_version >= WIRE_VERSION_6_0
    }

    fn check(self) -> Result<(), Refusal> {
        let text = if self.full && self.background {
            "Running the validate command with both { background: true } and { full: true } is not supported."
        } else if self.is_of_metadata() && (self.full || self.background) {
            "Running the validate command with { metadata: true } is not supported with any other options"
        } else {
            return Ok(());
        };
        Err(if self.has_compliance() {
            Refusal::invalid_options(text)
        } else {
            Refusal::command_not_supported(text)
        })
    }
}

impl Finding {
    fn keys(&self) -> Option<i64> {
        match self {
            Self::Sound { keys } | Self::Unsound { keys, .. } => Some(*keys),
            Self::InUse { keys } => *keys,
            Self::Unread(_) => None,
        }
    }

    /// What a server would say among its `warnings`.
    fn warning(&self, name: &str) -> Option<String> {
        match self {
            Self::Sound { .. } | Self::Unsound { .. } => None,
            Self::InUse { .. } => Some(format!(
                "Could not complete validation of index {name}. This is a transient issue as the collection was actively in use by other operations."
            )),
            Self::Unread(why) => Some(format!("Index {name} was not validated: {why}.")),
        }
    }

    fn error(&self, name: &str) -> Option<String> {
        match self {
            Self::Unsound { why, .. } => Some(format!("Index {name} is not valid: {why}.")),
            _ => None,
        }
    }

    fn write(&self, w: &mut Writer, name: &str) {
        let details = w.begin_document(name.as_bytes());
        w.boolean(b"valid", self.error(name).is_none());
        for (list, text) in [
            (b"warnings".as_slice(), self.warning(name)),
            (b"errors", self.error(name)),
        ] {
            if let Some(text) = text {
                strings(w, list, [text]);
            }
        }
        w.end(details);
    }
}

impl Report {
    /// Writes it in the form of the server's version (4.4.2, 5.0.4, 6.0.5).
    fn write(mut self, w: &mut Writer, namespace: &str, options: Options) {
        if options.has_compliance() {
            self.indexes.sort_by(|a, b| a.0.cmp(&b.0));
        }
        let texts = |of: fn(&Finding, &str) -> Option<String>| {
            let indexes = self.indexes.iter();
            let texts = indexes.filter_map(|(name, finding)| of(finding, name));
            texts.collect::<Vec<String>>()
        };
        let (warnings, errors) = (texts(Finding::warning), texts(Finding::error));
        w.string(b"ns", namespace);
        if !options.is_of_metadata() {
            self.write_counts(w, options, !errors.is_empty());
        }
        w.boolean(b"valid", errors.is_empty());
        if !options.is_before_five() {
            w.boolean(b"repaired", false);
        }
        if let Some(at) = self.read_at.filter(|_| options.background) {
            w.timestamp(b"readTimestamp", at.time, at.increment);
        }
        strings(w, b"warnings", warnings);
        strings(w, b"errors", errors);
        strings(w, b"extraIndexEntries", []);
        strings(w, b"missingIndexEntries", []);
        if !options.is_before_five() {
            strings(w, b"corruptRecords", []);
        }
    }

    fn write_counts(&self, w: &mut Writer, options: Options, has_errors: bool) {
        // A document that cannot be read ends the command, and a shared collection has no validator.
        w.int32(b"nInvalidDocuments", 0);
        if options.has_compliance() {
            w.int32(b"nNonCompliantDocuments", 0);
        }
        number(w, b"nrecords", self.records);
        let indexes = i32::try_from(self.indexes.len()).unwrap_or(i32::MAX);
        w.int32(b"nIndexes", indexes);
        let keys = w.begin_document(b"keysPerIndex");
        for (name, finding) in &self.indexes {
            if let Some(keys) = finding.keys() {
                number(w, name.as_bytes(), keys);
            }
        }
        w.end(keys);
        if options.is_before_five() && !options.full && !has_errors {
            return;
        }
        let details = w.begin_document(b"indexDetails");
        let examined = self.indexes.iter();
        for (name, finding) in examined.filter(|(_, f)| !matches!(f, Finding::Unread(_))) {
            finding.write(w, name);
        }
        w.end(details);
    }
}

/// An array of texts.
fn strings(w: &mut Writer, key: &[u8], texts: impl IntoIterator<Item = String>) {
    let array = w.begin_array(key);
    for (index, text) in texts.into_iter().enumerate() {
        w.string(mdb_wire::writer::IndexKey::new(index).as_bytes(), &text);
    }
    w.end(array);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exactly() -> Share {
        Share::Exactly(doc! {})
    }

    #[test]
    fn an_index_agrees_with_what_there_was_at_any_time() {
        for (share, before, found, after, expected) in [
            (exactly(), 3, 3, 3, true),
            (exactly(), 3, 2, 3, false),
            (exactly(), 3, 4, 3, false),
            (exactly(), 3, 4, 5, true),
            (exactly(), 5, 4, 3, true),
            (exactly(), 3, 2, 5, false),
            (Share::AtMost(doc! {}), 3, 2, 3, true),
            (Share::AtMost(doc! {}), 3, 4, 3, false),
            (Share::Unread("why"), 0, 0, 0, false),
        ] {
            assert_eq!(share.agrees(before, found, after), expected, "{share:?}");
        }
    }

    #[test]
    fn an_index_is_unsound_only_where_nobody_writes() {
        let scan = |documents| Scan { documents, keys: 7 };
        let quiet = [(3, scan(2), 3); ATTEMPTS];
        assert!(matches!(judged(&quiet), Finding::Unsound { keys: 7, .. }));
        let in_use = Finding::InUse { keys: Some(7) };
        assert_eq!(judged(&[(3, scan(2), 3), (3, scan(1), 3)]), in_use);
        assert_eq!(judged(&[(3, scan(2), 4), (3, scan(2), 4)]), in_use);
        assert_eq!(judged(&[]), Finding::InUse { keys: None });
    }

    #[test]
    fn options_exclude_each_other() {
        for (full, background, metadata, wire_version, expected) in [
            (true, false, false, 9, None),
            (false, false, true, 17, None),
            (true, true, false, 9, Some(115)),
            (true, true, true, 13, Some(115)),
            (true, true, false, 17, Some(72)),
            (true, false, true, 17, Some(72)),
            (false, true, true, 13, Some(115)),
            (false, true, true, 9, None),
        ] {
            let options = Options {
                full,
                background,
                metadata,
                wire_version,
            };
            assert_eq!(
                options.check().err().map(|r| r.code),
                expected,
                "{options:?}"
            );
        }
    }
}
