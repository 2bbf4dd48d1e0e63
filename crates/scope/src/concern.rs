//! Write concerns of what the proxy does in several steps of its own: a server checks the client's, and waits for it.

use mdb_wire::{Command, Element, Kind, Writer};

use crate::apply::{MESSAGE_HEAD_BYTES, Outcome, seal};
use crate::entry::CATALOG;
use crate::facts::Facts;
use crate::refusal::Refusal;
use crate::scope::Scope;
use crate::scoped::{ReplyRule, Retry, Routing, Scoped};

/// How long a write that only checks a write concern may wait for it.
const CHECK_MILLIS: i32 = 1;

/// What a command asks for by its `writeConcern`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Awaited {
    /// That the primary has written, or nothing: so it is when the reply is there.
    Nothing,
    /// What every server can wait for.
    Known,
    /// Something that a server may refuse: it has to be asked before anything is written.
    Unchecked,
}

/// What the `writeConcern` of a command asks for.
pub fn awaited(command: &Command<'_>) -> Awaited {
    let Some(concern) = command.body.find("writeConcern") else {
        return Awaited::Nothing;
    };
    let Some(members) = concern.as_document() else {
        return Awaited::Unchecked;
    };
    let mut awaited = Awaited::Nothing;
    for member in members.elements() {
        match (member.key, member.kind, member.as_integer()) {
            (b"w", Kind::String, _) if member.as_str() == Some("majority") => {
                awaited = Awaited::Known;
            }
            (b"j", Kind::Boolean, _) if member.as_flag() == Some(true) => awaited = Awaited::Known,
            (b"w", Kind::Int32 | Kind::Int64 | Kind::Double, Some(0 | 1))
            | (b"j", Kind::Boolean, _)
            | (b"wtimeout", Kind::Int32, Some(0..)) => {}
            _ => return Awaited::Unchecked,
        }
    }
    awaited
}

impl Scope {
    /// A write that changes nothing, by which a server waits until the write concern of the command holds for all that was written
    /// before (4.4.2, 5.0.4, 6.0.5), or finds what is wrong with it. `checks` does not wait.
    ///
    /// # Errors
    /// 10334 for one that is too large for a message.
    pub fn awaiting(
        &self,
        command: &Command<'_>,
        facts: &Facts<'_>,
        checks: bool,
    ) -> Result<Scoped, Refusal> {
        let mut w = Writer::new(vec![0; MESSAGE_HEAD_BYTES]);
        let mark = w.begin();
        w.string(b"update", CATALOG);
        let statements = w.begin_array(b"updates");
        let statement = w.begin_document(b"0");
        let filter = w.begin_document(b"q");
        let id = w.begin_document(b"_id");
        let none = w.begin_array(b"$in");
        w.end(none);
        w.end(id);
        w.end(filter);
        let update = w.begin_document(b"u");
        let set = w.begin_document(b"$set");
        w.int32(b"never", 1);
        w.end(set);
        w.end(update);
        w.end(statement);
        w.end(statements);
        if let Some(concern) = command.body.find("writeConcern") {
            write_concern(&mut w, &concern, checks);
        }
        w.string(b"$db", facts.control_database);
        w.end(mark);
        seal(
            w,
            facts,
            // Another primary could not tell what was written on this one.
            Outcome::new(Routing::Primary, Retry::Write, ReplyRule::Plain),
        )
    }
}

/// Writes a write concern. `checks` replaces a time-out that is one.
fn write_concern(w: &mut Writer, concern: &Element<'_>, checks: bool) {
    let Some(members) = concern.as_document().filter(|_| checks) else {
        w.element(concern);
        return;
    };
    let is_time = |e: &Element<'_>| {
        let is_int = e.as_integer().is_some_and(|n| i32::try_from(n).is_ok());
        e.key == b"wtimeout" && (is_int || matches!(e.kind, Kind::Null))
    };
    let document = w.begin_document(b"writeConcern");
    let others = members.elements().filter(|e| !is_time(e));
    others.for_each(|member| w.element(&member));
    if members
        .elements()
        .all(|e| e.key != b"wtimeout" || is_time(&e))
    {
        w.int32(b"wtimeout", CHECK_MILLIS);
    }
    w.end(document);
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document as Doc, doc};
    use mdb_wire::Document;

    use super::*;

    #[test]
    fn what_is_plain_is_not_asked_for_first() {
        use Awaited::{Known, Nothing, Unchecked};
        for (concern, expected) in [
            (doc! {}, Nothing),
            (doc! {"w": 1}, Nothing),
            (doc! {"w": 0.0, "j": false, "wtimeout": 5}, Nothing),
            (doc! {"w": "majority"}, Known),
            (doc! {"w": 1_i64, "j": true}, Known),
            (doc! {"w": "majority", "wtimeout": 100}, Known),
            (doc! {"w": 3}, Unchecked),
            (doc! {"w": -1}, Unchecked),
            (doc! {"w": 1.5}, Unchecked),
            (doc! {"w": "east"}, Unchecked),
            (doc! {"w": {"east": 1}}, Unchecked),
            (doc! {"w": "majority", "wtimeout": -1}, Unchecked),
            (doc! {"j": 1}, Unchecked),
            (doc! {"fsync": true}, Unchecked),
        ] {
            let command = doc! {"drop": "c", "writeConcern": concern};
            assert_eq!(of(&command), expected, "{command}");
        }
        assert_eq!(of(&doc! {"drop": "c"}), Nothing);
        assert_eq!(of(&doc! {"drop": "c", "writeConcern": 1}), Unchecked);
    }

    fn of(command: &Doc) -> Awaited {
        let bytes = bson::serialize_to_vec(command).unwrap();
        awaited(&Command::inner(Document::parse(&bytes).unwrap(), "d").unwrap())
    }

    #[test]
    fn a_check_replaces_the_time_that_the_client_would_wait() {
        for (concern, expected) in [
            (doc! {"w": 3}, doc! {"w": 3, "wtimeout": CHECK_MILLIS}),
            (
                doc! {"wtimeout": 60_000, "w": 3},
                doc! {"w": 3, "wtimeout": CHECK_MILLIS},
            ),
            // A server finds it wrong, or does not look at it.
            (doc! {"wtimeout": "x"}, doc! {"wtimeout": "x"}),
            (
                doc! {"wtimeout": 1_i64 << 40},
                doc! {"wtimeout": 1_i64 << 40},
            ),
        ] {
            assert_eq!(written(&concern, true), Bson::Document(expected));
            assert_eq!(written(&concern, false), Bson::Document(concern));
        }
        let none = Bson::Int32(1);
        assert_eq!(written(&none, true), none);
    }

    fn written(concern: &(impl Clone + Into<Bson>), checks: bool) -> Bson {
        let bytes = bson::serialize_to_vec(&doc! {"writeConcern": concern.clone()}).unwrap();
        let found = Document::parse(&bytes).unwrap().first().unwrap();
        let mut w = Writer::default();
        let mark = w.begin();
        write_concern(&mut w, &found, checks);
        w.end(mark);
        let document: Doc = bson::deserialize_from_slice(&w.into_bytes()).unwrap();
        document.get("writeConcern").unwrap().clone()
    }
}
