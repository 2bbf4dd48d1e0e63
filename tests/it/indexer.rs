//! Indexes that look after themselves: built where commands ask for them, proved, taken back; and not where they would not help.

use std::time::Duration;

use bson::{DateTime, Document, doc};
use futures_util::TryStreamExt;
use mdb_runtime::IndexOrder;
use mdb_testbed::Deployment;
use mdb_tests::{
    ProxyBuilder, RawClient, TestProxy, batch, eventually, is_since, logs, shared, unique_name,
};
use mongodb::Database;

mod advice;
mod apps;
mod costs;
mod full;
mod giving_way;
mod lookups;
mod promise;
mod redundant;
mod reverts;
mod samples;
mod turns;
mod unseen;
mod workload;
mod writes;

/// Rounds of work come when the test asks for them, and what was seen counts at once.
const LINES: &[&str] = &["mode: auto", "interval: 24h", "seen_over: 0s"];

const DAY: u64 = 24 * 60 * 60;

struct World {
    proxy: TestProxy,
    app: RawClient,
    db: String,
    upstream: Database,
    control: Database,
}

async fn world(isolation: &str, more: &[&str]) -> World {
    let lines: Vec<&str> = LINES.iter().chain(more).copied().collect();
    let control = unique_name("control");
    let builder = ProxyBuilder::new(shared().await)
        .indexes(&lines)
        .control_database(&control)
        .app("alice")
        .isolated(isolation)
        .app("bob");
    let proxy = builder.start().await;
    World::of(proxy, &control).await
}

/// Apps of these names on one collection, each with its documents.
async fn of_apps(names: &[&str]) -> World {
    let control = unique_name("control");
    let builder = ProxyBuilder::new(shared().await).indexes(LINES);
    let builder = builder.control_database(&control);
    let builder = names
        .iter()
        .fold(builder, |builder, name| builder.app(name));
    let mut world = World::of(builder.start().await, &control).await;
    for name in names {
        world.app = world.proxy.raw(name).await;
        world.stock().await;
    }
    world
}

/// A server of one's own that can be made to fail.
async fn with_fail_points() -> Deployment {
    let deployment = Deployment::replica_set(1).with_auth();
    let deployment = deployment.mongod_args(&["--setParameter", "enableTestCommands=1"]);
    deployment.start().await.unwrap()
}

/// Alice in front of it.
async fn before(deployment: &Deployment) -> World {
    let control = unique_name("control");
    let builder = ProxyBuilder::new(deployment).indexes(LINES).app("alice");
    let proxy = builder.control_database(&control).start().await;
    World::of(proxy, &control).await
}

impl World {
    /// What alice's `products` are called upstream.
    fn physical(&self, isolation: &str) -> String {
        match isolation {
            "shared" => "products".to_owned(),
            _ => format!("products@{}", self.proxy.slug("alice")),
        }
    }

    async fn of(proxy: TestProxy, control: &str) -> Self {
        let upstream = proxy.upstream().await;
        Self {
            app: proxy.raw("alice").await,
            db: proxy.database_name().to_owned(),
            control: upstream.client().database(control),
            upstream,
            proxy,
        }
    }

    /// 2000 products of 40 categories, as alice's.
    async fn stock(&mut self) {
        let documents = (0..2000).map(|n| {
            doc! {"category": format!("c{}", n % 40), "price": (n * 7) % 1000, "active": n % 10 != 0, "sku": n}
        });
        let documents: Vec<Document> = documents.collect();
        let insert = doc! {"insert": "products", "documents": documents, "$db": &self.db};
        self.app.ok(&insert).await;
    }

    async fn find(&mut self, filter: Document, sort: Document) -> Vec<Document> {
        let find = doc! {"find": "products", "filter": filter, "sort": sort, "batchSize": 2000, "$db": &self.db};
        batch(&self.app.ok(&find).await)
    }

    /// The command of the promise, as often as it takes.
    async fn shop(&mut self, times: i32) {
        for n in 0..times {
            let category = format!("c{}", n % 40);
            let found = self
                .find(doc! {"category": category}, doc! {"price": 1})
                .await;
            assert_eq!(found.len(), 50);
        }
    }

    async fn tick(&self) {
        self.tick_after(0).await;
    }

    async fn tick_after(&self, seconds: u64) {
        let now = DateTime::now().timestamp_millis();
        let later = i64::try_from(Duration::from_secs(seconds).as_millis()).unwrap();
        let indexer = self.proxy.proxy().indexer().unwrap();
        indexer
            .tick(DateTime::from_millis(now + later))
            .await
            .unwrap();
    }

    /// The physical indexes of a collection that a proxy has made by itself.
    async fn automatic(&self, collection: &str) -> Vec<Document> {
        let command = doc! {"listIndexes": collection};
        let cursor = self.upstream.run_cursor_command(command).await.unwrap();
        let all: Vec<Document> = cursor.try_collect().await.unwrap();
        let is_ours = |index: &Document| index.get_str("name").unwrap().starts_with("_auto");
        all.into_iter().filter(is_ours).collect()
    }

    async fn automatic_names(&self, collection: &str) -> Vec<String> {
        let indexes = self.automatic(collection).await;
        let names = indexes
            .iter()
            .map(|i| i.get_str("name").unwrap().to_owned());
        names.collect()
    }

    fn name(&self, key: &str) -> String {
        format!("_auto:{}.{key}", self.proxy.slug("alice"))
    }

    /// Verdicts and reasons of the decisions on an index.
    async fn decisions(&self, collection: &str) -> Vec<String> {
        let decisions = self.control.collection::<Document>("decisions");
        let of_collection = doc! {"database": &self.db, "collection": collection};
        let found = decisions.find(of_collection).sort(doc! {"_id": 1});
        let found: Vec<Document> = found.await.unwrap().try_collect().await.unwrap();
        let told = found.iter().map(|d| {
            let text = |name: &str| d.get_str(name).unwrap().to_owned();
            format!("{} {}", text("verdict"), text("reason"))
        });
        told.collect()
    }

    async fn state(&self, name: &str) -> Document {
        let indexes = self.control.collection::<Document>("indexes");
        let found = indexes.find_one(doc! {"database": &self.db, "name": name});
        found.await.unwrap().unwrap_or_default()
    }

    async fn set_state(&self, name: &str, fields: Document) {
        let indexes = self.control.collection::<Document>("indexes");
        let of_name = doc! {"database": &self.db, "name": name};
        let set = indexes.update_one(of_name, doc! {"$set": fields}).await;
        assert_eq!(set.unwrap().matched_count, 1);
    }

    /// The plan of the promised command, as the app sees it.
    async fn plan(&mut self) -> Document {
        let find = doc! {"find": "products", "filter": {"category": "c1"}, "sort": {"price": 1}};
        let explain = doc! {"explain": find, "$db": &self.db};
        self.app.ok(&explain).await
    }

    /// Documents examined for the promised command, as an administrator sees it.
    async fn examined(&self) -> i32 {
        let own = doc! {"app_id": self.proxy.slug("alice")};
        let find = doc! {"find": "products", "filter": {"$and": [own, {"category": "c1"}]}, "sort": {"price": 1}};
        let explain = doc! {"explain": find, "verbosity": "executionStats"};
        let reply = self.upstream.run_command(explain).await.unwrap();
        let stats = reply.get_document("executionStats").unwrap();
        stats.get_i32("totalDocsExamined").unwrap()
    }
}

#[tokio::test]
async fn an_app_only_queries_and_gets_its_index() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    assert_eq!(world.examined().await, 2000);
    world.shop(20).await;
    world.tick().await;
    let name = world.name("category_1_price_1");
    let indexes = world.automatic("products").await;
    assert_eq!(indexes.len(), 1, "{indexes:?}");
    assert_eq!(indexes[0].get_str("name").unwrap(), name);
    let mut key = doc! {"app_id": 1, "category": 1, "price": 1};
    if !is_since(shared().await, "5.0") {
        // Two apps' indexes of one key could not stand side by side.
        key.insert(format!("~{}", world.proxy.slug("alice")), 1);
    }
    assert_eq!(indexes[0].get_document("key").unwrap(), &key);
    assert_eq!(world.examined().await, 50);
    assert_eq!(world.decisions("products").await, ["build proved"]);
    assert_eq!(
        world.state(&name).await.get_str("state").unwrap(),
        "watched"
    );
    // The app's plan uses it as soon as the proxy was told, and tells nothing of the proxy.
    let plan = eventually("the index in the plan", async || {
        let plan = world.plan().await.to_string();
        plan.contains("category_1_price_1").then_some(plan)
    })
    .await;
    for word in ["_auto", "app_id", world.proxy.slug("alice")] {
        assert!(!plan.contains(word), "{word}: {plan}");
    }
    world.shop(40).await;
    // Nobody sees it, names it or drops it.
    let db = world.db.clone();
    let list = doc! {"listIndexes": "products", "$db": &db};
    assert_eq!(batch(&world.app.ok(&list).await).len(), 1);
    for hint in [name.as_str(), "category_1_price_1"] {
        let hinted = doc! {"find": "products", "hint": hint, "$db": &db};
        assert_eq!(world.app.fails(&hinted).await, 2);
        let drop = doc! {"dropIndexes": "products", "index": hint, "$db": &db};
        assert_eq!(world.app.fails(&drop).await, 27);
    }
    world
        .app
        .ok(&doc! {"dropIndexes": "products", "index": "*", "$db": &db})
        .await;
    assert_eq!(world.automatic("products").await.len(), 1);
    let stats =
        doc! {"aggregate": "products", "pipeline": [{"$indexStats": {}}], "cursor": {}, "$db": &db};
    let stats = world.app.ok(&stats).await.to_string();
    assert!(!stats.contains("_auto"), "{stats}");
    // The app may define the same: it replaces the automatic one.
    let own = doc! {"createIndexes": "products", "indexes": [{"key": {"category": 1, "price": 1}, "name": "category_1_price_1"}], "$db": &db};
    let reply = world.app.ok(&own).await;
    assert_eq!(reply.get_i32("numIndexesAfter").unwrap(), 2, "{reply}");
    assert!(world.automatic("products").await.is_empty());
    world.tick_after(3600).await;
    assert!(world.automatic("products").await.is_empty());
    assert_eq!(
        world.state(&name).await.get_str("state").unwrap(),
        "dropped"
    );
}

#[tokio::test]
async fn what_must_not_lead_to_an_index() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    let db = world.db.clone();
    // Unselective: nine of ten documents.
    for _ in 0..25 {
        world.find(doc! {"active": true}, doc! {}).await;
    }
    // Tiny.
    let few: Vec<Document> = (0..900).map(|n| doc! {"k": n}).collect();
    world
        .app
        .ok(&doc! {"insert": "tiny", "documents": few, "$db": &db})
        .await;
    for n in 0..25 {
        world
            .app
            .ok(&doc! {"find": "tiny", "filter": {"k": n}, "$db": &db})
            .await;
    }
    // Write-heavy: the writes come while it is read.
    let many = || (0..1000).map(|n| doc! {"k": n}).collect::<Vec<Document>>();
    world
        .app
        .ok(&doc! {"insert": "busy", "documents": many(), "$db": &db})
        .await;
    world
        .app
        .ok(&doc! {"find": "busy", "filter": {"k": 1}, "$db": &db})
        .await;
    world.tick().await;
    for n in 0..25 {
        world
            .app
            .ok(&doc! {"find": "busy", "filter": {"k": n}, "$db": &db})
            .await;
    }
    world
        .app
        .ok(&doc! {"insert": "busy", "documents": many(), "$db": &db})
        .await;
    // Seldom.
    for _ in 0..19 {
        world.find(doc! {"price": 7}, doc! {}).await;
    }
    // By `_id`, and of a special kind.
    for _ in 0..25 {
        world.find(doc! {"_id": 1}, doc! {}).await;
    }
    world.tick().await;
    for collection in ["products", "tiny", "busy"] {
        assert!(world.automatic(collection).await.is_empty(), "{collection}");
    }
    assert_eq!(world.decisions("products").await, ["no good_enough"]);
    assert_eq!(world.decisions("tiny").await, ["wait small"]);
    assert_eq!(world.decisions("busy").await, ["advise write_heavy"]);
}

#[tokio::test]
async fn a_full_collection_is_left_alone() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    let indexes: Vec<Document> = (0..61)
        .map(|n| doc! {"key": {format!("f{n}"): 1}, "name": format!("f{n}")})
        .collect();
    let create = doc! {"createIndexes": "products", "indexes": indexes};
    world.upstream.run_command(create).await.unwrap();
    world.shop(20).await;
    world.tick().await;
    world.shop(20).await;
    world.tick().await;
    // One decision, taken once: it is not looked at again at once. A warning in the log would fail the test.
    assert_eq!(world.decisions("products").await, ["no full"]);
    assert!(world.automatic("products").await.is_empty());
}

#[tokio::test]
async fn an_unused_index_goes_and_comes_back_when_it_is_missed() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
    let is_hidden = |indexes: &[Document]| indexes[0].get_bool("hidden").unwrap_or(false);
    world.tick_after(6 * DAY).await;
    assert!(!is_hidden(&world.automatic("products").await));
    world.tick_after(8 * DAY).await;
    assert!(is_hidden(&world.automatic("products").await));
    assert_eq!(world.state(&name).await.get_str("why").unwrap(), "unused");
    // The shape comes again and finds no index.
    world.shop(20).await;
    world.tick_after(9 * DAY).await;
    assert!(!is_hidden(&world.automatic("products").await));
    // Used again: the members count.
    eventually("the index in the plan", async || {
        let plan = world.plan().await.to_string();
        plan.contains("category_1_price_1").then_some(())
    })
    .await;
    world.shop(5).await;
    world.tick_after(15 * DAY).await;
    assert!(!is_hidden(&world.automatic("products").await));
    // And then for good.
    world.tick_after(23 * DAY).await;
    assert!(is_hidden(&world.automatic("products").await));
    world.tick_after(31 * DAY).await;
    assert!(world.automatic("products").await.is_empty());
    assert_eq!(
        world.state(&name).await.get_str("state").unwrap(),
        "dropped"
    );
}
