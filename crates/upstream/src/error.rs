//! What can go wrong between the proxy and the deployment, in two texts: one for logs, one for clients.

use std::{borrow::Cow, io, path::PathBuf, time::Duration};

use mdb_scope::{AppId, ServerAddress};

use crate::{frame::FrameError, queue::Held};

/// Why no connection could be lent, or why the upstream could not be set up.
///
/// `Display` is for logs and may name hosts; clients get [`UpstreamError::client_text`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The connection string cannot be used. The reason never quotes its credentials.
    #[error("the upstream's connection string cannot be used: {reason}")]
    Uri {
        /// What is wrong with it.
        reason: String,
    },
    /// The connection string asks for something that this crate does not do.
    #[error("the upstream's connection string asks for {what}, which is not supported")]
    Unsupported {
        /// The thing asked for.
        what: &'static str,
    },
    /// A certificate or key file of the connection string cannot be used.
    #[error("cannot use the TLS file {path}: {reason}")]
    TlsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No suitable server appeared in time.
    #[error("no {wanted} of the upstream was known for {waited:?}")]
    NoServer {
        /// What was looked for.
        wanted: &'static str,
        /// How long.
        waited: Duration,
    },
    /// The command's own deadline passed while it waited for a server or a connection.
    #[error("the command's deadline passed after {waited:?} of waiting for the upstream")]
    Deadline {
        /// How long it waited.
        waited: Duration,
    },
    /// More commands than are allowed wait for a server already.
    #[error("{waiting} commands wait for a member of the upstream already (upstream.waiting_max)")]
    TooManyWaiting {
        /// How many wait.
        waiting: usize,
    },
    /// No connection to the chosen server came free in the whole checkout timeout.
    #[error("{0}")]
    PoolExhausted(Box<Exhaustion>),
    /// The server could not be reached.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// The server.
        server: ServerAddress,
        /// Why.
        source: io::Error,
    },
    /// The server was reached, but no TLS session came about.
    #[error("no TLS session with {server}: {source}")]
    Tls {
        /// The server.
        server: ServerAddress,
        /// Why.
        source: io::Error,
    },
    /// The server answered the proxy's own first commands in a way that makes no sense.
    #[error("the handshake with {server} failed: {reason}")]
    Handshake {
        /// The server.
        server: ServerAddress,
        /// What was wrong with the answer.
        reason: String,
    },
    /// The server does not accept the credentials of the connection string.
    #[error("{server} refused the proxy's own credentials: {reason}")]
    Authentication {
        /// The server.
        server: ServerAddress,
        /// The server's words, or ours about its proof.
        reason: String,
    },
    /// The upstream has been shut down by [`crate::Upstream::shut_down`].
    #[error("the upstream has been shut down")]
    ShutDown,
}

/// What a pool looked like when a command had waited in vain. `Display` is for logs.
#[derive(Debug)]
pub struct Exhaustion {
    /// The server.
    pub server: ServerAddress,
    /// What all apps held.
    pub held: Held,
    /// Connections being made, which are among them.
    pub connecting: u32,
    /// Other commands that waited.
    pub waiting: u32,
    /// The app whose command it was.
    pub app: AppId,
    /// What this app held.
    pub held_by_app: Held,
    /// What it may hold.
    pub per_app_max: u32,
    /// How long the command waited.
    pub waited: Duration,
}

impl Exhaustion {
    fn is_own_share(&self) -> bool {
        self.held_by_app.total() >= self.per_app_max
    }

    fn client_text(&self) -> String {
        let Self {
            held_by_app,
            per_app_max,
            ..
        } = self;
        let why = if self.is_own_share() {
            "all that this app may have are in use"
        } else {
            "all are in use"
        };
        format!(
            "no connection to the deployment came free in {} ms: {why}; this app holds {} of at most {per_app_max}, \
             {held_by_app}; try again later",
            self.waited.as_millis(),
            held_by_app.total(),
        )
    }
}

impl std::fmt::Display for Exhaustion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            server,
            held,
            connecting,
            waiting,
            app,
            held_by_app,
            per_app_max,
            waited,
        } = self;
        let limit = if self.is_own_share() {
            "upstream.pool.connections_per_app_max"
        } else {
            "upstream.pool.connections_max"
        };
        write!(
            f,
            "no connection to {server} came free in {waited:?} ({limit}): {} in use ({held}; {connecting} of them connecting), \
             {waiting} waiting; the app {app} holds {} of at most {per_app_max} ({held_by_app})",
            held.total(),
            held_by_app.total(),
        )
    }
}

impl UpstreamError {
    /// MongoDB's number for what a client should make of it.
    pub fn code(&self) -> i32 {
        self.code_and_name().0
    }

    /// MongoDB's name for [`UpstreamError::code`].
    pub fn code_name(&self) -> &'static str {
        self.code_and_name().1
    }

    /// A text that clients may see: no host names, no reasons of the operator's.
    pub fn client_text(&self) -> Cow<'static, str> {
        let text = match self {
            Self::PoolExhausted(exhaustion) => return exhaustion.client_text().into(),
            Self::NoServer { .. } => "no suitable member of the deployment is available",
            Self::Deadline { .. } => "operation exceeded time limit",
            Self::TooManyWaiting { .. } => {
                "too many commands wait for a member of the deployment (upstream.waiting_max); try again later"
            }
            Self::ShutDown => "the proxy is shutting down",
            Self::Uri { .. }
            | Self::Unsupported { .. }
            | Self::TlsFile { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Handshake { .. }
            | Self::Authentication { .. } => "the deployment cannot be reached",
        };
        text.into()
    }

    /// Whether the command was refused for there being too much to do.
    pub fn is_overload(&self) -> bool {
        matches!(
            self,
            Self::TooManyWaiting { .. } | Self::PoolExhausted { .. }
        )
    }

    /// Whether another attempt, perhaps with another server, can end better.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Handshake { .. })
    }

    fn code_and_name(&self) -> (i32, &'static str) {
        match self {
            Self::NoServer { .. } => (133, "FailedToSatisfyReadPreference"),
            Self::Deadline { .. } => (50, "MaxTimeMSExpired"),
            Self::TooManyWaiting { .. } | Self::PoolExhausted { .. } => {
                (462, "IngressRequestRateLimitExceeded")
            }
            Self::ShutDown => (91, "ShutdownInProgress"),
            Self::Uri { .. }
            | Self::Unsupported { .. }
            | Self::TlsFile { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Handshake { .. }
            | Self::Authentication { .. } => (HOST_UNREACHABLE, "HostUnreachable"),
        }
    }
}

/// Whether the upstream can have seen a command whose exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Provably not a byte of it left: it may be sent again whatever it is.
    Nothing,
    /// Some or all of it may have arrived, and may have been executed.
    MaybeSome,
}

/// Why an exchange brought no reply. The lease is spent; drop it.
#[derive(Debug, thiserror::Error)]
#[error("{kind}")]
pub struct ExchangeError {
    /// What happened.
    #[source]
    pub kind: ExchangeErrorKind,
    /// Whether the upstream can have seen the command.
    pub sent: Sent,
}

/// The kinds of [`ExchangeError`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeErrorKind {
    /// The connection broke, or the server closed it.
    #[error("the connection to the upstream broke: {0}")]
    Network(#[source] io::Error),
    /// What came back is not the reply to this command.
    #[error("the upstream's reply cannot be used: {0}")]
    Reply(#[source] FrameError),
    /// An earlier exchange on this lease failed or was given up half-way.
    #[error("the lease is spent")]
    Spent,
}

impl ExchangeError {
    /// MongoDB's number for what a client should make of it.
    pub fn code(&self) -> i32 {
        HOST_UNREACHABLE
    }

    /// MongoDB's name for [`ExchangeError::code`].
    pub fn code_name(&self) -> &'static str {
        "HostUnreachable"
    }

    /// A text that clients may see.
    pub fn client_text(&self) -> &'static str {
        "the connection to the deployment broke"
    }

    /// Whether the connection broke, as opposed to a reply that makes no sense.
    pub fn is_network(&self) -> bool {
        matches!(self.kind, ExchangeErrorKind::Network(_))
    }
}

/// What mongos, too, says of a shard that it cannot reach; drivers retry on it.
const HOST_UNREACHABLE: i32 = 6;
