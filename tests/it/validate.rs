//! `validate` of what an app has in a shared collection, compared with a private server.

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, shared};

/// An app beside another one with the same `_id`-less documents and names of indexes, and a private server.
pub(crate) struct World {
    pub(crate) proxy: TestProxy,
    pub(crate) db: String,
    pub(crate) alice: RawClient,
    pub(crate) bob: RawClient,
    pub(crate) private: RawClient,
    _server: Deployment,
}

impl World {
    pub(crate) async fn new(isolation: &str) -> Self {
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
    pub(crate) async fn both(&mut self, command: &Document) -> (Document, Document) {
        let mut command = command.clone();
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        let through = self.alice.command(&command).await;
        let direct = self.private.command(&command).await;
        let slug = self.proxy.slug("bob");
        assert!(!through.to_string().contains(slug), "{command}\n{through}");
        (plain(through), plain(direct))
    }

    /// The same on both sides, with the same reply.
    pub(crate) async fn same(&mut self, command: Document) -> Document {
        let (through, direct) = self.both(&command).await;
        assert_eq!(through, direct, "{command}");
        through
    }

    /// The app's code for a command of this database.
    pub(crate) async fn alice_fails(&mut self, mut command: Document) -> i32 {
        command.insert("$db", &self.db);
        self.alice.fails(&command).await
    }
}

/// A reply without what says when and where.
fn plain(mut reply: Document) -> Document {
    for key in [
        "$clusterTime",
        "operationTime",
        "uuid",
        "electionId",
        "opTime",
    ] {
        reply.remove(key);
    }
    if matches!(reply.get("readTimestamp"), Some(Bson::Timestamp(_))) {
        reply.insert("readTimestamp", "a time");
    }
    reply
}

fn documents() -> Vec<Document> {
    let mut documents: Vec<Document> = (0..5)
        .map(|n| {
            let point = doc! {"type": "Point", "coordinates": [n, n]};
            doc! {
                "x": n, "y": n, "tags": ["a", "b", n], "words": "hello wide world", "flat": [1, n], "round": point,
                "at": bson::DateTime::MAX, "name": "Ann",
            }
        })
        .collect();
    documents.push(doc! {});
    documents
        .push(doc! {"x": Bson::MaxKey, "y": Bson::MinKey, "tags": [], "words": "", "name": "ann"});
    documents
}

/// Every kind of index that can be read as a whole.
fn indexes() -> Vec<Document> {
    vec![
        doc! {"key": {"x": 1}, "name": "x_1"},
        doc! {"key": {"x": -1, "tags": 1}, "name": "Both"},
        doc! {"key": {"tags": 1}, "name": "tags"},
        doc! {"key": {"y": 1}, "name": "sparse", "sparse": true},
        doc! {"key": {"tags": 1, "x": 1}, "name": "part", "partialFilterExpression": {"x": {"$gt": 2}}},
        doc! {"key": {"name": 1}, "name": "collated", "collation": {"locale": "en", "strength": 1}},
        doc! {
            "key": {"name": 1, "x": 1}, "name": "collated_part", "collation": {"locale": "en", "strength": 1},
            "partialFilterExpression": {"name": "ANN"},
        },
        doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 1_000_000},
        doc! {"key": {"words": "text"}, "name": "words"},
        doc! {"key": {"flat": "2d"}, "name": "flat"},
        doc! {"key": {"round": "2dsphere"}, "name": "round"},
        doc! {"key": {"x": "hashed"}, "name": "hashed"},
        doc! {"key": {"y": -1}, "name": "unique", "unique": true, "partialFilterExpression": {"y": {"$exists": true}}},
    ]
}

async fn fill(world: &mut World) {
    for client in [&mut world.alice, &mut world.private] {
        let insert = doc! {"insert": "c", "documents": documents(), "$db": &world.db};
        client.ok(&insert).await;
        let create = doc! {"createIndexes": "c", "indexes": indexes(), "$db": &world.db};
        client.ok(&create).await;
        client.ok(&doc! {"create": "empty", "$db": &world.db}).await;
        let view = doc! {"create": "v", "viewOn": "c", "pipeline": [], "$db": &world.db};
        client.ok(&view).await;
    }
    for collection in ["c", "empty", "none"] {
        let documents: Vec<Document> = (0..30)
            .map(|n| doc! {"x": n, "tags": [1, 2, 3, 4]})
            .collect();
        let insert = doc! {"insert": collection, "documents": documents, "$db": &world.db};
        world.bob.ok(&insert).await;
        let index = doc! {"key": {"tags": 1}, "name": "tags"};
        let create = doc! {"createIndexes": collection, "indexes": [index], "$db": &world.db};
        world.bob.ok(&create).await;
    }
}

#[tokio::test]
async fn the_apps_part_is_validated_as_a_private_server_would() {
    let mut world = World::new("shared").await;
    fill(&mut world).await;
    for command in [
        doc! {"validate": "c"},
        doc! {"validate": "c", "background": true},
        doc! {"validate": "c", "metadata": true},
        doc! {"validate": "c", "metadata": "yes"},
        doc! {"validate": "c", "metadata": Bson::Null},
        doc! {"validate": "c", "checkBSONConformance": true},
        doc! {"validate": "c", "background": true, "full": true},
        doc! {"validate": "c", "metadata": true, "background": true},
        doc! {"validate": "empty"},
        doc! {"validate": "none"},
        doc! {"validate": "nowhere"},
        doc! {"validate": "nowhere", "background": true, "full": true},
        doc! {"validate": "v"},
        doc! {"validate": ""},
        doc! {"validate": 1},
    ] {
        world.same(command).await;
    }
    assert_eq!(
        world
            .alice_fails(doc! {"validate": "c", "repair": true})
            .await,
        72
    );
    // A server warns of writes that have not reached its files.
    let (mut through, mut direct) = world.both(&doc! {"validate": "c", "full": true}).await;
    for reply in [&mut through, &mut direct] {
        reply.remove("warnings");
        let details = reply.get_document_mut("indexDetails").unwrap();
        for (_, of_index) in details.iter_mut() {
            of_index.as_document_mut().unwrap().remove("warnings");
        }
    }
    assert_eq!(through, direct);
}

/// As a private server tells of documents that were there before a rule (4.4.2, 5.0.4, 6.0.5).
#[tokio::test]
async fn documents_that_break_the_apps_own_rules_are_counted() {
    let mut world = World::new("shared").await;
    fill(&mut world).await;
    let bobs = doc! {"collMod": "c", "validator": {"x": {"$type": "string"}}, "$db": &world.db};
    world.bob.ok(&bobs).await;
    for change in [
        doc! {"validator": {"x": {"$type": "int"}}},
        doc! {"validationAction": "warn"},
        doc! {"validationLevel": "off"},
        doc! {"validationLevel": "strict", "validationAction": "error"},
        doc! {"validator": {"$jsonSchema": {"required": ["x"]}}},
        doc! {"validator": {"$expr": {"$lt": ["$x", 3]}, "tags": "a"}},
        doc! {"validator": {}},
    ] {
        let mut command = doc! {"collMod": "c"};
        command.extend(change);
        world.same(command).await;
        for options in [doc! {}, doc! {"background": true}, doc! {"metadata": true}] {
            let mut validate = doc! {"validate": "c"};
            validate.extend(options);
            world.same(validate).await;
        }
    }
    // Which they are a server finds one by one; here it is said that nobody can tell.
    let fails = doc! {"collMod": "c", "validator": {"$expr": {"$add": ["$tags", 1]}}};
    world.same(fails).await;
    let (through, _) = world.both(&doc! {"validate": "c"}).await;
    assert!(through.get_bool("valid").unwrap(), "{through}");
    let warnings = through.get_array("warnings").unwrap();
    assert!(
        warnings[0].as_str().unwrap().contains("cannot be told"),
        "{through}"
    );
}

/// What a server counts of such indexes cannot be read through them. It is said, and nothing is claimed.
#[tokio::test]
async fn what_cannot_be_read_as_a_whole_is_said() {
    let mut world = World::new("shared").await;
    fill(&mut world).await;
    let more = [
        doc! {"key": {"$**": 1}, "name": "wild"},
        doc! {"key": {"z": 1}, "name": "hidden", "hidden": true},
    ];
    let create = doc! {"createIndexes": "c", "indexes": more.to_vec(), "$db": &world.db};
    world.alice.ok(&create).await;
    world.private.ok(&create).await;
    let (through, direct) = world.both(&doc! {"validate": "c"}).await;
    assert_eq!(through.get("nIndexes"), direct.get("nIndexes"));
    assert!(through.get_bool("valid").unwrap(), "{through}");
    let said: Vec<&str> = through
        .get_array("warnings")
        .unwrap()
        .iter()
        .filter_map(Bson::as_str)
        .collect();
    assert_eq!(
        said.iter()
            .filter(|text| text.contains("was not validated"))
            .count(),
        2,
        "{through}"
    );
    let mut keys = direct.get_document("keysPerIndex").unwrap().clone();
    keys.remove("wild").unwrap();
    keys.remove("hidden").unwrap();
    assert_eq!(through.get_document("keysPerIndex").unwrap(), &keys);
}

/// Another app's documents change nothing, and an index that lacks documents of the app is told.
#[tokio::test]
async fn an_index_that_lacks_documents_is_not_valid() {
    let mut world = World::new("shared").await;
    fill(&mut world).await;
    let before = world.same(doc! {"validate": "c"}).await;
    let physical = format!("{}.tags", world.proxy.slug("alice"));
    let upstream = world.proxy.upstream().await;
    upstream
        .run_command(doc! {"dropIndexes": "c", "index": &physical})
        .await
        .unwrap();
    // As an index is that has lost entries: it says that it holds the documents with tags, and holds those with one tag.
    let filter = doc! {"app_id": world.proxy.slug("alice"), "tags": "a"};
    let narrower = doc! {"key": {"app_id": 1, "tags": 1}, "name": &physical, "partialFilterExpression": filter};
    upstream
        .run_command(doc! {"createIndexes": "c", "indexes": [narrower]})
        .await
        .unwrap();
    let command = doc! {"validate": "c", "full": true, "$db": &world.db};
    let after = world.alice.ok(&command).await;
    assert!(before.get_bool("valid").unwrap());
    assert!(!after.get_bool("valid").unwrap(), "{after}");
    let details = after.get_document("indexDetails").unwrap();
    let is_valid = |name: &str| {
        details
            .get_document(name)
            .unwrap()
            .get_bool("valid")
            .unwrap()
    };
    assert!(!is_valid("tags") && is_valid("x_1"), "{after}");
    let errors = after.get_array("errors").unwrap();
    assert_eq!(errors.len(), 1, "{after}");
    let found = batch(
        &world
            .bob
            .ok(&doc! {"find": "c", "$db": &world.db, "batchSize": 100})
            .await,
    );
    assert_eq!(found.len(), 30);
}

/// While documents come and go nothing is called broken.
#[tokio::test]
async fn a_collection_in_use_is_valid() {
    let mut world = World::new("shared").await;
    fill(&mut world).await;
    let db = world.db.clone();
    let mut writer = world.proxy.raw("alice").await;
    let writing = async {
        for n in 0..300 {
            let id = format!("w{n}");
            let document = doc! {"_id": &id, "x": n, "y": n + 100, "tags": [n, "b"]};
            writer
                .ok(&doc! {"insert": "c", "documents": [document], "$db": &db})
                .await;
            if n % 2 == 0 {
                let delete =
                    doc! {"delete": "c", "deletes": [{"q": {"_id": id}, "limit": 1}], "$db": &db};
                writer.ok(&delete).await;
            }
        }
    };
    let validating = async {
        for _ in 0..5 {
            let reply = world.alice.ok(&doc! {"validate": "c", "$db": &db}).await;
            assert!(reply.get_bool("valid").unwrap(), "{reply}");
        }
    };
    tokio::join!(writing, validating);
}

/// Without transactions and without a replica set.
#[tokio::test]
async fn in_front_of_a_standalone() {
    let standalone = Deployment::standalone().start().await.unwrap();
    let proxy = TestProxy::start(&standalone, &["alice", "bob"]).await;
    let db = proxy.database_name();
    for app in ["alice", "bob"] {
        let insert = doc! {"insert": "c", "documents": [{"x": 1}, {"x": 2}], "$db": db};
        proxy.raw(app).await.ok(&insert).await;
    }
    let reply = proxy
        .raw("alice")
        .await
        .ok(&doc! {"validate": "c", "$db": db})
        .await;
    assert_eq!(reply.get_i32("nrecords").unwrap(), 2, "{reply}");
    assert!(reply.get_bool("valid").unwrap(), "{reply}");
}
