//! COMMANDS: one row per MongoDB command. Absence means no.

use crate::arguments::Argument;
use crate::refusal::Refusal;

mod refused;
mod servers;
mod table;

pub use refused::{REFUSED, RefusedGroup};
pub use servers::{DATED, Dated, servers_of, since};
pub use table::COMMANDS;

/// What a command needs from the roles of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing beyond being this app (or nobody yet, for the hand-shake).
    None,
    /// Reading documents: `read` or `readWrite`.
    Find,
    /// `readWrite`.
    Insert,
    /// `readWrite`.
    Update,
    /// `readWrite`.
    Remove,
    /// `read`, `readWrite` or `dbAdmin`.
    ListCollections,
    /// `read`, `readWrite` or `dbAdmin`.
    ListIndexes,
    /// `readWrite` or `dbAdmin`.
    CreateCollection,
    /// `readWrite` or `dbAdmin`.
    DropCollection,
    /// `readWrite` or `dbAdmin`.
    CreateIndex,
    /// `readWrite` or `dbAdmin`.
    DropIndex,
    /// `dbAdmin`.
    BypassDocumentValidation,
    /// `dbAdmin`.
    KillAnySession,
    /// `read`, `readWrite` or `dbAdmin`.
    CollStats,
    /// `read`, `readWrite` or `dbAdmin`.
    DbStats,
    /// `read`, `readWrite` or `dbAdmin`; on servers no role of one database has it, but here the figures are the app's own.
    IndexStats,
    /// `read`, `readWrite` or `dbAdmin`.
    PlanCacheRead,
    /// `dbAdmin`.
    PlanCacheWrite,
    /// `dbAdmin`.
    PlanCacheIndexFilter,
    /// `dbAdmin`.
    CollMod,
    /// `dbAdmin`.
    Validate,
    /// `readWrite` or `dbAdmin`.
    ConvertToCapped,
    /// `readWrite` or `dbAdmin`.
    RenameCollection,
}

impl Action {
    /// MongoDB's name of the privilege action.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Find => "find",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Remove => "remove",
            Self::ListCollections => "listCollections",
            Self::ListIndexes => "listIndexes",
            Self::CreateCollection => "createCollection",
            Self::DropCollection => "dropCollection",
            Self::CreateIndex => "createIndex",
            Self::DropIndex => "dropIndex",
            Self::BypassDocumentValidation => "bypassDocumentValidation",
            Self::KillAnySession => "killAnySession",
            Self::CollStats => "collStats",
            Self::DbStats => "dbStats",
            Self::IndexStats => "indexStats",
            Self::PlanCacheRead => "planCacheRead",
            Self::PlanCacheWrite => "planCacheWrite",
            Self::PlanCacheIndexFilter => "planCacheIndexFilter",
            Self::CollMod => "collMod",
            Self::Validate => "validate",
            Self::ConvertToCapped => "convertToCapped",
            Self::RenameCollection => "renameCollectionSameDB",
        }
    }
}

/// Commands that the proxy answers from what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// `hello`, `isMaster`.
    Hello,
    /// `saslStart`.
    SaslStart,
    /// `saslContinue`.
    SaslContinue,
    /// `authenticate`.
    Authenticate,
    /// `logout`.
    Logout,
    /// `ping`.
    Ping,
    /// `buildInfo`.
    BuildInfo,
    /// `connectionStatus`.
    ConnectionStatus,
    /// `usersInfo`.
    UsersInfo,
    /// `whatsmyuri`.
    WhatsMyUri,
    /// `startSession`.
    StartSession,
    /// `getLog`.
    GetLog,
    /// `getCmdLineOpts`.
    GetCmdLineOpts,
    /// `getParameter`.
    GetParameter,
    /// `serverStatus`.
    ServerStatus,
    /// `hostInfo`.
    HostInfo,
    /// `listCommands`.
    ListCommands,
    /// `getFreeMonitoringStatus`.
    GetFreeMonitoringStatus,
}

/// Commands that the proxy composes of what the catalog and the upstream know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Catalog {
    /// `listCollections`.
    ListCollections,
    /// `listDatabases`.
    ListDatabases,
    /// `create`.
    Create,
    /// `drop`.
    Drop,
    /// `dropDatabase`.
    DropDatabase,
    /// `createIndexes`.
    CreateIndexes,
    /// `listIndexes`.
    ListIndexes,
    /// `dropIndexes`.
    DropIndexes,
    /// `killCursors`.
    KillCursors,
    /// `currentOp`.
    CurrentOp,
    /// `killOp`.
    KillOp,
    /// `killAllSessions`.
    KillAllSessions,
    /// `collStats`.
    CollStats,
    /// `dbStats`.
    DbStats,
    /// `dataSize`.
    DataSize,
    /// `collMod`.
    CollMod,
    /// `renameCollection`.
    RenameCollection,
    /// `planCacheClear`, `planCacheClearFilters`, `planCacheListFilters`.
    PlanCache,
    /// `validate`.
    Validate,
    /// Forwarded for a collection that is the app's own; on a shared one refused with 13: why, and what to do instead.
    Unshared(&'static str),
}

/// How a command that goes upstream is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The body is walked by its argument table.
    Body,
    /// `getMore`: the cursor's own row decides.
    GetMore,
    /// `bulkWrite`: each statement by the row of its own command.
    Bulk,
    /// `explain`: the inner command by its own row.
    Explain,
    /// `endSessions` and its like: an array of session ids.
    Sessions,
    /// `commitTransaction`, `abortTransaction`.
    Transaction,
}

/// Who does a command.
#[derive(Debug, Clone, Copy)]
pub enum Duty {
    /// The proxy alone.
    Local(Local),
    /// The upstream, after rewriting.
    Forward(Rule),
    /// The proxy, by asking the upstream in its own name.
    Catalog(Catalog),
    /// Nobody: a code and what to do instead.
    Refuse(Denial),
}

/// How a known command is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denial {
    /// 13: not for an app. Tools take it for "not available" and go on.
    Policy,
    /// 59, as a server that does not have the command.
    Unknown,
    /// 31082: no search here.
    Search,
    /// 76: what a server without replication says; shells then show a plain prompt.
    NoReplication,
}

/// One row.
#[derive(Debug)]
pub struct CommandSpec {
    /// The name, as the server spells it.
    pub name: &'static str,
    /// Other spellings that the server takes.
    pub aliases: &'static [&'static str],
    /// Who does it.
    pub duty: Duty,
    /// What it needs from the roles. Stages and statements may need more.
    pub action: Action,
    /// Whether it is answered before authentication.
    pub before_authentication: bool,
    /// Whether it works on one collection, named by its first field.
    pub on_collection: bool,
    /// The fields that it may have besides the generic ones.
    pub arguments: &'static [Argument],
    /// One sentence for the documentation: what happens, or why not and what to do instead.
    pub summary: &'static str,
}

impl CommandSpec {
    /// Its place in [`COMMANDS`], for tables of metrics.
    pub fn index(&self) -> usize {
        COMMANDS
            .iter()
            .position(|row| row.name == self.name)
            .unwrap_or(COMMANDS.len())
    }
}

/// The row of a command name, aliases included. Names are case-sensitive, as on the server.
///
/// # Errors
/// 59 for a name that no server knows, 13 for one that is known and has no row.
pub fn look_up(name: &[u8], database: &str) -> Result<&'static CommandSpec, Refusal> {
    let row = COMMANDS.iter().find(|row| {
        row.name.as_bytes() == name || row.aliases.iter().any(|a| a.as_bytes() == name)
    });
    if let Some(row) = row {
        return Ok(row);
    }
    let name: String = String::from_utf8_lossy(name)
        .chars()
        .take(NAME_CHARS_MAX)
        .collect();
    Err(match refused::group_of(&name) {
        Some(group) => group.refusal(&name, database),
        None => Refusal::command_not_found(format!("no such command: '{name}'")),
    })
}

/// How much of an unknown name a reply repeats.
const NAME_CHARS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_has_one_meaning() {
        let mut names: Vec<&str> = COMMANDS
            .iter()
            .flat_map(|row| row.aliases.iter().copied().chain([row.name]))
            .chain(REFUSED.iter().flat_map(|g| g.names.iter().copied()))
            .collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_name_that_not_every_mongod_has_is_one_of_a_row() {
        let rows: Vec<&str> = COMMANDS
            .iter()
            .flat_map(|row| row.aliases.iter().copied().chain([row.name]))
            .chain(REFUSED.iter().flat_map(RefusedGroup::rows))
            .collect();
        let mut seen = Vec::new();
        for name in DATED.iter().flat_map(|dated| dated.names) {
            assert!(rows.contains(name), "{name} has no row");
            assert!(!seen.contains(name), "{name} stands twice");
            seen.push(*name);
        }
    }

    #[test]
    fn aliases_find_their_row_and_case_matters() {
        let name = |n: &str| look_up(n.as_bytes(), "x").map(|row| row.name);
        assert_eq!(name("findandmodify"), Ok("findAndModify"));
        assert_eq!(name("ismaster"), Ok("isMaster"));
        assert_eq!(name("Find").unwrap_err().code, 59);
        assert_eq!(name("eval").unwrap_err().code, 59);
        assert_eq!(name("applyOps").unwrap_err().code, 13);
        assert_eq!(name("_internalAnything").unwrap_err().code, 13);
        assert_eq!(name("collstats"), Ok("collStats"));
    }

    #[test]
    fn only_the_hand_shake_is_answered_to_strangers() {
        let open: Vec<_> = COMMANDS
            .iter()
            .filter(|row| row.before_authentication)
            .map(|row| row.name)
            .collect();
        assert_eq!(
            open,
            [
                "hello",
                "isMaster",
                "saslStart",
                "saslContinue",
                "authenticate",
                "logout",
                "ping",
                "buildInfo",
                "connectionStatus",
                "whatsmyuri"
            ]
        );
    }
}
