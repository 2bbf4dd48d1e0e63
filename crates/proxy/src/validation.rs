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
use mdb_wire::Kind;
use tokio::time::Instant;

use crate::error::Error;
use crate::figures::read;
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

mod report;

use report::{Finding, Report, Rules};

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
        let rules = self.rules(place, known, by.as_deref(), end).await?;
        Ok(Report {
            records,
            indexes,
            read_at,
            rules,
        })
    }

    /// Counts the documents that break the app's own validator.
    async fn rules(
        &self,
        place: Place<'_>,
        known: &Known,
        by: Option<&str>,
        end: Instant,
    ) -> Result<Rules, Error> {
        let validation = self.validation_of(place).await?.unwrap_or_default();
        let is = |field: &str, word: &str| validation.get_str(field).is_ok_and(|said| said == word);
        let Some(validator) = validation.get_document("validator").ok() else {
            return Ok(Rules::NONE);
        };
        if is("validationLevel", "off") {
            return Ok(Rules::NONE);
        }
        let unreadable = |_| Error::incident("a stored validator that cannot be read");
        let bytes = validator.to_vec().map_err(unreadable)?;
        let validator = mdb_wire::Document::parse(&bytes).unwrap_or(mdb_wire::Document::EMPTY);
        let wire_version = self.with_facts(Ground::of(&known.facts), |facts| facts.wire_version);
        let clause = self.scope.validator_clause(validator, true, wire_version)?;
        let clause = Document::from_reader(clause.as_slice()).unwrap_or_default();
        let broken = doc! {"$and": [own(place), {"$nor": [clause]}]};
        let stages = vec![doc! {"$match": broken}, doc! {"$count": "n"}];
        let counting = counting(place, stages, by);
        // An expression that fails for a document may do so with any code.
        let reply = self.ask_within(place, counting, end, |_| true).await?;
        Ok(Rules {
            broken: reply.map(|reply| count_in(&reply)),
            is_error: !is("validationAction", "warn"),
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
            rules: Rules::NONE,
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
        let counting = counting(place, stages, by);
        let Some(reply) = self.read_within(place, counting, end).await? else {
            let text = "the collection was changed while it was validated";
            return Err(Refusal::conflicting_operation(text).into());
        };
        let read_at = reply.get_timestamp("operationTime").ok();
        Ok((count_in(&reply), read_at))
    }

    /// Asks the upstream in the proxy's own name, until `end`. `None` where an index that it names went.
    async fn read_within(
        &self,
        place: Place<'_>,
        command: Document,
        end: Instant,
    ) -> Result<Option<Document>, Error> {
        self.ask_within(place, command, end, |code| GONE.contains(&code))
            .await
    }

    /// The same. `None` where the server says no with such a code.
    async fn ask_within(
        &self,
        place: Place<'_>,
        mut command: Document,
        end: Instant,
        is_none: fn(i32) -> bool,
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
                    Some(code) if is_none(code) => Ok(Ok(None)),
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

/// A command that gives a number `n`.
fn counting(place: Place<'_>, stages: Vec<Document>, by: Option<&str>) -> Document {
    let mut command = doc! {"aggregate": place.collection, "pipeline": stages, "cursor": {}};
    if let Some(by) = by {
        command.insert("hint", by);
    }
    command
}

/// That number; 0 if there is nothing to count.
fn count_in(reply: &Document) -> i64 {
    let cursor = reply.get_document("cursor");
    let batch = cursor.and_then(|cursor| cursor.get_array("firstBatch"));
    let first = batch.ok().and_then(|batch| batch.first()?.as_document());
    first.map_or(0, |sums| read(sums, "n"))
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
