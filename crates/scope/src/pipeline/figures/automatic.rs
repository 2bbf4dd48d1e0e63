//! Automatic indexes in the server's figures of an app's own collection: left out, as they are of no app.

use mdb_wire::Writer;

use crate::pipeline::Stages;

/// Names of automatic indexes.
const NAMES: &str = "^_auto[.:]";

/// Sizes of indexes, by their names.
const SIZES: &str = "$storageStats.indexSizes";

/// What is kept of the automatic ones meanwhile.
const AUTOMATIC: &str = "$storageStats.automatic";

/// Behind `$indexStats`: `{$match: {name: {$not: {$regex: …}}}}`.
pub(super) fn leave_out(out: &mut Stages<'_>) {
    stage(out, b"$match", |w| {
        let name = w.begin_document(b"name");
        let not = w.begin_document(b"$not");
        w.string(b"$regex", NAMES);
        w.end(not);
        w.end(name);
    });
}

/// Behind `$collStats`: out of the sizes by name, out of their number, and out of the totals.
pub(super) fn take_out(out: &mut Stages<'_>) {
    stage(out, b"$set", |w| {
        let automatic = w.begin_document(b"storageStats.automatic");
        filter(w, Some(SIZES), b"$eq");
        w.end(automatic);
    });
    stage(out, b"$set", |w| {
        let sizes = w.begin_document(b"storageStats.indexSizes");
        let object = w.begin_document(b"$arrayToObject");
        filter(w, Some(SIZES), b"$ne");
        w.end(object);
        w.end(sizes);
        let builds = w.begin_document(b"storageStats.indexBuilds");
        filter(w, None, b"$ne");
        w.end(builds);
        less(w, "nindexes", |w| {
            let size = w.begin_document(b"$size");
            let there = w.begin_array(b"$ifNull");
            w.string(b"0", AUTOMATIC);
            let none = w.begin_array(b"1");
            w.end(none);
            w.end(there);
            w.end(size);
        });
        for total in ["totalIndexSize", "totalSize"] {
            less(w, total, |w| w.string(b"$sum", &format!("{AUTOMATIC}.v")));
        }
    });
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    out.w.string(b"$unset", "storageStats.automatic");
    out.w.end(stage);
}

fn stage(out: &mut Stages<'_>, name: &[u8], write: impl FnOnce(&mut Writer)) {
    let key = out.next();
    let stage = out.w.begin_document(key.as_bytes());
    let body = out.w.begin_document(name);
    write(out.w);
    out.w.end(body);
    out.w.end(stage);
}

/// `$filter` over the members of a document, or else over the names of builds: the automatic ones (`$eq`), or the others.
fn filter(w: &mut Writer, members_of: Option<&str>, is: &[u8]) {
    let filter = w.begin_document(b"$filter");
    match members_of {
        Some(document) => {
            let input = w.begin_document(b"input");
            w.string(b"$objectToArray", document);
            w.end(input);
        }
        None => w.string(b"input", "$storageStats.indexBuilds"),
    }
    let cond = w.begin_document(b"cond");
    let equal = w.begin_array(is);
    let matches = w.begin_document(b"0");
    let regex = w.begin_document(b"$regexMatch");
    let name = members_of.map_or("$$this", |_| "$$this.k");
    w.string(b"input", name);
    w.string(b"regex", NAMES);
    w.end(regex);
    w.end(matches);
    w.boolean(b"1", true);
    w.end(equal);
    w.end(cond);
    w.end(filter);
}

/// A figure less what is written.
fn less(w: &mut Writer, figure: &str, write: impl FnOnce(&mut Writer)) {
    let path = format!("storageStats.{figure}");
    let field = w.begin_document(path.as_bytes());
    let subtract = w.begin_array(b"$subtract");
    w.string(b"0", &format!("${path}"));
    let by = w.begin_document(b"1");
    write(w);
    w.end(by);
    w.end(subtract);
    w.end(field);
}
