//! A second opinion on scoped commands, for tests and fuzzers.
//!
//! [`verify`] walks the bytes that go upstream and says whether every place that reads or writes documents is bound to the
//! app. It shares no code and no table with the rewriting, so that one mistake is not made twice: what the lists here do not
//! have is a violation, also where the rewriting learned of it.

use mdb_wire::{Document, Element, Kind};

use expression::expressions;
use fields::{DELETE_STATEMENT, FIELDS, GENERIC, UPDATE_STATEMENT};
use filter::{conditions, guarded};
use pipeline::{Origin, Writes, pipeline};
use stream::{Reach, is_of_deployment, is_stream, stream};
use update::{stamped, update};

mod bulk;
mod expression;
mod fields;
mod filter;
mod pipeline;
mod stream;
mod update;
mod writing;

/// A place of a command that is not bound to the app.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct Violation {
    /// Where, as a path of field names.
    pub place: String,
    /// What is wrong there.
    pub what: &'static str,
}

type Verdict = Result<(), Violation>;

fn violation(place: &str, what: &'static str) -> Violation {
    Violation {
        place: place.to_owned(),
        what,
    }
}

fn ensure(holds: bool, place: &str, what: &'static str) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(violation(place, what))
    }
}

fn inside(place: &str, name: &[u8]) -> String {
    format!("{place}.{}", String::from_utf8_lossy(name))
}

/// Whose documents a command may touch.
#[derive(Clone, Copy)]
struct Owner<'a> {
    field: &'a [u8],
    slug: &'a [u8],
}

/// What a collection's name says of whose its documents are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// A plain name: apps share it.
    Shared,
    /// `NAME@SLUG`: nothing in it is another app's.
    Own,
}

impl Owner<'_> {
    /// `field: slug`, a string of exactly these bytes.
    fn is_stamp(self, element: &Element<'_>) -> bool {
        element.key == self.field && self.is_slug(element)
    }

    /// Whose collection a name is; `None` for one that no app may touch.
    fn ground(self, name: &str) -> Option<Ground> {
        let (plain, ground) = match name.split_once('@') {
            None => (name, Ground::Shared),
            Some((plain, slug)) if slug.as_bytes() == self.slug => (plain, Ground::Own),
            Some(_) => return None,
        };
        let is_plain = !plain.is_empty() && !plain.starts_with("system.") && !plain.contains('$');
        is_plain.then_some(ground)
    }

    fn is_slug(self, element: &Element<'_>) -> bool {
        element.kind == Kind::String && element.as_string() == Some(self.slug)
    }

    /// Whether a path begins at the scope field.
    fn begins(self, path: &[u8]) -> bool {
        path.split(|&c| c == b'.').next() == Some(self.field)
    }

    /// `field: /\Aslug\z/` without options.
    fn is_pattern(self, element: &Element<'_>) -> bool {
        let wanted = [b"\\A", self.slug, b"\\z\0\0"].concat();
        element.kind == Kind::Regex && element.key == self.field && element.value == wanted
    }
}

/// What a command or statement puts in force for the places in it.
#[derive(Clone, Copy)]
struct Place<'a> {
    owner: Owner<'a>,
    is_collated: bool,
    /// Whose the documents are at this place.
    ground: Ground,
}

fn is_one_of(names: &[&str], name: &[u8]) -> bool {
    names.iter().any(|n| n.as_bytes() == name)
}

/// Checks a whole OP_MSG, header included, as [`Scoped::message`](crate::Scoped::message) gives it: whether every filter,
/// pipeline, document and update in it is bound to the app `slug` by `field`. Commands on indexes are not checked.
///
/// # Errors
/// The first place that is not.
pub fn verify(message: &[u8], field: &str, slug: &str) -> Result<(), Violation> {
    let owner = Owner {
        field: field.as_bytes(),
        slug: slug.as_bytes(),
    };
    let (body, sequences) = sections(message)?;
    command(owner, body, &sequences, Wrapping::Message)
}

type Sequence<'a> = (&'a [u8], Vec<Document<'a>>);

/// Splits a message into its body and its document sequences, checking every byte.
fn sections(message: &[u8]) -> Result<(Document<'_>, Vec<Sequence<'_>>), Violation> {
    let broken = || violation("message", "it is not a well-formed OP_MSG");
    let length = message.first_chunk::<4>().ok_or_else(broken)?;
    let fits = usize::try_from(i32::from_le_bytes(*length)).is_ok_and(|l| l == message.len());
    let opcode = message.get(12..16).ok_or_else(broken)?;
    let flags = message.get(16..20).ok_or_else(broken)?;
    ensure(fits, "message", "its length is not that of its header")?;
    ensure(
        opcode == 2013_i32.to_le_bytes(),
        "message",
        "it is not an OP_MSG",
    )?;
    ensure(flags == [0; 4], "message", "it has flags")?;
    let mut rest = message.get(20..).ok_or_else(broken)?;
    let mut body = None;
    let mut sequences = Vec::new();
    while let Some((&kind, section)) = rest.split_first() {
        match kind {
            0 => {
                let (document, after) = Document::parse_first(section).map_err(|_| broken())?;
                ensure(body.is_none(), "message", "it has two bodies")?;
                body = Some(document);
                rest = after;
            }
            1 => {
                let size = section.first_chunk::<4>().ok_or_else(broken)?;
                let size = usize::try_from(i32::from_le_bytes(*size)).map_err(|_| broken())?;
                let (sequence, after) = section.split_at_checked(size).ok_or_else(broken)?;
                sequences.push(sequence_of(sequence.get(4..).ok_or_else(broken)?)?);
                rest = after;
            }
            _ => return Err(broken()),
        }
    }
    Ok((body.ok_or_else(broken)?, sequences))
}

fn sequence_of(section: &[u8]) -> Result<Sequence<'_>, Violation> {
    let broken = || violation("message", "a document sequence is not well-formed");
    let end = section.iter().position(|&b| b == 0).ok_or_else(broken)?;
    let (name, documents) = section.split_at_checked(end).ok_or_else(broken)?;
    let mut rest = documents.get(1..).ok_or_else(broken)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (document, after) = Document::parse_first(rest).map_err(|_| broken())?;
        found.push(document);
        rest = after;
    }
    Ok((name, found))
}

/// What stands around a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapping {
    Message,
    Explain,
}

fn command(
    owner: Owner<'_>,
    body: Document<'_>,
    sequences: &[Sequence<'_>],
    wrapping: Wrapping,
) -> Verdict {
    let first = body
        .first()
        .ok_or_else(|| violation("message", "it has no command"))?;
    let row = FIELDS.iter().find(|(name, _)| name.as_bytes() == first.key);
    let (name, fields) = row.ok_or_else(|| violation("message", "its command is not known"))?;
    once(body, name)?;
    let ground = ground_of(owner, name, first)?;
    known_fields(owner, ground, body, sequences, (name, fields))?;
    if wrapping == Wrapping::Message {
        let is_apart = is_apart(name, first, body) || is_of_deployment(name, first, body);
        database(body, name, is_apart)?;
    }
    session(body, name)?;
    let place = Place {
        owner,
        is_collated: is_collated(body),
        ground,
    };
    plan(place, body, name)?;
    variables(body, name)?;
    match *name {
        "find" => {
            filter_of(place, body, name, "filter")?;
            expressions(body.find("projection").as_ref(), "find.projection")
        }
        "count" | "distinct" => filter_of(place, body, name, "query"),
        "findAndModify" => find_and_modify(place, body),
        "aggregate" => aggregate(place, first, body, wrapping),
        "bulkWrite" => bulk::bulk_write(owner, body, sequences),
        "insert" | "update" | "delete" => statements(place, name, body, sequences),
        "getMore" => {
            let collection = body.find("collection").and_then(|c| c.as_str());
            let is_own = collection.is_some_and(|c| {
                c.starts_with("$cmd.aggregate")
                    || c == "$cmd.bulkWrite"
                    || owner.ground(c).is_some()
            });
            ensure(is_own, name, "its collection is not the app's to name")
        }
        "explain" => {
            ensure(
                wrapping == Wrapping::Message,
                name,
                "an explain in an explain",
            )?;
            let inner = first.as_document();
            let inner = inner.ok_or_else(|| violation(name, "it has no command"))?;
            command(owner, inner, &[], Wrapping::Explain)
        }
        _ => Ok(()),
    }
}

/// No field and no sequence that the command cannot have.
fn known_fields(
    owner: Owner<'_>,
    ground: Ground,
    body: Document<'_>,
    sequences: &[Sequence<'_>],
    (name, fields): (&str, &[&str]),
) -> Verdict {
    for element in body.elements().skip(1) {
        let counts_records = ground == Ground::Own && element.key == b"showRecordId";
        let bypasses =
            element.key == b"bypassDocumentValidation" && writing::may_pass_over_rules(owner, body);
        let known = is_one_of(fields, element.key)
            || is_one_of(GENERIC, element.key)
            || counts_records
            || bypasses;
        let place = inside(name, element.key);
        ensure(known, &place, "the argument is not known")?;
    }
    for (sequence, _) in sequences {
        let known = matches!(
            (name, *sequence),
            ("insert", b"documents")
                | ("update", b"updates")
                | ("delete", b"deletes")
                | ("bulkWrite", b"ops" | b"nsInfo")
        );
        ensure(known, &inside(name, sequence), "the sequence is not known")?;
    }
    Ok(())
}

/// Whether a command is sent in a database of servers: of that it reads nothing but the outcomes of a `bulkWrite`.
fn is_apart(name: &str, first: Element<'_>, body: Document<'_>) -> bool {
    let collection = body.find("collection").and_then(|c| c.as_str());
    let is_outcome = first.as_str().or(collection) == Some("$cmd.bulkWrite");
    match name {
        "getMore" | "killCursors" => is_outcome,
        "endSessions" | "refreshSessions" | "killSessions" | "commitTransaction"
        | "abortTransaction" | "bulkWrite" => true,
        _ => false,
    }
}

/// Whose the collection is that a command names.
fn ground_of(owner: Owner<'_>, name: &str, first: Element<'_>) -> Result<Ground, Violation> {
    match (name, first.as_str()) {
        ("killCursors", Some(collection)) if collection.starts_with("$cmd.") => Ok(Ground::Shared),
        (_, Some(collection)) => owner
            .ground(collection)
            .ok_or_else(|| violation(name, "its collection is not the app's to name")),
        _ => Ok(Ground::Shared),
    }
}

/// No field twice.
fn once(document: Document<'_>, place: &str) -> Verdict {
    let mut names: Vec<&[u8]> = document.elements().map(|e| e.key).collect();
    let all = names.len();
    names.sort_unstable();
    names.dedup();
    ensure(names.len() == all, place, "a field stands twice")
}

fn database(body: Document<'_>, name: &str, is_apart: bool) -> Verdict {
    let database = body.find("$db").and_then(|db| db.as_str());
    let is_servers = matches!(
        database,
        None | Some("" | "admin" | "local" | "config" | "$external")
    );
    ensure(
        is_apart || !is_servers,
        name,
        "it runs in a database of servers",
    )
}

fn session(body: Document<'_>, name: &str) -> Verdict {
    let Some(lsid) = body.find("lsid") else {
        return Ok(());
    };
    let mut members = lsid.as_document().into_iter().flat_map(Document::elements);
    let only_id = match (members.next(), members.next()) {
        (Some(id), None) => {
            id.key == b"id" && matches!(id.as_binary(), Some((4, b)) if b.len() == 16)
        }
        _ => false,
    };
    ensure(only_id, name, "lsid holds something besides a UUID")
}

/// Whether strings may compare otherwise than byte by byte.
fn is_collated(document: Document<'_>) -> bool {
    document.find("collation").is_some_and(|collation| {
        collation.as_document().is_none_or(|c| {
            !c.is_empty() && c.find("locale").and_then(|l| l.as_str()) != Some("simple")
        })
    })
}

/// Hints name the app's own indexes or the base indexes; bounds begin and end inside the app.
fn plan(around: Place<'_>, document: Document<'_>, place: &str) -> Verdict {
    let owner = around.owner;
    if around.ground == Ground::Own {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (field, slug) = (text(owner.field), text(owner.slug));
    if let Some(hint) = document.find("hint") {
        let own = hint.as_str().is_some_and(|index| {
            index.starts_with(&format!("{slug}."))
                || index == format!("{field}_1")
                || index == format!("{field}_1__id_1")
        });
        let natural = hint
            .as_document()
            .is_some_and(|d| d.elements().all(|e| e.key == b"$natural"));
        ensure(own || natural, &inside(place, b"hint"), "another's index")?;
    }
    for (name, is_upper) in [("min", false), ("max", true)] {
        let Some(bound) = document.find(name) else {
            continue;
        };
        let first = bound.as_document().and_then(Document::first);
        let beyond = format!("{slug}\0");
        let holds = first.is_some_and(|f| {
            owner.is_stamp(&f)
                || (is_upper && f.key == owner.field && f.as_string() == Some(beyond.as_bytes()))
        });
        ensure(
            holds,
            &inside(place, name.as_bytes()),
            "the scan leaves the app",
        )?;
        once(bound.as_document().unwrap_or(Document::EMPTY), place)?;
    }
    Ok(())
}

fn variables(document: Document<'_>, place: &str) -> Verdict {
    for name in ["let", "c"] {
        let Some(element) = document.find(name) else {
            continue;
        };
        let rebinds = element
            .as_document()
            .is_some_and(|d| d.find("CURRENT").is_some());
        ensure(!rebinds, place, "a variable is named CURRENT")?;
        expressions(Some(&element), place)?;
    }
    Ok(())
}

fn filter_of(place: Place<'_>, body: Document<'_>, name: &str, field: &str) -> Verdict {
    let path = format!("{name}.{field}");
    let filter = body.find(field).and_then(|f| f.as_document());
    if let (Ground::Own, None) = (place.ground, filter) {
        return Ok(());
    }
    guarded(
        place,
        filter.ok_or_else(|| violation(&path, "there is no filter"))?,
        &path,
    )
}

fn find_and_modify(place: Place<'_>, body: Document<'_>) -> Verdict {
    filter_of(place, body, "findAndModify", "query")?;
    expressions(body.find("fields").as_ref(), "findAndModify.fields")?;
    array_filters(body, "findAndModify")?;
    match body.find("update") {
        Some(element) => update(place, body, &element, "findAndModify.update"),
        None => Ok(()),
    }
}

fn array_filters(document: Document<'_>, place: &str) -> Verdict {
    let filters = document.find("arrayFilters").and_then(|e| e.as_array());
    for filter in filters.into_iter().flat_map(Document::elements) {
        conditions(filter.as_document().unwrap_or(Document::EMPTY), place)?;
    }
    Ok(())
}

fn aggregate(
    place: Place<'_>,
    target: Element<'_>,
    body: Document<'_>,
    wrapping: Wrapping,
) -> Verdict {
    let stages = body.find("pipeline").and_then(|p| p.as_array());
    let stages = stages.ok_or_else(|| violation("aggregate", "there is no pipeline"))?;
    if is_stream(stages) {
        let explains = wrapping == Wrapping::Explain || body.find("explain").is_some();
        ensure(!explains, "aggregate", "a plan of a change stream")?;
        let reach = match (target.kind, body.find("$db").and_then(|db| db.as_str())) {
            (Kind::String, _) => Reach::Collection,
            (_, Some("admin")) => Reach::Deployment,
            _ => Reach::Database,
        };
        return stream(place, reach, stages, "aggregate.pipeline");
    }
    let origin = match (target.kind, place.ground) {
        (Kind::String, Ground::Shared) => Origin::Collection,
        (Kind::String, Ground::Own) => Origin::Own,
        _ => Origin::Given,
    };
    pipeline(place, stages, origin, Writes::Maybe, "aggregate.pipeline")
}

fn statements(
    around: Place<'_>,
    name: &str,
    body: Document<'_>,
    sequences: &[Sequence<'_>],
) -> Verdict {
    let field = match name {
        "insert" => "documents",
        "update" => "updates",
        _ => "deletes",
    };
    let in_body = body.find(field).and_then(|a| a.as_array());
    let in_body = in_body.into_iter().flat_map(Document::elements);
    let in_body: Option<Vec<_>> = in_body.map(|e| e.as_document()).collect();
    let in_body = in_body.ok_or_else(|| violation(name, "a statement is no document"))?;
    let in_sequences = sequences.iter().flat_map(|(_, documents)| documents);
    for (index, document) in in_body.iter().chain(in_sequences).enumerate() {
        let place = format!("{name}.{field}.{index}");
        match (name, around.ground) {
            ("insert", Ground::Shared) => stamped(around.owner, *document, &place)?,
            ("insert", Ground::Own) => {}
            _ => statement(around, *document, &place, name == "update")?,
        }
    }
    Ok(())
}

fn statement(around: Place<'_>, statement: Document<'_>, place: &str, is_update: bool) -> Verdict {
    once(statement, place)?;
    let fields = if is_update {
        UPDATE_STATEMENT
    } else {
        DELETE_STATEMENT
    };
    for element in statement.elements() {
        ensure(
            is_one_of(fields, element.key),
            &inside(place, element.key),
            "the field is not known",
        )?;
    }
    plan(around, statement, place)?;
    variables(statement, place)?;
    array_filters(statement, place)?;
    let around = Place {
        is_collated: is_collated(statement),
        ..around
    };
    filter_of(around, statement, place, "q")?;
    match statement.find("u") {
        Some(element) => update(around, statement, &element, &inside(place, b"u")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
