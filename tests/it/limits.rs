//! Limits of an app: at the limit, and one beyond.

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use mdb_tests::{
    ProxyBuilder, RawClient, Section, TestProxy, cursor_id, eventually, is_ok, logs, raw, shared,
};
use mongodb::Client;

async fn start(limit: &str) -> TestProxy {
    let builder = ProxyBuilder::new(shared().await).app("alice").app("bob");
    builder.limit(limit).start().await
}

/// The reply is an error with this code that names the limit.
fn tells(reply: &Document, code: i32, limit: &str, labels: &[&str]) {
    assert_eq!(reply.get_i32("code").unwrap(), code, "{reply}");
    assert!(reply.get_str("errmsg").unwrap().contains(limit), "{reply}");
    let told: Vec<&str> = match reply.get_array("errorLabels") {
        Ok(told) => told.iter().filter_map(|label| label.as_str()).collect(),
        Err(_) => Vec::new(),
    };
    assert_eq!(told, labels);
}

fn session(number: u8) -> Document {
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![number; 16],
    };
    doc! {"id": id}
}

#[tokio::test]
async fn commands_at_the_same_time() {
    let proxy = start("commands_per_app_max: 1").await;
    let db = proxy.database_name();
    let insert = doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db};
    let find = doc! {"find": "c", "$db": db};
    let mut alice = proxy.raw("alice").await;
    alice.ok(&insert).await;
    // A command that waits for a transaction which holds its document.
    let direct = Client::with_uri_str(shared().await.uri()).await.unwrap();
    let mut transaction = direct.start_session().await.unwrap();
    transaction.start_transaction().await.unwrap();
    let upstream = direct.database(db).collection::<Document>("c");
    let update = doc! {"$set": {"held": 1}};
    let held = upstream.update_one(doc! {"_id": 1}, update);
    held.session(&mut transaction).await.unwrap();
    let update = doc! {
        "update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"x": 1}}}], "comment": "held up", "$db": db,
    };
    alice.send(0, &[Section::Body(&raw(&update))]).await;
    let admin = direct.database("admin");
    eventually("the update runs upstream", async || {
        let current = doc! {"currentOp": 1, "command.comment": "held up"};
        let reply = admin.run_command(current).await.unwrap();
        (!reply.get_array("inprog").unwrap().is_empty()).then_some(())
    })
    .await;

    let mut other: RawClient = proxy.raw("alice").await;
    let reply = other.command(&find).await;
    let labels = ["SystemOverloadedError", "RetryableError"];
    tells(&reply, 462, "commands_per_app_max", &labels);
    // What older drivers know of each kind of command.
    let mut write = doc! {
        "insert": "c", "documents": [{}], "lsid": session(1), "txnNumber": 1_i64, "$db": db,
    };
    let labels = [&labels[..], &["RetryableWriteError", "NoWritesPerformed"]].concat();
    tells(
        &other.command(&write).await,
        462,
        "commands_per_app_max",
        &labels,
    );
    write.extend(doc! {"autocommit": false, "startTransaction": true});
    let labels = [&labels[..2], &["TransientTransactionError"]].concat();
    tells(
        &other.command(&write).await,
        462,
        "commands_per_app_max",
        &labels,
    );
    // What the proxy answers itself, and what sets something free.
    other.ok(&doc! {"ping": 1, "$db": db}).await;
    other
        .ok(&doc! {"endSessions": [session(1)], "$db": "admin"})
        .await;
    let mut bob = proxy.raw("bob").await;
    bob.ok(&find).await;
    transaction.abort_transaction().await.unwrap();
    assert!(is_ok(&alice.receive().await.unwrap().document()));
    other.ok(&find).await;
    let metrics = proxy.proxy().metrics().render();
    let line = "mdb_runtime_limits_reached_total{limit=\"commands_per_app_max\"} 3";
    assert!(metrics.contains(line));
}

#[tokio::test]
async fn open_cursors() {
    logs::expect("an app holds too many open cursors");
    let proxy = start("cursors_per_app_max: 2").await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let documents: Vec<Document> = (0..9).map(|i| doc! {"_id": i}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let find = doc! {"find": "c", "batchSize": 2, "$db": db};
    let first = cursor_id(&alice.ok(&find).await);
    alice.ok(&find).await;
    let reply = alice.command(&find).await;
    tells(&reply, 146, "cursors_per_app_max", &[]);
    // What the server had opened for it is closed.
    assert_eq!(open_upstream(db).await, 2);
    alice
        .ok(&doc! {"killCursors": "c", "cursors": [first], "$db": db})
        .await;
    alice.ok(&find).await;
}

/// How many cursors are open on a collection of this database.
async fn open_upstream(db: &str) -> usize {
    let server = Client::with_uri_str(shared().await.uri()).await.unwrap();
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleCursors": true, "localOps": true}},
        doc! {"$match": {"type": "idleCursor", "ns": format!("{db}.c")}},
    ];
    let found = server.database("admin").aggregate(pipeline).await.unwrap();
    let found: Vec<Document> = futures_util::TryStreamExt::try_collect(found)
        .await
        .unwrap();
    found.len()
}

#[tokio::test]
async fn sessions() {
    let proxy = start("sessions_per_app_max: 2").await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let find = |number| doc! {"find": "c", "lsid": session(number), "$db": db};
    for number in [1, 2, 1] {
        alice.ok(&find(number)).await;
    }
    let reply = alice.command(&find(3)).await;
    tells(&reply, 261, "sessions_per_app_max", &[]);
    alice.ok(&doc! {"find": "c", "$db": db}).await;
    alice
        .ok(&doc! {"endSessions": [session(2)], "$db": "admin"})
        .await;
    alice.ok(&find(3)).await;
    let mut bob = proxy.raw("bob").await;
    bob.ok(&find(4)).await;
}
