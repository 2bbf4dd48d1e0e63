//! Indexes that others have made needless.

use super::*;

impl World {
    async fn hidden_ones(&self) -> Vec<String> {
        let indexes = self.automatic("products").await;
        let hidden = indexes
            .iter()
            .filter(|i| i.get_bool("hidden").unwrap_or(false));
        let names = hidden.map(|i| i.get_str("name").unwrap().to_owned());
        names.collect()
    }

    /// A busy machine makes commands slower, which must not look as if the hidden index were missed.
    pub(super) async fn has_no_latency(&self, name: &str) {
        let unknown = doc! {"micros_per_call_hidden": 0_i64};
        self.set_state(name, unknown).await;
    }

    /// The short shape, and the one for which a longer index is worth it: 1000 documents of a category.
    async fn ask(&mut self, short: i32, long: i32) {
        for n in 0..short {
            let half = format!("h{}", n % 2);
            let found = self.find(doc! {"half": half}, doc! {"price": 1}).await;
            assert_eq!(found.len(), 1000);
        }
        for n in 0..long {
            let filter = doc! {"half": "h1", "sku": {"$gte": 1990 - n}};
            self.find(filter, doc! {"price": 1}).await;
        }
    }
}

async fn halves(world: &mut World) {
    let all: Vec<Document> = (0..2000)
        .map(|n| doc! {"half": format!("h{}", n % 2), "price": (n * 7) % 1000, "sku": n})
        .collect();
    let insert = doc! {"insert": "products", "documents": all, "$db": &world.db};
    world.app.ok(&insert).await;
}

#[tokio::test]
async fn a_longer_index_replaces_a_shorter_one_and_gives_it_back() {
    let mut world = world("shared", &[]).await;
    halves(&mut world).await;
    world.ask(20, 0).await;
    world.tick().await;
    let [short, long] = ["half_1_price_1", "half_1_price_1_sku_1"].map(|key| world.name(key));
    assert_eq!(world.automatic_names("products").await, [short.as_str()]);
    world.ask(0, 20).await;
    world.tick().await;
    let both = [short.as_str(), long.as_str()];
    assert_eq!(world.automatic_names("products").await, both);
    // As long as it is being watched, the other one stays.
    world.tick_after(2 * 3600).await;
    assert!(world.hidden_ones().await.is_empty());
    world.set_state(&long, doc! {"state": "kept"}).await;
    world.tick_after(4 * 3600).await;
    assert_eq!(world.hidden_ones().await, [short.as_str()]);
    let state = world.state(&short).await;
    assert_eq!(state.get_str("why").unwrap(), "redundant");
    world.has_no_latency(&short).await;
    // Its shapes come, and are served.
    world.ask(40, 5).await;
    world.tick_after(5 * 3600).await;
    assert_eq!(world.hidden_ones().await, [short.as_str()]);
    // Without the longer one it is needed.
    let drop = doc! {"dropIndexes": "products", "index": &long};
    world.upstream.run_command(drop).await.unwrap();
    let refused = doc! {"state": "refused"};
    world.set_state(&long, refused).await;
    world.ask(20, 0).await;
    world.tick_after(6 * 3600).await;
    assert_eq!(world.automatic_names("products").await, [short.as_str()]);
    assert!(world.hidden_ones().await.is_empty());
}

#[tokio::test]
async fn what_is_shared_replaces_those_of_single_apps() {
    let names = ["alice", "bob", "carol", "dave"];
    let mut world = of_apps(&names).await;
    let shop = async |world: &mut World, name: &str| {
        world.app = world.proxy.raw(name).await;
        world.shop(20).await;
    };
    shop(&mut world, "alice").await;
    world.tick().await;
    let own = world.name("category_1_price_1");
    assert_eq!(world.automatic_names("products").await, [own.as_str()]);
    for name in &names[1..] {
        shop(&mut world, name).await;
    }
    world.tick().await;
    let of_all = "_auto.category_1_price_1";
    assert_eq!(
        world.automatic_names("products").await,
        [own.as_str(), of_all]
    );
    world.set_state(of_all, doc! {"state": "kept"}).await;
    world.tick_after(2 * 3600).await;
    assert_eq!(world.hidden_ones().await, [own.as_str()]);
    world.has_no_latency(&own).await;
    for name in names {
        shop(&mut world, name).await;
    }
    world.tick_after(8 * DAY).await;
    assert_eq!(world.automatic_names("products").await, [of_all]);
}

/// Prices and tags are arrays, which no index over both takes.
#[tokio::test]
async fn what_cannot_be_built_is_not_in_the_way_of_less() {
    logs::expect("an index was not built");
    let mut world = world("shared", &[]).await;
    let all: Vec<Document> = (0..2000)
        .map(|n| doc! {"half": format!("h{}", n % 2), "price": [n % 100, n], "tags": [n % 7, n % 11]})
        .collect();
    let insert = doc! {"insert": "products", "documents": all, "$db": &world.db};
    world.app.ok(&insert).await;
    for n in 0..20 {
        let half = format!("h{}", n % 2);
        let sort = doc! {"price": 1};
        world.find(doc! {"half": &half}, sort.clone()).await;
        let tagged = doc! {"half": half, "tags": {"$gte": 5}};
        world.find(tagged, sort).await;
    }
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["fail build"]);
    world.tick().await;
    let short = world.name("half_1_price_1");
    assert_eq!(world.automatic_names("products").await, [short.as_str()]);
}
