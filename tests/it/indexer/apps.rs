//! Several apps, and apps with collections of their own.

use super::*;

#[tokio::test]
async fn a_collection_of_its_own_gets_plain_indexes() {
    let mut world = world("dedicated", &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let physical = world.physical("dedicated");
    let indexes = world.automatic(&physical).await;
    assert_eq!(indexes.len(), 1, "{:?}", world.decisions(&physical).await);
    assert_eq!(
        indexes[0].get_str("name").unwrap(),
        "_auto.category_1_price_1"
    );
    let key = doc! {"category": 1, "price": 1};
    assert_eq!(indexes[0].get_document("key").unwrap(), &key);
    let plan = world.plan().await.to_string();
    assert!(
        plan.contains("category_1_price_1") && !plan.contains("_auto"),
        "{plan}"
    );
    let db = world.db.clone();
    let list = doc! {"listIndexes": "products", "$db": &db};
    assert_eq!(batch(&world.app.ok(&list).await).len(), 1);
    let hinted = doc! {"find": "products", "hint": "_auto.category_1_price_1", "$db": &db};
    assert_eq!(world.app.fails(&hinted).await, 2);
    for index in [
        bson::bson!("_auto.category_1_price_1"),
        bson::bson!({"category": 1, "price": 1}),
        bson::bson!(["_auto.category_1_price_1"]),
    ] {
        let drop = doc! {"dropIndexes": "products", "index": index, "$db": &db};
        assert_eq!(world.app.fails(&drop).await, 27, "{drop}");
    }
    world
        .app
        .ok(&doc! {"dropIndexes": "products", "index": "*", "$db": &db})
        .await;
    assert_eq!(world.automatic(&physical).await.len(), 1);
    let own = doc! {"createIndexes": "products", "indexes": [{"key": {"category": 1, "price": 1}, "name": "mine"}], "$db": &db};
    let reply = world.app.ok(&own).await;
    assert_eq!(reply.get_i32("numIndexesAfter").unwrap(), 2, "{reply}");
    assert!(world.automatic(&physical).await.is_empty());
}

#[tokio::test]
async fn a_collection_that_gets_another_name_leaves_automatic_indexes_behind() {
    let mut world = world("dedicated", &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let slug = world.proxy.slug("alice").to_owned();
    let physical = format!("products@{slug}");
    assert_eq!(world.automatic(&physical).await.len(), 1);
    let db = world.db.clone();
    let (from, to) = (format!("{db}.products"), format!("{db}.goods"));
    let rename = doc! {"renameCollection": from, "to": to, "$db": "admin"};
    world.app.ok(&rename).await;
    assert!(world.automatic(&format!("goods@{slug}")).await.is_empty());
    let decisions = world.decisions(&physical).await;
    assert!(
        decisions.contains(&"drop in_the_way".to_owned()),
        "{decisions:?}"
    );
}

#[tokio::test]
async fn apps_that_want_the_same_share_one_index() {
    let names = ["alice", "bob", "carol", "dave"];
    let mut world = of_apps(&names).await;
    for name in names {
        world.app = world.proxy.raw(name).await;
        world.shop(20).await;
        for n in 0..20 {
            world.find(doc! {"sku": n}, doc! {}).await;
        }
    }
    world.tick().await;
    world.tick().await;
    let mut built = world.automatic_names("products").await;
    built.sort();
    let decisions = world.decisions("products").await;
    assert_eq!(
        built,
        ["_auto.category_1_price_1", "_auto.sku_1"],
        "{decisions:?}"
    );
    assert!(
        world
            .automatic("products")
            .await
            .iter()
            .all(|i| i.get("partialFilterExpression").is_none())
    );
}
