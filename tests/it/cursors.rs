//! Cursors belong to the app that opened them.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use futures_util::TryStreamExt as _;
use mdb_tests::{RawClient, TestProxy, batch, cursor_id, shared};

const DOCUMENTS: i32 = 50_000;

fn lsid(byte: u8) -> Document {
    doc! {"id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] })}
}

async fn ten_documents(client: &mut RawClient, db: &str) {
    let documents: Vec<Document> = (0..10).map(|n| doc! {"_id": n}).collect();
    let insert = doc! {"insert": "c", "documents": documents, "$db": db};
    client.ok(&insert).await;
}

#[tokio::test]
async fn fifty_thousand_documents_come_in_batches() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let alice = proxy.database("alice").await.collection::<Document>("c");
    let bob = proxy.database("bob").await.collection::<Document>("c");
    alice
        .insert_many((0..DOCUMENTS).map(|n| doc! {"_id": n}))
        .await
        .unwrap();
    bob.insert_many((0..1000).map(|n| doc! {"_id": format!("b{n}")}))
        .await
        .unwrap();
    let mut found = alice
        .find(doc! {})
        .batch_size(1000)
        .sort(doc! {"_id": 1})
        .await
        .unwrap();
    let mut expected = 0;
    while let Some(document) = found.try_next().await.unwrap() {
        assert_eq!(document, doc! {"_id": expected});
        expected += 1;
    }
    assert_eq!(expected, DOCUMENTS);
    let stages = [
        doc! {"$match": {"_id": {"$gte": 0}}},
        doc! {"$project": {"twice": {"$multiply": ["$_id", 2]}}},
    ];
    let found: Vec<Document> = alice
        .aggregate(stages)
        .batch_size(7000)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found.len(), 50_000);
}

#[tokio::test]
async fn another_apps_cursor_is_one_that_does_not_exist() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    ten_documents(&mut alice, db).await;
    let opened = alice
        .ok(&doc! {"find": "c", "batchSize": 2, "$db": db})
        .await;
    let id = cursor_id(&opened);
    assert!(id > 0);
    let more = |id: i64| doc! {"getMore": id, "collection": "c", "batchSize": 2, "$db": db};
    let foreign = bob.command(&more(id)).await;
    let unknown = bob.command(&more(id ^ 1)).await;
    let text = |reply: &Document| reply.get_str("errmsg").unwrap().to_owned();
    assert_eq!(foreign.get_i32("code").unwrap(), 43);
    assert_eq!(text(&foreign), format!("cursor id {id} not found"));
    assert_eq!(text(&unknown), format!("cursor id {} not found", id ^ 1));
    let killed = bob
        .ok(&doc! {"killCursors": "c", "cursors": [id], "$db": db})
        .await;
    assert_eq!(
        killed.get_array("cursorsNotFound").unwrap(),
        &[Bson::Int64(id)]
    );
    assert_eq!(killed.get_array("cursorsKilled").unwrap().len(), 0);
    // Another connection of the same app may go on with it.
    let mut again = proxy.raw("alice").await;
    assert_eq!(
        batch(&again.ok(&more(id)).await),
        [doc! {"_id": 2}, doc! {"_id": 3}]
    );
    for (collection, database) in [("other", db), ("c", "elsewhere")] {
        let more = doc! {"getMore": id, "collection": collection, "$db": database};
        // As mongod 6.0.5: the cursor is the app's own, the namespace another one.
        assert_eq!(alice.fails(&more).await, 13);
    }
    let killed = alice
        .ok(&doc! {"killCursors": "c", "cursors": [id, 7_i64], "$db": db})
        .await;
    assert_eq!(
        killed.get_array("cursorsKilled").unwrap(),
        &[Bson::Int64(id)]
    );
    assert_eq!(
        killed.get_array("cursorsNotFound").unwrap(),
        &[Bson::Int64(7)]
    );
    assert_eq!(alice.fails(&more(id)).await, 43);
}

#[tokio::test]
async fn a_cursor_belongs_to_its_session() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    ten_documents(&mut alice, db).await;
    let find = doc! {"find": "c", "batchSize": 2, "lsid": lsid(1), "$db": db};
    let id = cursor_id(&alice.ok(&find).await);
    let more = |session: Option<u8>| {
        let mut more = doc! {"getMore": id, "collection": "c", "batchSize": 2, "$db": db};
        more.extend(session.map(|byte| ("lsid".to_owned(), lsid(byte).into())));
        more
    };
    for session in [None, Some(2)] {
        let reply = alice.command(&more(session)).await;
        assert!(!mdb_tests::is_ok(&reply), "{reply}");
    }
    assert_eq!(batch(&alice.ok(&more(Some(1))).await).len(), 2);
}

#[tokio::test]
async fn the_last_batch_closes_the_cursor() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let documents: Vec<Document> = (0..5).map(|n| doc! {"_id": n}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let id = cursor_id(
        &alice
            .ok(&doc! {"find": "c", "batchSize": 0, "$db": db})
            .await,
    );
    let more = doc! {"getMore": id, "collection": "c", "$db": db};
    let last = alice.ok(&more).await;
    assert_eq!((batch(&last).len(), cursor_id(&last)), (5, 0));
    assert_eq!(alice.fails(&more).await, 43);
    let single = doc! {"find": "c", "batchSize": 2, "singleBatch": true, "$db": db};
    assert_eq!(cursor_id(&alice.ok(&single).await), 0);
}

/// A tailable cursor needs a capped collection, which cannot be shared.
#[tokio::test]
async fn tailable_cursors_fail_as_on_an_ordinary_collection() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    alice
        .ok(&doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db})
        .await;
    let reply = alice
        .command(&doc! {"find": "c", "tailable": true, "awaitData": true, "$db": db})
        .await;
    assert_eq!(reply.get_i32("code").unwrap(), 2, "{reply}");
    let text = reply.get_str("errmsg").unwrap();
    assert!(
        text.contains("tailable cursor requested on non capped collection"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_said_of_a_cursor_has_the_clients_numbers() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    ten_documents(&mut alice, db).await;
    let find = doc! {"find": "c", "batchSize": 2, "lsid": lsid(1), "$db": db};
    let id = cursor_id(&alice.ok(&find).await);
    let session = |byte: u8| {
        let id = bson::Uuid::from_bytes([byte; 16]);
        format!("{id} - 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= -  - ")
    };
    let opened = format!(
        "Cannot run getMore on cursor {id}, which was created in session {}, ",
        session(1)
    );
    let inside =
        doc! {"lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false, "startTransaction": true};
    let cases = [
        (doc! {}, 50737, format!("{opened}without an lsid")),
        (
            doc! {"lsid": lsid(2)},
            50738,
            format!("{opened}in session {}", session(2)),
        ),
        (
            inside,
            50739,
            format!(
                "Cannot run getMore on cursor {id}, which was not created in a transaction, in transaction 1"
            ),
        ),
    ];
    // As 4.4.2, 5.0.4 and 6.0.5 put it, without users.
    for (with, code, text) in cases {
        let mut more = doc! {"getMore": id, "collection": "c", "$db": db};
        more.extend(with);
        let reply = alice.command(&more).await;
        assert_eq!(reply.get("code"), Some(&Bson::Int32(code)), "{reply}");
        assert_eq!(reply.get_str("errmsg").unwrap(), text);
    }
}
