//! The plan cache of a shared collection, compared with a private server's.

use bson::{Bson, Document, doc};

use super::validate::World;

#[tokio::test]
async fn it_is_asked_as_on_a_private_server() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        let insert = doc! {"insert": "c", "documents": [{"x": 1}], "$db": &world.db};
        let index = doc! {"key": {"x": 1}, "name": "x_1"};
        let create = doc! {"createIndexes": "c", "indexes": [index], "$db": &world.db};
        let view = doc! {"create": "v", "viewOn": "c", "pipeline": [], "$db": &world.db};
        for client in [&mut world.alice, &mut world.private, &mut world.bob] {
            for command in [&insert, &create, &view] {
                client.ok(command).await;
            }
        }
        let of_bob = doc! {"insert": "of_bob", "documents": [{"x": 1}], "$db": &world.db};
        world.bob.ok(&of_bob).await;
        for command in commands() {
            world.same(command).await;
        }
    }
}

#[tokio::test]
async fn no_filter_is_set_on_a_shared_collection() {
    let mut world = World::new("shared").await;
    let insert = doc! {"insert": "c", "documents": [{"x": 1}], "$db": &world.db};
    world.alice.ok(&insert).await;
    let set = doc! {"planCacheSetFilter": "c", "query": {"x": 1}, "indexes": [{"x": 1}]};
    assert_eq!(world.alice_fails(set).await, 13);
}

fn commands() -> Vec<Document> {
    let mut commands = Vec::new();
    for name in ["planCacheClear", "planCacheClearFilters"] {
        for collection in ["c", "none", "of_bob", "v"] {
            commands.extend([
                doc! {name: collection},
                doc! {name: collection, "query": {"x": 1}},
                doc! {name: collection, "query": 1},
                doc! {name: collection, "sort": {"x": 1}},
            ]);
        }
        commands.extend([
            doc! {name: 1},
            doc! {name: ""},
            doc! {name: "c", "query": {}},
            doc! {name: "c", "query": Bson::Null},
            doc! {name: "c", "projection": {"x": 1}},
            doc! {name: "c", "collation": {"locale": "en"}},
            doc! {name: "c", "query": {"x": 1}, "sort": {"x": 1}, "projection": {"x": 1}, "collation": {"locale": "en"}},
            doc! {name: "c", "query": {"x": 1}, "sort": 1},
            doc! {name: "c", "query": {"x": 1}, "sort": Bson::Null},
            doc! {name: "c", "query": {"x": 1}, "projection": 1},
            doc! {name: "c", "query": {"x": 1}, "collation": 1},
            doc! {name: "c", "query": {"x": {"$zz": 1}}},
            doc! {name: "c", "query": {"x": {"$in": 1}}},
            doc! {name: "c", "query": {"x": 1}, "sort": {"x": 2}},
            doc! {name: "c", "query": {"x": 1}, "projection": {"x": {"$zz": 1}}},
            doc! {name: "c", "query": {"x": 1}, "collation": {"locale": "zz"}},
            doc! {name: "c", "query": {"$text": {"$search": "no index"}}},
            doc! {name: "c", "query": {"flat": {"$near": [0, 0]}}},
        ]);
    }
    for collection in ["c", "none", "of_bob", "v"] {
        commands.push(doc! {"planCacheListFilters": collection});
    }
    commands.push(doc! {"planCacheListFilters": 1});
    for collection in ["none", "of_bob", "v"] {
        commands.push(doc! {"planCacheSetFilter": collection, "query": {}, "indexes": [{"x": 1}]});
    }
    commands
}

/// What an operator has set upstream is not told and not taken away.
#[tokio::test]
async fn filters_of_others_are_neither_shown_nor_cleared() {
    let mut world = World::new("shared").await;
    let db = world.db.clone();
    let insert = doc! {"insert": "c", "documents": [{"x": 1}], "$db": &db};
    world.alice.ok(&insert).await;
    world.bob.ok(&insert).await;
    let upstream = world.proxy.upstream().await;
    let set = doc! {"planCacheSetFilter": "c", "query": {"x": 1}, "indexes": [{"app_id": 1}]};
    upstream.run_command(set).await.unwrap();
    let list = doc! {"planCacheListFilters": "c"};
    let before = upstream.run_command(list.clone()).await.unwrap();
    assert_eq!(before.get_array("filters").unwrap().len(), 1);
    let mut shown = list.clone();
    shown.insert("$db", &db);
    let found = world.alice.ok(&shown).await;
    assert_eq!(found.get_array("filters").unwrap().len(), 0);
    for command in [
        doc! {"planCacheClearFilters": "c", "$db": &db},
        doc! {"planCacheClearFilters": "c", "query": {"x": 1}, "$db": &db},
        doc! {"planCacheClear": "c", "$db": &db},
    ] {
        world.alice.ok(&command).await;
    }
    let after = upstream.run_command(list).await.unwrap();
    assert_eq!(
        after.get_array("filters").unwrap(),
        before.get_array("filters").unwrap()
    );
}
