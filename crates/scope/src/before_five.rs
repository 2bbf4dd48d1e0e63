//! What servers before 5.0 say of fields of commands that read them by hand, in the words of 4.4.2: later ones speak of the
//! fields of all commands in the same way.

use mdb_wire::{Command, Element, Kind};

use crate::arguments::{self, Argument, Take};
use crate::commands::CommandSpec;
use crate::generic;
use crate::index::{print_key, print_value};
use crate::refusal::Refusal;
use crate::versions::V4_4;

/// What the value of a field must be.
#[derive(Clone, Copy)]
enum Wanted {
    Object,
    Flag,
    Number,
}

/// The fields of a `find` that are checked before all others.
const FIND: &[(&str, Wanted)] = &[
    ("filter", Wanted::Object),
    ("projection", Wanted::Object),
    ("sort", Wanted::Object),
    ("min", Wanted::Object),
    ("max", Wanted::Object),
    ("collation", Wanted::Object),
    ("skip", Wanted::Number),
    ("limit", Wanted::Number),
    ("batchSize", Wanted::Number),
    ("singleBatch", Wanted::Flag),
    ("returnKey", Wanted::Flag),
    ("showRecordId", Wanted::Flag),
    ("tailable", Wanted::Flag),
    ("awaitData", Wanted::Flag),
    ("oplogReplay", Wanted::Flag),
    ("noCursorTimeout", Wanted::Flag),
    ("allowPartialResults", Wanted::Flag),
    ("allowDiskUse", Wanted::Flag),
];

type Refuse = fn(String) -> Refusal;

/// The same of a `findAndModify`, where each has a code of its own.
const FIND_AND_MODIFY: &[(&str, Refuse)] = &[
    ("query", Refusal::modified_query_kind),
    ("sort", Refusal::modified_sort_kind),
    ("fields", Refusal::modified_fields_kind),
];

/// Checks one field of a command.
///
/// # Errors
/// 9 of a `find` and an `aggregate`; 31160, 31174, 31175 and 51177 of a `findAndModify`; 2 of a `createIndexes`; 72 of a `collMod`.
pub(crate) fn check(
    spec: &CommandSpec,
    command: &Command<'_>,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    match spec.name {
        "find" => check_find(spec, command, element),
        "findAndModify" => check_find_and_modify(spec, element),
        "createIndexes" if is_unknown(spec, element) => Err(Refusal::bad_value(format!(
            "Invalid field specified for createIndexes command: {}",
            element.name()
        ))),
        "aggregate" if is_unknown(spec, element) => Err(Refusal::failed_to_parse(format!(
            "unrecognized field '{}'",
            element.name()
        ))),
        "collMod" if is_unknown(spec, element) => Err(Refusal::invalid_options(format!(
            "unknown option to collMod: {}",
            element.name()
        ))),
        _ => Ok(()),
    }
}

fn check_find(
    spec: &CommandSpec,
    command: &Command<'_>,
    element: &Element<'_>,
) -> Result<(), Refusal> {
    let name = element.name();
    if is_unknown(spec, element) {
        return Err(unrecognized(command, name));
    }
    let mut fields = FIND.iter();
    let Some((_, wanted)) = fields.find(|(field, _)| *field == name) else {
        return Ok(());
    };
    let (is_wanted, kind) = match wanted {
        Wanted::Object => (element.kind == Kind::Document, "object"),
        Wanted::Flag => (element.kind == Kind::Boolean, "bool"),
        Wanted::Number if is_number(element) => return Ok(()),
        Wanted::Number => {
            let whole = print_key(command.body);
            return Err(Refusal::failed_to_parse(format!(
                "Failed to parse: {whole}. '{name}' field must be numeric."
            )));
        }
    };
    if is_wanted {
        return Ok(());
    }
    let value = print_value(element);
    Err(Refusal::failed_to_parse(format!(
        "Failed to parse: {name}: {value}. '{name}' field must be of BSON type {kind}."
    )))
}

fn check_find_and_modify(spec: &CommandSpec, element: &Element<'_>) -> Result<(), Refusal> {
    let name = element.name();
    if is_unknown(spec, element) {
        let text = format!("BSON field '{name}' is an unknown field.");
        return Err(Refusal::unknown_modify_field(text));
    }
    let mut fields = FIND_AND_MODIFY.iter();
    match fields.find(|(field, _)| *field == name) {
        Some((_, refused)) if element.kind != Kind::Document => {
            let found = element.kind.name();
            Err(refused(format!(
                "'{name}' parameter must be an object, found {found}"
            )))
        }
        _ => Ok(()),
    }
}

/// Checks a collation, of which these servers look for the locale before anything else.
///
/// # Errors
/// 4, 9, 14.
pub(crate) fn check_collation(element: &Element<'_>, command: &str) -> Result<(), Refusal> {
    let found = element.kind.name();
    let Some(document) = element.as_document() else {
        return match command {
            "aggregate" => Err(Refusal::type_mismatch(format!(
                "collation must be an object, not a {found}"
            ))),
            "findAndModify" => Err(wrong_type("collation", "object", found)),
            _ if element.kind == Kind::Null => Ok(()),
            _ => Err(Refusal::wrong_kind(
                &format!("{command}.collation"),
                found,
                "object",
            )),
        };
    };
    if document.is_empty() {
        return Ok(());
    }
    let refused = match document.find("locale") {
        None => Refusal::no_such_key("Missing expected field \"locale\""),
        Some(locale) if locale.kind != Kind::String => {
            wrong_type("locale", "string", locale.kind.name())
        }
        Some(_) if generic::unknown_of_collation(document).is_some() => {
            Refusal::failed_to_parse(format!(
                "Collation spec contains unknown field. Collation spec: {}",
                print_key(document)
            ))
        }
        Some(_) => return Ok(()),
    };
    Err(refused.of_statement())
}

fn wrong_type(name: &str, expected: &str, found: &str) -> Refusal {
    Refusal::type_mismatch(format!(
        "\"{name}\" had the wrong type. Expected {expected}, found {found}"
    ))
}

/// Checks a `getMore`, whatever its cursor is.
///
/// # Errors
/// 2, 9, 14, 73.
pub(crate) fn check_get_more(spec: &CommandSpec, command: &Command<'_>) -> Result<(), Refusal> {
    let whole = || print_key(command.body);
    let wanted = |name: &str, what: &str| {
        let whole = whole();
        Refusal::type_mismatch(format!("Field '{name}' must be {what} in: {whole}"))
    };
    if command.target.kind != Kind::Int64 {
        return Err(wanted("getMore", "of type long"));
    }
    for element in command.body.elements().skip(1) {
        match element.key {
            _ if is_unknown(spec, &element) => {
                return Err(unrecognized(command, element.name()));
            }
            b"collection" if element.kind != Kind::String => {
                return Err(wanted("collection", "of type string"));
            }
            b"batchSize" if !is_number(&element) => return Err(wanted("batchSize", "a number")),
            _ => {}
        }
    }
    let field = |name: &str| command.body.find(name);
    if field("collection").is_none() {
        let whole = whole();
        let text = format!("Field 'collection' missing in: {whole}");
        return Err(Refusal::failed_to_parse(text));
    }
    if field("collection").and_then(|c| c.as_str()) == Some("") {
        let text = format!("Invalid namespace for getMore: {}.", command.database);
        return Err(Refusal::invalid_namespace(text));
    }
    if command.target.as_integer() == Some(0) {
        return Err(Refusal::bad_value("Cursor id for getMore must be non-zero"));
    }
    match field("batchSize").and_then(|size| size.as_truncated()) {
        Some(size) if size < 1 => Err(Refusal::bad_value(format!(
            "Batch size for getMore must be positive, but received: {size}"
        ))),
        _ => Ok(()),
    }
}

fn unrecognized(command: &Command<'_>, name: &str) -> Refusal {
    let whole = print_key(command.body);
    Refusal::failed_to_parse(format!(
        "Failed to parse: {whole}. Unrecognized field '{name}'."
    ))
}

/// Whether no row has it, or one of later servers that would be evaluated before these servers had a look at it.
fn is_unknown(spec: &CommandSpec, element: &Element<'_>) -> bool {
    let own = arguments::look_up(spec.arguments, element.key);
    let is_later = |a: &Argument| a.take == Take::Let && !a.versions.includes(V4_4);
    own.or_else(|| arguments::look_up(arguments::GENERIC, element.key))
        .is_none_or(is_later)
}

fn is_number(element: &Element<'_>) -> bool {
    element.kind != Kind::Boolean && element.as_flag().is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::look_up;
    use bson::{Bson, doc};
    use mdb_wire::Document;

    fn told(body: &bson::Document) -> Option<(i32, String)> {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let document = Document::parse(&bytes).unwrap();
        let command = Command::inner(document, "d").unwrap();
        let spec = look_up(command.name, "d").unwrap();
        let mut fields = document.elements().skip(1);
        let refused = fields.find_map(|element| check(spec, &command, &element).err());
        refused.map(|refusal| (refusal.code, refusal.text))
    }

    /// As 4.4.2 says it.
    #[test]
    fn fields_of_find_and_find_and_modify() {
        for (body, code, text) in [
            (
                doc! {"find": "c", "filter": {}, "nope": 1, "$db": "d"},
                9,
                "Failed to parse: { find: \"c\", filter: {}, nope: 1, $db: \"d\" }. Unrecognized field 'nope'.",
            ),
            (
                doc! {"find": "c", "let": {"x": {"$nope": 1}}},
                9,
                "Failed to parse: { find: \"c\", let: { x: { $nope: 1 } } }. Unrecognized field 'let'.",
            ),
            (
                doc! {"find": "c", "batchSize": "x"},
                9,
                "Failed to parse: { find: \"c\", batchSize: \"x\" }. 'batchSize' field must be numeric.",
            ),
            (
                doc! {"find": "c", "sort": [1]},
                9,
                "Failed to parse: sort: [ 1 ]. 'sort' field must be of BSON type object.",
            ),
            (
                doc! {"find": "c", "tailable": 1},
                9,
                "Failed to parse: tailable: 1. 'tailable' field must be of BSON type bool.",
            ),
            (
                doc! {"aggregate": "c", "pipeline": [], "let": {"x": {"$nope": 1}}},
                9,
                "unrecognized field 'let'",
            ),
            (
                doc! {"collMod": "c", "nope": 1},
                72,
                "unknown option to collMod: nope",
            ),
            (
                doc! {"findAndModify": "c", "nope": 1},
                51_177,
                "BSON field 'nope' is an unknown field.",
            ),
            (
                doc! {"findAndModify": "c", "query": Bson::Null},
                31_160,
                "'query' parameter must be an object, found null",
            ),
        ] {
            assert_eq!(told(&body), Some((code, text.to_owned())), "{body}");
        }
        for body in [
            doc! {"find": "c", "filter": {}, "limit": 1.5, "singleBatch": true, "lsid": {}, "comment": 1},
            doc! {"findAndModify": "c", "query": {}, "fields": {}, "new": 1, "txnNumber": 1_i64},
            doc! {"count": "c", "nope": 1},
            doc! {"aggregate": "c", "pipeline": [], "cursor": {}, "comment": 1},
        ] {
            assert_eq!(told(&body), None, "{body}");
        }
    }

    /// As 4.4.2 says it.
    #[test]
    fn more_of_a_cursor() {
        for (fields, told) in [
            (doc! {"collection": "c", "batchSize": 1.5}, None),
            (doc! {"collection": "c", "lsid": {}, "comment": 1}, None),
            (
                doc! {"collection": "c", "batchSize": "x"},
                Some((
                    14,
                    "Field 'batchSize' must be a number in: { getMore: 7, collection: \"c\", batchSize: \"x\" }",
                )),
            ),
            (
                doc! {"collection": "c", "batchSize": 0.5},
                Some((
                    2,
                    "Batch size for getMore must be positive, but received: 0",
                )),
            ),
            (
                doc! {"collection": 1},
                Some((
                    14,
                    "Field 'collection' must be of type string in: { getMore: 7, collection: 1 }",
                )),
            ),
            (
                doc! {"collection": ""},
                Some((73, "Invalid namespace for getMore: d.")),
            ),
            (
                doc! {},
                Some((9, "Field 'collection' missing in: { getMore: 7 }")),
            ),
            (
                doc! {"nope": 1, "batchSize": "x"},
                Some((
                    9,
                    "Failed to parse: { getMore: 7, nope: 1, batchSize: \"x\" }. Unrecognized field 'nope'.",
                )),
            ),
        ] {
            let mut body = doc! {"getMore": 7_i64};
            body.extend(fields);
            let bytes = bson::serialize_to_vec(&body).unwrap();
            let document = Document::parse(&bytes).unwrap();
            let command = Command::inner(document, "d").unwrap();
            let spec = look_up(command.name, "d").unwrap();
            let found = check_get_more(spec, &command)
                .err()
                .map(|r| (r.code, r.text));
            assert_eq!(
                found,
                told.map(|(code, text)| (code, text.to_owned())),
                "{body}"
            );
        }
    }

    /// As 4.4.2 says it.
    #[test]
    fn collations() {
        for (command, collation, code) in [
            ("aggregate", doc! {"locale": "en"}.into(), None),
            ("aggregate", doc! {}.into(), None),
            ("aggregate", Bson::Null, Some(14)),
            ("count", Bson::Null, None),
            ("findAndModify", Bson::Null, Some(14)),
            ("update.updates", Bson::Int32(1), Some(14)),
            ("count", doc! {"nope": 1}.into(), Some(4)),
            ("count", doc! {"locale": 1, "nope": 1}.into(), Some(14)),
            ("count", doc! {"locale": "en", "nope": 1}.into(), Some(9)),
        ] {
            let bytes = bson::serialize_to_vec(&doc! {"collation": &collation}).unwrap();
            let document = Document::parse(&bytes).unwrap();
            let element = document.first().unwrap();
            let told = check_collation(&element, command).map_err(|r| r.code);
            assert_eq!(told.err(), code, "{command} {collation}");
        }
    }
}
