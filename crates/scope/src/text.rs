//! Error texts on their way to the client.

use std::borrow::Cow;

use mdb_wire::Element;

use crate::facts::base_id_index_name;
use crate::index::automatic_index_shown;
use crate::refusal::DATABASE_CASE;
use crate::reply::{Killed, ReplyView};
use crate::scope::Scope;

/// In place of what a member says of its state, by its code.
pub(crate) fn of_state(code: i32) -> &'static str {
    match code {
        // InterruptedAtShutdown, ShutdownInProgress: also of a standalone, or of a mongos.
        11_600 | 91 => "a server of the deployment shut down while the command ran",
        _ => "the primary of the deployment changed while the command ran",
    }
}

/// In place of a text that would still speak of what is behind the proxy.
const WITHHELD: &str = "the server's message speaks of the proxy's own field and is withheld";

/// What the server says before the name of the one text index of a collection, which may be another app's.
const FOUND_TEXT_INDEX: &str = ", found existing text index ";

/// What the server says of a collection with 64 indexes.
const TOO_MANY_INDEXES: &str = "add index fails, too many indexes for ";

/// What the server says while it builds an index, before UUIDs of the collection and the build (4.4 to 8.0).
const BUILDING: &str = "an index build is currently running for collection with UUID: ";

/// The text for the client: names of collections and indexes and keys in the app's terms, without the app's condition.
pub(crate) fn rewrite(view: &ReplyView<'_>, message: &str) -> String {
    if message.contains("different case") {
        // The server names the other database, which may be another app's.
        return DATABASE_CASE.to_owned();
    }
    // A stream that cannot be resumed names the next event that it met, with its `_id`: anybody's (6.0.5).
    let message = message
        .split_once("{_data:")
        .map_or(message, |(before, _)| before.trim_end());
    // Of locks: numbers of the server's operations and connections.
    let message = message
        .split_once(" opId: ")
        .map_or(message, |(before, _)| before);
    let message = match view.continues {
        Some((upstream, client)) => {
            Cow::Owned(message.replace(&upstream.to_string(), &client.to_string()))
        }
        None => Cow::Borrowed(message),
    };
    let message = message.replace(&format!("{}'. UUID ", view.scope.suffix()), "'. UUID ");
    let message = renamed(view.scope, message);
    let logical = |text: String, name: &(&str, &str)| logical_name(view, *name, &text);
    let message = view.dedicated.iter().fold(message, logical);
    if !view.shares {
        let message = killed(&message, |rest| {
            let is_automatic = automatic_index_shown(rest).is_some();
            (!is_automatic).then_some(rest)
        });
        return sessions(view.scope, &message);
    }
    of_shared(view, &message)
}

fn of_shared(view: &ReplyView<'_>, message: &str) -> String {
    let ReplyView {
        scope, collection, ..
    } = *view;
    let field = scope.field().as_str();
    let mut out = cause(message);
    // Which plan failed, and whether there was a choice, depends on the base indexes.
    out = out.replace(MULTIPLANNER, "");
    // Once for the proxy's condition around the expression.
    out = out.replace(&NOT_OPTIMIZED.repeat(2), NOT_OPTIMIZED);
    if out.contains("key: {") {
        out = definitions(scope, &out);
    }
    if BEFORE_DOCUMENTS.iter().any(|begin| out.contains(begin)) {
        out = shown_document(scope, &out);
    }
    // The name that was asked for, which no known index has (4.4).
    for before in ["Index with name: ", "with a different name: "] {
        let asked = format!("{before}{}.", scope.app().as_str());
        out = out.replace(&asked, before);
    }
    if out.contains("duplicate key error") {
        out = duplicate(scope, &out);
    }
    if out.contains(UNUSED_FILTER) {
        out = without_stamp(scope, &out);
    }
    out = killed(&out, |rest| {
        rest.strip_prefix(scope.app().as_str())?.strip_prefix('.')
    });
    out = sessions(scope, &out);
    for index in &collection.indexes {
        if index.physical_name != index.name {
            out = out.replace(&index.physical_name, &index.name);
        }
    }
    if let Some((what, name)) = out.split_once(FOUND_TEXT_INDEX)
        && !collection
            .indexes
            .iter()
            .any(|index| index.name == name.trim_matches('"'))
    {
        out = String::from(what);
    }
    let is_own = is_own_duplicate(scope, message, &out) || is_own_id(scope, &out);
    if names(&out, field) && !is_own {
        return WITHHELD.to_owned();
    }
    out
}

/// What the server says before an update for which an array filter is not needed.
const UNUSED_FILTER: &str = " was not used in the update ";

/// An update without what the proxy adds to the operators of an upsert.
fn without_stamp(scope: &Scope, message: &str) -> String {
    let stamp = format!("{}: \"{}\"", scope.field().as_str(), scope.app().as_str());
    let alone = format!(", $setOnInsert: {{ {stamp} }}");
    message
        .replace(&alone, "")
        .replace(&format!(", {stamp} }}"), " }")
        .replace(&format!("{{ {stamp} }}"), "{}")
}

/// What went wrong, without what stands around it of physical queries, builds and indexes.
fn cause(message: &str) -> String {
    let mut out = message.to_owned();
    // What the planner says begins with the whole query; its reason stands at the end.
    if out.starts_with("error processing query")
        && let Some((_, cause)) = out.rsplit_once("planner returned error :: caused by :: ")
    {
        out = String::from(cause);
    } else if out.starts_with("error processing query")
        && let Some((_, cause)) = out.rsplit_once('\n')
    {
        out = String::from(cause.trim_start());
    }
    // Both tell the UUID of the physical collection, the second on 4.4.2.
    let beginnings = [
        "Index build failed",
        "index build on empty collection failed: ",
    ];
    if let Some((_, cause)) = beginnings
        .iter()
        .any(|beginning| out.starts_with(beginning))
        .then(|| out.split_once(" :: caused by :: "))
        .flatten()
    {
        out = String::from(cause);
    }
    // Before 5.0 it tells the UUID and the definition as well (4.4.2).
    if let Some((_, cause)) = out
        .starts_with("Caught exception during index builder initialization ")
        .then(|| out.split_once("): "))
        .flatten()
        && let Some((cause, _)) = cause.rsplit_once(" provided. First index spec: ")
        && let Some((cause, _)) = cause.rsplit_once(". ")
    {
        out = String::from(cause);
    }
    // It may be another app's, and the collection is not the one that the app knows the UUID of.
    if let Some((building, _)) = out.split_once(BUILDING) {
        out = format!("{building}{}", BUILDING.trim_end_matches(" with UUID: "));
    }
    // Its key is that of the physical index, which nobody asked for so.
    if let Some((full, _)) = out
        .starts_with(TOO_MANY_INDEXES)
        .then(|| out.split_once(" key:{"))
        .flatten()
    {
        out = format!("{full}: it has 64, of all apps together");
    }
    out
}

/// What the planner says behind a namespace, without a blank: `ns=d.cTree: $and\nSort: {}`.
const OF_PLANNER: &str = "Tree: ";

/// `NAME@SLUG` as `NAME`, where it stands as a name: behind the database, or as a word.
fn logical_name(view: &ReplyView<'_>, (database, name): (&str, &str), message: &str) -> String {
    let physical = format!("{name}{}", view.scope.suffix());
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(&physical) {
        out.push_str(before);
        let stands_alone = out.is_empty() || out.ends_with([' ', '\'', '"', '`', '[', '(']);
        let is_name = stands_alone
            || out.ends_with(&format!("{database}."))
            || out.ends_with(&format!("{database}.system.buckets."));
        let ends = after.starts_with(OF_PLANNER)
            || !after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-'));
        out.push_str(if is_name && ends { name } else { &physical });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// `E11000 … collection: DB.NAME@SLUG index: …` with `NAME` alone, whichever it is: before 5.0 a server names a renamed collection
/// as it was called before (4.4.2).
fn renamed(scope: &Scope, message: String) -> String {
    let behind = format!("{} index: ", scope.suffix());
    match message.split_once(&behind) {
        Some((before, rest)) if before.starts_with(DUPLICATE) && !before.contains(" index: ") => {
            format!("{before} index: {rest}")
        }
        _ => message,
    }
}

/// How the text of a duplicate key begins.
const DUPLICATE: &str = "E11000 duplicate key error collection: ";

/// Whether a duplicate key is of the app's own index, and shown without the app's condition: then the field stands in a value.
fn is_own_duplicate(scope: &Scope, message: &str, rewritten: &str) -> bool {
    let own = format!(" index: {}.", scope.app().as_str());
    let is_own = message.contains(" index: _id_ dup key: {") || message.contains(&own);
    let condition = format!("dup key: {{ {}:", scope.field().as_str());
    message.starts_with("E11000 ") && is_own && !rewritten.contains(&condition)
}

/// Whether it shows the `_id` that the app would have had, and no condition: then the field stands in that value.
fn is_own_id(scope: &Scope, text: &str) -> bool {
    let stamp = format!("{}: \"{}\"", scope.field().as_str(), scope.app().as_str());
    text.starts_with(ALTERED_ID) && !text.contains(&stamp)
}

const ALTERED_ID: &str = "After applying the update, the (immutable) field '_id' was found to have been altered to _id: ";

/// `E11000 … index: SLUG.name dup key: { app_id: "SLUG", e: 1 }` in the app's terms; ODMs read this text.
fn duplicate(scope: &Scope, message: &str) -> String {
    let field = scope.field().as_str();
    let slug = scope.app().as_str();
    let base = base_id_index_name(field);
    let own = format!("{field}: \"{slug}\"");
    message
        .replacen(
            &format!(" index: {base} dup key"),
            " index: _id_ dup key",
            1,
        )
        .replacen(&format!(" index: {slug}."), " index: ", 1)
        .replacen(&format!("{{ {own}, "), "{ ", 1)
        .replacen(&format!(", {own} }}"), " }", 1)
        .replacen(&format!(", ~{slug}: null"), "", 1)
}

/// What a server says before the document that a geo index does not take.
const BEFORE_DOCUMENTS: [&str; 2] = ["Can't extract geo keys: {", "point not in interval of ["];

/// That document, which is the app's own, without the app's condition. It stands in front, where documents are stamped: what a
/// value says like it stands behind.
fn shown_document(scope: &Scope, message: &str) -> String {
    let own = format!(" {}: \"{}\",", scope.field().as_str(), scope.app().as_str());
    message.replacen(&own, "", 1)
}

/// Index definitions as the server prints them, `{ v: 2, key: { app_id: 1, a: 1 }, name: "SLUG.a_1", … }`, as the app states them.
fn definitions(scope: &Scope, message: &str) -> String {
    let field = scope.field().as_str();
    let slug = scope.app().as_str();
    let own = format!("{{ {field}: \"{slug}\"");
    let filter = "partialFilterExpression: ";
    let mut out = message
        .replace(&format!("key: {{ {field}: 1, "), "key: { ")
        // The filler stands behind the field, where both stand at the end.
        .replace(&format!(", ~{slug}: 1 }}"), " }")
        .replace(&format!(", {field}: 1 }}"), " }")
        .replace(&format!("name: \"{slug}."), "name: \"")
        .replace(&format!(", {filter}{own} }}"), "");
    let and = format!("{filter}{{ $and: [ {own} }}, ");
    while let Some((before, rest)) = out.split_once(&and) {
        let Some((user, after)) = split_object(rest) else {
            break;
        };
        let after = after.strip_prefix(" ] }").unwrap_or(after);
        out = format!("{before}{filter}{user}{after}");
    }
    let sparse = format!("{filter}{own}, ");
    while let Some((before, rest)) = out.split_once(&sparse) {
        // What is left of the object is closed as it was.
        let Some((_, after)) =
            split_object(&format!("{{{rest}")).map(|(o, a)| (o.len(), a.to_owned()))
        else {
            break;
        };
        out = format!("{before}sparse: true{after}");
    }
    out
}

/// A printed object at the beginning of a text, and what follows it.
fn split_object(text: &str) -> Option<(&str, &str)> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth = depth.saturating_add(1),
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return text.split_at_checked(at.saturating_add(1));
        }
    }
    None
}

const NOT_OPTIMIZED: &str = "Failed to optimize expression :: caused by :: ";

const MULTIPLANNER: &str = "error while multiplanner was selecting best plan :: caused by :: ";

/// `session ID - DIGEST -  - `, as errors of transactions and retryable writes say it (6.0.5): the id that the client knows,
/// and the digest of no user in place of that of the user upstream.
fn sessions(scope: &Scope, message: &str) -> String {
    let mut out = message.to_owned();
    for (at, mark) in message.match_indices(SESSION_MARK) {
        let begin = at.saturating_add(mark.len());
        let rest = message.get(begin..).unwrap_or_default();
        let Some((id, rest)) = rest.split_once(" - ") else {
            continue;
        };
        if let Some(upstream) = parse_uuid(id) {
            let client = uuid(scope.sessions().client_id(upstream));
            out = out.replace(id, &client);
        }
        // More of the session stands behind it from 6.0 on.
        if let Some(digest) = rest.get(..DIGEST_OF_NOBODY.len())
            && digest.ends_with('=')
            && !digest.contains(' ')
        {
            out = out.replace(digest, DIGEST_OF_NOBODY);
        }
    }
    out
}

const SESSION_MARK: &str = "session ";

/// SHA-256 of nothing, as a server without access control gives it.
const DIGEST_OF_NOBODY: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";

/// A client's session as errors of a server without access control name it.
pub(crate) fn session_name(id: [u8; 16]) -> String {
    format!("{} - {DIGEST_OF_NOBODY} -  - ", uuid(id))
}

/// Digits of a UUID between its hyphens.
const UUID_PARTS: [usize; 5] = [8, 4, 4, 4, 12];

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let is_shaped = text.split('-').map(str::len).eq(UUID_PARTS);
    let digits = text.replace('-', "");
    let number = u128::from_str_radix(&digits, 16).ok()?;
    is_shaped.then(|| number.to_be_bytes())
}

fn uuid(bytes: [u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(bytes));
    let mut rest = digits.as_str();
    let mut parts = Vec::new();
    for length in UUID_PARTS {
        let (part, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
        parts.push(part);
        rest = after;
    }
    parts.join("-")
}

/// A text of `validate` without the names of files: they are numbered over the collections of all apps.
pub(crate) fn without_files(message: &str) -> String {
    let plain = |word: &'_ str| match word.split_once(':') {
        Some(("table" | "file", _)) => "a file".to_owned(),
        _ => word.to_owned(),
    };
    let words: Vec<String> = message.split(' ').map(plain).collect();
    words.join(" ")
}

/// Whether the planner did not find the index that a hint names (4.4 to 8.0).
pub(crate) fn says_hint_unknown(message: &Element<'_>) -> bool {
    message.as_str().is_some_and(|text| {
        text.ends_with("hint provided does not correspond to an existing index")
    })
}

/// What a server says of a plan whose index went, before the index's name (4.4 to 6.0).
const KILLED: &str = "query plan killed :: index '";

/// Whether the server gave a plan up since an index went, and when: it names the collection only while it tries plans.
pub(crate) fn says_killed(message: &Element<'_>) -> Option<Killed> {
    let (_, rest) = message.as_str()?.split_once(KILLED)?;
    let is_trial = rest.contains("' for collection '");
    Some(if is_trial { Killed::Trial } else { Killed::Run })
}

/// The same in the app's terms. `own` gives what begins with a physical name, beginning with the app's name for that index;
/// `None` for an index that the app does not have, which is not named.
fn killed(message: &str, own: impl Fn(&str) -> Option<&str>) -> String {
    let Some((before, rest)) = message.split_once(KILLED) else {
        return message.to_owned();
    };
    match own(rest) {
        Some(own) => format!("{before}{KILLED}{own}"),
        None => format!("{before}query plan killed :: index dropped"),
    }
}

/// Whether the planner could not use the text index of a collection, which may be another app's (4.4 to 8.0).
pub(crate) fn says_text_index_unused(message: &Element<'_>) -> bool {
    message
        .as_str()
        .is_some_and(|text| text.contains("failed to use text index to satisfy $text query"))
}

/// Whether a text names the field as a whole word. Inside of a path, as in `d.app_id`, it is the app's own.
fn names(text: &str, field: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let is_joined = |c: char| is_word(c) || c == '.';
    text.match_indices(field).any(|(at, _)| {
        let before = text.get(..at).and_then(|t| t.chars().next_back());
        let after = text
            .get(at.saturating_add(field.len())..)
            .and_then(|t| t.chars().next());
        !before.is_some_and(is_joined) && !after.is_some_and(is_word)
    })
}

#[cfg(test)]
mod tests;
