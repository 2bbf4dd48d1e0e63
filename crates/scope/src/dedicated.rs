//! Commands on the definition of a collection that is the app's own: as the app says them, with the physical name.

use mdb_wire::{Command, Document, Element, Kind, Writer};

use crate::apply::{Outcome, begin, check_sequences, seal, target};
use crate::arguments::{self, Take};
use crate::body::Body;
use crate::commands::CommandSpec;
use crate::facts::{Facts, Isolation, NO_AUTOMATIC_INDEXES, NO_NEAR_KEY, known_of};
use crate::namespace::{check_collection, check_length};
use crate::pipeline::{self, EMPTY_ARRAY, Source, Surroundings, Within};
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::scoped::{ReplyRule, Retry, Routing, Scoped};
use crate::{filter, generic, index, modify};

impl Scope {
    /// A command of the catalog on a collection that is the app's own: as the app says it, with the physical name.
    ///
    /// # Errors
    /// Those of its fields; 13 where the collection is shared.
    pub fn dedicated(
        &self,
        spec: &'static CommandSpec,
        command: &Command<'_>,
        facts: &Facts<'_>,
    ) -> Result<Scoped, Refusal> {
        if !facts.collection.is_dedicated() {
            return Err(Refusal::unauthorized(format!(
                "{} concerns a collection that apps share",
                spec.name
            )));
        }
        check_sequences(spec, command)?;
        let body = Body::read(self, spec, command, facts)?;
        let mut w = begin(command);
        let mark = w.begin();
        target(&body, &mut w)?;
        if let Some(uuid) = facts.collection.uuid.filter(|_| spec.name == "collMod") {
            w.binary(b"collectionUUID", UUID_SUBTYPE, &uuid);
        }
        let view = View::read(&body)?;
        if let Some(view) = &view {
            view.write(&body, &mut w)?;
        }
        for element in command.body.elements().skip(1) {
            if matches!(element.key, b"viewOn" | b"pipeline") {
                continue;
            }
            let argument = arguments::look_up(spec.arguments, element.key);
            if argument.is_some_and(|a| a.take == Take::Own) {
                definition(&body, &mut w, &element)?;
            }
        }
        body.fields(&mut w, false)?;
        w.end(mark);
        let rule = match spec.name {
            "listIndexes" => ReplyRule::Cursor { strips: false },
            _ => ReplyRule::Plain,
        };
        let retry = match spec.name {
            "listIndexes" | "collStats" | "planCacheListFilters" => Retry::Read,
            _ => Retry::Write,
        };
        seal(w, facts, Outcome::new(Routing::Primary, retry, rule))
    }
}

/// What a view shows: frozen when it is defined, bound to the app as if it were read.
struct View<'a> {
    on: &'a str,
    pipeline: Option<Element<'a>>,
}

impl<'a> View<'a> {
    /// What is wrong is told in mongod's words (4.4.2, 5.0.4, 6.0.5).
    fn read(body: &Body<'a, '_>) -> Result<Option<Self>, Refusal> {
        let is_old = body.sight().is_before_five();
        let Some(on) = body.command.body.find("viewOn") else {
            return Self::check_alone(body).map(|()| None);
        };
        let Some(name) = on.as_str() else {
            if is_old && body.spec.name == "collMod" {
                return Err(Refusal::invalid_options("'viewOn' option must be a string"));
            }
            let path = format!("{}.viewOn", body.spec.name);
            return Err(Refusal::wrong_kind(&path, on.kind.name(), "string"));
        };
        if name.is_empty() {
            // As it stands there (4.4.2).
            let end = if is_old { ".'" } else { "" };
            return Err(Refusal::bad_value(format!("'viewOn' cannot be empty{end}")));
        }
        check_collection(name)?;
        let pipeline = body.command.body.find("pipeline");
        if let Some(other) = pipeline.filter(|stages| stages.as_array().is_none()) {
            return Err(Self::no_pipeline(body, &other));
        }
        if let Some(stages) = pipeline.and_then(|p| p.as_array()) {
            Self::no_writing(body, stages)?;
        }
        Ok(Some(Self { on: name, pipeline }))
    }

    /// Checks a pipeline without a collection to read. It is never sent: only with its collection known can it be bound.
    fn check_alone(body: &Body<'a, '_>) -> Result<(), Refusal> {
        let Some(pipeline) = body.command.body.find("pipeline") else {
            return Ok(());
        };
        let creates_on_old = body.spec.name == "create" && body.sight().is_before_five();
        match pipeline.as_array() {
            None if body.spec.name == "create" => Err(Self::no_pipeline(body, &pipeline)),
            Some(stages) if creates_on_old && stages.is_empty() => Ok(()),
            _ if creates_on_old => Err(Refusal::bad_value(
                "'pipeline' cannot be specified without 'viewOn'",
            )),
            _ => Err(Refusal::invalid_options(
                "'pipeline' requires 'viewOn' to also be specified",
            )),
        }
    }

    /// What a server says of a pipeline that is no array.
    fn no_pipeline(body: &Body<'a, '_>, other: &Element<'_>) -> Refusal {
        let is_old = body.sight().is_before_five();
        let name = body.spec.name;
        if is_old && name != "create" {
            return Refusal::invalid_options("not a valid aggregation pipeline");
        }
        if is_old || other.kind == Kind::Null {
            let text = "invalid parameter: expected an object (pipeline)";
            return Refusal::cluster_time_shape(text);
        }
        Refusal::wrong_kind(&format!("{name}.pipeline"), other.kind.name(), "array")
    }

    /// Refuses the stages that no view has, in mongod's words (4.4.2, 6.0.5).
    fn no_writing(body: &Body<'a, '_>, stages: Document<'a>) -> Result<(), Refusal> {
        let database = body.command.database;
        let name = body.command.target.as_str().unwrap_or_default();
        let view = format!("{database}.{name}");
        let stages = stages.elements().filter_map(|s| s.as_document()?.first());
        for (place, stage) in stages.enumerate() {
            let why = match stage.key {
                b"$changeStream" if place == 0 => {
                    "$changeStream cannot be used in a view definition".to_owned()
                }
                b"$out" | b"$merge" => format!(
                    "The aggregation stage {} in location {place} of the pipeline cannot be used in the view definition of {view} because it writes to disk",
                    stage.name()
                ),
                _ => continue,
            };
            let text = format!("Invalid pipeline for view {view} :: caused by :: {why}");
            return Err(Refusal::stage_in_view(text));
        }
        Ok(())
    }

    fn write(&self, body: &Body<'_, '_>, w: &mut Writer) -> Result<(), Refusal> {
        let facts = body.facts;
        let database = body.command.database;
        let known = known_of(facts.foreign, database, self.on);
        let isolation = known.map_or(Isolation::Shared, |known| known.isolation);
        let physical = body.scope.physical_collection(self.on, isolation);
        w.string(b"viewOn", &physical);
        let collation = body.command.body.find("collation");
        // A view keeps its collation, which collMod does not say again.
        let is_collated = body.spec.name == "collMod"
            || collation.map_or(Ok(false), |c| generic::collation(&c))?;
        let around = Surroundings {
            sight: body.sight().over(isolation),
            is_collated,
            database,
            collection: self.on,
            near: known.map_or(&NO_NEAR_KEY, |known| &known.near),
            control_database: facts.control_database,
            within: Within::View,
            foreign: facts.foreign,
            // A definition is kept, and indexes come and go.
            automatic: &NO_AUTOMATIC_INDEXES,
            may_fail: self
                .pipeline
                .is_some_and(|p| p.as_nested().is_some_and(filter::may_fail)),
            depth: 0,
        };
        let source = match isolation {
            Isolation::Shared => Source::Foreign,
            Isolation::Dedicated => Source::Stages,
        };
        let pipeline = self.pipeline.unwrap_or(EMPTY_ARRAY);
        pipeline::write(around, w, b"pipeline", &pipeline, source).map(|_| ())
    }
}

/// BSON's subtype of a UUID.
const UUID_SUBTYPE: u8 = 4;
/// What stands in front of what is wrong with a changed validator.
const VALIDATOR: &str = "Parsing of collection validator failed :: caused by :: ";

/// Writes a field of a definition. What the server would run for every write must be of the tables as well.
fn definition(body: &Body<'_, '_>, w: &mut Writer, element: &Element<'_>) -> Result<(), Refusal> {
    if let Some(document) = element.as_document() {
        no_repeats(document, "a definition")?;
    }
    match element.key {
        b"validator" => {
            let document = generic::document_or_null(element, "validator")?;
            let sight = body.sight().of_view(false);
            filter::bound(sight, w, element.key, false, Some(document)).map_err(|refusal| {
                // In mongod's words (6.0.5); of a new collection it says no more than what is wrong.
                if body.spec.name == "collMod" && refusal.is_of_statement() {
                    refusal.behind(VALIDATOR)
                } else {
                    refusal
                }
            })
        }
        b"indexes" => index::write_dedicated(w, body.command, element),
        b"index" if body.spec.name == "collMod" => {
            let wire_version = body.facts.wire_version;
            if modify::changed(body.command, wire_version).is_none() {
                w.element(element);
                return Ok(());
            }
            modify::members(element, wire_version)?;
            let known = modify::members_of(wire_version);
            let members = element.as_document().unwrap_or(Document::EMPTY);
            let index = w.begin_document(element.key);
            members
                .elements()
                .filter(|member| known.contains(&member.key))
                .for_each(|member| w.element(&member));
            w.end(index);
            Ok(())
        }
        b"toCollection" => {
            let name = element.as_str().ok_or_else(|| {
                let path = "cloneCollectionAsCapped.toCollection";
                Refusal::wrong_kind(path, element.kind.name(), "string")
            })?;
            check_collection(name)?;
            let physical = body.scope.physical_collection(name, Isolation::Dedicated);
            check_length(body.command.database, &physical)?;
            w.string(element.key, &physical);
            Ok(())
        }
        _ => {
            w.element(element);
            Ok(())
        }
    }
}
