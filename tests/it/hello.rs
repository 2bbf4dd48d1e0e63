//! The hand-shake.

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, is_ok, is_since, keys, logs, raw, shared};

const FIELDS: [&str; 9] = [
    "topologyVersion",
    "maxBsonObjectSize",
    "maxMessageSizeBytes",
    "maxWriteBatchSize",
    "localTime",
    "logicalSessionTimeoutMinutes",
    "connectionId",
    "minWireVersion",
    "maxWireVersion",
];

fn expected(first: &[&'static str], more: &[&'static str]) -> Vec<&'static str> {
    [first, &FIELDS, more, &["ok"]].concat()
}

#[tokio::test]
async fn in_front_of_a_replica_set_it_is_a_mongos() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let user = format!("admin.{}", proxy.slug("alice"));
    for (command, first, more) in [
        (doc! {"hello": 1}, vec!["isWritablePrimary", "msg"], vec![]),
        (doc! {"isMaster": 1}, vec!["ismaster", "msg"], vec![]),
        (
            doc! {"ismaster": 1, "helloOk": true},
            vec!["helloOk", "ismaster", "msg"],
            vec![],
        ),
        (
            doc! {"hello": 1, "helloOk": true, "saslSupportedMechs": &user, "compression": ["zlib"], "backpressure": "2", "unknown": {}},
            vec!["helloOk", "isWritablePrimary", "msg"],
            vec!["compression", "saslSupportedMechs"],
        ),
    ] {
        let mut command = command;
        command.insert("$db", "admin");
        let hello = client.ok(&command).await;
        assert_eq!(keys(&hello), expected(&first, &more), "{command}");
        assert_eq!(hello.get_str("msg").unwrap(), "isdbgrid");
    }
    let hello = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    let mut direct = RawClient::connect(shared().await.hosts()[0].parse().unwrap()).await;
    let upstream = direct.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    for field in [
        "maxWriteBatchSize",
        "logicalSessionTimeoutMinutes",
        "minWireVersion",
        "maxWireVersion",
        "maxBsonObjectSize",
    ] {
        assert_eq!(hello.get(field), upstream.get(field), "{field}");
    }
    let bytes = |reply: &Document| reply.get_i32("maxMessageSizeBytes").unwrap();
    assert!(bytes(&hello) < bytes(&upstream));
}

#[tokio::test]
async fn in_front_of_a_standalone_it_is_a_standalone() {
    let standalone = Deployment::standalone().with_auth().start().await.unwrap();
    let proxy = TestProxy::start(&standalone, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let hello = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    assert_eq!(keys(&hello), expected(&["isWritablePrimary"], &[]));
    let database = proxy.database("alice").await;
    let things = database.collection::<Document>("c");
    things
        .insert_many((0..10).map(|n| doc! {"_id": n}))
        .await
        .unwrap();
    assert_eq!(things.count_documents(doc! {}).await.unwrap(), 10);
}

#[tokio::test]
async fn without_an_upstream_hello_says_yes_all_the_same() {
    let proxy = ProxyBuilder::at("mongodb://127.0.0.1:1/?replicaSet=rs0").app("alice");
    let proxy = proxy.without_waiting().start().await;
    logs::expect("cannot connect to");
    let mut alice = proxy.raw("alice").await;
    for command in ["hello", "isMaster", "ping", "buildInfo", "connectionStatus"] {
        alice.ok(&doc! {command: 1, "$db": "admin"}).await;
    }
    let hello = alice.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    assert_eq!(keys(&hello), expected(&["isWritablePrimary", "msg"], &[]));
    let find = doc! {"find": "c", "maxTimeMS": 200, "$db": "db"};
    let reply = alice.command(&find).await;
    assert!(matches!(reply.get_i32("code"), Ok(50 | 6 | 133)), "{reply}");
    assert!(!reply.to_string().contains("127.0.0.1"), "{reply}");
}

/// Codes of a mongod (6.0.5), asked beside the proxy.
#[tokio::test]
async fn the_fields_of_hello_are_checked_as_by_a_server() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let server = shared().await.member(0).address().parse().unwrap();
    let process = bson::oid::ObjectId::new();
    let version = doc! {"processId": process, "counter": 1_i64};
    let awaiting = |version: Bson| doc! {"topologyVersion": version, "maxAwaitTimeMS": 1};
    let driver = doc! {"name": "d", "version": "1"};
    let os = doc! {"type": "x"};
    let client = |client: Bson| doc! {"client": client};
    let cases = [
        (awaiting(version.clone().into()), None),
        (awaiting(3.into()), Some(14)),
        (
            awaiting(doc! {"processId": process, "counter": 1}.into()),
            Some(14),
        ),
        (
            awaiting(doc! {"processId": "x", "counter": 1_i64}.into()),
            Some(14),
        ),
        (awaiting(doc! {"processId": process}.into()), Some(40414)),
        (awaiting(doc! {"counter": 1_i64}.into()), Some(40414)),
        (
            awaiting(doc! {"processId": process, "counter": 1_i64, "x": 1}.into()),
            Some(40415),
        ),
        (
            doc! {"topologyVersion": Bson::Null, "maxAwaitTimeMS": Bson::Null},
            None,
        ),
        (
            doc! {"topologyVersion": version.clone(), "maxAwaitTimeMS": "1"},
            Some(14),
        ),
        (
            doc! {"topologyVersion": version.clone(), "maxAwaitTimeMS": -1},
            Some(51024),
        ),
        (doc! {"loadBalanced": false}, None),
        (doc! {"loadBalanced": 1}, Some(14)),
        (doc! {"helloOk": 1}, None),
        (doc! {"helloOk": "yes"}, Some(14)),
        (doc! {"compression": ["unheard"]}, None),
        (doc! {"compression": "zlib"}, Some(14)),
        (doc! {"compression": [1]}, Some(14)),
        (doc! {"saslSupportedMechs": 5}, Some(14)),
        (doc! {"saslSupportedMechs": "nobody"}, Some(2)),
        (doc! {"speculativeAuthenticate": 5}, Some(14)),
        (
            client(doc! {"driver": driver.clone(), "os": os.clone(), "more": 1}.into()),
            None,
        ),
        (client(Bson::Null), Some(14)),
        (client("x".into()), Some(14)),
        (client(doc! {}.into()), Some(183)),
        (client(doc! {"driver": driver.clone()}.into()), Some(183)),
        (
            client(doc! {"driver": 5, "os": os.clone()}.into()),
            Some(14),
        ),
        (
            client(doc! {"driver": {"name": "d"}, "os": os.clone()}.into()),
            Some(183),
        ),
        (
            client(doc! {"driver": driver.clone(), "os": {"type": 5}}.into()),
            Some(14),
        ),
        (
            client(doc! {"driver": driver, "os": os, "application": {"name": 5}}.into()),
            Some(14),
        ),
    ];
    for (fields, expected) in cases {
        let mut clients = vec![proxy.raw_stranger().await];
        if is_since(shared().await, "6.0") {
            clients.push(RawClient::connect(server).await);
        }
        let mut hello = doc! {"hello": 1};
        hello.extend(fields);
        hello.insert("$db", "admin");
        for mut client in clients {
            let reply = client.command(&hello).await;
            assert_eq!(reply.get_i32("code").ok(), expected, "{hello}: {reply}");
        }
    }
}

#[tokio::test]
async fn an_awaitable_hello_waits_for_news() {
    let mut proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let hello = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    let version = hello.get_document("topologyVersion").unwrap().clone();
    let process_id = version.get_object_id("processId").unwrap();
    let counter = version.get_i64("counter").unwrap();
    let awaiting = |counter: i64, millis: i64| {
        doc! {"hello": 1, "topologyVersion": {"processId": process_id, "counter": counter}, "maxAwaitTimeMS": millis, "$db": "admin"}
    };
    client.ok(&awaiting(counter, 10)).await;
    let other = doc! {"hello": 1, "topologyVersion": {"processId": bson::oid::ObjectId::new(), "counter": 9_i64}, "maxAwaitTimeMS": 600_000_i64, "$db": "admin"};
    client.ok(&other).await;
    for (command, code) in [
        (awaiting(counter + 1, 10), 51761),
        (awaiting(-1, 10), 51758),
        (
            doc! {"hello": 1, "maxAwaitTimeMS": 10, "$db": "admin"},
            51760,
        ),
        (
            doc! {"hello": 1, "topologyVersion": version.clone(), "$db": "admin"},
            51760,
        ),
    ] {
        assert_eq!(client.fails(&command).await, code, "{command}");
    }
    client
        .send(
            0,
            &[mdb_tests::Section::Body(&raw(&awaiting(counter, 600_000)))],
        )
        .await;
    let ((), reply) = tokio::join!(proxy.shut_down(), client.receive());
    let reply = reply.unwrap().document();
    assert_eq!(reply.get_i32("code").unwrap(), 91);
    let newer = reply
        .get_document("topologyVersion")
        .unwrap()
        .get_i64("counter")
        .unwrap();
    assert!(newer > counter);
}

#[tokio::test]
async fn metadata_of_the_client_comes_once() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let metadata = |name: &str| doc! {"hello": 1, "client": {"application": {"name": name}, "driver": {"name": "d", "version": "1"}, "os": {"type": "x"}}, "$db": "admin"};
    assert_eq!(
        proxy
            .raw_stranger()
            .await
            .fails(&metadata(&"a".repeat(129)))
            .await,
        184
    );
    client.ok(&metadata("first")).await;
    assert_eq!(client.fails(&metadata("second")).await, 186);
    client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
}

#[tokio::test]
async fn the_tools_get_their_answers() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut alice = proxy.raw("alice").await;
    let info = alice.ok(&doc! {"buildInfo": 1, "$db": "admin"}).await;
    assert_eq!(info.get_str("version").unwrap(), shared().await.version());
    let connection = |d: &Document| d.get("connectionId").cloned();
    let hello = doc! {"hello": 1, "$db": "admin"};
    let (one, two) = (
        alice.ok(&hello).await,
        proxy.raw_stranger().await.ok(&hello).await,
    );
    assert_ne!(connection(&one), connection(&two));
    for (command, code) in [
        (doc! {"atlasVersion": 1}, 59),
        (doc! {"isdbgrid": 1}, 59),
        (doc! {"getParameter": "foo"}, 72),
        (doc! {"replSetGetStatus": 1}, 76),
        (doc! {"rolesInfo": 1}, 13),
        (doc! {"top": 1}, 13),
    ] {
        let mut command = command;
        command.insert("$db", "admin");
        let reply = alice.command(&command).await;
        assert_eq!(
            reply.get("code"),
            Some(&Bson::Int32(code)),
            "{command}: {reply}"
        );
        assert!(!is_ok(&reply));
    }
}

/// Drivers read `$clusterTime` from the first hello on, and `operationTime` from a ping (PyMongo's suite does).
#[tokio::test]
async fn replies_of_the_proxy_itself_carry_the_time() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut alice = proxy.raw("alice").await;
    let db = proxy.database_name();
    let written = doc! {"insert": "t", "documents": [{"_id": 1}], "$db": db};
    let written = alice.ok(&written).await.get_timestamp("operationTime");
    let written = written.unwrap();
    for command in [
        doc! {"ping": 1, "$db": "admin"},
        doc! {"hello": 1, "$db": "admin"},
        doc! {"listCollections": 1, "$db": db},
    ] {
        let reply = alice.ok(&command).await;
        let cluster = reply.get_document("$clusterTime").unwrap();
        let cluster = cluster.get_timestamp("clusterTime").unwrap();
        let operation = reply.get_timestamp("operationTime").unwrap();
        assert!(operation >= written && cluster >= operation, "{reply}");
    }
}
