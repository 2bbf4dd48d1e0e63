//! What is written: documents with one owner, updates that cannot change it.

use mdb_wire::{Document, Element};

use super::expression::expressions;
use super::filter::conditions;
use super::pipeline::stage_of;
use super::{Ground, Owner, Place, Verdict, Violation, ensure, inside, is_one_of, once, violation};

/// A document that carries the app, once.
pub(super) fn stamped(owner: Owner<'_>, document: Document<'_>, path: &str) -> Verdict {
    let mut owners = document.elements().filter(|e| e.key == owner.field);
    let is_stamped = owners.next().is_some_and(|first| owner.is_stamp(&first));
    ensure(is_stamped, path, "the document does not carry the app")?;
    ensure(owners.next().is_none(), path, "the document has two owners")
}

/// The update of a statement, in any of its three forms; `statement` tells whether it upserts.
pub(super) fn update(
    place: Place<'_>,
    statement: Document<'_>,
    element: &Element<'_>,
    path: &str,
) -> Verdict {
    let owner = place.owner;
    let is_own = place.ground == Ground::Own;
    if let Some(stages) = element.as_array() {
        return if is_own {
            stages_are_known(stages, path).map(|_| ())
        } else {
            stages_keep_owner(owner, stages, path)
        };
    }
    let document = element.as_document();
    let document = document.ok_or_else(|| violation(path, "the update is no document"))?;
    let is_operators = document
        .first()
        .is_some_and(|first| first.key.first() == Some(&b'$'));
    if is_operators {
        operators(place, document, path)?;
        let upserts = statement.find("upsert").and_then(|u| u.as_flag()) == Some(true);
        ensure(
            is_own || !upserts || stamps_insert(owner, document),
            path,
            "what it inserts need not carry the app",
        )
    } else if is_own {
        Ok(())
    } else {
        stamped(owner, document, path)
    }
}

/// Whether the operators name the app where they insert. The server takes no `$setOnInsert` that is no document.
fn stamps_insert(owner: Owner<'_>, update: Document<'_>) -> bool {
    let sets = ["$set", "$setOnInsert"].map(|name| update.find(name));
    let is_none = |e: &Element<'_>| e.key == b"$setOnInsert" && e.as_document().is_none();
    sets.iter().flatten().any(|operator| {
        let mut paths = operator
            .as_document()
            .into_iter()
            .flat_map(Document::elements);
        is_none(operator) || paths.any(|path| owner.is_stamp(&path))
    })
}

const OPERATORS: &[&str] = &[
    "$set",
    "$unset",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$rename",
    "$setOnInsert",
    "$currentDate",
    "$push",
    "$pull",
    "$pullAll",
    "$pop",
    "$addToSet",
    "$bit",
];

fn operators(place: Place<'_>, update: Document<'_>, path: &str) -> Verdict {
    let owner = place.owner;
    let is_own = place.ground == Ground::Own;
    once(update, path)?;
    for operator in update.elements() {
        let path = &inside(path, operator.key);
        ensure(
            is_one_of(OPERATORS, operator.key),
            path,
            "the operator is not known",
        )?;
        let paths = operator.as_document().unwrap_or(Document::EMPTY);
        once(paths, path)?;
        for target in paths.elements() {
            let sets = matches!(operator.key, b"$set" | b"$setOnInsert");
            let keeps = sets && owner.is_stamp(&target);
            ensure(
                keeps || is_own || !owner.begins(target.key),
                path,
                "it changes the owner",
            )?;
            let renamed =
                operator.key == b"$rename" && target.as_string().is_some_and(|to| owner.begins(to));
            ensure(is_own || !renamed, path, "it changes the owner")?;
            if operator.key == b"$pull" {
                conditions(target.as_document().unwrap_or(Document::EMPTY), path)?;
            }
        }
    }
    Ok(())
}

/// Stages of an update read nothing but the document, and the last one puts the app back, whatever came before.
const STAGES: &[&str] = &[
    "$addFields",
    "$set",
    "$project",
    "$unset",
    "$replaceRoot",
    "$replaceWith",
];

pub(super) fn stages_are_known<'a>(
    stages: Document<'a>,
    path: &str,
) -> Result<Vec<Element<'a>>, Violation> {
    let mut bodies = Vec::new();
    for stage in stages.elements() {
        let body = stage_of(&stage, path)?;
        ensure(is_one_of(STAGES, body.key), path, "the stage is not known")?;
        expressions(Some(&body), path)?;
        bodies.push(body);
    }
    Ok(bodies)
}

pub(super) fn stages_keep_owner(owner: Owner<'_>, stages: Document<'_>, path: &str) -> Verdict {
    let bodies = stages_are_known(stages, path)?;
    let field = Some(owner.field);
    let takes_out = |e: &Element<'_>| e.key == b"$unset" && e.as_string() == field;
    let is_clean = bodies.first().is_some_and(takes_out);
    ensure(is_clean, path, "the stages see the scope field")?;
    let last = bodies.split_last();
    let puts_back = last.is_some_and(|(last, before)| match last.key {
        b"$set" => last.as_document().is_some_and(|d| is_only_owner(owner, d)),
        b"$replaceWith" => before.last().is_some_and(takes_out) && merges_owner(owner, last),
        _ => false,
    });
    ensure(puts_back, path, "the last stage does not put the app back")
}

/// `{field: {$literal: slug}}`.
fn is_only_owner(owner: Owner<'_>, document: Document<'_>) -> bool {
    let mut fields = document.elements();
    matches!((fields.next(), fields.next()), (Some(only), None) if is_literal_owner(owner, &only))
}

fn is_literal_owner(owner: Owner<'_>, element: &Element<'_>) -> bool {
    let mut value = element
        .as_document()
        .into_iter()
        .flat_map(Document::elements);
    element.key == owner.field
        && matches!(
            (value.next(), value.next()),
            (Some(only), None) if only.key == b"$literal" && owner.is_slug(&only)
        )
}

/// Whether the two stages put the app back, whatever owner the documents had.
pub(super) fn replace_owner(owner: Owner<'_>, out: &Element<'_>, back: &Element<'_>) -> bool {
    out.key == b"$unset"
        && out.as_string() == Some(owner.field)
        && back.key == b"$replaceWith"
        && merges_owner(owner, back)
}

/// `{$mergeObjects: [{…, field: {$literal: slug}}, "$$ROOT"]}`, where the document has no such field.
fn merges_owner(owner: Owner<'_>, element: &Element<'_>) -> bool {
    let merge = element.as_document().and_then(Document::first);
    let Some(parts) = merge.filter(|m| m.key == b"$mergeObjects") else {
        return false;
    };
    let mut parts = parts.as_array().into_iter().flat_map(Document::elements);
    let (Some(head), Some(root), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let heads_with_owner = head
        .as_document()
        .is_some_and(|d| d.elements().any(|e| is_literal_owner(owner, &e)));
    heads_with_owner && root.as_string() == Some(b"$$ROOT".as_slice())
}
