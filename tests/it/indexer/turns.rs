//! Several proxies, crashes and failures: one builds at a time, and what was begun is finished.

use super::*;

#[tokio::test]
async fn two_proxies_build_once() {
    let (control, slug) = (unique_name("control"), unique_name("alice"));
    let deployment = shared().await;
    let start = || {
        let builder = ProxyBuilder::new(deployment).indexes(LINES);
        builder
            .control_database(&control)
            .app_with_slug("alice", &slug)
            .start()
    };
    let mut one = World::of(start().await, &control).await;
    let mut other = World::of(start().await, &control).await;
    other.db.clone_from(&one.db);
    other.upstream = one.upstream.clone();
    one.stock().await;
    // Neither sees it often enough by itself.
    one.shop(12).await;
    other.shop(12).await;
    tokio::join!(one.tick(), other.tick());
    tokio::join!(one.tick(), other.tick());
    assert_eq!(one.automatic("products").await.len(), 1);
    let decisions = one.control.collection::<Document>("decisions");
    let built: Vec<Document> = decisions
        .find(doc! {"verdict": "build"})
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(built.len(), 1);
    assert_eq!(built[0].get_i64("times").unwrap(), 1);
}

#[tokio::test]
async fn what_a_crash_left_behind_is_finished() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    world.shop(20).await;
    // Another proxy took the right to work, began a build, and died.
    let leases = world.control.collection::<Document>("leases");
    let until = DateTime::from_millis(DateTime::now().timestamp_millis() + 60_000);
    leases
        .insert_one(doc! {"_id": "index_rounds", "owner": "gone", "expires_at": until})
        .await
        .unwrap();
    let name = world.name("category_1_price_1");
    let begun = doc! {
        "_id": format!("{}.products/{name}", world.db), "database": &world.db, "collection": "products", "name": &name,
        "state": "building", "state_at": DateTime::now(), "serves": [],
    };
    world
        .control
        .collection::<Document>("indexes")
        .insert_one(begun)
        .await
        .unwrap();
    // Whatever the clock of this one says: the server's counts.
    for later in [0, 365 * DAY] {
        world.tick_after(later).await;
        let built = world.automatic("products").await;
        assert!(built.is_empty(), "the lease holds");
    }
    // It runs out: the build is not there, so it is done again.
    expire(&world.control, "index_rounds").await;
    world.tick().await;
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
    assert_eq!(
        world.decisions("products").await,
        ["build proved", "wait recovered"]
    );
    // The same, but the server had finished the build.
    world.set_state(&name, doc! {"state": "building"}).await;
    world.tick().await;
    assert_eq!(world.automatic("products").await.len(), 1);
    assert_eq!(
        world.state(&name).await.get_str("state").unwrap(),
        "watched"
    );
}

#[tokio::test]
async fn a_build_that_fails_is_tried_again_later() {
    let mut world = world("shared", &[]).await;
    logs::expect("an index was not built");
    // Two arrays in the fields of the index.
    let documents: Vec<Document> = (0..2000)
        .map(|n| doc! {"category": [format!("c{}", n % 40), "x"], "price": [n, n + 1]})
        .collect();
    let db = world.db.clone();
    world
        .app
        .ok(&doc! {"insert": "products", "documents": documents, "$db": &db})
        .await;
    world.shop(20).await;
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["fail build"]);
    world.shop(20).await;
    world.tick_after(60).await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.state(&name).await.get_i64("failures").unwrap(), 1);
    world.tick_after(21 * 60).await;
    assert_eq!(world.state(&name).await.get_i64("failures").unwrap(), 2);
}

/// A lease is over, as if whoever holds it had said nothing for long.
async fn expire(control: &Database, right: &str) {
    let leases = control.collection::<Document>("leases");
    let over = vec![doc! {"$set": {"expires_at": "$$NOW"}}];
    let done = leases.update_one(doc! {"_id": right}, over).await;
    assert_eq!(done.unwrap().matched_count, 1);
}

const HANG: &str = "hangAfterStartingIndexBuild";

/// A deployment whose index builds wait when they are told to, and two proxies: with a worker on automatic indexes, and with a
/// manifest of bob's that asks for indexes of `c`.
struct Builds {
    deployment: Deployment,
    control: String,
    shapes: World,
    manifests: TestProxy,
    alice: String,
    bob: String,
}

impl Builds {
    async fn new() -> Self {
        let deployment = with_fail_points().await;
        let [control, alice, bob] = ["control", "alice", "bob"].map(unique_name);
        let builder = || ProxyBuilder::new(&deployment).control_database(&control);
        let both = || {
            builder()
                .app_with_slug("bob", &bob)
                .app_with_slug("alice", &alice)
        };
        let manifests = both().start().await;
        let proxy = both().indexes(LINES).start().await;
        let mut shapes = World::of(proxy, &control).await;
        shapes.stock().await;
        shapes.shop(20).await;
        let mut bobs = shapes.proxy.raw("bob").await;
        let documents: Vec<Document> = (0..100).map(|n| doc! {"x": n, "y": n}).collect();
        let insert = doc! {"insert": "c", "documents": documents, "$db": &shapes.db};
        bobs.ok(&insert).await;
        Self {
            deployment,
            control,
            shapes,
            manifests,
            alice,
            bob,
        }
    }

    async fn proxy_on_shapes(&self) -> TestProxy {
        let builder = ProxyBuilder::new(&self.deployment).control_database(&self.control);
        let builder = builder.app_with_slug("alice", &self.alice);
        builder.indexes(LINES).start().await
    }

    /// Builds wait from now on, or go on.
    async fn hang(&self, mode: &str) {
        let admin = self.shapes.upstream.client().database("admin");
        let point = doc! {"configureFailPoint": HANG, "mode": mode};
        admin.run_command(point).await.unwrap();
    }

    /// Bob's manifest asks for an index of one field of `c`.
    async fn ask_for(&self, field: &str) {
        let index = format!("managed_indexes:\n  c: [{{ keys: {{ {field}: 1 }} }}]\n");
        self.manifests.change(&self.bob, |text| {
            let head = text.split("managed_indexes").next().unwrap().to_owned();
            Some(head + &index)
        });
        self.manifests.reload().await;
    }

    /// Indexes of a collection, and how many of them are being built.
    async fn indexes(&self, collection: &str) -> (usize, usize) {
        let list = doc! {"listIndexes": collection, "includeBuildUUIDs": true};
        let cursor = self.shapes.upstream.run_cursor_command(list).await.unwrap();
        let all: Vec<Document> = cursor.try_collect().await.unwrap();
        let building = all.iter().filter(|index| index.contains_key("buildUUID"));
        (all.len(), building.count())
    }

    async fn are(&self, collection: &str, expected: (usize, usize)) {
        let what = format!("{expected:?} indexes of {collection}");
        eventually(&what, async || {
            let found = self.indexes(collection).await;
            (found == expected).then_some(())
        })
        .await;
    }

    /// Times that somebody asked for a lease.
    async fn asked(&self) -> i64 {
        let admin = self.shapes.upstream.client().database("admin");
        let status = doc! {"serverStatus": 1};
        let status = admin.run_command(status).await.unwrap();
        let commands = status.get_document("metrics").unwrap();
        let commands = commands.get_document("commands").unwrap();
        let asked = commands.get_document("findAndModify").unwrap();
        asked.get_i64("total").unwrap()
    }
}

#[tokio::test]
async fn builds_of_shapes_and_of_manifests_take_turns() {
    let builds = Builds::new().await;
    let shapes = &builds.shapes;
    // One of the manifest is being built: the worker on shapes does not wait for it.
    builds.hang("alwaysOn").await;
    builds.ask_for("x").await;
    builds.are("c", (4, 1)).await;
    shapes.tick().await;
    assert_eq!(builds.indexes("products").await, (3, 0));
    assert_eq!(shapes.decisions("products").await, ["wait turn"]);
    builds.hang("off").await;
    builds.are("c", (4, 0)).await;
    // It gives the right back right after that.
    builds.hang("alwaysOn").await;
    let tick = async {
        eventually("a build for the shape", async || {
            shapes.tick().await;
            (builds.indexes("products").await == (4, 0)).then_some(())
        })
        .await;
    };
    let manifest_waits = async {
        builds.are("products", (4, 1)).await;
        builds.ask_for("y").await;
        let before = builds.asked().await;
        eventually("the worker on manifests to ask twice", async || {
            (builds.asked().await >= before + 2).then_some(())
        })
        .await;
        assert_eq!(builds.indexes("c").await, (4, 0));
        builds.hang("off").await;
        builds.are("c", (5, 0)).await;
    };
    tokio::join!(tick, manifest_waits);
    assert_eq!(
        shapes.decisions("products").await,
        ["build proved", "wait turn"]
    );
}

#[tokio::test]
async fn a_build_that_goes_on_without_its_proxy_is_waited_for() {
    let mut builds = Builds::new().await;
    builds.hang("alwaysOn").await;
    let proxy = builds.shapes.proxy.take();
    let indexer = proxy.indexer().unwrap();
    // The proxy ends in the middle.
    tokio::select! {
        tick = indexer.tick(DateTime::now()) => panic!("the build has ended: {tick:?}"),
        () = builds.are("products", (4, 1)) => {}
    }
    proxy.shut_down().await;
    builds.shapes.proxy = builds.proxy_on_shapes().await;
    let name = builds.shapes.name("category_1_price_1");
    let shapes = &builds.shapes;
    let tick = async || {
        eventually("a proxy with the right to work", async || {
            shapes.tick().await;
            let decisions = shapes.decisions("products").await;
            (!decisions.is_empty()).then_some(decisions)
        })
        .await
    };
    assert_eq!(tick().await, ["wait unfinished"]);
    assert_eq!(builds.indexes("products").await, (4, 1));
    builds.hang("off").await;
    builds.are("products", (4, 0)).await;
    shapes.tick().await;
    assert_eq!(tick().await, ["keep recovered", "wait unfinished"]);
    assert_eq!(
        shapes.state(&name).await.get_str("state").unwrap(),
        "watched"
    );
}

/// Dropping an index that is being built ends the build, which is no failure to be tried again.
#[tokio::test]
async fn what_an_operator_drops_while_it_is_built_stays_away() {
    let builds = Builds::new().await;
    let shapes = &builds.shapes;
    let name = shapes.name("category_1_price_1");
    let id = format!("{}.products/{name}", shapes.db);
    builds.hang("alwaysOn").await;
    let operator = async {
        builds.are("products", (4, 1)).await;
        shapes.proxy.order(IndexOrder::Drop { name: id }).await;
        builds.hang("off").await;
    };
    tokio::join!(shapes.tick(), operator);
    let refused = async |decisions: &[&str]| {
        assert_eq!(builds.indexes("products").await, (3, 0));
        let state = shapes.state(&name).await;
        assert_eq!(state.get_str("state").unwrap(), "refused");
        assert_eq!(shapes.decisions("products").await, decisions);
    };
    refused(&["drop operator"]).await;
    shapes.tick_after(3600).await;
    refused(&["drop operator"]).await;
}
