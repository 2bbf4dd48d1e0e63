//! Values and key patterns as servers print them in texts of errors.

use std::fmt::Write as _;

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

/// A value as servers print it (6.0.5); a decimal, a script and what is deprecated as `…`.
pub(crate) fn print_value(field: &Element<'_>) -> String {
    match field.kind {
        Kind::Double => print_double(field),
        Kind::Int32 | Kind::Int64 => field.as_integer().unwrap_or_default().to_string(),
        Kind::String => format!("\"{}\"", field.as_str().unwrap_or("…")),
        Kind::Null => "null".to_owned(),
        Kind::Undefined => "undefined".to_owned(),
        Kind::MinKey => "MinKey".to_owned(),
        Kind::MaxKey => "MaxKey".to_owned(),
        Kind::Boolean => (field.as_flag() == Some(true)).to_string(),
        Kind::Document => print_key(field.as_document().unwrap_or(Document::EMPTY)),
        Kind::Array => print_items(field.as_array().unwrap_or(Document::EMPTY)),
        Kind::DateTime => match <[u8; 8]>::try_from(field.value) {
            Ok(millis) => format!("new Date({})", i64::from_le_bytes(millis)),
            Err(_) => "…".to_owned(),
        },
        Kind::Timestamp => match field.as_timestamp() {
            Some(at) => format!("Timestamp({}, {})", at >> 32, at & u64::from(u32::MAX)),
            None => "…".to_owned(),
        },
        Kind::ObjectId => format!("ObjectId('{}')", hexadecimal(field.value)),
        Kind::Binary => match field.as_binary() {
            Some((subtype, bytes)) => {
                format!("BinData({subtype}, {})", hexadecimal(bytes).to_uppercase())
            }
            None => "…".to_owned(),
        },
        Kind::Regex => print_pattern(field.value),
        _ => "…".to_owned(),
    }
}

/// With a point, so that it is told from an integer.
fn print_double(field: &Element<'_>) -> String {
    match <[u8; 8]>::try_from(field.value) {
        Ok(number) => format!("{:?}", f64::from_le_bytes(number)),
        Err(_) => "…".to_owned(),
    }
}

/// `[ 1, "a" ]`.
fn print_items(items: Document<'_>) -> String {
    let items = items.elements().map(|item| print_value(&item));
    let items = items.collect::<Vec<_>>().join(", ");
    match items.as_str() {
        "" => "[]".to_owned(),
        items => format!("[ {items} ]"),
    }
}

/// `/a/i`, of two texts that end with a zero byte each.
fn print_pattern(texts: &[u8]) -> String {
    let mut texts = texts.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let mut next = || texts.next().unwrap_or_default();
    format!("/{}/{}", next(), next())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bson::{Bson, doc, oid::ObjectId};

    use super::*;

    #[test]
    fn values_are_printed_as_by_a_server() {
        let id = ObjectId::parse_str("5f5f5f5f5f5f5f5f5f5f5f5f").unwrap();
        let pattern = bson::Regex {
            pattern: "x".try_into().unwrap(),
            options: "i".try_into().unwrap(),
        };
        let binary = bson::Binary {
            subtype: bson::spec::BinarySubtype::Generic,
            bytes: b"a\xbc".to_vec(),
        };
        for (value, expected) in [
            (Bson::from(5), "5"),
            (Bson::from(5_i64), "5"),
            (Bson::from(5.0), "5.0"),
            (Bson::from(2.5), "2.5"),
            (Bson::from("it's"), "\"it's\""),
            (Bson::Null, "null"),
            (Bson::from(true), "true"),
            (Bson::MinKey, "MinKey"),
            (
                Bson::Timestamp(bson::Timestamp {
                    time: 1,
                    increment: 2,
                }),
                "Timestamp(1, 2)",
            ),
            (
                Bson::DateTime(bson::DateTime::from_millis(1_577_836_800_000)),
                "new Date(1577836800000)",
            ),
            (Bson::from(id), "ObjectId('5f5f5f5f5f5f5f5f5f5f5f5f')"),
            (Bson::from(pattern), "/x/i"),
            (Bson::from(binary), "BinData(0, 61BC)"),
            (Bson::from(doc! {}), "{}"),
            (Bson::from(doc! {"y": 1, "z": "q"}), "{ y: 1, z: \"q\" }"),
            (Bson::Array(vec![]), "[]"),
            (
                Bson::Array(vec![
                    2.5.into(),
                    "x".into(),
                    doc! {"y": 1}.into(),
                    Bson::Array(vec![]),
                ]),
                "[ 2.5, \"x\", { y: 1 }, [] ]",
            ),
        ] {
            let document = doc! {"a": value};
            let bytes = document.to_vec().unwrap();
            let document = Document::parse(&bytes).unwrap();
            assert_eq!(print_value(&document.first().unwrap()), expected);
        }
    }
}
