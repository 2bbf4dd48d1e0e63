//! `bulkWrite` of MongoDB 8.0: statements on several collections in one command, each rewritten by the rows of `insert`,
//! `update` and `delete`.

use mdb_wire::{Command, Document, Element, Kind, Writer};

use crate::apply::Outcome;
use crate::arguments::{self, Argument};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::Facts;
use crate::namespace::{check_elsewhere, check_length};
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::scoped::ReplyRule;
use crate::{generic, statements};

/// `maxWireVersion` of 8.0, the first that has the command.
const WIRE_VERSION_MIN: i32 = 25;
/// The document sequences that the command may have.
const SEQUENCES: [&str; 2] = ["ops", "nsInfo"];

impl Scope {
    /// Writes a `bulkWrite`. `facts.namespaces` are the collections of its `nsInfo`, in their order.
    pub(crate) fn bulk_write(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
        w: &mut Writer,
    ) -> Result<Outcome, Refusal> {
        if facts.wire_version < WIRE_VERSION_MIN {
            return Err(Refusal::command_not_found("no such command: 'bulkWrite'"));
        }
        if command.database != "admin" {
            return Err(Refusal::unauthorized(
                "bulkWrite may only be run against the admin database.",
            ));
        }
        check_sequences(command)?;
        let names = bulk_collections(command, facts.control_database)?;
        let body = Body::read(self, spec, command, facts)?;
        let mark = w.begin();
        w.int32(b"bulkWrite", 1);
        body.fields(w, false)?;
        w.end(mark);
        let grounds: Vec<Facts<'_>> = facts
            .namespaces
            .iter()
            .map(|collection| Facts {
                collection,
                ..*facts
            })
            .collect();
        if grounds.len() != names.len() {
            return Err(Refusal::bad_value("nsInfo changed under the command"));
        }
        let section = begin_sequence(w, "nsInfo");
        for ((database, collection), ground) in names.iter().zip(&grounds) {
            let physical = self.physical_collection(collection, ground.collection.isolation);
            check_length(database, &physical)?;
            let entry = w.begin();
            w.string(b"ns", &format!("{database}.{physical}"));
            w.end(entry);
        }
        w.patch_length(section);
        let section = begin_sequence(w, "ops");
        for statement in all(command, "ops")? {
            self.bulk_statement(spec, command, &grounds, statement, w)?;
        }
        w.patch_length(section);
        Ok(Outcome::new(body.routing(), body.retry(), ReplyRule::Bulk))
    }

    fn bulk_statement(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        grounds: &[Facts<'_>],
        statement: Document<'_>,
        w: &mut Writer,
    ) -> Result<(), Refusal> {
        no_repeats(statement, "a statement")?;
        let (table, index) = kind(statement)?;
        let ground = grounds.get(index).ok_or_else(|| {
            Refusal::bad_value(format!(
                "BulkWrite ops entry has an invalid nsInfo index: {index}"
            ))
        })?;
        let body = Body::read(self, spec, command, ground)?;
        if table.first().is_none_or(|row| row.name != "insert") {
            return statements::statement(&body, w, None, statement, table);
        }
        let mark = w.begin();
        for element in statement.elements() {
            statements::row(&body, table, &element)?;
            if element.key == b"document" {
                let document = generic::document(&element, "bulkWrite.ops.document")?;
                statements::stamped(&body, w, Some(element.key), document)?;
            } else {
                w.element(&element);
            }
        }
        w.end(mark);
        Ok(())
    }
}

fn begin_sequence(w: &mut Writer, name: &str) -> mdb_wire::Mark {
    w.raw(&[1]);
    let section = w.begin_length();
    w.raw(name.as_bytes());
    w.raw(&[0]);
    section
}

fn check_sequences(command: &Command<'_>) -> Result<(), Refusal> {
    for sequence in command.sequences() {
        if !SEQUENCES
            .iter()
            .any(|name| name.as_bytes() == sequence.name)
        {
            return Err(Refusal::unknown_field(format!(
                "document sequence '{}' is not part of bulkWrite",
                String::from_utf8_lossy(sequence.name)
            )));
        }
    }
    Ok(())
}

/// The documents of one of the two lists, wherever it stands.
fn all<'a>(command: &Command<'a>, name: &'static str) -> Result<Vec<Document<'a>>, Refusal> {
    let in_body = command.body.find(name);
    if in_body.is_none() && command.sequence(name).is_none() {
        return Err(Refusal::missing_field(format!(
            "BSON field 'bulkWrite.{name}' is missing but a required field"
        )));
    }
    if let Some(element) = in_body {
        let array = element.as_array().ok_or_else(|| {
            Refusal::wrong_kind(&format!("bulkWrite.{name}"), element.kind.name(), "array")
        })?;
        let wrong = array.elements().find(|e| e.kind != Kind::Document);
        if let Some(wrong) = wrong {
            let path = format!("bulkWrite.{name}.{}", wrong.name());
            return Err(Refusal::wrong_kind(&path, wrong.kind.name(), "object"));
        }
    }
    Ok(statements::of(command, name).collect())
}

/// The kind of a statement, as its first field says, and the place of its collection.
fn kind(statement: Document<'_>) -> Result<(&'static [Argument], usize), Refusal> {
    let wrong = || {
        Refusal::failed_to_parse(
            "a statement of bulkWrite begins with insert, update or delete and the place of its collection in nsInfo",
        )
    };
    let first = statement.first().ok_or_else(wrong)?;
    let table = match first.key {
        b"insert" => arguments::BULK_INSERT,
        b"update" => arguments::BULK_UPDATE,
        b"delete" => arguments::BULK_DELETE,
        _ => return Err(wrong()),
    };
    let is_integer = matches!(first.kind, Kind::Int32 | Kind::Int64);
    let index = first.as_integer().filter(|_| is_integer);
    let index = index.and_then(|index| usize::try_from(index).ok());
    Ok((table, index.ok_or_else(wrong)?))
}

/// The collections of a `bulkWrite`, database and name, as the app says them, in the order of `nsInfo`.
///
/// # Errors
/// 13 and 73 for names that no app may use, 40415 for other ways to name a collection.
pub fn bulk_collections<'a>(
    command: &Command<'a>,
    control_database: &str,
) -> Result<Vec<(&'a str, &'a str)>, Refusal> {
    let mut names = Vec::new();
    for entry in all(command, "nsInfo")? {
        no_repeats(entry, "nsInfo")?;
        let unknown = entry.elements().find(|e| e.key != b"ns");
        if let Some(unknown) = unknown {
            return Err(Refusal::unknown_field(format!(
                "BSON field 'bulkWrite.nsInfo.{}' is an unknown field.",
                unknown.name()
            )));
        }
        let name = entry.find("ns").and_then(|ns: Element<'a>| ns.as_str());
        let Some((database, collection)) = name.and_then(|name| name.split_once('.')) else {
            return Err(Refusal::invalid_namespace(
                "nsInfo names a collection as a string, database.collection",
            ));
        };
        check_elsewhere("bulkWrite", database, collection, control_database)?;
        names.push((database, collection));
    }
    Ok(names)
}

/// Whether a statement of a `bulkWrite` can bring the collection at this place of `nsInfo` into being.
pub fn bulk_creates(command: &Command<'_>, place: usize) -> bool {
    let creates = |statement: Document<'_>| {
        let upserts = statement.find("upsert").and_then(|u| u.as_flag()) == Some(true);
        let first = statement.first();
        let is_here = first
            .is_some_and(|f| f.as_integer().and_then(|at| usize::try_from(at).ok()) == Some(place));
        is_here && (upserts || first.is_some_and(|f| f.key == b"insert"))
    };
    statements::of(command, "ops").any(creates)
}
