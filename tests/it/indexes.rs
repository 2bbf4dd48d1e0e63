//! Indexes of an app: its own names and definitions, over its own documents.

use bson::{Document, doc};
use mdb_tests::{RawClient, TestProxy, batch, is_since, shared};

async fn indexes(client: &mut RawClient, db: &str) -> Vec<Document> {
    batch(&client.ok(&doc! {"listIndexes": "c", "$db": db}).await)
}

fn create(db: &str, index: Document) -> Document {
    doc! {"createIndexes": "c", "indexes": [index], "$db": db}
}

/// A definition as it is asked for, which is also how it must be shown, apart from `v`.
fn definitions() -> Vec<Document> {
    vec![
        doc! {"key": {"a": 1}, "name": "a_1"},
        doc! {"key": {"a": -1, "b": 1}, "name": "desc"},
        doc! {"key": {"u": 1}, "name": "unique", "unique": true},
        doc! {"key": {"s": 1}, "name": "sparse", "sparse": true},
        doc! {"key": {"s": 1, "t": 1}, "name": "sparse_two", "sparse": true},
        doc! {"key": {"s": -1}, "name": "dense", "unique": true, "sparse": false},
        doc! {"key": {"p": 1}, "name": "partial", "partialFilterExpression": {"p": {"$gt": 5}}},
        doc! {"key": {"q": 1}, "name": "partial_and", "partialFilterExpression": {"$and": [{"q": 1}, {"r": 2}]}},
        doc! {"key": {"up": 1}, "name": "unique_partial", "unique": true, "partialFilterExpression": {"up": {"$exists": true}}},
        doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 3600},
        doc! {"key": {"place": "2dsphere"}, "name": "sphere", "2dsphereIndexVersion": 3},
        doc! {"key": {"flat": "2d"}, "name": "flat"},
        doc! {"key": {"h": "hashed"}, "name": "hashed"},
        doc! {"key": {"$**": 1}, "name": "wild", "wildcardProjection": {"x": 0}},
        doc! {"key": {"w.$**": 1}, "name": "wild_below"},
        doc! {"key": {"hidden": 1}, "name": "hidden", "hidden": true},
    ]
}

#[tokio::test]
async fn definitions_come_back_as_they_were_given() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    bob.ok(&create(
        db,
        doc! {"key": {"b": 1}, "name": "a_1", "unique": true},
    ))
    .await;
    let mut wrong = Vec::new();
    let mut expected = vec![doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"}];
    let mut definitions = definitions();
    if !is_since(shared().await, "6.0") {
        // Two are refused there, and a wildcard projection is shown in the server's own words.
        let is_newer = |d: &Document| {
            ["sparse_two", "partial_and", "wild"].contains(&d.get_str("name").unwrap_or_default())
        };
        definitions.retain(|definition| !is_newer(definition));
    }
    let first = definitions[0].clone();
    for (before, definition) in (1_i32..).zip(definitions) {
        let reply = alice.ok(&create(db, definition.clone())).await;
        let counts = (
            reply.get_i32("numIndexesBefore").unwrap(),
            reply.get_i32("numIndexesAfter").unwrap(),
        );
        if counts != (before, before + 1) {
            wrong.push(format!("{definition}: {reply}"));
        }
        let mut shown = doc! {"v": 2};
        shown.extend(definition);
        expected.push(shown);
    }
    for (shown, expected) in indexes(&mut alice, db).await.iter().zip(&expected) {
        // The order of the fields behind the name is the server's.
        let sorted = |d: &Document| {
            let mut fields: Vec<String> = d.iter().map(|(k, v)| format!("{k}: {v}")).collect();
            fields.sort();
            fields
        };
        if sorted(shown) != sorted(expected) {
            wrong.push(format!("{shown}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let again = alice.ok(&create(db, first)).await;
    assert_eq!(again.get_str("note").unwrap(), "all indexes already exist");
    let of_bob = [
        doc! {"v": 2, "key": {"_id": 1}, "name": "_id_"},
        doc! {"v": 2, "key": {"b": 1}, "name": "a_1", "unique": true},
    ];
    assert_eq!(indexes(&mut bob, db).await, of_bob);
}

#[tokio::test]
async fn a_text_index_searches_the_apps_own() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let text = doc! {"key": {"t": "text"}, "name": "t_text", "default_language": "english"};
    alice.ok(&create(db, text)).await;
    for (client, base) in [(&mut alice, 0), (&mut bob, 10)] {
        let documents: Vec<Document> = (0..3)
            .map(|n| doc! {"_id": base + n, "t": format!("word{n} common")})
            .collect();
        client
            .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
            .await;
    }
    let search = |text: &str| doc! {"find": "c", "filter": {"$text": {"$search": text}}, "sort": {"_id": 1}, "projection": {"_id": 1}, "$db": db};
    assert_eq!(
        batch(&alice.ok(&search("common")).await),
        [doc! {"_id": 0}, doc! {"_id": 1}, doc! {"_id": 2}]
    );
    assert_eq!(batch(&alice.ok(&search("word1")).await), [doc! {"_id": 1}]);
    assert_eq!(
        batch(&alice.ok(&search(proxy.slug("alice"))).await).len(),
        0
    );
    // A collection has one text index, whosever it is: that there is one shows in the code.
    assert!(matches!(bob.fails(&search("common")).await, 27 | 291));
    let second = doc! {"key": {"u": "text"}, "name": "u_text"};
    let reply = bob.command(&create(db, second)).await;
    assert!(matches!(reply.get_i32("code"), Ok(67 | 85)), "{reply}");
    for word in ["t_text", proxy.slug("alice"), "app_id"] {
        assert!(!reply.to_string().contains(word), "{word}: {reply}");
    }
    let shown = indexes(&mut alice, db).await.pop().unwrap();
    let key = doc! {"_fts": "text", "_ftsx": 1};
    assert_eq!(shown.get_document("key").unwrap(), &key, "{shown}");
    assert_eq!(shown.get_document("weights").unwrap(), &doc! {"t": 1});
    let drop = doc! {"dropIndexes": "c", "index": "t_text", "$db": db};
    alice.ok(&drop).await;
}

#[tokio::test]
async fn unique_means_unique_within_the_app() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let insert = |id: &str| doc! {"insert": "c", "documents": [{"_id": id, "e": 1}], "$db": db};
    bob.ok(&insert("b1")).await;
    bob.ok(&insert("b2")).await;
    alice
        .ok(&create(
            db,
            doc! {"key": {"e": 1}, "name": "e_1", "unique": true},
        ))
        .await;
    alice.ok(&insert("a1")).await;
    let reply = alice.command(&insert("a2")).await;
    let errors = reply.get_array("writeErrors").unwrap();
    assert_eq!(
        errors[0].as_document().unwrap().get_i32("code").unwrap(),
        11000
    );
    bob.ok(&insert("b3")).await;
    // An own definition of the same name, which the own documents break.
    let reply = bob
        .command(&create(
            db,
            doc! {"key": {"e": 1}, "name": "e_1", "unique": true},
        ))
        .await;
    assert_eq!(reply.get_i32("code").unwrap(), 11000, "{reply}");
    let text = reply.to_string();
    assert!(
        !text.contains("app_id") && !text.contains(&format!("{}.", proxy.slug("bob"))),
        "{text}"
    );
}

#[tokio::test]
async fn indexes_of_one_app_do_not_fail_the_writes_of_another() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    for definition in [
        doc! {"key": {"x": 1, "y": 1}, "name": "two_arrays"},
        doc! {"key": {"place": "2dsphere"}, "name": "sphere"},
        doc! {"key": {"flat": "2d"}, "name": "flat"},
        doc! {"key": {"h": "hashed"}, "name": "hashed"},
        doc! {"key": {"t": "text"}, "name": "text"},
        doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 0},
    ] {
        alice.ok(&create(db, definition)).await;
    }
    let awkward = doc! {
        "_id": 1, "x": [1, 2], "y": [3, 4], "place": "nowhere", "flat": "flat", "h": [1, 2], "t": "word",
        "language": 7, "at": bson::DateTime::from_millis(0),
    };
    bob.ok(&doc! {"insert": "c", "documents": [awkward.clone()], "$db": db})
        .await;
    assert_eq!(
        batch(&bob.ok(&doc! {"find": "c", "$db": db}).await),
        [awkward]
    );
    let documents = vec![doc! {"_id": 2, "x": [1], "y": [2]}];
    let reply = alice
        .command(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    assert!(reply.contains_key("writeErrors"), "{reply}");
}

#[tokio::test]
async fn hints_name_the_apps_own_indexes() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    alice
        .ok(&create(db, doc! {"key": {"n": -1}, "name": "by_n"}))
        .await;
    bob.ok(&create(db, doc! {"key": {"m": 1}, "name": "by_m"}))
        .await;
    for (client, base) in [(&mut alice, 0), (&mut bob, 10)] {
        let documents: Vec<Document> = (0..3)
            .map(|n| doc! {"_id": base + n, "n": n, "m": n})
            .collect();
        client
            .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
            .await;
    }
    let find =
        |hint: bson::Bson| doc! {"find": "c", "hint": hint, "projection": {"_id": 1}, "$db": db};
    let ids = |reply: Document| {
        batch(&reply)
            .iter()
            .map(|d| d.get_i32("_id").unwrap())
            .collect::<Vec<_>>()
    };
    for hint in ["by_n".into(), bson::Bson::from(doc! {"n": -1})] {
        assert_eq!(ids(alice.ok(&find(hint)).await), [2, 1, 0]);
    }
    for hint in ["_id_".into(), bson::Bson::from(doc! {"_id": 1})] {
        assert_eq!(ids(alice.ok(&find(hint)).await), [0, 1, 2]);
    }
    for hint in [
        "by_m".into(),
        "app_id_1".into(),
        bson::Bson::from(doc! {"m": 1}),
        doc! {"n": 1}.into(),
    ] {
        assert_eq!(alice.fails(&find(hint)).await, 2);
    }
    let hinted = |name: &str| doc! {"update": "c", "updates": [{"q": {}, "u": {"$set": {"x": 1}}, "hint": name, "multi": true}], "$db": db};
    assert_eq!(alice.ok(&hinted("by_n")).await.get_i32("n").unwrap(), 3);
    // An error of the statement alone, as on a server (4.4.2, 5.0.4, 6.0.5).
    let refused = alice.command(&hinted("by_m")).await;
    let errors = refused.get_array("writeErrors").unwrap();
    let error = errors[0].as_document().unwrap();
    assert_eq!(error.get_i32("code").unwrap(), 2, "{refused}");
    assert_eq!(refused.get_i32("n").unwrap(), 0, "{refused}");
    let bounds =
        doc! {"find": "c", "hint": "by_n", "min": {"n": 1}, "projection": {"_id": 1}, "$db": db};
    assert_eq!(ids(alice.ok(&bounds).await), [1, 0]);
    let bounds =
        doc! {"find": "c", "hint": "by_n", "max": {"n": 1}, "projection": {"_id": 1}, "$db": db};
    assert_eq!(ids(alice.ok(&bounds).await), [2]);
}

#[tokio::test]
async fn drops_take_the_apps_own() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    for client in [&mut alice, &mut bob] {
        for (name, key) in [
            ("a", doc! {"a": 1}),
            ("b", doc! {"b": 1}),
            ("c", doc! {"c": 1}),
        ] {
            client
                .ok(&create(db, doc! {"key": key, "name": name}))
                .await;
        }
    }
    let drop = |index: bson::Bson| doc! {"dropIndexes": "c", "index": index, "$db": db};
    let was = |reply: Document| reply.get_i32("nIndexesWas").unwrap();
    assert_eq!(was(alice.ok(&drop("a".into())).await), 4);
    assert_eq!(was(alice.ok(&drop(doc! {"b": 1}.into())).await), 3);
    for (index, code) in [
        ("a".into(), 27),
        (doc! {"b": 1}.into(), 27),
        ("_id_".into(), 72),
    ] {
        assert_eq!(alice.fails(&drop(index)).await, code);
    }
    assert_eq!(was(alice.ok(&drop("*".into())).await), 2);
    assert_eq!(indexes(&mut alice, db).await.len(), 1);
    assert_eq!(indexes(&mut bob, db).await.len(), 4);
    assert_eq!(was(bob.ok(&drop(vec!["a", "b"].into())).await), 4);
}

#[tokio::test]
async fn conflicting_definitions_have_the_servers_codes() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    bob.ok(&create(db, doc! {"key": {"z": 1}, "name": "n"}))
        .await;
    alice
        .ok(&create(db, doc! {"key": {"a": 1}, "name": "n"}))
        .await;
    let mut wrong = Vec::new();
    for (definition, code) in [
        (doc! {"key": {"b": 1}, "name": "n"}, 86),
        (doc! {"key": {"a": 1}, "name": "other"}, 85),
        (doc! {"key": {"a": 1}, "name": "n", "unique": true}, 86),
        (doc! {"key": {}, "name": "empty"}, 67),
        (doc! {"key": {"a": 1}}, 9),
        (doc! {"key": {"a": 1}, "name": "x", "odd": 1}, 197),
        (doc! {"key": {"a": "odd"}, "name": "x"}, 67),
    ] {
        let reply = alice.command(&create(db, definition.clone())).await;
        if reply.get_i32("code").ok() != Some(code) || reply.to_string().contains("app_id") {
            wrong.push(format!("{definition}: expected {code}: {reply}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `_id` may be indexed in other ways than the one that every collection has.
#[tokio::test]
async fn another_index_on_id_is_an_index() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let own = alice
        .ok(&create(db, doc! {"key": {"_id": 1}, "name": "_id_"}))
        .await;
    assert_eq!(own.get_i32("numIndexesAfter").unwrap(), 1);
    alice
        .ok(&create(
            db,
            doc! {"key": {"_id": "hashed"}, "name": "_id_hashed"},
        ))
        .await;
    let names: Vec<String> = indexes(&mut alice, db)
        .await
        .iter()
        .map(|d| d.get_str("name").unwrap().to_owned())
        .collect();
    assert_eq!(names, ["_id_", "_id_hashed"]);
}
