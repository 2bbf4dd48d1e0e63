//! The catalogue of metrics, and everything registered from it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::labels::{
    AuthenticationOutcome, CheckoutFailure, ConnectionState, ExchangeErrorKind, IndexChange,
    IndexEvent, Label, LeasePurpose, LimitName, Mechanism, ReloadOutcome, UpstreamCloseReason,
    WaitsFor,
};
use crate::meter::{AppMeter, CommandMeter, Counted, ListenerMeter};

/// The value of the label `command` for a command that has no row in the table of commands.
pub const OTHER_COMMAND: &str = "other";

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MetricSpec {
    /// The whole name, with prefix and unit.
    pub name: &'static str,
    /// One sentence for people.
    pub help: &'static str,
    /// Names of the labels, in the order of their values.
    pub labels: &'static [&'static str],
    /// What sort of metric it is.
    pub kind: Kind,
}

/// The sorts of metrics.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only goes up.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts observations up to these bounds, in the unit of the name.
    Histogram(&'static [f64]),
}

/// Every metric of the proxy, in the order of the documentation.
pub fn catalogue() -> &'static [&'static MetricSpec] {
    CATALOGUE
}

/// The counters of one proxy. A clone counts into the same registry.
#[derive(Clone)]
pub struct Metrics {
    families: Arc<Families>,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// A registry of its own with every metric of the catalogue at zero.
    pub fn new() -> Self {
        Self {
            families: Arc::new(Families::new()),
        }
    }

    /// The text exposition format, version 0.0.4.
    pub fn render(&self) -> String {
        let gathered = self.families.registry.gather();
        // Encoding into a string fails only for a family without a name or without samples, and `gather` gives neither.
        TextEncoder::new()
            .encode_to_string(&gathered)
            .unwrap_or_default()
    }

    /// The counters of one command of one app. Look it up once and keep it: making it takes locks, using it does not.
    /// `command` is a name of the table of commands, or [`OTHER_COMMAND`].
    pub fn command_meter(&self, app: &str, command: &'static str) -> CommandMeter {
        CommandMeter::new(&self.families, app, command)
    }

    /// The counters of one app that do not depend on the command.
    pub fn app_meter(&self, app: &str) -> AppMeter {
        AppMeter::new(&self.families, app)
    }

    /// The counters of one listener, named by its address in the configuration.
    pub fn listener_meter(&self, listener: &str) -> ListenerMeter {
        ListenerMeter::new(&self.families, listener)
    }

    /// An authentication ended.
    pub fn authentication(&self, outcome: AuthenticationOutcome, mechanism: Mechanism) {
        self.families
            .authentications
            .with_label_values(&[outcome.text(), mechanism.text()])
            .inc();
    }

    /// A policy said no. `code` is the name of the error code, from the program's tables.
    pub fn refusal(&self, code: &'static str) {
        self.families.refusals.with_label_values(&[code]).inc();
    }

    /// One more upstream connection is in this state.
    pub fn upstream_connection_entered(&self, state: ConnectionState) {
        self.families.upstream_connections.of(state).inc();
    }

    /// One upstream connection fewer is in this state.
    pub fn upstream_connection_left(&self, state: ConnectionState) {
        self.families.upstream_connections.of(state).dec();
    }

    /// An upstream connection is being made, until what this gives is dropped.
    pub fn connecting(&self) -> Counted {
        let state = ConnectionState::Connecting;
        Counted::new(self.families.upstream_connections.of(state))
    }

    /// A connection was lent.
    pub fn lease_begun(&self, purpose: LeasePurpose) {
        self.families.upstream_leases.of(purpose).inc();
    }

    /// A lent connection was given back.
    pub fn lease_ended(&self, purpose: LeasePurpose) {
        self.families.upstream_leases.of(purpose).dec();
    }

    /// A command waits, until what this gives is dropped.
    pub fn waits(&self, waits_for: WaitsFor) -> Counted {
        Counted::new(self.families.upstream_waiting.of(waits_for))
    }

    /// An upstream connection was opened and greeted.
    pub fn upstream_connection_created(&self) {
        self.families.upstream_connections_created.inc();
    }

    /// An upstream connection was closed.
    pub fn upstream_connection_closed(&self, reason: UpstreamCloseReason) {
        self.families.upstream_connections_closed.of(reason).inc();
    }

    /// A connection was lent after this wait.
    pub fn checkout(&self, waited: Duration) {
        self.families
            .checkout_duration_seconds
            .observe(waited.as_secs_f64());
    }

    /// No connection could be lent.
    pub fn checkout_failure(&self, reason: CheckoutFailure) {
        self.families.checkout_failures.of(reason).inc();
    }

    /// A command was sent, or partly sent, and no reply came back.
    pub fn exchange_error(&self, kind: ExchangeErrorKind) {
        self.families.exchange_errors.of(kind).inc();
    }

    /// The proxy sent a command once more on the client's behalf.
    pub fn retry(&self) {
        self.families.retries.inc();
    }

    /// A reply carried something that was not the app's own. Anything above zero is an alarm.
    pub fn isolation_incident(&self) {
        self.families.isolation_incidents.inc();
    }

    /// A command was not looked at for indexes, because the worker had no room for it.
    pub fn observation_dropped(&self) {
        self.families.observations_dropped.inc();
    }

    /// Something became of an automatic index.
    pub fn index_event(&self, event: IndexEvent) {
        self.families.index_events.of(event).inc();
    }

    /// A task panicked. Anything above zero is an alarm.
    pub fn panic(&self) {
        self.families.panics.inc();
    }

    /// Something was done about an index of a manifest, or could not be.
    pub fn index_change(&self, change: IndexChange) {
        self.families.index_changes.of(change).inc();
    }

    /// So many indexes of the app's manifest cannot be built now.
    pub fn set_degraded_indexes(&self, app: &str, count: usize) {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        let of_app = self.families.degraded_indexes.with_label_values(&[app]);
        of_app.set(count);
    }

    /// The description of the deployment changed.
    pub fn topology_change(&self) {
        self.families.topology_changes.inc();
    }

    /// When the certificate of a listener expires, in seconds since 1970.
    pub fn set_certificate_expiry(&self, listener: &str, seconds: i64) {
        self.families
            .certificate_expiry
            .with_label_values(&[listener])
            .set(seconds);
    }

    /// Something was refused because a limit is reached.
    pub fn limit_reached(&self, limit: LimitName) {
        self.families.limits_reached.of(limit).inc();
    }

    /// Manifests and certificates were read again.
    pub fn reload(&self, outcome: ReloadOutcome) {
        self.families.reloads.of(outcome).inc();
        let has_failed = outcome == ReloadOutcome::Failed;
        self.families.reload_failed.set(i64::from(has_failed));
    }

    /// Whether a server that can take commands is known.
    pub fn set_upstream_up(&self, is_up: bool) {
        self.families.upstream_up.set(i64::from(is_up));
    }
}

/// The registered families, one field per row of the catalogue.
pub(crate) struct Families {
    registry: Registry,
    pub(crate) client_connections_open: IntGaugeVec,
    pub(crate) client_connections_opened: IntCounterVec,
    pub(crate) client_connections_closed: IntCounterVec,
    certificate_expiry: IntGaugeVec,
    pub(crate) commands: IntCounterVec,
    pub(crate) command_duration_seconds: HistogramVec,
    pub(crate) command_received_bytes: IntCounterVec,
    pub(crate) command_sent_bytes: IntCounterVec,
    pub(crate) open_cursors: IntGaugeVec,
    authentications: IntCounterVec,
    refusals: IntCounterVec,
    upstream_connections: PerLabel<ConnectionState, IntGauge>,
    upstream_leases: PerLabel<LeasePurpose, IntGauge>,
    upstream_waiting: PerLabel<WaitsFor, IntGauge>,
    upstream_connections_created: IntCounter,
    upstream_connections_closed: PerLabel<UpstreamCloseReason, IntCounter>,
    checkout_duration_seconds: Histogram,
    checkout_failures: PerLabel<CheckoutFailure, IntCounter>,
    exchange_errors: PerLabel<ExchangeErrorKind, IntCounter>,
    retries: IntCounter,
    isolation_incidents: IntCounter,
    observations_dropped: IntCounter,
    index_events: PerLabel<IndexEvent, IntCounter>,
    panics: IntCounter,
    limits_reached: PerLabel<LimitName, IntCounter>,
    reloads: PerLabel<ReloadOutcome, IntCounter>,
    reload_failed: IntGauge,
    topology_changes: IntCounter,
    upstream_up: IntGauge,
    index_changes: PerLabel<IndexChange, IntCounter>,
    degraded_indexes: IntGaugeVec,
}

impl Families {
    fn new() -> Self {
        let registry = Registry::new();
        let counter = |spec| registered(&registry, IntCounterVec::new(options(spec), spec.labels));
        let gauge = |spec| registered(&registry, IntGaugeVec::new(options(spec), spec.labels));
        let histogram = |spec| {
            registered(
                &registry,
                HistogramVec::new(histogram_options(spec), spec.labels),
            )
        };
        let families = Self {
            client_connections_open: gauge(&CLIENT_CONNECTIONS_OPEN),
            client_connections_opened: counter(&CLIENT_CONNECTIONS_OPENED),
            client_connections_closed: counter(&CLIENT_CONNECTIONS_CLOSED),
            certificate_expiry: gauge(&CERTIFICATE_EXPIRY),
            commands: counter(&COMMANDS),
            command_duration_seconds: histogram(&COMMAND_DURATION),
            command_received_bytes: counter(&COMMAND_RECEIVED_BYTES),
            command_sent_bytes: counter(&COMMAND_SENT_BYTES),
            open_cursors: gauge(&OPEN_CURSORS),
            authentications: counter(&AUTHENTICATIONS),
            refusals: counter(&REFUSALS),
            upstream_connections: PerLabel::of_gauge(&gauge(&UPSTREAM_CONNECTIONS)),
            upstream_leases: PerLabel::of_gauge(&gauge(&UPSTREAM_LEASES)),
            upstream_waiting: PerLabel::of_gauge(&gauge(&UPSTREAM_WAITING)),
            upstream_connections_created: counter(&UPSTREAM_CONNECTIONS_CREATED)
                .with_label_values(NONE),
            upstream_connections_closed: PerLabel::of_counter(&counter(
                &UPSTREAM_CONNECTIONS_CLOSED,
            )),
            checkout_duration_seconds: histogram(&CHECKOUT_DURATION).with_label_values(NONE),
            checkout_failures: PerLabel::of_counter(&counter(&CHECKOUT_FAILURES)),
            exchange_errors: PerLabel::of_counter(&counter(&EXCHANGE_ERRORS)),
            retries: counter(&RETRIES).with_label_values(NONE),
            isolation_incidents: counter(&ISOLATION_INCIDENTS).with_label_values(NONE),
            observations_dropped: counter(&OBSERVATIONS_DROPPED).with_label_values(NONE),
            index_events: PerLabel::of_counter(&counter(&INDEX_EVENTS)),
            panics: counter(&PANICS).with_label_values(NONE),
            limits_reached: PerLabel::of_counter(&counter(&LIMITS_REACHED)),
            reloads: PerLabel::of_counter(&counter(&RELOADS)),
            reload_failed: gauge(&RELOAD_FAILED).with_label_values(NONE),
            topology_changes: counter(&TOPOLOGY_CHANGES).with_label_values(NONE),
            upstream_up: gauge(&UPSTREAM_UP).with_label_values(NONE),
            index_changes: PerLabel::of_counter(&counter(&INDEX_CHANGES)),
            degraded_indexes: gauge(&DEGRADED_INDEXES),
            registry: registry.clone(),
        };
        for outcome in AuthenticationOutcome::ALL {
            for mechanism in Mechanism::ALL {
                families
                    .authentications
                    .with_label_values(&[outcome.text(), mechanism.text()]);
            }
        }
        families
    }
}

/// One metric per value of a label, resolved at the start so that counting takes no lookup. Every value stands at zero
/// from the start, so that an alert sees the first increase.
struct PerLabel<L, M> {
    children: Box<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> PerLabel<L, M> {
    fn new(child: impl Fn(&'static str) -> M) -> Self {
        Self {
            children: L::ALL.iter().map(|value| child(value.text())).collect(),
            label: PhantomData,
        }
    }

    fn of(&self, value: L) -> &M {
        &self.children[value.position()]
    }
}

impl<L: Label> PerLabel<L, IntCounter> {
    fn of_counter(family: &IntCounterVec) -> Self {
        Self::new(|value| family.with_label_values(&[value]))
    }
}

impl<L: Label> PerLabel<L, IntGauge> {
    fn of_gauge(family: &IntGaugeVec) -> Self {
        Self::new(|value| family.with_label_values(&[value]))
    }
}

/// Registers a family. It fails only when a row of the catalogue is malformed or stands twice, which the first test that
/// makes a [`Metrics`] shows.
fn registered<C: Collector + Clone + 'static>(
    registry: &Registry,
    family: prometheus::Result<C>,
) -> C {
    let family = family.expect("a row of the catalogue has a legal name and legal labels");
    registry
        .register(Box::new(family.clone()))
        .expect("a name stands once in the catalogue");
    family
}

fn options(spec: &MetricSpec) -> Opts {
    Opts::new(spec.name, spec.help)
}

fn histogram_options(spec: &MetricSpec) -> HistogramOpts {
    let bounds = match spec.kind {
        Kind::Histogram(bounds) => bounds,
        Kind::Counter | Kind::Gauge => &[],
    };
    HistogramOpts::new(spec.name, spec.help).buckets(bounds.to_vec())
}

/// The values of no labels.
const NONE: &[&str] = &[];

/// 100 microseconds (below it the clock and the socket drown the proxy's own share) to 10 seconds, three steps a decade.
const COMMAND_SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0,
];

/// A checkout from a pool that is not short takes microseconds; one that is short ends at the checkout timeout.
const CHECKOUT_SECONDS: &[f64] = &[0.000_01, 0.000_1, 0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0];

const CLIENT_CONNECTIONS_OPEN: MetricSpec = MetricSpec {
    name: "mdb_runtime_client_connections_open",
    help: "Client connections that are open now.",
    labels: &["listener"],
    kind: Kind::Gauge,
};

const CLIENT_CONNECTIONS_OPENED: MetricSpec = MetricSpec {
    name: "mdb_runtime_client_connections_opened_total",
    help: "Client connections accepted.",
    labels: &["listener"],
    kind: Kind::Counter,
};

const CLIENT_CONNECTIONS_CLOSED: MetricSpec = MetricSpec {
    name: "mdb_runtime_client_connections_closed_total",
    help: "Client connections ended, by reason.",
    labels: &["listener", "reason"],
    kind: Kind::Counter,
};

const CERTIFICATE_EXPIRY: MetricSpec = MetricSpec {
    name: "mdb_runtime_certificate_expiry_timestamp_seconds",
    help: "When the certificate of a listener with TLS expires, in seconds since 1970.",
    labels: &["listener"],
    kind: Kind::Gauge,
};

const COMMANDS: MetricSpec = MetricSpec {
    name: "mdb_runtime_commands_total",
    help: "Commands answered, by app, command and outcome.",
    labels: &["app", "command", "outcome"],
    kind: Kind::Counter,
};

const COMMAND_DURATION: MetricSpec = MetricSpec {
    name: "mdb_runtime_command_duration_seconds",
    help: "Time from a command's last byte read to its reply ready to send.",
    labels: &["app", "command"],
    kind: Kind::Histogram(COMMAND_SECONDS),
};

const COMMAND_RECEIVED_BYTES: MetricSpec = MetricSpec {
    name: "mdb_runtime_command_received_bytes_total",
    help: "Bytes of commands read from clients of the app.",
    labels: &["app"],
    kind: Kind::Counter,
};

const COMMAND_SENT_BYTES: MetricSpec = MetricSpec {
    name: "mdb_runtime_command_sent_bytes_total",
    help: "Bytes of replies written to clients of the app.",
    labels: &["app"],
    kind: Kind::Counter,
};

const OPEN_CURSORS: MetricSpec = MetricSpec {
    name: "mdb_runtime_open_cursors",
    help: "Cursors the app holds open upstream.",
    labels: &["app"],
    kind: Kind::Gauge,
};

const AUTHENTICATIONS: MetricSpec = MetricSpec {
    name: "mdb_runtime_authentications_total",
    help: "Authentications ended, by outcome and mechanism.",
    labels: &["outcome", "mechanism"],
    kind: Kind::Counter,
};

const REFUSALS: MetricSpec = MetricSpec {
    name: "mdb_runtime_refusals_total",
    help: "Commands refused by policy, by the name of the error code.",
    labels: &["code"],
    kind: Kind::Counter,
};

const UPSTREAM_CONNECTIONS: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_connections",
    help: "Upstream connections that are open now, by state.",
    labels: &["state"],
    kind: Kind::Gauge,
};

const UPSTREAM_LEASES: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_leases",
    help: "Upstream connections in use, by what each is held for.",
    labels: &["purpose"],
    kind: Kind::Gauge,
};

const UPSTREAM_WAITING: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_waiting",
    help: "Commands that wait in the proxy, by what for.",
    labels: &["for"],
    kind: Kind::Gauge,
};

const UPSTREAM_CONNECTIONS_CREATED: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_connections_created_total",
    help: "Upstream connections opened.",
    labels: &[],
    kind: Kind::Counter,
};

const UPSTREAM_CONNECTIONS_CLOSED: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_connections_closed_total",
    help: "Upstream connections closed, by reason.",
    labels: &["reason"],
    kind: Kind::Counter,
};

const CHECKOUT_DURATION: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_checkout_duration_seconds",
    help: "Wait for an upstream connection that was then lent.",
    labels: &[],
    kind: Kind::Histogram(CHECKOUT_SECONDS),
};

const CHECKOUT_FAILURES: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_checkout_failures_total",
    help: "Waits for an upstream connection that ended without one, by reason.",
    labels: &["reason"],
    kind: Kind::Counter,
};

const EXCHANGE_ERRORS: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_exchange_errors_total",
    help: "Commands sent upstream that got no usable reply, by kind.",
    labels: &["kind"],
    kind: Kind::Counter,
};

const RETRIES: MetricSpec = MetricSpec {
    name: "mdb_runtime_retries_total",
    help: "Commands the proxy sent once more on a client's behalf.",
    labels: &[],
    kind: Kind::Counter,
};

const ISOLATION_INCIDENTS: MetricSpec = MetricSpec {
    name: "mdb_runtime_isolation_incidents_total",
    help: "Replies withheld because they carried what is not the app's own. Above zero is an alarm.",
    labels: &[],
    kind: Kind::Counter,
};

const OBSERVATIONS_DROPPED: MetricSpec = MetricSpec {
    name: "mdb_runtime_index_observations_dropped_total",
    help: "Commands that were not looked at for indexes, because the worker had no room for them.",
    labels: &[],
    kind: Kind::Counter,
};

const INDEX_EVENTS: MetricSpec = MetricSpec {
    name: "mdb_runtime_index_events_total",
    help: "What became of automatic indexes, as far as this proxy did it.",
    labels: &["event"],
    kind: Kind::Counter,
};

const PANICS: MetricSpec = MetricSpec {
    name: "mdb_runtime_panics_total",
    help: "Tasks that panicked. Above zero is an alarm.",
    labels: &[],
    kind: Kind::Counter,
};

const LIMITS_REACHED: MetricSpec = MetricSpec {
    name: "mdb_runtime_limits_reached_total",
    help: "Connections and commands refused because a limit was reached, by the limit's key in the configuration.",
    labels: &["limit"],
    kind: Kind::Counter,
};

const RELOADS: MetricSpec = MetricSpec {
    name: "mdb_runtime_reloads_total",
    help: "Readings of manifests and certificates while the proxy runs, by outcome.",
    labels: &["outcome"],
    kind: Kind::Counter,
};

const RELOAD_FAILED: MetricSpec = MetricSpec {
    name: "mdb_runtime_reload_failed",
    help: "1 while the files are not those in force because the last reload failed, else 0.",
    labels: &[],
    kind: Kind::Gauge,
};

const TOPOLOGY_CHANGES: MetricSpec = MetricSpec {
    name: "mdb_runtime_topology_changes_total",
    help: "Changes of the upstream deployment's description.",
    labels: &[],
    kind: Kind::Counter,
};

const UPSTREAM_UP: MetricSpec = MetricSpec {
    name: "mdb_runtime_upstream_up",
    help: "1 while a server that can take commands is known, else 0.",
    labels: &[],
    kind: Kind::Gauge,
};

const INDEX_CHANGES: MetricSpec = MetricSpec {
    name: "mdb_runtime_declared_index_changes_total",
    help: "What was done about indexes of manifests, and what failed.",
    labels: &["change"],
    kind: Kind::Counter,
};

const DEGRADED_INDEXES: MetricSpec = MetricSpec {
    name: "mdb_runtime_declared_indexes_degraded",
    help: "Indexes of the app's manifest that cannot be built now.",
    labels: &["app"],
    kind: Kind::Gauge,
};

const CATALOGUE: &[&MetricSpec] = &[
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
    &INDEX_CHANGES,
    &DEGRADED_INDEXES,
];

#[cfg(test)]
mod tests;
