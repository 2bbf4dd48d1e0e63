//! The promised example, with what it gains and how long it takes. Times are told and not tested.

use std::time::Instant;

use super::*;

/// Documents of the app. `MDB_PROMISE_DOCUMENTS` adds another number.
const DOCUMENTS: [i32; 2] = [2_000, 20_000];

/// Documents that the query returns, whatever there is.
const RETURNED: i32 = 50;

/// Queries whose time is taken, each of another category.
const TIMED: i32 = 40;

/// More than the two rounds and the build take with the defaults, should the index never come.
const PATIENCE: Duration = Duration::from_secs(300);

fn told(text: &str) {
    // Shown with --nocapture.
    std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{text}\n")).unwrap();
}

/// Whole microseconds that half of the queries did not take longer than.
async fn median_micros(mut query: impl AsyncFnMut(i32)) -> u128 {
    let mut times = Vec::new();
    // The first ones choose a plan.
    for n in -5..TIMED {
        let begun = Instant::now();
        query(n.max(0)).await;
        if n >= 0 {
            times.push(begun.elapsed().as_micros());
        }
    }
    times.sort_unstable();
    times[times.len() / 2]
}

/// Through the proxy, and what of it is the server's, as an administrator asks it.
async fn times(world: &mut World, categories: i32) -> [u128; 2] {
    let through = median_micros(async |n| {
        let found = world
            .find(doc! {"category": n % categories}, doc! {"price": 1})
            .await;
        assert_eq!(found.len(), usize::try_from(RETURNED).unwrap());
    })
    .await;
    let own = doc! {"app_id": world.proxy.slug("alice")};
    let upstream = world.upstream.clone();
    let direct = median_micros(async |n| {
        let filter = doc! {"$and": [&own, {"category": n % categories}]};
        let find =
            doc! {"find": "products", "filter": filter, "sort": {"price": 1}, "batchSize": 2000};
        upstream.run_command(find).await.unwrap();
    })
    .await;
    [through, direct]
}

#[allow(clippy::cast_precision_loss, reason = "microseconds of a query")]
fn times_faster(before: u128, after: u128) -> f64 {
    before as f64 / after as f64
}

async fn stock(world: &mut World, documents: i32) -> i32 {
    let categories = documents / RETURNED;
    let all: Vec<Document> = (0..documents)
        .map(|n| doc! {"category": n % categories, "price": (n * 7) % 1000, "name": format!("product {n}")})
        .collect();
    for part in all.chunks(10_000) {
        let insert = doc! {"insert": "products", "documents": part, "$db": &world.db};
        world.app.ok(&insert).await;
    }
    categories
}

#[tokio::test]
async fn the_promised_query_is_faster_afterwards() {
    let more = std::env::var("MDB_PROMISE_DOCUMENTS").ok();
    let more = more.map(|n| n.parse().expect("MDB_PROMISE_DOCUMENTS is a number"));
    for documents in DOCUMENTS.into_iter().chain(more) {
        let mut world = world("shared", &[]).await;
        let categories = stock(&mut world, documents).await;
        let before = times(&mut world, categories).await;
        world.tick().await;
        let decisions = world.decisions("products").await;
        assert_eq!(decisions, ["build proved"]);
        eventually("the index in the plan", async || {
            let plan = world.plan().await.to_string();
            plan.contains("category_1_price_1").then_some(())
        })
        .await;
        let after = times(&mut world, categories).await;
        told(&format!(
            "{documents} documents, {RETURNED} returned: {} µs before, {} µs afterwards through the proxy, {:.1} times as fast; \
             {} µs and {} µs on the server, {:.1} times",
            before[0],
            after[0],
            times_faster(before[0], after[0]),
            before[1],
            after[1],
            times_faster(before[1], after[1]),
        ));
    }
}

/// Nobody asks for rounds here. `MDB_PROMISE_INTERVAL` is the time between two, and that over which a shape must be seen.
#[tokio::test]
async fn the_index_comes_by_itself() {
    let between = std::env::var("MDB_PROMISE_INTERVAL").unwrap_or_else(|_| "1s".to_owned());
    let lines = [
        "mode: auto".to_owned(),
        format!("interval: {between}"),
        format!("seen_over: {between}"),
    ];
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let control = unique_name("control");
    let builder = ProxyBuilder::new(shared().await).indexes(&lines);
    let builder = builder.control_database(&control).app("alice");
    let mut world = World::of(builder.start().await, &control).await;
    let categories = stock(&mut world, DOCUMENTS[1]).await;
    let begun = Instant::now();
    let mut commands = 0;
    while world.automatic("products").await.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "no index");
        for n in 0..10 {
            world
                .find(doc! {"category": n % categories}, doc! {"price": 1})
                .await;
            commands += 1;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    told(&format!(
        "with rounds every {between} the index was there {seconds:.1} s after the first of {commands} commands"
    ));
}
