//! Replies on their way to the client: known fields only, cursor ids of the proxy, no scope field, no word of what is behind.

use mdb_wire::{Document, Element, Kind, Writer};

use crate::change_stream::missing_image;
use crate::explain;
use crate::facts::{CollectionFacts, OwnIndex};
use crate::index::show_filters;
use crate::scope::Scope;
use crate::scoped::ReplyRule;
use crate::text;
use events::Events;
pub use events::ends_stream;
use glance::state_change;
pub use glance::{Glance, Killed, STATE_CHANGE_CODES, glance};
pub(crate) use glance::{PARALLEL_ARRAYS, is_id_key};

mod events;
mod glance;
mod plans;

/// A reply that must not be passed on. The client gets an internal error, the log gets this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incident {
    /// A returned document carries another owner, or one that is no string.
    #[error("a returned document does not belong to the app")]
    ForeignDocument,
    /// The reply is not what its command gives.
    #[error("the reply has no readable '{0}'")]
    Shape(&'static str),
    /// The upstream refused the proxy's own user: a lack of privileges, never the app's fault.
    #[error("the upstream refused the proxy's user: {0}")]
    UpstreamUnauthorized(String),
}

/// `NoQueryExecutionPlans`.
const NO_PLAN: i64 = 291;
/// `IndexNotFound`.
const INDEX_NOT_FOUND: i32 = 27;
/// `ConversionFailure`.
const CONVERSION_FAILURE: i64 = 241;
/// `NoMatchingDocument`.
const NO_MATCHING_DOCUMENT: i32 = 47;

/// What is done with a field of a reply.
#[derive(Debug, Clone, Copy)]
enum Treat {
    Pass,
    Code,
    CodeName,
    Text,
    Errors,
    ConcernError,
    Cursor,
    Value,
    Key,
    Namespace,
    /// Figures of a time series: its buckets by the app's name.
    Series,
    /// Whether each index is valid.
    Validity,
    /// Filters of the plan cache, which name indexes.
    Filters,
    /// An array of texts.
    Texts,
}

/// What a server says of a write concern that failed (4.4.2, 5.0.4, 6.0.5).
const CONCERN_INFO: [&[u8]; 2] = [b"writeConcern", b"wtimeout"];

/// Fields of replies. What is not here is removed: hosts, members, terms and whatever newer servers add.
static FIELDS: &[(&str, Treat)] = &[
    ("cursor", Treat::Cursor),
    ("ok", Treat::Pass),
    ("n", Treat::Pass),
    ("nModified", Treat::Pass),
    ("upserted", Treat::Pass),
    ("nErrors", Treat::Pass),
    ("nInserted", Treat::Pass),
    ("nMatched", Treat::Pass),
    ("nUpserted", Treat::Pass),
    ("nDeleted", Treat::Pass),
    ("value", Treat::Value),
    ("values", Treat::Pass),
    ("lastErrorObject", Treat::Pass),
    ("writeErrors", Treat::Errors),
    ("writeConcernError", Treat::ConcernError),
    ("retriedStmtIds", Treat::Pass),
    ("retriedStmtId", Treat::Pass),
    ("errmsg", Treat::Text),
    ("code", Treat::Code),
    ("codeName", Treat::CodeName),
    ("errorLabels", Treat::Pass),
    ("keyPattern", Treat::Key),
    // That of the index by which documents are equal.
    ("collation", Treat::Pass),
    ("hexEncoded", Treat::Pass),
    ("keyValue", Treat::Key),
    ("$clusterTime", Treat::Pass),
    ("operationTime", Treat::Pass),
    // Of `distinct` with a snapshot; others have it in their cursor.
    ("atClusterTime", Treat::Pass),
    ("recoveryToken", Treat::Pass),
    ("note", Treat::Pass),
    ("createdCollectionAutomatically", Treat::Pass),
    ("numIndexesBefore", Treat::Pass),
    ("numIndexesAfter", Treat::Pass),
    ("commitQuorum", Treat::Pass),
    ("nIndexesWas", Treat::Pass),
    ("ns", Treat::Namespace),
    ("msg", Treat::Pass),
    // `collMod`.
    ("expireAfterSeconds_old", Treat::Pass),
    ("expireAfterSeconds_new", Treat::Pass),
    ("hidden_old", Treat::Pass),
    ("hidden_new", Treat::Pass),
    ("prepareUnique_old", Treat::Pass),
    ("prepareUnique_new", Treat::Pass),
    // `collMod` of an index that cannot become unique: the `_id`s of its documents, which are the app's.
    ("violations", Treat::Pass),
    ("unique_new", Treat::Pass),
    // `collStats`, without what it says of files and of the server.
    ("size", Treat::Pass),
    ("count", Treat::Pass),
    ("avgObjSize", Treat::Pass),
    ("numOrphanDocs", Treat::Pass),
    ("storageSize", Treat::Pass),
    ("freeStorageSize", Treat::Pass),
    ("capped", Treat::Pass),
    ("max", Treat::Pass),
    ("maxSize", Treat::Pass),
    // Of a capped collection, before 5.0.
    ("sleepCount", Treat::Pass),
    ("sleepMS", Treat::Pass),
    ("nindexes", Treat::Pass),
    ("indexBuilds", Treat::Pass),
    ("totalIndexSize", Treat::Pass),
    ("totalSize", Treat::Pass),
    ("indexSizes", Treat::Pass),
    ("scaleFactor", Treat::Pass),
    ("timeseries", Treat::Series),
    // `validate`.
    ("nInvalidDocuments", Treat::Pass),
    ("nNonCompliantDocuments", Treat::Pass),
    ("nrecords", Treat::Pass),
    ("nIndexes", Treat::Pass),
    ("keysPerIndex", Treat::Pass),
    ("indexDetails", Treat::Validity),
    ("valid", Treat::Pass),
    ("repaired", Treat::Pass),
    ("warnings", Treat::Texts),
    ("errors", Treat::Texts),
    ("extraIndexEntries", Treat::Pass),
    ("missingIndexEntries", Treat::Pass),
    ("corruptRecords", Treat::Pass),
    // `planCacheListFilters`.
    ("filters", Treat::Filters),
];

/// How one reply is rewritten.
#[derive(Debug)]
pub struct ReplyView<'a> {
    /// Whose reply.
    pub scope: &'a Scope,
    /// How its command's replies are read.
    pub rule: ReplyRule,
    /// The app's indexes, for names in texts and plans.
    pub collection: &'a CollectionFacts,
    /// The database of the command.
    pub database: &'a str,
    /// The collections of the command that are the app's own: database, and the app's name.
    pub dedicated: &'a [(&'a str, &'a str)],
    /// Of a `getMore`: the cursor's id upstream, and the client's.
    pub continues: Option<(i64, i64)>,
    /// Whether any collection of the command is shared, so that the reply may speak of the scope field.
    pub shares: bool,
}

impl ReplyView<'_> {
    /// Writes the elements of the reply for the client into a document that the caller has begun.
    ///
    /// `glance` is that of the same reply; `cursor` gives the client's id for an upstream cursor id other than 0.
    ///
    /// # Errors
    /// An [`Incident`]; what was written then must be thrown away.
    pub fn write(
        &self,
        w: &mut Writer,
        reply: Document<'_>,
        glance: &Glance,
        cursor: &mut dyn FnMut(i64) -> i64,
    ) -> Result<(), Incident> {
        if glance.code == Some(13) && !glance.is_ok {
            let text = reply.find("errmsg").and_then(|e| e.as_str());
            return Err(Incident::UpstreamUnauthorized(
                text.unwrap_or_default().into(),
            ));
        }
        if self.rule == ReplyRule::Explain && glance.is_ok {
            return explain::write(self, w, reply);
        }
        let own = self.lacks_text_index(reply);
        let own = own.or_else(|| self.lacks_image(reply));
        let reply = own.as_deref().map_or(reply, |bytes| {
            Document::parse_shallow(bytes).unwrap_or(reply)
        });
        for element in reply.elements() {
            // The rule of the app's own validator that a document breaks, told by `findAndModify` and `aggregate`.
            if element.key == b"errInfo" && glance.code == Some(121) {
                self.broken_rule(w, &element);
                continue;
            }
            let Some((_, treat)) = FIELDS.iter().find(|(n, _)| n.as_bytes() == element.key) else {
                continue;
            };
            match treat {
                Treat::Cursor => self.cursor(w, &element, cursor)?,
                Treat::Value => self.value(w, &element)?,
                Treat::Errors => {
                    let array = w.begin_array(element.key);
                    for error in element.as_array().into_iter().flat_map(Document::elements) {
                        self.error(w, &error);
                    }
                    w.end(array);
                }
                Treat::ConcernError => self.error(w, &element),
                _ => self.error_field(
                    w,
                    &element,
                    *treat,
                    glance.code.and_then(|c| state_change(Some(i64::from(c)))),
                ),
            }
        }
        Ok(())
    }

    fn error(&self, w: &mut Writer, error: &Element<'_>) {
        let members = error.as_document().unwrap_or(Document::EMPTY);
        let own = self.lacks_text_index(members);
        let members = own.as_deref().map_or(members, |bytes| {
            Document::parse_shallow(bytes).unwrap_or(members)
        });
        let code = members.find("code").and_then(|c| c.as_integer());
        let is_concern = error.key == b"writeConcernError";
        let document = w.begin_document(error.key);
        for member in members.elements() {
            let treat = match member.key {
                b"code" => Treat::Code,
                b"codeName" => Treat::CodeName,
                b"errmsg" => Treat::Text,
                b"keyPattern" | b"keyValue" => Treat::Key,
                b"index" | b"errorLabels" | b"collation" | b"hexEncoded" => Treat::Pass,
                // The write concern that failed, and what it waited for.
                b"errInfo" if is_concern => {
                    self::members(w, &member, |w, said| {
                        if CONCERN_INFO.contains(&said.key) {
                            w.element(said);
                        }
                    });
                    continue;
                }
                b"errInfo" if code == Some(121) => {
                    self.broken_rule(w, &member);
                    continue;
                }
                _ => continue,
            };
            self.error_field(w, &member, treat, state_change(code));
        }
        w.end(document);
    }

    /// The rule of a validator that a document breaks, where the rule is the app's own.
    fn broken_rule(&self, w: &mut Writer, info: &Element<'_>) {
        if !self.scope.own_rule(w, info) && self.collection.is_dedicated() {
            w.element(info);
        }
    }

    /// What a private server says where the app has no text index and another app has one, which serves it not. `None` for
    /// any other error.
    fn lacks_text_index(&self, error: Document<'_>) -> Option<Vec<u8>> {
        let is_planner = error.find("code")?.as_integer() == Some(NO_PLAN);
        let is_text = is_planner && text::says_text_index_unused(&error.find("errmsg")?);
        if !is_text || !self.shares || self.collection.indexes.iter().any(OwnIndex::is_text) {
            return None;
        }
        let mut w = Writer::default();
        let mark = w.begin();
        for member in error.elements() {
            match member.key {
                b"code" => w.int32(member.key, INDEX_NOT_FOUND),
                b"codeName" => w.string(member.key, "IndexNotFound"),
                b"errmsg" => w.string(member.key, "text index required for $text query"),
                _ => w.element(&member),
            }
        }
        w.end(mark);
        Some(w.into_bytes())
    }

    /// What a private server says in place of the error by which the proxy ends a stream of events without a document that is
    /// required. `None` for any other error.
    fn lacks_image(&self, reply: Document<'_>) -> Option<Vec<u8>> {
        let is_stream = matches!(self.rule, ReplyRule::Events { .. });
        let code = reply.find("code").filter(|_| is_stream)?;
        if code.as_integer() != Some(CONVERSION_FAILURE) {
            return None;
        }
        let said = missing_image(reply.find("errmsg")?.as_str()?)?;
        let mut w = Writer::default();
        let mark = w.begin();
        for member in reply.elements() {
            match member.key {
                b"code" => w.int32(member.key, NO_MATCHING_DOCUMENT),
                b"codeName" => w.string(member.key, "NoMatchingDocument"),
                b"errmsg" => w.string(member.key, said),
                _ => w.element(&member),
            }
        }
        w.end(mark);
        Some(w.into_bytes())
    }

    fn error_field(&self, w: &mut Writer, element: &Element<'_>, treat: Treat, state: Option<i32>) {
        match (treat, state) {
            // HostUnreachable: a driver then retries here, and does not take the proxy for a member that stepped down.
            (Treat::Code, Some(_)) => w.int32(element.key, 6),
            (Treat::CodeName, Some(_)) => w.string(element.key, "HostUnreachable"),
            (Treat::Text, Some(code)) => w.string(element.key, text::of_state(code)),
            (Treat::Text, None) => {
                let message = element.as_str().unwrap_or_default();
                w.string(element.key, &text::rewrite(self, message));
            }
            (Treat::Key, _) => self.key(w, element),
            (Treat::Namespace, _) => self.namespace(w, element),
            (Treat::Series, _) => members(w, element, |w, member| match member.key {
                b"bucketsNs" => self.namespace(w, member),
                _ => w.element(member),
            }),
            (Treat::Filters, _) => show_filters(w, element),
            (Treat::Validity, _) if !says_validity(element) => {}
            (Treat::Validity, _) => members(w, element, |w, index| {
                members(w, index, |w, member| {
                    if member.key == b"valid" {
                        w.element(member);
                    }
                });
            }),
            (Treat::Texts, _) => {
                let array = w.begin_array(element.key);
                for message in element.as_array().into_iter().flat_map(Document::elements) {
                    let text = message.as_str().unwrap_or_default();
                    let text = text::rewrite(self, &text::without_files(text));
                    w.string(message.key, &text);
                }
                w.end(array);
            }
            _ => w.element(element),
        }
    }

    /// A namespace by the app's name.
    pub(crate) fn namespace(&self, w: &mut Writer, element: &Element<'_>) {
        let name = element.as_str().unwrap_or_default();
        let logical = self.scope.dedicated_name(name).unwrap_or(name);
        w.string(element.key, logical);
    }

    /// `keyPattern` and `keyValue` of a duplicate: without the scope field and fillers.
    fn key(&self, w: &mut Writer, element: &Element<'_>) {
        if !self.shares {
            w.element(element);
            return;
        }
        let field = self.scope.field().as_str().as_bytes();
        let document = w.begin_document(element.key);
        for member in element
            .as_document()
            .into_iter()
            .flat_map(Document::elements)
        {
            if member.key != field && member.key.first() != Some(&b'~') {
                w.element(&member);
            }
        }
        w.end(document);
    }

    fn cursor(
        &self,
        w: &mut Writer,
        element: &Element<'_>,
        map: &mut dyn FnMut(i64) -> i64,
    ) -> Result<(), Incident> {
        let members = element.as_document().ok_or(Incident::Shape("cursor"))?;
        let strips = matches!(self.rule, ReplyRule::Cursor { strips: true });
        let events = Events::of(self.rule, members);
        let document = w.begin_document(element.key);
        for member in members.elements() {
            match member.key {
                b"firstBatch" | b"nextBatch" if strips => self.batch(w, &member)?,
                b"firstBatch" | b"nextBatch" if self.rule == ReplyRule::KeptPlans => {
                    plans::write(w, &member);
                }
                b"firstBatch" | b"nextBatch" if self.rule == ReplyRule::Bulk => {
                    self.outcomes(w, &member)?;
                }
                b"id" if events.is_some_and(|events| events.is_over()) => {
                    w.boolean(b"invalidated", true);
                    w.int64(b"id", 0);
                }
                b"firstBatch" | b"nextBatch" | b"postBatchResumeToken" | b"invalidated" => {
                    match events {
                        Some(events) => events.write(self.scope, w, &member)?,
                        None if member.key.ends_with(b"Batch") => w.element(&member),
                        None => {}
                    }
                }
                b"id" => {
                    let id = member.as_integer().ok_or(Incident::Shape("cursor.id"))?;
                    w.int64(b"id", if id == 0 { 0 } else { map(id) });
                }
                b"ns" => self.namespace(w, &member),
                b"atClusterTime" | b"partialResultsReturned" => w.element(&member),
                _ => {}
            }
        }
        w.end(document);
        Ok(())
    }

    fn batch(&self, w: &mut Writer, element: &Element<'_>) -> Result<(), Incident> {
        let documents = element.as_array().ok_or(Incident::Shape("cursor batch"))?;
        let array = w.begin_array(element.key);
        for document in documents.elements() {
            self.scope.strip(w, &document)?;
        }
        w.end(array);
        Ok(())
    }

    /// The outcomes of the statements of a `bulkWrite`.
    fn outcomes(&self, w: &mut Writer, element: &Element<'_>) -> Result<(), Incident> {
        let outcomes = element.as_array().ok_or(Incident::Shape("cursor batch"))?;
        let array = w.begin_array(element.key);
        for outcome in outcomes.elements() {
            let members = outcome
                .as_document()
                .ok_or(Incident::Shape("document in a batch"))?;
            let code = members.find("code").and_then(|c| c.as_integer());
            let own = self.lacks_text_index(members);
            let members = own.as_deref().map_or(members, |bytes| {
                Document::parse_shallow(bytes).unwrap_or(members)
            });
            let document = w.begin_document(outcome.key);
            for member in members.elements() {
                let treat = match member.key {
                    b"ok" | b"idx" | b"n" | b"nModified" | b"upserted" | b"collation"
                    | b"hexEncoded" => Treat::Pass,
                    b"code" => Treat::Code,
                    b"codeName" => Treat::CodeName,
                    b"errmsg" => Treat::Text,
                    b"keyPattern" | b"keyValue" => Treat::Key,
                    b"errInfo" if code == Some(121) => {
                        self.broken_rule(w, &member);
                        continue;
                    }
                    _ => continue,
                };
                self.error_field(w, &member, treat, state_change(code));
            }
            w.end(document);
        }
        w.end(array);
        Ok(())
    }

    fn value(&self, w: &mut Writer, element: &Element<'_>) -> Result<(), Incident> {
        match self.rule {
            ReplyRule::Value { strips: true } if element.kind == Kind::Document => {
                self.scope.strip(w, element)
            }
            _ => {
                w.element(element);
                Ok(())
            }
        }
    }
}

/// Whether `indexDetails` is that of `validate`; in `collStats` it tells of files.
fn says_validity(details: &Element<'_>) -> bool {
    let first = details.as_document().and_then(Document::first);
    first.is_some_and(|index| {
        index
            .as_document()
            .is_some_and(|d| d.find("valid").is_some())
    })
}

/// A document, each of its members written by `write`.
fn members(w: &mut Writer, element: &Element<'_>, write: impl Fn(&mut Writer, &Element<'_>)) {
    let members = element.as_document().unwrap_or(Document::EMPTY);
    let document = w.begin_document(element.key);
    for member in members.elements() {
        write(w, &member);
    }
    w.end(document);
}

impl Scope {
    /// Writes a returned document under its own key without the scope field. Taking the field out is also a check: a document
    /// that carries another owner is never passed on.
    pub(crate) fn strip(&self, w: &mut Writer, element: &Element<'_>) -> Result<(), Incident> {
        let document = element
            .as_document()
            .ok_or(Incident::Shape("document in a batch"))?;
        let stamp = self.stamp_element();
        let field = self.field().as_str().as_bytes();
        let inner = document.inner_bytes();
        let mut offset = 0_usize;
        // Written by the proxy, the field stands first or right behind `_id`; administrators may have put it elsewhere.
        for member in document.elements() {
            if member.key == field {
                if member.raw != stamp {
                    return Err(Incident::ForeignDocument);
                }
                let end = offset.saturating_add(stamp.len());
                let mark = w.begin_document(element.key);
                w.raw(inner.get(..offset).unwrap_or_default());
                w.raw(inner.get(end..).unwrap_or_default());
                w.end(mark);
                return Ok(());
            }
            offset = offset.saturating_add(member.raw.len());
        }
        w.element(element);
        Ok(())
    }
}
