//! Clients, as far as the proxy can tell them apart, and the end of what a gone one left open.
//!
//! A driver's connections come and go while it lives, and a cursor or a transaction goes on over another of them. So a closed
//! connection says nothing yet. A client counts as gone when no connection with its address and its metadata is left, the
//! monitors of its driver among them, and none has come for [`crate::ClientLimits::abandoned_after`]. Clients that cannot be
//! told apart, as several processes of one program on one host, are one: what one of them leaves is then ended by the
//! server's own patience.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use mdb_scope::ServerAddress;
use mdb_upstream::MemberKind;
use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Writer};
use tokio::time::{sleep, timeout};

use crate::belongings::{RECLAIM_TIMEOUT, kills};
use crate::connection::Connection;
use crate::dispatch::Call;
use crate::error::Error;
use crate::guest::Guest;
use crate::identity::Identity;
use crate::shared::Shared;
use crate::slots::network_of;

/// All clients that have a connection, or had one lately.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    known: HashMap<Key, Known>,
    last_id: u64,
}

/// By what clients are told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    network: IpAddr,
    application: Option<Box<str>>,
    driver: Option<Box<str>>,
}

#[derive(Debug, Default)]
struct Known {
    id: u64,
    connections: usize,
    /// Grows with every connection.
    arrivals: u64,
    /// As whom it has sent commands upstream.
    identities: Vec<Arc<Identity>>,
}

/// One connection of a client, until it is dropped.
#[derive(Debug)]
pub(crate) struct Presence {
    home: Arc<Clients>,
    key: Key,
    /// Names the client for as long as it is not gone. Never 0.
    pub(crate) id: u64,
}

impl Clients {
    /// A connection turns out to be of this client.
    pub(crate) fn enter(self: &Arc<Self>, connection: &Connection) -> Presence {
        let metadata = connection.client.as_ref();
        let key = Key {
            network: network_of(connection.peer.ip()),
            application: metadata.and_then(|client| client.application.clone()),
            driver: metadata.map(|client| client.driver.clone()),
        };
        let mut table = self.lock();
        let next_id = table.last_id + 1;
        let known = table.known.entry(key.clone()).or_default();
        known.connections += 1;
        known.arrivals += 1;
        if known.id == 0 {
            known.id = next_id;
            table.last_id = next_id;
        }
        let id = table.known.get(&key).map_or(next_id, |known| known.id);
        Presence {
            home: Arc::clone(self),
            key,
            id,
        }
    }

    /// The client has no connection now: how many it had so far. `None` if it has one.
    fn away(&self, key: &Key) -> Option<u64> {
        let mut table = self.lock();
        let known = table.known.get(key).filter(|k| k.connections == 0)?;
        let arrivals = known.arrivals;
        if known.identities.is_empty() {
            // It has left nothing.
            table.known.remove(key);
            return None;
        }
        Some(arrivals)
    }

    /// Takes out a client that had no connection since it had `arrivals`.
    fn take_gone(&self, key: &Key, arrivals: u64) -> Option<Known> {
        let mut table = self.lock();
        let known = table.known.get(key)?;
        let is_gone = known.connections == 0 && known.arrivals == arrivals;
        is_gone.then(|| table.known.remove(key)).flatten()
    }

    /// The table is whole between any two calls, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Presence {
    /// The client sends commands upstream as this user.
    pub(crate) fn acts_as(&self, identity: &Arc<Identity>) {
        let mut table = self.home.lock();
        let Some(known) = table.known.get_mut(&self.key) else {
            return;
        };
        let is_same = |i: &Arc<Identity>| i.username == identity.username;
        if known.identities.len() < IDENTITIES_MAX && !known.identities.iter().any(is_same) {
            known.identities.push(Arc::clone(identity));
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Some(known) = self.home.lock().known.get_mut(&self.key) {
            known.connections = known.connections.saturating_sub(1);
        }
    }
}

/// A connection has ended. If it was its client's last, what the client left open is ended, once it has not come back in
/// time.
pub(crate) fn leave(shared: &Arc<Shared>, connection: &mut Connection) {
    let Some(presence) = connection.presence.take() else {
        return;
    };
    let (key, peer) = (presence.key.clone(), connection.peer);
    drop(presence);
    let Some(arrivals) = shared.clients.away(&key) else {
        return;
    };
    let shared = Arc::clone(shared);
    tokio::spawn(async move {
        sleep(shared.limits.abandoned_after).await;
        let Some(gone) = shared.clients.take_gone(&key, arrivals) else {
            return;
        };
        let ends = gone.identities.iter().map(async |identity| {
            let place = Connection::new(Guest::from(peer), &shared);
            end_all(&shared, &place, identity, gone.id).await;
        });
        join_all(ends).await;
    });
}

/// Ends the sessions and cursors that a client used last.
async fn end_all(shared: &Shared, connection: &Connection, identity: &Arc<Identity>, client: u64) {
    let app = &identity.app;
    let sessions = app.sessions.take_of(client);
    let cursors = shared.cursors.of_client(&app.id, client);
    if sessions.is_empty() && cursors.is_empty() {
        return;
    }
    tracing::debug!(
        app = app.id.as_str(),
        sessions = sessions.len(),
        cursors = cursors.len(),
        "a client is gone; what it left open is ended"
    );
    for (body, database) in kills(shared, identity, &cursors) {
        send(shared, connection, identity, &body, &database).await;
    }
    let mut gone = Gone {
        shared,
        connection,
        identity,
        sessions,
        reached: BTreeSet::new(),
    };
    let mut is_ended = gone.kill().await;
    for some in gone.sessions.chunks(SESSIONS_AT_ONCE) {
        let body = listing("endSessions", some);
        send(shared, connection, identity, &body, "admin").await;
    }
    for session in &gone.sessions {
        shared.cursors.close_session(&app.id, session);
    }
    for pause in KILL_PAUSES {
        if is_ended {
            return;
        }
        sleep(pause).await;
        is_ended = gone.kill().await;
    }
}

/// The sessions that a gone client has left.
struct Gone<'a> {
    shared: &'a Shared,
    connection: &'a Connection,
    identity: &'a Arc<Identity>,
    /// By the client's ids.
    sessions: Vec<[u8; 16]>,
    /// The members that have killed them.
    reached: BTreeSet<ServerAddress>,
}

impl Gone<'_> {
    /// Kills the sessions on every member that has not done so yet: each has cursors of its own, and of those that a command
    /// opened whose client did not wait for the reply nobody knows more than the session. Says whether all have done it. A
    /// member that is stopped or cut off has not, and may go on.
    async fn kill(&mut self) -> bool {
        // A client that was away for long may be back, with the sessions that it had.
        self.identity.app.sessions.retain_unused(&mut self.sessions);
        let topology = self.shared.upstream.topology().borrow().clone();
        let members = topology.members.iter();
        let lacking =
            members.filter(|m| m.kind != MemberKind::Other && !self.reached.contains(&m.address));
        let kills = lacking.map(async |member| {
            let killed = timeout(RECLAIM_TIMEOUT, self.kill_at(&member.address)).await;
            matches!(killed, Ok(Ok(()))).then(|| member.address.clone())
        });
        let killed = join_all(kills).await;
        let is_everywhere = killed.iter().all(Option::is_some);
        self.reached.extend(killed.into_iter().flatten());
        is_everywhere
    }

    async fn kill_at(&self, server: &ServerAddress) -> Result<(), Error> {
        for some in self.sessions.chunks(SESSIONS_AT_ONCE) {
            let body = listing("killSessions", some);
            let Ok(body) = Document::parse(&body) else {
                continue;
            };
            let call = Call::new(Command::inner(body, "admin")?, false)?;
            let slot = self.shared.operations.slot(self.connection);
            let operation = slot.begin(self.identity, call.spec, body, None, 0, None);
            let forward = &self.shared.forward;
            let journey = forward.journey(self.shared, self.identity, &call, &operation);
            journey.await?.kill_sessions_at(server, some).await?;
        }
        Ok(())
    }
}

/// A command that takes sessions.
fn listing(name: &str, sessions: &[[u8; 16]]) -> Vec<u8> {
    let mut w = Writer::default();
    let mark = w.begin();
    let array = w.begin_array(name.as_bytes());
    for (index, session) in sessions.iter().enumerate() {
        let one = w.begin_document(IndexKey::new(index).as_bytes());
        w.binary(b"id", 4, session);
        w.end(one);
    }
    w.end(array);
    w.string(b"$db", "admin");
    w.end(mark);
    w.into_bytes()
}

/// Sends what ends something, in vain where it cannot be reached in time: the server ends it when its own patience is over.
async fn send(
    shared: &Shared,
    connection: &Connection,
    identity: &Arc<Identity>,
    body: &[u8],
    database: &str,
) {
    let end = async {
        let Ok(body) = Document::parse(body) else {
            return Ok(());
        };
        let call = Call::new(Command::inner(body, database)?, false)?;
        let slot = shared.operations.slot(connection);
        let operation = slot.begin(identity, call.spec, body, None, 0, None);
        let forward = &shared.forward;
        let mut out = Vec::new();
        Box::pin(forward.command(shared, identity, &call, &operation, &mut out)).await
    };
    if !matches!(timeout(RECLAIM_TIMEOUT, end).await, Ok(Ok(()))) {
        let app = identity.app.id.as_str();
        tracing::debug!(app, "what a client left could not be ended");
    }
}

/// A client logs in as one user, seldom as a few; more are not remembered.
const IDENTITIES_MAX: usize = 16;
/// When members are asked again that have not killed the sessions of a gone client: together longer than the ten minutes for
/// which a member keeps a cursor that nobody uses.
const KILL_PAUSES: [Duration; 6] = [
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(40),
    Duration::from_secs(80),
    Duration::from_secs(160),
    Duration::from_secs(320),
];
/// A message of some 300 kB.
const SESSIONS_AT_ONCE: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(driver: &str) -> Key {
        Key {
            network: "192.0.2.1".parse().unwrap(),
            application: None,
            driver: Some(driver.into()),
        }
    }

    fn enter(clients: &Arc<Clients>, driver: &str) -> Presence {
        let mut table = clients.lock();
        let known = table.known.entry(key(driver)).or_default();
        known.connections += 1;
        known.arrivals += 1;
        Presence {
            home: Arc::clone(clients),
            key: key(driver),
            id: known.id,
        }
    }

    #[test]
    fn a_client_is_gone_when_it_has_no_connection_and_did_not_come_back() {
        let clients = Arc::new(Clients::default());
        let (first, second) = (enter(&clients, "a"), enter(&clients, "a"));
        assert_eq!(clients.away(&key("a")), None);
        drop((first, second));
        // It has done nothing, so nothing is to be ended.
        assert_eq!(clients.away(&key("a")), None);
        assert!(clients.lock().known.is_empty());
        let first = enter(&clients, "a");
        drop(first);
        assert!(clients.take_gone(&key("a"), 0).is_none());
        drop(enter(&clients, "a"));
        assert!(clients.take_gone(&key("a"), 1).is_none(), "it was back");
        assert!(clients.take_gone(&key("a"), 2).is_some());
        assert!(clients.lock().known.is_empty());
    }
}
