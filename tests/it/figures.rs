//! Figures of collections and databases: the app's own, as a private server would show them.

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, is_ok, keys, shared};

/// An app behind the proxy beside another one, and a private server.
struct World {
    proxy: TestProxy,
    db: String,
    alice: RawClient,
    bob: RawClient,
    private: RawClient,
    _server: Deployment,
}

impl World {
    async fn new(isolation: &str) -> Self {
        let server = Deployment::replica_set(1).start().await.unwrap();
        let builder = ProxyBuilder::new(shared().await);
        let builder = builder.app("alice").isolated(isolation).app("bob");
        let proxy = builder.start().await;
        Self {
            db: proxy.database_name().to_owned(),
            alice: proxy.raw("alice").await,
            bob: proxy.raw("bob").await,
            private: RawClient::connect(server.hosts()[0].parse().unwrap()).await,
            proxy,
            _server: server,
        }
    }

    /// The same on both sides.
    async fn both(&mut self, command: Document) -> (Document, Document) {
        let mut command = command;
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        let through = self.alice.command(&command).await;
        let direct = self.private.command(&command).await;
        let slug = self.proxy.slug("alice");
        let said = through.to_string();
        assert!(!said.contains(&format!("@{slug}")), "{command}\n{said}");
        assert!(!said.contains("127.0.0.1"), "{command}\n{said}");
        (plain(through), plain(direct))
    }

    async fn same(&mut self, command: Document) -> Document {
        let (through, direct) = self.both(command.clone()).await;
        assert_eq!(through, direct, "{command}");
        through
    }

    async fn fill(&mut self) {
        for client in [&mut self.alice, &mut self.private] {
            let documents: Vec<Document> = (0_i32..10)
                .map(|n| doc! {"_id": n, "x": &"yyyyyyyyyy"[..usize::try_from(n).unwrap()], "at": bson::DateTime::from_millis(0)})
                .collect();
            let insert = doc! {"insert": "c", "documents": documents, "$db": &self.db};
            client.ok(&insert).await;
            let indexes = [
                doc! {"key": {"x": 1}, "name": "x_1"},
                doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 2_000_000_000},
            ];
            let create = doc! {"createIndexes": "c", "indexes": indexes.to_vec(), "$db": &self.db};
            client.ok(&create).await;
            client.ok(&doc! {"create": "empty", "$db": &self.db}).await;
        }
        self.disturb(20).await;
    }

    async fn disturb(&mut self, n: i32) {
        let documents: Vec<Document> = (0..n).map(|_| doc! {"big": "z".repeat(2000)}).collect();
        for collection in ["c", "empty", "none"] {
            let insert = doc! {"insert": collection, "documents": &documents, "$db": &self.db};
            self.bob.ok(&insert).await;
        }
        let index = doc! {"key": {"big": 1}, "name": "x_1"};
        let create = doc! {"createIndexes": "c", "indexes": [index], "$db": &self.db};
        self.bob.ok(&create).await;
    }
}

/// Without what says when, where and how it is stored.
fn plain(mut reply: Document) -> Document {
    for key in [
        "$clusterTime",
        "operationTime",
        "electionId",
        "opTime",
        "wiredTiger",
        "indexDetails",
        "fsUsedSize",
        "fsTotalSize",
        "millis",
    ] {
        reply.remove(key);
    }
    reply
}

/// Sizes of files are the server's affair.
const FILES: [&str; 8] = [
    "storageSize",
    "freeStorageSize",
    "totalIndexSize",
    "totalSize",
    "indexSize",
    "indexFreeStorageSize",
    "totalFreeStorageSize",
    "indexSizes",
];

/// The fields in their order with their kinds, and the values of those that do not speak of files.
fn shape(figures: &Document) -> Vec<String> {
    let field = |(key, value): (&String, &Bson)| match value {
        Bson::Document(sizes) if key == "indexSizes" => format!("{key} {:?}", keys(sizes)),
        _ if FILES.contains(&key.as_str()) => format!("{key} {:?}", value.element_type()),
        _ => format!("{key} {value:?}"),
    };
    figures.iter().map(field).collect()
}

fn only(reply: &Document) -> Document {
    let mut found = batch(reply);
    assert_eq!(found.len(), 1, "{reply}");
    found.remove(0)
}

const MODES: [&str; 2] = ["shared", "dedicated"];

#[tokio::test]
async fn collections_are_measured_as_on_a_private_server() {
    for mode in MODES {
        let mut world = World::new(mode).await;
        world.fill().await;
        for collection in ["c", "empty", "none"] {
            for scale in [doc! {}, doc! {"scale": 10}, doc! {"scale": 2.7}] {
                let mut command = doc! {"collStats": collection};
                command.extend(scale);
                let (through, direct) = world.both(command.clone()).await;
                assert_eq!(shape(&through), shape(&direct), "{mode} {command}");
            }
        }
        for command in [
            doc! {"collStats": "c", "scale": 0},
            doc! {"collStats": 1},
            doc! {"dataSize": "c"},
        ] {
            world.same(command).await;
        }
        let namespace = |name: &str, db: &str| format!("{db}.{name}");
        for name in ["c", "empty"] {
            let command = doc! {"dataSize": namespace(name, &world.db)};
            let (through, direct) = world.both(command).await;
            assert_eq!(through, direct, "{mode}");
        }
        world.both(doc! {"drop": "c"}).await;
        let (through, direct) = world.both(doc! {"collStats": "c"}).await;
        assert_eq!(shape(&through), shape(&direct), "{mode}");
    }
}

#[tokio::test]
async fn no_figure_depends_on_other_apps() {
    let mut world = World::new("shared").await;
    world.fill().await;
    let name = format!("{}.c", world.db);
    let commands = [
        doc! {"collStats": "c"},
        doc! {"dbStats": 1},
        doc! {"dataSize": name},
        doc! {"count": "c"},
        doc! {"aggregate": "c", "pipeline": [{"$collStats": {"count": {}, "storageStats": {}}}, {"$project": {"localTime": 0}}], "cursor": {}},
        doc! {"aggregate": "c", "pipeline": [{"$indexStats": {}}], "cursor": {}},
    ];
    let mut before = Vec::new();
    for command in &commands {
        before.push(world.both(command.clone()).await.0);
    }
    world.disturb(2_000).await;
    for (command, before) in commands.iter().zip(before) {
        let after = world.both(command.clone()).await.0;
        assert!(is_ok(&after), "{command} {after}");
        assert_eq!(shape(&after), shape(&before), "{command}");
    }
}

#[tokio::test]
async fn a_database_is_the_sum_of_its_collections() {
    for mode in MODES {
        let mut world = World::new(mode).await;
        let empty = world.both(doc! {"dbStats": 1}).await.0;
        assert_eq!(empty.get_i32("objects").unwrap(), 0, "{empty}");
        world.fill().await;
        for command in [
            doc! {"dbStats": 1},
            doc! {"dbStats": 1, "scale": 1024, "freeStorage": 1},
        ] {
            let (through, direct) = world.both(command.clone()).await;
            assert_eq!(shape(&through), shape(&direct), "{mode} {command}");
        }
        world
            .both(doc! {"create": "v", "viewOn": "c", "pipeline": []})
            .await;
        let (through, direct) = world.both(doc! {"dbStats": 1}).await;
        assert_eq!(through.get("views"), direct.get("views"), "{mode}");
        // A private server counts `system.views`.
        assert_eq!(through.get_i32("collections").unwrap(), 2, "{mode}");
    }
}

#[tokio::test]
async fn stages_show_the_apps_own_figures() {
    for mode in MODES {
        let mut world = World::new(mode).await;
        world.fill().await;
        let aggregate =
            |stages: Vec<Document>| doc! {"aggregate": "c", "pipeline": stages, "cursor": {}};
        let stats = doc! {"$collStats": {"count": {}, "storageStats": {"scale": 2}}};
        let (through, direct) = world.both(aggregate(vec![stats.clone()])).await;
        let (mut through, mut direct) = (only(&through), only(&direct));
        assert_eq!(through.get_str("host").unwrap(), "mdb-runtime", "{mode}");
        for figures in [&mut through, &mut direct] {
            figures.remove("localTime").unwrap();
            figures.remove("host").unwrap();
        }
        let storage = |d: &Document| shape(&plain(d.get_document("storageStats").unwrap().clone()));
        assert_eq!(storage(&through), storage(&direct), "{mode}");
        for figures in [&mut through, &mut direct] {
            figures.remove("storageStats");
        }
        assert_eq!(through, direct, "{mode}");
        for stages in [
            vec![
                stats.clone(),
                doc! {"$project": {"count": 1, "size": "$storageStats.size"}},
            ],
            vec![
                doc! {"$collStats": {}},
                doc! {"$project": {"ns": 1}},
                doc! {"$lookup": {"from": "c", "pipeline": [{"$count": "n"}], "as": "j"}},
            ],
            vec![
                doc! {"$indexStats": {}},
                doc! {"$project": {"host": 0, "accesses.since": 0}},
                doc! {"$sort": {"name": 1}},
            ],
            vec![
                doc! {"$indexStats": {}},
                doc! {"$unwind": "$name"},
                doc! {"$group": {"_id": null, "n": {"$sum": 1}}},
            ],
        ] {
            let (through, direct) = world.both(aggregate(stages.clone())).await;
            assert_eq!(batch(&through), batch(&direct), "{mode} {stages:?}");
        }
        for stage in [
            doc! {"$collStats": {"x": {}}},
            doc! {"$collStats": {"count": 1}},
            doc! {"$collStats": {"storageStats": {"scale": 0}}},
            doc! {"$indexStats": {"x": 1}},
        ] {
            world.same(aggregate(vec![stage])).await;
        }
        world
            .same(aggregate(vec![doc! {"$match": {}}, stats.clone()]))
            .await;
        let none = doc! {"aggregate": "none", "pipeline": [stats], "cursor": {}};
        world.same(none).await;
        world
            .same(doc! {"aggregate": "none", "pipeline": [{"$indexStats": {}}], "cursor": {}})
            .await;
    }
}

#[tokio::test]
async fn cursors_over_figures() {
    let mut world = World::new("shared").await;
    world.fill().await;
    let db = world.db.clone();
    let stages = vec![
        doc! {"$indexStats": {}},
        doc! {"$sort": {"name": 1}},
        doc! {"$project": {"name": 1}},
    ];
    let open = doc! {"aggregate": "c", "pipeline": stages, "cursor": {"batchSize": 1}, "$db": &db};
    let opened = world.alice.ok(&open).await;
    let cursor = opened.get_document("cursor").unwrap();
    let collection = cursor.get_str("ns").unwrap().split_once('.').unwrap().1;
    let more =
        doc! {"getMore": cursor.get_i64("id").unwrap(), "collection": collection, "$db": &db};
    assert_eq!(batch(&world.alice.ok(&more).await).len(), 2);
}

#[tokio::test]
async fn uses_of_an_index_are_counted() {
    for mode in MODES {
        let mut world = World::new(mode).await;
        world.fill().await;
        for _ in 0..3 {
            world
                .both(doc! {"find": "c", "filter": {"x": "y"}, "hint": "x_1"})
                .await;
        }
        let stages = vec![
            doc! {"$indexStats": {}},
            doc! {"$match": {"name": {"$ne": "_id_"}}},
            doc! {"$sort": {"name": 1}},
            doc! {"$project": {"host": 0, "accesses.since": 0}},
        ];
        let (through, direct) = world
            .both(doc! {"aggregate": "c", "pipeline": stages, "cursor": {}})
            .await;
        assert_eq!(batch(&through), batch(&direct), "{mode}");
        let uses = batch(&through)[1]
            .get_document("accesses")
            .unwrap()
            .get_i64("ops");
        assert_eq!(uses.unwrap(), 3, "{mode}");
    }
}

/// Above the number of documents that are measured the others count as the average.
#[tokio::test]
async fn large_collections_are_measured_in_part() {
    let mut world = World::new("shared").await;
    let documents: Vec<Document> = (0..10_500).map(|n| doc! {"_id": n, "x": 1}).collect();
    let insert = doc! {"insert": "c", "documents": documents, "$db": &world.db};
    world.alice.ok(&insert).await;
    let name = format!("{}.c", world.db);
    let size = world
        .alice
        .ok(&doc! {"dataSize": name, "$db": &world.db})
        .await;
    assert!(size.get_bool("estimate").unwrap(), "{size}");
    assert_eq!(size.get_i32("numObjects").unwrap(), 10_500);
    assert_eq!(size.get_i32("size").unwrap(), 10_500 * 21, "{size}");
}

#[tokio::test]
async fn figures_that_count_other_apps_are_refused() {
    let mut world = World::new("shared").await;
    world.fill().await;
    let db = world.db.clone();
    for stage in [
        doc! {"$collStats": {"latencyStats": {}}},
        doc! {"$collStats": {"queryExecStats": {}}},
        doc! {"$planCacheStats": {}},
    ] {
        let aggregate = doc! {"aggregate": "c", "pipeline": [&stage], "cursor": {}, "$db": &db};
        assert_eq!(world.alice.fails(&aggregate).await, 13, "{stage}");
    }
    let explain = doc! {"aggregate": "c", "pipeline": [{"$collStats": {}}], "cursor": {}, "explain": true, "$db": &db};
    assert_eq!(world.alice.fails(&explain).await, 13);
    let lsid = doc! {"id": bson::Uuid::from_bytes([5; 16])};
    let inside = doc! {
        "aggregate": "c", "pipeline": [{"$collStats": {}}], "cursor": {}, "lsid": lsid,
        "txnNumber": 1_i64, "autocommit": false, "startTransaction": true, "$db": &db,
    };
    assert_eq!(world.alice.fails(&inside).await, 263);
}

#[tokio::test]
async fn a_dedicated_plan_cache_is_the_apps_own() {
    let mut world = World::new("dedicated").await;
    world.fill().await;
    for command in [
        doc! {"find": "c", "filter": {"x": "y", "at": 1}},
        doc! {"planCacheSetFilter": "c", "query": {"x": "y"}, "indexes": ["x_1", {"at": 1}]},
        doc! {"planCacheListFilters": "c"},
        doc! {"planCacheClearFilters": "c", "query": {"x": "y"}},
        doc! {"planCacheListFilters": "c"},
        doc! {"planCacheClear": "c"},
        doc! {"planCacheClear": "none"},
        doc! {"planCacheSetFilter": "none", "query": {}, "indexes": [{"x": 1}]},
    ] {
        world.same(command).await;
    }
    let db = world.db.clone();
    let stats =
        doc! {"aggregate": "c", "pipeline": [{"$planCacheStats": {}}], "cursor": {}, "$db": &db};
    let find = doc! {"find": "c", "filter": {"x": "y", "at": {"$gt": bson::DateTime::from_millis(0)}}, "$db": &db};
    world.alice.ok(&find).await;
    for entry in batch(&world.alice.ok(&stats).await) {
        assert_eq!(entry.get_str("host").unwrap(), "mdb-runtime", "{entry}");
    }
    let empty = doc! {"latencyStats": {}, "queryExecStats": {}};
    let latency =
        doc! {"aggregate": "c", "pipeline": [{"$collStats": empty}], "cursor": {}, "$db": &db};
    let shown = only(&world.alice.ok(&latency).await);
    assert!(
        shown.contains_key("latencyStats") && shown.contains_key("queryExecStats"),
        "{shown}"
    );
}
