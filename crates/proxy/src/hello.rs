//! `hello` and `isMaster`: answered without the upstream, also while it is down.

use std::time::Duration;

use mdb_scope::Refusal;
use mdb_wire::{Compressor, Document, Writer};

use crate::announcement::{Announcement, Presentation};
use crate::authenticate::certificate::{self, LoggedIn};
use crate::authenticate::{self, Answer};
use crate::connection::{ClientMetadata, Connection};
use crate::dispatch::Call;
use crate::error::{AwaitingFlaw, Error, HelloError};
use crate::labels;
use crate::local::now_millis;
use crate::reply;
use crate::shared::Shared;
use fields::given;

/// Answers a hello, perhaps after waiting for a change. What follows the first reply to one with the flag exhaustAllowed,
/// [`crate::exhaust`] knows.
pub(crate) async fn answer(
    shared: &Shared,
    connection: &mut Connection,
    call: &Call<'_>,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let body = call.command.body;
    fields::check(body)?;
    learn_client(connection, body)?;
    let mut now = still_open(shared, shared.hello.now())?;
    let as_mongos = now.face.presentation == Presentation::Mongos;
    let flawed = |flaw| HelloError::Awaiting { flaw, as_mongos };
    if let Some(wanted) = Awaiting::read(body, call.exhaust_allowed, as_mongos)?
        && wanted.is_current(shared, &now).map_err(flawed)?
    {
        now = still_open(shared, wanted.change(shared).await)?;
    }
    connection.promise(now.face.message_bytes_max());
    connection.announced = now.counter;
    negotiate(connection, body);
    let is_balanced = learn_balancer(connection, body, &now);
    let speculative = speculate(shared, connection, body);
    reply::ok(out, |writer| {
        write_face(writer, shared, connection, call, &now);
        if is_balanced {
            // One per process, as `processId` is.
            let service = shared.hello.version_of(&now).process_id;
            writer.object_id(b"serviceId", service);
        }
        if !connection.compressors.is_empty() {
            let agreed: Vec<&str> = connection
                .compressors
                .iter()
                .map(Compressor::name)
                .collect();
            reply::strings(writer, b"compression", &agreed);
        }
        if let Some(user) = body.find("saslSupportedMechs").and_then(|e| e.as_str()) {
            write_mechanisms(writer, shared, user);
        }
        if let Some(answer) = &speculative {
            let mark = writer.begin_document(b"speculativeAuthenticate");
            answer.write(writer);
            writer.end(mark);
        }
    });
    Ok(())
}

/// Agrees on compressors, in the client's order. A hello that names none leaves what was agreed on, as on mongod (6.0.5).
fn negotiate(connection: &mut Connection, body: Document<'_>) {
    if let Some(asked) = body.find("compression").and_then(|e| e.as_array()) {
        let names = asked.elements().filter_map(|e| e.as_str());
        connection.compressors = names.filter_map(Compressor::of_name).collect();
    }
}

/// Whether the client says that it came by way of a load balancer: what it opens then goes with its connection. In front
/// of a standalone the answer is left out, and the driver says that this is no server for it; each of its writes would fail.
fn learn_balancer(connection: &mut Connection, body: Document<'_>, now: &Announcement) -> bool {
    let is_balanced = now.face.presentation == Presentation::Mongos
        && body.find("loadBalanced").and_then(|e| e.as_flag()) == Some(true);
    if is_balanced {
        connection.belongings.get_or_insert_default();
    }
    is_balanced
}

/// The fields that every hello has; no others, and none of the upstream's: a single `setName` would make drivers follow
/// the real hosts past the proxy.
fn write_face(
    writer: &mut Writer,
    shared: &Shared,
    connection: &Connection,
    call: &Call<'_>,
    now: &Announcement,
) {
    let face = &now.face;
    if call
        .command
        .body
        .find("helloOk")
        .is_some_and(|e| e.as_flag() == Some(true))
    {
        writer.boolean(b"helloOk", true);
    }
    let writable: &[u8] = if call.spec.name == "hello" {
        b"isWritablePrimary"
    } else {
        b"ismaster"
    };
    writer.boolean(writable, true);
    if face.presentation == Presentation::Mongos {
        writer.string(b"msg", "isdbgrid");
    }
    reply::topology_version(writer, shared.hello.version_of(now));
    writer.int32(b"maxBsonObjectSize", face.document_bytes_max);
    writer.int32(b"maxMessageSizeBytes", face.message_bytes_max);
    writer.int32(b"maxWriteBatchSize", face.batch_max);
    writer.date_time(b"localTime", now_millis());
    writer.int32(
        b"logicalSessionTimeoutMinutes",
        face.session_timeout_minutes,
    );
    writer.int32(b"connectionId", connection.id);
    writer.int32(b"minWireVersion", WIRE_VERSION_MIN);
    writer.int32(b"maxWireVersion", face.wire_version_max);
}

/// `saslSupportedMechs: "<database>.<user>"`. Any database will do: user names are unique by themselves. But on the one of
/// users with certificates a server lists none (6.0.5), as no SASL is spoken with them.
fn write_mechanisms(writer: &mut Writer, shared: &Shared, user: &str) {
    let (database, user) = user.split_once('.').unwrap_or(("", user));
    if database == certificate::EXTERNAL {
        reply::strings(writer, b"saslSupportedMechs", &[]);
        return;
    }
    let users = shared.users.now();
    let mechanisms = users.credentials.mechanisms(user);
    let names: Vec<&str> = mechanisms
        .iter()
        .map(|mechanism| mechanism.name())
        .collect();
    reply::strings(writer, b"saslSupportedMechs", &names);
}

/// What `speculativeAuthenticate` came to.
enum Speculation {
    /// `saslStart`.
    Challenge(Answer),
    /// `authenticate`.
    Done(LoggedIn),
}

impl Speculation {
    fn write(&self, writer: &mut Writer) {
        match self {
            Self::Challenge(answer) => answer.write(writer),
            Self::Done(logged_in) => logged_in.write(writer),
        }
    }
}

/// The `saslStart` or `authenticate` inside hello. One that cannot proceed is left out of the reply; the driver then starts
/// normally.
fn speculate(
    shared: &Shared,
    connection: &mut Connection,
    body: Document<'_>,
) -> Option<Speculation> {
    let attempt = body.find("speculativeAuthenticate")?.as_document()?;
    if attempt.first().is_some_and(|e| e.key == b"authenticate") {
        let logged_in = certificate::speculate(shared, connection, attempt)?;
        return Some(Speculation::Done(logged_in));
    }
    let database = attempt
        .find("db")
        .and_then(|e| e.as_str())
        .unwrap_or("admin");
    let answer = authenticate::start(shared, connection, database, attempt).ok()?;
    Some(Speculation::Challenge(answer))
}

fn still_open(shared: &Shared, now: Announcement) -> Result<Announcement, Error> {
    if now.is_shutting_down {
        let version = shared.hello.version_of(&now);
        return Err(Error::ShuttingDown {
            version,
            labels: labels::NONE,
        });
    }
    Ok(now)
}

/// What an awaitable hello waits for.
#[derive(Debug, PartialEq, Eq)]
struct Awaiting {
    process_id: [u8; 12],
    counter: i64,
    wait: Duration,
}

impl Awaiting {
    /// `topologyVersion` and `maxAwaitTimeMS`; both or none.
    fn read(
        body: Document<'_>,
        exhaust_allowed: bool,
        as_mongos: bool,
    ) -> Result<Option<Self>, Error> {
        let flawed = |flaw| Err(HelloError::Awaiting { flaw, as_mongos }.into());
        let version = given(body, "topologyVersion").and_then(|field| field.as_document());
        let version = version.map(fields::version_of).transpose()?;
        let wait = given(body, "maxAwaitTimeMS");
        let ((process_id, counter), wait) = match (version, wait) {
            (None, None) if exhaust_allowed => return flawed(AwaitingFlaw::ExhaustWithoutWait),
            (None, None) => return Ok(None),
            (Some(_), None) | (None, Some(_)) => return flawed(AwaitingFlaw::Half),
            (Some(version), Some(wait)) => (version, wait),
        };
        if counter < 0 {
            return flawed(AwaitingFlaw::NegativeCounter);
        }
        let Some(millis) = wait
            .as_integer()
            .and_then(|millis| u64::try_from(millis).ok())
        else {
            return flawed(AwaitingFlaw::Wait);
        };
        Ok(Some(Self {
            process_id,
            counter,
            wait: Duration::from_millis(millis),
        }))
    }

    /// Whether the client knows what is announced now, so that it has to wait for news.
    fn is_current(&self, shared: &Shared, now: &Announcement) -> Result<bool, AwaitingFlaw> {
        let version = shared.hello.version_of(now);
        if self.process_id != version.process_id {
            return Ok(false);
        }
        if self.counter > version.counter {
            return Err(AwaitingFlaw::CounterAhead);
        }
        Ok(self.counter == version.counter)
    }

    /// What is announced when the counter has grown, or when the client will wait no longer.
    async fn change(&self, shared: &Shared) -> Announcement {
        let mut watch = shared.hello.watch();
        let is_news = |now: &Announcement| now.counter > self.counter;
        let _ = tokio::time::timeout(self.wait, watch.wait_for(is_news)).await;
        watch.borrow().clone()
    }
}

/// Keeps what the first hello says of its client.
fn learn_client(connection: &mut Connection, body: Document<'_>) -> Result<(), Error> {
    if let Some(client) = body.find("client") {
        if connection.has_greeted {
            return Err(HelloError::MetadataAgain.into());
        }
        let Some(client) = client.as_document() else {
            return Err(
                Refusal::type_mismatch("The client metadata document must be a document").into(),
            );
        };
        connection.client = Some(Box::new(fields::client(client)?));
    }
    connection.has_greeted = true;
    Ok(())
}

impl ClientMetadata {
    /// What is kept of it.
    fn read(client: Document<'_>) -> Result<Self, HelloError> {
        let text = |part: &str, field: &str| {
            let part = client.find(part)?.as_document()?;
            part.find(field)?.as_str()
        };
        let application = text("application", "name");
        if application.is_some_and(|name| name.len() > APPLICATION_NAME_BYTES_MAX) {
            return Err(HelloError::ApplicationName);
        }
        let short = |field| -> String {
            let text = text("driver", field).unwrap_or("?");
            text.chars().take(DRIVER_CHARS_MAX).collect()
        };
        Ok(Self {
            application: application.map(Into::into),
            driver: format!("{} {}", short("name"), short("version")).into(),
        })
    }
}

/// As on mongod; drivers check it as well.
pub(crate) const APPLICATION_NAME_BYTES_MAX: usize = 128;
/// How much of a driver's name, and of its version, goes into the log.
const DRIVER_CHARS_MAX: usize = 64;
/// As mongod says to clients, whatever it really still speaks.
const WIRE_VERSION_MIN: i32 = 0;

mod fields;

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document as Doc, doc, oid::ObjectId};

    /// The codes are those of a mongos.
    fn read(body: &Doc, exhaust_allowed: bool) -> Result<Option<Awaiting>, i32> {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let body = Document::parse(&bytes).unwrap();
        Awaiting::read(body, exhaust_allowed, true).map_err(|error| error.code())
    }

    #[test]
    fn the_fields_of_an_awaitable_hello_must_fit() {
        let version =
            |counter: i64| doc! {"processId": ObjectId::from_bytes([2; 12]), "counter": counter};
        let both = |counter, millis: i32| {
            doc! {"hello": 1, "topologyVersion": version(counter), "maxAwaitTimeMS": millis}
        };
        let good = Awaiting {
            process_id: [2; 12],
            counter: 3,
            wait: Duration::from_millis(10),
        };
        let cases = [
            (doc! {"hello": 1}, false, Ok(None)),
            (doc! {"hello": 1}, true, Err(51763)),
            (both(3, 10), false, Ok(Some(good))),
            (both(-1, 10), false, Err(51758)),
            (both(3, -1), false, Err(51024)),
            (
                doc! {"hello": 1, "topologyVersion": version(3)},
                true,
                Err(51760),
            ),
            (doc! {"hello": 1, "maxAwaitTimeMS": 10}, false, Err(51760)),
            (
                doc! {"hello": 1, "topologyVersion": {"counter": 3_i64}, "maxAwaitTimeMS": 1},
                false,
                Err(40414),
            ),
        ];
        for (body, exhaust_allowed, expected) in cases {
            assert_eq!(read(&body, exhaust_allowed), expected, "{body}");
        }
    }

    #[test]
    fn client_metadata_is_bounded() {
        let of = |application: &str, driver: &str| {
            let body = doc! {
                "application": {"name": application},
                "driver": {"name": driver, "version": "1"},
            };
            let bytes = bson::serialize_to_vec(&body).unwrap();
            ClientMetadata::read(Document::parse(&bytes).unwrap())
        };
        let kept = of(&"a".repeat(128), &"d".repeat(1000)).unwrap();
        assert_eq!(kept.application.as_deref(), Some(&*"a".repeat(128)));
        assert_eq!(&*kept.driver, format!("{} 1", "d".repeat(64)));
        assert_eq!(of(&"a".repeat(129), "d"), Err(HelloError::ApplicationName));
    }
}
