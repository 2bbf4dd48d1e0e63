//! `bulkWrite`: every statement is bound as that of its own command, in the collection that it points at.

use mdb_wire::{Document, Element, Kind};

use super::update::{stamped, update};
use super::{
    Ground, Owner, Place, Sequence, Verdict, Violation, array_filters, ensure, filter_of, inside,
    is_collated, is_one_of, once, plan, variables, violation,
};

const INSERT: &[&str] = &["insert", "document"];
const UPDATE: &[&str] = &[
    "update",
    "filter",
    "updateMods",
    "constants",
    "multi",
    "upsert",
    "arrayFilters",
    "collation",
    "hint",
    "sort",
];
const DELETE: &[&str] = &["delete", "filter", "multi", "collation", "hint"];

pub(super) fn bulk_write(
    owner: Owner<'_>,
    body: Document<'_>,
    sequences: &[Sequence<'_>],
) -> Verdict {
    let database = body.find("$db").and_then(|db| db.as_str());
    ensure(database == Some("admin"), "bulkWrite", "it runs elsewhere")?;
    let grounds: Result<Vec<Ground>, Violation> = list(sequences, b"nsInfo")
        .map(|entry| namespace(owner, entry))
        .collect();
    let grounds = grounds?;
    for (index, statement) in list(sequences, b"ops").enumerate() {
        let path = format!("bulkWrite.ops.{index}");
        once(statement, &path)?;
        let first = statement.first();
        let first = first.ok_or_else(|| violation(&path, "it is empty"))?;
        let at = first.as_integer().and_then(|at| usize::try_from(at).ok());
        let ground = at.and_then(|at| grounds.get(at));
        let ground = ground.ok_or_else(|| violation(&path, "it points at no collection"))?;
        let place = Place {
            owner,
            is_collated: is_collated(statement),
            ground: *ground,
        };
        one(place, &first, statement, &path)?;
    }
    Ok(())
}

fn list<'a>(sequences: &'a [Sequence<'a>], name: &[u8]) -> impl Iterator<Item = Document<'a>> {
    let found = sequences.iter().filter(move |(n, _)| *n == name);
    found.flat_map(|(_, documents)| documents.iter().copied())
}

fn namespace(owner: Owner<'_>, entry: Document<'_>) -> Result<Ground, Violation> {
    let none = || violation("bulkWrite.nsInfo", "it is no collection of the app");
    let mut members = entry.elements();
    let (Some(ns), None) = (members.next(), members.next()) else {
        return Err(none());
    };
    let name = ns.as_str().filter(|_| ns.key == b"ns").ok_or_else(none)?;
    let (database, collection) = name.split_once('.').ok_or_else(none)?;
    let is_servers = matches!(database, "" | "admin" | "local" | "config" | "$external");
    ensure(!is_servers, "bulkWrite.nsInfo", "a database of servers")?;
    owner.ground(collection).ok_or_else(none)
}

fn one(place: Place<'_>, first: &Element<'_>, statement: Document<'_>, path: &str) -> Verdict {
    let fields = match first.key {
        b"insert" => INSERT,
        b"update" => UPDATE,
        b"delete" => DELETE,
        _ => return Err(violation(path, "the statement is not known")),
    };
    for element in statement.elements() {
        let is_known = is_one_of(fields, element.key);
        ensure(
            is_known,
            &inside(path, element.key),
            "the field is not known",
        )?;
    }
    if first.key == b"insert" {
        let document = statement.find("document");
        let document = document.filter(|d| d.kind == Kind::Document);
        let document = document.and_then(|d| d.as_document());
        let document = document.ok_or_else(|| violation(path, "it has no document"))?;
        return match place.ground {
            Ground::Shared => stamped(place.owner, document, path),
            Ground::Own => Ok(()),
        };
    }
    plan(place, statement, path)?;
    variables(statement, path)?;
    super::expression::expressions(statement.find("constants").as_ref(), path)?;
    array_filters(statement, path)?;
    filter_of(place, statement, path, "filter")?;
    match statement.find("updateMods") {
        Some(element) => update(place, statement, &element, &inside(path, b"updateMods")),
        None => Ok(()),
    }
}
