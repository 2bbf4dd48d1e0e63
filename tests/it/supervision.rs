//! An app looks after its own operations and sessions: `currentOp`, `killOp`, `killAllSessions`.

use bson::{Document, Uuid, doc};
use mdb_tests::{RawClient, TestProxy, cursor_id, eventually, shared};

async fn world() -> TestProxy {
    TestProxy::start(shared().await, &["alice", "bob"]).await
}

async fn in_progress(client: &mut RawClient) -> Vec<Document> {
    let reply = client.ok(&doc! {"currentOp": 1, "$db": "admin"}).await;
    let operations = reply.get_array("inprog").unwrap();
    let operations = operations.iter().map(|o| o.as_document().unwrap().clone());
    operations.collect()
}

/// A command of alice that waits for the lock of her open transaction, its `opid`, and the client that holds the lock.
async fn waiting(
    proxy: &TestProxy,
    db: &str,
) -> (tokio::task::JoinHandle<Document>, i32, RawClient) {
    let mut holder = proxy.raw("alice").await;
    holder
        .ok(&doc! {"create": "log", "capped": true, "size": 4096, "$db": db})
        .await;
    let begin = doc! {
        "find": "log", "lsid": lsid(9), "txnNumber": 1_i64, "autocommit": false, "startTransaction": true,
        "$db": db,
    };
    holder.ok(&begin).await;
    let mut alice = proxy.raw("alice").await;
    let drop = doc! {"drop": "log", "$db": db};
    let task = tokio::spawn(async move { alice.command(&drop).await });
    let opid = eventually("the operation", async || {
        let found = in_progress(&mut holder).await;
        let shown = |o: &&Document| o.get_document("command").unwrap().contains_key("drop");
        let found = found.iter().find(shown)?;
        assert_eq!(found.get_str("ns").unwrap(), format!("{db}.log"));
        Some(found.get_i32("opid").unwrap())
    })
    .await;
    (task, opid, holder)
}

#[tokio::test]
async fn operations_are_seen_and_ended_by_their_own_app_only() {
    let proxy = world().await;
    let (task, opid, _holder) = waiting(&proxy, proxy.database_name()).await;
    let mut bob = proxy.raw("bob").await;
    let kill = doc! {"killOp": 1, "op": opid, "$db": "admin"};
    for client in [&mut bob, &mut proxy.raw("alice-read").await] {
        let seen = in_progress(client).await;
        assert_eq!(seen.len(), 1, "{seen:?}");
        assert!(
            seen[0]
                .get_document("command")
                .unwrap()
                .contains_key("currentOp")
        );
        let reply = client.ok(&kill).await;
        assert_eq!(reply.get_str("info").unwrap(), "attempting to kill op");
    }
    let mut alice = proxy.raw("alice").await;
    let seen = in_progress(&mut alice).await;
    assert!(
        seen.iter().any(|o| o.get_i32("opid").unwrap() == opid),
        "{seen:?}"
    );
    assert!(!task.is_finished());
    // It may have been seen before it had reached the server.
    let ended = eventually("the end", async || {
        alice.ok(&kill).await;
        task.is_finished().then_some(())
    });
    ended.await;
    let reply = task.await.unwrap();
    assert_eq!(reply.get_i32("code").unwrap(), 11601, "{reply}");
    assert_eq!(
        alice
            .fails(&doc! {"killOp": 1, "op": opid, "$db": "test"})
            .await,
        13
    );
    assert_eq!(
        alice
            .fails(&doc! {"killOp": 1, "op": "x", "$db": "admin"})
            .await,
        14
    );
}

fn lsid(byte: u8) -> Document {
    doc! {"id": Uuid::from_bytes([byte; 16])}
}

#[tokio::test]
async fn all_sessions_are_those_of_the_app() {
    let proxy = world().await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let mut cursors = Vec::new();
    for client in [&mut alice, &mut bob] {
        let documents: Vec<Document> = (0..5).map(|_| doc! {"x": 1}).collect();
        client
            .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
            .await;
        let find = doc! {"find": "c", "batchSize": 1, "lsid": lsid(1), "$db": db};
        cursors.push(cursor_id(&client.ok(&find).await));
        let begin = doc! {
            "insert": "c", "documents": [{"x": 2}], "lsid": lsid(2), "txnNumber": 1_i64,
            "autocommit": false, "startTransaction": true, "$db": db,
        };
        client.ok(&begin).await;
    }
    let mut other = proxy.raw("alice").await;
    let kill =
        doc! {"killAllSessions": [{"user": proxy.slug("bob"), "db": "admin"}], "$db": "admin"};
    assert_eq!(other.fails(&kill).await, 13);
    other
        .ok(&doc! {"killAllSessions": [], "$db": "admin"})
        .await;
    let commit = doc! {
        "commitTransaction": 1, "lsid": lsid(2), "txnNumber": 1_i64, "autocommit": false, "$db": "admin",
    };
    let more = |id: i64| doc! {"getMore": id, "collection": "c", "lsid": lsid(1), "$db": db};
    assert_eq!(alice.fails(&more(cursors[0])).await, 43);
    assert_eq!(alice.fails(&commit).await, 251);
    bob.ok(&more(cursors[1])).await;
    bob.ok(&commit).await;
    let again = doc! {"find": "c", "batchSize": 1, "lsid": lsid(3), "$db": db};
    let id = cursor_id(&alice.ok(&again).await);
    other.ok(&doc! {"killSessions": [], "$db": "admin"}).await;
    let more = doc! {"getMore": id, "collection": "c", "lsid": lsid(3), "$db": db};
    assert_eq!(alice.fails(&more).await, 43);
}

fn on_admin(command: &Document) -> Document {
    let mut command = command.clone();
    command.insert("$db", "admin");
    command
}

#[tokio::test]
async fn sessions_are_those_of_the_app() {
    let proxy = world().await;
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let db = proxy.database_name();
    let begin = doc! {
        "find": "c", "lsid": lsid(1), "txnNumber": 1_i64, "autocommit": false, "startTransaction": true, "$db": db,
    };
    bob.ok(&begin).await;
    let mut holder = proxy.raw("alice").await;
    holder.ok(&begin).await;
    let list = |options: Document, behind: Vec<Document>| {
        let mut pipeline = vec![doc! {"$listLocalSessions": options}];
        pipeline.extend(behind);
        doc! {"aggregate": 1, "pipeline": pipeline, "cursor": {}, "lsid": lsid(2), "$db": "admin"}
    };
    let ids = |reply: Document| -> Vec<Document> {
        let listed = mdb_tests::batch(&reply);
        let id = |session: &Document| session.get_document("_id").unwrap().clone();
        listed.iter().map(id).collect()
    };
    let own = list(doc! {}, Vec::new());
    assert_eq!(ids(alice.ok(&own).await), [lsid(2)]);
    let all = list(doc! {"allUsers": true}, Vec::new());
    assert_eq!(ids(alice.ok(&all).await), [lsid(1), lsid(2)]);
    // As drivers' own tests ask.
    let dummy = vec![
        doc! {"$limit": 1},
        doc! {"$addFields": {"dummy": "x"}},
        doc! {"$project": {"_id": 0, "dummy": 1}},
    ];
    let reply = alice.ok(&list(doc! {}, dummy)).await;
    assert_eq!(mdb_tests::batch(&reply), [doc! {"dummy": "x"}]);
    let mut reader = proxy.raw("alice-read").await;
    assert_eq!(ids(reader.ok(&own).await), [lsid(2)]);
    assert_eq!(reader.fails(&all).await, 13);
    for (options, code) in [(doc! {"users": []}, 40415), (doc! {"x": 1}, 40415)] {
        assert_eq!(alice.fails(&list(options, Vec::new())).await, code);
    }
}

#[tokio::test]
async fn operations_are_chosen_by_conditions_and_stages() {
    let proxy = world().await;
    let (task, opid, mut holder) = waiting(&proxy, proxy.database_name()).await;
    let ns = format!("{}.log", proxy.database_name());
    let found = |reply: &Document| -> Vec<i32> {
        let listed = reply.get_array("inprog").map_or_else(
            |_| mdb_tests::batch(reply),
            |listed| {
                let listed = listed.iter().map(|o| o.as_document().unwrap().clone());
                listed.collect()
            },
        );
        listed.iter().map(|o| o.get_i32("opid").unwrap()).collect()
    };
    let all = doc! {"$currentOp": {"allUsers": true}};
    for command in [
        doc! {"currentOp": 1, "ns": &ns},
        doc! {"currentOp": 1, "command.drop": "log", "secs_running": {"$gte": 0}},
        doc! {"currentOp": 1, "$or": [{"op": "query"}, {"ns": {"$regex": "log$"}}]},
        doc! {"aggregate": 1, "pipeline": [&all, {"$match": {"ns": &ns}}], "cursor": {}},
        doc! {"aggregate": 1, "pipeline": [&all, {"$match": {"command.drop": "log"}}, {"$set": {"x": 1}}], "cursor": {"batchSize": 0}},
    ] {
        let reply = holder.ok(&on_admin(&command)).await;
        assert_eq!(found(&reply), [opid], "{command}");
    }
    let whole = doc! {"aggregate": 1, "pipeline": [&all], "cursor": {}, "$db": "admin"};
    let reply = holder.ok(&whole).await;
    assert!(found(&reply).contains(&opid), "{reply}");
    let cursor = reply.get_document("cursor").unwrap();
    assert_eq!(cursor.get_str("ns").unwrap(), "admin.$cmd.aggregate");
    // Another app finds nothing by any of them, and no stage reads a collection behind the operations.
    let mut bob = proxy.raw("bob").await;
    let by_name = doc! {"currentOp": 1, "ns": &ns, "$db": "admin"};
    assert!(found(&bob.ok(&by_name).await).is_empty());
    let staged = doc! {"aggregate": 1, "pipeline": [&all, {"$match": {"ns": &ns}}], "cursor": {}, "$db": "admin"};
    assert!(found(&bob.ok(&staged).await).is_empty());
    let join = doc! {"$lookup": {"from": "log", "pipeline": [], "as": "x"}};
    for (command, code) in [
        (
            doc! {"aggregate": 1, "pipeline": [&all, join], "cursor": {}},
            13,
        ),
        (
            doc! {"aggregate": 1, "pipeline": [{"$currentOp": {"x": true}}], "cursor": {}},
            9,
        ),
        (
            doc! {"aggregate": 1, "pipeline": [{"$currentOp": {"allUsers": 1}}], "cursor": {}},
            9,
        ),
        (
            doc! {"aggregate": 1, "pipeline": [{"$currentOp": 1}], "cursor": {}},
            9,
        ),
        (
            doc! {"aggregate": 1, "pipeline": [{"$match": {}}, &all], "cursor": {}},
            13,
        ),
        (doc! {"currentOp": 1, "nope": 1}, 40415),
        (doc! {"currentOp": 1, "$where": "1"}, 40415),
    ] {
        let command = on_admin(&command);
        assert_eq!(bob.fails(&command).await, code, "{command}");
    }
    let mut reader = proxy.raw("alice-read").await;
    assert_eq!(reader.fails(&whole).await, 13);
    holder
        .ok(&doc! {"killOp": 1, "op": opid, "$db": "admin"})
        .await;
    drop(task);
}
