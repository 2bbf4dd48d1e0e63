//! The tables: one for each command, and one for what every command may have.

use super::{Argument, Take, arg, withhold};
use crate::versions::{V5_0, V6_0, V7_0, V8_0, V8_1, V8_2};

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

/// `connectionStatus`.
pub(crate) static CONNECTION_STATUS: &[Argument] = &[arg("showPrivileges", Take::Own)];

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
    arg("autoIndexId", Take::Own),
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
    arg("recordPreImages", Take::Own).until(V6_0),
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
    arg("validationLevel", Take::Own),
    arg("validationAction", Take::Own),
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
    arg("indexes", Take::Named),
];
