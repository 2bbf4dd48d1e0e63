//! The rows of the catalogue.

use super::{Kind, MetricSpec};

/// 100 microseconds (below it the clock and the socket drown the proxy's own share) to 10 seconds, three steps a decade.
pub(super) const COMMAND_SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// A checkout from a pool that is not short takes microseconds; one that is short ends at the checkout timeout.
pub(super) const CHECKOUT_SECONDS: &[f64] =
    &[0.000_01, 0.000_1, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0];

pub(super) const CLIENT_CONNECTIONS_OPEN: MetricSpec = MetricSpec {
    name: "mdb_runtime_client_connections_open",
    help: "Client connections that are open now.",
    labels: &["listener"],
    kind: Kind::Gauge,
};

pub(super) const CLIENT_CONNECTIONS_OPENED: MetricSpec = MetricSpec {
    name: "mdb_runtime_client_connections_opened_total",
    help: "Client connections accepted.",
    labels: &["listener"],
    kind: Kind::Counter,
};

pub(super) const CLIENT_CONNECTIONS_CLOSED: MetricSpec = MetricSpec {
    name: "mdb_runtime_client_connections_closed_total",
    help: "Client connections ended, by reason.",
    labels: &["listener", "reason"],
    kind: Kind::Counter,
};

pub(super) const CERTIFICATE_EXPIRY: MetricSpec = MetricSpec {
    name: "mdb_runtime_certificate_expiry_timestamp_seconds",
    help: "When the certificate of a listener with TLS expires, in seconds since 1970.",
    labels: &["listener"],
    kind: Kind::Gauge,
};

pub(super) const COMMANDS: MetricSpec = MetricSpec {
    name: "mdb_runtime_commands_total",
    help: "Commands answered, by app, command and outcome.",
    labels: &["app", "command", "outcome"],
    kind: Kind::Counter,
};

pub(super) const COMMAND_DURATION: MetricSpec = MetricSpec {
    name: "mdb_runtime_command_duration_seconds",
    help: "Time from a command's last byte read to its reply ready to send.",
    labels: &["app", "command"],
    kind: Kind::Histogram(COMMAND_SECONDS),
};

pub(super) const COMMAND_RECEIVED_BYTES: MetricSpec = MetricSpec {
    name: "mdb_runtime_command_received_bytes_total",
    help: "Bytes of commands read from clients of the app.",
    labels: &["app"],
    kind: Kind::Counter,
};

pub(super) const COMMAND_SENT_BYTES: MetricSpec = MetricSpec {
    name: "mdb_runtime_command_sent_bytes_total",
    help: "Bytes of replies written to clients of the app.",
    labels: &["app"],
    kind: Kind::Counter,
};

pub(super) const OPEN_CURSORS: MetricSpec = MetricSpec {
    name: "mdb_runtime_open_cursors",
    help: "Cursors the app holds open upstream.",
    labels: &["app"],
    kind: Kind::Gauge,
};

pub(super) const AUTHENTICATIONS: MetricSpec = MetricSpec {
    name: "mdb_runtime_authentications_total",
    help: "Authentications ended, by outcome and mechanism.",
    labels: &["outcome", "mechanism"],
    kind: Kind::Counter,
};

pub(super) const REFUSALS: MetricSpec = MetricSpec {
    name: "mdb_runtime_refusals_total",
    help: "Commands refused by policy, by the name of the error code.",
    labels: &["code"],
    kind: Kind::Counter,
};

pub(super) const UPSTREAM_CONNECTIONS: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_connections",
    help: "Upstream connections that are open now, by state.",
    labels: &["state"],
    kind: Kind::Gauge,
};

pub(super) const UPSTREAM_LEASES: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_leases",
    help: "Upstream connections in use, by what each is held for.",
    labels: &["purpose"],
    kind: Kind::Gauge,
};

pub(super) const UPSTREAM_WAITING: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_waiting",
    help: "Commands that wait in the proxy, by what for.",
    labels: &["for"],
    kind: Kind::Gauge,
};

pub(super) const UPSTREAM_CONNECTIONS_CREATED: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_connections_created_total",
    help: "Upstream connections opened.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const UPSTREAM_CONNECTIONS_CLOSED: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_connections_closed_total",
    help: "Upstream connections closed, by reason.",
    labels: &["reason"],
    kind: Kind::Counter,
};

pub(super) const CHECKOUT_DURATION: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_checkout_duration_seconds",
    help: "Wait for an upstream connection that was then lent.",
    labels: &[],
    kind: Kind::Histogram(CHECKOUT_SECONDS),
};

pub(super) const CHECKOUT_FAILURES: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_checkout_failures_total",
    help: "Waits for an upstream connection that ended without one, by reason.",
    labels: &["reason"],
    kind: Kind::Counter,
};

pub(super) const EXCHANGE_ERRORS: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_exchange_errors_total",
    help: "Commands sent upstream that got no usable reply, by kind.",
    labels: &["kind"],
    kind: Kind::Counter,
};

pub(super) const RETRIES: MetricSpec = MetricSpec {
    name: "mdb_runtime_retries_total",
    help: "Commands the proxy sent once more on a client's behalf.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const ISOLATION_INCIDENTS: MetricSpec = MetricSpec {
    name: "mdb_runtime_isolation_incidents_total",
    help: "Replies withheld because they carried what is not the app's own. Above zero is an alarm.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const OBSERVATIONS_DROPPED: MetricSpec = MetricSpec {
    name: "mdb_runtime_index_observations_dropped_total",
    help: "Commands that were not looked at for indexes, because the worker had no room for them.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const INDEX_EVENTS: MetricSpec = MetricSpec {
    name: "mdb_runtime_index_events_total",
    help: "What became of automatic indexes, as far as this proxy did it.",
    labels: &["event"],
    kind: Kind::Counter,
};

pub(super) const PANICS: MetricSpec = MetricSpec {
    name: "mdb_runtime_panics_total",
    help: "Tasks that panicked. Above zero is an alarm.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const LIMITS_REACHED: MetricSpec = MetricSpec {
    name: "mdb_runtime_limits_reached_total",
    help: "Connections and commands refused because a limit was reached, by the limit's key in the configuration.",
    labels: &["limit"],
    kind: Kind::Counter,
};

pub(super) const RELOADS: MetricSpec = MetricSpec {
    name: "mdb_runtime_reloads_total",
    help: "Readings of manifests and certificates while the proxy runs, by outcome.",
    labels: &["outcome"],
    kind: Kind::Counter,
};

pub(super) const RELOAD_FAILED: MetricSpec = MetricSpec {
    name: "mdb_runtime_reload_failed",
    help: "1 while the files are not those in force because the last reload failed, else 0.",
    labels: &[],
    kind: Kind::Gauge,
};

pub(super) const TOPOLOGY_CHANGES: MetricSpec = MetricSpec {
    name: "mdb_runtime_topology_changes_total",
    help: "Changes of the upstream deployment's description.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const UPSTREAM_UP: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_up",
    help: "1 while a server that can take commands is known, else 0.",
    labels: &[],
    kind: Kind::Gauge,
};

pub(super) const UPSTREAM_RECORDS_FAILURES: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_records_failures_total",
    help: "Times that the records of a mongodb+srv:// could not be had, or not be used, while the proxy runs.",
    labels: &[],
    kind: Kind::Counter,
};

pub(super) const INDEX_CHANGES: MetricSpec = MetricSpec {
    name: "mdb_runtime_declared_index_changes_total",
    help: "What was done about indexes of manifests, and what failed.",
    labels: &["change"],
    kind: Kind::Counter,
};

pub(super) const DEGRADED_INDEXES: MetricSpec = MetricSpec {
    name: "mdb_runtime_declared_indexes_degraded",
    help: "Indexes of the app's manifest that cannot be built now.",
    labels: &["app"],
    kind: Kind::Gauge,
};

pub(super) const CATALOGUE: &[&MetricSpec] = &[
    &CLIENT_CONNECTIONS_OPEN,
    &CLIENT_CONNECTIONS_OPENED,
    &CLIENT_CONNECTIONS_CLOSED,
    &CERTIFICATE_EXPIRY,
    &COMMANDS,
    &COMMAND_DURATION,
    &COMMAND_RECEIVED_BYTES,
    &COMMAND_SENT_BYTES,
    &OPEN_CURSORS,
    &AUTHENTICATIONS,
    &REFUSALS,
    &UPSTREAM_CONNECTIONS,
    &UPSTREAM_LEASES,
    &UPSTREAM_WAITING,
    &UPSTREAM_CONNECTIONS_CREATED,
    &UPSTREAM_CONNECTIONS_CLOSED,
    &CHECKOUT_DURATION,
    &CHECKOUT_FAILURES,
    &EXCHANGE_ERRORS,
    &RETRIES,
    &ISOLATION_INCIDENTS,
    &OBSERVATIONS_DROPPED,
    &INDEX_EVENTS,
    &PANICS,
    &LIMITS_REACHED,
    &RELOADS,
    &RELOAD_FAILED,
    &TOPOLOGY_CHANGES,
    &UPSTREAM_UP,
    &UPSTREAM_RECORDS_FAILURES,
    &INDEX_CHANGES,
    &DEGRADED_INDEXES,
];
