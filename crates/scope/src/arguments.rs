//! The fields that commands and statements may have, and what is done with each. A field without a row is refused.

use mdb_wire::Element;

use crate::commands::CommandSpec;
use crate::refusal::Refusal;
use crate::versions::{FIRST_RELEASE, Release, V5_0, V6_0, V7_0, V8_0, V8_1, V8_2, Versions};

/// One field of a command or statement.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What is done with it.
    pub take: Take,
    /// Servers that take it.
    pub versions: Versions,
    /// The release of this program since which the row is as it is.
    pub since: &'static str,
}

impl Argument {
    const fn from(mut self, first: Release) -> Self {
        self.versions = Versions::from(first);
        self
    }

    const fn until(mut self, last: Release) -> Self {
        self.versions = self.versions.until(last);
        self
    }
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Copied as it is.
    Pass,
    /// Accepted, and not forwarded.
    Drop,
    /// Whether validators are passed over: copied where what the command writes is the app's own, dropped on a shared one.
    Bypass,
    /// A filter: joined to the app's condition, and present even where the client sent none.
    Filter,
    /// A projection.
    Projection,
    /// A sort.
    Sort,
    /// An index, by name or key: the app's own definition is replaced by the physical one.
    Hint,
    /// The lower or upper bound of an index scan.
    Bound,
    /// Options of a cursor: only those that are known.
    Cursor,
    /// A collation: it decides how the app's condition is written.
    Collation,
    /// Variables: an expression each.
    Let,
    /// An aggregation pipeline.
    Pipeline,
    /// `insert`'s documents.
    Documents,
    /// `update`'s statements.
    Updates,
    /// `delete`'s statements.
    Deletes,
    /// An update: operators, replacement or pipeline.
    Update,
    /// Conditions on array elements.
    ArrayFilters,
    /// `distinct`'s key.
    Key,
    /// `lsid`: the id is mapped into the app's own space.
    Session,
    /// `readConcern`: four members are known.
    ReadConcern,
    /// `writeConcern`: five members are known.
    WriteConcern,
    /// Read by the proxy to choose a server.
    ReadPreference,
    /// As `ReadPreference`, the way old drivers put it.
    QueryOptions,
    /// Read by the rule itself, which writes it.
    Own,
    /// A condition on what the reply lists; a path below the name is one as well.
    Condition,
    /// Copied where the collection is the app's own, refused with 72 on a shared one: why.
    Unshared(&'static str),
    /// Never, with 72: why not.
    Refuse(&'static str),
    /// Never, with 40415 as from a server that does not have it: why not.
    Withhold(&'static str),
}

const fn arg(name: &'static str, take: Take) -> Argument {
    Argument {
        name,
        take,
        versions: Versions::ALL,
        since: FIRST_RELEASE,
    }
}

const fn withhold(name: &'static str, why: &'static str) -> Argument {
    arg(name, Take::Withhold(why))
}

const PASS: Take = Take::Pass;

const BETWEEN_SERVERS: &str = "only servers say it to each other";
const OTHER_USER: &str = "it speaks in another user's name";
const CLOCK: &str = "it would move a clock of the whole deployment";
const UUID: &str = "it names the physical collection, which is shared with other apps";
const RECORDS: &str = "record ids count the inserts of all apps";
const ENCRYPTION: &str = "it names physical collections; queryable encryption is not available";
const BUCKETS: &str = "it reads or writes how a time-series collection is stored";
const OPLOG: &str = "it is for reading the oplog";
const STATISTICS: &str = "it asks for statistics of the server";
const DEPRECATED: &str = "servers ignore it or took it out";
const CONSTANTS: &str = "only servers set it; use let";

/// Fields that every forwarded command may have.
pub static GENERIC: &[Argument] = &[
    arg("$db", Take::Own),
    arg("lsid", Take::Session),
    // The proxy sends the newest cluster time it has seen: on a server without authentication a client's value
    // would move the clock of the whole cluster.
    arg("$clusterTime", Take::Own),
    arg("$readPreference", Take::ReadPreference),
    arg("$queryOptions", Take::QueryOptions),
    arg("txnNumber", PASS),
    arg("autocommit", PASS),
    arg("startTransaction", PASS),
    arg("stmtId", PASS),
    arg("stmtIds", PASS),
    arg("recoveryToken", PASS),
    arg("readConcern", Take::ReadConcern),
    arg("writeConcern", Take::WriteConcern),
    arg("maxTimeMS", PASS),
    arg("comment", PASS),
    arg("apiVersion", PASS).from(V5_0),
    arg("apiStrict", PASS).from(V5_0),
    arg("apiDeprecationErrors", PASS).from(V5_0),
    withhold("$audit", OTHER_USER),
    withhold("$tenant", OTHER_USER).from(V6_0),
    withhold("$client", BETWEEN_SERVERS),
    withhold("$configServerState", CLOCK),
    withhold("$configTime", CLOCK).from(V5_0),
    withhold("$topologyTime", CLOCK).from(V5_0),
    withhold("$oplogQueryData", OPLOG),
    withhold("$replData", BETWEEN_SERVERS),
    withhold("shardVersion", BETWEEN_SERVERS),
    withhold("databaseVersion", BETWEEN_SERVERS),
    withhold("coordinator", BETWEEN_SERVERS),
    withhold("txnRetryCounter", BETWEEN_SERVERS).from(V6_0),
    withhold("clientOperationKey", BETWEEN_SERVERS).from(V5_0),
    withhold("maxTimeMSOpOnly", BETWEEN_SERVERS).from(V5_0),
    withhold("mayBypassWriteBlocking", BETWEEN_SERVERS).from(V6_0),
    withhold("allowImplicitCollectionCreation", BETWEEN_SERVERS),
    withhold("tracking_info", BETWEEN_SERVERS),
    withhold("expectPrefix", BETWEEN_SERVERS).from(V7_0),
    withhold("requestGossipRoutingCache", BETWEEN_SERVERS).from(V8_0),
    withhold("versionContext", BETWEEN_SERVERS).from(V8_1),
    withhold("$traceCtx", BETWEEN_SERVERS).from(V8_2),
    withhold("rawData", BUCKETS).from(V8_1),
];

/// `find`.
pub(crate) static FIND: &[Argument] = &[
    arg("filter", Take::Filter),
    arg("projection", Take::Projection),
    arg("sort", Take::Sort),
    arg("hint", Take::Hint),
    arg("skip", PASS),
    arg("limit", PASS),
    arg("batchSize", PASS),
    arg("singleBatch", PASS),
    arg("min", Take::Bound),
    arg("max", Take::Bound),
    arg("returnKey", PASS),
    arg(
        "showRecordId",
        Take::Unshared("record ids count the inserts of all apps"),
    ),
    arg("tailable", PASS),
    arg("awaitData", PASS),
    arg("noCursorTimeout", PASS),
    arg("allowPartialResults", PASS),
    arg("allowDiskUse", PASS),
    arg("oplogReplay", Take::Drop),
    arg("collation", Take::Collation),
    arg("let", Take::Let).from(V5_0),
    withhold(
        "ntoreturn",
        "it belongs to the protocol before OP_MSG; use limit and batchSize",
    ),
    withhold("options", DEPRECATED).from(V5_0),
    withhold("term", OPLOG),
    withhold("readOnce", BETWEEN_SERVERS),
    withhold("allowSpeculativeMajorityRead", OPLOG),
    withhold("$_requestResumeToken", RECORDS),
    withhold("$_resumeAfter", RECORDS),
    withhold("$_startAt", RECORDS).from(V8_0),
    withhold("runtimeConstants", CONSTANTS),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("includeQueryStatsMetrics", STATISTICS).from(V8_0),
    withhold("querySettings", "settings of queries are the server's").from(V8_0),
    withhold("originalQueryShapeHash", BETWEEN_SERVERS).from(V8_2),
];

/// `getMore`.
pub(crate) static GET_MORE: &[Argument] = &[
    arg("collection", Take::Own),
    arg("batchSize", PASS),
    withhold("term", OPLOG),
    withhold("lastKnownCommittedOpTime", OPLOG),
    withhold("includeQueryStatsMetrics", STATISTICS).from(V8_0),
];

/// `killCursors`.
pub(crate) static KILL_CURSORS: &[Argument] = &[arg("cursors", Take::Own)];

/// `currentOp`.
pub(crate) static CURRENT_OP: &[Argument] = &[
    arg("$all", Take::Drop),
    arg("$ownOps", Take::Own),
    arg("$truncateOps", Take::Drop),
    arg("$and", Take::Condition),
    arg("$or", Take::Condition),
    arg("$nor", Take::Condition),
    arg("type", Take::Condition),
    arg("desc", Take::Condition),
    arg("connectionId", Take::Condition),
    arg("client", Take::Condition),
    arg("appName", Take::Condition),
    arg("active", Take::Condition),
    arg("effectiveUsers", Take::Condition),
    arg("opid", Take::Condition),
    arg("lsid", Take::Condition),
    arg("secs_running", Take::Condition),
    arg("microsecs_running", Take::Condition),
    arg("op", Take::Condition),
    arg("ns", Take::Condition),
    arg("command", Take::Condition),
    arg("waitingForLock", Take::Condition),
];

/// `killOp`.
pub(crate) static KILL_OP: &[Argument] = &[arg("op", Take::Own)];

/// `aggregate`.
pub(crate) static AGGREGATE: &[Argument] = &[
    arg("pipeline", Take::Pipeline),
    arg("cursor", Take::Cursor),
    arg("explain", Take::Own),
    arg("allowDiskUse", PASS),
    arg("hint", Take::Hint),
    arg("collation", Take::Collation),
    arg("let", Take::Let).from(V5_0),
    arg("bypassDocumentValidation", Take::Bypass),
    withhold("needsMerge", BETWEEN_SERVERS),
    withhold("fromMongos", BETWEEN_SERVERS),
    withhold("fromRouter", BETWEEN_SERVERS).from(V8_1),
    withhold("exchange", BETWEEN_SERVERS),
    withhold("runtimeConstants", CONSTANTS),
    withhold("isMapReduceCommand", BETWEEN_SERVERS),
    withhold("use44SortKeys", BETWEEN_SERVERS).until(V5_0),
    withhold("useNewUpsert", BETWEEN_SERVERS).until(V5_0),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("$_requestReshardingResumeToken", OPLOG).from(V5_0),
    withhold("$_passthroughToShard", BETWEEN_SERVERS).from(V6_0),
    withhold("$_generateV2ResumeTokens", BETWEEN_SERVERS).from(V6_0),
    withhold(
        "$_externalDataSources",
        "it reads files and pipes of the server",
    )
    .from(V7_0),
    withhold("$_isClusterQueryWithoutShardKeyCmd", BETWEEN_SERVERS).from(V7_0),
    withhold("$_requestResumeToken", RECORDS).from(V8_0),
    withhold("$_resumeAfter", RECORDS).from(V8_0),
    withhold("$_startAt", RECORDS).from(V8_0),
    withhold("includeQueryStatsMetrics", STATISTICS).from(V8_0),
    withhold("querySettings", "settings of queries are the server's").from(V8_0),
    withhold("isHybridSearch", BETWEEN_SERVERS).from(V8_1),
    withhold("originalQueryShapeHash", BETWEEN_SERVERS).from(V8_2),
];

/// `count`.
pub(crate) static COUNT: &[Argument] = &[
    arg("query", Take::Filter),
    arg("limit", PASS),
    arg("skip", PASS),
    arg("hint", Take::Hint),
    arg("fields", Take::Drop),
    arg("collation", Take::Collation),
    withhold("collectionUUID", UUID).from(V7_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("includeQueryStatsMetrics", STATISTICS).from(V8_1),
];

/// `distinct`.
pub(crate) static DISTINCT: &[Argument] = &[
    arg("key", Take::Key),
    arg("query", Take::Filter),
    arg("hint", Take::Hint).from(V8_0),
    arg("collation", Take::Collation),
    withhold("collectionUUID", UUID).from(V7_0),
    withhold("includeQueryStatsMetrics", STATISTICS).from(V8_1),
];

/// `insert`.
pub(crate) static INSERT: &[Argument] = &[
    arg("documents", Take::Documents),
    arg("ordered", PASS),
    arg("bypassDocumentValidation", Take::Bypass),
    arg("bypassEmptyTsReplacement", PASS).from(V8_0),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V5_0),
];

/// `update`.
pub(crate) static UPDATE: &[Argument] = &[
    arg("updates", Take::Updates),
    arg("ordered", PASS),
    arg("let", Take::Let).from(V5_0),
    arg("bypassDocumentValidation", Take::Bypass),
    arg("bypassEmptyTsReplacement", PASS).from(V8_0),
    withhold("runtimeConstants", CONSTANTS),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V5_0),
    withhold("$_originalQuery", BETWEEN_SERVERS).from(V7_0),
    withhold("$_originalCollation", BETWEEN_SERVERS).from(V7_0),
];

/// A statement of `update`.
pub static UPDATE_STATEMENT: &[Argument] = &[
    arg("q", Take::Filter),
    arg("u", Take::Update),
    arg("c", Take::Let),
    arg("multi", PASS),
    arg("upsert", PASS),
    arg("arrayFilters", Take::ArrayFilters),
    arg("collation", Take::Collation),
    arg("hint", Take::Hint),
    arg("sort", Take::Sort).from(V8_0),
    withhold(
        "upsertSupplied",
        "it writes a document past the proxy's stamp; use $setOnInsert",
    ),
    withhold("sampleId", BETWEEN_SERVERS).from(V7_0),
    withhold(
        "$_allowShardKeyUpdatesWithoutFullShardKeyInQuery",
        BETWEEN_SERVERS,
    )
    .from(V7_0),
    withhold("includeQueryStatsMetricsForOpIndex", STATISTICS).from(V8_2),
];

/// `bulkWrite`.
pub(crate) static BULK_WRITE: &[Argument] = &[
    arg("ops", Take::Own).from(V8_0),
    arg("nsInfo", Take::Own).from(V8_0),
    arg("ordered", PASS).from(V8_0),
    arg("errorsOnly", PASS).from(V8_0),
    arg("let", Take::Let).from(V8_0),
    arg("cursor", PASS).from(V8_0),
    arg("bypassDocumentValidation", Take::Bypass).from(V8_0),
];

/// An insert in `bulkWrite`.
pub static BULK_INSERT: &[Argument] = &[
    arg("insert", Take::Own).from(V8_0),
    arg("document", Take::Own).from(V8_0),
];

/// An update in `bulkWrite`.
pub static BULK_UPDATE: &[Argument] = &[
    arg("update", Take::Own).from(V8_0),
    arg("filter", Take::Filter).from(V8_0),
    arg("updateMods", Take::Update).from(V8_0),
    arg("constants", Take::Let).from(V8_0),
    arg("multi", PASS).from(V8_0),
    arg("upsert", PASS).from(V8_0),
    arg("arrayFilters", Take::ArrayFilters).from(V8_0),
    arg("collation", Take::Collation).from(V8_0),
    arg("hint", Take::Hint).from(V8_0),
    arg("sort", Take::Sort).from(V8_0),
    withhold(
        "upsertSupplied",
        "it writes a document past the proxy's stamp; use $setOnInsert",
    )
    .from(V8_0),
    withhold("sampleId", BETWEEN_SERVERS).from(V8_0),
];

/// A delete in `bulkWrite`.
pub static BULK_DELETE: &[Argument] = &[
    arg("delete", Take::Own).from(V8_0),
    arg("filter", Take::Filter).from(V8_0),
    arg("multi", PASS).from(V8_0),
    arg("collation", Take::Collation).from(V8_0),
    arg("hint", Take::Hint).from(V8_0),
    withhold("sampleId", BETWEEN_SERVERS).from(V8_0),
];

/// `delete`.
pub(crate) static DELETE: &[Argument] = &[
    arg("deletes", Take::Deletes),
    arg("ordered", PASS),
    arg("let", Take::Let).from(V5_0),
    arg("bypassDocumentValidation", Take::Drop),
    withhold("runtimeConstants", CONSTANTS).from(V5_0),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V5_0),
    withhold("$_originalQuery", BETWEEN_SERVERS).from(V7_0),
    withhold("$_originalCollation", BETWEEN_SERVERS).from(V7_0),
];

/// A statement of `delete`.
pub static DELETE_STATEMENT: &[Argument] = &[
    arg("q", Take::Filter),
    arg("limit", PASS),
    arg("collation", Take::Collation),
    arg("hint", Take::Hint),
    withhold("sampleId", BETWEEN_SERVERS).from(V7_0),
    withhold("includeQueryStatsMetricsForOpIndex", STATISTICS).from(V8_2),
];

/// `findAndModify`.
pub(crate) static FIND_AND_MODIFY: &[Argument] = &[
    arg("query", Take::Filter),
    arg("sort", Take::Sort),
    arg("remove", PASS),
    arg("update", Take::Update),
    arg("new", PASS),
    arg("fields", Take::Projection),
    arg("upsert", PASS),
    arg("arrayFilters", Take::ArrayFilters),
    arg("collation", Take::Collation),
    arg("hint", Take::Hint),
    arg("let", Take::Let).from(V5_0),
    arg("bypassDocumentValidation", Take::Bypass),
    arg("bypassEmptyTsReplacement", PASS).from(V8_0),
    withhold("runtimeConstants", CONSTANTS),
    withhold("collectionUUID", UUID).from(V7_0),
    withhold("encryptionInformation", ENCRYPTION).from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V7_0),
    withhold("sampleId", BETWEEN_SERVERS).from(V7_0),
];

/// `explain`.
pub(crate) static EXPLAIN: &[Argument] = &[arg("verbosity", PASS)];

/// `abortTransaction`.
pub(crate) static ABORT_TRANSACTION: &[Argument] = &[];

/// `commitTransaction`.
pub(crate) static COMMIT_TRANSACTION: &[Argument] = &[withhold("commitTimestamp", BETWEEN_SERVERS)];

/// `listCollections`.
pub(crate) static LIST_COLLECTIONS: &[Argument] = &[
    arg("filter", Take::Own),
    arg("nameOnly", Take::Own),
    arg("authorizedCollections", Take::Drop),
    arg("cursor", Take::Drop),
    withhold("includePendingDrops", "dropped collections are not kept"),
];

/// `listDatabases`.
pub(crate) static LIST_DATABASES: &[Argument] = &[
    arg("filter", Take::Own),
    arg("nameOnly", Take::Own),
    arg("authorizedDatabases", Take::Drop),
];

/// `create`. What is not here cannot be shared.
pub(crate) static CREATE: &[Argument] = &[
    arg("autoIndexId", Take::Drop),
    arg("capped", Take::Own),
    arg("size", Take::Own),
    arg("max", Take::Own),
    arg("viewOn", Take::Own),
    arg("pipeline", Take::Own),
    arg("collation", Take::Own),
    arg("validator", Take::Own),
    arg("validationLevel", Take::Own),
    arg("validationAction", Take::Own),
    arg("timeseries", Take::Own).from(V5_0),
    arg("expireAfterSeconds", Take::Own).from(V5_0),
    arg("clusteredIndex", Take::Own).from(V6_0),
    arg("changeStreamPreAndPostImages", Take::Own).from(V6_0),
    arg("storageEngine", Take::Own),
    arg("indexOptionDefaults", Take::Own),
    arg("idIndex", Take::Own),
    arg("encryptedFields", Take::Own).from(V6_0),
    arg("flags", Take::Own),
    arg("temp", Take::Own),
    withhold("recordPreImages", "it binds every app of the collection").until(V6_0),
    withhold(
        "recordIdsReplicated",
        "it binds every app of the collection",
    )
    .from(V8_0),
];

/// `drop`.
pub(crate) static DROP: &[Argument] = &[withhold("collectionUUID", UUID).from(V6_0)];

/// `dropDatabase`.
pub(crate) static DROP_DATABASE: &[Argument] = &[];

/// `createIndexes`.
pub(crate) static CREATE_INDEXES: &[Argument] = &[
    arg("indexes", Take::Own),
    arg("commitQuorum", PASS),
    arg("ignoreUnknownIndexOptions", Take::Own),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V5_0),
];

/// `listIndexes`.
pub(crate) static LIST_INDEXES: &[Argument] = &[
    arg("cursor", Take::Drop),
    withhold("includeBuildUUIDs", "builds of indexes are the server's"),
    withhold(
        "includeIndexBuildInfo",
        "builds of indexes are the server's",
    )
    .from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V5_0),
];

/// `dropIndexes`.
pub(crate) static DROP_INDEXES: &[Argument] = &[
    arg("index", Take::Own),
    withhold("collectionUUID", UUID).from(V6_0),
    withhold("isTimeseriesNamespace", BUCKETS).from(V5_0),
];

/// `collStats`.
pub(crate) static COLL_STATS: &[Argument] = &[
    arg("scale", PASS),
    arg("verbose", Take::Drop),
    arg("freeStorage", Take::Drop),
];

/// `dbStats`.
pub(crate) static DB_STATS: &[Argument] = &[arg("scale", Take::Own), arg("freeStorage", Take::Own)];

const BOUNDED_SIZE: Take =
    Take::Refuse("it measures a range; use an aggregation with $match and $bsonSize");

/// `dataSize`.
pub(crate) static DATA_SIZE: &[Argument] = &[
    arg("estimate", Take::Drop),
    arg("keyPattern", BOUNDED_SIZE),
    arg("min", BOUNDED_SIZE),
    arg("max", BOUNDED_SIZE),
    arg("maxSize", BOUNDED_SIZE),
    arg("maxObjects", BOUNDED_SIZE),
];

const SHARED_OPTION: Take = Take::Unshared(
    "the collection is shared with other apps; make it dedicated in the app's manifest before it is created",
);

/// `collMod`.
pub(crate) static COLL_MOD: &[Argument] = &[
    arg("index", Take::Own),
    arg("viewOn", Take::Own),
    arg("pipeline", Take::Own),
    arg("validator", Take::Own),
    arg("validationLevel", SHARED_OPTION),
    arg("validationAction", SHARED_OPTION),
    arg("cappedSize", SHARED_OPTION),
    arg("cappedMax", SHARED_OPTION),
    arg("expireAfterSeconds", SHARED_OPTION),
    arg("timeseries", SHARED_OPTION),
    arg("changeStreamPreAndPostImages", Take::Own),
    arg("recordPreImages", Take::Own),
    arg("dryRun", PASS),
];

/// `renameCollection`.
pub(crate) static RENAME_COLLECTION: &[Argument] = &[
    arg("to", Take::Own),
    arg("dropTarget", Take::Own),
    arg("stayTemp", Take::Drop),
];

/// `convertToCapped`.
pub(crate) static CONVERT_TO_CAPPED: &[Argument] = &[arg("size", PASS)];

/// `cloneCollectionAsCapped`.
pub(crate) static CLONE_AS_CAPPED: &[Argument] =
    &[arg("toCollection", Take::Own), arg("size", PASS)];

/// `validate`.
pub(crate) static VALIDATE: &[Argument] = &[
    arg("full", PASS),
    // Drivers send it; servers do not read it (6.0.5).
    arg("scandata", Take::Drop),
    arg("background", PASS),
    arg("metadata", PASS),
    arg("checkBSONConformance", PASS),
    arg(
        "repair",
        Take::Refuse("it changes the server's files; ask the operator"),
    ),
];

/// `planCacheClear` and `planCacheClearFilters`: the shape of a query.
pub(crate) static QUERY_SHAPE: &[Argument] = &[
    arg("query", Take::Filter),
    arg("sort", Take::Sort),
    arg("projection", Take::Projection),
    arg("collation", Take::Collation),
];

/// `planCacheSetFilter`.
pub(crate) static PLAN_CACHE_SET_FILTER: &[Argument] = &[
    arg("query", Take::Filter),
    arg("sort", Take::Sort),
    arg("projection", Take::Projection),
    arg("collation", Take::Collation),
    arg("indexes", PASS),
];

/// The row of a field.
pub(crate) fn look_up(table: &'static [Argument], name: &[u8]) -> Option<&'static Argument> {
    table.iter().find(|a| a.name.as_bytes() == name)
}

/// The row of a condition on a path below its name.
pub(crate) fn condition(table: &'static [Argument], path: &[u8]) -> Option<&'static Argument> {
    let name = path.split(|byte| *byte == b'.').next()?;
    look_up(table, name).filter(|argument| argument.take == Take::Condition)
}

/// What was found of a field, unless there is no row or the row refuses it.
///
/// # Errors
/// 40415 without a row or where the row withholds it, 72 where the row refuses it.
pub(crate) fn served(
    spec: &CommandSpec,
    found: Option<&'static Argument>,
    element: &Element<'_>,
) -> Result<&'static Argument, Refusal> {
    let refused = match found {
        Some(argument) => match argument.take {
            Take::Refuse(why) => return Err(unavailable(argument.name, why)),
            Take::Withhold(why) => format!("not available to apps: {why}"),
            _ => return Ok(argument),
        },
        None => "an unknown field.".to_owned(),
    };
    Err(Refusal::unknown_field(format!(
        "BSON field '{}.{}' is {refused}",
        spec.name,
        element.name()
    )))
}

/// The reply to an option that an app may ask for and cannot have.
pub(crate) fn unavailable(name: &str, why: &str) -> Refusal {
    Refusal::invalid_options(format!("option '{name}' is not available: {why}"))
}
