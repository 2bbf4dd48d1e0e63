//! `bulkWrite` of MongoDB 8.0, in front of a server of the test's own: it says that it is an 8.0, remembers what it is asked,
//! and answers as one.

use std::sync::{Arc, Mutex};

use bson::{Binary, Bson, Document, RawDocument, doc, spec::BinarySubtype};
use mdb_tests::{ProxyBuilder, RawClient, Section, TestProxy, raw};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What the server was asked, bodies and sequences as one document.
type Asked = Arc<Mutex<Vec<Document>>>;

const OP_REPLY: i32 = 1;
const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;

async fn start(wire_version: i32) -> (String, Asked) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Asked::default();
    let shared = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, wire_version, Arc::clone(&shared)));
        }
    });
    (format!("mongodb://{address}/?directConnection=true"), asked)
}

async fn serve(mut stream: TcpStream, wire_version: i32, asked: Asked) -> Option<()> {
    loop {
        let length = stream.read_i32_le().await.ok()?;
        let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
        stream.read_exact(&mut rest).await.ok()?;
        let number = |at: usize| i32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
        let (request_id, opcode) = (number(0), number(8));
        let command = if opcode == OP_QUERY {
            let name_end = 16 + rest[16..].iter().position(|&b| b == 0).unwrap();
            document(&rest[name_end + 9..]).0
        } else {
            message(&rest[16..])
        };
        let answer = bson::serialize_to_vec(&answer(&command, wire_version)).unwrap();
        asked.lock().unwrap().push(command);
        let mut out = Vec::new();
        if opcode == OP_QUERY {
            out.extend_from_slice(&[0; 16]);
            out.extend_from_slice(&1_i32.to_le_bytes());
        } else {
            out.extend_from_slice(&[0; 5]);
        }
        out.extend_from_slice(&answer);
        let kind = if opcode == OP_QUERY { OP_REPLY } else { OP_MSG };
        let length = i32::try_from(out.len() + 16).unwrap();
        let header = [length, 1, request_id, kind].map(i32::to_le_bytes).concat();
        stream.write_all(&[header, out].concat()).await.ok()?;
    }
}

fn document(bytes: &[u8]) -> (Document, &[u8]) {
    let length = i32::from_le_bytes(bytes[..4].try_into().unwrap());
    let (document, rest) = bytes.split_at(usize::try_from(length).unwrap());
    let document = RawDocument::from_bytes(document).unwrap();
    (Document::try_from(document).unwrap(), rest)
}

/// The body of a message, with its sequences as arrays.
fn message(mut rest: &[u8]) -> Document {
    let mut body = Document::new();
    while let Some((&kind, section)) = rest.split_first() {
        if kind == 0 {
            let (found, after) = document(section);
            let sequences = std::mem::take(&mut body);
            body = found;
            body.extend(sequences);
            rest = after;
            continue;
        }
        let length = i32::from_le_bytes(section[..4].try_into().unwrap());
        let (sequence, after) = section.split_at(usize::try_from(length).unwrap());
        let end = 4 + sequence[4..].iter().position(|&b| b == 0).unwrap();
        let name = String::from_utf8(sequence[4..end].to_vec()).unwrap();
        let (mut documents, mut left) = (Vec::new(), &sequence[end + 1..]);
        while !left.is_empty() {
            let (found, after) = document(left);
            documents.push(Bson::from(found));
            left = after;
        }
        body.insert(name, documents);
        rest = after;
    }
    body
}

fn cursor(id: i64, batch: &str, ns: &str, documents: Vec<Document>) -> Document {
    doc! {"cursor": {"id": id, batch: documents, "ns": ns}, "ok": 1.0}
}

fn answer(command: &Document, wire_version: i32) -> Document {
    let (name, target) = command.iter().next().unwrap();
    match name.as_str() {
        "hello" | "isMaster" | "ismaster" => doc! {
            "isWritablePrimary": true, "ismaster": true, "helloOk": true, "maxWireVersion": wire_version,
            "minWireVersion": 0, "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000, "logicalSessionTimeoutMinutes": 30, "ok": 1.0,
        },
        "buildInfo" => doc! {"version": "8.0.4", "versionArray": [8, 0, 4, 0], "ok": 1.0},
        "find" if target.as_str() == Some("keys") => {
            let key = Binary {
                subtype: BinarySubtype::Generic,
                bytes: vec![7; 32],
            };
            let found = vec![doc! {"_id": "sessions", "key": key}];
            cursor(0, "firstBatch", "mdb_runtime.keys", found)
        }
        "listIndexes" if target.as_str() == Some("own@shop") => {
            let index = |key: Document, name: &str| doc! {"v": 2, "key": key, "name": name};
            let indexes = vec![
                index(doc! {"_id": 1}, "_id_"),
                index(doc! {"a": 1, "b": 1}, "_auto.a_1_b_1"),
                index(doc! {"a": 1, "c": 1}, "_auto.a_1_c_1"),
            ];
            cursor(0, "firstBatch", "d.own@shop", indexes)
        }
        "find" | "aggregate" | "listCollections" | "listIndexes" => {
            cursor(0, "firstBatch", "d.c", Vec::new())
        }
        "findAndModify" => doc! {"value": null, "ok": 1.0},
        "bulkWrite" if command.get_str("comment").is_ok_and(|c| c == "arrays") => {
            let refused = doc! {
                "ok": 0.0, "idx": 1, "code": 171, "n": 0, "errmsg": "cannot index parallel arrays [b] [a]",
            };
            let mut reply = cursor(0, "firstBatch", "admin.$cmd.bulkWrite", vec![refused]);
            reply.extend(doc! {"nErrors": 1, "nInserted": 1});
            reply
        }
        "bulkWrite" => {
            let mut reply = cursor(77, "firstBatch", "admin.$cmd.bulkWrite", vec![outcome()]);
            reply.extend(doc! {"nErrors": 1, "nInserted": 1, "electionId": 5});
            reply
        }
        "getMore" => cursor(0, "nextBatch", "admin.$cmd.bulkWrite", vec![outcome()]),
        _ => doc! {"n": 0, "ok": 1.0},
    }
}

/// A statement that failed, in the server's terms.
fn outcome() -> Document {
    doc! {
        "ok": 0.0, "idx": 1, "code": 11000, "n": 0, "keyPattern": {"app_id": 1, "x": 1}, "keyValue": {"app_id": "shop", "x": 1},
        "errmsg": "E11000 duplicate key error collection: d.own@shop index: shop.x_1 dup key: { app_id: \"shop\", x: 1 }",
    }
}

/// What the client may be told of it.
fn told() -> Document {
    doc! {
        "ok": 0.0, "idx": 1, "code": 11000, "n": 0, "keyPattern": {"x": 1}, "keyValue": {"x": 1},
        "errmsg": "E11000 duplicate key error collection: d.own index: x_1 dup key: { x: 1 }",
    }
}

async fn proxy(wire_version: i32) -> (TestProxy, Asked) {
    let (uri, asked) = start(wire_version).await;
    let builder = ProxyBuilder::at(&uri).app_with_slug("shop", "shop");
    let isolation = "{ default: shared, collections: { own: dedicated } }";
    (builder.isolated(isolation).start().await, asked)
}

async fn send(client: &mut RawClient, body: Document) -> Document {
    let body = raw(&body);
    let ops = [
        doc! {"insert": 0, "document": {"_id": 1}},
        doc! {"update": 1, "filter": {"x": 1}, "updateMods": {"$set": {"y": 1}}, "upsert": true},
        doc! {"delete": 0, "filter": {}, "multi": true},
    ];
    let (ops, names) = (
        ops.each_ref().map(raw),
        [raw(&doc! {"ns": "d.c"}), raw(&doc! {"ns": "d.own"})],
    );
    let sections = [
        Section::Body(&body),
        Section::Sequence("ops", &ops),
        Section::Sequence("nsInfo", &names),
    ];
    client.try_exchange(&sections).await.unwrap().document()
}

#[tokio::test]
async fn statements_are_bound_and_outcomes_are_the_apps() {
    let (proxy, asked) = proxy(25).await;
    let mut client = proxy.raw("shop").await;
    let hello = client.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    assert_eq!(hello.get_i32("maxWireVersion").unwrap(), 25);
    let reply = send(
        &mut client,
        doc! {"bulkWrite": 1, "ordered": false, "$db": "admin"},
    )
    .await;
    assert!(mdb_tests::is_ok(&reply), "{reply}");
    assert_eq!(mdb_tests::batch(&reply), [told()]);
    assert!(!reply.contains_key("electionId"), "{reply}");
    let more = doc! {"getMore": mdb_tests::cursor_id(&reply), "collection": "$cmd.bulkWrite", "$db": "admin"};
    assert_eq!(mdb_tests::batch(&client.ok(&more).await), [told()]);
    assert_eq!(client.fails(&more).await, 43, "it is over");
    let asked = asked.lock().unwrap();
    let found = asked.iter().find(|c| c.contains_key("bulkWrite")).unwrap();
    let expected_names = [doc! {"ns": "d.c"}, doc! {"ns": "d.own@shop"}];
    let expected_ops = [
        doc! {"insert": 0, "document": {"_id": 1, "app_id": "shop"}},
        doc! {"update": 1, "filter": {"x": 1}, "updateMods": {"$set": {"y": 1}}, "upsert": true},
        doc! {"delete": 0, "filter": {"app_id": "shop"}, "multi": true},
    ];
    let list = |name: &str| found.get_array(name).unwrap().clone();
    assert_eq!(list("nsInfo"), expected_names.map(Bson::from));
    assert_eq!(list("ops"), expected_ops.map(Bson::from));
    let made: Vec<&Document> = asked
        .iter()
        .filter(|c| c.contains_key("createIndexes"))
        .collect();
    assert_eq!(
        made.len(),
        1,
        "the shared collection is made ready: {made:?}"
    );
    assert_eq!(made[0].get_str("createIndexes").unwrap(), "c");
    let more = asked.iter().find(|c| c.contains_key("getMore")).unwrap();
    assert_eq!(more.get_i64("getMore").unwrap(), 77);
}

/// As a server before 8.0 says it of an insert: the automatic index over the two fields goes, and the error is told.
#[tokio::test]
async fn an_automatic_index_gives_way_to_the_next_one() {
    let (proxy, asked) = proxy(25).await;
    let mut client = proxy.raw("shop").await;
    let dropped = || {
        let asked = asked.lock().unwrap();
        // Not the questions whether a collection is free, which drop an index of no name.
        let is_drop = |c: &&Document| c.get_str("index").is_ok_and(|index| index != "\0");
        let drops = asked.iter().filter(is_drop);
        let drops = drops.filter(|c| c.contains_key("dropIndexes"));
        let named =
            drops.map(|c| ["dropIndexes", "index"].map(|f| c.get_str(f).unwrap().to_owned()));
        named.collect::<Vec<_>>()
    };
    let bulk = doc! {"bulkWrite": 1, "ordered": false, "$db": "admin"};
    send(&mut client, bulk.clone()).await;
    assert!(dropped().is_empty());
    let mut refused = bulk;
    refused.insert("comment", "arrays");
    let reply = send(&mut client, refused).await;
    assert_eq!(
        mdb_tests::batch(&reply)[0].get_i32("code").unwrap(),
        171,
        "{reply}"
    );
    assert_eq!(dropped(), [["own@shop", "_auto.a_1_b_1"]]);
}

#[tokio::test]
async fn a_reader_may_not() {
    let (proxy, asked) = proxy(25).await;
    let mut reader = proxy.raw("shop-read").await;
    let refused = send(&mut reader, doc! {"bulkWrite": 1, "$db": "admin"}).await;
    assert_eq!(refused.get_i32("code").unwrap(), 13, "{refused}");
    assert!(
        !asked
            .lock()
            .unwrap()
            .iter()
            .any(|c| c.contains_key("bulkWrite"))
    );
}

#[tokio::test]
async fn a_server_before_8_0_does_not_have_it() {
    let (proxy, asked) = proxy(21).await;
    let mut client = proxy.raw("shop").await;
    let refused = send(&mut client, doc! {"bulkWrite": 1, "$db": "admin"}).await;
    assert_eq!(refused.get_i32("code").unwrap(), 59, "{refused}");
    assert_eq!(
        refused.get_str("errmsg").unwrap(),
        "no such command: 'bulkWrite'"
    );
    assert!(
        !asked
            .lock()
            .unwrap()
            .iter()
            .any(|c| c.contains_key("bulkWrite"))
    );
}
