//! Marked documents in every shared collection: if one comes back to another app, the reply is withheld.

use bson::{Document, doc};
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, eventually, logs, shared};

async fn world() -> (TestProxy, RawClient) {
    let builder = ProxyBuilder::new(shared().await);
    let proxy = builder.app("alice").app("bird").canary().start().await;
    let mut alice = proxy.raw("alice").await;
    let db = proxy.database_name();
    for id in 1..=2 {
        let insert = doc! {"insert": "c", "documents": [{"_id": id}], "$db": db};
        alice.ok(&insert).await;
    }
    (proxy, alice)
}

/// The document that was planted, once it is there.
async fn planted(proxy: &TestProxy) -> Document {
    let documents = proxy.upstream().await.collection::<Document>("c");
    let of_bird = doc! {"app_id": proxy.slug("bird")};
    eventually("the canary's document", async || {
        documents.find_one(of_bird.clone()).await.unwrap()
    })
    .await
}

#[tokio::test]
async fn the_app_does_not_see_it() {
    let (proxy, mut alice) = world().await;
    let db = proxy.database_name();
    let mark = planted(&proxy).await.get_str("_id").unwrap().to_owned();
    assert!(mark.starts_with("canary-"), "{mark}");
    let found = batch(&alice.ok(&doc! {"find": "c", "$db": db}).await);
    assert_eq!(found, [doc! {"_id": 1}, doc! {"_id": 2}]);
    let own = proxy
        .raw("bird")
        .await
        .ok(&doc! {"find": "c", "$db": db})
        .await;
    assert_eq!(batch(&own)[0].get_str("title").unwrap(), mark);
}

#[tokio::test]
async fn a_reply_with_it_is_withheld() {
    let (proxy, mut alice) = world().await;
    let db = proxy.database_name();
    let mark = planted(&proxy).await.get_str("_id").unwrap().to_owned();
    // As a hole in the rewriting would: the document passes for one of alice's.
    let documents = proxy.upstream().await.collection::<Document>("c");
    let leak = doc! {"$set": {"app_id": proxy.slug("alice")}};
    documents
        .update_one(doc! {"_id": &mark}, leak)
        .await
        .unwrap();
    logs::expect("a document of the canary in a reply to another app");
    let reply = alice.command(&doc! {"find": "c", "$db": db}).await;
    assert_eq!(reply.get_i32("code").unwrap(), 8, "{reply}");
    assert!(!reply.to_string().contains(&mark), "{reply}");
    let reply = alice
        .command(&doc! {"distinct": "c", "key": "title", "$db": db})
        .await;
    assert_eq!(reply.get_i32("code").unwrap(), 8, "{reply}");
    let one = doc! {"find": "c", "filter": {"_id": 1}, "$db": db};
    assert_eq!(batch(&alice.ok(&one).await).len(), 1);
}
