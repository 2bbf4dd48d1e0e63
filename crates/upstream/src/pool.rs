//! The bookkeeping of one member's connections: pure but for its lock, and generic so that it can be
//! tested without sockets. The rules are those of the drivers' connection pooling specification (CMAP).
//!
//! Every connection is idle, lent, or being made; all three count against `connections_max`. The lock
//! is held for a moment only and never across an await; connections are closed after it is released.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mdb_scope::AppId;
use mdb_telemetry::UpstreamCloseReason;
use tokio::{sync::oneshot, time::Instant};

use crate::queue::{Borrower, Held, Queue};

/// What the pool must know of the things it keeps.
pub(crate) trait Pooled {
    /// Whether the other side has neither closed it nor sent anything unasked.
    fn is_alive(&self) -> bool;
    /// Closes it.
    fn close(self, reason: UpstreamCloseReason);
}

/// The bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolLimits {
    pub(crate) connections_max: u32,
    /// Of them, for one app.
    pub(crate) per_app_max: u32,
    /// As many are kept ready, where that is possible.
    pub(crate) connections_min: u32,
    pub(crate) idle_timeout: Duration,
}

/// The connections of one member.
#[derive(Debug)]
pub(crate) struct Pool<C: Pooled> {
    limits: PoolLimits,
    state: Mutex<State<C>>,
}

#[derive(Debug)]
struct State<C> {
    generation: u64,
    is_closed: bool,
    /// All of the current generation; the one used last is last.
    idle: Vec<Idle<C>>,
    lent: u32,
    connecting: u32,
    /// Whoever waits there and may hold one more waits only while nothing is idle and none can be made.
    queue: Queue<Grant<C>>,
}

#[derive(Debug)]
struct Idle<C> {
    connection: C,
    since: Instant,
}

/// What a check-out brings.
#[derive(Debug)]
pub(crate) enum Grant<C> {
    /// A connection of this generation: end with [`Pool::check_in`] or [`Pool::discard`].
    Connection { connection: C, generation: u64 },
    /// Leave to make one: end with [`Pool::connected`] or [`Pool::connect_failed`].
    Connect { generation: u64 },
}

/// The answer to a check-out, at once.
#[derive(Debug)]
pub(crate) enum CheckOut<'p, C: Pooled> {
    Granted(Grant<C>),
    /// Everything is in use: wait.
    Wait(Turn<'p, C>),
    Closed,
}

/// How many connections are in which state, and how many wait for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) idle: u32,
    pub(crate) lent: u32,
    pub(crate) connecting: u32,
    pub(crate) waiting: u32,
}

impl<C: Pooled> Pool<C> {
    pub(crate) fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                generation: 0,
                is_closed: false,
                idle: Vec::new(),
                lent: 0,
                connecting: 0,
                queue: Queue::new(limits.per_app_max),
            }),
        }
    }

    /// Takes the connection that was used last, or leave to make one, or a place in the queue.
    pub(crate) fn check_out(&self, borrower: &Borrower, now: Instant) -> CheckOut<'_, C> {
        loop {
            let mut state = self.lock();
            if state.is_closed {
                return CheckOut::Closed;
            }
            if !state.queue.may_hold(&borrower.app) {
                return self.wait(state, borrower);
            }
            let generation = state.generation;
            let Some(Idle { connection, since }) = state.idle.pop() else {
                return self.check_out_new(state, borrower);
            };
            state.lent += 1;
            state.queue.take(borrower);
            drop(state);
            let reason = if now.saturating_duration_since(since) >= self.limits.idle_timeout {
                UpstreamCloseReason::Idle
            } else if connection.is_alive() {
                return CheckOut::Granted(Grant::Connection {
                    connection,
                    generation,
                });
            } else {
                UpstreamCloseReason::Error
            };
            self.discard(borrower);
            connection.close(reason);
        }
    }

    /// Takes back a connection whose last exchange is complete. The next in the queue gets it.
    pub(crate) fn check_in(
        &self,
        connection: C,
        generation: u64,
        borrower: &Borrower,
        now: Instant,
    ) {
        let mut state = self.lock();
        let reason = if state.is_closed {
            UpstreamCloseReason::PoolClosed
        } else if generation != state.generation {
            UpstreamCloseReason::Stale
        } else {
            state.lent -= 1;
            state.queue.give_back(borrower);
            state.idle.push(Idle {
                connection,
                since: now,
            });
            self.serve(&mut state);
            return;
        };
        drop(state);
        self.discard(borrower);
        connection.close(reason);
    }

    /// A lent connection is gone.
    pub(crate) fn discard(&self, borrower: &Borrower) {
        let mut state = self.lock();
        state.lent -= 1;
        state.queue.give_back(borrower);
        self.serve(&mut state);
    }

    /// A lent connection of this generation is gone since its command was given up. Gives leave to make another in its place,
    /// for nobody yet, where the next command might have to wait for one: end with [`Pool::warmed`].
    pub(crate) fn give_up(&self, borrower: &Borrower, generation: u64) -> bool {
        self.discard(borrower);
        let mut state = self.lock();
        let is_current = generation == state.generation && !state.is_closed;
        let is_scarce = state.idle.len() < REPLACED_BELOW_IDLE;
        if !is_current || !is_scarce || !self.has_place(&state) {
            return false;
        }
        state.connecting += 1;
        true
    }

    /// The connection that was to be made is made, and lent.
    pub(crate) fn connected(&self) {
        let mut state = self.lock();
        state.connecting -= 1;
        state.lent += 1;
        self.serve(&mut state);
    }

    /// The connection that was to be made will not be.
    pub(crate) fn connect_failed(&self, borrower: &Borrower) {
        let mut state = self.lock();
        state.connecting -= 1;
        state.queue.give_back(borrower);
        self.serve(&mut state);
    }

    /// Leave to make a connection for nobody yet, while there are fewer than should be ready: end with [`Pool::warmed`].
    /// Gives its generation.
    pub(crate) fn warm(&self) -> Option<u64> {
        let mut state = self.lock();
        let is_cold = state.total() < self.limits.connections_min;
        if state.is_closed || !is_cold || !self.has_place(&state) {
            return None;
        }
        state.connecting += 1;
        Some(state.generation)
    }

    /// The connection that was to be ready is, or could not be made.
    pub(crate) fn warmed(&self, connection: Option<C>, generation: u64, now: Instant) {
        let mut state = self.lock();
        state.connecting -= 1;
        let is_current = generation == state.generation && !state.is_closed;
        let unwanted = match connection {
            Some(connection) if is_current => {
                state.idle.push(Idle {
                    connection,
                    since: now,
                });
                None
            }
            other => other,
        };
        self.serve(&mut state);
        drop(state);
        if let Some(connection) = unwanted {
            connection.close(UpstreamCloseReason::Stale);
        }
    }

    /// Makes all present connections stale, and sends those who wait to choose a server anew. Does
    /// nothing if `generation` is past already: what was met on it is old news.
    pub(crate) fn clear(&self, generation: u64) {
        let mut state = self.lock();
        if generation == state.generation {
            state.generation += 1;
            drop_all(state, UpstreamCloseReason::Stale);
        }
    }

    /// Closes what is idle, refuses every check-out from now on, and closes what is lent when it
    /// comes back.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.is_closed = true;
        drop_all(state, UpstreamCloseReason::PoolClosed);
    }

    /// Closes what was idle for too long.
    pub(crate) fn reap(&self, now: Instant) {
        let mut state = self.lock();
        let is_fresh =
            |idle: &Idle<C>| now.saturating_duration_since(idle.since) < self.limits.idle_timeout;
        // Those that were used last are last, so the old ones are in front.
        let fresh_from = state
            .idle
            .iter()
            .position(is_fresh)
            .unwrap_or(state.idle.len());
        let old: Vec<Idle<C>> = state.idle.drain(..fresh_from).collect();
        drop(state);
        for idle in old {
            idle.connection.close(UpstreamCloseReason::Idle);
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.lock().generation
    }

    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        let count = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        Counts {
            idle: count(state.idle.len()),
            lent: state.lent,
            connecting: state.connecting,
            waiting: count(state.queue.waiting()),
        }
    }

    /// What is held of the pool, by all and by one app, those that are being made included; and how many that app may hold.
    pub(crate) fn held(&self, app: &AppId) -> (Held, Held, u32) {
        let state = self.lock();
        let queue = &state.queue;
        (queue.held(), queue.held_by(app), queue.per_app_max())
    }

    fn check_out_new<'p>(
        &'p self,
        mut state: MutexGuard<'_, State<C>>,
        borrower: &Borrower,
    ) -> CheckOut<'p, C> {
        if !self.has_place(&state) {
            return self.wait(state, borrower);
        }
        state.connecting += 1;
        state.queue.take(borrower);
        CheckOut::Granted(Grant::Connect {
            generation: state.generation,
        })
    }

    fn wait<'p>(
        &'p self,
        mut state: MutexGuard<'_, State<C>>,
        borrower: &Borrower,
    ) -> CheckOut<'p, C> {
        let (sender, receiver) = oneshot::channel();
        state.queue.wait(borrower, sender);
        CheckOut::Wait(Turn {
            pool: self,
            borrower: borrower.clone(),
            receiver,
        })
    }

    fn has_place(&self, state: &State<C>) -> bool {
        state.total() < self.limits.connections_max && state.connecting < CONNECTING_MAX
    }

    /// Gives what is free to those who wait: idle connections, then leave to make others.
    fn serve(&self, state: &mut State<C>) {
        while !state.is_closed && (!state.idle.is_empty() || self.has_place(state)) {
            let Some((borrower, waiter)) = state.queue.next() else {
                return;
            };
            let generation = state.generation;
            let Some(Idle { connection, since }) = state.idle.pop() else {
                match waiter.send(Grant::Connect { generation }) {
                    Ok(()) => state.connecting += 1,
                    Err(_) => state.queue.give_back(&borrower),
                }
                continue;
            };
            let grant = Grant::Connection {
                connection,
                generation,
            };
            match waiter.send(grant) {
                Err(Grant::Connection { connection, .. }) => {
                    state.queue.give_back(&borrower);
                    state.idle.push(Idle { connection, since });
                }
                Ok(()) | Err(Grant::Connect { .. }) => state.lent += 1,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // The counts are changed in single steps, so that even a panic elsewhere leaves them right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> State<C> {
    /// Idle, lent and being made.
    fn total(&self) -> u32 {
        u32::try_from(self.idle.len())
            .unwrap_or(u32::MAX)
            .saturating_add(self.lent)
            .saturating_add(self.connecting)
    }
}

/// A place in the queue. Dropping it gives back whatever was granted but not taken.
#[derive(Debug)]
pub(crate) struct Turn<'p, C: Pooled> {
    pool: &'p Pool<C>,
    borrower: Borrower,
    receiver: oneshot::Receiver<Grant<C>>,
}

impl<C: Pooled> Turn<'_, C> {
    /// Waits; `None` if the pool was cleared or closed meanwhile.
    pub(crate) async fn granted(&mut self) -> Option<Grant<C>> {
        (&mut self.receiver).await.ok()
    }
}

impl<C: Pooled> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        self.receiver.close();
        match self.receiver.try_recv() {
            Ok(Grant::Connection {
                connection,
                generation,
            }) => {
                let now = Instant::now();
                self.pool
                    .check_in(connection, generation, &self.borrower, now);
            }
            Ok(Grant::Connect { .. }) => self.pool.connect_failed(&self.borrower),
            // Not granted, or taken: leave no dead places at the head of a queue that does not move.
            Err(_) => self.pool.lock().queue.forget_closed(&self.borrower.app),
        }
    }
}

fn drop_all<C: Pooled>(mut state: MutexGuard<'_, State<C>>, reason: UpstreamCloseReason) {
    let idle = std::mem::take(&mut state.idle);
    let waiters = state.queue.take_waiters();
    drop(state);
    drop(waiters);
    for idle in idle {
        idle.connection.close(reason);
    }
}

/// Handshakes at one time with one member: a burst of commands must not become a storm of key
/// derivations there. The drivers' default `maxConnecting` is 2; a proxy stands for many drivers.
const CONNECTING_MAX: u32 = 4;

/// With so many idle connections none is made for one that was given up: a storm of commands that are given up must not become
/// one of handshakes.
const REPLACED_BELOW_IDLE: usize = 4;

#[cfg(test)]
mod tests;
