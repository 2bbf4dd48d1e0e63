//! Open cursors: what the client's cursor id stands for, and whose it is.

use std::collections::hash_map::Entry as Place;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdb_scope::{AppId, CursorFacts, ForeignCollection, Isolation, ReplyRule, ServerAddress};
use mdb_telemetry::AppMeter;
use tokio::time::Instant;

use crate::belongings::{Belongings, Owned};
use crate::error::Limit;
use crate::identity::App;
use crate::random;
use crate::slots::Slot;

mod continuing;
mod opening;

/// A cursor that is open on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Whose it is.
    pub app: AppId,
    /// Where it is.
    pub server: ServerAddress,
    /// What the server calls it. Ids of several servers can be the same number.
    pub upstream_id: i64,
    /// Its database, by the app's name.
    pub database: Box<str>,
    /// Its collection, by the app's name.
    pub collection: Box<str>,
    /// Where the documents of its collection are.
    pub isolation: Isolation,
    /// The bytes of `lsid.id` of the command that opened it.
    pub lsid: Option<Box<[u8]>>,
    /// How its batches are read.
    pub rule: ReplyRule,
    /// The other collections of its command, for the texts of later batches.
    pub foreign: Box<[ForeignCollection]>,
    /// The command that opened it.
    pub command: &'static str,
    /// Whether the server keeps it however long it is idle.
    pub no_cursor_timeout: bool,
    /// The client that opened it, by the proxy's own name for it.
    pub(crate) client: u64,
}

impl Cursor {
    /// What rewriting needs to know of it.
    pub(crate) fn facts(&self) -> CursorFacts {
        CursorFacts {
            upstream_id: self.upstream_id,
            server: self.server.clone(),
            database: self.database.to_string(),
            collection: self.collection.to_string(),
            session: self.lsid.as_deref().and_then(|id| id.try_into().ok()),
            isolation: self.isolation,
            rule: self.rule,
        }
    }
}

/// The open cursors of all apps by the ids that clients know.
///
/// Ids are random, so that an app can neither guess another's nor learn how many there are.
#[derive(Debug, Default)]
pub struct Cursors {
    shards: [Mutex<HashMap<i64, Entry>>; SHARDS],
}

#[derive(Debug)]
struct Entry {
    cursor: Arc<Cursor>,
    last_used: Instant,
    _count: Count,
    /// Why the next `getMore` is told that it is gone.
    ended: Option<Arc<str>>,
    /// Takes it out of the belongings of its connection when it ends.
    owned: Option<Owned>,
}

/// Counts one cursor of an app for as long as it lives.
#[derive(Debug)]
struct Count {
    meter: AppMeter,
    _slot: Slot,
}

impl Drop for Count {
    fn drop(&mut self) {
        self.meter.cursor_closed();
    }
}

impl Cursors {
    /// Enters a cursor of `app` and gives the id for its client: positive, never 0. Fails when the app has
    /// `max` already; the cursor should then be killed.
    pub fn open(&self, app: &App, cursor: Cursor, max: usize, now: Instant) -> Result<i64, Limit> {
        let slot = app.cursors.take(max).ok_or(Limit::CursorsOfApp)?;
        app.meter.cursor_opened();
        let entry = Entry {
            cursor: Arc::new(cursor),
            last_used: now,
            _count: Count {
                meter: app.meter.clone(),
                _slot: slot,
            },
            ended: None,
            owned: None,
        };
        loop {
            let id = i64::from_le_bytes(random::bytes()) & i64::MAX;
            if id == 0 {
                continue;
            }
            if let Place::Vacant(place) = self.shard(id).entry(id) {
                place.insert(entry);
                return Ok(id);
            }
        }
    }

    /// Says that the cursor belongs to one connection and goes with it.
    pub(crate) fn assign(&self, id: i64, owner: &Arc<Belongings>) {
        if let Some(entry) = self.shard(id).get_mut(&id) {
            entry.owned = Some(Owned::new(owner, id));
        }
    }

    /// The app's cursor. `None` for one that does not exist and for another app's alike. Its holder keeps it from being
    /// reaped.
    pub fn look_up(&self, app: &AppId, id: i64, now: Instant) -> Option<Arc<Cursor>> {
        let mut shard = self.shard(id);
        let entry = shard
            .get_mut(&id)
            .filter(|entry| entry.cursor.app == *app)?;
        entry.last_used = now;
        Some(Arc::clone(&entry.cursor))
    }

    /// Ends the app's cursors of finds in a collection whose documents went somewhere else, as a server ends those of a
    /// collection that is dropped or renamed: the next `getMore` says `why`.
    pub(crate) fn end_finds(&self, app: &AppId, (database, collection): (&str, &str), why: &str) {
        let why: Arc<str> = why.into();
        for shard in &self.shards {
            for entry in lock(shard).values_mut() {
                let cursor = &entry.cursor;
                if cursor.app == *app
                    && cursor.command == "find"
                    && (&*cursor.database, &*cursor.collection) == (database, collection)
                {
                    entry.ended.get_or_insert_with(|| Arc::clone(&why));
                }
            }
        }
    }

    /// Why the app's cursor is at its end.
    pub(crate) fn ended(&self, app: &AppId, id: i64) -> Option<Arc<str>> {
        let shard = self.shard(id);
        let entry = shard.get(&id).filter(|entry| entry.cursor.app == *app)?;
        entry.ended.clone()
    }

    /// Takes the app's cursor out; whether it was there.
    pub fn close(&self, app: &AppId, id: i64) -> bool {
        let mut shard = self.shard(id);
        let is_known = shard.get(&id).is_some_and(|entry| entry.cursor.app == *app);
        if is_known {
            shard.remove(&id);
        }
        is_known
    }

    /// The sessions of an app that have a cursor open.
    pub fn sessions(&self, app: &AppId) -> BTreeSet<[u8; 16]> {
        let mut found = BTreeSet::new();
        for shard in &self.shards {
            let cursors = lock(shard);
            let own = cursors.values().filter(|entry| entry.cursor.app == *app);
            found.extend(own.filter_map(|entry| entry.cursor.facts().session));
        }
        found
    }

    /// Takes out the cursors of one of the app's sessions. Gives their number.
    pub fn close_session(&self, app: &AppId, session: &[u8; 16]) -> usize {
        self.retain(|entry| {
            let is_of_it = entry.cursor.lsid.as_deref() == Some(session.as_slice());
            entry.cursor.app != *app || !is_of_it
        })
    }

    /// The cursors of an app that a client has opened, by the ids that it knows.
    pub(crate) fn of_client(&self, app: &AppId, client: u64) -> BTreeSet<i64> {
        let mut found = BTreeSet::new();
        for shard in &self.shards {
            let cursors = lock(shard);
            let own = cursors
                .iter()
                .filter(|(_, entry)| entry.cursor.app == *app && entry.cursor.client == client);
            found.extend(own.map(|(id, _)| *id));
        }
        found
    }

    /// Takes out those that the server has closed by now because nobody used them. Gives their number.
    pub fn reap(&self, now: Instant) -> usize {
        self.retain(|entry| {
            if Arc::strong_count(&entry.cursor) > 1 {
                entry.last_used = now;
            }
            now.saturating_duration_since(entry.last_used) < idle_max(&entry.cursor)
        })
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| lock(shard).is_empty())
    }

    fn retain(&self, mut keep: impl FnMut(&mut Entry) -> bool) -> usize {
        let mut removed = 0;
        for shard in &self.shards {
            let mut shard = lock(shard);
            let before = shard.len();
            shard.retain(|_, entry| keep(entry));
            removed += before - shard.len();
        }
        removed
    }

    fn shard(&self, id: i64) -> MutexGuard<'_, HashMap<i64, Entry>> {
        lock(&self.shards[usize::from(id.to_le_bytes()[0]) % SHARDS])
    }
}

/// A map is whole between any two calls, so a panic elsewhere does not spoil it.
fn lock(shard: &Mutex<HashMap<i64, Entry>>) -> MutexGuard<'_, HashMap<i64, Entry>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn idle_max(cursor: &Cursor) -> Duration {
    match (cursor.no_cursor_timeout, &cursor.lsid) {
        (true, _) => IDLE_WITHOUT_TIMEOUT,
        (false, Some(_)) => IDLE_IN_SESSION,
        (false, None) => IDLE_WITHOUT_SESSION,
    }
}

/// Enough that hundreds of busy clients seldom meet.
const SHARDS: usize = 16;
/// mongod's `cursorTimeoutMillis`.
const IDLE_WITHOUT_SESSION: Duration = Duration::from_secs(10 * 60);
/// mongod's `localLogicalSessionTimeoutMinutes`: the cursor goes with its session.
const IDLE_IN_SESSION: Duration = Duration::from_secs(30 * 60);
/// mongod never closes these while their session is refreshed. A day without use means that the client is gone.
const IDLE_WITHOUT_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
