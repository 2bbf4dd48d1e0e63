//! Streams that begin elsewhere than now: after an event, at a time, with a token of somebody else.

use bson::{Bson, Document, doc};
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, is_ok, shared};

use super::{LAST, MARK, REACHES, Reach, Stream, comparables, keeps_images, lsid, open, opening};

fn insert(id: impl Into<Bson>, db: &str) -> Document {
    doc! {"insert": "c", "documents": [{"_id": id, "x": 1}], "$db": db}
}

fn update(id: i32, db: &str) -> Document {
    doc! {"update": "c", "updates": [{"q": {"_id": id}, "u": {"$set": {"x": 2}}}], "$db": db}
}

fn token(event: &Document) -> Document {
    event.get_document("_id").unwrap().clone()
}

fn names(events: &[Document]) -> Vec<&str> {
    let name = |event| Document::get_str(event, "operationType").unwrap();
    events.iter().map(name).collect()
}

/// Inserts the last document, and reads up to its event.
async fn rest(client: &mut RawClient, stream: Stream, db: &str) -> Vec<Document> {
    client.command(&insert(LAST, db)).await;
    stream.read(client).await
}

#[tokio::test]
async fn a_stream_resumes_after_each_of_its_events_also_in_another_proxy() {
    if !keeps_images().await {
        return;
    }
    let deployment = shared().await;
    let proxy = TestProxy::start(deployment, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let stream = open(&mut alice, &opening(Reach::Collection, db, doc! {}, &[])).await;
    for id in 1..4 {
        alice.ok(&insert(id, db)).await;
        bob.ok(&insert(format!("{MARK}-{id}"), db)).await;
        alice.ok(&update(id, db)).await;
    }
    let events = rest(&mut alice, stream, db).await;
    assert_eq!(events.len(), 7);
    let again = ProxyBuilder::new(deployment);
    let again = again
        .app_with_slug("alice", proxy.slug("alice"))
        .start()
        .await;
    let mut other = again.raw("alice").await;
    for (index, event) in events[..6].iter().enumerate() {
        for option in ["resumeAfter", "startAfter"] {
            for client in [&mut alice, &mut other] {
                let command = opening(Reach::Collection, db, doc! {option: token(event)}, &[]);
                let stream = open(client, &command).await;
                let found = stream.read(client).await;
                assert_eq!(found, events[index + 1..], "{option} {index}");
            }
        }
    }
}

#[tokio::test]
async fn the_past_of_others_stays_theirs() {
    if !keeps_images().await {
        return;
    }
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let stream = open(&mut bob, &opening(Reach::Database, db, doc! {}, &[])).await;
    let begun = bob.ok(&insert(format!("{MARK}-1"), db)).await;
    let begun = begun.get("operationTime").unwrap().clone();
    bob.ok(&doc! {"insert": "c", "documents": [{"_id": 1, MARK: 1}], "$db": db})
        .await;
    bob.ok(&update(1, db)).await;
    bob.ok(&doc! {"delete": "c", "deletes": [{"q": {"_id": 1}, "limit": 1}], "$db": db})
        .await;
    alice.ok(&insert(1, db)).await;
    alice.ok(&update(1, db)).await;
    bob.ok(&doc! {"insert": "c", "documents": [{"_id": LAST}], "$db": db})
        .await;
    let of_bob = stream.read(&mut bob).await;
    assert_eq!(
        names(&of_bob),
        ["insert", "insert", "update", "delete", "insert"]
    );
    let mut options = vec![doc! {"startAtOperationTime": begun}];
    for event in &of_bob {
        options.push(doc! {"resumeAfter": token(event)});
        options.push(doc! {"startAfter": token(event)});
    }
    // The last event stands behind the app's own.
    let mut opened = 0;
    for (index, options) in options.into_iter().enumerate() {
        for reach in REACHES {
            let mut options = options.clone();
            options.insert("fullDocument", "updateLookup");
            options.insert("fullDocumentBeforeChange", "whenAvailable");
            let command = opening(reach, db, options, &[]);
            let reply = alice.command(&command).await;
            if !is_ok(&reply) {
                // An event that the server does not find among the app's. It names the one that it met instead.
                let is_unknown = reply.get_i32("code").ok() == Some(280);
                assert!(
                    is_unknown && !reply.to_string().contains("_data"),
                    "{reply}"
                );
                continue;
            }
            let stream = open(&mut alice, &command).await;
            opened += 1;
            alice.command(&insert("more", db)).await;
            alice
                .ok(&doc! {"update": "c", "updates": [{"q": {"_id": "more"}, "u": {"$inc": {"n": 1}}}], "$db": db})
                .await;
            alice
                .ok(&doc! {"delete": "c", "deletes": [{"q": {"_id": "more"}, "limit": 1}], "$db": db})
                .await;
            let mut found = stream.clone();
            let is_end = |events: &[Document]| names(events).contains(&"delete");
            while !is_end(&found.events) {
                let more = doc! {"getMore": found.id, "collection": &*found.collection, "maxTimeMS": 500, "$db": &*found.db};
                found.events.extend(batch(&alice.ok(&more).await));
            }
            let text = format!("{:?}", found.events);
            assert!(!text.contains(MARK), "{index}: {text}");
            let keys: Vec<Bson> = found
                .events
                .iter()
                .map(|e| {
                    e.get_document("documentKey")
                        .unwrap()
                        .get("_id")
                        .unwrap()
                        .clone()
                })
                .collect();
            let own = keys
                .iter()
                .all(|key| [Bson::Int32(1), Bson::String("more".into())].contains(key));
            assert!(own, "{index} {reach:?}: {keys:?}");
        }
    }
    assert_eq!(opened, REACHES.len());
}

#[tokio::test]
async fn a_drop_is_followed_by_the_end_also_for_those_who_come_back() {
    if !keeps_images().await {
        return;
    }
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    alice.ok(&insert(1, db)).await;
    let stream = open(&mut alice, &opening(Reach::Collection, db, doc! {}, &[])).await;
    let id = stream.id;
    alice.ok(&doc! {"drop": "c", "$db": db}).await;
    let events = stream.read(&mut alice).await;
    assert_eq!(names(&events), ["drop", "invalidate"]);
    assert_eq!(
        alice
            .fails(&doc! {"getMore": id, "collection": "c", "$db": db})
            .await,
        43
    );
    let command = opening(
        Reach::Collection,
        db,
        doc! {"resumeAfter": token(&events[0])},
        &[],
    );
    let reply = alice.ok(&command).await;
    assert_eq!(
        (mdb_tests::cursor_id(&reply), batch(&reply).as_slice()),
        (0, &events[1..])
    );
    alice.ok(&insert(2, db)).await;
    // As by a server: behind the end only `startAfter` goes on.
    let behind = doc! {"resumeAfter": token(&events[1])};
    let refused = alice
        .fails(&opening(Reach::Collection, db, behind, &[]))
        .await;
    assert_eq!(refused, 260);
    let command = opening(
        Reach::Collection,
        db,
        doc! {"startAfter": token(&events[1])},
        &[],
    );
    let stream = open(&mut alice, &command).await;
    let after = rest(&mut alice, stream, db).await;
    assert_eq!(names(&after), ["insert", "insert"]);
    // A collection that is not there leaves no trace.
    let stream = open(&mut alice, &opening(Reach::Database, db, doc! {}, &[])).await;
    assert_eq!(alice.fails(&doc! {"drop": "nowhere", "$db": db}).await, 26);
    alice.ok(&insert("seen", db)).await;
    alice.ok(&doc! {"dropDatabase": 1, "$db": db}).await;
    let events = stream.read(&mut alice).await;
    assert_eq!(
        names(&events),
        ["insert", "drop", "dropDatabase", "invalidate"]
    );
    let left = proxy.upstream().await;
    assert_eq!(left.list_collection_names().await.unwrap(), ["c"]);
    let documents = left.collection::<Document>("c");
    assert_eq!(documents.count_documents(doc! {}).await.unwrap(), 0);
}

/// Whose an event is, only the document before the change says: physical collections keep it as soon as a stream may need it.
#[tokio::test]
async fn collections_of_the_past_learn_to_keep_documents() {
    if !keeps_images().await {
        return;
    }
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let upstream = proxy.upstream().await;
    for collection in ["c", "d"] {
        let old = doc! {"_id": 1, "app_id": proxy.slug("alice"), "x": 1};
        upstream
            .collection(collection)
            .insert_one(old)
            .await
            .unwrap();
    }
    upstream.create_collection("later").await.unwrap();
    let mut streams = Vec::new();
    for reach in REACHES {
        streams.push((
            reach,
            open(&mut alice, &opening(reach, db, doc! {}, &[])).await,
        ));
    }
    for collection in ["c", "d"] {
        let delete =
            doc! {"delete": collection, "deletes": [{"q": {"_id": 1}, "limit": 1}], "$db": db};
        alice.ok(&delete).await;
    }
    for client in [&mut bob, &mut alice] {
        client
            .ok(&doc! {"insert": "later", "documents": [{"x": 1}], "$db": db})
            .await;
        client
            .ok(&doc! {"delete": "later", "deletes": [{"q": {}, "limit": 0}], "$db": db})
            .await;
    }
    alice.ok(&insert(LAST, db)).await;
    for (reach, stream) in streams {
        let events = stream.read(&mut alice).await;
        let expected: &[&str] = match reach {
            Reach::Collection => &["delete", "insert"],
            _ => &["delete", "delete", "insert", "delete", "insert"],
        };
        assert_eq!(names(&events), expected, "{reach:?}");
    }
}

#[tokio::test]
async fn the_session_of_a_transaction_is_the_clients() {
    if !keeps_images().await {
        return;
    }
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let plain = open(&mut alice, &opening(Reach::Collection, db, doc! {}, &[])).await;
    let stages = [doc! {"$addFields": {"lsid.id": "$lsid.id", "n": 1}}];
    let made = open(
        &mut alice,
        &opening(Reach::Collection, db, doc! {}, &stages),
    )
    .await;
    let mut command = insert(LAST, db);
    command.extend(
        doc! {"lsid": lsid(5), "txnNumber": 7_i64, "autocommit": false, "startTransaction": true},
    );
    alice.ok(&command).await;
    alice
        .ok(&doc! {"commitTransaction": 1, "lsid": lsid(5), "txnNumber": 7_i64, "autocommit": false, "$db": "admin"})
        .await;
    let events = plain.read(&mut alice).await;
    assert_eq!(events[0].get_document("lsid").unwrap(), &lsid(5));
    assert_eq!(events[0].get_i64("txnNumber").unwrap(), 7);
    // What a stage may have put there is not turned into anybody's session.
    let events = made.read(&mut alice).await;
    let session = events[0].get_document("lsid").unwrap();
    assert_eq!(mdb_tests::keys(session), ["id"]);
    assert_ne!(session, &lsid(5));
}

#[tokio::test]
async fn a_stream_waits_as_long_as_its_client_says_and_belongs_to_one_app() {
    if !keeps_images().await {
        return;
    }
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name().to_owned();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let command = opening(Reach::Collection, &db, doc! {}, &[]);
    let stream = open(&mut alice, &command).await;
    let more = doc! {"getMore": stream.id, "collection": "c", "maxTimeMS": 80_000, "$db": &db};
    assert_eq!(bob.fails(&more).await, 43);
    let mut writer = proxy.raw("alice").await;
    let (reply, _) = tokio::join!(alice.ok(&more), async {
        bob.ok(&insert("first", &db)).await;
        writer.ok(&insert(1, &db)).await
    });
    assert_eq!(names(&batch(&reply)), ["insert"]);
    let kill = doc! {"killCursors": "c", "cursors": [stream.id], "$db": &db};
    let killed = alice.ok(&kill).await;
    assert_eq!(
        killed.get_array("cursorsKilled").unwrap(),
        &[Bson::Int64(stream.id)]
    );
    assert_eq!(alice.fails(&more).await, 43);
}

#[tokio::test]
async fn a_collation_does_not_loosen_whose_events_they_are() {
    if !keeps_images().await {
        return;
    }
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    alice.ok(&insert("own", db)).await;
    // The same under strength 1, and not the app.
    let look_alike = proxy.slug("alice").to_uppercase();
    let upstream = proxy.upstream().await;
    let shared = upstream.collection::<Document>("c");
    let own = upstream.collection::<Document>(&format!("own@{look_alike}"));
    let nameless = upstream.collection::<Document>(&format!("@{look_alike}"));
    for reach in REACHES {
        let mut command = opening(reach, db, doc! {"fullDocument": "updateLookup"}, &[]);
        command.insert(
            "collation",
            doc! {"locale": "en", "strength": 1, "alternate": "shifted"},
        );
        let stream = open(&mut alice, &command).await;
        for owner in [
            look_alike.clone(),
            format!("~{look_alike}"),
            format!("~{look_alike}s"),
        ] {
            for collection in [&shared, &own, &nameless] {
                let document = doc! {"app_id": &owner, "~dropped": "collection", "x": MARK};
                collection.insert_one(document).await.unwrap();
                let all = doc! {"app_id": &owner};
                collection
                    .update_many(all.clone(), doc! {"$set": {"x": 5}})
                    .await
                    .unwrap();
                collection.delete_many(all).await.unwrap();
            }
        }
        nameless.drop().await.unwrap();
        let events = rest(&mut alice, stream, db).await;
        assert_eq!(comparables(&events).len(), 1, "{reach:?}: {events:?}");
        alice
            .ok(&doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0}], "$db": db})
            .await;
    }
}
