//! The graceful end.

use std::time::Duration;

use bson::doc;
use mdb_tests::{ProxyBuilder, Section, TestProxy, eventually, is_ok, logs, raw, shared};
use mongodb::Client;

/// A command that takes a while: it must wait for a transaction that holds its document.
#[tokio::test]
async fn a_running_command_is_finished() {
    let mut proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name().to_owned();
    let mut alice = proxy.raw("alice").await;
    alice
        .ok(&doc! {"insert": "c", "documents": [{"_id": 1}], "$db": &db})
        .await;
    let direct = Client::with_uri_str(shared().await.uri()).await.unwrap();
    let mut session = direct.start_session().await.unwrap();
    session.start_transaction().await.unwrap();
    let upstream = direct.database(&db).collection::<bson::Document>("c");
    upstream
        .update_one(doc! {"_id": 1}, doc! {"$set": {"held": 1}})
        .session(&mut session)
        .await
        .unwrap();
    let update = doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"x": 1}}}], "comment": "awaited", "$db": &db};
    alice.send(0, &[Section::Body(&raw(&update))]).await;
    let admin = direct.database("admin");
    eventually("the update runs upstream", async || {
        let current = doc! {"currentOp": 1, "command.comment": "awaited"};
        let reply = admin.run_command(current).await.unwrap();
        (!reply.get_array("inprog").unwrap().is_empty()).then_some(())
    })
    .await;
    let mut idle = proxy.raw("alice").await;
    let address = proxy.address();
    let ending = tokio::spawn(proxy.take().shut_down());
    eventually("no new clients", async || {
        tokio::net::TcpStream::connect(address)
            .await
            .is_err()
            .then_some(())
    })
    .await;
    assert!(!ending.is_finished());
    session.commit_transaction().await.unwrap();
    let reply = alice.receive().await.unwrap().document();
    assert_eq!(reply.get_i32("nModified").unwrap(), 1, "{reply}");
    ending.await.unwrap();
    assert!(alice.is_closed().await);
    assert!(idle.is_closed().await);
}

/// Statements of an open transaction, and its end, are served while the proxy drains; with it the drain ends.
#[tokio::test]
async fn an_open_transaction_comes_to_its_end() {
    let builder = ProxyBuilder::new(shared().await).limit("shutdown_grace: 60s");
    let mut proxy = builder.app("alice").start().await;
    let db = proxy.database_name().to_owned();
    let mut alice = proxy.raw("alice").await;
    let insert = doc! {"insert": "c", "documents": [{"_id": 1, "x": 0}], "$db": &db};
    alice.ok(&insert).await;
    let id = bson::Binary {
        subtype: bson::spec::BinarySubtype::Uuid,
        bytes: vec![1; 16],
    };
    let within = doc! {"lsid": {"id": id}, "txnNumber": 1_i64, "autocommit": false};
    let raise = doc! {
        "update": "c", "updates": [{"q": {"_id": 1}, "u": {"$inc": {"x": 1}}}], "$db": &db,
    };
    let mut first = raise.clone();
    first.extend(within.clone());
    first.insert("startTransaction", true);
    alice.ok(&first).await;
    let address = proxy.address();
    let ending = tokio::spawn(proxy.take().shut_down());
    eventually("no new clients", async || {
        let connected = tokio::net::TcpStream::connect(address).await;
        connected.is_err().then_some(())
    })
    .await;
    let mut second = raise;
    second.extend(within.clone());
    alice.ok(&second).await;
    assert!(!ending.is_finished());
    let mut commit = doc! {"commitTransaction": 1, "$db": "admin"};
    commit.extend(within);
    alice.ok(&commit).await;
    ending.await.unwrap();
    assert!(alice.is_closed().await);
    let stored = proxy.upstream().await.collection::<bson::Document>("c");
    let stored = stored.find_one(doc! {"_id": 1}).await.unwrap().unwrap();
    assert_eq!(stored.get_i32("x").unwrap(), 2);
}

#[tokio::test]
async fn the_grace_ends() {
    let builder = ProxyBuilder::new(shared().await).limit("shutdown_grace: 500ms");
    let mut proxy = builder.app("alice").start().await;
    logs::expect("the grace is over");
    let db = proxy.database_name().to_owned();
    let mut alice = proxy.raw("alice").await;
    alice
        .ok(&doc! {"insert": "c", "documents": [{"_id": 1}], "$db": &db})
        .await;
    let slow = doc! {
        "startTransaction": true, "autocommit": false, "txnNumber": 1_i64, "find": "c",
        "lsid": {"id": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![1; 16] }}, "$db": &db,
    };
    // The command's name must come first.
    let mut first = doc! {"find": "c"};
    first.extend(slow);
    alice.ok(&first).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), proxy.shut_down()).await;
    assert!(
        ended.is_ok(),
        "an open transaction does not hold up the end for ever"
    );
    while let Some(reply) = alice.receive().await {
        assert!(!is_ok(&reply.document()));
    }
}
