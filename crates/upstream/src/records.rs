//! The records of a `mongodb+srv://`, asked for beside the driver: it follows them, but says nothing when it cannot.

use std::{sync::Arc, time::Duration};

use mdb_auth::Secret;
use mdb_telemetry::Metrics;
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    topology::{Topology, TopologyKind},
    uri,
};

/// Asks for the records while the driver does, and tells what is wrong with them.
pub(crate) struct Records {
    uri: Secret,
    topology: watch::Receiver<Arc<Topology>>,
    metrics: Metrics,
    /// What was logged last, while it lasts.
    complaint: Option<String>,
}

impl Records {
    /// `None` where the connection string names its hosts itself.
    pub(crate) fn of(
        uri: &Secret,
        topology: watch::Receiver<Arc<Topology>>,
        metrics: Metrics,
    ) -> Option<Self> {
        uri.expose().starts_with("mongodb+srv://").then(|| Self {
            uri: uri.clone(),
            topology,
            metrics,
            complaint: None,
        })
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while stop.run_until_cancelled(sleep(INTERVAL)).await.is_some() {
            if !is_asked(self.topology.borrow().kind) {
                continue;
            }
            let Some(asked) = stop.run_until_cancelled(uri::options(&self.uri)).await else {
                return;
            };
            self.note(asked.err().map(|error| error.to_string()));
        }
    }

    /// Logs a complaint when it is not the one that was logged before.
    fn note(&mut self, complaint: Option<String>) {
        if complaint.is_some() {
            self.metrics.upstream_records_failure();
        }
        if self.complaint == complaint {
            return;
        }
        match &complaint {
            Some(complaint) => tracing::warn!(
                "{complaint}; until then the proxy stays with the members that it knows, and would not start"
            ),
            None => {
                tracing::info!(
                    "the records of the upstream's connection string are in order again"
                );
            }
        }
        self.complaint = complaint;
    }
}

/// By the drivers' specification of SRV polling: a replica set says itself which members it has.
fn is_asked(kind: TopologyKind) -> bool {
    matches!(kind, TopologyKind::Sharded | TopologyKind::Unknown)
}

/// The least that the specification lets drivers wait, and what they wait after a failure.
const INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_until_the_records_are_in_order() {
        let metrics = Metrics::new();
        let uri = |text: &str| Secret::new(text.to_owned());
        let of = |text: &str| {
            Records::of(
                &uri(text),
                watch::Sender::default().subscribe(),
                metrics.clone(),
            )
        };
        assert!(of("mongodb://h:1").is_none());
        let mut records = of("mongodb+srv://h.example.test").unwrap();
        let known = || Some("no records".to_owned());
        for (complaint, failures) in [(None, 0), (known(), 1), (known(), 2), (None, 2)] {
            records.note(complaint.clone());
            assert_eq!(records.complaint, complaint);
            let line = format!("mdb_runtime_upstream_records_failures_total {failures}\n");
            assert!(metrics.render().contains(&line), "{line}");
        }
    }
}
