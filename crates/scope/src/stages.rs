//! STAGES: one row per aggregation stage. Absence means no.

use mdb_wire::{Element, Kind, Writer};

use crate::refusal::Refusal;
use crate::sight::Sight;
use crate::versions::{
    Edition, FIRST_RELEASE, Release, V5_0, V6_0, V7_0, V8_0, V8_1, V8_2, V8_3, Versions,
};
use crate::{expression, filter, projection};

mod accumulators;

/// What is done with a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StageDuty {
    /// Copied: it holds no expression and names no collection.
    Pass,
    /// A filter.
    Match,
    /// A sort.
    Sort,
    /// Expressions throughout.
    Expressions,
    /// Pipelines over the same documents.
    Facet,
    /// Another collection joined: its pipeline is bound to the app.
    Lookup,
    /// Another collection walked: its search is bound to the app.
    GraphLookup,
    /// Another collection added: its pipeline is bound to the app.
    UnionWith,
    /// Documents given in the command itself.
    Documents,
    /// A change stream: only the app's own events pass.
    ChangeStream,
    /// The last stage of a change stream.
    SplitLargeEvent,
    /// Figures of a collection, as the first stage only: the app's own, without hosts and files.
    Figures,
    /// The app's operations, at the beginning of an `aggregate` of `admin`: composed by the proxy.
    Operations,
    /// Documents by their distance: its filter is bound to the app, its index one of the app's.
    GeoNear,
    /// The last stage: documents are written into a collection of the app, stamped if it is shared.
    Merge,
    /// The last stage: documents become a collection of the app's own.
    Out,
    /// Never: why, and what to do instead.
    Refuse(&'static str),
}

/// How a stage may stand in front of the one that takes the scope field out, so that indexes still serve it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hoist {
    /// It may see the hidden field, so it stands behind.
    No,
    /// It passes documents on as they are.
    Transparent,
    /// It makes other documents; the hidden field cannot flow further unless the stage names it.
    Reshaping,
}

/// One row.
#[derive(Debug)]
pub struct StageSpec {
    /// The name with its `$`.
    pub name: &'static str,
    /// What is done with it.
    pub duty: StageDuty,
    /// Whether an update may have it.
    pub in_update: bool,
    pub(crate) hoist: Hoist,
    /// Servers that have it.
    pub versions: Versions,
    /// Where those servers have it.
    pub edition: Edition,
    /// The release of this program since which the row is as it is.
    pub since: &'static str,
}

impl StageSpec {
    const fn from(mut self, first: Release) -> Self {
        self.versions = Versions::from(first);
        self
    }

    const fn special(mut self) -> Self {
        self.edition = Edition::Special;
        self
    }
}

const fn row(name: &'static str, duty: StageDuty, hoist: Hoist) -> StageSpec {
    StageSpec {
        name,
        duty,
        in_update: false,
        hoist,
        versions: Versions::ALL,
        edition: Edition::Mongod,
        since: FIRST_RELEASE,
    }
}

const fn update_row(name: &'static str, hoist: Hoist) -> StageSpec {
    StageSpec {
        name,
        duty: StageDuty::Expressions,
        in_update: true,
        hoist,
        versions: Versions::ALL,
        edition: Edition::Mongod,
        since: FIRST_RELEASE,
    }
}

const fn refuse(name: &'static str, why: &'static str) -> StageSpec {
    row(name, StageDuty::Refuse(why), Hoist::No)
}

const SERVER: &str = "it shows the state of the server, which the app does not own";
const SEARCH: &str = "search indexes cannot be told apart by app; use $match with $text or $regex";
const INTERNAL: &str = "it is internal to servers";
const STREAMS: &str = "it is for stream processors";

/// Every stage that servers 4.4 to 8.0 know by a name of their manual. Names beginning with `$_internal` and any other are refused.
pub static STAGES: &[StageSpec] = &[
    row("$match", StageDuty::Match, Hoist::Transparent),
    row("$sort", StageDuty::Sort, Hoist::Transparent),
    row("$limit", StageDuty::Pass, Hoist::Transparent),
    row("$skip", StageDuty::Pass, Hoist::Transparent),
    row("$sample", StageDuty::Pass, Hoist::Transparent),
    row("$count", StageDuty::Pass, Hoist::Reshaping),
    row("$unwind", StageDuty::Pass, Hoist::No),
    row("$group", StageDuty::Expressions, Hoist::Reshaping),
    row("$sortByCount", StageDuty::Expressions, Hoist::Reshaping),
    row("$bucket", StageDuty::Expressions, Hoist::Reshaping),
    row("$bucketAuto", StageDuty::Expressions, Hoist::Reshaping),
    row("$redact", StageDuty::Expressions, Hoist::No),
    row("$setWindowFields", StageDuty::Expressions, Hoist::No).from(V5_0),
    row("$densify", StageDuty::Expressions, Hoist::No).from(V6_0),
    row("$fill", StageDuty::Expressions, Hoist::No).from(V6_0),
    update_row("$project", Hoist::No),
    update_row("$addFields", Hoist::No),
    update_row("$set", Hoist::No),
    update_row("$unset", Hoist::No),
    update_row("$replaceRoot", Hoist::Reshaping),
    update_row("$replaceWith", Hoist::Reshaping),
    row("$facet", StageDuty::Facet, Hoist::No),
    row("$lookup", StageDuty::Lookup, Hoist::No),
    row("$graphLookup", StageDuty::GraphLookup, Hoist::No),
    row("$unionWith", StageDuty::UnionWith, Hoist::No),
    row("$documents", StageDuty::Documents, Hoist::No).from(V6_0),
    row("$changeStream", StageDuty::ChangeStream, Hoist::No),
    row(
        "$changeStreamSplitLargeEvent",
        StageDuty::SplitLargeEvent,
        Hoist::No,
    )
    .from(V7_0),
    row("$collStats", StageDuty::Figures, Hoist::No),
    row("$indexStats", StageDuty::Figures, Hoist::No),
    row("$planCacheStats", StageDuty::Figures, Hoist::No),
    row("$geoNear", StageDuty::GeoNear, Hoist::No),
    row("$merge", StageDuty::Merge, Hoist::No),
    row("$out", StageDuty::Out, Hoist::No),
    row("$currentOp", StageDuty::Operations, Hoist::No),
    row("$listLocalSessions", StageDuty::Operations, Hoist::No),
    refuse("$listSessions", SERVER),
    refuse("$listCatalog", SERVER).from(V6_0),
    refuse("$listClusterCatalog", SERVER).from(V8_1),
    refuse("$listSampledQueries", SERVER).from(V7_0),
    refuse("$queryStats", SERVER).from(V7_0),
    refuse("$querySettings", SERVER).from(V8_0),
    refuse("$operationMetrics", SERVER).from(V5_0),
    refuse("$shardedDataDistribution", SERVER).from(V6_0),
    refuse("$listCachedAndActiveUsers", SERVER),
    refuse("$listExtensions", SERVER).from(V8_3),
    refuse("$listMqlEntities", SERVER).from(V8_2),
    refuse("$listQueryKnobs", SERVER).from(V8_3),
    refuse("$backupCursor", SERVER).special(),
    refuse("$backupCursorExtend", SERVER).special(),
    refuse("$_backupFile", SERVER).special(),
    refuse("$listSearchIndexes", SEARCH).special().from(V7_0),
    refuse("$search", SEARCH).special(),
    refuse("$searchMeta", SEARCH).special(),
    refuse("$searchBeta", SEARCH).special(),
    refuse("$vectorSearch", SEARCH).special().from(V7_0),
    refuse("$rankFusion", SEARCH).from(V8_0),
    refuse("$scoreFusion", SEARCH).from(V8_2),
    refuse("$score", SEARCH).from(V8_2),
    refuse("$mergeCursors", INTERNAL),
    refuse("$queue", INTERNAL).from(V6_0),
    refuse("$setVariableFromSubPipeline", INTERNAL).from(V6_0),
    refuse("$setMetadata", INTERNAL).from(V8_1),
    refuse("$_unpackBucket", INTERNAL).from(V6_0),
    // Written by servers into each other's pipelines
    refuse("$_internalInhibitOptimization", INTERNAL),
    refuse("$_internalSplitPipeline", INTERNAL),
    refuse("$_internalUnpackBucket", INTERNAL).from(V5_0),
    refuse("$_addReshardingResumeId", INTERNAL).from(V5_0),
    refuse("$_internalConvertBucketIndexStats", INTERNAL).from(V5_0),
    refuse("$_internalReshardingIterateTransaction", INTERNAL).from(V5_0),
    refuse("$_internalReshardingOwnershipMatch", INTERNAL).from(V5_0),
    refuse("$_internalSetWindowFields", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamTransform", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamCheckInvalidate", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamCheckResumability", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamCheckTopologyChange", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamOplogMatch", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamUnwindTransaction", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamAddPreImage", INTERNAL).from(V5_0),
    refuse("$_internalChangeStreamAddPostImage", INTERNAL).from(V5_0),
    refuse("$_internalFindAndModifyImageLookup", INTERNAL).from(V5_0),
    refuse("$_internalAllCollectionStats", INTERNAL).from(V6_0),
    refuse("$_internalApplyOplogUpdate", INTERNAL).from(V6_0),
    refuse("$_internalBoundedSort", INTERNAL).from(V6_0),
    refuse("$_internalComputeGeoNearDistance", INTERNAL).from(V6_0),
    refuse("$_internalDensify", INTERNAL).from(V6_0),
    refuse("$_internalChangeStreamHandleTopologyChange", INTERNAL).from(V7_0),
    refuse("$_internalShredDocuments", INTERNAL).from(V7_0),
    refuse("$_internalSearchMongotRemote", INTERNAL).from(V7_0),
    refuse("$_internalSearchIdLookup", INTERNAL).from(V7_0),
    refuse("$_analyzeShardKeyReadWriteDistribution", INTERNAL).from(V7_0),
    refuse("$_internalShardServerInfo", INTERNAL).from(V8_0),
    refuse("$_internalStreamingGroup", INTERNAL).from(V8_0),
    refuse("$_internalProjection", INTERNAL).from(V8_0),
    refuse("$_internalReplaceRoot", INTERNAL).from(V8_0),
    refuse("$_internalListCollections", INTERNAL).from(V8_1),
    refuse("$_internalChangeStreamHandleTopologyChangeV2", INTERNAL).from(V8_1),
    refuse("$_internalChangeStreamInjectControlEvents", INTERNAL).from(V8_1),
    refuse("$_internalDocumentResultsAndMetadata", INTERNAL).from(V8_3),
    refuse("$_internalListQuerySettings", INTERNAL).from(V8_3),
    // Of stream processing
    refuse("$source", STREAMS).from(V7_0).special(),
    refuse("$emit", STREAMS).from(V7_0).special(),
    refuse("$https", STREAMS).from(V7_0).special(),
    refuse("$externalFunction", STREAMS).from(V7_0).special(),
    refuse("$cachedLookup", STREAMS).from(V7_0).special(),
    refuse("$validate", STREAMS).from(V7_0).special(),
    refuse("$tumblingWindow", STREAMS).from(V7_0).special(),
    refuse("$hoppingWindow", STREAMS).from(V7_0).special(),
    refuse("$sessionWindow", STREAMS).from(V7_0).special(),
    refuse("$setStreamMeta", STREAMS).from(V7_0).special(),
    refuse("$_streamsVectorSearch", STREAMS)
        .from(V7_0)
        .special(),
];

/// Reads a stage: an object with one field, whose name has a row.
///
/// # Errors
/// 40323 for another shape, 40324 for a name without a row, 13 for a stage that is refused.
pub(crate) fn look_up<'a>(
    stage: &Element<'a>,
) -> Result<(&'static StageSpec, Element<'a>), Refusal> {
    let Some(document) = stage.as_document() else {
        return Err(no_stage());
    };
    let mut elements = document.elements();
    let (Some(body), None) = (elements.next(), elements.next()) else {
        return Err(Refusal::stage_shape(
            "A pipeline stage specification object must contain exactly one field.",
        ));
    };
    let Some(spec) = STAGES.iter().find(|s| s.name.as_bytes() == body.key) else {
        let name: String = body.name().chars().take(64).collect();
        return Err(if name.starts_with("$_") {
            Refusal::unauthorized(format!("stage {name} is not allowed: {INTERNAL}"))
        } else {
            Refusal::unknown_stage(format!("Unrecognized pipeline stage name: '{name}'"))
        });
    };
    if let StageDuty::Refuse(why) = spec.duty {
        return Err(Refusal::unauthorized(format!(
            "stage {} is not allowed: {why}",
            spec.name
        )));
    }
    Ok((spec, body))
}

/// Something that is no object where a stage stands.
pub(crate) fn no_stage() -> Refusal {
    Refusal::type_mismatch("Each element of the 'pipeline' array must be an object")
}

/// A stage that only stands elsewhere.
pub(crate) fn misplaced(spec: &StageSpec) -> Refusal {
    Refusal::misplaced_stage(match spec.duty {
        StageDuty::SplitLargeEvent => format!("{} may only stand in a change stream", spec.name),
        _ => format!(
            "{} is only valid as the first stage in a pipeline",
            spec.name
        ),
    })
}

/// Writes a stage that reads only the documents handed to it, under `key`.
pub(crate) fn write_plain(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    spec: &StageSpec,
    body: &Element<'_>,
) -> Result<(), Refusal> {
    if matches!(
        spec.duty,
        StageDuty::ChangeStream | StageDuty::SplitLargeEvent
    ) {
        return Err(misplaced(spec));
    }
    options(spec, body)?;
    let stage = w.begin_document(key);
    match spec.duty {
        StageDuty::Match => {
            let Some(user) = body.as_document() else {
                return Err(Refusal::match_shape(
                    "the match filter must be an expression in an object",
                ));
            };
            let document = w.begin_document(body.key);
            filter::write(sight, w, user)?;
            w.end(document);
        }
        StageDuty::Sort => match body.as_document() {
            Some(sort) => projection::sort(sight, w, body.key, sort)?,
            None => {
                return Err(Refusal::sort_shape(
                    "the $sort key specification must be an object",
                ));
            }
        },
        StageDuty::Expressions => {
            expressions(sight, w, spec, body).map_err(|refusal| match spec.name {
                "$project" | "$set" | "$addFields" => {
                    refusal.behind(&format!("Invalid {} :: caused by :: ", spec.name))
                }
                _ => refusal,
            })?;
        }
        // It is no expression there: the server says so.
        StageDuty::Pass if COUNTS.contains(&spec.name) && body.kind == Kind::String => {
            w.element(body);
        }
        // It holds no expression; what would not be let through in one is not let through here either.
        _ => expression::write(sight, w, body.key, body)?,
    }
    w.end(stage);
    Ok(())
}

/// Stages that take a number.
const COUNTS: [&str; 2] = ["$limit", "$skip"];

fn expressions(
    sight: Sight<'_>,
    w: &mut Writer,
    spec: &StageSpec,
    body: &Element<'_>,
) -> Result<(), Refusal> {
    if let ("$project" | "$set" | "$addFields", Some(fields)) = (spec.name, body.as_document()) {
        projection::names(sight, fields)?;
    }
    if let ("$project", Some(fields)) = (spec.name, body.as_document()) {
        projection::known_expressions(fields)?;
    }
    accumulators::check(sight, spec.name, body)?;
    expression::write(sight, w, body.key, body)
}

/// What is said of a name that is not known.
type Unknown = fn(&str) -> Refusal;

/// Stages whose fields are options, and what is said of one that is not known, in mongod's words (6.0.5).
static OPTIONS: &[(&str, &[&str], Unknown)] = &[
    ("$sample", &["size"], |name| {
        Refusal::sample_option(format!("unrecognized option to $sample: {name}"))
    }),
    (
        "$unwind",
        &["path", "includeArrayIndex", "preserveNullAndEmptyArrays"],
        |name| Refusal::unwind_option(format!("unrecognized option to $unwind stage: {name}")),
    ),
    (
        "$bucket",
        &["groupBy", "boundaries", "default", "output"],
        |name| Refusal::bucket_option(format!("Unrecognized option to $bucket: {name}.")),
    ),
    (
        "$bucketAuto",
        &["groupBy", "buckets", "output", "granularity"],
        |name| Refusal::bucket_auto_option(format!("Unrecognized option to $bucketAuto: {name}")),
    ),
    (
        "$densify",
        &["field", "partitionByFields", "range"],
        |name| unknown_option("$densify", name),
    ),
    (
        "$fill",
        &["partitionBy", "partitionByFields", "sortBy", "output"],
        |name| unknown_option("$fill", name),
    ),
    (
        "$setWindowFields",
        &["partitionBy", "sortBy", "output"],
        |name| unknown_option("$setWindowFields", name),
    ),
    ("$replaceRoot", &["newRoot"], |name| {
        unknown_option("$replaceRoot", name)
    }),
];

fn unknown_option(stage: &str, name: &str) -> Refusal {
    Refusal::unknown_field(format!("BSON field '{stage}.{name}' is an unknown field."))
}

fn options(spec: &StageSpec, body: &Element<'_>) -> Result<(), Refusal> {
    let row = OPTIONS.iter().find(|(name, ..)| *name == spec.name);
    let (Some((_, known, refusal)), Some(document)) = (row, body.as_document()) else {
        return Ok(());
    };
    let unknown = document
        .elements()
        .find(|e| !known.iter().any(|k| k.as_bytes() == e.key));
    unknown.map_or(Ok(()), |e| Err(refusal(e.name())))
}

/// Writes a stage of an update's pipeline and gives its name.
pub(crate) fn update_stage(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    stage: &Element<'_>,
) -> Result<&'static str, Refusal> {
    let (spec, body) = look_up(stage)?;
    if !spec.in_update {
        return Err(Refusal::invalid_options(format!(
            "{} is not allowed to be used within an update",
            spec.name
        ))
        .of_statement());
    }
    write_plain(sight, w, key, spec, &body)?;
    Ok(spec.name)
}
