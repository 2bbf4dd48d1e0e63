//! The server's configuration.

use std::path::PathBuf;
use std::time::Duration;

use mdb_auth::Secret;

use crate::address::Address;
use crate::names::{AppSlug, DatabaseName, FieldName};

mod listening;
mod reading;

pub(crate) use reading::{ConfigReading, INDEX_MODES, read};

/// Everything in the configuration file, checked, with defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where clients connect; at least one, no two alike.
    pub listeners: Vec<Listener>,
    /// The deployment behind the proxy.
    pub upstream: Upstream,
    /// The directory of the app manifests, joined to the directory of the configuration file.
    pub manifests: PathBuf,
    /// Kept upstream for the proxies' own state; no app can see it.
    pub control_database: DatabaseName,
    /// The field that carries the slug in every document.
    pub scope_field: FieldName,
    /// The app whose marked documents are planted in every shared collection; one of the manifests.
    pub canary: Option<AppSlug>,
    /// The HTTP face for those who run the proxy.
    pub admin: Admin,
    /// Limits of the client side.
    pub limits: Limits,
    /// What becomes of observed query shapes.
    pub indexes: Indexes,
    /// The log.
    pub log: Log,
}

impl Config {
    /// The top-level keys whose values differ, in the order of the file.
    pub fn differences(&self, other: &Self) -> Vec<&'static str> {
        let (one, two) = (self, other);
        let parts = [
            ("listen", one.listeners == two.listeners),
            (
                "upstream",
                one.upstream.uri.expose() == two.upstream.uri.expose()
                    && one.upstream.pool == two.upstream.pool
                    && one.upstream.waiting == two.upstream.waiting,
            ),
            ("manifests", one.manifests == two.manifests),
            (
                "control_database",
                one.control_database == two.control_database,
            ),
            ("scope_field", one.scope_field == two.scope_field),
            ("canary", one.canary == two.canary),
            ("admin", one.admin == two.admin),
            ("limits", one.limits == two.limits),
            ("indexes", one.indexes == two.indexes),
            ("log", one.log == two.log),
        ];
        let differ = parts.into_iter().filter(|(_, is_same)| !is_same);
        differ.map(|(key, _)| key).collect()
    }
}

/// One bound address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where to listen.
    pub address: Address,
    /// Whether every connection begins with the PROXY protocol. Off by default: whoever speaks it is believed.
    pub proxy_protocol: bool,
    /// Whether other processes of the same user may listen there as well, so that one can take over from another.
    pub reuse_port: bool,
    /// How clients are to encrypt; `None`: not at all.
    pub tls: Option<ListenerTls>,
}

/// TLS of one listener. The files are not read here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// PEM: the listener's own certificate, and behind it those that lead to its authority.
    pub certificate: FileReference,
    /// PEM: the private key, not encrypted. The same file unless the configuration names another.
    pub key: FileReference,
    /// What is asked of clients.
    pub client_certificates: ClientCertificates,
}

/// What a listener asks of its clients besides a password.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ClientCertificates {
    /// Nothing. The default: passwords tell clients apart.
    #[default]
    Off,
    /// A client may show a certificate; one that does must show one of these authorities.
    Optional(FileReference),
    /// Every client shows a certificate of these authorities.
    Required(FileReference),
}

impl ClientCertificates {
    /// PEM: the certificates of the authorities.
    pub fn authorities(&self) -> Option<&FileReference> {
        match self {
            Self::Off => None,
            Self::Optional(file) | Self::Required(file) => Some(file),
        }
    }
}

/// A file that the configuration names, and where it does. Equal when the file is the same, wherever it is named.
#[derive(Debug, Clone)]
pub struct FileReference {
    /// Joined to the directory of the configuration file.
    pub path: PathBuf,
    /// The line in the configuration, counted from 1.
    pub line: usize,
}

impl PartialEq for FileReference {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for FileReference {}

impl Default for Listener {
    /// The loopback interface, so that a proxy started without thought is not open to the network; the port next to
    /// mongod's own, so that both can run on one machine.
    fn default() -> Self {
        Self {
            address: Address::parse("127.0.0.1:27018").expect("a constant address is legal"),
            proxy_protocol: false,
            reuse_port: false,
            tls: None,
        }
    }
}

/// The deployment behind the proxy.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// A connection string that begins with `mongodb://` or `mongodb+srv://`. Secret as a whole: it may hold a password.
    pub uri: Secret,
    /// Connections kept to each server.
    pub pool: Pool,
    /// Commands that wait for a server, as during an election.
    pub waiting: Waiting,
    /// How messages to and from the servers may be compressed, the best first. None by default: on the fast network that
    /// the proxy and its deployment should share, compressing costs more time than it saves.
    pub compressors: Vec<Compressor>,
}

/// A way to compress messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compressor {
    /// Fast, compresses least.
    Snappy,
    /// Slow, everywhere.
    Zlib,
    /// Compresses most for its time.
    Zstd,
}

/// Commands that wait for a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How long each waits, at most.
    pub election_wait: Duration,
    /// How many wait at the same time, at most.
    pub waiting_max: u32,
}

impl Default for Waiting {
    /// An election with default settings takes about eleven seconds after a primary was killed; mongos waits 20. 5000 are
    /// all that five apps may have under way (`limits.commands_per_app_max`): each holds its message in memory.
    fn default() -> Self {
        Self {
            election_wait: Duration::from_secs(20),
            waiting_max: 5_000,
        }
    }
}

/// Connections kept to each server of the deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pool {
    /// Connections to one server, at most.
    pub connections_max: u32,
    /// Of them, what one app may hold at a time; `None`: three quarters.
    pub connections_per_app_max: Option<u32>,
    /// Connections that are made before they are needed.
    pub connections_min: u32,
    /// How long a command waits for a connection.
    pub checkout_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
}

impl Pool {
    /// What one app may hold at a time. A quarter is left to the others, so that one app's long commands do not stop them.
    pub fn connections_of_app_max(&self) -> u32 {
        let most = self.connections_max - self.connections_max / 4;
        self.connections_per_app_max.unwrap_or(most)
    }
}

impl Default for Pool {
    /// 100 connections are the drivers' own default, as is that none is made before it is needed; 5 s is long for a wait and short for a person; 10 min is below the
    /// idle timeouts of the usual firewalls.
    fn default() -> Self {
        Self {
            connections_max: 100,
            connections_per_app_max: None,
            connections_min: 0,
            checkout_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10 * 60),
        }
    }
}

/// The HTTP face: `/metrics`, `/healthz`, `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// Where to listen.
    pub address: Address,
    /// As of a listener.
    pub reuse_port: bool,
}

impl Default for Admin {
    /// The loopback interface: metrics name the apps.
    fn default() -> Self {
        Self {
            address: Address::parse("127.0.0.1:9464").expect("a constant address is legal"),
            reuse_port: false,
        }
    }
}

/// Limits of the client side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Client connections of one process, at most.
    pub connections_max: u32,
    /// Client connections of one app, at most.
    pub connections_per_app_max: u32,
    /// Client connections from one address, at most.
    pub connections_per_address_max: u32,
    /// Client connections that have not logged in, at most.
    pub connections_unauthenticated_max: u32,
    /// For a TLS handshake, for the first message, and between two steps of an authentication.
    pub handshake_timeout: Duration,
    /// How long a connection that has logged in may be idle; `None`: for ever.
    pub idle_timeout: Option<Duration>,
    /// Commands of one app that are on their way upstream at the same time, at most.
    pub commands_per_app_max: u32,
    /// Failed log-ins from one address in a minute, at most.
    pub failed_logins_per_address_max: u32,
    /// Open cursors of one app, at most.
    pub cursors_per_app_max: u32,
    /// Sessions that one app has used lately, at most.
    pub sessions_per_app_max: u32,
    /// Bytes of replies of one app that its clients have not read, at most.
    pub unread_bytes_per_app_max: u32,
    /// How long a client of an app at that limit may take nothing of its reply.
    pub unread_timeout: Duration,
    /// How long after the last connection of a client what it left open is ended.
    pub abandoned_after: Duration,
    /// How long a draining proxy waits for commands to end. Zero: not at all.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    /// 20000 connections cost about 1 GiB; a quarter of them per app keeps one app from starving the others.
    ///
    /// Half of all for one address: many clients may share one behind a gateway, and still none takes all. Half for those
    /// who have not logged in: every client of a driver keeps up to two connections that never do, to watch the proxy.
    ///
    /// 10 s is more than the slowest honest key derivation. No end of idle connections, as on a mongod: drivers keep them, and
    /// keep-alive finds those whose client is gone.
    ///
    /// 1000 commands are ten for each connection of the default pool: more would only wait for their checkout to time out.
    /// A cursor takes some kilobytes on the server. 100000 sessions are a tenth of what a mongod has for all (`maxSessions`).
    ///
    /// 256 MB of unread replies are 16 of the largest that a server sends, and a quarter of what 20000 connections take. A
    /// driver reads a reply as it comes; one that takes nothing for 30 s is paused, lost, or means harm.
    ///
    /// 1000 failed log-ins are more than a fleet of clients with a wrong password makes, and too few to guess one.
    ///
    /// A driver that lost all connections makes new ones within a second or so, and its monitors try each 10 s at the latest.
    ///
    /// 15 s is half of the usual grace of those who stop containers.
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connections_per_app_max: 5_000,
            connections_per_address_max: 10_000,
            connections_unauthenticated_max: 10_000,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: None,
            commands_per_app_max: 1_000,
            failed_logins_per_address_max: 1_000,
            cursors_per_app_max: 100_000,
            sessions_per_app_max: 100_000,
            unread_bytes_per_app_max: 256_000_000,
            unread_timeout: Duration::from_secs(30),
            abandoned_after: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(15),
        }
    }
}

/// What becomes of observed query shapes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Indexes {
    /// How far the proxy may go.
    pub mode: IndexMode,
    /// Between two rounds of work.
    pub interval: Duration,
    /// Automatic indexes of one collection, at most.
    pub automatic_max: u32,
    /// Indexes of one collection from which none is added automatically.
    pub indexes_max: u32,
    /// When indexes may be built, in minutes since midnight UTC: the first minute, and the first one behind. Always if
    /// not given.
    pub build_window: Option<(u16, u16)>,
    /// How often a shape must be seen before it counts.
    pub seen_min: u32,
    /// Over how long.
    pub seen_over: Duration,
    /// Documents that a collection must have.
    pub documents_min: u32,
    /// Documents that a command must examine in vain.
    pub excess_min: u32,
    /// Writes for each read, above which there is advice only.
    pub writes_per_read_max: u32,
    /// How long an index may be without use before it is hidden.
    pub unused_for: Duration,
    /// How long it stays hidden before it is dropped.
    pub soak_for: Duration,
}

impl Default for Indexes {
    /// Collections have up to 64 indexes; 48 leave room for what apps define. 20 commands over a minute are a habit. Below
    /// 1000 documents a scan is quick. A week holds every habit that follows the days of the week.
    fn default() -> Self {
        Self {
            mode: IndexMode::default(),
            interval: Duration::from_secs(60),
            automatic_max: 8,
            indexes_max: 48,
            build_window: None,
            seen_min: 20,
            seen_over: Duration::from_secs(60),
            documents_min: 1000,
            excess_min: 500,
            writes_per_read_max: 20,
            unused_for: Duration::from_secs(7 * 24 * 60 * 60),
            soak_for: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}

/// How far the proxy may go with indexes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexMode {
    /// Observe nothing.
    Off,
    /// Write advice down, build nothing.
    Advise,
    /// Build what is advised, within a budget. The default: shared collections need indexes that begin with the scope
    /// field, and no app knows that.
    #[default]
    Auto,
}

/// The log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Log {
    /// The form of a line.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people. The default: the first to read a log is a person.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Severity, the most severe first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LogLevel {
    /// Something is broken.
    Error,
    /// Something will break, or is not as it should be.
    Warn,
    /// The life of the process. The default: a few lines a minute.
    #[default]
    Info,
    /// The life of each connection.
    Debug,
    /// The life of each command.
    Trace,
}

impl LogLevel {
    /// The word in the configuration, which is also the word that log filters know.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
