//! OP_COMPRESSED, towards clients and towards the upstream.

use bson::{Document, RawDocumentBuf, doc};
use mdb_tests::{ProxyBuilder, RawClient, Section, TestProxy, batch, is_ok, raw, shared};
use mdb_wire::compression::compress;
use mdb_wire::frame::header;
use mdb_wire::message::{CHECKSUM_PRESENT, MORE_TO_COME};
use mdb_wire::{Compressor, OpCode};
use mongodb::Client;

const ALL: [&str; 3] = ["zstd", "snappy", "zlib"];

fn ping() -> RawDocumentBuf {
    raw(&doc! {"ping": 1, "$db": "admin"})
}

async fn direct() -> RawClient {
    RawClient::connect(shared().await.hosts()[0].parse().unwrap()).await
}

/// The same of the proxy and of a mongod.
#[tokio::test]
async fn hello_agrees_in_the_order_of_the_client() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    for mut client in [proxy.raw_stranger().await, direct().await] {
        for (asked, agreed) in [
            (&["zlib", "none", "snappy"][..], &["zlib", "snappy"][..]),
            (&[], &[]),
            (&["none"], &[]),
            (&ALL, &ALL),
        ] {
            assert_eq!(client.agree(asked).await, agreed, "{asked:?}");
        }
        // A hello that names none leaves what was agreed on, and says it again.
        let again = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
        assert_eq!(again.get_array("compression").unwrap().len(), 3, "{again}");
    }
}

/// The same of the proxy and of a mongod, but for the hand-shake, which a mongod compresses as well.
#[tokio::test]
async fn a_reply_is_compressed_as_its_command_was() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    for (mut client, is_proxy) in [(proxy.raw_stranger().await, true), (direct().await, false)] {
        client.agree(&ALL).await;
        let ping = ping();
        let hello = raw(&doc! {"hello": 1, "$db": "admin"});
        let unknown = raw(&doc! {"nothing": 1, "$db": "admin"});
        for compressor in Compressor::ALL {
            for (body, flags) in [
                (&ping, 0),
                (&unknown, 0),
                (&hello, 0),
                (&ping, CHECKSUM_PRESENT),
            ] {
                let section = [Section::Body(body)];
                let sent = client.send_compressed(compressor, flags, &section).await;
                let reply = client.receive().await.unwrap();
                let is_plain = is_proxy && body == &hello;
                assert_eq!(reply.compressor, (!is_plain).then_some(compressor));
                assert_eq!((reply.response_to, reply.op_code), (sent, 2013));
                if is_proxy {
                    assert_eq!(reply.flags, flags);
                }
            }
            client.send(0, &[Section::Body(&ping)]).await;
            assert_eq!(client.receive().await.unwrap().compressor, None);
        }
    }
}

#[tokio::test]
async fn commands_of_an_app_come_and_go_compressed() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    for (number, compressor) in (0..).zip(Compressor::ALL) {
        let mut alice = proxy.raw("alice").await;
        assert_eq!(alice.agree(&[compressor.name()]).await, [compressor.name()]);
        // Large enough for a thread of its own, and small.
        for (id, size) in [(number * 2, 1_000_000), (number * 2 + 1, 10)] {
            let documents = [raw(&doc! {"_id": id, "x": "y".repeat(size)})];
            let insert = raw(&doc! {"insert": "c", "$db": db});
            let sections = [
                Section::Body(&insert),
                Section::Sequence("documents", &documents),
            ];
            alice.send_compressed(compressor, 0, &sections).await;
            let reply = alice.receive().await.unwrap();
            assert_eq!(reply.document().get_i32("n").unwrap(), 1);
            let find = raw(&doc! {"find": "c", "filter": {"_id": id}, "$db": db});
            alice
                .send_compressed(compressor, 0, &[Section::Body(&find)])
                .await;
            let reply = alice.receive().await.unwrap();
            assert_eq!(reply.compressor, Some(compressor));
            let found = batch(&reply.document());
            assert_eq!(found[0].get_str("x").unwrap().len(), size);
            assert!(!found[0].contains_key("app_id"));
        }
        let quiet =
            raw(&doc! {"insert": "quiet", "documents": [{}], "writeConcern": {"w": 0}, "$db": db});
        alice
            .send_compressed(compressor, MORE_TO_COME, &[Section::Body(&quiet)])
            .await;
        let count = alice.ok(&doc! {"count": "quiet", "$db": db}).await;
        assert_eq!(count.get_i32("n").unwrap(), number + 1);
    }
}

/// An OP_COMPRESSED of these parts.
fn parts(opcode: i32, bytes: i32, number: u8, data: &[u8]) -> Vec<u8> {
    let mut rest = opcode.to_le_bytes().to_vec();
    rest.extend_from_slice(&bytes.to_le_bytes());
    rest.push(number);
    rest.extend_from_slice(data);
    let mut out = header(16 + rest.len(), 7, 0, OpCode::Compressed).to_vec();
    out.extend_from_slice(&rest);
    out
}

/// Nothing is said, as by a mongod of what it notices: it takes any compressor that it knows, and waits for ever where a
/// message is compressed twice (6.0.5).
#[tokio::test]
async fn what_was_not_agreed_on_or_does_not_unpack_ends_the_connection() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut payload = vec![0; 5];
    payload.extend_from_slice(ping().as_bytes());
    let size = i32::try_from(payload.len()).unwrap();
    let mut message = header(16 + payload.len(), 7, 0, OpCode::Message).to_vec();
    message.extend_from_slice(&payload);
    let zlib = compress(&message, Compressor::Zlib).unwrap();
    let data = &zlib[25..];
    let zstd = compress(&message, Compressor::Zstd).unwrap();
    let nested = compress(&zlib, Compressor::Zlib).unwrap();
    // Whether a mongod closes as well.
    let cases = [
        ("too few", parts(2013, size - 1, 2, data), true),
        ("more than there is", parts(2013, size + 1, 2, data), false),
        ("2 GiB", parts(2013, i32::MAX, 2, data), true),
        ("a negative size", parts(2013, -1, 2, data), true),
        ("noop", parts(2013, size, 0, &payload), true),
        ("an unknown compressor", parts(2013, size, 9, data), true),
        ("an old opcode", parts(2001, size, 2, data), true),
        ("no data", parts(2013, size, 2, &[]), true),
        (
            "no compressor",
            header(16, 7, 0, OpCode::Compressed).to_vec(),
            true,
        ),
        ("not agreed on", zstd, false),
        ("compressed twice", nested, false),
    ];
    for (name, bytes, is_servers) in cases {
        for logs_in in [true, false] {
            let mut client = if logs_in {
                proxy.raw("alice").await
            } else {
                proxy.raw_stranger().await
            };
            client.agree(&["zlib"]).await;
            client.send_bytes(&bytes).await;
            assert!(client.is_closed().await, "{name}");
        }
        if is_servers {
            let mut client = direct().await;
            client.agree(&["zlib"]).await;
            client.send_bytes(&bytes).await;
            assert!(client.is_closed().await, "{name}, of a mongod");
        }
    }
    // Nothing was agreed on: what has not said hello, and what has agreed on nothing any more.
    let mut client = proxy.raw_stranger().await;
    client.send_bytes(&zlib).await;
    assert!(client.is_closed().await);
    let mut client = proxy.raw_stranger().await;
    client.agree(&["zlib"]).await;
    client.agree(&[]).await;
    client.send_bytes(&zlib).await;
    assert!(client.is_closed().await);
}

/// Little that becomes much: a stranger is held to what strangers may send, before anything is unpacked.
#[tokio::test]
async fn the_limit_holds_for_what_a_message_becomes() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let large = raw(&doc! {"ping": 1, "comment": "y".repeat(100_000), "$db": "admin"});
    let mut stranger = proxy.raw_stranger().await;
    stranger.agree(&["zlib"]).await;
    stranger
        .send_compressed(Compressor::Zlib, 0, &[Section::Body(&large)])
        .await;
    assert!(stranger.is_closed().await);
    let mut alice = proxy.raw("alice").await;
    alice.agree(&["zlib"]).await;
    alice
        .send_compressed(Compressor::Zlib, 0, &[Section::Body(&large)])
        .await;
    assert!(is_ok(&alice.receive().await.unwrap().document()));
}

/// Bytes that a server has taken in by one compressor so far.
async fn taken(administrator: &Client, compressor: Compressor) -> i64 {
    let admin = administrator.database("admin");
    let status = admin.run_command(doc! {"serverStatus": 1}).await.unwrap();
    let network = status.get_document("network").unwrap();
    let all = network.get_document("compression").unwrap();
    let one = all.get_document(compressor.name()).unwrap();
    let part = one.get_document("decompressor").unwrap();
    part.get("bytesIn").unwrap().as_i64().unwrap()
}

/// Measured on the server: nobody else compresses there.
#[tokio::test]
async fn the_upstream_is_spoken_to_by_the_first_compressor_that_it_takes() {
    let administrator = Client::with_uri_str(shared().await.uri()).await.unwrap();
    for compressor in Compressor::ALL {
        let before = taken(&administrator, compressor).await;
        let line = format!("compressors: [{compressor}]");
        let proxy = ProxyBuilder::new(shared().await).upstream(&line);
        let proxy = proxy.app("alice").start().await;
        let mut alice = proxy.raw("alice").await;
        let db = proxy.database_name();
        let documents: Vec<Document> = (0..100)
            .map(|n| doc! {"_id": n, "x": "y".repeat(if n == 0 { 1_000_000 } else { 1000 })})
            .collect();
        // More than is compressed at once, and less.
        let (large, small) = documents.split_at(1);
        for documents in [large, small] {
            alice
                .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
                .await;
        }
        let found = alice
            .ok(&doc! {"find": "c", "batchSize": 200, "$db": db})
            .await;
        assert_eq!(batch(&found).len(), 100);
        assert!(taken(&administrator, compressor).await > before);
    }
}
