//! `loadBalanced=true`: two proxies behind one TCP load balancer.

use std::net::SocketAddr;

use bson::{Document, Uuid, doc};
use futures_util::TryStreamExt;
use mdb_testbed::Deployment;
use mdb_tests::{
    ProxyBuilder, RawClient, Section, TestProxy, cursor_id, eventually, is_ok, raw, shared,
    unique_name,
};
use mdb_wire::message::CHECKSUM_PRESENT;
use mongodb::Client;
use mongodb::options::ClientOptions;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

/// Hands connections to the addresses in turn, as long as the test's runtime lives.
async fn balance(addresses: [SocketAddr; 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for turn in addresses.into_iter().cycle() {
            let (mut client, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut server = TcpStream::connect(turn).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    address
}

async fn two() -> [TestProxy; 2] {
    let slug = unique_name("balanced");
    let start = async || {
        let builder = ProxyBuilder::new(shared().await);
        builder.app_with_slug("alice", &slug).start().await
    };
    [start().await, start().await]
}

/// Idle cursors and transactions on the server that belong to a database or a session.
async fn left(administrator: &Client, filter: Document) -> usize {
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleCursors": true, "idleSessions": true, "localOps": true}},
        doc! {"$match": filter},
    ];
    let found = administrator
        .database("admin")
        .aggregate(pipeline)
        .await
        .unwrap();
    let found: Vec<Document> = found.try_collect().await.unwrap();
    found.len()
}

fn cursors_of(db: &str) -> Document {
    doc! {"type": "idleCursor", "ns": {"$regex": format!("^{db}\\.")}}
}

#[tokio::test]
async fn hello_names_the_service_to_those_who_ask() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let ask = |value: bool| doc! {"hello": 1, "loadBalanced": value, "$db": "admin"};
    let plain = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    assert!(!plain.contains_key("serviceId"));
    assert!(!client.ok(&ask(false)).await.contains_key("serviceId"));
    let service = client
        .ok(&ask(true))
        .await
        .get_object_id("serviceId")
        .unwrap();
    let again = proxy.raw_stranger().await.ok(&ask(true)).await;
    assert_eq!(again.get_object_id("serviceId").unwrap(), service);
    // Each numbered write of the driver would fail there: better that it says at once what is wrong.
    let standalone = Deployment::standalone().start().await.unwrap();
    let proxy = TestProxy::start(&standalone, &["alice"]).await;
    let hello = proxy.raw_stranger().await.ok(&ask(true)).await;
    assert!(!hello.contains_key("serviceId"));
}

#[tokio::test]
async fn a_driver_works_over_two_proxies() {
    let proxies = two().await;
    let balancer = balance([proxies[0].address(), proxies[1].address()]).await;
    let uri = proxies[0].uri("alice");
    let uri = uri.replace(&proxies[0].address().to_string(), &balancer.to_string());
    let options = ClientOptions::parse(format!("{uri}?loadBalanced=true"))
        .await
        .unwrap();
    let client = Client::with_options(options).unwrap();
    let things = client
        .database(proxies[0].database_name())
        .collection::<Document>("c");
    things
        .insert_many((0..100).map(|n| doc! {"_id": n}))
        .await
        .unwrap();
    // Cursors that are open at once hold a connection each, and so reach both proxies.
    let mut open = Vec::new();
    for _ in 0..6 {
        open.push(things.find(doc! {}).batch_size(7).await.unwrap());
    }
    for cursor in open {
        let found: Vec<Document> = cursor.try_collect().await.unwrap();
        assert_eq!(found.len(), 100);
    }
    for n in 0..6 {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        for _ in 0..3 {
            things
                .update_one(doc! {"_id": n}, doc! {"$inc": {"x": 1}})
                .session(&mut session)
                .await
                .unwrap();
        }
        session.commit_transaction().await.unwrap();
    }
    assert_eq!(things.count_documents(doc! {"x": 3}).await.unwrap(), 6);
    for proxy in &proxies {
        let clients = proxy
            .raw("alice")
            .await
            .ok(&doc! {"serverStatus": 1, "$db": "admin"})
            .await;
        let current = clients
            .get_document("connections")
            .unwrap()
            .get_i32("current")
            .unwrap();
        assert!(current > 1, "both proxies were used");
    }
}

/// A connection with a cursor and a transaction of its own: `(client, session)`.
async fn with_belongings(proxy: &TestProxy, is_balanced: bool, api: &Document) -> RawClient {
    let db = proxy.database_name();
    let mut client = proxy.raw("alice").await;
    client
        .ok(&doc! {"hello": 1, "loadBalanced": is_balanced, "$db": "admin"})
        .await;
    let documents: Vec<Document> = (0..10).map(|_| doc! {}).collect();
    client
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    for _ in 0..3 {
        let found = client
            .ok(&doc! {"find": "c", "batchSize": 1, "$db": db})
            .await;
        assert_ne!(cursor_id(&found), 0);
    }
    let mut insert = doc! {
        "insert": "c", "documents": [{}], "lsid": {"id": Uuid::new()}, "txnNumber": 1_i64,
        "autocommit": false, "startTransaction": true,
    };
    insert.extend(api.clone());
    insert.insert("$db", db);
    client.ok(&insert).await;
    client
}

/// Measured on a server of the test's own, as it counts the transactions of all.
#[tokio::test]
async fn what_a_balanced_connection_opened_goes_with_it() {
    let deployment = Deployment::replica_set(1).start().await.unwrap();
    let builder = ProxyBuilder::new(&deployment).limit("abandoned_after: 1h");
    let proxy = builder.app("alice").start().await;
    let administrator = Client::with_uri_str(deployment.uri()).await.unwrap();
    let db = proxy.database_name();
    let open = doc! {"type": "idleSession", "transaction": {"$exists": true}};
    let strict = doc! {"apiVersion": "1", "apiStrict": true};
    for api in [doc! {}, strict] {
        let mut client = with_belongings(&proxy, true, &api).await;
        assert_eq!(left(&administrator, cursors_of(db)).await, 3);
        assert_eq!(left(&administrator, open.clone()).await, 1);
        // One of them may be reading, and the client may be in the middle of a command.
        let ping = raw(&doc! {"ping": 1, "$db": db});
        client.send(CHECKSUM_PRESENT, &[Section::Body(&ping)]).await;
        drop(client);
        eventually("nothing is left upstream", async || {
            let cursors = left(&administrator, cursors_of(db)).await;
            let transactions = left(&administrator, open.clone()).await;
            (cursors == 0 && transactions == 0).then_some(())
        })
        .await;
    }
    // Another client's stay: its driver goes on over another connection.
    drop(with_belongings(&proxy, false, &doc! {}).await);
    let balanced = with_belongings(&proxy, true, &doc! {}).await;
    drop(balanced);
    eventually("only the balanced client's are gone", async || {
        let cursors = left(&administrator, cursors_of(db)).await;
        let transactions = left(&administrator, open.clone()).await;
        (cursors == 3 && transactions == 1).then_some(())
    })
    .await;
}

/// It has no monitor that would tell it; a free connection is closed, one that holds something may finish.
#[tokio::test]
async fn a_drain_lets_balanced_connections_go_when_they_are_free() {
    let mut proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name().to_owned();
    let mut free = proxy.raw("alice").await;
    let hello = doc! {"hello": 1, "loadBalanced": true, "$db": "admin"};
    free.ok(&hello).await;
    let mut busy: RawClient = with_belongings(&proxy, true, &doc! {}).await;
    let find = doc! {"find": "c", "batchSize": 1, "$db": &db};
    let id = cursor_id(&busy.ok(&find).await);
    let ending = tokio::spawn(proxy.take().shut_down());
    assert!(free.is_closed().await);
    let more = doc! {"getMore": id, "collection": "c", "$db": &db};
    busy.ok(&more).await;
    drop(busy);
    ending.await.unwrap();
}

/// The address that the balancer names is the client's; without the header nothing is answered.
#[tokio::test]
async fn the_proxy_protocol_tells_where_a_client_comes_from() {
    let builder = ProxyBuilder::new(shared().await).listener("proxy_protocol: true");
    let proxy = builder.app("alice").start().await;
    let ask = doc! {"whatsmyuri": 1, "$db": "admin"};
    let mut second = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    second.extend([192, 0, 2, 9, 10, 0, 0, 1, 0, 80, 0, 81]);
    for (header, address) in [
        (
            &b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 27017\r\n"[..],
            Some("192.0.2.7:4660"),
        ),
        (&second, Some("192.0.2.9:80")),
        (b"PROXY UNKNOWN\r\n", None),
    ] {
        let mut client = proxy.raw_stranger().await;
        client.send_bytes(header).await;
        let told = client.ok(&ask).await;
        let told = told.get_str("you").unwrap();
        match address {
            Some(address) => assert_eq!(told, address),
            None => assert!(told.starts_with("127.0.0.1:"), "{told}"),
        }
    }
    let mut client = proxy.raw_stranger().await;
    client.send(0, &[Section::Body(&raw(&ask))]).await;
    assert!(client.is_closed().await);
}

/// Where it is not asked for it is no protocol that is known.
#[tokio::test]
async fn the_proxy_protocol_is_not_believed_without_being_asked_for() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    client
        .send_bytes(b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 27017\r\n")
        .await;
    // Said to something that looks like a message of more than a gigabyte.
    while let Some(reply) = client.receive().await {
        assert!(!is_ok(&reply.document()));
    }
}
