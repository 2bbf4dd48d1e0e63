//! Cases: a command in, a command out or a refusal; a reply in, a reply out or an incident.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use mdb_scope::{
    AutomaticIndexes, CollectionFacts, CursorFacts, Duty, Facts, ForeignCollection, Isolation,
    NearKey, Refusal, Refused, ReplyRule, ReplyView, Routing, Scope, glance, verify,
};
use mdb_wire::{Document, Writer};
use serde::Deserialize;

use crate::notation::{Text, encode, fields, read_document, read_text, write_fields};
use crate::proxy::{self, FIELD, Outcome, SLUG};

/// One file: cases of one area.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Area {
    #[serde(default)]
    with: Setting,
    #[serde(default)]
    cases: Vec<Case>,
    #[serde(default)]
    replies: Vec<Reply>,
}

/// What holds around a command.
#[allow(clippy::struct_excessive_bools, reason = "each is a setting by itself")]
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Setting {
    hidden: bool,
    base_indexes: bool,
    indexes: Vec<String>,
    wire_version: i32,
    cluster_time: Option<String>,
    checks_cluster_time: bool,
    document_bytes_max: usize,
    message_bytes_max: usize,
    cursor: Option<Cursor>,
    random_ids: bool,
    /// The command's collection is the app's own.
    dedicated: bool,
    /// It is a view of the app's own.
    view: bool,
    /// Reads keep to a base index.
    keeps_to_base: bool,
    /// Shared collections of which the app has asked to see documents before and after changes.
    images: Vec<String>,
    /// Other collections of the database that are.
    foreign: Vec<String>,
    /// What is known of the change stream of a reply.
    events: Option<Events>,
    /// Of a `bulkWrite`: whether each collection of its `nsInfo` is the app's own; the others are as `dedicated` says.
    namespaces: Vec<bool>,
    /// Shared ones of which a field is known that `$geoNear` means, and that a `$out` may replace.
    foreign_near: BTreeMap<String, String>,
    /// Shared ones with an automatic index.
    foreign_automatic: Vec<String>,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            hidden: true,
            base_indexes: true,
            indexes: Vec::new(),
            wire_version: 17,
            cluster_time: None,
            checks_cluster_time: false,
            document_bytes_max: 16_777_216,
            message_bytes_max: 48_000_000,
            cursor: None,
            random_ids: false,
            dedicated: false,
            view: false,
            keeps_to_base: false,
            images: Vec::new(),
            foreign: Vec::new(),
            events: None,
            foreign_near: BTreeMap::new(),
            foreign_automatic: Vec::new(),
            namespaces: Vec::new(),
        }
    }
}

impl Setting {
    fn collection(&self, scope: &Scope) -> CollectionFacts {
        if self.view {
            CollectionFacts::view()
        } else if self.dedicated {
            proxy::dedicated(&self.indexes)
        } else {
            CollectionFacts {
                with_images: self.images.clone(),
                ..proxy::collection(scope, &self.indexes, self.base_indexes)
            }
        }
    }

    fn namespaces(&self, scope: &Scope) -> Vec<CollectionFacts> {
        let one = |is_own: &bool| match is_own {
            true => CollectionFacts::dedicated(),
            false => proxy::collection(scope, &self.indexes, self.base_indexes),
        };
        self.namespaces.iter().map(one).collect()
    }

    fn foreign(&self, scope: &Scope) -> Vec<ForeignCollection> {
        let any = |name: &String| ForeignCollection {
            database: "d".to_owned(),
            collection: name.clone(),
            isolation: Isolation::Shared,
            near: NearKey::None,
            automatic: AutomaticIndexes::default(),
            aside: None,
        };
        let own = |name: &String| ForeignCollection {
            isolation: Isolation::Dedicated,
            ..any(name)
        };
        let near = |(name, field): (&String, &String)| ForeignCollection {
            near: NearKey::Field(field.as_str().into()),
            aside: Some(scope.aside(7)),
            ..any(name)
        };
        let served = |name: &String| ForeignCollection {
            automatic: AutomaticIndexes {
                count: 1,
                own_keys: Vec::new(),
            },
            ..any(name)
        };
        let own = self.foreign.iter().map(own);
        let near = self.foreign_near.iter().map(near);
        let served = self.foreign_automatic.iter().map(served);
        own.chain(near).chain(served).collect()
    }
}

/// The cursor that a `getMore` names.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cursor {
    upstream_id: i64,
    collection: String,
    #[serde(default)]
    session: Option<u8>,
    #[serde(default)]
    is_bulk: bool,
    #[serde(default = "database")]
    database: String,
    #[serde(default)]
    strips: bool,
    /// It is a change stream's.
    events: Option<Events>,
}

/// What is known of a change stream.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Events {
    has_sessions: bool,
    ends: bool,
}

impl Events {
    fn rule(self) -> ReplyRule {
        let Self { has_sessions, ends } = self;
        ReplyRule::Events { has_sessions, ends }
    }
}

fn database() -> String {
    "d".to_owned()
}

/// A command. `$db: "d"` is added to `in` where it names no database.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    r#in: String,
    /// What goes upstream.
    out: Option<String>,
    /// Where it goes, how it may be tried again, how its reply is read.
    goes: Option<String>,
    /// The code of a refusal.
    refused: Option<i32>,
    /// It is said of the only statement, in place of which goes one that no server takes.
    #[serde(default)]
    alone: bool,
    /// Statements that are refused while the others go: place, code, text.
    #[serde(default)]
    statements: Vec<(usize, i32, String)>,
    /// A part of the refusal's text.
    text: Option<String>,
    /// Nothing goes upstream: the proxy answers.
    #[serde(default)]
    local: bool,
    with: Option<Setting>,
}

/// A reply.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reply {
    name: String,
    rule: String,
    upstream: String,
    client: Option<String>,
    incident: Option<String>,
    with: Option<Setting>,
}

/// The fewest cases that the files may hold: a file that is not found must not pass for one without failures.
const CASES_MIN: usize = 1200;

#[test]
fn every_case_holds() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut failures = String::new();
    let mut count = 0;
    let mut files: Vec<_> = std::fs::read_dir(directory).unwrap().collect();
    files.sort_by_key(|f| f.as_ref().unwrap().path());
    for file in files {
        let path = file.unwrap().path();
        let area: Area = serde_yaml::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut names = HashSet::new();
        for (name, outcome) in outcomes(&area) {
            count += 1;
            assert!(names.insert(name.to_owned()), "{stem}: '{name}' twice");
            if let Err(failure) = outcome {
                writeln!(failures, "@@ {stem} | {name}\n{failure}").unwrap();
            }
        }
    }
    assert!(failures.is_empty(), "\n{failures}");
    assert!(count >= CASES_MIN, "{count} cases");
}

fn outcomes(area: &Area) -> impl Iterator<Item = (&str, Result<(), String>)> {
    let cases = area
        .cases
        .iter()
        .map(|case| (case.name.as_str(), case.check(&area.with)));
    let replies = area
        .replies
        .iter()
        .map(|reply| (reply.name.as_str(), reply.check(&area.with)));
    cases.chain(replies)
}

impl Case {
    fn check(&self, area: &Setting) -> Result<(), String> {
        let setting = self.with.as_ref().unwrap_or(area);
        let mut text = read_text(&self.r#in);
        if !text.body.iter().any(|(name, _)| name == "$db") {
            let database = crate::notation::Value::string("d");
            text.body.push(("$db".to_owned(), database));
        }
        let scope = if setting.random_ids {
            proxy::scope_of_random_ids(setting.hidden)
        } else {
            proxy::scope(setting.hidden)
        };
        let collection = setting.collection(&scope);
        let foreign = setting.foreign(&scope);
        let namespaces = setting.namespaces(&scope);
        let time = setting
            .cluster_time
            .as_ref()
            .map(|text| encode(&read_document(text)));
        let facts = Facts {
            wire_version: setting.wire_version,
            document_bytes_max: setting.document_bytes_max,
            message_bytes_max: setting.message_bytes_max,
            cluster_time: time.as_ref().map(|bytes| Document::parse(bytes).unwrap()),
            checks_cluster_time: setting.checks_cluster_time,
            foreign: &foreign,
            namespaces: &namespaces,
            keeps_to_base: setting.keeps_to_base,
            ..proxy::facts(&collection)
        };
        let cursor = setting
            .cursor
            .as_ref()
            .map(|cursor| cursor.facts(collection.isolation));
        let message = proxy::message(&text.message());
        match proxy::run(&scope, &facts, cursor.as_ref(), &message) {
            Err(refusal) => self.check_refusal(refusal.code, &refusal.text),
            Ok(Outcome::Local) if self.local => Ok(()),
            Ok(Outcome::Local) => Err("  local: true".to_owned()),
            Ok(Outcome::Forwarded(mut scoped, spec)) => {
                let actual = proxy::upstream(&mut scoped);
                let goes = route(&scoped);
                if matches!(spec.duty, Duty::Forward(_)) {
                    verify::verify(scoped.message(1), FIELD, SLUG)
                        .map_err(|v| format!("  unguarded: {v} in {actual}"))?;
                }
                match scoped.refused() {
                    [Refused { refusal, .. }] if self.alone => {
                        self.check_refusal(refusal.code, &refusal.text)
                    }
                    refused => {
                        self.check_statements(refused)?;
                        self.check_output(&actual, &goes)
                    }
                }
            }
        }
    }

    fn check_refusal(&self, code: i32, text: &str) -> Result<(), String> {
        let wanted = self.text.as_deref().unwrap_or_default();
        if self.refused == Some(code) && text.contains(wanted) {
            Ok(())
        } else {
            Err(format!("  refused: {code}\n  text: {text}"))
        }
    }

    fn check_statements(&self, refused: &[Refused]) -> Result<(), String> {
        let said = |refused: &Refused| {
            let Refusal { code, text, .. } = &refused.refusal;
            (refused.place, *code, text.clone())
        };
        let said: Vec<_> = refused.iter().map(said).collect();
        if said == self.statements {
            Ok(())
        } else {
            Err(format!("  statements: {said:?}"))
        }
    }

    fn check_output(&self, actual: &Text, goes: &str) -> Result<(), String> {
        let is_right = self
            .out
            .as_ref()
            .is_some_and(|out| read_text(out) == *actual);
        let goes_right = self.goes.as_ref().is_none_or(|wanted| wanted == goes);
        if is_right && goes_right {
            Ok(())
        } else {
            Err(format!("  out: {actual}\n  goes: {goes}"))
        }
    }
}

/// What the proxy is told besides the bytes, in one line.
fn route(scoped: &mdb_scope::Scoped) -> String {
    let place = match scoped.routing() {
        Routing::Primary => "primary".to_owned(),
        Routing::Preference(preference) => format!("{:?}", preference.mode),
        Routing::Member(server) | Routing::Rather(server) => format!("member {server}"),
    };
    let upsert = if scoped.is_upsert_by_id() {
        ", upsert by _id"
    } else {
        ""
    };
    format!("{place}, {:?}, {:?}{upsert}", scoped.retry(), scoped.rule())
}

impl Cursor {
    fn rule(&self) -> ReplyRule {
        let strips = self.strips;
        match &self.events {
            None if self.is_bulk => ReplyRule::Bulk,
            None => ReplyRule::Cursor { strips },
            Some(events) => events.rule(),
        }
    }

    fn facts(&self, isolation: Isolation) -> CursorFacts {
        CursorFacts {
            upstream_id: self.upstream_id,
            server: "a:1".into(),
            database: self.database.clone(),
            collection: self.collection.clone(),
            session: self.session.map(|byte| [byte; 16]),
            isolation,
            rule: self.rule(),
        }
    }
}

impl Reply {
    fn check(&self, area: &Setting) -> Result<(), String> {
        let setting = self.with.as_ref().unwrap_or(area);
        let scope = proxy::scope(setting.hidden);
        let rule = match self.rule.as_str() {
            "plain" => ReplyRule::Plain,
            "bulk" => ReplyRule::Bulk,
            "cursor" => ReplyRule::Cursor { strips: true },
            "computed cursor" => ReplyRule::Cursor { strips: false },
            "value" => ReplyRule::Value { strips: true },
            "explain" => ReplyRule::Explain,
            "events" => setting.events.unwrap_or_default().rule(),
            other => panic!("no such rule: {other}"),
        };
        let outcome = client(&scope, setting, rule, &self.upstream);
        match (&outcome, &self.client, &self.incident) {
            (Ok(actual), Some(wanted), None) if *actual == text_of(&read_document(wanted)) => {
                Ok(())
            }
            (Err(actual), None, Some(wanted)) if actual.contains(wanted.as_str()) => Ok(()),
            (Ok(actual), ..) => Err(format!("  client: {actual}")),
            (Err(actual), ..) => Err(format!("  incident: {actual}")),
        }
    }
}

fn text_of(fields: &crate::notation::Fields) -> String {
    let mut out = String::new();
    write_fields(&mut out, fields).unwrap();
    out
}

/// The reply as the client gets it; the client's cursor ids are the upstream's and one thousand.
fn client(
    scope: &Scope,
    setting: &Setting,
    rule: ReplyRule,
    upstream: &str,
) -> Result<String, String> {
    let collection = setting.collection(scope);
    let foreign = setting.foreign.iter().map(|name| ("d", name.as_str()));
    let own = (setting.dedicated || setting.view).then_some(("d", "c"));
    let dedicated: Vec<(&str, &str)> = foreign.chain(own).collect();
    let view = ReplyView {
        scope,
        rule,
        collection: &collection,
        database: "d",
        dedicated: &dedicated,
        continues: None,
        shares: !setting.dedicated || setting.view,
    };
    let bytes = encode(&read_document(upstream));
    let reply = Document::parse(&bytes).unwrap();
    let mut w = Writer::default();
    let mark = w.begin();
    view.write(&mut w, reply, &glance(reply), &mut |id| id + 1000)
        .map_err(|incident| format!("{incident:?}"))?;
    w.end(mark);
    let bytes = w.into_bytes();
    Ok(text_of(&fields(Document::parse(&bytes).unwrap())))
}

/// What an app says of an index is what it is shown, on every version and through the physical definition.
#[test]
fn indexes_come_back_as_they_were_said() {
    let definitions = [
        r#"{v: 2, key: {x: 1}, name: "x_1"}"#,
        r#"{v: 2, key: {x: 1, y: -1}, name: "x_1_y_-1", unique: true}"#,
        r#"{v: 2, key: {x: 1}, name: "dotted.name", sparse: true}"#,
        r#"{v: 2, key: {x: 1, y: 1}, name: "two", sparse: true}"#,
        r#"{v: 2, key: {x: 1}, name: "dense", sparse: false}"#,
        r#"{v: 2, key: {x: 1}, name: "dense", sparse: false, partialFilterExpression: {y: 1}}"#,
        r#"{v: 2, key: {x: 1}, name: "part", partialFilterExpression: {y: {$gt: 1}}}"#,
        r#"{v: 2, key: {x: 1}, name: "empty", partialFilterExpression: {}}"#,
        r#"{v: 2, key: {x: 1}, name: "and", partialFilterExpression: {$and: [{x: 1}]}}"#,
        r#"{v: 2, key: {d: 1}, name: "ttl", expireAfterSeconds: 60}"#,
        r#"{v: 2, key: {loc: "2d"}, name: "flat"}"#,
        r#"{v: 2, key: {loc: "2dsphere", x: 1}, name: "sphere", 2dsphereIndexVersion: 3}"#,
        r#"{v: 2, key: {h: "hashed"}, name: "h"}"#,
        r#"{v: 2, key: {$**: 1}, name: "wild"}"#,
        r#"{v: 2, key: {$**: 1}, name: "wildp", wildcardProjection: {a: 1}}"#,
        r#"{v: 2, key: {$**: 1}, name: "wildx", wildcardProjection: {a: 0}}"#,
        r#"{v: 2, key: {x: 1}, name: "coll", collation: {locale: "en"}, hidden: true}"#,
    ];
    let scope = proxy::hidden();
    let none = mdb_scope::CollectionFacts::default();
    for (definition, wire_version) in definitions.iter().flat_map(|d| [(d, 9), (d, 17)]) {
        // Refused there, which is a case of its own.
        if wire_version < 17 && definition.contains("y: 1") && definition.contains("sparse") {
            continue;
        }
        let facts = Facts {
            wire_version,
            ..proxy::facts(&none)
        };
        let command = format!(r#"{{createIndexes: "c", indexes: [{definition}], $db: "d"}}"#);
        let message = proxy::message(&read_text(&command).message());
        let outcome = proxy::run(scope, &facts, None, &message);
        let Ok(Outcome::Forwarded(mut scoped, _)) = outcome else {
            panic!("{definition}: {outcome:?}");
        };
        let body = proxy::upstream(&mut scoped).body;
        let Some((_, crate::notation::Value::Array(physical))) = body.get(1) else {
            panic!("no indexes: {body:?}");
        };
        let crate::notation::Value::Document(physical) = &physical[0] else {
            panic!("no index: {physical:?}");
        };
        let bytes = encode(physical);
        let document = Document::parse(&bytes).unwrap();
        let own = scope.own_index(document).unwrap();
        let shown = fields(Document::parse(&own.definition).unwrap());
        let sorted = |mut fields: crate::notation::Fields| {
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            fields
        };
        assert_eq!(
            sorted(shown),
            sorted(read_document(definition)),
            "{definition} at {wire_version}"
        );
        let other = mdb_scope::AppId::parse("sho").unwrap();
        let field = mdb_scope::FieldName::parse(FIELD).unwrap();
        let other = Scope::new(other, field, true, [1; 16]);
        assert_eq!(other.own_index(document), None, "{definition}");
    }
}
