//! The last stages, which write: only documents of the app, and only over documents of the app.

use mdb_wire::{Document, Element, Kind};

use super::expression::expressions;
use super::pipeline::{specification, stage_of};
use super::update::{replace_owner, stages_are_known, stages_keep_owner};
use super::{Ground, Owner, Place, Verdict, Violation, ensure, inside, once, violation};

/// Whose the collection is that a stage writes.
fn target(owner: Owner<'_>, into: &Element<'_>, path: &str) -> Result<Ground, Violation> {
    named(into, path, |name| owner.ground(name))
}

/// What the name is of the collection that a stage writes, in a database that may be an app's.
fn named<T>(
    into: &Element<'_>,
    path: &str,
    know: impl Fn(&str) -> Option<T>,
) -> Result<T, Violation> {
    let none = || violation(path, "it writes no collection that the app may name");
    let Some(fields) = into.as_document() else {
        return into.as_str().and_then(know).ok_or_else(none);
    };
    once(fields, path)?;
    let database = fields.find("db").map(|db| db.as_str());
    let is_servers = |db: &str| {
        matches!(db, "" | "admin" | "local" | "config" | "$external")
            || db.contains(['.', '/', '\\', ' ', '"', '$', '\0'])
    };
    let is_apps = database.is_none_or(|db| db.is_some_and(|db| !is_servers(db)));
    ensure(is_apps, path, "it writes in a database of servers")?;
    let name = fields.find("coll").and_then(|coll| coll.as_str());
    name.and_then(know).ok_or_else(none)
}

/// Whether a command may pass over validators. Of a shared collection that depends on whose rules it has, which are no wall
/// between apps.
pub(super) fn may_pass_over_rules(owner: Owner<'_>, body: Document<'_>) -> bool {
    match body.first().map(|first| first.key) {
        Some(b"insert" | b"update" | b"findAndModify" | b"bulkWrite") => true,
        Some(b"aggregate") => last_target(owner, body) == Some(Ground::Own),
        _ => false,
    }
}

/// Whose the collection is that the last stage writes, if it writes one.
fn last_target(owner: Owner<'_>, body: Document<'_>) -> Option<Ground> {
    let stages = body.find("pipeline")?.as_array()?;
    let last = stages.elements().last()?.as_document()?.first()?;
    let into = match (last.key, last.as_document()) {
        (b"$merge", Some(fields)) => fields.find("into")?,
        (b"$merge" | b"$out", _) => last,
        _ => return None,
    };
    target(owner, &into, "aggregate.pipeline").ok()
}

/// Whether this names a collection beside all others, which is filled for the app and read by the proxy alone.
fn is_aside(owner: Owner<'_>, name: &str) -> bool {
    let parts: Vec<&str> = name.split('@').collect();
    matches!(parts[..], ["out", slug, random, ""] if slug.as_bytes() == owner.slug && !random.is_empty())
}

/// `$out`: only a collection of the app's own may be replaced, or one that is set aside be made.
pub(super) fn out(owner: Owner<'_>, body: &Element<'_>, path: &str) -> Verdict {
    let aside = |name: &str| is_aside(owner, name).then_some(());
    if named(body, path, aside).is_ok() {
        return Ok(());
    }
    let ground = target(owner, body, path)?;
    ensure(
        ground == Ground::Own,
        path,
        "it replaces a collection of other apps",
    )
}

/// `$merge`: into a shared collection documents are stamped by the two stages in front, and matched by their owner as well.
pub(super) fn merge(
    place: Place<'_>,
    before: &[Element<'_>],
    body: &Element<'_>,
    path: &str,
) -> Verdict {
    let owner = place.owner;
    if body.kind == Kind::String {
        let ground = target(owner, body, path)?;
        return ensure(ground == Ground::Own, path, "it matches by _id alone");
    }
    let known = ["into", "on", "let", "whenMatched", "whenNotMatched"];
    let fields = specification(body, &known, path)?;
    once(fields, path)?;
    let into = fields.find("into");
    let into = into.ok_or_else(|| violation(path, "it has no target"))?;
    let ground = target(owner, &into, path)?;
    super::variables(fields, path)?;
    let stages = fields.find("whenMatched").and_then(|w| w.as_array());
    if ground == Ground::Own {
        return match stages {
            Some(stages) => stages_are_known(stages, path).map(|_| ()),
            None => Ok(()),
        };
    }
    ensure(!place.is_collated, path, "a collation decides what matches")?;
    ensure(
        matches_by_owner(owner, fields.find("on")),
        &inside(path, b"on"),
        "it matches without the owner",
    )?;
    ensure(
        is_stamped(owner, before, path)?,
        path,
        "what it writes is not stamped",
    )?;
    for variable in fields
        .find("let")
        .and_then(|l| l.as_document())
        .into_iter()
        .flat_map(Document::elements)
    {
        expressions(Some(&variable), path)?;
    }
    match stages {
        Some(stages) => stages_keep_owner(owner, stages, path),
        None => Ok(()),
    }
}

/// `_id` and the scope field, and nothing else.
fn matches_by_owner(owner: Owner<'_>, on: Option<Element<'_>>) -> bool {
    let names: Vec<&[u8]> = on
        .and_then(|on| on.as_array())
        .into_iter()
        .flat_map(Document::elements)
        .filter_map(|e| e.as_string())
        .collect();
    names.len() == 2 && names.contains(&b"_id".as_slice()) && names.contains(&owner.field)
}

fn is_stamped(owner: Owner<'_>, before: &[Element<'_>], path: &str) -> Result<bool, Violation> {
    let Some((back, before)) = before.split_last() else {
        return Ok(false);
    };
    let Some(out) = before.last() else {
        return Ok(false);
    };
    Ok(replace_owner(
        owner,
        &stage_of(out, path)?,
        &stage_of(back, path)?,
    ))
}
