//! `id_policy: random_only`: no `_id` that another app could have, or guess, is taken in a shared collection.

use bson::{Document, Uuid, doc, oid::ObjectId};
use mdb_tests::{ProxyBuilder, batch, shared};

#[tokio::test]
async fn guessable_ids_are_refused_wherever_they_are_made() {
    let builder = ProxyBuilder::new(shared().await);
    let builder = builder.app("alice").with_random_ids().app("bob");
    let proxy = builder.start().await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let random = ObjectId::new();
    let upsert = |q: Document, u: Document| {
        doc! {"update": "c", "updates": [{"q": q, "u": u, "upsert": true}]}
    };
    for mut command in [
        doc! {"insert": "c", "documents": [{"_id": random, "n": 1}]},
        doc! {"insert": "c", "documents": [{"_id": Uuid::new()}]},
        doc! {"insert": "c", "documents": [{"n": 2}]},
        upsert(doc! {"_id": ObjectId::new()}, doc! {"$set": {"n": 3}}),
        upsert(doc! {"n": 4}, doc! {"$set": {"m": 1}}),
    ] {
        command.insert("$db", db);
        let reply = alice.ok(&command).await;
        assert!(!reply.contains_key("writeErrors"), "{reply}");
    }
    let pipeline = vec![doc! {"$set": {"_id": "$n"}}];
    let merge = doc! {"$merge": {"into": "d"}};
    for mut command in [
        doc! {"insert": "c", "documents": [{"_id": 1}]},
        doc! {"insert": "c", "documents": [{"_id": ObjectId::new()}, {"_id": "guess"}]},
        upsert(doc! {"_id": "guess"}, doc! {"$set": {"n": 3}}),
        upsert(doc! {"n": 9}, doc! {"$setOnInsert": {"_id": 7}}),
        upsert(doc! {"n": 9}, doc! {"_id": 7}),
        doc! {"update": "c", "updates": [{"q": {"n": 9}, "u": pipeline, "upsert": true}]},
        doc! {"findAndModify": "c", "query": {"_id": 5}, "update": {"$set": {"n": 1}}, "upsert": true},
        doc! {"aggregate": "c", "pipeline": [{"$set": {"_id": "$n"}}, merge], "cursor": {}},
    ] {
        command.insert("$db", db);
        let code = alice.fails(&command).await;
        assert!(matches!(code, 2 | 72), "{code}: {command}");
    }
    let found = batch(&alice.ok(&doc! {"find": "c", "$db": db}).await);
    assert_eq!(found.len(), 5, "{found:?}");
    // Another app without the policy is free, and what it takes is no obstacle.
    for id in [1, 7] {
        bob.ok(&doc! {"insert": "c", "documents": [{"_id": id}], "$db": db})
            .await;
    }
}
