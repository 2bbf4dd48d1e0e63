//! What no server takes in the definition of an index, with its codes (4.4.2, 5.0.4, 6.0.5).

use mdb_wire::{Document, Kind};

use super::print_key;
use crate::generic;
use crate::refusal::Refusal;

/// A definition without one of the fields that each must have.
pub(super) fn missing(field: &str) -> Refusal {
    Refusal::failed_to_parse(format!(
        "The '{field}' field is a required property of an index specification"
    ))
}

/// The name of an index.
pub(super) fn name(definition: Document<'_>) -> Result<&str, Refusal> {
    let name = definition.find("name").ok_or_else(|| missing("name"))?;
    match name.as_str() {
        Some("") => Err(Refusal::cannot_create_index("index name cannot be empty")),
        Some(name) => Ok(name),
        None => Err(Refusal::type_mismatch(format!(
            "The field 'name' must be a string, but got {}",
            name.kind.name()
        ))),
    }
}

/// Names that mean other indexes, and the index on `_id` the other way round.
pub(super) fn reserved(key: Document<'_>, name: &str) -> Result<(), Refusal> {
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
            "The field '{}' is not valid for an _id index specification",
            other.name()
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
    if let Some(unknown) = definition
        .elements()
        .find(|o| super::treat_of(o.key).is_none())
    {
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
        let version = if version.is_some() { "" } else { ", v: 2" };
        let shown = shown.trim_end_matches(" }");
        return Err(Refusal::invalid_index_option(format!(
            "The field '{}' is not valid for an _id index specification. Specification: {shown}{version} }}",
            other.name()
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

/// `maxWireVersion` of 5.0: older servers take anything for a flag.
const WIRE_5_0: i32 = 13;

/// Checks what must be true or false, and the projection of a wildcard index.
pub(super) fn flags(definition: Document<'_>, wire_version: i32) -> Result<(), Refusal> {
    for name in ["unique", "sparse", "background"] {
        let flag = definition.find(name).filter(|_| wire_version >= WIRE_5_0);
        if flag.is_some_and(|flag| flag.as_flag().is_none()) {
            return Err(Refusal::type_mismatch(format!(
                "The field '{name}' has a value which is not convertible to bool"
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
