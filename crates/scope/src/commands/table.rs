//! The rows.

use super::{Action, Catalog, CommandSpec, Duty, Local, Rule};
use crate::arguments::{self, Argument};

const fn local(name: &'static str, local: Local, summary: &'static str) -> CommandSpec {
    CommandSpec {
        name,
        aliases: &[],
        duty: Duty::Local(local),
        action: Action::None,
        before_authentication: false,
        on_collection: false,
        arguments: &[],
        summary,
    }
}

/// A local command that is answered to those who have not authenticated.
const fn open(name: &'static str, local: Local, summary: &'static str) -> CommandSpec {
    CommandSpec {
        name,
        aliases: &[],
        duty: Duty::Local(local),
        action: Action::None,
        before_authentication: true,
        on_collection: false,
        arguments: &[],
        summary,
    }
}

/// The same with such fields.
const fn taking(mut spec: CommandSpec, arguments: &'static [Argument]) -> CommandSpec {
    spec.arguments = arguments;
    spec
}

/// A command on a collection, rewritten by its arguments.
const fn data(
    name: &'static str,
    action: Action,
    arguments: &'static [Argument],
    summary: &'static str,
) -> CommandSpec {
    CommandSpec {
        name,
        aliases: &[],
        duty: Duty::Forward(Rule::Body),
        action,
        before_authentication: false,
        on_collection: true,
        arguments,
        summary,
    }
}

const fn forward(
    name: &'static str,
    rule: Rule,
    arguments: &'static [Argument],
    summary: &'static str,
) -> CommandSpec {
    CommandSpec {
        name,
        aliases: &[],
        duty: Duty::Forward(rule),
        action: Action::None,
        before_authentication: false,
        on_collection: false,
        arguments,
        summary,
    }
}

const fn catalog(
    name: &'static str,
    catalog: Catalog,
    action: Action,
    arguments: &'static [Argument],
    summary: &'static str,
) -> CommandSpec {
    CommandSpec {
        name,
        aliases: &[],
        duty: Duty::Catalog(catalog),
        action,
        before_authentication: false,
        on_collection: true,
        arguments,
        summary,
    }
}

const fn also(mut row: CommandSpec, aliases: &'static [&'static str]) -> CommandSpec {
    row.aliases = aliases;
    row
}

const fn off_collection(mut row: CommandSpec) -> CommandSpec {
    row.on_collection = false;
    row
}

const CAPPED: &str = "the collection is shared with other apps; create a capped collection and write the documents to it";
const PLAN_CACHE: &str = "a filter holds for all queries of a shape, and apps that share the collection share the shapes; hint an index, or make the collection dedicated";

/// Every command that is not refused as a whole.
pub static COMMANDS: &[CommandSpec] = &[
    open(
        "hello",
        Local::Hello,
        "Answered by the proxy, also while the upstream is down.",
    ),
    also(
        open(
            "isMaster",
            Local::Hello,
            "As `hello`, with `ismaster` in place of `isWritablePrimary`.",
        ),
        &["ismaster"],
    ),
    open(
        "saslStart",
        Local::SaslStart,
        "Authentication against the credentials of the manifests.",
    ),
    open("saslContinue", Local::SaslContinue, "As `saslStart`."),
    open(
        "authenticate",
        Local::Authenticate,
        "Authentication by the client certificate of the connection (`MONGODB-X509`).",
    ),
    open(
        "logout",
        Local::Logout,
        "The connection is nobody's again; it may authenticate only as the same app.",
    ),
    open("ping", Local::Ping, "Answered by the proxy."),
    also(
        open(
            "buildInfo",
            Local::BuildInfo,
            "The version of the upstream, without its build environment.",
        ),
        &["buildinfo"],
    ),
    taking(
        open(
            "connectionStatus",
            Local::ConnectionStatus,
            "The credential, its roles and, if asked for, its privileges.",
        ),
        arguments::CONNECTION_STATUS,
    ),
    local(
        "usersInfo",
        Local::UsersInfo,
        "The credential that asks, without secrets; of others nothing is told.",
    ),
    open(
        "whatsmyuri",
        Local::WhatsMyUri,
        "The client's address as the proxy sees it.",
    ),
    data(
        "find",
        Action::Find,
        arguments::FIND,
        "The filter is joined to the app's condition; returned documents lose the scope field.",
    ),
    forward(
        "getMore",
        Rule::GetMore,
        arguments::GET_MORE,
        "Only on a cursor that the app opened; any other is answered as one that does not exist.",
    ),
    off_collection(catalog(
        "killCursors",
        Catalog::KillCursors,
        Action::None,
        arguments::KILL_CURSORS,
        "Cursors of the app are killed; any other is answered as one that does not exist.",
    )),
    data(
        "aggregate",
        Action::Find,
        arguments::AGGREGATE,
        "The app's condition comes first, in every sub-pipeline as well; stages by their own table.",
    ),
    data(
        "count",
        Action::Find,
        arguments::COUNT,
        "The query is joined to the app's condition.",
    ),
    data(
        "distinct",
        Action::Find,
        arguments::DISTINCT,
        "The query is joined to the app's condition.",
    ),
    data(
        "insert",
        Action::Insert,
        arguments::INSERT,
        "Every document is stamped with the app.",
    ),
    data(
        "update",
        Action::Update,
        arguments::UPDATE,
        "Every statement's filter is joined to the app's condition; the scope field cannot be changed.",
    ),
    data(
        "delete",
        Action::Remove,
        arguments::DELETE,
        "Every statement's filter is joined to the app's condition.",
    ),
    CommandSpec {
        action: Action::Update,
        ..forward(
            "bulkWrite",
            Rule::Bulk,
            arguments::BULK_WRITE,
            "Statements as in `insert`, `update` and `delete`, each in the collection that `nsInfo` names; 59 in front of servers before 8.0.",
        )
    },
    also(
        data(
            "findAndModify",
            Action::Update,
            arguments::FIND_AND_MODIFY,
            "As `update` or `delete`; the returned document loses the scope field.",
        ),
        &["findandmodify"],
    ),
    forward(
        "explain",
        Rule::Explain,
        arguments::EXPLAIN,
        "The inner command is rewritten by its own row; the plan speaks of the app's own terms.",
    ),
    catalog(
        "listCollections",
        Catalog::ListCollections,
        Action::ListCollections,
        arguments::LIST_COLLECTIONS,
        "The app's own collections.",
    ),
    off_collection(catalog(
        "listDatabases",
        Catalog::ListDatabases,
        Action::None,
        arguments::LIST_DATABASES,
        "The databases in which the app has collections.",
    )),
    catalog(
        "create",
        Catalog::Create,
        Action::CreateCollection,
        arguments::CREATE,
        "A collection of the app; options that cannot be shared are refused.",
    ),
    catalog(
        "drop",
        Catalog::Drop,
        Action::DropCollection,
        arguments::DROP,
        "The app's documents and indexes go; the physical collection stays.",
    ),
    off_collection(catalog(
        "dropDatabase",
        Catalog::DropDatabase,
        Action::DropCollection,
        arguments::DROP_DATABASE,
        "As `drop`, for each collection of the app in the database.",
    )),
    catalog(
        "createIndexes",
        Catalog::CreateIndexes,
        Action::CreateIndex,
        arguments::CREATE_INDEXES,
        "Indexes over the app's documents only.",
    ),
    catalog(
        "listIndexes",
        Catalog::ListIndexes,
        Action::ListIndexes,
        arguments::LIST_INDEXES,
        "The app's own definitions.",
    ),
    also(
        catalog(
            "dropIndexes",
            Catalog::DropIndexes,
            Action::DropIndex,
            arguments::DROP_INDEXES,
            "The app's own indexes only.",
        ),
        &["deleteIndexes"],
    ),
    also(
        catalog(
            "collStats",
            Catalog::CollStats,
            Action::CollStats,
            arguments::COLL_STATS,
            "The app's own figures: of its documents and indexes.",
        ),
        &["collstats"],
    ),
    also(
        off_collection(catalog(
            "dbStats",
            Catalog::DbStats,
            Action::DbStats,
            arguments::DB_STATS,
            "Sums over the app's own collections.",
        )),
        &["dbstats"],
    ),
    also(
        off_collection(catalog(
            "dataSize",
            Catalog::DataSize,
            Action::Find,
            arguments::DATA_SIZE,
            "The size of the app's own documents.",
        )),
        &["datasize"],
    ),
    catalog(
        "collMod",
        Catalog::CollMod,
        Action::CollMod,
        arguments::COLL_MOD,
        "On a shared collection an own index is hidden, shown, made unique or given another time to live; the rest needs a dedicated \
         one. A view is bound to the app anew.",
    ),
    off_collection(catalog(
        "renameCollection",
        Catalog::RenameCollection,
        Action::RenameCollection,
        arguments::RENAME_COLLECTION,
        "Within the database. The documents of a shared collection move in a transaction.",
    )),
    catalog(
        "convertToCapped",
        Catalog::Unshared(CAPPED),
        Action::ConvertToCapped,
        arguments::CONVERT_TO_CAPPED,
        "Dedicated collections; a shared one is refused with 13.",
    ),
    catalog(
        "cloneCollectionAsCapped",
        Catalog::Unshared(CAPPED),
        Action::Insert,
        arguments::CLONE_AS_CAPPED,
        "Dedicated collections; the new one is dedicated as well. A shared one is refused with 13.",
    ),
    catalog(
        "validate",
        Catalog::Validate,
        Action::Validate,
        arguments::VALIDATE,
        "Of a shared collection the proxy reads the app's documents and indexes, and compares them.",
    ),
    catalog(
        "planCacheClear",
        Catalog::PlanCache,
        Action::PlanCacheWrite,
        arguments::QUERY_SHAPE,
        "Of a shared collection the shape is checked, and the cache, which is every app's, left alone.",
    ),
    catalog(
        "planCacheListFilters",
        Catalog::PlanCache,
        Action::PlanCacheIndexFilter,
        &[],
        "Of a shared collection none: an app cannot set any.",
    ),
    catalog(
        "planCacheSetFilter",
        Catalog::Unshared(PLAN_CACHE),
        Action::PlanCacheIndexFilter,
        arguments::PLAN_CACHE_SET_FILTER,
        "Dedicated collections; a shared one is refused with 13.",
    ),
    catalog(
        "planCacheClearFilters",
        Catalog::PlanCache,
        Action::PlanCacheIndexFilter,
        arguments::QUERY_SHAPE,
        "As `planCacheClear`.",
    ),
    forward(
        "commitTransaction",
        Rule::Transaction,
        arguments::COMMIT_TRANSACTION,
        "The app's own transactions only: session ids are mapped per app.",
    ),
    forward(
        "abortTransaction",
        Rule::Transaction,
        arguments::ABORT_TRANSACTION,
        "As `commitTransaction`.",
    ),
    off_collection(catalog(
        "killAllSessions",
        Catalog::KillAllSessions,
        Action::KillAnySession,
        &[],
        "The app's own sessions that have a cursor, a transaction or an operation open at this proxy.",
    )),
    off_collection(catalog(
        "currentOp",
        Catalog::CurrentOp,
        Action::None,
        arguments::CURRENT_OP,
        "Operations of the user at this proxy; with `dbAdmin` those of all users of the app. The proxy tests the conditions.",
    )),
    off_collection(catalog(
        "killOp",
        Catalog::KillOp,
        Action::None,
        arguments::KILL_OP,
        "Ends an operation that `currentOp` shows.",
    )),
    local("startSession", Local::StartSession, "A new session id."),
    forward(
        "endSessions",
        Rule::Sessions,
        &[],
        "Session ids are mapped per app.",
    ),
    forward(
        "refreshSessions",
        Rule::Sessions,
        &[],
        "Session ids are mapped per app.",
    ),
    forward(
        "killSessions",
        Rule::Sessions,
        &[],
        "Session ids are mapped per app; an empty list stands for all of the app's, as in `killAllSessions`.",
    ),
    local(
        "getLog",
        Local::GetLog,
        "`startupWarnings` is empty; others are refused.",
    ),
    local(
        "getCmdLineOpts",
        Local::GetCmdLineOpts,
        "Empty: the server's options are not the app's to see.",
    ),
    local(
        "getParameter",
        Local::GetParameter,
        "What test suites and tools ask for, among it `featureCompatibilityVersion`; others are not found.",
    ),
    local(
        "serverStatus",
        Local::ServerStatus,
        "Version, uptime and the app's connections only.",
    ),
    local(
        "hostInfo",
        Local::HostInfo,
        "Empty: the upstream's hosts are not the app's to see.",
    ),
    local(
        "listCommands",
        Local::ListCommands,
        "The commands of this table.",
    ),
    local(
        "getFreeMonitoringStatus",
        Local::GetFreeMonitoringStatus,
        "Disabled.",
    ),
];
