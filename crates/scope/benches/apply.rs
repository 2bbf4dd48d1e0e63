//! What rewriting costs. Budgets on a slow core: a find by `_id` within a microsecond, a document on its way in within 100 ns,
//! on its way out within 200 ns.

use std::hint::black_box;

use bson::{Bson, Document as Doc, doc, oid::ObjectId};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use mdb_scope::{
    AppId, CollectionFacts, Facts, FieldName, ReplyRule, ReplyView, Scope, glance, look_up,
};
use mdb_wire::{Command, Document, Limits, Message, Writer, next_frame};

fn scope() -> Scope {
    let app = AppId::parse("shop").expect("a slug");
    let field = FieldName::parse("app_id").expect("a name");
    Scope::new(app, field, true, [7; 16])
}

fn collection() -> CollectionFacts {
    CollectionFacts::new(true, Vec::new())
}

fn facts(collection: &CollectionFacts) -> Facts<'_> {
    Facts {
        wire_version: 17,
        document_bytes_max: 16_777_216,
        message_bytes_max: 48_000_000,
        cluster_time: None,
        checks_cluster_time: false,
        control_database: "mdb_runtime",
        collection,
        namespaces: &[],
        foreign: &[],
        keeps_to_base: false,
    }
}

/// About 300 bytes.
fn document(index: i32) -> Doc {
    doc! {
        "_id": ObjectId::from_bytes([7; 12]),
        "number": index,
        "name": "a name of some length, as names are",
        "state": "open",
        "tags": ["one", "two", "three"],
        "address": { "street": "some street 12", "city": "a city", "zip": "12345" },
        "created": bson::DateTime::from_millis(1_700_000_000_000),
        "total": 12.5,
        "note": "words ".repeat(10),
    }
}

/// A message as drivers send it: session, cluster time, read preference.
fn message(mut body: Doc, documents: &[Doc]) -> Message {
    body.insert("lsid", doc! { "id": bson::Uuid::from_bytes([3; 16]) });
    body.insert("$db", "d");
    let bytes = |d: &Doc| d.to_vec().expect("a document");
    let mut out = vec![0; 12];
    out.extend_from_slice(&2013_i32.to_le_bytes());
    out.extend_from_slice(&[0; 5]);
    out.extend_from_slice(&bytes(&body));
    if !documents.is_empty() {
        let documents: Vec<u8> = documents.iter().flat_map(bytes).collect();
        let size = i32::try_from(14 + documents.len()).expect("a small batch");
        out.push(1);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(b"documents\0");
        out.extend_from_slice(&documents);
    }
    let length = i32::try_from(out.len()).expect("a small message");
    out[..4].copy_from_slice(&length.to_le_bytes());
    let mut buffer = out.as_slice().into();
    let frame = next_frame(&mut buffer, Limits::default());
    Message::parse(frame.expect("a frame").expect("a whole one")).expect("a message")
}

fn commands() -> Vec<(&'static str, Message)> {
    let by_id = doc! { "find": "c", "filter": { "_id": ObjectId::from_bytes([7; 12]) }, "limit": 1_i64, "singleBatch": true };
    let by_three = doc! {
        "find": "c",
        "filter": { "state": "open", "number": { "$gte": 5, "$lt": 50 }, "tags": { "$in": ["one", "two"] } },
        "sort": { "created": -1 },
        "limit": 20_i64,
    };
    let pipeline = doc! {
        "aggregate": "c",
        "pipeline": [
            { "$match": { "state": "open", "number": { "$gt": 3 } } },
            { "$sort": { "created": -1 } },
            { "$lookup": { "from": "users", "let": { "u": "$user" }, "pipeline": [
                { "$match": { "$expr": { "$eq": ["$_id", "$$u"] } } },
                { "$lookup": { "from": "teams", "localField": "team", "foreignField": "_id", "as": "teams" } },
                { "$project": { "name": 1, "teams.name": 1 } },
            ], "as": "users" } },
            { "$unwind": { "path": "$users", "preserveNullAndEmptyArrays": true } },
            { "$addFields": { "late": { "$and": [{ "$lt": ["$due", "$$NOW"] }, { "$ne": ["$state", "done"] }] } } },
            { "$facet": {
                "page": [{ "$skip": 20 }, { "$limit": 20 }],
                "count": [{ "$count": "n" }],
                "by": [{ "$group": { "_id": "$state", "n": { "$sum": 1 }, "total": { "$sum": { "$multiply": ["$total", 1.2] } } } }],
            } },
            { "$unionWith": { "coll": "archive", "pipeline": [{ "$match": { "state": "open" } }] } },
        ],
        "cursor": {},
    };
    let documents: Vec<Doc> = (0..100).map(document).collect();
    vec![
        ("find by _id", message(by_id, &[])),
        ("find by three, sorted", message(by_three, &[])),
        ("deep pipeline", message(pipeline, &[])),
        (
            "insert of 100 documents",
            message(doc! { "insert": "c", "ordered": true }, &documents),
        ),
    ]
}

fn apply(criterion: &mut Criterion) {
    let scope = scope();
    let collection = collection();
    let facts = facts(&collection);
    let mut group = criterion.benchmark_group("apply");
    for (name, message) in commands() {
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let command = Command::parse(black_box(&message)).expect("a command");
                let spec = look_up(command.name, command.database).expect("a row");
                scope.apply(spec, &command, &facts).expect("not refused")
            });
        });
    }
    group.finish();
}

fn strip(criterion: &mut Criterion) {
    let scope = scope();
    let collection = collection();
    let stamped = |index| {
        let mut out = doc! { "_id": index, "app_id": "shop" };
        out.extend(
            document(index)
                .into_iter()
                .filter(|(name, _)| name != "_id"),
        );
        Bson::Document(out)
    };
    let batch: Vec<Bson> = (0..100).map(stamped).collect();
    let reply = doc! { "cursor": { "firstBatch": batch, "id": 0_i64, "ns": "d.c" }, "ok": 1.0 };
    let bytes = reply.to_vec().expect("a document");
    let view = ReplyView {
        scope: &scope,
        rule: ReplyRule::Cursor { strips: true },
        collection: &collection,
        database: "d",
        dedicated: &[],
        continues: None,
        shares: true,
    };
    let mut group = criterion.benchmark_group("reply");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function("strip a batch of 100 documents", |bencher| {
        bencher.iter_batched(
            || Vec::with_capacity(bytes.len()),
            |out| {
                let reply = Document::parse_shallow(black_box(&bytes)).expect("a reply");
                let mut w = Writer::new(out);
                let mark = w.begin();
                view.write(&mut w, reply, &glance(reply), &mut |id| id)
                    .expect("no incident");
                w.end(mark);
                w.into_bytes()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

criterion_group!(benches, apply, strip);
criterion_main!(benches);
