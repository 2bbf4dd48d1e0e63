//! The sessions that an app has used lately: a mongod has so many for all apps together.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdb_scope::ServerAddress;
use tokio::time::Instant;

use crate::error::Limit;

/// The sessions of one app, by the ids that its clients know.
#[derive(Debug, Default)]
pub(crate) struct Sessions(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    used: HashMap<[u8; 16], Use>,
    looked_over_at: Option<Instant>,
}

/// The last use of a session.
#[derive(Debug, Clone)]
struct Use {
    at: Instant,
    /// By which client.
    client: u64,
    /// In front of mongoses: the number of its last transaction, and where that is.
    pin: Option<(i64, ServerAddress)>,
}

impl Sessions {
    /// A command of this session comes from a client. Fails when it is a new one and the app has `max` others.
    pub(crate) fn touch(
        &self,
        id: [u8; 16],
        client: u64,
        max: usize,
        now: Instant,
    ) -> Result<(), Limit> {
        let mut table = self.lock();
        if let Some(last) = table.used.get_mut(&id) {
            last.at = now;
            last.client = client;
            return Ok(());
        }
        if table.used.len() >= max {
            table.look_over(now);
        }
        if table.used.len() >= max {
            return Err(Limit::SessionsOfApp);
        }
        let at = now;
        let pin = None;
        table.used.insert(id, Use { at, client, pin });
        Ok(())
    }

    /// A transaction of the session is on this server.
    pub(crate) fn pin(&self, id: &[u8; 16], number: i64, server: &ServerAddress) {
        if let Some(last) = self.lock().used.get_mut(id) {
            last.pin = Some((number, server.clone()));
        }
    }

    /// Where a transaction of the session is, if it is its last and that is known.
    pub(crate) fn pinned(&self, id: &[u8; 16], number: i64) -> Option<ServerAddress> {
        let table = self.lock();
        let (last, server) = table.used.get(id)?.pin.as_ref()?;
        (*last == number).then(|| server.clone())
    }

    /// The client has no more use for it.
    pub(crate) fn end(&self, id: &[u8; 16]) {
        self.lock().used.remove(id);
    }

    /// Takes out those that this client was the last to use.
    pub(crate) fn take_of(&self, client: u64) -> Vec<[u8; 16]> {
        let mut table = self.lock();
        let own = table.used.extract_if(|_, last| last.client == client);
        own.map(|(id, _)| id).collect()
    }

    /// Takes those out of `ids` that somebody uses.
    pub(crate) fn retain_unused(&self, ids: &mut Vec<[u8; 16]>) {
        let table = self.lock();
        ids.retain(|id| !table.used.contains_key(id));
    }

    /// The table is whole between any two calls, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets those that the server has forgotten by now. Not again and again while an app is at its limit.
    fn look_over(&mut self, now: Instant) {
        let since = |then: Instant| now.saturating_duration_since(then);
        if self
            .looked_over_at
            .is_some_and(|then| since(then) < LOOK_INTERVAL)
        {
            return;
        }
        self.looked_over_at = Some(now);
        self.used.retain(|_, last| since(last.at) < IDLE_MAX);
    }
}

/// mongod's `localLogicalSessionTimeoutMinutes`.
const IDLE_MAX: Duration = Duration::from_secs(30 * 60);
/// Looking over 100,000 takes about a millisecond.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> [u8; 16] {
        [number; 16]
    }

    #[test]
    fn an_app_has_so_many_sessions_and_gets_room_by_ending_and_by_time() {
        let sessions = Sessions::default();
        let start = Instant::now();
        let touch = |number, now| sessions.touch(id(number), 7, 2, now);
        assert_eq!(touch(1, start), Ok(()));
        assert_eq!(touch(2, start), Ok(()));
        assert_eq!(touch(3, start), Err(Limit::SessionsOfApp));
        assert_eq!(touch(1, start), Ok(()), "it is there already");
        sessions.end(&id(2));
        assert_eq!(touch(3, start), Ok(()));
        let later = start + IDLE_MAX / 2;
        assert_eq!(touch(3, later), Ok(()));
        let after = start + IDLE_MAX;
        assert_eq!(touch(4, after - LOOK_INTERVAL), Err(Limit::SessionsOfApp));
        assert_eq!(touch(4, after), Ok(()), "1 is forgotten");
        assert_eq!(touch(1, after), Err(Limit::SessionsOfApp));
    }

    #[test]
    fn a_session_is_of_the_client_that_used_it_last() {
        let sessions = Sessions::default();
        let now = Instant::now();
        for (number, client) in [(1, 7), (2, 7), (3, 8), (2, 8), (3, 7)] {
            sessions.touch(id(number), client, 9, now).unwrap();
        }
        let mut taken = sessions.take_of(7);
        taken.sort_unstable();
        assert_eq!(taken, [id(1), id(3)]);
        assert_eq!(sessions.take_of(7).len(), 0);
        assert_eq!(sessions.take_of(8), [id(2)]);
        sessions.touch(id(3), 9, 9, now).unwrap();
        sessions.retain_unused(&mut taken);
        assert_eq!(taken, [id(1)]);
    }

    #[test]
    fn the_last_transaction_of_a_session_is_on_one_server() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let (one, other): (ServerAddress, ServerAddress) = ("a:1".into(), "b:1".into());
        sessions.pin(&id(1), 1, &one);
        assert_eq!(sessions.pinned(&id(1), 1), None, "nobody uses it");
        sessions.touch(id(1), 7, 9, now).unwrap();
        sessions.pin(&id(1), 1, &one);
        sessions.touch(id(1), 8, 9, now).unwrap();
        assert_eq!(sessions.pinned(&id(1), 1), Some(one));
        assert_eq!(sessions.pinned(&id(1), 2), None);
        assert_eq!(sessions.pinned(&id(2), 1), None);
        sessions.pin(&id(1), 2, &other);
        assert_eq!(sessions.pinned(&id(1), 1), None);
        assert_eq!(sessions.pinned(&id(1), 2), Some(other));
        sessions.end(&id(1));
        assert_eq!(sessions.pinned(&id(1), 2), None);
    }
}
