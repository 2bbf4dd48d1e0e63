//! `$merge` and `$out`: the last stages, which write. Into a shared collection only documents of the app go, and only over
//! documents of the app; `$out`, which replaces a collection as a whole, makes one of the app's own, and where that was to be
//! a shared one the proxy goes on from there.

use std::borrow::Cow;

use mdb_wire::{Command, Document, Element, Kind, Writer};

use super::{Stages, Surroundings, Within, specification};
use crate::commands::Action;
use crate::facts::{Isolation, isolation_of, known_of};
use crate::namespace::{check_collection, check_length, check_other_database};
use crate::refusal::Refusal;
use crate::scope::IdPolicy;
use crate::sight::Sight;
use crate::{expression, generic, update};

/// A collection that the last stage of a command writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrittenCollection<'a> {
    /// Its database.
    pub database: &'a str,
    /// Its name, as the app says it.
    pub collection: &'a str,
    /// Whether the stage is `$out`: what was there before goes.
    pub replaces: bool,
}

/// The collection that the last stage of a command writes, also of one inside an `explain`. Only what is well-formed is
/// found; what is not is refused by [`Scope::apply`](crate::Scope::apply).
pub fn written_collection<'a>(command: &Command<'a>) -> Option<WrittenCollection<'a>> {
    let inner = command.target.as_document();
    let inner = inner.filter(|_| command.name == b"explain");
    let body = inner.unwrap_or(command.body);
    if inner.is_none() && command.name != b"aggregate" {
        return None;
    }
    let stage = last_stage(&body.find("pipeline")?)?;
    let replaces = stage.key == b"$out";
    let into = match stage.key {
        b"$merge" if stage.kind == Kind::Document => stage.as_document()?.find("into")?,
        b"$merge" | b"$out" => stage,
        _ => return None,
    };
    let (database, collection) = match into.as_document() {
        Some(named) => {
            let database = named.find("db").map(|db| db.as_str());
            (
                database.unwrap_or(Some(command.database))?,
                named.find("coll")?.as_str()?,
            )
        }
        None => (command.database, into.as_str()?),
    };
    if !mdb_wire::is_legal_database(database) || is_unwritable(collection) {
        return None;
    }
    Some(WrittenCollection {
        database,
        collection,
        replaces,
    })
}

fn last_stage<'a>(pipeline: &Element<'a>) -> Option<Element<'a>> {
    let last = pipeline.as_array()?.elements().last()?;
    last.as_document()?.first()
}

/// The last stage of a pipeline, if it writes, and what it needs from the roles besides reading.
pub(crate) fn writing_stage(pipeline: &Element<'_>) -> Option<(&'static str, Action)> {
    match last_stage(pipeline)?.key {
        b"$merge" => Some(("$merge", Action::Insert)),
        b"$out" => Some(("$out", Action::Remove)),
        _ => None,
    }
}

/// Whether a stage that writes may stand here; codes and texts of 6.0.5.
pub(super) fn admit(around: Surroundings<'_>, name: &str, is_last: bool) -> Result<(), Refusal> {
    match around.within {
        Within::Command if is_last => Ok(()),
        Within::Command => Err(Refusal::stage_not_last(format!(
            "{name} can only be the final stage in the pipeline"
        ))),
        Within::View => Err(Refusal::stage_in_view(format!(
            "The aggregation stage {name} cannot be used in a view definition because it writes to disk"
        ))),
        Within::Facet => Err(Refusal::stage_in_facet(format!(
            "{name} is not allowed to be used within a $facet stage"
        ))),
        Within::Lookup => Err(Refusal::stage_in_lookup(format!(
            "{name} is not allowed within a $lookup's sub-pipeline"
        ))),
        Within::UnionWith => Err(Refusal::stage_in_union(format!(
            "{name} is not allowed within a $unionWith's sub-pipeline"
        ))),
    }
}

/// Where a stage writes.
struct Target<'a> {
    database: Option<&'a str>,
    physical: Cow<'a, str>,
    isolation: Isolation,
}

impl<'a> Target<'a> {
    fn new(
        around: Surroundings<'a>,
        stage: &str,
        database: Option<&'a str>,
        name: &'a str,
    ) -> Result<Self, Refusal> {
        let there = database.unwrap_or(around.database);
        check_other_database("aggregate", there, around.control_database)?;
        check_target(stage, there, name, around.sight.is_before_five())?;
        check_collection(name)?;
        let isolation = isolation_of(around.foreign, there, name);
        let physical = around.sight.scope().physical_collection(name, isolation);
        check_length(there, &physical)?;
        Ok(Self {
            database,
            physical,
            isolation,
        })
    }

    fn write(&self, w: &mut Writer, key: &[u8]) {
        match self.database {
            None => w.string(key, &self.physical),
            Some(database) => {
                let into = w.begin_document(key);
                w.string(b"db", database);
                w.string(b"coll", &self.physical);
                w.end(into);
            }
        }
    }
}

/// Whether no stage writes a collection of that name.
fn is_unwritable(name: &str) -> bool {
    name.is_empty() || name.starts_with("system.") || name.contains('$')
}

/// Checks the name of a collection that is written, in the words of servers (4.4.2, 5.0.4, 6.0.5).
fn check_target(
    stage: &str,
    database: &str,
    name: &str,
    is_before_five: bool,
) -> Result<(), Refusal> {
    if !is_unwritable(name) {
        return Ok(());
    }
    let is_special = name.starts_with("system.");
    Err(match stage {
        "$out" if name.is_empty() => {
            Refusal::invalid_namespace(format!("Invalid $out target namespace, {database}."))
        }
        _ if name.is_empty() => {
            Refusal::invalid_namespace(format!("Invalid $merge target namespace: '{database}.'"))
        }
        "$out" if is_special => {
            Refusal::out_special(format!("Can't $out to special collection: {name}"))
        }
        _ if is_special => {
            Refusal::merge_special(format!("Cannot $merge to special collection: {name}"))
        }
        "$out" if is_before_five => {
            Refusal::illegal_operation("error with target namespace: invalid collection name")
        }
        "$out" => Refusal::illegal_operation(format!(
            "PlanExecutor error during aggregation :: caused by :: error with target namespace: Invalid collection name: {name}"
        )),
        _ if is_before_five => Refusal::invalid_namespace("invalid collection name"),
        _ => Refusal::invalid_namespace(format!(
            "PlanExecutor error during aggregation :: caused by :: Invalid collection name: {name}"
        )),
    })
}

/// Reads a part of `{db, coll}` of a `$out`, in mongod's words.
fn named<'a>(fields: Document<'a>, part: &str) -> Result<&'a str, Refusal> {
    let element = fields.find(part);
    let kind = element.map_or("missing", |element| element.kind.name());
    let text = format!("wrong type for field ({part}) {kind} != string");
    let wrong = Refusal::wrong_name_kind(text);
    element.and_then(|element| element.as_str()).ok_or(wrong)
}

/// Writes a `$out`.
pub(super) fn out<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let mut series = None;
    let target = match (body.as_str(), body.as_document()) {
        (Some(name), _) => Target::new(around, "$out", None, name)?,
        (None, Some(_)) => {
            let fields = specification(body, "$out")?;
            let is_known = |e: Element<'_>| matches!(e.key, b"db" | b"coll" | b"timeseries");
            let has_both = fields.find("db").is_some() && fields.find("coll").is_some();
            if !has_both || !fields.elements().all(is_known) {
                return Err(Refusal::out_shape(
                    "If an object is passed to $out it must have exactly 2 fields: 'db' and 'coll'",
                ));
            }
            series = fields.find("timeseries");
            let database = named(fields, "db")?;
            Target::new(around, "$out", Some(database), named(fields, "coll")?)?
        }
        (None, None) => {
            return Err(Refusal::out_kind(format!(
                "$out only supports a string or object argument, but found {}",
                body.kind.name()
            )));
        }
    };
    let target = aside(around, target, series.is_some())?;
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    match &series {
        None => target.write(out.w, b"$out"),
        Some(series) => {
            let options = specification(series, "$out.timeseries")?;
            let inner = out.w.begin_document(b"$out");
            out.w.string(b"db", target.database.unwrap_or_default());
            out.w.string(b"coll", &target.physical);
            out.w.document(b"timeseries", options);
            out.w.end(inner);
        }
    }
    out.w.end(stage);
    Ok(())
}

/// Where a `$out` writes: what is to replace documents of a shared collection, it puts aside.
fn aside<'a>(
    around: Surroundings<'a>,
    target: Target<'a>,
    is_series: bool,
) -> Result<Target<'a>, Refusal> {
    if target.isolation == Isolation::Dedicated {
        return Ok(target);
    }
    if around.sight.scope().id_policy() == IdPolicy::RandomOnly {
        return Err(Refusal::invalid_options(
            "$out over a shared collection is not available with the app's id_policy random_only: its _ids cannot be checked; use \
             another name, or a dedicated collection",
        ));
    }
    let there = target.database.unwrap_or(around.database);
    let known = known_of(around.foreign, there, &target.physical);
    let Some(aside) = known
        .and_then(|known| known.aside.as_ref())
        .filter(|_| !is_series)
    else {
        return Err(Refusal::unauthorized(format!(
            "stage $out is not allowed here: it replaces a collection as a whole, and '{}' is one that apps share; that takes a \
             replica set, and is neither explained nor done with time series; use $merge, another name, or a dedicated collection",
            target.physical
        )));
    };
    check_length(there, aside.as_str())?;
    Ok(Target {
        physical: Cow::Borrowed(aside.as_str()),
        ..target
    })
}

/// What a `$merge` says.
struct Merge<'a> {
    target: Target<'a>,
    on: Option<Element<'a>>,
    variables: Option<Element<'a>>,
    when_matched: Option<Element<'a>>,
    when_not_matched: Option<Element<'a>>,
}

impl<'a> Merge<'a> {
    fn read(around: Surroundings<'a>, body: &Element<'a>) -> Result<Self, Refusal> {
        let mut merge = match (body.as_str(), body.kind) {
            (Some(name), _) => return Ok(Self::into(Target::new(around, "$merge", None, name)?)),
            (None, Kind::Document) => {
                let fields = specification(body, "$merge")?;
                known_fields(fields)?;
                let into = fields.find("into").ok_or_else(|| {
                    Refusal::missing_field(
                        "BSON field '$merge.into' is missing but a required field",
                    )
                })?;
                Self::into(into_of(around, &into)?)
            }
            (None, kind) => {
                return Err(Refusal::type_mismatch(format!(
                    "$merge requires a string or object argument, but found {}",
                    kind.name()
                )));
            }
        };
        for element in body.as_document().into_iter().flat_map(Document::elements) {
            match element.key {
                b"into" => {}
                b"on" => merge.on = Some(element),
                b"let" => merge.variables = Some(element).filter(|e| e.kind != Kind::Null),
                b"whenMatched" => merge.when_matched = Some(element),
                _ => merge.when_not_matched = Some(element),
            }
        }
        Ok(merge)
    }

    fn into(target: Target<'a>) -> Self {
        Self {
            target,
            on: None,
            variables: None,
            when_matched: None,
            when_not_matched: None,
        }
    }
}

/// Checks that a `$merge` says nothing else than it can.
fn known_fields(merge: Document<'_>) -> Result<(), Refusal> {
    let is_known = |e: &Element<'_>| {
        matches!(
            e.key,
            b"into" | b"on" | b"let" | b"whenMatched" | b"whenNotMatched"
        )
    };
    let unknown = merge.elements().find(|e| !is_known(e));
    unknown.map_or(Ok(()), |unknown| {
        Err(Refusal::unknown_field(format!(
            "BSON field '$merge.{}' is an unknown field.",
            unknown.name()
        )))
    })
}

fn into_of<'a>(around: Surroundings<'a>, into: &Element<'a>) -> Result<Target<'a>, Refusal> {
    if let Some(name) = into.as_str() {
        return Target::new(around, "$merge", None, name);
    }
    if into.kind != Kind::Document {
        return Err(Refusal::merge_into_kind(format!(
            "$merge 'into' field  must be either a string or an object, but found {}",
            into.kind.name()
        )));
    }
    let fields = specification(into, "$merge.into")?;
    let unknown = fields
        .elements()
        .find(|e| !matches!(e.key, b"db" | b"coll"));
    if let Some(unknown) = unknown {
        return Err(Refusal::unknown_field(format!(
            "BSON field 'into.{}' is an unknown field.",
            unknown.name()
        )));
    }
    let is_unnamed = fields
        .find("coll")
        .is_none_or(|coll| generic::is_null(&coll) || coll.as_str().is_some_and(str::is_empty));
    if is_unnamed {
        return Err(Refusal::merge_unnamed(
            "$merge 'into' field must specify a 'coll' that is not empty, null or undefined",
        ));
    }
    let text = |element: Element<'a>| {
        let path = format!("into.{}", element.name());
        let wrong = Refusal::wrong_kind(&path, element.kind.name(), "string");
        element.as_str().ok_or(wrong)
    };
    let database = fields.find("db").map(text).transpose()?;
    let collection = fields.find("coll").map(text).transpose()?;
    Target::new(around, "$merge", database, collection.unwrap_or_default())
}

/// Writes a `$merge`. Into a shared collection documents are stamped first, and matched by `_id` and the scope field, so that
/// another app's document with the same `_id` is never met: the insert that follows fails with 11000.
pub(super) fn merge<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let merge = Merge::read(around, body)?;
    let is_shared = merge.target.isolation == Isolation::Shared;
    let sight = around.sight.over(merge.target.isolation);
    if is_shared {
        if around.is_collated {
            return Err(Refusal::invalid_options(
                "$merge into a shared collection is not available with a collation: the server would match no document by its \
                 owner; leave the collation out, or use a dedicated collection",
            ));
        }
        check_inserts(sight, merge.when_not_matched.as_ref())?;
        let (unset, back) = (out.next(), out.next());
        update::replace_owner(sight.scope(), out.w, unset.as_bytes(), back.as_bytes());
    }
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let document = out.w.begin_document(b"$merge");
    merge.target.write(out.w, b"into");
    match &merge.on {
        on if is_shared => owned_fields(sight, out.w, on.as_ref())?,
        Some(on) => out.w.element(on),
        None => {}
    }
    if let Some(variables) = &merge.variables {
        bindings(sight, out.w, variables)?;
    }
    match &merge.when_matched {
        Some(stages) if stages.kind == Kind::Array => {
            update::pipeline(sight.merging(), out.w, stages.key, stages)?;
        }
        Some(mode) => out.w.element(mode),
        None => {}
    }
    if let Some(mode) = &merge.when_not_matched {
        out.w.element(mode);
    }
    out.w.end(document);
    out.w.end(stage);
    Ok(())
}

/// The `_id`s of what is inserted are known to the server alone, and so not held to `id_policy: random_only`.
fn check_inserts(sight: Sight<'_>, when_not_matched: Option<&Element<'_>>) -> Result<(), Refusal> {
    let inserts = !matches!(
        when_not_matched.and_then(Element::as_str),
        Some("discard" | "fail")
    );
    if inserts && sight.scope().id_policy() == IdPolicy::RandomOnly {
        return Err(Refusal::invalid_options(
            "$merge that inserts into a shared collection is not available with the app's id_policy random_only: its _ids cannot be \
             checked; set whenNotMatched to discard or fail, or merge into a dedicated collection",
        ));
    }
    Ok(())
}

/// `on` with the scope field: the base index on both is the only one over all apps' documents that can serve.
fn owned_fields(sight: Sight<'_>, w: &mut Writer, on: Option<&Element<'_>>) -> Result<(), Refusal> {
    if let Some(on) = on {
        check_on(sight, on)?;
    }
    let array = w.begin_array(b"on");
    w.string(b"0", "_id");
    w.string(b"1", sight.scope().field().as_str());
    w.end(array);
    Ok(())
}

fn check_on(sight: Sight<'_>, on: &Element<'_>) -> Result<(), Refusal> {
    let field = sight.scope().field().as_str().as_bytes();
    let wrong = |found: &Element<'_>| {
        Refusal::merge_on_kind(format!(
            "$merge 'on' field  must be either a string or an array of strings, but found {}",
            found.kind.name()
        ))
    };
    let mut names = Vec::new();
    if let Some(name) = on.as_string() {
        names.push(name);
    } else {
        for element in on.as_array().ok_or_else(|| wrong(on))?.elements() {
            let name = element.as_string().ok_or_else(|| wrong(&element))?;
            if names.contains(&name) {
                return Err(Refusal::merge_on_repeated(format!(
                    "Found a duplicate field '{}'",
                    String::from_utf8_lossy(name)
                )));
            }
            names.push(name);
        }
        if names.is_empty() {
            return Err(Refusal::merge_on_empty(
                "If explicitly specifying $merge 'on', must include at least one field",
            ));
        }
    }
    // An app that sees the field may name it.
    let is_id = names.contains(&b"_id".as_slice())
        && names.iter().all(|&name| name == b"_id" || name == field);
    if !is_id {
        return Err(Refusal::invalid_options(
            "$merge into a shared collection matches documents by _id only: the app's unique indexes hold for its own documents, \
             and the server asks for one over all; leave 'on' out, or merge into a dedicated collection",
        ));
    }
    Ok(())
}

/// The variables of `whenMatched`, over documents that may carry the scope field already.
fn bindings(sight: Sight<'_>, w: &mut Writer, variables: &Element<'_>) -> Result<(), Refusal> {
    let fields = crate::generic::document(variables, "$merge.let")?;
    crate::scope::no_repeats(fields, "let")?;
    let document = w.begin_document(variables.key);
    for variable in fields.elements() {
        if variable.key == b"new" {
            if variable.as_str() != Some("$$ROOT") {
                return Err(Refusal::merge_new(
                    "'let' may not define a value for the reserved 'new' variable other than '$$ROOT'",
                ));
            }
            w.element(&variable);
            continue;
        }
        expression::variable_name(&variable)?;
        expression::write(sight, w, variable.key, &variable)?;
    }
    w.end(document);
    Ok(())
}
