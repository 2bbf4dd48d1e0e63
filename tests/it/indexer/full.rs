//! 64 indexes are there already, whoever has made them: the proxy is silent, and says once what it cannot do.

use mdb_testbed::Deployment;

use super::*;

/// How often the server was asked to make indexes.
async fn asked_for_indexes(upstream: &Database) -> i64 {
    let admin = upstream.client().database("admin");
    let status = admin.run_command(doc! {"serverStatus": 1}).await.unwrap();
    let commands = status.get_document("metrics").unwrap();
    let commands = commands.get_document("commands").unwrap();
    let command = commands.get_document("createIndexes").unwrap();
    command.get_i64("total").unwrap()
}

async fn fill(upstream: &Database, collection: &str, indexes: usize) {
    let indexes: Vec<Document> = (0..indexes)
        .map(|n| doc! {"key": {format!("f{n}"): 1}, "name": format!("f{n}")})
        .collect();
    let create = doc! {"createIndexes": collection, "indexes": indexes};
    upstream.run_command(create).await.unwrap();
}

#[tokio::test]
async fn a_full_collection_leads_to_silence() {
    logs::expect("the collection has no room for the base indexes");
    logs::expect("an index of a manifest cannot be built");
    let deployment = Deployment::replica_set(1).with_auth();
    let deployment = deployment.start().await.unwrap();
    let control = unique_name("control");
    let builder = ProxyBuilder::new(&deployment)
        .indexes(LINES)
        .control_database(&control)
        .app("alice")
        .saying("managed_indexes:\n  products: [{ keys: { sku: 1 } }]\n");
    let mut world = World::of(builder.start().await, &control).await;
    // Not even those that lead with the scope field have room.
    fill(&world.upstream, "products", 63).await;
    world.stock().await;
    let status = async |part: &str| {
        let what = format!("`{part}` in the status");
        eventually(&what, async || {
            let ready = crate::declared::ready(&world.proxy).await;
            ready.contains(part).then_some(ready)
        })
        .await
    };
    let ready = status("indexes_degraded").await;
    let text = "the collection has 64 indexes, of all apps together: MongoDB takes no more";
    assert!(
        ready.contains(text) && ready.contains("\"index\":\"sku_1\""),
        "{ready}"
    );
    assert!(
        !ready.contains("app_id") && !ready.contains("f1"),
        "{ready}"
    );
    let before = asked_for_indexes(&world.upstream).await;
    for round in 0..3 {
        world.shop(20).await;
        let insert =
            doc! {"insert": "products", "documents": [{"category": "new"}], "$db": &world.db};
        world.app.ok(&insert).await;
        world.tick_after(round * 3600).await;
    }
    // Of more than sixty commands. The index of the manifest is tried again, after 5, 10, 20 seconds and so on, however long
    // the commands take.
    let asked = asked_for_indexes(&world.upstream).await - before;
    assert!(asked <= 12, "{asked}");
    assert_eq!(world.decisions("products").await, ["no full"]);
    // There is room again.
    let drop = doc! {"dropIndexes": "products", "index": ["f1", "f2", "f3", "f4"]};
    world.upstream.run_command(drop).await.unwrap();
    let command = doc! {"listIndexes": "products", "$db": &world.db};
    let shown = eventually("the index of the manifest", async || {
        let shown = batch(&world.app.ok(&command).await);
        (shown.len() == 2).then_some(shown)
    })
    .await;
    assert_eq!(shown[1].get_str("name").unwrap(), "sku_1");
}
