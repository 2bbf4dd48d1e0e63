//! One connection on which a sequence runs.

use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, doc};
use mdb_tests::{RawClient, Section, raw};
use tokio::time::timeout;

use super::comparable::Names;
use super::step::{Compare, Step};
use super::streams::MARKER;

#[derive(Debug)]
pub(super) struct Side {
    client: RawClient,
    /// The one opened last.
    cursor: i64,
    /// The first event of the stream read last: its token, and when it was.
    event: Option<(Bson, Bson)>,
    pub(super) names: Names,
}

/// How often a transaction that another app disturbed is begun again, as drivers do.
pub(super) const ATTEMPTS_MAX: i64 = 200;

/// Longer than any of these commands takes, shorter than a connection's patience: so what hangs is told.
const REPLY_MAX: Duration = Duration::from_secs(50);

/// Reads of a stream that gives nothing.
const READS_MAX: u32 = 40;

const DATABASE: &str = "<database>";

/// Of no cursor.
const NO_CURSOR: i64 = 1;

impl Side {
    pub(super) fn new(client: RawClient) -> Self {
        Self {
            client,
            cursor: NO_CURSOR,
            event: None,
            names: Names::default(),
        }
    }

    pub(super) fn forget(&mut self) {
        self.cursor = NO_CURSOR;
        self.event = None;
        self.names = Names::default();
    }

    /// Runs a command. A transaction that is begun again has another number in each attempt.
    pub(super) async fn run(
        &mut self,
        step: &Step,
        database: &str,
        run: u64,
        attempt: i64,
    ) -> Document {
        let mut command = step.command.clone();
        if let Some(Bson::Int64(number)) = command.get_mut("txnNumber") {
            *number = *number * (ATTEMPTS_MAX + 1) + attempt;
        }
        for (_, value) in command.iter_mut() {
            self.fill(value, database, run);
        }
        if !command.contains_key("$db") {
            let db = if ["listDatabases", "killAllSessions"]
                .iter()
                .any(|name| command.contains_key(name))
            {
                "admin"
            } else {
                database
            };
            command.insert("$db", db);
        }
        if step.compare == Compare::Stream {
            return self.drain(&command).await;
        }
        self.exchange(&command).await
    }

    /// Reads a stream up to the marker, or to its end.
    async fn drain(&mut self, command: &Document) -> Document {
        let mut events = Vec::new();
        for _ in 0..READS_MAX {
            let reply = self.exchange(command).await;
            let Ok(cursor) = reply.get_document("cursor") else {
                return reply;
            };
            events.extend_from_slice(cursor.get_array("nextBatch").unwrap());
            self.event = events.first().and_then(place);
            if cursor.get_i64("id").is_ok_and(|id| id == 0) {
                return doc! {"events": events, "ended": true};
            }
            if events.iter().any(is_marker) {
                return doc! {"events": events};
            }
        }
        doc! {"events": events, "marker": "not seen"}
    }

    async fn exchange(&mut self, command: &Document) -> Document {
        let sections = [Section::Body(&raw(command))];
        let reply = timeout(REPLY_MAX, self.client.try_exchange(&sections)).await;
        let reply = reply.unwrap_or_else(|_| panic!("no reply to {command}"));
        let Some(reply) = reply else {
            return doc! {"closed": true};
        };
        let reply = reply.document();
        if let Ok(cursor) = reply.get_document("cursor")
            && let Ok(id) = cursor.get_i64("id")
        {
            // One that is at its end is none: the other side may have one batch more.
            self.cursor = if id == 0 { NO_CURSOR } else { id };
        }
        reply
    }

    fn event_part(&self, part: fn(&(Bson, Bson)) -> &Bson) -> Bson {
        self.event
            .as_ref()
            .map_or(Bson::Null, |event| part(event).clone())
    }

    /// Puts in what is known only now: `<cursor>`, `<event>`, `<event time>`, `<session N>`, `<database>`.
    fn fill(&self, value: &mut Bson, database: &str, run: u64) {
        match value {
            Bson::Document(inner) => inner
                .iter_mut()
                .for_each(|(_, value)| self.fill(value, database, run)),
            Bson::Array(items) => items
                .iter_mut()
                .for_each(|value| self.fill(value, database, run)),
            Bson::String(text) if text == "<cursor>" => *value = self.cursor.into(),
            Bson::String(text) if text == "<event>" => *value = self.event_part(|(id, _)| id),
            Bson::String(text) if text == "<event time>" => {
                *value = self.event_part(|(_, time)| time);
            }
            Bson::String(text) => {
                let number = text
                    .strip_prefix("<session ")
                    .and_then(|rest| rest.strip_suffix('>'));
                if let Some(number) = number.and_then(|number| number.parse().ok()) {
                    *value = session(run, number).into();
                } else if text.contains(DATABASE) {
                    *text = text.replace(DATABASE, database);
                }
            }
            _ => {}
        }
    }
}

/// Where an event stands, and when it was; `None` where a stage has left it out.
fn place(event: &Bson) -> Option<(Bson, Bson)> {
    let event = event.as_document()?;
    Some((event.get("_id")?.clone(), event.get("clusterTime")?.clone()))
}

fn is_marker(event: &Bson) -> bool {
    let event = event.as_document();
    // An earlier one is deleted before, in the same batch or in one of its own.
    let is_deleted = event.is_some_and(|e| {
        e.get_str("operationType")
            .is_ok_and(|kind| kind == "delete")
    });
    let key = event.and_then(|event| event.get_document("documentKey").ok());
    !is_deleted && key.is_some_and(|key| key.get_str("_id").is_ok_and(|id| id == MARKER))
}

fn session(run: u64, number: u64) -> Binary {
    let mut bytes = run.to_be_bytes().to_vec();
    bytes.extend(number.to_be_bytes());
    Binary {
        subtype: BinarySubtype::Uuid,
        bytes,
    }
}
