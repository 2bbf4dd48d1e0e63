//! `collMod`, `renameCollection` and what only a collection of the app's own can do.

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, shared};

mod unique;
mod validators;

struct World {
    proxy: TestProxy,
    db: String,
    alice: RawClient,
    bob: RawClient,
    private: RawClient,
    server: Deployment,
}

impl World {
    async fn new(isolation: &str) -> Self {
        let server = Deployment::replica_set(1).start().await.unwrap();
        let builder = ProxyBuilder::new(shared().await);
        let builder = builder.app("alice").isolated(isolation).app("bob");
        let proxy = builder.start().await;
        let mut world = Self {
            db: proxy.database_name().to_owned(),
            alice: proxy.raw("alice").await,
            bob: proxy.raw("bob").await,
            private: RawClient::connect(server.hosts()[0].parse().unwrap()).await,
            proxy,
            server,
        };
        world.fill().await;
        world
    }

    async fn fill(&mut self) {
        let indexes = [
            doc! {"key": {"x": 1}, "name": "x_1"},
            doc! {"key": {"d": 1}, "name": "ttl", "expireAfterSeconds": 1_000_000},
        ];
        // Before 5.0 servers have one index of a key without the scope field, which an index with an expiry is.
        let indexes = if mdb_tests::is_since(&self.server, "5.0") {
            indexes.to_vec()
        } else {
            indexes[..1].to_vec()
        };
        for client in [&mut self.bob, &mut self.alice, &mut self.private] {
            let insert = doc! {"insert": "c", "documents": [{"x": 1}, {"x": 2}], "$db": &self.db};
            client.ok(&insert).await;
            let create = doc! {"createIndexes": "c", "indexes": &indexes, "$db": &self.db};
            client.ok(&create).await;
        }
    }

    /// The same on both sides, with the same reply.
    async fn same(&mut self, command: Document) -> Document {
        let mut command = command;
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        let plain = |mut reply: Document| {
            for key in [
                "$clusterTime",
                "operationTime",
                "uuid",
                "electionId",
                "opTime",
                "readTimestamp",
            ] {
                reply.remove(key);
            }
            reply
        };
        let through = plain(self.alice.command(&command).await);
        let direct = plain(self.private.command(&command).await);
        assert_eq!(through, direct, "{command}");
        through
    }

    async fn rename(&mut self, from: &str, to: &str, rest: Document) -> Document {
        let (from, to) = (format!("{}.{from}", self.db), format!("{}.{to}", self.db));
        let mut command = doc! {"renameCollection": from, "to": to};
        command.extend(rest);
        command.insert("$db", "admin");
        self.same(command).await
    }

    async fn alice_fails(&mut self, command: Document) -> i32 {
        let mut command = command;
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        self.alice.fails(&command).await
    }

    async fn found(&mut self, collection: &str) -> usize {
        batch(
            &self
                .same(doc! {"find": collection, "projection": {"_id": 0}})
                .await,
        )
        .len()
    }

    /// What is stored of the other app.
    async fn of_bob(&mut self) -> (Document, usize) {
        let list = doc! {"listIndexes": "c", "$db": &self.db};
        let count = batch(&self.bob.ok(&doc! {"find": "c", "$db": &self.db}).await).len();
        let indexes = batch(&self.bob.ok(&list).await);
        (doc! {"indexes": indexes}, count)
    }
}

#[tokio::test]
async fn indexes_are_modified_as_on_a_private_server() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        let before = world.of_bob().await;
        for index in [
            doc! {"name": "ttl", "expireAfterSeconds": 50},
            doc! {"name": "ttl", "expireAfterSeconds": 50},
            doc! {"keyPattern": {"d": 1.0}, "expireAfterSeconds": 60.5, "hidden": true},
            doc! {"name": "x_1", "hidden": true},
            doc! {"name": "x_1", "hidden": true},
            doc! {"keyPattern": {"x": 1}, "hidden": false},
            doc! {"name": "nope", "hidden": true},
            doc! {"name": "_id_", "hidden": true},
            doc! {"name": "_id_", "expireAfterSeconds": 5},
            doc! {"name": "_id_", "hidden": false},
            doc! {"name": "_id_", "unique": true},
            doc! {"keyPattern": {"_id": 1}, "unique": false},
            doc! {"name": "_id_", "prepareUnique": true},
            doc! {"name": "_id_"},
            doc! {"name": "x_1", "unique": true, "hidden": false},
            doc! {"hidden": true},
            doc! {"name": "x_1"},
            doc! {"name": "x_1", "keyPattern": {"x": 1}, "hidden": true},
            doc! {"name": "x_1", "zzz": 1},
            doc! {"name": "x_1", "hidden": "a"},
            doc! {"name": "ttl", "expireAfterSeconds": -5},
        ] {
            world.same(doc! {"collMod": "c", "index": index}).await;
        }
        for command in [
            doc! {"collMod": "c"},
            doc! {"collMod": "c", "index": 1},
            doc! {"collMod": "c", "validator": {}},
            doc! {"collMod": "c", "validator": {}, "validationLevel": "moderate", "validationAction": "warn"},
            doc! {"collMod": "c", "validationLevel": "off"},
            doc! {"collMod": "c", "validationAction": "error"},
            doc! {"collMod": "c", "validationLevel": "zz"},
            doc! {"collMod": "c", "validationAction": "zz"},
            doc! {"collMod": "c", "validationLevel": 1},
            doc! {"collMod": "c", "validationAction": 1},
            doc! {"collMod": "c", "changeStreamPreAndPostImages": {"enabled": true}},
            doc! {"collMod": "c", "changeStreamPreAndPostImages": {"enabled": 1}},
            doc! {"collMod": "c", "changeStreamPreAndPostImages": {}},
            doc! {"collMod": "c", "changeStreamPreAndPostImages": 1},
            doc! {"collMod": "none", "index": {"name": "x_1", "hidden": true}},
            doc! {"collMod": "none"},
            doc! {"listIndexes": "c"},
        ] {
            world.same(command).await;
        }
        assert_eq!(world.of_bob().await, before, "{mode}");
    }
}

#[tokio::test]
async fn options_of_own_collections_are_modified() {
    let mut world = World::new("dedicated").await;
    for command in [
        doc! {"create": "cap", "capped": true, "size": 5000, "max": 10},
        doc! {"create": "ts", "timeseries": {"timeField": "t"}},
        doc! {"collMod": "c", "validator": {"x": {"$type": "int"}}, "validationLevel": "moderate", "validationAction": "warn"},
        doc! {"collMod": "c", "cappedSize": 5000},
        doc! {"collMod": "cap", "cappedSize": 10_000, "cappedMax": 20},
        doc! {"collMod": "c", "expireAfterSeconds": 5},
        doc! {"collMod": "ts", "expireAfterSeconds": 5},
        doc! {"collMod": "ts", "timeseries": {"granularity": "minutes"}},
        doc! {"collMod": "c", "index": {"name": "x_1", "prepareUnique": true}},
        doc! {"collMod": "c", "index": {"name": "x_1", "unique": true}},
        doc! {"listIndexes": "c"},
    ] {
        world.same(command).await;
    }
    let code = doc! {"collMod": "c", "validator": {"$where": "1"}};
    assert_eq!(world.alice_fails(code).await, 2);
}

#[tokio::test]
async fn what_concerns_other_apps_is_refused() {
    let mut world = World::new("shared").await;
    let before = world.of_bob().await;
    let collated = doc! {"key": {"x": 1}, "name": "collated", "collation": {"locale": "en"}};
    world
        .same(doc! {"createIndexes": "c", "indexes": [collated], "commitQuorum": 1})
        .await;
    for command in [
        doc! {"collMod": "c", "cappedSize": 4096},
        doc! {"collMod": "c", "expireAfterSeconds": 1},
        doc! {"collMod": "c", "viewOn": "d", "pipeline": []},
        doc! {"collMod": "c", "index": {"name": "collated", "prepareUnique": true}},
        doc! {"collMod": "c", "index": {"name": "x_1", "expireAfterSeconds": 1}},
    ] {
        assert_eq!(world.alice_fails(command.clone()).await, 72, "{command}");
    }
    for command in [
        doc! {"convertToCapped": "c", "size": 4096},
        doc! {"cloneCollectionAsCapped": "c", "toCollection": "d", "size": 4096},
        doc! {"planCacheSetFilter": "c", "query": {}, "indexes": []},
        doc! {"compact": "c"},
        doc! {"reIndex": "c"},
    ] {
        assert_eq!(world.alice_fails(command.clone()).await, 13, "{command}");
    }
    assert_eq!(world.of_bob().await, before);
    // What the app does not have is not there, whoever has it.
    let insert = doc! {"insert": "of_bob", "documents": [{"x": 1}], "$db": &world.db};
    world.bob.ok(&insert).await;
    for command in [
        doc! {"convertToCapped": "of_bob", "size": 4096},
        doc! {"validate": "of_bob"},
        doc! {"collMod": "of_bob", "validator": {}},
    ] {
        world.same(command).await;
    }
}

#[tokio::test]
async fn collections_are_renamed() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        let before = world.of_bob().await;
        renames(&mut world).await;
        assert_eq!(world.of_bob().await, before, "{mode}");
    }
}

async fn renames(world: &mut World) {
    let db = world.db.clone();
    world
        .same(doc! {"insert": "taken", "documents": [{"x": 3}]})
        .await;
    world
        .same(doc! {"create": "v", "viewOn": "c", "pipeline": []})
        .await;
    let none = || doc! {};
    world.rename("c", "taken", none()).await;
    world.rename("c", "taken", doc! {"dropTarget": true}).await;
    assert_eq!((world.found("c").await, world.found("taken").await), (0, 2));
    world.rename("taken", "taken", none()).await;
    world.rename("none", "x", none()).await;
    world.rename("none", "taken", none()).await;
    world.rename("v", "w", none()).await;
    world.rename("taken", "v", doc! {"dropTarget": true}).await;
    world.rename("taken", "v", none()).await;
    world.rename("taken", "fresh", doc! {"dropTarget": 7}).await;
    world.rename("taken", "c", none()).await;
    assert_eq!(world.found("v").await, 2);
    world.same(doc! {"listIndexes": "c"}).await;
    world
        .same(doc! {"renameCollection": format!("{db}.c"), "to": format!("{db}.d")})
        .await;
    world
        .same(doc! {"renameCollection": format!("{db}.c"), "$db": "admin"})
        .await;
    for to in ["elsewhere.c", "admin.c", "mdb_runtime.c", "local.c"] {
        let rename = doc! {"renameCollection": format!("{db}.c"), "to": to, "$db": "admin"};
        assert_eq!(world.alice_fails(rename).await, 13, "{to}");
    }
    let names = doc! {"listCollections": 1, "nameOnly": true, "filter": {"name": {"$not": bson::Regex {
    pattern: "^system".try_into().unwrap(), options: "".try_into().unwrap()}}}};
    let (through, direct) = {
        let mut command = names;
        command.insert("$db", &db);
        (
            world.alice.ok(&command).await,
            world.private.ok(&command).await,
        )
    };
    let sorted = |reply: &Document| {
        let mut found: Vec<String> = batch(reply).iter().map(ToString::to_string).collect();
        found.sort();
        found
    };
    assert_eq!(sorted(&through), sorted(&direct));
}

#[tokio::test]
async fn a_name_is_taken_whatever_its_kind() {
    let mut world = World::new("{ default: shared, collections: { own: dedicated } }").await;
    let db = world.db.clone();
    world
        .same(doc! {"insert": "own", "documents": [{"x": 3}]})
        .await;
    world.rename("own", "c", doc! {}).await;
    let over = doc! {"renameCollection": format!("{db}.own"), "to": format!("{db}.c"), "dropTarget": true, "$db": "admin"};
    assert_eq!(world.alice_fails(over).await, 48);
    let clone = doc! {"cloneCollectionAsCapped": "own", "toCollection": "c", "size": 4096};
    assert_eq!(world.alice_fails(clone).await, 48);
    // Bob's is no obstacle.
    let insert = doc! {"insert": "of_bob", "documents": [{"x": 1}], "$db": &db};
    world.bob.ok(&insert).await;
    world.rename("own", "of_bob", doc! {}).await;
    assert_eq!(world.found("of_bob").await, 1);
    world
        .same(doc! {"insert": "of_bob", "documents": [{"x": 4}]})
        .await;
    let upstream = world.proxy.upstream().await;
    let physical = format!("of_bob@{}", world.proxy.slug("alice"));
    let stored = upstream.collection::<Document>(&physical);
    assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 2);
    assert_eq!(
        batch(&world.bob.ok(&doc! {"find": "of_bob", "$db": &db}).await).len(),
        1
    );
}

#[tokio::test]
async fn own_collections_become_capped_and_are_validated() {
    let mut world = World::new("dedicated").await;
    for command in [
        doc! {"validate": "c"},
        doc! {"validate": "none"},
        doc! {"cloneCollectionAsCapped": "c", "toCollection": "copy", "size": 10_000},
        doc! {"cloneCollectionAsCapped": "c", "toCollection": "copy", "size": 10_000},
        doc! {"cloneCollectionAsCapped": "none", "toCollection": "copy2", "size": 10_000},
        doc! {"convertToCapped": "c", "size": 10_000},
        doc! {"convertToCapped": "none", "size": 10_000},
        doc! {"listIndexes": "c"},
    ] {
        world.same(command).await;
    }
    let full = doc! {"validate": "c", "full": true, "$db": &world.db};
    let found = world.alice.ok(&full).await;
    assert!(found.get_bool("valid").unwrap(), "{found}");
    assert!(!found.to_string().contains("table:"), "{found}");
    assert_eq!((world.found("copy").await, world.found("c").await), (2, 2));
    let list = doc! {"listCollections": 1, "filter": {"name": "c"}, "$db": &world.db};
    let listed = batch(&world.alice.ok(&list).await);
    assert!(
        listed[0]
            .get_document("options")
            .unwrap()
            .get_bool("capped")
            .unwrap()
    );
}

#[tokio::test]
async fn views_are_defined_anew() {
    for mode in [
        "shared",
        "dedicated",
        "{ default: shared, collections: { own: dedicated } }",
    ] {
        let mut world = World::new(mode).await;
        for command in [
            doc! {"insert": "own", "documents": [{"x": 7}, {"x": 8}, {"x": 9}]},
            doc! {"create": "v", "viewOn": "c", "pipeline": [{"$match": {"x": 1}}], "collation": {"locale": "en", "strength": 1}},
            doc! {"collMod": "v", "viewOn": "own"},
            doc! {"collMod": "v", "pipeline": [{"$match": {"x": {"$gt": 7}}}]},
            doc! {"collMod": "v", "viewOn": "v", "pipeline": []},
            doc! {"collMod": "v", "index": {"name": "x", "hidden": true}},
            doc! {"collMod": "v", "expireAfterSeconds": 1},
            doc! {"collMod": "v"},
        ] {
            world.same(command).await;
        }
        // A private server dies of them (6.0.5).
        for command in [
            doc! {"collMod": "v", "cappedSize": 4096},
            doc! {"collMod": "v", "viewOn": "own", "cappedMax": 1},
        ] {
            assert_eq!(world.alice_fails(command.clone()).await, 72, "{command}");
        }
        assert_eq!(world.found("v").await, 2, "{mode}");
        let list = doc! {"listCollections": 1, "filter": {"name": "v"}, "$db": &world.db};
        let options = |reply: Document| batch(&reply)[0].get_document("options").unwrap().clone();
        let (mut through, mut direct) = (
            options(world.alice.ok(&list).await),
            options(world.private.ok(&list).await),
        );
        // The server adds what the collation does not say.
        through.remove("collation").unwrap();
        direct.remove("collation").unwrap();
        assert_eq!(through, direct, "{mode}");
        world
            .same(doc! {"collMod": "v", "viewOn": "c", "pipeline": [{"$unionWith": "own"}]})
            .await;
        assert_eq!(world.found("v").await, 5, "{mode}");
        let code = doc! {"collMod": "v", "viewOn": "c", "pipeline": [{"$match": {"$where": "1"}}]};
        assert_eq!(world.alice_fails(code).await, 2, "{mode}");
        world
            .same(doc! {"find": "v", "projection": {"_id": 0}, "sort": {"x": 1}})
            .await;
        // What is refused by the server leaves the definition as it is.
        assert_eq!(world.found("v").await, 5, "{mode}");
    }
}

/// A source that comes into being after its view may be of the other kind.
#[tokio::test]
async fn views_follow_their_sources() {
    let mut world = World::new("{ default: shared, collections: { own: dedicated } }").await;
    for command in [
        doc! {"create": "on_source", "viewOn": "late", "pipeline": []},
        doc! {"create": "by_union", "viewOn": "c", "pipeline": [{"$unionWith": "late"}]},
        doc! {"create": "late", "capped": true, "size": 4096},
        doc! {"insert": "late", "documents": [{"x": 5}]},
    ] {
        world.same(command).await;
    }
    assert_eq!(
        (
            world.found("on_source").await,
            world.found("by_union").await
        ),
        (1, 3)
    );
    // Dropped and made by a write: of the shared kind again.
    world.same(doc! {"drop": "late"}).await;
    assert_eq!(
        (
            world.found("on_source").await,
            world.found("by_union").await
        ),
        (0, 2)
    );
    world
        .same(doc! {"insert": "late", "documents": [{"x": 6}, {"x": 7}]})
        .await;
    assert_eq!(
        (
            world.found("on_source").await,
            world.found("by_union").await
        ),
        (2, 4)
    );
    // Moved into a name that was shared.
    world.same(doc! {"drop": "late"}).await;
    world
        .same(doc! {"insert": "own", "documents": [{"x": 8}]})
        .await;
    world.rename("own", "late", doc! {}).await;
    assert_eq!(
        (
            world.found("on_source").await,
            world.found("by_union").await
        ),
        (1, 3)
    );
    // An index makes a collection, too.
    world.same(doc! {"drop": "late"}).await;
    let index = doc! {"key": {"x": 1}, "name": "x"};
    world
        .same(doc! {"createIndexes": "late", "indexes": [index], "commitQuorum": 1})
        .await;
    world
        .same(doc! {"insert": "late", "documents": [{"x": 9}]})
        .await;
    assert_eq!(world.found("on_source").await, 1);
}

#[tokio::test]
async fn a_renamed_collection_keeps_what_it_is() {
    let mut world = World::new("shared").await;
    let before = world.of_bob().await;
    let db = world.db.clone();
    let rows: Vec<Document> = (0..2500)
        .map(|i| doc! {"_id": format!("m{i}"), "n": i, "app_id_": 1})
        .collect();
    for batch in rows.chunks(1000) {
        world
            .same(doc! {"insert": "many", "documents": batch.to_vec()})
            .await;
    }
    let unique = doc! {"key": {"n": -1}, "name": "n", "unique": true};
    world
        .same(doc! {"createIndexes": "many", "indexes": [unique]})
        .await;
    world
        .same(doc! {"insert": "old", "documents": [{"_id": "o", "n": 1}]})
        .await;
    world.rename("many", "old", doc! {"dropTarget": true}).await;
    for command in [
        doc! {"find": "old", "batchSize": 3000},
        doc! {"find": "many"},
        doc! {"listIndexes": "old"},
        doc! {"listIndexes": "many"},
        doc! {"count": "old"},
        doc! {"insert": "old", "documents": [{"_id": "again", "n": 7}]},
        doc! {"insert": "many", "documents": [{"_id": "m1", "n": 7}]},
        doc! {"find": "many"},
    ] {
        world.same(command).await;
    }
    // Empty ones as well, and such as are the app's own by the manifest.
    world.same(doc! {"create": "empty"}).await;
    world.rename("empty", "void", doc! {}).await;
    world.same(doc! {"listIndexes": "void"}).await;
    world.same(doc! {"listIndexes": "empty"}).await;
    // Another app's `_id` is in the way. Nothing is changed, and nothing of the other document is told.
    let of_bob = doc! {"insert": "theirs", "documents": [{"_id": "m3", "secret": 1}], "$db": &db};
    world.bob.ok(&of_bob).await;
    let rename = doc! {"renameCollection": format!("{db}.old"), "to": format!("{db}.theirs"), "$db": "admin"};
    assert_eq!(world.alice_fails(rename).await, 72);
    world.same(doc! {"count": "old"}).await;
    world.same(doc! {"listIndexes": "old"}).await;
    world.same(doc! {"listIndexes": "theirs"}).await;
    let theirs = batch(&world.bob.ok(&doc! {"find": "theirs", "$db": &db}).await);
    assert_eq!(theirs, [doc! {"_id": "m3", "secret": 1}]);
    assert_eq!(world.of_bob().await, before);
}

#[tokio::test]
async fn a_collection_moves_into_one_of_the_apps_own() {
    let mut world = World::new("{ default: shared, collections: { own: dedicated } }").await;
    world.rename("c", "own", doc! {}).await;
    for command in [
        doc! {"find": "own", "projection": {"_id": 0}},
        doc! {"listIndexes": "own"},
        doc! {"find": "c"},
    ] {
        world.same(command).await;
    }
    let upstream = world.proxy.upstream().await;
    let physical = format!("own@{}", world.proxy.slug("alice"));
    let stored = upstream.collection::<Document>(&physical);
    let stamped = doc! {"app_id": {"$exists": true}};
    assert_eq!(stored.count_documents(doc! {}).await.unwrap(), 2);
    assert_eq!(stored.count_documents(stamped).await.unwrap(), 0);
}

#[tokio::test]
async fn no_write_is_lost_to_a_rename() {
    let mut world = World::new("shared").await;
    let db = world.db.clone();
    let mut writer = world.proxy.raw("alice").await;
    let writing = async {
        let mut acknowledged = Vec::new();
        for n in 0..400 {
            let insert = doc! {"insert": "busy", "documents": [{"_id": n}], "$db": &db};
            let count = doc! {"update": "busy", "updates": [{"q": {"_id": 0}, "u": {"$inc": {"n": 1}}}], "$db": &db};
            writer.ok(&insert).await;
            acknowledged.push(n);
            let reply = writer.ok(&count).await;
            if reply.get_i32("n").unwrap() == 1 {
                acknowledged.push(-1);
            }
        }
        acknowledged
    };
    let mut renamer = world.proxy.raw("alice").await;
    let renaming = async {
        let mut moves = 0;
        for n in 0..8 {
            let rename = doc! {"renameCollection": format!("{db}.busy"), "to": format!("{db}.r{n}"), "$db": "admin"};
            let reply = renamer.command(&rename).await;
            moves += i32::from(mdb_tests::is_ok(&reply));
        }
        moves
    };
    let (acknowledged, moves) = tokio::join!(writing, renaming);
    assert!(moves > 0);
    let mut found = Vec::new();
    let mut increments = 0;
    for name in (0..8).map(|n| format!("r{n}")).chain(["busy".to_owned()]) {
        let reply = world
            .alice
            .ok(&doc! {"find": name, "batchSize": 1000, "$db": &db})
            .await;
        for document in batch(&reply) {
            found.push(document.get_i32("_id").unwrap());
            increments += document.get_i32("n").unwrap_or(0);
        }
    }
    found.sort_unstable();
    assert_eq!(found, (0..400).collect::<Vec<i32>>());
    let counted = acknowledged.iter().filter(|n| **n == -1).count();
    assert_eq!(usize::try_from(increments).unwrap(), counted);
}
