//! `$currentOp` and `$listLocalSessions`: operations and sessions of the app, which only the proxy can tell from others.

use mdb_wire::{Command, Element, Kind};

use crate::refusal::Refusal;

/// Which operations or sessions a stage asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationsStage {
    /// Whether it is `$listLocalSessions`.
    pub lists_sessions: bool,
    /// Those of all users of the app, not of the calling one only.
    pub all_users: bool,
}

/// What a `$currentOp` may say, as mongod 4.4 to 8.0. Idle connections and sessions have no operations.
const OPTIONS: &[&[u8]] = &[
    b"allUsers",
    b"idleConnections",
    b"idleCursors",
    b"idleSessions",
    b"localOps",
    b"truncateOps",
    b"backtrace",
    b"targetAllNodes",
];

/// The stage, if an `aggregate` without a collection begins with it.
///
/// # Errors
/// 73 on another database than `admin`, 9 for what the stage cannot say: in the words of mongod 6.0.5; of transactions also in
/// those of 4.4.2.
pub fn operations_stage(
    command: &Command<'_>,
    is_before_five: bool,
) -> Result<Option<OperationsStage>, Refusal> {
    let first = || {
        let pipeline = command.body.find("pipeline")?.as_array()?;
        pipeline.first()?.as_document()?.first()
    };
    if command.name != b"aggregate" || command.target.as_integer() != Some(1) {
        return Ok(None);
    }
    let named = |stage: &Element<'_>| matches!(stage.key, b"$currentOp" | b"$listLocalSessions");
    let Some(stage) = first().filter(named) else {
        return Ok(None);
    };
    let lists_sessions = stage.key == b"$listLocalSessions";
    if command.body.find("autocommit").is_some() {
        return Err(Refusal::not_in_transaction(
            if is_before_five && command.database == "admin" {
                "Cannot run command against the 'admin' database in a transaction.".to_owned()
            } else {
                format!(
                    "Operation not permitted in transaction :: caused by :: Aggregation stage {} cannot run within a multi-document transaction.",
                    stage.name()
                )
            },
        ));
    }
    // A server lists sessions in any database; the app's are not of one.
    if command.database != "admin" && !lists_sessions {
        return Err(misplaced());
    }
    if lists_sessions {
        return sessions(&stage).map(Some);
    }
    let Some(options) = stage.as_document() else {
        let found = stage.kind.name();
        return Err(Refusal::failed_to_parse(format!(
            "$currentOp options must be specified in an object, but found: {found}"
        )));
    };
    options.elements().try_for_each(|option| check(&option))?;
    let flag = |name: &str| options.find(name).and_then(|e| e.as_flag()) == Some(true);
    Ok(Some(OperationsStage {
        lists_sessions,
        all_users: flag("allUsers"),
    }))
}

/// `{}` for the calling user, `{allUsers: true}`; users by name are not told from each other.
fn sessions(stage: &Element<'_>) -> Result<OperationsStage, Refusal> {
    let Some(options) = stage.as_document() else {
        return Err(Refusal::type_mismatch(format!(
            "BSON field '$listLocalSessions' is the wrong type '{}', expected type 'object'",
            stage.kind.name()
        )));
    };
    if let Some(unknown) = options.elements().find(|o| o.key != b"allUsers") {
        return Err(Refusal::unknown_field(format!(
            "BSON field '$listLocalSessions.{}' is an unknown field.",
            unknown.name()
        )));
    }
    let all_users = options.find("allUsers");
    if let Some(wrong) = all_users.filter(|e| e.kind != Kind::Boolean) {
        let path = "$listLocalSessions.allUsers";
        return Err(Refusal::wrong_kind(path, wrong.kind.name(), "bool"));
    }
    let all_users = all_users.and_then(|e| e.as_flag());
    Ok(OperationsStage {
        lists_sessions: true,
        all_users: all_users == Some(true),
    })
}

fn check(option: &Element<'_>) -> Result<(), Refusal> {
    let name = option.name();
    if !OPTIONS.contains(&option.key) {
        let text = format!("Unrecognized option '{name}' in $currentOp stage.");
        return Err(Refusal::failed_to_parse(text));
    }
    if option.kind != Kind::Boolean {
        return Err(Refusal::failed_to_parse(format!(
            "The '{name}' parameter of the $currentOp stage must be a boolean value, but found: {}",
            option.kind.name()
        )));
    }
    Ok(())
}

/// Where a stage cannot stand.
pub(super) fn refused(stage: &str) -> Refusal {
    match stage {
        "$currentOp" => misplaced(),
        _ => Refusal::misplaced_stage(format!(
            "{stage} is only valid as the first stage in a pipeline"
        )),
    }
}

/// Anywhere else, in the words of mongod 6.0.5.
fn misplaced() -> Refusal {
    Refusal::invalid_namespace(
        "$currentOp must be run against the 'admin' database with {aggregate: 1}",
    )
}
