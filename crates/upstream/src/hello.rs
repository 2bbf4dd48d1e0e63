//! What servers say of themselves: the replies to `hello` and `buildInfo`.

use bson::{Bson, Document, oid::ObjectId};
use mdb_wire::Compressor;

use crate::topology::MemberKind;

/// The capabilities and limits that hold on every member that bears data and was reached: what the
/// proxy may promise to clients.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerHello {
    /// What kind of deployment answered.
    pub kind: DeploymentKind,
    /// The largest document, in bytes: the least of all members.
    pub max_bson_object_size: i32,
    /// The largest message, in bytes: the least of all members.
    pub max_message_size_bytes: i32,
    /// The most statements in one write command: the least of all members.
    pub max_write_batch_size: i32,
    /// The lowest wire version that all members speak.
    pub wire_version_min: i32,
    /// The highest wire version that all members speak.
    pub wire_version_max: i32,
    /// How long idle sessions live, in minutes; `None` if a member has no sessions.
    pub logical_session_timeout_minutes: Option<i32>,
    /// The version of the oldest member, as `6.0.5`.
    pub version: String,
    /// The same in four numbers.
    pub version_array: [i32; 4],
    /// The oldest member's whole reply to `buildInfo`, without `ok` and cluster times.
    pub build_info: Document,
}

/// The kinds of deployments, as far as clients must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeploymentKind {
    /// A mongod that is in no replica set.
    Standalone,
    /// A replica set, or a member of one by `directConnection=true`.
    ReplicaSet,
    /// A sharded cluster behind its mongos.
    Sharded,
}

/// A server's reply to `hello`, reduced to what is used here.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hello {
    pub(crate) kind: MemberKind,
    pub(crate) is_in_set: bool,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) process: Option<ObjectId>,
    pub(crate) counter: i64,
    pub(crate) election: Option<ObjectId>,
    pub(crate) last_write_millis: Option<i64>,
    pub(crate) max_bson_object_size: i32,
    pub(crate) max_message_size_bytes: i32,
    pub(crate) max_write_batch_size: i32,
    pub(crate) wire_version_min: i32,
    pub(crate) wire_version_max: i32,
    pub(crate) logical_session_timeout_minutes: Option<i32>,
    pub(crate) sasl_mechanisms: Vec<String>,
    /// The first of those that were offered and that the server takes.
    pub(crate) compressor: Option<Compressor>,
}

impl Hello {
    /// Reads a reply; fields that are missing get the values that the handshake specification gives
    /// to them.
    pub(crate) fn read(reply: &Document) -> Self {
        let version = reply.get_document("topologyVersion").ok();
        Self {
            kind: member_kind(reply),
            is_in_set: reply.contains_key("setName"),
            tags: tags(reply),
            process: version.and_then(|version| version.get_object_id("processId").ok()),
            counter: version
                .and_then(|version| version.get_i64("counter").ok())
                .unwrap_or_default(),
            election: reply.get_object_id("electionId").ok(),
            last_write_millis: reply
                .get_document("lastWrite")
                .and_then(|write| write.get_datetime("lastWriteDate"))
                .map(|date| date.timestamp_millis())
                .ok(),
            max_bson_object_size: number(reply, "maxBsonObjectSize").unwrap_or(BSON_BYTES_MAX),
            max_message_size_bytes: number(reply, "maxMessageSizeBytes")
                .unwrap_or(MESSAGE_BYTES_MAX),
            max_write_batch_size: number(reply, "maxWriteBatchSize").unwrap_or(BATCH_MAX),
            wire_version_min: number(reply, "minWireVersion").unwrap_or_default(),
            wire_version_max: number(reply, "maxWireVersion").unwrap_or_default(),
            logical_session_timeout_minutes: number(reply, "logicalSessionTimeoutMinutes"),
            sasl_mechanisms: strings(reply, "saslSupportedMechs"),
            compressor: strings(reply, "compression")
                .iter()
                .find_map(|name| Compressor::of_name(name)),
        }
    }

    /// Whether this is older news of the same process than `other`.
    pub(crate) fn is_older_than(&self, other: &Self) -> bool {
        self.process.is_some() && self.process == other.process && self.counter < other.counter
    }
}

/// The reply to `buildInfo` without what belongs to the one reply only.
pub(crate) fn read_build_info(mut reply: Document) -> Document {
    for key in ["ok", "$clusterTime", "operationTime"] {
        reply.remove(key);
    }
    reply
}

/// `versionArray` of a `buildInfo`; missing numbers are zero.
pub(crate) fn version_array(build_info: &Document) -> [i32; 4] {
    let mut numbers = [0; 4];
    if let Ok(array) = build_info.get_array("versionArray") {
        for (place, value) in numbers.iter_mut().zip(array) {
            *place = whole(value).unwrap_or_default();
        }
    }
    numbers
}

/// Whether the server said `ok: 1`, in any of the types that it may use.
pub(crate) fn is_ok(reply: &Document) -> bool {
    reply.get("ok").and_then(whole) == Some(1)
}

fn member_kind(reply: &Document) -> MemberKind {
    let is = |key| reply.get_bool(key).unwrap_or_default();
    if !is_ok(reply) {
        MemberKind::Unknown
    } else if reply.get_str("msg").is_ok_and(|text| text == "isdbgrid") {
        MemberKind::Mongos
    } else if is("isreplicaset") || is("hidden") {
        MemberKind::Other
    } else if !reply.contains_key("setName") {
        MemberKind::Standalone
    } else if is("isWritablePrimary") || is("ismaster") {
        MemberKind::Primary
    } else if is("secondary") {
        MemberKind::Secondary
    } else {
        MemberKind::Other
    }
}

fn tags(reply: &Document) -> Vec<(String, String)> {
    let pair = |(key, value): (&String, &Bson)| Some((key.clone(), value.as_str()?.to_owned()));
    reply
        .get_document("tags")
        .map(|tags| tags.iter().filter_map(pair).collect())
        .unwrap_or_default()
}

fn strings(reply: &Document, key: &str) -> Vec<String> {
    let text = |value: &Bson| value.as_str().map(str::to_owned);
    reply
        .get_array(key)
        .map(|array| array.iter().filter_map(text).collect())
        .unwrap_or_default()
}

fn number(reply: &Document, key: &str) -> Option<i32> {
    reply.get(key).and_then(whole)
}

fn whole(value: &Bson) -> Option<i32> {
    match *value {
        Bson::Int32(number) => Some(number),
        Bson::Int64(number) => i32::try_from(number).ok(),
        // `ok` is a double; the limits are whole numbers in every version.
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and only 1 is compared"
        )]
        Bson::Double(number) => Some(number as i32),
        Bson::Boolean(value) => Some(i32::from(value)),
        _ => None,
    }
}

// What a server that does not say means, by the drivers' handshake specification.
const BSON_BYTES_MAX: i32 = 16 * 1024 * 1024;
const MESSAGE_BYTES_MAX: i32 = 48_000_000;
const BATCH_MAX: i32 = 1000;

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn kinds_are_read_as_the_drivers_read_them() {
        let cases = [
            (doc! { "ok": 1.0 }, MemberKind::Standalone),
            (
                doc! { "ok": 1, "isWritablePrimary": true },
                MemberKind::Standalone,
            ),
            (doc! { "ok": 0, "msg": "isdbgrid" }, MemberKind::Unknown),
            (doc! { "ok": 1, "msg": "isdbgrid" }, MemberKind::Mongos),
            (doc! { "ok": 1, "isreplicaset": true }, MemberKind::Other),
            (
                doc! { "ok": 1, "setName": "rs", "isWritablePrimary": true },
                MemberKind::Primary,
            ),
            (
                doc! { "ok": 1, "setName": "rs", "ismaster": true },
                MemberKind::Primary,
            ),
            (
                doc! { "ok": 1, "setName": "rs", "isWritablePrimary": false, "secondary": true },
                MemberKind::Secondary,
            ),
            (
                doc! { "ok": 1, "setName": "rs", "secondary": true, "hidden": true },
                MemberKind::Other,
            ),
            (
                doc! { "ok": 1, "setName": "rs", "arbiterOnly": true },
                MemberKind::Other,
            ),
        ];
        for (reply, expected) in cases {
            assert_eq!(Hello::read(&reply).kind, expected, "{reply}");
        }
    }

    #[test]
    fn versions_order_the_news_of_one_process() {
        let (first, second) = (ObjectId::from_bytes([1; 12]), ObjectId::from_bytes([2; 12]));
        let hello = |process: ObjectId, counter: i64| {
            Hello::read(&doc! { "topologyVersion": { "processId": process, "counter": counter } })
        };
        for (news, known, is_older) in [
            (hello(first, 1), hello(first, 2), true),
            (hello(first, 2), hello(first, 2), false),
            (hello(first, 1), hello(second, 2), false),
            (Hello::read(&doc! {}), hello(first, 2), false),
        ] {
            assert_eq!(news.is_older_than(&known), is_older);
        }
    }
}
