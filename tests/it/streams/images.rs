//! Documents before and after a change, in streams on shared collections: those of collections that the app has asked for.

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, batch, cursor_id, shared, unique_name};

use super::{LAST, Stream, comparables, keeps_images, lsid, open};

/// Whatever the way to it, whether documents before and after changes are kept of a collection.
const COLLECTIONS: [(&str, bool); 8] = [
    ("asked", true),
    ("inside", true),
    ("later", true),
    ("moved", true),
    ("plain", false),
    ("undone", false),
    ("anew", false),
    ("written", false),
];

fn enabled(flag: bool) -> Document {
    doc! {"enabled": flag}
}

/// How the collections come about.
fn beginnings(db: &str) -> Vec<Document> {
    let option = "changeStreamPreAndPostImages";
    let create = |name: &str, flag: bool| doc! {"create": name, option: enabled(flag), "$db": db};
    let change = |name: &str, flag: bool| doc! {"collMod": name, option: enabled(flag), "$db": db};
    let insert = |name: &str| doc! {"insert": name, "documents": [{"_id": "first"}], "$db": db};
    let with = |mut command: Document, more: Document| {
        command.extend(doc! {"lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false});
        command.extend(more);
        command
    };
    let (from, to) = (format!("{db}.before"), format!("{db}.moved"));
    vec![
        create("asked", true),
        with(create("inside", true), doc! {"startTransaction": true}),
        with(doc! {"commitTransaction": 1, "$db": "admin"}, doc! {}),
        create("later", false),
        change("later", true),
        doc! {"collMod": "later", "validator": {"x": {"$ne": "no"}}, "$db": db},
        create("before", true),
        insert("before"),
        doc! {"renameCollection": from, "to": to, "$db": "admin"},
        doc! {"create": "plain", option: bson::Bson::Null, "$db": db},
        create("undone", true),
        change("undone", false),
        create("anew", true),
        doc! {"drop": "anew", "$db": db},
        doc! {"create": "anew", "$db": db},
        insert("written"),
    ]
}

/// One change of each kind.
fn changes(name: &str, db: &str) -> Vec<Document> {
    let update =
        |u: Document| doc! {"update": name, "updates": [{"q": {"_id": name}, "u": u}], "$db": db};
    vec![
        doc! {"insert": name, "documents": [{"_id": name, "x": 1}], "$db": db},
        update(doc! {"$set": {"x": 2}}),
        update(doc! {"whole": true}),
        doc! {"delete": name, "deletes": [{"q": {"_id": name}, "limit": 1}], "$db": db},
        doc! {"insert": name, "documents": [{"_id": LAST}], "$db": db},
        doc! {"delete": name, "deletes": [{"q": {"_id": LAST}, "limit": 1}], "$db": db},
    ]
}

fn stream(target: impl Into<bson::Bson>, options: Document, db: &str) -> Document {
    let pipeline = vec![doc! {"$changeStream": options}];
    doc! {"aggregate": target.into(), "pipeline": pipeline, "cursor": {}, "$db": db}
}

fn kinds() -> [Document; 4] {
    [
        doc! {"fullDocument": "whenAvailable", "fullDocumentBeforeChange": "whenAvailable"},
        doc! {"fullDocument": "whenAvailable"},
        doc! {"fullDocumentBeforeChange": "whenAvailable"},
        doc! {"fullDocument": "default", "fullDocumentBeforeChange": "off"},
    ]
}

/// Those that fail, and on which of what is missing.
fn required() -> [(Document, &'static str); 4] {
    [
        (doc! {"fullDocument": "required"}, "post-image"),
        (doc! {"fullDocumentBeforeChange": "required"}, "pre-image"),
        (
            doc! {"fullDocument": "required", "fullDocumentBeforeChange": "required"},
            "pre-image",
        ),
        (
            doc! {"fullDocument": "required", "fullDocumentBeforeChange": "whenAvailable"},
            "post-image",
        ),
    ]
}

/// What a stream gave until it failed, and what it failed with.
async fn until_failure(client: &mut RawClient, stream: Stream) -> (Vec<Document>, Document) {
    let mut events = stream.events;
    loop {
        let more = doc! {
            "getMore": stream.id, "collection": &*stream.collection, "maxTimeMS": 1000,
            "$db": &*stream.db,
        };
        let reply = client.command(&more).await;
        if !mdb_tests::is_ok(&reply) {
            return (comparables(&events), reply);
        }
        assert_ne!(cursor_id(&reply), 0);
        events.extend(batch(&reply));
        // What follows the missing document is not to be seen.
        assert!(!format!("{events:?}").contains(LAST), "{events:?}");
    }
}

/// Each collection with the options that its list shows.
async fn listed(client: &mut RawClient, db: &str) -> Vec<(String, Document)> {
    let list = doc! {"listCollections": 1, "$db": db};
    let mut shown: Vec<(String, Document)> = batch(&client.ok(&list).await)
        .iter()
        .map(|entry| {
            let options = entry.get_document("options").unwrap();
            (entry.get_str("name").unwrap().to_owned(), options.clone())
        })
        .collect();
    shown.sort_by(|a, b| a.0.cmp(&b.0));
    shown
}

/// What one side shows: its list, the events of each stream, and what streams fail with that require what is missing.
#[derive(Debug, PartialEq)]
struct Shown {
    options: Vec<(String, Document)>,
    events: Vec<Vec<Document>>,
    failures: Vec<(Vec<Document>, i32)>,
}

async fn shown(client: &mut RawClient, db: &str) -> Shown {
    for command in beginnings(db) {
        client.ok(&command).await;
    }
    let options = listed(client, db).await;
    let mut streams = Vec::new();
    let mut failing = Vec::new();
    for (name, is_asked) in COLLECTIONS {
        for options in kinds() {
            streams.push(open(client, &stream(name, options, db)).await);
        }
        for (options, missing) in required() {
            let opened = open(client, &stream(name, options, db)).await;
            if is_asked {
                streams.push(opened);
            } else {
                failing.push((opened, missing));
            }
        }
    }
    for (name, _) in COLLECTIONS {
        for change in changes(name, db) {
            client.ok(&change).await;
        }
    }
    // Streams on the database go on to the end of all collections.
    for options in kinds() {
        streams.push(open(client, &stream(1, options, db)).await);
    }
    for (name, _) in COLLECTIONS {
        for change in changes(name, db).into_iter().take(4) {
            client.ok(&change).await;
        }
    }
    let last = doc! {"insert": "asked", "documents": [{"_id": LAST}], "$db": db};
    client.ok(&last).await;
    let mut events = Vec::new();
    for stream in streams {
        let mut read = comparables(&stream.read(client).await);
        let last = |event: &Document| {
            let key = event.get_document("documentKey").unwrap();
            key.get_str("_id").is_ok_and(|id| id == LAST)
        };
        let end = read.iter().position(last).unwrap();
        read.truncate(end);
        events.push(read);
    }
    let mut failures = Vec::new();
    for (stream, missing) in failing {
        let (events, reply) = until_failure(client, stream).await;
        let text = reply.get_str("errmsg").unwrap();
        let said = format!("the {missing} was not found for");
        assert!(text.contains(&said), "{reply}");
        assert_eq!(reply.get_str("codeName").unwrap(), "NoMatchingDocument");
        failures.push((events, reply.get_i32("code").unwrap()));
    }
    Shown {
        options,
        events,
        failures,
    }
}

/// Another app has the same collections, with the other options.
async fn be_otherwise(bob: &mut RawClient, db: &str) {
    for (name, is_asked) in COLLECTIONS {
        let create =
            doc! {"create": name, "changeStreamPreAndPostImages": enabled(!is_asked), "$db": db};
        bob.ok(&create).await;
        let documents = [doc! {"_id": format!("bob's {name}")}];
        bob.ok(&doc! {"insert": name, "documents": &documents[..], "$db": db})
            .await;
    }
}

#[tokio::test]
async fn documents_before_and_after_changes_are_those_that_the_app_asked_for() {
    if !keeps_images().await {
        return;
    }
    let private = Deployment::replica_set(1).start().await.unwrap();
    let builder = ProxyBuilder::new(shared().await);
    let proxy = builder.app("alice").app("bob").start().await;
    let db = proxy.database_name();
    let mut bob = proxy.raw("bob").await;
    be_otherwise(&mut bob, db).await;
    let theirs = listed(&mut bob, db).await;
    let address = private.hosts()[0].parse().unwrap();
    let expected = shown(&mut RawClient::connect(address).await, db).await;
    let mut alice = proxy.raw("alice").await;
    let found = shown(&mut alice, db).await;
    assert_eq!(found.options, expected.options);
    for (found, expected) in found.events.iter().zip(&expected.events) {
        assert!(!expected.is_empty());
        assert_eq!(found, expected);
    }
    assert_eq!(found, expected);
    assert_eq!(listed(&mut bob, db).await, theirs);
}

#[tokio::test]
async fn what_an_app_asked_one_proxy_for_another_one_shows() {
    if !keeps_images().await {
        return;
    }
    let slug = unique_name("alice");
    let start = async || {
        let builder = ProxyBuilder::new(shared().await);
        builder.app_with_slug("alice", &slug).start().await
    };
    let (one, other) = (start().await, start().await);
    let db = one.database_name();
    let (mut a, mut b) = (one.raw("alice").await, other.raw("alice").await);
    let insert = doc! {"insert": "c", "documents": [{"_id": 0}], "$db": db};
    b.ok(&insert).await;
    for flag in [true, false, true] {
        let change =
            doc! {"collMod": "c", "changeStreamPreAndPostImages": enabled(flag), "$db": db};
        a.ok(&change).await;
        for target in [bson::Bson::from("c"), 1.into()] {
            let options = doc! {"fullDocumentBeforeChange": "whenAvailable"};
            let opened = open(&mut b, &stream(target, options, db)).await;
            for change in changes("c", db) {
                b.ok(&change).await;
            }
            let events = opened.read(&mut b).await;
            let shown = events[1].get_document("fullDocumentBeforeChange").is_ok();
            assert_eq!(shown, flag, "{events:?}");
        }
    }
}

/// In a stream on a database or the deployment by the collection of each event, as it was when the stream was opened.
#[tokio::test]
async fn a_stream_on_a_database_fails_on_a_collection_without_what_is_required() {
    if !keeps_images().await {
        return;
    }
    let builder = ProxyBuilder::new(shared().await);
    let proxy = builder.app("alice").app("bob").start().await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    be_otherwise(&mut bob, db).await;
    for command in beginnings(db) {
        alice.ok(&command).await;
    }
    for (target, database) in [(1, db), (1, "admin")] {
        for (options, missing) in required() {
            let mut options = options;
            if database == "admin" {
                options.insert("allChangesForCluster", true);
            }
            let opened = open(&mut alice, &stream(target, options, database)).await;
            // What another app has not asked for, or has, is nothing to this one.
            for (name, _) in COLLECTIONS {
                let q = doc! {"_id": format!("bob's {name}")};
                let updates = [doc! {"q": q, "u": {"$inc": {"n": 1}}}];
                let update = doc! {"update": name, "updates": &updates[..], "$db": db};
                bob.ok(&update).await;
            }
            for change in changes("asked", db).into_iter().take(4) {
                alice.ok(&change).await;
            }
            for change in changes("plain", db) {
                alice.ok(&change).await;
            }
            let (events, reply) = until_failure(&mut alice, opened).await;
            assert_eq!(reply.get_i32("code").unwrap(), 47, "{reply}");
            let said = format!("the {missing} was not found for");
            assert!(reply.get_str("errmsg").unwrap().contains(&said), "{reply}");
            for event in &events {
                let at = event.get_document("ns").unwrap();
                let is_insert = event.get_str("operationType").unwrap() == "insert";
                assert!(
                    at.get_str("coll").unwrap() == "asked" || is_insert,
                    "{event}"
                );
            }
        }
    }
}
