//! Stages that name other collections: each is bound to the app by itself, as it says where the collection is.

use std::borrow::Cow;

use mdb_wire::{Command, Document, Element, Kind};

use super::{
    EMPTY_ARRAY, PIPELINES_NESTED_MAX, Source, Stages, Surroundings, Within, begins_with_documents,
    joined, specification, write, writing,
};
use crate::facts::{Isolation, NO_AUTOMATIC_INDEXES, NO_NEAR_KEY, known_of};
use crate::index::{print_key, print_value};
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::sight::Sight;
use crate::update::unset;
use crate::versions::WIRE_VERSION_6_0;
use crate::{expression, filter};

/// A collection that a stage names: its name upstream, and how its documents are seen.
struct Foreign<'a> {
    physical: Cow<'a, str>,
    around: Surroundings<'a>,
    source: Source,
}

/// A collection named by a stage: a plain name of the same database. The object form reads other databases, the oplog
/// among them.
fn foreign_collection<'a>(
    around: Surroundings<'a>,
    element: &Element<'a>,
    stage: &str,
) -> Result<Foreign<'a>, Refusal> {
    let Some(name) = element.as_str() else {
        if stage == "$unionWith" && element.kind != Kind::Document {
            let kind = element.kind.name();
            return Err(Refusal::wrong_kind("$unionWith.coll", kind, "string"));
        }
        return Err(Refusal::failed_to_parse(format!(
            "{stage} '{}' must be a string, the name of a collection of the same database, but found {}",
            element.name(),
            element.kind.name()
        )));
    };
    crate::namespace::check_collection(name)?;
    let known = known_of(around.foreign, around.database, name);
    let isolation = known.map_or(Isolation::Shared, |known| known.isolation);
    let sight = around.sight.over(isolation);
    Ok(Foreign {
        physical: sight.scope().physical_collection(name, isolation),
        source: if sight.is_shared() {
            Source::Foreign
        } else {
            Source::Stages
        },
        around: Surroundings {
            // Which of the app's own ones are views is not told here.
            sight: sight.of_view(!sight.is_shared()),
            collection: name,
            near: known.map_or(&NO_NEAR_KEY, |known| &known.near),
            automatic: known.map_or(&NO_AUTOMATIC_INDEXES, |known| &known.automatic),
            ..around
        },
    })
}

/// A stage that names no collection must bring its documents: its pipeline is not bound to the app.
fn given_documents(stage: &str, pipeline: Option<&Element<'_>>) -> Result<(), Refusal> {
    if pipeline.is_some_and(begins_with_documents) {
        return Ok(());
    }
    Err(Refusal::failed_to_parse(format!(
        "{stage} stage without explicit collection must have a pipeline with $documents as first stage"
    )))
}

/// A `$lookup` without a collection, in the words of servers (4.4.2, 5.0.4, 6.0.5).
fn joined_to_nothing(sight: Sight<'_>, lookup: Document<'_>) -> Result<(), Refusal> {
    let pipeline = lookup.find("pipeline");
    if sight.wire_version() < WIRE_VERSION_6_0 {
        return Err(without_collection("$lookup", lookup));
    }
    if pipeline.is_none() {
        let text = "must specify 'pipeline' when 'from' is empty";
        return Err(Refusal::failed_to_parse(text));
    }
    given_documents("$lookup", pipeline.as_ref())
}

fn without_collection(stage: &str, specification: Document<'_>) -> Refusal {
    Refusal::failed_to_parse(format!(
        "missing 'from' option to {stage} stage specification: {}",
        print_key(specification)
    ))
}

/// A path that a stage writes: it must not be the scope field.
pub(super) fn output_path(sight: Sight<'_>, element: &Element<'_>) -> Result<(), Refusal> {
    let reserved = element
        .as_string()
        .is_some_and(|path| sight.names_scope_field(path));
    if reserved {
        return Err(sight.scope().reserved());
    }
    Ok(())
}

fn unknown_member(stage: &str, element: &Element<'_>) -> Refusal {
    Refusal::failed_to_parse(format!("unknown argument to {stage}: {}", element.name()))
}

pub(super) fn lookup<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let sight = around.sight;
    let specification = specification(body, "$lookup")?;
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let lookup = out.w.begin_document(b"$lookup");
    let from = specification.find("from");
    let from = from.map(|from| foreign_collection(around, &from, "$lookup"));
    let from = from.transpose()?;
    let (inner, source) = match &from {
        Some(from) => (from.around.deeper(Within::Lookup)?, from.source),
        None => (around.deeper(Within::Lookup)?, Source::Given),
    };
    if from.is_none() {
        joined_to_nothing(sight, specification)?;
    }
    let mut has_pipeline = false;
    let is_joined = sight.is_before_five()
        && source == Source::Foreign
        && specification.find("pipeline").is_none();
    for element in specification.elements() {
        match element.key {
            b"from" => {
                let physical = from.as_ref().map_or("", |from| &*from.physical);
                out.w.string(b"from", physical);
            }
            b"localField" | b"foreignField" | b"let" if is_joined => {
                let is_local = element.key == b"localField";
                output_path(if is_local { sight } else { inner.sight }, &element)?;
            }
            b"pipeline" => {
                has_pipeline = true;
                write(inner, out.w, b"pipeline", &element, source)?;
            }
            b"let" => expression::bindings(sight.clean(), out.w, &element)?,
            b"as" | b"localField" => {
                output_path(sight, &element)?;
                out.w.element(&element);
            }
            b"foreignField" => {
                output_path(inner.sight, &element)?;
                out.w.element(&element);
            }
            _ => return Err(unknown_member("$lookup", &element)),
        }
    }
    if !has_pipeline && source == Source::Foreign {
        let (local, foreign) = joined_fields(specification)?;
        if is_joined {
            joined::bindings(out.w, &joined::names(local)?);
            let made = joined::pipeline(&joined::names(foreign)?);
            // What this program writes can be read.
            let made = Document::parse_shallow(&made).unwrap_or(Document::EMPTY);
            let stages = made.find("pipeline").unwrap_or(EMPTY_ARRAY);
            write(inner, out.w, b"pipeline", &stages, source)?;
        } else {
            // Together with localField and foreignField since 5.0.
            write(inner, out.w, b"pipeline", &EMPTY_ARRAY, source)?;
        }
    }
    out.w.end(lookup);
    out.w.end(stage);
    Ok(())
}

/// The two fields of a `$lookup` without a pipeline, which must have both: with the pipeline that it is going to have it would
/// need neither. In mongod's words (4.4.2, 5.0.4, 6.0.5).
fn joined_fields(specification: Document<'_>) -> Result<(&str, &str), Refusal> {
    if specification.find("as").is_none() {
        return Err(Refusal::failed_to_parse(
            "must specify 'as' field for a $lookup",
        ));
    }
    if specification.find("let").is_some() {
        return Err(Refusal::failed_to_parse(
            "$lookup with a 'let' argument must also specify 'pipeline'",
        ));
    }
    let path = |name: &str| match specification.find(name) {
        Some(path) if path.kind != Kind::String => {
            let (value, kind) = (print_value(&path), path.kind.name());
            Err(Refusal::failed_to_parse(format!(
                "$lookup argument '{name}' must be a string, found {name}: {value}: {kind}"
            )))
        }
        path => Ok(path.and_then(|path| path.as_str()).unwrap_or_default()),
    };
    let (local, foreign) = (path("localField")?, path("foreignField")?);
    if local.is_empty() || foreign.is_empty() {
        return Err(Refusal::failed_to_parse(
            "$lookup requires either 'pipeline' or both 'localField' and 'foreignField' to be specified",
        ));
    }
    Ok((local, foreign))
}

pub(super) fn graph_lookup<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let sight = around.sight;
    let specification = specification(body, "$graphLookup")?;
    let Some(from) = specification.find("from") else {
        return Err(without_collection("$graphLookup", specification));
    };
    let from = foreign_collection(around, &from, "$graphLookup")?;
    let searched = from.around.sight;
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let lookup = out.w.begin_document(b"$graphLookup");
    let mut restriction = None;
    for element in specification.elements() {
        match element.key {
            b"from" => out.w.string(b"from", &from.physical),
            b"startWith" => expression::write(sight.clean(), out.w, element.key, &element)?,
            b"as" => {
                output_path(sight, &element)?;
                out.w.element(&element);
            }
            b"connectFromField" | b"connectToField" | b"depthField" => {
                output_path(searched, &element)?;
                out.w.element(&element);
            }
            b"maxDepth" => out.w.element(&element),
            b"restrictSearchWithMatch" => {
                restriction = Some(crate::generic::document(
                    &element,
                    "$graphLookup.restrictSearchWithMatch",
                )?);
            }
            _ => {
                return Err(Refusal::graph_lookup_option(format!(
                    "Unknown argument to $graphLookup: {}",
                    element.name()
                )));
            }
        }
    }
    if searched.is_shared() || restriction.is_some() {
        let key = b"restrictSearchWithMatch";
        filter::bound(searched, out.w, key, around.is_collated, restriction).map_err(
            |refusal| {
                refusal.behind(
                "Failed to parse 'restrictSearchWithMatch' option to $graphLookup :: caused by :: ",
            )
            },
        )?;
    }
    out.w.end(lookup);
    out.w.end(stage);
    let to = specification.find("as").and_then(|to| to.as_str());
    // No server takes a name that begins so (16410), and `$unset` would take it for something else.
    let to = to.filter(|to| !to.starts_with('$'));
    if let (true, Some(to)) = (searched.sees_hidden_field(), to) {
        let path = format!("{to}.{}", sight.scope().field().as_str());
        let key = out.next();
        unset(out.w, key.as_bytes(), &path);
    }
    Ok(())
}

pub(super) fn union_with<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let union = out.w.begin_document(b"$unionWith");
    if body.kind == Kind::String {
        let from = foreign_collection(around, body, "$unionWith")?;
        out.w.string(b"coll", &from.physical);
        let inner = from.around.deeper(Within::UnionWith)?;
        write(inner, out.w, b"pipeline", &EMPTY_ARRAY, from.source)?;
    } else {
        let Some(specification) = body.as_document() else {
            return Err(Refusal::failed_to_parse(format!(
                "the $unionWith stage specification must be an object or string, but found {}",
                body.kind.name()
            )));
        };
        no_repeats(specification, "$unionWith")?;
        let mut from = None;
        for element in specification.elements() {
            match element.key {
                b"coll" => {
                    let found = foreign_collection(around, &element, "$unionWith")?;
                    out.w.string(b"coll", &found.physical);
                    from = Some(found);
                }
                b"pipeline" => {}
                _ => {
                    let name = element.name();
                    return Err(Refusal::unknown_field(format!(
                        "BSON field '$unionWith.{name}' is an unknown field."
                    )));
                }
            }
        }
        let (inner, source) = if let Some(from) = from {
            (from.around, from.source)
        } else {
            given_documents("$unionWith", specification.find("pipeline").as_ref())?;
            (around, Source::Given)
        };
        let pipeline = specification.find("pipeline").unwrap_or(EMPTY_ARRAY);
        let inner = inner.deeper(Within::UnionWith)?;
        write(inner, out.w, b"pipeline", &pipeline, source)?;
    }
    out.w.end(union);
    out.w.end(stage);
    Ok(())
}

/// The collections that stages of a command name, besides its own: database and collection, as the app says them.
///
/// Only what is well-formed is found; what is not is refused by [`Scope::apply`](crate::Scope::apply).
pub fn foreign_collections<'a>(command: &Command<'a>) -> Vec<(&'a str, &'a str)> {
    let mut found = Vec::new();
    let inner = command.target.as_document();
    let body = inner
        .filter(|_| command.name == b"explain")
        .unwrap_or(command.body);
    let on = body.find("viewOn").and_then(|on| on.as_str());
    if let Some(on) = on.filter(|on| !on.is_empty()) {
        found.push((command.database, on));
    }
    if let Some(pipeline) = body.find("pipeline") {
        named(&pipeline, command.database, 0, &mut found);
    }
    if let Some(written) = writing::written_collection(command) {
        found.push((written.database, written.collection));
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn named<'a>(
    pipeline: &Element<'a>,
    database: &'a str,
    depth: usize,
    found: &mut Vec<(&'a str, &'a str)>,
) {
    if depth > PIPELINES_NESTED_MAX {
        return;
    }
    let stages = pipeline.as_array().into_iter().flat_map(Document::elements);
    for stage in stages.filter_map(|stage| stage.as_document()?.first()) {
        let body = stage.as_document().unwrap_or(Document::EMPTY);
        let name = match stage.key {
            b"$lookup" | b"$graphLookup" => body.find("from"),
            b"$unionWith" if stage.kind == Kind::String => Some(stage),
            b"$unionWith" => body.find("coll"),
            _ => None,
        };
        if let Some(name) = name.and_then(|name| name.as_str()) {
            found.push((database, name));
        }
        let deeper = depth.saturating_add(1);
        match stage.key {
            b"$lookup" | b"$unionWith" => {
                if let Some(inner) = body.find("pipeline") {
                    named(&inner, database, deeper, found);
                }
            }
            b"$facet" => body
                .elements()
                .for_each(|branch| named(&branch, database, deeper, found)),
            _ => {}
        }
    }
}
