//! What belongs to one client connection behind a load balancer, and goes with it.
//!
//! Such a client cannot reach its cursors and its transaction over another connection: that one may lead to another proxy.
//! So they would stay open upstream, for half an hour, if nobody ended them (load balancer specification of the drivers).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Writer};
use tokio::time::{Instant, timeout};

use crate::connection::Connection;
use crate::dispatch::{self, Call};
use crate::error::Error;
use crate::identity::Identity;
use crate::shared::Shared;

/// The belongings of one connection. Cursors are bounded with those of the app.
#[derive(Debug, Default)]
pub(crate) struct Belongings(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    /// By the client's ids.
    cursors: BTreeSet<i64>,
    /// The `abortTransaction` of the transaction that was begun last and not ended.
    abort: Option<Vec<u8>>,
}

impl Belongings {
    /// The connection begins with a command. An end of a transaction that was sent may have come about, and the client may
    /// ask for it again over another connection: so from then on the transaction is left alone.
    pub(crate) fn follow(&self, name: &str, body: Document<'_>) {
        if matches!(name, "commitTransaction" | "abortTransaction") {
            self.lock().abort = None;
        } else if body.find("autocommit").and_then(|e| e.as_flag()) == Some(false) {
            self.lock().abort = Some(abort_of(body));
        }
    }

    /// Whether the connection holds nothing that its client could miss.
    pub(crate) fn is_empty(&self) -> bool {
        let held = self.lock();
        held.cursors.is_empty() && held.abort.is_none()
    }

    fn take(&self) -> Held {
        std::mem::take(&mut *self.lock())
    }

    /// A value is whole between any two calls, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cursor's place among the belongings of a connection, for as long as the cursor is known.
#[derive(Debug)]
pub(crate) struct Owned {
    owner: Arc<Belongings>,
    id: i64,
}

impl Owned {
    pub(crate) fn new(owner: &Arc<Belongings>, id: i64) -> Self {
        owner.lock().cursors.insert(id);
        Self {
            owner: Arc::clone(owner),
            id,
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.owner.lock().cursors.remove(&self.id);
    }
}

/// Ends what a connection leaves behind: aborts its transaction, kills its cursors. What cannot be reached in time ends by
/// itself, when the server's own patience is over.
pub(crate) async fn reclaim(shared: &Shared, connection: &mut Connection) {
    let Some(belongings) = connection.belongings.take() else {
        return;
    };
    let held = belongings.take();
    let ends = connection
        .identity()
        .map(|identity| kills(shared, identity, &held.cursors))
        .unwrap_or_default();
    for (body, database) in held
        .abort
        .map(|body| (body, "admin".to_owned()))
        .into_iter()
        .chain(ends)
    {
        let ended = timeout(RECLAIM_TIMEOUT, end(shared, connection, &body, &database)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::debug!(
                connection = connection.id,
                "what a client left behind could not be ended"
            );
        }
    }
}

/// One `killCursors` for each collection, with its database.
pub(crate) fn kills(
    shared: &Shared,
    identity: &Identity,
    cursors: &BTreeSet<i64>,
) -> Vec<(Vec<u8>, String)> {
    let mut places: BTreeMap<(Box<str>, Box<str>), Vec<i64>> = BTreeMap::new();
    for &id in cursors {
        let cursor = shared.cursors.look_up(&identity.app.id, id, Instant::now());
        if let Some(cursor) = cursor {
            let place = (cursor.database.clone(), cursor.collection.clone());
            places.entry(place).or_default().push(id);
        }
    }
    let kill = |((database, collection), ids): ((Box<str>, Box<str>), Vec<i64>)| {
        let mut w = Writer::default();
        let mark = w.begin();
        w.string(b"killCursors", &collection);
        let array = w.begin_array(b"cursors");
        for (index, id) in ids.into_iter().enumerate() {
            w.int64(IndexKey::new(index).as_bytes(), id);
        }
        w.end(array);
        w.string(b"$db", &database);
        w.end(mark);
        (w.into_bytes(), database.into())
    };
    places.into_iter().map(kill).collect()
}

/// The `abortTransaction` for the transaction of a command. The server compares the fields of the stable API with those of
/// the transaction (347 where they differ, 6.0.5).
fn abort_of(body: Document<'_>) -> Vec<u8> {
    let mut w = Writer::default();
    let mark = w.begin();
    w.int32(b"abortTransaction", 1);
    for key in TRANSACTION_FIELDS {
        if let Some(element) = body.find(key) {
            w.element(&element);
        }
    }
    w.string(b"$db", "admin");
    w.end(mark);
    w.into_bytes()
}

async fn end(
    shared: &Shared,
    connection: &mut Connection,
    body: &[u8],
    database: &str,
) -> Result<(), Error> {
    let Ok(body) = Document::parse(body) else {
        return Ok(());
    };
    let call = Call::new(Command::inner(body, database)?, false)?;
    dispatch::forward(shared, connection, &call, &mut Vec::new()).await
}

/// What names a transaction.
pub(crate) const TRANSACTION_FIELDS: [&str; 6] = [
    "lsid",
    "txnNumber",
    "autocommit",
    "apiVersion",
    "apiStrict",
    "apiDeprecationErrors",
];
/// For each end. A member that is away for longer has probably ended it as well.
pub(crate) const RECLAIM_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn follow(belongings: &Belongings, body: &bson::Document) {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let name = body.keys().next().unwrap();
        belongings.follow(name, Document::parse(&bytes).unwrap());
    }

    #[test]
    fn a_transaction_is_held_until_its_end_is_sent() {
        let names = doc! {
            "lsid": {"id": 1}, "txnNumber": 3_i64, "autocommit": false, "apiVersion": "1",
        };
        let with = |mut body: bson::Document| {
            body.extend(names.clone());
            body
        };
        let belongings = Belongings::default();
        follow(&belongings, &doc! {"find": "c", "lsid": {"id": 1}});
        assert!(belongings.is_empty());
        for end in ["commitTransaction", "abortTransaction"] {
            follow(
                &belongings,
                &with(doc! {"insert": "c", "startTransaction": true}),
            );
            assert!(!belongings.is_empty());
            follow(&belongings, &with(doc! {end: 1}));
            assert!(belongings.is_empty(), "{end}");
        }
        follow(&belongings, &with(doc! {"find": "c"}));
        let abort = belongings.take().abort.unwrap();
        let mut expected = with(doc! {"abortTransaction": 1});
        expected.insert("$db", "admin");
        assert_eq!(abort, bson::serialize_to_vec(&expected).unwrap());
    }

    #[test]
    fn a_cursor_is_held_for_as_long_as_it_is_known() {
        let belongings = Arc::new(Belongings::default());
        let (first, second) = (Owned::new(&belongings, 1), Owned::new(&belongings, 2));
        drop(first);
        assert_eq!(belongings.lock().cursors, [2].into());
        drop(second);
        assert!(belongings.is_empty());
    }
}
