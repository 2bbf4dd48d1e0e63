use super::*;
use crate::testing::{Client, PEER, Proxy, server_hello};
use bson::{Bson, Document as Doc, doc};
use mdb_upstream::DeploymentKind;
use mdb_wire::frame::{HEADER_BYTES, header};
use mdb_wire::message::{CHECKSUM_PRESENT, EXHAUST_ALLOWED, MORE_TO_COME};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

fn keys(document: &Doc) -> Vec<&str> {
    document.keys().map(String::as_str).collect()
}

const FACE: &[&str] = &[
    "msg",
    "topologyVersion",
    "maxBsonObjectSize",
    "maxMessageSizeBytes",
    "maxWriteBatchSize",
    "localTime",
    "logicalSessionTimeoutMinutes",
    "connectionId",
    "minWireVersion",
    "maxWireVersion",
    "ok",
];

#[tokio::test]
async fn hello_has_exactly_its_fields() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let reply = client
        .command(doc! {"hello": 1, "backpressure": "2", "unknown": 1})
        .await;
    assert_eq!(keys(&reply), [&["isWritablePrimary"], FACE].concat());
    assert_eq!(reply.get_str("msg").ok(), Some("isdbgrid"));
    assert_eq!(reply.get_i32("maxWireVersion").ok(), Some(9));
    assert_eq!(reply.get_i32("maxBsonObjectSize").ok(), Some(16_777_216));
    assert_eq!(reply.get_i32("maxMessageSizeBytes").ok(), Some(45_000_000));
    assert!(matches!(reply.get("connectionId"), Some(Bson::Int32(1..))));

    let legacy = client.command(doc! {"ismaster": 1, "helloOk": true}).await;
    assert_eq!(keys(&legacy), [&["helloOk", "ismaster"], FACE].concat());
    let plain = client.command(doc! {"isMaster": 1, "helloOk": false}).await;
    assert_eq!(keys(&plain), [&["ismaster"], FACE].concat());
    assert_eq!(reply.get("topologyVersion"), plain.get("topologyVersion"));
}

#[tokio::test]
async fn hello_by_op_query_is_answered_by_op_reply() {
    let proxy = Proxy::new().await;
    for (namespace, body) in [
        ("admin.$cmd", doc! {"isMaster": 1}),
        ("shop.$cmd", doc! {"ismaster": true}),
        (
            "admin.$cmd",
            doc! {"$query": {"isMaster": 1}, "$readPreference": {"mode": "primary"}},
        ),
    ] {
        let (mut client, _) = proxy.connect();
        let id = client.send_query(namespace, &body).await;
        let reply = client.receive().await.unwrap();
        assert_eq!((reply.opcode, reply.flags(), reply.response_to), (1, 8, id));
        assert_eq!(
            keys(&reply.body()),
            [&["ismaster"], FACE].concat(),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_standalone_is_not_shown_as_a_mongos() {
    let proxy = Proxy::new().await;
    proxy
        .shared
        .hello
        .learn(&server_hello(DeploymentKind::Standalone));
    let (mut client, _) = proxy.connect();
    let reply = client.command(doc! {"hello": 1}).await;
    assert_eq!(keys(&reply), [&["isWritablePrimary"], &FACE[1..]].concat());
    assert_eq!(reply.get_i32("maxWireVersion").ok(), Some(17));
}

#[tokio::test]
async fn metadata_comes_once() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let greeting =
        doc! {"hello": 1, "client": {"driver": {"name": "d", "version": "1"}, "os": {"type": "x"}}};
    assert_eq!(
        client.command(greeting.clone()).await.get_f64("ok").ok(),
        Some(1.0)
    );
    assert_eq!(
        client.command(greeting).await.get_i32("code").ok(),
        Some(186)
    );
    assert_eq!(
        client.command(doc! {"hello": 1}).await.get_f64("ok").ok(),
        Some(1.0)
    );
}

fn awaiting(reply: &Doc, millis: i32) -> Doc {
    let version = reply.get_document("topologyVersion").unwrap().clone();
    doc! {"hello": 1, "topologyVersion": version, "maxAwaitTimeMS": millis}
}

#[tokio::test(start_paused = true)]
async fn an_awaitable_hello_waits_for_news_or_its_time() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let first = client.command(doc! {"hello": 1}).await;
    let same = client.command(awaiting(&first, 10_000)).await;
    assert_eq!(same.get("topologyVersion"), first.get("topologyVersion"));

    // More would follow; what the client says next ends it.
    client
        .send(EXHAUST_ALLOWED, awaiting(&first, i32::MAX))
        .await;
    proxy
        .shared
        .hello
        .learn(&server_hello(DeploymentKind::ReplicaSet));
    let news = client.receive().await.unwrap();
    assert_eq!(news.flags(), MORE_TO_COME);
    let version = news.body().get_document("topologyVersion").unwrap().clone();
    assert_eq!(version.get_i64("counter").ok(), Some(1));

    let old = client.command(awaiting(&first, i32::MAX)).await;
    assert_eq!(old.get_document("topologyVersion").ok(), Some(&version));
    let mut ahead = awaiting(&first, 10);
    ahead
        .get_document_mut("topologyVersion")
        .unwrap()
        .insert("counter", 9_i64);
    assert_eq!(
        client.command(ahead).await.get_i32("code").ok(),
        Some(51761)
    );
    let mut foreign = awaiting(&first, i32::MAX);
    let process = bson::oid::ObjectId::from_bytes([0; 12]);
    foreign
        .get_document_mut("topologyVersion")
        .unwrap()
        .insert("processId", process);
    assert_eq!(client.command(foreign).await.get_f64("ok").ok(), Some(1.0));
}

#[tokio::test]
async fn waiting_and_new_hellos_learn_of_the_shutdown() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let first = client.command(doc! {"hello": 1}).await;
    client.send(0, awaiting(&first, i32::MAX)).await;
    proxy.shared.hello.shut_down();
    let waited = client.receive().await.unwrap().body();
    let new = client.command(doc! {"hello": 1}).await;
    for reply in [&waited, &new] {
        assert_eq!(
            keys(reply),
            ["ok", "errmsg", "code", "codeName", "topologyVersion"]
        );
        assert_eq!(reply.get_str("codeName").ok(), Some("ShutdownInProgress"));
    }
    assert_eq!(
        client.command(doc! {"ping": 1}).await.get_f64("ok").ok(),
        Some(1.0)
    );
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_it_waits_for() {
    let proxy = Proxy::new().await;
    let (mut client, served) = proxy.connect();
    let first = client.command(doc! {"hello": 1}).await;
    client.send(0, awaiting(&first, i32::MAX)).await;
    tokio::task::yield_now().await;
    drop(client);
    assert_eq!(served.await.unwrap(), CloseReason::Client);
}

#[tokio::test]
async fn a_last_word_is_carried_out_after_its_client_has_left() {
    let proxy = Proxy::new().await;
    let (mut client, served) = proxy.connect();
    let first = client.command(doc! {"hello": 1}).await;
    client.send(MORE_TO_COME, awaiting(&first, i32::MAX)).await;
    drop(client);
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert!(!served.is_finished());
    proxy
        .shared
        .hello
        .learn(&server_hello(DeploymentKind::ReplicaSet));
    assert_eq!(served.await.unwrap(), CloseReason::Client);
}

#[tokio::test]
async fn answers_come_in_the_order_of_questions() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let first = client.command(doc! {"hello": 1}).await;
    let mut ids = vec![client.send(0, awaiting(&first, i32::MAX)).await];
    for _ in 0..20 {
        ids.push(client.send(0, doc! {"ping": 1}).await);
    }
    proxy
        .shared
        .hello
        .learn(&server_hello(DeploymentKind::ReplicaSet));
    for id in ids {
        assert_eq!(client.receive().await.unwrap().response_to, id);
    }
}

#[tokio::test]
async fn more_to_come_gets_no_reply_whatever_happens() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    for body in [
        doc! {"ping": 1},
        doc! {"nonsense": 1},
        doc! {"insert": "c"},
        doc! {},
    ] {
        client.send(MORE_TO_COME, body).await;
    }
    let id = client.send(0, doc! {"ping": 1}).await;
    assert_eq!(client.receive().await.unwrap().response_to, id);
}

#[tokio::test]
async fn a_checksum_is_answered_by_one() {
    let proxy = Proxy::new().await;
    let (mut client, served) = proxy.connect();
    let body = bson::serialize_to_vec(&doc! {"ping": 1, "$db": "admin"}).unwrap();
    let message = |spoil: u8| {
        let mut out = header(HEADER_BYTES + 9 + body.len(), 7, 0, OpCode::Message).to_vec();
        out.extend(CHECKSUM_PRESENT.to_le_bytes());
        out.push(0);
        out.extend(&body);
        let checksum = crc32c_of(&out) ^ u32::from(spoil);
        out.extend(checksum.to_le_bytes());
        out
    };
    client.stream.write_all(&message(0)).await.unwrap();
    let reply = client.receive().await.unwrap();
    assert_eq!(
        (reply.flags(), reply.body()),
        (CHECKSUM_PRESENT, doc! {"ok": 1.0})
    );
    let (covered, checksum) = reply.bytes.split_at(reply.bytes.len() - 4);
    assert_eq!(crc32c_of(covered).to_le_bytes(), checksum);

    client.stream.write_all(&message(1)).await.unwrap();
    assert!(client.receive().await.is_none());
    assert_eq!(served.await.unwrap(), CloseReason::Protocol);
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit.
fn crc32c_of(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 {
                crc >> 1 ^ 0x82F6_3B78
            } else {
                crc >> 1
            }
        })
    })
}

#[tokio::test]
async fn what_is_no_message_is_answered_and_ends_the_connection() {
    let body = bson::serialize_to_vec(&doc! {"ping": 1, "$db": "admin"}).unwrap();
    let with_flags = |flags: u32, kind: u8, body: &[u8]| {
        let mut payload = flags.to_le_bytes().to_vec();
        payload.push(kind);
        payload.extend_from_slice(body);
        payload
    };
    let mut no_bson = body.clone();
    no_bson[4] = 0x55;
    // Payload and the code of the reply, if there is one.
    let cases = [
        (with_flags(1 << 5, 0, &body), None),
        (with_flags(0, 2, &body), Some(13)),
        (with_flags(0, 0, &no_bson), Some(22)),
        (with_flags(0, 0, &body[..body.len() - 1]), Some(22)),
        (with_flags(MORE_TO_COME, 2, &body), None),
        (vec![0; 2], Some(15)),
    ];
    let proxy = Proxy::new().await;
    for (payload, code) in cases {
        let (mut client, served) = proxy.connect();
        client.send_raw(OpCode::Message, &payload).await;
        let reply = client.receive().await;
        let found = reply.map(|reply| reply.body().get_i32("code").unwrap());
        assert_eq!(found, code, "{payload:?}");
        assert_eq!(served.await.unwrap(), CloseReason::Protocol);
    }
}

#[tokio::test]
async fn what_is_no_command_is_answered_and_the_connection_goes_on() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let cases = [
        (doc! {"nonsense": 1}, 59),
        (doc! {"ping": 1, "$db": "a.b"}, 73),
        (doc! {"ping": 1, "$db": 1}, 13111),
        (doc! {"ping": 1, "apiVersion": "2"}, 322),
        (doc! {"applyOps": []}, 13),
    ];
    for (body, code) in cases {
        let reply = client.command(body.clone()).await;
        assert_eq!(reply.get_i32("code").ok(), Some(code), "{body}");
    }
    let mut sequence = vec![0; 4];
    sequence.push(1);
    sequence.extend(15_i32.to_le_bytes());
    sequence.extend(b"documents\0");
    sequence.extend([5, 0, 0, 0, 0]);
    sequence[5] = 19;
    sequence.push(0);
    sequence.extend(bson::serialize_to_vec(&doc! {"ping": 1, "$db": "admin"}).unwrap());
    client.send_raw(OpCode::Message, &sequence).await;
    let reply = client.receive().await.unwrap().body();
    assert_eq!(reply.get_i32("code").ok(), Some(40415), "{reply}");
    assert_eq!(client.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
}

#[tokio::test]
async fn opcodes_of_the_past_are_refused() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    client.send_query("admin.$cmd", &doc! {"ping": 1}).await;
    let reply = client.receive().await.unwrap();
    assert_eq!((reply.opcode, reply.flags()), (1, 8));
    assert_eq!(reply.body().get_i32("code").ok(), Some(352));

    client.send_query("shop.orders", &doc! {}).await;
    let query = client.receive().await.unwrap();
    client.send_raw(OpCode::GetMore, &[0; 20]).await;
    let get_more = client.receive().await.unwrap();
    for reply in [query, get_more] {
        assert_eq!((reply.opcode, reply.flags()), (1, 2));
        assert_eq!(keys(&reply.body()), ["$err", "code", "ok"]);
        assert_eq!(reply.body().get_i32("code").ok(), Some(5_739_101));
    }
    client.send_raw(OpCode::Reply, &[0; 20]).await;
    assert!(client.receive().await.is_none());
}

#[tokio::test]
async fn strangers_get_the_hand_shake_only() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    for spec in mdb_scope::COMMANDS
        .iter()
        .filter(|spec| !spec.before_authentication)
    {
        let mut body = Doc::new();
        body.insert(spec.name, "c");
        let reply = client.command(body).await;
        assert_eq!(reply.get_i32("code").ok(), Some(13), "{}", spec.name);
        let text = format!("command {} requires authentication", spec.name);
        assert_eq!(reply.get_str("errmsg").ok(), Some(text.as_str()));
    }
    for name in [
        "ping",
        "buildInfo",
        "connectionStatus",
        "whatsmyuri",
        "logout",
    ] {
        let mut body = Doc::new();
        body.insert(name, 1);
        assert_eq!(
            client.command(body).await.get_f64("ok").ok(),
            Some(1.0),
            "{name}"
        );
    }
}

#[tokio::test]
async fn strangers_may_send_little_and_apps_what_hello_says() {
    let proxy = Proxy::new().await;
    let big = doc! {"ping": 1, "comment": "x".repeat(100_000)};
    let (mut stranger, served) = proxy.connect();
    stranger.send(0, big.clone()).await;
    assert_eq!(
        stranger
            .receive()
            .await
            .unwrap()
            .body()
            .get_i32("code")
            .ok(),
        Some(17)
    );
    assert_eq!(served.await.unwrap(), CloseReason::Protocol);

    let mut client = proxy.connect_shop().await;
    assert_eq!(client.command(big).await, doc! {"ok": 1.0});
    client
        .stream
        .write_all(&header(45_000_001, 1, 0, OpCode::Message))
        .await
        .unwrap();
    assert_eq!(
        client.receive().await.unwrap().body().get_i32("code").ok(),
        Some(17)
    );
    assert!(client.receive().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn the_silent_are_closed_and_monitors_are_not() {
    let proxy = Proxy::new().await;
    let (_silent, silent_served) = proxy.connect();
    let (mut slow, slow_served) = proxy.connect();
    slow.stream.write_all(&[1, 2, 3]).await.unwrap();
    let (mut monitor, monitor_served) = proxy.connect();
    monitor.command(doc! {"hello": 1}).await;
    assert_eq!(silent_served.await.unwrap(), CloseReason::HandshakeTimeout);
    assert_eq!(slow_served.await.unwrap(), CloseReason::HandshakeTimeout);
    tokio::time::advance(Duration::from_secs(100_000)).await;
    assert_eq!(
        monitor.command(doc! {"hello": 1}).await.get_f64("ok").ok(),
        Some(1.0)
    );
    assert!(!monitor_served.is_finished());
}

#[tokio::test]
async fn when_all_must_leave_commands_are_answered_with_91() {
    let proxy = Proxy::new().await;
    let (_idle, idle_served) = proxy.connect();
    let mut waiting = proxy.connect_shop().await;
    let first = waiting.command(doc! {"hello": 1}).await;
    waiting.send(0, awaiting(&first, i32::MAX)).await;
    tokio::task::yield_now().await;
    let write = doc! {"insert": "c", "txnNumber": 1_i64, "lsid": {}, "documents": [{}]};
    waiting.send(0, write).await;
    proxy.leave.cancel();
    assert_eq!(idle_served.await.unwrap(), CloseReason::Drain);
    let waited = waiting.receive().await.unwrap().body();
    assert_eq!(waited.get_i32("code").ok(), Some(91));
    assert!(!waited.contains_key("errorLabels"));
    let written = waiting.receive().await.unwrap().body();
    assert_eq!(written.get_i32("code").ok(), Some(91));
    assert_eq!(
        written.get_array("errorLabels").ok(),
        Some(&vec!["RetryableWriteError".into()])
    );
    assert!(waiting.receive().await.is_none());
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_one_reply() {
    let proxy = Proxy::new().await;
    let (stream, far_end) = tokio::io::duplex(64);
    let served = serve_client(
        far_end,
        PEER.into(),
        Arc::clone(&proxy.shared),
        proxy.leave.clone(),
    );
    let served = tokio::spawn(served);
    let (reading, writing) = tokio::io::split(stream);
    let mut writing = Client::new(tokio::io::join(tokio::io::empty(), writing));
    let writer = tokio::spawn(async move {
        for _ in 0..50 {
            writing.send(0, doc! {"listCommands": 1}).await;
        }
    });
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    assert!(
        !writer.is_finished(),
        "the proxy reads on although its replies are not read"
    );
    writer.abort();
    drop(reading);
    drop(writer.await);
    assert!(matches!(
        served.await.unwrap(),
        CloseReason::Client | CloseReason::Io
    ));
}

#[tokio::test]
async fn an_idle_client_is_small() {
    let proxy = Proxy::new().await;
    let (_client, far_end) = tokio::io::duplex(64);
    let served = serve_client(
        far_end,
        PEER.into(),
        Arc::clone(&proxy.shared),
        proxy.leave.clone(),
    );
    let bytes = size_of_val(&served);
    assert!(bytes <= IDLE_TASK_BYTES_MAX, "{bytes} bytes");
}

/// A quarter of what an idle client may take in all (8 KiB); the rest is for its buffer and its socket.
const IDLE_TASK_BYTES_MAX: usize = 2048;

#[tokio::test(start_paused = true)]
async fn idle_connections_are_closed_where_it_is_wished_and_monitors_never() {
    let idle_timeout = Some(Duration::from_secs(60));
    let limits = crate::ClientLimits {
        idle_timeout,
        ..crate::testing::LIMITS
    };
    let proxy = Proxy::with_limits(limits).await;
    let (mut monitor, _serving) = proxy.connect();
    monitor.command(doc! {"hello": 1}).await;
    let (mut client, served) = proxy.connect();
    let mechanism = mdb_auth::Mechanism::ScramSha256;
    client.authenticate(mechanism, "shop", "pencil").await;
    let start = Instant::now();
    for _ in 0..3 {
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(client.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
    }
    assert_eq!(served.await.unwrap(), CloseReason::Idle);
    assert!(start.elapsed() >= Duration::from_secs(3 * 59 + 60));
    assert_eq!(monitor.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
}
