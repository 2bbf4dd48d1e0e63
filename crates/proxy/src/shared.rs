//! What all clients share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use mdb_auth::Credentials;
use mdb_telemetry::Metrics;
use mdb_upstream::Upstream;
use tokio::time::Instant;

use crate::announcement::{HelloState, Presentation};
use crate::clients::Clients;
use crate::cursors::Cursors;
use crate::errands::Surplus;
use crate::failures::Failures;
use crate::forward::Forward;
use crate::identity::Identity;
use crate::local::now_millis;
use crate::observer::Observer;
use crate::operations::Operations;
use crate::slots::{AddressSlots, Slots};
use crate::sparing::Complaints;
use crate::users::UsersInForce;

/// Limits of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections of all apps, monitors and strangers together.
    pub connections_max: usize,
    /// Authenticated connections of one app.
    pub connections_per_app_max: usize,
    /// Connections from one address.
    pub connections_per_address_max: usize,
    /// Connections that have not logged in, monitors among them.
    pub connections_unauthenticated_max: usize,
    /// Commands of one app that are on their way upstream at the same time.
    pub commands_per_app_max: usize,
    /// Open cursors of one app.
    pub cursors_per_app_max: usize,
    /// Bytes of replies of one app that its clients have not read; below 4 GiB.
    pub unread_bytes_per_app_max: usize,
    /// How long a client of an app at that limit may take nothing of its reply.
    pub unread_timeout: Duration,
    /// Sessions that one app has used lately.
    pub sessions_per_app_max: usize,
    /// Failed log-ins from one address in a minute.
    pub failed_logins_per_address_max: usize,
    /// How long after the last connection of a client what it left open is ended.
    pub abandoned_after: Duration,
    /// How long a connection that has logged in may be idle; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may say nothing at all, and how long an authentication may take.
    pub handshake_timeout: Duration,
}

/// What all clients share: made once, passed to [`crate::serve`].
pub struct Shared {
    /// The deployment.
    pub upstream: Upstream,
    /// The users of all apps.
    pub(crate) users: UsersInForce,
    /// Open cursors of all apps.
    pub cursors: Cursors,
    /// Limits of clients.
    pub limits: ClientLimits,
    /// The counters.
    pub metrics: Metrics,
    /// What hello says.
    pub hello: HelloState,
    /// The way upstream.
    pub forward: Forward,
    /// Open connections of all listeners.
    pub(crate) connections: Arc<Slots>,
    /// The same by the client's address.
    pub(crate) addresses: Arc<AddressSlots>,
    /// Those of them that have not logged in.
    pub(crate) unauthenticated: Arc<Slots>,
    /// Who has a connection.
    pub(crate) clients: Arc<Clients>,
    /// What is logged of connections that go wrong.
    pub(crate) complaints: Complaints,
    /// Log-ins that have failed lately.
    pub(crate) failures: Failures,
    /// What is done for apps beyond one thing at a time for each.
    pub(crate) surplus: Surplus,
    /// Commands that are on their way upstream.
    pub(crate) running: Arc<Slots>,
    /// Connections whose last command left a transaction open.
    pub(crate) transactions: Arc<Slots>,
    /// What the clients of each app are doing.
    pub(crate) operations: Arc<Operations>,
    /// Where commands are told to whoever works on indexes; `None` when nobody does.
    pub(crate) observer: Option<Observer>,
    pub(crate) started_at: Instant,
    /// The same by the wall clock, in milliseconds since 1970.
    pub(crate) started_millis: i64,
    connections_made: AtomicU32,
}

impl Shared {
    /// Before the first client. `unreached` is how the proxy presents itself until the upstream is reached.
    pub fn new(
        upstream: Upstream,
        credentials: Credentials<Arc<Identity>>,
        forward: Forward,
        limits: ClientLimits,
        metrics: Metrics,
        unreached: Presentation,
    ) -> Self {
        Self {
            upstream,
            users: UsersInForce::new(credentials),
            cursors: Cursors::default(),
            limits,
            metrics,
            hello: HelloState::new(unreached),
            forward,
            connections: Arc::default(),
            addresses: Arc::default(),
            unauthenticated: Arc::default(),
            clients: Arc::default(),
            complaints: Complaints::default(),
            failures: Failures::default(),
            surplus: Surplus::default(),
            running: Arc::default(),
            transactions: Arc::default(),
            operations: Arc::default(),
            observer: None,
            started_at: Instant::now(),
            started_millis: now_millis(),
            connections_made: AtomicU32::new(0),
        }
    }

    /// The same with somebody to tell of commands.
    #[must_use]
    pub fn with_observer(self, observer: Observer) -> Self {
        let observer = Some(observer);
        Self { observer, ..self }
    }

    /// Puts other users in force. Connections of users whose [`crate::Validity`] is not among the new ones are told so with
    /// their next command, and closed; the others go on as what their user is now. Gives the number of users whose
    /// credential has ended.
    pub fn replace_users(&self, credentials: Credentials<Arc<Identity>>) -> usize {
        self.users.replace(credentials)
    }

    /// What `look` makes of the users in force.
    pub fn with_users<T>(&self, look: impl FnOnce(&Credentials<Arc<Identity>>) -> T) -> T {
        look(&self.users.now().credentials)
    }

    /// Whether nobody would miss the proxy: no command runs, no transaction and no cursor is open.
    pub(crate) fn is_quiet(&self) -> bool {
        self.running.taken() == 0 && self.transactions.taken() == 0 && self.cursors.is_empty()
    }

    /// A number for a new connection: positive, unique until two thousand million others were made.
    pub(crate) fn next_connection_id(&self) -> i32 {
        let made = self.connections_made.fetch_add(1, Ordering::Relaxed);
        i32::try_from(made & 0x7FFF_FFFF)
            .unwrap_or_default()
            .wrapping_add(1)
            .max(1)
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
