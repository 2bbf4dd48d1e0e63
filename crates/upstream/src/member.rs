//! The pool of each member, with what is needed to fill it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mdb_scope::ServerAddress;
use mdb_telemetry::{ConnectionState, Metrics};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{
    conn::Connection,
    error::UpstreamError,
    handshake::Connector,
    lease::Lease,
    pool::{CheckOut, Grant, Pool, PoolLimits, Turn},
    view::News,
    watch::{Board, LostMembers},
};

/// The pools of all members, made when they are first needed.
#[derive(Debug)]
pub(crate) struct Pools {
    members: Mutex<HashMap<ServerAddress, Arc<MemberPool>>>,
    shared: Arc<Shared>,
}

/// What all members' pools have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connector: Arc<Connector>,
    pub(crate) board: Arc<Board>,
    pub(crate) limits: PoolLimits,
    pub(crate) checkout_timeout: Duration,
    pub(crate) metrics: Metrics,
}

impl Pools {
    pub(crate) fn new(shared: Shared) -> Self {
        Self {
            members: Mutex::default(),
            shared: Arc::new(shared),
        }
    }

    /// The pool of the member at `address`.
    pub(crate) fn member(&self, address: &ServerAddress) -> Arc<MemberPool> {
        let mut members = self.lock();
        if let Some(member) = members.get(address) {
            return Arc::clone(member);
        }
        let member = Arc::new(MemberPool {
            address: address.clone(),
            pool: Pool::new(self.shared.limits),
            interrupt: Mutex::default(),
            shared: Arc::clone(&self.shared),
        });
        members.insert(address.clone(), Arc::clone(&member));
        member
    }

    /// The pool of the member at `address`, if one was made.
    pub(crate) fn existing(&self, address: &ServerAddress) -> Option<Arc<MemberPool>> {
        self.lock().get(address).cloned()
    }

    /// Makes the connections to these members stale, and ends the exchanges with those that fell silent,
    /// as the drivers do: a server that is stopped or cut off keeps its connections for ever.
    pub(crate) fn clear(&self, lost: LostMembers) {
        for (address, is_silent) in lost {
            let Some(member) = self.existing(&address) else {
                continue;
            };
            member.pool.clear(member.pool.generation());
            if is_silent {
                std::mem::take(&mut *member.interrupt()).cancel();
            }
        }
    }

    /// Closes the pools of members that are not among `present`, and whatever was idle for too long.
    pub(crate) fn sweep(&self, present: &[ServerAddress]) {
        let mut members = self.lock();
        let gone: Vec<Arc<MemberPool>> = members
            .extract_if(|address, _| !present.contains(address))
            .map(|(_, member)| member)
            .collect();
        let kept: Vec<Arc<MemberPool>> = members.values().cloned().collect();
        drop(members);
        let now = Instant::now();
        for member in kept {
            member.pool.reap(now);
        }
        for member in gone {
            member.pool.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerAddress, Arc<MemberPool>>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connections to one member.
#[derive(Debug)]
pub(crate) struct MemberPool {
    pub(crate) address: ServerAddress,
    pub(crate) pool: Pool<Connection>,
    /// The parent of the tokens of all connections made since the member last fell silent.
    interrupt: Mutex<CancellationToken>,
    pub(crate) shared: Arc<Shared>,
}

impl MemberPool {
    /// A connection. Awaits nothing when one is idle. `None` if the pool was cleared or closed while
    /// the command waited: another server may suit better now.
    pub(crate) async fn check_out(
        self: &Arc<Self>,
        start: Instant,
        deadline: Instant,
    ) -> Result<Option<Lease>, UpstreamError> {
        let grant = match self.pool.check_out(Instant::now()) {
            CheckOut::Granted(grant) => Some(grant),
            CheckOut::Wait(turn) => self.wait(turn, start, deadline).await?,
            CheckOut::Closed => None,
        };
        match grant {
            Some(Grant::Connection {
                mut connection,
                generation,
            }) => {
                connection.enter(ConnectionState::InUse);
                Ok(Some(Lease::new(Arc::clone(self), generation, connection)))
            }
            Some(Grant::Connect { generation }) => {
                self.connect(generation, start, deadline).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// A connection of this generation broke, or none could be made: the member's state is not what
    /// was known. What happened to a connection of an earlier generation is old news.
    pub(crate) fn suspect(&self, generation: u64) {
        if self.pool.generation() == generation {
            // First, so that those whom clearing sends away choose by the new view.
            self.shared.board.publish(News::Suspect {
                address: self.address.clone(),
            });
            self.pool.clear(generation);
        }
    }

    fn interrupt(&self) -> MutexGuard<'_, CancellationToken> {
        self.interrupt
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn wait(
        &self,
        mut turn: Turn<'_, Connection>,
        start: Instant,
        deadline: Instant,
    ) -> Result<Option<Grant<Connection>>, UpstreamError> {
        let queued = Instant::now();
        let until = deadline.min(queued + self.shared.checkout_timeout);
        timeout_at(until, turn.granted()).await.map_err(|_| {
            let counts = self.pool.counts();
            if until == deadline {
                return UpstreamError::Deadline {
                    waited: start.elapsed(),
                };
            }
            UpstreamError::PoolExhausted {
                server: self.address.clone(),
                in_use: counts.lent,
                connecting: counts.connecting,
                waiting: counts.waiting,
                waited: queued.elapsed(),
            }
        })
    }

    async fn connect(
        self: &Arc<Self>,
        generation: u64,
        start: Instant,
        deadline: Instant,
    ) -> Result<Lease, UpstreamError> {
        let mut opening = Opening {
            pool: &self.pool,
            is_open: false,
        };
        let connected = timeout_at(deadline, self.shared.connector.connect(&self.address)).await;
        let Ok(connected) = connected else {
            return Err(UpstreamError::Deadline {
                waited: start.elapsed(),
            });
        };
        let mut connection = connected.inspect_err(|error| {
            if error.is_passing() {
                self.suspect(generation);
            }
        })?;
        opening.is_open = true;
        connection.set_interrupt(self.interrupt().child_token());
        connection.count(self.shared.metrics.clone());
        Ok(Lease::new(Arc::clone(self), generation, connection))
    }
}

/// Leave to make a connection; whatever way it ends, the pool is told.
struct Opening<'p> {
    pool: &'p Pool<Connection>,
    is_open: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.pool.connected();
        } else {
            self.pool.connect_failed();
        }
    }
}
