//! What the worker costs: commands to the upstream, memory, processor time.

use std::io::Write;

use super::*;

const COLLECTIONS: usize = 1000;
const SHAPES: usize = 10_000;

/// Commands that a worker sends; others, as heartbeats and what watches the catalog, are not its own.
const COUNTED: [&str; 9] = [
    "find",
    "update",
    "delete",
    "findAndModify",
    "count",
    "aggregate",
    "explain",
    "listIndexes",
    "collMod",
];

async fn commands(upstream: &Database) -> i64 {
    let admin = upstream.client().database("admin");
    let status = admin.run_command(doc! {"serverStatus": 1}).await.unwrap();
    let metrics = status.get_document("metrics").unwrap();
    let commands = metrics.get_document("commands").unwrap();
    let total = |name: &&str| {
        commands
            .get_document(name)
            .unwrap()
            .get_i64("total")
            .unwrap()
    };
    COUNTED.iter().map(total).sum()
}

/// Resident bytes, and processor time in hundredths of a second, of this process.
fn resources() -> (u64, u64) {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap();
    let pages: u64 = read("statm").split(' ').nth(1).unwrap().parse().unwrap();
    let stat = read("stat");
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks = |place: usize| fields[place].parse::<u64>().unwrap();
    (pages * 4096, ticks(11) + ticks(12))
}

fn shape(n: usize, seen: DateTime) -> Document {
    let collection = format!("c{}", n % COLLECTIONS);
    let field = format!("field_{}", n / COLLECTIONS);
    doc! {
        "_id": format!("many.{collection}/{n}"), "database": "many", "collection": &collection, "named": &collection,
        "is_dedicated": false, "kind": "find", "equality": [&field, "category"], "membership": [], "sort": [["price", 1]],
        "range": ["at"], "arrays": [], "unindexable": 0_i64, "is_special": false, "reads": 1000_i64, "micros": 100_000_i64,
        "apps": {"shop": 1000_i64}, "first_seen": DateTime::from_millis(0), "last_seen": seen, "merged_at": seen,
        "writes_before": 0_i64,
    }
}

#[tokio::test]
async fn work_stays_within_a_command_a_second() {
    const INTERVAL_SECONDS: i64 = 600;
    let deployment = mdb_testbed::Deployment::replica_set(1).with_auth();
    let deployment = deployment.start().await.unwrap();
    let control = unique_name("control");
    let builder = ProxyBuilder::new(&deployment)
        .indexes(&["mode: auto", "interval: 10m", "seen_over: 0s"])
        .control_database(&control)
        .app("alice");
    let world = World::of(builder.start().await, &control).await;
    let now = DateTime::now();
    let month = i64::try_from(Duration::from_secs(20 * DAY).as_millis()).unwrap();
    let old = DateTime::from_millis(now.timestamp_millis() - month);
    // With what the test itself needs for it, so the worker takes less.
    let (before, _) = resources();
    let all: Vec<Document> = (0..SHAPES).map(|n| shape(n, old)).collect();
    let shapes = world.control.collection::<Document>("shapes");
    shapes.insert_many(all).await.unwrap();
    world.tick().await;
    let (after, began) = resources();
    // Nothing changes.
    let asked = commands(&world.upstream).await;
    for _ in 0..10 {
        world.tick().await;
    }
    let idle = (commands(&world.upstream).await - asked) / 10;
    let (_, ended) = resources();
    assert!((1..=10).contains(&idle), "{idle} commands a round");
    // All shapes come again, on collections that have to be looked at.
    let again = doc! {"$set": {"last_seen": now, "merged_at": now}};
    shapes.update_many(doc! {}, again).await.unwrap();
    let asked = commands(&world.upstream).await;
    world.tick().await;
    let busy = commands(&world.upstream).await - asked;
    let report = format!(
        "{SHAPES} shapes on {COLLECTIONS} collections: at most {} KiB more in memory; a round takes {idle} commands and {} ms of a \
         processor when nothing changes, and {busy} commands when all of them are to be looked at",
        after.saturating_sub(before) / 1024,
        ended.saturating_sub(began),
    );
    // Shown with --nocapture. Ten rounds, in hundredths of a second: a round in milliseconds.
    writeln!(std::io::stdout(), "{report}").unwrap();
    assert!((100..=INTERVAL_SECONDS).contains(&busy), "{report}");
}
