//! What the stages of a pipeline need of the documents in front of them.

use mdb_wire::{Document, Element};

use super::Needs;
use super::fields::{Fields, is_plain};

/// Accumulators for which a field that is null is one that is absent.
const BLIND: &[&[u8]] = &[
    b"$sum",
    b"$avg",
    b"$min",
    b"$max",
    b"$stdDevPop",
    b"$stdDevSamp",
    b"$count",
];

/// What a stage does with the documents in front of it.
enum Passage {
    /// It hands them on, all or some.
    Whole,
    /// It hands on documents with all that they had, and reads or adds more.
    More,
    /// It makes others of some of their fields.
    Reshaped,
    /// Only what gives documents itself, or is served by an index of its own kind, begins so.
    Source,
}

fn passage(stage: &Element<'_>) -> Passage {
    match stage.key {
        b"$match" | b"$sort" | b"$limit" | b"$skip" | b"$sample" => Passage::Whole,
        b"$project" => {
            let keeps_all = stage.as_document().is_some_and(|projection| {
                !projection.is_empty() && !Fields::default().inclusion(projection)
            });
            if keeps_all {
                Passage::More
            } else {
                Passage::Reshaped
            }
        }
        b"$addFields" | b"$set" | b"$unset" | b"$unwind" | b"$lookup" | b"$graphLookup"
        | b"$unionWith" | b"$setWindowFields" | b"$densify" | b"$fill" | b"$redact" | b"$merge"
        | b"$out" => Passage::More,
        b"$geoNear" | b"$documents" | b"$collStats" | b"$indexStats" | b"$planCacheStats" => {
            Passage::Source
        }
        _ => Passage::Reshaped,
    }
}

/// What the stages of a pipeline need of the documents of its collection. `is_reshaped` says that stages behind the pipeline
/// make others of them, which the server may move into it.
pub(crate) fn needs_of_stages(pipeline: Document<'_>, is_reshaped: bool) -> Needs {
    let stages = pipeline.elements();
    let stages = stages.filter_map(|stage| stage.as_document()?.first());
    let mut fields = Fields::default();
    let mut is_limited = false;
    for stage in stages {
        let body = stage.as_document().unwrap_or(Document::EMPTY);
        match (passage(&stage), stage.key) {
            (Passage::Source, _) => return Needs::Nothing,
            (Passage::More, _) => fields.more(),
            (Passage::Whole, b"$match") if crate::filter::has_text(body) => return Needs::Nothing,
            (Passage::Whole, b"$match") => {
                fields.filter(body);
                // Behind these a filter is not one of the query.
                if is_limited {
                    fields.more();
                }
            }
            (Passage::Whole, b"$sort") => fields.sort(body),
            (Passage::Whole, _) => is_limited = true,
            (Passage::Reshaped, _) if !fields.has_more() && is_blind(&stage, body) => {
                return Needs::Nothing;
            }
            (Passage::Reshaped, b"$project") => {
                fields.inclusion(body);
                return Needs::Fields(fields);
            }
            (Passage::Reshaped, b"$facet" | b"$replaceRoot" | b"$replaceWith") => {
                fields.more();
                return Needs::Fields(fields);
            }
            (Passage::Reshaped, _) => {
                fields.expression(&stage);
                return Needs::Fields(fields);
            }
        }
    }
    if is_reshaped {
        fields.more();
        return Needs::Fields(fields);
    }
    Needs::Nothing
}

/// Whether a stage gives the same of a field that is null and of one that is absent. A key of a group that is absent is null
/// (4.4.2, 6.0.5).
fn is_blind(stage: &Element<'_>, body: Document<'_>) -> bool {
    match stage.key {
        b"$count" => true,
        b"$sortByCount" => is_plain(stage),
        b"$group" => body.elements().all(|field| {
            let accumulator = field.as_document().and_then(Document::first);
            match accumulator {
                _ if field.key == b"_id" => is_plain(&field),
                Some(a) => BLIND.contains(&a.key) && (a.key == b"$count" || is_plain(&a)),
                None => false,
            }
        }),
        _ => false,
    }
}
