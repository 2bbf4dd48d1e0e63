//! Aggregation expressions: operators with a row, variables, field paths.

use mdb_wire::{Document, Element, Kind, Writer};

use crate::operators::{self, EXPRESSIONS, META, SYSTEM_VARIABLES, has};
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::sight::Sight;

/// Operators that give a value for any arguments.
const TOTAL: &[&[u8]] = &[
    b"$eq",
    b"$ne",
    b"$gt",
    b"$gte",
    b"$lt",
    b"$lte",
    b"$cmp",
    b"$and",
    b"$or",
    b"$not",
    b"$ifNull",
    b"$cond",
    b"$type",
    b"$isArray",
    b"$isNumber",
];

/// Whether an expression can end in an error that depends on the document. The error would tell of the document, also where
/// the filter around it does not take the document: servers evaluate conjuncts in the order that they like.
pub(crate) fn may_fail(value: &Element<'_>) -> bool {
    let Some(parts) = value.as_nested() else {
        return false;
    };
    parts.elements().any(|part| match part.key {
        b"$literal" | b"$const" => false,
        key if key.first() == Some(&b'$') && !TOTAL.contains(&key) => true,
        _ => may_fail(&part),
    })
}

/// Writes an expression under `key`. Where it would see the hidden field, references to it are replaced by what they mean
/// to an app that has no such field: nothing.
///
/// # Errors
/// 168 for an operator without a row, 17276 for a variable that is not for apps, 2 for reading the hidden field by name.
pub(crate) fn write(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    value: &Element<'_>,
) -> Result<(), Refusal> {
    match value.kind {
        Kind::String => string(sight, w, key, value),
        Kind::Array => {
            let array = w.begin_array(key);
            for element in value.as_array().into_iter().flat_map(Document::elements) {
                write(sight, w, element.key, &element)?;
            }
            w.end(array);
            Ok(())
        }
        Kind::Document => {
            let fields = value.as_document().unwrap_or(Document::EMPTY);
            no_repeats(fields, "an expression")?;
            let document = w.begin_document(key);
            for element in fields.elements() {
                if element.key.first() == Some(&b'$') {
                    operator(sight, w, &element)?;
                } else {
                    write(sight, w, element.key, &element)?;
                }
            }
            w.end(document);
            Ok(())
        }
        _ => {
            w.renamed(key, value);
            Ok(())
        }
    }
}

/// Writes variables, an expression each, under their own key. Only `CURRENT` could be bound besides names in lower case, and
/// would change what `$field` means, in the proxy's own stages as well.
///
/// # Errors
/// As [`write`], and 9 for a name that begins with an upper-case letter.
pub(crate) fn bindings(
    sight: Sight<'_>,
    w: &mut Writer,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    let names = element
        .as_document()
        .into_iter()
        .flat_map(Document::elements);
    for variable in names {
        variable_name(&variable)?;
    }
    write(sight, w, element.key, element)
}

/// Checks the name under which a variable is bound: servers take those that begin with a lower-case letter or one beyond ASCII.
pub(crate) fn variable_name(variable: &Element<'_>) -> Result<(), Refusal> {
    let is_first = |c: &u8| c.is_ascii_lowercase() || !c.is_ascii();
    if !variable.key.first().is_some_and(is_first) {
        return Err(Refusal::failed_to_parse(format!(
            "'{}' starts with an invalid character for a user variable name",
            variable.name()
        )));
    }
    Ok(())
}

fn operator(sight: Sight<'_>, w: &mut Writer, element: &Element<'_>) -> Result<(), Refusal> {
    if !has(EXPRESSIONS, element.key) {
        return Err(unknown(element));
    }
    match element.key {
        b"$literal" | b"$const" => {
            w.element(element);
            Ok(())
        }
        b"$meta" => {
            meta(element)?;
            w.element(element);
            Ok(())
        }
        b"$let" | b"$map" | b"$filter" | b"$reduce" => {
            variables(sight, element)?;
            write(sight, w, element.key, element)
        }
        b"$getField" if sight.sees_hidden_field() => {
            field_of_current(sight, element)?;
            write(sight, w, element.key, element)
        }
        _ => write(sight, w, element.key, element),
    }
}

fn unknown(element: &Element<'_>) -> Refusal {
    let name = element.name();
    let refusal = Refusal::invalid_pipeline_operator;
    match operators::why(EXPRESSIONS, element.key) {
        Some(why) => refusal(format!("{name} is not allowed: {why}")),
        None => refusal(format!("Unrecognized expression '{name}'")).of_statement(),
    }
}

/// Checks the argument of `$meta`.
pub(crate) fn meta(element: &Element<'_>) -> Result<(), Refusal> {
    match element.as_string() {
        Some(name) if has(META, name) => Ok(()),
        Some(name) if operators::why(META, name).is_none() => Err(Refusal::unknown_meta(format!(
            "Unsupported argument to $meta: {}",
            String::from_utf8_lossy(name)
        ))
        .of_statement()),
        Some(name) => Err(Refusal::bad_value(format!(
            "$meta argument not available: {}{}",
            String::from_utf8_lossy(name),
            operators::why(META, name).map_or(String::new(), |why| format!(": {why}")),
        ))),
        None => Err(Refusal::meta_kind("$meta only supports string arguments").of_statement()),
    }
}

/// `CURRENT` as a variable would change what `$field` means; `new` in a `$merge` what its references are replaced by.
fn variables(sight: Sight<'_>, element: &Element<'_>) -> Result<(), Refusal> {
    let Some(arguments) = element.as_document() else {
        return Ok(());
    };
    let binds = |name: &str| {
        arguments.elements().any(|argument| match argument.key {
            b"vars" => argument
                .as_document()
                .is_some_and(|vars| vars.find(name).is_some()),
            // `valueAs` and `arrayIndexAs` came with 8.3.
            b"as" | b"valueAs" | b"arrayIndexAs" => argument.as_str() == Some(name),
            _ => false,
        })
    };
    if binds("CURRENT") {
        return Err(Refusal::bad_value(
            "'CURRENT' cannot be bound to another value here; choose a name that begins with a lower-case letter",
        ));
    }
    if sight.is_new_raw() && binds("new") {
        return Err(Refusal::bad_value(
            "'new' cannot be bound to another value in the whenMatched of a $merge into a shared collection; choose another name",
        ));
    }
    Ok(())
}

/// `$getField` without `input` reads the document itself: its field must be a constant, and not the hidden one.
fn field_of_current(sight: Sight<'_>, element: &Element<'_>) -> Result<(), Refusal> {
    let is_operator = |d: Document<'_>| d.first().is_some_and(|f| f.key.first() == Some(&b'$'));
    let field = match element.as_document() {
        None => Some(*element),
        Some(arguments) if is_operator(arguments) => Some(*element),
        Some(arguments) if arguments.find("input").is_some() => return Ok(()),
        Some(arguments) => arguments.find("field"),
    };
    // Of what cannot be a name a server says so (5.0.4, 6.0.5).
    let cannot_be =
        |f: &Element<'_>| !matches!(f.kind, Kind::String | Kind::Symbol) && f.as_nested().is_none();
    if field.as_ref().is_none_or(cannot_be) {
        return Ok(());
    }
    // A string that begins with `$` is no name: servers from 7.2 on take what it leads to for the name.
    let name = field.and_then(|f| {
        f.as_string()
            .filter(|name| name.first() != Some(&b'$'))
            .or_else(|| literal(&f))
    });
    match name {
        Some(name) if !sight.names_scope_field(name) => Ok(()),
        _ => Err(sight.scope().reserved()),
    }
}

fn literal<'a>(element: &Element<'a>) -> Option<&'a [u8]> {
    let only = element.as_document()?.first()?;
    matches!(only.key, b"$literal" | b"$const")
        .then(|| only.as_string())
        .flatten()
}

/// What follows the component `name` at the beginning of a path: nothing (`""`) or the rest behind the dot.
fn after_component<'a>(path: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    match path.strip_prefix(name)?.split_first() {
        None => Some(b""),
        Some((b'.', rest)) => Some(rest),
        Some(_) => None,
    }
}

fn string(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    value: &Element<'_>,
) -> Result<(), Refusal> {
    let text = value.as_string().unwrap_or_default();
    if let Some(path) = text.strip_prefix(b"$$") {
        return variable(sight, w, key, value, path);
    }
    match text.strip_prefix(b"$") {
        Some(path) if sight.sees_hidden_field() && sight.names_scope_field(path) => {
            w.string(key, "$$REMOVE");
        }
        _ => w.renamed(key, value),
    }
    Ok(())
}

fn variable(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    value: &Element<'_>,
    path: &[u8],
) -> Result<(), Refusal> {
    let name = path.split(|&c| c == b'.').next().unwrap_or_default();
    let is_own = name.first().is_some_and(|c| !c.is_ascii_uppercase());
    if name.is_empty() {
        return Err(
            Refusal::failed_to_parse("empty variable names are not allowed").of_statement(),
        );
    }
    if !is_own && !has(SYSTEM_VARIABLES, name) {
        let shown = String::from_utf8_lossy(name);
        return Err(match operators::why(SYSTEM_VARIABLES, name) {
            Some(why) => Refusal::bad_value(format!("variable {shown} is not available: {why}")),
            None => Refusal::undefined_variable(format!("Use of undefined variable: {shown}"))
                .of_statement(),
        });
    }
    let whole = after_component(path, b"ROOT").or_else(|| after_component(path, b"CURRENT"));
    match whole {
        Some(b"") if sight.sees_hidden_field() => whole_document(sight, w, key, "$$ROOT")?,
        Some(rest) if sight.sees_hidden_field() && sight.names_scope_field(rest) => {
            w.string(key, "$$REMOVE");
        }
        _ => match after_component(path, b"new").filter(|_| sight.is_new_raw()) {
            Some(b"") => whole_document(sight, w, key, "$$new")?,
            Some(rest) if sight.names_scope_field(rest) => w.string(key, "$$REMOVE"),
            _ => w.renamed(key, value),
        },
    }
    Ok(())
}

/// The document without the hidden field, in place of `$$ROOT` or `$$new`.
fn whole_document(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    variable: &str,
) -> Result<(), Refusal> {
    // `$unsetField` came with 5.0.
    if sight.wire_version() < 13 {
        return Err(Refusal::bad_value(
            "$$ROOT, $$CURRENT and the $$new of $merge as whole values are not available here on a server before 5.0; name the fields",
        ));
    }
    let document = w.begin_document(key);
    let unset = w.begin_document(b"$unsetField");
    let field = w.begin_document(b"field");
    w.string(b"$literal", sight.scope().field().as_str());
    w.end(field);
    w.string(b"input", variable);
    w.end(unset);
    w.end(document);
    Ok(())
}

/// Whether an expression may see a hidden field: it names it, or takes the document as a whole. Errs on the side of yes.
pub(crate) fn may_see_hidden(sight: Sight<'_>, value: &Element<'_>) -> bool {
    match value.kind {
        Kind::String => {
            let text = value.as_string().unwrap_or_default();
            if let Some(path) = text.strip_prefix(b"$$") {
                path.starts_with(b"ROOT") || path.starts_with(b"CURRENT")
            } else {
                text.strip_prefix(b"$")
                    .is_some_and(|path| sight.names_scope_field(path))
            }
        }
        Kind::Document | Kind::Array => value
            .as_nested()
            .into_iter()
            .flat_map(Document::elements)
            .any(|element| {
                matches!(element.key, b"$getField" | b"$setField" | b"$unsetField")
                    || may_see_hidden(sight, &element)
            }),
        _ => false,
    }
}
