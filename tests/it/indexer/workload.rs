//! Workloads of apps with Zipf-distributed use: which indexes come to be, against the best that a person would make.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use mdb_tests::{ProxyBuilder, shared, unique_name};

use super::{LINES, World};

/// Rounds of work, at most.
const ROUNDS_MAX: usize = 12;
const APPS: [&str; 4] = ["alice", "bob", "carol", "dave"];
const DOCUMENTS: i32 = 2000;
/// Documents whose insertion is timed before and afterwards.
const WRITES: i32 = 300;
/// Documents that are inserted before.
const WARM_UP: i32 = 50;

/// Filter and sort for a number.
type Query = fn(i32) -> (Document, Document);

/// A collection, what is in it, and what is asked of it.
struct Workload {
    name: &'static str,
    document: fn(i32) -> Document,
    queries: &'static [Query],
    /// Keys behind the scope field that a person would choose.
    best: &'static [&'static str],
}

const WORKLOADS: &[Workload] = &[
    Workload {
        name: "products",
        document: |n| doc! {"category": n % 10, "price": (n * 7) % 1000, "sku": n, "brand": n % 25, "stock": n % 3},
        queries: &[
            |n| (doc! {"category": n % 10}, doc! {"price": 1}),
            |n| (doc! {"category": n % 10, "price": {"$lt": 900}}, doc! {}),
            |n| (doc! {"sku": n % DOCUMENTS}, doc! {}),
            |n| (doc! {"brand": n % 25, "category": n % 10}, doc! {}),
            |n| (doc! {"stock": n % 3}, doc! {}),
        ],
        best: &["category_1_brand_1", "category_1_price_1", "sku_1"],
    },
    Workload {
        name: "tasks",
        document: |n| doc! {"owner": n % 50, "done": n % 2 != 0, "due": n, "tags": [n % 30, 100 + n % 7], "title": format!("t{n}")},
        queries: &[
            |n| (doc! {"owner": n % 50, "done": false}, doc! {"due": 1}),
            |n| (doc! {"tags": n % 30, "done": false}, doc! {}),
            |n| {
                (
                    doc! {"due": {"$gte": n % 100, "$lt": n % 100 + 20}},
                    doc! {},
                )
            },
            |_| (doc! {"done": true}, doc! {}),
        ],
        // The range of `due` alone is found by skipping through the first one.
        best: &["done_1_owner_1_due_1", "done_1_tags_1"],
    },
    Workload {
        name: "events",
        document: |n| doc! {"kind": n % 20, "at": n, "user": n % 60, "level": n % 2},
        queries: &[
            |n| (doc! {"kind": n % 20}, doc! {"at": -1}),
            |n| (doc! {"user": n % 60, "at": {"$gt": 10}}, doc! {}),
            |_| (doc! {"level": 1}, doc! {}),
        ],
        best: &["kind_1_at_-1", "user_1_at_1"],
    },
];

/// Examined and returned, by an administrator's explain of what each app asks.
async fn figures(world: &World, workload: &Workload) -> (i64, i64) {
    let (mut examined, mut returned) = (0, 0);
    let number = |stats: &Document, name: &str| match stats.get(name) {
        Some(Bson::Int32(n)) => i64::from(*n),
        Some(Bson::Int64(n)) => *n,
        other => panic!("{other:?}"),
    };
    for query in workload.queries {
        let (filter, sort) = query(3);
        let own = doc! {"app_id": world.proxy.slug("alice")};
        let find = doc! {"find": workload.name, "filter": {"$and": [own, filter]}, "sort": sort};
        let explain = doc! {"explain": find, "verbosity": "executionStats"};
        let reply = world.upstream.run_command(explain).await.unwrap();
        let stats = reply.get_document("executionStats").unwrap();
        examined += number(stats, "totalDocsExamined");
        returned += number(stats, "nReturned");
    }
    (examined, returned)
}

async fn writes(world: &mut World, workload: &Workload, from: i32) -> Duration {
    let mut begun = Instant::now();
    for n in from - WARM_UP..from + WRITES {
        if n == from {
            begun = Instant::now();
        }
        let insert =
            doc! {"insert": workload.name, "documents": [(workload.document)(n)], "$db": &world.db};
        world.app.ok(&insert).await;
    }
    begun.elapsed()
}

/// Runs of each query whose time is taken.
const TIMED: i32 = 20;

/// The time of one query through the proxy, the mean over all queries of a workload.
async fn time_of_query(world: &mut World, workload: &Workload) -> Duration {
    let mut all = Duration::ZERO;
    for query in workload.queries {
        // The first one chooses a plan.
        for n in -1..TIMED {
            let (filter, sort) = query(3 + n.max(0));
            let find =
                doc! {"find": workload.name, "filter": filter, "sort": sort, "$db": &world.db};
            let begun = Instant::now();
            world.app.ok(&find).await;
            if n >= 0 {
                all += begun.elapsed();
            }
        }
    }
    all / u32::try_from(workload.queries.len()).unwrap() / TIMED.unsigned_abs()
}

/// The keys of automatic indexes, whosever they are.
async fn keys(world: &World, collection: &str) -> BTreeSet<String> {
    let names = world.automatic_names(collection).await;
    let keys = names.iter().map(|name| name.split_once('.').unwrap().1);
    keys.map(str::to_owned).collect()
}

#[tokio::test]
async fn workloads_end_with_the_indexes_that_a_person_would_make() {
    let control = unique_name("control");
    let builder = ProxyBuilder::new(shared().await)
        .indexes(LINES)
        .control_database(&control);
    let builder = APPS.iter().fold(builder, |builder, app| builder.app(app));
    let mut world = World::of(builder.start().await, &control).await;
    let mut dice = fastrand::Rng::with_seed(7);
    for workload in WORKLOADS {
        let mut clients = Vec::new();
        for app in APPS {
            let mut client = world.proxy.raw(app).await;
            let documents: Vec<Document> = (0..DOCUMENTS).map(workload.document).collect();
            let insert = doc! {"insert": workload.name, "documents": documents, "$db": &world.db};
            client.ok(&insert).await;
            clients.push(client);
        }
        let written_before = writes(&mut world, workload, DOCUMENTS).await;
        let before = figures(&world, workload).await;
        let time_before = time_of_query(&mut world, workload).await;
        let begun = Instant::now();
        let mut complete_after = Duration::ZERO;
        let mut rounds = 0;
        let mut last = BTreeSet::new();
        let mut is_still = 0;
        while rounds < ROUNDS_MAX && is_still < 2 {
            rounds += 1;
            for n in 0..150 {
                // Zipf: the first app is twice as busy as the second, thrice as the third.
                let dart = dice.f64() * (1.0 + 1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0);
                let app = [1.0, 1.5, 1.5 + 1.0 / 3.0]
                    .iter()
                    .filter(|edge| dart > **edge)
                    .count();
                let query = workload.queries[dice.usize(..workload.queries.len())];
                let (filter, sort) = query(n);
                let find =
                    doc! {"find": workload.name, "filter": filter, "sort": sort, "$db": &world.db};
                clients[app].ok(&find).await;
            }
            // Past the pause after a "no".
            world.tick_after(rounds as u64 * 11 * 60).await;
            let now = keys(&world, workload.name).await;
            is_still = if now == last && !now.is_empty() {
                is_still + 1
            } else {
                complete_after = begun.elapsed();
                0
            };
            last = now;
        }
        let after = figures(&world, workload).await;
        let time_after = time_of_query(&mut world, workload).await;
        let written_after = writes(&mut world, workload, DOCUMENTS + WRITES).await;
        let best: BTreeSet<String> = workload.best.iter().map(|key| (*key).to_owned()).collect();
        let report = format!(
            "{}: complete after {} rounds of 150 commands, {:.1} s; {:.1} documents examined for each returned before, {:.1} \
             afterwards; a query took {} µs before, {} µs afterwards: {:.2} times as long; {} keys in {} indexes against {} by \
             hand: {last:?}; a write took {} µs before, {} µs afterwards: {:.2} times as long",
            workload.name,
            rounds - is_still,
            complete_after.as_secs_f64(),
            ratio(before),
            ratio(after),
            time_before.as_micros(),
            time_after.as_micros(),
            time_after.as_secs_f64() / time_before.as_secs_f64(),
            last.len(),
            world.automatic_names(workload.name).await.len(),
            best.len(),
            (written_before / WRITES.unsigned_abs()).as_micros(),
            (written_after / WRITES.unsigned_abs()).as_micros(),
            written_after.as_secs_f64() / written_before.as_secs_f64(),
        );
        // Shown with --nocapture.
        std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{report}\n")).unwrap();
        assert!(
            last.is_superset(&best),
            "{last:?} without {:?}; {:?}",
            best.difference(&last),
            world.decisions(workload.name).await
        );
        assert!(last.len() <= best.len() + 1, "{last:?}");
    }
}

#[allow(clippy::cast_precision_loss, reason = "thousands of documents")]
fn ratio((examined, returned): (i64, i64)) -> f64 {
    examined as f64 / returned as f64
}
