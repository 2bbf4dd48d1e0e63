//! What observing costs the path of a command: the sketch, made for each.

use std::hint::black_box;

use bson::doc;
use criterion::{Criterion, criterion_group, criterion_main};
use mdb_shape::{shapes_of, sketch_of};
use mdb_wire::{Command, Document};

fn sketch(criterion: &mut Criterion) {
    let many: Vec<i32> = (0..1000).collect();
    let commands = [
        (
            "find_sorted",
            doc! {"find": "products", "filter": {"category": "x"}, "sort": {"price": 1}, "limit": 20, "lsid": {"id": 1}, "$db": "shop"},
        ),
        (
            "find_wide",
            doc! {"find": "products", "filter": {"a": 1, "b": {"$gt": 1, "$lt": 2}, "$or": [{"c": 1}, {"d": {"$in": many}}], "e": null, "f": "x"}, "$db": "shop"},
        ),
        (
            "aggregate",
            doc! {"aggregate": "orders", "pipeline": [{"$match": {"user": 1, "at": {"$gte": 5}}}, {"$sort": {"at": -1}}, {"$limit": 5}, {"$lookup": {"from": "products", "localField": "p", "foreignField": "_id", "as": "p"}}], "cursor": {}, "$db": "shop"},
        ),
        (
            "insert",
            doc! {"insert": "products", "documents": [{"a": 1}], "$db": "shop"},
        ),
    ];
    for (name, command) in commands {
        let bytes = bson::serialize_to_vec(&command).unwrap_or_default();
        let document = Document::parse(&bytes).unwrap_or(Document::EMPTY);
        let Ok(command) = Command::inner(document, "shop") else {
            continue;
        };
        criterion.bench_function(&format!("sketch/{name}"), |bencher| {
            bencher.iter(|| sketch_of(black_box(&command)));
        });
        criterion.bench_function(&format!("shapes/{name}"), |bencher| {
            bencher.iter(|| shapes_of(black_box(&command)));
        });
    }
}

criterion_group!(benches, sketch);
criterion_main!(benches);
