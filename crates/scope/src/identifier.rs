//! `_id` values that an app may bring into a shared collection, where they are unique over all apps.

use mdb_wire::{Document, Element, Kind};

use crate::refusal::Refusal;
use crate::scope::{IdPolicy, Scope};

/// Bytes of a UUID.
const UUID_BYTES: usize = 16;

/// Checks the `_id` of a document that an app inserts; one without gets an ObjectId from the server.
///
/// # Errors
/// 2 where the app's policy takes random ones only.
pub(crate) fn check(scope: &Scope, document: Document<'_>) -> Result<(), Refusal> {
    if scope.id_policy() == IdPolicy::Any {
        return Ok(());
    }
    document.find("_id").map_or(Ok(()), |id| one(&id))
}

/// Checks the `_id` that an upsert would insert, as its filter and update say it.
///
/// # Errors
/// As [`check`]; also for a pipeline that may compute one.
pub(crate) fn check_upsert(
    scope: &Scope,
    filter: Option<Element<'_>>,
    update: Option<Element<'_>>,
) -> Result<(), Refusal> {
    if scope.id_policy() == IdPolicy::Any {
        return Ok(());
    }
    if let Some(filter) = filter.and_then(|f| f.as_document()) {
        equalities(filter)?;
    }
    let Some(update) = update else {
        return Ok(());
    };
    if let Some(stages) = update.as_array() {
        return pipeline(stages);
    }
    let document = update.as_document().unwrap_or(Document::EMPTY);
    for element in document.elements() {
        match element.key {
            b"_id" => one(&element)?,
            b"$set" | b"$setOnInsert" => {
                let fields = element.as_document().unwrap_or(Document::EMPTY);
                fields.find("_id").map_or(Ok(()), |id| one(&id))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// The server takes `_id` from equalities of the filter, also inside `$and`.
fn equalities(filter: Document<'_>) -> Result<(), Refusal> {
    for element in filter.elements() {
        match element.key {
            b"_id" => equality(&element)?,
            b"$and" | b"$or" => {
                let branches = element.as_array().into_iter().flat_map(Document::elements);
                for branch in branches.filter_map(|b| b.as_document()) {
                    equalities(branch)?;
                }
            }
            key if key.starts_with(b"_id.") => return Err(not_random()),
            _ => {}
        }
    }
    Ok(())
}

fn equality(element: &Element<'_>) -> Result<(), Refusal> {
    let operators = element
        .as_document()
        .filter(|d| d.first().is_some_and(|f| f.key.first() == Some(&b'$')));
    let Some(operators) = operators else {
        return one(element);
    };
    for operator in operators.elements() {
        match operator.key {
            b"$eq" => one(&operator)?,
            // Of several values none is taken.
            b"$in" | b"$all" => {
                let values = operator.as_array().unwrap_or(Document::EMPTY);
                if let (Some(only), None) = (values.first(), values.elements().nth(1)) {
                    one(&only)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// A stage that may write `_id` can write anything there.
fn pipeline(stages: Document<'_>) -> Result<(), Refusal> {
    for stage in stages.elements() {
        let Some(body) = stage.as_document().and_then(Document::first) else {
            continue;
        };
        let names_id = body.as_document().is_some_and(|d| {
            d.elements()
                .any(|e| e.key == b"_id" || e.key.starts_with(b"_id."))
        });
        if names_id || matches!(body.key, b"$replaceRoot" | b"$replaceWith") {
            return Err(not_random());
        }
    }
    Ok(())
}

fn one(id: &Element<'_>) -> Result<(), Refusal> {
    let is_random = match id.kind {
        Kind::ObjectId => true,
        _ => matches!(id.as_binary(), Some((3 | 4, bytes)) if bytes.len() == UUID_BYTES),
    };
    if is_random { Ok(()) } else { Err(not_random()) }
}

fn not_random() -> Refusal {
    Refusal::bad_value(
        "_id must be an ObjectId or a UUID: the app's id_policy is random_only, as an _id is unique over all apps of a shared collection; leave _id out, keep your own key in another field with a unique index, or make the collection dedicated",
    )
}
