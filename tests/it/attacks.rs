//! The attack book: `tests/attacks/*.yaml`. Each attack is one raw command of an app against another's documents. None
//! may read, change, remove, count or move one, and after each everything of the victim is upstream as it was.

use std::collections::HashMap;

use bson::{Binary, Bson, Document, RawDocumentBuf, doc, spec::BinarySubtype};
use futures_util::TryStreamExt as _;
use mdb_tests::script::{Words, with};
use mdb_tests::{RawClient, RawReply, Section, TestProxy, is_for, shared};
use serde_yaml::Value;

/// In every value of the victim; in no reply to the attacker.
const MARK: &str = "TAINT";

struct World {
    proxy: TestProxy,
    upstream: mongodb::Database,
    /// By user; one that was closed is opened anew.
    attackers: HashMap<String, RawClient>,
    words: Words,
    victim: RawClient,
}

fn lsid(byte: u8) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![byte; 16],
    })
}

impl World {
    async fn new() -> Self {
        let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
        let (db, bob) = (proxy.database_name(), proxy.slug("bob"));
        let mut words = Words::default();
        words.word("ALICE", proxy.slug("alice"));
        words.word("BOB", bob);
        words.word("DB", db);
        words.value("lsid", lsid(7));
        words.value("lsid2", lsid(8));
        words.value(
            "digest",
            Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![9; 20],
            },
        );
        let mut victim = proxy.raw("bob").await;
        let secret = |id: &str, code: i32| {
            doc! {
                "_id": id, "code": code, "dup": 1, "at": bson::DateTime::from_millis(1000),
                "secret": format!("{MARK}-{id}"), "tags": [MARK, "x"], "link": "b2", MARK: 1,
            }
        };
        let documents = vec![secret("b1", 1), secret("b2", 2), secret("b3", 3)];
        victim
            .ok(&doc! {"insert": "secrets", "documents": documents.clone(), "$db": db})
            .await;
        victim
            .ok(&doc! {"insert": "bobs", "documents": documents, "$db": db})
            .await;
        for (name, key) in [
            ("same", doc! {"code": -1}),
            ("bobs_own", doc! {"code": 1, "secret": 1}),
        ] {
            let index = doc! {"name": name, "key": key, "unique": true};
            for collection in ["secrets", "bobs"] {
                let create =
                    doc! {"createIndexes": collection, "indexes": [index.clone()], "$db": db};
                victim.ok(&create).await;
            }
        }
        let mut attacker = proxy.raw("alice").await;
        let same = doc! {"name": "same", "key": {"code": 1}};
        attacker
            .ok(&doc! {"createIndexes": "secrets", "indexes": [same], "$db": db})
            .await;
        attacker.ok(&doc! {"create": "mine", "$db": db}).await;
        let upstream = proxy.upstream().await;
        let attackers = HashMap::from([("alice".to_owned(), attacker)]);
        Self {
            proxy,
            upstream,
            attackers,
            words,
            victim,
        }
    }

    /// The victim has an open cursor, a finished retryable write and an open transaction.
    async fn open_sessions(&mut self) {
        let db = self.proxy.database_name();
        let find = doc! {"find": "secrets", "batchSize": 1, "lsid": {"id": lsid(7)}, "$db": db};
        let opened = self.victim.ok(&find).await;
        let cursor = opened
            .get_document("cursor")
            .unwrap()
            .get_i64("id")
            .unwrap();
        self.words.value("cursor", cursor);
        let numbered = doc! {
            "findAndModify": "secrets", "query": {"_id": "b1"}, "update": {"$inc": {"v": 1}},
            "lsid": {"id": lsid(8)}, "txnNumber": 1_i64, "$db": db,
        };
        self.victim.ok(&numbered).await;
        let read = doc! {
            "find": "secrets", "lsid": {"id": lsid(7)}, "txnNumber": 1_i64, "autocommit": false,
            "startTransaction": true, "$db": db,
        };
        self.victim.ok(&read).await;
    }

    /// The victim has a past: events that only its own streams may show, and a stream that is open.
    async fn open_stream(&mut self) {
        let db = self.proxy.database_name();
        let stream = doc! {"aggregate": "secrets", "pipeline": [{"$changeStream": {}}], "cursor": {}, "$db": db};
        let opened = self.victim.ok(&stream).await;
        let id = mdb_tests::cursor_id(&opened);
        self.words
            .value("past", opened.get("operationTime").unwrap().clone());
        for collection in ["secrets", "bobs"] {
            let insert = doc! {"insert": collection, "documents": [{"_id": "b9", "secret": MARK}], "$db": db};
            let set = doc! {"$set": {"secret": format!("{MARK}-new")}};
            let update =
                doc! {"update": collection, "updates": [{"q": {"_id": "b9"}, "u": set}], "$db": db};
            let delete = doc! {"delete": collection, "deletes": [{"q": {"_id": "b9"}, "limit": 1}], "$db": db};
            for command in [insert, update, delete] {
                self.victim.ok(&command).await;
            }
        }
        let more = doc! {"getMore": id, "collection": "secrets", "maxTimeMS": 5000, "$db": db};
        let reply = self.victim.ok(&more).await;
        let token = |document: Option<&Bson>| document.unwrap().clone();
        let events = mdb_tests::batch(&reply);
        self.words.value("token", token(events[0].get("_id")));
        let place = opened.get_document("cursor").unwrap();
        self.words
            .value("place", token(place.get("postBatchResumeToken")));
        self.words.value("stream", id);
    }

    /// All of the victim is still usable by the victim.
    async fn close_sessions(&mut self) {
        let db = self.proxy.database_name();
        let commit = doc! {
            "commitTransaction": 1, "lsid": {"id": lsid(7)}, "txnNumber": 1_i64, "autocommit": false,
            "$db": "admin",
        };
        self.victim.ok(&commit).await;
        let cursor = self
            .words
            .document(&serde_yaml::from_str("{ id: !var cursor }").unwrap());
        let id = cursor.get("id").unwrap().unwrap().as_i64().unwrap();
        let more =
            doc! {"getMore": id, "collection": "secrets", "lsid": {"id": lsid(7)}, "$db": db};
        let reply = self.victim.ok(&more).await;
        let batch = reply
            .get_document("cursor")
            .unwrap()
            .get_array("nextBatch")
            .unwrap();
        assert_eq!(batch.len(), 2);
    }

    /// The attacker's documents are as every attack finds them.
    async fn reset_attacker(&self) {
        let alice = self.proxy.slug("alice");
        let secrets = self.upstream.collection::<Document>("secrets");
        secrets.delete_many(doc! {"app_id": alice}).await.unwrap();
        let mine = |id: &str, code: i32| {
            doc! {
                "_id": id, "app_id": alice, "code": code, "dup": code, "secret": format!("of {id}"),
                "tags": ["x"], "link": "b1", "v": 1,
            }
        };
        secrets
            .insert_many([mine("a1", 1), mine("a2", 2)])
            .await
            .unwrap();
    }

    /// Everything of the victim as it is upstream, byte for byte.
    async fn of_victim(&self) -> Vec<String> {
        let (upstream, bob) = (&self.upstream, self.proxy.slug("bob"));
        let mut seen = Vec::new();
        for collection in ["secrets", "bobs"] {
            let documents = upstream.collection::<RawDocumentBuf>(collection);
            let found = documents
                .find(doc! {"app_id": bob})
                .sort(doc! {"_id": 1})
                .await
                .unwrap();
            let found: Vec<RawDocumentBuf> = found.try_collect().await.unwrap();
            seen.extend(
                found
                    .iter()
                    .map(|d| format!("{collection} {:?}", d.as_bytes())),
            );
            let list = doc! {"listIndexes": collection};
            let indexes = upstream.run_cursor_command(list).await.unwrap();
            let indexes: Vec<Document> = indexes.try_collect().await.unwrap();
            let own = format!("{bob}.");
            let is_kept = |index: &&Document| {
                let name = index.get_str("name").unwrap();
                name.starts_with(&own) || name.starts_with("app_id") || name == "_id_"
            };
            seen.extend(
                indexes
                    .iter()
                    .filter(is_kept)
                    .map(|i| format!("{collection} {i}")),
            );
        }
        let list = doc! {"listCollections": 1, "filter": {"name": {"$in": ["secrets", "bobs"]}}};
        let collections = upstream.run_cursor_command(list).await.unwrap();
        let collections: Vec<Document> = collections.try_collect().await.unwrap();
        let mut collections: Vec<String> = collections.iter().map(Document::to_string).collect();
        collections.sort();
        seen.extend(collections);
        seen
    }

    /// Documents that are nobody's, or somebody's who does not exist.
    async fn strays(&self) -> u64 {
        let owners = [self.proxy.slug("alice"), self.proxy.slug("bob")];
        let secrets = self.upstream.collection::<Document>("secrets");
        let odd = doc! {"$or": [{"app_id": {"$not": {"$in": owners.to_vec()}}}, {"app_id.0": {"$exists": true}}]};
        secrets.count_documents(odd).await.unwrap()
    }

    async fn run(&mut self, attack: &Value) -> Option<RawReply> {
        let text = |key: &str| attack.get(key).map(|v| self.words.document(&yaml_text(v)));
        let user = match attack.get("as").and_then(Value::as_str) {
            Some(user) => user.replace("ALICE", "alice"),
            None => "alice".to_owned(),
        };
        let mut client = match self.attackers.remove(&user) {
            Some(client) => client,
            None => self.proxy.raw(&user).await,
        };
        let db = text("db").map(|d| d.get_str("text").unwrap().to_owned());
        let db = db.unwrap_or_else(|| self.proxy.database_name().to_owned());
        let body = with(&self.words.document(&attack["command"]), "$db", db);
        let mut sections = vec![Section::Body(&body)];
        let sequences = attack.get("sequences").and_then(Value::as_mapping);
        let sequences: Vec<(&str, Vec<RawDocumentBuf>)> = sequences
            .into_iter()
            .flatten()
            .map(|(name, documents)| {
                let documents = documents.as_sequence().unwrap().iter();
                (
                    name.as_str().unwrap(),
                    documents.map(|d| self.words.document(d)).collect(),
                )
            })
            .collect();
        sections.extend(sequences.iter().map(|(name, d)| Section::Sequence(name, d)));
        let reply = client.try_exchange(&sections).await?;
        self.attackers.insert(user, client);
        Some(reply)
    }

    /// A word of the victim, or one of the proxy's own that the attacker did not say first.
    fn word_too_much(&self, attack: &Value, reply: &RawReply) -> Option<String> {
        let said = serde_yaml::to_string(attack).unwrap();
        let heard = String::from_utf8_lossy(reply.body.as_bytes()).into_owned();
        // A refusal may say which field it speaks of.
        let is_refusal = heard.contains("reserved");
        let words = [
            (MARK, false),
            ("app_id", is_refusal || said.contains("app_id")),
            (self.proxy.slug("bob"), said.contains("BOB")),
            (self.proxy.slug("alice"), said.contains("ALICE")),
        ];
        let found = words
            .iter()
            .find(|(word, is_told)| !is_told && heard.contains(word));
        found.map(|(word, _)| format!("{word}: {}", reply.document()))
    }
}

/// A string as a document, so that words are replaced in it.
fn yaml_text(value: &Value) -> Value {
    let mut mapping = serde_yaml::Mapping::new();
    mapping.insert("text".into(), value.clone());
    mapping.into()
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
    ["count", "objects", "numObjects"].iter().find_map(number)
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
fn surprise(outcome: &Value, reply: Option<&RawReply>) -> Option<String> {
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
            own => {
                let wanted: usize = own.trim_start_matches("own ").parse().unwrap();
                code.is_none() && count(&reply) == wanted
            }
        },
        other => panic!("no outcome: {other:?}"),
    };
    (!is_as_said).then(|| reply.to_string())
}

fn book(text: &str) -> Vec<Value> {
    serde_yaml::from_str(text).unwrap()
}

async fn run_book(world: &mut World, text: &str) {
    let before = world.of_victim().await;
    let mut surprises = Vec::new();
    for attack in book(text) {
        let name = attack["name"].as_str().unwrap().to_owned();
        world.reset_attacker().await;
        let reply = world.run(&attack).await;
        // On servers that are older than the attack nothing is told and nothing happens, but it may end otherwise.
        if is_for(shared().await, &attack)
            && let Some(found) = surprise(&attack["outcome"], reply.as_ref())
        {
            surprises.push(format!("{name}: expected {:?}: {found}", attack["outcome"]));
        }
        if let Some(found) = reply.as_ref().and_then(|r| world.word_too_much(&attack, r)) {
            surprises.push(format!("{name}: TOLD {found}"));
        }
        assert_eq!(world.of_victim().await, before, "BREACH by {name}");
        assert_eq!(
            world.strays().await,
            0,
            "BREACH: documents of nobody by {name}"
        );
    }
    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
}

const BOOK: [&str; 7] = [
    include_str!("../attacks/reads.yaml"),
    include_str!("../attacks/aggregation.yaml"),
    include_str!("../attacks/writes.yaml"),
    include_str!("../attacks/catalog.yaml"),
    include_str!("../attacks/sessions.yaml"),
    include_str!("../attacks/streams.yaml"),
    include_str!("../attacks/figures.yaml"),
];

#[test]
fn the_book_is_thick() {
    let attacks: usize = BOOK.iter().map(|text| book(text).len()).sum();
    assert!(attacks >= 300, "{attacks}");
}

#[tokio::test]
async fn reads() {
    run_book(&mut World::new().await, BOOK[0]).await;
}

#[tokio::test]
async fn aggregation() {
    run_book(&mut World::new().await, BOOK[1]).await;
}

#[tokio::test]
async fn writes() {
    run_book(&mut World::new().await, BOOK[2]).await;
}

#[tokio::test]
async fn catalog() {
    run_book(&mut World::new().await, BOOK[3]).await;
}

#[tokio::test]
async fn figures() {
    run_book(&mut World::new().await, BOOK[6]).await;
}

#[tokio::test]
async fn sessions() {
    let mut world = World::new().await;
    world.open_sessions().await;
    run_book(&mut world, BOOK[4]).await;
    world.close_sessions().await;
}

#[tokio::test]
async fn streams() {
    if !mdb_tests::is_since(shared().await, "6.0") {
        return;
    }
    let mut world = World::new().await;
    world.open_stream().await;
    run_book(&mut world, BOOK[5]).await;
}
