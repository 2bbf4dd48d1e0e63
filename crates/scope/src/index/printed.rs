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

/// A value as servers print it (4.4.2), as far as that is short.
pub(crate) fn print_value(field: &Element<'_>) -> String {
    match field.kind {
        Kind::Double => print_double(field),
        Kind::Int32 | Kind::Int64 => field.as_integer().unwrap_or_default().to_string(),
        Kind::String => format!("\"{}\"", field.as_str().unwrap_or_default()),
        Kind::Null => "null".to_owned(),
        Kind::Boolean => (field.as_flag() == Some(true)).to_string(),
        Kind::Document => print_key(field.as_document().unwrap_or(Document::EMPTY)),
        Kind::Array => print_array(field.as_array().unwrap_or(Document::EMPTY)),
        Kind::ObjectId => format!("ObjectId('{}')", hexadecimal(field.value)),
        Kind::Regex => print_regex(field.value),
        Kind::JavaScript => {
            let code = field.value.get(4..).and_then(|code| code.split_last());
            code.map_or_else(String::new, |(_, code)| {
                String::from_utf8_lossy(code).into()
            })
        }
        Kind::MinKey => "MinKey".to_owned(),
        Kind::MaxKey => "MaxKey".to_owned(),
        Kind::Timestamp => {
            let both = field.as_timestamp().unwrap_or_default();
            format!("Timestamp({}, {})", both >> 32, both & 0xFFFF_FFFF)
        }
        Kind::DateTime => {
            let millis = field.value.try_into().map_or(0, i64::from_le_bytes);
            format!("new Date({millis})")
        }
        Kind::Binary => {
            let (subtype, bytes) = field.as_binary().unwrap_or_default();
            match subtype {
                UUID => format!("UUID(\"{}\")", grouped(&hexadecimal(bytes))),
                _ => format!("BinData({subtype}, {})", hexadecimal(bytes).to_uppercase()),
            }
        }
        _ => "…".to_owned(),
    }
}

/// Of a UUID.
const UUID: u8 = 4;

/// With a fraction, also where it is zero.
fn print_double(field: &Element<'_>) -> String {
    let double = field.value.try_into().map_or(0.0, f64::from_le_bytes);
    if double.is_nan() {
        return "nan.0".to_owned();
    }
    format!("{double:?}")
}

/// Pattern and options, each with a zero byte behind it.
fn print_regex(value: &[u8]) -> String {
    let mut parts = value.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let (pattern, options) = (parts.next(), parts.next());
    format!(
        "/{}/{}",
        pattern.unwrap_or_default(),
        options.unwrap_or_default()
    )
}

fn print_array(array: Document<'_>) -> String {
    let items: Vec<String> = array.elements().map(|item| print_value(&item)).collect();
    match items.as_slice() {
        [] => "[]".to_owned(),
        items => format!("[ {} ]", items.join(", ")),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0x0F]);
    digits
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

/// `8-4-4-4-12` digits.
fn grouped(digits: &str) -> String {
    let mut out = String::with_capacity(36);
    for (place, digit) in digits.chars().enumerate() {
        if [8, 12, 16, 20].contains(&place) {
            out.push('-');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::raw::cstr;
    use bson::{Bson, DateTime, Regex, Timestamp, doc, oid::ObjectId, spec::BinarySubtype};

    #[test]
    fn values_are_printed_as_by_a_server() {
        let binary = |subtype, bytes: &[u8]| {
            Bson::Binary(bson::Binary {
                subtype,
                bytes: bytes.to_vec(),
            })
        };
        for (value, expected) in [
            (Bson::Double(1.5), "1.5"),
            (Bson::Double(2.0), "2.0"),
            (Bson::Double(f64::NAN), "nan.0"),
            (Bson::Int64(3), "3"),
            (Bson::from(vec![1, 2]), "[ 1, 2 ]"),
            (Bson::Array(Vec::new()), "[]"),
            (doc! {"a": {"b": "x"}}.into(), "{ a: { b: \"x\" } }"),
            (
                ObjectId::from_bytes([0; 12]).into(),
                "ObjectId('000000000000000000000000')",
            ),
            (
                DateTime::from_millis(1_577_836_800_000).into(),
                "new Date(1577836800000)",
            ),
            (
                Timestamp {
                    time: 1,
                    increment: 2,
                }
                .into(),
                "Timestamp(1, 2)",
            ),
            (binary(BinarySubtype::Generic, b"x"), "BinData(0, 78)"),
            (
                binary(BinarySubtype::Uuid, &[0xAB; 16]),
                "UUID(\"abababab-abab-abab-abab-abababababab\")",
            ),
            (
                Bson::RegularExpression(Regex {
                    pattern: cstr!("^x").to_owned(),
                    options: cstr!("i").to_owned(),
                }),
                "/^x/i",
            ),
            (Bson::JavaScriptCode("f()".to_owned()), "f()"),
            (Bson::MinKey, "MinKey"),
            (Bson::Boolean(false), "false"),
        ] {
            let bytes = bson::serialize_to_vec(&doc! {"v": value}).unwrap();
            let document = Document::parse(&bytes).unwrap();
            assert_eq!(print_value(&document.first().unwrap()), expected);
        }
    }
}
