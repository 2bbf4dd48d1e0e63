//! The fields of plans that are shown, and how.

/// What is done with a field of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treat {
    /// A value that tells of the plan only.
    Pass,
    /// A part of the plan.
    Descend,
    /// A predicate: without the app's condition.
    Predicate,
    /// A document by key fields: without the scope field.
    Key,
    /// A projection: without the scope field, and without expressions that name it.
    Projection,
    /// A physical index name.
    Index,
    /// A property of the index that stands beside it.
    Property,
    /// A physical namespace.
    Namespace,
    /// How many documents or keys a part gave.
    Returned,
    /// Plans in the order in which they did worse, or branches in that in which they are tried.
    Unordered,
}

/// Fields of plans; what is not here is removed. Counts of examined keys and documents are not here: a scan counts those of
/// other apps as well.
pub(super) static FIELDS: &[(&str, Treat)] = &[
    ("explainVersion", Treat::Pass),
    ("ok", Treat::Pass),
    ("$clusterTime", Treat::Pass),
    ("operationTime", Treat::Pass),
    ("queryPlanner", Treat::Descend),
    ("executionStats", Treat::Descend),
    ("executionStages", Treat::Descend),
    ("executionSuccess", Treat::Pass),
    ("executionTimeMillis", Treat::Pass),
    ("nReturned", Treat::Returned),
    ("nWouldModify", Treat::Pass),
    ("nWouldUpsert", Treat::Pass),
    ("nWouldDelete", Treat::Pass),
    ("namespace", Treat::Namespace),
    ("indexFilterSet", Treat::Pass),
    ("parsedQuery", Treat::Predicate),
    ("maxIndexedOrSolutionsReached", Treat::Pass),
    ("maxIndexedAndSolutionsReached", Treat::Pass),
    ("maxScansToExplodeReached", Treat::Pass),
    ("winningPlan", Treat::Descend),
    ("queryPlan", Treat::Descend),
    ("rejectedPlans", Treat::Unordered),
    ("inputStage", Treat::Descend),
    ("inputStages", Treat::Unordered),
    ("thenStage", Treat::Descend),
    ("elseStage", Treat::Descend),
    ("outerStage", Treat::Descend),
    ("innerStage", Treat::Descend),
    ("stages", Treat::Descend),
    ("$cursor", Treat::Descend),
    ("shards", Treat::Descend),
    ("stage", Treat::Pass),
    ("filter", Treat::Predicate),
    ("direction", Treat::Pass),
    ("keyPattern", Treat::Key),
    ("indexName", Treat::Index),
    ("isMultiKey", Treat::Property),
    ("multiKeyPaths", Treat::Property),
    ("isUnique", Treat::Property),
    ("isSparse", Treat::Property),
    ("isPartial", Treat::Property),
    ("indexVersion", Treat::Pass),
    ("indexBounds", Treat::Key),
    ("sortPattern", Treat::Key),
    ("memLimit", Treat::Pass),
    ("limitAmount", Treat::Pass),
    ("skipAmount", Treat::Pass),
    ("type", Treat::Pass),
    ("transformBy", Treat::Projection),
    ("collation", Treat::Pass),
];

/// What a plan on a collection of the app's own shows besides.
pub(super) static DEDICATED_FIELDS: &[(&str, Treat)] = &[
    ("allPlansExecution", Treat::Descend),
    ("totalKeysExamined", Treat::Pass),
    ("totalDocsExamined", Treat::Pass),
    ("executionTimeMillisEstimate", Treat::Pass),
    ("works", Treat::Pass),
    ("advanced", Treat::Pass),
    ("needTime", Treat::Pass),
    ("needYield", Treat::Pass),
    ("saveState", Treat::Pass),
    ("restoreState", Treat::Pass),
    ("isEOF", Treat::Pass),
    ("docsExamined", Treat::Pass),
    ("keysExamined", Treat::Pass),
    ("alreadyHasObj", Treat::Pass),
    ("seeks", Treat::Pass),
    ("dupsTested", Treat::Pass),
    ("dupsDropped", Treat::Pass),
    ("nCounted", Treat::Pass),
    ("nSkipped", Treat::Pass),
    ("nMatched", Treat::Pass),
    ("totalDataSizeSorted", Treat::Pass),
    ("usedDisk", Treat::Pass),
];
