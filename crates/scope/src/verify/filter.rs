//! Filters: the condition that binds them, and nothing in them that runs code.

use mdb_wire::{Document, Element};

use super::expression::expressions;
use super::{Ground, Place, Verdict, ensure, inside, once, violation};

/// A filter whose top-level conjuncts hold the app's condition.
pub(super) fn guarded(place: Place<'_>, filter: Document<'_>, path: &str) -> Verdict {
    let owner = place.owner;
    if place.ground == Ground::Own {
        return conditions(filter, path);
    }
    let is_bound = conjunct(filter, &|e| owner.is_stamp(e));
    ensure(is_bound, path, "the filter is not bound to the app")?;
    let is_exact = !place.is_collated || conjunct(filter, &|e| owner.is_pattern(e));
    ensure(is_exact, path, "the collation loosens the app's condition")?;
    conditions(filter, path)
}

/// Whether an element stands at the top level of a filter, or in an `$and` there.
fn conjunct(filter: Document<'_>, is_it: &dyn Fn(&Element<'_>) -> bool) -> bool {
    filter.elements().any(|element| {
        is_it(&element)
            || (element.key == b"$and"
                && element
                    .as_array()
                    .into_iter()
                    .flat_map(Document::elements)
                    .filter_map(|branch| branch.as_document())
                    .any(|branch| conjunct(branch, is_it)))
    })
}

/// Operators that hold other conditions.
const BRANCHES: &[&[u8]] = &[b"$and", b"$or", b"$nor"];

/// Every operator of a filter is one that reads its documents only.
pub(super) fn conditions(filter: Document<'_>, path: &str) -> Verdict {
    once(filter, path)?;
    for element in filter.elements() {
        let path = &inside(path, element.key);
        if BRANCHES.contains(&element.key) {
            for branch in element.as_array().into_iter().flat_map(Document::elements) {
                let branch = branch.as_document();
                conditions(
                    branch.ok_or_else(|| violation(path, "a branch is no filter"))?,
                    path,
                )?;
            }
        } else if element.key == b"$expr" {
            expressions(Some(&element), path)?;
        } else if element.key.first() == Some(&b'$') {
            operator(&element, path)?;
        } else {
            value(&element, path)?;
        }
    }
    Ok(())
}

/// A literal, or operators if the first name is one's.
fn value(element: &Element<'_>, path: &str) -> Verdict {
    let document = element.as_document().unwrap_or(Document::EMPTY);
    let is_literal = document
        .first()
        .is_none_or(|first| first.key.first() != Some(&b'$'));
    if is_literal {
        return Ok(());
    }
    document
        .elements()
        .try_for_each(|e| operator(&e, &inside(path, e.key)))
}

fn operator(element: &Element<'_>, path: &str) -> Verdict {
    let runs = matches!(element.key, b"$where" | b"$function" | b"$accumulator")
        || element.key.starts_with(b"$_");
    ensure(!runs, path, "an operator that is not for apps")?;
    match element.key {
        b"$not" => value(element, path),
        b"$elemMatch" => conditions(element.as_document().unwrap_or(Document::EMPTY), path),
        b"$all" => element
            .as_array()
            .into_iter()
            .flat_map(Document::elements)
            .try_for_each(|e| value(&e, path)),
        _ => Ok(()),
    }
}
