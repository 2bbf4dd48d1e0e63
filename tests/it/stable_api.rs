//! The stable API: what the proxy answers itself obeys it as a server does.

use bson::{Bson, Document, doc};
use futures_util::{StreamExt, TryStreamExt};
use mdb_scope::{COMMANDS, Duty};
use mdb_tests::{RawClient, TestProxy, shared};
use mongodb::Client;
use mongodb::options::{ClientOptions, ServerApi, ServerApiVersion};

const STRICT: i32 = 323;

fn strict(mut command: Document, db: &str) -> Document {
    command.insert("apiVersion", "1");
    command.insert("apiStrict", true);
    command.insert("$db", db);
    command
}

/// A mongod and a proxy in front of another one.
async fn both() -> (TestProxy, RawClient, RawClient) {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let alice = proxy.raw("alice").await;
    let private = mdb_testbed::Deployment::standalone().start().await.unwrap();
    let direct = RawClient::connect(private.hosts()[0].parse().unwrap()).await;
    // It ends with the test.
    Box::leak(Box::new(private));
    (proxy, alice, direct)
}

#[tokio::test]
async fn the_same_commands_are_outside_of_version_1_as_on_a_server() {
    let (_proxy, mut alice, mut direct) = both().await;
    let (mut outside, mut inside) = (0, 0);
    for spec in COMMANDS {
        // The others are judged by the server that gets them.
        if !matches!(spec.duty, Duty::Local(_) | Duty::Catalog(_)) {
            continue;
        }
        let command = strict(doc! {spec.name: 1}, "admin");
        let server = direct.command(&command).await;
        let code = server.get_i32("code").ok();
        // A command of newer servers.
        if code == Some(59) {
            continue;
        }
        let proxy = alice.command(&command).await;
        let is_outside = code == Some(STRICT);
        assert_eq!(
            proxy.get_i32("code").ok() == Some(STRICT),
            is_outside,
            "{proxy}\n{server}"
        );
        outside += usize::from(is_outside);
        inside += usize::from(!is_outside);
    }
    assert!(outside > 10 && inside > 10, "{outside} {inside}");
}

#[tokio::test]
async fn the_same_fields_indexes_and_stages_are_outside_of_version_1() {
    let (proxy, mut alice, mut direct) = both().await;
    let db = proxy.database_name();
    for client in [&mut alice, &mut direct] {
        client
            .ok(&doc! {"insert": "c", "documents": [{"a": 1}], "$db": db})
            .await;
    }
    let index = |key: &str| doc! {"key": {"x": key}, "name": key};
    let cases = [
        doc! {"create": "a", "size": 1000, "capped": true},
        doc! {"create": "b", "max": 3},
        doc! {"create": "d", "changeStreamPreAndPostImages": {"enabled": true}},
        doc! {"create": "e", "autoIndexId": true},
        doc! {"create": "f", "validator": {}},
        doc! {"create": "g"},
        doc! {"createIndexes": "c", "indexes": [index("text")]},
        doc! {"createIndexes": "c", "indexes": [{"key": {"a": 1}, "name": "a"}]},
        doc! {"createIndexes": "c", "indexes": [index("2d")]},
        doc! {"createIndexes": "c", "indexes": [{"key": {"b": 1}, "name": "b"}], "ignoreUnknownIndexOptions": true},
        doc! {"collMod": "c", "index": {"name": "a", "hidden": true}},
        doc! {"aggregate": "c", "pipeline": [{"$indexStats": {}}], "cursor": {}},
        doc! {"aggregate": "c", "pipeline": [{"$collStats": {"count": {}}}], "cursor": {}},
        doc! {"aggregate": "c", "pipeline": [{"$collStats": {"storageStats": {}}}], "cursor": {}},
        doc! {"aggregate": 1, "pipeline": [{"$listLocalSessions": {}}], "cursor": {}},
        doc! {"count": "c"},
        doc! {"distinct": "c", "key": "a"},
        doc! {"listIndexes": "c"},
        doc! {"listCollections": 1, "nameOnly": true},
        doc! {"dropIndexes": "c", "index": "a"},
        doc! {"drop": "c"},
        doc! {"dropDatabase": 1},
        doc! {"killCursors": "c", "cursors": [7_i64]},
        doc! {"killSessions": []},
    ];
    for case in cases {
        let command = strict(case, db);
        let (server, proxy) = (
            direct.command(&command).await,
            alice.command(&command).await,
        );
        let code = |reply: &Document| reply.get_i32("code").ok().filter(|code| *code == STRICT);
        assert_eq!(code(&proxy), code(&server), "{command}\n{proxy}\n{server}");
    }
    let fields = [
        doc! {"apiVersion": "2"},
        doc! {"apiVersion": ""},
        doc! {"apiVersion": 1},
        doc! {"apiVersion": Bson::Null},
        doc! {"apiStrict": true},
        doc! {"apiStrict": "1"},
        doc! {"apiStrict": Bson::Null},
        doc! {"apiDeprecationErrors": false},
        doc! {"apiVersion": "1", "apiStrict": 1},
        doc! {"apiVersion": "1", "apiDeprecationErrors": "no"},
        doc! {"apiVersion": "1", "apiDeprecationErrors": true},
    ];
    for name in ["ping", "hello", "listCollections", "dbStats", "endSessions"] {
        for fields in &fields {
            let target = if name == "endSessions" {
                Bson::Array(vec![])
            } else {
                1.into()
            };
            let mut command = doc! {name: target};
            command.extend(fields.clone());
            command.insert("$db", db);
            let (server, proxy) = (
                direct.command(&command).await,
                alice.command(&command).await,
            );
            assert_eq!(
                proxy.get("code"),
                server.get("code"),
                "{command}\n{proxy}\n{server}"
            );
        }
    }
}

/// Everything that an ordinary application does, by a driver that declares the API.
#[tokio::test]
async fn a_strict_driver_works() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut options = ClientOptions::parse(proxy.uri("alice")).await.unwrap();
    let api = ServerApi::builder().version(ServerApiVersion::V1);
    options.server_api = Some(api.strict(true).deprecation_errors(true).build());
    let client = Client::with_options(options).unwrap();
    let database = client.database(proxy.database_name());
    let things = database.collection::<Document>("c");
    let documents = (0..250).map(|n| doc! {"_id": n});
    things.insert_many(documents).await.unwrap();
    let found: Vec<Document> = things
        .find(doc! {})
        .batch_size(20)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(found.len(), 250);
    let mut session = client.start_session().await.unwrap();
    for commits in [true, false] {
        session.start_transaction().await.unwrap();
        things
            .delete_one(doc! {"_id": i32::from(commits)})
            .session(&mut session)
            .await
            .unwrap();
        if commits {
            session.commit_transaction().await.unwrap();
        } else {
            session.abort_transaction().await.unwrap();
        }
    }
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 249);
    let mut stream = things.watch().await.unwrap();
    things.insert_one(doc! {"_id": "new"}).await.unwrap();
    let event = stream.next().await.unwrap().unwrap();
    assert!(event.full_document.is_some());
    drop(stream);
    things.drop().await.unwrap();
    let refused = database
        .run_command(doc! {"distinct": "c", "key": "x"})
        .await;
    assert!(refused.unwrap_err().to_string().contains("323"));
}
