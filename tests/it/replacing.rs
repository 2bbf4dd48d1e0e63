//! `$out` over collections that apps share: it replaces what the app has there, and nothing else.

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, Section, TestProxy, batch, eventually, raw, shared};
use mongodb::Collection;

async fn world() -> (TestProxy, RawClient, RawClient) {
    let builder = ProxyBuilder::new(shared().await).app("alice");
    let proxy = builder.app("bob").start().await;
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let db = proxy.database_name();
    for client in [&mut alice, &mut bob] {
        let index = doc! {"key": {"u": 1}, "name": "u", "unique": true, "sparse": true};
        client
            .ok(&doc! {"createIndexes": "to", "indexes": [index], "$db": db})
            .await;
    }
    let of_bob: Vec<Document> = (0..5)
        .map(|n| doc! {"_id": format!("b{n}"), "u": n})
        .collect();
    bob.ok(&doc! {"insert": "to", "documents": of_bob, "$db": db})
        .await;
    (proxy, alice, bob)
}

fn out(db: &str, from: &str, mut stages: Vec<Document>, to: &str) -> Document {
    stages.push(doc! {"$out": to});
    doc! {"aggregate": from, "pipeline": stages, "cursor": {}, "$db": db}
}

async fn found(client: &mut RawClient, db: &str, name: &str) -> Vec<Document> {
    let find = doc! {"find": name, "sort": {"_id": 1}, "$db": db};
    batch(&client.ok(&find).await)
}

/// What is upstream: the collections but those of other tests' apps, and the documents that are shared.
async fn upstream(proxy: &TestProxy) -> (Vec<String>, Vec<Document>) {
    let database = proxy.upstream().await;
    let mut names = database.list_collection_names().await.unwrap();
    names.sort();
    let to: Collection<Document> = database.collection("to");
    let mut cursor = to.find(doc! {}).sort(doc! {"_id": 1}).await.unwrap();
    let mut documents = Vec::new();
    while cursor.advance().await.unwrap() {
        documents.push(cursor.deserialize_current().unwrap());
    }
    (names, documents)
}

/// Leaves the index of a text. A server names the collection that it fills, another one each time, and 4.4 does so for as long
/// as the index stands; here it is the one that is replaced.
fn shorten(error: &mut Document) {
    if let Ok(text) = error.get_str("errmsg").map(str::to_owned) {
        let text = text.split(" dup key").next().unwrap();
        error.insert("errmsg", text.rsplit(" index").next().unwrap());
    }
}

/// The same commands on a private server: replies and what is there afterwards are the same.
#[tokio::test]
async fn out_is_as_on_a_private_server() {
    let (proxy, mut alice, mut bob) = world().await;
    let db = proxy.database_name();
    let private = Deployment::replica_set(1).start().await.unwrap();
    let mut direct = RawClient::connect(private.hosts()[0].parse().unwrap()).await;
    let index = doc! {"key": {"u": 1}, "name": "u", "unique": true, "sparse": true};
    direct
        .ok(&doc! {"createIndexes": "to", "indexes": [index], "$db": db})
        .await;
    let from: Vec<Document> = (0..6)
        .map(|n| doc! {"_id": n, "u": n, "half": n % 2})
        .collect();
    let old = vec![doc! {"_id": 100, "old": true}, doc! {"_id": 2, "u": 77}];
    for client in [&mut alice, &mut direct] {
        for (name, documents) in [("from", &from), ("to", &old)] {
            let insert = doc! {"insert": name, "documents": documents, "$db": db};
            client.ok(&insert).await;
        }
    }
    let of_bob = found(&mut bob, db, "to").await;
    let stage = |stage: Document| vec![stage];
    let commands = [
        out(db, "from", vec![], "to"),
        out(db, "from", stage(doc! {"$set": {"u": "$half"}}), "to"),
        out(db, "from", stage(doc! {"$project": {"_id": "$half"}}), "to"),
        out(db, "from", stage(doc! {"$project": {"_id": ["$u"]}}), "to"),
        out(
            db,
            "from",
            stage(doc! {"$set": {"x": {"$divide": [1, "$half"]}}}),
            "to",
        ),
        out(
            db,
            "from",
            stage(doc! {"$match": {"_id": {"$gt": 2}}}),
            "from",
        ),
        out(
            db,
            "to",
            stage(doc! {"$group": {"_id": "$half", "n": {"$sum": 1}}}),
            "to",
        ),
        out(
            db,
            "from",
            stage(doc! {"$set": {"x": {"y": [1, {"app_id": 1}]}}}),
            "to",
        ),
        out(db, "from", stage(doc! {"$match": {"_id": "none"}}), "to"),
        out(db, "nothing", vec![], "to"),
        doc! {
            "aggregate": "from", "pipeline": [{"$out": {"db": db, "coll": "to"}}], "cursor": {},
            "writeConcern": {"w": 1}, "readConcern": {"level": "majority"}, "$db": db,
        },
        doc! {"aggregate": "from", "pipeline": [{"$out": "to"}], "cursor": {"batchSize": 1}, "allowDiskUse": true, "$db": db},
        doc! {"insert": "to", "documents": [{"_id": "later", "u": 3}], "$db": db},
        doc! {"insert": "to", "documents": [{"_id": "later", "u": 30}], "$db": db},
        doc! {"listIndexes": "to", "$db": db},
    ];
    for command in commands {
        let body = raw(&command);
        let mut replies = Vec::new();
        for client in [&mut alice, &mut direct] {
            let reply = client.try_exchange(&[Section::Body(&body)]).await;
            let mut reply = reply.unwrap().document();
            for key in ["$clusterTime", "operationTime", "electionId", "opTime"] {
                reply.remove(key);
            }
            shorten(&mut reply);
            if let Ok(errors) = reply.get_array_mut("writeErrors") {
                let errors = errors.iter_mut().filter_map(|e| e.as_document_mut());
                errors.for_each(shorten);
            }
            let left = [
                found(client, db, "from").await,
                found(client, db, "to").await,
            ];
            replies.push((reply, left));
        }
        assert_eq!(replies[0], replies[1], "{command}");
        assert_eq!(found(&mut bob, db, "to").await, of_bob, "{command}");
        let (names, documents) = upstream(&proxy).await;
        assert_eq!(names, ["from", "to"], "{command}");
        let slugs = [proxy.slug("alice"), proxy.slug("bob")];
        let is_owned = |document: &Document| {
            let owner = document.iter().nth(1).unwrap();
            owner.0 == "app_id" && slugs.contains(&owner.1.as_str().unwrap())
        };
        assert!(documents.iter().all(is_owned), "{documents:?}");
    }
    let list = doc! {"listCollections": 1, "nameOnly": true, "$db": db};
    assert_eq!(batch(&alice.ok(&list).await).len(), 2);
    // A server writes with the `getMore` that follows, here it is done at once.
    let none = doc! {
        "aggregate": "from", "pipeline": [{"$set": {"x": 5}}, {"$out": "to"}], "cursor": {"batchSize": 0}, "$db": db,
    };
    assert_eq!(mdb_tests::cursor_id(&alice.ok(&none).await), 0);
    assert_eq!(found(&mut alice, db, "to").await.len(), 3);
}

/// An `_id` of another app cannot be had, and what was there stays.
#[tokio::test]
async fn an_id_of_another_app_leaves_everything_as_it_was() {
    let (proxy, mut alice, _) = world().await;
    let db = proxy.database_name();
    for (name, id) in [("from", "b1"), ("to", "mine")] {
        let insert =
            doc! {"insert": name, "documents": [{"_id": "a", "app": 1}, {"_id": id}], "$db": db};
        alice.ok(&insert).await;
    }
    let before = upstream(&proxy).await;
    let refused = alice.command(&out(db, "from", vec![], "to")).await;
    assert_eq!(refused.get_i32("code").unwrap(), 11000, "{refused}");
    let text = refused.to_string();
    assert!(!text.contains("app_id") && !text.contains('@'), "{text}");
    assert!(!text.contains(proxy.slug("bob")), "{text}");
    assert_eq!(upstream(&proxy).await, before);
}

/// What one transaction cannot replace is refused before anything changes.
#[tokio::test]
async fn more_than_a_transaction_takes_is_refused() {
    let (proxy, mut alice, _) = world().await;
    let db = proxy.database_name();
    let ranges = |count: i32| {
        vec![
            doc! {"$limit": 1},
            doc! {"$project": {"_id": 0, "n": {"$range": [0, count]}}},
            doc! {"$unwind": "$n"},
        ]
    };
    for name in ["from", "to"] {
        let insert = doc! {"insert": name, "documents": [{"_id": name}], "$db": db};
        alice.ok(&insert).await;
    }
    let before = upstream(&proxy).await;
    let refused = alice.command(&out(db, "from", ranges(50_001), "to")).await;
    assert_eq!(refused.get_i32("code").unwrap(), 13, "{refused}");
    let text = refused.get_str("errmsg").unwrap();
    assert!(text.contains("50000") && text.contains("$merge"), "{text}");
    assert_eq!(upstream(&proxy).await, before);
    // As many are taken away at most.
    let to: Collection<Document> = proxy.upstream().await.collection("to");
    let slug = proxy.slug("alice");
    let many = (0..50_000).map(|n| doc! {"_id": n, "app_id": slug});
    to.insert_many(many).await.unwrap();
    let refused = alice.command(&out(db, "from", vec![], "to")).await;
    assert_eq!(refused.get_i32("code").unwrap(), 13, "{refused}");
    to.delete_many(doc! {"app_id": slug, "_id": {"$gte": 0}})
        .await
        .unwrap();
    alice.ok(&out(db, "from", vec![], "to")).await;
    assert_eq!(found(&mut alice, db, "to").await, [doc! {"_id": "from"}]);
    let names = upstream(&proxy).await.0;
    assert_eq!(names, ["from", "to"]);
}

/// What a proxy that is gone has left aside is dropped by another; what is in use, and what is not of the kind, is not.
#[tokio::test]
async fn what_was_left_aside_is_dropped() {
    let control = mdb_tests::unique_name("control");
    let deployment = shared().await;
    let client = mongodb::Client::with_uri_str(deployment.uri())
        .await
        .unwrap();
    let database = client.database(&mdb_tests::unique_name("left"));
    let unfinished: Collection<Document> = client.database(&control).collection("unfinished");
    let old = bson::DateTime::from_millis(bson::DateTime::now().timestamp_millis() - 3_700_000);
    let asides = [
        ("out@alice@0123@", old),
        ("out@alice@4567@", bson::DateTime::now()),
        ("orders", old),
    ];
    for (name, at) in asides {
        let left: Collection<Document> = database.collection(name);
        left.insert_one(doc! {"_id": 1}).await.unwrap();
        let entry = doc! {
            "_id": format!("{}.{name}", database.name()), "aside": true, "database": database.name(),
            "collection": name, "at": at,
        };
        unfinished.insert_one(entry).await.unwrap();
    }
    let builder = ProxyBuilder::new(deployment).control_database(&control);
    let proxy = builder.app("alice").start().await;
    proxy
        .raw("alice")
        .await
        .ok(&doc! {"count": "c", "$db": "d"})
        .await;
    let names = eventually("an old one is dropped", async || {
        let mut names = database.list_collection_names().await.unwrap();
        names.sort();
        Some(names).filter(|names| names.len() < 3)
    });
    assert_eq!(names.await, ["orders", "out@alice@4567@"]);
    // None of them is an app's to see or to name.
    let mut alice = proxy.raw("alice").await;
    let list = doc! {"listCollections": 1, "$db": database.name()};
    assert_eq!(batch(&alice.ok(&list).await).len(), 0);
    let find = doc! {"find": "out@alice@4567@", "$db": database.name()};
    assert_eq!(alice.fails(&find).await, 73);
}
