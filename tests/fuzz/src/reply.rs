//! Replies: a byte for how one is read, then a document.
//!
//! Bits 0 to 2: the rule. Bit 3: the scope field is shown. Bits 4 and 5: no base indexes, no indexes of the app. Bit 6: the
//! collection is the app's own. Bit 7: so is another of the command.

use mdb_notation::{Fields, Value, fields};
use mdb_scope::{Incident, ReplyRule, ReplyView, ends_stream, glance};
use mdb_wire::{Document, Kind, Writer};

use crate::scope::{self, FIELD, SLUG};

/// Every rule.
pub(crate) const RULES: &[ReplyRule] = &[
    ReplyRule::Plain,
    ReplyRule::Cursor { strips: true },
    ReplyRule::Cursor { strips: false },
    ReplyRule::Value { strips: true },
    ReplyRule::Value { strips: false },
    ReplyRule::Explain,
    ReplyRule::KeptPlans,
    ReplyRule::Events {
        has_sessions: true,
        ends: true,
    },
    ReplyRule::Events {
        has_sessions: false,
        ends: false,
    },
];

/// Rewrites any reply: it is an incident or a document without another app's, and without a word of the scope field in its
/// texts, keys and plans.
///
/// # Panics
/// Where a promise is broken.
pub fn check(input: &[u8]) {
    let Some((&bits, rest)) = input.split_first() else {
        return;
    };
    let Ok(reply) = Document::parse(rest) else {
        return;
    };
    let rule = RULES[usize::from(bits & 7) % RULES.len()];
    let is_hidden = bits & 8 == 0;
    let is_dedicated = bits & 0x40 != 0;
    let dedicated = [("c", is_dedicated), ("f", bits & 0x80 != 0)];
    let dedicated = dedicated.iter().filter(|c| c.1).map(|c| ("d", c.0));
    let _ends = ends_stream(rule, reply);
    let view = ReplyView {
        scope: scope::scope(is_hidden, false),
        rule,
        collection: scope::collection(bits & 0x10 == 0, bits & 0x20 == 0, is_dedicated),
        database: "d",
        dedicated: &dedicated.collect::<Vec<_>>(),
        continues: None,
        shares: !is_dedicated,
    };
    let seen = glance(reply);
    let upstream = fields(reply);
    let mut w = Writer::default();
    let mark = w.begin();
    let written = view.write(&mut w, reply, &seen, &mut |id| id ^ ID_MASK);
    w.end(mark);
    let bytes = w.into_bytes();
    if let Err(incident) = written {
        return reported(&incident, rule);
    }
    let client = Document::parse(&bytes).expect("the client gets a document");
    let client = fields(client);
    if rule == ReplyRule::Explain && seen.is_ok {
        let says = client.iter().any(says_field);
        assert!(!is_hidden || is_dedicated || !says);
        return;
    }
    passed(rule, &upstream, &client);
    if !is_dedicated {
        unsaid(&client);
    }
}

/// The client's cursor ids are the upstream's with these bits turned.
const ID_MASK: i64 = 0x5555;

fn reported(incident: &Incident, rule: ReplyRule) {
    assert!(!incident.to_string().is_empty());
    if *incident == Incident::ForeignDocument {
        let strips = matches!(
            rule,
            ReplyRule::Cursor { strips: true } | ReplyRule::Value { strips: true }
        );
        assert!(strips);
    }
}

fn passed(rule: ReplyRule, upstream: &Fields, client: &Fields) {
    let cursors = |reply: &Fields| under(reply, "cursor").cloned().collect::<Vec<_>>();
    for (up, down) in cursors(upstream).iter().zip(cursors(client)) {
        cursor(rule, up, &down);
    }
    if rule == (ReplyRule::Value { strips: true }) {
        let values = under(upstream, "value").filter(|v| matches!(v, Value::Document(_)));
        let own = under(client, "value").filter(|v| matches!(v, Value::Document(_)));
        stripped(values, own);
    }
}

/// Every value under a name.
fn under<'a>(fields: &'a Fields, name: &'a str) -> impl Iterator<Item = &'a Value> + Clone {
    fields.iter().filter(move |f| f.0 == name).map(|f| &f.1)
}

fn cursor(rule: ReplyRule, upstream: &Value, client: &Value) {
    let (Value::Document(upstream), Value::Document(client)) = (upstream, client) else {
        panic!("a cursor is a document");
    };
    let long = |value: &Value| match value {
        Value::Leaf(Kind::Int64, bytes) => bytes.as_slice().try_into().map(i64::from_le_bytes).ok(),
        _ => None,
    };
    for (up, down) in under(upstream, "id").zip(under(client, "id")) {
        let up = long(up).filter(|id| *id != 0);
        let is_over = matches!(rule, ReplyRule::Events { .. }) && long(down) == Some(0);
        assert!(up.is_none() || is_over || long(down) == up.map(|id| id ^ ID_MASK));
    }
    if rule != (ReplyRule::Cursor { strips: true }) {
        return;
    }
    for name in ["firstBatch", "nextBatch"] {
        for (up, down) in under(upstream, name).zip(under(client, name)) {
            let (Value::Array(up), Value::Array(down)) = (up, down) else {
                panic!("a batch is an array");
            };
            stripped(up.iter(), down.iter());
        }
    }
}

/// Documents that were passed on are the app's, without the field and otherwise as they were.
fn stripped<'a>(
    upstream: impl Iterator<Item = &'a Value> + Clone,
    client: impl Iterator<Item = &'a Value> + Clone,
) {
    assert_eq!(upstream.clone().count(), client.clone().count());
    for (up, down) in upstream.zip(client) {
        let (Value::Document(up), Value::Document(down)) = (up, down) else {
            panic!("what is passed on is a document");
        };
        let mut kept = up.clone();
        if let Some(place) = up.iter().position(|(name, _)| name == FIELD) {
            let (_, owner) = kept.remove(place);
            assert_eq!(
                owner.as_str(),
                Some(SLUG),
                "another's document is passed on"
            );
        }
        assert!(kept == *down, "a document was changed");
    }
}

/// No key of a duplicate has the field, and no text of an error has a path that begins with it.
fn unsaid(reply: &Fields) {
    for name in ["keyPattern", "keyValue"] {
        assert!(under(reply, name).all(|key| !names_field(key)));
    }
    let errors = under(reply, "writeErrors").chain(under(reply, "writeConcernError"));
    let mut all: Vec<&Value> = under(reply, "errmsg").collect();
    for error in errors {
        match error {
            Value::Document(error) => all.extend(under(error, "errmsg")),
            Value::Array(errors) => {
                for error in errors {
                    if let Value::Document(error) = error {
                        all.extend(under(error, "errmsg"));
                    }
                }
            }
            Value::Leaf(..) => {}
        }
    }
    // Below another field the name is the app's own, and what stands in a duplicate's values is data.
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.');
    let texts = all.into_iter().filter_map(Value::as_str);
    for text in texts.filter(|text| !text.starts_with("E11000 ")) {
        let mut paths = text.split(|c| !is_path(c));
        assert!(
            !paths.any(|path| path.split('.').next() == Some(FIELD)),
            "{text}"
        );
    }
}

fn names_field(value: &Value) -> bool {
    match value {
        Value::Document(fields) => fields.iter().any(|f| f.0 == FIELD || f.0.starts_with('~')),
        _ => false,
    }
}

/// Whether a plan speaks of the field: as a key, or as the beginning of a path.
fn says_field((name, value): &(String, Value)) -> bool {
    let begins = |text: &str| {
        let text = text.strip_prefix('$').unwrap_or(text);
        text.split('.').next() == Some(FIELD)
    };
    begins(name) || value.as_str().is_some_and(begins) || {
        match value {
            Value::Document(fields) => fields.iter().any(says_field),
            Value::Array(values) => values
                .iter()
                .any(|v| says_field(&(String::new(), v.clone()))),
            Value::Leaf(..) => false,
        }
    }
}
