//! Commands that are explained: whose they are, what is done without one, and how long they may take.

use super::*;

impl World {
    /// 20 finds of one shape in another collection than that of the promise.
    async fn ask_for(&mut self, collection: &str) {
        for n in 0..20 {
            let find = doc! {"find": collection, "filter": {"k": n}, "$db": &self.db};
            self.app.ok(&find).await;
        }
    }

    /// 2000 documents in each of some collections.
    async fn fill(&mut self, collections: &[String]) {
        for collection in collections {
            let documents: Vec<Document> = (0..2000).map(|n| doc! {"k": n}).collect();
            let insert = doc! {"insert": collection, "documents": documents, "$db": &self.db};
            self.app.ok(&insert).await;
        }
    }

    async fn built(&self) -> u64 {
        let indexes = self.control.collection::<Document>("indexes");
        let built = doc! {"state": {"$in": ["watched", "kept"]}};
        indexes.count_documents(built).await.unwrap()
    }
}

/// Too few to share an index of several fields.
#[tokio::test]
async fn each_of_three_apps_gets_its_own() {
    let names = ["alice", "bob", "carol"];
    let mut world = of_apps(&names).await;
    for name in names {
        world.app = world.proxy.raw(name).await;
        world.shop(20).await;
    }
    for _ in names {
        world.tick().await;
    }
    let mut expected: Vec<String> = names
        .iter()
        .map(|name| format!("_auto:{}.category_1_price_1", world.proxy.slug(name)))
        .collect();
    expected.sort();
    let mut built = world.automatic_names("products").await;
    built.sort();
    assert_eq!(built, expected, "{:?}", world.decisions("products").await);
}

/// A proxy that was started again knows of many shapes, and has seen few of them: those do not wait behind the others.
#[tokio::test]
async fn what_is_asked_for_does_not_wait_behind_what_is_not() {
    let (control, slug) = (unique_name("control"), unique_name("alice"));
    // Few commands in each round.
    let deployment = shared().await;
    let start = |mode| {
        let lines = [mode, "interval: 60s", "seen_over: 0s"];
        let builder = ProxyBuilder::new(deployment).indexes(&lines);
        builder
            .control_database(&control)
            .app_with_slug("alice", &slug)
    };
    let mut world = World::of(start("mode: advise").start().await, &control).await;
    let names: Vec<String> = (0..30).map(|n| format!("c{n:02}")).collect();
    world.fill(&names).await;
    for name in &names {
        world.ask_for(name).await;
    }
    world.tick().await;
    world.proxy.shut_down().await;
    let db = world.db.clone();
    world.proxy = start("mode: auto").start().await;
    world.app = world.proxy.raw("alice").await;
    world.db = db;
    // The last in the order of their names.
    world.ask_for("c29").await;
    world.tick().await;
    assert_eq!(world.automatic_names("c29").await, ["_auto.k_1"]);
    // Of the others it is told that there is nothing to explain, of each in its turn.
    let first = world.decisions("c00").await;
    for round in 1..=10 {
        world.tick_after(round * 60).await;
    }
    assert!(
        world
            .decisions("c28")
            .await
            .contains(&"wait sample".to_owned()),
        "{first:?}"
    );
    // It is looked at as soon as there is.
    world.ask_for("c28").await;
    world.tick_after(11 * 60).await;
    assert_eq!(world.automatic_names("c28").await, ["_auto.k_1"]);
    assert_eq!(world.built().await, 2);
}

/// In one round there is not time enough for the commands that a look takes.
#[tokio::test]
async fn short_intervals_are_no_reason_to_do_nothing() {
    let control = unique_name("control");
    let lines = ["mode: auto", "interval: 1ms", "seen_over: 0s"];
    let builder = ProxyBuilder::new(shared().await).indexes(&lines);
    let builder = builder.control_database(&control).app("alice");
    let mut world = World::of(builder.start().await, &control).await;
    world.fill(&["c".to_owned()]).await;
    world.ask_for("c").await;
    eventually("the first index", async || {
        (world.built().await > 0).then_some(())
    })
    .await;
}

/// What takes longest needs its index most.
#[tokio::test]
async fn a_command_that_takes_too_long_to_be_explained_is_evidence() {
    let deployment = with_fail_points().await;
    let mut world = before(&deployment).await;
    world.stock().await;
    world.shop(20).await;
    let admin = world.upstream.client().database("admin");
    // The next command with a time limit has reached it: the explain, if it has one.
    let point = doc! {"configureFailPoint": "maxTimeAlwaysTimeOut", "mode": {"times": 1}};
    admin.run_command(point).await.unwrap();
    world.tick().await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.decisions("products").await, ["build proved"]);
    let state = world.state(&name).await;
    let before = state.get_document("before").unwrap();
    assert!(before.get_bool("late").unwrap(), "{before}");
    let after = state.get_document("after").unwrap();
    assert!(!after.get_bool("late").unwrap(), "{after}");
}
