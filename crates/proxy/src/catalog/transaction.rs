//! `create` and `createIndexes` in a transaction: what they make is made outside of it, and the transaction begins all the
//! same.

use mdb_scope::{CollectionFacts, Refusal, collection_of};
use mdb_wire::{Command, Document, Writer};

use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::reply;

/// What ties a command to its session and transaction.
const TIES: &[&[u8]] = &[
    b"lsid",
    b"txnNumber",
    b"startTransaction",
    b"autocommit",
    b"readConcern",
];

impl Journey<'_> {
    /// Begins the transaction upstream, if the command that the proxy did itself was to begin it: with a read that finds
    /// nothing. If that fails its reply takes the place of the one that begins at `start`.
    pub(crate) async fn begin_transaction(
        &self,
        collection: &str,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !self.starts_transaction() {
            return Ok(());
        }
        let body = self.command.body;
        let mut writer = Writer::default();
        let mark = writer.begin();
        writer.string(b"find", collection);
        let filter = writer.begin_document(b"filter");
        let id = writer.begin_document(b"_id");
        let none = writer.begin_array(b"$in");
        writer.end(none);
        writer.end(id);
        writer.end(filter);
        writer.boolean(b"singleBatch", true);
        for element in body.elements() {
            if TIES.contains(&element.key) || element.key.starts_with(b"api") {
                writer.element(&element);
            }
        }
        writer.string(b"$db", self.command.database);
        writer.end(mark);
        let probe = writer.into_bytes();
        let command = Command::inner(document(&probe), self.command.database)?;
        let mut begun = Vec::new();
        self.with_command(&command)?.travel(&mut begun).await?;
        if !reply::is_ok(&begun) {
            out.truncate(start);
            out.extend(begun);
        }
        Ok(())
    }

    fn starts_transaction(&self) -> bool {
        let start = self.command.body.find("startTransaction");
        start.and_then(|e| e.as_flag()) == Some(true)
    }

    /// Indexes of a new collection, as the first command of a transaction. Later they would wait for the locks of the
    /// transaction itself; on a collection that the app has a mongod refuses them (6.0.5).
    pub(super) async fn create_indexes_in_transaction(
        &self,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let collection = collection_of(self.command)?;
        let place = self.place(collection);
        let known = self
            .namespace(self.forward.namespaces.refresh(place))
            .await?;
        if known.facts.is_dedicated() {
            return self.create_indexes(out).await;
        }
        let is_new = |facts: &CollectionFacts| {
            self.with_facts(Ground::of(facts), |facts| {
                self.scope.create_indexes(self.spec, self.command, facts)
            })
            .map(|scoped| scoped.is_some())
        };
        let must_build = is_new(&known.facts)?;
        if must_build && (!self.starts_transaction() || self.has(place, &known).await?) {
            return Err(Refusal::not_in_transaction(format!(
                "Cannot create new indexes on existing collection {}.{collection} in a multi-document transaction.",
                self.command.database
            ))
            .into());
        }
        let mut writer = Writer::default();
        let mark = writer.begin();
        for element in self.command.body.elements() {
            if !TIES.contains(&element.key) {
                writer.element(&element);
            }
        }
        writer.end(mark);
        let untied = writer.into_bytes();
        let command = Command::inner(document(&untied), self.command.database)?;
        let start = out.len();
        self.with_command(&command)?.create_indexes(out).await?;
        if reply::is_ok(out.get(start..).unwrap_or_default()) {
            self.begin_transaction(collection, start, out).await?;
        }
        Ok(())
    }
}

/// A document that was just written.
fn document(bytes: &[u8]) -> Document<'_> {
    Document::parse_shallow(bytes).unwrap_or(Document::EMPTY)
}
