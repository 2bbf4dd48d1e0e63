//! Names of databases and collections that an app may use.

use mdb_wire::{Command, Kind};

use crate::refusal::Refusal;

/// Databases that belong to servers.
const SERVER_DATABASES: &[&str] = &["admin", "local", "config", "$external"];

/// Subtype of a binary that is a UUID (BSON specification).
const UUID: u8 = 4;

/// Bytes of `database.collection` (mongod 4.4 and later).
pub const NAMESPACE_BYTES_MAX: usize = 255;

/// Checks that an app may have documents in a database.
///
/// # Errors
/// 13 for the databases of servers and for the proxy's own.
pub fn check_database(command: &Command<'_>, control_database: &str) -> Result<(), Refusal> {
    check_name(command, command.database, control_database)
}

fn check_name(
    command: &Command<'_>,
    database: &str,
    control_database: &str,
) -> Result<(), Refusal> {
    if is_reserved(database, control_database) {
        let name = String::from_utf8_lossy(command.name);
        return Err(not_of_an_app(&name, database));
    }
    Ok(())
}

fn is_reserved(database: &str, control_database: &str) -> bool {
    SERVER_DATABASES.contains(&database) || database == control_database
}

fn not_of_an_app(command: &str, database: &str) -> Refusal {
    Refusal::unauthorized(format!(
        "not authorized on {database} to execute command {{ {command}: ... }}: the database does not belong to an app"
    ))
}

/// Checks that a command may look at a collection at all: the database and the name.
///
/// # Errors
/// 13 and 73, as for the parts.
pub fn check_namespace(
    command: &Command<'_>,
    database: &str,
    collection: &str,
    control_database: &str,
) -> Result<(), Refusal> {
    check_name(command, database, control_database)?;
    check_collection(collection)
}

/// Checks the names of a collection that may be in another database than the command's.
///
/// # Errors
/// 13 for a database that is no app's, 73 for a name that none can have.
pub(crate) fn check_elsewhere(
    command: &str,
    database: &str,
    collection: &str,
    control_database: &str,
) -> Result<(), Refusal> {
    check_other_database(command, database, control_database)?;
    check_collection(collection)
}

/// Checks the name of a database that may be another one than the command's.
///
/// # Errors
/// 13 for one that is no app's, 73 for a name that none can have.
pub(crate) fn check_other_database(
    command: &str,
    database: &str,
    control_database: &str,
) -> Result<(), Refusal> {
    if !mdb_wire::is_legal_database(database) {
        return Err(Refusal::invalid_namespace(format!(
            "Invalid database name: '{database}'"
        )));
    }
    if is_reserved(database, control_database) {
        return Err(not_of_an_app(command, database));
    }
    Ok(())
}

/// Checks the name of a collection.
///
/// # Errors
/// 73 for a name that no collection can have, or that belongs to servers or to the proxy.
pub fn check_collection(name: &str) -> Result<(), Refusal> {
    let illegal = |why: &str| {
        Err(Refusal::invalid_namespace(format!(
            "Invalid collection name '{name}': {why}"
        )))
    };
    if name.is_empty() {
        return illegal("it is empty");
    }
    if name.contains('\0') || name.contains('$') {
        return illegal("it holds '$' or a zero byte");
    }
    if name.contains('@') {
        return illegal("names with '@' belong to the proxy");
    }
    if name.starts_with("system.") {
        return illegal("names beginning with 'system.' belong to the server");
    }
    if name.starts_with("tmp.agg_out.") {
        return illegal("names beginning with 'tmp.agg_out.' belong to the server");
    }
    if name.starts_with('.') {
        return illegal("it begins with '.'");
    }
    Ok(())
}

/// Reads and checks the collection that a command works on.
pub fn collection_of<'a>(command: &Command<'a>) -> Result<&'a str, Refusal> {
    let Some(name) = command.target.as_str() else {
        return Err(not_a_name(command));
    };
    if name.is_empty() {
        let database = command.database;
        let text = format!("Invalid namespace specified '{database}.'");
        return Err(Refusal::invalid_namespace(text));
    }
    check_collection(name)?;
    check_length(command.database, name)?;
    Ok(name)
}

/// No string where a collection should be named, by the codes of a mongod 6.0.5 with access control, where the check
/// of privileges reads the name first: `find` then says 73 and not 2, and a UUID needs a privilege that no role for
/// applications has.
fn not_a_name(command: &Command<'_>) -> Refusal {
    let target = &command.target;
    let kind = target.kind.name();
    let is_uuid = target
        .as_binary()
        .is_some_and(|(subtype, _)| subtype == UUID);
    let is_number = target.kind != Kind::Boolean && target.as_flag().is_some();
    match command.name {
        b"aggregate" if is_number => Refusal::failed_to_parse(
            "Invalid command format: the 'aggregate' field must specify a collection name or 1",
        ),
        b"aggregate" => Refusal::type_mismatch(format!("collection name has invalid type: {kind}")),
        b"find" | b"count" | b"distinct" | b"listIndexes" if is_uuid => {
            let name = String::from_utf8_lossy(command.name);
            Refusal::unauthorized(format!(
                "not authorized on {} to execute command {{ {name}: UUID(...) }}: collections go by their names",
                command.database
            ))
        }
        b"find" | b"count" | b"distinct" => {
            Refusal::invalid_namespace("Failed to parse namespace element")
        }
        b"collStats"
        | b"validate"
        | b"convertToCapped"
        | b"planCacheClear"
        | b"planCacheListFilters"
        | b"planCacheSetFilter"
        | b"planCacheClearFilters" => {
            Refusal::invalid_namespace(format!("collection name has invalid type {kind}"))
        }
        _ => Refusal::bad_value(format!("collection name has invalid type {kind}")),
    }
}

/// Checks the length of a namespace.
///
/// # Errors
/// 73 beyond [`NAMESPACE_BYTES_MAX`].
pub(crate) fn check_length(database: &str, name: &str) -> Result<(), Refusal> {
    let bytes = database.len().saturating_add(1).saturating_add(name.len());
    if bytes > NAMESPACE_BYTES_MAX {
        return Err(Refusal::invalid_namespace(format!(
            "Fully qualified namespace is too long. Namespace: {database}.{name} Max: {NAMESPACE_BYTES_MAX}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collection_names() {
        for good in ["a", "fs.chunks", "a.b.c", "é", "system", "a-b c"] {
            assert!(check_collection(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a$b",
            "$cmd",
            "a\0b",
            "system.users",
            "system.",
            "a@b",
            ".a",
            "tmp.agg_out.x",
        ] {
            assert_eq!(check_collection(bad).unwrap_err().code, 73, "{bad}");
        }
    }
}
