//! `$currentOp`: the operations of the app, which only the proxy can tell from others.

use mdb_wire::{Command, Element, Kind};

use crate::refusal::Refusal;

/// Which operations a `$currentOp` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationsStage {
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
/// 73 on another database than `admin`, 9 for what the stage cannot say: in the words of mongod 6.0.5.
pub fn operations_stage(command: &Command<'_>) -> Result<Option<OperationsStage>, Refusal> {
    let first = || {
        let pipeline = command.body.find("pipeline")?.as_array()?;
        pipeline.first()?.as_document()?.first()
    };
    if command.name != b"aggregate" || command.target.as_integer() != Some(1) {
        return Ok(None);
    }
    let Some(stage) = first().filter(|stage| stage.key == b"$currentOp") else {
        return Ok(None);
    };
    if command.database != "admin" {
        return Err(misplaced());
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
        all_users: flag("allUsers"),
    }))
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

/// Anywhere else, in the words of mongod 6.0.5.
pub(super) fn misplaced() -> Refusal {
    Refusal::invalid_namespace(
        "$currentOp must be run against the 'admin' database with {aggregate: 1}",
    )
}
