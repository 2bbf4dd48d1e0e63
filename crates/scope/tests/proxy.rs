//! What stands around the rewriting: from bytes to a command, and back from what goes upstream.

use std::sync::OnceLock;

use mdb_scope::{
    AppId, Catalog, CollectionFacts, CommandSpec, CursorFacts, Duty, Facts, FieldName, Refusal,
    Rule, Scope, Scoped, look_up,
};
use mdb_wire::{Command, Document, Element, Limits, Message, next_frame};

use crate::notation::{Text, encode, read_document};

/// The scope field and the app of every test.
pub(crate) const FIELD: &str = "app_id";
/// See [`FIELD`].
pub(crate) const SLUG: &str = "shop";

/// A scope of the app.
pub(crate) fn scope(is_hidden: bool) -> Scope {
    let app = AppId::parse(SLUG).unwrap();
    Scope::new(app, FieldName::parse(FIELD).unwrap(), is_hidden, [7; 16])
}

/// The same where `_id` must be random.
pub(crate) fn scope_of_random_ids(is_hidden: bool) -> Scope {
    scope(is_hidden).with_id_policy(mdb_scope::IdPolicy::RandomOnly)
}

/// The scope of an app whose replies hide the field.
pub(crate) fn hidden() -> &'static Scope {
    static SCOPE: OnceLock<Scope> = OnceLock::new();
    SCOPE.get_or_init(|| scope(true))
}

/// Facts of a 6.0 replica set about a collection with base indexes only.
pub(crate) fn facts(collection: &CollectionFacts) -> Facts<'_> {
    Facts {
        wire_version: 17,
        document_bytes_max: 16_777_216,
        message_bytes_max: 48_000_000,
        cluster_time: None,
        checks_cluster_time: false,
        control_database: "mdb_runtime",
        collection,
        namespaces: &[],
        foreign: &[],
        keeps_to_base: false,
    }
}

/// Facts of a collection with these physical indexes, as `listIndexes` shows them.
pub(crate) fn collection(scope: &Scope, physical: &[String], has_base: bool) -> CollectionFacts {
    let base = [
        r#"{v: 2, key: {app_id: 1}, name: "app_id_1"}"#,
        r#"{v: 2, key: {app_id: 1, _id: 1}, name: "app_id_1__id_1"}"#,
    ];
    let base = base.iter().filter(|_| has_base).copied();
    let all = base.chain(physical.iter().map(String::as_str));
    let all: Vec<Vec<u8>> = all.map(|text| encode(&read_document(text))).collect();
    scope.collection_facts(&all.iter().map(|bytes| Document::parse(bytes).unwrap()))
}

/// A collection of the app's own with these indexes.
pub(crate) fn dedicated(physical: &[String]) -> CollectionFacts {
    let all = physical.iter().map(|text| encode(&read_document(text)));
    let all: Vec<Vec<u8>> = all.collect();
    CollectionFacts::dedicated_with(&all.iter().map(|bytes| Document::parse(bytes).unwrap()))
}

/// A message from its bytes, as the listener reads it.
pub(crate) fn message(bytes: &[u8]) -> Message {
    let mut buffer = bytes.into();
    let frame = next_frame(&mut buffer, Limits::default()).unwrap().unwrap();
    Message::parse(frame).unwrap()
}

/// What became of a command.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It goes upstream.
    Forwarded(Scoped, &'static CommandSpec),
    /// The proxy answers it by itself.
    Local,
}

/// Takes a command the way the proxy does: parse, look up, rewrite.
pub(crate) fn run(
    scope: &Scope,
    facts: &Facts<'_>,
    cursor: Option<&CursorFacts>,
    message: &Message,
) -> Result<Outcome, Refusal> {
    let command = Command::parse(message).map_err(|error| {
        let mut refusal = Refusal::bad_value(error.to_string());
        refusal.code = error.code();
        refusal
    })?;
    let spec = look_up(command.name, command.database)?;
    let forwarded = |scoped| Ok(Outcome::Forwarded(scoped, spec));
    match (spec.duty, cursor) {
        (Duty::Forward(Rule::GetMore), Some(cursor)) => {
            forwarded(scope.get_more(spec, &command, facts, cursor)?)
        }
        (Duty::Forward(_), _) => forwarded(scope.apply(spec, &command, facts)?),
        (Duty::Catalog(_), _) => {
            mdb_scope::check_catalog_command(
                spec,
                &command,
                facts.control_database,
                facts.wire_version,
            )?;
            match spec.name {
                "create"
                | "drop"
                | "createIndexes"
                | "dropIndexes"
                | "listIndexes"
                | "collStats"
                | "collMod"
                | "validate"
                | "planCacheClear"
                | "planCacheClearFilters"
                | "planCacheListFilters"
                    if facts.collection.is_dedicated() =>
                {
                    forwarded(scope.dedicated(spec, &command, facts)?)
                }
                _ if matches!(spec.duty, Duty::Catalog(Catalog::Unshared(_)))
                    && facts.collection.is_dedicated() =>
                {
                    forwarded(scope.dedicated(spec, &command, facts)?)
                }
                "collMod" => match scope.coll_mod(spec, &command, facts)? {
                    Some(scoped) => forwarded(scoped),
                    None => Ok(Outcome::Local),
                },
                "renameCollection" => {
                    let name = |element: &Element<'_>| {
                        let (_, name) = element.as_str().unwrap().split_once('.').unwrap();
                        name.to_owned()
                    };
                    let from = name(&command.target);
                    let to = name(&command.body.find("to").unwrap());
                    forwarded(scope.rename(spec, &command, facts, "d", (&from, &to))?)
                }
                "createIndexes" => match scope.create_indexes(spec, &command, facts)? {
                    Some(scoped) => forwarded(scoped),
                    None => Ok(Outcome::Local),
                },
                "dropIndexes" => {
                    let own = mdb_scope::dropped_indexes(&command, facts.collection)?;
                    let names: Vec<&str> = own.iter().map(|i| i.physical_name.as_str()).collect();
                    forwarded(scope.drop_indexes(spec, &command, facts, &names)?)
                }
                "killCursors" => {
                    let ids = mdb_scope::cursor_ids(spec, &command, facts.wire_version < 13)?;
                    let cursor = CursorFacts {
                        upstream_id: ids[0],
                        server: "a:1".into(),
                        database: command.database.to_owned(),
                        collection: "c".to_owned(),
                        session: None,
                        isolation: facts.collection.isolation,
                        rule: mdb_scope::ReplyRule::Cursor { strips: false },
                    };
                    forwarded(scope.kill_cursors(facts, &cursor)?)
                }
                _ => Ok(Outcome::Local),
            }
        }
        (Duty::Local(_) | Duty::Refuse(_), _) => Ok(Outcome::Local),
    }
}

/// What goes upstream, as text.
pub(crate) fn upstream(scoped: &mut Scoped) -> Text {
    Text::of(&message(scoped.message(1)))
}
