//! One command of a sequence, and how it is written down.

use std::fmt::Write as _;

use bson::{Bson, Document};
use mdb_tests::script::Words;
use serde_yaml::Value;

/// How much of the replies must be equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Compare {
    /// Everything.
    Exact,
    /// Everything, but the order of documents is nobody's promise; of an error its code.
    Set,
    /// As `Set`, and the order of fields is nobody's promise either.
    Fields,
    /// Whether it succeeded, and the code.
    Code,
    /// The events of a stream up to the marker or its end, without what says when.
    Stream,
}

const COMPARES: [(&str, Compare); 4] = [
    ("fields", Compare::Fields),
    ("set", Compare::Set),
    ("code", Compare::Code),
    ("stream", Compare::Stream),
];

#[derive(Debug, Clone)]
pub(super) struct Step {
    /// Without `$db`. `<cursor>` is the cursor opened last, `<event>` the token of the first event of the stream
    /// read last and `<event time>` its time, `<session 1>` a session's id, `<database>` the name of the database.
    pub(super) command: Document,
    pub(super) compare: Compare,
}

impl Step {
    pub(super) fn new(command: Document, compare: Compare) -> Self {
        Self { command, compare }
    }

    /// As in `cases.yaml`.
    pub(super) fn parse(step: &Value) -> Self {
        let raw = Words::default().document(&step["c"]);
        let named = step["compare"].as_str();
        let compare = named.map_or(Compare::Exact, |name| {
            let found = COMPARES.iter().find(|(known, _)| *known == name);
            found.unwrap_or_else(|| panic!("compare: {name}")).1
        });
        Self {
            command: bson::deserialize_from_slice(raw.as_bytes()).unwrap(),
            compare,
        }
    }

    /// A line for `cases.yaml`.
    pub(super) fn print(&self) -> String {
        let mut out = "- { c: ".to_owned();
        document(&mut out, &self.command);
        let named = COMPARES.iter().find(|(_, known)| *known == self.compare);
        if let Some((name, _)) = named {
            write!(out, ", compare: {name}").unwrap();
        }
        out.push_str(" }");
        out
    }

    /// The transaction that it begins or belongs to.
    pub(super) fn is_in_transaction(&self) -> bool {
        self.command.contains_key("autocommit")
    }

    pub(super) fn ends_transaction(&self) -> bool {
        ["commitTransaction", "abortTransaction"]
            .iter()
            .any(|name| self.command.contains_key(name))
    }

    pub(super) fn starts_transaction(&self) -> bool {
        self.command.contains_key("startTransaction")
    }
}

fn document(out: &mut String, document: &Document) {
    out.push('{');
    for (at, (key, inner)) in document.iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write!(out, "{key:?}: ").unwrap();
        value(out, inner);
    }
    out.push('}');
}

fn value(out: &mut String, it: &Bson) {
    match it {
        Bson::Document(inner) => document(out, inner),
        Bson::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                value(out, item);
            }
            out.push(']');
        }
        Bson::String(text) => write!(out, "{text:?}").unwrap(),
        Bson::Int32(number) => write!(out, "{number}").unwrap(),
        Bson::Int64(number) => write!(out, "!long {number}").unwrap(),
        Bson::Double(number) => write!(out, "!double {number:?}").unwrap(),
        Bson::Boolean(flag) => write!(out, "{flag}").unwrap(),
        Bson::Null => out.push_str("null"),
        Bson::DateTime(date) => write!(out, "!date {}", date.timestamp_millis()).unwrap(),
        Bson::ObjectId(id) => write!(out, "!oid \"{id}\"").unwrap(),
        Bson::RegularExpression(regex) => {
            write!(
                out,
                "!regex {:?}",
                format!("{}/{}", regex.pattern, regex.options)
            )
            .unwrap();
        }
        Bson::Timestamp(time) => {
            write!(out, "!timestamp [{}, {}]", time.time, time.increment).unwrap();
        }
        other => panic!("no way to write {other}"),
    }
}
