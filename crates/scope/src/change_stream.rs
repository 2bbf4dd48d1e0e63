//! Change streams: the events of the app's own documents and collections, and of nothing else.

use mdb_wire::writer::IndexKey;
use mdb_wire::{Command, Document, Element, Kind, Writer};

use crate::body::Body;
use crate::facts::Isolation;
use crate::index::print_value;
use crate::refusal::Refusal;
use crate::scope::{Scope, no_repeats};
use crate::scoped::ReplyRule;
use crate::sight::Sight;
use crate::stages;
use crate::tree::{Tree, text};
use crate::versions::WIRE_VERSION_6_0;
use events::{Asked, Events, Ground};

mod events;

pub(crate) use events::missing_image;

/// The field by which the marker of a drop is known.
const DROPPED: &str = "~dropped";

/// The field of a resume token by which an `invalidate` that the proxy made is known again. Servers mark theirs inside of
/// `_data`, and pass over other fields (6.0.5).
pub(crate) const FROM_INVALIDATE: &str = "fromInvalidate";

/// 6.0: the first with documents as they were before a change.
const IMAGES_WIRE_VERSION: i32 = 17;

/// Stages that may stand behind `$changeStream`: the server's own list (6.0.5).
const STAGES_BEHIND: &[&str] = &[
    "$match",
    "$project",
    "$addFields",
    "$set",
    "$unset",
    "$replaceRoot",
    "$replaceWith",
    "$redact",
    "$changeStreamSplitLargeEvent",
];

/// Those of them that cannot put anything under the name `lsid`.
const STAGES_THAT_KEEP_SESSIONS: &[&str] = &[
    "$match",
    "$unset",
    "$redact",
    "$changeStreamSplitLargeEvent",
];

/// Values of `fullDocument` and of `fullDocumentBeforeChange`.
const FULL_DOCUMENT: &[&str] = &["default", "updateLookup", "whenAvailable", "required"];
const BEFORE_CHANGE: &[&str] = &["off", "whenAvailable", "required"];

/// What is done with an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Take {
    Pass,
    /// Written by the rule.
    Own,
    /// Only where it asks for nothing: why.
    Off(&'static str),
}

const EXPANDED: &str = "such events speak of what the proxy makes upstream";
const INTERNAL: &str = "it is internal to servers";

/// Options of `$changeStream`. One without a row is refused with 40415.
const OPTIONS: &[(&str, Take)] = &[
    ("resumeAfter", Take::Pass),
    ("startAfter", Take::Pass),
    ("startAtOperationTime", Take::Pass),
    ("fullDocument", Take::Own),
    ("fullDocumentBeforeChange", Take::Own),
    ("allChangesForCluster", Take::Own),
    ("showExpandedEvents", Take::Off(EXPANDED)),
    ("showSystemEvents", Take::Off(EXPANDED)),
    ("showMigrationEvents", Take::Off(INTERNAL)),
    ("showRawUpdateDescription", Take::Off(INTERNAL)),
    ("showCommitTimestamp", Take::Off(INTERNAL)),
    ("allowToRunOnConfigDB", Take::Off(INTERNAL)),
    ("allowToRunOnSystemNS", Take::Off(INTERNAL)),
    ("matchCollectionUUIDForUpdateLookup", Take::Off(INTERNAL)),
];

/// How much a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamReach {
    /// One collection.
    Collection,
    /// The app's part of a database.
    Database,
    /// The app's part of the deployment.
    Deployment,
}

use StreamReach as Reach;

/// How much the change stream is about that a command opens; `None` if it opens none.
pub fn stream_reach(command: &Command<'_>) -> Option<StreamReach> {
    let is_stream = command.name == b"aggregate"
        && command
            .body
            .find("pipeline")
            .and_then(|pipeline| pipeline.as_array()?.first()?.as_document()?.first())
            .is_some_and(|stage| stage.key == b"$changeStream");
    let reach = match (command.target.kind, command.database) {
        (Kind::String, _) => Reach::Collection,
        (_, "admin") => Reach::Deployment,
        _ => Reach::Database,
    };
    is_stream.then_some(reach)
}

impl Scope {
    /// The owner of documents that a drop has taken from the app and is about to delete, and of its marker. No slug begins
    /// with `~`.
    pub fn gone(&self) -> String {
        format!("~{}", self.app().as_str())
    }

    /// The field by which the marker of a dropped collection is known; its value is `collection`.
    pub fn dropped_field(&self) -> &'static str {
        DROPPED
    }

    /// The collection that comes and goes when the app drops a database: that of its own without a name.
    pub fn dropped_database(&self) -> &str {
        self.suffix()
    }
}

/// How the events of a stream are read on their way to the client.
pub(crate) fn reply_rule(reach: Reach, body: &Body<'_, '_>) -> ReplyRule {
    let pipeline = body.command.body.find("pipeline");
    let stages = pipeline.and_then(|p| p.as_array());
    let keeps = stages
        .into_iter()
        .flat_map(Document::elements)
        .skip(1)
        .filter_map(|stage| stage.as_document()?.first())
        .all(|stage| is_one_of(STAGES_THAT_KEEP_SESSIONS, stage.key));
    ReplyRule::Events {
        has_sessions: keeps,
        ends: reach != Reach::Deployment && (body.is_shared() || reach == Reach::Database),
    }
}

/// Writes the pipeline of a change stream under `key`.
///
/// # Errors
/// Those of its options and stages; 72 for a shared collection below 6.0, 20 for a stage that streams do not have.
pub(crate) fn write<'a>(
    reach: Reach,
    body: &Body<'a, '_>,
    w: &mut Writer,
    pipeline: &Element<'a>,
) -> Result<(), Refusal> {
    if body.prelude.explains {
        return Err(not_explained());
    }
    let Some(stages) = pipeline.as_array() else {
        return Err(Refusal::type_mismatch(
            "'pipeline' option must be specified as an array",
        ));
    };
    let mut user = stages.elements();
    let first = user.next();
    let Some((_, stage)) = first.map(|stage| stages::look_up(&stage)).transpose()? else {
        return Err(Refusal::stage_shape("a change stream needs its stage"));
    };
    let options = Options::read(reach, body, &stage)?;
    let array = w.begin_array(pipeline.key);
    options.write(w);
    let events = Events {
        scope: body.scope,
        reach,
        ground: options.ground,
        looks_up: options.full_document != "default",
        after: Asked::of(options.full_document),
        before: Asked::of(options.before),
        with_images: &body.facts.collection.with_images,
        control_database: body.facts.control_database,
    };
    let mut count = 1_usize;
    let mut next = || {
        let key = IndexKey::new(count);
        count = count.saturating_add(1);
        key
    };
    for stage in events.stages() {
        stage.write(w, next().as_bytes());
    }
    for stage in user {
        behind(body.sight().clean(), w, next().as_bytes(), &stage)?;
    }
    w.end(array);
    Ok(())
}

/// A stage of the client: it sees events as the app does.
fn behind(
    sight: Sight<'_>,
    w: &mut Writer,
    key: &[u8],
    stage: &Element<'_>,
) -> Result<(), Refusal> {
    let (spec, body) = stages::look_up(stage)?;
    if spec.name == "$changeStream" {
        return Err(stages::misplaced(spec));
    }
    if !STAGES_BEHIND.contains(&spec.name) {
        return Err(Refusal::illegal_operation(format!(
            "{} is not permitted in a $changeStream pipeline",
            spec.name
        )));
    }
    if spec.name == "$changeStreamSplitLargeEvent" {
        let document = w.begin_document(key);
        w.element(&body);
        w.end(document);
        return Ok(());
    }
    stages::write_plain(sight, w, key, spec, &body)
}

/// In place of a plan, which shows the operation log.
pub(crate) fn not_explained() -> Refusal {
    Refusal::command_not_supported("Explain is not available for change streams")
}

/// What the client asked for, checked.
struct Options<'a> {
    reach: Reach,
    ground: Ground,
    full_document: &'a str,
    before: &'a str,
    passed: Vec<Element<'a>>,
}

impl<'a> Options<'a> {
    fn read(reach: Reach, body: &Body<'_, '_>, stage: &Element<'a>) -> Result<Self, Refusal> {
        let Some(given) = stage.as_document() else {
            return Err(if body.facts.wire_version < WIRE_VERSION_6_0 {
                let text = "$changeStream stage expects a document as argument.";
                Refusal::change_stream_kind(text)
            } else {
                Refusal::change_stream_shape(format!(
                    "$changeStream must take a nested object but found: $changeStream: {}",
                    print_value(stage)
                ))
            });
        };
        no_repeats(given, "$changeStream")?;
        let mut options = Self {
            reach,
            ground: ground(reach, body)?,
            full_document: "default",
            before: "off",
            passed: Vec::new(),
        };
        let mut is_whole = false;
        for option in given.elements() {
            match option.key {
                b"fullDocument" => options.full_document = word(&option, FULL_DOCUMENT)?,
                b"fullDocumentBeforeChange" => options.before = word(&option, BEFORE_CHANGE)?,
                b"allChangesForCluster" => is_whole = flag(&option)?,
                b"resumeAfter" if is_from_invalidate(&option) => {
                    // As a server says it of its own.
                    return Err(Refusal::invalid_resume_token(
                        "Attempting to resume a change stream using 'resumeAfter' is not allowed from an invalidate notification",
                    ));
                }
                _ if take(&option)? => options.passed.push(option),
                _ => {}
            }
        }
        check_reach(reach, is_whole, body)?;
        let requires = options.full_document == "required" || options.before == "required";
        if requires && options.ground == Ground::Own && reach != Reach::Collection {
            // The server would fail for events of other apps too, and name them.
            return Err(Refusal::invalid_options(
                "'required' is not available in a stream on a database or the deployment; use whenAvailable",
            ));
        }
        Ok(options)
    }

    /// Writes the stage. Documents before the change say whose an event of a shared collection is. Where the app has asked
    /// for them, what is `required` of them is there for every event that passes; where it has not, the proxy's own stages
    /// take them out, or fail.
    fn write(&self, w: &mut Writer) {
        let is_own = self.ground == Ground::Own;
        let full_document = match self.full_document {
            "required" if !is_own => "whenAvailable",
            other => other,
        };
        let before = if is_own { self.before } else { "whenAvailable" };
        let stage = w.begin_document(b"0");
        let options = w.begin_document(b"$changeStream");
        for (name, value, default) in [
            ("fullDocument", full_document, "default"),
            ("fullDocumentBeforeChange", before, "off"),
        ] {
            // Servers before 6.0 do not know the second one.
            if value != default {
                text(value).write(w, name.as_bytes());
            }
        }
        if self.reach == Reach::Deployment {
            Tree::Flag(true).write(w, b"allChangesForCluster");
        }
        for option in &self.passed {
            match option.as_document() {
                Some(token) if is_from_invalidate(option) => {
                    let mark = w.begin_document(option.key);
                    for part in token.elements().filter(|part| !is_mark(part)) {
                        w.element(&part);
                    }
                    w.end(mark);
                }
                _ => w.element(option),
            }
        }
        w.end(options);
        w.end(stage);
    }
}

/// Whose collections the stream is about.
fn ground(reach: Reach, body: &Body<'_, '_>) -> Result<Ground, Refusal> {
    let isolation = body.facts.collection.isolation;
    if isolation == Isolation::Shared && body.facts.wire_version < IMAGES_WIRE_VERSION {
        return Err(Refusal::invalid_options(
            "change streams on shared collections need MongoDB 6.0 or later: before, a delete does not say whose document \
             it was; make the collection dedicated in the app's manifest",
        ));
    }
    Ok(match (isolation, reach) {
        (Isolation::Dedicated, _) => Ground::Own,
        (Isolation::Shared, Reach::Collection) => Ground::Shared,
        (Isolation::Shared, _) => Ground::Both,
    })
}

fn check_reach(reach: Reach, is_whole: bool, body: &Body<'_, '_>) -> Result<(), Refusal> {
    match (reach, is_whole) {
        (Reach::Deployment, false) => Err(Refusal::invalid_namespace(
            "$changeStream may not be opened on the internal admin database",
        )),
        (Reach::Collection | Reach::Database, true) => {
            let collection = body.command.target.as_str().unwrap_or("$cmd.aggregate");
            Err(Refusal::invalid_options(format!(
                "A $changeStream with 'allChangesForCluster:true' may only be opened on the 'admin' database, and with no \
                 collection name; found {}.{collection}",
                body.command.database
            )))
        }
        _ => Ok(()),
    }
}

/// Whether a resume token is that of an `invalidate` which the proxy made.
fn is_from_invalidate(option: &Element<'_>) -> bool {
    let token = option.as_document().unwrap_or(Document::EMPTY);
    matches!(option.key, b"resumeAfter" | b"startAfter")
        && token.elements().any(|part| is_mark(&part))
}

fn is_mark(part: &Element<'_>) -> bool {
    part.key == FROM_INVALIDATE.as_bytes()
}

/// Whether an option is passed on.
fn take(option: &Element<'_>) -> Result<bool, Refusal> {
    let row = OPTIONS.iter().find(|(n, _)| n.as_bytes() == option.key);
    match row.map(|(_, take)| *take) {
        None => Err(Refusal::unknown_field(format!(
            "BSON field '$changeStream.{}' is an unknown field.",
            option.name()
        ))),
        Some(Take::Pass) => Ok(true),
        Some(Take::Off(why)) if option.as_flag() != Some(false) => {
            Err(Refusal::invalid_options(format!(
                "option '{}' of $changeStream is not available: {why}",
                option.name()
            )))
        }
        Some(_) => Ok(false),
    }
}

fn word<'a>(option: &Element<'a>, known: &[&str]) -> Result<&'a str, Refusal> {
    let path = format!("$changeStream.{}", option.name());
    let Some(value) = option.as_str() else {
        return Err(Refusal::wrong_kind(&path, option.kind.name(), "string"));
    };
    if known.contains(&value) {
        return Ok(value);
    }
    let value: String = value.chars().take(64).collect();
    Err(Refusal::bad_value(format!(
        "Enumeration value '{value}' for field '{path}' is not a valid value."
    )))
}

fn flag(option: &Element<'_>) -> Result<bool, Refusal> {
    option.as_flag().ok_or_else(|| {
        let path = format!("$changeStream.{}", option.name());
        Refusal::wrong_kind(&path, option.kind.name(), "bool")
    })
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|n| n.as_bytes() == name)
}
