//! `docs/metrics.md`: the catalogue of metrics.

use std::fmt::Write as _;

use mdb_telemetry::{
    AuthenticationOutcome, CheckoutFailure, CloseReason, CommandOutcome, ConnectionState,
    ExchangeErrorKind, IndexChange, IndexEvent, Kind, Label, LeasePurpose, LimitName, Mechanism,
    MetricSpec, ReloadOutcome, UpstreamCloseReason, WaitsFor, catalogue,
};

use crate::{begin, check_page, coded};

#[test]
fn the_page_of_metrics_is_fresh() {
    let mut page = begin("Metrics");
    page.push_str(
        "`GET /metrics` on the admin address gives them in the Prometheus text format. Values of labels come from the manifests, the \
         configuration and closed sets; no client can make new series. What to alarm on: \
         [operations.md](operations.md#metrics-to-alarm-on).\n",
    );
    for metric in catalogue() {
        writeln!(page, "\n## {}\n\n{}\n", metric.name, metric.help).unwrap();
        match metric.kind {
            Kind::Counter => page.push_str("A counter.\n"),
            Kind::Gauge => page.push_str("A gauge.\n"),
            Kind::Histogram(bounds) => {
                let bounds: Vec<String> = bounds.iter().map(ToString::to_string).collect();
                writeln!(page, "A histogram with the bounds {}.", bounds.join(", ")).unwrap();
            }
        }
        if !metric.labels.is_empty() {
            page.push_str("\n| label | values |\n|---|---|\n");
        }
        for label in metric.labels {
            writeln!(page, "| `{label}` | {} |", values(metric, label)).unwrap();
        }
    }
    check_page("metrics.md", &page);
}

/// What a label can be. A metric or label that is not here fails the test.
fn values(metric: &MetricSpec, label: &str) -> String {
    let name = metric.name.trim_start_matches("mdb_runtime_");
    match (name, label) {
        (_, "app") => "a slug".to_owned(),
        (_, "listener") => "an address of a listener".to_owned(),
        (_, "command") => "a name of [commands.md](commands.md), or `other`".to_owned(),
        (_, "code") => "a name of [errors.md](errors.md)".to_owned(),
        ("commands_total", "outcome") => all::<CommandOutcome>(),
        ("client_connections_closed_total", "reason") => all::<CloseReason>(),
        ("limits_reached_total", "limit") => all::<LimitName>(),
        ("reloads_total", "outcome") => all::<ReloadOutcome>(),
        ("declared_index_changes_total", "change") => all::<IndexChange>(),
        ("authentications_total", "outcome") => all::<AuthenticationOutcome>(),
        ("authentications_total", "mechanism") => all::<Mechanism>(),
        ("upstream_connections", "state") => all::<ConnectionState>(),
        ("upstream_leases", "purpose") => all::<LeasePurpose>(),
        ("upstream_waiting", "for") => all::<WaitsFor>(),
        ("upstream_connections_closed_total", "reason") => all::<UpstreamCloseReason>(),
        ("upstream_checkout_failures_total", "reason") => all::<CheckoutFailure>(),
        ("index_events_total", "event") => all::<IndexEvent>(),
        ("upstream_exchange_errors_total", "kind") => all::<ExchangeErrorKind>(),
        other => panic!("{other:?} is not described"),
    }
}

fn all<L: Label>() -> String {
    coded(L::ALL.iter().map(|value| value.text()))
}
