//! Batches of change streams: sessions by the client's ids, and the end of a stream that only the proxy knows of.

use mdb_wire::{Document, Element, Writer};

use super::Incident;
use crate::change_stream::FROM_INVALIDATE;
use crate::generic::session_id;
use crate::scope::Scope;
use crate::scoped::ReplyRule;

/// The batch of a change stream.
#[derive(Debug, Clone, Copy)]
pub(super) struct Events<'a> {
    has_sessions: bool,
    /// The event that ends the stream, if the server does not end it by itself.
    last: Option<Document<'a>>,
}

/// Whether a reply holds the event that ends its stream while the server keeps the cursor open: it is to be killed.
pub fn ends_stream(rule: ReplyRule, reply: Document<'_>) -> bool {
    reply
        .find("cursor")
        .and_then(|cursor| Events::of(rule, cursor.as_document()?))
        .is_some_and(|events| events.is_over())
}

impl<'a> Events<'a> {
    /// Of the members of `cursor`; `None` if they are no change stream's.
    pub(super) fn of(rule: ReplyRule, cursor: Document<'a>) -> Option<Self> {
        let ReplyRule::Events { has_sessions, ends } = rule else {
            return None;
        };
        let is_open = cursor.find("id").and_then(|id| id.as_integer()) != Some(0);
        let batch = cursor.elements().find(|e| e.key.ends_with(b"Batch"));
        let mut events = batch
            .and_then(|batch| batch.as_array())
            .into_iter()
            .flat_map(Document::elements)
            .filter_map(|event| event.as_document());
        let ending = |event: &Document<'_>| {
            event.find("operationType").and_then(|o| o.as_str()) == Some("invalidate")
        };
        let last = if ends && is_open {
            events.find(ending)
        } else {
            None
        };
        Some(Self { has_sessions, last })
    }

    /// Whether the proxy ends the stream here.
    pub(super) fn is_over(&self) -> bool {
        self.last.is_some()
    }

    /// Writes a member of `cursor`: the batch, or what stands beside it.
    pub(super) fn write(
        &self,
        scope: &Scope,
        w: &mut Writer,
        member: &Element<'_>,
    ) -> Result<(), Incident> {
        match (member.key, self.last.and_then(|last| last.find("_id"))) {
            (b"firstBatch" | b"nextBatch", _) => self.batch(scope, w, member)?,
            (b"postBatchResumeToken", Some(token)) => marked(w, member.key, &token),
            _ => w.element(member),
        }
        Ok(())
    }

    fn batch(&self, scope: &Scope, w: &mut Writer, batch: &Element<'_>) -> Result<(), Incident> {
        let events = batch.as_array().ok_or(Incident::Shape("cursor batch"))?;
        let array = w.begin_array(batch.key);
        for event in events.elements() {
            let document = event
                .as_document()
                .ok_or(Incident::Shape("document in a batch"))?;
            let is_last = self
                .last
                .is_some_and(|last| std::ptr::eq(last.bytes(), document.bytes()));
            if is_last || self.has_sessions && document.find("lsid").is_some() {
                self.event(scope, w, &event, document, is_last);
            } else {
                w.element(&event);
            }
            if is_last {
                break;
            }
        }
        w.end(array);
        Ok(())
    }

    /// Writes an event that is not as the server has it: one of a transaction, with the id by which the client knows the
    /// session; the last one, with the mark by which its token is known again.
    fn event(
        &self,
        scope: &Scope,
        w: &mut Writer,
        place: &Element<'_>,
        event: Document<'_>,
        is_last: bool,
    ) {
        let mark = w.begin_document(place.key);
        for field in event.elements() {
            let id = field
                .as_document()
                .filter(|_| self.has_sessions && field.key == b"lsid")
                .and_then(|lsid| lsid.find("id"))
                .and_then(|id| session_id(&id));
            match id {
                Some(id) => {
                    let lsid = w.begin_document(field.key);
                    w.binary(b"id", 4, &scope.sessions().client_id(id));
                    w.end(lsid);
                }
                None if is_last && field.key == b"_id" => marked(w, field.key, &field),
                None => w.element(&field),
            }
        }
        w.end(mark);
    }
}

/// Writes the resume token of an `invalidate` that the proxy made.
fn marked(w: &mut Writer, key: &[u8], token: &Element<'_>) {
    let Some(parts) = token.as_document() else {
        w.renamed(key, token);
        return;
    };
    let mark = w.begin_document(key);
    for part in parts.elements() {
        w.element(&part);
    }
    w.boolean(FROM_INVALIDATE.as_bytes(), true);
    w.end(mark);
}
