//! Filters: the match language of `find`, of statements and of `$match`.

use mdb_wire::{Document, Element, Kind, Writer};

use crate::common::of_kind;
use crate::covering::look_at_document;
use crate::expression;
use crate::operators::{self, FILTER_FIELD, FILTER_TOP, GEOMETRY, Operator, TEXT, has};
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::sight::Sight;
use crate::versions::WIRE_VERSION_6_0;

mod implied;

pub(crate) use implied::implied;

/// Writes a whole filter under `key`: the client's, joined to the app's condition where apps share the collection.
///
/// # Errors
/// As [`write`].
pub(crate) fn bound(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    is_collated: bool,
    user: Option<Document<'_>>,
) -> Result<(), Refusal> {
    if sight.is_shared() {
        let user = user.filter(|document| !document.is_empty());
        let write_user = user.map(|d| move |w: &mut Writer| conjunct(sight, w, d, is_collated));
        return sight.scope().filter(w, key, is_collated, write_user);
    }
    let user = user.unwrap_or(Document::EMPTY);
    let around = if sight.is_view() && may_fail(user) {
        check_view(sight)?;
        Around::View
    } else {
        Around::Branch
    };
    let filter = w.begin_document(key);
    elements(sight, w, user, around)?;
    w.end(filter);
    Ok(())
}

/// Whether an `$expr` that can fail is kept behind the app's condition in a view, see [`view_expression`].
fn check_view(sight: Sight<'_>) -> Result<(), Refusal> {
    if sight.wire_version() <= WIRE_VERSION_6_0 && sight.scope().is_hidden() {
        return Ok(());
    }
    Err(Refusal::invalid_options(
        "$expr with operators that can fail is not available in a filter on a view here; use aggregate with $match",
    ))
}

/// The same with a condition that no index answers, and that always holds.
pub(crate) fn uncovered(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    is_collated: bool,
    user: Option<Document<'_>>,
) -> Result<(), Refusal> {
    let user = user.unwrap_or(Document::EMPTY);
    if sight.is_shared() {
        let write_user = |w: &mut Writer| {
            conjunct(sight, w, user, is_collated)?;
            look_at_document(w, user);
            Ok(())
        };
        return sight.scope().filter(w, key, is_collated, Some(write_user));
    }
    let filter = w.begin_document(key);
    write(sight, w, user)?;
    look_at_document(w, user);
    w.end(filter);
    Ok(())
}

/// Writes the elements of a client's filter, checked, into a document that the caller has begun.
///
/// # Errors
/// 2 for an operator without a row and for a predicate on the scope field that says more than what holds anyway.
pub(crate) fn write(sight: Sight<'_>, w: &mut Writer, filter: Document<'_>) -> Result<(), Refusal> {
    elements(sight, w, filter, Around::Branch)
}

/// The same for a filter that stands beside the app's condition in one `$and`.
fn conjunct(
    sight: Sight<'_>,
    w: &mut Writer,
    filter: Document<'_>,
    is_collated: bool,
) -> Result<(), Refusal> {
    elements(sight, w, filter, Around::Condition { is_collated })
}

/// What stands around a part of a filter.
#[derive(Debug, Clone, Copy)]
enum Around {
    /// Nothing but conjunctions and the app's condition.
    Condition { is_collated: bool },
    /// Anything.
    Branch,
    /// A view, of documents that apps may share.
    View,
}

fn elements(
    sight: Sight<'_>,
    w: &mut Writer,
    filter: Document<'_>,
    around: Around,
) -> Result<(), Refusal> {
    no_repeats(filter, "a filter")?;
    for element in filter.elements() {
        if element.key.first() == Some(&b'$') {
            top_level(sight, w, &element, around)?;
        } else if sight.is_reserved(element.key) {
            // Removed, not kept: an upsert would meet the path twice (code 54).
            if !is_own_condition(sight, &element) {
                return Err(sight.scope().reserved());
            }
        } else {
            predicate(&element)?;
            w.element(&element);
        }
    }
    Ok(())
}

/// Whether a predicate on the scope field holds for every document of the app. One on a path below the field never does.
fn is_own_condition(sight: Sight<'_>, element: &Element<'_>) -> bool {
    element.key == sight.scope().field().as_str().as_bytes()
        && sight.scope().is_own_predicate(element)
}

fn top_level(
    sight: Sight<'_>,
    w: &mut Writer,
    element: &Element<'_>,
    around: Around,
) -> Result<(), Refusal> {
    if !has(FILTER_TOP, element.key) {
        return Err(unknown_at_top(sight, element));
    }
    match element.key {
        b"$and" | b"$or" | b"$nor" => {
            let all = branches(element)?;
            let array = w.begin_array(element.key);
            for branch in all.elements() {
                let filter = branch_filter(&branch)?;
                self::branch(sight, w, (element.key, all), (branch.key, filter), around)?;
            }
            w.end(array);
        }
        b"$expr" if sight.is_raw() && expression::may_fail(element) => {
            guarded_expression(sight, w, element)?;
        }
        b"$expr" if matches!(around, Around::View) && expression::may_fail(element) => {
            view_expression(sight, w, element)?;
        }
        b"$expr" => expression::write(sight, w, element.key, element)?,
        b"$jsonSchema" => {
            check_schema(sight, element.as_document().unwrap_or(Document::EMPTY))?;
            w.element(element);
        }
        b"$text" => {
            members(TEXT, element)?;
            w.element(element);
        }
        _ => w.element(element),
    }
    Ok(())
}

/// `$expr: {$cond: [{$eq: ["$FIELD", {$literal: SLUG}]}, E, false]}`: the expression is evaluated for the app's own documents
/// only. Beside the app's condition alone mongod 6.0.5 evaluates it first where the plan is by `_id`, under `$or`, or by a
/// scan, and an error in it tells of another app's document. Slugs that look alike to a collation cannot both be there.
fn guarded_expression(
    sight: Sight<'_>,
    w: &mut Writer,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    let scope = sight.scope();
    behind_test(sight, w, element, |w| {
        let eq = w.begin_array(b"$eq");
        w.string(b"0", &format!("${}", scope.field().as_str()));
        let slug = w.begin_document(b"1");
        w.string(b"$literal", scope.app().as_str());
        w.end(slug);
        w.end(eq);
    })
}

/// `$expr: {$cond: [TEST, E, false]}`.
fn behind_test(
    sight: Sight<'_>,
    w: &mut Writer,
    element: &Element<'_>,
    write_test: impl FnOnce(&mut Writer),
) -> Result<(), Refusal> {
    let expression = w.begin_document(element.key);
    let cond = w.begin_array(b"$cond");
    let test = w.begin_document(b"0");
    write_test(w);
    w.end(test);
    expression::write(sight, w, b"1", element)?;
    w.boolean(b"2", false);
    w.end(cond);
    w.end(expression);
    Ok(())
}

/// `$expr: {$cond: [{$ne: [{$type: "$FIELD"}, ""]}, E, false]}`: what is tested always holds. But as it reads the scope field, the
/// server cannot move it in front of the stage of the view that takes the field out, to where it would be evaluated for the
/// documents of other apps (seen on 4.4.2, 5.0.4 and 6.0.5; newer ones could not be tried).
fn view_expression(sight: Sight<'_>, w: &mut Writer, element: &Element<'_>) -> Result<(), Refusal> {
    behind_test(sight, w, element, |w| {
        let ne = w.begin_array(b"$ne");
        let kind = w.begin_document(b"0");
        w.string(b"$type", &format!("${}", sight.scope().field().as_str()));
        w.end(kind);
        w.string(b"1", "");
        w.end(ne);
    })
}

/// The path of the field that the test of a guard reads.
fn tested(test: Document<'_>) -> Option<&str> {
    if let Some(of_view) = test.find("$ne") {
        let kind = of_view.as_array()?.first()?.as_document()?.find("$type")?;
        let inner = kind.as_array().and_then(Document::first);
        return inner.unwrap_or(kind).as_str();
    }
    test.find("$eq")?.as_array()?.first()?.as_str()
}

/// The expression of an `$expr` that is evaluated for the app's own documents only, as it was before.
pub(crate) fn guarded<'e>(scope: &Scope, element: &Element<'e>) -> Option<Element<'e>> {
    let cond = element.as_document()?.find("$cond")?.as_array()?;
    let mut parts = cond.elements();
    let path = tested(parts.next()?.as_document()?)?;
    let is_ours = path.strip_prefix('$') == Some(scope.field().as_str());
    parts.next().filter(|_| is_ours)
}

/// Whether an `$expr` anywhere in a filter or pipeline can end in an error that tells of a document.
pub(crate) fn may_fail(document: Document<'_>) -> bool {
    document
        .elements()
        .any(|element| expression_may_fail(&element) || element.as_nested().is_some_and(may_fail))
}

/// Whether it is an `$expr` that can end so.
pub(crate) fn expression_may_fail(element: &Element<'_>) -> bool {
    element.key == b"$expr" && expression::may_fail(element)
}

/// Checks the members of `$text` or of a geometry, in mongod's words (6.0.5). A point near which to search may be an object of
/// any two names.
fn members(table: &'static [Operator], element: &Element<'_>) -> Result<(), Refusal> {
    let Some(document) = element.as_document() else {
        return Ok(());
    };
    no_repeats(document, "an operator")?;
    let may_be_point = matches!(element.key, b"$near" | b"$nearSphere");
    let unknown = document.elements().find(|member| {
        !has(table, member.key) && (!may_be_point || member.key.first() == Some(&b'$'))
    });
    let refusal = match unknown {
        None => return Ok(()),
        Some(_) if element.key == b"$text" => match document.find("$search") {
            Some(search) => {
                of_kind(&search, Kind::String)?;
                Refusal::bad_value("extra fields in $text")
            }
            None => Refusal::no_such_key("Missing expected field \"$search\""),
        },
        Some(member) => {
            let value = match (member.as_integer(), member.as_str()) {
                (Some(number), _) => format!(": {number}"),
                (None, Some(text)) => format!(": \"{text}\""),
                (None, None) => String::new(),
            };
            let name = member.name();
            Refusal::bad_value(format!("unknown geo specifier: {name}{value}"))
        }
    };
    Err(refusal.of_statement())
}

/// Writes a branch of `$and`, `$or` or `$nor`. The planner takes an equality with the first field of a text index from around
/// an `$or` into no branch, and finds no index for `$text` in one (6.0.5): there the condition stands in every branch as well.
fn branch(
    sight: Sight<'_>,
    w: &mut Writer,
    (operator, all): (&[u8], Document<'_>),
    (key, filter): (&[u8], Document<'_>),
    around: Around,
) -> Result<(), Refusal> {
    let has_text_below = || {
        let mut branches = all.elements();
        branches.any(|e| e.as_document().is_some_and(has_text))
    };
    match (around, operator) {
        (Around::Condition { is_collated }, b"$or") if has_text_below() => {
            bound(sight, w, key, is_collated, Some(filter))
        }
        _ => {
            let inner = match (around, operator) {
                (Around::View, _) | (_, b"$and") => around,
                _ => Around::Branch,
            };
            let document = w.begin_document(key);
            elements(sight, w, filter, inner)?;
            w.end(document);
            Ok(())
        }
    }
}

fn branches<'a>(element: &Element<'a>) -> Result<Document<'a>, Refusal> {
    element.as_array().ok_or_else(|| {
        Refusal::bad_value(format!("{} must be an array", element.name())).of_statement()
    })
}

fn branch_filter<'a>(branch: &Element<'a>) -> Result<Document<'a>, Refusal> {
    branch.as_document().ok_or_else(|| {
        Refusal::bad_value("$or/$and/$nor entries need to be full objects").of_statement()
    })
}

/// What mongod says behind an unknown name at the top level from 5.0 on (5.0.4, 6.0.5).
const DOLLAR_ADVICE: &str = ". If you have a field name that starts with a '$' symbol, consider using $getField or $setField.";

fn unknown_at_top(sight: Sight<'_>, element: &Element<'_>) -> Refusal {
    let advice = if sight.is_before_five() {
        ""
    } else {
        DOLLAR_ADVICE
    };
    unknown(FILTER_TOP, "unknown top level operator", advice, element)
}

fn unknown(table: &'static [Operator], what: &str, advice: &str, element: &Element<'_>) -> Refusal {
    let name = element.name();
    match operators::why(table, element.key) {
        Some(why) => Refusal::bad_value(format!("{name} is not allowed: {why}")),
        None => Refusal::bad_value(format!("{what}: {name}{advice}")).of_statement(),
    }
}

/// Checks the value of a path: a literal, or operators with a row each.
fn predicate(element: &Element<'_>) -> Result<(), Refusal> {
    let Some(document) = element.as_document() else {
        return Ok(());
    };
    let is_operators = document
        .first()
        .is_some_and(|f| f.key.first() == Some(&b'$'));
    if !is_operators {
        return Ok(());
    }
    no_repeats(document, "a predicate")?;
    let first = document.first();
    let is_near = first.is_some_and(|f| matches!(f.key, b"$near" | b"$nearSphere"));
    for operator in document.elements() {
        if is_near && operators::look_up(FILTER_FIELD, operator.key).is_none() {
            let name = operator.name();
            let text = format!("invalid argument in geo near query: {name}");
            return Err(Refusal::near_argument(text).of_statement());
        }
        field_operator(&operator)?;
    }
    Ok(())
}

fn field_operator(operator: &Element<'_>) -> Result<(), Refusal> {
    if !has(FILTER_FIELD, operator.key) {
        return Err(unknown(FILTER_FIELD, "unknown operator", "", operator));
    }
    match operator.key {
        b"$geoWithin" | b"$geoIntersects" | b"$within" | b"$near" | b"$nearSphere" => {
            members(GEOMETRY, operator)
        }
        b"$not" => predicate(operator),
        b"$elemMatch" => element_match(operator),
        b"$all" => operator.as_array().map_or(Ok(()), |values| {
            values.elements().try_for_each(|value| predicate(&value))
        }),
        _ => Ok(()),
    }
}

/// Conditions on array elements: paths are relative, so no name is reserved in them.
fn element_match(operator: &Element<'_>) -> Result<(), Refusal> {
    let Some(filter) = operator.as_document() else {
        return Ok(());
    };
    relative_to(filter, whole_document_in_element)
}

/// Checks a filter whose paths do not begin at a document of the collection: in `$pull`, array filters, partial indexes.
pub(crate) fn relative(filter: Document<'_>) -> Result<(), Refusal> {
    relative_to(filter, whole_document_in_context)
}

fn relative_to(
    filter: Document<'_>,
    whole_document: fn(&[u8]) -> Option<Refusal>,
) -> Result<(), Refusal> {
    no_repeats(filter, "a filter")?;
    for element in filter.elements() {
        match element.key {
            b"$and" | b"$or" | b"$nor" => {
                for branch in branches(&element)?.elements() {
                    relative_to(branch_filter(&branch)?, whole_document)?;
                }
            }
            key if key.first() == Some(&b'$') => {
                whole_document(key).map_or(Ok(()), Err)?;
                field_operator(&element)?;
            }
            _ => predicate(&element)?,
        }
    }
    Ok(())
}

/// What a server says to a condition on whole documents in `$elemMatch` (4.4.2, 5.0.4, 6.0.5).
fn whole_document_in_element(operator: &[u8]) -> Option<Refusal> {
    let is_whole = matches!(operator, b"$expr" | b"$text" | b"$where" | b"$sampleRate");
    is_whole.then(|| {
        let name = String::from_utf8_lossy(operator);
        Refusal::bad_value(format!(
            "{name} can only be applied to the top-level document"
        ))
        .of_statement()
    })
}

/// The same in `$pull`, array filters and partial indexes.
fn whole_document_in_context(operator: &[u8]) -> Option<Refusal> {
    let refusal: fn(String) -> Refusal = match operator {
        b"$expr" | b"$jsonSchema" => Refusal::query_feature_not_allowed,
        b"$text" | b"$where" => Refusal::bad_value,
        _ => return None,
    };
    let name = String::from_utf8_lossy(operator);
    Some(refusal(format!("{name} is not allowed in this context")).of_statement())
}

/// The same for the condition of a `$pull`, which a server reads as operators on the elements only where the first is one.
pub(crate) fn of_elements(sight: Sight<'_>, condition: Document<'_>) -> Result<(), Refusal> {
    let first = condition.first();
    let unknown = first.filter(|f| {
        let is_known = operators::look_up(FILTER_FIELD, f.key).is_some()
            || operators::look_up(FILTER_TOP, f.key).is_some();
        f.key.first() == Some(&b'$') && !is_known
    });
    match unknown {
        None => relative(condition),
        Some(operator) => Err(unknown_at_top(sight, &operator)),
    }
}

/// Keywords that count or name the fields of a document, among them the hidden one.
const SCHEMA_OBSERVERS: &[&str] = &[
    "additionalProperties",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "dependencies",
    // At its root it compares whole documents.
    "enum",
];

/// Refuses a schema that could observe the hidden field at its root.
pub(crate) fn check_schema(sight: Sight<'_>, schema: Document<'_>) -> Result<(), Refusal> {
    if !sight.sees_hidden_field() {
        return Ok(());
    }
    let inner = |schema: &Element<'_>| {
        let schema = schema.as_document();
        schema.map_or(Ok(()), |schema| check_schema(sight, schema))
    };
    // A property with a dot is a path to the server.
    let is_named = |name: &[u8]| sight.scope().field().begins(name);
    for keyword in schema.elements() {
        let nested = keyword.as_nested();
        let names_field = match keyword.key {
            b"properties" => nested.is_some_and(|d| d.elements().any(|e| is_named(e.key))),
            b"required" => {
                nested.is_some_and(|d| d.elements().any(|e| e.as_string().is_some_and(is_named)))
            }
            b"not" => {
                inner(&keyword)?;
                false
            }
            b"allOf" | b"anyOf" | b"oneOf" => {
                for branch in nested.into_iter().flat_map(Document::elements) {
                    inner(&branch)?;
                }
                false
            }
            key => SCHEMA_OBSERVERS.iter().any(|k| k.as_bytes() == key),
        };
        if names_field {
            return Err(Refusal::bad_value(format!(
                "$jsonSchema with '{}' at its root is not available on a shared collection: it would observe a field of the proxy",
                keyword.name()
            )));
        }
    }
    Ok(())
}

/// Whether a filter holds nothing but predicates on paths, so that it means the same in front of the stage that takes the
/// scope field out as behind it.
pub(crate) fn is_plain(sight: Sight<'_>, filter: Document<'_>) -> bool {
    filter.elements().all(|element| match element.key {
        b"$and" | b"$or" | b"$nor" => element
            .as_array()
            .into_iter()
            .flat_map(Document::elements)
            .all(|branch| branch.as_document().is_none_or(|d| is_plain(sight, d))),
        b"$expr" | b"$jsonSchema" => false,
        // The own condition, too, is taken out wherever it stands.
        key => !sight.names_scope_field(key) || is_own_condition(sight, &element),
    })
}

/// Whether `$text` stands anywhere in a filter; the stage that has it must be the first.
pub(crate) fn has_text(filter: Document<'_>) -> bool {
    filter.elements().any(|element| match element.key {
        b"$text" => true,
        b"$and" | b"$or" | b"$nor" => element
            .as_array()
            .into_iter()
            .flat_map(Document::elements)
            .any(|branch| branch.as_document().is_some_and(has_text)),
        _ => false,
    })
}

/// Whether a predicate is served by an index of its own kind alone.
pub(crate) fn asks_for_its_own_index(predicate: &Element<'_>) -> bool {
    predicate.key == b"$text"
        || predicate.as_document().is_some_and(|operators| {
            let mut operators = operators.elements();
            operators.any(|operator| matches!(operator.key, b"$near" | b"$nearSphere"))
        })
}

/// Calls `see` with each predicate of a filter that stands under a path, and with each operator that asks for an index of its
/// own kind.
pub(crate) fn predicates<'a>(filter: Document<'a>, see: &mut dyn FnMut(&Element<'a>)) {
    for element in filter.elements() {
        match element.key {
            b"$and" | b"$or" | b"$nor" => {
                for branch in element.as_array().into_iter().flat_map(Document::elements) {
                    if let Some(branch) = branch.as_document() {
                        predicates(branch, see);
                    }
                }
            }
            // It selects nothing.
            b"$comment" => {}
            _ => see(&element),
        }
    }
}
