//! What reading a message costs: framing, and the check of every byte.

use std::hint::black_box;

use bson::{Document as Doc, doc, oid::ObjectId};
use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use mdb_wire::{Command, Limits, Message, next_frame};

fn bytes_of(document: &Doc) -> Vec<u8> {
    document.to_vec().expect("a document")
}

fn message(body: &Doc, documents: &[Doc]) -> BytesMut {
    let mut out = vec![0; 12];
    out.extend_from_slice(&2013_i32.to_le_bytes());
    out.extend_from_slice(&[0; 5]);
    out.extend_from_slice(&bytes_of(body));
    if !documents.is_empty() {
        let documents: Vec<u8> = documents.iter().flat_map(bytes_of).collect();
        let size = i32::try_from(14 + documents.len()).expect("a small batch");
        out.push(1);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(b"documents\0");
        out.extend_from_slice(&documents);
    }
    let length = i32::try_from(out.len()).expect("a small message");
    out[..4].copy_from_slice(&length.to_le_bytes());
    out.as_slice().into()
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

fn decode(criterion: &mut Criterion) {
    let find = doc! {
        "find": "c",
        "filter": { "_id": ObjectId::from_bytes([7; 12]) },
        "limit": 1_i64,
        "singleBatch": true,
        "lsid": { "id": bson::Uuid::from_bytes([3; 16]) },
        "$db": "d",
    };
    let documents: Vec<Doc> = (0..100).map(document).collect();
    let insert = doc! { "insert": "c", "ordered": true, "$db": "d" };
    let mut group = criterion.benchmark_group("decode");
    for (name, bytes) in [
        ("a find", message(&find, &[])),
        ("an insert of 100 documents", message(&insert, &documents)),
    ] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let mut buffer = black_box(&bytes).clone();
                let frame = next_frame(&mut buffer, Limits::default());
                let message = Message::parse(frame.expect("a frame").expect("a whole one"));
                let message = message.expect("a message");
                Command::parse(&message).map(|command| command.name.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode);
criterion_main!(benches);
