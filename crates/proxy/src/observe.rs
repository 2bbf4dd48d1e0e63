//! What is said of a command after it was answered: one line and the app's counters.

use std::time::Duration;

use mdb_telemetry::{CommandOutcome, Label, OTHER_COMMAND};
use tokio::time::Instant;
use tracing::Level;

use crate::connection::Connection;
use crate::dispatch::Call;
use crate::error::Error;
use crate::shared::Shared;

/// One command, as it went.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    /// `None` if it has no row.
    pub(crate) call: Option<&'a Call<'a>>,
    pub(crate) error: Option<&'a Error>,
    /// The body of its reply.
    pub(crate) body: &'a [u8],
    /// When its last byte had been read.
    pub(crate) started_at: Instant,
    pub(crate) received_bytes: usize,
    pub(crate) sent_bytes: usize,
}

/// Counts it and writes a line about it. Never waits.
pub(crate) fn observe(shared: &Shared, connection: &Connection, observed: &Observed<'_>) {
    let duration = observed.started_at.elapsed();
    let outcome = observed.outcome();
    let spec = observed.call.map(|call| call.spec);
    if let Some(identity) = connection.identity() {
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let (received, sent) = (bytes(observed.received_bytes), bytes(observed.sent_bytes));
        identity
            .app
            .command_meter(spec)
            .record(outcome, duration, received, sent);
    }
    if outcome == CommandOutcome::Ok {
        tell(shared, connection, observed, duration);
    }
    match observed.error {
        Some(Error::Refusal(refusal)) => shared.metrics.refusal(refusal.name),
        Some(Error::Limit(limit)) => shared.metrics.limit_reached(limit.name()),
        Some(error @ (Error::Incident { .. } | Error::Unprivileged(_))) => {
            if matches!(error, Error::Incident { .. }) {
                shared.metrics.isolation_incident();
            }
            tracing::error!(
                connection = connection.id,
                app = connection.identity().map(|i| i.app.id.as_str()),
                command = spec.map_or(OTHER_COMMAND, |spec| spec.name),
                namespace = ?observed.namespace(),
                %error,
                "a command got no reply of its own"
            );
        }
        Some(_) | None => {}
    }
    if tracing::enabled!(Level::DEBUG) {
        tracing::debug!(
            connection = connection.id,
            app = connection.identity().map(|i| i.app.id.as_str()),
            command = spec.map_or(OTHER_COMMAND, |spec| spec.name),
            namespace = ?observed.namespace(),
            duration_micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            outcome = outcome.text(),
            code = observed.error.map(Error::code_name).as_deref(),
            error = observed.error.map(tracing::field::display),
            "command"
        );
    }
}

/// Tells whoever works on indexes.
fn tell(shared: &Shared, connection: &Connection, seen: &Observed<'_>, latency: Duration) {
    let (Some(observer), Some(call)) = (&shared.observer, seen.call) else {
        return;
    };
    let Some(app) = connection.identity().map(|identity| &identity.app) else {
        return;
    };
    if !app.is_observed {
        return;
    }
    let command = &call.command;
    observer.tell(
        &app.id,
        command,
        latency,
        seen.body,
        &|database, collection| {
            let scope = app.scope.get()?;
            let known = &shared.forward.namespaces;
            known.place_of(scope, database, collection)
        },
    );
}

impl Observed<'_> {
    fn outcome(&self) -> CommandOutcome {
        match self.error {
            Some(error) => error.outcome(),
            None if says_not_ok(self.body) => CommandOutcome::Error,
            None => CommandOutcome::Ok,
        }
    }

    /// `database.collection`, cut to what a log line may carry.
    fn namespace(&self) -> String {
        let Some(call) = self.call else {
            return String::new();
        };
        let collection = call
            .command
            .target
            .as_str()
            .filter(|_| call.spec.on_collection);
        let namespace = match collection {
            Some(collection) => format!("{}.{collection}", call.command.database),
            None => call.command.database.to_owned(),
        };
        namespace.chars().take(NAMESPACE_CHARS_MAX).collect()
    }
}

/// Whether a reply begins with `ok: 0.0`, where mongod and mongos put it when a command fails as a whole. Walking
/// the reply for it would cost more than the count is worth.
fn says_not_ok(body: &[u8]) -> bool {
    const NOT_OK: &[u8] = &[0x01, b'o', b'k', 0, 0, 0, 0, 0, 0, 0, 0, 0];
    body.get(4..)
        .is_some_and(|elements| elements.starts_with(NOT_OK))
}

/// mongod's limit for a namespace, in bytes.
const NAMESPACE_CHARS_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;
    use mdb_wire::{Command, Document};

    #[test]
    fn failures_of_the_server_are_told_from_the_reply() {
        let cases = [
            (doc! {"ok": 0.0, "errmsg": "no"}, true),
            (doc! {"ok": 1.0}, false),
            (doc! {"n": 1, "ok": 1.0}, false),
            (doc! {}, false),
        ];
        for (reply, expected) in cases {
            assert_eq!(
                says_not_ok(&bson::serialize_to_vec(&reply).unwrap()),
                expected,
                "{reply}"
            );
        }
    }

    #[test]
    fn namespaces_are_those_of_commands_on_collections_and_bounded() {
        let long = "x".repeat(1000);
        let cases = [
            (doc! {"find": "orders"}, "shop.orders".to_owned()),
            (doc! {"ping": "orders"}, "shop".to_owned()),
            (
                doc! {"find": &long},
                format!("shop.{long}")[..255].to_owned(),
            ),
        ];
        for (body, expected) in cases {
            let bytes = bson::serialize_to_vec(&body).unwrap();
            let command = Command::inner(Document::parse(&bytes).unwrap(), "shop").unwrap();
            let call = Call::new(command, false).unwrap();
            let observed = Observed {
                call: Some(&call),
                error: None,
                body: &[],
                started_at: Instant::now(),
                received_bytes: 0,
                sent_bytes: 0,
            };
            assert_eq!(observed.namespace(), expected);
        }
    }
}
