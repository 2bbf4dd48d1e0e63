//! Pipelines: the app's condition in front, the scope field out as late as indexes allow, sub-pipelines likewise.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Document, Element, Kind, Writer};

use crate::covering::{look_at_document, needs_of_stages};
use crate::facts::{AutomaticIndexes, ForeignCollection, NO_AUTOMATIC_INDEXES, NearKey};
use crate::index::print_value;
use crate::refusal::Refusal;
use crate::scope::no_repeats;
use crate::sight::Sight;
use crate::stages::{self, Hoist, StageDuty, StageSpec};
use crate::update::unset;
use crate::{expression, filter};

pub(crate) mod figures;
mod foreign;
mod joined;
mod near;
pub(crate) mod operations;
mod writing;

pub use foreign::foreign_collections;
pub(crate) use writing::writing_stage;
pub use writing::{WrittenCollection, written_collection};

/// How deep pipelines may stand in pipelines; the server stops at 20 views or lookups.
const PIPELINES_NESTED_MAX: usize = 20;

/// Where the documents of a pipeline come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A shared collection, its documents going to the client.
    Collection,
    /// A shared collection, its documents going into other documents.
    Foreign,
    /// Other stages, whose documents are clean.
    Stages,
    /// `$documents`.
    Given,
    /// The command's own collection, which no other app shares: figures of it may come first.
    Own,
}

/// What stands around a pipeline: where stages may not stand that write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// An `aggregate`.
    Command,
    /// A view's definition.
    View,
    /// `$facet`.
    Facet,
    /// `$lookup`.
    Lookup,
    /// `$unionWith`.
    UnionWith,
}

/// What a pipeline needs to know of its command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    /// As the documents of a shared collection are seen.
    pub(crate) sight: Sight<'a>,
    /// Whether a collation other than `simple` is in effect; sub-pipelines inherit it.
    pub(crate) is_collated: bool,
    /// The database of the command.
    pub(crate) database: &'a str,
    /// The collection that the documents come from, for texts.
    pub(crate) collection: &'a str,
    /// What a `$geoNear` over it means that names no field.
    pub(crate) near: &'a NearKey,
    /// The database of the proxy itself.
    pub(crate) control_database: &'a str,
    /// What stands around.
    pub(crate) within: Within,
    /// What is known of the collections that stages name.
    pub(crate) foreign: &'a [ForeignCollection],
    /// Automatic indexes of the collection that the documents come from.
    pub(crate) automatic: &'a AutomaticIndexes,
    /// Whether a `$match` of the command can end in an error that tells of a document. The server moves stages in front of
    /// the app's condition, which a barrier stops.
    pub(crate) may_fail: bool,
    /// How many pipelines stand around this one.
    pub(crate) depth: usize,
}

impl Surroundings<'_> {
    /// Whether an automatic index must be kept from answering the pipeline alone.
    fn must_look_at_documents(&self, pipeline: Document<'_>) -> bool {
        // The server moves a `$project` from behind a `$unionWith` into it.
        let is_reshaped = self.within == Within::UnionWith;
        self.automatic.count > 0
            && needs_of_stages(pipeline, is_reshaped).are_met_by(self.automatic)
    }

    fn deeper(self, within: Within) -> Result<Self, Refusal> {
        let depth = self.depth.saturating_add(1);
        if depth > PIPELINES_NESTED_MAX {
            return Err(Refusal::overflow(format!(
                "pipelines nested deeper than {PIPELINES_NESTED_MAX} levels"
            )));
        }
        Ok(Self {
            within,
            depth,
            automatic: match within {
                Within::Facet => &NO_AUTOMATIC_INDEXES,
                _ => self.automatic,
            },
            ..self
        })
    }
}

/// Whether documents of the reply still carry the scope field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strip(pub(crate) bool);

/// The growing array of stages.
struct Stages<'w> {
    w: &'w mut Writer,
    count: usize,
}

impl Stages<'_> {
    fn next(&mut self) -> IndexKey {
        let key = IndexKey::new(self.count);
        self.count = self.count.saturating_add(1);
        key
    }
}

/// `[]`.
pub(crate) const EMPTY_ARRAY: Element<'static> = Element {
    kind: Kind::Array,
    key: b"pipeline",
    value: &[5, 0, 0, 0, 0],
    raw: b"\x04pipeline\0\x05\0\0\0\0",
};

/// Something else where a pipeline belongs.
pub(crate) fn no_pipeline() -> Refusal {
    Refusal::type_mismatch("'pipeline' option must be specified as an array")
}

/// Writes a pipeline under `key`.
///
/// # Errors
/// Those of its stages; 13 for a stage that is refused, 40324 for one without a row.
pub(crate) fn write<'a>(
    around: Surroundings<'a>,
    w: &mut Writer,
    key: &[u8],
    pipeline: &Element<'a>,
    source: Source,
) -> Result<Strip, Refusal> {
    let stages = pipeline.as_array().ok_or_else(no_pipeline)?;
    figures::check(stages, source)?;
    let array = w.begin_array(key);
    let mut out = Stages { w, count: 0 };
    let strip = match source {
        Source::Collection | Source::Foreign => scoped(around, &mut out, stages, source)?,
        Source::Stages | Source::Given | Source::Own => {
            if around.may_fail && around.sight.is_view() && source != Source::Given {
                barrier(&mut out);
            }
            if source != Source::Given && around.must_look_at_documents(stages) {
                look(&mut out);
            }
            let front = match (source, around.within) {
                (Source::Given, _) => Front::Given,
                (_, Within::Facet) => Front::Stages,
                _ => Front::Collection,
            };
            rest(around, &mut out, stages.elements(), front)?;
            Strip(false)
        }
    };
    w.end(array);
    Ok(strip)
}

fn scoped<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    pipeline: Document<'a>,
    source: Source,
) -> Result<Strip, Refusal> {
    let looks = around.must_look_at_documents(pipeline);
    let mut stages = pipeline.elements().peekable();
    if near::leads(around, out, stages.peek())? {
        stages.next();
        if around.sight.scope().is_hidden() {
            take_out(around, out);
        }
        if around.may_fail {
            barrier(out);
        }
        rest(around, out, stages, Front::Stages)?;
        return Ok(Strip(false));
    }
    condition(around, out, &mut stages, looks)?;
    while let Some(stage) = stages.peek() {
        let (spec, body) = stages::look_up(stage)?;
        if !is_transparent(around.sight, spec, &body) {
            break;
        }
        let key = out.next();
        stages::write_plain(around.sight, out.w, key.as_bytes(), spec, &body)?;
        stages.next();
    }
    let hides = around.sight.scope().is_hidden();
    let Some(stage) = stages.peek() else {
        if hides && source == Source::Foreign {
            take_out(around, out);
        }
        if around.may_fail && source == Source::Foreign {
            barrier(out);
        }
        return Ok(Strip(hides && source == Source::Collection));
    };
    let (spec, body) = stages::look_up(stage)?;
    if hides && !stops_field(around.sight, spec, &body) {
        take_out(around, out);
    }
    if around.may_fail {
        barrier(out);
    }
    rest(around, out, stages, Front::Stages)?;
    Ok(Strip(false))
}

/// `{$replaceWith: {$mergeObjects: ["$$ROOT"]}}`: changes nothing, and no `$match` is moved in front of it (6.0.5).
fn barrier(out: &mut Stages<'_>) {
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let replace = out.w.begin_document(b"$replaceWith");
    let merge = out.w.begin_array(b"$mergeObjects");
    out.w.string(b"0", "$$ROOT");
    out.w.end(merge);
    out.w.end(replace);
    out.w.end(stage);
}

/// `{$match: CONDITION}`, where CONDITION always holds and no index answers it.
fn look(out: &mut Stages<'_>) {
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let filter = out.w.begin_document(b"$match");
    look_at_document(out.w, Document::EMPTY);
    out.w.end(filter);
    out.w.end(stage);
}

fn take_out(around: Surroundings<'_>, out: &mut Stages<'_>) {
    let field = around.sight.scope().field().as_str();
    let key = out.next();
    unset(out.w, key.as_bytes(), field);
}

/// The first stage: the app's condition, and the client's leading `$match` if it can stand there, which `$text` has to. Of one
/// that has to stay behind what it implies, for the sake of indexes. `looks` adds what keeps an index from answering alone.
fn condition<'a>(
    around: Surroundings<'_>,
    out: &mut Stages<'_>,
    stages: &mut std::iter::Peekable<impl Iterator<Item = Element<'a>>>,
    looks: bool,
) -> Result<(), Refusal> {
    let sight = around.sight;
    let mut user = None;
    let mut implied = None;
    if let Some(stage) = stages.peek() {
        let (spec, body) = stages::look_up(stage)?;
        let leading = body.as_document().filter(|_| spec.duty == StageDuty::Match);
        user = leading.filter(|&d| filter::is_plain(sight, d) || filter::has_text(d));
        let stays = leading.filter(|&d| user.is_none() && filter::may_fail(d));
        implied = stays.and_then(|d| filter::implied(sight, d));
    }
    if user.is_some() {
        stages.next();
    }
    let implied = implied.as_deref().map(Document::parse_shallow);
    let user = user.or(implied.and_then(Result::ok));
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let write = if looks {
        filter::uncovered
    } else {
        filter::bound
    };
    write(sight, out.w, b"$match", around.is_collated, user)?;
    out.w.end(stage);
    Ok(())
}

/// Whether a stage means the same in front of the one that takes the scope field out.
fn is_transparent(sight: Sight<'_>, spec: &StageSpec, body: &Element<'_>) -> bool {
    spec.hoist == Hoist::Transparent
        && match spec.duty {
            StageDuty::Match => body
                .as_document()
                .is_some_and(|d| filter::is_plain(sight, d)),
            StageDuty::Sort => body
                .as_document()
                .is_some_and(|d| !d.elements().any(|e| sight.names_scope_field(e.key))),
            _ => true,
        }
}

/// Whether the scope field ends at a stage by itself, so that indexes can go on serving it.
fn stops_field(sight: Sight<'_>, spec: &StageSpec, body: &Element<'_>) -> bool {
    match spec.hoist {
        Hoist::Reshaping => !expression::may_see_hidden(sight, body),
        _ if spec.name == "$project" => {
            is_inclusion(sight, body) && !expression::may_see_hidden(sight, body)
        }
        _ => false,
    }
}

/// Whether a `$project` keeps only what it names, as far as its first field tells; when in doubt, no.
fn is_inclusion(sight: Sight<'_>, body: &Element<'_>) -> bool {
    let Some(document) = body.as_document() else {
        return false;
    };
    let names_field = document.elements().any(|e| sight.names_scope_field(e.key));
    let first = document.elements().find(|e| e.key != b"_id");
    !names_field && first.is_some_and(|e| e.as_flag() == Some(true) || e.kind == Kind::String)
}

/// What is in front of a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Front {
    /// A collection of the app's own.
    Collection,
    /// Nothing: the first stage brings the documents.
    Given,
    /// Other stages.
    Stages,
}

/// The stages behind: documents are clean.
fn rest<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    stages: impl Iterator<Item = Element<'a>>,
    mut front: Front,
) -> Result<(), Refusal> {
    let clean = around.sight.clean();
    let mut stages = stages.peekable();
    while let Some(stage) = stages.next() {
        let (spec, body) = stages::look_up(&stage)?;
        let is_last = stages.peek().is_none();
        match spec.duty {
            StageDuty::Facet => facet(around, out, &body)?,
            StageDuty::Lookup => foreign::lookup(around, out, &body)?,
            StageDuty::GraphLookup => foreign::graph_lookup(around, out, &body)?,
            StageDuty::UnionWith => foreign::union_with(around, out, &body)?,
            StageDuty::Merge => {
                writing::admit(around, spec.name, is_last)?;
                writing::merge(around, out, &body)?;
            }
            StageDuty::Out => {
                writing::admit(around, spec.name, is_last)?;
                writing::out(around, out, &body)?;
            }
            StageDuty::GeoNear if front == Front::Collection => {
                near::stage(around, out, &body)?;
            }
            StageDuty::GeoNear => return Err(near::misplaced(around)),
            StageDuty::Documents if front == Front::Given => {
                let key = out.next();
                let document = out.w.begin_document(key.as_bytes());
                expression::write(clean, out.w, body.key, &body)?;
                out.w.end(document);
            }
            StageDuty::Operations => return Err(operations::refused(spec.name)),
            StageDuty::Figures => figures::write(around, out, spec, &body)?,
            StageDuty::Documents => {
                return Err(Refusal::misplaced_stage(
                    "$documents is only valid as the first stage in a pipeline",
                ));
            }
            _ => {
                let key = out.next();
                stages::write_plain(clean, out.w, key.as_bytes(), spec, &body)?;
            }
        }
        front = Front::Stages;
    }
    Ok(())
}

fn specification<'a>(body: &Element<'a>, name: &str) -> Result<Document<'a>, Refusal> {
    let Some(document) = body.as_document() else {
        return Err(Refusal::failed_to_parse(format!(
            "the {name} stage specification must be an object, but found {}",
            body.kind.name()
        )));
    };
    no_repeats(document, name)?;
    Ok(document)
}

/// What a server says to a pipeline that begins otherwise than `{aggregate: 1}` can (4.4.2, 5.0.4, 6.0.5).
pub(crate) fn needs_collection(pipeline: &Element<'_>) -> Refusal {
    let stages = pipeline.as_array().unwrap_or(Document::EMPTY);
    let Some(first) = stages.first() else {
        return Refusal::invalid_namespace("{aggregate: 1} is not valid for an empty pipeline.");
    };
    match stages::look_up(&first) {
        Ok((spec, _)) => Refusal::invalid_namespace(format!(
            "{{aggregate: 1}} is not valid for '{}'; a collection is required.",
            executed(spec.name)
        )),
        Err(refusal) => refusal,
    }
}

/// What servers make of a stage that is another name for some (4.4.2, 5.0.4, 6.0.5).
fn executed(stage: &str) -> &str {
    match stage {
        "$unset" => "$project",
        "$replaceWith" => "$replaceRoot",
        "$count" | "$sortByCount" | "$bucket" => "$group",
        "$fill" => "$addFields",
        "$setWindowFields" => "$_internalSetWindowFields",
        "$densify" => "$sort",
        stage => stage,
    }
}

/// What a server says to a branch of `$facet` whose shape is wrong (4.4.2, 5.0.4, 6.0.5).
fn facet_branch(branch: &Element<'_>) -> Result<(), Refusal> {
    let name = branch.name();
    let Some(stages) = branch.as_array() else {
        return Err(Refusal::facet_branch(format!(
            "arguments to $facet must be arrays, {name} is type {}",
            branch.kind.name()
        )));
    };
    let other = stages.elements().find(|s| s.kind != Kind::Document);
    other.map_or(Ok(()), |stage| {
        Err(Refusal::facet_stage(format!(
            "elements of arrays in $facet spec must be non-empty objects, {name} argument contained an element of type {}: {}: {}",
            stage.kind.name(),
            stage.name(),
            print_value(&stage)
        )))
    })
}

fn facet<'a>(
    around: Surroundings<'a>,
    out: &mut Stages<'_>,
    body: &Element<'a>,
) -> Result<(), Refusal> {
    let Some(branches) = body.as_document().filter(|d| !d.is_empty()) else {
        return Err(Refusal::facet_shape(format!(
            "the $facet specification must be a non-empty object, but found: $facet: {}",
            print_value(body)
        )));
    };
    no_repeats(branches, "$facet")?;
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let facet = out.w.begin_document(b"$facet");
    for branch in branches.elements() {
        facet_branch(&branch)?;
        let inner = around.deeper(Within::Facet)?;
        write(inner, out.w, branch.key, &branch, Source::Stages)?;
    }
    out.w.end(facet);
    out.w.end(stage);
    Ok(())
}

/// Whether a pipeline reads its collection in the order of its records where no index serves its leading `$match`, as no stage
/// in front asks for another order.
pub(crate) fn reads_in_record_order(pipeline: &Element<'_>) -> bool {
    let stages = pipeline.as_array().into_iter().flat_map(Document::elements);
    let mut stages = stages.filter_map(|stage| stage.as_document()?.first());
    let first = stages.find(|stage| stage.key != b"$match");
    first.is_none_or(|stage| {
        matches!(
            stage.key,
            b"$limit"
                | b"$skip"
                | b"$project"
                | b"$addFields"
                | b"$set"
                | b"$unset"
                | b"$unwind"
                | b"$replaceRoot"
                | b"$replaceWith"
                | b"$lookup"
                | b"$facet"
                | b"$redact"
                | b"$graphLookup"
                | b"$unionWith"
                | b"$merge"
                | b"$out"
        )
    })
}

/// Whether a pipeline begins with `$geoNear`.
pub(crate) fn is_led_by_near(pipeline: &Element<'_>) -> bool {
    let first = pipeline.as_array().and_then(Document::first);
    let stage = first.and_then(|stage| stage.as_document()?.first());
    stage.is_some_and(|stage| stage.key == b"$geoNear")
}

/// The filters with which a pipeline begins.
pub(crate) fn leading_filters<'a>(
    pipeline: &Element<'a>,
) -> impl Iterator<Item = Document<'a>> + use<'a> {
    let stages = pipeline.as_array().into_iter().flat_map(Document::elements);
    let stages = stages.map_while(|stage| stage.as_document()?.first());
    stages
        .take_while(|stage| stage.key == b"$match")
        .filter_map(|stage| stage.as_document())
}

/// The sort that stands first behind them.
pub(crate) fn leading_sort<'a>(pipeline: &Element<'a>) -> Option<Document<'a>> {
    let stages = pipeline.as_array().into_iter().flat_map(Document::elements);
    let mut stages = stages.filter_map(|stage| stage.as_document()?.first());
    let first = stages.find(|stage| stage.key != b"$match")?;
    first.as_document().filter(|_| first.key == b"$sort")
}

/// Whether a pipeline begins with `$documents`.
pub(crate) fn begins_with_documents(pipeline: &Element<'_>) -> bool {
    let first = pipeline.as_array().and_then(Document::first);
    first
        .and_then(|stage| stage.as_document()?.first())
        .is_some_and(|stage| stage.key == b"$documents")
}
