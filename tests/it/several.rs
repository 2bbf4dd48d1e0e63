//! Several proxies in front of one deployment: what one changes, the others see.

use std::time::Duration;

use bson::{Document, doc};
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, eventually, shared, unique_name};
use tokio::time::timeout;

/// Two proxies that serve the same app.
async fn pair() -> (TestProxy, TestProxy) {
    let slug = unique_name("alice");
    let deployment = shared().await;
    let start = || {
        ProxyBuilder::new(deployment)
            .app_with_slug("alice", &slug)
            .start()
    };
    (start().await, start().await)
}

/// Below the 30 seconds after which a proxy reads by itself what it knows of a collection: what it knows sooner, it was told.
const TOLD_WITHIN: Duration = Duration::from_secs(25);

/// Waits until a command has this result.
async fn becomes(client: &mut RawClient, command: &Document, is_so: impl Fn(&Document) -> bool) {
    let seen = eventually("the change", async || {
        let reply = client.command(command).await;
        is_so(&reply).then_some(())
    });
    timeout(TOLD_WITHIN, seen).await.expect("it was told");
}

#[tokio::test]
async fn a_view_and_an_index_of_another_proxy_are_seen() {
    let (one, other) = pair().await;
    let db = one.database_name().to_owned();
    let (mut a, mut b) = (one.raw("alice").await, other.raw("alice").await);
    let insert =
        doc! {"insert": "c", "documents": [{"_id": 1, "x": 1}, {"_id": 2, "x": 2}], "$db": &db};
    a.ok(&insert).await;
    let view = doc! {"find": "v", "$db": &db};
    let hinted = doc! {"find": "c", "filter": {"x": 1}, "hint": "x_1", "$db": &db};
    // The other proxy knows both names as they are before.
    assert!(batch(&b.ok(&view).await).is_empty());
    assert_eq!(b.fails(&hinted).await, 2);
    a.ok(&doc! {"create": "v", "viewOn": "c", "pipeline": [{"$match": {"x": 2}}], "$db": &db})
        .await;
    a.ok(&doc! {"createIndexes": "c", "indexes": [{"key": {"x": 1}, "name": "x_1"}], "$db": &db})
        .await;
    becomes(&mut b, &view, |reply| {
        batch(reply) == [doc! {"_id": 2, "x": 2}]
    })
    .await;
    becomes(&mut b, &hinted, mdb_tests::is_ok).await;
    // And back again.
    a.ok(&doc! {"drop": "v", "$db": &db}).await;
    a.ok(&doc! {"dropIndexes": "c", "index": "x_1", "$db": &db})
        .await;
    becomes(&mut b, &view, |reply| batch(reply).is_empty()).await;
    becomes(&mut b, &hinted, |reply| !mdb_tests::is_ok(reply)).await;
}

#[tokio::test]
async fn a_renamed_collection_is_seen_by_another_proxy() {
    let (one, other) = pair().await;
    let db = one.database_name().to_owned();
    let (mut a, mut b) = (one.raw("alice").await, other.raw("alice").await);
    let insert = |id: i32| doc! {"insert": "old", "documents": [{"_id": id}], "$db": &db};
    a.ok(&insert(1)).await;
    b.ok(&insert(2)).await;
    let rename =
        doc! {"renameCollection": format!("{db}.old"), "to": format!("{db}.new"), "$db": "admin"};
    a.ok(&rename).await;
    // The documents have moved for both, and what is written under the old name stays there.
    let ids = |reply: Document| -> Vec<i32> {
        let found = batch(&reply);
        found.iter().map(|d| d.get_i32("_id").unwrap()).collect()
    };
    assert_eq!(ids(b.ok(&doc! {"find": "new", "$db": &db}).await), [1, 2]);
    b.ok(&insert(3)).await;
    assert_eq!(ids(a.ok(&doc! {"find": "old", "$db": &db}).await), [3]);
}

/// The physical validator has a clause for each app, and none is lost when proxies change it at the same time.
#[tokio::test]
async fn validators_that_apps_set_at_once_are_all_kept() {
    const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
    let slugs = NAMES.map(|name| (name, unique_name(name)));
    let deployment = shared().await;
    let start = || {
        let builder = ProxyBuilder::new(deployment);
        let apps = slugs.iter();
        let builder = apps.fold(builder, |b, (name, slug)| b.app_with_slug(name, slug));
        builder.start()
    };
    let proxies = [start().await, start().await];
    let db = proxies[0].database_name().to_owned();
    let insert =
        |id: String, n: i32| doc! {"insert": "c", "documents": [{"_id": id, "n": n}], "$db": &db};
    let mut clients = Vec::new();
    for (at, name) in NAMES.iter().enumerate() {
        let mut client = proxies[at % 2].raw(name).await;
        client.ok(&insert((*name).to_owned(), 1)).await;
        clients.push((name, client));
    }
    for round in 0..3 {
        let changes = clients.iter_mut().map(async |(_, client)| {
            let rule = doc! {"collMod": "c", "validator": {"n": {"$lt": 10 + round}}, "$db": &db};
            client.ok(&rule).await;
        });
        futures_util::future::join_all(changes).await;
        for (name, client) in &mut clients {
            client
                .ok(&insert(format!("{name}{round}"), 9 + round))
                .await;
            let broken = client
                .command(&insert(format!("{name}-"), 10 + round))
                .await;
            assert!(broken.contains_key("writeErrors"), "{name}: {broken}");
        }
    }
}
