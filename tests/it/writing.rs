//! Stages that write, `$merge` and `$out`: what is stored upstream, and for whom.

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, shared};

async fn world(isolation: &str) -> (TestProxy, RawClient, RawClient) {
    let builder = ProxyBuilder::new(shared().await);
    let builder = builder.app("alice").isolated(isolation).app("bob");
    let proxy = builder.start().await;
    let (alice, bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    (proxy, alice, bob)
}

async fn found(client: &mut RawClient, db: &str, collection: &str) -> Vec<Document> {
    let find = doc! {"find": collection, "sort": {"_id": 1}, "$db": db};
    batch(&client.ok(&find).await)
}

async fn stored(proxy: &TestProxy, db: &str, collection: &str) -> Vec<Document> {
    let upstream = proxy.upstream().await.client().database(db);
    let collection = upstream.collection(collection);
    let found = collection.find(doc! {}).sort(doc! {"_id": 1});
    let found = found.await.unwrap();
    found.try_collect().await.unwrap()
}

fn write(db: &str, stages: Vec<Document>) -> Document {
    doc! {"aggregate": "c", "pipeline": stages, "cursor": {}, "$db": db}
}

async fn seed(client: &mut RawClient, db: &str, ids: &[i32]) {
    let documents: Vec<Document> = ids.iter().map(|id| doc! {"_id": id, "x": id}).collect();
    client
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
}

#[tokio::test]
async fn merged_documents_are_stamped_wherever_they_go() {
    let (proxy, mut alice, mut bob) = world("shared").await;
    let db = proxy.database_name();
    let other = format!("{db}_other");
    seed(&mut alice, db, &[1, 2]).await;
    seed(&mut bob, db, &[3]).await;
    let steals = doc! {"$set": {"app_id": proxy.slug("bob")}};
    for into in [
        doc! {"into": "t"},
        doc! {"into": {"db": &other, "coll": "t"}},
    ] {
        let command = write(db, vec![steals.clone(), doc! {"$merge": into}]);
        let reply = alice.ok(&command).await;
        assert!(batch(&reply).is_empty(), "{reply}");
        assert_eq!(mdb_tests::cursor_id(&reply), 0);
    }
    let own = |id: i32| doc! {"_id": id, "app_id": proxy.slug("alice"), "x": id};
    for db in [db, other.as_str()] {
        assert_eq!(stored(&proxy, db, "t").await, [own(1), own(2)]);
        assert_eq!(found(&mut alice, db, "t").await.len(), 2);
        assert!(found(&mut bob, db, "t").await.is_empty());
        let list = doc! {"listCollections": 1, "nameOnly": true, "$db": db};
        let listed = batch(&alice.ok(&list).await);
        assert!(listed.iter().any(|c| c.get_str("name").unwrap() == "t"));
    }
    for db in [db, other.as_str()] {
        alice.ok(&doc! {"dropDatabase": 1, "$db": db}).await;
    }
    proxy
        .upstream()
        .await
        .client()
        .database(&other)
        .drop()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_document_of_another_app_is_never_merged_into() {
    let (proxy, mut alice, mut bob) = world("shared").await;
    let db = proxy.database_name();
    seed(&mut alice, db, &[1]).await;
    bob.ok(&doc! {"insert": "t", "documents": [{"_id": 1, "secret": "s"}], "$db": db})
        .await;
    let before = stored(&proxy, db, "t").await;
    let stages = vec![doc! {"$set": {"stolen": "$secret"}}];
    for when_matched in [
        "replace".into(),
        "merge".into(),
        "keepExisting".into(),
        "fail".into(),
        bson::Bson::from(stages),
    ] {
        let merge = doc! {"$merge": {"into": "t", "whenMatched": &when_matched}};
        let reply = alice.command(&write(db, vec![merge])).await;
        assert_eq!(reply.get_i32("code").unwrap(), 11000, "{reply}");
        assert_eq!(reply.get_document("keyPattern").unwrap(), &doc! {"_id": 1});
        assert!(!reply.to_string().contains("secret"), "{reply}");
        assert!(!reply.to_string().contains("app_id"), "{reply}");
        assert_eq!(stored(&proxy, db, "t").await, before, "{when_matched}");
    }
    let discards = doc! {"$merge": {"into": "t", "whenNotMatched": "discard"}};
    alice.ok(&write(db, vec![discards])).await;
    assert_eq!(stored(&proxy, db, "t").await, before);
}

#[tokio::test]
async fn out_makes_a_collection_of_the_apps_own() {
    let (proxy, mut alice, mut bob) = world("shared").await;
    let db = proxy.database_name();
    seed(&mut alice, db, &[1, 2]).await;
    seed(&mut bob, db, &[3]).await;
    bob.ok(&doc! {"insert": "t", "documents": [{"_id": 1, "b": 1}], "$db": db})
        .await;
    let shared_before = stored(&proxy, db, "t").await;
    let command = write(db, vec![doc! {"$out": "t"}]);
    for _ in 0..2 {
        alice.ok(&command).await;
        let physical = format!("t@{}", proxy.slug("alice"));
        let own = [doc! {"_id": 1, "x": 1}, doc! {"_id": 2, "x": 2}];
        assert_eq!(stored(&proxy, db, &physical).await, own);
        assert_eq!(found(&mut alice, db, "t").await, own);
    }
    assert_eq!(stored(&proxy, db, "t").await, shared_before);
    assert_eq!(found(&mut bob, db, "t").await, [doc! {"_id": 1, "b": 1}]);
    // Of one beside other apps' the app's documents are replaced (see `replacing`).
    alice.ok(&write(db, vec![doc! {"$out": "c"}])).await;
    assert_eq!(stored(&proxy, db, "c").await.len(), 3);
    // What fails leaves no trace.
    let fails = vec![
        doc! {"$set": {"x": {"$divide": [1, 0]}}},
        doc! {"$out": "never"},
    ];
    assert_eq!(
        alice.command(&write(db, fails)).await.get_i32("ok").ok(),
        None
    );
    let listed = alice
        .ok(&doc! {"listCollections": 1, "nameOnly": true, "$db": db})
        .await;
    let mut names: Vec<String> = batch(&listed)
        .iter()
        .map(|c| c.get_str("name").unwrap().to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["c", "t"]);
    alice
        .ok(&doc! {"insert": "never", "documents": [{"_id": 1}], "$db": db})
        .await;
    assert_eq!(
        stored(&proxy, db, "never").await.len(),
        1,
        "a shared one after all"
    );
}

#[tokio::test]
async fn between_shared_and_dedicated() {
    let (proxy, mut alice, _) = world("{ default: shared, collections: { own: dedicated } }").await;
    let db = proxy.database_name();
    seed(&mut alice, db, &[1]).await;
    alice.ok(&write(db, vec![doc! {"$merge": "own"}])).await;
    let own = format!("own@{}", proxy.slug("alice"));
    assert_eq!(stored(&proxy, db, &own).await, [doc! {"_id": 1, "x": 1}]);
    let back = doc! {
        "aggregate": "own", "pipeline": [{"$set": {"y": 2}}, {"$merge": "c"}], "cursor": {}, "$db": db,
    };
    alice.ok(&back).await;
    let expected = doc! {"_id": 1, "app_id": proxy.slug("alice"), "x": 1, "y": 2};
    assert_eq!(stored(&proxy, db, "c").await, [expected]);
    let index = doc! {"key": {"x": 1}, "name": "x_1", "unique": true};
    for collection in ["own", "c"] {
        let create = doc! {"createIndexes": collection, "indexes": [&index], "$db": db};
        alice.ok(&create).await;
    }
    let by_x = |into: &str| {
        let stages = vec![doc! {"$set": {"_id": 9}}, doc! {"$unset": "_id"}];
        let merge = doc! {"$merge": {"into": into, "on": "x", "whenMatched": "merge"}};
        write(db, [stages, vec![merge]].concat())
    };
    alice.ok(&by_x("own")).await;
    assert_eq!(stored(&proxy, db, &own).await.len(), 1);
    let refused = alice.command(&by_x("c")).await;
    assert_eq!(refused.get_i32("code").unwrap(), 72, "{refused}");
    // A duplicate in a shared target, met from a dedicated source, is told in the app's terms.
    alice
        .ok(&doc! {"insert": "own", "documents": [{"_id": 5, "x": 7}], "$db": db})
        .await;
    let clash = doc! {
        "aggregate": "own", "pipeline": [{"$set": {"x": 1, "_id": 8}}, {"$limit": 1}, {"$merge": "c"}],
        "cursor": {}, "$db": db,
    };
    let refused = alice.command(&clash).await;
    assert_eq!(refused.get_i32("code").unwrap(), 11000, "{refused}");
    assert_eq!(refused.get_document("keyPattern").unwrap(), &doc! {"x": 1});
    assert!(
        refused
            .get_str("errmsg")
            .unwrap()
            .contains("index: x_1 dup key: { x: 1 }"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_credential_that_may_only_read_cannot_write_by_stages() {
    let (proxy, mut alice, _) = world("shared").await;
    let db = proxy.database_name();
    seed(&mut alice, db, &[1]).await;
    for user in ["alice-read", "alice-admin"] {
        let mut reader = proxy.raw(user).await;
        for stage in [doc! {"$merge": "t"}, doc! {"$out": "t"}] {
            let command = write(db, vec![stage.clone()]);
            assert_eq!(reader.fails(&command).await, 13, "{user} {stage}");
            let explain =
                doc! {"explain": {"aggregate": "c", "pipeline": [stage], "cursor": {}}, "$db": db};
            assert_eq!(reader.fails(&explain).await, 13, "{user}");
        }
    }
    assert!(stored(&proxy, db, "t").await.is_empty());
    let mut writer = proxy.raw("alice-write").await;
    for stage in [doc! {"$merge": "t"}, doc! {"$out": "u"}] {
        writer.ok(&write(db, vec![stage])).await;
    }
}

#[tokio::test]
async fn plans_of_stages_that_write_are_in_the_apps_terms() {
    let (proxy, mut alice, _) = world("{ default: shared, collections: { own: dedicated } }").await;
    let db = proxy.database_name();
    seed(&mut alice, db, &[1]).await;
    for (source, stage, shown) in [
        (
            "c",
            doc! {"$merge": {"into": "t", "whenMatched": [{"$set": {"n": "$$new"}}]}},
            doc! {"into": {"db": db, "coll": "t"}, "on": "_id", "whenNotMatched": "insert"},
        ),
        (
            "c",
            doc! {"$merge": "own"},
            doc! {"into": {"db": db, "coll": "own"}, "on": "_id", "whenMatched": "merge", "whenNotMatched": "insert"},
        ),
        (
            "own",
            doc! {"$merge": "t"},
            doc! {"into": {"db": db, "coll": "t"}, "on": "_id", "whenMatched": "merge", "whenNotMatched": "insert"},
        ),
        ("c", doc! {"$out": "new"}, doc! {"db": db, "coll": "new"}),
    ] {
        let inner = doc! {"aggregate": source, "pipeline": [&stage], "cursor": {}};
        let explain = doc! {"explain": inner, "verbosity": "queryPlanner", "$db": db};
        let plan = alice.ok(&explain).await;
        let stages = plan.get_array("stages").unwrap();
        let last = stages.last().unwrap().as_document().unwrap();
        let (_, body) = last.iter().next().unwrap();
        let mut body = body.as_document().unwrap().clone();
        if !shown.contains_key("whenMatched") {
            body.remove("whenMatched");
        }
        assert_eq!(body, shown, "{plan}");
        let text = plan.to_string();
        assert!(!text.contains("app_id") && !text.contains('@'), "{plan}");
    }
    let listed = alice
        .ok(&doc! {"listCollections": 1, "nameOnly": true, "$db": db})
        .await;
    assert_eq!(
        batch(&listed).len(),
        1,
        "a plan makes no collection: {listed}"
    );
}

#[tokio::test]
async fn not_in_a_transaction() {
    let (proxy, mut alice, _) = world("shared").await;
    let db = proxy.database_name();
    seed(&mut alice, db, &[1]).await;
    for (number, stage) in [(1_i64, doc! {"$merge": "t"}), (2, doc! {"$out": "t"})] {
        let mut command = write(db, vec![stage]);
        let lsid = bson::Binary {
            subtype: bson::spec::BinarySubtype::Uuid,
            bytes: vec![5; 16],
        };
        command.insert("lsid", doc! {"id": lsid});
        command.insert("txnNumber", number);
        command.insert("startTransaction", true);
        command.insert("autocommit", false);
        assert_eq!(alice.fails(&command).await, 263);
    }
    let names = proxy
        .upstream()
        .await
        .list_collection_names()
        .await
        .unwrap();
    assert_eq!(names, ["c"]);
}
