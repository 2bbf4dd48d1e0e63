//! Change streams: an app sees its own events as a private server would show them, and nobody else's.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, batch, cursor_id, shared};

mod images;
mod resuming;

/// In every value of the other app; in no event.
const MARK: &str = "TAINT";

/// The stream ends with the event of this document.
const LAST: &str = "the last";

/// An update by a pipeline is told as a replacement where that takes fewer bytes; the scope field must not decide it.
const LONG: &str =
    "a document is long enough that a part of it is much shorter than the whole of it";

fn lsid(byte: u8) -> Document {
    doc! {"id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] })}
}

/// What a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Collection,
    Database,
    Deployment,
}

const REACHES: [Reach; 3] = [Reach::Collection, Reach::Database, Reach::Deployment];

/// An open stream.
#[derive(Debug, Clone)]
struct Stream {
    id: i64,
    collection: String,
    db: String,
    events: Vec<Document>,
}

fn opening(reach: Reach, db: &str, mut options: Document, stages: &[Document]) -> Document {
    if reach == Reach::Deployment {
        options.insert("allChangesForCluster", true);
    }
    let mut pipeline = vec![doc! {"$changeStream": options}];
    pipeline.extend_from_slice(stages);
    match reach {
        Reach::Collection => doc! {"aggregate": "c", "pipeline": pipeline, "cursor": {}, "$db": db},
        Reach::Database => doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}, "$db": db},
        Reach::Deployment => {
            doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}, "$db": "admin"}
        }
    }
}

/// Whether the servers keep documents as they were before a change: streams on shared collections need them.
async fn keeps_images() -> bool {
    mdb_tests::is_since(shared().await, "6.0")
}

async fn open(client: &mut RawClient, command: &Document) -> Stream {
    let reply = client.ok(command).await;
    let cursor = reply.get_document("cursor").unwrap();
    assert!(cursor.contains_key("postBatchResumeToken"), "{reply}");
    let ns = cursor.get_str("ns").unwrap();
    let (db, collection) = ns.split_once('.').unwrap();
    Stream {
        id: cursor_id(&reply),
        collection: collection.to_owned(),
        db: db.to_owned(),
        events: batch(&reply),
    }
}

impl Stream {
    /// Reads until the last event, or until the server ends the stream.
    async fn read(mut self, client: &mut RawClient) -> Vec<Document> {
        let is_last = |events: &[Document]| {
            events.iter().any(|event| {
                let key = event.get_document("documentKey");
                key.is_ok_and(|key| key.get_str("_id").is_ok_and(|id| id == LAST))
            })
        };
        while self.id != 0 && !is_last(&self.events) {
            let more = doc! {
                "getMore": self.id, "collection": &*self.collection, "maxTimeMS": 1000, "$db": &*self.db,
            };
            let reply = client.ok(&more).await;
            let cursor = reply.get_document("cursor").unwrap();
            assert!(cursor.contains_key("postBatchResumeToken"), "{reply}");
            let id = cursor_id(&reply);
            assert_eq!(cursor.get_bool("invalidated").is_ok(), id == 0, "{reply}");
            assert!(id == 0 || id == self.id, "{reply}");
            self.events.extend(batch(&reply));
            self.id = id;
        }
        self.events
    }
}

/// An event without what says when, and which server.
fn comparable(event: &Document) -> Document {
    let mut event = event.clone();
    for key in ["_id", "clusterTime", "wallTime"] {
        assert!(event.remove(key).is_some(), "no {key}: {event}");
    }
    if let Ok(session) = event.get_document_mut("lsid") {
        // A digest of the user's name.
        session.remove("uid");
    }
    event
}

fn comparables(events: &[Document]) -> Vec<Document> {
    events.iter().map(comparable).collect()
}

/// What the app does: each kind of event, in and out of transactions, `_id`s given up and taken again.
fn deeds(db: &str) -> Vec<Document> {
    let update = |q: Document, u: Bson| doc! {"update": "c", "updates": [{"q": q, "u": u, "multi": false}], "$db": db};
    let delete =
        |id: i32| doc! {"delete": "c", "deletes": [{"q": {"_id": id}, "limit": 1}], "$db": db};
    let insert = |id: i32| doc! {"insert": "c", "documents": [{"_id": id, "x": id, "list": [1, 2], "text": LONG}], "$db": db};
    let in_transaction = |mut command: Document, number: i64, starts: bool| {
        command.extend(doc! {"lsid": lsid(3), "txnNumber": number, "autocommit": false});
        if starts {
            command.insert("startTransaction", true);
        }
        command
    };
    vec![
        insert(1),
        insert(2),
        insert(3),
        update(
            doc! {"_id": 1},
            doc! {"$set": {"x": 10, "deep.y": 1}, "$unset": {"list": 1}}.into(),
        ),
        update(
            doc! {"_id": 2},
            Bson::Array(vec![doc! {"$set": {"list": [1]}}.into()]),
        ),
        update(doc! {"_id": 3}, doc! {"whole": true}.into()),
        update(doc! {"_id": 1}, doc! {"$set": {"x": 11}}.into()),
        delete(1),
        doc! {"findAndModify": "c", "query": {"_id": 2}, "update": {"$inc": {"x": 1}}, "$db": db},
        doc! {"findAndModify": "c", "query": {"_id": 9}, "update": {"$set": {"x": 1}}, "upsert": true, "$db": db},
        in_transaction(insert(4), 1, true),
        in_transaction(
            update(doc! {"_id": 4}, doc! {"$set": {"x": 5}}.into()),
            1,
            false,
        ),
        in_transaction(delete(2), 1, false),
        in_transaction(doc! {"commitTransaction": 1, "$db": "admin"}, 1, false),
        in_transaction(insert(5), 2, true),
        in_transaction(doc! {"abortTransaction": 1, "$db": "admin"}, 2, false),
        doc! {"insert": "other", "documents": [{"_id": 1}], "$db": db},
    ]
}

/// What another app does meanwhile in the same collections, also under the same `_id`s as soon as they are free.
async fn disturb(bob: &mut RawClient, db: &str, step: i32) {
    for collection in ["c", "bobs"] {
        let id = format!("b{step}");
        // Those that the first app has given up by then.
        let free = match step {
            ..8 => 0..0,
            8..14 => 1..2,
            _ => 1..3,
        };
        let taken: Vec<Document> = free
            .map(|id| doc! {"q": {"_id": id}, "u": {"$set": {MARK: MARK, "x": step}}, "upsert": true})
            .collect();
        let documents = vec![doc! {"_id": &id, "secret": MARK}];
        bob.ok(&doc! {"insert": collection, "documents": documents, "$db": db})
            .await;
        let replace = vec![doc! {"q": {"_id": &id}, "u": {MARK: MARK}}];
        bob.ok(&doc! {"update": collection, "updates": replace, "$db": db})
            .await;
        if !taken.is_empty() {
            bob.ok(&doc! {"update": collection, "updates": taken, "$db": db})
                .await;
        }
        if step % 2 == 0 {
            let delete = vec![doc! {"q": {"_id": &id}, "limit": 1}];
            bob.ok(&doc! {"delete": collection, "deletes": delete, "$db": db})
                .await;
        }
    }
}

/// Options, whether the collections keep documents before a change, and the client's stages.
fn kinds() -> Vec<(Document, Vec<Document>)> {
    vec![
        (doc! {}, vec![]),
        (doc! {"fullDocument": "updateLookup"}, vec![]),
        (
            doc! {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"},
            vec![],
        ),
        (
            doc! {"fullDocument": "required", "fullDocumentBeforeChange": "required"},
            vec![],
        ),
        (
            doc! {"fullDocument": "updateLookup"},
            vec![
                doc! {"$match": {"$or": [{"ns.coll": "c"}, {"operationType": {"$in": ["drop", "dropDatabase", "invalidate"]}}]}},
                doc! {"$addFields": {"namespace": "$ns", "keys": {"$objectToArray": "$fullDocument"}}},
                doc! {"$project": {"fullDocument": 0, "lsid": 0}},
            ],
        ),
    ]
}

struct Side {
    client: RawClient,
    streams: Vec<Stream>,
}

impl Side {
    async fn new(mut client: RawClient, db: &str) -> Self {
        for collection in ["c", "other"] {
            let create = doc! {"create": collection, "changeStreamPreAndPostImages": {"enabled": true}, "$db": db};
            client.ok(&create).await;
        }
        let mut streams = Vec::new();
        for reach in REACHES {
            for (options, stages) in kinds() {
                // Refused there: the server would look for what is required of other apps' events too.
                if !matches!(reach, Reach::Collection) && options.to_string().contains("required") {
                    continue;
                }
                let command = opening(reach, db, options, &stages);
                streams.push(open(&mut client, &command).await);
            }
        }
        Self { client, streams }
    }

    async fn events(mut self) -> Vec<Vec<Document>> {
        let mut all = Vec::new();
        for stream in self.streams {
            all.push(comparables(&stream.read(&mut self.client).await));
        }
        all
    }
}

async fn compare(isolation: &str) {
    let private = Deployment::replica_set(1).start().await.unwrap();
    let builder = ProxyBuilder::new(shared().await);
    let builder = builder.app("alice").isolated(isolation).app("bob");
    let proxy = builder.start().await;
    let db = proxy.database_name();
    let mut bob = proxy.raw("bob").await;
    disturb(&mut bob, db, 0).await;
    let mut through = Side::new(proxy.raw("alice").await, db).await;
    let address = private.hosts()[0].parse().unwrap();
    let mut direct = Side::new(RawClient::connect(address).await, db).await;
    for (step, command) in (1..).zip(deeds(db)) {
        let (one, other) = (
            through.client.ok(&command).await,
            direct.client.ok(&command).await,
        );
        assert_eq!(one.get("n"), other.get("n"), "{command}");
        let is_statement = command.contains_key("autocommit");
        if !is_statement {
            disturb(&mut bob, db, step).await;
        }
    }
    let elsewhere = format!("{db}_2");
    for side in [&mut through, &mut direct] {
        for command in [
            doc! {"insert": "c", "documents": [{"_id": 1}], "$db": &elsewhere},
            doc! {"drop": "c", "$db": db},
            doc! {"dropDatabase": 1, "$db": db},
            doc! {"insert": "c", "documents": [{"_id": LAST}], "$db": &elsewhere},
        ] {
            side.client.ok(&command).await;
        }
        disturb(&mut bob, db, 1000).await;
    }
    let (found, expected) = (through.events().await, direct.events().await);
    let names: Vec<String> = REACHES
        .iter()
        .flat_map(|reach| {
            kinds()
                .into_iter()
                .map(move |kind| format!("{reach:?} {kind:?}"))
        })
        .collect();
    for ((name, found), expected) in names.iter().zip(&found).zip(&expected) {
        assert!(expected.len() > 8, "{name}: {expected:?}");
        assert_eq!(found, expected, "{name}");
        let text = format!("{found:?}");
        for word in [
            MARK,
            "app_id",
            proxy.slug("bob"),
            proxy.slug("alice"),
            "@",
            "~",
        ] {
            assert!(!text.contains(word), "{name}: {word} in {text}");
        }
    }
}

#[tokio::test]
async fn events_are_those_of_a_private_server_in_shared_collections() {
    if !keeps_images().await {
        return;
    }
    compare("shared").await;
}

#[tokio::test]
async fn events_are_those_of_a_private_server_in_dedicated_collections() {
    if !keeps_images().await {
        return;
    }
    compare("dedicated").await;
}
