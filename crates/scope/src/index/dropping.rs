//! Which of the app's indexes a `dropIndexes` means.

use mdb_wire::{Command, Document, Element, Kind};

use crate::facts::{CollectionFacts, OwnIndex};
use crate::hint::{is_id_key, same_key};
use crate::index::print_key;
use crate::refusal::Refusal;

/// The physical names that a `dropIndexes` means.
///
/// # Errors
/// 27 for an index that the app does not have, 72 for `_id_`.
pub fn dropped_indexes<'f>(
    command: &Command<'_>,
    collection: &'f CollectionFacts,
) -> Result<Vec<&'f OwnIndex>, Refusal> {
    let index = command.body.find("index").ok_or_else(|| {
        Refusal::missing_field("BSON field 'dropIndexes.index' is missing but a required field")
    })?;
    match index.kind {
        Kind::String if index.as_str() == Some("*") => Ok(collection.indexes.iter().collect()),
        Kind::Array => index
            .as_array()
            .into_iter()
            .flat_map(Document::elements)
            .map(|name| one_dropped(&name, collection))
            .collect(),
        _ => one_dropped(&index, collection).map(|only| vec![only]),
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
        return own
            .iter()
            .find(|i| Document::parse(&i.key).is_ok_and(|k| same_key(k, key)))
            .ok_or_else(|| {
                let key = print_key(key);
                Refusal::index_not_found(format!("can't find index with key: {key}"))
            });
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
