//! The proof that a command may go upstream, and where it should go.

use std::sync::Arc;

use mdb_wire::frame::HEADER_BYTES;
use mdb_wire::{Document, Kind};

use crate::refused::Refused;

/// Header, flags and the kind of the first section, which is the body.
const BODY_AT: usize = HEADER_BYTES + 4 + 1;
/// The name as it stands in an element.
const MAX_TIME_NAME: &[u8] = b"maxTimeMS\0";

/// `host:port` of a member of the upstream deployment, as the topology names it.
pub type ServerAddress = Arc<str>;

/// One set of a read preference's tags: a server matches if it carries all of them.
pub type TagSet = Vec<(String, String)>;

/// The five modes of a read preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadMode {
    /// Only the primary.
    Primary,
    /// The primary, or a secondary while there is none.
    PrimaryPreferred,
    /// Only secondaries.
    Secondary,
    /// Secondaries, or the primary while there are none.
    SecondaryPreferred,
    /// Any data-bearing member within the latency window.
    Nearest,
}

/// A read preference as a client stated it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadPreference {
    /// Which kinds of members may serve the read.
    pub mode: ReadMode,
    /// Tried in order; the first that matches any member decides. Empty means no restriction.
    pub tag_sets: Vec<TagSet>,
    /// Secondaries estimated to lag further behind are left out.
    pub max_staleness_seconds: Option<u32>,
}

/// Where a scoped command has to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Routing {
    /// The primary of a replica set, any mongos, or the standalone.
    Primary,
    /// A member chosen by a read preference other than `primary`.
    Preference(ReadPreference),
    /// Just this member: the one that holds a cursor, or a transaction that goes on.
    Member(ServerAddress),
    /// This member while it serves, else as [`Routing::Primary`]: the end of a transaction that began there.
    Rather(ServerAddress),
}

/// What may be done when the exchange fails; the rows of the table of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// A read outside of a transaction: may be sent again.
    Read,
    /// `getMore`: never.
    GetMore,
    /// A write with a transaction number: the server knows it again.
    NumberedWrite,
    /// A write without one: never once a byte may have left.
    Write,
    /// A statement in a transaction: never.
    InTransaction,
    /// `commitTransaction` and `abortTransaction`: may be sent again.
    TransactionEnd,
}

/// How the reply is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyRule {
    /// Known fields pass.
    Plain,
    /// A cursor whose documents may carry the scope field.
    Cursor {
        /// Whether it has to be taken out.
        strips: bool,
    },
    /// A cursor whose documents are the outcomes of statements.
    Bulk,
    /// A document under `value`.
    Value {
        /// Whether the scope field has to be taken out.
        strips: bool,
    },
    /// The events of a change stream.
    Events {
        /// Whether what stands under `lsid` is the session of a transaction, and not something that a stage put there.
        has_sessions: bool,
        /// Whether an event that says so ends the stream: the server does not know of the app's drops.
        ends: bool,
    },
    /// A plan.
    Explain,
    /// A cursor whose documents are plans that the server keeps.
    KeptPlans,
}

/// A command proven safe to forward. Only this crate can make one.
#[derive(Debug)]
pub struct Scoped {
    pub(crate) message: Vec<u8>,
    pub(crate) routing: Routing,
    pub(crate) retry: Retry,
    pub(crate) rule: ReplyRule,
    /// An upsert by `_id` in one statement: the server does not retry it by itself when it loses a race, because the filter
    /// holds the scope field as well.
    pub(crate) is_upsert_by_id: bool,
    pub(crate) hints_base: bool,
    pub(crate) refused: Vec<Refused>,
}

impl Scoped {
    /// Where the command has to go.
    pub fn routing(&self) -> &Routing {
        &self.routing
    }

    /// What may be done when the exchange fails.
    pub fn retry(&self) -> Retry {
        self.retry
    }

    /// How the reply is read.
    pub fn rule(&self) -> ReplyRule {
        self.rule
    }

    /// Whether a duplicate `_id` may be a lost race that the server would have retried on a private collection.
    pub fn is_upsert_by_id(&self) -> bool {
        self.is_upsert_by_id
    }

    /// Whether the proxy named a base index by itself. If the server does not have it, the facts were stale: the command was not
    /// begun, and can be rewritten with fresh ones.
    pub fn hints_base(&self) -> bool {
        self.hints_base
    }

    /// The statements that were refused while the others are sent, in ascending order; see
    /// [`with_refused`](crate::with_refused).
    pub fn refused(&self) -> &[Refused] {
        &self.refused
    }

    /// Bytes of the message.
    pub fn message_bytes(&self) -> usize {
        self.message.len()
    }

    /// The whole OP_MSG (header included) with `request_id` in its header.
    pub fn message(&mut self, request_id: i32) -> &[u8] {
        if let Some(place) = self.message.get_mut(4..8) {
            place.copy_from_slice(&request_id.to_le_bytes());
        }
        &self.message
    }

    /// Writes another `maxTimeMS` over the one that the command has, as a number of the same kind. Nothing where it has none.
    pub fn set_max_time_millis(&mut self, millis: i32) {
        let Some(at) = self.max_time_place() else {
            return;
        };
        let Some((&mut kind, rest)) = self.message.get_mut(at..).and_then(<[u8]>::split_first_mut)
        else {
            return;
        };
        let value = rest.get_mut(MAX_TIME_NAME.len()..).unwrap_or_default();
        let int64 = i64::from(millis).to_le_bytes();
        let double = f64::from(millis).to_le_bytes();
        if kind == Kind::Int32 as u8 {
            write(value, &millis.to_le_bytes());
        } else if kind == Kind::Int64 as u8 {
            write(value, &int64);
        } else if kind == Kind::Double as u8 {
            write(value, &double);
        }
    }

    /// Where the element `maxTimeMS` begins in the message.
    fn max_time_place(&self) -> Option<usize> {
        let rest = self.message.get(BODY_AT..)?;
        let bytes = usize::try_from(i32::from_le_bytes(*rest.first_chunk::<4>()?)).ok()?;
        let body = Document::parse_shallow(rest.get(..bytes)?).ok()?;
        let mut at = BODY_AT.saturating_add(4);
        for element in body.elements() {
            if element.key == b"maxTimeMS" {
                return Some(at);
            }
            at = at.saturating_add(element.raw.len());
        }
        None
    }

    /// The buffer, to be used again.
    pub fn into_buffer(self) -> Vec<u8> {
        self.message
    }
}

fn write(place: &mut [u8], bytes: &[u8]) {
    if let Some(place) = place.get_mut(..bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn scoped(body: &bson::Document) -> Scoped {
        let mut message = vec![0; BODY_AT];
        message.extend(bson::serialize_to_vec(body).unwrap());
        // A sequence behind the body.
        message.extend([1, 7, 0, 0, 0, b'a', 0]);
        Scoped {
            message,
            routing: Routing::Primary,
            retry: Retry::Read,
            rule: ReplyRule::Plain,
            is_upsert_by_id: false,
            hints_base: false,
            refused: Vec::new(),
        }
    }

    #[test]
    fn max_time_is_written_over_as_the_same_kind() {
        let nested = doc! {"maxTimeMS": 5};
        let cases = [
            (
                doc! {"find": "c", "maxTimeMS": 500},
                doc! {"find": "c", "maxTimeMS": 77},
            ),
            (
                doc! {"find": "c", "maxTimeMS": 500_i64, "x": 1},
                doc! {"find": "c", "maxTimeMS": 77_i64, "x": 1},
            ),
            (
                doc! {"find": "c", "filter": &nested, "maxTimeMS": 500.0},
                doc! {"find": "c", "filter": &nested, "maxTimeMS": 77.0},
            ),
            (
                doc! {"find": "c", "filter": &nested},
                doc! {"find": "c", "filter": &nested},
            ),
            (
                doc! {"find": "c", "maxTimeMS": "x"},
                doc! {"find": "c", "maxTimeMS": "x"},
            ),
        ];
        for (body, expected) in cases {
            let mut command = scoped(&body);
            command.set_max_time_millis(77);
            assert_eq!(command.message, scoped(&expected).message, "{body}");
        }
    }
}
