//! What may differ between the two sides, each with the place in the documentation that says so.

use bson::{Bson, Document, doc};

/// A row: what `docs/compatibility.md` says, and how the replies are made equal in that respect.
pub(super) struct Difference {
    /// A phrase of the page.
    pub(super) cites: &'static str,
    /// Given the command, and the replies through the proxy and of the private server.
    pub(super) even: fn(&Document, [&mut Document; 2]),
}

pub(super) static DIFFERENCES: &[Difference] = &[
    Difference {
        cites: "among them `opTime`, `electionId` and `topologyVersion` outside of hello",
        even: |_, replies| without(replies, &["opTime", "electionId", "lastCommittedOpTime"]),
    },
    Difference {
        cites: "`$clusterTime` and `operationTime` show that something was written.",
        even: |_, replies| without(replies, &["$clusterTime", "operationTime"]),
    },
    Difference {
        cites: "UUIDs of shared collections are made from app and name",
        even: |command, replies| {
            for reply in replies {
                if command.contains_key("listCollections") {
                    each_document(reply, &mut |d| drop(d.remove("uuid")));
                } else if let Ok(text) = reply.get_str("errmsg")
                    && let Some((what, _)) = text.split_once(". UUID ")
                {
                    let what = what.to_owned();
                    reply.insert("errmsg", what);
                }
            }
        },
    },
    Difference {
        cites: "`system.views` and `system.buckets.*` are not listed.",
        even: |command, replies| {
            if command.contains_key("listCollections") {
                for reply in replies {
                    each_array(reply, &mut |items| items.retain(|item| !is_of_server(item)));
                }
            }
        },
    },
    Difference {
        cites: "Their cursor is named `$cmd.aggregate`.",
        even: |command, replies| {
            if begins_with(command, &["$collStats", "$indexStats"]) {
                for reply in replies {
                    if let Ok(cursor) = reply.get_document_mut("cursor") {
                        cursor.remove("ns");
                    }
                }
            }
        },
    },
    Difference {
        cites: "`system.views` and buckets of time series are not counted as collections of their own",
        even: |command, replies| {
            if command.contains_key("dbStats")
                && figure(replies[0], "collections") != figure(replies[1], "collections")
            {
                without(
                    replies,
                    &[
                        "collections",
                        "objects",
                        "avgObjSize",
                        "dataSize",
                        "indexes",
                    ],
                );
            }
        },
    },
    Difference {
        cites: "Without `wiredTiger`, `indexDetails`, `fsUsedSize`, `fsTotalSize`",
        even: |command, replies| of_figures(command, replies, &UNKNOWN),
    },
    Difference {
        cites: "`storageSize` is `size`; the index on `_id` counts 0 bytes",
        even: |command, replies| of_figures(command, replies, &FILES),
    },
    Difference {
        cites: "The server's own, without hosts, files",
        even: |command, replies| of_figures(command, replies, &["host"]),
    },
    Difference {
        cites: "| timing | Cache, locks",
        even: |command, replies| of_figures(command, replies, &["millis"]),
    },
    Difference {
        cites: "| `listDatabases` | Sizes are 0. |",
        even: |command, replies| {
            if command.contains_key("listDatabases") {
                for reply in replies {
                    *reply = doc! {"ok": reply.get("ok")};
                }
            }
        },
    },
    Difference {
        cites: "the last batch may close a cursor",
        even: end_of_cursor,
    },
    Difference {
        cites: "the beginning `Index build failed` is left out",
        even: |_, replies| {
            for reply in replies {
                if let Ok(text) = reply.get_str("errmsg")
                    && BUILD_FAILED.iter().any(|begin| text.starts_with(begin))
                    && let Some((_, cause)) = text.split_once(" :: caused by :: ")
                {
                    let cause = cause.to_owned();
                    reply.insert("errmsg", cause);
                }
            }
        },
    },
    Difference {
        cites: "a hint that names no index fails also where the collection is not there yet.",
        even: |command, [through, direct]| {
            let is_unknown = through
                .get_str("errmsg")
                .is_ok_and(|text| text.ends_with(HINT_UNKNOWN));
            let is_apart = command.contains_key("autocommit") || is_upsert(command);
            if command.contains_key("hint") && is_apart && is_unknown && is_empty(direct) {
                *direct = through.clone();
            }
        },
    },
    Difference {
        cites: "A projection that no server takes fails a `findAndModify`",
        even: |command, [through, direct]| {
            let is_mixed = through
                .get_i32("code")
                .is_ok_and(|code| MIXED_PROJECTION.contains(&code));
            if command.contains_key("findAndModify")
                && is_mixed
                && direct.get("value") == Some(&Bson::Null)
            {
                *direct = through.clone();
            }
        },
    },
    Difference {
        cites: "a stage in front of it stops the server from moving it",
        even: |command, [through, direct]| {
            let has_failed = through
                .get_i32("code")
                .is_ok_and(|code| code == ADDS_NO_NUMBER);
            if is_of_view(command) && has_failed && direct.contains_key("cursor") {
                *direct = through.clone();
            }
        },
    },
    Difference {
        cites: "a transaction that meets one fails as it does",
        even: |_, replies| {
            let is_too_early = |reply: &Document| {
                reply
                    .get_i32("code")
                    .is_ok_and(|code| code == SNAPSHOT_UNAVAILABLE)
            };
            if replies.iter().any(|reply| is_too_early(reply)) {
                for reply in replies {
                    *reply = doc! {"met a change": true};
                }
            }
        },
    },
    Difference {
        cites: "it finds the right ones",
        even: |command, [through, direct]| {
            let stages = command.get_array("pipeline").ok();
            let first = stages.and_then(|stages| stages.first()?.as_document());
            let first = first.and_then(|stage| stage.get_document("$match").ok());
            let is_of_whole = first.is_some_and(|filter| filter.to_string().contains("$$ROOT"));
            if is_of_view(command) && is_of_whole && direct.contains_key("cursor") {
                *direct = through.clone();
            }
        },
    },
    Difference {
        cites: "and before 5.0 that of `collStats`",
        even: |command, replies| {
            if command.contains_key("collStats") && !replies[1].contains_key("code") {
                without(replies, &["code", "codeName", "ns"]);
            }
        },
    },
    Difference {
        cites: "what stands in front of the reason",
        even: |_, replies| {
            for reply in replies {
                each_document(reply, &mut |d| {
                    if let Ok(text) = d.get_str("errmsg") {
                        let reason = reason(text).to_owned();
                        d.insert("errmsg", reason);
                    }
                });
            }
        },
    },
    Difference {
        cites: "a name with a random number",
        even: |_, replies| {
            for reply in replies {
                each_document(reply, &mut |d| {
                    let Ok(text) = d.get_str("errmsg") else {
                        return;
                    };
                    let parts = FILLED_ASIDE.iter().find_map(|aside| text.split_once(aside));
                    if let Some((before, after)) = parts
                        && let Some((_, after)) = after.split_once(' ')
                    {
                        let evened = format!("{before} {after}");
                        d.insert("errmsg", evened);
                    }
                });
            }
        },
    },
    Difference {
        cites: "Of two mistakes in one command",
        even: two_mistakes,
    },
    Difference {
        cites: "Answered from an index, a server gives null",
        even: |command, replies| {
            if command.contains_key("distinct") {
                for reply in replies {
                    if let Ok(values) = reply.get_array_mut("values") {
                        values.retain(|value| *value != Bson::Null);
                    }
                }
            }
        },
    },
    Difference {
        cites: "with `whenMatched: fail` the text of 11000 says less",
        even: |command, replies| {
            let is_clash =
                |reply: &&mut Document| reply.get_i32("code").is_ok_and(|code| code == 11000);
            if command.contains_key("aggregate") && replies.iter().all(is_clash) {
                without(replies, &["errmsg"]);
            }
        },
    },
    Difference {
        cites: "27, or 291 with a `key`, and not 26",
        even: |command, [through, direct]| {
            let text = command.to_string();
            let is_apart = command.contains_key("autocommit")
                || ["$lookup", "$unionWith"]
                    .iter()
                    .any(|stage| text.contains(stage));
            let is_near = direct
                .get_str("errmsg")
                .is_ok_and(|text| text.starts_with("$geoNear requires a geo index to run"));
            let has_no_index = through
                .get_i32("code")
                .is_ok_and(|c| [27, 291].contains(&c));
            if is_apart
                && is_near
                && has_no_index
                && direct.get_i32("code").is_ok_and(|code| code == 26)
            {
                *direct = through.clone();
            }
        },
    },
    Difference {
        cites: "26 names the collection also where",
        even: |command, replies| {
            let is_missing =
                |reply: &&mut Document| reply.get_i32("code").is_ok_and(|code| code == 26);
            if command.contains_key("renameCollection") && replies.iter().all(is_missing) {
                without(replies, &["errmsg"]);
            }
        },
    },
    Difference {
        cites: "The rest 72, except on dedicated collections.",
        even: |command, [through, direct]| {
            let is_shared = through
                .get_str("errmsg")
                .is_ok_and(|text| text.contains("the collection is shared with other apps"));
            if command.contains_key("collMod") && is_shared {
                *direct = through.clone();
            }
        },
    },
    Difference {
        cites: "Hidden and wildcard indexes cannot be read as a whole",
        even: |command, replies| {
            if command.contains_key("validate") {
                without_unread(replies);
            }
        },
    },
    Difference {
        cites: "has a code, where a server gives none",
        even: |command, replies| {
            if command.contains_key("dbStats") && !replies[1].contains_key("code") {
                without(replies, &["code", "codeName"]);
            }
        },
    },
    Difference {
        cites: "the text of a later error 251 then differs",
        even: |_, replies| {
            if replies.iter().all(|reply| {
                reply
                    .get_i32("code")
                    .is_ok_and(|code| code == NO_TRANSACTION)
            }) {
                without(replies, &["errmsg"]);
            }
        },
    },
    Difference {
        cites: "Definitions of indexes that no server takes",
        even: |command, replies| {
            let codes = replies.each_ref().map(|reply| reply.get_i32("code").ok());
            let is_bad = codes[0].is_some_and(|code| BAD_DEFINITION.contains(&code));
            if command.contains_key("createIndexes") && codes[0] == codes[1] && is_bad {
                for reply in replies {
                    *reply = doc! {"code": reply.get("code")};
                }
            }
        },
    },
];

/// What a server says in front of why an index was not built.
const BUILD_FAILED: [&str; 2] = [
    "Index build failed: ",
    "index build on empty collection failed: ",
];

/// How the name goes on of a collection that was filled under a name of its own: by `$out`, and by `convertToCapped`.
const FILLED_ASIDE: [&str; 2] = [".tmp.agg_out.", ".tmp"];

/// Whether it is about one of the names that the generator gives to views.
fn is_of_view(command: &Document) -> bool {
    let target = command.values().next().and_then(Bson::as_str);
    target.is_some_and(|name| ["seen", "shaped"].contains(&name))
}

/// A projection that includes and excludes.
const MIXED_PROJECTION: [i32; 2] = [31253, 31254];

/// What an addition says of a string.
const ADDS_NO_NUMBER: i32 = 16554;

fn reason(text: &str) -> &str {
    let is_prefixed = BEFORE_REASON.iter().any(|prefix| text.starts_with(prefix));
    match text.rsplit_once(" :: caused by :: ") {
        Some((_, reason)) if is_prefixed => reason,
        None if is_prefixed => text.rsplit('\n').next().unwrap_or(text).trim(),
        _ => text,
    }
}

const BEFORE_REASON: [&str; 9] = [
    "exception thrown while multiplanner was selecting best plan",
    "error while multiplanner was selecting best plan",
    "Invalid $",
    "Invalid pipeline for view ",
    "Plan executor error during ",
    "error processing query: ",
    "Executor error during ",
    "PlanExecutor error during ",
    "Error in specification ",
];

/// BadValue and FailedToParse aside, CannotCreateIndex, InvalidIndexSpecificationOption, unique hashed indexes.
const BAD_DEFINITION: [i32; 5] = [2, 9, 67, 197, 16764];

fn two_mistakes(_: &Document, [through, direct]: [&mut Document; 2]) {
    // Of the command, or of its first statement that fails.
    let text = |reply: &Document| {
        let errors = reply.get_array("writeErrors").ok();
        let statement = errors.and_then(|errors| errors.first()?.as_document());
        let text = statement.unwrap_or(reply).get_str("errmsg");
        text.unwrap_or_default().to_owned()
    };
    let is_told = |text: &str| {
        text.ends_with(HINT_UNKNOWN) || NONSENSE.iter().any(|name| text.contains(name))
    };
    let has_failed = direct.contains_key("code") || direct.contains_key("writeErrors");
    let is_other = !is_told(&text(direct)) || through.get("code") != direct.get("code");
    if is_told(&text(through)) && has_failed && is_other {
        *direct = through.clone();
    }
}

/// Names of the generator that no server knows.
const NONSENSE: [&str; 8] = [
    "A pipeline stage specification object must contain exactly one field",
    "Unrecognized pipeline stage name",
    "$bad",
    "$nonsense",
    ".nonsense' is an unknown field",
    "xx",
    "$nope",
    "Unknown modifier",
];

fn without(replies: [&mut Document; 2], keys: &[&str]) {
    for reply in replies {
        for key in keys {
            reply.remove(key);
        }
    }
}

fn end_of_cursor(command: &Document, replies: [&mut Document; 2]) {
    if command.contains_key("killCursors") && replies.iter().any(|reply| is_nowhere(reply)) {
        for reply in replies {
            *reply = doc! {"ok": reply.get("ok")};
        }
        return;
    }
    let ended = replies.each_ref().map(|reply| cursor_id(reply) == Some(0));
    if command.contains_key("getMore") && replies.iter().all(|reply| is_unknown(reply)) {
        for reply in replies {
            reply.remove("errmsg");
        }
        return;
    }
    let missing = replies.each_ref().map(|reply| is_unknown(reply));
    if command.contains_key("getMore") && missing[0] != missing[1] {
        for reply in replies {
            if is_empty(reply) || is_unknown(reply) {
                *reply = doc! {"ended": true};
            }
        }
    } else if ended[0] != ended[1] {
        for reply in replies {
            if let Ok(cursor) = reply.get_document_mut("cursor") {
                cursor.insert("id", "at its end");
            }
        }
    }
}

/// Takes the indexes out of what `validate` says of which it says that they were not read.
fn without_unread(replies: [&mut Document; 2]) {
    let name = |warning: &Bson| {
        let said = warning.as_str()?.strip_prefix("Index ")?;
        said.split_once(" was not validated: ")
            .map(|(name, _)| name.to_owned())
    };
    let warnings = replies[0].get_array("warnings");
    let unread: Vec<String> = warnings.into_iter().flatten().filter_map(name).collect();
    for reply in replies {
        if let Ok(warnings) = reply.get_array_mut("warnings") {
            warnings.retain(|warning| name(warning).is_none());
        }
        for part in ["keysPerIndex", "indexDetails"] {
            if let Ok(part) = reply.get_document_mut(part) {
                for name in &unread {
                    part.remove(name);
                }
            }
        }
    }
}

fn is_empty(reply: &Document) -> bool {
    let Ok(cursor) = reply.get_document("cursor") else {
        return false;
    };
    let batch = ["firstBatch", "nextBatch"]
        .iter()
        .find_map(|key| cursor.get_array(key).ok());
    batch.is_some_and(Vec::is_empty)
}

const SNAPSHOT_UNAVAILABLE: i32 = 246;

/// NoSuchTransaction.
const NO_TRANSACTION: i32 = 251;

fn is_upsert(command: &Document) -> bool {
    command.get_bool("upsert").unwrap_or(false)
}

const HINT_UNKNOWN: &str = "hint provided does not correspond to an existing index";

fn cursor_id(reply: &Document) -> Option<i64> {
    reply.get_document("cursor").ok()?.get_i64("id").ok()
}

fn is_nowhere(reply: &Document) -> bool {
    reply
        .get_array("cursorsNotFound")
        .is_ok_and(|ids| !ids.is_empty())
}

fn is_unknown(reply: &Document) -> bool {
    reply
        .get_i32("code")
        .is_ok_and(|code| code == CURSOR_NOT_FOUND)
}

const CURSOR_NOT_FOUND: i32 = 43;

/// Collections in which a server keeps views and time series.
fn is_of_server(listed: &Bson) -> bool {
    let name = listed
        .as_document()
        .and_then(|listed| listed.get_str("name").ok());
    name.is_some_and(|name| name.starts_with("system."))
}

/// Whether it is a pipeline with one of these stages in front.
fn begins_with(command: &Document, names: &[&str]) -> bool {
    let stages = command.get_array("pipeline").ok();
    let first = stages.and_then(|stages| stages.first()?.as_document());
    first.is_some_and(|stage| names.iter().any(|name| stage.contains_key(name)))
}

/// A number of either kind.
fn figure(reply: &Document, name: &str) -> Option<i64> {
    match reply.get(name)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

/// Takes fields out of figures of collections and databases.
fn of_figures(command: &Document, replies: [&mut Document; 2], fields: &[&str]) {
    let is_command = ["collStats", "dbStats", "dataSize"]
        .iter()
        .any(|name| command.contains_key(name));
    let first = command
        .get_array("pipeline")
        .ok()
        .and_then(|stages| stages.first()?.as_document());
    if is_command || first.is_some_and(|stage| stage.contains_key("$collStats")) {
        for reply in replies {
            each_document(reply, &mut |document| {
                for field in fields {
                    document.remove(field);
                }
            });
        }
    }
}

const UNKNOWN: [&str; 4] = ["wiredTiger", "indexDetails", "fsUsedSize", "fsTotalSize"];

/// Sizes of files.
const FILES: [&str; 8] = [
    "storageSize",
    "freeStorageSize",
    "totalIndexSize",
    "totalSize",
    "indexSize",
    "indexFreeStorageSize",
    "totalFreeStorageSize",
    "indexSizes",
];

fn each_array(document: &mut Document, change: &mut dyn FnMut(&mut Vec<Bson>)) {
    for (_, value) in document.iter_mut() {
        match value {
            Bson::Array(items) => change(items),
            Bson::Document(inner) => each_array(inner, change),
            _ => {}
        }
    }
}

fn each_document(document: &mut Document, change: &mut dyn FnMut(&mut Document)) {
    change(document);
    for (_, value) in document.iter_mut() {
        each_in(value, change);
    }
}

fn each_in(value: &mut Bson, change: &mut dyn FnMut(&mut Document)) {
    match value {
        Bson::Document(inner) => each_document(inner, change),
        Bson::Array(items) => items.iter_mut().for_each(|item| each_in(item, change)),
        _ => {}
    }
}
