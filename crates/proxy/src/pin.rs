//! In front of several mongoses: a transaction stays on the one that it began on.
//!
//! A mongos keeps in memory which shards a transaction has touched; another one would answer 251. The end of a transaction may
//! go to another one if that mongos is gone: the `recoveryToken`, which the client got from the first and sends along, says
//! where the outcome can be found (transactions specification of the drivers).

use std::borrow::Cow;

use mdb_scope::{Retry, Routing, Scoped, ServerAddress};
use mdb_upstream::DeploymentKind;

use crate::forward::Journey;
use crate::supervision::session_of;

impl Journey<'_> {
    /// Where a command has to go.
    pub(crate) fn routing<'s>(&self, scoped: &'s Scoped) -> Cow<'s, Routing> {
        let own = scoped.routing();
        let pinned = match own {
            Routing::Primary | Routing::Preference(_) => self.pinned(),
            // A cursor knows by itself.
            Routing::Member(_) | Routing::Rather(_) => None,
        };
        match pinned {
            None => Cow::Borrowed(own),
            Some(server) if scoped.retry() == Retry::TransactionEnd => {
                Cow::Owned(Routing::Rather(server))
            }
            Some(server) => Cow::Owned(Routing::Member(server)),
        }
    }

    /// The command is sent to this server, and with it the transaction goes there, if it is in one.
    pub(crate) fn pin(&self, server: &ServerAddress) {
        if let Some((session, number)) = self.routed_transaction() {
            self.identity.app.sessions.pin(&session, number, server);
        }
    }

    fn pinned(&self) -> Option<ServerAddress> {
        let (session, number) = self.routed_transaction()?;
        let start = self.command.body.find("startTransaction");
        if start.and_then(|e| e.as_flag()) == Some(true) {
            return None;
        }
        self.identity.app.sessions.pinned(&session, number)
    }

    /// Session and number of the command's transaction. `None` in front of a replica set, where a transaction is on the
    /// primary, whoever that is.
    fn routed_transaction(&self) -> Option<([u8; 16], i64)> {
        let hello = self.hello.as_deref()?;
        if hello.kind != DeploymentKind::Sharded || !self.in_transaction() {
            return None;
        }
        let body = self.command.body;
        let number = body.find("txnNumber")?.as_integer()?;
        Some((session_of(body)?, number))
    }
}
