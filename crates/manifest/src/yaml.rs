//! Bytes of YAML (or JSON, which is YAML too) to a tree whose nodes know their place.
//!
//! The only file that names `serde_yaml`.

use std::rc::Rc;

use crate::positions::{self, Inside, Mark};
use crate::report::{Position, Sheet};

/// Size of one file. The largest manifest seen had 40 KiB; whatever is larger was named by mistake.
pub(crate) const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// One value and its place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Null,
    Boolean(bool),
    Integer(i64),
    /// Also whole numbers beyond 64 bits.
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
    /// A value with a tag of the author's own (`!secret x`): nothing here takes one.
    Tagged,
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_at: Position,
    pub(crate) value: Node,
}

/// The one document in `bytes`. `None` when it cannot be read at all; then the sheet says why.
pub(crate) fn parse(bytes: &[u8], sheet: &Sheet) -> Option<Node> {
    if bytes.len() as u64 > FILE_BYTES_MAX {
        sheet.error(None, format!("is larger than {FILE_BYTES_MAX} bytes"));
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            sheet.error(end_of(&bytes[..error.valid_up_to()]), "not UTF-8");
            return None;
        }
    };
    let mark = positions::of(text, sheet)?;
    match serde_yaml::from_str::<serde_yaml::Value>(text) {
        Ok(value) => Some(node(value, &mark, sheet)),
        Err(error) => {
            sheet.error(
                error.location().map(|found| place(&found)),
                format!("not YAML: {}", text_without_place(&error)),
            );
            None
        }
    }
}

/// The two readers walk one text in one order. Where they should ever disagree about a node's shape, everything inside it
/// gets the place of the node itself.
fn node(value: serde_yaml::Value, mark: &Rc<Mark>, sheet: &Sheet) -> Node {
    use serde_yaml::Value;
    let kind = match value {
        Value::Null => Kind::Null,
        Value::Bool(value) => Kind::Boolean(value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Kind::Integer(integer),
            None => Kind::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Kind::Text(text),
        Value::Sequence(items) => Kind::List(list(items, mark, sheet)),
        Value::Mapping(mapping) => Kind::Mapping(entries(mapping, mark, sheet)),
        Value::Tagged(_) => Kind::Tagged,
    };
    Node { at: mark.at, kind }
}

fn list(items: Vec<serde_yaml::Value>, mark: &Rc<Mark>, sheet: &Sheet) -> Vec<Node> {
    let places = match &mark.inside {
        Inside::List(places) if places.len() == items.len() => places.as_slice(),
        _ => &[],
    };
    let place_of = |index: usize| places.get(index).unwrap_or(mark);
    items
        .into_iter()
        .enumerate()
        .map(|(index, item)| node(item, place_of(index), sheet))
        .collect()
}

fn entries(mapping: serde_yaml::Mapping, mark: &Rc<Mark>, sheet: &Sheet) -> Vec<Entry> {
    let places = match &mark.inside {
        Inside::Mapping(places) if places.len() == mapping.len() => places.as_slice(),
        _ => &[],
    };
    let mut entries = Vec::with_capacity(mapping.len());
    for (index, (key, value)) in mapping.into_iter().enumerate() {
        let (key_mark, value_mark) = places
            .get(index)
            .map_or((mark, mark), |(key, value)| (key, value));
        let value = node(value, value_mark, sheet);
        match key {
            serde_yaml::Value::String(key) => entries.push(Entry {
                key,
                key_at: key_mark.at,
                value,
            }),
            _ => sheet.error(key_mark.at, "a key must be text; put it in quotes"),
        }
    }
    entries
}

fn place(found: &serde_yaml::Location) -> Position {
    Position {
        line: found.line().max(1),
        column: found.column().max(1),
    }
}

/// The reader's words without the place it appends, which the problem states itself.
fn text_without_place(error: &serde_yaml::Error) -> String {
    let text = error.to_string();
    match text.find(" at line ") {
        Some(end) => text[..end].to_owned(),
        None => text,
    }
}

/// The place just behind `bytes`, which are valid.
fn end_of(bytes: &[u8]) -> Position {
    let text = String::from_utf8_lossy(bytes);
    let line = text.matches('\n').count() + 1;
    let last_line = text.rsplit('\n').next().unwrap_or_default();
    Position {
        line,
        column: last_line.chars().count() + 1,
    }
}

#[cfg(test)]
mod tests;
