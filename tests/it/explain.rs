//! Plans speak of the app's own terms.

use bson::{Document, doc};
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, shared};

struct Plans {
    proxy: TestProxy,
    alice: RawClient,
}

impl Plans {
    async fn new() -> Self {
        let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
        let db = proxy.database_name();
        for (app, base) in [("alice", 0), ("bob", 1000)] {
            let mut client = proxy.raw(app).await;
            let documents: Vec<Document> = (0..50)
                .map(|n| doc! {"_id": base + n, "n": n, "m": n})
                .collect();
            client
                .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
                .await;
            let index = doc! {"key": {"n": 1}, "name": "by_n"};
            client
                .ok(&doc! {"createIndexes": "c", "indexes": [index], "$db": db})
                .await;
        }
        let alice = proxy.raw("alice").await;
        Self { proxy, alice }
    }

    /// The plan, which names neither the scope field nor anything physical, and no count of what was looked at.
    async fn explain(&mut self, command: Document, verbosity: &str) -> Document {
        let db = self.proxy.database_name();
        let explain = doc! {"explain": command, "verbosity": verbosity, "$db": db};
        let reply = self.alice.ok(&explain).await;
        let text = reply.to_string();
        let physical = format!("{}.", self.proxy.slug("alice"));
        for word in [
            "app_id",
            self.proxy.slug("alice"),
            self.proxy.slug("bob"),
            &physical,
            "Examined",
            "serverInfo",
            "127.0.0.1",
        ] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        reply
    }
}

/// The first stage of that name in a plan.
fn stage(plan: &Document, name: &str) -> Option<Document> {
    if plan.get_str("stage").is_ok_and(|stage| stage == name) {
        return Some(plan.clone());
    }
    plan.values().find_map(|value| match value {
        bson::Bson::Document(inner) => stage(inner, name),
        bson::Bson::Array(items) => items
            .iter()
            .filter_map(bson::Bson::as_document)
            .find_map(|d| stage(d, name)),
        _ => None,
    })
}

#[tokio::test]
async fn plans_name_the_apps_indexes() {
    let mut plans = Plans::new().await;
    let find = doc! {"find": "c", "filter": {"n": 5}};
    let plan = plans.explain(find, "queryPlanner").await;
    let scan = stage(&plan, "IXSCAN").unwrap_or_else(|| panic!("{plan}"));
    assert_eq!(scan.get_str("indexName").unwrap(), "by_n");
    assert_eq!(scan.get_document("keyPattern").unwrap(), &doc! {"n": 1});
    assert_eq!(
        scan.get_document("indexBounds").unwrap(),
        &doc! {"n": ["[5, 5]"]}
    );
    let planner = plan.get_document("queryPlanner").unwrap();
    let namespace = format!("{}.c", plans.proxy.database_name());
    assert_eq!(planner.get_str("namespace").unwrap(), namespace);
    assert_eq!(
        planner.get_document("parsedQuery").unwrap(),
        &doc! {"n": {"$eq": 5}}
    );
    let all = plans.explain(doc! {"find": "c"}, "queryPlanner").await;
    assert!(stage(&all, "COLLSCAN").is_some(), "{all}");
}

#[tokio::test]
async fn indexes_serve_what_stands_beside_an_expression_that_can_fail() {
    let mut plans = Plans::new().await;
    let failing = doc! {"$gt": [{"$divide": [1, {"$add": ["$m", 1]}]}, 0]};
    for condition in [
        doc! {"n": 5, "$expr": &failing},
        doc! {"$expr": {"$and": [{"$eq": ["$n", 5]}, &failing]}},
    ] {
        let pipeline = vec![doc! {"$match": condition}];
        let aggregate = doc! {"aggregate": "c", "pipeline": &pipeline, "cursor": {}};
        let plan = plans.explain(aggregate.clone(), "queryPlanner").await;
        let scan = stage(&plan, "IXSCAN").unwrap_or_else(|| panic!("{plan}"));
        assert_eq!(
            scan.get_document("indexBounds").unwrap(),
            &doc! {"n": ["[5, 5]"]},
            "{plan}"
        );
        let mut found = aggregate;
        found.insert("$db", plans.proxy.database_name());
        let found = mdb_tests::batch(&plans.alice.ok(&found).await);
        assert_eq!(found, [doc! {"_id": 5, "n": 5, "m": 5}]);
    }
}

#[tokio::test]
async fn execution_statistics_count_the_apps_own() {
    let mut plans = Plans::new().await;
    for (filter, expected) in [
        (doc! {}, 50),
        (doc! {"n": {"$lt": 10}}, 10),
        (doc! {"nope": 1}, 0),
    ] {
        for verbosity in ["executionStats", "allPlansExecution"] {
            let find = doc! {"find": "c", "filter": filter.clone()};
            let plan = plans.explain(find, verbosity).await;
            let stats = plan.get_document("executionStats").unwrap();
            assert_eq!(stats.get_i32("nReturned").unwrap(), expected, "{plan}");
        }
    }
}

/// Of a stage that names another collection the plan shows what it says beside its pipeline, as the app says it.
#[tokio::test]
async fn joins_are_shown_in_the_apps_terms() {
    for isolation in ["shared", "dedicated"] {
        let proxy = ProxyBuilder::new(shared().await)
            .app("alice")
            .isolated(isolation)
            .start()
            .await;
        let (db, mut alice) = (proxy.database_name(), proxy.raw("alice").await);
        alice
            .ok(&doc! {"insert": "c", "documents": [{"_id": 1, "n": 1}], "$db": db})
            .await;
        for (stage, expected) in [
            (
                doc! {"$lookup": {"from": "c", "let": {"v": "$n"}, "pipeline": [{"$match": {"$expr": {"$eq": ["$n", "$$v"]}}}], "as": "x"}},
                doc! {"from": "c", "as": "x"},
            ),
            (
                doc! {"$graphLookup": {"from": "c", "startWith": "$n", "connectFromField": "n", "connectToField": "m", "as": "x", "maxDepth": 2_i64}},
                doc! {"from": "c", "as": "x", "connectToField": "m", "connectFromField": "n", "maxDepth": 2_i64},
            ),
            (doc! {"$unionWith": "c"}, doc! {"coll": "c"}),
        ] {
            let pipeline = [doc! {"$set": {"z": 1}}, stage.clone()];
            let command = doc! {"aggregate": "c", "pipeline": pipeline.to_vec(), "cursor": {}};
            let plan = alice.ok(&doc! {"explain": command, "$db": db}).await;
            let slug = proxy.slug("alice");
            assert!(!plan.to_string().contains(slug), "{isolation}: {plan}");
            let stages = plan.get_array("stages").unwrap();
            let name = stage.keys().next().unwrap();
            let shown = stages
                .iter()
                .find_map(|s| s.as_document()?.get_document(name).ok());
            let shown = shown.unwrap_or_else(|| panic!("{isolation}: {plan}"));
            for (field, value) in &expected {
                assert_eq!(shown.get(field), Some(value), "{isolation}: {plan}");
            }
        }
    }
}

#[tokio::test]
async fn every_command_that_can_be_explained_is() {
    let mut plans = Plans::new().await;
    let join = doc! {"$lookup": {"from": "c", "localField": "n", "foreignField": "m", "as": "x"}};
    for command in [
        doc! {"count": "c", "query": {"n": 1}},
        doc! {"distinct": "c", "key": "n"},
        doc! {"aggregate": "c", "pipeline": [{"$match": {"n": 1}}, {"$group": {"_id": "$m"}}], "cursor": {}},
        doc! {"aggregate": "c", "pipeline": [join, {"$sort": {"n": 1}}], "cursor": {}},
        doc! {"aggregate": "c", "pipeline": [{"$facet": {"a": [{"$count": "n"}]}}], "cursor": {}},
        doc! {"update": "c", "updates": [{"q": {"n": 1}, "u": {"$set": {"m": 0}}}]},
        doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0}]},
        doc! {"findAndModify": "c", "query": {"n": 1}, "remove": true},
        doc! {"find": "c", "filter": {"m": {"$gt": 1}}, "sort": {"m": 1}, "projection": {"m": 1}},
        doc! {"find": "c", "filter": {"$or": [{"n": 1}, {"_id": 3}]}},
    ] {
        for verbosity in ["queryPlanner", "executionStats"] {
            plans.explain(command.clone(), verbosity).await;
        }
    }
    let db = plans.proxy.database_name();
    let count = plans.alice.ok(&doc! {"count": "c", "$db": db}).await;
    assert_eq!(count.get_i32("n").unwrap(), 50);
    let explain =
        doc! {"aggregate": "c", "pipeline": [{"$match": {"n": 1}}], "explain": true, "$db": db};
    let reply = plans.alice.ok(&explain).await;
    assert!(!reply.to_string().contains("app_id"), "{reply}");
    for command in [
        doc! {"insert": "c", "documents": [{}]},
        doc! {"ping": 1},
        doc! {"getMore": 1_i64},
    ] {
        let explain = doc! {"explain": command, "$db": db};
        plans.alice.fails(&explain).await;
    }
}
