//! What the proxy does by its own driver for some apps does not stop it from doing the same for another.

use bson::{Document, doc};
use mdb_tests::{Section, TestProxy, eventually, is_ok, raw, shared};
use mongodb::Client;

/// One app drops many collections: more than the driver has connections.
#[tokio::test]
async fn long_drops_of_one_app_do_not_hold_up_another() {
    drop_beside(&["alice"], 40).await;
}

/// Ten apps drop some collections each: together, and as many as each may at a time, more than the driver has connections.
#[tokio::test]
async fn long_drops_of_many_apps_do_not_hold_up_another() {
    let many = ["a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8", "a9"];
    drop_beside(&many, 5).await;
}

/// Each of these apps drops so many collections, each with a document that a transaction holds; bob works beside them.
async fn drop_beside(dropping: &[&str], drops: usize) {
    let apps = [dropping, &["bob"]].concat();
    let proxy = TestProxy::start(shared().await, &apps).await;
    let db = proxy.database_name();
    let direct = Client::with_uri_str(shared().await.uri()).await.unwrap();
    let mut transaction = direct.start_session().await.unwrap();
    let owned = dropping
        .iter()
        .flat_map(|app| (0..drops).map(move |number| (*app, format!("{app}-{number}"))));
    let owned: Vec<(&str, String)> = owned.collect();
    for (app, name) in &owned {
        let insert = doc! {"insert": name, "documents": [{"x": 1}], "$db": db};
        proxy.raw(app).await.ok(&insert).await;
    }
    transaction.start_transaction().await.unwrap();
    for (_, name) in &owned {
        let held = direct.database(db).collection::<Document>(name);
        let held = held.update_one(doc! {"x": 1}, doc! {"$set": {"x": 2}});
        held.session(&mut transaction).await.unwrap();
    }
    let mut clients = Vec::new();
    for (app, name) in &owned {
        let mut client = proxy.raw(app).await;
        let drop = doc! {"drop": name, "$db": db};
        client.send(0, &[Section::Body(&raw(&drop))]).await;
        clients.push(client);
    }
    let admin = direct.database("admin");
    eventually("all apps' drops are under way", async || {
        let own = doc! {"$regex": format!("^{db}.")};
        let current = doc! {"currentOp": 1, "ns": own, "op": {"$in": ["remove", "update"]}};
        let reply = admin.run_command(current).await.unwrap();
        let under_way = reply.get_array("inprog").unwrap().len();
        (under_way > 1 && under_way >= dropping.len()).then_some(())
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
    for client in &mut clients {
        let reply = client.receive().await.unwrap().document();
        let is_late = reply.get_i32("code").is_ok_and(|code| code == 6);
        assert!(is_ok(&reply) || is_late, "{reply}");
    }
}
