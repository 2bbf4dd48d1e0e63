//! Replies that the proxy writes itself. The one place that turns errors into replies.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Writer};

use crate::announcement::TopologyVersion;
use crate::cluster_time::ClusterTime;
use crate::error::Error;

/// Appends the document `{ <fields>, ok: 1.0 }` to `out`.
pub(crate) fn ok(out: &mut Vec<u8>, fields: impl FnOnce(&mut Writer)) {
    let mut writer = Writer::new(std::mem::take(out));
    let mark = writer.begin();
    fields(&mut writer);
    writer.double(b"ok", 1.0);
    writer.end(mark);
    *out = writer.into_bytes();
}

/// Appends the document `{ ok: 0.0, errmsg, code, codeName, errorLabels?, topologyVersion? }` to `out`.
pub fn for_error(error: &Error, out: &mut Vec<u8>) {
    let version = match error {
        Error::ShuttingDown { version, .. } => Some(version),
        Error::Decode(_)
        | Error::Command(_)
        | Error::Auth(_)
        | Error::Sasl(_)
        | Error::Certificate(_)
        | Error::Hello(_)
        | Error::Api(_)
        | Error::Legacy(_)
        | Error::Refusal(_)
        | Error::Limit(_)
        | Error::Upstream { .. }
        | Error::Exchange { .. }
        | Error::Control { .. }
        | Error::Revoked
        | Error::Unprivileged(_)
        | Error::Incident { .. } => None,
    };
    let mut writer = Writer::new(std::mem::take(out));
    let mark = writer.begin();
    writer.double(b"ok", 0.0);
    writer.string(b"errmsg", &error.client_text());
    writer.int32(b"code", error.code());
    writer.string(b"codeName", &error.code_name());
    let labels = error.labels();
    if !labels.is_empty() {
        strings(&mut writer, b"errorLabels", labels);
    }
    if let Some(version) = version {
        topology_version(&mut writer, *version);
    }
    writer.end(mark);
    *out = writer.into_bytes();
}

/// Appends what a server says to a transaction that another one got in the way of.
pub(crate) fn write_conflict(out: &mut Vec<u8>) {
    let mut writer = Writer::new(std::mem::take(out));
    let mark = writer.begin();
    strings(&mut writer, b"errorLabels", &["TransientTransactionError"]);
    writer.double(b"ok", 0.0);
    let text = "WriteConflict error: this operation conflicted with another operation. Please retry your operation or multi-document transaction.";
    writer.string(b"errmsg", text);
    writer.int32(b"code", 112);
    writer.string(b"codeName", "WriteConflict");
    writer.end(mark);
    *out = writer.into_bytes();
}

/// The document `{ $err, code, ok: 0.0 }` of an OP_REPLY with the failure flag.
pub(crate) fn for_query_failure(error: &Error) -> Vec<u8> {
    let mut writer = Writer::default();
    let mark = writer.begin();
    writer.string(b"$err", &error.client_text());
    writer.int32(b"code", error.code());
    writer.double(b"ok", 0.0);
    writer.end(mark);
    writer.into_bytes()
}

/// Whether the body of a reply says that the command succeeded.
pub(crate) fn is_ok(reply: &[u8]) -> bool {
    let reply = Document::parse_shallow(reply).ok();
    reply.and_then(|reply| reply.find("ok")?.as_flag()) == Some(true)
}

/// Adds `$clusterTime` and `operationTime` to the document that begins at `start`, as servers do to every reply, hello
/// included: drivers order their reads by them. Nothing is added that is there already, and nothing while no time is known,
/// as in front of a standalone.
pub(crate) fn gossip(out: &mut Vec<u8>, start: usize, times: &ClusterTime) {
    const TIME: &str = "$clusterTime";
    let Some(newest) = times.newest() else { return };
    let Ok(newest) = Document::parse_shallow(&newest) else {
        return;
    };
    let reply = out
        .get(start..)
        .and_then(|bytes| Document::parse_shallow(bytes).ok());
    let Some(body) = reply.filter(|reply| reply.find(TIME).is_none()) else {
        return;
    };
    let body = body.bytes().to_vec();
    let Ok(body) = Document::parse_shallow(&body) else {
        return;
    };
    out.truncate(start);
    let mut writer = Writer::new(std::mem::take(out));
    let mark = writer.begin();
    for element in body.elements() {
        writer.element(&element);
    }
    writer.document(TIME.as_bytes(), newest);
    // The newest time that is known is not older than the client's last operation.
    if let Some(time) = newest.find("clusterTime") {
        writer.renamed(b"operationTime", &time);
    }
    writer.end(mark);
    *out = writer.into_bytes();
}

/// An array of strings.
pub(crate) fn strings(writer: &mut Writer, key: &[u8], values: &[&str]) {
    let mark = writer.begin_array(key);
    for (index, value) in values.iter().enumerate() {
        writer.string(IndexKey::new(index).as_bytes(), value);
    }
    writer.end(mark);
}

/// `topologyVersion: { processId, counter }`.
pub(crate) fn topology_version(writer: &mut Writer, version: TopologyVersion) {
    let mark = writer.begin_document(b"topologyVersion");
    writer.object_id(b"processId", version.process_id);
    writer.int64(b"counter", version.counter);
    writer.end(mark);
}

#[cfg(test)]
mod tests;
