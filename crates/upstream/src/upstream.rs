//! The face of this crate: the deployment, and how to borrow a connection to it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mdb_auth::Secret;
use mdb_scope::{Routing, ServerAddress};
use mdb_telemetry::{CheckoutFailure, Metrics};
use mdb_wire::Compressors;
use mongodb::{Client, event::EventHandler, options::DriverInfo};
use tokio::{
    sync::watch,
    time::{Instant, timeout, timeout_at},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    error::UpstreamError,
    handshake::Connector,
    hello::ServerHello,
    lease::Lease,
    member::{Pools, Shared},
    pool::PoolLimits,
    probe::Prober,
    queue::Borrower,
    records::Records,
    select,
    topology::{MemberKind, Topology, TopologyKind},
    uri,
    view::News,
    watch::{Board, StateChange, news_of, state_change},
};

/// How to reach the deployment, and within what bounds.
#[derive(Debug, Clone)]
pub struct UpstreamOptions {
    /// `mongodb://` or `mongodb+srv://`, with the proxy's own credentials. Its `maxPoolSize`,
    /// `maxConnecting`, `maxIdleTimeMS` and `waitQueueTimeoutMS` do not count; the fields below do.
    pub uri: Secret,
    /// Connections to one member, whatever they do. At least 1.
    pub connections_max: u32,
    /// Of them, how many one app may hold at a time. At least 1.
    pub connections_per_app_max: u32,
    /// Connections to each member that serves, kept ready.
    pub connections_min: u32,
    /// How long a command waits for a server that suits it.
    pub election_wait: Duration,
    /// How many commands wait for a server at the same time.
    pub waiting_max: usize,
    /// How long a command waits for a connection to come free.
    pub checkout_timeout: Duration,
    /// How long a connection may be idle before it is closed.
    pub idle_timeout: Duration,
    /// How messages to and from members are compressed: the first of these that a member takes as well. None by default:
    /// what is saved on a fast network is less than what compressing costs.
    pub compressors: Compressors,
    /// What the proxy calls itself in the servers' logs.
    pub proxy_name: String,
    /// Its version.
    pub proxy_version: String,
}

impl UpstreamOptions {
    /// The defaults: 100 connections as in the drivers, three quarters of them for one app, 5 seconds for one to come free,
    /// 5 minutes idle; 20 seconds for a server, as mongos waits, for 5000 commands.
    pub fn new(uri: Secret) -> Self {
        Self {
            uri,
            connections_max: 100,
            connections_per_app_max: 75,
            connections_min: 0,
            election_wait: Duration::from_secs(20),
            waiting_max: 5_000,
            checkout_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(300),
            compressors: Compressors::default(),
            proxy_name: env!("CARGO_PKG_NAME").to_owned(),
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// The deployment. Clones share everything.
#[derive(Clone)]
pub struct Upstream {
    core: Arc<Core>,
    control: Client,
}

impl Upstream {
    /// Reads the connection string and begins to watch the deployment. Does not wait for any server.
    ///
    /// Fails on a connection string that cannot be used.
    pub async fn start(options: UpstreamOptions, metrics: Metrics) -> Result<Self, UpstreamError> {
        let (mut driver, connector) = uri::read(&options).await?;
        let mut core = Core::start(&options, connector, metrics.clone());
        let topology = core.board.watch_topology();
        if let Some(records) = Records::of(&options.uri, topology, metrics) {
            tokio::spawn(records.run(core.stop.clone()));
        }
        if let Some(window) = driver.local_threshold {
            core.latency_window = window;
        }
        let board = Arc::clone(&core.board);
        driver.sdam_event_handler = Some(EventHandler::callback(move |event| {
            if let Some(news) = news_of(event) {
                board.publish(news);
            }
        }));
        driver.max_pool_size = Some(CONTROL_CONNECTIONS_MAX);
        driver.min_pool_size = None;
        driver.app_name = Some(options.proxy_name);
        driver.driver_info = Some(
            DriverInfo::builder()
                .name("mdb-runtime")
                .version(options.proxy_version)
                .build(),
        );
        let control = Client::with_options(driver).map_err(|error| UpstreamError::Uri {
            reason: error.kind.to_string(),
        })?;
        Ok(Self {
            core: Arc::new(core),
            control,
        })
    }

    /// The known members, now and from now on.
    pub fn topology(&self) -> watch::Receiver<Arc<Topology>> {
        self.core.board.watch_topology()
    }

    /// What the proxy may promise to clients. `None` until a first server was reached; stays known while
    /// the deployment is down.
    pub fn hello(&self) -> watch::Receiver<Option<Arc<ServerHello>>> {
        self.core.board.watch_hello()
    }

    /// Lends a connection to a server that suits `routing`.
    ///
    /// Waits for such a server until `deadline`, at most [`UpstreamOptions::election_wait`] (5 seconds for
    /// [`Routing::Member`]), and then for a free connection until `deadline`, at most the checkout timeout. Awaits
    /// nothing when a server is known and one of its connections is idle.
    ///
    /// Fails with [`UpstreamError::NoServer`], [`UpstreamError::Deadline`],
    /// [`UpstreamError::TooManyWaiting`], [`UpstreamError::PoolExhausted`], [`UpstreamError::Tls`], [`UpstreamError::Authentication`] or
    /// [`UpstreamError::ShutDown`].
    pub async fn lend(
        &self,
        routing: &Routing,
        borrower: &Borrower,
        deadline: Instant,
    ) -> Result<Lease, UpstreamError> {
        self.core.lend(routing, borrower, deadline).await
    }

    /// How long a command waits for a server and a connection together, at most.
    pub fn wait_max(&self) -> Duration {
        self.core.election_wait + self.core.pools.checkout_timeout()
    }

    /// Tells that a reply from `server`, over a connection of this `generation`, carried this error code.
    /// Codes that say nothing of the server's state are ignored.
    pub fn report(&self, server: &ServerAddress, generation: u64, code: i32) {
        self.core.report(server, generation, code);
    }

    /// The official driver, on the same deployment, with a small pool of its own: for control collections
    /// and background work, never for clients' commands.
    pub fn control(&self) -> &Client {
        &self.control
    }

    /// Whether the connection string carries credentials.
    pub fn has_authentication(&self) -> bool {
        self.core.has_authentication
    }

    /// Lends nothing any more, closes what is idle, and stops watching. What is lent is closed when it
    /// comes back.
    pub async fn shut_down(&self) {
        self.core.stop.cancel();
        self.core.pools.sweep(&[]);
        let ending = self.control.clone().shutdown().immediate(true);
        // It waits for its task that looks at SRV records, which first sleeps to the end of its minute.
        let _ = timeout(CONTROL_END_MAX, ending.into_future()).await;
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The driver's options, which it would print, hold the connection string.
        f.debug_struct("Upstream")
            .field("topology", &self.core.board.topology())
            .finish_non_exhaustive()
    }
}

/// Everything but the driver, so that tests can take its place as the source of news.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) board: Arc<Board>,
    pub(crate) pools: Arc<Pools>,
    metrics: Metrics,
    pub(crate) election_wait: Duration,
    turn: AtomicUsize,
    latency_window: Duration,
    has_authentication: bool,
    stop: CancellationToken,
    /// Ends the prober with the last clone of the upstream.
    _stop_at_end: DropGuard,
}

impl Core {
    pub(crate) fn start(options: &UpstreamOptions, connector: Connector, metrics: Metrics) -> Self {
        let board = Arc::new(Board::new(metrics.clone(), options.waiting_max));
        let has_authentication = connector.login.is_some();
        let connector = Arc::new(connector);
        let pools = Arc::new(Pools::new(Shared {
            connector: Arc::clone(&connector),
            board: Arc::clone(&board),
            limits: PoolLimits {
                connections_max: options.connections_max.max(1),
                per_app_max: options.connections_per_app_max.max(1),
                connections_min: options.connections_min,
                idle_timeout: options.idle_timeout,
            },
            checkout_timeout: options.checkout_timeout,
            metrics: metrics.clone(),
        }));
        let stop = CancellationToken::new();
        let prober = Prober::new(connector, Arc::clone(&board), Arc::clone(&pools));
        tokio::spawn(prober.run(stop.clone()));
        Self {
            board,
            pools,
            metrics,
            election_wait: options.election_wait,
            turn: AtomicUsize::new(0),
            latency_window: select::LATENCY_WINDOW,
            has_authentication,
            _stop_at_end: stop.clone().drop_guard(),
            stop,
        }
    }

    pub(crate) async fn lend(
        &self,
        routing: &Routing,
        borrower: &Borrower,
        deadline: Instant,
    ) -> Result<Lease, UpstreamError> {
        let start = Instant::now();
        let outcome = self.find_lease(routing, borrower, start, deadline).await;
        match &outcome {
            Ok(_) => self.metrics.checkout(start.elapsed()),
            Err(error) => self.metrics.checkout_failure(failure_label(error)),
        }
        outcome
    }

    pub(crate) fn report(&self, server: &ServerAddress, generation: u64, code: i32) {
        let Some(change) = state_change(code) else {
            return;
        };
        let Some(member) = self.pools.existing(server) else {
            return;
        };
        if member.pool.generation() != generation {
            return;
        }
        let known = self
            .board
            .topology()
            .member(server)
            .map(|member| member.kind);
        match change {
            // Of any other member it was known already.
            StateChange::NotPrimary if known != Some(MemberKind::Primary) => {}
            // Since 4.2 servers keep their connections when they change their state.
            StateChange::NotPrimary | StateChange::Recovering => {
                self.board.publish(News::Suspect {
                    address: server.clone(),
                });
            }
            StateChange::ShuttingDown => member.suspect(generation),
        }
    }

    async fn find_lease(
        &self,
        routing: &Routing,
        borrower: &Borrower,
        start: Instant,
        deadline: Instant,
    ) -> Result<Lease, UpstreamError> {
        loop {
            if self.stop.is_cancelled() {
                return Err(UpstreamError::ShutDown);
            }
            let Some(server) = self.choose(&self.board.topology(), routing) else {
                self.await_server(routing, start, deadline).await?;
                continue;
            };
            let member = self.pools.member(&server);
            match member.check_out(borrower, start, deadline).await {
                Ok(Some(lease)) => return Ok(lease),
                Ok(None) => {}
                Err(error) if error.is_passing() => {
                    tracing::debug!(server = &*server, "{error}; choosing again");
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn choose(&self, topology: &Topology, routing: &Routing) -> Option<ServerAddress> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let window = self.latency_window;
        select::choose(topology, routing, window, scattered(turn))
            .map(|member| member.address.clone())
    }

    /// Waits until some server suits, or until the member that was asked for is gone for good.
    async fn await_server(
        &self,
        routing: &Routing,
        start: Instant,
        deadline: Instant,
    ) -> Result<(), UpstreamError> {
        let (wanted, wait_max) = match routing {
            Routing::Primary | Routing::Rather(_) => ("primary", self.election_wait),
            Routing::Preference(_) => ("member within the read preference", self.election_wait),
            Routing::Member(_) => {
                let wait = self.election_wait.min(MEMBER_WAIT_MAX);
                ("member that holds the cursor or the transaction", wait)
            }
        };
        let until = deadline.min(start + wait_max);
        let _waiting = self.board.wait()?;
        let mut topology = self.board.watch_topology();
        let is_gone = |topology: &Topology| match routing {
            Routing::Member(address) => {
                topology.kind != TopologyKind::Unknown && topology.member(address).is_none()
            }
            _ => false,
        };
        let suits = |topology: &Arc<Topology>| {
            is_gone(topology) || select::choose(topology, routing, self.latency_window, 0).is_some()
        };
        let found = tokio::select! {
            () = self.stop.cancelled() => return Err(UpstreamError::ShutDown),
            found = timeout_at(until, topology.wait_for(suits)) => found,
        };
        match found {
            Ok(Ok(topology)) if !is_gone(&topology) => Ok(()),
            Err(_) if until == deadline => Err(UpstreamError::Deadline {
                waited: start.elapsed(),
            }),
            _ => Err(UpstreamError::NoServer {
                wanted,
                waited: start.elapsed(),
            }),
        }
    }
}

/// Spreads consecutive numbers over the whole range, so that turns taken by many commands do not fall
/// into step: the finisher of `SplitMix64`.
fn scattered(turn: usize) -> usize {
    let mut bits = (turn as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    usize::try_from(bits >> 32).unwrap_or_default()
}

fn failure_label(error: &UpstreamError) -> CheckoutFailure {
    match error {
        UpstreamError::NoServer { .. } => CheckoutFailure::NoServer,
        UpstreamError::Deadline { .. } | UpstreamError::PoolExhausted { .. } => {
            CheckoutFailure::Timeout
        }
        UpstreamError::TooManyWaiting { .. } => CheckoutFailure::Overload,
        UpstreamError::ShutDown => CheckoutFailure::PoolClosed,
        _ => CheckoutFailure::Connection,
    }
}

/// A cursor outlives a short loss of the network, but not its server: long waiting helps nobody.
const MEMBER_WAIT_MAX: Duration = Duration::from_secs(5);
/// For background work, and for what the proxy does itself on behalf of apps: one thing at a time for each and a few more,
/// of which some may wait for locks. Clients' commands never use them.
const CONTROL_CONNECTIONS_MAX: u32 = 32;
/// How long the driver may take to end its tasks, which takes milliseconds.
const CONTROL_END_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
