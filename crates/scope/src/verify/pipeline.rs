//! Pipelines: bound at their first stage, and no stage that reads or writes past it.

use mdb_wire::{Document, Element, Kind};

use super::expression::expressions;
use super::filter::{conditions, guarded};
use super::writing::{merge, out};
use super::{Ground, Place, Verdict, ensure, inside, is_one_of, once, violation};

/// Where a pipeline's documents come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// A shared collection: the first stage must bind them.
    Collection,
    /// Stages that were bound before.
    Stages,
    /// The command itself, by `$documents`.
    Given,
    /// A collection of the app's own, named by the command: its figures may come first.
    Own,
}

/// Stages that show figures of a collection.
const FIGURES: &[&str] = &["$collStats", "$indexStats", "$planCacheStats"];
/// What their documents tell of the server and its files.
const SERVERS: &[&str] = &[
    "shard",
    "wiredTiger",
    "indexDetails",
    "storageStats",
    "operations",
];
/// Whether the last stage of a pipeline may write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Writes {
    /// In an `aggregate`.
    Maybe,
    /// In a pipeline within another.
    Never,
}

/// Stages that read the documents handed to them and nothing else.
const PLAIN: &[&str] = &[
    "$sort",
    "$limit",
    "$skip",
    "$sample",
    "$count",
    "$unwind",
    "$group",
    "$sortByCount",
    "$bucket",
    "$bucketAuto",
    "$redact",
    "$setWindowFields",
    "$densify",
    "$fill",
    "$project",
    "$addFields",
    "$set",
    "$unset",
    "$replaceRoot",
    "$replaceWith",
];

/// The one field of a stage.
pub(super) fn stage_of<'a>(
    stage: &Element<'a>,
    path: &str,
) -> Result<Element<'a>, super::Violation> {
    let mut fields = stage.as_document().into_iter().flat_map(Document::elements);
    match (fields.next(), fields.next()) {
        (Some(only), None) => Ok(only),
        _ => Err(violation(path, "a stage has not one field")),
    }
}

pub(super) fn pipeline(
    place: Place<'_>,
    stages: Document<'_>,
    origin: Origin,
    writes: Writes,
    path: &str,
) -> Verdict {
    let mut is_bound = matches!(origin, Origin::Stages | Origin::Own);
    if origin == Origin::Own {
        figures(stages, path)?;
    }
    let all: Vec<Element<'_>> = stages.elements().collect();
    for (index, stage) in all.iter().enumerate() {
        let path = &format!("{path}.{index}");
        let body = stage_of(stage, path)?;
        if matches!(body.key, b"$merge" | b"$out") {
            let before = all.get(..index).unwrap_or_default();
            let is_last = index.saturating_add(1) == all.len();
            ensure(
                is_bound && is_last && writes == Writes::Maybe,
                path,
                "a stage writes that may not",
            )?;
            return match body.key {
                b"$merge" => merge(place, before, &body, path),
                _ => out(place.owner, &body, path),
            };
        }
        if body.key == b"$geoNear" {
            ensure(index == 0, path, "it is not first")?;
            geo_near(place, &body, path)?;
            is_bound = true;
            continue;
        }
        match (is_bound, origin, body.key) {
            (false, Origin::Collection, b"$match") => {
                let filter = body.as_document();
                guarded(
                    place,
                    filter.ok_or_else(|| violation(path, "there is no filter"))?,
                    path,
                )?;
            }
            (false, Origin::Given, b"$documents") => expressions(Some(&body), path)?,
            (false, ..) => return Err(violation(path, "the pipeline is not bound to the app")),
            (true, Origin::Own, name) if index == 0 && is_one_of(FIGURES, name) => {}
            (true, ..) => later(place, &body, path)?,
        }
        is_bound = true;
    }
    ensure(
        is_bound,
        path,
        "the pipeline is empty, and so not bound to the app",
    )
}

/// Figures are followed by stages that leave known fields only, and no host of a server.
fn figures(stages: Document<'_>, path: &str) -> Verdict {
    let mut first = stages.elements().map(|stage| stage_of(&stage, path));
    let Some(stage) = first.next().transpose()? else {
        return Ok(());
    };
    if !is_one_of(FIGURES, stage.key) {
        return Ok(());
    }
    let (set, project) = (first.next().transpose()?, first.next().transpose()?);
    let set = set
        .filter(|s| s.key == b"$set")
        .and_then(|s| s.as_document());
    let host = set.and_then(|s| s.find("host")).and_then(|h| h.as_str());
    let hides = host.is_some_and(|host| !host.starts_with('$'));
    ensure(hides, path, "figures show the server's host")?;
    let project = project
        .filter(|p| p.key == b"$project")
        .and_then(|p| p.as_document());
    let keeps = |e: Element<'_>| e.as_integer() == Some(1) && !is_one_of(SERVERS, e.key);
    let is_list = project.is_some_and(|p| !p.is_empty() && p.elements().all(keeps));
    ensure(is_list, path, "figures are not reduced to known fields")
}

/// `$geoNear`: its query binds the documents of a shared collection, its key is said.
fn geo_near(place: Place<'_>, body: &Element<'_>, path: &str) -> Verdict {
    let known = [
        "near",
        "distanceField",
        "includeLocs",
        "key",
        "query",
        "spherical",
        "minDistance",
        "maxDistance",
        "distanceMultiplier",
        "uniqueDocs",
        "num",
        "limit",
        "start",
    ];
    let fields = specification(body, &known, path)?;
    once(fields, path)?;
    output(
        place,
        fields,
        &["distanceField", "includeLocs", "key"],
        path,
    )?;
    for name in ["near", "minDistance", "maxDistance", "distanceMultiplier"] {
        expressions(fields.find(name).as_ref(), path)?;
    }
    let query = fields.find("query").and_then(|q| q.as_document());
    if place.ground == Ground::Own {
        return query.map_or(Ok(()), |query| conditions(query, path));
    }
    ensure(
        fields.find("key").is_some(),
        path,
        "the server would choose the index",
    )?;
    guarded(
        place,
        query.ok_or_else(|| violation(path, "there is no query"))?,
        path,
    )
}

pub(super) fn later(place: Place<'_>, body: &Element<'_>, path: &str) -> Verdict {
    let path = &inside(path, body.key);
    if let Some(document) = body.as_document() {
        once(document, path)?;
    }
    match body.key {
        b"$match" => conditions(body.as_document().unwrap_or(Document::EMPTY), path),
        b"$facet" => body
            .as_document()
            .into_iter()
            .flat_map(Document::elements)
            .try_for_each(|branch| nested(place, Some(branch), Origin::Stages, path)),
        b"$lookup" => lookup(place, body, path),
        b"$graphLookup" => graph_lookup(place, body, path),
        b"$unionWith" => union_with(place, body, path),
        // Where a number belongs a text is no expression.
        b"$limit" | b"$skip" if body.kind == Kind::String => Ok(()),
        name if is_one_of(PLAIN, name) => expressions(Some(body), path),
        _ => Err(violation(path, "the stage is not known")),
    }
}

fn nested(place: Place<'_>, array: Option<Element<'_>>, origin: Origin, path: &str) -> Verdict {
    let stages = array.and_then(|e| e.as_array());
    pipeline(
        place,
        stages.ok_or_else(|| violation(path, "there is no pipeline"))?,
        origin,
        Writes::Never,
        path,
    )
}

pub(super) fn specification<'a>(
    body: &Element<'a>,
    known: &[&str],
    path: &str,
) -> Result<Document<'a>, super::Violation> {
    let fields = body.as_document();
    let fields = fields.ok_or_else(|| violation(path, "the stage is no document"))?;
    for element in fields.elements() {
        let is_known = is_one_of(known, element.key);
        ensure(
            is_known,
            &inside(path, element.key),
            "the field is not known",
        )?;
    }
    Ok(fields)
}

/// A collection of the same database, by its plain name: where its documents come from, and whose they are.
fn collection<'a>(
    place: Place<'a>,
    element: Option<Element<'_>>,
    path: &str,
) -> Result<(Place<'a>, Origin), super::Violation> {
    let Some(element) = element else {
        return Ok((place, Origin::Given));
    };
    let ground = place.owner.ground(element.as_str().unwrap_or_default());
    let ground = ground.ok_or_else(|| violation(path, "it reads no plain collection"))?;
    let origin = match ground {
        Ground::Shared => Origin::Collection,
        Ground::Own => Origin::Stages,
    };
    Ok((Place { ground, ..place }, origin))
}

fn output(place: Place<'_>, fields: Document<'_>, names: &[&str], path: &str) -> Verdict {
    for name in names {
        let target = fields.find(name);
        let is_field = target
            .and_then(|e| e.as_string())
            .is_some_and(|target| place.ground == Ground::Shared && place.owner.begins(target));
        ensure(
            !is_field,
            &inside(path, name.as_bytes()),
            "it names the scope field",
        )?;
    }
    Ok(())
}

fn lookup(place: Place<'_>, body: &Element<'_>, path: &str) -> Verdict {
    let known = [
        "from",
        "localField",
        "foreignField",
        "let",
        "pipeline",
        "as",
    ];
    let fields = specification(body, &known, path)?;
    let (foreign, origin) = collection(place, fields.find("from"), path)?;
    output(place, fields, &["as"], path)?;
    output(foreign, fields, &["foreignField"], path)?;
    super::variables(fields, path)?;
    match (fields.find("pipeline"), origin) {
        (None, Origin::Stages) => Ok(()),
        (stages, _) => nested(foreign, stages, origin, path),
    }
}

fn graph_lookup(place: Place<'_>, body: &Element<'_>, path: &str) -> Verdict {
    let known = [
        "from",
        "startWith",
        "connectFromField",
        "connectToField",
        "as",
        "maxDepth",
        "depthField",
        "restrictSearchWithMatch",
    ];
    let fields = specification(body, &known, path)?;
    let (foreign, _) = collection(place, fields.find("from"), path)?;
    output(place, fields, &["as"], path)?;
    output(
        foreign,
        fields,
        &["connectToField", "connectFromField"],
        path,
    )?;
    expressions(fields.find("startWith").as_ref(), path)?;
    let filter = fields.find("restrictSearchWithMatch");
    let filter = filter.and_then(|f| f.as_document());
    if foreign.ground == Ground::Own && filter.is_none() {
        return Ok(());
    }
    guarded(
        foreign,
        filter.ok_or_else(|| violation(path, "the search is not bound to the app"))?,
        path,
    )
}

fn union_with(place: Place<'_>, body: &Element<'_>, path: &str) -> Verdict {
    let fields = specification(body, &["coll", "pipeline"], path)?;
    let (foreign, origin) = collection(place, fields.find("coll"), path)?;
    nested(foreign, fields.find("pipeline"), origin, path)
}
