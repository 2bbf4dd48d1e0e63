//! Session ids are each app's own.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_tests::{TestProxy, is_since, shared};
use mongodb::Collection;

fn lsid(byte: u8) -> Document {
    doc! {"id": Bson::Binary(Binary { subtype: BinarySubtype::Uuid, bytes: vec![byte; 16] })}
}

#[tokio::test]
async fn a_write_of_one_app_is_never_taken_for_the_repetition_of_anothers() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let modify = |id: &str| {
        doc! {
            "findAndModify": "c", "query": {"_id": id}, "update": {"$inc": {"n": 1}}, "upsert": true,
            "new": true, "lsid": lsid(1), "txnNumber": 1_i64, "$db": db,
        }
    };
    let value = |reply: Document| reply.get_document("value").unwrap().clone();
    assert_eq!(
        value(alice.ok(&modify("a")).await),
        doc! {"_id": "a", "n": 1}
    );
    assert_eq!(value(bob.ok(&modify("b")).await), doc! {"_id": "b", "n": 1});
    // The own repetition is one: the same answer, and nothing done.
    let again = alice.ok(&modify("a")).await;
    // 6.0.5 tells of the repetition, 5.0.4 does not.
    let told = is_since(shared().await, "6.0");
    assert_eq!(again.get_i32("retriedStmtId").ok(), told.then_some(0));
    assert_eq!(value(again), doc! {"_id": "a", "n": 1});
    let insert = doc! {"insert": "c", "documents": [{"x": 1}], "lsid": lsid(2), "txnNumber": 1_i64, "$db": db};
    for client in [&mut alice, &mut bob] {
        let reply = client.ok(&insert).await;
        assert!(!reply.contains_key("retriedStmtIds"), "{reply}");
        let reply = client.ok(&insert).await;
        let retried = vec![Bson::Int32(0)];
        assert_eq!(
            reply.get_array("retriedStmtIds").ok(),
            told.then_some(&retried)
        );
    }
    // A higher number of one app does not push out a lower one of another.
    let mut higher = insert.clone();
    higher.insert("txnNumber", 10_i64);
    alice.ok(&higher).await;
    let mut next = insert;
    next.insert("txnNumber", 2_i64);
    bob.ok(&next).await;
    assert_eq!(alice.fails(&next).await, 225);
    let count = async |client: &mut mdb_tests::RawClient| {
        client
            .ok(&doc! {"count": "c", "query": {"x": 1}, "$db": db})
            .await
            .get_i32("n")
            .unwrap()
    };
    assert_eq!((count(&mut alice).await, count(&mut bob).await), (2, 2));
}

#[tokio::test]
async fn sessions_are_started_refreshed_and_ended() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut alice = proxy.raw("alice").await;
    let started = alice.ok(&doc! {"startSession": 1, "$db": "admin"}).await;
    assert_eq!(mdb_tests::keys(&started)[..2], ["id", "timeoutMinutes"]);
    let id = started.get_document("id").unwrap().clone();
    let find = doc! {"find": "c", "lsid": id.clone(), "$db": proxy.database_name()};
    alice.ok(&find).await;
    for command in ["refreshSessions", "endSessions", "killSessions"] {
        alice
            .ok(&doc! {command: [id.clone()], "$db": "admin"})
            .await;
    }
    for (command, code) in [
        (doc! {"endSessions": 1, "$db": "admin"}, 14),
        (doc! {"killSessions": [{"id": 1}], "$db": "admin"}, 14),
        (doc! {"endSessions": [{"id": 1}], "$db": "admin"}, 14),
    ] {
        assert_eq!(alice.fails(&command).await, code, "{command}");
    }
}

#[tokio::test]
async fn causal_reads_see_the_writes_before_them() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let client = proxy.client("alice").await;
    let things: Collection<Document> = client.database(proxy.database_name()).collection("c");
    let mut session = client
        .start_session()
        .causal_consistency(true)
        .await
        .unwrap();
    for n in 0..20 {
        things
            .insert_one(doc! {"_id": n})
            .session(&mut session)
            .await
            .unwrap();
        let found = things
            .find_one(doc! {"_id": n})
            .session(&mut session)
            .await
            .unwrap();
        assert!(found.is_some());
    }
    let mut snapshot = client.start_session().snapshot(true).await.unwrap();
    let first = things
        .count_documents(doc! {})
        .session(&mut snapshot)
        .await
        .unwrap();
    things.insert_one(doc! {"_id": 100}).await.unwrap();
    let second = things
        .count_documents(doc! {})
        .session(&mut snapshot)
        .await
        .unwrap();
    assert_eq!((first, second), (20, 20));
}
