//! An attacker and a victim in the same database.

use std::collections::HashMap;

use bson::{Binary, Bson, Document, RawDocumentBuf, doc, spec::BinarySubtype};
use mdb_tests::script::{Words, with};
use mdb_tests::{
    ProxyBuilder, RawClient, RawReply, Section, TestProxy, eventually, shared, unique_name,
};
use serde_yaml::Value;

use super::MARK;

/// Where an app's new collections go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Isolation {
    Shared,
    Dedicated,
}

/// How the attacker and the victim are isolated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Modes {
    pub attacker: Isolation,
    pub victim: Isolation,
}

impl Modes {
    /// What the attack is expected to end with: `dedicated` where the attacker's collection is its own, `apart` where the
    /// two have no collection in common, `outcome` otherwise.
    pub(super) fn outcome(self, attack: &Value) -> &Value {
        let is_own = self.attacker == Isolation::Dedicated;
        let is_apart = is_own || self.victim == Isolation::Dedicated;
        let special = [("dedicated", is_own), ("apart", is_apart)];
        let mut special = special.iter().filter(|(_, applies)| *applies);
        special
            .find_map(|(key, _)| attack.get(key))
            .unwrap_or(&attack["outcome"])
    }
}

impl Isolation {
    fn word(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Dedicated => "dedicated",
        }
    }
}

pub(super) struct World {
    pub(super) modes: Modes,
    pub(super) proxy: TestProxy,
    /// Each chapter has its own.
    db: String,
    pub(super) upstream: mongodb::Database,
    /// By user; one that was closed is opened anew.
    attackers: HashMap<String, RawClient>,
    words: Words,
    victim: RawClient,
    /// Where the victim waits for a document, while its sessions are open.
    waiting: Option<RawClient>,
}

fn lsid(byte: u8) -> Bson {
    Bson::Binary(Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![byte; 16],
    })
}

fn words(proxy: &TestProxy) -> Words {
    let mut words = Words::default();
    words.word("ALICE", proxy.slug("alice"));
    words.word("BOB", proxy.slug("bob"));
    words.value("lsid", lsid(7));
    words.value("lsid2", lsid(8));
    let digest = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![9; 20],
    };
    words.value("digest", digest);
    words
}

impl World {
    pub(super) async fn new(modes: Modes) -> Self {
        let builder = ProxyBuilder::new(shared().await);
        let builder = builder.app("alice").isolated(modes.attacker.word());
        let builder = builder.app("bob").isolated(modes.victim.word());
        let proxy = builder.start().await;
        Self {
            modes,
            upstream: proxy.upstream().await,
            attackers: HashMap::new(),
            words: words(&proxy),
            victim: proxy.raw("bob").await,
            waiting: None,
            db: String::new(),
            proxy,
        }
    }

    /// Goes to a new database, where both settle.
    pub(super) async fn settle(&mut self) {
        let client = self.upstream.client().clone();
        self.db = unique_name("db");
        self.upstream = client.database(&self.db);
        self.words.word("DB", &self.db);
        settle(&mut self.victim, &self.db).await;
        let mut attacker = self.proxy.raw("alice").await;
        let same = doc! {"name": "same", "key": {"code": 1}};
        for mut command in [
            doc! {"createIndexes": "secrets", "indexes": [same]},
            doc! {"create": "mine"},
        ] {
            command.insert("$db", &self.db);
            attacker.ok(&command).await;
        }
        self.attackers.insert("alice".to_owned(), attacker);
    }

    /// The victim has an open cursor, a finished retryable write, an open transaction and an operation that runs.
    pub(super) async fn open_sessions(&mut self) {
        let db = &self.db;
        let find = doc! {"find": "secrets", "batchSize": 1, "lsid": {"id": lsid(7)}, "$db": db};
        let opened = self.victim.ok(&find).await;
        self.words.value("cursor", mdb_tests::cursor_id(&opened));
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
        let mut waiting = self.proxy.raw("bob").await;
        let tail = doc! {"find": "log", "tailable": true, "awaitData": true, "lsid": {"id": lsid(6)}, "$db": db};
        let cursor = mdb_tests::cursor_id(&waiting.ok(&tail).await);
        let more = doc! {
            "getMore": cursor, "collection": "log", "maxTimeMS": WAIT_MILLIS, "lsid": {"id": lsid(6)}, "$db": db,
        };
        waiting
            .send(0, &[Section::Body(&mdb_tests::raw(&more))])
            .await;
        let upstream = eventually("an operation upstream", async || self.operation().await).await;
        self.words.value("upstream_operation", upstream);
        let listed = self.victim.ok(&doc! {"currentOp": 1, "$db": "admin"}).await;
        let running = listed.get_array("inprog").unwrap();
        let operation = running
            .iter()
            .map(|o| o.as_document().unwrap())
            .find(|o| o.get_str("op").is_ok_and(|op| op == "getmore"));
        let operation = operation.unwrap_or_else(|| panic!("{listed}"));
        self.words
            .value("operation", operation.get("opid").unwrap().clone());
        self.waiting = Some(waiting);
    }

    /// The number that the victim's operation has upstream.
    async fn operation(&self) -> Option<Bson> {
        let admin = self.upstream.client().database("admin");
        let (db, bob) = (&self.db, self.proxy.slug("bob"));
        let running = doc! {"currentOp": true, "op": "getmore", "ns": format!("{db}.log@{bob}")};
        let seen = admin.run_command(running).await.unwrap();
        let found = seen.get_array("inprog").unwrap().first()?.as_document();
        found.unwrap().get("opid").cloned()
    }

    /// The victim has a past: events that only its own streams may show, and a stream that is open.
    pub(super) async fn open_stream(&mut self) {
        let db = &self.db;
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
    pub(super) async fn close_sessions(&mut self) {
        let db = &self.db;
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
        assert_eq!(mdb_tests::batch(&self.victim.ok(&more).await).len(), 2);
        let wake = doc! {"insert": "log", "documents": [{"_id": "awake"}], "$db": db};
        self.victim.ok(&wake).await;
        let woken = self.waiting.take().unwrap().receive().await.unwrap();
        let batch = mdb_tests::batch(&woken.document());
        assert_eq!(batch, [doc! {"_id": "awake"}], "it was not ended");
    }

    /// The attacker's documents are as every attack finds them.
    pub(super) async fn reset_attacker(&self) {
        let alice = self.proxy.slug("alice");
        let is_shared = self.modes.attacker == Isolation::Shared;
        let (name, owned) = if is_shared {
            ("secrets".to_owned(), doc! {"app_id": alice})
        } else {
            (format!("secrets@{alice}"), doc! {})
        };
        let secrets = self.upstream.collection::<Document>(&name);
        if secrets.delete_many(owned).await.is_err() {
            // It was made a capped one, from which servers before 6.0 delete nothing (4.4.2, 5.0.4).
            secrets.drop().await.unwrap();
        }
        let mine = |id: &str, code: i32| {
            let mut mine = doc! {
                "_id": id, "code": code, "dup": code, "secret": format!("of {id}"),
                "tags": ["x"], "link": "b1", "v": 1,
            };
            if is_shared {
                mine.insert("app_id", alice);
            }
            mine
        };
        secrets
            .insert_many([mine("a1", 1), mine("a2", 2)])
            // A validator of the attacker's own making is not in the way.
            .bypass_document_validation(true)
            .await
            .unwrap();
    }

    pub(super) async fn run(&mut self, attack: &Value) -> Option<RawReply> {
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
        let db = db.unwrap_or_else(|| self.db.clone());
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
}

/// Longer than any run of the book, so that the victim's operation ends only when the victim wants it.
const WAIT_MILLIS: i32 = 3_600_000;

/// Everything that the victim has.
async fn settle(victim: &mut RawClient, db: &str) {
    let secret = |id: &str, code: i32| {
        doc! {
            "_id": id, "code": code, "dup": 1, "at": bson::DateTime::from_millis(1000),
            "secret": format!("{MARK}-{id}"), "tags": [MARK, "x"], "link": "b2", MARK: 1,
        }
    };
    let documents = vec![secret("b1", 1), secret("b2", 2), secret("b3", 3)];
    let mut commands = vec![
        doc! {"create": "log", "capped": true, "size": 4096, "max": 100},
        doc! {"create": "words", "collation": {"locale": "en", "strength": 1}, "validator": {"secret": {"$ne": MARK}}},
        // A cursor on an empty capped collection ends at once.
        doc! {"insert": "log", "documents": [{"_id": MARK}]},
        doc! {"create": "glance", "viewOn": "secrets", "pipeline": [{"$match": {"secret": {"$ne": MARK}}}]},
    ];
    if mdb_tests::is_since(shared().await, "5.0") {
        commands
            .push(doc! {"create": "ticks", "timeseries": {"timeField": "at", "metaField": "link"}});
        commands.push(doc! {"insert": "ticks", "documents": documents.clone()});
    }
    for collection in ["secrets", "bobs", "words"] {
        commands.push(doc! {"insert": collection, "documents": documents.clone()});
    }
    for (name, key) in [
        ("same", doc! {"code": -1}),
        ("bobs_own", doc! {"code": 1, "secret": 1}),
    ] {
        let index = doc! {"name": name, "key": key, "unique": true};
        for collection in ["secrets", "bobs"] {
            commands.push(doc! {"createIndexes": collection, "indexes": [index.clone()]});
        }
    }
    // Not for the attacker's documents, of which some would be an error to it.
    let is_short = doc! {"$lt": [{"$strLenBytes": "$secret"}, 1000]};
    for collection in ["secrets", "bobs"] {
        let rule = doc! {"link": {"$ne": MARK}, "$expr": is_short.clone()};
        commands.push(doc! {"collMod": collection, "validator": rule});
    }
    for mut command in commands {
        command.insert("$db", db);
        victim.ok(&command).await;
    }
}

/// A string as a document, so that words are replaced in it.
fn yaml_text(value: &Value) -> Value {
    let mut mapping = serde_yaml::Mapping::new();
    mapping.insert("text".into(), value.clone());
    mapping.into()
}
