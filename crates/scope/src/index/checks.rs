//! What no server takes in the definition of an index, with its codes (4.4.2, 5.0.4, 6.0.5).

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Kind, Writer};

use super::{Treat, print_key, treat_of};
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::versions::{WIRE_VERSION_5_0, WIRE_VERSION_6_0};
use crate::{filter, generic};

/// The definitions of a `createIndexes`.
pub(super) fn list(
    indexes: Option<Element<'_>>,
    wire_version: i32,
) -> Result<Document<'_>, Refusal> {
    let is_old = wire_version < WIRE_VERSION_5_0;
    let Some(indexes) = indexes else {
        return Err(if is_old {
            Refusal::failed_to_parse(
                "The 'indexes' field is a required argument of the createIndexes command",
            )
        } else {
            let text = "BSON field 'createIndexes.indexes' is missing but a required field";
            Refusal::missing_field(text)
        });
    };
    let found = indexes.kind.name();
    indexes.as_array().ok_or_else(|| {
        if is_old {
            must_be("indexes", "an array", found)
        } else {
            Refusal::wrong_kind("createIndexes.indexes", found, "array")
        }
    })
}

/// One of them.
pub(super) fn item<'a>(item: &Element<'a>, wire_version: i32) -> Result<Document<'a>, Refusal> {
    let found = item.kind.name();
    item.as_document().ok_or_else(|| {
        if wire_version < WIRE_VERSION_5_0 {
            let text = "The elements of the 'indexes' array must be objects, but got";
            Refusal::type_mismatch(format!("{text} {found}"))
        } else {
            let path = format!("createIndexes.indexes.{}", item.name());
            Refusal::wrong_kind(&path, found, "object")
        }
    })
}

fn must_be(field: &str, what: &str, found: &str) -> Refusal {
    Refusal::type_mismatch(format!(
        "The field '{field}' must be {what}, but got {found}"
    ))
}

/// Whether a `createIndexes` asks to pass over options that no server knows.
pub(super) fn ignores_unknown(command: &Command<'_>) -> bool {
    let flag = command.body.find("ignoreUnknownIndexOptions");
    flag.and_then(|flag| flag.as_flag()) == Some(true)
}

/// What a server puts in front of what is wrong with a definition.
pub(super) fn specified(definition: Document<'_>) -> impl Fn(Refusal) -> Refusal {
    move |refusal| {
        let shown = print_key(definition);
        refusal.behind(&format!("Error in specification {shown} :: caused by :: "))
    }
}

/// A definition as servers print it when they have filled in the version.
fn printed_whole(definition: Document<'_>) -> String {
    let shown = print_key(definition);
    match definition.find("v") {
        Some(_) => shown,
        None => format!("{}, v: 2 }}", shown.strip_suffix(" }").unwrap_or(&shown)),
    }
}

/// Checks the names of options.
///
/// # Errors
/// 197 for one that the server does not know, 72 for one that a shared collection does not have.
pub(super) fn options(
    definition: Document<'_>,
    ignores_unknown: bool,
    wire_version: i32,
) -> Result<(), Refusal> {
    for option in definition.elements() {
        let is_newer = option.key == b"prepareUnique" && wire_version < WIRE_VERSION_6_0;
        match treat_of(option.key).filter(|_| !is_newer) {
            Some(Treat::Refuse) => {
                return Err(Refusal::invalid_options(format!(
                    "index option '{}' is not available on a shared collection",
                    option.name()
                )));
            }
            Some(_) => {}
            None if ignores_unknown => {}
            None => return Err(unknown_option(definition, &option)),
        }
    }
    Ok(())
}

fn unknown_option(definition: Document<'_>, option: &Element<'_>) -> Refusal {
    specified(definition)(Refusal::invalid_index_option(format!(
        "The field '{}' is not valid for an index specification. Specification: {}",
        option.name(),
        print_key(definition)
    )))
}

/// Checks and writes definitions for a collection that is the app's own: the server knows best, but code is never run for an
/// app.
///
/// # Errors
/// 72, 197 for options that are not available, 2 for a partial filter with an operator without a row.
pub(crate) fn write_dedicated(
    w: &mut Writer,
    command: &Command<'_>,
    indexes: &Element<'_>,
) -> Result<(), Refusal> {
    let Some(definitions) = indexes.as_array() else {
        w.element(indexes);
        return Ok(());
    };
    let ignores = ignores_unknown(command);
    let array = w.begin_array(indexes.key);
    for (place, item) in definitions.elements().enumerate() {
        let key = IndexKey::new(place);
        let Some(definition) = item.as_document() else {
            w.renamed(key.as_bytes(), &item);
            continue;
        };
        no_repeats(definition, "an index definition")?;
        let written = w.begin_document(key.as_bytes());
        for option in definition.elements() {
            let is_own_affair = matches!(option.key, b"clustered" | b"prepareUnique");
            match treat_of(option.key) {
                Some(Treat::Refuse) if !is_own_affair => {
                    return Err(Refusal::invalid_options(format!(
                        "index option '{}' is not available to apps",
                        option.name()
                    )));
                }
                None if ignores => continue,
                None => return Err(unknown_option(definition, &option)),
                Some(_) => {}
            }
            if let (b"partialFilterExpression", Some(filter)) = (option.key, option.as_document()) {
                filter::relative(filter).map_err(specified(definition))?;
            }
            w.element(&option);
        }
        w.end(written);
    }
    w.end(array);
    Ok(())
}

/// A definition without one of the fields that each must have.
pub(super) fn missing(field: &str) -> Refusal {
    Refusal::failed_to_parse(format!(
        "The '{field}' field is a required property of an index specification"
    ))
}

/// A field that must be an object.
pub(super) fn object<'a>(
    definition: Document<'a>,
    field: &str,
) -> Result<Option<Document<'a>>, Refusal> {
    let Some(element) = definition.find(field) else {
        return Ok(None);
    };
    let wrong = || must_be(field, "an object", element.kind.name());
    element.as_document().map(Some).ok_or_else(wrong)
}

/// The name of an index.
pub(super) fn name(definition: Document<'_>) -> Result<&str, Refusal> {
    let name = definition.find("name").ok_or_else(|| missing("name"))?;
    let wrong = || must_be("name", "a string", name.kind.name());
    name.as_str().ok_or_else(wrong)
}

/// What servers check when all definitions are read.
pub(super) fn complete(
    definition: Document<'_>,
    key: Document<'_>,
    name: &str,
) -> Result<(), Refusal> {
    reserved(key, name)?;
    let is_sparse = definition.find("sparse").and_then(|s| s.as_flag()) == Some(true);
    let wrong = match name {
        "" => "index name cannot be empty",
        _ if is_sparse && definition.find("partialFilterExpression").is_some() => {
            "cannot mix \"partialFilterExpression\" and \"sparse\" options"
        }
        _ => return Ok(()),
    };
    let shown = printed_whole(definition);
    Err(Refusal::cannot_create_index(format!(
        "Error in specification {shown} :: caused by :: {wrong}"
    )))
}

/// Names that mean other indexes, and the index on `_id` the other way round.
fn reserved(key: Document<'_>, name: &str) -> Result<(), Refusal> {
    let mut fields = key.elements();
    let only = fields.next().filter(|_| fields.next().is_none());
    if only.is_some_and(|f| f.key == b"_id" && f.as_integer() == Some(-1)) {
        return Err(Refusal::bad_value(
            "The field 'key' for an _id index must be {_id: 1}, but got { _id: -1 }",
        ));
    }
    match name {
        "*" => Err(Refusal::bad_value("The index name '*' is not valid.")),
        "_id_" => Err(Refusal::bad_value(format!(
            "The index name '_id_' is reserved for the _id index, which must have key pattern {{_id: 1}}, found key: {}",
            print_key(key)
        ))),
        _ => Ok(()),
    }
}

/// Options that the index on `_id` may have.
const OF_ID: &[&[u8]] = &[b"key", b"name", b"v", b"ns", b"collation"];

/// Checks a definition of the index on `_id`. Shared collections have no collation.
pub(super) fn of_id(definition: Document<'_>) -> Result<(), Refusal> {
    let mut options = definition.elements();
    if let Some(other) = options.find(|option| !OF_ID.contains(&option.key)) {
        return Err(Refusal::invalid_index_option(format!(
            "The field '{}' is not valid for an _id index specification. Specification: {}",
            other.name(),
            printed_whole(definition)
        )));
    }
    let collation = definition.find("collation");
    match collation.map(|c| generic::collation(&c)).transpose()? {
        Some(true) => Err(Refusal::bad_value(
            "The _id index must have the same collation as the collection",
        )),
        _ => Ok(()),
    }
}

/// Checks the `idIndex` of a `create` that makes a collection without a collation.
pub(crate) fn id_index(definition: Document<'_>) -> Result<(), Refusal> {
    let shown = print_key(definition);
    if let Some(unknown) = definition.elements().find(|o| treat_of(o.key).is_none()) {
        return Err(Refusal::invalid_index_option(format!(
            "The field '{}' is not valid for an index specification. Specification: {shown}",
            unknown.name()
        )));
    }
    let key = definition.find("key").ok_or_else(|| missing("key"))?;
    let key = generic::document(&key, "key")?;
    name(definition)?;
    let mut fields = key.elements();
    let only = fields.next().filter(|_| fields.next().is_none());
    if !only.is_some_and(|f| f.key == b"_id" && f.as_integer() == Some(1)) {
        return Err(Refusal::bad_value(format!(
            "The field 'key' for an _id index must be {{_id: 1}}, but got {}",
            print_key(key)
        )));
    }
    let version = definition.find("v").and_then(|v| v.as_integer());
    if let Some(version) = version.filter(|v| !(1..=2).contains(v)) {
        return Err(Refusal::cannot_create_index(format!(
            "Invalid index specification {shown}; cannot create an index with v={version}"
        )));
    }
    if let Some(other) = definition.elements().find(|o| !OF_ID.contains(&o.key)) {
        return Err(Refusal::invalid_index_option(format!(
            "The field '{}' is not valid for an _id index specification. Specification: {}",
            other.name(),
            printed_whole(definition)
        )));
    }
    let collation = definition.find("collation");
    match collation.map(|c| generic::collation(&c)).transpose()? {
        Some(true) => Err(Refusal::bad_value(
            "'idIndex' must have the same collation as the collection.",
        )),
        _ => Ok(()),
    }
}

/// Checks what must be true or false, for which servers before 5.0 take anything, and the projection of a wildcard index.
pub(super) fn flags(definition: Document<'_>, wire_version: i32) -> Result<(), Refusal> {
    for name in ["unique", "sparse", "background"] {
        let flag = definition.find(name);
        let flag = flag.filter(|flag| wire_version >= WIRE_VERSION_5_0 && flag.as_flag().is_none());
        if let Some(flag) = flag {
            return Err(Refusal::type_mismatch(format!(
                "The field '{name} has value {name}: {}, which is not convertible to bool",
                super::print_value(&flag)
            )));
        }
    }
    match definition.find("wildcardProjection") {
        Some(projection) if projection.kind != Kind::Document => {
            Err(Refusal::type_mismatch(format!(
                "The field 'wildcardProjection' must be a non-empty object, but got {}",
                projection.kind.name()
            )))
        }
        _ => Ok(()),
    }
}
