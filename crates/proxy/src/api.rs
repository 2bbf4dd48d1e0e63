//! The Stable API, for commands that the proxy answers or composes itself. The upstream checks the others.

use mdb_scope::CommandSpec;
use mdb_wire::{Document, Element, Kind};

use crate::error::ApiError;

/// Checks `apiVersion`, `apiStrict` and `apiDeprecationErrors` as mongod does.
pub(crate) fn check(spec: &CommandSpec, body: Document<'_>) -> Result<(), ApiError> {
    let given = |field: &'static str, expected: Kind| {
        let is_given = |e: &Element<'_>| !matches!(e.kind, Kind::Null | Kind::Undefined);
        match body.find(field).filter(is_given) {
            Some(element) if element.kind != expected => Err(ApiError::Kind {
                field,
                found: element.kind.name(),
                expected: expected.name(),
            }),
            element => Ok(element),
        }
    };
    let version = given("apiVersion", Kind::String)?;
    let strict = given("apiStrict", Kind::Boolean)?;
    let deprecation = given("apiDeprecationErrors", Kind::Boolean)?;
    let is_strict = strict.is_some_and(|e| e.as_flag() == Some(true));
    let asks_for_more = strict.is_some() || deprecation.is_some();
    match version {
        Some(version) if version.as_string() != Some(b"1") => Err(ApiError::Version),
        Some(_) if is_strict && !IN_VERSION_1.contains(&spec.name) => {
            Err(ApiError::Strict(spec.name))
        }
        None if asks_for_more => Err(ApiError::NoVersion),
        Some(_) | None => Ok(()),
    }
}

/// Checks what a command that the proxy composes asks for: not all that version 1 has of a command is stable.
pub(crate) fn check_composed(spec: &CommandSpec, body: Document<'_>) -> Result<(), ApiError> {
    if !is_strict(body) {
        return Ok(());
    }
    let unstable = |key: &[u8]| {
        let row = UNSTABLE
            .iter()
            .find(|(name, field)| *name == spec.name && field.as_bytes() == key);
        row.map(|(_, field)| ApiError::StrictField(spec.name, field))
    };
    if let Some(error) = body.elements().find_map(|element| unstable(element.key)) {
        return Err(error);
    }
    let indexes = body.find("indexes").and_then(|e| e.as_array());
    let mut indexes = indexes.into_iter().flat_map(Document::elements);
    if spec.name == "createIndexes" && indexes.any(|index| is_text(&index)) {
        return Err(ApiError::StrictTextIndex);
    }
    Ok(())
}

/// Checks the first stage of a pipeline that the proxy answers itself.
pub(crate) fn check_stage(body: Document<'_>) -> Result<(), ApiError> {
    let pipeline = body.find("pipeline").and_then(|e| e.as_array());
    let stage = pipeline.and_then(|p| p.first()?.as_document()?.first());
    match stage {
        Some(stage) if is_strict(body) => {
            let counts_only = stage.as_document().is_some_and(|of| {
                let mut figures = of.elements();
                figures.all(|figure| figure.key == b"count")
            });
            if stage.key == b"$collStats" && counts_only {
                return Ok(());
            }
            Err(ApiError::StrictStage(stage.name().to_owned()))
        }
        _ => Ok(()),
    }
}

fn is_text(index: &Element<'_>) -> bool {
    let key = index.as_document().and_then(|index| index.find("key"));
    let mut parts = key
        .and_then(|key| key.as_document())
        .into_iter()
        .flat_map(Document::elements);
    parts.any(|part| part.as_str() == Some("text"))
}

fn is_strict(body: Document<'_>) -> bool {
    body.find("apiStrict").and_then(|e| e.as_flag()) == Some(true)
}

/// Fields that API version 1 does not have of commands that it has (6.0.5).
const UNSTABLE: &[(&str, &str)] = &[
    ("create", "autoIndexId"),
    ("create", "changeStreamPreAndPostImages"),
    ("create", "flags"),
    ("create", "indexOptionDefaults"),
    ("create", "max"),
    ("create", "size"),
    ("create", "storageEngine"),
    ("create", "temp"),
    ("createIndexes", "ignoreUnknownIndexOptions"),
    ("collMod", "changeStreamPreAndPostImages"),
];

/// The commands of API version 1 among those that never go upstream as they are (6.0.5).
const IN_VERSION_1: &[&str] = &[
    "hello",
    "ping",
    "saslStart",
    "saslContinue",
    "authenticate",
    "collMod",
    "create",
    "createIndexes",
    "drop",
    "dropDatabase",
    "dropIndexes",
    "killCursors",
    "listCollections",
    "listDatabases",
    "listIndexes",
];

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, doc};

    #[test]
    fn local_commands_obey_the_stable_api() {
        let cases = [
            (doc! {"ping": 1}, Ok(())),
            (
                doc! {"ping": 1, "apiVersion": "1", "apiStrict": true},
                Ok(()),
            ),
            (doc! {"ping": 1, "apiVersion": "2"}, Err(ApiError::Version)),
            (
                doc! {"ping": 1, "apiVersion": 1},
                Err(ApiError::Kind {
                    field: "apiVersion",
                    found: "int",
                    expected: "string",
                }),
            ),
            (doc! {"ping": 1, "apiStrict": Bson::Null}, Ok(())),
            (
                doc! {"ping": 1, "apiStrict": true},
                Err(ApiError::NoVersion),
            ),
            (
                doc! {"ping": 1, "apiDeprecationErrors": false},
                Err(ApiError::NoVersion),
            ),
            (
                doc! {"buildInfo": 1, "apiVersion": "1", "apiStrict": false},
                Ok(()),
            ),
            (
                doc! {"buildInfo": 1, "apiVersion": "1", "apiStrict": true},
                Err(ApiError::Strict("buildInfo")),
            ),
        ];
        for (body, expected) in cases {
            let bytes = bson::serialize_to_vec(&body).unwrap();
            let body_read = Document::parse(&bytes).unwrap();
            let spec = mdb_scope::look_up(body_read.first().unwrap().key, "admin").unwrap();
            assert_eq!(check(spec, body_read), expected, "{body}");
        }
    }

    #[test]
    fn what_is_unstable_of_a_stable_command_is_refused() {
        let text = doc! {"key": {"a": "text"}, "name": "t"};
        let plain = doc! {"key": {"a": 1}, "name": "a"};
        let cases = [
            (doc! {"create": "c", "validator": {}}, Ok(())),
            (
                doc! {"create": "c", "size": 1},
                Err(ApiError::StrictField("create", "size")),
            ),
            // A field of another command's row.
            (doc! {"listCollections": 1, "size": 1}, Ok(())),
            (doc! {"createIndexes": "c", "indexes": [&plain]}, Ok(())),
            (
                doc! {"createIndexes": "c", "indexes": [&plain, &text]},
                Err(ApiError::StrictTextIndex),
            ),
        ];
        for (mut body, expected) in cases {
            for is_strict in [true, false] {
                body.insert("apiStrict", is_strict);
                let bytes = bson::serialize_to_vec(&body).unwrap();
                let body_read = Document::parse(&bytes).unwrap();
                let spec = mdb_scope::look_up(body_read.first().unwrap().key, "d").unwrap();
                let expected = if is_strict { expected.clone() } else { Ok(()) };
                assert_eq!(check_composed(spec, body_read), expected, "{body}");
            }
        }
    }

    #[test]
    fn of_the_stages_that_are_figures_only_a_count_is_stable() {
        let unstable = |name: &str| Err(ApiError::StrictStage(name.to_owned()));
        for (stage, expected) in [
            (doc! {"$collStats": {"count": {}}}, Ok(())),
            (
                doc! {"$collStats": {"count": {}, "storageStats": {}}},
                unstable("$collStats"),
            ),
            (doc! {"$indexStats": {}}, unstable("$indexStats")),
        ] {
            let body = doc! {"aggregate": "c", "pipeline": [stage], "apiStrict": true};
            let bytes = bson::serialize_to_vec(&body).unwrap();
            assert_eq!(
                check_stage(Document::parse(&bytes).unwrap()),
                expected,
                "{body}"
            );
        }
    }
}
