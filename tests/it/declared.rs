//! Indexes that manifests ask for.

use std::collections::BTreeMap;

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{
    ProxyBuilder, RawClient, TestProxy, batch, eventually, is_ok, is_since, logs, shared,
    unique_name,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

mod ways;

/// One of each kind, for servers from 5.0 on.
const KINDS: &str = "
managed_indexes:
  c:
    - { keys: { a: 1 }, name: regular }
    - { keys: { b: -1, c: 1 }, name: compound }
    - { keys: { u: 1 }, name: uni, unique: true }
    - { keys: { s: 1 }, name: spa, sparse: true }
    - { keys: { p: 1 }, name: par, partialFilterExpression: { p: { $gt: 5 } } }
    - { keys: { up: 1 }, name: unipar, unique: true, partial_filter_expression: { up: { $exists: true } } }
    - { keys: { at: 1 }, name: ttl, expire_after_seconds: 3600 }
    - { keys: { place: 2dsphere }, name: sphere }
    - { keys: { flat: 2d }, name: flat, bits: 20, min: -100, max: 100 }
    - { keys: { h: hashed }, name: hash }
    - { keys: { w.$**: 1 }, name: wild }
    - { keys: { l: 1 }, name: coll, collation: { locale: fr, strength: 1 } }
    - { keys: { hid: 1 }, name: hid, hidden: true }
    - { keys: { t: text }, name: search, weights: { t: 3 }, default_language: none }
    - { keys: { plain: 1 } }
";

/// Names of what the server shows, with key and options, without the version of the collation.
fn shown() -> Vec<Document> {
    let collation = doc! {
        "locale": "fr", "caseLevel": false, "caseFirst": "off", "strength": 1, "numericOrdering": false,
        "alternate": "non-ignorable", "maxVariable": "punct", "normalization": false, "backwards": false,
        "version": "57.1",
    };
    vec![
        doc! {"key": {"_id": 1}, "name": "_id_"},
        doc! {"key": {"a": 1}, "name": "regular"},
        doc! {"key": {"b": -1, "c": 1}, "name": "compound"},
        doc! {"key": {"u": 1}, "name": "uni", "unique": true},
        doc! {"key": {"s": 1}, "name": "spa", "sparse": true},
        doc! {"key": {"p": 1}, "name": "par", "partialFilterExpression": {"p": {"$gt": 5}}},
        doc! {"key": {"up": 1}, "name": "unipar", "unique": true, "partialFilterExpression": {"up": {"$exists": true}}},
        doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": 3600},
        doc! {"key": {"place": "2dsphere"}, "name": "sphere", "2dsphereIndexVersion": 3},
        doc! {"key": {"flat": "2d"}, "name": "flat", "bits": 20, "min": -100, "max": 100},
        doc! {"key": {"h": "hashed"}, "name": "hash"},
        doc! {"key": {"w.$**": 1}, "name": "wild"},
        doc! {"key": {"l": 1}, "name": "coll", "collation": collation},
        doc! {"key": {"hid": 1}, "name": "hid", "hidden": true},
        doc! {
            "key": {"_fts": "text", "_ftsx": 1}, "name": "search", "weights": {"t": 3}, "default_language": "none",
            "language_override": "language", "textIndexVersion": 3,
        },
        doc! {"key": {"plain": 1}, "name": "plain_1"},
    ]
}

/// A query that each of them serves.
fn served() -> Vec<(&'static str, Document)> {
    let sphere = doc! {"type": "Point", "coordinates": [0, 0]};
    vec![
        ("regular", doc! {"filter": {"a": 1}}),
        ("compound", doc! {"filter": {"b": 1}, "sort": {"c": 1}}),
        ("uni", doc! {"filter": {"u": 1}}),
        ("spa", doc! {"filter": {"s": 1}}),
        ("par", doc! {"filter": {"p": {"$gt": 7}}}),
        ("unipar", doc! {"filter": {"up": 1}}),
        (
            "ttl",
            doc! {"filter": {"at": bson::DateTime::from_millis(0)}},
        ),
        (
            "sphere",
            doc! {"filter": {"place": {"$near": {"$geometry": sphere}}}},
        ),
        ("flat", doc! {"filter": {"flat": {"$near": [0, 0]}}}),
        ("hash", doc! {"filter": {"h": 1}}),
        ("wild", doc! {"filter": {"w.x": 1}}),
        (
            "coll",
            doc! {"filter": {"l": "a"}, "collation": {"locale": "fr", "strength": 1}},
        ),
        ("search", doc! {"filter": {"$text": {"$search": "word"}}}),
        ("plain_1", doc! {"filter": {"plain": 1}}),
    ]
}

/// The app's indexes by their names, without `v`.
async fn indexes(client: &mut RawClient, db: &str) -> BTreeMap<String, Document> {
    let reply = client.command(&doc! {"listIndexes": "c", "$db": db}).await;
    if !is_ok(&reply) {
        assert_eq!(reply.get_i32("code").unwrap(), 26, "{reply}");
        return BTreeMap::new();
    }
    let named = batch(&reply).into_iter().map(|mut index| {
        index.remove("v");
        (index.get_str("name").unwrap().to_owned(), index)
    });
    named.collect()
}

/// Waits until the app has these and no others.
async fn has(client: &mut RawClient, db: &str, expected: &[Document]) {
    let by_name = |index: &Document| (index.get_str("name").unwrap().to_owned(), sorted(index));
    let expected: BTreeMap<_, _> = expected.iter().map(by_name).collect();
    let what = format!("the indexes {:?}", expected.keys());
    let found = eventually(&what, async || {
        let found = indexes(client, db).await;
        let found = found
            .iter()
            .map(|(name, index)| (name.clone(), sorted(index)));
        (found.collect::<BTreeMap<_, _>>() == expected).then_some(())
    });
    found.await;
}

/// The order of fields behind the name is the server's.
fn sorted(index: &Document) -> Vec<String> {
    let mut fields: Vec<String> = index.iter().map(|(k, v)| format!("{k}: {v}")).collect();
    fields.sort();
    fields
}

async fn insert(client: &mut RawClient, db: &str, documents: Vec<Document>) {
    client
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
}

/// Every value of a field, however deep.
fn values(of: &Bson, field: &str, found: &mut Vec<String>) {
    match of {
        Bson::Document(document) => {
            for (name, value) in document {
                if name == field {
                    found.extend(value.as_str().map(str::to_owned));
                }
                values(value, field, found);
            }
        }
        Bson::Array(items) => items.iter().for_each(|item| values(item, field, found)),
        _ => {}
    }
}

/// `/readyz` of a proxy.
pub(crate) async fn ready(proxy: &TestProxy) -> String {
    let address = proxy.proxy().admin_address();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let question = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(question).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn changes(proxy: &TestProxy, change: &str) -> u64 {
    let text = proxy.proxy().metrics().render();
    let begin = format!("mdb_runtime_declared_index_changes_total{{change=\"{change}\"}} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&begin));
    line.unwrap().parse().unwrap()
}

/// Waits until so many were counted: an index is listed before it is built, and is gone before that is counted.
async fn counted(proxy: &TestProxy, change: &str, count: u64) {
    let counted = eventually("the count of changes", async || {
        let found = changes(proxy, change);
        (found >= count).then_some(found)
    });
    assert_eq!(counted.await, count, "{change}");
}

/// A proxy whose lease no other test takes.
fn alone(deployment: &Deployment) -> ProxyBuilder {
    ProxyBuilder::new(deployment).control_database(&unique_name("control"))
}

fn at(indexes: &str) -> String {
    format!("managed_indexes:\n  c: {indexes}\n")
}

fn id() -> Document {
    doc! {"key": {"_id": 1}, "name": "_id_"}
}

async fn every_kind(isolation: &str) {
    let deployment = shared().await;
    let builder = alone(deployment).app("alice").isolated(isolation);
    let proxy = builder.saying(KINDS).app("bob").start().await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    insert(&mut alice, db, vec![doc! {"_id": 1}]).await;
    has(&mut alice, db, &shown()).await;
    for (index, query) in served() {
        let mut find = doc! {"find": "c"};
        find.extend(query);
        let explain = doc! {"explain": find, "verbosity": "queryPlanner", "$db": db};
        // The last one may be listed before it is built.
        eventually(&format!("the use of {index}"), async || {
            let mut used = Vec::new();
            values(&alice.ok(&explain).await.into(), "indexName", &mut used);
            used.iter().any(|name| name == index).then_some(())
        })
        .await;
    }
    insert(&mut alice, db, vec![doc! {"_id": 2, "u": 1}]).await;
    let again = doc! {"insert": "c", "documents": [{"_id": 3, "u": 1}], "$db": db};
    let reply = alice.command(&again).await;
    let errors = reply.get_array("writeErrors").unwrap();
    let error = errors[0].as_document().unwrap();
    assert_eq!(error.get_i32("code").unwrap(), 11000);
    // Nobody else is concerned.
    let mut bob = proxy.raw("bob").await;
    let documents = vec![
        doc! {"_id": 11, "u": 1},
        doc! {"_id": 12, "u": 1, "place": "no"},
    ];
    insert(&mut bob, db, documents).await;
    assert_eq!(indexes(&mut bob, db).await.len(), 1);
}

#[tokio::test]
async fn every_kind_is_built_in_a_shared_collection() {
    if is_since(shared().await, "5.0") {
        every_kind("shared").await;
    }
}

#[tokio::test]
async fn every_kind_is_built_in_a_dedicated_collection() {
    every_kind("dedicated").await;
}

/// How many `createIndexes` a server has met.
async fn index_commands(deployment: &Deployment) -> i64 {
    let client = mongodb::Client::with_uri_str(deployment.uri())
        .await
        .unwrap();
    let status = client.database("admin");
    let status = status.run_command(doc! {"serverStatus": 1}).await.unwrap();
    let commands = status.get_document("metrics").unwrap();
    let commands = commands.get_document("commands").unwrap();
    let command = commands.get_document("createIndexes").unwrap();
    command.get_i64("total").unwrap()
}

#[tokio::test]
async fn a_restart_changes_nothing() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    let slugs = [unique_name("alice"), unique_name("own")];
    let builder = || {
        let [alice, own] = &slugs;
        let builder = ProxyBuilder::new(&deployment);
        let builder = builder.app_with_slug("alice", alice).saying(KINDS);
        let builder = builder.app_with_slug("own", own);
        builder.isolated("dedicated").saying(KINDS)
    };
    let mut first = builder().start().await;
    let db = first.database_name().to_owned();
    for app in ["alice", "own"] {
        let mut client = first.raw(app).await;
        insert(&mut client, &db, vec![doc! {"a": 1}]).await;
        has(&mut client, &db, &shown()).await;
    }
    counted(&first, "built", 30).await;
    first.shut_down().await;
    let before = index_commands(&deployment).await;
    let second = builder().start().await;
    // An index that is missing is built behind the others: by then all collections were looked at.
    let mut alice = second.raw("alice").await;
    second.change(&slugs[1], |text| {
        Some(text + "    - { keys: { last: 1 } }\n")
    });
    second.reload().await;
    let mut own = second.raw("own").await;
    let last = doc! {"key": {"last": 1}, "name": "last_1"};
    let all: Vec<_> = shown().into_iter().chain([last]).collect();
    has(&mut own, &db, &all).await;
    has(&mut alice, &db, &shown()).await;
    assert_eq!(index_commands(&deployment).await, before + 1);
    counted(&second, "built", 1).await;
    assert_eq!(changes(&second, "failed"), 0);
}

#[tokio::test]
async fn a_changed_definition_is_built_before_the_old_one_goes() {
    for isolation in ["shared", "dedicated"] {
        let builder = alone(shared().await).app("alice");
        let builder = builder.isolated(isolation).saying(&at(
            "[{ keys: { a: 1 }, name: n }, { keys: { u: 1 }, name: u, unique: true }, \
             { keys: { at: 1 }, name: ttl, expireAfterSeconds: 60 }, { keys: { t: text }, name: t }, \
             { keys: { r: 1 }, name: r }]",
        ));
        let proxy = builder.start().await;
        let (db, slug) = (proxy.database_name(), proxy.slug("alice"));
        let mut alice = proxy.raw("alice").await;
        let documents = vec![
            doc! {"_id": 1, "u": 1, "v": 1},
            doc! {"_id": 2, "u": 2, "v": 1},
        ];
        insert(&mut alice, db, documents).await;
        let plain = |key: Document, name: &str| doc! {"key": key, "name": name};
        let text = |weights: Document| {
            doc! {
                "key": {"_fts": "text", "_ftsx": 1}, "name": "t", "weights": weights, "default_language": "english",
                "language_override": "language", "textIndexVersion": 3,
            }
        };
        let ttl = |after: i32| doc! {"key": {"at": 1}, "name": "ttl", "expireAfterSeconds": after};
        let unique = |key: Document| doc! {"key": key, "name": "u", "unique": true};
        let first = [
            id(),
            plain(doc! {"a": 1}, "n"),
            unique(doc! {"u": 1}),
            ttl(60),
            text(doc! {"t": 1}),
            plain(doc! {"r": 1}, "r"),
        ];
        has(&mut alice, db, &first).await;
        let says = |indexes: &str| {
            proxy.change(slug, |text| {
                let head = text.split("managed_indexes").next().unwrap();
                Some(format!("{head}{}", at(indexes)))
            });
        };
        // The unique one cannot be built: two documents have the same `v`. The old one stays.
        logs::expect("an index of a manifest cannot be built");
        says(
            "[{ keys: { b: 1 }, name: n, sparse: true }, { keys: { v: 1 }, name: u, unique: true }, \
             { keys: { at: 1 }, name: ttl, expireAfterSeconds: 90 }, { keys: { t: text, x: text }, name: t }, \
             { keys: { r: 1 }, name: renamed }]",
        );
        proxy.reload().await;
        let sparse = doc! {"key": {"b": 1}, "name": "n", "sparse": true};
        let mut second = [
            id(),
            sparse,
            unique(doc! {"u": 1}),
            ttl(90),
            text(doc! {"t": 1, "x": 1}),
            plain(doc! {"r": 1}, "renamed"),
        ];
        has(&mut alice, db, &second).await;
        let degraded = eventually("the status", async || {
            let ready = ready(&proxy).await;
            ready.contains("indexes_degraded").then_some(ready)
        });
        let degraded = degraded.await;
        assert!(
            degraded.contains("\"index\":\"u\"") && degraded.contains("11000"),
            "{degraded}"
        );
        let update = doc! {"update": "c", "updates": [{"q": {"_id": 2}, "u": {"$set": {"v": 2}}}], "$db": db};
        alice.ok(&update).await;
        second[2] = unique(doc! {"v": 1});
        has(&mut alice, db, &second).await;
        eventually("the recovery", async || {
            let ready = ready(&proxy).await;
            (!ready.contains("degraded")).then_some(())
        })
        .await;
        counted(&proxy, "modified", 1).await;
        counted(&proxy, "replaced", 4).await;
    }
}

#[tokio::test]
async fn what_is_asked_for_no_more_goes_with_prune_only() {
    for isolation in ["shared", "dedicated"] {
        let two = at("[{ keys: { a: 1 } }, { keys: { b: 1 } }]");
        let builder = alone(shared().await).app("alice");
        let proxy = builder.isolated(isolation).saying(&two).start().await;
        let (db, slug) = (proxy.database_name(), proxy.slug("alice"));
        let mut alice = proxy.raw("alice").await;
        // One of the two is the app's own, and so is a third.
        let own = [
            doc! {"key": {"b": 1}, "name": "b_1"},
            doc! {"key": {"c": 1}, "name": "c_1"},
        ];
        let create = doc! {"createIndexes": "c", "indexes": own.to_vec(), "$db": db};
        alice.ok(&create).await;
        insert(&mut alice, db, vec![doc! {"_id": 1}]).await;
        let [b, c] = own;
        let a = doc! {"key": {"a": 1}, "name": "a_1"};
        let d = doc! {"key": {"d": 1}, "name": "d_1"};
        has(&mut alice, db, &[id(), a.clone(), b.clone(), c.clone()]).await;
        let head = |text: &str| text.split("managed_indexes").next().unwrap().to_owned();
        proxy.change(slug, |text| Some(head(&text) + &at("[{ keys: { d: 1 } }]")));
        proxy.reload().await;
        has(&mut alice, db, &[id(), a, b.clone(), c.clone(), d]).await;
        proxy.change(slug, |text| Some(head(&text) + "prune: true\n"));
        proxy.reload().await;
        has(&mut alice, db, &[id(), b, c]).await;
        counted(&proxy, "dropped", 2).await;
    }
}

#[tokio::test]
async fn what_cannot_be_built_degrades_the_app_and_is_tried_again() {
    logs::expect("an index of a manifest cannot be built");
    for isolation in ["shared", "dedicated"] {
        let builder = alone(shared().await).app("alice");
        let builder = builder.isolated(isolation);
        let indexes = "[{ keys: { u: 1 }, name: u, unique: true }, { keys: { a: 1 }, name: mine }, { keys: { b: 1 } }]";
        let proxy = builder.saying(&at(indexes)).start().await;
        let db = proxy.database_name();
        let mut alice = proxy.raw("alice").await;
        let mine = doc! {"key": {"z": 1}, "name": "mine"};
        // Before the worker looks: both come with the collection.
        let create = doc! {"createIndexes": "c", "indexes": [&mine], "$db": db};
        alice.ok(&create).await;
        let documents = vec![
            doc! {"_id": 1, "u": "secret"},
            doc! {"_id": 2, "u": "secret"},
        ];
        insert_unless_unique(&mut alice, db, documents).await;
        let b = doc! {"key": {"b": 1}, "name": "b_1"};
        has(&mut alice, db, &[id(), mine.clone(), b.clone()]).await;
        let told = eventually("both reasons", async || {
            let ready = ready(&proxy).await;
            let both = ready.contains("\"index\":\"u\"") && ready.contains("\"index\":\"mine\"");
            both.then_some(ready)
        });
        let told = told.await;
        assert!(
            told.contains("\"ready\":true") && !told.contains("secret"),
            "{told}"
        );
        let metrics = proxy.proxy().metrics().render();
        let gauge = format!(
            "mdb_runtime_declared_indexes_degraded{{app=\"{}\"}} 2",
            proxy.slug("alice")
        );
        assert!(metrics.contains(&gauge));
        let delete = doc! {"delete": "c", "deletes": [{"q": {"_id": 2}, "limit": 1}], "$db": db};
        alice.ok(&delete).await;
        let drop = doc! {"dropIndexes": "c", "index": "mine", "$db": db};
        alice.ok(&drop).await;
        let unique = doc! {"key": {"u": 1}, "name": "u", "unique": true};
        let mine = doc! {"key": {"a": 1}, "name": "mine"};
        has(&mut alice, db, &[id(), mine, b, unique]).await;
        eventually("the recovery", async || {
            let ready = ready(&proxy).await;
            (!ready.contains("degraded")).then_some(())
        })
        .await;
    }
}

/// No server of the tests has them, and no stage that searches them is served.
#[tokio::test]
async fn search_indexes_degrade_the_app_and_nothing_else() {
    logs::expect("an index of a manifest cannot be built");
    let builder = alone(shared().await).app("alice").saying(&at(
        "[{ keys: { a: 1 }, name: default }, { type: search, definition: { mappings: { dynamic: true } } }, \
         { type: vectorSearch, name: v, definition: { fields: [] } }]",
    ));
    let proxy = builder.start().await;
    let (db, slug) = (proxy.database_name(), proxy.slug("alice"));
    assert!(
        !ready(&proxy).await.contains("degraded"),
        "there is no collection yet"
    );
    let mut alice = proxy.raw("alice").await;
    insert(&mut alice, db, vec![doc! {"_id": 1}]).await;
    let a = doc! {"key": {"a": 1}, "name": "default"};
    has(&mut alice, db, &[id(), a.clone()]).await;
    eventually("both are told of", async || {
        let ready = ready(&proxy).await;
        let both = ready.contains("\"index\":\"default\"") && ready.contains("\"index\":\"v\"");
        (both && ready.contains("31082") && ready.contains("\"ready\":true")).then_some(())
    })
    .await;
    proxy.change(slug, |text| {
        let head = text.split("managed_indexes").next().unwrap();
        Some(format!(
            "{head}{}",
            at("[{ keys: { a: 1 }, name: default }]")
        ))
    });
    proxy.reload().await;
    eventually("nobody asks for them", async || {
        let ready = ready(&proxy).await;
        (!ready.contains("degraded")).then_some(())
    })
    .await;
    has(&mut alice, db, &[id(), a]).await;
}

/// Puts documents in that a unique index on `u` would refuse, if need be before it is built again.
async fn insert_unless_unique(client: &mut RawClient, db: &str, documents: Vec<Document>) {
    let insert = doc! {"insert": "c", "documents": documents, "$db": db};
    eventually("documents with the same value", async || {
        let reply = client.command(&insert).await;
        if !reply.contains_key("writeErrors") {
            return Some(());
        }
        client
            .command(&doc! {"dropIndexes": "c", "index": "u", "$db": db})
            .await;
        let delete = doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0}], "$db": db};
        client.command(&delete).await;
        None
    })
    .await;
}

#[tokio::test]
async fn two_apps_have_each_their_own() {
    let builder = alone(shared().await);
    let builder = builder
        .app("alice")
        .saying(&at("[{ keys: { a: 1 }, name: n, unique: true }]"));
    let proxy = builder
        .app("bob")
        .saying(&at("[{ keys: { a: 1, b: 1 }, name: n }]"))
        .start()
        .await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    insert(&mut alice, db, vec![doc! {"_id": 1, "a": 1}]).await;
    insert(
        &mut bob,
        db,
        vec![doc! {"_id": 2, "a": 1}, doc! {"_id": 3, "a": 1}],
    )
    .await;
    has(
        &mut alice,
        db,
        &[id(), doc! {"key": {"a": 1}, "name": "n", "unique": true}],
    )
    .await;
    has(
        &mut bob,
        db,
        &[id(), doc! {"key": {"a": 1, "b": 1}, "name": "n"}],
    )
    .await;
}

#[tokio::test]
async fn two_proxies_that_start_at_once_build_once() {
    let deployment = shared().await;
    for isolation in ["shared", "dedicated"] {
        let [slug, control] = ["alice", "control"].map(unique_name);
        let before = ProxyBuilder::new(deployment)
            .control_database(&control)
            .app_with_slug("alice", &slug);
        let before = before.isolated(isolation).start().await;
        let db = before.database_name();
        let mut alice = before.raw("alice").await;
        insert(
            &mut alice,
            db,
            (0..2000).map(|n| doc! {"a": n, "b": n, "c": n}).collect(),
        )
        .await;
        let indexes = at("[{ keys: { a: 1 } }, { keys: { b: 1 } }, { keys: { c: 1 } }]");
        let builder = || {
            let builder = ProxyBuilder::new(deployment)
                .control_database(&control)
                .app_with_slug("alice", &slug);
            builder.isolated(isolation).saying(&indexes)
        };
        let (one, other) = tokio::join!(builder().start(), builder().start());
        let [a, b, c] = ["a", "b", "c"].map(|f| doc! {"key": {f: 1}, "name": format!("{f}_1")});
        has(&mut alice, db, &[id(), a, b, c]).await;
        assert_eq!(changes(&one, "failed") + changes(&other, "failed"), 0);
        eventually("what was built", async || {
            let built = changes(&one, "built") + changes(&other, "built");
            assert!(built <= 3, "{built}");
            (built == 3).then_some(())
        })
        .await;
    }
}
