//! `bypassDocumentValidation`: an app passes over validators of its own, never over an operator's on a shared collection.

use bson::{Document, doc};
use mdb_tests::{RawClient, TestProxy, shared};

const INVALID: i32 = 121;
const UNAUTHORIZED: i32 = 13;

/// Every way to write a document without `n` into `c`, past its validator.
fn writes(db: &str) -> [Document; 5] {
    let merge = doc! {"$merge": {"into": "c", "whenMatched": "replace"}};
    let ways = [
        doc! {"insert": "c", "documents": [{"_id": 10}]},
        doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": {"x": 1}}]},
        doc! {"update": "c", "updates": [{"q": {"_id": 11}, "u": {"$set": {"x": 1}}, "upsert": true}]},
        doc! {"findAndModify": "c", "query": {"_id": 2}, "update": {"$unset": {"n": 1}}},
        doc! {"aggregate": "source", "pipeline": [merge], "cursor": {}},
    ];
    ways.map(|mut way| {
        way.extend(doc! {"bypassDocumentValidation": true, "$db": db});
        way
    })
}

/// The code of a command or of its first statement.
async fn code(client: &mut RawClient, command: &Document) -> Option<i32> {
    let reply = client.command(command).await;
    let statement = reply.get_array("writeErrors").ok();
    let statement = statement.and_then(|errors| errors.first()?.as_document());
    statement.unwrap_or(&reply).get_i32("code").ok()
}

async fn furnish(client: &mut RawClient, db: &str) {
    let documents = vec![doc! {"_id": 1, "n": 1}, doc! {"_id": 2, "n": 2}];
    for command in [
        doc! {"insert": "c", "documents": documents, "$db": db},
        doc! {"insert": "source", "documents": [{"_id": 20}], "$db": db},
    ] {
        client.ok(&command).await;
    }
}

#[tokio::test]
async fn own_validators_are_passed_over_by_those_who_may() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let create = doc! {"create": "c", "validator": {"n": {"$exists": true}}, "$db": db};
    alice.ok(&create).await;
    furnish(&mut alice, db).await;
    let mut writer = proxy.raw("alice-write").await;
    for write in writes(db) {
        assert_eq!(
            code(&mut writer, &write).await,
            Some(UNAUTHORIZED),
            "{write}"
        );
        let mut held = write.clone();
        held.insert("bypassDocumentValidation", false);
        assert_eq!(code(&mut writer, &held).await, Some(INVALID), "{held}");
        assert_eq!(code(&mut alice, &write).await, None, "{write}");
    }
}

#[tokio::test]
async fn validators_of_an_operator_hold_on_shared_collections() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    furnish(&mut alice, db).await;
    let validator = doc! {"collMod": "c", "validator": {"n": {"$exists": true}}};
    proxy.upstream().await.run_command(validator).await.unwrap();
    for write in writes(db) {
        assert_eq!(code(&mut alice, &write).await, Some(INVALID), "{write}");
    }
}
