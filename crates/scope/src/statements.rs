//! Statements and documents of writes, in an array or in a document sequence.

use mdb_wire::{Command, Document, Element, Kind, Sequence, Writer};

use crate::arguments::{self, Argument, Take};
use crate::body::Body;
use crate::hint::{Order, Plan};
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::{expression, filter, generic, identifier, stamp, update};

/// The statements or documents of a write, wherever they stand.
pub(crate) fn of<'a>(command: &Command<'a>, name: &str) -> impl Iterator<Item = Document<'a>> {
    let in_sequence = command
        .sequence(name)
        .into_iter()
        .flat_map(Sequence::documents);
    let in_body = command.body.find(name).and_then(|e| e.as_array());
    let in_body = in_body.into_iter().flat_map(Document::elements);
    in_sequence.chain(in_body.filter_map(|e| e.as_document()))
}

/// Writes a command's documents or statements as an array: only inside an `explain`, where no sequence can stand.
pub(crate) fn array(
    body: &Body<'_, '_>,
    w: &mut Writer,
    take: Take,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    let documents = documents_of(body, element)?;
    let array = w.begin_array(element.key);
    for document in documents.elements() {
        one(body, w, take, Some(document.key), nested(body, &document)?)?;
    }
    w.end(array);
    Ok(())
}

/// Writes one document or statement.
pub(crate) fn one(
    body: &Body<'_, '_>,
    w: &mut Writer,
    take: Take,
    key: Option<&[u8]>,
    document: Document<'_>,
) -> Result<(), Refusal> {
    match take {
        Take::Documents => stamped(body, w, key, document),
        Take::Updates => statement(body, w, key, document, arguments::UPDATE_STATEMENT),
        _ => statement(body, w, key, document, arguments::DELETE_STATEMENT),
    }
}

/// Writes a document that is inserted.
pub(crate) fn stamped(
    body: &Body<'_, '_>,
    w: &mut Writer,
    key: Option<&[u8]>,
    document: Document<'_>,
) -> Result<(), Refusal> {
    if body.is_shared() {
        identifier::check(body.scope, document)?;
        stamp::write(body.scope, w, key, document)?;
        return stamp::check_size(body.scope, document, body.facts.document_bytes_max);
    }
    match key {
        Some(key) => w.document(key, document),
        None => w.raw(document.bytes()),
    }
    Ok(())
}

/// What a table calls the field that is taken so.
fn named(table: &'static [Argument], take: Take) -> &'static str {
    table
        .iter()
        .find(|row| row.take == take)
        .map_or("", |row| row.name)
}

pub(crate) fn documents_of<'a>(
    body: &Body<'_, '_>,
    element: &Element<'a>,
) -> Result<Document<'a>, Refusal> {
    element.as_array().ok_or_else(|| {
        let path = format!("{}.{}", body.spec.name, element.name());
        Refusal::wrong_kind(&path, element.kind.name(), "array")
    })
}

pub(crate) fn nested<'a>(
    body: &Body<'_, '_>,
    element: &Element<'a>,
) -> Result<Document<'a>, Refusal> {
    generic::document(
        element,
        format_args!("{}.{}", path_of(body), element.name()),
    )
}

/// What servers call the place of the statements in their errors.
fn path_of(body: &Body<'_, '_>) -> &'static str {
    match body.spec.name {
        "insert" => "insert.documents",
        "update" => "update.updates",
        "delete" => "delete.deletes",
        "bulkWrite" => "bulkWrite.ops",
        name => name,
    }
}

pub(crate) fn statement(
    body: &Body<'_, '_>,
    w: &mut Writer,
    key: Option<&[u8]>,
    document: Document<'_>,
    table: &'static [Argument],
) -> Result<(), Refusal> {
    no_repeats(document, "a statement")?;
    let mut is_collated = false;
    let mut has_filter = false;
    let mut plan = Plan::default();
    for element in document.elements() {
        match row(body, table, &element)?.take {
            // The server takes null for a field that is not there.
            Take::Filter | Take::Collation if element.kind == Kind::Null => {}
            Take::Collation => {
                nested(body, &element)?;
                let wire_version = body.facts.wire_version;
                is_collated = generic::collation_on(&element, path_of(body), wire_version)?;
                plan.is_collated = is_collated;
            }
            Take::Filter => {
                has_filter = true;
                plan.learn(Take::Filter, &element)?;
            }
            take => plan.learn(take, &element)?,
        }
    }
    if !has_filter {
        return Err(Refusal::missing_field(format!(
            "BSON field '{}.{}' is missing but a required field",
            path_of(body),
            named(table, Take::Filter)
        )));
    }
    let upserts = document.find("upsert").and_then(|u| u.as_flag()) == Some(true);
    if upserts && body.is_shared() {
        let filter = document.find(named(table, Take::Filter));
        let update = document.find(named(table, Take::Update));
        identifier::check_upsert(body.scope, filter, update)?;
    }
    // Were one statement of several refused for a stale hint, the others could not be sent again.
    if body.is_single() {
        plan.order = statement_order(document);
    }
    let mark = match key {
        Some(key) => w.begin_document(key),
        None => w.begin(),
    };
    let sight = body.sight();
    for element in document.elements() {
        match row(body, table, &element)?.take {
            Take::Filter => {
                let user = nested(body, &element)?;
                filter::bound(sight, w, element.key, is_collated, Some(user))?;
            }
            Take::Update => update::write(sight, w, element.key, &element, upserts)?,
            Take::ArrayFilters => {
                update::array_filters(&element)?;
                w.element(&element);
            }
            Take::Let => expression::bindings(sight, w, &element)?,
            Take::Sort | Take::Hint => {}
            Take::Collation if element.kind == Kind::Null => {}
            _ => w.element(&element),
        }
    }
    plan.write(body, w)?;
    w.end(mark);
    Ok(())
}

/// A statement that touches one document touches the first in the order of records, if no index serves its filter. To one that
/// touches all it makes no difference.
fn statement_order(document: Document<'_>) -> Order {
    let is_one = match (document.find("limit"), document.find("multi")) {
        (Some(limit), _) => limit.as_integer() == Some(1),
        (None, multi) => {
            document.find("u").is_some() && multi.is_none_or(|m| m.as_flag() == Some(false))
        }
    };
    if is_one {
        Order::OfRecords
    } else {
        Order::Indifferent
    }
}

pub(crate) fn row(
    body: &Body<'_, '_>,
    table: &'static [Argument],
    element: &Element<'_>,
) -> Result<&'static Argument, Refusal> {
    arguments::served(
        path_of(body),
        arguments::look_up(table, element.key),
        element,
    )
}
