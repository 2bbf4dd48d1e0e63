//! Updates: operators, replacements, pipelines. None of them can change or drop the scope field.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};

use crate::filter;
use crate::operators::{UPDATE_MODIFIERS, UPDATE_OPERATORS, has};
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::sight::Sight;
use crate::stages;
use crate::stamp;

/// Writes the update `u` under `key`.
///
/// # Errors
/// 66 for a change of the scope field, 13 for a replacement of another owner, 9 for an operator without a row.
pub(crate) fn write(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    update: &Element<'_>,
    upserts: bool,
) -> Result<(), Refusal> {
    match update.kind {
        Kind::Array => pipeline(sight, w, key, update),
        Kind::Document => {
            let document = update.as_document().unwrap_or(Document::EMPTY);
            let is_operators = document
                .first()
                .is_some_and(|f| f.key.first() == Some(&b'$'));
            if is_operators {
                operators(sight, document)?;
                if upserts && sight.is_shared() {
                    return stamped_operators(sight, w, key, document);
                }
                w.renamed(key, update);
                Ok(())
            } else if !sight.is_shared() {
                w.renamed(key, update);
                Ok(())
            } else {
                stamp::write(sight.scope(), w, Some(key), document)
            }
        }
        _ => Err(Refusal::failed_to_parse(
            "Update argument must be either an object or an array",
        )),
    }
}

fn operators(sight: Sight<'_>, update: Document<'_>) -> Result<(), Refusal> {
    no_repeats(update, "an update")?;
    for operator in update.elements() {
        if !has(UPDATE_OPERATORS, operator.key) {
            return Err(unknown(&operator));
        }
        let Some(paths) = operator.as_document() else {
            // The server says what is wrong with it.
            continue;
        };
        no_repeats(paths, "an update operator")?;
        for path in paths.elements() {
            change(sight, operator.key, &path)?;
        }
    }
    Ok(())
}

/// The operators of an upsert, which say by themselves whose the new document is. Its filter says so too, but a server that
/// sees that nothing can match takes no field from it: `{a: {$all: []}}`, `{$sampleRate: 0}` (4.4.2, 5.0.4, 6.0.5).
fn stamped_operators(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    update: Document<'_>,
) -> Result<(), Refusal> {
    let scope = sight.scope();
    let field = scope.field().as_str().as_bytes();
    let names_owner = |operator: &str| {
        let paths = update.find(operator).and_then(|o| o.as_document());
        paths.is_some_and(|paths| paths.elements().any(|path| path.key == field))
    };
    let is_stamped = names_owner("$set") || names_owner(ON_INSERT);
    let mark = w.begin_document(key);
    for operator in update.elements() {
        match operator.as_document() {
            Some(fields) if operator.key == ON_INSERT.as_bytes() && !is_stamped => {
                if fields.is_empty() && sight.wire_version() < WIRE_5_0 {
                    return Err(empty_on_insert());
                }
                let paths = w.begin_document(ON_INSERT.as_bytes());
                w.raw(fields.inner_bytes());
                scope.stamp(w);
                w.end(paths);
            }
            _ => w.element(&operator),
        }
    }
    if !is_stamped && update.find(ON_INSERT).is_none() {
        let paths = w.begin_document(ON_INSERT.as_bytes());
        scope.stamp(w);
        w.end(paths);
    }
    w.end(mark);
    Ok(())
}

const ON_INSERT: &str = "$setOnInsert";

/// `maxWireVersion` of 5.0, the first server that takes an operator without fields.
const WIRE_5_0: i32 = 13;

/// As a server says it that is older than 5.0.
fn empty_on_insert() -> Refusal {
    Refusal::failed_to_parse(
        "'$setOnInsert' is empty. You must specify a field like so: {$setOnInsert: {<field>: ...}}",
    )
    .of_statement()
}

fn unknown(operator: &Element<'_>) -> Refusal {
    let name = operator.name();
    let text = match operator.key {
        b"$v" => "The $v update field is only recognized internally".to_owned(),
        _ => format!(
            "Unknown modifier: {name}. Expected a valid update modifier or pipeline-style update specified as an array"
        ),
    };
    Refusal::failed_to_parse(text).of_statement()
}

/// Checks the value of `$push` or `$addToSet`: one to add, or modifiers. The server takes it for the latter where `$each` is in
/// it, for `$addToSet` in front (4.4.2, 5.0.4, 6.0.5).
fn modifiers(operator: &[u8], path: &Element<'_>) -> Result<(), Refusal> {
    let Some(value) = path.as_document() else {
        return Ok(());
    };
    let mut names = value.elements().map(|e| e.key);
    let has_modifiers = match operator {
        b"$addToSet" => names.next() == Some(b"$each"),
        _ => names.any(|name| name == b"$each"),
    };
    if !has_modifiers {
        return Ok(());
    }
    no_repeats(value, "modifiers")?;
    match value.elements().find(|e| !has(UPDATE_MODIFIERS, e.key)) {
        None => Ok(()),
        Some(_) if operator == b"$addToSet" => Err(Refusal::bad_value(
            "Found unexpected fields after $each in $addToSet",
        )
        .of_statement()),
        Some(other) => Err(Refusal::bad_value(format!(
            "Unrecognized clause in $push: {}",
            other.name()
        ))
        .of_statement()),
    }
}

fn change(sight: Sight<'_>, operator: &[u8], path: &Element<'_>) -> Result<(), Refusal> {
    let scope = sight.scope();
    if sight.names_scope_field(path.key) {
        // Setting the own value changes nothing. It is left in place: without it the update could become `{}`, a
        // replacement by nothing.
        let is_no_change = matches!(operator, b"$set" | b"$setOnInsert")
            && path.key == scope.field().as_str().as_bytes()
            && scope.owns(path);
        if !is_no_change {
            return Err(scope.immutable());
        }
    }
    match operator {
        b"$rename"
            if path
                .as_string()
                .is_some_and(|to| sight.names_scope_field(to)) =>
        {
            Err(scope.immutable())
        }
        b"$push" | b"$addToSet" => modifiers(operator, path),
        // A condition on elements, or operators on the elements themselves.
        b"$pull" => path
            .as_document()
            .map_or(Ok(()), |d| filter::of_elements(sight, d)),
        b"$bit" | b"$currentDate" => path
            .as_document()
            .map_or(Ok(()), |d| no_repeats(d, "the value of an update operator")),
        _ => Ok(()),
    }
}

/// Checks array filters: filters on elements, whose paths begin with an identifier.
pub(crate) fn array_filters(element: &Element<'_>) -> Result<(), Refusal> {
    for filter in element.as_array().into_iter().flat_map(Document::elements) {
        let checked = filter.as_document().map_or(Ok(()), filter::relative);
        checked.map_err(|refusal| refusal.behind("Error parsing array filter :: caused by :: "))?;
    }
    Ok(())
}

/// A pipeline works on the document without the scope field, and the field is put back at the end.
pub(crate) fn pipeline(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    update: &Element<'_>,
) -> Result<(), Refusal> {
    let scope = sight.scope();
    let field = scope.field().as_str();
    let array = w.begin_array(key);
    let mut place = 0_usize;
    let mut next = || {
        let index = IndexKey::new(place);
        place = place.saturating_add(1);
        index
    };
    if sight.is_shared() {
        unset(w, next().as_bytes(), field);
    }
    let mut reshapes = false;
    for stage in update.as_array().into_iter().flat_map(Document::elements) {
        let name = stages::update_stage(sight.clean(), w, next().as_bytes(), &stage)?;
        reshapes |= !matches!(name, "$set" | "$addFields" | "$unset");
    }
    if !sight.is_shared() {
        // Nothing was taken out.
    } else if reshapes {
        // The field must come back to its place behind `_id`, so that an update that changes nothing is seen as one.
        let (out, back) = (next(), next());
        replace_owner(scope, w, out.as_bytes(), back.as_bytes());
    } else {
        let stage = w.begin_document(next().as_bytes());
        let set = w.begin_document(b"$set");
        literal_owner(scope, w);
        w.end(set);
        w.end(stage);
    }
    w.end(array);
    Ok(())
}

/// Whatever the documents carry as their owner, behind these two stages it is the app, at its place behind `_id`.
pub(crate) fn replace_owner(scope: &Scope, w: &mut Writer, out: &[u8], back: &[u8]) {
    unset(w, out, scope.field().as_str());
    replace_with_owner(scope, w, back);
}

/// `{$unset: FIELD}`.
pub(crate) fn unset(w: &mut Writer, key: &[u8], path: &str) {
    let stage = w.begin_document(key);
    w.string(b"$unset", path);
    w.end(stage);
}

/// `FIELD: {$literal: SLUG}`.
fn literal_owner(scope: &Scope, w: &mut Writer) {
    let owner = w.begin_document(scope.field().as_str().as_bytes());
    w.string(b"$literal", scope.app().as_str());
    w.end(owner);
}

/// `{$replaceWith: {$mergeObjects: [{_id: "$_id", FIELD: {$literal: SLUG}}, "$$ROOT"]}}`.
fn replace_with_owner(scope: &Scope, w: &mut Writer, key: &[u8]) {
    let stage = w.begin_document(key);
    let replace = w.begin_document(b"$replaceWith");
    let merge = w.begin_array(b"$mergeObjects");
    let head = w.begin_document(b"0");
    w.string(b"_id", "$_id");
    literal_owner(scope, w);
    w.end(head);
    w.string(b"1", "$$ROOT");
    w.end(merge);
    w.end(replace);
    w.end(stage);
}
