//! Projections of `find` and `findAndModify`, and sorts.

use mdb_wire::{Document, Element, Kind, Writer};

use crate::expression;
use crate::filter;
use crate::operators::{self, EXPRESSIONS};
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::sight::Sight;

/// Writes a projection under `key`. The scope field is not excluded here: that would turn some inclusions into
/// exclusions (`{arr: {$elemMatch}}` would return every other field); it is taken out of the reply.
pub(crate) fn write(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    projection: Document<'_>,
) -> Result<(), Refusal> {
    let document = w.begin_document(key);
    fields(sight, w, projection, true)?;
    w.end(document);
    Ok(())
}

fn fields(
    sight: Sight<'_>,
    w: &mut Writer,
    projection: Document<'_>,
    is_root: bool,
) -> Result<(), Refusal> {
    no_repeats(projection, "a projection")?;
    let mut hidden_included = false;
    for element in projection.elements() {
        if element.key.first() == Some(&b'$') {
            return Err(name_of_operator(sight));
        }
        if is_root && sight.sees_hidden_field() && sight.is_reserved(element.key) {
            // An inclusion stays one, of nothing; an exclusion of what nobody sees is none.
            hidden_included |= element.as_flag() != Some(false);
        } else {
            field(sight, w, &element)?;
        }
    }
    if hidden_included {
        w.string(sight.scope().field().as_str().as_bytes(), "$$REMOVE");
    }
    Ok(())
}

/// What a server says of a field whose name begins as that of an operator (4.4.2, 5.0.4, 6.0.5).
fn name_of_operator(sight: Sight<'_>) -> Refusal {
    let advice = if sight.is_before_five() {
        ""
    } else {
        " Consider using $getField or $setField."
    };
    Refusal::dollar_name(format!(
        "FieldPath field names may not start with '$'.{advice}"
    ))
}

fn field(sight: Sight<'_>, w: &mut Writer, element: &Element<'_>) -> Result<(), Refusal> {
    let Some(value) = element.as_document() else {
        return expression::write(sight, w, element.key, element);
    };
    let Some(first) = value.first() else {
        w.element(element);
        return Ok(());
    };
    if matches!(first.key, b"$slice" | b"$elemMatch") {
        no_repeats(value, "a projection")?;
    }
    match first.key {
        b"$slice" | b"$elemMatch" if value.elements().count() > 1 => {
            return Err(Refusal::unknown_projection(format!(
                "'{}' stands alone in a projection",
                first.name()
            )));
        }
        b"$slice" if is_find_slice(&first) => w.element(element),
        b"$elemMatch" => {
            first.as_document().map_or(Ok(()), filter::relative)?;
            w.element(element);
        }
        key if key.first() == Some(&b'$') => {
            unknown_expression(&first)?;
            return expression::write(sight, w, element.key, element);
        }
        _ => {
            let document = w.begin_document(element.key);
            fields(sight, w, value, false)?;
            w.end(document);
        }
    }
    Ok(())
}

/// `$slice` of `find` counts in plain numbers; with anything else in its array the server takes it for the aggregation
/// expression of the same name (6.0.5), and a text may be a path or a variable there.
fn is_find_slice(slice: &Element<'_>) -> bool {
    slice
        .as_array()
        .is_none_or(|counts| counts.elements().all(|count| is_number(&count)))
        && !matches!(slice.kind, Kind::Document | Kind::String)
}

/// Checks the expressions of `$project` that stand for a field: what is unknown there has a code and a text of its own, in
/// `find` and in `$project` alike (6.0.5). Within other expressions it has not.
pub(crate) fn known_expressions(projection: Document<'_>) -> Result<(), Refusal> {
    for field in projection.elements() {
        let Some(value) = field.as_document() else {
            continue;
        };
        match value.first() {
            Some(first) if first.key.first() == Some(&b'$') => unknown_expression(&first)?,
            _ => known_expressions(value)?,
        }
    }
    Ok(())
}

fn unknown_expression(element: &Element<'_>) -> Result<(), Refusal> {
    if operators::has(EXPRESSIONS, element.key) {
        return Ok(());
    }
    let name = element.name();
    Err(Refusal::unknown_projection(
        match operators::why(EXPRESSIONS, element.key) {
            Some(why) => format!("{name} is not allowed: {why}"),
            None => format!("Unknown expression {name}"),
        },
    ))
}

/// What a sort asks of the order of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Natural {
    /// Nothing.
    No,
    /// The order in which they were inserted.
    Forward,
    /// The reverse of it.
    Backward,
}

/// Reads `$natural` of a sort or hint.
pub(crate) fn natural(document: Document<'_>) -> Natural {
    match document.find("$natural").map(|e| e.as_integer()) {
        None => Natural::No,
        Some(Some(-1)) => Natural::Backward,
        Some(_) => Natural::Forward,
    }
}

/// A direction, or nothing but a `$meta` that is for apps.
fn is_sort_order(element: &Element<'_>) -> Result<bool, Refusal> {
    let Some(document) = element.as_document() else {
        return Ok(is_number(element));
    };
    no_repeats(document, "a sort")?;
    for meta in document.elements() {
        if meta.key != b"$meta" {
            return Ok(false);
        }
        expression::meta(&meta).map_err(|refusal| unknown_in_sort(&meta, refusal))?;
    }
    Ok(true)
}

/// What a server says to a `$meta` that it does not know; of those that apps do not have another reason is told.
fn unknown_in_sort(meta: &Element<'_>, refusal: Refusal) -> Refusal {
    match (meta.as_str(), meta.kind) {
        (Some(name), _) if refusal.code == UNKNOWN_META => {
            Refusal::sort_meta(format!("Illegal $meta sort: $meta: \"{name}\""))
        }
        (None, kind) if kind != Kind::String => Refusal::sort_meta(match meta.as_integer() {
            Some(number) => format!("Illegal $meta sort: $meta: {number}"),
            None => format!("Illegal $meta sort: $meta: {}", kind.name()),
        }),
        _ => refusal,
    }
}

/// What an expression says of it.
const UNKNOWN_META: i32 = 17308;

/// What a server says to something else (4.4.2, 5.0.4, 6.0.5).
fn no_sort_order(element: &Element<'_>) -> Refusal {
    let value = match (element.kind, element.as_str()) {
        (Kind::Document, _) => {
            return Refusal::sort_expression(
                "$meta is the only expression supported by $sort right now",
            );
        }
        (_, Some(text)) => format!("\"{text}\""),
        (Kind::Boolean, _) => (element.as_flag() == Some(true)).to_string(),
        (kind, _) => kind.name().to_owned(),
    };
    Refusal::sort_key(format!(
        "Illegal key in $sort specification: {}: {value}",
        element.name()
    ))
}

fn is_number(element: &Element<'_>) -> bool {
    element.kind != Kind::Boolean && element.as_flag().is_some()
}

/// Writes a sort under `key`, without the scope field, which is the same in all documents of an app.
pub(crate) fn sort(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    sort: Document<'_>,
) -> Result<(), Refusal> {
    no_repeats(sort, "a sort")?;
    let document = w.begin_document(key);
    for element in sort.elements() {
        if sight.is_reserved(element.key) {
            continue;
        }
        if element.key.first() == Some(&b'$') {
            return Err(Refusal::dollar_name(
                "FieldPath field names may not start with '$'. Consider using $getField or $setField.",
            ));
        }
        if !is_sort_order(&element)? {
            return Err(no_sort_order(&element));
        }
        w.element(&element);
    }
    w.end(document);
    Ok(())
}
