//! Replies without what two servers name, each for itself: ids, cursors, clocks.

use std::collections::HashMap;

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};

use super::step::{Compare, Step};

/// Names that a server gave, in the order in which they were seen.
#[derive(Debug, Default)]
pub(super) struct Names(HashMap<ObjectId, usize>);

/// A reply as it is compared.
pub(super) fn comparable(step: &Step, mut reply: Document, names: &mut Names) -> Document {
    let is_error = reply.get("ok") != Some(&Bson::Double(1.0)) && reply.contains_key("ok");
    if step.compare == Compare::Code || step.compare >= Compare::Set && is_error {
        return doc! {"ok": reply.get("ok"), "code": reply.get("code")};
    }
    if step.command.contains_key("startSession") {
        reply.remove("id");
    }
    if let Ok(events) = reply.get_array_mut("events") {
        events.iter_mut().for_each(without_times);
    }
    let sorts = matches!(step.compare, Compare::Set | Compare::Fields);
    if let Ok(cursor) = reply.get_document_mut("cursor") {
        // A place in the oplog of its server.
        if let Some(token) = cursor.get_mut("postBatchResumeToken") {
            *token = "now".into();
        }
        by_name(cursor);
    }
    by_name(&mut reply);
    let mut reply = Bson::Document(reply);
    if step.compare == Compare::Fields {
        all_by_name(&mut reply);
    }
    even(&mut reply, sorts, names);
    let Bson::Document(reply) = reply else {
        unreachable!("it stays a document");
    };
    reply
}

/// An event without what says when and in which session.
fn without_times(event: &mut Bson) {
    if let Bson::Document(event) = event {
        for key in ["_id", "lsid", "txnNumber"] {
            event.remove(key);
        }
    }
}

/// Not of documents of the app: only those have an order that somebody promised.
fn by_name(fields: &mut Document) {
    let mut sorted: Vec<_> = std::mem::take(fields).into_iter().collect();
    sorted.sort_by(|(a, _), (b, _)| a.cmp(b));
    fields.extend(sorted);
}

/// Measurements come with their fields in any order.
fn all_by_name(value: &mut Bson) {
    match value {
        Bson::Document(inner) => {
            by_name(inner);
            inner.iter_mut().for_each(|(_, value)| all_by_name(value));
        }
        Bson::Array(items) => items.iter_mut().for_each(all_by_name),
        _ => {}
    }
}

fn even(value: &mut Bson, sorts: bool, names: &mut Names) {
    match value {
        Bson::Document(inner) => inner
            .iter_mut()
            .for_each(|(_, value)| even(value, sorts, names)),
        Bson::Array(items) => {
            for item in items.iter_mut() {
                even(item, sorts, names);
            }
            if sorts {
                items.sort_by_key(Bson::to_string);
            }
        }
        Bson::Timestamp(_) => *value = "now".into(),
        Bson::DateTime(date) if date.timestamp_millis() > CHOSEN_MAX => *value = "now".into(),
        Bson::Int64(number) if *number > CHOSEN_MAX => *value = "a cursor".into(),
        Bson::ObjectId(id) if is_made(*id) => {
            let next = names.0.len();
            // Without an order the first one seen is any.
            let number = if sorts {
                0
            } else {
                *names.0.entry(*id).or_insert(next)
            };
            *value = format!("id {number}").into();
        }
        Bson::String(text) => *text = without_names(text),
        _ => {}
    }
}

/// The generator's own have twelve equal bytes.
fn is_made(id: ObjectId) -> bool {
    let bytes = id.bytes();
    bytes.iter().any(|byte| *byte != bytes[0])
}

/// Ids of documents and cursors in a text.
fn without_names(text: &str) -> String {
    let is_letter = |c: char| c.is_ascii_alphanumeric();
    let mut out = String::new();
    let mut rest = text;
    while let Some(begin) = rest.find(is_letter) {
        out.push_str(&rest[..begin]);
        rest = &rest[begin..];
        let end = rest.find(|c| !is_letter(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let is_cursor = word.len() >= CURSOR_DIGITS_MIN && word.bytes().all(|b| b.is_ascii_digit());
        let is_id = word.len() == ID_DIGITS && word.bytes().all(|b| b.is_ascii_hexdigit());
        out.push_str(if is_cursor || is_id { "a name" } else { word });
        rest = after;
    }
    out + rest
}

const CURSOR_DIGITS_MIN: usize = 13;
const ID_DIGITS: usize = 24;

/// The generator's dates are before the year 2000, its numbers small.
const CHOSEN_MAX: i64 = 1_000_000_000_000;
