//! Indexes that `collMod` makes unique.

use bson::doc;

use super::World;

/// Uniqueness is the app's: the other one has the same value twice, and keeps it.
#[tokio::test]
async fn indexes_become_unique() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        if !mdb_tests::is_since(&world.server, "6.0") {
            continue;
        }
        let twice = doc! {"insert": "c", "documents": [{"y": 1}, {"y": 1}], "$db": &world.db};
        world.bob.ok(&twice).await;
        let of_bob = world.of_bob().await;
        world
            .same(doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0}]})
            .await;
        let documents = [
            doc! {"_id": 1, "y": 1},
            doc! {"_id": 2, "y": 1},
            doc! {"_id": 8},
            doc! {"_id": 9},
        ];
        world
            .same(doc! {"insert": "c", "documents": documents.to_vec()})
            .await;
        let y = doc! {"key": {"y": 1}, "name": "y_1"};
        let prepared = doc! {"key": {"z": -1}, "name": "z", "prepareUnique": true, "sparse": true};
        let indexes = [y, prepared];
        world
            .same(doc! {"createIndexes": "c", "indexes": indexes.to_vec(), "commitQuorum": 1})
            .await;
        let change = |index| doc! {"collMod": "c", "index": index};
        let trial = |index| doc! {"collMod": "c", "index": index, "dryRun": true};
        let unique = || doc! {"name": "y_1", "unique": true};
        for command in [
            change(unique()),
            trial(unique()),
            change(doc! {"keyPattern": {"y": 1}, "prepareUnique": true}),
            doc! {"insert": "c", "documents": [{"_id": 3, "y": 1}]},
            doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"x": 1}}}]},
            doc! {"listIndexes": "c"},
            change(unique()),
            trial(unique()),
            doc! {"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}]},
            // Documents without the field are many.
            change(unique()),
            doc! {"delete": "c", "deletes": [{"q": {"y": {"$exists": false}}, "limit": 0}]},
            trial(unique()),
            trial(doc! {"name": "y_1", "unique": true, "hidden": true}),
            trial(doc! {"name": "x_1", "hidden": true}),
            doc! {"collMod": "c", "dryRun": true},
            change(unique()),
            change(unique()),
            change(doc! {"name": "y_1", "unique": false}),
            change(doc! {"name": "y_1", "prepareUnique": "a"}),
            doc! {"listIndexes": "c"},
            doc! {"insert": "c", "documents": [{"_id": 4, "y": 1}, {"_id": 5, "y": 2}], "ordered": false},
            doc! {"insert": "c", "documents": [{"_id": 6, "y": 3, "z": 1}, {"_id": 7, "y": 4, "z": 1}]},
            doc! {"find": "c", "projection": {"_id": 1}, "sort": {"_id": 1}},
        ] {
            world.same(command).await;
        }
        world.rename("c", "d", doc! {}).await;
        world.same(doc! {"listIndexes": "d"}).await;
        world
            .bob
            .ok(&doc! {"insert": "c", "documents": [{"y": 1}], "$db": &world.db})
            .await;
        let (indexes, count) = world.of_bob().await;
        assert_eq!((indexes, count), (of_bob.0, of_bob.1 + 1), "{mode}");
    }
}
