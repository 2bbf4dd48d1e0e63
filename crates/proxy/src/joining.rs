//! What the proxy does inside a client's transaction, so that it is committed or aborted with it: a collection that the
//! transaction makes is the app's by an entry in the catalog that is a part of the transaction.

use std::sync::Arc;

use mdb_scope::{AppId, CollectionFacts, Entering, Refusal, Scoped, Statement};
use mdb_wire::Document;
use quick_cache::sync::Cache;

use crate::error::Error;
use crate::forward::Journey;
use crate::ground::Ground;
use crate::local::now_millis;
use crate::namespaces::{Known, Place};
use crate::reply;
use crate::supervision::session_of;

/// `NoSuchTransaction`: said of a transaction that is over.
const NO_SUCH_TRANSACTION: i64 = 251;

/// Collections of open transactions at once. One that is forgotten makes the proxy make it again, which aborts its
/// transaction; each takes about 200 bytes.
const JOINED_MAX: usize = 10_000;

/// What the proxy has done inside of transactions. Numbers of transactions are not used again, so what is over is not in the
/// way; it goes when room is needed.
#[derive(Debug)]
pub(crate) struct Joined(Cache<Key, Joint>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    app: AppId,
    session: [u8; 16],
    number: i64,
    database: Box<str>,
    collection: Box<str>,
}

/// What was done of one collection.
#[derive(Debug, Clone, Copy, Default)]
struct Joint {
    /// The physical collection was made.
    is_made: bool,
    /// It was entered into the catalog.
    is_entered: bool,
}

impl Default for Joined {
    fn default() -> Self {
        Self(Cache::new(JOINED_MAX))
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    /// The transaction has made it.
    New,
    /// It was there before, for the transaction.
    Before,
    /// The transaction is aborted, and the reply says so.
    Failed,
}

/// What is known of a collection before a command is sent.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// What is known now, if something was made.
    pub(crate) made: Option<Arc<Known>>,
    /// Whether the command's transaction has to enter it into the catalog.
    pub(crate) enters: bool,
}

impl Journey<'_> {
    /// Whether the command is the first of its transaction.
    pub(crate) fn begins_transaction(&self) -> bool {
        let start = self.command.body.find("startTransaction");
        start.and_then(|e| e.as_flag()) == Some(true)
    }

    /// Makes ready for a write in a transaction that may create the collection. `None` if the transaction is aborted, and
    /// the reply in `out` says so.
    pub(crate) async fn prepare_inside(
        &self,
        place: Place<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Prepared>, Error> {
        let joint = self.joint(place);
        if joint.is_entered {
            return Ok(Some(Prepared::default()));
        }
        let begins = self.begins_transaction();
        let ready = self.forward.namespaces.ready_in_transaction(place, begins);
        let (known, enters) = self.namespace(ready).await?;
        let is_there = known.exists || known.facts.is_dedicated();
        if !is_there && !self.make_inside(place, out).await? {
            return Ok(None);
        }
        let made = Some(known);
        Ok(Some(Prepared { made, enters }))
    }

    /// Makes the physical collection in the transaction, which has begun before and would not see one that is made outside
    /// of it. Gives whether that is done; otherwise the transaction is aborted, and the reply in `out` says so.
    pub(crate) async fn make_inside(
        &self,
        place: Place<'_>,
        out: &mut Vec<u8>,
    ) -> Result<bool, Error> {
        let joint = self.joint(place);
        if joint.is_made {
            return Ok(true);
        }
        let named = (place.database, place.collection);
        let none = CollectionFacts::default();
        let (collection, indexes) = self.with_facts(Ground::of(&none), |facts| {
            let statement = self.statement(false);
            let images = place.keeps_images;
            let collection = self.scope.make_collection(statement, facts, named, images);
            let indexes = self.scope.make_base_indexes(statement, facts, named);
            collection.and_then(|collection| Ok((collection, indexes?)))
        })?;
        for scoped in [collection, indexes] {
            let made = self.add(scoped).await?;
            if !reply::is_ok(&made) {
                // Somebody else has made it since.
                self.forward.namespaces.forget(place);
                tell_failure(&made, out);
                return Ok(false);
            }
        }
        let is_made = true;
        self.join(place, Joint { is_made, ..joint });
        Ok(true)
    }

    /// Enters the collection into the catalog, as a part of the transaction. What fails aborts it; then the reply is
    /// appended to `out`.
    pub(crate) async fn enter_inside(
        &self,
        place: Place<'_>,
        entering: Entering,
        is_first: bool,
        out: &mut Vec<u8>,
    ) -> Result<Entered, Error> {
        let none = CollectionFacts::default();
        let named = (place.database, place.collection);
        let scoped = self.with_facts(Ground::of(&none), |facts| {
            let statement = self.statement(is_first);
            let now = now_millis();
            let has_images = self.spec.name == "create" && self.says_images() == Some(true);
            let how = (entering, has_images);
            self.scope.enter(statement, facts, named, how, now)
        })?;
        let entered = self.add(scoped).await?;
        let answer = document(&entered);
        if !reply::is_ok(&entered) || answer.find("writeErrors").is_some() {
            tell_failure(&entered, out);
            return Ok(Entered::Failed);
        }
        let is_entered = true;
        let joint = self.joint(place);
        self.join(
            place,
            Joint {
                is_entered,
                ..joint
            },
        );
        if answer.find("upserted").is_some() {
            return Ok(Entered::New);
        }
        Ok(Entered::Before)
    }

    /// The same after the client's command, whose reply begins at `start`, has written into the collection.
    pub(crate) async fn enter_behind(
        &self,
        place: Place<'_>,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let reply = out.get(start..).unwrap_or_default();
        let reply = document(reply);
        // By which the transaction is over.
        if reply.find("writeErrors").is_some() {
            return Ok(());
        }
        let mut failed = Vec::new();
        let entered = self.enter_inside(place, Entering::Beside, false, &mut failed);
        if entered.await? == Entered::Failed {
            out.truncate(start);
            out.extend(failed);
        }
        Ok(())
    }

    /// The collection in the command's transaction.
    fn key(&self, place: Place<'_>) -> Option<Key> {
        let number = self.command.body.find("txnNumber");
        Some(Key {
            app: self.scope.app().clone(),
            session: session_of(self.command.body)?,
            number: number.and_then(|number| number.as_integer())?,
            database: place.database.into(),
            collection: place.collection.into(),
        })
    }

    fn joint(&self, place: Place<'_>) -> Joint {
        let joint = self
            .key(place)
            .and_then(|key| self.forward.joined.0.get(&key));
        joint.unwrap_or_default()
    }

    fn join(&self, place: Place<'_>, joint: Joint) {
        if let Some(key) = self.key(place) {
            self.forward.joined.0.insert(key, joint);
        }
    }

    fn statement(&self, is_first: bool) -> Statement<'_> {
        Statement {
            spec: self.spec,
            command: self.command,
            is_first,
        }
    }

    /// Sends what is added to the transaction; gives the reply.
    async fn add(&self, mut scoped: Scoped) -> Result<Vec<u8>, Error> {
        let none = CollectionFacts::default();
        let mut reply = Vec::new();
        self.exchange(&mut scoped, Ground::of(&none), &mut reply)
            .await?;
        Ok(reply)
    }

    /// `create` of a shared collection in a transaction.
    pub(crate) async fn create_inside(
        &self,
        place: Place<'_>,
        known: &Known,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        if self.has(place, known).await? {
            return Err(self.exists(place.collection));
        }
        let begins = self.begins_transaction();
        if begins {
            let clean = self.forward.namespaces.clean(place);
            self.namespace(clean).await?;
        } else if !known.exists && !self.make_inside(place, out).await? {
            return Ok(());
        }
        let entered = self.enter_inside(place, Entering::Alone, begins, out);
        match entered.await? {
            Entered::New => reply::ok(out, |_| {}),
            Entered::Before => return Err(self.exists(place.collection)),
            Entered::Failed => {}
        }
        Ok(())
    }
}

/// Tells the client that its transaction is aborted: as a server does where two transactions make one collection. What the
/// proxy wanted is not its concern.
fn tell_failure(reply: &[u8], out: &mut Vec<u8>) {
    let failed = document(reply);
    let code = failed.find("code").and_then(|code| code.as_integer());
    if code == Some(NO_SUCH_TRANSACTION) {
        out.extend(reply);
    } else {
        reply::write_conflict(out);
    }
}

/// A document that was just written.
pub(crate) fn document(bytes: &[u8]) -> Document<'_> {
    Document::parse_shallow(bytes).unwrap_or(Document::EMPTY)
}

/// What a server says of more than it takes in a transaction, by which the transaction is aborted (6.0.5).
pub(crate) fn not_on_existing(database: &str, collection: &str) -> Refusal {
    Refusal::not_in_transaction(format!(
        "Cannot create new indexes on existing collection {database}.{collection} in a multi-document transaction."
    ))
}
