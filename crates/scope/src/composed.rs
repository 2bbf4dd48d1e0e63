//! What every command that the proxy answers itself refuses, as a mongod refuses it (6.0.5).

use mdb_wire::{Command, Document, Element, Kind};

use crate::apply::check_sequences;
use crate::commands::CommandSpec;
use crate::pipeline::no_pipeline;
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::stages::no_stage;
use crate::versions::WIRE_VERSION_5_0;
use crate::{before_five, body, generic, namespace};

/// Commands of the catalog that a transaction may hold.
const IN_TRANSACTIONS: &[&str] = &["create", "createIndexes", "killCursors"];

/// Checks what a command that is not rewritten and sent says of transactions and read concerns.
///
/// # Errors
/// 263 in a transaction, 72 for a read concern other than `local`.
pub fn check_composed(spec: &CommandSpec, command: &Command<'_>) -> Result<(), Refusal> {
    let name = spec.name;
    if command.body.find("autocommit").is_some() {
        return match name {
            name if IN_TRANSACTIONS.contains(&name) => Ok(()),
            _ if spec.before_authentication || name == "whatsmyuri" => Err(
                Refusal::not_in_transaction("This command is not supported in transactions"),
            ),
            _ => Err(Refusal::not_in_transaction(format!(
                "Cannot run '{name}' in a multi-document transaction."
            ))),
        };
    }
    let concern = command.body.find("readConcern");
    let level = concern.and_then(|e| e.as_document()?.find("level"));
    match level.and_then(|e| e.as_str()) {
        Some(level) if level != "local" => Err(Refusal::invalid_options(format!(
            "Command {name} does not support {{ readConcern: {{ level: \"{level}\", provenance: \"clientSupplied\" }} }} \
             :: caused by :: read concern not supported"
        ))),
        _ => Ok(()),
    }
}

/// Commands that write, in part or as a whole by the proxy's own hand: their write concern is checked also where none is sent.
pub const COMPOSED_WRITES: &[&str] = &[
    "create",
    "drop",
    "dropDatabase",
    "createIndexes",
    "dropIndexes",
    "collMod",
    "renameCollection",
];

/// What a field of a list has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Object,
    Boolean,
    /// A boolean or a number.
    Flag,
}

/// The fields of lists that servers check and whose values the proxy reads by itself (5.0.4, 6.0.5). `null` is none of them.
const KINDS: [(&str, &str, Wanted); 6] = [
    ("listCollections", "filter", Wanted::Object),
    ("listCollections", "nameOnly", Wanted::Boolean),
    ("listCollections", "authorizedCollections", Wanted::Boolean),
    ("listDatabases", "filter", Wanted::Object),
    ("listDatabases", "nameOnly", Wanted::Flag),
    ("listDatabases", "authorizedDatabases", Wanted::Boolean),
];

/// Checks the fields of a list, in mongod's words (4.4.2, 5.0.4, 6.0.5).
fn check_kinds(
    spec: &CommandSpec,
    command: &Command<'_>,
    is_before_five: bool,
) -> Result<(), Refusal> {
    // Only a filter is looked at there.
    let is_old = is_before_five && spec.name == "listCollections";
    for (_, field, wanted) in KINDS.iter().filter(|(name, ..)| *name == spec.name) {
        let Some(element) = command.body.find(field) else {
            continue;
        };
        let is_wanted = match wanted {
            Wanted::Object => element.kind == Kind::Document,
            Wanted::Boolean => is_old || element.kind == Kind::Boolean,
            Wanted::Flag => element.as_flag().is_some(),
        };
        if is_wanted || (element.kind == Kind::Null && !is_old) {
            continue;
        }
        let (path, found) = (format!("{}.{field}", spec.name), element.kind.name());
        return Err(match wanted {
            Wanted::Object if is_old => Refusal::bad_value("\"filter\" must be an object"),
            Wanted::Object => Refusal::wrong_kind(&path, found, "object"),
            Wanted::Boolean => Refusal::wrong_kind(&path, found, "bool"),
            Wanted::Flag => Refusal::wrong_flag(&path, found),
        });
    }
    Ok(())
}

/// Checks the fields of a command that the proxy composes itself.
pub fn check_catalog_command(
    spec: &'static CommandSpec,
    command: &Command<'_>,
    control_database: &str,
    wire_version: i32,
) -> Result<(), Refusal> {
    let is_before_five = wire_version < WIRE_VERSION_5_0;
    if is_before_five {
        let mut fields = command.body.elements().skip(1);
        fields.try_for_each(|element| before_five::check(spec, command, &element))?;
    }
    body::check_fields(spec, command)?;
    check_kinds(spec, command, is_before_five)?;
    let concern = command.body.find("writeConcern");
    if let Some(concern) = concern.filter(|_| COMPOSED_WRITES.contains(&spec.name)) {
        generic::write_concern(&concern, spec.name, wire_version)?;
    }
    check_sequences(spec, command)?;
    check_composed(spec, command)?;
    if spec.name == "aggregate" {
        check_aggregate(command, is_before_five)?;
    }
    if spec.name == "dropDatabase" {
        check_drop_database(&command.target, is_before_five)?;
    }
    if !spec.on_collection && !matches!(spec.name, "dropDatabase" | "dbStats" | "dataSize") {
        return Ok(());
    }
    namespace::check_database(command, control_database)
}

/// Checks the value of `dropDatabase`, which must be 1, in mongod's words (4.4.2, 5.0.4, 6.0.5).
fn check_drop_database(one: &Element<'_>, is_before_five: bool) -> Result<(), Refusal> {
    let is_number = one.kind != Kind::Boolean && one.as_flag().is_some();
    match one.as_truncated() {
        Some(1) => Ok(()),
        _ if is_before_five => Err(Refusal::illegal_operation("have to pass 1 as db parameter")),
        _ if is_number => Err(Refusal::drop_parameter(
            "Have to pass 1 as 'drop' parameter",
        )),
        _ if one.kind == Kind::Null => Err(Refusal::missing_field(
            "BSON field 'dropDatabase.dropDatabase' is missing but a required field",
        )),
        _ => Err(Refusal::wrong_number(
            "dropDatabase.dropDatabase",
            one.kind.name(),
        )),
    }
}

/// Checks the `cursor` of a list. The batch is as large as the list, whatever size it asks for.
///
/// # Errors
/// 14, 40415, 51024, before 5.0 14 and 2, in mongod's words (4.4.2, 5.0.4, 6.0.5).
pub fn check_list_cursor(
    spec: &CommandSpec,
    command: &Command<'_>,
    is_before_five: bool,
) -> Result<(), Refusal> {
    let Some(cursor) = command.body.find("cursor") else {
        return Ok(());
    };
    if is_before_five {
        return check_old_cursor(&cursor);
    }
    let path = format!("{}.cursor", spec.name);
    let members = match (cursor.kind, cursor.as_document()) {
        (Kind::Null, _) => return Ok(()),
        (Kind::Document, Some(members)) => members,
        (kind, _) => return Err(Refusal::wrong_kind(&path, kind.name(), "object")),
    };
    check_cursor_members(members, &path)
}

/// Checks what stands in a `cursor` (5.0.4, 6.0.5).
fn check_cursor_members(members: Document<'_>, path: &str) -> Result<(), Refusal> {
    no_repeats(members, path)?;
    for member in members.elements() {
        match (member.key, member.kind, member.as_truncated()) {
            (b"batchSize", Kind::Null | Kind::Decimal128, _) => {}
            (b"batchSize", _, Some(size)) if size < 0 => {
                return Err(Refusal::below_minimum(format!(
                    "BSON field 'batchSize' value must be >= 0, actual value '{size}'"
                )));
            }
            (b"batchSize", _, Some(_)) => {}
            (b"batchSize", kind, None) => {
                let path = format!("{path}.batchSize");
                return Err(Refusal::wrong_number(&path, kind.name()));
            }
            _ => {
                let name = member.name();
                let text = format!("BSON field '{path}.{name}' is an unknown field.");
                return Err(Refusal::unknown_field(text));
            }
        }
    }
    Ok(())
}

/// Checks the shape of an `aggregate`, at which servers look before they look at stages, in mongod's words (4.4.2, 5.0.4,
/// 6.0.5).
///
/// # Errors
/// 40414 without a pipeline, 14 for a stage that is no object, 9 without a cursor, and those of the cursor.
pub(crate) fn check_aggregate(command: &Command<'_>, is_before_five: bool) -> Result<(), Refusal> {
    let Some(pipeline) = command.body.find("pipeline") else {
        return Err(Refusal::missing_field(
            "BSON field 'aggregate.pipeline' is missing but a required field",
        ));
    };
    let stages = pipeline.as_array().ok_or_else(no_pipeline)?;
    if stages.elements().any(|stage| stage.kind != Kind::Document) {
        return Err(no_stage());
    }
    match command.body.find("cursor") {
        Some(cursor) if is_before_five => check_old_cursor(&cursor),
        Some(cursor) if cursor.kind == Kind::Document => {
            let members = cursor.as_document().unwrap_or(Document::EMPTY);
            check_cursor_members(members, "cursor")
        }
        Some(_) => Err(no_cursor()),
        None if command.body.find("explain").is_some() => Ok(()),
        None => Err(Refusal::failed_to_parse(
            "The 'cursor' option is required, except for aggregate with the explain argument",
        )),
    }
}

fn no_cursor() -> Refusal {
    Refusal::type_mismatch("cursor field must be missing or an object")
}

fn check_old_cursor(cursor: &Element<'_>) -> Result<(), Refusal> {
    let members = cursor
        .as_document()
        .filter(|_| cursor.kind == Kind::Document)
        .ok_or_else(no_cursor)?;
    no_repeats(members, "cursor")?;
    if members.elements().any(|member| member.key != b"batchSize") {
        let text = "cursor object can't contain fields other than batchSize";
        return Err(Refusal::bad_value(text));
    }
    match members.first() {
        None => Ok(()),
        Some(size) if size.kind == Kind::Decimal128 => Ok(()),
        Some(size) => match size.as_truncated() {
            Some(0..) => Ok(()),
            Some(_) => Err(Refusal::bad_value("cursor.batchSize must not be negative")),
            None => Err(Refusal::type_mismatch("cursor.batchSize must be a number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::look_up;
    use bson::{Bson, Document as Doc, doc};

    fn code(body: &Doc) -> Option<i32> {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let command = Command::inner(Document::parse(&bytes).unwrap(), "d").unwrap();
        let spec = look_up(command.name, "d").unwrap();
        check_composed(spec, &command)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn one_drops_a_database() {
        for (value, code, before_five) in [
            (Bson::Int32(1), None, None),
            (Bson::Double(1.5), None, None),
            (Bson::Int64(2), Some(5_255_100), Some(20)),
            (Bson::Boolean(true), Some(14), Some(20)),
            (Bson::String("x".into()), Some(14), Some(20)),
            (Bson::Null, Some(40_414), Some(20)),
        ] {
            let bytes = bson::serialize_to_vec(&doc! {"dropDatabase": &value}).unwrap();
            let document = Document::parse(&bytes).unwrap();
            let one = document.first().unwrap();
            let told = |is_old| check_drop_database(&one, is_old).err().map(|r| r.code);
            assert_eq!((told(false), told(true)), (code, before_five), "{value}");
        }
    }

    #[test]
    fn transactions_and_read_concerns() {
        let cases = [
            (doc! {"listCollections": 1}, None),
            (doc! {"listCollections": 1, "readConcern": {}}, None),
            (
                doc! {"listCollections": 1, "readConcern": {"level": "local"}},
                None,
            ),
            (
                doc! {"listCollections": 1, "readConcern": {"level": "snapshot"}},
                Some(72),
            ),
            (
                doc! {"create": "c", "readConcern": {"level": "majority"}},
                Some(72),
            ),
            (
                doc! {"buildInfo": 1, "readConcern": {"level": "available"}},
                Some(72),
            ),
            (
                doc! {"ping": 1, "readConcern": {"level": "snapshot"}},
                Some(72),
            ),
            (doc! {"listCollections": 1, "autocommit": false}, Some(263)),
            (doc! {"ping": 1, "autocommit": false}, Some(263)),
            (
                doc! {"create": "c", "autocommit": false, "readConcern": {"level": "snapshot"}},
                None,
            ),
            (doc! {"createIndexes": "c", "autocommit": false}, None),
        ];
        for (body, expected) in cases {
            assert_eq!(code(&body), expected, "{body}");
        }
    }

    #[test]
    fn cursors_of_lists() {
        for (cursor, code, before_five) in [
            (Bson::Int32(1), Some(14), Some(14)),
            (Bson::Null, None, Some(14)),
            (doc! {}.into(), None, None),
            (doc! {"batchSize": 0}.into(), None, None),
            (doc! {"batchSize": 1.5}.into(), None, None),
            (doc! {"batchSize": Bson::Null}.into(), None, Some(14)),
            (doc! {"batchSize": "x"}.into(), Some(14), Some(14)),
            (doc! {"batchSize": -1}.into(), Some(51024), Some(2)),
            (doc! {"batchSize": -1.5}.into(), Some(51024), Some(2)),
            (doc! {"x": 1, "batchSize": -1}.into(), Some(40415), Some(2)),
            (doc! {"batchSize": -1, "x": 1}.into(), Some(51024), Some(2)),
        ] {
            let bytes = bson::serialize_to_vec(&doc! {"listIndexes": "c", "cursor": &cursor});
            let bytes = bytes.unwrap();
            let command = Command::inner(Document::parse(&bytes).unwrap(), "d").unwrap();
            let code_of = |is_before_five| {
                let spec = look_up(command.name, "d").unwrap();
                let checked = check_list_cursor(spec, &command, is_before_five);
                checked.err().map(|refusal| refusal.code)
            };
            assert_eq!(
                (code_of(false), code_of(true)),
                (code, before_five),
                "{cursor}"
            );
        }
    }
}
