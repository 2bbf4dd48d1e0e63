//! Collections in which a mongos keeps what it knows of shards. Shells and tools that take the proxy for one look there, and
//! find nothing: no collection of an app is sharded. Nothing goes upstream.

use mdb_scope::{CommandSpec, Refusal, check_fields, check_sequences};
use mdb_wire::{Command, Writer};

/// The database of sharded clusters.
const DATABASE: &str = "config";

/// Its collections at which clients look (mongosh 2.x, Compass, suites of drivers).
const COLLECTIONS: &[&str] = &[
    "chunks",
    "collections",
    "databases",
    "mongos",
    "settings",
    "shards",
    "tags",
    "version",
];

/// Writes what an empty collection answers; `false` for any other command.
///
/// # Errors
/// 40415 for a field that the command does not have.
pub(crate) fn answer(
    spec: &'static CommandSpec,
    command: &Command<'_>,
    collection: &str,
    out: &mut Vec<u8>,
) -> Result<bool, Refusal> {
    if command.database != DATABASE || !COLLECTIONS.contains(&collection) {
        return Ok(false);
    }
    let mut w = Writer::default();
    let mark = w.begin();
    match spec.name {
        "find" | "aggregate" => {
            let cursor = w.begin_document(b"cursor");
            let batch = w.begin_array(b"firstBatch");
            w.end(batch);
            w.int64(b"id", 0);
            w.string(b"ns", &format!("{DATABASE}.{collection}"));
            w.end(cursor);
        }
        "count" => w.int32(b"n", 0),
        "distinct" => {
            let values = w.begin_array(b"values");
            w.end(values);
        }
        _ => return Ok(false),
    }
    w.double(b"ok", 1.0);
    w.end(mark);
    check_fields(spec, command)?;
    check_sequences(spec, command)?;
    out.extend_from_slice(&w.into_bytes());
    Ok(true)
}
