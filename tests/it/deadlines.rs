//! `maxTimeMS` is a limit for the whole command, what it waits in the proxy included.

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{
    ProxyBuilder, RawClient, Section, TestProxy, cursor_id, eventually, logs, raw, shared,
};
use mongodb::Client;

/// Longer than anything takes here.
const LONG: i32 = 600_000;

/// The only connection is taken by a getMore that waits for documents; the find behind it is sent with what is left, as the
/// server's profiler shows.
#[tokio::test]
async fn what_was_waited_in_the_proxy_is_taken_off() {
    let builder = ProxyBuilder::new(shared().await)
        .upstream("pool: { connections_max: 1, checkout_timeout: 1h }");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let (mut alice, mut other) = (proxy.raw("alice").await, proxy.raw("alice").await);
    let create = doc! {"create": "log", "capped": true, "size": 4096, "$db": db};
    alice.ok(&create).await;
    alice
        .ok(&doc! {"insert": "log", "documents": [{}], "$db": db})
        .await;
    other.ok(&doc! {"find": "log", "$db": db}).await;
    let administrator = Client::with_uri_str(shared().await.uri()).await.unwrap();
    let upstream = administrator.database(db);
    upstream.run_command(doc! {"profile": 2}).await.unwrap();
    let tail = doc! {"find": "log", "tailable": true, "awaitData": true, "$db": db};
    let id = cursor_id(&alice.ok(&tail).await);
    // Its maxTimeMS is no limit, and is passed on as it is.
    let more =
        doc! {"getMore": id, "collection": "log", "maxTimeMS": 700, "comment": db, "$db": db};
    alice.send(0, &[Section::Body(&raw(&more))]).await;
    let admin = administrator.database("admin");
    eventually("the getMore runs upstream", async || {
        let current = doc! {"currentOp": 1, "command.comment": db};
        let reply = admin.run_command(current).await.unwrap();
        (!reply.get_array("inprog").unwrap().is_empty()).then_some(())
    })
    .await;
    let find = doc! {"find": "log", "maxTimeMS": LONG, "comment": "late", "$db": db};
    other.ok(&find).await;
    alice.receive().await.unwrap();
    upstream.run_command(doc! {"profile": 0}).await.unwrap();
    let profile = upstream.collection::<Document>("system.profile");
    let sent = async |name: &str, comment: &str| {
        let filter =
            doc! {format!("command.{name}"): {"$exists": true}, "command.comment": comment};
        let found = profile.find_one(filter).await.unwrap().unwrap();
        let command = found.get_document("command").unwrap().clone();
        command.get_i32("maxTimeMS").unwrap()
    };
    let left = sent("find", "late").await;
    assert!((1..LONG).contains(&left), "{left}");
    assert_eq!(sent("getMore", db).await, 700);
}

#[tokio::test]
async fn where_nothing_is_left_it_is_not_sent() {
    let proxy = ProxyBuilder::at("mongodb://127.0.0.1:1/?replicaSet=rs0").app("alice");
    let proxy = proxy.without_waiting().start().await;
    logs::expect("cannot connect to");
    let mut alice = proxy.raw("alice").await;
    for command in [
        doc! {"find": "c", "maxTimeMS": 50, "$db": "db"},
        doc! {"find": "c", "maxTimeMS": 50_i64, "$db": "db"},
        doc! {"insert": "c", "documents": [{}], "maxTimeMS": 50.0, "$db": "db"},
        doc! {"listCollections": 1, "maxTimeMS": 50, "$db": "db"},
    ] {
        assert_eq!(alice.fails(&command).await, 50, "{command}");
    }
}

/// As a server judges it of every command but a `getMore` (6.0.5), asked beside the proxy.
#[tokio::test]
async fn what_is_no_limit_is_refused_as_by_a_server() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut alice = proxy.raw("alice").await;
    let private = Deployment::standalone().start().await.unwrap();
    let mut direct = RawClient::connect(private.hosts()[0].parse().unwrap()).await;
    let limits = [
        Bson::Null,
        "x".into(),
        true.into(),
        (-1).into(),
        1.5.into(),
        0.into(),
        5_000.0.into(),
        i32::MAX.into(),
        (i64::from(i32::MAX) + 1).into(),
        i64::MAX.into(),
    ];
    for command in [
        doc! {"find": "c"},
        doc! {"insert": "c", "documents": [{}]},
        doc! {"aggregate": "c", "pipeline": [], "cursor": {}},
        doc! {"ping": 1},
        doc! {"hello": 1},
        doc! {"listCollections": 1},
        doc! {"listIndexes": "c"},
        doc! {"collMod": "c"},
        doc! {"dbStats": 1},
        doc! {"explain": {"find": "c"}},
        doc! {"endSessions": []},
    ] {
        for limit in &limits {
            let mut command = command.clone();
            command.insert("maxTimeMS", limit.clone());
            command.insert("$db", proxy.database_name());
            let reply = alice.command(&command).await;
            let server = direct.command(&command).await;
            let codes = [&reply, &server].map(|reply| reply.get_i32("code").ok());
            assert_eq!(codes[0], codes[1], "{command}: {reply} {server}");
        }
    }
}
