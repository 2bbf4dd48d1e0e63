//! The pool of each member, with what is needed to fill it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mdb_scope::ServerAddress;
use mdb_telemetry::{ConnectionState, Metrics, UpstreamCloseReason, WaitsFor};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    conn::Connection,
    error::{Exhaustion, UpstreamError},
    handshake::Connector,
    lease::Lease,
    pool::{CheckOut, Grant, Pool, PoolLimits, Pooled as _, Turn},
    queue::Borrower,
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

    pub(crate) fn checkout_timeout(&self) -> Duration {
        self.shared.checkout_timeout
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

    /// Makes the connections that should be ready, in the background, if the member serves.
    pub(crate) fn warm(&self, address: &ServerAddress) {
        let member = self.member(address);
        if member.serves() && self.shared.limits.connections_min > 0 {
            tokio::spawn(member.warm());
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
        borrower: &Borrower,
        start: Instant,
        deadline: Instant,
    ) -> Result<Option<Lease>, UpstreamError> {
        loop {
            let grant = match self.pool.check_out(borrower, Instant::now()) {
                CheckOut::Granted(grant) => Some(grant),
                CheckOut::Wait(turn) => self.wait(turn, borrower, start, deadline).await?,
                CheckOut::Closed => None,
            };
            match grant {
                Some(Grant::Connection {
                    mut connection,
                    generation,
                }) => {
                    // One that was waited for may have been idle, out of the app's reach, while its server went.
                    if !connection.is_alive() {
                        self.pool.discard(borrower);
                        connection.close(UpstreamCloseReason::Error);
                        continue;
                    }
                    connection.enter(ConnectionState::InUse);
                    let home = Arc::clone(self);
                    let lease = Lease::new(home, generation, borrower.clone(), connection);
                    return Ok(Some(lease));
                }
                Some(Grant::Connect { generation }) => {
                    let lease = self.connect(borrower, generation, start, deadline);
                    return lease.await.map(Some);
                }
                None => return Ok(None),
            }
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
        borrower: &Borrower,
        start: Instant,
        deadline: Instant,
    ) -> Result<Option<Grant<Connection>>, UpstreamError> {
        let queued = Instant::now();
        let until = deadline.min(queued + self.shared.checkout_timeout);
        let _waits = self.shared.metrics.waits(WaitsFor::Connection);
        timeout_at(until, turn.granted()).await.map_err(|_| {
            if until == deadline {
                return UpstreamError::Deadline {
                    waited: start.elapsed(),
                };
            }
            let counts = self.pool.counts();
            let (held, held_by_app, per_app_max) = self.pool.held(&borrower.app);
            UpstreamError::PoolExhausted(Box::new(Exhaustion {
                server: self.address.clone(),
                held,
                connecting: counts.connecting,
                waiting: counts.waiting,
                app: borrower.app.clone(),
                held_by_app,
                per_app_max,
                waited: queued.elapsed(),
            }))
        })
    }

    async fn connect(
        self: &Arc<Self>,
        borrower: &Borrower,
        generation: u64,
        start: Instant,
        deadline: Instant,
    ) -> Result<Lease, UpstreamError> {
        let mut opening = Opening {
            member: self,
            borrower,
            is_open: false,
        };
        let _connecting = self.shared.metrics.connecting();
        let connected = timeout_at(deadline, self.open(generation)).await;
        let Ok(connected) = connected else {
            return Err(UpstreamError::Deadline {
                waited: start.elapsed(),
            });
        };
        let connection = connected?;
        opening.is_open = true;
        let home = Arc::clone(self);
        Ok(Lease::new(home, generation, borrower.clone(), connection))
    }

    /// Makes a connection, which counts as in use.
    async fn open(&self, generation: u64) -> Result<Connection, UpstreamError> {
        let connected = self.shared.connector.connect(&self.address).await;
        let mut connection = connected.inspect_err(|error| {
            if error.is_passing() {
                self.suspect(generation);
            }
        })?;
        connection.set_interrupt(self.interrupt().child_token());
        connection.count(self.shared.metrics.clone());
        Ok(connection)
    }

    /// Makes connections until as many are there as should be ready, or one cannot be made.
    async fn warm(self: Arc<Self>) {
        while let Some(generation) = self.pool.warm() {
            if !Warming::new(&self, generation).make().await {
                return;
            }
        }
    }

    /// A connection was given up in the middle of a command. Another one is made in its place, in the background, if the member
    /// serves: else the next command would wait for it.
    pub(crate) fn give_up(self: &Arc<Self>, borrower: &Borrower, generation: u64) {
        if !self.pool.give_up(borrower, generation) {
            return;
        }
        let warming = Warming::new(self, generation);
        // There is none when the proxy ends.
        if let Ok(runtime) = Handle::try_current()
            && self.serves()
        {
            runtime.spawn(warming.make());
        }
    }

    fn serves(&self) -> bool {
        let topology = self.shared.board.topology();
        let member = topology.member(&self.address);
        member.is_some_and(|member| member.kind.bears_data())
    }
}

/// Leave to make a connection; whatever way it ends, the pool is told.
struct Opening<'p> {
    member: &'p MemberPool,
    borrower: &'p Borrower,
    is_open: bool,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.member.pool.connected();
        } else {
            self.member.pool.connect_failed(self.borrower);
        }
    }
}

/// The same for a connection that is for nobody yet.
struct Warming {
    member: Arc<MemberPool>,
    generation: u64,
    connection: Option<Connection>,
}

impl Warming {
    fn new(member: &Arc<MemberPool>, generation: u64) -> Self {
        Self {
            member: Arc::clone(member),
            generation,
            connection: None,
        }
    }

    /// Whether it was made. Why it was not is told by the look at the member that follows.
    async fn make(mut self) -> bool {
        let _connecting = self.member.shared.metrics.connecting();
        let Ok(mut connection) = self.member.open(self.generation).await else {
            return false;
        };
        connection.enter(ConnectionState::Idle);
        self.connection = Some(connection);
        true
    }
}

impl Drop for Warming {
    fn drop(&mut self) {
        let connection = self.connection.take();
        let pool = &self.member.pool;
        pool.warmed(connection, self.generation, Instant::now());
    }
}
