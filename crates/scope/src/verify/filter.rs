//! Filters: the condition that binds them, and nothing in them that runs code.

use mdb_wire::{Document, Element, Kind};

use super::expression::expressions;
use super::{Ground, Owner, Place, Verdict, ensure, inside, once, violation};

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
    ensure(
        !fails_for_others(owner, filter),
        path,
        "an expression that can fail is evaluated for other apps' documents",
    )?;
    conditions(filter, path)
}

/// Expressions that any document has a value for.
const SAFE: &[&str] = &[
    "$eq",
    "$ne",
    "$gt",
    "$gte",
    "$lt",
    "$lte",
    "$cmp",
    "$and",
    "$or",
    "$not",
    "$ifNull",
    "$cond",
    "$type",
    "$isArray",
    "$isNumber",
    // In this form only the proxy's own.
    "$unsetField",
];

/// Whether an `$expr` among these conditions can fail and does not ask first whose the document is.
fn fails_for_others(owner: Owner<'_>, conditions: Document<'_>) -> bool {
    let fail = |d| fails_for_others(owner, d);
    conditions.elements().any(|element| match element.key {
        b"$expr" => {
            let first = element.as_document().and_then(Document::first);
            let asks = first.is_some_and(|cond| cond.key == b"$cond" && asks_owner(owner, &cond));
            !asks && fails(&element)
        }
        b"$not" | b"$elemMatch" => element.as_document().is_some_and(fail),
        b"$all" => documents(&element).filter(|d| is_operators(*d)).any(fail),
        name if BRANCHES.contains(&name) => documents(&element).any(fail),
        name if name.first() == Some(&b'$') => false,
        _ => element
            .as_document()
            .is_some_and(|d| is_operators(d) && fail(d)),
    })
}

/// Whether a field is compared by operators: any other value is one to be equal to, whatever its fields are called.
fn is_operators(value: Document<'_>) -> bool {
    value.first().is_some_and(|f| f.key.first() == Some(&b'$'))
}

fn documents<'a>(list: &Element<'a>) -> impl Iterator<Item = Document<'a>> {
    let items = list.as_array().into_iter().flat_map(Document::elements);
    items.filter_map(|item| item.as_document())
}

fn fails(element: &Element<'_>) -> bool {
    element.as_nested().is_some_and(|parts| {
        parts.elements().any(|part| match part.key {
            b"$literal" | b"$const" => false,
            name if name.first() == Some(&b'$') => !super::is_one_of(SAFE, name) || fails(&part),
            _ => fails(&part),
        })
    })
}

/// `[{$eq: ["$field", {$literal: slug}]}, …, false]`.
fn asks_owner(owner: Owner<'_>, cond: &Element<'_>) -> bool {
    let mut parts = cond.as_array().into_iter().flat_map(Document::elements);
    let test = parts
        .next()
        .and_then(|t| t.as_document()?.find("$eq")?.as_array());
    let otherwise = parts.nth(1);
    let Some(mut sides) = test.map(Document::elements) else {
        return false;
    };
    let path = sides.next().and_then(|s| s.as_string());
    let names_field = path.and_then(|p| p.strip_prefix(b"$")) == Some(owner.field);
    let slug = sides.next().and_then(|s| s.as_document()?.find("$literal"));
    let is_false = otherwise.is_some_and(|e| e.kind == Kind::Boolean && e.as_flag() == Some(false));
    names_field && slug.is_some_and(|s| owner.is_slug(&s)) && is_false
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
