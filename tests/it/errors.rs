//! Errors and replies in the app's own terms.

use bson::{Document, doc};
use mdb_tests::{RawClient, TestProxy, is_ok, keys, shared};

async fn world() -> (TestProxy, RawClient) {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let indexes = [
        doc! {"key": {"e": 1}, "name": "e_1", "unique": true},
        doc! {"key": {"x": 1, "y": -1}, "name": "x_y", "unique": true},
        doc! {"key": {"place": "2dsphere"}, "name": "place"},
    ];
    alice
        .ok(&doc! {"createIndexes": "c", "indexes": indexes.to_vec(), "$db": db})
        .await;
    let document = doc! {"_id": 1, "e": "one", "x": 1, "y": 2};
    alice
        .ok(&doc! {"insert": "c", "documents": [document], "$db": db})
        .await;
    (proxy, alice)
}

fn write_error(reply: &Document) -> Document {
    let errors = reply
        .get_array("writeErrors")
        .unwrap_or_else(|_| panic!("{reply}"));
    errors[0].as_document().unwrap().clone()
}

#[tokio::test]
async fn duplicates_are_told_as_on_a_private_collection() {
    let (proxy, mut alice) = world().await;
    let db = proxy.database_name();
    for (document, text, pattern, value) in [
        (
            doc! {"_id": 1, "e": "two", "x": 5},
            "_id_ dup key: { _id: 1 }",
            doc! {"_id": 1},
            doc! {"_id": 1},
        ),
        (
            doc! {"_id": 2, "e": "one", "x": 5},
            "e_1 dup key: { e: \"one\" }",
            doc! {"e": 1},
            doc! {"e": "one"},
        ),
        (
            doc! {"_id": 2, "e": "two", "x": 1, "y": 2},
            "x_y dup key: { x: 1, y: 2 }",
            doc! {"x": 1, "y": -1},
            doc! {"x": 1, "y": 2},
        ),
    ] {
        let reply = alice
            .command(&doc! {"insert": "c", "documents": [document], "$db": db})
            .await;
        let error = write_error(&reply);
        let text = format!("E11000 duplicate key error collection: {db}.c index: {text}");
        assert_eq!(error.get_str("errmsg").unwrap(), text);
        assert_eq!(error.get_document("keyPattern").unwrap(), &pattern);
        assert_eq!(error.get_document("keyValue").unwrap(), &value);
        // Their order is the server's: 6.0 has the text before the pattern.
        let mut fields = keys(&error);
        fields.sort_unstable();
        assert_eq!(
            fields,
            ["code", "errmsg", "index", "keyPattern", "keyValue"]
        );
    }
    let modify = doc! {"findAndModify": "c", "query": {"_id": 9}, "update": {"$set": {"e": "one"}}, "upsert": true, "$db": db};
    let reply = alice.command(&modify).await;
    assert_eq!(reply.get_i32("code").unwrap(), 11000);
    assert_eq!(reply.get_document("keyPattern").unwrap(), &doc! {"e": 1});
    let text = format!(
        "E11000 duplicate key error collection: {db}.c index: e_1 dup key: {{ e: \"one\" }}"
    );
    assert!(reply.get_str("errmsg").unwrap().ends_with(&text), "{reply}");
}

/// A foreign `_id` is taken: the one thing that shows. Its text tells no more.
#[tokio::test]
async fn a_foreign_id_is_told_as_an_own_one() {
    let (proxy, _alice) = world().await;
    let db = proxy.database_name();
    let mut bob = proxy.raw("bob").await;
    let reply = bob
        .command(&doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db})
        .await;
    let error = write_error(&reply);
    let text =
        format!("E11000 duplicate key error collection: {db}.c index: _id_ dup key: {{ _id: 1 }}");
    assert_eq!(error.get_str("errmsg").unwrap(), text);
    assert_eq!(error.get_document("keyValue").unwrap(), &doc! {"_id": 1});
}

#[tokio::test]
async fn replies_have_the_fields_of_a_mongos() {
    let (proxy, mut alice) = world().await;
    let db = proxy.database_name();
    let times = ["$clusterTime", "operationTime"];
    let mut wrong = Vec::new();
    for (command, fields) in [
        (
            doc! {"insert": "c", "documents": [{"_id": 5, "e": 5, "x": 5}]},
            vec!["n", "ok"],
        ),
        (
            doc! {"update": "c", "updates": [{"q": {"_id": 5}, "u": {"$set": {"z": 1}}}]},
            vec!["n", "nModified", "ok"],
        ),
        (
            doc! {"update": "c", "updates": [{"q": {"_id": 6}, "u": {"$set": {"e": 6, "x": 6}}, "upsert": true}]},
            vec!["n", "upserted", "nModified", "ok"],
        ),
        (
            doc! {"delete": "c", "deletes": [{"q": {"_id": 5}, "limit": 1}]},
            vec!["n", "ok"],
        ),
        (
            doc! {"findAndModify": "c", "query": {"_id": 6}, "remove": true},
            vec!["lastErrorObject", "value", "ok"],
        ),
        (doc! {"find": "c"}, vec!["cursor", "ok"]),
        (
            doc! {"aggregate": "c", "pipeline": [], "cursor": {}},
            vec!["cursor", "ok"],
        ),
        (doc! {"count": "c"}, vec!["n", "ok"]),
        (doc! {"distinct": "c", "key": "e"}, vec!["values", "ok"]),
        (
            doc! {"find": "c", "filter": {"$odd": 1}},
            vec!["ok", "errmsg", "code", "codeName"],
        ),
        (
            doc! {"find": "c", "filter": {"a": {"$in": 1}}},
            vec!["ok", "errmsg", "code", "codeName"],
        ),
        (
            doc! {"createIndexes": "c", "indexes": [{"key": {"k": 1}, "name": "k"}]},
            vec![
                "numIndexesBefore",
                "numIndexesAfter",
                "createdCollectionAutomatically",
                "commitQuorum",
                "ok",
            ],
        ),
        (
            doc! {"dropIndexes": "c", "index": "k"},
            vec!["nIndexesWas", "ok"],
        ),
    ] {
        let mut command = command;
        command.insert("$db", db);
        let reply = alice.command(&command).await;
        let found: Vec<&str> = keys(&reply)
            .into_iter()
            .filter(|key| !times.contains(key))
            .collect();
        if found != fields {
            wrong.push(format!("{command}: {fields:?}: {reply}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn texts_of_the_server_name_nothing_of_the_proxys() {
    let (proxy, mut alice) = world().await;
    let db = proxy.database_name();
    let physical = format!("{}.", proxy.slug("alice"));
    for command in [
        doc! {"find": "c", "filter": {"$text": {"$search": "x"}}},
        doc! {"find": "c", "filter": {"place": {"$near": "x"}}},
        doc! {"find": "c", "filter": {"flat": {"$near": [0, 0]}}},
        doc! {"find": "c", "hint": "nope"},
        doc! {"find": "c", "min": {"z": 1}, "max": {"z": 2}, "hint": "e_1"},
        doc! {"find": "c", "projection": {"a": 1, "b": 0}},
        doc! {"find": "c", "filter": {"$expr": {"$divide": [1, 0]}}},
        doc! {"insert": "c", "documents": [{"_id": 8, "e": 8, "x": 8, "place": "nowhere"}]},
        doc! {"aggregate": "c", "pipeline": [{"$replaceRoot": {"newRoot": "$e"}}], "cursor": {}},
        doc! {"aggregate": "c", "pipeline": [{"$project": {"x": {"$divide": ["$x", 0]}}}], "cursor": {}},
        doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$inc": {"e": 1}}}]},
        doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$push": {"x": 1}}}]},
        doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": [{"$replaceWith": "$e"}]}]},
        doc! {"createIndexes": "c", "indexes": [{"key": {"e": "2dsphere"}, "name": "bad"}]},
    ] {
        let mut command = command;
        command.insert("$db", db);
        let reply = alice.command(&command).await;
        assert!(
            !is_ok(&reply) || reply.contains_key("writeErrors"),
            "{command}: {reply}"
        );
        let text = reply.to_string();
        for word in ["app_id", proxy.slug("alice"), &physical, "127.0.0.1"] {
            assert!(!text.contains(word), "{command}: {word}: {text}");
        }
    }
}
