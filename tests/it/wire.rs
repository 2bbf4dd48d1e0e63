//! Messages, well-formed and otherwise.

use bson::{Document, doc};
use mdb_tests::script::Words;
use mdb_tests::{RawClient, Section, TestProxy, is_ok, is_since, raw, shared};
use mdb_wire::OpCode;
use mdb_wire::frame::header;
use mdb_wire::message::{CHECKSUM_PRESENT, MORE_TO_COME};

async fn start() -> (TestProxy, RawClient) {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let alice = proxy.raw("alice").await;
    (proxy, alice)
}

fn with_header(op_code: OpCode, rest: &[u8]) -> Vec<u8> {
    let mut bytes = header(16 + rest.len(), 77, 0, op_code).to_vec();
    bytes.extend_from_slice(rest);
    bytes
}

fn query(namespace: &str, body: &Document) -> Vec<u8> {
    query_for(0, -1, namespace, body)
}

fn query_for(flags: u32, number_to_return: i32, namespace: &str, body: &Document) -> Vec<u8> {
    let mut rest = flags.to_le_bytes().to_vec();
    rest.extend_from_slice(namespace.as_bytes());
    rest.extend_from_slice(&[0; 5]);
    rest.extend_from_slice(&number_to_return.to_le_bytes());
    rest.extend_from_slice(raw(body).as_bytes());
    with_header(OpCode::Query, &rest)
}

#[tokio::test]
async fn document_sequences_stand_for_the_field_of_their_name() {
    let (proxy, mut alice) = start().await;
    let db = proxy.database_name();
    let documents: Vec<_> = (0..10).map(|n| raw(&doc! {"_id": n})).collect();
    let body = raw(&doc! {"insert": "c", "$db": db});
    // In front of the body as well as behind it.
    let sections = [
        Section::Sequence("documents", &documents),
        Section::Body(&body),
    ];
    let reply = alice.try_exchange(&sections).await.unwrap().document();
    assert_eq!(reply.get_i32("n").unwrap(), 10, "{reply}");
    let updates = [
        raw(&doc! {"q": {"_id": 1}, "u": {"$set": {"x": 1}}}),
        raw(&doc! {"q": {}, "u": {"$set": {"y": 1}}, "multi": true}),
    ];
    let body = raw(&doc! {"update": "c", "$db": db});
    let reply = alice
        .try_exchange(&[Section::Body(&body), Section::Sequence("updates", &updates)])
        .await;
    assert_eq!(reply.unwrap().document().get_i32("n").unwrap(), 11);
    let find = raw(&doc! {"find": "c", "$db": db});
    let insert = raw(&doc! {"insert": "c", "documents": [], "$db": db});
    let insert_more = raw(&doc! {"insert": "c", "$db": db});
    let ping = raw(&doc! {"ping": 1, "$db": db});
    let filter = [raw(&doc! {})];
    for (body, names, code) in [
        (&find, vec!["filter"], 40415),
        (&ping, vec!["x"], 40415),
        (&insert, vec!["documents"], 40433),
        (&insert_more, vec!["documents", "documents"], 40431),
        (&insert_more, vec!["updates"], 40415),
    ] {
        let mut sections = vec![Section::Body(body)];
        sections.extend(names.iter().map(|name| Section::Sequence(name, &filter)));
        let reply = alice.try_exchange(&sections).await.unwrap().document();
        assert_eq!(reply.get_i32("code").unwrap(), code, "{reply}");
    }
}

#[tokio::test]
async fn checksums_are_checked_and_answered_in_kind() {
    let (proxy, mut alice) = start().await;
    let ping = raw(&doc! {"ping": 1, "$db": proxy.database_name()});
    alice.send(CHECKSUM_PRESENT, &[Section::Body(&ping)]).await;
    let reply = alice.receive().await.unwrap();
    assert_eq!(reply.flags, CHECKSUM_PRESENT);
    alice.send(0, &[Section::Body(&ping)]).await;
    assert_eq!(alice.receive().await.unwrap().flags, 0);
    let mut rest = CHECKSUM_PRESENT.to_le_bytes().to_vec();
    rest.push(0);
    rest.extend_from_slice(ping.as_bytes());
    rest.extend_from_slice(&[1, 2, 3, 4]);
    alice.send_bytes(&with_header(OpCode::Message, &rest)).await;
    while let Some(reply) = alice.receive().await {
        assert!(!is_ok(&reply.document()));
    }
}

#[tokio::test]
async fn messages_without_reply_keep_their_order() {
    let (proxy, mut alice) = start().await;
    let db = proxy.database_name();
    let unacknowledged = doc! {"w": 0};
    for n in 0..50 {
        let insert = doc! {"insert": "c", "documents": [{"_id": n}], "writeConcern": unacknowledged.clone(), "$db": db};
        alice
            .send(MORE_TO_COME, &[Section::Body(&raw(&insert))])
            .await;
    }
    // One that is refused has no reply either.
    let bad = doc! {"insert": "c", "documents": [{"app_id": "x"}], "$db": db};
    alice.send(MORE_TO_COME, &[Section::Body(&raw(&bad))]).await;
    let count = alice.ok(&doc! {"count": "c", "$db": db}).await;
    assert_eq!(count.get_i32("n").unwrap(), 50);
}

#[tokio::test]
async fn many_requests_at_once_are_answered_in_order() {
    let (proxy, mut alice) = start().await;
    let db = proxy.database_name();
    let mut sent = Vec::new();
    for n in 0..100 {
        let command = match n % 3 {
            0 => doc! {"insert": "c", "documents": [{"_id": n}], "$db": db},
            1 => doc! {"ping": 1, "$db": db},
            _ => doc! {"find": "c", "filter": {"_id": n - 2}, "$db": db},
        };
        sent.push(alice.send(0, &[Section::Body(&raw(&command))]).await);
    }
    for (n, id) in sent.into_iter().enumerate() {
        let reply = alice.receive().await.unwrap();
        assert_eq!(reply.response_to, id);
        let document = reply.document();
        assert!(is_ok(&document), "{document}");
        if n % 3 == 2 {
            assert_eq!(mdb_tests::batch(&document).len(), 1);
        }
    }
}

#[tokio::test]
async fn old_opcodes_are_answered_or_closed() {
    let (proxy, _alice) = start().await;
    let mut old = proxy.raw_stranger().await;
    old.send_bytes(&query("admin.$cmd", &doc! {"isMaster": 1, "helloOk": true}))
        .await;
    let reply = old.receive().await.unwrap();
    assert_eq!((reply.op_code, reply.response_to, reply.flags), (1, 77, 8));
    let hello = reply.document();
    assert!(hello.get_bool("ismaster").unwrap() && hello.get_bool("helloOk").unwrap());
    old.send_bytes(&query("admin.$cmd", &doc! {"find": "c"}))
        .await;
    let reply = old.receive().await.unwrap();
    assert_eq!(reply.document().get_i32("code").unwrap(), 352);
    old.send_bytes(&query("db.c", &doc! {})).await;
    let reply = old.receive().await.unwrap();
    assert_eq!(
        (reply.flags, reply.document().get_i32("code").unwrap()),
        (2, 5_739_101)
    );
    for number in [2001_i32, 2002, 2006, 2007, 2010, 2012, 1, 9999] {
        let mut client = proxy.raw("alice").await;
        let mut bytes = with_header(OpCode::Message, &[0; 20]);
        bytes[12..16].copy_from_slice(&number.to_le_bytes());
        client.send_bytes(&bytes).await;
        while let Some(reply) = client.receive().await {
            assert!(!is_ok(&reply.document()), "{number}");
        }
    }
}

/// Each of these gets an error or nothing, and the end of its connection; the proxy lives on.
#[tokio::test]
async fn malformed_messages_end_their_connection() {
    let (proxy, mut bystander) = start().await;
    let ping = raw(&doc! {"ping": 1, "$db": "admin"});
    let body = |flags: u32, sections: &[u8]| {
        let mut rest = flags.to_le_bytes().to_vec();
        rest.extend_from_slice(sections);
        with_header(OpCode::Message, &rest)
    };
    let section = [&[0], ping.as_bytes()].concat();
    let mut long = section.clone();
    long[1] = 255;
    let mut unended = section.clone();
    *unended.last_mut().unwrap() = 1;
    let mut negative = header(16, 1, 0, OpCode::Message).to_vec();
    negative[..4].copy_from_slice(&(-5_i32).to_le_bytes());
    let mut huge = negative.clone();
    huge[..4].copy_from_slice(&i32::MAX.to_le_bytes());
    let cases = [
        ("no section", body(0, &[])),
        (
            "two bodies",
            body(0, &[section.clone(), section.clone()].concat()),
        ),
        (
            "an unknown kind",
            body(0, &[&section[..], &[2, 0]].concat()),
        ),
        ("a kind from nowhere", body(0, &[9, 9, 9])),
        ("a length beyond the message", body(0, &long)),
        ("a document without its end", body(0, &unended)),
        ("a required flag that is unknown", body(1 << 5, &section)),
        (
            "bytes behind the document",
            body(0, &[&section[..], &[0]].concat()),
        ),
        (
            "a sequence that is too long",
            body(0, &[&section[..], &[1, 255, 0, 0, 0, b'a', 0]].concat()),
        ),
        (
            "a sequence with a negative size",
            body(
                0,
                &[&section[..], &[1, 255, 255, 255, 255, b'a', 0]].concat(),
            ),
        ),
        ("a negative length", negative),
        ("a length of 2 GiB", huge),
        (
            "no protocol at all",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        ),
    ];
    for (name, bytes) in cases {
        for logs_in in [true, false] {
            let mut client = if logs_in {
                proxy.raw("alice").await
            } else {
                proxy.raw_stranger().await
            };
            client.send_bytes(&bytes).await;
            while let Some(reply) = client.receive().await {
                assert!(!is_ok(&reply.document()), "{name}");
            }
        }
    }
    bystander.ok(&doc! {"ping": 1, "$db": "admin"}).await;
}

/// What a mongod answers (6.0.5), and where it does not: `None`.
#[tokio::test]
async fn what_is_malformed_is_told_as_by_a_server() {
    let (proxy, _alice) = start().await;
    let server = shared().await.member(0).address().parse().unwrap();
    let ping = raw(&doc! {"ping": 1, "$db": "admin"});
    let body = |flags: u32, sections: &[u8]| {
        let rest = [&flags.to_le_bytes(), sections].concat();
        with_header(OpCode::Message, &rest)
    };
    let section = [&[0], ping.as_bytes()].concat();
    let behind = |bytes: &[u8]| body(0, &[&section[..], bytes].concat());
    let mut unended = section.clone();
    *unended.last_mut().unwrap() = 1;
    let hello = doc! {"isMaster": 1};
    let cases = [
        (body(0, &[]), Some(40587)),
        (body(0, b"\x01\x06\0\0\0a\0"), Some(40587)),
        (behind(&section), Some(40430)),
        (behind(&[0]), Some(40430)),
        (behind(&[2]), Some(13)),
        (behind(&[9, 9, 9]), Some(40432)),
        (behind(&[1, 255, 0, 0, 0, b'a', 0]), Some(15)),
        (behind(&[1, 255, 255, 255, 255, b'a', 0]), Some(15)),
        (body(0, &unended), Some(22)),
        (body(1 << 5, &section), None),
        (
            body(CHECKSUM_PRESENT, &[&section[..], b"1234"].concat()),
            None,
        ),
        (query_for(64, -1, "admin.$cmd", &hello), Some(18527)),
        (query_for(0, 0, "admin.$cmd", &hello), Some(16979)),
        (
            query_for(0, -2, "admin.$cmd", &doc! {"ping": 1}),
            Some(16979),
        ),
        (query_for(0, 0, "db.c", &doc! {}), Some(5_739_101)),
    ];
    for (number, (bytes, expected)) in cases.into_iter().enumerate() {
        let mut clients = vec![proxy.raw("alice").await];
        if is_since(shared().await, "6.0") {
            clients.push(RawClient::connect(server).await);
        }
        for mut client in clients {
            client.send_bytes(&bytes).await;
            let reply = client.receive().await.map(|reply| reply.document());
            let code = reply.as_ref().map(|reply| reply.get_i32("code").unwrap());
            assert_eq!(code, expected, "{number}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn what_is_no_command_is_told_and_the_connection_stays() {
    let (proxy, mut alice) = start().await;
    let words = Words::default();
    let db = proxy.database_name();
    for (yaml, code) in [
        ("{}", 40571),
        ("{ ping: 1 }", 40571),
        ("{ ping: 1, $db: 7 }", 13111),
        ("{ ping: 1, $db: a.b }", 73),
        ("{ ping: 1, $db: a, $db#2: b }", 40413),
        ("{ find: c, filter: {}, filter#2: {}, $db: DB }", 40413),
        ("{ nothing: 1, $db: DB }", 59),
        ("{ find: c, limit: 1, nothing: 1, $db: DB }", 40415),
        ("{ find: c, filter: 7, $db: DB }", 14),
        ("{ find: c, sort: [], $db: DB }", 14),
        ("{ insert: c, $db: DB }", 40414),
        ("{ insert: c, documents: 1, $db: DB }", 14),
        ("{ insert: c, documents: [], $db: DB }", 16),
    ] {
        let body = words.document(&serde_yaml::from_str(&yaml.replace("DB", db)).unwrap());
        let reply = alice
            .try_exchange(&[Section::Body(&body)])
            .await
            .unwrap()
            .document();
        assert_eq!(reply.get_i32("code").ok(), Some(code), "{yaml}: {reply}");
    }
    alice.ok(&doc! {"ping": 1, "$db": db}).await;
}

#[tokio::test]
async fn limits_hold_at_their_edges() {
    let (proxy, mut alice) = start().await;
    let db = proxy.database_name();
    let hello = alice.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    let document_max = usize::try_from(hello.get_i32("maxBsonObjectSize").unwrap()).unwrap();
    let of_size = |size: usize| {
        let empty = raw(&doc! {"_id": 1, "x": ""}).as_bytes().len();
        raw(&doc! {"_id": 1, "x": "x".repeat(size - empty)})
    };
    let body = raw(&doc! {"insert": "c", "$db": db});
    let stamp = raw(&doc! {"app_id": proxy.slug("alice")}).as_bytes().len()
        - raw(&doc! {}).as_bytes().len();
    let fits = [of_size(document_max - stamp)];
    let reply = alice
        .try_exchange(&[Section::Body(&body), Section::Sequence("documents", &fits)])
        .await;
    assert_eq!(reply.unwrap().document().get_i32("n").unwrap(), 1);
    let too_large = [of_size(document_max - stamp + 1)];
    let reply = alice
        .try_exchange(&[
            Section::Body(&body),
            Section::Sequence("documents", &too_large),
        ])
        .await;
    let reply = reply.unwrap().document();
    assert!(reply.contains_key("writeErrors"), "{reply}");
    alice.ok(&doc! {"ping": 1, "$db": db}).await;
    // A message beyond what hello says ends the connection, before it is read.
    let message_max = hello.get_i32("maxMessageSizeBytes").unwrap();
    let mut head = header(16, 1, 0, OpCode::Message).to_vec();
    head[..4].copy_from_slice(&(message_max + 3_100_000).to_le_bytes());
    alice.send_bytes(&head).await;
    while let Some(reply) = alice.receive().await {
        assert!(!is_ok(&reply.document()));
    }
    let mut stranger = proxy.raw_stranger().await;
    head[..4].copy_from_slice(&(1024 * 1024_i32).to_le_bytes());
    stranger.send_bytes(&head).await;
    while let Some(reply) = stranger.receive().await {
        assert!(!is_ok(&reply.document()));
    }
}

#[tokio::test]
async fn nesting_is_taken_up_to_the_servers_limit() {
    let (proxy, mut alice) = start().await;
    let words = Words::default();
    let document = |depth: usize| {
        let yaml = format!(
            "{{ insert: c, documents: [{{ a: !nest {depth} }}], $db: {} }}",
            proxy.database_name()
        );
        words.document(&serde_yaml::from_str(&yaml).unwrap())
    };
    let reply = alice
        .try_exchange(&[Section::Body(&document(150))])
        .await
        .unwrap()
        .document();
    assert!(is_ok(&reply), "{reply}");
    alice.send(0, &[Section::Body(&document(100_000))]).await;
    while let Some(reply) = alice.receive().await {
        assert!(!is_ok(&reply.document()));
    }
}

/// Byte by byte, as slow networks bring it.
#[tokio::test]
async fn a_message_may_come_in_pieces() {
    let (proxy, mut alice) = start().await;
    let ping = raw(&doc! {"ping": 1, "$db": proxy.database_name()});
    let mut rest = vec![0; 5];
    rest.extend_from_slice(ping.as_bytes());
    for byte in with_header(OpCode::Message, &rest) {
        alice.send_bytes(&[byte]).await;
        // The proxy, on the same runtime, reads what has come.
        tokio::task::yield_now().await;
    }
    assert!(is_ok(&alice.receive().await.unwrap().document()));
}
