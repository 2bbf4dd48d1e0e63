//! A `$lookup` by `localField` and `foreignField`, for servers before 5.0, which have no pipeline beside them: the same join by
//! `let` and `$expr`. Which documents two paths join is as on 4.4.2, by comparison with its own `$lookup`.

use mdb_wire::Writer;

use crate::refusal::Refusal;
use crate::tree::{Tree, object, one, text};

/// More names than that in a path would nest beyond what a server reads.
const NAMES_MAX: usize = 8;

/// Writes `let`.
pub(super) fn bindings(w: &mut Writer, local: &[&str]) {
    one(VARIABLE, or_null(local_values(local))).write(w, b"let");
}

/// A document `{pipeline: [...]}` that takes the documents in which one of the foreign values is one of the local ones.
pub(super) fn pipeline(foreign: &[&str]) -> Vec<u8> {
    let both = Tree::Array(vec![text(format!("$${VARIABLE}")), foreign_values(foreign)]);
    let common = one("$setIntersection", both);
    let expression = one("$ne", Tree::Array(vec![common, none()]));
    let filter = one("$match", one("$expr", expression));
    let mut w = Writer::default();
    let mark = w.begin();
    Tree::Array(vec![filter]).write(&mut w, b"pipeline");
    w.end(mark);
    w.into_bytes()
}

/// The names of a path.
///
/// # Errors
/// 9, 15998, 16410, 40353 in mongod's words (4.4.2); 72 for what would join otherwise than there: places in arrays.
pub(super) fn names(path: &str) -> Result<Vec<&str>, Refusal> {
    let names: Vec<&str> = path.split('.').collect();
    let is_place = |name: &&str| name.bytes().all(|byte| byte.is_ascii_digit());
    if names.last() == Some(&"") {
        return Err(Refusal::dot_at_end("FieldPath must not end with a '.'."));
    }
    if names.contains(&"") {
        let text = "FieldPath field names may not be empty strings.";
        return Err(Refusal::empty_name(text));
    }
    if names.iter().any(|name| name.starts_with('$')) {
        let text = "FieldPath field names may not start with '$'.";
        return Err(Refusal::dollar_name(text));
    }
    if names.len() > NAMES_MAX || names.iter().any(is_place) || path.contains('\0') {
        return Err(Refusal::invalid_options(
            "$lookup with localField and foreignField is not available on a server before 5.0 for a path with numbers or more than 8 names; give it a pipeline with let and $expr",
        ));
    }
    Ok(names)
}

/// Nobody else's pipeline stands within this one.
const VARIABLE: &str = "values";

fn none() -> Tree {
    Tree::Array(Vec::new())
}

fn alone(value: Tree) -> Tree {
    Tree::Array(vec![value])
}

fn when(condition: Tree, then: Tree, otherwise: Tree) -> Tree {
    one("$cond", Tree::Array(vec![condition, then, otherwise]))
}

fn is_kind(value: &str, kind: &str) -> Tree {
    let found = one("$type", text(value));
    one("$eq", Tree::Array(vec![found, text(kind)]))
}

fn is_array(value: &str) -> Tree {
    one("$isArray", text(value))
}

/// The list as it is, or `[null]` for an empty one: what is not there joins what is null or not there.
fn or_null(values: Tree) -> Tree {
    let is_empty = one("$eq", Tree::Array(vec![text("$$all"), none()]));
    let chosen = when(is_empty, alone(Tree::Null), text("$$all"));
    one(
        "$let",
        object([("vars", one("all", values)), ("in", chosen)]),
    )
}

/// The lists that `of` makes of the items of a list (`$$this`), one behind the other.
fn each(list: Tree, of: Tree) -> Tree {
    let joined = one("$concatArrays", Tree::Array(vec![text("$$value"), of]));
    let parts = [("input", list), ("initialValue", none()), ("in", joined)];
    one("$reduce", object(parts))
}

/// The items, and in place of an array those of it.
fn opened(list: Tree) -> Tree {
    each(
        list,
        when(is_array("$$this"), text("$$this"), alone(text("$$this"))),
    )
}

/// A field as a list: of its value, or of nothing or null where it is not there.
fn field(path: &str, missing: Tree) -> Tree {
    when(is_kind(path, "missing"), missing, alone(text(path)))
}

/// Every value at the path, those of arrays one by one.
fn local_values(names: &[&str]) -> Tree {
    let mut names = names.iter();
    let first = names.next().map_or("", |name| name);
    let mut values = field(&format!("${first}"), none());
    for name in names {
        let below = field(&format!("$$this.{name}"), none());
        let below = when(is_kind("$$this", "object"), below, none());
        values = each(opened(values), below);
    }
    opened(values)
}

/// Every value that a condition on the path looks at: arrays as a whole and item by item, null for what is not there.
fn foreign_values(names: &[&str]) -> Tree {
    let mut names = names.iter();
    let first = names.next().map_or("", |name| name);
    let null = || alone(Tree::Null);
    let mut values = field(&format!("${first}"), null());
    for name in names {
        let below = || field(&format!("$$this.{name}"), null());
        let item = when(is_kind("$$this", "object"), below(), none());
        let otherwise = when(is_array("$$this"), each(text("$$this"), item), null());
        values = each(
            values,
            when(is_kind("$$this", "object"), below(), otherwise),
        );
    }
    let whole = one(
        "$concatArrays",
        Tree::Array(vec![text("$$this"), alone(text("$$this"))]),
    );
    let single = one("$ifNull", Tree::Array(vec![text("$$this"), Tree::Null]));
    each(values, when(is_array("$$this"), whole, alone(single)))
}
