//! What the proxy does by its own driver for one app does not stop it from doing the same for another.

use bson::{Document, doc};
use mdb_tests::{Section, TestProxy, eventually, is_ok, raw, shared};
use mongodb::Client;

/// More than the driver has connections.
const DROPS: i32 = 40;

/// One app drops many collections, each with a document that a transaction holds.
#[tokio::test]
async fn long_drops_of_one_app_do_not_hold_up_another() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let direct = Client::with_uri_str(shared().await.uri()).await.unwrap();
    let mut transaction = direct.start_session().await.unwrap();
    for number in 0..DROPS {
        let insert = doc! {"insert": format!("c{number}"), "documents": [{"x": 1}], "$db": db};
        alice.ok(&insert).await;
    }
    transaction.start_transaction().await.unwrap();
    for number in 0..DROPS {
        let held = direct
            .database(db)
            .collection::<Document>(&format!("c{number}"));
        let held = held.update_one(doc! {"x": 1}, doc! {"$set": {"x": 2}});
        held.session(&mut transaction).await.unwrap();
    }
    let mut dropping = Vec::new();
    for number in 0..DROPS {
        let mut client = proxy.raw("alice").await;
        let drop = doc! {"drop": format!("c{number}"), "$db": db};
        client.send(0, &[Section::Body(&raw(&drop))]).await;
        dropping.push(client);
    }
    let admin = direct.database("admin");
    eventually("drops are under way", async || {
        let own = doc! {"$regex": format!("^{db}.")};
        let current = doc! {"currentOp": 1, "ns": own, "op": {"$in": ["remove", "update"]}};
        let reply = admin.run_command(current).await.unwrap();
        (reply.get_array("inprog").unwrap().len() > 1).then_some(())
    })
    .await;

    let mut bob = proxy.raw("bob").await;
    bob.ok(&doc! {"insert": "new", "documents": [{"x": 1}], "$db": db})
        .await;
    bob.ok(&doc! {"listCollections": 1, "$db": db}).await;
    bob.ok(&doc! {"createIndexes": "new", "indexes": [{"key": {"x": 1}, "name": "x"}], "$db": db})
        .await;
    bob.ok(&doc! {"drop": "new", "$db": db}).await;

    transaction.abort_transaction().await.unwrap();
    // Those that waited for their turn longer than the proxy waits for its own driver were not begun (6).
    for client in &mut dropping {
        let reply = client.receive().await.unwrap().document();
        let is_late = reply.get_i32("code").is_ok_and(|code| code == 6);
        assert!(is_ok(&reply) || is_late, "{reply}");
    }
}
