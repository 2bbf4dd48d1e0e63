//! Writing and reading one's own, beside another app that does the same.

use bson::{Document, RawDocumentBuf, doc};
use futures_util::TryStreamExt as _;
use mdb_tests::{RawClient, Section, TestProxy, shared};
use mongodb::Collection;
use mongodb::options::ReturnDocument;

async fn two() -> (TestProxy, Collection<Document>, Collection<Document>) {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let alice = proxy.database("alice").await.collection("things");
    let bob = proxy.database("bob").await.collection("things");
    (proxy, alice, bob)
}

async fn all(collection: &Collection<Document>) -> Vec<Document> {
    let found = collection
        .find(doc! {})
        .sort(doc! {"_id": 1})
        .await
        .unwrap();
    found.try_collect().await.unwrap()
}

#[tokio::test]
async fn each_app_sees_what_it_wrote() {
    let (proxy, alice, bob) = two().await;
    alice
        .insert_many([doc! {"_id": 1, "a": 1}, doc! {"a": 2, "_id": 2}])
        .await
        .unwrap();
    bob.insert_one(doc! {"_id": 3, "a": 1}).await.unwrap();
    assert_eq!(
        all(&alice).await,
        [doc! {"_id": 1, "a": 1}, doc! {"_id": 2, "a": 2}]
    );
    assert_eq!(all(&bob).await, [doc! {"_id": 3, "a": 1}]);
    let upstream = proxy
        .upstream()
        .await
        .collection::<RawDocumentBuf>("things");
    let stored: Vec<RawDocumentBuf> = upstream
        .find(doc! {})
        .sort(doc! {"_id": 1})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let (a, b) = (proxy.slug("alice"), proxy.slug("bob"));
    let expected = [
        doc! {"_id": 1, "app_id": a, "a": 1},
        doc! {"_id": 2, "app_id": a, "a": 2},
        doc! {"_id": 3, "app_id": b, "a": 1},
    ];
    for (stored, expected) in stored.iter().zip(&expected) {
        assert_eq!(stored.as_bytes(), bson::serialize_to_vec(expected).unwrap());
    }
    assert_eq!(stored.len(), expected.len());
}

#[tokio::test]
async fn updates_stay_inside_the_app() {
    let (_proxy, alice, bob) = two().await;
    for (collection, base) in [(&alice, 0), (&bob, 10)] {
        let documents = (1..=3).map(|n| doc! {"_id": base + n, "n": n, "list": [1, 2, 3]});
        collection.insert_many(documents).await.unwrap();
    }
    let before = all(&bob).await;
    let many = alice
        .update_many(doc! {}, doc! {"$inc": {"n": 10}})
        .await
        .unwrap();
    assert_eq!((many.matched_count, many.modified_count), (3, 3));
    let none = alice
        .update_one(doc! {"_id": 11}, doc! {"$set": {"n": 0}})
        .await
        .unwrap();
    assert_eq!(none.matched_count, 0);
    alice
        .replace_one(doc! {"n": 11}, doc! {"replaced": true})
        .await
        .unwrap();
    let stages = vec![doc! {"$set": {"twice": {"$multiply": ["$n", 2]}, "all": "$$ROOT"}}];
    alice.update_one(doc! {"_id": 2}, stages).await.unwrap();
    let filters = [doc! {"x": {"$gte": 2}}];
    let update = doc! {"$set": {"list.$[x]": 0}};
    alice
        .update_one(doc! {"_id": 3}, update)
        .array_filters(filters)
        .await
        .unwrap();
    let upserted = alice
        .update_one(doc! {"_id": 4, "k": 1}, doc! {"$set": {"n": 4}})
        .upsert(true)
        .await;
    assert_eq!(upserted.unwrap().upserted_id, Some(4.into()));
    let list = [1, 2, 3];
    let expected = [
        doc! {"_id": 1, "replaced": true},
        doc! {"_id": 2, "n": 12, "list": list.to_vec(), "all": {"_id": 2, "n": 12, "list": list.to_vec()}, "twice": 24},
        doc! {"_id": 3, "n": 13, "list": [1, 0, 0]},
        doc! {"_id": 4, "k": 1, "n": 4},
    ];
    let mut found = all(&alice).await;
    // New fields of a pipeline's stage come in the order that the server likes.
    found[1] = doc! {
        "_id": 2, "n": found[1].get("n").unwrap(), "list": found[1].get("list").unwrap(),
        "all": found[1].get("all").unwrap(), "twice": found[1].get("twice").unwrap(),
    };
    assert_eq!(found, expected);
    assert_eq!(all(&bob).await, before);
    let unchanged = alice
        .update_one(doc! {"_id": 4}, doc! {"$set": {"n": 4}})
        .await
        .unwrap();
    assert_eq!((unchanged.matched_count, unchanged.modified_count), (1, 0));
    let same = vec![doc! {"$replaceWith": "$$ROOT"}];
    let unchanged = alice.update_one(doc! {"_id": 4}, same).await.unwrap();
    assert_eq!((unchanged.matched_count, unchanged.modified_count), (1, 0));
}

#[tokio::test]
async fn deletes_stay_inside_the_app() {
    let (_proxy, alice, bob) = two().await;
    alice
        .insert_many((1..=3).map(|n| doc! {"_id": n}))
        .await
        .unwrap();
    bob.insert_many((11..=13).map(|n| doc! {"_id": n}))
        .await
        .unwrap();
    assert_eq!(
        alice
            .delete_one(doc! {"_id": 11})
            .await
            .unwrap()
            .deleted_count,
        0
    );
    assert_eq!(alice.delete_one(doc! {}).await.unwrap().deleted_count, 1);
    assert_eq!(alice.delete_many(doc! {}).await.unwrap().deleted_count, 2);
    assert_eq!(all(&alice).await, Vec::<Document>::new());
    assert_eq!(all(&bob).await.len(), 3);
}

#[tokio::test]
async fn find_and_modify_returns_the_apps_own() {
    let (_proxy, alice, bob) = two().await;
    alice
        .insert_many((1..=3).map(|n| doc! {"_id": n, "n": n}))
        .await
        .unwrap();
    bob.insert_one(doc! {"_id": 10, "n": 99}).await.unwrap();
    let sort = doc! {"n": -1};
    let first = alice
        .find_one_and_update(doc! {}, doc! {"$inc": {"n": 1}})
        .sort(sort.clone());
    let first = first.return_document(ReturnDocument::After).await.unwrap();
    assert_eq!(first, Some(doc! {"_id": 3, "n": 4}));
    let replaced = alice
        .find_one_and_replace(doc! {"_id": 1}, doc! {"r": 1})
        .await
        .unwrap();
    assert_eq!(replaced, Some(doc! {"_id": 1, "n": 1}));
    let removed = alice
        .find_one_and_delete(doc! {})
        .sort(sort)
        .projection(doc! {"n": 1, "_id": 0});
    assert_eq!(removed.await.unwrap(), Some(doc! {"n": 4}));
    let other = alice.find_one_and_delete(doc! {"_id": 10}).await.unwrap();
    assert_eq!(other, None);
    let new = alice
        .find_one_and_update(doc! {"_id": 7}, doc! {"$set": {"x": 1}})
        .upsert(true);
    let new = new.return_document(ReturnDocument::After).await.unwrap();
    assert_eq!(new, Some(doc! {"_id": 7, "x": 1}));
}

#[tokio::test]
async fn counts_and_distinct_values_are_the_apps_own() {
    let (_proxy, alice, bob) = two().await;
    alice
        .insert_many((0..5).map(|n| doc! {"_id": n, "k": n % 2}))
        .await
        .unwrap();
    bob.insert_many((10..40).map(|n| doc! {"_id": n, "k": n}))
        .await
        .unwrap();
    assert_eq!(alice.count_documents(doc! {}).await.unwrap(), 5);
    assert_eq!(alice.estimated_document_count().await.unwrap(), 5);
    assert_eq!(
        alice.count_documents(doc! {"k": {"$gt": 0}}).await.unwrap(),
        2
    );
    let values = alice.distinct("k", doc! {}).await.unwrap();
    assert_eq!(values, [bson::Bson::Int32(0), bson::Bson::Int32(1)]);
}

#[tokio::test]
async fn documents_come_in_the_order_in_which_they_were_inserted() {
    let (_proxy, alice, bob) = two().await;
    for n in [5, 1, 4, 2, 3] {
        alice.insert_one(doc! {"_id": n}).await.unwrap();
        bob.insert_one(doc! {"_id": n + 10}).await.unwrap();
    }
    let ids = async |backwards: bool| -> Vec<i32> {
        let natural = doc! {"$natural": if backwards { -1 } else { 1 }};
        let find = alice.find(doc! {}).sort(natural).await.unwrap();
        let found: Vec<Document> = find.try_collect().await.unwrap();
        found.iter().map(|d| d.get_i32("_id").unwrap()).collect()
    };
    let unsorted: Vec<Document> = alice
        .find(doc! {})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let unsorted: Vec<i32> = unsorted.iter().map(|d| d.get_i32("_id").unwrap()).collect();
    assert_eq!(unsorted, [5, 1, 4, 2, 3]);
    assert_eq!(ids(false).await, [5, 1, 4, 2, 3]);
    assert_eq!(ids(true).await, [3, 2, 4, 1, 5]);
}

/// Concurrent upserts of one `_id` never show the race that the server settles by itself on a private collection.
#[tokio::test]
async fn racing_upserts_by_id_all_succeed() {
    let (proxy, alice, _bob) = two().await;
    let client = proxy.client("alice").await;
    let things = client
        .database(proxy.database_name())
        .collection::<Document>("things");
    alice.insert_one(doc! {"_id": "warm"}).await.unwrap();
    let upserts = (0..200).map(|n| {
        let things = things.clone();
        async move {
            let update = doc! {"$inc": {"n": 1}};
            things
                .update_one(doc! {"_id": n / 10}, update)
                .upsert(true)
                .await
        }
    });
    for done in futures_util::future::join_all(upserts).await {
        done.unwrap();
    }
    let found: Vec<Document> = alice
        .find(doc! {"n": 10})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found.len(), 20);
}

#[tokio::test]
async fn a_field_of_that_name_below_the_top_is_the_apps_own() {
    let (_proxy, alice, bob) = two().await;
    bob.insert_one(doc! {"_id": 2, "o": {"app_id": "x"}})
        .await
        .unwrap();
    let document =
        doc! {"_id": 1, "o": {"app_id": "x"}, "l": [{"app_id": 1}], "App_id": 1, "app_id2": 2};
    alice.insert_one(&document).await.unwrap();
    for filter in [
        doc! {"o.app_id": "x"},
        doc! {"l.app_id": 1},
        doc! {"l": {"$elemMatch": {"app_id": 1}}},
        doc! {"App_id": 1, "app_id2": 2},
        doc! {"o": {"app_id": "x"}},
    ] {
        assert_eq!(
            alice.find_one(filter).await.unwrap(),
            Some(document.clone())
        );
    }
    let set = doc! {"$set": {"o.app_id": "y", "l.0.app_id": 3}};
    alice.update_one(doc! {}, set).await.unwrap();
    assert_eq!(
        alice
            .count_documents(doc! {"o.app_id": "y", "l.app_id": 3})
            .await
            .unwrap(),
        1
    );
}

async fn sequence(
    client: &mut RawClient,
    body: &Document,
    name: &str,
    documents: &[Document],
) -> Document {
    let raw = |document: &Document| RawDocumentBuf::try_from(document).unwrap();
    let documents: Vec<RawDocumentBuf> = documents.iter().map(raw).collect();
    let body = raw(body);
    let sections = [Section::Body(&body), Section::Sequence(name, &documents)];
    client.try_exchange(&sections).await.unwrap().document()
}

/// What hello promises is what a server promises; what lacks the room for the scope field is refused alone.
#[tokio::test]
async fn documents_of_the_largest_size() {
    let (proxy, ..) = two().await;
    let mut alice = proxy.raw("alice").await;
    let db = proxy.database_name();
    let hello = alice.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    let bytes_max = usize::try_from(hello.get_i32("maxBsonObjectSize").unwrap()).unwrap();
    assert_eq!(bytes_max, 16 * 1024 * 1024);
    // `{_id: 1, x: "…"}` takes 22 bytes besides the text; the field takes a kind, its name, a length, the slug.
    let stamp = 1 + "app_id\0".len() + 4 + proxy.slug("alice").len() + 1;
    let sized = |id: i32, bytes: usize| doc! {"_id": id, "x": "y".repeat(bytes - 22)};
    assert_eq!(bson::serialize_to_vec(&sized(1, 100)).unwrap().len(), 100);

    let fits = sized(1, bytes_max - stamp);
    alice
        .ok(&doc! {"insert": "things", "documents": [fits], "$db": db})
        .await;
    let documents = vec![sized(2, bytes_max - stamp + 1), doc! {"_id": 3}];
    let body = doc! {"insert": "things", "ordered": false, "$db": db};
    let reply = sequence(&mut alice, &body, "documents", &documents).await;
    let error = reply.get_array("writeErrors").unwrap()[0].as_document();
    let error = error.unwrap();
    assert_eq!(error.get_i32("code").ok(), Some(2), "{error}");
    assert!(
        error.get_str("errmsg").unwrap().contains("too large"),
        "{error}"
    );
    assert_eq!(reply.get_i32("n").ok(), Some(1), "{reply}");

    // 17419, as a server says of an update (6.0.5).
    let statements = vec![doc! {"q": {"_id": 3}, "u": {"x": "y".repeat(bytes_max - 20)}}];
    let body = doc! {"update": "things", "$db": db};
    let reply = sequence(&mut alice, &body, "updates", &statements).await;
    let error = reply.get_array("writeErrors").unwrap()[0].as_document();
    assert_eq!(error.unwrap().get_i32("code").ok(), Some(17419), "{reply}");
}

/// Whoever takes the proxy for a mongos looks for shards, and finds none.
#[tokio::test]
async fn nothing_is_sharded() {
    let (proxy, ..) = two().await;
    let mut alice = proxy.raw("alice").await;
    for name in ["collections", "shards", "version", "mongos"] {
        let find = doc! {"find": name, "filter": {"_id": "x"}, "$db": "config"};
        let reply = alice.ok(&find).await;
        let cursor = reply.get_document("cursor").unwrap();
        assert!(
            cursor.get_array("firstBatch").unwrap().is_empty(),
            "{reply}"
        );
        assert_eq!(mdb_tests::cursor_id(&reply), 0);
        let count = doc! {"count": name, "$db": "config"};
        assert_eq!(alice.ok(&count).await.get_i32("n").ok(), Some(0));
    }
    for refused in [
        doc! {"find": "transactions", "$db": "config"},
        doc! {"insert": "shards", "documents": [{"_id": 1}], "$db": "config"},
    ] {
        assert_eq!(alice.command(&refused).await.get_i32("code").ok(), Some(13));
    }
}
