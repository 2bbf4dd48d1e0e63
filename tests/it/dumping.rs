//! mongodump and mongorestore of the Database Tools, version 100: their commands in their order, as their sources have
//! them (`mongodump/prepare.go`, `mongodump/mongodump.go`, `mongorestore/restore.go`, `mongorestore/metadata.go`,
//! `common/db`). What is dumped of an app is what a MongoDB of its own would have given, and goes into another app.

use bson::{Bson, Document, doc};
use futures_util::TryStreamExt as _;
use mdb_tests::{ProxyBuilder, TestProxy, is_since, shared, unique_name};
use mongodb::Database;
use mongodb::error::ErrorKind;

/// A collection as the two files of mongodump have it.
#[derive(Debug, PartialEq)]
struct Dumped {
    name: String,
    kind: String,
    options: Document,
    indexes: Vec<Document>,
    documents: Vec<Document>,
}

/// Documents of one insert: `BulkBufferSize`.
const BATCH: usize = 1000;

async fn all(database: &Database, command: Document) -> Vec<Document> {
    let cursor = database.run_cursor_command(command.clone()).await;
    let cursor = cursor.unwrap_or_else(|error| panic!("{command}: {error}"));
    cursor.try_collect().await.unwrap()
}

async fn ok(database: &Database, command: Document) -> Document {
    let reply = database.run_command(command.clone()).await;
    reply.unwrap_or_else(|error| panic!("{command}: {error}"))
}

async fn code(database: &Database, command: Document) -> i32 {
    let error = database.run_command(command).await.unwrap_err();
    match *error.kind {
        ErrorKind::Command(error) => error.code,
        ref other => panic!("{other}"),
    }
}

/// `--db`, and no collection that is named in `--excludeCollection`.
async fn dump(database: &Database, excluded: &[&str]) -> Vec<Dumped> {
    let admin = database.client().database("admin");
    ok(&admin, doc! {"isMaster": 1}).await;
    assert_eq!(code(&admin, doc! {"atlasVersion": 1}).await, 59);
    ok(&admin, doc! {"ping": 1}).await;
    let list = doc! {"listCollections": 1, "filter": {}, "cursor": {}};
    let mut entries = all(database, list).await;
    entries.retain(|entry| {
        let name = entry.get_str("name").unwrap();
        !name.starts_with("system.") && !excluded.contains(&name)
    });
    entries.sort_by_key(|entry| entry.get_str("name").unwrap().to_owned());
    let mut dumped = Vec::new();
    for entry in entries {
        let kind = entry.get_str("type").unwrap().to_owned();
        let name = entry.get_str("name").unwrap().to_owned();
        let mut indexes = Vec::new();
        if kind == "collection" {
            ok(database, doc! {"count": &name}).await;
        }
        if kind != "view" {
            indexes = all(database, doc! {"listIndexes": &name, "cursor": {}}).await;
        }
        dumped.push(Dumped {
            options: entry.get_document("options").unwrap().clone(),
            documents: Vec::new(),
            name,
            kind,
            indexes,
        });
    }
    ok(&admin, doc! {"buildInfo": 1}).await;
    for collection in &mut dumped {
        collection.documents = documents(database, collection).await;
    }
    dumped
}

/// Of a time-series collection its buckets, of a view nothing.
async fn documents(database: &Database, collection: &Dumped) -> Vec<Document> {
    let name = match collection.kind.as_str() {
        "timeseries" => format!("system.buckets.{}", collection.name),
        _ => collection.name.clone(),
    };
    let list = doc! {"listCollections": 1, "filter": {"name": &name}, "cursor": {}};
    let listed = all(database, list).await;
    if collection.kind == "view" {
        return Vec::new();
    }
    if !listed.is_empty() {
        ok(database, doc! {"collStats": &name}).await;
    }
    let counted = ok(database, doc! {"count": &name}).await;
    let find = doc! {"find": &name, "filter": {}};
    let found = all(database, find).await;
    let counted = counted.get("n").and_then(Bson::as_i32);
    assert_eq!(counted, Some(i32::try_from(found.len()).unwrap()));
    found
}

/// Without `--drop` or with it. Views come before what they look at, as they may with mongorestore.
async fn restore(database: &Database, dumped: &[Dumped], drops: bool) {
    let admin = database.client().database("admin");
    ok(&admin, doc! {"buildInfo": 1}).await;
    ok(&admin, doc! {"isMaster": 1}).await;
    let list = doc! {"listCollections": 1, "filter": {}, "cursor": {}};
    let there = all(database, list).await;
    let is_there = |name: &str| {
        there
            .iter()
            .any(|entry| entry.get_str("name").is_ok_and(|n| n == name))
    };
    let database_name = database.name();
    for collection in dumped.iter().rev() {
        let name = &collection.name;
        if drops && is_there(name) {
            let concern = doc! {"w": "majority"};
            ok(database, doc! {"drop": name, "writeConcern": concern}).await;
        }
        let mut create = doc! {"create": name};
        create.extend(collection.options.clone());
        let own_id = collection
            .indexes
            .iter()
            .find(|index| index.get_str("name").is_ok_and(|n| n == "_id_"));
        if let Some(own_id) = own_id
            && !collection.options.contains_key("clusteredIndex")
        {
            create.insert("idIndex", restored(own_id, database_name, name));
        }
        ok(database, create).await;
        for batch in collection.documents.chunks(BATCH) {
            let target = database.collection::<Document>(name);
            target.insert_many(batch).ordered(false).await.unwrap();
        }
    }
    for Dumped { name, indexes, .. } in dumped {
        let indexes = indexes
            .iter()
            .filter(|index| *index.get_document("key").unwrap() != doc! {"_id": 1});
        let indexes: Vec<Document> = indexes
            .map(|index| restored(index, database_name, name))
            .collect();
        if !indexes.is_empty() {
            let create =
                doc! {"createIndexes": name, "indexes": indexes, "ignoreUnknownIndexOptions": true};
            ok(database, create).await;
        }
    }
}

/// The definition of an index as it is sent: without its version, with a namespace, the key behind the options.
fn restored(index: &Document, database: &str, collection: &str) -> Document {
    let mut sent = index.clone();
    sent.remove("v");
    let key = sent.remove("key").unwrap();
    sent.insert("ns", format!("{database}.{collection}"));
    sent.insert("key", key);
    sent
}

/// Of every kind that an app can have but time series, and of every kind of index.
async fn fill(database: &Database) {
    let french = doc! {"locale": "fr", "strength": 1};
    let checked = doc! {
        "$jsonSchema": {"bsonType": "object", "required": ["x"], "properties": {"x": {"bsonType": "int"}}},
    };
    let pipeline = vec![
        doc! {"$match": {"x": {"$gt": 3}}},
        doc! {"$project": {"x": 1}},
    ];
    let mut creates = vec![
        doc! {"create": "empty"},
        doc! {"create": "capped", "capped": true, "size": 8192, "max": 5},
        doc! {"create": "checked", "validator": checked, "validationLevel": "moderate", "validationAction": "warn"},
        doc! {"create": "french", "collation": french},
        doc! {"create": "a_view", "viewOn": "things", "pipeline": pipeline},
        doc! {"create": "a_view_of_it", "viewOn": "a_view", "pipeline": [{"$sort": {"x": -1}}]},
        doc! {"create": "of_own", "viewOn": "french", "pipeline": [], "collation": {"locale": "fr", "strength": 1}},
    ];
    if is_since(shared().await, "6.0") {
        let index = doc! {"key": {"_id": 1}, "unique": true, "name": "its own"};
        creates.push(doc! {"create": "clustered", "clusteredIndex": index});
    }
    for create in creates {
        ok(database, create).await;
    }
    let mut pair = doc! {"key": {"x": 1, "s": -1}, "name": "pair"};
    if is_since(shared().await, "6.0") {
        // Not available for several fields of a shared collection before.
        pair.insert("sparse", true);
    }
    let indexes = vec![
        pair,
        doc! {"key": {"u": 1}, "name": "only", "unique": true, "partialFilterExpression": {"x": 3}},
        doc! {"key": {"a": "text", "b": "text"}, "name": "words", "weights": {"a": 3}, "default_language": "none"},
        doc! {"key": {"place": "2dsphere"}, "name": "places"},
        doc! {"key": {"s": "hashed"}, "name": "hashes"},
        doc! {"key": {"at": 1}, "name": "ends", "expireAfterSeconds": 86_400_000},
        doc! {"key": {"w.$**": 1}, "name": "wild"},
        doc! {"key": {"s": 1}, "name": "s in french", "collation": {"locale": "fr", "strength": 1}, "hidden": true},
    ];
    ok(
        database,
        doc! {"createIndexes": "things", "indexes": indexes},
    )
    .await;
    let index = doc! {"key": {"name": 1}, "name": "names", "unique": true};
    ok(
        database,
        doc! {"createIndexes": "french", "indexes": [index]},
    )
    .await;
    let thing = |number: i32| {
        let place = doc! {"type": "Point", "coordinates": [f64::from(number % 90), 1.5]};
        doc! {
            "_id": number, "x": number % 7, "s": "y".repeat(usize::try_from(1 + number % 50).unwrap()), "u": number, "w": {"z": number},
            "a": "one word", "place": place,
        }
    };
    let things: Vec<Document> = (0..2500).map(thing).collect();
    database
        .collection("things")
        .insert_many(things)
        .await
        .unwrap();
    for name in ["capped", "checked", "french", "clustered"] {
        if name == "clustered" && !is_since(shared().await, "6.0") {
            continue;
        }
        let documents =
            (1..4).map(|number| doc! {"_id": number, "x": number, "name": format!("é{number}")});
        let documents: Vec<Document> = documents.collect();
        database
            .collection(name)
            .insert_many(documents)
            .await
            .unwrap();
    }
}

async fn start() -> TestProxy {
    let builder = ProxyBuilder::new(shared().await);
    builder.app("alice").app("bob").start().await
}

#[tokio::test]
async fn what_is_dumped_of_one_app_is_restored_into_another() {
    let proxy = start().await;
    fill(&proxy.database("alice").await).await;
    let dumped = dump(&proxy.database("alice-read").await, &[]).await;
    let alone = proxy
        .upstream()
        .await
        .client()
        .database(&unique_name("alone"));
    fill(&alone).await;
    assert_eq!(dumped, dump(&alone, &[]).await);
    alone.drop().await.unwrap();

    let copy = format!("{}_copy", proxy.database_name());
    let database = proxy.client("bob-write").await.database(&copy);
    restore(&database, &dumped, false).await;
    assert_eq!(dump(&database, &[]).await, dumped);
    let things = database.collection::<Document>("things");
    things.delete_many(doc! {"x": 1}).await.unwrap();
    restore(&database, &dumped, true).await;
    assert_eq!(dump(&database, &[]).await, dumped);
    let found = all(&database, doc! {"find": "a_view_of_it", "limit": 2}).await;
    assert_eq!(found[0].get_i32("x").unwrap(), 6);
    assert_eq!(dump(&proxy.database("alice").await, &[]).await, dumped);
}

/// Their buckets are read and written by name, which takes the roles `backup` and `restore`: a mongod 6.0.5 refuses it to a
/// `dbOwner` (13).
#[tokio::test]
async fn time_series_have_to_be_left_out() {
    if !is_since(shared().await, "5.0") {
        return;
    }
    let proxy = start().await;
    let database = proxy.database("alice").await;
    let series = doc! {"create": "series", "timeseries": {"timeField": "t", "metaField": "m"}};
    ok(&database, series).await;
    for number in 1..4 {
        let event = doc! {"t": bson::DateTime::from_millis(number), "m": "a"};
        let series = database.collection("series");
        series.insert_one(event).await.unwrap();
    }
    let count = doc! {"count": "system.buckets.series"};
    assert_eq!(code(&database, count).await, 73);
    let things = database.collection("things");
    things.insert_one(doc! {"_id": 1}).await.unwrap();
    let dumped = dump(&database, &["series"]).await;
    assert_eq!(dumped.len(), 1);
    assert_eq!(dumped[0].documents, [doc! {"_id": 1}]);
}
