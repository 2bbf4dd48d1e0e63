//! Names that may stand where the server reads an operator. Absence means no.

/// Operators of a filter at the top level of a (sub-)filter.
pub(crate) static FILTER_TOP: &[&str] = &[
    "$and", "$or", "$nor", "$expr", "$text", "$comment", "$jsonSchema", "$sampleRate",
];

/// Operators on a field of a filter.
pub(crate) static FILTER_FIELD: &[&str] = &[
    "$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$type", "$not", "$all",
    "$elemMatch", "$size", "$mod", "$regex", "$options", "$bitsAllSet", "$bitsAllClear",
    "$bitsAnySet", "$bitsAnyClear", "$geoWithin", "$geoIntersects", "$near", "$nearSphere",
    "$within", "$geometry", "$maxDistance", "$minDistance", "$comment", "$uniqueDocs", "$ref",
    "$id", "$db",
];

/// Expressions, accumulators and window functions. Which may stand where is the server's to say.
pub(crate) static EXPRESSIONS: &[&str] = &[
    // Arithmetic
    "$abs", "$add", "$ceil", "$divide", "$exp", "$floor", "$ln", "$log", "$log10", "$mod",
    "$multiply", "$pow", "$round", "$sqrt", "$subtract", "$trunc", "$sigmoid",
    // Arrays
    "$arrayElemAt", "$arrayToObject", "$concatArrays", "$filter", "$first", "$firstN", "$in",
    "$indexOfArray", "$isArray", "$last", "$lastN", "$map", "$maxN", "$minN", "$objectToArray",
    "$range", "$reduce", "$reverseArray", "$size", "$slice", "$sortArray", "$zip",
    // Bits
    "$bitAnd", "$bitNot", "$bitOr", "$bitXor",
    // Logic, comparison, conditions
    "$and", "$not", "$or", "$cmp", "$eq", "$gt", "$gte", "$lt", "$lte", "$ne", "$cond", "$ifNull",
    "$switch",
    // Sizes
    "$binarySize", "$bsonSize",
    // Dates and timestamps
    "$dateAdd", "$dateDiff", "$dateFromParts", "$dateFromString", "$dateSubtract", "$dateToParts",
    "$dateToString", "$dateTrunc", "$dayOfMonth", "$dayOfWeek", "$dayOfYear", "$hour",
    "$isoDayOfWeek", "$isoWeek", "$isoWeekYear", "$millisecond", "$minute", "$month", "$second",
    "$toDate", "$week", "$year", "$tsIncrement", "$tsSecond",
    // Literals, variables, objects
    "$literal", "$const", "$let", "$getField", "$setField", "$unsetField", "$mergeObjects", "$meta", "$rand",
    "$sampleRate", "$toHashedIndexKey",
    // Sets
    "$allElementsTrue", "$anyElementTrue", "$setDifference", "$setEquals", "$setIntersection",
    "$setIsSubset", "$setUnion",
    // Strings
    "$concat", "$indexOfBytes", "$indexOfCP", "$ltrim", "$regexFind", "$regexFindAll",
    "$regexMatch", "$replaceOne", "$replaceAll", "$rtrim", "$split", "$strLenBytes", "$strLenCP",
    "$strcasecmp", "$substr", "$substrBytes", "$substrCP", "$toLower", "$toString", "$trim",
    "$toUpper",
    // Trigonometry
    "$sin", "$cos", "$tan", "$asin", "$acos", "$atan", "$atan2", "$asinh", "$acosh", "$atanh",
    "$sinh", "$cosh", "$tanh", "$degreesToRadians", "$radiansToDegrees",
    // Types
    "$convert", "$isNumber", "$toBool", "$toDecimal", "$toDouble", "$toInt", "$toLong",
    "$toObjectId", "$toUUID", "$type",
    // Accumulators and windows
    "$addToSet", "$avg", "$bottom", "$bottomN", "$count", "$max", "$median", "$min", "$percentile",
    "$push", "$stdDevPop", "$stdDevSamp", "$sum", "$top", "$topN", "$covariancePop",
    "$covarianceSamp", "$denseRank", "$derivative", "$documentNumber", "$expMovingAvg",
    "$integral", "$linearFill", "$locf", "$minMaxScaler", "$rank", "$shift", "$concatArraysAccumulator",
];

/// What `$meta` may name. `recordId` and `indexKey` tell of other apps' inserts and of the physical index.
pub(crate) static META: &[&str] = &[
    "textScore", "searchScore", "searchHighlights", "searchScoreDetails", "searchSequenceToken",
    "vectorSearchScore", "score", "scoreDetails", "geoNearDistance", "geoNearPoint", "randVal",
    "sortKey",
];

/// Variables that are the server's own and harmless. `USER_ROLES` shows the upstream user, `JS_SCOPE` and `IS_MR`
/// belong to JavaScript, `SEARCH_META` to search.
pub(crate) static SYSTEM_VARIABLES: &[&str] = &[
    "ROOT", "CURRENT", "NOW", "CLUSTER_TIME", "REMOVE", "KEEP", "PRUNE", "DESCEND",
];

/// Update operators whose arguments are documents of paths.
pub(crate) static UPDATE_OPERATORS: &[&str] = &[
    "$set", "$unset", "$inc", "$mul", "$min", "$max", "$rename", "$setOnInsert", "$currentDate",
    "$push", "$pull", "$pullAll", "$pop", "$addToSet", "$bit",
];

/// Whether a table has a name.
pub(crate) fn has(table: &[&str], name: &[u8]) -> bool {
    table.iter().any(|n| n.as_bytes() == name)
}
