//! Scoping: two bytes for what holds around a command, then the sections of its OP_MSG.
//!
//! Bit 0: the scope field is shown. Bit 1: no base indexes stand. Bit 2: the app has no indexes. Bits 3 and 4: the version of
//! the upstream. Bit 5: the upstream has a cluster time. Bit 6: it checks them. Bit 7: it takes small messages only. Bit 8: the
//! collection is the app's own. Bit 9: so are those that stages name `f` and `g`. Bit 10: `_id` must be random.

use std::sync::OnceLock;

use mdb_notation::{Fields, Text, Value, encode, read_document};
use mdb_scope::{
    AppId, AutomaticIndexes, CollectionFacts, CommandSpec, CursorFacts, Duty, Facts, FieldName,
    ForeignCollection, IdPolicy, Isolation, NearKey, REFUSAL_CODES, Refusal, ReplyRule, Rule,
    Scope, Scoped, check_catalog_command, cursor_ids, dropped_indexes, foreign_collections,
    look_up, required_action, verify,
};
use mdb_wire::{Command, CommandError, Document, Limits, Message, next_frame};

/// The scope field.
pub const FIELD: &str = "app_id";
/// The app.
pub const SLUG: &str = "shop";

/// Rewrites any command: it is refused, or what goes upstream is bound to the app; doing it again changes nothing more.
///
/// # Panics
/// Where a promise is broken.
pub fn check(input: &[u8]) {
    let Some((&head, sections)) = input.split_first_chunk() else {
        return;
    };
    let bits = u16::from_le_bytes(head);
    let Some(message) = message(sections) else {
        return;
    };
    let Some(once) = upstream(bits, &message) else {
        return;
    };
    let mut again = once.clone();
    // A physical hint is not the app's to give.
    drop_hints(&mut again);
    let bytes = again.message();
    let message = self::message(&bytes[20..]).expect("what goes upstream is a message");
    // A refusal is as good: the condition of a collation, say, is not the app's to give.
    if let Some(twice) = upstream(bits & !0x80, &message) {
        same(&once, &twice);
    }
}

/// The message with these sections.
pub(crate) fn message(sections: &[u8]) -> Option<Message> {
    let length = i32::try_from(sections.len() + 20).ok()?;
    let head = [length, 1, 0, 2013, 0].map(i32::to_le_bytes).concat();
    let bytes = [head.as_slice(), sections].concat();
    let frame = next_frame(&mut bytes.as_slice().into(), Limits::default()).ok()??;
    Message::parse(frame).ok()
}

/// The scope: one that hides its field or shows it, that lets any `_id` in or random ones.
pub(crate) fn scope(is_hidden: bool, is_random: bool) -> &'static Scope {
    static SCOPES: [OnceLock<Scope>; 4] = [const { OnceLock::new() }; 4];
    SCOPES[usize::from(is_hidden) * 2 + usize::from(is_random)].get_or_init(|| {
        let app = AppId::parse(SLUG).expect("a slug");
        let field = FieldName::parse(FIELD).expect("a name");
        Scope::new(app, field, is_hidden, [7; 16]).with_id_policy(if is_random {
            IdPolicy::RandomOnly
        } else {
            IdPolicy::Any
        })
    })
}

const BASE_INDEXES: &[&str] = &[
    r#"{v: 2, key: {app_id: 1}, name: "app_id_1"}"#,
    r#"{v: 2, key: {app_id: 1, _id: 1}, name: "app_id_1__id_1"}"#,
];
const OWN_INDEXES: &[&str] = &[
    r#"{v: 2, key: {app_id: 1, x: 1}, name: "shop.x_1", partialFilterExpression: {app_id: "shop"}}"#,
    r#"{v: 2, key: {app_id: 1, x: 1}, name: "b.x_1", partialFilterExpression: {app_id: "b"}}"#,
    r#"{v: 2, key: {_fts: "text", _ftsx: 1}, name: "b.t", partialFilterExpression: {app_id: "b"}}"#,
    r#"{v: 2, key: {app_id: 1, a: 1, b: 1}, name: "_auto.a_1_b_1"}"#,
];

/// Those of a collection of the app's own.
const DEDICATED_INDEXES: &[&str] = &[
    r#"{v: 2, key: {x: 1}, name: "x_1"}"#,
    r#"{v: 2, key: {a: 1, b: 1}, name: "_auto.a_1_b_1"}"#,
];

/// The condition by which the server looks at whole documents.
const LOOKS: &str = r#"{$ne: ["$$ROOT", null]}"#;

/// What is known of a collection.
pub(crate) fn collection(
    has_base: bool,
    has_own: bool,
    is_dedicated: bool,
) -> &'static CollectionFacts {
    static COLLECTIONS: [OnceLock<CollectionFacts>; 8] = [const { OnceLock::new() }; 8];
    let place = [is_dedicated, has_base, has_own].map(usize::from);
    COLLECTIONS[place[0] * 4 + place[1] * 2 + place[2]].get_or_init(|| {
        if is_dedicated {
            let all = DEDICATED_INDEXES.iter().filter(|_| has_own);
            let all: Vec<Vec<u8>> = all.map(|text| encode(&read_document(text))).collect();
            let documents = all.iter().map(|b| Document::parse(b).expect("a document"));
            return CollectionFacts::dedicated_with(&documents);
        }
        let base = BASE_INDEXES.iter().filter(|_| has_base);
        let all = base.chain(OWN_INDEXES.iter().filter(|_| has_own));
        let all: Vec<Vec<u8>> = all.map(|text| encode(&read_document(text))).collect();
        let documents = all.iter().map(|b| Document::parse(b).expect("a document"));
        scope(true, false).collection_facts(&documents)
    })
}

/// What goes upstream for a command, checked; none if it is refused or answered by the proxy.
fn upstream(bits: u16, message: &Message) -> Option<Text> {
    let time = encode(&read_document(
        "{clusterTime: Timestamp(8589934593), signature: {hash: 1, keyId: 1}}",
    ));
    let has_time = bits & 0x20 != 0;
    let is_small = bits & 0x80 != 0;
    let foreign = [("f", 0), ("g", 1)].map(|(name, count)| ForeignCollection {
        database: "d".to_owned(),
        collection: name.to_owned(),
        isolation: Isolation::Dedicated,
        near: NearKey::default(),
        automatic: AutomaticIndexes {
            count,
            own_keys: Vec::new(),
        },
        aside: None,
    });
    let facts = Facts {
        wire_version: [17, 9, 13, 21][usize::from(bits >> 3 & 3)],
        document_bytes_max: if is_small { 200 } else { 16_777_216 },
        message_bytes_max: if is_small { 400 } else { 48_000_000 },
        cluster_time: has_time.then(|| Document::parse(&time).expect("a document")),
        checks_cluster_time: bits & 0x40 != 0,
        control_database: "mdb_runtime",
        collection: collection(bits & 2 == 0, bits & 4 == 0, bits & 0x100 != 0),
        namespaces: &[],
        foreign: if bits & 0x200 != 0 { &foreign } else { &[] },
        keeps_to_base: bits & 0x800 != 0,
    };
    match run(scope(bits & 1 == 0, bits & 0x400 != 0), &facts, message) {
        Err(End::Command(error)) => assert!(error.code() > 0 && !error.to_string().is_empty()),
        Err(End::Refused(refusal)) => {
            let is_known = REFUSAL_CODES.contains(&(refusal.code, refusal.name));
            assert!(is_known && !refusal.text.is_empty(), "{refusal}");
        }
        Ok(None) => {}
        Ok(Some((mut scoped, spec))) => return Some(bound(&mut scoped, spec, message)),
    }
    None
}

/// Why nothing goes upstream.
enum End {
    Command(CommandError),
    Refused(Refusal),
}

impl From<Refusal> for End {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

type Forwarded = Option<(Scoped, &'static CommandSpec)>;

/// Takes a command the way the proxy does: parse, look up, rewrite.
fn run(scope: &Scope, facts: &Facts<'_>, message: &Message) -> Result<Forwarded, End> {
    let command = Command::parse(message).map_err(End::Command)?;
    let spec = look_up(command.name, command.database)?;
    let _action = required_action(spec, &command);
    let _foreign = foreign_collections(&command);
    let forwarded = |scoped| Ok(Some((scoped, spec)));
    match spec.duty {
        Duty::Forward(Rule::GetMore) => {
            forwarded(scope.get_more(spec, &command, facts, &cursor(facts, 77))?)
        }
        Duty::Forward(_) => forwarded(scope.apply(spec, &command, facts)?),
        Duty::Catalog(_) => {
            check_catalog_command(spec, &command, facts.control_database, facts.wire_version)?;
            catalog(scope, facts, spec, &command)
        }
        Duty::Local(_) | Duty::Refuse(_) => Ok(None),
    }
}

fn cursor(facts: &Facts<'_>, upstream_id: i64) -> CursorFacts {
    CursorFacts {
        upstream_id,
        server: "a:1".into(),
        database: "d".to_owned(),
        collection: "c".to_owned(),
        session: None,
        isolation: facts.collection.isolation,
        rule: ReplyRule::Cursor { strips: true },
    }
}

fn catalog(
    scope: &Scope,
    facts: &Facts<'_>,
    spec: &'static CommandSpec,
    command: &Command<'_>,
) -> Result<Forwarded, End> {
    let scoped = match spec.name {
        "create" | "drop" | "createIndexes" | "dropIndexes" | "listIndexes"
            if facts.collection.is_dedicated() =>
        {
            Some(scope.dedicated(spec, command, facts)?)
        }
        "createIndexes" => scope.create_indexes(spec, command, facts)?,
        "dropIndexes" => {
            let own = dropped_indexes(command, facts.collection)?;
            let names: Vec<&str> = own.iter().map(|i| i.physical_name.as_str()).collect();
            Some(scope.drop_indexes(spec, command, facts, &names)?)
        }
        "killCursors" => {
            let ids = cursor_ids(spec, command, facts.wire_version < 13)?;
            let id = ids.first().copied().unwrap_or_default();
            Some(scope.kill_cursors(facts, &cursor(facts, id))?)
        }
        _ => None,
    };
    Ok(scoped.map(|scoped| (scoped, spec)))
}

/// Holds what goes upstream to the second opinion. It does not know of indexes; theirs is here.
fn bound(scoped: &mut Scoped, spec: &CommandSpec, message: &Message) -> Text {
    let bytes = scoped.message(1);
    let upstream = self::message(bytes.get(20..).unwrap_or_default());
    let upstream = Text::of(&upstream.expect("what goes upstream is a message"));
    let verdict = match spec.duty {
        Duty::Forward(_) => verify::verify(bytes, FIELD, SLUG).map_err(|v| v.to_string()),
        _ if names_own(&upstream) => definition(&upstream),
        _ => indexes(&upstream),
    };
    if let Err(violation) = verdict {
        panic!("{violation}\n  {}\n  {upstream}", Text::of(message));
    }
    upstream
}

/// Whether a command is on a collection that is the app's own.
fn names_own(upstream: &Text) -> bool {
    let name = upstream.body.first().and_then(|f| f.1.as_str());
    name.is_some_and(|name| name.strip_suffix(SLUG).is_some_and(|n| n.ends_with('@')))
}

/// What a view shows is bound as if it were read; a validator holds nothing that is not for apps.
fn definition(upstream: &Text) -> Result<(), String> {
    let field = |name: &str, value: Value| (name.to_owned(), value);
    let own = || Value::string(&format!("c@{SLUG}"));
    let empty = || Value::Document(Fields::new());
    let mut read = Vec::new();
    if let Some(on) = find(&upstream.body, "viewOn") {
        let pipeline = find(&upstream.body, "pipeline").cloned();
        read.push(field("aggregate", on.clone()));
        read.push(field(
            "pipeline",
            pipeline.unwrap_or(Value::Array(Vec::new())),
        ));
        read.push(field("cursor", empty()));
    } else if let Some(validator @ Value::Document(_)) = find(&upstream.body, "validator") {
        read.push(field("find", own()));
        read.push(field("filter", validator.clone()));
    } else {
        return Ok(());
    }
    let collation = find(&upstream.body, "collation");
    read.extend(collation.map(|c| field("collation", c.clone())));
    read.push(field("$db", Value::string("d")));
    let read = Text {
        body: read,
        sequences: Vec::new(),
    };
    verify::verify(&read.message(), FIELD, SLUG).map_err(|v| v.to_string())
}

/// Indexes that are made hold the app's documents only; those that are dropped are its own.
fn indexes(upstream: &Text) -> Result<(), String> {
    let prefix = format!("{SLUG}.");
    let is_own = |name: &Value| name.as_str().is_some_and(|n| n.starts_with(&prefix));
    let list = |name| match find(&upstream.body, name) {
        Some(Value::Array(values)) => values.as_slice(),
        _ => &[],
    };
    for index in list("indexes") {
        let Value::Document(index) = index else {
            return Err("an index is no document".to_owned());
        };
        let is_partial = match find(index, "partialFilterExpression") {
            Some(Value::Document(filter)) => conjuncts(filter).1,
            _ => false,
        };
        if !is_partial || !find(index, "name").is_some_and(is_own) {
            return Err(format!("an index of all apps: {upstream}"));
        }
    }
    if list("index").iter().all(is_own) {
        Ok(())
    } else {
        Err(format!("another's index: {upstream}"))
    }
}

fn find<'a>(fields: &'a Fields, name: &str) -> Option<&'a Value> {
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| v)
}

/// The conditions of a filter that hold together, without the app's own; and whether that was among them.
fn conjuncts(filter: &Fields) -> (Vec<&(String, Value)>, bool) {
    let mut found = Vec::new();
    let mut is_bound = false;
    for field in filter {
        match field {
            (name, Value::Array(branches)) if name == "$and" => {
                for branch in branches {
                    let Value::Document(branch) = branch else {
                        continue;
                    };
                    let (inner, is_inner_bound) = conjuncts(branch);
                    found.extend(inner);
                    is_bound |= is_inner_bound;
                }
            }
            (name, value) if name == FIELD && value.as_str() == Some(SLUG) => is_bound = true,
            // It always holds, and stands where an automatic index might answer alone, as far as that can be told.
            (name, value) if name == "$expr" && value.to_string() == LOOKS => {}
            _ => found.push(field),
        }
    }
    (found, is_bound)
}

/// Every document of a command that is one of its parts by itself: the body, that of an `explain`, the statements.
fn parts(text: &Text) -> Vec<&Fields> {
    let mut parts = vec![&text.body];
    if let Some(Value::Document(inner)) = find(&text.body, "explain") {
        parts.push(inner);
    }
    parts.extend(text.sequences.iter().flat_map(|(_, documents)| documents));
    parts
}

fn drop_hints(text: &mut Text) {
    let is_kept = |field: &(String, Value)| field.0 != "hint";
    if let Some((_, Value::Document(inner))) = text.body.first_mut() {
        inner.retain(is_kept);
    }
    text.body.retain(is_kept);
    let statements = text.sequences.iter_mut().filter(|s| s.0 != "documents");
    for statement in statements.flat_map(|(_, documents)| documents) {
        statement.retain(is_kept);
    }
}

/// What was rewritten twice asks for what it asked for once: the same filters, updates and documents.
fn same(once: &Text, twice: &Text) {
    let is_insert = once.body.first().is_some_and(|f| f.0 == "insert");
    if is_insert {
        assert_eq!(once.sequences, twice.sequences, "{once} became {twice}");
        return;
    }
    let (first, second) = (parts(once), parts(twice));
    assert_eq!(first.len(), second.len(), "{once} became {twice}");
    for (one, two) in first.into_iter().zip(second) {
        for name in ["filter", "query", "q"] {
            let (Some(Value::Document(a)), Some(Value::Document(b))) =
                (find(one, name), find(two, name))
            else {
                continue;
            };
            // Expressions are bound at each mention of the whole document, and each branch beside a `$text`, again each time.
            let text = Value::Document(a.clone()).to_string();
            let is_bound_again = text.contains("$expr") || text.contains("$text");
            assert!(
                is_bound_again || conjuncts(a) == conjuncts(b),
                "{once} became {twice}"
            );
        }
        for name in ["u", "update"] {
            if let (Some(Value::Document(a)), Some(Value::Document(b))) =
                (find(one, name), find(two, name))
            {
                assert!(a == b, "{once} became {twice}");
            }
        }
    }
}
