//! Counters resolved once: no label is looked up while a command is served.

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

use crate::labels::{CloseReason, CommandOutcome, Label};
use crate::metrics::Families;

/// The counters of one command of one app.
#[derive(Clone, Debug)]
pub struct CommandMeter {
    outcomes: Box<[IntCounter]>,
    duration_seconds: Histogram,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

impl CommandMeter {
    pub(crate) fn new(families: &Families, app: &str, command: &'static str) -> Self {
        let outcome = |value: &CommandOutcome| {
            families
                .commands
                .with_label_values(&[app, command, value.text()])
        };
        Self {
            outcomes: CommandOutcome::ALL.iter().map(outcome).collect(),
            duration_seconds: families
                .command_duration_seconds
                .with_label_values(&[app, command]),
            received_bytes: families.command_received_bytes.with_label_values(&[app]),
            sent_bytes: families.command_sent_bytes.with_label_values(&[app]),
        }
    }

    /// One command was answered after `duration`. The bytes are those of whole messages, headers included, as they
    /// crossed the client's side.
    pub fn record(
        &self,
        outcome: CommandOutcome,
        duration: Duration,
        received_bytes: u64,
        sent_bytes: u64,
    ) {
        self.outcomes[outcome.position()].inc();
        self.duration_seconds.observe(duration.as_secs_f64());
        self.received_bytes.inc_by(received_bytes);
        self.sent_bytes.inc_by(sent_bytes);
    }
}

/// The counters of one app that do not depend on the command.
#[derive(Clone, Debug)]
pub struct AppMeter {
    open_cursors: IntGauge,
}

impl AppMeter {
    pub(crate) fn new(families: &Families, app: &str) -> Self {
        Self {
            open_cursors: families.open_cursors.with_label_values(&[app]),
        }
    }

    /// The app holds one more cursor.
    pub fn cursor_opened(&self) {
        self.open_cursors.inc();
    }

    /// The app holds one cursor fewer.
    pub fn cursor_closed(&self) {
        self.open_cursors.dec();
    }
}

/// The counters of one listener.
#[derive(Clone, Debug)]
pub struct ListenerMeter {
    open: IntGauge,
    opened: IntCounter,
    closed: Box<[IntCounter]>,
}

impl ListenerMeter {
    pub(crate) fn new(families: &Families, listener: &str) -> Self {
        Self {
            open: families
                .client_connections_open
                .with_label_values(&[listener]),
            opened: families
                .client_connections_opened
                .with_label_values(&[listener]),
            closed: closed_by_reason(&families.client_connections_closed, listener),
        }
    }

    /// A client connection was accepted. Each is matched by one [`ListenerMeter::closed`].
    pub fn opened(&self) {
        self.open.inc();
        self.opened.inc();
    }

    /// A client connection ended.
    pub fn closed(&self, reason: CloseReason) {
        self.open.dec();
        self.closed[reason.position()].inc();
    }
}

fn closed_by_reason(family: &IntCounterVec, listener: &str) -> Box<[IntCounter]> {
    CloseReason::ALL
        .iter()
        .map(|reason| family.with_label_values(&[listener, reason.text()]))
        .collect()
}

/// Counts one in a gauge until it is dropped.
#[derive(Debug)]
pub struct Counted(IntGauge);

impl Counted {
    pub(crate) fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
