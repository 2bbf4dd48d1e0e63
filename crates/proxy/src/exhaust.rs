//! Commands that get more than one reply: a hello that waits for news, and a `getMore`.

use std::time::Duration;

use mdb_wire::{Command, CommandError, Document, Writer};

use crate::announcement::Presentation;
use crate::dispatch::Call;
use crate::error::Error;
use crate::shared::Shared;

/// 7.1: the first mongos that gives several replies to one `getMore`.
const WIRE_VERSION_OF_ROUTERS: i32 = 22;

/// What goes on after the first reply.
#[derive(Debug)]
pub(crate) enum Exhaust {
    /// A hello each time that there are news, or when the client has waited for so long.
    Hello {
        /// `maxAwaitTimeMS`.
        wait: Duration,
        /// The hello without what only the first one does: waiting, logging in, saying who the client is.
        again: Vec<u8>,
    },
    /// The same `getMore` until the cursor is at its end.
    GetMore,
}

impl Exhaust {
    /// Whether the client asks for several replies, to a command that may have them where the proxy presents itself as it
    /// does: a mongos before 7.1 gives one to a `getMore`. To every other command a server gives one as well (6.0.5).
    pub(crate) fn of(shared: &Shared, call: &Call<'_>) -> Option<Self> {
        if !call.exhaust_allowed {
            return None;
        }
        let body = call.command.body;
        match call.spec.name {
            "hello" | "isMaster" => {
                let wait = body.find("maxAwaitTimeMS")?.as_integer()?;
                Some(Self::Hello {
                    wait: Duration::from_millis(u64::try_from(wait).ok()?),
                    again: plain_hello(body),
                })
            }
            "getMore" => {
                let face = shared.hello.now().face;
                let is_served = face.presentation == Presentation::Standalone
                    || face.wire_version_max >= WIRE_VERSION_OF_ROUTERS;
                is_served.then_some(Self::GetMore)
            }
            _ => None,
        }
    }

    /// The command that the next reply answers.
    pub(crate) fn next<'a>(&'a self, call: &Call<'a>) -> Result<Call<'a>, Error> {
        match self {
            Self::GetMore => Ok(*call),
            Self::Hello { again, .. } => {
                let body = Document::parse_shallow(again).map_err(|_| CommandError::Empty)?;
                Call::new(Command::inner(body, call.command.database)?, false)
            }
        }
    }

    /// Whether this reply is not the last: it says ok, and there is something left to say.
    pub(crate) fn goes_on(&self, reply: &[u8]) -> bool {
        let Ok(reply) = Document::parse_shallow(reply) else {
            return false;
        };
        if reply.find("ok").and_then(|ok| ok.as_flag()) != Some(true) {
            return false;
        }
        match self {
            Self::Hello { .. } => true,
            Self::GetMore => {
                let cursor = reply.find("cursor").and_then(|c| c.as_document());
                let id = cursor.and_then(|cursor| cursor.find("id")?.as_integer());
                id.is_some_and(|id| id != 0)
            }
        }
    }
}

fn plain_hello(body: Document<'_>) -> Vec<u8> {
    const FIRST_ONLY: [&[u8]; 4] = [
        b"topologyVersion",
        b"maxAwaitTimeMS",
        b"client",
        b"speculativeAuthenticate",
    ];
    let mut w = Writer::default();
    let mark = w.begin();
    let kept = body.elements().filter(|e| !FIRST_ONLY.contains(&e.key));
    kept.for_each(|element| w.element(&element));
    w.end(mark);
    w.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document as Doc, doc};

    fn bytes(body: &Doc) -> Vec<u8> {
        bson::serialize_to_vec(body).unwrap()
    }

    #[test]
    fn replies_go_on_until_an_error_or_the_end() {
        let hello = Exhaust::Hello {
            wait: Duration::ZERO,
            again: Vec::new(),
        };
        let batch = |id: i64| doc! {"cursor": {"id": id, "nextBatch": []}, "ok": 1.0};
        // Reply, whether a hello goes on, whether a getMore does.
        for (reply, of_hello, of_more) in [
            (doc! {"ok": 1.0}, true, false),
            (doc! {"ok": 0.0, "code": 91}, false, false),
            (batch(7), true, true),
            (batch(0), true, false),
            (doc! {"cursor": {"id": 7_i64}, "ok": 0.0}, false, false),
        ] {
            let reply_bytes = bytes(&reply);
            assert_eq!(hello.goes_on(&reply_bytes), of_hello, "{reply}");
            assert_eq!(Exhaust::GetMore.goes_on(&reply_bytes), of_more, "{reply}");
        }
        assert!(!hello.goes_on(&[]));
    }

    #[test]
    fn a_repeated_hello_neither_waits_nor_introduces_its_client() {
        let body = doc! {
            "hello": 1, "helloOk": true, "topologyVersion": {}, "maxAwaitTimeMS": 5, "client": {},
            "speculativeAuthenticate": {}, "$db": "admin",
        };
        let body = bytes(&body);
        let plain = plain_hello(Document::parse(&body).unwrap());
        assert_eq!(
            plain,
            bytes(&doc! {"hello": 1, "helloOk": true, "$db": "admin"})
        );
    }
}
