//! Collections and databases of an app, in shared physical ones.

use bson::{Document, doc};
use mdb_tests::{RawClient, TestProxy, batch, is_since, keys, shared};

async fn names(client: &mut RawClient, db: &str, filter: Document) -> Vec<String> {
    let list = doc! {"listCollections": 1, "nameOnly": true, "filter": filter, "$db": db};
    let mut names: Vec<String> = batch(&client.ok(&list).await)
        .iter()
        .map(|d| d.get_str("name").unwrap().to_owned())
        .collect();
    names.sort();
    names
}

async fn world() -> (TestProxy, RawClient, RawClient) {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    for (client, own) in [(&mut alice, "of_alice"), (&mut bob, "of_bob")] {
        for collection in [own, "both"] {
            client
                .ok(&doc! {"insert": collection, "documents": [{"x": 1}], "$db": db})
                .await;
        }
    }
    (proxy, alice, bob)
}

#[tokio::test]
async fn lists_show_the_apps_own_collections() {
    let (proxy, mut alice, mut bob) = world().await;
    let db = proxy.database_name();
    assert_eq!(names(&mut alice, db, doc! {}).await, ["both", "of_alice"]);
    assert_eq!(names(&mut bob, db, doc! {}).await, ["both", "of_bob"]);
    for (filter, expected) in [
        (doc! {"name": "both"}, vec!["both"]),
        (doc! {"name": "of_bob"}, vec![]),
        (
            doc! {"name": {"$in": ["both", "of_bob", "of_alice"]}},
            vec!["both", "of_alice"],
        ),
        (doc! {"name": {"$regex": "^of"}}, vec!["of_alice"]),
        (
            doc! {"type": "collection", "name": {"$ne": "both"}},
            vec!["of_alice"],
        ),
        (doc! {"type": "view"}, vec![]),
        (
            doc! {"$or": [{"type": "view"}, {"name": "both"}]},
            vec!["both"],
        ),
    ] {
        assert_eq!(
            names(&mut alice, db, filter.clone()).await,
            expected,
            "{filter}"
        );
    }
    let list = doc! {"listCollections": 1, "filter": {"name": "both"}, "$db": db};
    let (of_alice, of_bob) = (
        batch(&alice.ok(&list).await).remove(0),
        batch(&bob.ok(&list).await).remove(0),
    );
    assert_eq!(
        keys(&of_alice),
        ["name", "type", "options", "info", "idIndex"]
    );
    assert_eq!(
        of_alice.get_document("idIndex").unwrap(),
        &doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}
    );
    let uuid = |d: &Document| d.get_document("info").unwrap().get("uuid").unwrap().clone();
    assert_ne!(uuid(&of_alice), uuid(&of_bob));
    let names = proxy
        .database("alice")
        .await
        .list_collection_names()
        .await
        .unwrap();
    assert_eq!(names.len(), 2);
}

#[tokio::test]
async fn lists_show_the_apps_own_databases() {
    let (proxy, mut alice, mut bob) = world().await;
    let db = proxy.database_name();
    let other = format!("{db}_other");
    bob.ok(&doc! {"insert": "c", "documents": [{"x": 1}], "$db": &other})
        .await;
    let list = doc! {"listDatabases": 1, "nameOnly": true, "$db": "admin"};
    let databases = |reply: Document| -> Vec<String> {
        let databases = reply.get_array("databases").unwrap().iter();
        databases
            .map(|d| d.as_document().unwrap().get_str("name").unwrap().to_owned())
            .collect()
    };
    assert_eq!(databases(alice.ok(&list).await), [db]);
    assert_eq!(databases(bob.ok(&list).await), [db, &other]);
    let filtered = doc! {"listDatabases": 1, "filter": {"name": &other}, "$db": "admin"};
    assert_eq!(databases(alice.ok(&filtered).await), Vec::<String>::new());
    assert_eq!(databases(bob.ok(&filtered).await), [other]);
}

#[tokio::test]
async fn create_and_drop_are_the_apps_own() {
    let (proxy, mut alice, mut bob) = world().await;
    let db = proxy.database_name();
    // Bob's physical collection is no obstacle, the own one is.
    alice.ok(&doc! {"create": "of_bob", "$db": db}).await;
    assert_eq!(alice.fails(&doc! {"create": "of_bob", "$db": db}).await, 48);
    assert_eq!(alice.fails(&doc! {"create": "both", "$db": db}).await, 48);
    assert_eq!(
        names(&mut alice, db, doc! {}).await,
        ["both", "of_alice", "of_bob"]
    );
    let index = doc! {"key": {"x": 1}, "name": "x_1"};
    for client in [&mut alice, &mut bob] {
        client
            .ok(&doc! {"createIndexes": "both", "indexes": [index.clone()], "$db": db})
            .await;
    }
    let dropped = alice.ok(&doc! {"drop": "both", "$db": db}).await;
    assert_eq!(dropped.get_i32("nIndexesWas").unwrap(), 2);
    assert_eq!(dropped.get_str("ns").unwrap(), format!("{db}.both"));
    assert_eq!(alice.fails(&doc! {"drop": "both", "$db": db}).await, 26);
    assert_eq!(names(&mut alice, db, doc! {}).await, ["of_alice", "of_bob"]);
    assert_eq!(
        alice.fails(&doc! {"listIndexes": "both", "$db": db}).await,
        26
    );
    assert_eq!(
        batch(&bob.ok(&doc! {"listIndexes": "both", "$db": db}).await).len(),
        2
    );
    let count = doc! {"count": "both", "$db": db};
    assert_eq!(bob.ok(&count).await.get_i32("n").unwrap(), 1);
    // It begins anew with the next insert, without the old index.
    alice
        .ok(&doc! {"insert": "both", "documents": [{"y": 1}], "$db": db})
        .await;
    assert_eq!(alice.ok(&count).await.get_i32("n").unwrap(), 1);
    assert_eq!(
        batch(&alice.ok(&doc! {"listIndexes": "both", "$db": db}).await).len(),
        1
    );
}

#[tokio::test]
async fn drop_database_takes_the_apps_part() {
    let (proxy, mut alice, mut bob) = world().await;
    let db = proxy.database_name();
    let dropped = alice.ok(&doc! {"dropDatabase": 1, "$db": db}).await;
    // As 5.0.4 and 6.0.5; 4.4.2 names the database.
    let is_named = !is_since(shared().await, "5.0");
    assert_eq!(dropped.contains_key("dropped"), is_named, "{dropped}");
    assert_eq!(names(&mut alice, db, doc! {}).await, Vec::<String>::new());
    assert_eq!(names(&mut bob, db, doc! {}).await, ["both", "of_bob"]);
    assert_eq!(
        bob.ok(&doc! {"count": "both", "$db": db})
            .await
            .get_i32("n")
            .unwrap(),
        1
    );
    let nothing = alice.ok(&doc! {"dropDatabase": 1, "$db": db}).await;
    assert!(!nothing.contains_key("dropped"), "{nothing}");
}

#[tokio::test]
async fn an_empty_collection_is_a_collection() {
    let (proxy, mut alice, _bob) = world().await;
    let db = proxy.database_name();
    alice.ok(&doc! {"create": "empty", "$db": db}).await;
    assert_eq!(
        names(&mut alice, db, doc! {"name": "empty"}).await,
        ["empty"]
    );
    alice
        .ok(&doc! {"delete": "both", "deletes": [{"q": {}, "limit": 0}], "$db": db})
        .await;
    assert_eq!(names(&mut alice, db, doc! {"name": "both"}).await, ["both"]);
    assert_eq!(
        batch(&alice.ok(&doc! {"find": "nowhere", "$db": db}).await).len(),
        0
    );
    assert_eq!(
        names(&mut alice, db, doc! {"name": "nowhere"}).await,
        Vec::<String>::new()
    );
}

/// Documents that were there before the proxy: an administrator stamped them.
#[tokio::test]
async fn collections_from_before_the_proxy_are_served() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let old = proxy.upstream().await.collection::<Document>("old");
    let (a, b) = (proxy.slug("alice"), proxy.slug("bob"));
    // The field at the end, as others write it; one document is nobody's.
    let documents = [
        doc! {"_id": 1, "x": 1, "app_id": a},
        doc! {"_id": 2, "x": 1, "app_id": b},
        doc! {"_id": 3, "x": 1},
    ];
    old.insert_many(documents).await.unwrap();
    let mut alice = proxy.raw("alice").await;
    let found = batch(&alice.ok(&doc! {"find": "old", "$db": db}).await);
    assert_eq!(found, [doc! {"_id": 1, "x": 1}]);
    assert_eq!(names(&mut alice, db, doc! {}).await, ["old"]);
    let update = doc! {"update": "old", "updates": [{"q": {}, "u": {"$inc": {"x": 1}}, "multi": true}], "$db": db};
    assert_eq!(alice.ok(&update).await.get_i32("n").unwrap(), 1);
    assert_eq!(old.count_documents(doc! {"x": 1}).await.unwrap(), 2);
}

#[tokio::test]
async fn a_collection_with_a_collation_of_its_own_is_not_served() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let collation = doc! {"locale": "en", "strength": 1};
    proxy
        .upstream()
        .await
        .run_command(doc! {"create": "odd", "collation": collation})
        .await
        .unwrap();
    let mut alice = proxy.raw("alice").await;
    for command in [
        doc! {"find": "odd", "$db": db},
        doc! {"insert": "odd", "documents": [{"x": 1}], "$db": db},
        doc! {"delete": "odd", "deletes": [{"q": {}, "limit": 0}], "$db": db},
        doc! {"aggregate": "odd", "pipeline": [], "cursor": {}, "$db": db},
        doc! {"drop": "odd", "$db": db},
        doc! {"listIndexes": "odd", "$db": db},
        doc! {"createIndexes": "odd", "indexes": [{"key": {"x": 1}, "name": "x"}], "$db": db},
    ] {
        assert_eq!(alice.fails(&command).await, 72, "{command}");
    }
    // What another app has there under a slug that looks alike to the collation.
    let look_alike = doc! {"app_id": proxy.slug("alice").to_uppercase(), "x": 1};
    let documents = proxy.upstream().await.collection::<Document>("odd");
    documents.insert_one(look_alike).await.unwrap();
    assert!(names(&mut alice, db, doc! {}).await.is_empty());
    alice.ok(&doc! {"dropDatabase": 1, "$db": db}).await;
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 1);
}
