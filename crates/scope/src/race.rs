//! Statements of a write that are sent again, and one reply made of all.
//!
//! Upserts by `_id` that lost a race: the server tries one again by itself where the filter is an equality on the `_id` and
//! nothing else; with the scope field beside it, it does not, and answers 11000. And documents that an automatic index did not
//! take, once that is gone.

use std::collections::BTreeMap;

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Writer};

use crate::reply::{PARALLEL_ARRAYS, is_id_key};
use crate::statements;

/// `DuplicateKey`.
const DUPLICATE_KEY: i64 = 11000;

/// Why statements are sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Id,
    Arrays,
}

/// A write of several statements of which some are sent again.
#[derive(Debug)]
pub struct Race {
    is_ordered: bool,
    loss: Loss,
    /// Whether the statement at this place may be sent again for that.
    may_lose: Vec<bool>,
    /// How often one statement is sent again.
    tries_max: u32,
    tries: BTreeMap<usize, u32>,
    /// The statements of the last message, by their places in the client's command.
    sent: Vec<usize>,
    n: i64,
    /// Of an `update`.
    modified: Option<i64>,
    /// Elements of the reply's arrays, by the statement's place.
    upserted: BTreeMap<usize, Vec<u8>>,
    errors: BTreeMap<usize, Vec<u8>>,
    retried: Vec<i64>,
    concern_error: Option<Vec<u8>>,
}

/// Whether a statement is an upsert whose filter names an `_id`.
pub(crate) fn is_upsert_by_id(statement: Document<'_>) -> bool {
    let filter = statement.find("q").and_then(|q| q.as_document());
    statement.find("upsert").and_then(|u| u.as_flag()) == Some(true)
        && filter.is_some_and(|q| q.find("_id").is_some())
}

/// Whether a document or statement is of one document at most, so that its error says that nothing came of it.
fn is_of_one(statement: Document<'_>) -> bool {
    statement.find("multi").and_then(|multi| multi.as_flag()) != Some(true)
}

impl Race {
    /// Upserts by `_id` of an `update`, before the first message was answered. `tries_max`: how often one is sent again.
    pub fn new(command: &Command<'_>, tries_max: u32) -> Self {
        let by_id = statements::of(command, "updates").map(is_upsert_by_id);
        Self::over(command, (Loss::Id, by_id.collect()), tries_max)
    }

    /// Documents of an `insert`, or statements of an `update` that touch one document each, which an index did not take that is
    /// gone since. They are sent again once.
    pub fn of_arrays(command: &Command<'_>) -> Self {
        let may_lose = if command.name == b"insert" {
            let documents = statements::of(command, "documents");
            documents.map(|_| true).collect()
        } else {
            statements::of(command, "updates").map(is_of_one).collect()
        };
        Self::over(command, (Loss::Arrays, may_lose), 1)
    }

    fn over(command: &Command<'_>, (loss, may_lose): (Loss, Vec<bool>), tries_max: u32) -> Self {
        Self {
            is_ordered: command.body.find("ordered").and_then(|o| o.as_flag()) != Some(false),
            loss,
            tries_max,
            tries: BTreeMap::new(),
            sent: (0..may_lose.len()).collect(),
            may_lose,
            n: 0,
            modified: None,
            upserted: BTreeMap::new(),
            errors: BTreeMap::new(),
            retried: Vec::new(),
            concern_error: None,
        }
    }

    /// Takes the reply to the last message. Gives the statements that are to be sent now, by their places in the client's
    /// command; none when it is over, and [`Race::reply`] is for the client. `is_late`: nothing more is to be sent.
    pub fn after_reply(&mut self, reply: Document<'_>, is_late: bool) -> Option<&[usize]> {
        let mut lost = Vec::new();
        for element in reply.elements() {
            match element.key {
                b"n" => self.n = self.n.saturating_add(integer(&element)),
                b"nModified" => {
                    let before = self.modified.unwrap_or_default();
                    self.modified = Some(before.saturating_add(integer(&element)));
                }
                b"upserted" => {
                    for entry in documents(&element) {
                        if let Some(place) = self.place(entry) {
                            self.upserted.insert(place, entry.bytes().to_vec());
                        }
                    }
                }
                b"writeErrors" => {
                    for entry in documents(&element) {
                        let Some(place) = self.place(entry) else {
                            continue;
                        };
                        if !is_late && self.is_lost(place, entry) {
                            lost.push(place);
                        } else {
                            self.errors.insert(place, entry.bytes().to_vec());
                        }
                    }
                }
                b"retriedStmtIds" => {
                    let ids = element.as_array().into_iter().flat_map(Document::elements);
                    self.retried.extend(ids.filter_map(|id| id.as_integer()));
                }
                b"writeConcernError" => self.concern_error = Some(element.raw.to_vec()),
                _ => {}
            }
        }
        self.next(&lost)
    }

    fn next(&mut self, lost: &[usize]) -> Option<&[usize]> {
        let first = *lost.iter().min()?;
        for &place in lost {
            let tries = self.tries.entry(place).or_default();
            *tries = tries.saturating_add(1);
        }
        if self.is_ordered {
            // What stands behind was not begun.
            self.sent.retain(|&place| place >= first);
        } else {
            self.sent = lost.to_vec();
        }
        Some(&self.sent)
    }

    /// The client's place of the statement that an entry of the last reply is about.
    fn place(&self, entry: Document<'_>) -> Option<usize> {
        let index = entry.find("index")?.as_integer()?;
        self.sent.get(usize::try_from(index).ok()?).copied()
    }

    fn is_lost(&self, place: usize, error: Document<'_>) -> bool {
        let tries = self.tries.get(&place).copied().unwrap_or_default();
        let code = error.find("code").and_then(|c| c.as_integer());
        let is_loss = match self.loss {
            Loss::Id => {
                code == Some(DUPLICATE_KEY)
                    && error.find("keyPattern").is_some_and(|key| is_id_key(&key))
            }
            Loss::Arrays => code == Some(PARALLEL_ARRAYS),
        };
        is_loss && tries < self.tries_max && self.may_lose.get(place).copied().unwrap_or_default()
    }

    /// One reply for all that was sent: figures added up, places those of the client's command, the rest from `last`.
    pub fn reply(&self, last: Document<'_>) -> Vec<u8> {
        let mut w = Writer::default();
        let mark = w.begin();
        w.int32(b"n", figure(self.n));
        if !self.retried.is_empty() {
            let array = w.begin_array(b"retriedStmtIds");
            for (index, id) in self.retried.iter().enumerate() {
                w.int32(IndexKey::new(index).as_bytes(), figure(*id));
            }
            w.end(array);
        }
        entries(&mut w, b"upserted", &self.upserted);
        entries(&mut w, b"writeErrors", &self.errors);
        if let Some(modified) = self.modified {
            w.int32(b"nModified", figure(modified));
        }
        if let Some(error) = &self.concern_error {
            w.raw(error);
        }
        for element in last.elements() {
            let is_written = matches!(
                element.key,
                b"n" | b"nModified"
                    | b"upserted"
                    | b"writeErrors"
                    | b"retriedStmtIds"
                    | b"writeConcernError"
            );
            if !is_written {
                w.element(&element);
            }
        }
        w.end(mark);
        w.into_bytes()
    }
}

fn integer(element: &Element<'_>) -> i64 {
    element.as_integer().unwrap_or_default()
}

fn figure(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

fn documents<'a>(element: &Element<'a>) -> impl Iterator<Item = Document<'a>> {
    let array = element.as_array().into_iter();
    array
        .flat_map(Document::elements)
        .filter_map(|e| e.as_document())
}

/// Writes an array of entries with the places of the client's command, unless it is empty.
fn entries(w: &mut Writer, key: &[u8], entries: &BTreeMap<usize, Vec<u8>>) {
    if entries.is_empty() {
        return;
    }
    let array = w.begin_array(key);
    for (count, (place, entry)) in entries.iter().enumerate() {
        let document = w.begin_document(IndexKey::new(count).as_bytes());
        let entry = Document::parse_shallow(entry).unwrap_or(Document::EMPTY);
        for member in entry.elements() {
            if member.key == b"index" {
                w.int32(b"index", i32::try_from(*place).unwrap_or(i32::MAX));
            } else {
                w.element(&member);
            }
        }
        w.end(document);
    }
    w.end(array);
}
