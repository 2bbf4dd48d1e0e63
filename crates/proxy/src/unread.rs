//! Replies that clients have not read yet: how many bytes of them an app may have, and who goes when they are too many.
//!
//! A large reply is counted before it is read from the upstream, so that what no client takes stays in the sockets. Where
//! there is no room, it waits; whoever has taken nothing of its own reply for too long loses its connection, the longest
//! silent first. A client that reads is left alone, if slowly; the
//! sockets on both sides hide what it takes in steps that may be a megabyte.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use mdb_telemetry::{LimitName, Metrics};
use mdb_upstream::Admission;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::shared::ClientLimits;

/// The replies of one app.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    /// A permit for each byte; made when the limit is first told.
    bytes: OnceLock<Arc<Semaphore>>,
    /// Replies that a client did not take at once, by the number of its connection.
    waiting: Mutex<HashMap<i32, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    /// What comes free when it goes.
    bytes: usize,
    /// When the client has last taken some.
    taken_at: Instant,
    end: CancellationToken,
}

impl Unread {
    fn semaphore(&self, bytes_max: usize) -> Arc<Semaphore> {
        let made = || Arc::new(Semaphore::new(bytes_max.min(Semaphore::MAX_PERMITS)));
        Arc::clone(self.bytes.get_or_init(made))
    }

    /// Ends connections whose clients have taken nothing for `timeout`, the longest silent first, until `bytes` come free or
    /// there are no more; gives how many connections and bytes they were.
    fn end_silent(&self, bytes: usize, timeout: Duration) -> (usize, usize) {
        let now = Instant::now();
        let mut waiting = lock(&self.waiting);
        let mut silent: Vec<(Instant, i32)> = waiting
            .iter()
            .filter(|(_, reply)| now.duration_since(reply.taken_at) >= timeout)
            .map(|(id, reply)| (reply.taken_at, *id))
            .collect();
        silent.sort_unstable();
        let (mut ended, mut freed) = (0, 0);
        for (_, id) in silent {
            if freed >= bytes {
                break;
            }
            if let Some(reply) = waiting.remove(&id) {
                reply.end.cancel();
                ended += 1;
                freed += reply.bytes;
            }
        }
        (ended, freed)
    }

    /// When the next client will have been silent for `timeout`, if none takes more.
    fn next_silent(&self, timeout: Duration) -> Option<Instant> {
        let waiting = lock(&self.waiting);
        waiting.values().map(|reply| reply.taken_at + timeout).min()
    }
}

/// The room of one connection's reply. It has one reply at a time.
#[derive(Debug)]
pub(crate) struct Room {
    home: Arc<Unread>,
    connection: i32,
    bytes_max: usize,
    timeout: Duration,
    metrics: Metrics,
    held: Mutex<Option<OwnedSemaphorePermit>>,
    refusal: Notify,
}

impl Room {
    pub(crate) fn new(
        home: &Arc<Unread>,
        connection: i32,
        limits: &ClientLimits,
        metrics: &Metrics,
    ) -> Self {
        Self {
            home: Arc::clone(home),
            connection,
            bytes_max: limits.unread_bytes_per_app_max,
            timeout: limits.unread_timeout,
            metrics: metrics.clone(),
            held: Mutex::default(),
            refusal: Notify::new(),
        }
    }

    /// Ends when a reply was refused room: its [`Admission::admit`] then never ends.
    pub(crate) async fn refused(&self) {
        self.refusal.notified().await;
    }

    /// The reply is written, or gone.
    pub(crate) fn release(&self) {
        lock(&self.held).take();
    }

    /// The client has not taken the whole reply at once. A reply that was too small to be admitted is counted if there is
    /// room for it, and makes silent ones go if there is none.
    pub(crate) fn wait(&self, bytes: usize) -> Wait<'_> {
        let mut held = lock(&self.held);
        if held.is_none() {
            let semaphore = self.home.semaphore(self.bytes_max);
            *held = semaphore.try_acquire_many_owned(self.permits(bytes)).ok();
            if held.is_none() {
                self.end_silent(bytes);
            }
        }
        let counted = held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        drop(held);
        let end = CancellationToken::new();
        let waiting = Waiting {
            bytes: counted,
            taken_at: Instant::now(),
            end: end.clone(),
        };
        lock(&self.home.waiting).insert(self.connection, waiting);
        Wait { room: self, end }
    }

    /// One that is larger than all may be together has all room for itself.
    fn permits(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.min(self.bytes_max)).unwrap_or(u32::MAX)
    }

    fn end_silent(&self, bytes: usize) -> usize {
        let (ended, freed) = self.home.end_silent(bytes, self.timeout);
        for _ in 0..ended {
            self.metrics.limit_reached(LimitName::UnreadBytesPerApp);
        }
        freed
    }

    /// Makes silent clients go until `bytes` have come free. Ends after twice the time that a client may be silent: those who
    /// are left then read, if slowly.
    async fn make_room(&self, bytes: usize) {
        let end = Instant::now() + self.timeout * 2;
        let mut freed = 0;
        while freed < bytes {
            freed += self.end_silent(bytes - freed);
            let next = self.home.next_silent(self.timeout);
            // Who is silent from now on will have been so by then.
            let next = next.unwrap_or_else(|| Instant::now() + self.timeout);
            if next >= end {
                break;
            }
            sleep_until(next).await;
        }
        sleep_until(end).await;
    }

    async fn take(&self, bytes: usize) {
        self.release();
        let semaphore = self.home.semaphore(self.bytes_max);
        let permits = semaphore.acquire_many_owned(self.permits(bytes));
        let permit = tokio::select! {
            biased;
            permit = permits => permit.ok(),
            () = self.make_room(bytes) => None,
        };
        if permit.is_none() {
            self.refusal.notify_one();
            pending::<()>().await;
        }
        *lock(&self.held) = permit;
    }
}

impl Admission for Room {
    fn admit<'a>(&'a self, bytes: usize) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(self.take(bytes))
    }
}

/// A reply that waits for its client to take it.
#[derive(Debug)]
pub(crate) struct Wait<'a> {
    room: &'a Room,
    end: CancellationToken,
}

impl Wait<'_> {
    /// The client has taken some.
    pub(crate) fn goes_on(&self) {
        if let Some(reply) = lock(&self.room.home.waiting).get_mut(&self.room.connection) {
            reply.taken_at = Instant::now();
        }
    }

    /// Ends when the connection is to make room.
    pub(crate) async fn ended(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        lock(&self.room.home.waiting).remove(&self.room.connection);
    }
}

/// A value is whole between any two calls, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
