//! Which of the app's indexes a `dropIndexes` means.

use mdb_wire::{Command, Document, Element, Kind};

use crate::facts::{CollectionFacts, OwnIndex};
use crate::hint::is_id_key;
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
    let index = dropped(command)?;
    match index.as_array() {
        _ if drops_all(&index) => Ok(collection.indexes.iter().collect()),
        Some(names) => {
            let names = names.elements();
            names.map(|name| one_dropped(&name, collection)).collect()
        }
        None => one_dropped(&index, collection).map(|only| vec![only]),
    }
}

/// Whether all indexes are meant: by `"*"`, or by a list that begins with it (4.4.2, 6.0.5).
pub fn drops_all(index: &Element<'_>) -> bool {
    let first = index.as_array().and_then(Document::first);
    index.as_str().or_else(|| first?.as_str()) == Some("*")
}

/// What a `dropIndexes` names. A server from 5.0 on looks at its kind before it looks for the collection (5.0.4, 6.0.5).
///
/// # Errors
/// 14, 40414.
pub fn dropped<'a>(command: &Command<'a>) -> Result<Element<'a>, Refusal> {
    let index = command.body.find("index").ok_or_else(|| {
        Refusal::missing_field("BSON field 'dropIndexes.index' is missing but a required field")
    })?;
    match (index.kind, index.as_array()) {
        (_, Some(names)) => check_names(names).map(|()| index),
        (Kind::String | Kind::Document, _) => Ok(index),
        (kind, _) => Err(Refusal::type_mismatch(format!(
            "BSON field 'dropIndexes.index' is the wrong type '{}', expected types '[string, object']",
            kind.name()
        ))),
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
        return by_key(key, collection);
    }
    match index.as_str().unwrap_or_default() {
        "_id_" => Err(Refusal::invalid_options("cannot drop _id index")),
        name => own
            .iter()
            .find(|i| i.name == name)
            .ok_or_else(|| Refusal::index_not_found(format!("index not found with name [{name}]"))),
    }
}

/// The only one of a key pattern; several may differ in their collation or their filter.
fn by_key<'f>(key: Document<'_>, own: &'f CollectionFacts) -> Result<&'f OwnIndex, Refusal> {
    match own.indexes_of(key).as_slice() {
        [] => Err(Refusal::index_not_found(format!(
            "can't find index with key: {}",
            print_key(key)
        ))),
        [only] => Ok(only),
        several => {
            let shown: Vec<String> = several.iter().map(|index| index.printed()).collect();
            Err(Refusal::ambiguous_key(format!(
                "{} indexes found for key: {}, identify by name instead. Conflicting indexes: {}",
                several.len(),
                print_key(key),
                shown.join(", ")
            )))
        }
    }
}
