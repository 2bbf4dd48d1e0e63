//! An app sees its own definitions only: no figure, listing, plan, hint or change reaches an automatic index.

use super::*;

/// How a command on `products`, which has no index of the app's but `ours`, must end.
enum Ends {
    /// Without a word of the automatic index.
    Well,
    /// With this code, as where there is no such index.
    With(i32),
}

use Ends::{Well, With};

fn key() -> Document {
    doc! {"category": 1, "price": 1}
}

fn commands() -> Vec<(Document, Ends)> {
    let stage = |stage: Document| doc! {"aggregate": "products", "pipeline": [stage], "cursor": {}};
    let named = doc! {"$set": {"x": 1}};
    let hints = |hint: bson::Bson| {
        let statement = |more: Document| {
            let mut statement = doc! {"q": {"category": "c1"}, "hint": &hint};
            statement.extend(more);
            statement
        };
        vec![
            doc! {"find": "products", "filter": {"category": "c1"}, "hint": &hint},
            doc! {"find": "products", "hint": &hint, "min": {"category": "c1", "price": 0}},
            doc! {"count": "products", "query": {"category": "c1"}, "hint": &hint},
            doc! {"aggregate": "products", "pipeline": [{"$match": {"category": "c1"}}], "cursor": {}, "hint": &hint},
            doc! {"findAndModify": "products", "query": {"category": "c1"}, "update": &named, "hint": &hint},
            doc! {"update": "products", "updates": [statement(doc! {"u": &named})]},
            doc! {"delete": "products", "deletes": [statement(doc! {"limit": 1})]},
            doc! {"explain": {"find": "products", "filter": {"category": "c1"}, "hint": &hint}},
        ]
    };
    let mut all = vec![
        (doc! {"listIndexes": "products"}, Well),
        (stage(doc! {"$indexStats": {}}), Well),
        (
            stage(doc! {"$collStats": {"storageStats": {}, "count": {}, "latencyStats": {}}}),
            Well,
        ),
        (doc! {"collStats": "products"}, Well),
        (doc! {"collStats": "products", "scale": 1024}, Well),
        (doc! {"validate": "products"}, Well),
        (doc! {"dbStats": 1}, Well),
        (stage(doc! {"$planCacheStats": {}}), Well),
        (doc! {"dropIndexes": "products", "index": key()}, With(27)),
        (
            doc! {"dropIndexes": "products", "index": "_auto.category_1_price_1"},
            With(27),
        ),
        (
            doc! {"collMod": "products", "index": {"keyPattern": key(), "hidden": true}},
            With(27),
        ),
        (
            doc! {"collMod": "products", "index": {"name": "_auto.category_1_price_1", "hidden": true}},
            With(27),
        ),
    ];
    for hint in [
        bson::bson!("category_1_price_1"),
        bson::bson!("_auto.category_1_price_1"),
        bson::Bson::Document(key()),
    ] {
        all.extend(hints(hint).into_iter().map(|command| (command, With(2))));
    }
    all
}

fn batch_of(reply: &Document) -> Option<&Document> {
    let cursor = reply.get_document("cursor").ok()?;
    cursor.get_array("firstBatch").ok()?.first()?.as_document()
}

fn number(value: &bson::Bson) -> i64 {
    match value {
        bson::Bson::Int32(n) => i64::from(*n),
        bson::Bson::Int64(n) => *n,
        #[allow(clippy::cast_possible_truncation, reason = "sizes are whole")]
        bson::Bson::Double(n) => *n as i64,
        other => panic!("{other}"),
    }
}

/// Counts and sums are of the two indexes that the app has: on `_id`, and its own.
fn check_figures(figures: &Document) {
    for count in ["nindexes", "nIndexes", "indexes"] {
        if let Some(found) = figures.get(count) {
            assert_eq!(number(found), 2, "{count}: {figures}");
        }
    }
    if let Ok(sizes) = figures.get_document("indexSizes") {
        let names: Vec<&String> = sizes.keys().collect();
        assert_eq!(names, ["_id_", "ours"], "{figures}");
        let sum: i64 = sizes.values().map(number).sum();
        assert_eq!(
            number(figures.get("totalIndexSize").unwrap()),
            sum,
            "{figures}"
        );
        let storage = number(figures.get("storageSize").unwrap());
        let total = number(figures.get("totalSize").unwrap());
        // In units of 1024 bytes each is rounded by itself.
        assert!((total - storage - sum).abs() <= 1, "{figures}");
    }
}

#[tokio::test]
async fn nothing_shows_or_reaches_an_automatic_index() {
    for isolation in ["shared", "dedicated"] {
        let mut world = world(isolation, &[]).await;
        world.stock().await;
        let db = world.db.clone();
        let ours = doc! {"createIndexes": "products", "indexes": [{"key": {"sku": 1}, "name": "ours"}], "$db": &db};
        world.app.ok(&ours).await;
        world.shop(20).await;
        world.tick().await;
        // Plans that are kept: there is a choice, and it was taken again and again.
        for _ in 0..10 {
            world
                .find(doc! {"category": "c1", "sku": {"$gt": 0}}, doc! {})
                .await;
        }
        let physical = world.physical(isolation);
        assert_eq!(world.automatic(&physical).await.len(), 1);
        for (mut command, ends) in commands() {
            command.insert("$db", &db);
            let reply = world.app.command(&command).await;
            let errors = reply.get_array("writeErrors");
            let error = errors.ok().and_then(|errors| errors.first()?.as_document());
            let code = error.unwrap_or(&reply).get_i32("code").ok();
            match ends {
                // Of one's own collections only.
                Well if code == Some(13) && isolation == "shared" => {}
                Well => assert_eq!(code, None, "{isolation} {command}: {reply}"),
                With(expected) => {
                    assert_eq!(code, Some(expected), "{isolation} {command}: {reply}");
                }
            }
            let text = reply.to_string();
            let said = command.to_string();
            // A plan calls the index as MongoDB calls one of its fields.
            let is_plan = said.contains("$planCacheStats");
            let words = ["_auto", "category_1_price_1"];
            for word in words.into_iter().take(if is_plan { 1 } else { 2 }) {
                let is_new = text.contains(word) && !said.contains(word);
                assert!(!is_new, "{isolation} {command}: {reply}");
            }
            let stats = batch_of(&reply).and_then(|first| first.get_document("storageStats").ok());
            for figures in [Some(&reply), stats].into_iter().flatten() {
                check_figures(figures);
            }
        }
        assert_eq!(world.automatic(&physical).await.len(), 1);
        assert!(world.automatic(&physical).await[0].get("hidden").is_none());
    }
}

/// Commands that the automatic index might answer alone.
fn may_be_covered(db: &str) -> Vec<Document> {
    let rare = doc! {"category": "rare"};
    let inclusion = doc! {"_id": 0, "price": 1};
    let ordered = doc! {"category": 1, "price": 1};
    let price = doc! {"$push": "$price"};
    let kind = doc! {"$push": {"$type": "$price"}};
    let joins = doc! {"from": "products", "pipeline": [{"$match": &rare}, {"$sort": &ordered}, {"$project": &inclusion}], "as": "found"};
    let adds = doc! {"coll": "products", "pipeline": [{"$match": &rare}]};
    let pipelines: [bson::Array; 8] = [
        bson::bson!([{"$match": &rare}, {"$sort": &ordered}, {"$project": &inclusion}]),
        bson::bson!([{"$match": &rare}, {"$sort": &ordered}, {"$group": {"_id": null, "all": price}}]),
        bson::bson!([{"$match": &rare}, {"$sort": &ordered}, {"$limit": 5}, {"$group": {"_id": null, "all": kind}}]),
        bson::bson!([{"$match": &rare}, {"$group": {"_id": {"price": "$price"}, "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}]),
        // Absence is null here.
        bson::bson!([{"$match": &rare}, {"$group": {"_id": "$price", "n": {"$sum": 1}, "least": {"$min": "$price"}, "most": {"$max": "$price"}, "all": {"$sum": "$price"}, "mean": {"$avg": "$price"}}}, {"$sort": {"_id": 1}}]),
        bson::bson!([{"$match": &rare}, {"$sortByCount": "$price"}, {"$sort": {"_id": 1}}]),
        bson::bson!([{"$match": {"category": "c1"}}, {"$limit": 1}, {"$project": {"_id": 0, "category": 1}}, {"$lookup": joins}]),
        bson::bson!([{"$match": {"category": "none"}}, {"$unionWith": adds}, {"$project": &inclusion}, {"$sort": {"price": 1}}]),
    ]
    .map(|pipeline| pipeline.as_array().unwrap().clone());
    let distinct = doc! {"distinct": "products", "key": "price", "query": &rare, "$db": db};
    let find = doc! {"find": "products", "filter": &rare, "projection": &inclusion, "sort": {"price": 1}, "$db": db};
    let aggregate =
        |pipeline| doc! {"aggregate": "products", "pipeline": pipeline, "cursor": {}, "$db": db};
    let aggregates = pipelines.into_iter().map(aggregate);
    [distinct, find].into_iter().chain(aggregates).collect()
}

/// Seen: 4.4.2 and 6.0.5 give null for a field that a document lacks where an index covers the query, else nothing.
#[tokio::test]
async fn what_an_automatic_index_might_answer_alone_stays_what_it_was() {
    for isolation in ["shared", "dedicated"] {
        let mut world = world(isolation, &[]).await;
        world.stock().await;
        let db = world.db.clone();
        let lacking = [
            doc! {"category": "rare", "price": 5},
            doc! {"category": "rare", "price": null},
            doc! {"category": "rare"},
        ];
        let lacking = doc! {"insert": "products", "documents": lacking.as_slice(), "$db": &db};
        world.app.ok(&lacking).await;
        let commands = may_be_covered(&db);
        let answer = async |app: &mut RawClient, command: &Document| {
            let mut reply = app.ok(command).await;
            let values = reply.remove("values");
            values.unwrap_or_else(|| batch(&reply).into())
        };
        let mut before = Vec::new();
        for command in &commands {
            before.push(answer(&mut world.app, command).await);
        }
        world.shop(20).await;
        world.tick().await;
        let physical = world.physical(isolation);
        assert_eq!(world.automatic(&physical).await.len(), 1);
        // The proxy hears of the index a moment later.
        for (command, before) in commands.iter().zip(before) {
            let what = format!("{isolation}: {before} from {command}");
            eventually(&what, async || {
                let now = answer(&mut world.app, command).await;
                (now == before).then_some(())
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_drop_does_not_count_automatic_indexes() {
    let mut world = world("dedicated", &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let physical = world.physical("dedicated");
    assert_eq!(world.automatic(&physical).await.len(), 1);
    let drop = doc! {"drop": "products", "$db": &world.db};
    let dropped = world.app.ok(&drop).await;
    assert_eq!(dropped.get_i32("nIndexesWas").unwrap(), 1, "{dropped}");
}

/// Whether the app's plan scans its collection.
async fn scans(world: &mut World) -> bool {
    let plan = world.plan().await;
    plan.to_string().contains("COLLSCAN")
}

/// Seen: 4.4.2, 5.0.4 and 6.0.5 take any name in a filter of the plan cache, and scan the collection where none of a filter is
/// there.
#[tokio::test]
async fn a_filter_of_the_plan_cache_does_not_name_an_automatic_index() {
    let mut world = world("dedicated", &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let physical = world.physical("dedicated");
    let name = "_auto.category_1_price_1";
    assert_eq!(world.automatic_names(&physical).await, [name]);
    let db = world.db.clone();
    let shape = |command: &str| doc! {command: "products", "query": {"category": "c1"}, "sort": {"price": 1}, "$db": &db};
    assert!(!scans(&mut world).await);
    for named in ["category_1_price_1", "there_is_none", name] {
        let mut set = shape("planCacheSetFilter");
        set.insert("indexes", [named].as_slice());
        world.app.ok(&set).await;
        assert!(scans(&mut world).await, "{named}");
        let list = doc! {"planCacheListFilters": "products", "$db": &db};
        let listed = world.app.ok(&list).await;
        let [filter] = listed.get_array("filters").unwrap().as_slice() else {
            panic!("{listed}");
        };
        let shown = filter.as_document().unwrap().get_array("indexes").unwrap();
        assert_eq!(shown.as_slice(), [bson::bson!(named)]);
    }
    world.app.ok(&shape("planCacheClearFilters")).await;
    assert!(!scans(&mut world).await);
    // One's own is found by its name, whatever else stands there.
    let own = doc! {"createIndexes": "products", "indexes": [{"key": {"category": -1}, "name": "ours"}], "$db": &db};
    world.app.ok(&own).await;
    let mut set = shape("planCacheSetFilter");
    set.insert("indexes", [name, "ours"].as_slice());
    world.app.ok(&set).await;
    let plan = world.plan().await.to_string();
    assert!(
        plan.contains("\"ours\"") && !plan.contains("category_1_price_1"),
        "{plan}"
    );
}
