//! Manifests and credentials that change while clients are there.

use bson::spec::BinarySubtype;
use bson::{Binary, Document, doc};
use mdb_auth::Mechanism;
use mdb_testbed::Deployment;
use mdb_tests::{
    OTHER_PASSWORD, PASSWORD, ProxyBuilder, RawClient, TestProxy, cursor_id, logs, shared,
};

/// The next command of the connection is answered with 13, and then nothing more comes.
async fn is_sent_home(client: &mut RawClient, db: &str) {
    let reply = client.command(&doc! {"ping": 1, "$db": db}).await;
    assert_eq!(reply.get_i32("code").unwrap(), 13, "{reply}");
    let text = reply.get_str("errmsg").unwrap();
    assert!(
        text.contains("was removed or has another password"),
        "{text}"
    );
    assert!(client.receive().await.is_none());
}

async fn log_in(proxy: &TestProxy, user: &str, password: &str) -> (RawClient, Document) {
    let mut client = proxy.raw_stranger().await;
    let reply = client.log_in(Mechanism::ScramSha256, user, password).await;
    (client, reply)
}

fn is_done(reply: &Document) -> bool {
    reply.get_bool("done").unwrap_or(false)
}

/// Without the lines of one credential.
fn without(text: &str, user: &str) -> String {
    let (before, rest) = text.split_once(&format!("  - username: {user}\n")).unwrap();
    let end = rest.match_indices('\n').nth(1).unwrap().0 + 1;
    format!("{before}{}", &rest[end..])
}

#[tokio::test]
async fn who_is_gone_is_told_and_all_others_stay() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let mut reader = proxy.raw("alice-read").await;
    let mut bob = proxy.raw("bob").await;
    let documents: Vec<Document> = (0..10).map(|i| doc! {"_id": i}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let opened = alice
        .ok(&doc! {"find": "c", "batchSize": 2, "$db": db})
        .await;
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![7; 16],
    };
    let lsid = doc! {"id": id};
    let write = doc! {
        "insert": "t", "documents": [{"_id": 1}], "lsid": &lsid, "txnNumber": 1_i64,
        "startTransaction": true, "autocommit": false, "$db": db,
    };
    bob.ok(&doc! {"create": "t", "$db": db}).await;
    bob.ok(&write).await;

    let reader_name = proxy.user_name("alice-read");
    proxy.change(proxy.slug("alice"), |text| {
        Some(without(&text, &reader_name))
    });
    proxy.reload().await;
    is_sent_home(&mut reader, db).await;
    let (_, reply) = log_in(&proxy, &reader_name, PASSWORD).await;
    assert_eq!(reply.get_i32("code").unwrap(), 18, "{reply}");
    // The connections of the others were not closed, nor what they had open.
    let more = doc! {"getMore": cursor_id(&opened), "collection": "c", "$db": db};
    let batch = alice.ok(&more).await;
    let batch = batch.get_document("cursor").unwrap();
    assert_eq!(batch.get_array("nextBatch").unwrap().len(), 8);
    let commit = doc! {
        "commitTransaction": 1, "lsid": &lsid, "txnNumber": 1_i64, "autocommit": false, "$db": "admin",
    };
    bob.ok(&commit).await;
}

/// The server itself would keep the transaction for an hour.
#[tokio::test]
async fn a_transaction_of_who_is_gone_is_aborted() {
    let patient = ["--setParameter", "transactionLifetimeLimitSeconds=3600"];
    let deployment = Deployment::replica_set(1).mongod_args(&patient).start();
    let deployment = deployment.await.unwrap();
    let builder = ProxyBuilder::new(&deployment).limit("abandoned_after: 100ms");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let mut writer = proxy.raw("alice-write").await;
    let insert = doc! {"insert": "c", "documents": [{"_id": 1, "x": 0}], "$db": db};
    writer.ok(&insert).await;
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![7; 16],
    };
    let update = doc! {
        "update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"by": "writer"}}}], "lsid": {"id": id},
        "txnNumber": 1_i64, "startTransaction": true, "autocommit": false, "$db": db,
    };
    writer.ok(&update).await;
    let writer_name = proxy.user_name("alice-write");
    let without_writer = |text: String| Some(without(&text, &writer_name));
    proxy.change(proxy.slug("alice"), without_writer);
    proxy.reload().await;
    is_sent_home(&mut writer, db).await;
    // It waits for whoever holds the document.
    let stored = proxy.upstream().await.collection::<Document>("c");
    let update = doc! {"$inc": {"x": 1}};
    let stored = stored.find_one_and_update(doc! {"_id": 1}, update).await;
    let before = stored.unwrap().unwrap();
    assert_eq!(before.get_i32("x").unwrap(), 0, "{before}");
    assert!(!before.contains_key("by"), "{before}");
}

#[tokio::test]
async fn a_changed_password_ends_what_the_old_one_began() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let (db, slug) = (proxy.database_name(), proxy.slug("alice").to_owned());
    let mut before = proxy.raw("alice").await;
    proxy.change(&slug, |text| {
        Some(text.replacen("PASSWORD", "OTHER_PASSWORD", 1))
    });
    proxy.reload().await;
    is_sent_home(&mut before, db).await;
    let (_, reply) = log_in(&proxy, &slug, PASSWORD).await;
    assert_eq!(reply.get_i32("code").unwrap(), 18, "{reply}");
    let (mut after, reply) = log_in(&proxy, &slug, OTHER_PASSWORD).await;
    assert!(is_done(&reply), "{reply}");
    after.ok(&doc! {"ping": 1, "$db": db}).await;
    // Nothing has changed: nobody is sent home.
    proxy.reload().await;
    after.ok(&doc! {"ping": 1, "$db": db}).await;
}

#[tokio::test]
async fn other_roles_and_settings_hold_from_the_next_command_on() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let (db, slug) = (proxy.database_name(), proxy.slug("alice"));
    let mut reader = proxy.raw("alice-read").await;
    let insert = doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db};
    let find = doc! {"find": "c", "$db": db};
    assert_eq!(reader.fails(&insert).await, 13);
    proxy.change(slug, |text| {
        let text = text.replace("[read]", "[readWrite]");
        Some(text.replace("expose_scope_field: false", "expose_scope_field: true"))
    });
    proxy.reload().await;
    reader.ok(&insert).await;
    let found = reader.ok(&find).await;
    let batch = found
        .get_document("cursor")
        .unwrap()
        .get_array("firstBatch")
        .unwrap();
    let document = batch[0].as_document().unwrap();
    assert_eq!(document.get_str("app_id").unwrap(), slug);
}

#[tokio::test]
async fn apps_come_and_go() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let slug = mdb_tests::unique_name("carol");
    let mut bob = proxy.raw("bob").await;
    proxy.change(&slug, |_| {
        Some(format!(
            "version: \"3.0\"\nslug: {slug}\ncredentials:\n  - {{ username: {slug}, password: {{ env: PASSWORD }}, roles: [readWrite] }}\n"
        ))
    });
    proxy.change(proxy.slug("bob"), |_| None);
    proxy.reload().await;
    is_sent_home(&mut bob, db).await;
    let (mut carol, reply) = log_in(&proxy, &slug, PASSWORD).await;
    assert!(is_done(&reply), "{reply}");
    carol
        .ok(&doc! {"insert": "c", "documents": [{"x": 1}], "$db": db})
        .await;
    // So are those of an app that came by a reload.
    proxy.change(&slug, |_| None);
    proxy.reload().await;
    is_sent_home(&mut carol, db).await;
}

#[tokio::test]
async fn a_broken_file_leaves_everything_as_it_was() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let (db, slug) = (proxy.database_name(), proxy.slug("alice"));
    logs::expect("cannot reload: ");
    logs::expect("the reload failed");
    let mut alice = proxy.raw("alice").await;
    let metric = |line: &str| proxy.proxy().metrics().render().contains(line);
    let mut good = String::new();
    proxy.change(slug, |text| {
        good.clone_from(&text);
        // One credential goes, and something else is wrong.
        Some(format!("{}colour: blue\n", without(&text, slug)))
    });
    proxy.reload().await;
    assert!(proxy.proxy().readiness().has_failed_reload());
    assert_eq!(proxy.proxy().readiness().reasons(), []);
    assert!(metric("mdb_runtime_reload_failed 1"));
    assert!(metric("mdb_runtime_reloads_total{outcome=\"failed\"} 1"));
    alice.ok(&doc! {"ping": 1, "$db": db}).await;
    assert!(is_done(&log_in(&proxy, slug, PASSWORD).await.1));
    proxy.change(slug, |_| Some(good));
    proxy.reload().await;
    assert!(!proxy.proxy().readiness().has_failed_reload());
    assert!(metric("mdb_runtime_reload_failed 0"));
    assert!(metric("mdb_runtime_reloads_total{outcome=\"ok\"} 1"));
    alice.ok(&doc! {"ping": 1, "$db": db}).await;
}

#[tokio::test]
async fn no_upstream_is_needed() {
    // Nobody listens on port 1.
    logs::expect("cannot connect to 127.0.0.1:1");
    let builder = ProxyBuilder::at("mongodb://127.0.0.1:1/?replicaSet=rs0").app("alice");
    let proxy = builder.without_waiting().start().await;
    let slug = proxy.slug("alice");
    let mut alice = proxy.raw("alice").await;
    proxy.change(slug, |text| {
        Some(text.replacen("PASSWORD", "OTHER_PASSWORD", 1))
    });
    proxy.reload().await;
    is_sent_home(&mut alice, "admin").await;
    assert!(is_done(&log_in(&proxy, slug, OTHER_PASSWORD).await.1));
}
