//! What every command that the proxy answers itself refuses, as a mongod refuses it (6.0.5).

use mdb_wire::Command;

use crate::apply::check_sequences;
use crate::commands::CommandSpec;
use crate::refusal::Refusal;
use crate::{body, namespace};

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

/// Checks the fields of a command that the proxy composes itself.
pub fn check_catalog_command(
    spec: &'static CommandSpec,
    command: &Command<'_>,
    control_database: &str,
) -> Result<(), Refusal> {
    body::check_fields(spec, command)?;
    check_sequences(spec, command)?;
    check_composed(spec, command)?;
    if !spec.on_collection && !matches!(spec.name, "dropDatabase" | "dbStats" | "dataSize") {
        return Ok(());
    }
    namespace::check_database(command, control_database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::look_up;
    use bson::{Document as Doc, doc};
    use mdb_wire::Document;

    fn code(body: &Doc) -> Option<i32> {
        let bytes = bson::serialize_to_vec(body).unwrap();
        let command = Command::inner(Document::parse(&bytes).unwrap(), "d").unwrap();
        let spec = look_up(command.name, "d").unwrap();
        check_composed(spec, &command)
            .err()
            .map(|refusal| refusal.code)
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
}
