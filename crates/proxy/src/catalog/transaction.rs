//! `createIndexes` in a transaction, on shared collections. An index is made before the transaction begins, since the server
//! makes none on a collection that is there: the app sees it with the collection, which the transaction enters into the
//! catalog.

use mdb_scope::{Entering, collection_of};
use mdb_wire::{Command, Document, Writer};

use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::joining::{Entered, document, not_on_existing};
use crate::namespaces::Place;
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
    /// Indexes of a new collection, as the first command of a transaction: later ones the transaction would not see, or they
    /// would wait for its own locks. On a collection that the app has a mongod refuses them (6.0.5).
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
        // Refused before anything is made.
        let must_build = self
            .with_facts(Ground::of(&known.facts), |facts| {
                self.scope.create_indexes(self.spec, self.command, facts)
            })?
            .is_some();
        let has = self.has(place, &known).await?;
        if must_build && (has || !self.begins_transaction()) {
            // The one of this code by which a server aborts the transaction.
            if !self.begins_transaction() {
                self.abort().await?;
            }
            return Err(not_on_existing(place.database, collection).into());
        }
        let untied = self.untied();
        let command = Command::inner(document(&untied), self.command.database)?;
        let outside = self.with_command(&command)?;
        let start = out.len();
        if has {
            outside.build_indexes(place, false, out).await?;
            return self.begin_transaction(collection, start, out).await;
        }
        if self.begins_transaction() {
            let clean = self.forward.namespaces.clean(place);
            self.namespace(clean).await?;
            self.announce_indexes(place).await?;
        } else if !known.exists && !self.make_inside(place, out).await? {
            return Ok(());
        }
        outside.build_indexes(place, true, out).await?;
        if reply::is_ok(out.get(start..).unwrap_or_default()) {
            self.enter_with_indexes(place, start, out).await?;
        }
        Ok(())
    }

    /// The names upstream of the indexes that the command asks for, without that on `_id`.
    fn asked_for(&self) -> Vec<String> {
        let indexes = self.command.body.find("indexes");
        let indexes = indexes.and_then(|e| e.as_array());
        let indexes = indexes.into_iter().flat_map(Document::elements);
        let name = |index: Document<'_>| {
            let key = index.find("key")?.as_document()?;
            let mut fields = key.elements().map(|field| field.key);
            let is_id = (fields.next(), fields.next()) == (Some(b"_id".as_slice()), None);
            let name = index.find("name")?.as_str().filter(|_| !is_id)?;
            Some(self.scope.physical_name(name))
        };
        indexes
            .filter_map(|e| e.as_document())
            .filter_map(name)
            .collect()
    }

    /// Writes down what is about to be made for the transaction, so that it is cleared away if that is aborted.
    async fn announce_indexes(&self, place: Place<'_>) -> Result<(), Error> {
        let names = self.asked_for();
        let control = place.control();
        let of = (place.database, place.collection);
        let begin = control.begin_indexes(self.scope.app(), of, &names);
        self.driver(begin).await
    }

    /// Enters the collection with the indexes that were made for it. Whoever else makes it waits, or fails, until the
    /// transaction is over: the indexes are not another's to have, or to clear away.
    async fn enter_with_indexes(
        &self,
        place: Place<'_>,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let begins = self.begins_transaction();
        let mut failed = Vec::new();
        let entered = self.enter_inside(place, Entering::Whole, begins, &mut failed);
        let is_alone = match entered.await? {
            Entered::New => true,
            Entered::Before => false,
            Entered::Failed => {
                out.truncate(start);
                out.extend(failed);
                return Ok(());
            }
        };
        // Another one may have cleared them away before.
        let refresh = self.forward.namespaces.refresh(place);
        let known = self.namespace(refresh).await?;
        let names = self.asked_for();
        let stands = |name: &String| {
            let mut own = known.facts.indexes.iter();
            own.any(|index| index.physical_name == *name)
        };
        if !is_alone || !names.iter().all(stands) {
            self.abort().await?;
            out.truncate(start);
            reply::write_conflict(out);
        }
        Ok(())
    }

    /// The command without its transaction.
    fn untied(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let mark = writer.begin();
        for element in self.command.body.elements() {
            if !TIES.contains(&element.key) {
                writer.element(&element);
            }
        }
        writer.end(mark);
        writer.into_bytes()
    }

    /// Begins the transaction upstream, if the command that the proxy did itself was to begin it: with a read that finds
    /// nothing. If that fails its reply takes the place of the one that begins at `start`.
    async fn begin_transaction(
        &self,
        collection: &str,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if !self.begins_transaction() {
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
}
