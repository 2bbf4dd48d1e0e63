//! What operators and manifests say.

use super::*;

#[tokio::test]
async fn advice_is_written_down_and_nothing_is_built() {
    let control = unique_name("control");
    let lines = ["mode: advise", "interval: 24h", "seen_over: 0s"];
    let builder = ProxyBuilder::new(shared().await).indexes(&lines);
    let builder = builder.control_database(&control).app("alice");
    let mut world = World::of(builder.start().await, &control).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["advise mode"]);
    assert!(world.automatic("products").await.is_empty());
    // What is kept holds no value of a command.
    for collection in ["shapes", "indexes", "decisions"] {
        let kept = world.control.collection::<Document>(collection);
        let kept: Vec<Document> = kept
            .find(doc! {})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        assert!(!kept.is_empty(), "{collection}");
        let text = format!("{kept:?}");
        assert!(
            !text.contains("\"c1\"") && !text.contains("\"c19"),
            "{text}"
        );
    }
    // An operator asks for it, and takes it back.
    let name = world.name("category_1_price_1");
    let id = format!("{}.products/{name}", world.db);
    let advice = world.proxy.order(IndexOrder::Advise).await;
    assert!(
        advice.starts_with(&format!("{id}  {{app_id: 1, category: 1, price: 1")),
        "{advice}"
    );
    let collection = format!("{}.products", world.db);
    let why = world.proxy.order(IndexOrder::Why { collection }).await;
    assert!(
        why.contains("advise") && why.contains("examined 2000 documents and returned 50"),
        "{why}"
    );
    let ordered = world.proxy.order(IndexOrder::Apply { name: None }).await;
    assert!(ordered.starts_with(&id), "{ordered}");
    // While another index is being built, the order stands.
    let leases = world.control.collection::<Document>("leases");
    let until = DateTime::from_millis(DateTime::now().timestamp_millis() + 3_600_000);
    let held = doc! {"$set": {"owner": "another", "expires_at": until}};
    let held = leases.update_one(doc! {"_id": "index_build"}, held);
    held.upsert(true).await.unwrap();
    for later in [0, 3600] {
        world.tick_after(later).await;
        let state = world.state(&name).await;
        assert_eq!(state.get_str("state").unwrap(), "ordered");
    }
    leases
        .delete_one(doc! {"_id": "index_build"})
        .await
        .unwrap();
    world.tick().await;
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
    assert!(
        world
            .proxy
            .order(IndexOrder::List)
            .await
            .contains("watched")
    );
    world
        .proxy
        .order(IndexOrder::Drop { name: id.clone() })
        .await;
    assert!(world.automatic("products").await.is_empty());
    world.shop(20).await;
    world.tick_after(60 * 60).await;
    assert!(world.automatic("products").await.is_empty());
    assert!(
        world
            .proxy
            .order(IndexOrder::List)
            .await
            .contains("refused")
    );
}

#[tokio::test]
async fn a_manifest_that_is_read_again_changes_the_mode_of_its_app() {
    let control = unique_name("control");
    let builder = ProxyBuilder::new(shared().await).indexes(LINES);
    let builder = builder.control_database(&control).app("alice");
    let builder = builder.saying("indexes: { mode: off }\n");
    let mut world = World::of(builder.start().await, &control).await;
    let says = async |world: &World, mode: &str| {
        let mode = format!("indexes: {{ mode: {mode} }}\n");
        world.proxy.change(world.proxy.slug("alice"), |text| {
            let head = text.split("indexes: ").next().unwrap().to_owned();
            Some(head + &mode)
        });
        world.proxy.reload().await;
    };
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let shapes = world.control.collection::<Document>("shapes");
    assert_eq!(shapes.count_documents(doc! {}).await.unwrap(), 0);
    says(&world, "advise").await;
    world.shop(20).await;
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["advise mode"]);
    // What was seen before does not count with `off`, either.
    says(&world, "off").await;
    world.tick_after(3600).await;
    assert_eq!(world.decisions("products").await, ["advise mode"]);
    assert!(world.automatic("products").await.is_empty());
    says(&world, "auto").await;
    world.tick_after(7200).await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
}

/// The line of a window of an hour that begins in two.
fn window_in_two_hours() -> String {
    let now = DateTime::now().timestamp_millis();
    let minute = |later: i64| {
        let minute = (now / 60_000 + later).rem_euclid(24 * 60);
        format!("{:02}:{:02}", minute / 60, minute % 60)
    };
    format!("build_window: \"{}-{}\"", minute(120), minute(180))
}

#[tokio::test]
async fn builds_wait_for_their_window() {
    let mut world = world("shared", &[&window_in_two_hours()]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["wait window"]);
    world.tick_after(60 * 60).await;
    assert!(world.automatic("products").await.is_empty());
    world.tick_after(150 * 60).await;
    assert_eq!(world.automatic("products").await.len(), 1);
    assert_eq!(
        world.decisions("products").await,
        ["build proved", "wait window"]
    );
}

#[tokio::test]
async fn manifests_and_operators_do_not_wait_for_the_window() {
    let control = unique_name("control");
    let window = window_in_two_hours();
    let lines = ["mode: advise", "interval: 24h", "seen_over: 0s", &window];
    let builder = ProxyBuilder::new(shared().await).indexes(&lines);
    let builder = builder.control_database(&control).app("alice");
    let manifest = "managed_indexes:\n  products: [{ keys: { sku: 1 }, unique: true }]\n";
    let mut world = World::of(builder.saying(manifest).start().await, &control).await;
    world.stock().await;
    let list = doc! {"listIndexes": "products", "$db": &world.db};
    eventually("the index of the manifest", async || {
        let shown = batch(&world.app.ok(&list).await);
        (shown.len() == 2).then_some(())
    })
    .await;
    // More than it takes: until the proxy has heard of the index, it does not know the collection, and counts no command.
    world.shop(40).await;
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["advise mode"]);
    world.proxy.order(IndexOrder::Apply { name: None }).await;
    world.tick().await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
}

#[tokio::test]
async fn a_collation_gets_an_index_of_its_own() {
    for isolation in ["shared", "dedicated"] {
        let mut world = world(isolation, &[]).await;
        world.stock().await;
        let collation = doc! {"locale": "en", "strength": 2};
        let find = |n: i32| {
            let filter = doc! {"category": format!("C{}", n % 40)};
            doc! {"find": "products", "filter": filter, "sort": {"price": 1}, "collation": &collation}
        };
        let ask = async |world: &mut World, times: i32| {
            for n in 0..times {
                let mut find = find(n);
                find.extend(doc! {"batchSize": 2000, "$db": &world.db});
                assert_eq!(batch(&world.app.ok(&find).await).len(), 50);
            }
        };
        ask(&mut world, 20).await;
        world.tick().await;
        let physical = world.physical(isolation);
        let [index] = <[Document; 1]>::try_from(world.automatic(&physical).await).unwrap();
        let name = index.get_str("name").unwrap();
        assert!(name.ends_with(".category_1_price_1_en_2"), "{name}");
        let there = index.get_document("collation").unwrap();
        assert_eq!(there.get_i32("strength").unwrap(), 2);
        assert_eq!(world.decisions(&physical).await, ["build proved"]);
        let explain = doc! {"explain": find(1), "$db": &world.db};
        eventually("the index in the plan", async || {
            let plan = world.app.ok(&explain).await.to_string();
            plan.contains("category_1_price_1_en_2").then_some(())
        })
        .await;
        // The same documents as before, and no second index.
        ask(&mut world, 20).await;
        world.tick_after(3600).await;
        assert_eq!(world.automatic(&physical).await.len(), 1);
        // What compares by bytes is not served by it.
        world.shop(20).await;
        world.tick_after(7200).await;
        assert_eq!(world.automatic(&physical).await.len(), 2);
    }
}
