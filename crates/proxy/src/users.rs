//! The users in force, swapped whole while connections use them.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use mdb_auth::Credentials;

use crate::identity::Identity;

/// The users that one reading of the manifests gave.
pub(crate) struct Users {
    pub(crate) credentials: Credentials<Arc<Identity>>,
    /// Another one for each reading, so that a connection knows whether there is news for it.
    pub(crate) reading: u64,
}

/// The users in force.
pub(crate) struct UsersInForce(ArcSwap<Users>);

impl UsersInForce {
    pub(crate) fn new(credentials: Credentials<Arc<Identity>>) -> Self {
        let reading = 1;
        Self(ArcSwap::from_pointee(Users {
            credentials,
            reading,
        }))
    }

    pub(crate) fn now(&self) -> Guard<Arc<Users>> {
        self.0.load()
    }

    /// Puts other users in force; gives the number of those whose credential has ended by it.
    pub(crate) fn replace(&self, credentials: Credentials<Arc<Identity>>) -> usize {
        let reading = self.now().reading.wrapping_add(1);
        let new = Arc::new(Users {
            credentials,
            reading,
        });
        let old = self.0.swap(Arc::clone(&new));
        let mut ended = 0;
        for identity in old.credentials.identities() {
            let now = new.credentials.identity(&identity.username);
            if !now.is_some_and(|now| now.validity.is_same(&identity.validity)) {
                identity.validity.end();
                ended += 1;
            }
        }
        ended
    }
}
