//! Change streams: no event passes but by a condition that only the app's can meet.

use mdb_wire::{Document, Element, Kind};

use super::pipeline::stage_of;
use super::{Ground, Owner, Place, Verdict, ensure, inside, is_one_of, once, violation};

/// How much a stream is about, by the command's first field and database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    Collection,
    Database,
    Deployment,
}

const OPTIONS: &[&str] = &[
    "fullDocument",
    "fullDocumentBeforeChange",
    "allChangesForCluster",
    "resumeAfter",
    "startAfter",
    "startAtOperationTime",
];

const BEHIND: &[&str] = &[
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

/// Whether a pipeline is that of a change stream.
pub(super) fn is_stream(stages: Document<'_>) -> bool {
    let first = stages
        .first()
        .and_then(|stage| stage.as_document()?.first());
    first.is_some_and(|stage| stage.key == b"$changeStream")
}

/// Whether a command opens, reads or closes a change stream on the whole deployment, which has no database of its own.
pub(super) fn is_of_deployment(name: &str, first: Element<'_>, body: Document<'_>) -> bool {
    let is_whole = |collection: Option<&str>| collection == Some("$cmd.aggregate");
    let stages = body.find("pipeline").and_then(|p| p.as_array());
    body.find("$db").and_then(|db| db.as_str()) == Some("admin")
        && match name {
            "aggregate" => first.kind != Kind::String && stages.is_some_and(is_stream),
            "getMore" => is_whole(body.find("collection").and_then(|c| c.as_str())),
            "killCursors" => is_whole(first.as_str()),
            _ => false,
        }
}

/// The three stages of the proxy, then those of the client.
pub(super) fn stream(place: Place<'_>, reach: Reach, stages: Document<'_>, path: &str) -> Verdict {
    let mut all = stages.elements();
    let mut next = || {
        let stage = all.next();
        let stage = stage.ok_or_else(|| violation(path, "a stage of the proxy is missing"))?;
        stage_of(&stage, path)
    };
    let has_images = options(reach, &next()?, path)?;
    let is_named = reach == Reach::Collection && place.ground == Ground::Own;
    let mut second = next()?;
    if !is_named {
        ensure(
            second.key == b"$match",
            path,
            "the stream is not bound to the app",
        )?;
        own_events(place.owner, reach, has_images, &second, path)?;
        let barrier = next()?;
        let is_barrier = barrier.key == b"$replaceWith"
            && barrier
                .as_document()
                .and_then(|whole| whole.find("$mergeObjects")?.as_array()?.first())
                .is_some_and(|root| root.as_str() == Some("$$ROOT"));
        ensure(
            is_barrier,
            path,
            "stages may be moved in front of the app's condition",
        )?;
        second = next()?;
    }
    ensure(second.key == b"$set", path, "events are not cleaned")?;
    if !is_named && has_images {
        looked_up(place.owner, &second, path)?;
    }
    let uid = next()?;
    let is_out = uid.key == b"$unset" && uid.as_str() == Some("lsid.uid");
    ensure(is_out, path, "the proxy's user is shown")?;
    for stage in all {
        let stage = stage_of(&stage, path)?;
        ensure(is_one_of(BEHIND, stage.key), path, "the stage is not known")?;
        if stage.key != b"$changeStreamSplitLargeEvent" {
            super::pipeline::later(place, &stage, path)?;
        }
    }
    Ok(())
}

/// Checks the options, and says whether documents come as they were before a change.
fn options(reach: Reach, stage: &Element<'_>, path: &str) -> Result<bool, super::Violation> {
    let given = stage.as_document();
    let given = given.ok_or_else(|| violation(path, "$changeStream is no document"))?;
    once(given, path)?;
    for option in given.elements() {
        let is_known = is_one_of(OPTIONS, option.key);
        ensure(
            is_known,
            &inside(path, option.key),
            "the option is not known",
        )?;
    }
    let is_whole = given.find("allChangesForCluster");
    let is_whole = is_whole.is_some_and(|e| e.as_flag() != Some(false));
    let fits = is_whole == (reach == Reach::Deployment);
    ensure(fits, path, "the stream reaches elsewhere than its command")?;
    let before = given.find("fullDocumentBeforeChange");
    Ok(before.and_then(|b| b.as_str()) == Some("whenAvailable"))
}

/// Every branch holds for events of the app only.
fn own_events(
    owner: Owner<'_>,
    reach: Reach,
    has_images: bool,
    stage: &Element<'_>,
    path: &str,
) -> Verdict {
    let filter = stage.as_document();
    let filter = filter.ok_or_else(|| violation(path, "there is no filter"))?;
    once(filter, path)?;
    if reach == Reach::Deployment {
        let apart = filter
            .find("ns.db")
            .and_then(|e| e.as_document()?.find("$nin"));
        let apart = apart.and_then(|e| e.as_array());
        let servers = ["admin", "config", "local"];
        let names =
            |name: &&str| apart.is_some_and(|a| a.elements().any(|e| e.as_str() == Some(name)));
        ensure(
            servers.iter().all(names),
            path,
            "databases of servers are shown",
        )?;
    }
    let branches = filter.find("$or").and_then(|or| or.as_array());
    let branches = branches.ok_or_else(|| violation(path, "the stream is not bound to the app"))?;
    for branch in branches.elements() {
        let fields = branch.as_document().unwrap_or(Document::EMPTY);
        once(fields, path)?;
        let is_own = names_own(owner, fields)
            || owned(owner, reach, has_images, fields)
            || of_the_whole(reach, fields);
        ensure(is_own, path, "events of other apps pass")?;
    }
    Ok(())
}

/// `operationType`, one or several.
fn operations(fields: Document<'_>) -> Vec<&str> {
    let Some(operation) = fields.find("operationType") else {
        return vec!["?"];
    };
    if let Some(name) = operation.as_str() {
        return vec![name];
    }
    let names = operation
        .as_document()
        .and_then(|d| d.find("$in")?.as_array());
    let names = names.unwrap_or(Document::EMPTY);
    names
        .elements()
        .map(|e| e.as_str().unwrap_or("?"))
        .collect()
}

fn is_pattern(field: Option<Element<'_>>, pattern: &str) -> bool {
    let wanted = [pattern.as_bytes(), b"\0\0"].concat();
    field.is_some_and(|f| f.kind == Kind::Regex && f.value == wanted)
}

/// By the name of the collection.
fn names_own(owner: Owner<'_>, fields: Document<'_>) -> bool {
    let slug = String::from_utf8_lossy(owner.slug);
    let mine = format!("[^@]@{slug}\\z");
    let moves = operations(fields).contains(&"rename");
    if is_pattern(fields.find("ns.coll"), &format!("\\A@{slug}\\z")) {
        return true;
    }
    is_pattern(fields.find("ns.coll"), &mine)
        && (!moves || is_pattern(fields.find("to.coll"), &mine))
}

/// By the owner of the document: that of an insert, or the one before any other change.
fn owned(owner: Owner<'_>, reach: Reach, has_images: bool, fields: Document<'_>) -> bool {
    let is_shared = reach == Reach::Collection
        || is_pattern(fields.find("ns.coll"), "\\A(?!system\\.)[^@]*\\z");
    let document = match operations(fields).as_slice() {
        ["insert"] => "fullDocument",
        changes
            if has_images
                && changes
                    .iter()
                    .all(|c| ["update", "replace", "delete"].contains(c)) =>
        {
            "fullDocumentBeforeChange"
        }
        _ => return false,
    };
    let field = format!("{document}.{}", String::from_utf8_lossy(owner.field));
    let slug = String::from_utf8_lossy(owner.slug).into_owned();
    let test = fields.find(&field).and_then(|f| f.as_document());
    let is_owner = |name: &str| {
        test.is_some_and(|test| {
            let equals = test.find("$eq").and_then(|e| e.as_str());
            let matches = test.find("$regex").and_then(|e| e.as_str());
            equals == Some(name) && matches == Some(&format!("\\A{name}\\z"))
        })
    };
    // What a drop leaves behind is the app's as well.
    is_shared && (is_owner(&slug) || is_owner(&format!("~{slug}")))
}

/// Of the collection or database that the stream names.
fn of_the_whole(reach: Reach, fields: Document<'_>) -> bool {
    let known: &[&str] = match reach {
        Reach::Collection => &["drop", "invalidate"],
        Reach::Database => &["dropDatabase", "invalidate"],
        Reach::Deployment => &[],
    };
    operations(fields).iter().all(|o| known.contains(o))
}

/// A document of an event is shown only behind a test of its owner: each case has one.
fn looked_up(owner: Owner<'_>, stage: &Element<'_>, path: &str) -> Verdict {
    let fields = stage.as_document().unwrap_or(Document::EMPTY);
    for name in ["fullDocument", "fullDocumentBeforeChange"] {
        let path = &inside(path, name.as_bytes());
        let Some(shown) = fields.find(name) else {
            return Err(violation(path, "it is shown as it is"));
        };
        if shown.as_str() == Some("$$REMOVE") {
            continue;
        }
        let cases = shown
            .as_document()
            .and_then(|d| d.find("$switch")?.as_document());
        let cases = cases.ok_or_else(|| violation(path, "it is shown as it is"))?;
        let otherwise = cases.find("default").and_then(|d| d.as_str());
        ensure(
            otherwise == Some("$$REMOVE"),
            path,
            "it is shown without a case",
        )?;
        let branches = cases.find("branches").and_then(|b| b.as_array());
        for branch in branches.into_iter().flat_map(Document::elements) {
            let branch = branch.as_document().unwrap_or(Document::EMPTY);
            let tells = branch
                .find("then")
                .is_none_or(|then| then.kind != Kind::Null);
            let is_tested = branch.find("case").is_some_and(|case| {
                let tested = |text: &[u8]| case.value.windows(text.len()).any(|w| w == text);
                let pattern = [b"\\A", owner.slug, b"\\z"].concat();
                tested(&pattern) || tested(b"$indexOfBytes")
            });
            ensure(!tells || is_tested, path, "a case tests no owner")?;
        }
    }
    Ok(())
}
