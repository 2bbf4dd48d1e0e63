//! Values and key patterns as servers print them in texts of errors.

use mdb_wire::{Document, Element, Kind};

/// A key pattern as servers print it: `{ a: 1, b: "hashed" }`.
pub(crate) fn print_key(key: Document<'_>) -> String {
    let fields = key
        .elements()
        .map(|field| format!("{}: {}", field.name(), print_value(&field)));
    let fields = fields.collect::<Vec<_>>().join(", ");
    match fields.as_str() {
        "" => "{}".to_owned(),
        fields => format!("{{ {fields} }}"),
    }
}

/// A value as servers print it, as far as it is short.
pub(crate) fn print_value(field: &Element<'_>) -> String {
    match (field.as_integer(), field.as_str(), field.kind) {
        (Some(number), ..) => number.to_string(),
        (_, Some(text), _) => format!("\"{text}\""),
        (.., Kind::Null) => "null".to_owned(),
        (.., Kind::Boolean) => (field.as_flag() == Some(true)).to_string(),
        (.., Kind::Document) => print_key(field.as_document().unwrap_or(Document::EMPTY)),
        _ => "…".to_owned(),
    }
}
