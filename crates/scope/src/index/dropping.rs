//! Which of the app's indexes a `dropIndexes` means.

use mdb_wire::{Command, Document, Element, Kind};

use crate::facts::{CollectionFacts, OwnIndex};
use crate::hint::{is_id_key, same_key};
use crate::index::print_key;
use crate::refusal::Refusal;

/// The physical names that a `dropIndexes` means.
///
/// # Errors
/// 14, 27 for an index that the app does not have, 72 for `_id_`, 181 for a key that several have.
pub fn dropped_indexes<'f>(
    command: &Command<'_>,
    collection: &'f CollectionFacts,
) -> Result<Vec<&'f OwnIndex>, Refusal> {
    let index = command.body.find("index").ok_or_else(|| {
        Refusal::missing_field("BSON field 'dropIndexes.index' is missing but a required field")
    })?;
    match index.kind {
        Kind::String if index.as_str() == Some("*") => Ok(collection.indexes.iter().collect()),
        Kind::Array => {
            let names = index.as_array().unwrap_or(Document::EMPTY);
            check_names(names)?;
            let names = names.elements();
            names.map(|name| one_dropped(&name, collection)).collect()
        }
        _ => one_dropped(&index, collection).map(|only| vec![only]),
    }
}

/// Of several indexes each is named (5.0.4, 6.0.5).
fn check_names(names: Document<'_>) -> Result<(), Refusal> {
    let mut names = names.elements().enumerate();
    match names.find(|(_, name)| name.kind != Kind::String) {
        Some((0, _)) => Err(Refusal::type_mismatch(
            "BSON field 'dropIndexes.index' is the wrong type 'array', expected types '[string']",
        )),
        Some((place, other)) => {
            let path = format!("dropIndexes.index.{place}");
            Err(Refusal::wrong_kind(&path, other.kind.name(), "string"))
        }
        None => Ok(()),
    }
}

fn one_dropped<'f>(
    index: &Element<'_>,
    collection: &'f CollectionFacts,
) -> Result<&'f OwnIndex, Refusal> {
    let own = &collection.indexes;
    if let Some(key) = index.as_document() {
        if is_id_key(key) {
            return Err(Refusal::invalid_options("cannot drop _id index"));
        }
        let is_meant = |i: &&OwnIndex| Document::parse(&i.key).is_ok_and(|k| same_key(k, key));
        let meant: Vec<&OwnIndex> = own.iter().filter(is_meant).collect();
        let key = print_key(key);
        return match meant.as_slice() {
            [only] => Ok(only),
            [] => Err(Refusal::index_not_found(format!(
                "can't find index with key: {key}"
            ))),
            several => Err(ambiguous(several, &key)),
        };
    }
    match index.as_str() {
        Some("_id_") => Err(Refusal::invalid_options("cannot drop _id index")),
        Some(name) => own
            .iter()
            .find(|i| i.name == name)
            .ok_or_else(|| Refusal::index_not_found(format!("index not found with name [{name}]"))),
        None => Err(Refusal::wrong_kind(
            "dropIndexes.index",
            index.kind.name(),
            "string",
        )),
    }
}

/// As a server says it, with the whole definitions (4.4.2, 5.0.4, 6.0.5).
fn ambiguous(several: &[&OwnIndex], key: &str) -> Refusal {
    let definitions = several.iter().map(|index| {
        let definition = Document::parse(&index.definition);
        print_key(definition.unwrap_or(Document::EMPTY))
    });
    let definitions = definitions.collect::<Vec<_>>().join(", ");
    Refusal::ambiguous_key(format!(
        "{} indexes found for key: {key}, identify by name instead. Conflicting indexes: {definitions}",
        several.len()
    ))
}
