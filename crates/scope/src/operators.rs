//! Names that may stand where the server reads an operator. Absence means no.

use crate::versions::{
    FIRST_RELEASE, Release, V4_2, V4_4, V5_0, V6_0, V7_0, V8_0, V8_1, V8_2, V8_3, Versions,
};

/// One row.
#[derive(Debug)]
pub struct Operator {
    /// The name, as the server spells it.
    pub name: &'static str,
    /// Servers that take it where its table says: a filter, an expression, an update. `None` for what is an accumulator or
    /// window function only.
    pub versions: Option<Versions>,
    /// Servers that take it as an accumulator of `$group`.
    pub accumulator: Option<Versions>,
    /// Servers that take it as a function of `$setWindowFields`.
    pub window: Option<Versions>,
    /// What is done with it.
    pub duty: OperatorDuty,
    /// The release of this program since which the row is as it is.
    pub since: &'static str,
}

/// What is done with an operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OperatorDuty {
    /// Passed on: what is checked of its arguments.
    Serve(&'static str),
    /// Never: why, and what to do instead.
    Refuse(&'static str),
}

impl Operator {
    /// Whether apps may use it.
    pub(crate) fn is_served(&self) -> bool {
        matches!(self.duty, OperatorDuty::Serve(_))
    }

    const fn from(mut self, first: Release) -> Self {
        self.versions = Some(Versions::from(first));
        self
    }

    const fn until(mut self, last: Release) -> Self {
        if let Some(versions) = self.versions {
            self.versions = Some(versions.until(last));
        }
        self
    }

    const fn accumulates(mut self, first: Release) -> Self {
        self.accumulator = Some(Versions::from(first));
        self
    }

    const fn in_windows(mut self, first: Release) -> Self {
        self.window = Some(Versions::from(first));
        self
    }

    const fn refused(mut self, why: &'static str) -> Self {
        self.duty = OperatorDuty::Refuse(why);
        self
    }

    /// What is checked, where it is not the usual.
    const fn does(mut self, what: &'static str) -> Self {
        self.duty = OperatorDuty::Serve(what);
        self
    }
}

const fn op(name: &'static str) -> Operator {
    Operator {
        name,
        versions: Some(Versions::ALL),
        accumulator: None,
        window: None,
        duty: OperatorDuty::Serve("its arguments by the same table"),
        since: FIRST_RELEASE,
    }
}

/// One that is served, and whose value is a plain one.
const fn plain(name: &'static str) -> Operator {
    op(name).does("passed on")
}

const fn refuse(name: &'static str, why: &'static str) -> Operator {
    op(name).refused(why)
}

const fn nowhere(mut row: Operator) -> Operator {
    row.versions = None;
    row
}

/// What is an accumulator and no expression.
const fn accumulator(name: &'static str, first: Release) -> Operator {
    nowhere(op(name)).accumulates(first)
}

/// What is a window function and nothing else.
const fn window(name: &'static str, first: Release) -> Operator {
    nowhere(op(name)).in_windows(first)
}

const JAVASCRIPT: &str =
    "server-side JavaScript is shared by all apps; use aggregation expressions instead";
const INTERNAL: &str = "it is internal to servers";
const HIDDEN: &str = "it compares or counts the fields of whole documents, one of which is the proxy's; use $jsonSchema";
const ENCRYPTION: &str = "it needs encryptionInformation, which is not available to apps";

/// Operators of a filter at the top level of a (sub-)filter.
pub static FILTER_TOP: &[Operator] = &[
    op("$and").does("each branch is a filter"),
    op("$or").does("each branch is a filter"),
    op("$nor").does("each branch is a filter"),
    op("$expr").does("an expression"),
    op("$text").does("its members by their own table"),
    plain("$comment"),
    op("$jsonSchema").does("passed on, unless it could observe the scope field"),
    plain("$sampleRate"),
    refuse(
        "$where",
        "server-side JavaScript is shared by all apps; use $expr instead",
    ),
    op("$alwaysTrue"),
    op("$alwaysFalse"),
    refuse("$_internalBucketGeoWithin", INTERNAL).from(V5_0),
    refuse("$_internalSchemaAllowedProperties", HIDDEN),
    refuse("$_internalSchemaCond", INTERNAL),
    refuse("$_internalSchemaMaxProperties", HIDDEN),
    refuse("$_internalSchemaMinProperties", HIDDEN),
    refuse("$_internalSchemaRootDocEq", HIDDEN),
    refuse("$_internalSchemaXor", INTERNAL),
];

/// Operators on a field of a filter.
pub static FILTER_FIELD: &[Operator] = &[
    plain("$eq"),
    plain("$ne"),
    plain("$gt"),
    plain("$gte"),
    plain("$lt"),
    plain("$lte"),
    plain("$in"),
    plain("$nin"),
    plain("$exists"),
    plain("$type"),
    op("$not"),
    op("$all"),
    op("$elemMatch").does("a filter on elements"),
    plain("$size"),
    plain("$mod"),
    plain("$regex"),
    plain("$options"),
    plain("$bitsAllSet"),
    plain("$bitsAllClear"),
    plain("$bitsAnySet"),
    plain("$bitsAnyClear"),
    op("$geoWithin").does("its members by their own table"),
    op("$geoIntersects").does("its members by their own table"),
    op("$near").does("its members by their own table"),
    op("$nearSphere").does("its members by their own table"),
    op("$within").does("as `$geoWithin`"),
    plain("$maxDistance").does("beside `$near` or `$nearSphere`"),
    plain("$minDistance").does("beside `$near` or `$nearSphere`"),
    op("$ref").does("a member of a DBRef"),
    op("$id").does("a member of a DBRef"),
    op("$db").does("a member of a DBRef"),
    op("$uniqueDocs").does("beside `$near`; without effect"),
    plain("$comment").does("in `$elemMatch`"),
    refuse("$geoNear", "use $near or $nearSphere"),
    refuse("$_internalEqHash", INTERNAL).from(V7_0),
    refuse("$_internalExprEq", INTERNAL),
    refuse("$_internalExprGt", INTERNAL).from(V5_0),
    refuse("$_internalExprGte", INTERNAL).from(V5_0),
    refuse("$_internalExprLt", INTERNAL).from(V5_0),
    refuse("$_internalExprLte", INTERNAL).from(V5_0),
    refuse("$_internalSchemaAllElemMatchFromIndex", INTERNAL),
    refuse("$_internalSchemaBinDataEncryptedType", INTERNAL),
    refuse("$_internalSchemaBinDataFLE2EncryptedType", INTERNAL).from(V7_0),
    refuse("$_internalSchemaBinDataSubType", INTERNAL),
    refuse("$_internalSchemaEq", INTERNAL),
    refuse("$_internalSchemaFmod", INTERNAL),
    refuse("$_internalSchemaMatchArrayIndex", INTERNAL),
    refuse("$_internalSchemaMaxItems", INTERNAL),
    refuse("$_internalSchemaMaxLength", INTERNAL),
    refuse("$_internalSchemaMinItems", INTERNAL),
    refuse("$_internalSchemaMinLength", INTERNAL),
    refuse("$_internalSchemaObjectMatch", INTERNAL),
    refuse("$_internalSchemaType", INTERNAL),
    refuse("$_internalSchemaUniqueItems", INTERNAL),
];

/// Members of a geometry in a filter.
pub static GEOMETRY: &[Operator] = &[
    plain("$geometry"),
    plain("$box"),
    plain("$center"),
    plain("$centerSphere"),
    plain("$polygon"),
    plain("$maxDistance"),
    plain("$minDistance"),
    plain("$uniqueDocs"),
];

/// Members of `$text`.
pub static TEXT: &[Operator] = &[
    plain("$search"),
    plain("$language"),
    plain("$caseSensitive"),
    plain("$diacriticSensitive"),
];

/// Expressions, accumulators and window functions. Which may stand where is the server's to say.
pub static EXPRESSIONS: &[Operator] = &[
    // Arithmetic
    op("$abs"),
    op("$add"),
    op("$ceil"),
    op("$divide"),
    op("$exp"),
    op("$floor"),
    op("$ln"),
    op("$log"),
    op("$log10"),
    op("$mod"),
    op("$multiply"),
    op("$pow"),
    op("$round"),
    op("$sqrt"),
    op("$subtract"),
    op("$trunc"),
    op("$sigmoid").from(V8_1),
    op("$similarityCosine").from(V8_2),
    op("$similarityDotProduct").from(V8_2),
    op("$similarityEuclidean").from(V8_2),
    // Arrays
    op("$arrayElemAt"),
    op("$arrayToObject"),
    op("$concatArrays").accumulates(V8_1).in_windows(V8_1),
    op("$filter").does("as `$let`"),
    op("$first").accumulates(V4_4).in_windows(V5_0),
    op("$firstN").from(V6_0).accumulates(V6_0).in_windows(V6_0),
    op("$in"),
    op("$indexOfArray"),
    op("$isArray"),
    op("$last").accumulates(V4_4).in_windows(V5_0),
    op("$lastN").from(V6_0).accumulates(V6_0).in_windows(V6_0),
    op("$map").does("as `$let`"),
    op("$maxN").from(V6_0).accumulates(V6_0).in_windows(V6_0),
    op("$minN").from(V6_0).accumulates(V6_0).in_windows(V6_0),
    op("$objectToArray"),
    op("$range"),
    op("$reduce").does("as `$let`"),
    op("$reverseArray"),
    op("$size"),
    op("$slice"),
    op("$sortArray").from(V6_0),
    op("$zip"),
    // Bits
    op("$bitAnd").from(V7_0),
    op("$bitNot").from(V7_0),
    op("$bitOr").from(V7_0),
    op("$bitXor").from(V7_0),
    // Logic, comparison, conditions
    op("$and"),
    op("$not"),
    op("$or"),
    op("$cmp"),
    op("$eq"),
    op("$gt"),
    op("$gte"),
    op("$lt"),
    op("$lte"),
    op("$ne"),
    op("$cond"),
    op("$ifNull"),
    op("$switch"),
    // Sizes
    op("$binarySize"),
    op("$bsonSize"),
    // Dates and timestamps
    op("$dateAdd").from(V5_0),
    op("$dateDiff").from(V5_0),
    op("$dateFromParts"),
    op("$dateFromString"),
    op("$dateSubtract").from(V5_0),
    op("$dateToParts"),
    op("$dateToString"),
    op("$dateTrunc").from(V5_0),
    op("$dayOfMonth"),
    op("$dayOfWeek"),
    op("$dayOfYear"),
    op("$hour"),
    op("$isoDayOfWeek"),
    op("$isoWeek"),
    op("$isoWeekYear"),
    op("$millisecond"),
    op("$minute"),
    op("$month"),
    op("$second"),
    op("$toDate"),
    op("$week"),
    op("$year"),
    op("$tsIncrement").from(V6_0),
    op("$tsSecond").from(V6_0),
    // Literals, variables, objects
    op("$literal").does("data, not looked into"),
    op("$const").does("as `$literal`"),
    op("$let").does("its variables may not be named `CURRENT`"),
    op("$getField")
        .from(V5_0)
        .does("the scope field is not read by it"),
    op("$setField").from(V5_0),
    op("$unsetField").from(V5_0),
    op("$mergeObjects").accumulates(V4_4),
    op("$meta").does("by its own table below"),
    op("$rand"),
    op("$toHashedIndexKey").from(V6_0),
    // Sets
    op("$allElementsTrue"),
    op("$anyElementTrue"),
    op("$setDifference"),
    op("$setEquals"),
    op("$setIntersection"),
    op("$setIsSubset"),
    op("$setUnion").accumulates(V8_1).in_windows(V8_1),
    // Strings
    op("$concat"),
    op("$indexOfBytes"),
    op("$indexOfCP"),
    op("$ltrim"),
    op("$regexFind"),
    op("$regexFindAll"),
    op("$regexMatch"),
    op("$replaceOne"),
    op("$replaceAll"),
    op("$rtrim"),
    op("$split"),
    op("$strLenBytes"),
    op("$strLenCP"),
    op("$strcasecmp"),
    op("$substr"),
    op("$substrBytes"),
    op("$substrCP"),
    op("$toLower"),
    op("$toString"),
    op("$trim"),
    op("$toUpper"),
    // Trigonometry
    op("$sin"),
    op("$cos"),
    op("$tan"),
    op("$asin"),
    op("$acos"),
    op("$atan"),
    op("$atan2"),
    op("$asinh"),
    op("$acosh"),
    op("$atanh"),
    op("$sinh"),
    op("$cosh"),
    op("$tanh"),
    op("$degreesToRadians"),
    op("$radiansToDegrees"),
    // Types
    op("$convert"),
    op("$isNumber"),
    op("$toBool"),
    op("$toDecimal"),
    op("$toDouble"),
    op("$toInt"),
    op("$toLong"),
    op("$toObjectId"),
    op("$toUUID").from(V8_0),
    op("$toArray").from(V8_3),
    op("$toObject").from(V8_3),
    op("$subtype").from(V8_3),
    op("$createUUID").from(V8_3),
    op("$serializeEJSON").from(V8_3),
    op("$deserializeEJSON").from(V8_3),
    op("$hash").from(V8_3),
    op("$hexHash").from(V8_3),
    op("$type"),
    // Accumulators and windows
    accumulator("$addToSet", V4_4).in_windows(V5_0),
    op("$avg").accumulates(V4_4).in_windows(V5_0),
    accumulator("$bottom", V6_0).in_windows(V6_0),
    accumulator("$bottomN", V6_0).in_windows(V6_0),
    accumulator("$count", V5_0).in_windows(V5_0),
    op("$max").accumulates(V4_4).in_windows(V5_0),
    op("$median").from(V7_0).accumulates(V7_0).in_windows(V7_0),
    op("$min").accumulates(V4_4).in_windows(V5_0),
    op("$percentile")
        .from(V7_0)
        .accumulates(V7_0)
        .in_windows(V7_0),
    accumulator("$push", V4_4).in_windows(V5_0),
    op("$stdDevPop").accumulates(V4_4).in_windows(V5_0),
    op("$stdDevSamp").accumulates(V4_4).in_windows(V5_0),
    op("$sum").accumulates(V4_4).in_windows(V5_0),
    accumulator("$top", V6_0).in_windows(V6_0),
    accumulator("$topN", V6_0).in_windows(V6_0),
    window("$covariancePop", V5_0),
    window("$covarianceSamp", V5_0),
    window("$denseRank", V5_0),
    window("$derivative", V5_0),
    window("$documentNumber", V5_0),
    window("$expMovingAvg", V5_0),
    window("$integral", V5_0),
    window("$linearFill", V6_0),
    window("$locf", V6_0),
    window("$minMaxScaler", V8_2),
    window("$rank", V5_0),
    window("$shift", V5_0),
    // JavaScript
    refuse("$function", JAVASCRIPT),
    accumulator("$accumulator", V4_4).refused(JAVASCRIPT),
    refuse("$_internalJsEmit", JAVASCRIPT),
    accumulator("$_internalJsReduce", V4_4).refused(JAVASCRIPT),
    // Of servers
    refuse(
        "$createObjectId",
        "it draws on a counter of the server, which counts for all apps; make ids in the driver",
    )
    .from(V8_3),
    refuse("$encStrStartsWith", ENCRYPTION).from(V8_2),
    refuse("$encStrEndsWith", ENCRYPTION).from(V8_2),
    refuse("$encStrContains", ENCRYPTION).from(V8_2),
    refuse("$encStrNormalizedEq", ENCRYPTION).from(V8_2),
    refuse("$_internalFindAllValuesAtPath", INTERNAL).from(V6_0),
    refuse("$_internalFleEq", INTERNAL).from(V6_0),
    refuse("$_internalFleBetween", INTERNAL).from(V7_0),
    refuse("$_internalOwningShard", INTERNAL).from(V7_0),
    refuse("$_internalIndexKey", INTERNAL).from(V8_0),
    refuse("$_internalKeyStringValue", INTERNAL).from(V8_0),
    refuse("$_internalRawSortKey", INTERNAL).from(V8_1),
    accumulator("$_internalConstructStats", V7_0).refused(INTERNAL),
    refuse("$_testApiVersion", INTERNAL).from(V5_0),
    refuse("$_testFeatureFlagLatest", INTERNAL).from(V8_1),
    refuse("$_testFeatureFlagLastLTS", INTERNAL).from(V8_1),
];

const SEARCH: &str = "search is not available to apps";
const RECORD_IDS: &str = "record ids count the inserts of all apps";
const BUCKETS: &str = "it shows how a time-series collection is stored";

/// What `$meta` may name.
pub static META: &[Operator] = &[
    plain("textScore"),
    plain("geoNearDistance"),
    plain("geoNearPoint"),
    plain("randVal"),
    plain("sortKey"),
    plain("searchScore"),
    plain("searchHighlights"),
    plain("searchScoreDetails").from(V6_0),
    plain("searchSequenceToken").from(V7_0),
    plain("vectorSearchScore").from(V7_0),
    plain("score").from(V8_0),
    plain("scoreDetails").from(V8_0),
    refuse("recordId", RECORD_IDS),
    refuse("indexKey", "it shows the physical index"),
    refuse("timeseriesBucketMinTime", BUCKETS).from(V6_0),
    refuse("timeseriesBucketMaxTime", BUCKETS).from(V6_0),
    refuse("searchRootDocumentId", SEARCH).from(V8_1),
    refuse("stream", "it belongs to stream processing").from(V8_1),
];

/// Variables of the server, without their `$$`.
pub static SYSTEM_VARIABLES: &[Operator] = &[
    plain("ROOT").does("the document, without the scope field"),
    plain("CURRENT").does("as `ROOT`; it cannot be bound to another value"),
    plain("NOW"),
    plain("CLUSTER_TIME"),
    plain("REMOVE"),
    plain("KEEP").does("in `$redact`"),
    plain("PRUNE").does("in `$redact`"),
    plain("DESCEND").does("in `$redact`"),
    plain("IDX")
        .does("in `$map`, `$filter`, `$reduce`")
        .from(V8_3),
    refuse("USER_ROLES", "it shows the roles of the proxy's own user").from(V7_0),
    refuse("JS_SCOPE", JAVASCRIPT),
    refuse("IS_MR", JAVASCRIPT),
    refuse("SEARCH_META", SEARCH).from(V5_0),
];

/// Update operators, whose arguments are documents of paths.
pub static UPDATE_OPERATORS: &[Operator] = &[
    op("$set").does("paths; not the scope field, but by its own value"),
    op("$unset").does("paths; not the scope field"),
    op("$inc").does("paths; not the scope field"),
    op("$mul").does("paths; not the scope field"),
    op("$min").does("paths; not the scope field"),
    op("$max").does("paths; not the scope field"),
    op("$rename").does("paths at both ends; not the scope field"),
    op("$setOnInsert").does("as `$set`"),
    op("$currentDate").does("paths; not the scope field"),
    op("$push").does("paths; not the scope field. Modifiers by their own table"),
    op("$pull").does("paths; not the scope field. A filter on elements"),
    op("$pullAll").does("paths; not the scope field"),
    op("$pop").does("paths; not the scope field"),
    op("$addToSet").does("paths; not the scope field. Modifiers by their own table"),
    op("$bit").does("paths; not the scope field"),
    refuse("$pushAll", "servers took it out; use $push with $each").until(V4_2),
    refuse("$isolated", "servers took it out; use a transaction").until(V4_2),
];

/// Members of the value of `$push` and `$addToSet` that begins with one of them.
pub static UPDATE_MODIFIERS: &[Operator] = &[
    plain("$each"),
    plain("$slice").does("not in `$addToSet`"),
    plain("$sort").does("not in `$addToSet`"),
    plain("$position").does("not in `$addToSet`"),
];

/// The row of a name.
pub(crate) fn look_up(table: &'static [Operator], name: &[u8]) -> Option<&'static Operator> {
    table.iter().find(|row| row.name.as_bytes() == name)
}

/// Whether a table has a name that apps may use.
pub(crate) fn has(table: &'static [Operator], name: &[u8]) -> bool {
    look_up(table, name).is_some_and(Operator::is_served)
}

/// Why a name is refused that a server knows, as the end of a reply's text.
pub(crate) fn why(table: &'static [Operator], name: &[u8]) -> Option<&'static str> {
    look_up(table, name).and_then(|row| match row.duty {
        OperatorDuty::Refuse(why) => Some(why),
        OperatorDuty::Serve(_) => None,
    })
}
