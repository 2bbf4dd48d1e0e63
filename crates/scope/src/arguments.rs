//! The fields that commands and statements may have, and what is done with each. A field without a row is refused.

/// One field of a command or statement.
#[derive(Debug, Clone, Copy)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// What is done with it.
    pub take: Take,
}

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// Copied as it is.
    Pass,
    /// Accepted, and not forwarded.
    Drop,
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
    /// Copied where the collection is the app's own, refused on a shared one: why.
    Unshared(&'static str),
    /// Never: why not.
    Refuse(&'static str),
}

const fn arg(name: &'static str, take: Take) -> Argument {
    Argument { name, take }
}

const PASS: Take = Take::Pass;

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
    arg("apiVersion", PASS),
    arg("apiStrict", PASS),
    arg("apiDeprecationErrors", PASS),
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
    arg("let", Take::Let),
];

/// `getMore`.
pub(crate) static GET_MORE: &[Argument] = &[arg("collection", Take::Own), arg("batchSize", PASS)];

/// `killCursors`.
pub(crate) static KILL_CURSORS: &[Argument] = &[arg("cursors", Take::Own)];

/// `currentOp`.
pub(crate) static CURRENT_OP: &[Argument] = &[
    arg("$all", Take::Drop),
    arg("$ownOps", Take::Drop),
    arg("$truncateOps", Take::Drop),
];

/// `killOp`.
pub(crate) static KILL_OP: &[Argument] = &[arg("op", Take::Own)];

/// `aggregate`.
pub(crate) static AGGREGATE: &[Argument] = &[
    arg("pipeline", Take::Pipeline),
    arg("cursor", PASS),
    arg("explain", Take::Own),
    arg("allowDiskUse", PASS),
    arg("hint", Take::Hint),
    arg("collation", Take::Collation),
    arg("let", Take::Let),
    arg("bypassDocumentValidation", Take::Drop),
];

/// `count`.
pub(crate) static COUNT: &[Argument] = &[
    arg("query", Take::Filter),
    arg("limit", PASS),
    arg("skip", PASS),
    arg("hint", Take::Hint),
    arg("fields", Take::Drop),
    arg("collation", Take::Collation),
];

/// `distinct`.
pub(crate) static DISTINCT: &[Argument] = &[
    arg("key", Take::Key),
    arg("query", Take::Filter),
    arg("hint", Take::Hint),
    arg("collation", Take::Collation),
];

/// `insert`.
pub(crate) static INSERT: &[Argument] = &[
    arg("documents", Take::Documents),
    arg("ordered", PASS),
    arg("bypassDocumentValidation", Take::Drop),
];

/// `update`.
pub(crate) static UPDATE: &[Argument] = &[
    arg("updates", Take::Updates),
    arg("ordered", PASS),
    arg("let", Take::Let),
    arg("bypassDocumentValidation", Take::Drop),
];

/// A statement of `update`.
pub(crate) static UPDATE_STATEMENT: &[Argument] = &[
    arg("q", Take::Filter),
    arg("u", Take::Update),
    arg("c", Take::Let),
    arg("multi", PASS),
    arg("upsert", PASS),
    arg("arrayFilters", Take::ArrayFilters),
    arg("collation", Take::Collation),
    arg("hint", Take::Hint),
    arg("sort", Take::Sort),
];

/// `delete`.
pub(crate) static DELETE: &[Argument] = &[
    arg("deletes", Take::Deletes),
    arg("ordered", PASS),
    arg("let", Take::Let),
];

/// A statement of `delete`.
pub(crate) static DELETE_STATEMENT: &[Argument] = &[
    arg("q", Take::Filter),
    arg("limit", PASS),
    arg("collation", Take::Collation),
    arg("hint", Take::Hint),
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
    arg("let", Take::Let),
    arg("bypassDocumentValidation", Take::Drop),
];

/// `explain`.
pub(crate) static EXPLAIN: &[Argument] = &[arg("verbosity", PASS)];

/// `commitTransaction` and `abortTransaction`.
pub(crate) static TRANSACTION: &[Argument] = &[];

/// `listCollections`.
pub(crate) static LIST_COLLECTIONS: &[Argument] = &[
    arg("filter", Take::Own),
    arg("nameOnly", Take::Own),
    arg("authorizedCollections", Take::Drop),
    arg("cursor", Take::Drop),
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
    arg("timeseries", Take::Own),
    arg("expireAfterSeconds", Take::Own),
    arg("clusteredIndex", Take::Own),
    arg("changeStreamPreAndPostImages", Take::Own),
    arg("storageEngine", Take::Own),
    arg("indexOptionDefaults", Take::Own),
    arg("idIndex", Take::Own),
    arg("encryptedFields", Take::Own),
    arg("flags", Take::Own),
    arg("temp", Take::Own),
];

/// `drop` and `dropDatabase`.
pub(crate) static DROP: &[Argument] = &[];

/// `createIndexes`.
pub(crate) static CREATE_INDEXES: &[Argument] = &[
    arg("indexes", Take::Own),
    arg("commitQuorum", PASS),
    arg("ignoreUnknownIndexOptions", Take::Own),
];

/// `listIndexes`.
pub(crate) static LIST_INDEXES: &[Argument] = &[arg("cursor", Take::Drop)];

/// `dropIndexes`.
pub(crate) static DROP_INDEXES: &[Argument] = &[arg("index", Take::Own)];

/// The row of a field.
pub(crate) fn look_up(table: &'static [Argument], name: &[u8]) -> Option<&'static Argument> {
    table.iter().find(|a| a.name.as_bytes() == name)
}
