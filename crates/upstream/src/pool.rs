//! The bookkeeping of one member's connections: pure but for its lock, and generic so that it can be
//! tested without sockets. The rules are those of the drivers' connection pooling specification (CMAP).
//!
//! Every connection is idle, lent, or being made; all three count against `connections_max`. The lock
//! is held for a moment only and never across an await; connections are closed after it is released.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mdb_telemetry::UpstreamCloseReason;
use tokio::{sync::oneshot, time::Instant};

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
    /// First come, first served. Not empty only while nothing is idle.
    waiters: VecDeque<oneshot::Sender<Grant<C>>>,
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
                waiters: VecDeque::new(),
            }),
        }
    }

    /// Takes the connection that was used last, or leave to make one, or a place in the queue.
    pub(crate) fn check_out(&self, now: Instant) -> CheckOut<'_, C> {
        loop {
            let mut state = self.lock();
            if state.is_closed {
                return CheckOut::Closed;
            }
            let generation = state.generation;
            let Some(Idle { connection, since }) = state.idle.pop() else {
                return self.check_out_new(state);
            };
            state.lent += 1;
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
            self.discard();
            connection.close(reason);
        }
    }

    /// Takes back a connection whose last exchange is complete. The first in the queue gets it.
    pub(crate) fn check_in(&self, connection: C, generation: u64, now: Instant) {
        let mut state = self.lock();
        let reason = if state.is_closed {
            UpstreamCloseReason::PoolClosed
        } else if generation != state.generation {
            UpstreamCloseReason::Stale
        } else {
            state.give_to_next(connection, now);
            return;
        };
        drop(state);
        self.discard();
        connection.close(reason);
    }

    /// A lent connection is gone.
    pub(crate) fn discard(&self) {
        let mut state = self.lock();
        state.lent -= 1;
        self.offer_places(&mut state);
    }

    /// The connection that was to be made is made, and lent.
    pub(crate) fn connected(&self) {
        let mut state = self.lock();
        state.connecting -= 1;
        state.lent += 1;
        self.offer_places(&mut state);
    }

    /// The connection that was to be made will not be.
    pub(crate) fn connect_failed(&self) {
        let mut state = self.lock();
        state.connecting -= 1;
        self.offer_places(&mut state);
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
        let waiting = state
            .waiters
            .iter()
            .filter(|waiter| !waiter.is_closed())
            .count();
        Counts {
            idle: count(state.idle.len()),
            lent: state.lent,
            connecting: state.connecting,
            waiting: count(waiting),
        }
    }

    fn check_out_new(&self, mut state: MutexGuard<'_, State<C>>) -> CheckOut<'_, C> {
        if self.has_place(&state) {
            state.connecting += 1;
            return CheckOut::Granted(Grant::Connect {
                generation: state.generation,
            });
        }
        let (sender, receiver) = oneshot::channel();
        state.waiters.push_back(sender);
        CheckOut::Wait(Turn {
            pool: self,
            receiver,
        })
    }

    fn has_place(&self, state: &State<C>) -> bool {
        let used = u32::try_from(state.idle.len())
            .unwrap_or(u32::MAX)
            .saturating_add(state.lent)
            .saturating_add(state.connecting);
        used < self.limits.connections_max && state.connecting < CONNECTING_MAX
    }

    /// Lets those who wait make connections, as far as there are places.
    fn offer_places(&self, state: &mut State<C>) {
        while !state.is_closed && self.has_place(state) {
            let Some(waiter) = state.waiters.pop_front() else {
                return;
            };
            let grant = Grant::Connect {
                generation: state.generation,
            };
            if waiter.send(grant).is_ok() {
                state.connecting += 1;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // The counts are changed in single steps, so that even a panic elsewhere leaves them right.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<C> State<C> {
    /// Hands a lent connection to the first that still waits, else makes it idle.
    fn give_to_next(&mut self, mut connection: C, now: Instant) {
        while let Some(waiter) = self.waiters.pop_front() {
            let grant = Grant::Connection {
                connection,
                generation: self.generation,
            };
            match waiter.send(grant) {
                Err(Grant::Connection {
                    connection: returned,
                    ..
                }) => connection = returned,
                Ok(()) | Err(Grant::Connect { .. }) => return,
            }
        }
        self.lent -= 1;
        self.idle.push(Idle {
            connection,
            since: now,
        });
    }
}

/// A place in the queue. Dropping it gives back whatever was granted but not taken.
#[derive(Debug)]
pub(crate) struct Turn<'p, C: Pooled> {
    pool: &'p Pool<C>,
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
            }) => self.pool.check_in(connection, generation, Instant::now()),
            Ok(Grant::Connect { .. }) => self.pool.connect_failed(),
            // Not granted, or taken: leave no dead places at the head of a queue that does not move.
            Err(_) => {
                let mut state = self.pool.lock();
                while state
                    .waiters
                    .front()
                    .is_some_and(oneshot::Sender::is_closed)
                {
                    state.waiters.pop_front();
                }
            }
        }
    }
}

fn drop_all<C: Pooled>(mut state: MutexGuard<'_, State<C>>, reason: UpstreamCloseReason) {
    let idle = std::mem::take(&mut state.idle);
    let waiters = std::mem::take(&mut state.waiters);
    drop(state);
    drop(waiters);
    for idle in idle {
        idle.connection.close(reason);
    }
}

/// Handshakes at one time with one member: a burst of commands must not become a storm of key
/// derivations there. The drivers' default `maxConnecting` is 2; a proxy stands for many drivers.
const CONNECTING_MAX: u32 = 4;

#[cfg(test)]
mod tests;
