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

use catalogue::{
    AUTHENTICATIONS, CATALOGUE, CERTIFICATE_EXPIRY, CHECKOUT_DURATION, CHECKOUT_FAILURES,
    CLIENT_CONNECTIONS_CLOSED, CLIENT_CONNECTIONS_OPEN, CLIENT_CONNECTIONS_OPENED,
    COMMAND_DURATION, COMMAND_RECEIVED_BYTES, COMMAND_SENT_BYTES, COMMANDS, DEGRADED_INDEXES,
    EXCHANGE_ERRORS, INDEX_CHANGES, INDEX_EVENTS, ISOLATION_INCIDENTS, LIMITS_REACHED,
    OBSERVATIONS_DROPPED, OPEN_CURSORS, PANICS, REFUSALS, RELOAD_FAILED, RELOADS, RETRIES,
    TOPOLOGY_CHANGES, UPSTREAM_CONNECTIONS, UPSTREAM_CONNECTIONS_CLOSED,
    UPSTREAM_CONNECTIONS_CREATED, UPSTREAM_LEASES, UPSTREAM_RECORDS_FAILURES, UPSTREAM_UP,
    UPSTREAM_WAITING,
};

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

    /// The records of the upstream's connection string could not be had or used.
    pub fn upstream_records_failure(&self) {
        self.families.upstream_records_failures.inc();
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
    upstream_records_failures: IntCounter,
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
            upstream_records_failures: counter(&UPSTREAM_RECORDS_FAILURES).with_label_values(NONE),
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

mod catalogue;
#[cfg(test)]
mod tests;
