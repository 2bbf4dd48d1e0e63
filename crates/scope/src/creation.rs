//! What a server looks at in a `create` before it looks for the collection, in mongod's words (4.4.2, 5.0.4, 6.0.5): for
//! collections that the proxy makes itself, and for names that are taken already.

use mdb_wire::{Command, Document, Element, Kind};

use crate::index;
use crate::modify::{VALIDATION, check_images};
use crate::refusal::Refusal;
use crate::versions::{WIRE_VERSION_5_0, WIRE_VERSION_6_0, WIRE_VERSION_7_0};

/// What an option must be, and how servers say that.
type Shape = (&'static [Kind], &'static str);

const FLAG: Shape = (
    &[
        Kind::Boolean,
        Kind::Int64,
        Kind::Int32,
        Kind::Decimal128,
        Kind::Double,
    ],
    "types '[bool, long, int, decimal, double']",
);
const NUMBER: Shape = (
    &[Kind::Int64, Kind::Int32, Kind::Decimal128, Kind::Double],
    "types '[long, int, decimal, double']",
);
const OBJECT: Shape = (&[Kind::Document], "type 'object'");
const TEXT: Shape = (&[Kind::String], "type 'string'");

const SHAPES: &[(&str, Shape)] = &[
    ("capped", FLAG),
    ("autoIndexId", FLAG),
    ("idIndex", OBJECT),
    ("size", NUMBER),
    ("max", NUMBER),
    ("storageEngine", OBJECT),
    ("validator", OBJECT),
    ("validationLevel", TEXT),
    ("validationAction", TEXT),
    ("indexOptionDefaults", OBJECT),
    ("viewOn", TEXT),
    ("collation", OBJECT),
    ("recordPreImages", FLAG),
    ("flags", NUMBER),
    ("temp", FLAG),
];

/// Options that servers have from some version on: the `maxWireVersion` of the first.
const LATER: &[(&str, i32)] = &[
    ("timeseries", WIRE_VERSION_5_0),
    ("expireAfterSeconds", WIRE_VERSION_5_0),
    ("clusteredIndex", WIRE_VERSION_5_0),
    ("changeStreamPreAndPostImages", WIRE_VERSION_6_0),
    ("encryptedFields", WIRE_VERSION_6_0),
];

/// Checks the options of a `create`.
///
/// # Errors
/// 2, 9, 14, 40414, 40415, 51024, 67, 72, 197.
pub fn check_creation(command: &Command<'_>, wire_version: i32) -> Result<(), Refusal> {
    let given = |name: &str| command.body.find(name).filter(|e| !is_null(e));
    let is_unknown = |element: &Element<'_>| {
        let mut later = LATER.iter();
        later.any(|(name, first)| name.as_bytes() == element.key && wire_version < *first)
            || wire_version >= WIRE_VERSION_7_0 && element.key == b"recordPreImages"
    };
    if let Some(unknown) = command.body.elements().skip(1).find(is_unknown) {
        return Err(Refusal::unknown_field(format!(
            "BSON field 'create.{}' is an unknown field.",
            unknown.name()
        )));
    }
    for element in command.body.elements().skip(1) {
        check_shape(&element)?;
        if wire_version >= WIRE_VERSION_5_0 {
            check_value(&element)?;
        }
    }
    check_images(command, "create")?;
    let is_capped = given("capped").and_then(|e| e.as_flag()) == Some(true);
    if is_capped && given("size").is_none() {
        return Err(Refusal::invalid_options(
            "the 'size' field is required when 'capped' is true",
        ));
    }
    if !is_capped && (given("size").is_some() || given("max").is_some()) {
        return Err(Refusal::invalid_options(
            "the 'capped' field needs to be true when either the 'size' or 'max' fields are present",
        ));
    }
    let Some(of_id) = given("idIndex").and_then(|e| e.as_document()) else {
        return Ok(());
    };
    if given("collation").is_some() {
        // It becomes the app's own, and the server compares the two.
        return Ok(());
    }
    if given("autoIndexId").is_some() {
        return Err(Refusal::invalid_options(format!(
            "'idIndex' is not allowed with 'autoIndexId': {}",
            index::print_key(of_id)
        )));
    }
    index::check_id_index(of_id)
}

/// Whether a server would make the collection without an index on `_id`, which none does.
///
/// # Errors
/// 50001.
pub fn check_has_id_index(command: &Command<'_>) -> Result<(), Refusal> {
    let flag = command.body.find("autoIndexId").and_then(|e| e.as_flag());
    if flag != Some(false) {
        return Ok(());
    }
    let collection = command.target.as_str().unwrap_or_default();
    let text = format!(
        "autoIndexId:false is not allowed for collection {}.{collection} because it can be replicated",
        command.database
    );
    Err(Refusal::without_id_index(text))
}

/// What a server says beside `ok` to `autoIndexId`.
pub fn note_of_creation(command: &Command<'_>) -> Option<&'static str> {
    command
        .body
        .find("autoIndexId")
        .filter(|e| !is_null(e))
        .map(|_| "The autoIndexId option is deprecated and will be removed in a future release")
}

fn is_null(element: &Element<'_>) -> bool {
    matches!(element.kind, Kind::Null | Kind::Undefined)
}

fn is_empty(element: &Element<'_>) -> bool {
    element.as_document().is_some_and(Document::is_empty)
}

fn check_shape(element: &Element<'_>) -> Result<(), Refusal> {
    let shape = SHAPES.iter().find(|(n, _)| n.as_bytes() == element.key);
    let Some((name, (kinds, expected))) = shape.filter(|_| !is_null(element)) else {
        return Ok(());
    };
    if kinds.contains(&element.kind) {
        return Ok(());
    }
    Err(Refusal::type_mismatch(format!(
        "BSON field 'create.{name}' is the wrong type '{}', expected {expected}",
        element.kind.name()
    )))
}

/// Values that are none, on 5.0 and later.
fn check_value(element: &Element<'_>) -> Result<(), Refusal> {
    if element.key == b"size" && element.as_integer().is_some_and(|size| size < 1) {
        return Err(Refusal::below_minimum(format!(
            "BSON field 'size' value must be >= 1, actual value '{}'",
            element.as_integer().unwrap_or_default()
        )));
    }
    if element.key == b"collation" && is_empty(element) {
        return Err(Refusal::missing_field(
            "BSON field 'create.collation.locale' is missing but a required field",
        ));
    }
    // A server before 5.0 looks at them when it makes the collection.
    let mut named = VALIDATION.iter();
    let named = named.find(|(n, ..)| n.as_bytes() == element.key);
    match (named, element.as_str()) {
        (Some((name, _, known)), Some(value)) if !known.contains(&value) => {
            Err(Refusal::bad_value(format!(
                "Enumeration value '{value}' for field 'create.{name}' is not a valid value."
            )))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use bson::{Bson, Document as Doc, doc};

    use super::*;

    fn told(body: &Doc, wire_version: i32) -> Option<(i32, String)> {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let command = Command::inner(Document::parse(&bytes).unwrap(), "d").unwrap();
        let refused = check_creation(&command, wire_version);
        refused.err().map(|refusal| (refusal.code, refusal.text))
    }

    /// What servers said (4.4.2, 5.0.4, 6.0.5) of a collection that was there and of one that was not.
    #[test]
    fn options_are_told_of_as_by_a_server() {
        let key = || doc! {"_id": 1};
        let cases: [(Doc, i32, &str); 22] = [
            (
                doc! {"idIndex": 1},
                14,
                "'create.idIndex' is the wrong type 'int', expected type 'object'",
            ),
            (
                doc! {"idIndex": {}},
                9,
                "The 'key' field is a required property",
            ),
            (
                doc! {"idIndex": {"key": key()}},
                9,
                "The 'name' field is a required property",
            ),
            (
                doc! {"idIndex": {"key": {"a": 1}, "name": "_id_"}},
                2,
                "for an _id index must be {_id: 1}, but got { a: 1 }",
            ),
            (
                doc! {"idIndex": {"key": {"_id": -1}, "name": "_id_"}},
                2,
                "but got { _id: -1 }",
            ),
            (
                doc! {"idIndex": {"key": key(), "name": "_id_", "unique": true}},
                197,
                "The field 'unique' is not valid for an _id index specification. Specification: { key: { _id: 1 }, name: \"_id_\", unique: true, v: 2 }",
            ),
            (
                doc! {"idIndex": {"key": key(), "name": "_id_", "nonsense": 1}},
                197,
                "The field 'nonsense' is not valid for an index specification. Specification: { key: { _id: 1 }, name: \"_id_\", nonsense: 1 }",
            ),
            (
                doc! {"idIndex": {"key": key(), "name": "_id_", "v": 7}},
                67,
                "Invalid index specification { key: { _id: 1 }, name: \"_id_\", v: 7 }; cannot create an index with v=7",
            ),
            (
                doc! {"idIndex": {"key": key(), "name": "_id_", "collation": {"locale": "en"}}},
                2,
                "'idIndex' must have the same collation as the collection.",
            ),
            (
                doc! {"autoIndexId": true, "idIndex": {"key": key(), "name": "_id_"}},
                72,
                "'idIndex' is not allowed with 'autoIndexId': { key: { _id: 1 }, name: \"_id_\" }",
            ),
            (
                doc! {"autoIndexId": "x"},
                14,
                "'string', expected types '[bool, long, int, decimal, double']",
            ),
            (
                doc! {"flags": "x"},
                14,
                "'create.flags' is the wrong type 'string', expected types '[long, int, decimal, double']",
            ),
            (doc! {"capped": true}, 72, "the 'size' field is required"),
            (doc! {"max": 1}, 72, "the 'capped' field needs to be true"),
            (
                doc! {"size": 0, "capped": true},
                51024,
                "value must be >= 1, actual value '0'",
            ),
            (
                doc! {"validator": 1},
                14,
                "'create.validator' is the wrong type",
            ),
            (
                doc! {"validationLevel": "x"},
                2,
                "'x' for field 'create.validationLevel'",
            ),
            (
                doc! {"changeStreamPreAndPostImages": true},
                14,
                "'create.changeStreamPreAndPostImages' is the wrong type 'bool', expected type 'object'",
            ),
            (
                doc! {"changeStreamPreAndPostImages": {"enabled": 1}},
                14,
                "'create.changeStreamPreAndPostImages.enabled' is the wrong type 'int', expected type 'bool'",
            ),
            (
                doc! {"changeStreamPreAndPostImages": {"enabled": Bson::Null}},
                40414,
                "'create.changeStreamPreAndPostImages.enabled' is missing but a required field",
            ),
            (
                doc! {"changeStreamPreAndPostImages": {"enabled": true, "x": 1}},
                40415,
                "'create.changeStreamPreAndPostImages.x' is an unknown field",
            ),
            (
                doc! {"collation": {}},
                40414,
                "'create.collation.locale' is missing",
            ),
        ];
        for (options, code, part) in cases {
            let mut body = doc! {"create": "c"};
            body.extend(options);
            let (found, text) = told(&body, 17).unwrap_or_default();
            assert_eq!(found, code, "{body}");
            assert!(text.contains(part), "{body}: {text}");
        }
    }

    #[test]
    fn what_servers_take_is_taken() {
        for options in [
            doc! {"idIndex": {"key": {"_id": 1}, "name": "any", "v": 2, "ns": "d.c"}},
            doc! {"autoIndexId": true, "flags": 1, "recordPreImages": true},
            doc! {"capped": Bson::Null, "size": Bson::Null, "idIndex": Bson::Null},
            doc! {"capped": true, "size": 4096, "max": 3},
            doc! {"changeStreamPreAndPostImages": {"enabled": false}},
            doc! {"changeStreamPreAndPostImages": Bson::Null},
            doc! {"collation": {"locale": "en"}, "idIndex": {"key": {"_id": 1}, "name": "_id_", "collation": {"locale": "en"}}},
        ] {
            let mut body = doc! {"create": "c"};
            body.extend(options);
            assert_eq!(told(&body, 17), None, "{body}");
        }
    }

    #[test]
    fn versions_differ() {
        let small = doc! {"create": "c", "capped": true, "size": 0, "validationAction": "x"};
        assert_eq!(told(&small, 9), None);
        assert_eq!(told(&small, 13).map(|(code, _)| code), Some(51024));
        let later = doc! {"create": "c", "timeseries": {"timeField": "t"}};
        let unknown = "BSON field 'create.timeseries' is an unknown field.".to_owned();
        assert_eq!(told(&later, 9), Some((40415, unknown)));
        assert_eq!(told(&later, 13), None);
        let old = doc! {"create": "c", "recordPreImages": false};
        assert_eq!(told(&old, 17), None);
        assert_eq!(told(&old, 21).map(|(code, _)| code), Some(40415));
    }
}
