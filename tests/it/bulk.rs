//! 100,000 documents through the official driver.

use bson::{Document, doc};
use mdb_tests::{TestProxy, shared};
use mongodb::Collection;

const DOCUMENTS: i32 = 100_000;

#[tokio::test]
async fn a_hundred_thousand_documents_are_inserted_updated_and_deleted() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let alice: Collection<Document> = proxy.database("alice").await.collection("many");
    let bob: Collection<Document> = proxy.database("bob").await.collection("many");
    bob.insert_many((0..100).map(|n| doc! {"_id": format!("b{n}"), "n": n}))
        .await
        .unwrap();
    let documents = (0..DOCUMENTS).map(|n| doc! {"_id": n, "n": n, "text": "some text to carry"});
    let inserted = alice.insert_many(documents).ordered(false).await.unwrap();
    assert_eq!(inserted.inserted_ids.len(), 100_000);
    assert_eq!(alice.count_documents(doc! {}).await.unwrap(), 100_000);
    let updated = alice
        .update_many(doc! {}, doc! {"$inc": {"n": 1}})
        .await
        .unwrap();
    assert_eq!(updated.modified_count, 100_000);
    assert_eq!(bob.count_documents(doc! {"n": 0}).await.unwrap(), 1);
    let half = alice
        .delete_many(doc! {"n": {"$lte": DOCUMENTS / 2}})
        .await
        .unwrap();
    assert_eq!(half.deleted_count, 50_000);
    assert_eq!(
        alice.delete_many(doc! {}).await.unwrap().deleted_count,
        50_000
    );
    assert_eq!(bob.count_documents(doc! {}).await.unwrap(), 100);
}

/// As drivers send it: 100,000 statements in one message, each of which grows by the app's condition.
#[tokio::test]
async fn a_hundred_thousand_statements_come_in_one_message() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let mut raw = proxy.raw("alice").await;
    let db = proxy.database_name();
    let n = |reply: &Document, field: &str| reply.get_i32(field).unwrap();
    let send = async |raw: &mut mdb_tests::RawClient,
                      command: Document,
                      name: &str,
                      documents: Vec<Document>| {
        let documents: Vec<_> = documents.iter().map(mdb_tests::raw).collect();
        let body = mdb_tests::raw(&command);
        let sections = [
            mdb_tests::Section::Body(&body),
            mdb_tests::Section::Sequence(name, &documents),
        ];
        let reply = raw.try_exchange(&sections).await.unwrap().document();
        assert!(mdb_tests::is_ok(&reply), "{reply}");
        reply
    };
    let documents = (0..DOCUMENTS).map(|n| doc! {"_id": n, "n": 0}).collect();
    let insert = doc! {"insert": "many", "ordered": false, "$db": db};
    assert_eq!(
        n(&send(&mut raw, insert, "documents", documents).await, "n"),
        DOCUMENTS
    );
    let updates = (0..DOCUMENTS)
        .map(|n| doc! {"q": {"_id": n}, "u": {"$inc": {"n": 1}}})
        .collect();
    let update = doc! {"update": "many", "ordered": false, "$db": db};
    assert_eq!(
        n(
            &send(&mut raw, update, "updates", updates).await,
            "nModified"
        ),
        DOCUMENTS
    );
    let deletes = (0..DOCUMENTS)
        .map(|n| doc! {"q": {"_id": n}, "limit": 1})
        .collect();
    let delete = doc! {"delete": "many", "ordered": false, "$db": db};
    assert_eq!(
        n(&send(&mut raw, delete, "deletes", deletes).await, "n"),
        DOCUMENTS
    );
    let too_many: Vec<_> = (0..=DOCUMENTS)
        .map(|n| mdb_tests::raw(&doc! {"_id": n}))
        .collect();
    let body = mdb_tests::raw(&doc! {"insert": "many", "$db": db});
    let sections = [
        mdb_tests::Section::Body(&body),
        mdb_tests::Section::Sequence("documents", &too_many),
    ];
    let reply = raw.try_exchange(&sections).await.unwrap().document();
    assert_eq!(n(&reply, "code"), 16, "{reply}");
}
