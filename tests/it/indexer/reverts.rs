//! Indexes that do not do what was promised are taken back: by their plan, and by the latency of the commands that they serve.

use mdb_tests::{Relay, Weather};

use super::*;
use crate::failures::through;

impl World {
    async fn is_hidden(&self, name: &str) -> bool {
        let indexes = self.automatic("products").await;
        let found = indexes.iter().find(|i| i.get_str("name").unwrap() == name);
        found.unwrap().get_bool("hidden").unwrap_or(false)
    }

    /// State, and why.
    async fn stands(&self, name: &str) -> (String, String) {
        let state = self.state(name).await;
        let text = |field: &str| state.get_str(field).unwrap_or_default().to_owned();
        (text("state"), text("why"))
    }
}

fn pair(state: &str, why: &str) -> (String, String) {
    (state.to_owned(), why.to_owned())
}

/// Somebody has told the server which indexes it may choose for the promised command: seen on 4.4.2, 5.0.4 and 6.0.5, such a
/// filter holds for indexes that are made later, and a plan under it does not choose them.
#[tokio::test]
async fn an_index_that_the_planner_does_not_choose_is_hidden_and_dropped() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    let filter = |command: &str| {
        let own = doc! {"app_id": world.proxy.slug("alice")};
        let query = doc! {"$and": [own, {"category": "c1"}]};
        doc! {command: "products", "query": query, "sort": {"price": 1}}
    };
    let mut set = filter("planCacheSetFilter");
    set.insert("indexes", vec![doc! {"app_id": 1, "_id": 1}]);
    let clear = filter("planCacheClearFilters");
    world.upstream.run_command(set).await.unwrap();
    world.shop(20).await;
    world.tick().await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.decisions("products").await, ["hide unproved"]);
    assert!(world.is_hidden(&name).await);
    assert_eq!(world.stands(&name).await, pair("hidden", "unproved"));
    let collection = format!("{}.products", world.db);
    let why = world.proxy.order(IndexOrder::Why { collection }).await;
    assert!(
        why.contains("did not prove itself: 2000 documents examined before, 2000 afterwards, by "),
        "{why}"
    );
    // It is asked for again and again, and was no good: it goes all the same.
    world.shop(40).await;
    world.tick_after(6 * DAY).await;
    assert!(world.is_hidden(&name).await);
    world.tick_after(8 * DAY).await;
    assert!(world.automatic("products").await.is_empty());
    assert_eq!(
        world.decisions("products").await,
        ["drop soaked", "hide unproved"]
    );
    // Whoever still wants it gets it tried once more, and now it is chosen.
    world.upstream.run_command(clear).await.unwrap();
    world.shop(20).await;
    world.tick_after(8 * DAY + 3600).await;
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
    assert_eq!(world.stands(&name).await.0, "watched");
    assert_eq!(world.examined().await, 50);
}

/// What follows from the shape is not always what the data gives: all documents lie in the range.
#[tokio::test]
async fn an_index_that_saves_nothing_is_hidden() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    for n in 0..20 {
        let filter = doc! {"sku": {"$gte": -n}, "category": {"$not": {"$regex": "^c"}}};
        assert!(world.find(filter, doc! {}).await.is_empty());
    }
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["hide unproved"]);
    assert!(world.is_hidden("_auto.sku_1").await);
    let stands = world.stands("_auto.sku_1").await;
    assert_eq!(stands, pair("hidden", "unproved"));
}

/// A proxy that reaches the server through a relay, which can make it slow. The member's own address is not looked at, so that
/// the driver has no member of that name.
async fn relayed_world() -> (World, Relay) {
    let server = shared().await.member(0).address().parse().unwrap();
    let relay = Relay::to(server);
    let uri = through(&shared().await.proxy_uri(), &relay) + "&serverSelectionTimeoutMS=1000";
    let control = unique_name("control");
    let builder = ProxyBuilder::at(&uri)
        .indexes(LINES)
        .app("alice")
        .app("bob");
    let proxy = builder.control_database(&control).start().await;
    let mut world = World::of(proxy, &control).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    (world, relay)
}

/// The promised command, each time later than twice this mean.
async fn shop_slowly(world: &mut World, relay: &Relay, mean: u64, times: i32) {
    relay.set(Weather::Slow(Duration::from_micros(2 * mean)));
    world.shop(times).await;
    relay.set(Weather::Fair);
}

fn count(document: &Document, field: &str) -> u64 {
    u64::try_from(document.get_i64(field).unwrap()).unwrap()
}

#[tokio::test]
async fn an_index_with_which_commands_take_longer_is_hidden() {
    let (mut world, relay) = relayed_world().await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.stands(&name).await, pair("watched", ""));
    let state = world.state(&name).await;
    let before = count(&state, "micros_before") / count(&state, "reads_before");
    // One call too few to be judged.
    shop_slowly(&mut world, &relay, before, 99).await;
    world.tick().await;
    assert_eq!(
        world.decisions("products").await,
        ["build proved", "wait usage"]
    );
    assert!(!world.is_hidden(&name).await);
    shop_slowly(&mut world, &relay, before, 1).await;
    world.tick().await;
    assert_eq!(
        world.decisions("products").await,
        ["build proved", "hide slower", "wait usage"]
    );
    assert!(world.is_hidden(&name).await);
    assert_eq!(world.stands(&name).await, pair("hidden", "slower"));
    let collection = format!("{}.products", world.db);
    let why = world.proxy.order(IndexOrder::Why { collection }).await;
    let text = format!("{before} µs a call before it was built, ");
    assert!(
        why.contains(&text) && why.contains("over 100 calls afterwards"),
        "{why}"
    );
    // It was judged by what it did, so that it is not shown because commands want it.
    world.shop(40).await;
    world.tick_after(3600).await;
    assert!(world.is_hidden(&name).await);
    world.tick_after(8 * DAY).await;
    assert!(world.automatic("products").await.is_empty());
}

/// An index of one app is not judged by what another app's commands of the same shape take.
#[tokio::test]
async fn slow_commands_of_another_app_do_not_take_an_index_back() {
    let (mut world, relay) = relayed_world().await;
    let name = world.name("category_1_price_1");
    let state = world.state(&name).await;
    let before = count(&state, "micros_before") / count(&state, "reads_before");
    let mut bob = world.proxy.raw("bob").await;
    relay.set(Weather::Slow(Duration::from_micros(4 * before)));
    for _ in 0..100 {
        let find = doc! {"find": "products", "filter": {"category": "c1"}, "sort": {"price": 1}, "$db": &world.db};
        bob.ok(&find).await;
    }
    relay.set(Weather::Fair);
    // His commands are not its either.
    world.tick().await;
    assert_eq!(world.stands(&name).await, pair("watched", ""));
    world.shop(100).await;
    world.tick().await;
    assert_eq!(world.stands(&name).await, pair("kept", ""));
    let decisions = world.decisions("products").await;
    assert!(
        decisions.contains(&"keep latency".to_owned()),
        "{decisions:?}"
    );
}

/// What is not known of one member is not asked of it for the next collection, and nothing is taken back.
#[tokio::test]
async fn a_member_that_does_not_tell_how_indexes_are_used_is_asked_once() {
    let (mut world, _relay) = relayed_world().await;
    let documents: Vec<Document> = (0..2000).map(|n| doc! {"k": n}).collect();
    let insert = doc! {"insert": "goods", "documents": documents, "$db": &world.db};
    world.app.ok(&insert).await;
    for n in 0..20 {
        let find = doc! {"find": "goods", "filter": {"k": n}, "$db": &world.db};
        world.app.ok(&find).await;
    }
    world.tick().await;
    assert_eq!(world.decisions("goods").await, ["build proved"]);
    world.tick_after(8 * DAY).await;
    assert_eq!(
        world.decisions("goods").await,
        ["build proved", "wait usage"]
    );
    assert!(!world.is_hidden(&world.name("category_1_price_1")).await);
    let times = async |collection: &str| {
        let decisions = world.control.collection::<Document>("decisions");
        let usage = doc! {"collection": collection, "reason": "usage"};
        let found = decisions.find_one(usage).await.unwrap().unwrap();
        count(&found, "times")
    };
    assert_eq!((times("goods").await, times("products").await), (1, 1));
}

#[tokio::test]
async fn a_hidden_index_is_shown_when_its_shape_takes_longer_without_it() {
    let deployment = with_fail_points().await;
    let mut world = before(&deployment).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let name = world.name("category_1_price_1");
    world.shop(30).await;
    world.tick_after(8 * DAY).await;
    // Those calls were seen there and then.
    assert!(!world.is_hidden(&name).await);
    world.tick_after(16 * DAY).await;
    assert_eq!(world.stands(&name).await, pair("hidden", "unused"));
    let with_it = count(&world.state(&name).await, "micros_per_call_hidden");
    assert!(with_it > 0);
    let admin = world.upstream.client().database("admin");
    let set = async |fields: Document| {
        let mut point = doc! {"configureFailPoint": "failCommand"};
        point.extend(fields);
        admin.run_command(point).await.unwrap();
    };
    // Each find takes at least twice as long as with the index.
    let millis = i64::try_from(2 * with_it / 1000 + 1).unwrap();
    let late = doc! {"failCommands": ["find"], "blockConnection": true, "blockTimeMS": millis};
    for (times, is_hidden) in [(19, true), (1, false)] {
        set(doc! {"mode": "alwaysOn", "data": &late}).await;
        world.shop(times).await;
        set(doc! {"mode": "off"}).await;
        world.tick_after(16 * DAY).await;
        assert_eq!(world.is_hidden(&name).await, is_hidden, "{times}");
    }
    assert_eq!(world.stands(&name).await.0, "kept");
    assert_eq!(
        world.decisions("products").await,
        ["build proved", "hide unused", "show missed"]
    );
}

/// The app has an index that the server prefers: its shapes still come, and do without the automatic one.
#[tokio::test]
async fn a_hidden_index_without_which_its_shape_does_well_goes_for_good() {
    let mut world = world("shared", &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let name = world.name("category_1_price_1");
    let own = doc! {"createIndexes": "products", "indexes": [{"key": {"category": 1, "price": -1}, "name": "mine"}], "$db": &world.db};
    world.app.ok(&own).await;
    // Of two that are equally good it may choose either: here only the app's.
    let app = doc! {"app_id": world.proxy.slug("alice")};
    let prefer = doc! {
        "planCacheSetFilter": "products", "query": {"$and": [app, {"category": "c1"}]}, "sort": {"price": 1},
        "indexes": [format!("{}.mine", world.proxy.slug("alice"))],
    };
    world.upstream.run_command(prefer).await.unwrap();
    world.shop(20).await;
    world.tick_after(8 * DAY).await;
    assert_eq!(world.stands(&name).await, pair("hidden", "unused"));
    world.has_no_latency(&name).await;
    world.shop(20).await;
    world.tick_after(9 * DAY).await;
    assert!(world.is_hidden(&name).await);
    world.tick_after(16 * DAY).await;
    assert!(world.automatic("products").await.is_empty());
    assert_eq!(
        world.decisions("products").await,
        [
            "build proved",
            "drop soaked",
            "hide unused",
            "no good_enough"
        ]
    );
}
