//! What observing costs the path of a command: less than a microsecond.

use std::hint::black_box;
use std::time::Duration;

use bson::doc;
use criterion::{Criterion, criterion_group, criterion_main};
use mdb_proxy::Observer;
use mdb_scope::{AppId, Isolation};
use mdb_shape::Place;
use mdb_telemetry::Metrics;
use mdb_wire::{Command, Document};

#[allow(clippy::unnecessary_wraps, reason = "as the face wants it")]
fn place(database: &str, collection: &str) -> Option<Place> {
    Some(Place {
        database: database.to_owned(),
        collection: collection.to_owned(),
        physical: collection.to_owned(),
        isolation: Isolation::Shared,
    })
}

fn observe(criterion: &mut Criterion) {
    let command = doc! {
        "find": "products", "filter": {"category": "x", "price": {"$gt": 5}}, "sort": {"price": 1}, "limit": 20,
        "lsid": {"id": 1}, "$db": "shop",
    };
    let bytes = bson::serialize_to_vec(&command).expect("a document");
    let reply = bson::serialize_to_vec(&doc! {"ok": 1.0}).expect("a document");
    let document = Document::parse(&bytes).expect("a document");
    let command = Command::inner(document, "shop").expect("a command");
    let app = AppId::parse("shop").expect("a slug");
    let latency = Duration::from_micros(300);
    let (observer, mut observations) = Observer::new(Metrics::new());
    // The worker takes them out on another thread; here its share is small against that of the path.
    criterion.bench_function("observe/with_room", |bencher| {
        bencher.iter(|| {
            observer.tell(&app, black_box(&command), latency, &reply, &place);
            let _ = observations.try_recv();
        });
    });
    while observations.try_recv().is_ok() {}
    criterion.bench_function("observe/full", |bencher| {
        bencher.iter(|| observer.tell(&app, black_box(&command), latency, &reply, &place));
    });
}

criterion_group!(benches, observe);
criterion_main!(benches);
