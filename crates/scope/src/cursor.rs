//! Commands on cursors, which the proxy knows by numbers of its own.

use mdb_wire::{Command, Element, Kind, Writer};

use crate::apply::{MESSAGE_HEAD_BYTES, Outcome, begin, check_sequences, seal};
use crate::before_five;
use crate::body::{self, Body};
use crate::commands::CommandSpec;
use crate::facts::{CursorFacts, Facts};
use crate::index::{print_key, print_value};
use crate::refusal::Refusal;
use crate::scope::Scope;
use crate::scoped::{ReplyRule, Retry, Routing, Scoped};
use crate::text;

/// Checks what is wrong with a `getMore` whatever its cursor is: a server looks at that before it looks for the cursor.
///
/// # Errors
/// 14, 40414, 40415: as 5.0.4 and 6.0.5; on servers before 5.0 2, 9, 14, 73.
pub fn check_get_more(
    spec: &'static CommandSpec,
    command: &Command<'_>,
    is_before_five: bool,
) -> Result<(), Refusal> {
    if is_before_five {
        before_five::check_get_more(spec, command)?;
    }
    let wrong = |path: &str, found: &Element<'_>, expected: &str| {
        Refusal::wrong_kind(path, found.kind.name(), expected)
    };
    if command.target.kind != Kind::Int64 {
        return Err(wrong("getMore.getMore", &command.target, "long"));
    }
    for element in command.body.elements().skip(1) {
        body::row(spec, &element)?;
    }
    let Some(collection) = command.body.find("collection") else {
        return Err(Refusal::missing_field(
            "BSON field 'getMore.collection' is missing but a required field",
        ));
    };
    match collection.as_str() {
        None => Err(wrong("getMore.collection", &collection, "string")),
        Some("") => Err(Refusal::invalid_namespace(
            "Collection names cannot be empty",
        )),
        Some(_) => Ok(()),
    }
}

impl Scope {
    /// Rewrites a `getMore` on a cursor that was found to be the app's own.
    ///
    /// # Errors
    /// 13 for another namespace, 50737 and 50738 for another session than the cursor's.
    pub fn get_more(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        cursor: &CursorFacts,
    ) -> Result<Scoped, Refusal> {
        let body = Body {
            is_on_stream: matches!(cursor.rule, ReplyRule::Events { .. }),
            ..Body::read(self, spec, command, facts)?
        };
        let collection = command.body.find("collection").and_then(|c| c.as_str());
        let Some(collection) = collection else {
            return Err(cursor_not_found(&command.target));
        };
        let asked = (command.database, collection);
        if asked != (cursor.database.as_str(), cursor.collection.as_str()) {
            return Err(Refusal::unauthorized(format!(
                "Requested getMore on namespace '{}.{collection}', but cursor belongs to a different namespace {}.{}",
                command.database, cursor.database, cursor.collection
            )));
        }
        check_session(command, body.prelude.session, cursor.session)?;
        let mut w = begin(command);
        let mark = w.begin();
        w.int64(b"getMore", cursor.upstream_id);
        let physical = self.physical_collection(&cursor.collection, cursor.isolation);
        w.string(b"collection", &physical);
        body.fields(&mut w, false)?;
        w.end(mark);
        let outcome = Outcome::new(
            Routing::Member(cursor.server.clone()),
            Retry::GetMore,
            cursor.rule,
        );
        seal(w, facts, outcome)
    }

    /// A `killCursors` for a cursor that was found to be the app's own.
    pub fn kill_cursors(&self, facts: &Facts<'_>, cursor: &CursorFacts) -> Result<Scoped, Refusal> {
        let mut w = Writer::new(vec![0; MESSAGE_HEAD_BYTES]);
        let mark = w.begin();
        let physical = self.physical_collection(&cursor.collection, cursor.isolation);
        w.string(b"killCursors", &physical);
        let array = w.begin_array(b"cursors");
        w.int64(b"0", cursor.upstream_id);
        w.end(array);
        w.string(b"$db", &cursor.database);
        w.end(mark);
        let member = Routing::Member(cursor.server.clone());
        let outcome = Outcome::new(member, Retry::GetMore, ReplyRule::Plain);
        seal(w, facts, outcome)
    }
}

/// Refuses a `getMore` in another session than the one that opened the cursor, if one did, in a server's words (6.0.5).
fn check_session(
    command: &Command<'_>,
    asks: Option<[u8; 16]>,
    opened: Option<[u8; 16]>,
) -> Result<(), Refusal> {
    let Some(opened) = opened.filter(|opened| asks != Some(*opened)) else {
        return Ok(());
    };
    let id = command.target.as_integer().unwrap_or_default();
    let name = text::session_name;
    let opened = name(opened);
    let text =
        format!("Cannot run getMore on cursor {id}, which was created in session {opened}, ");
    Err(match asks {
        None => Refusal::cursor_without_session(text + "without an lsid"),
        Some(asks) => Refusal::cursor_of_session(text + "in session " + &name(asks)),
    })
}

/// The reply to a cursor that is not there, or is another app's: one text for both.
pub fn cursor_not_found(id: &Element<'_>) -> Refusal {
    Refusal::cursor_not_found(format!(
        "cursor id {} not found",
        id.as_integer().unwrap_or_default()
    ))
}

/// Reads the ids of a `killCursors`, in mongod's words (4.4.2, 5.0.4, 6.0.5).
///
/// # Errors
/// 14 for anything but an array of 64-bit integers, 40414 for none; 2 where no collection is named. Before 5.0 9, and 2 for an
/// empty array.
pub fn cursor_ids(
    spec: &'static CommandSpec,
    command: &Command<'_>,
    is_before_five: bool,
) -> Result<Vec<i64>, Refusal> {
    body::check_fields(spec, command)?;
    check_sequences(spec, command)?;
    let shown = || format!(" in: {}", print_key(command.body));
    if command.target.kind != Kind::String {
        let kind = command.target.kind.name();
        return Err(if is_before_five {
            Refusal::failed_to_parse(format!("First parameter must be a string{}", shown()))
        } else {
            Refusal::bad_value(format!("collection name has invalid type {kind}"))
        });
    }
    let cursors = command.body.find("cursors");
    let wrong = |kind| Refusal::wrong_kind("killCursors.cursors", kind, "array");
    let ids = match (&cursors, cursors.as_ref().and_then(Element::as_array)) {
        (_, Some(ids)) => ids,
        _ if is_before_five => {
            let text = format!("Field 'cursors' must be of type array{}", shown());
            return Err(Refusal::failed_to_parse(text));
        }
        (Some(other), _) if other.kind != Kind::Null => return Err(wrong(other.kind.name())),
        _ => {
            let text = "BSON field 'killCursors.cursors' is missing but a required field";
            return Err(Refusal::missing_field(text));
        }
    };
    if is_before_five && ids.is_empty() {
        let text = format!("Must specify at least one cursor id{}", shown());
        return Err(Refusal::bad_value(text));
    }
    let is_id = |id: &Element<'_>| is_before_five || id.kind != Kind::Null;
    ids.elements()
        .filter(is_id)
        .map(|id| cursor_id(&id, is_before_five))
        .collect()
}

fn cursor_id(id: &Element<'_>, is_before_five: bool) -> Result<i64, Refusal> {
    let number = id.as_integer().filter(|_| id.kind == Kind::Int64);
    number.ok_or_else(|| {
        if is_before_five {
            Refusal::failed_to_parse(format!(
                "Field 'cursors' contains an element that is not of type long: {}: {}",
                id.name(),
                print_value(id)
            ))
        } else {
            let path = format!("killCursors.cursors.{}", id.name());
            Refusal::wrong_kind(&path, id.kind.name(), "long")
        }
    })
}
