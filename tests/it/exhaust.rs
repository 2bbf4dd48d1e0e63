//! Commands that get more than one reply.

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{RawClient, RawReply, Section, TestProxy, batch, cursor_id, is_ok, raw, shared};
use mdb_wire::Compressor;
use mdb_wire::message::{CHECKSUM_PRESENT, EXHAUST_ALLOWED, MORE_TO_COME};

async fn version(client: &mut RawClient) -> Document {
    let hello = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    hello.get_document("topologyVersion").unwrap().clone()
}

fn awaiting(version: &Document, millis: i64) -> Document {
    doc! {
        "hello": 1, "helloOk": true, "topologyVersion": version.clone(),
        "maxAwaitTimeMS": millis, "client": {"driver": {"name": "d", "version": "1"}, "os": {"type": "x"}},
        "$db": "admin",
    }
}

/// The fields that tell how a reply belongs to others.
fn links(reply: &RawReply) -> (i32, u32) {
    (reply.response_to, reply.flags)
}

/// The same of the proxy and of a mongod; but that tells of the client once only, and stops there.
#[tokio::test]
async fn a_hello_goes_on_each_time_that_its_wait_is_over() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let direct = RawClient::connect(shared().await.hosts()[0].parse().unwrap()).await;
    for (mut client, is_proxy) in [(proxy.raw_stranger().await, true), (direct, false)] {
        let mut hello = awaiting(&version(&mut client).await, 20);
        hello.remove("client");
        let mut last = client
            .send(EXHAUST_ALLOWED, &[Section::Body(&raw(&hello))])
            .await;
        for _ in 0..5 {
            let reply = client.receive().await.unwrap();
            assert_eq!(links(&reply), (last, MORE_TO_COME));
            let hello = reply.document();
            assert!(hello.get_bool("isWritablePrimary").unwrap() && hello.contains_key("helloOk"));
            last = reply.request_id;
        }
        if is_proxy {
            // What a client says ends the stream; a mongod would not read it.
            let ping = raw(&doc! {"ping": 1, "$db": "admin"});
            let sent = client.send(0, &[Section::Body(&ping)]).await;
            let mut reply = client.receive().await.unwrap();
            while reply.response_to != sent {
                assert_eq!(reply.response_to, last);
                last = reply.request_id;
                reply = client.receive().await.unwrap();
            }
            assert!(!reply.document().contains_key("isWritablePrimary"));
            client.ok(&doc! {"ping": 1, "$db": "admin"}).await;
        }
    }
}

/// A monitor of a client hears at once that the proxy goes, and then nothing more.
#[tokio::test]
async fn a_waiting_hello_tells_news_and_errors_end_it() {
    let mut proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let mut stranger = proxy.raw_stranger().await;
    let now = version(&mut stranger).await;
    let other = doc! {"processId": bson::oid::ObjectId::new(), "counter": 0_i64};
    // The first answer comes at once: the client does not know this process.
    let hello = awaiting(&other, 600_000);
    let sent = client
        .send(EXHAUST_ALLOWED, &[Section::Body(&raw(&hello))])
        .await;
    let first = client.receive().await.unwrap();
    assert_eq!(links(&first), (sent, MORE_TO_COME));
    assert_eq!(
        first.document().get_document("topologyVersion").unwrap(),
        &now
    );
    let ((), last) = tokio::join!(proxy.shut_down(), client.receive());
    let last = last.unwrap();
    assert_eq!(links(&last), (first.request_id, 0));
    let last = last.document();
    assert_eq!(last.get_i32("code").unwrap(), 91, "{last}");
    let newer = last.get_document("topologyVersion").unwrap();
    assert!(newer.get_i64("counter").unwrap() > now.get_i64("counter").unwrap());
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn a_hello_without_a_wait_or_with_errors_gets_one_reply() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let mut ahead = version(&mut client).await;
    ahead.insert("counter", 1000_i64);
    let ping = doc! {"ping": 1, "$db": "admin"};
    let mut ahead = awaiting(&ahead, 10);
    ahead.remove("client");
    for (command, code) in [
        (doc! {"hello": 1, "$db": "admin"}, Some(51763)),
        (ahead, Some(51761)),
        (ping.clone(), None),
    ] {
        let sent = client
            .send(EXHAUST_ALLOWED, &[Section::Body(&raw(&command))])
            .await;
        let reply = client.receive().await.unwrap();
        assert_eq!(links(&reply), (sent, 0), "{command}");
        assert_eq!(reply.document().get_i32("code").ok(), code);
        client.ok(&ping).await;
    }
}

/// Documents of `c` by a getMore with exhaustAllowed: of each reply the flags, whether the cursor is open, and the ids.
async fn exhausted(client: &mut RawClient, db: &str, flags: u32) -> Vec<(u32, bool, Vec<i32>)> {
    let find = raw(&doc! {"find": "c", "batchSize": 2, "sort": {"_id": 1}, "$db": db});
    let sent = client.send(EXHAUST_ALLOWED, &[Section::Body(&find)]).await;
    let reply = client.receive().await.unwrap();
    assert_eq!(links(&reply), (sent, 0), "a find has one reply");
    let id = cursor_id(&reply.document());
    let more = raw(&doc! {"getMore": id, "collection": "c", "batchSize": 2, "$db": db});
    let mut last = client
        .send(EXHAUST_ALLOWED | flags, &[Section::Body(&more)])
        .await;
    let mut seen = Vec::new();
    loop {
        let reply = client.receive().await.unwrap();
        assert_eq!(reply.response_to, last);
        last = reply.request_id;
        let document = reply.document();
        assert!(is_ok(&document), "{document}");
        let ids = batch(&document)
            .iter()
            .map(|d| d.get_i32("_id").unwrap())
            .collect();
        seen.push((reply.flags, cursor_id(&document) != 0, ids));
        if reply.flags & MORE_TO_COME == 0 {
            return seen;
        }
    }
}

/// The same of the proxy and of the standalone behind it.
#[tokio::test]
async fn a_get_more_goes_on_to_the_end_of_its_cursor() {
    let standalone = Deployment::standalone().start().await.unwrap();
    let proxy = TestProxy::start(&standalone, &["alice"]).await;
    let direct = RawClient::connect(standalone.hosts()[0].parse().unwrap()).await;
    let db = proxy.database_name();
    for (mut client, db, is_proxy) in [
        (proxy.raw("alice").await, db, true),
        (direct, "elsewhere", false),
    ] {
        let documents: Vec<Document> = (0..7).map(|n| doc! {"_id": n}).collect();
        client
            .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
            .await;
        let expected = |checksum: u32| {
            [
                (MORE_TO_COME | checksum, true, vec![2, 3]),
                (MORE_TO_COME | checksum, true, vec![4, 5]),
                (checksum, false, vec![6]),
            ]
        };
        assert_eq!(exhausted(&mut client, db, 0).await, expected(0));
        if is_proxy {
            let with_checksum = exhausted(&mut client, db, CHECKSUM_PRESENT).await;
            assert_eq!(with_checksum, expected(CHECKSUM_PRESENT));
        }
        // An error is the only reply.
        let more = raw(&doc! {"getMore": 7_i64, "collection": "c", "$db": db});
        let sent = client.send(EXHAUST_ALLOWED, &[Section::Body(&more)]).await;
        let reply = client.receive().await.unwrap();
        assert_eq!(links(&reply), (sent, 0));
        assert_eq!(reply.document().get_i32("code").unwrap(), 43);
        client.ok(&doc! {"ping": 1, "$db": "admin"}).await;
    }
    // All of the replies are compressed as the one command was.
    let mut alice = proxy.raw("alice").await;
    alice.agree(&["zstd"]).await;
    let found = alice
        .ok(&doc! {"find": "c", "batchSize": 2, "$db": db})
        .await;
    let more = doc! {"getMore": cursor_id(&found), "collection": "c", "batchSize": 3, "$db": db};
    alice
        .send_compressed(
            Compressor::Zstd,
            EXHAUST_ALLOWED,
            &[Section::Body(&raw(&more))],
        )
        .await;
    for flags in [MORE_TO_COME, 0] {
        let reply = alice.receive().await.unwrap();
        assert_eq!(
            (reply.flags, reply.compressor),
            (flags, Some(Compressor::Zstd))
        );
    }
}

/// A client that leaves in the middle of a stream takes nothing with it.
#[tokio::test]
async fn a_client_may_leave_in_the_middle() {
    let standalone = Deployment::standalone().start().await.unwrap();
    let proxy = TestProxy::start(&standalone, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let documents: Vec<Document> = (0..1000)
        .map(|n| doc! {"_id": n, "x": "y".repeat(10_000)})
        .collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let found = alice
        .ok(&doc! {"find": "c", "batchSize": 1, "$db": db})
        .await;
    let more = doc! {"getMore": cursor_id(&found), "collection": "c", "batchSize": 1, "$db": db};
    alice
        .send(EXHAUST_ALLOWED, &[Section::Body(&raw(&more))])
        .await;
    alice.receive().await.unwrap();
    drop(alice);
    let mut again = proxy.raw("alice").await;
    again.ok(&doc! {"find": "c", "limit": 1, "$db": db}).await;
}

/// In front of a replica set the proxy is a mongos, and a mongos of before 7.1 gives one reply to a getMore.
#[tokio::test]
async fn an_old_mongos_gives_one_reply_at_a_time() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let documents: Vec<Document> = (0..5).map(|n| doc! {"_id": n}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    assert_eq!(exhausted(&mut alice, db, 0).await, [(0, true, vec![2, 3])]);
    alice.ok(&doc! {"ping": 1, "$db": db}).await;
}
