use bson::doc;
use mdb_tests::{TestProxy, shared};

#[tokio::test]
async fn smoke() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let mut raw = proxy.raw("alice").await;
    let reply = raw.ok(&doc! {"insert": "c", "documents": [{"_id": 1}], "$db": proxy.database_name()}).await;
    assert_eq!(reply.get_i32("n").unwrap(), 1);
    let alice = proxy.database("alice").await;
    let n = alice.collection::<bson::Document>("c").count_documents(doc! {}).await.unwrap();
    assert_eq!(n, 1);
}
