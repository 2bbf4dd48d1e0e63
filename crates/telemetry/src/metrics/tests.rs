use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::labels::{CloseReason, CommandOutcome};

/// A renamed metric breaks dashboards, so that a rename has to be written twice.
const NAMES: &[&str] = &[
    "mdb_runtime_authentications_total",
    "mdb_runtime_certificate_expiry_timestamp_seconds",
    "mdb_runtime_client_connections_closed_total",
    "mdb_runtime_client_connections_open",
    "mdb_runtime_client_connections_opened_total",
    "mdb_runtime_command_duration_seconds",
    "mdb_runtime_command_received_bytes_total",
    "mdb_runtime_command_sent_bytes_total",
    "mdb_runtime_commands_total",
    "mdb_runtime_declared_index_changes_total",
    "mdb_runtime_declared_indexes_degraded",
    "mdb_runtime_index_events_total",
    "mdb_runtime_index_observations_dropped_total",
    "mdb_runtime_isolation_incidents_total",
    "mdb_runtime_limits_reached_total",
    "mdb_runtime_open_cursors",
    "mdb_runtime_panics_total",
    "mdb_runtime_refusals_total",
    "mdb_runtime_reload_failed",
    "mdb_runtime_reloads_total",
    "mdb_runtime_retries_total",
    "mdb_runtime_topology_changes_total",
    "mdb_runtime_upstream_checkout_duration_seconds",
    "mdb_runtime_upstream_checkout_failures_total",
    "mdb_runtime_upstream_connections",
    "mdb_runtime_upstream_connections_closed_total",
    "mdb_runtime_upstream_connections_created_total",
    "mdb_runtime_upstream_exchange_errors_total",
    "mdb_runtime_upstream_leases",
    "mdb_runtime_upstream_records_failures_total",
    "mdb_runtime_upstream_up",
    "mdb_runtime_upstream_waiting",
];

/// A registry in which every family has a sample.
fn touched() -> Metrics {
    let metrics = Metrics::new();
    metrics.listener_meter("127.0.0.1:0").opened();
    metrics.app_meter("shop").cursor_opened();
    metrics.command_meter("shop", "find").record(
        CommandOutcome::Ok,
        Duration::from_millis(2),
        100,
        2000,
    );
    metrics.set_certificate_expiry("127.0.0.1:0", 1);
    metrics.refusal("Unauthorized");
    metrics.set_degraded_indexes("shop", 1);
    metrics
}

#[test]
fn names_are_exactly_these_and_all_are_registered() {
    let mut in_catalogue: Vec<_> = catalogue().iter().map(|spec| spec.name).collect();
    in_catalogue.sort_unstable();
    assert_eq!(in_catalogue, NAMES);

    let gathered = touched().families.registry.gather();
    let registered: Vec<_> = gathered
        .iter()
        .map(|family| family.name().to_owned())
        .collect();
    assert_eq!(registered, NAMES, "`gather` sorts by name");
}

#[test]
fn every_row_has_help_type_and_labels_in_the_exposition() {
    let text = touched().render();
    for spec in catalogue() {
        assert!(
            text.contains(&format!("# HELP {} {}\n", spec.name, spec.help)),
            "{}",
            spec.name
        );
        let kind = match spec.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(
            text.contains(&format!("# TYPE {} {kind}\n", spec.name)),
            "{}",
            spec.name
        );
        assert_eq!(
            matches!(spec.kind, Kind::Counter),
            spec.name.ends_with("_total"),
            "{}",
            spec.name
        );
    }
}

#[test]
fn two_instances_do_not_clash_and_clones_share() {
    let (one, other) = (Metrics::new(), Metrics::new());
    one.panic();
    one.clone().panic();
    assert!(one.render().contains("mdb_runtime_panics_total 2\n"));
    assert!(other.render().contains("mdb_runtime_panics_total 0\n"));
}

#[test]
fn meters_count_into_their_series() {
    let metrics = Metrics::new();
    let meter = metrics.command_meter("shop", "find");
    meter.record(CommandOutcome::Ok, Duration::from_millis(2), 100, 2000);
    meter
        .clone()
        .record(CommandOutcome::Refused, Duration::from_micros(50), 10, 20);
    metrics.command_meter("notes", OTHER_COMMAND).record(
        CommandOutcome::Error,
        Duration::ZERO,
        1,
        1,
    );
    let listener = metrics.listener_meter("127.0.0.1:0");
    listener.opened();
    listener.opened();
    listener.closed(CloseReason::Drain);
    metrics.upstream_connection_entered(ConnectionState::InUse);
    metrics.upstream_connection_entered(ConnectionState::Idle);
    metrics.upstream_connection_left(ConnectionState::Idle);
    metrics.authentication(AuthenticationOutcome::Failed, Mechanism::ScramSha1);
    metrics.set_upstream_up(true);

    let text = metrics.render();
    for line in [
        r#"mdb_runtime_commands_total{app="shop",command="find",outcome="ok"} 1"#,
        r#"mdb_runtime_commands_total{app="shop",command="find",outcome="refused"} 1"#,
        r#"mdb_runtime_commands_total{app="shop",command="find",outcome="upstream_error"} 0"#,
        r#"mdb_runtime_commands_total{app="notes",command="other",outcome="error"} 1"#,
        r#"mdb_runtime_command_duration_seconds_bucket{app="shop",command="find",le="0.0001"} 1"#,
        r#"mdb_runtime_command_duration_seconds_count{app="shop",command="find"} 2"#,
        r#"mdb_runtime_command_received_bytes_total{app="shop"} 110"#,
        r#"mdb_runtime_command_sent_bytes_total{app="shop"} 2020"#,
        r#"mdb_runtime_client_connections_open{listener="127.0.0.1:0"} 1"#,
        r#"mdb_runtime_client_connections_closed_total{listener="127.0.0.1:0",reason="drain"} 1"#,
        r#"mdb_runtime_upstream_connections{state="idle"} 0"#,
        r#"mdb_runtime_upstream_connections{state="in_use"} 1"#,
        r#"mdb_runtime_authentications_total{mechanism="SCRAM-SHA-1",outcome="failed"} 1"#,
        "mdb_runtime_upstream_up 1",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "missing: {line}\n{text}"
        );
    }
}

#[test]
fn label_values_are_unlike_and_in_order() {
    fn check<L: Label>() {
        let texts: BTreeSet<_> = L::ALL.iter().map(|value| value.text()).collect();
        assert_eq!(texts.len(), L::ALL.len());
        for (position, value) in L::ALL.iter().enumerate() {
            assert_eq!(value.position(), position);
        }
    }
    check::<CommandOutcome>();
    check::<CloseReason>();
    check::<AuthenticationOutcome>();
    check::<Mechanism>();
    check::<ConnectionState>();
    check::<UpstreamCloseReason>();
    check::<CheckoutFailure>();
    check::<ExchangeErrorKind>();
}
