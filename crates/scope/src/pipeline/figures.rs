//! Stages that show figures of a collection: `$collStats`, `$indexStats`, `$planCacheStats`.
//!
//! On a collection of the app's own the server's figures pass, reduced to known fields. On a shared one the server would count
//! the documents of all apps: the proxy composes them, see [`figures_stage`].

use mdb_wire::{Command, Document, Element, Kind, Writer};

use super::{Source, Stages, Surroundings, foreign_collections};
use crate::commands::Action;
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::stages::StageSpec;

mod automatic;

/// In place of the name of a member of the upstream.
const HOST: &str = "mdb-runtime";

/// A pipeline's first stage, where it shows figures.
#[derive(Debug, Clone, Copy)]
pub struct FiguresStage<'a> {
    /// Its name with its `$`.
    pub name: &'a str,
    /// What it says.
    pub body: Element<'a>,
}

/// The stage that shows figures, if the pipeline of an `aggregate` begins with one.
pub fn figures_stage<'a>(command: &Command<'a>) -> Option<FiguresStage<'a>> {
    if command.name != b"aggregate" || command.target.kind != Kind::String {
        return None;
    }
    let pipeline = command.body.find("pipeline")?.as_array()?;
    let body = pipeline.first()?.as_document()?.first()?;
    let name = std::str::from_utf8(body.key).ok()?;
    shown(name).map(|_| FiguresStage { name, body })
}

/// What a pipeline that begins with figures needs from the roles. One that goes on with other collections reads them, too;
/// who may find may also see figures.
pub(crate) fn required_action(command: &Command<'_>) -> Option<Action> {
    let stage = figures_stage(command)?;
    if !foreign_collections(command).is_empty() {
        return Some(Action::Find);
    }
    Some(match stage.name {
        "$collStats" => Action::CollStats,
        "$indexStats" => Action::IndexStats,
        _ => Action::PlanCacheRead,
    })
}

/// The fields that are shown of a stage's documents, as paths.
fn shown(stage: &str) -> Option<&'static [&'static str]> {
    match stage {
        "$collStats" => Some(COLL_STATS),
        "$indexStats" => Some(&["name", "key", "host", "accesses", "spec", "building"]),
        "$planCacheStats" => Some(&[
            "version",
            "queryHash",
            "planCacheShapeHash",
            "planCacheKey",
            "isActive",
            "works",
            "worksType",
            "timeOfCreation",
            "createdFromQuery",
            "cachedPlan",
            "creationExecStats",
            "candidatePlanScores",
            "indexFilterSet",
            "estimatedSizeBytes",
            "host",
        ]),
        _ => None,
    }
}

const COLL_STATS: &[&str] = &[
    "ns",
    "host",
    "localTime",
    "latencyStats",
    "storageStats.size",
    "storageStats.count",
    "storageStats.avgObjSize",
    "storageStats.numOrphanDocs",
    "storageStats.storageSize",
    "storageStats.freeStorageSize",
    "storageStats.capped",
    "storageStats.max",
    "storageStats.maxSize",
    "storageStats.nindexes",
    "storageStats.indexBuilds",
    "storageStats.totalIndexSize",
    "storageStats.totalSize",
    "storageStats.indexSizes",
    "storageStats.scaleFactor",
    "count",
    "queryExecStats",
];

/// What `$collStats` may be asked for.
const ASKED: &[&[u8]] = &[
    b"latencyStats",
    b"storageStats",
    b"count",
    b"queryExecStats",
];

/// What `$collStats` cannot be asked for, in mongod's words (4.4.2, 5.0.4, 6.0.5).
pub fn unknown_figure(name: &str, is_before_five: bool) -> Refusal {
    if is_before_five {
        let text = format!("unrecognized option to $collStats: {name}");
        return Refusal::coll_stats_option(text);
    }
    Refusal::unknown_field(format!(
        "BSON field '$collStats.{name}' is an unknown field."
    ))
}

/// Checks where stages with figures stand.
pub(super) fn check(stages: Document<'_>, source: Source) -> Result<(), Refusal> {
    for (index, stage) in stages.elements().enumerate() {
        let first = stage.as_document().and_then(Document::first);
        let name = first.map_or("", |first| first.name());
        if shown(name).is_none() {
            continue;
        }
        if index > 0 {
            return Err(Refusal::misplaced_stage(format!(
                "{name} is only valid as the first stage in a pipeline"
            )));
        }
        if source != Source::Own {
            return Err(Refusal::unauthorized(format!(
                "stage {name} is not allowed here: it shows figures of a whole collection; put it first in an aggregate of its own"
            )));
        }
    }
    Ok(())
}

/// Writes the stage, and behind it two that leave only known fields in the app's own terms, and those that leave out automatic
/// indexes.
pub(super) fn write(
    around: Surroundings<'_>,
    out: &mut Stages<'_>,
    spec: &StageSpec,
    body: &Element<'_>,
) -> Result<(), Refusal> {
    let members = body.as_document().unwrap_or(Document::EMPTY);
    no_repeats(members, spec.name)?;
    if spec.name == "$collStats"
        && let Some(unknown) = members.elements().find(|m| !ASKED.contains(&m.key))
    {
        return Err(unknown_figure(
            unknown.name(),
            around.sight.is_before_five(),
        ));
    }
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    out.w.element(body);
    out.w.end(stage);
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let set = out.w.begin_document(b"$set");
    out.w.string(b"host", HOST);
    if spec.name == "$collStats" {
        logical_namespace(out.w, around.sight.scope().suffix().len());
    }
    out.w.end(set);
    out.w.end(stage);
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let project = out.w.begin_document(b"$project");
    for path in shown(spec.name).unwrap_or_default() {
        out.w.int32(path.as_bytes(), 1);
    }
    out.w.end(project);
    out.w.end(stage);
    if spec.name == "$indexStats" {
        automatic::leave_out(out);
    }
    if members.find("storageStats").is_some() {
        automatic::take_out(out);
    }
    Ok(())
}

/// `ns` without the suffix of the app's own collections.
fn logical_namespace(w: &mut Writer, suffix_bytes: usize) {
    let suffix_bytes = i32::try_from(suffix_bytes).unwrap_or(0);
    let ns = w.begin_document(b"ns");
    let part = w.begin_array(b"$substrBytes");
    w.string(b"0", "$ns");
    w.int32(b"1", 0);
    let length = w.begin_document(b"2");
    let subtract = w.begin_array(b"$subtract");
    let whole = w.begin_document(b"0");
    w.string(b"$strLenBytes", "$ns");
    w.end(whole);
    w.int32(b"1", suffix_bytes);
    w.end(subtract);
    w.end(length);
    w.end(part);
    w.end(ns);
}
