//! From the tree of a configuration file to [`Config`].

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use mdb_auth::Secret;

use super::listening::listeners;
use super::{
    Admin, Compressor, Config, IndexMode, Indexes, Limits, Listener, Log, LogFormat, LogLevel,
    Pool, Upstream, Waiting,
};
use crate::address::Address;
use crate::names::{AppSlug, NameError};
use crate::reader::{Field, Section, quoted};
use crate::report::Sheet;
use crate::secret::{self, Secrets};
use crate::yaml::{Kind, Node};

/// What a configuration file gave.
pub(crate) struct ConfigReading {
    /// Only when the sheet has no errors.
    pub(crate) config: Option<Config>,
    /// Known also when something else is wrong, so that the manifests can be checked in the same run.
    pub(crate) manifests: Option<PathBuf>,
}

/// Reads everything there is to read; what is wrong goes to the sheet.
pub(crate) fn read(root: &Node, sheet: &Sheet, secrets: &Secrets<'_>) -> ConfigReading {
    let nothing = ConfigReading {
        config: None,
        manifests: None,
    };
    let Some(section) = Field::root(root, sheet).open_mapping() else {
        return nothing;
    };
    if !is_known_version(&section) {
        // The keys of an unknown version mean unknown things: saying more would mislead.
        return nothing;
    }
    let Some(section) = Field::root(root, sheet).mapping(&[KEYS]) else {
        return nothing;
    };
    let listeners = section.field("listen").map_or_else(
        || vec![Listener::default()],
        |field| listeners(&field, secrets.directory),
    );
    let uri = section
        .required("upstream")
        .and_then(|field| field.mapping(&[UPSTREAM_KEYS]));
    let upstream = uri.map(|section| upstream(&section, secrets));
    let admin = part(&section, "admin", &["address", "reuse_port"], admin);
    check_addresses(&section, &listeners, &admin);
    let manifests = section
        .field("manifests")
        .map_or(Some(MANIFESTS), |field| path(&field));
    let manifests = manifests.map(|path| secrets.directory.join(path));
    let control_database = name(
        &section,
        "control_database",
        crate::names::DatabaseName::parse,
    );
    let scope_field = name(&section, "scope_field", crate::names::FieldName::parse);
    let canary = section.field("canary").and_then(|field| {
        let text = field.text()?;
        AppSlug::parse(text)
            .map_err(|error| field.error(&format!("{}: {error}", quoted(text))))
            .ok()
    });
    let limits = part(&section, "limits", LIMITS_KEYS, limits);
    let indexes = part(&section, "indexes", INDEXES_KEYS, indexes);
    let log = part(&section, "log", &["format", "level"], log);
    let config = match (upstream, &manifests) {
        (Some(Some(upstream)), Some(manifests)) if !sheet.has_errors() => Some(Config {
            listeners,
            upstream,
            manifests: manifests.clone(),
            control_database,
            scope_field,
            canary,
            admin,
            limits,
            indexes,
            log,
        }),
        _ => None,
    };
    ConfigReading { config, manifests }
}

/// False when the rest of the file should not be read.
fn is_known_version(section: &Section<'_>) -> bool {
    let Some(field) = section.field("version") else {
        section
            .sheet()
            .error(section.at(), "missing key `version`; write `version: 1`");
        return true;
    };
    match field.kind() {
        Kind::Integer(1) => true,
        Kind::Integer(other) => {
            field.error(&format!(
                "unknown version {other}; this program reads version 1"
            ));
            false
        }
        _ => {
            field.unexpected::<()>("the number 1");
            true
        }
    }
}

/// `None` without a usable connection string.
fn upstream(section: &Section<'_>, secrets: &Secrets<'_>) -> Option<Upstream> {
    let uri = section
        .required("uri")
        .and_then(|field| uri(&field, secrets));
    let compressors = section
        .field("compressors")
        .map_or_else(Vec::new, |field| compressors(&field));
    let pool = part(section, "pool", POOL_KEYS, pool);
    let default = Waiting::default();
    let waiting = Waiting {
        election_wait: duration(section, "election_wait", TIMEOUTS, default.election_wait),
        waiting_max: count(
            section,
            "waiting_max",
            CLIENT_COUNTS_MAX,
            default.waiting_max,
        ),
    };
    Some(Upstream {
        uri: uri?,
        pool,
        waiting,
        compressors,
    })
}

fn compressors(field: &Field<'_>) -> Vec<Compressor> {
    let words = [
        ("zstd", Compressor::Zstd),
        ("snappy", Compressor::Snappy),
        ("zlib", Compressor::Zlib),
    ];
    let mut all = Vec::new();
    for item in field.list().unwrap_or_default() {
        match item.choice(&words) {
            Some(compressor) if all.contains(&compressor) => item.error("it stands there already"),
            Some(compressor) => all.push(compressor),
            None => {}
        }
    }
    all
}

fn uri(field: &Field<'_>, secrets: &Secrets<'_>) -> Option<Secret> {
    let uri = secrets.read(field, secret::in_uri)?;
    let is_uri = ["mongodb://", "mongodb+srv://"]
        .iter()
        .any(|scheme| uri.expose().starts_with(scheme));
    if !is_uri {
        field.error(
            "expected a connection string that begins with `mongodb://` or `mongodb+srv://`",
        );
        return None;
    }
    Some(uri)
}

fn pool(section: &Section<'_>) -> Pool {
    let default = Pool::default();
    let connections_max = count(
        section,
        "connections_max",
        POOL_CONNECTIONS_MAX,
        default.connections_max,
    );
    // Neither can be more than there are in all.
    let of_them = |key: &str, least: u32| {
        let field = section.field(key)?;
        field.count(least..=connections_max)
    };
    Pool {
        connections_max,
        connections_per_app_max: of_them("connections_per_app_max", 1),
        connections_min: of_them("connections_min", 0).unwrap_or(default.connections_min),
        checkout_timeout: duration(
            section,
            "checkout_timeout",
            TIMEOUTS,
            default.checkout_timeout,
        ),
        idle_timeout: duration(section, "idle_timeout", TIMEOUTS, default.idle_timeout),
    }
}

fn admin(section: &Section<'_>) -> Admin {
    let default = Admin::default();
    let address = section.field("address").and_then(|field| address(&field));
    Admin {
        address: address.unwrap_or(default.address),
        reuse_port: flag(section, "reuse_port"),
    }
}

fn limits(section: &Section<'_>) -> Limits {
    let default = Limits::default();
    let of = |key, default| count(section, key, CLIENT_COUNTS_MAX, default);
    let handshake = default.handshake_timeout;
    let grace = default.shutdown_grace;
    Limits {
        connections_max: of("connections_max", default.connections_max),
        connections_per_app_max: of("connections_per_app_max", default.connections_per_app_max),
        connections_per_address_max: of(
            "connections_per_address_max",
            default.connections_per_address_max,
        ),
        connections_unauthenticated_max: of(
            "connections_unauthenticated_max",
            default.connections_unauthenticated_max,
        ),
        handshake_timeout: duration(section, "handshake_timeout", TIMEOUTS, handshake),
        idle_timeout: section
            .field("idle_timeout")
            .and_then(|field| field.duration(TIMEOUTS)),
        commands_per_app_max: of("commands_per_app_max", default.commands_per_app_max),
        failed_logins_per_address_max: of(
            "failed_logins_per_address_max",
            default.failed_logins_per_address_max,
        ),
        cursors_per_app_max: of("cursors_per_app_max", default.cursors_per_app_max),
        sessions_per_app_max: of("sessions_per_app_max", default.sessions_per_app_max),
        unread_bytes_per_app_max: count(
            section,
            "unread_bytes_per_app_max",
            COUNTS_MAX,
            default.unread_bytes_per_app_max,
        ),
        unread_timeout: duration(section, "unread_timeout", TIMEOUTS, default.unread_timeout),
        abandoned_after: duration(
            section,
            "abandoned_after",
            TIMEOUTS,
            default.abandoned_after,
        ),
        shutdown_grace: duration(section, "shutdown_grace", GRACES, grace),
    }
}

fn indexes(section: &Section<'_>) -> Indexes {
    let default = Indexes::default();
    Indexes {
        mode: section
            .field("mode")
            .and_then(|field| field.choice(INDEX_MODES))
            .unwrap_or_default(),
        interval: duration(section, "interval", TIMEOUTS, default.interval),
        automatic_max: count(section, "automatic_max", INDEXES_MAX, default.automatic_max),
        indexes_max: count(section, "indexes_max", INDEXES_MAX, default.indexes_max),
        build_window: section
            .field("build_window")
            .and_then(|field| window(&field)),
        seen_min: count(section, "seen_min", COUNTS_MAX, default.seen_min),
        seen_over: duration(section, "seen_over", GRACES, default.seen_over),
        documents_min: count(section, "documents_min", COUNTS_MAX, default.documents_min),
        excess_min: count(section, "excess_min", COUNTS_MAX, default.excess_min),
        writes_per_read_max: count(
            section,
            "writes_per_read_max",
            COUNTS_MAX,
            default.writes_per_read_max,
        ),
        unused_for: duration(section, "unused_for", SOAKS, default.unused_for),
        soak_for: duration(section, "soak_for", SOAKS, default.soak_for),
    }
}

/// `HH:MM-HH:MM`, in UTC; it may go over midnight.
fn window(field: &Field<'_>) -> Option<(u16, u16)> {
    let text = field.text()?;
    let minute = |time: &str| {
        let (hours, minutes) = time.split_once(':')?;
        let is_plain = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        let number = |part: &str| part.parse::<u16>().ok().filter(|_| is_plain(part));
        let (hours, minutes) = (number(hours)?, number(minutes)?);
        (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
    };
    let ends = text
        .split_once('-')
        .and_then(|(from, to)| Some((minute(from)?, minute(to)?)));
    let ends = ends.filter(|(from, to)| from != to);
    ends.or_else(|| field.unexpected("hours of the day in UTC, such as `02:00-05:30`"))
}

fn log(section: &Section<'_>) -> Log {
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    let levels = [
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
        LogLevel::Trace,
    ];
    let levels = levels.map(|level| (level.as_str(), level));
    Log {
        format: section
            .field("format")
            .and_then(|field| field.choice(&formats))
            .unwrap_or_default(),
        level: section
            .field("level")
            .and_then(|field| field.choice(&levels))
            .unwrap_or_default(),
    }
}

/// One of the mappings that may be left out.
fn part<T: Default>(
    section: &Section<'_>,
    key: &str,
    known: &[&str],
    read: fn(&Section<'_>) -> T,
) -> T {
    let inner = section.field(key).and_then(|field| field.mapping(&[known]));
    inner.map_or_else(T::default, |inner| read(&inner))
}

fn count(section: &Section<'_>, key: &str, most: u32, default: u32) -> u32 {
    section
        .field(key)
        .and_then(|field| field.count(1..=most))
        .unwrap_or(default)
}

fn duration(
    section: &Section<'_>,
    key: &str,
    range: RangeInclusive<Duration>,
    default: Duration,
) -> Duration {
    section
        .field(key)
        .and_then(|field| field.duration(range))
        .unwrap_or(default)
}

/// False unless it is there.
pub(super) fn flag(section: &Section<'_>, key: &str) -> bool {
    section
        .field(key)
        .and_then(|field| field.boolean())
        .unwrap_or_default()
}

fn name<T: Default>(
    section: &Section<'_>,
    key: &str,
    parse: fn(&str) -> Result<T, NameError>,
) -> T {
    let Some(field) = section.field(key) else {
        return T::default();
    };
    let Some(text) = field.text() else {
        return T::default();
    };
    parse(text).unwrap_or_else(|error| {
        field.error(&format!("{}: {error}", quoted(text)));
        T::default()
    })
}

pub(super) fn path<'s>(field: &Field<'s>) -> Option<&'s str> {
    let text = field.text()?;
    if text.is_empty() {
        field.error("the path is empty");
        return None;
    }
    Some(text)
}

pub(super) fn address(field: &Field<'_>) -> Option<Address> {
    let text = field.text()?;
    match Address::parse(text) {
        Ok(address) => Some(address),
        Err(error) => {
            field.error(&format!("{}: {error}", quoted(text)));
            None
        }
    }
}

/// No address is bound twice. Port 0 asks for any free port, so that two of them differ.
fn check_addresses(section: &Section<'_>, listeners: &[Listener], admin: &Admin) {
    let addresses: Vec<_> = listeners
        .iter()
        .map(|listener| &listener.address)
        .chain([&admin.address])
        .collect();
    for (index, address) in addresses.iter().enumerate() {
        if address.port() != 0 && addresses[..index].contains(address) {
            let at = section
                .field("listen")
                .map_or(section.at(), |field| field.at());
            section
                .sheet()
                .error(at, format!("two listeners share the address `{address}`"));
        }
    }
}

const KEYS: &[&str] = &[
    "version",
    "listen",
    "upstream",
    "manifests",
    "control_database",
    "scope_field",
    "canary",
    "admin",
    "limits",
    "indexes",
    "log",
];

const UPSTREAM_KEYS: &[&str] = &["uri", "compressors", "pool", "election_wait", "waiting_max"];

const POOL_KEYS: &[&str] = &[
    "connections_max",
    "connections_per_app_max",
    "connections_min",
    "checkout_timeout",
    "idle_timeout",
];

const INDEXES_KEYS: &[&str] = &[
    "mode",
    "interval",
    "automatic_max",
    "indexes_max",
    "build_window",
    "seen_min",
    "seen_over",
    "documents_min",
    "excess_min",
    "writes_per_read_max",
    "unused_for",
    "soak_for",
];

/// Words for how far the proxy may go.
pub(crate) const INDEX_MODES: &[(&str, IndexMode)] = &[
    ("off", IndexMode::Off),
    ("advise", IndexMode::Advise),
    ("auto", IndexMode::Auto),
];

/// A collection has up to 64 indexes.
const INDEXES_MAX: u32 = 64;

/// Where a limit is only for the sake of having one.
const COUNTS_MAX: u32 = 1_000_000_000;

/// An hour shows nothing of an index that a nightly report needs; more than a year is for ever.
const SOAKS: RangeInclusive<Duration> =
    Duration::from_secs(60 * 60)..=Duration::from_secs(366 * 24 * 60 * 60);

const LIMITS_KEYS: &[&str] = &[
    "connections_max",
    "connections_per_app_max",
    "connections_per_address_max",
    "connections_unauthenticated_max",
    "handshake_timeout",
    "idle_timeout",
    "commands_per_app_max",
    "failed_logins_per_address_max",
    "cursors_per_app_max",
    "sessions_per_app_max",
    "unread_bytes_per_app_max",
    "unread_timeout",
    "abandoned_after",
    "shutdown_grace",
];

/// Beside the configuration file.
const MANIFESTS: &str = "apps";

/// A server refuses more than about 65000 connections in all, and several proxies share it.
const POOL_CONNECTIONS_MAX: u32 = 10_000;

/// More than one process can have open files on a well-tuned machine, and more sessions than a mongod has.
const CLIENT_COUNTS_MAX: u32 = 1_000_000;

/// A wait of nothing is no timeout, and one of more than a day is none either.
const TIMEOUTS: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60);

/// Zero is a wish one may have here: stop at once.
const GRACES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(24 * 60 * 60);
