//! What a filter implies that cannot fail: conditions that may stand in front of it, where indexes serve them.
//!
//! A `$match` whose `$expr` can fail stays behind the stage that is its barrier, out of the reach of indexes. What stands beside
//! the part that can fail holds of every document that it takes, so it is said in front once more.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};

use super::may_fail;
use crate::sight::Sight;

/// Comparisons that an index can serve.
const COMPARISONS: &[&[u8]] = &[b"$eq", b"$gt", b"$gte", b"$lt", b"$lte"];

/// `{$and: [...]}` of the conditions, if there are any.
pub(crate) fn implied(sight: Sight<'_>, filter: Document<'_>) -> Option<Vec<u8>> {
    let mut found = Vec::new();
    conditions(sight, filter, &mut found);
    if found.is_empty() {
        return None;
    }
    let mut w = Writer::default();
    let mark = w.begin();
    let all = w.begin_array(b"$and");
    for (index, (key, condition)) in found.iter().enumerate() {
        let branch = w.begin_document(IndexKey::new(index).as_bytes());
        w.renamed(key, condition);
        w.end(branch);
    }
    w.end(all);
    w.end(mark);
    Some(w.into_bytes())
}

/// Each with the key under which it stands in a filter.
type Conditions<'a> = Vec<(&'a [u8], Element<'a>)>;

fn conditions<'a>(sight: Sight<'_>, filter: Document<'a>, found: &mut Conditions<'a>) {
    for element in filter.elements() {
        match element.key {
            b"$and" => {
                let branches = element.as_array().unwrap_or(Document::EMPTY);
                let branches = branches.elements().filter_map(|b| b.as_document());
                branches.for_each(|branch| conditions(sight, branch, found));
            }
            b"$expr" => comparisons(sight, element, found),
            key if key.first() == Some(&b'$') || sight.names_scope_field(key) => {}
            _ if element.as_nested().is_some_and(may_fail) => {}
            key => found.push((key, element)),
        }
    }
}

/// The comparisons of which an expression is the conjunction, as far as they cannot fail.
fn comparisons<'a>(sight: Sight<'_>, expression: Element<'a>, found: &mut Conditions<'a>) {
    let operator = expression.as_document().and_then(Document::first);
    let Some(operator) = operator else { return };
    let operands = operator.as_array().unwrap_or(Document::EMPTY);
    if operator.key == b"$and" {
        let parts = operands.elements();
        parts.for_each(|part| comparisons(sight, part, found));
        return;
    }
    let compares = COMPARISONS.contains(&operator.key)
        && operands.elements().count() == 2
        && operands
            .elements()
            .all(|operand| is_simple(sight, &operand))
        && operands.elements().any(|operand| is_path(&operand));
    if compares {
        found.push((b"$expr", expression));
    }
}

/// A field, a variable of the client's, or a constant.
fn is_simple(sight: Sight<'_>, operand: &Element<'_>) -> bool {
    match operand.kind {
        Kind::String => {
            let text = operand.as_string().unwrap_or_default();
            match text {
                [b'$', b'$', name @ ..] => name.first().is_some_and(u8::is_ascii_lowercase),
                [b'$', path @ ..] => !path.is_empty() && !sight.names_scope_field(path),
                _ => true,
            }
        }
        Kind::Document => {
            let first = operand.as_document().and_then(Document::first);
            first.is_some_and(|first| matches!(first.key, b"$literal" | b"$const"))
        }
        Kind::Array => false,
        _ => true,
    }
}

fn is_path(operand: &Element<'_>) -> bool {
    operand
        .as_string()
        .is_some_and(|text| text.starts_with(b"$") && !text.starts_with(b"$$"))
}
