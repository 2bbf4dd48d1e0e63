//! What an attack did, and what it was told.

use std::collections::BTreeMap;

use bson::{Bson, Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mdb_tests::{RawReply, shared};
use serde_yaml::Value;

use super::MARK;
use super::world::{Isolation, World};

/// The collections of both that the victim has documents in, where it shares them.
const VICTIMS: [&str; 2] = ["secrets", "bobs"];

impl World {
    /// Everything upstream that is not the attacker's, byte for byte: documents wherever they are, also those of nobody,
    /// and the definitions of collections, views and indexes.
    pub(super) async fn not_of_attacker(&self) -> Vec<String> {
        let list = doc! {"listCollections": 1};
        let list = self.upstream.run_cursor_command(list).await.unwrap();
        let listed: Vec<Document> = list.try_collect().await.unwrap();
        let own = format!("@{}", self.proxy.slug("alice"));
        let mut stages = vec![doc! {"$match": {"$expr": false}}];
        let mut definitions = BTreeMap::new();
        for collection in &listed {
            let name = collection.get_str("name").unwrap();
            // What is in there is seen through the view or the time series that it belongs to.
            if name.starts_with("system.") || name.ends_with(&own) {
                continue;
            }
            stages.extend(self.looks(name, collection.get_str("type").unwrap()));
            let others = without_rules_of(self.proxy.slug("alice"), collection.clone());
            definitions.insert(name, others.to_string());
        }
        let found = self.upstream.collection::<Document>("any");
        let found = found
            .aggregate(stages)
            .with_type::<RawDocumentBuf>()
            .await
            .unwrap();
        let found: Vec<RawDocumentBuf> = found.try_collect().await.unwrap();
        let bytes = found.iter().map(|d| d.as_bytes().escape_ascii());
        let mut seen: Vec<String> = bytes.map(|d| d.to_string()).collect();
        let bob = format!("@{}", self.proxy.slug("bob"));
        // Where the victim has nothing the attacker may make and drop what it likes.
        definitions.retain(|name, definition| {
            let is_view = definition.contains("\"type\": \"view\"");
            is_view || name.ends_with(&bob) || self.is_shared_by_victim(name)
        });
        seen.extend(definitions.into_values());
        seen.sort();
        seen
    }

    fn is_shared_by_victim(&self, name: &str) -> bool {
        self.modes.victim == Isolation::Shared && VICTIMS.contains(&name)
    }

    /// What a collection has that is not the attacker's, as stages.
    fn looks(&self, name: &str, kind: &str) -> Vec<Document> {
        let alice = self.proxy.slug("alice");
        let others = if kind == "collection" && !name.contains('@') {
            doc! {"$or": [{"app_id": {"$ne": alice}}, {"app_id.0": {"$exists": true}}]}
        } else {
            doc! {}
        };
        let whole = doc! {"$replaceWith": {"in": name, "document": "$$ROOT"}};
        let documents = vec![doc! {"$match": others}, whole];
        let mut looks = vec![doc! {"$unionWith": {"coll": name, "pipeline": documents}}];
        if kind == "collection" && (name.contains('@') || self.is_shared_by_victim(name)) {
            let index = doc! {"$project": {"name": 1, "key": 1, "spec": 1}};
            let own = format!("^{alice}\\.");
            let others = doc! {"$match": {"name": {"$not": {"$regex": own}}}};
            let of = doc! {"$set": {"in": name}};
            let indexes = vec![doc! {"$indexStats": {}}, index, others, of];
            looks.push(doc! {"$unionWith": {"coll": name, "pipeline": indexes}});
        }
        looks
    }

    /// A word of the victim, or one of the proxy's own that the attacker did not say first.
    pub(super) async fn word_too_much(&self, attack: &Value, reply: &RawReply) -> Option<String> {
        let said = serde_yaml::to_string(attack).unwrap();
        let heard = String::from_utf8_lossy(reply.body.as_bytes()).into_owned();
        // A refusal may say which field it speaks of.
        let is_refusal = heard.contains("reserved");
        let (alice, bob) = (self.proxy.slug("alice"), self.proxy.slug("bob"));
        let mut words = vec![
            (MARK.to_owned(), false),
            ("app_id".to_owned(), is_refusal || said.contains("app_id")),
            (bob.to_owned(), said.contains("BOB")),
            (format!("@{bob}"), said.contains("@BOB")),
            (alice.to_owned(), said.contains("ALICE")),
            (format!("@{alice}"), said.contains("@ALICE")),
        ];
        let hosts = shared().await.hosts();
        words.extend(hosts.into_iter().map(|host| (host, false)));
        let found = words
            .iter()
            .find(|(word, is_told)| !is_told && heard.contains(word));
        found.map(|(word, _)| format!("{word}: {}", reply.document()))
    }
}

/// A collection as lists show it, without the rules that an app has for its own documents there.
fn without_rules_of(slug: &str, mut collection: Document) -> Document {
    let own = doc! {"app_id": {"$ne": slug}};
    let is_own = |clause: &Bson| {
        let branches = clause.as_document().and_then(|c| c.get_array("$or").ok());
        branches.and_then(|b| b.first()?.as_document()) == Some(&own)
    };
    let options = collection.get_document_mut("options").unwrap();
    let Ok(validator) = options.get_document_mut("validator") else {
        return collection;
    };
    let Ok(clauses) = validator.get_array_mut("$and") else {
        return collection;
    };
    clauses.retain(|clause| !is_own(clause));
    if clauses.is_empty() {
        options.remove("validator");
    }
    collection
}

/// How many documents a successful reply speaks of.
fn count(reply: &Document) -> usize {
    if let Ok(cursor) = reply.get_document("cursor") {
        let batch = cursor
            .get_array("firstBatch")
            .or_else(|_| cursor.get_array("nextBatch"));
        return batch.unwrap().len();
    }
    if let Ok(values) = reply.get_array("values") {
        return values.len();
    }
    match reply.get("value") {
        Some(Bson::Null) => 0,
        Some(_) => 1,
        None => usize::try_from(reply.get_i32("n").unwrap_or_default()).unwrap(),
    }
}

/// How many documents figures tell of.
fn counted(reply: &Document) -> Option<i64> {
    let batch = reply
        .get_document("cursor")
        .and_then(|c| c.get_array("firstBatch"));
    let shown = batch.ok().and_then(|batch| batch.first()?.as_document());
    let figures = shown.unwrap_or(reply);
    let number = |key: &&str| match figures.get(key)? {
        Bson::Int32(n) => Some(i64::from(*n)),
        Bson::Int64(n) => Some(*n),
        _ => None,
    };
    ["count", "objects", "numObjects", "nrecords"]
        .iter()
        .find_map(number)
}

/// The most documents or keys that a part of a plan says it gave.
fn most_returned(plan: &Bson) -> Option<i64> {
    match plan {
        Bson::Document(part) => {
            let here = match part.get("nReturned") {
                Some(Bson::Int32(n)) => Some(i64::from(*n)),
                Some(Bson::Int64(n)) => Some(*n),
                _ => None,
            };
            here.into_iter()
                .chain(part.values().filter_map(most_returned))
                .max()
        }
        Bson::Array(parts) => parts.iter().filter_map(most_returned).max(),
        _ => None,
    }
}

/// The code of a failed command or of its first failed statement.
fn code(reply: &Document) -> Option<i32> {
    if reply.get("ok") != Some(&Bson::Double(1.0)) {
        return reply.get_i32("code").ok();
    }
    let errors = reply.get_array("writeErrors").ok()?;
    errors.first()?.as_document()?.get_i32("code").ok()
}

/// What went otherwise than the attack says.
pub(super) fn surprise(outcome: &Value, reply: Option<&RawReply>) -> Option<String> {
    let reply = match (reply, outcome.as_str()) {
        // A message that is none may be answered before the connection is closed.
        (None, Some("closed")) => return None,
        (None, _) => return Some("the connection was closed".into()),
        (Some(reply), _) => reply.document(),
    };
    let code = code(&reply);
    let is_as_said = match outcome {
        Value::Number(wanted) => code.map(i64::from) == wanted.as_i64(),
        Value::String(word) => match word.as_str() {
            "closed" | "error" => code.is_some_and(|code| code != 8),
            "ok" => code.is_none(),
            "empty" => code.is_none() && count(&reply) == 0,
            word if word.starts_with("figures ") => {
                let wanted: i64 = word.trim_start_matches("figures ").parse().unwrap();
                code.is_none() && counted(&reply) == Some(wanted)
            }
            word if word.starts_with("counted ") => {
                let wanted: i64 = word.trim_start_matches("counted ").parse().unwrap();
                code.is_none() && most_returned(&Bson::Document(reply.clone())) == Some(wanted)
            }
            "planned EOF" => code.is_none() && reply.to_string().contains(r#""stage": "EOF""#),
            own => {
                let wanted: usize = own.trim_start_matches("own ").parse().unwrap();
                code.is_none() && count(&reply) == wanted
            }
        },
        other => panic!("no outcome: {other:?}"),
    };
    (!is_as_said).then(|| {
        let said = match code {
            Some(code) => code.to_string(),
            None => format!("own {}", count(&reply)),
        };
        format!("ended as {said}: {reply}")
    })
}
