//! What the clients of each app are doing at this moment: the source of `currentOp`, and what `killOp` finds.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdb_scope::{AppId, CommandSpec, ServerAddress};
use mdb_wire::Document;
use tokio::time::Instant;

use crate::belongings::Belongings;
use crate::connection::Connection;
use crate::identity::Identity;
use crate::unread::Room;

/// Bytes of a command that are kept to be shown. Longer ones, batches mostly, are shown by their first field only.
const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// The operations of all connections.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    slots: Mutex<HashMap<i32, Arc<Slot>>>,
    next_id: AtomicU32,
}

/// One connection's operation: a connection does one thing at a time.
#[derive(Debug)]
pub(crate) struct Slot {
    connection: i32,
    peer: SocketAddr,
    application: Option<Box<str>>,
    running: Mutex<Option<Operation>>,
    /// The session whose transaction its last command left open.
    transaction: Mutex<Option<(Arc<Identity>, [u8; 16])>>,
}

/// What a connection is doing.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// The client's name for it: positive.
    pub(crate) id: i32,
    pub(crate) identity: Arc<Identity>,
    pub(crate) spec: &'static CommandSpec,
    pub(crate) started_at: Instant,
    /// The command as the client sent it, or its first field and `$db`.
    pub(crate) command: Arc<[u8]>,
    /// Where it runs: the member, and the proxy's end of the connection to it.
    pub(crate) place: Option<(ServerAddress, SocketAddr)>,
}

/// An operation and its connection.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) connection: i32,
    pub(crate) peer: SocketAddr,
    pub(crate) application: Option<Box<str>>,
    pub(crate) operation: Operation,
    pub(crate) elapsed: Duration,
}

impl Operations {
    /// The place of a connection; it goes with the connection.
    pub(crate) fn slot(self: &Arc<Self>, connection: &Connection) -> Registered {
        let application = connection.client.as_ref();
        let slot = Arc::new(Slot {
            connection: connection.id,
            peer: connection.peer,
            application: application.and_then(|client| client.application.clone()),
            running: Mutex::default(),
            transaction: Mutex::default(),
        });
        lock(&self.slots).insert(connection.id, Arc::clone(&slot));
        Registered {
            slot,
            home: Arc::clone(self),
        }
    }

    /// The sessions of an app that have a transaction open.
    pub(crate) fn transactions_of(&self, app: &AppId) -> Vec<[u8; 16]> {
        let session = |slot: &Arc<Slot>| {
            let open = lock(&slot.transaction);
            let (identity, session) = open.as_ref()?;
            (identity.app.id == *app).then_some(*session)
        };
        lock(&self.slots).values().filter_map(session).collect()
    }

    /// The operations of an app; of one user alone if one is given.
    pub(crate) fn of(&self, app: &AppId, user: Option<&str>) -> Vec<Listed> {
        let slots: Vec<Arc<Slot>> = lock(&self.slots).values().map(Arc::clone).collect();
        let listed = slots.iter().filter_map(|slot| {
            let operation = lock(&slot.running).clone()?;
            let is_own = operation.identity.app.id == *app
                && user.is_none_or(|user| operation.identity.username == user);
            is_own.then(|| Listed {
                connection: slot.connection,
                peer: slot.peer,
                application: slot.application.clone(),
                elapsed: operation.started_at.elapsed(),
                operation,
            })
        });
        let mut listed: Vec<Listed> = listed.collect();
        listed.sort_unstable_by_key(|l| l.operation.id);
        listed
    }
}

/// A slot for as long as its connection lives.
#[derive(Debug)]
pub(crate) struct Registered {
    slot: Arc<Slot>,
    home: Arc<Operations>,
}

impl Registered {
    /// The connection begins with a command. It is over when the guard is dropped.
    pub(crate) fn begin(
        &self,
        identity: &Arc<Identity>,
        spec: &'static CommandSpec,
        body: Document<'_>,
        owner: Option<Arc<Belongings>>,
        client: u64,
        room: Option<Arc<Room>>,
    ) -> Running {
        let id = self.home.next_id.fetch_add(1, Ordering::Relaxed) & 0x7FFF_FFFF;
        *lock(&self.slot.running) = Some(Operation {
            id: i32::try_from(id).unwrap_or_default().max(1),
            identity: Arc::clone(identity),
            spec,
            started_at: Instant::now(),
            command: shown(body),
            place: None,
        });
        Running {
            slot: Some(Arc::clone(&self.slot)),
            owner,
            client,
            room,
        }
    }
}

impl Registered {
    /// The last command left a transaction open, or none.
    pub(crate) fn set_transaction(&self, open: Option<(Arc<Identity>, [u8; 16])>) {
        *lock(&self.slot.transaction) = open;
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        lock(&self.home.slots).remove(&self.slot.connection);
    }
}

/// An operation that runs.
#[derive(Debug)]
pub(crate) struct Running {
    slot: Option<Arc<Slot>>,
    /// To whom belongs what it opens, if not to the app.
    pub(crate) owner: Option<Arc<Belongings>>,
    /// The client's name among [`crate::clients::Clients`], or 0.
    pub(crate) client: u64,
    /// Where its reply has room; `None` for what no client reads.
    pub(crate) room: Option<Arc<Room>>,
}

impl Running {
    /// One of no connection, which is not shown to anybody.
    pub(crate) fn unlisted() -> Self {
        Self {
            slot: None,
            owner: None,
            client: 0,
            room: None,
        }
    }

    /// It is on its way over this connection, or no longer over any.
    pub(crate) fn at(&self, place: Option<(ServerAddress, SocketAddr)>) {
        let Some(slot) = &self.slot else { return };
        if let Some(operation) = lock(&slot.running).as_mut() {
            operation.place = place;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            *lock(&slot.running) = None;
        }
    }
}

fn shown(body: Document<'_>) -> Arc<[u8]> {
    if body.bytes().len() <= COMMAND_BYTES_MAX {
        return body.bytes().into();
    }
    let mut w = mdb_wire::Writer::default();
    let mark = w.begin();
    let database = body.find("$db");
    for element in body.first().into_iter().chain(database) {
        w.element(&element);
    }
    w.end(mark);
    w.into_bytes().into()
}

/// A value is whole between any two calls, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
