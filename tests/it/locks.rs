//! What changes a shared collection waits for transactions to end, and no other app waits behind it.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_tests::{RawClient, TestProxy, is_ok, shared};

/// Another app's commands while a change waits. Each must be done within [`PATIENCE_MILLIS`], or the server ends it (50).
const COMMANDS: usize = 200;
const PATIENCE_MILLIS: i32 = 3000;

fn in_transaction(mut command: Document, database: &str) -> Document {
    let bytes = vec![1; 16];
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes,
    };
    let session = doc! {"id": Bson::Binary(id)};
    command
        .extend(doc! {"lsid": session, "txnNumber": 1_i64, "autocommit": false, "$db": database});
    command
}

/// Changes of `c`, on which an index `y` is.
fn changes(db: &str) -> Vec<Document> {
    let keyed = |name: &str| doc! {"key": {name: 1}, "name": name};
    let expiring = doc! {"key": {"z": 1}, "name": "z", "expireAfterSeconds": 100};
    let rename =
        doc! {"renameCollection": format!("{db}.c"), "to": format!("{db}.e"), "$db": "admin"};
    let out = |to: &str| doc! {"aggregate": "c", "pipeline": [{"$match": {"x": 1}}, {"$out": to}], "cursor": {}};
    let here = [
        out("o"),
        out("c"),
        doc! {"createIndexes": "c", "indexes": [keyed("x")]},
        doc! {"createIndexes": "c", "indexes": [expiring]},
        doc! {"dropIndexes": "c", "index": "y"},
        doc! {"dropIndexes": "c", "index": "*"},
        doc! {"collMod": "c", "index": {"name": "y", "hidden": true}},
        doc! {"drop": "c"},
        doc! {"dropDatabase": 1},
    ];
    let at_home = |mut change: Document| {
        change.insert("$db", db);
        change
    };
    here.into_iter().map(at_home).chain([rename]).collect()
}

async fn stock(client: &mut RawClient, db: &str) {
    let insert = doc! {"insert": "c", "documents": [{"x": 1}], "$db": db};
    client.ok(&insert).await;
    let y = doc! {"key": {"y": 1}, "name": "y"};
    let create = doc! {"createIndexes": "c", "indexes": [y], "$db": db};
    client.ok(&create).await;
}

async fn nobody_waits_behind(at: usize) {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let change = changes(db).swap_remove(at);
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    stock(&mut alice, db).await;
    stock(&mut bob, db).await;
    let begin = doc! {"insert": "c", "documents": [{"x": 2}], "startTransaction": true};
    alice.ok(&in_transaction(begin, db)).await;
    let mut other = proxy.raw("alice").await;
    let said = change.to_string();
    let changing = tokio::spawn(async move { other.command(&change).await });
    for n in 0..COMMANDS {
        let command = if n % 2 == 0 {
            doc! {"find": "c", "maxTimeMS": PATIENCE_MILLIS, "$db": db}
        } else {
            doc! {"insert": "c", "documents": [{"x": 3}], "maxTimeMS": PATIENCE_MILLIS, "$db": db}
        };
        let reply = bob.command(&command).await;
        assert!(is_ok(&reply), "{said}: {reply}");
    }
    assert!(!changing.is_finished(), "{said}: it does not wait");
    let commit = in_transaction(doc! {"commitTransaction": 1}, "admin");
    alice.ok(&commit).await;
    let changed = changing.await.unwrap();
    assert!(is_ok(&changed), "{said}: {changed}");
    let count = doc! {"count": "c", "$db": db};
    let kept = bob.ok(&count).await;
    assert_eq!(kept.get_i32("n").unwrap(), 101, "{said}");
}

#[tokio::test]
async fn what_a_pipeline_puts_in_the_place_of_a_collection() {
    nobody_waits_behind(0).await;
    nobody_waits_behind(1).await;
}

#[tokio::test]
async fn a_new_index() {
    nobody_waits_behind(2).await;
    nobody_waits_behind(3).await;
}

#[tokio::test]
async fn an_index_that_goes() {
    nobody_waits_behind(4).await;
    nobody_waits_behind(5).await;
}

#[tokio::test]
async fn an_index_that_changes() {
    nobody_waits_behind(6).await;
}

#[tokio::test]
async fn a_collection_that_goes() {
    nobody_waits_behind(7).await;
    nobody_waits_behind(8).await;
    nobody_waits_behind(9).await;
}
