//! Pipelines over one's own documents, with another app's in the same collections.

use bson::{Document, doc};
use mdb_tests::{RawClient, TestProxy, batch, is_since, shared};

struct Shop {
    proxy: TestProxy,
    alice: RawClient,
}

impl Shop {
    /// Both apps have orders, customers and a tree of categories; the values differ.
    async fn new() -> Self {
        let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
        let db = proxy.database_name();
        for (app, base, price) in [("alice", 0, 10), ("bob", 100, 1000)] {
            let mut client = proxy.raw(app).await;
            let orders: Vec<Document> = (1..=6)
                .map(|n| doc! {"_id": base + n, "customer": n % 3, "price": price * n})
                .collect();
            let customers: Vec<Document> = (0..3)
                .map(|n| doc! {"_id": format!("{app}{n}"), "number": n, "name": format!("{app} {n}")})
                .collect();
            let categories: Vec<Document> = (0..4)
                .map(|n| doc! {"_id": base + n, "name": format!("c{n}"), "parent": format!("c{}", n - 1)})
                .collect();
            for (collection, documents) in [
                ("orders", orders),
                ("customers", customers),
                ("categories", categories),
            ] {
                client
                    .ok(&doc! {"insert": collection, "documents": documents, "$db": db})
                    .await;
            }
        }
        let alice = proxy.raw("alice").await;
        Self { proxy, alice }
    }

    async fn run(&mut self, collection: &str, pipeline: Vec<Document>) -> Vec<Document> {
        let command = doc! {
            "aggregate": collection, "pipeline": pipeline, "cursor": {},
            "$db": self.proxy.database_name(),
        };
        batch(&self.alice.ok(&command).await)
    }
}

#[tokio::test]
async fn groups_and_counts() {
    let mut shop = Shop::new().await;
    let by_customer = vec![
        doc! {"$group": {"_id": "$customer", "sum": {"$sum": "$price"}, "n": {"$sum": 1}}},
        doc! {"$sort": {"_id": 1}},
    ];
    let expected = [
        doc! {"_id": 0, "sum": 90, "n": 2},
        doc! {"_id": 1, "sum": 50, "n": 2},
        doc! {"_id": 2, "sum": 70, "n": 2},
    ];
    assert_eq!(shop.run("orders", by_customer).await, expected);
    assert_eq!(
        shop.run("orders", vec![doc! {"$count": "n"}]).await,
        [doc! {"n": 6}]
    );
    let keys = vec![
        doc! {"$limit": 1},
        doc! {"$project": {"_id": 0, "keys": {"$map": {"input": {"$objectToArray": "$$ROOT"}, "in": "$$this.k"}}}},
    ];
    assert_eq!(
        shop.run("orders", keys).await,
        [doc! {"keys": ["_id", "customer", "price"]}]
    );
    let whole = vec![
        doc! {"$sort": {"_id": 1}},
        doc! {"$group": {"_id": null, "first": {"$first": "$$ROOT"}}},
    ];
    let first = doc! {"_id": 1, "customer": 1, "price": 10};
    assert_eq!(
        shop.run("orders", whole).await,
        [doc! {"_id": null, "first": first}]
    );
    let size = vec![
        doc! {"$match": {"_id": 1}},
        doc! {"$project": {"size": {"$bsonSize": "$$ROOT"}}},
    ];
    let bytes = bson::serialize_to_vec(&doc! {"_id": 1, "customer": 1, "price": 10})
        .unwrap()
        .len();
    let bytes = i32::try_from(bytes).unwrap();
    assert_eq!(
        shop.run("orders", size).await,
        [doc! {"_id": 1, "size": bytes}]
    );
}

#[tokio::test]
async fn joins_by_fields_and_by_pipeline() {
    let mut shop = Shop::new().await;
    let customer =
        |n: i32| doc! {"_id": format!("alice{n}"), "number": n, "name": format!("alice {n}")};
    let by_fields = doc! {"$lookup": {"from": "customers", "localField": "customer", "foreignField": "number", "as": "c"}};
    let found = shop
        .run(
            "orders",
            vec![doc! {"$match": {"_id": 1}}, by_fields.clone()],
        )
        .await;
    let joined = doc! {"_id": 1, "customer": 1, "price": 10, "c": [customer(1)]};
    assert_eq!(found, std::slice::from_ref(&joined));
    let by_pipeline = doc! {"$lookup": {
        "from": "customers", "let": {"n": "$customer"}, "as": "c",
        "pipeline": [{"$match": {"$expr": {"$eq": ["$number", "$$n"]}}}],
    }};
    assert_eq!(
        shop.run("orders", vec![doc! {"$match": {"_id": 1}}, by_pipeline])
            .await,
        std::slice::from_ref(&joined)
    );
    let both = doc! {"$lookup": {
        "from": "customers", "localField": "customer", "foreignField": "number", "as": "c",
        "pipeline": [{"$project": {"name": 1, "_id": 0}}],
    }};
    let found = shop
        .run("orders", vec![doc! {"$match": {"_id": 1}}, both])
        .await;
    assert_eq!(
        found[0].get_array("c").unwrap(),
        &[doc! {"name": "alice 1"}.into()]
    );
    let unwound = vec![
        doc! {"$match": {"_id": 1}},
        by_fields,
        doc! {"$unwind": "$c"},
        doc! {"$match": {"c.number": 1}},
    ];
    assert_eq!(
        shop.run("orders", unwound).await[0]
            .get_document("c")
            .unwrap(),
        &customer(1)
    );
    let missing =
        doc! {"$lookup": {"from": "nowhere", "localField": "x", "foreignField": "y", "as": "c"}};
    let found = shop
        .run("orders", vec![doc! {"$match": {"_id": 1}}, missing])
        .await;
    assert_eq!(found[0].get_array("c").unwrap().len(), 0);
}

#[tokio::test]
async fn walks_unions_and_facets() {
    let mut shop = Shop::new().await;
    let walk = doc! {"$graphLookup": {
        "from": "categories", "startWith": "$parent", "connectFromField": "parent",
        "connectToField": "name", "as": "way", "depthField": "depth",
    }};
    let found = shop
        .run("categories", vec![doc! {"$match": {"_id": 3}}, walk])
        .await;
    let mut way: Vec<Document> = found[0]
        .get_array("way")
        .unwrap()
        .iter()
        .map(|d| d.as_document().unwrap().clone())
        .collect();
    way.sort_by_key(|d| d.get_i32("_id").unwrap());
    let step = |n: i32, depth: i64| doc! {"_id": n, "name": format!("c{n}"), "parent": format!("c{}", n - 1), "depth": depth};
    assert_eq!(way, [step(0, 2), step(1, 1), step(2, 0)]);
    let union = vec![
        doc! {"$project": {"kind": "order"}},
        doc! {"$unionWith": {"coll": "customers", "pipeline": [{"$project": {"kind": "customer"}}]}},
        doc! {"$unionWith": "categories"},
        doc! {"$group": {"_id": "$kind", "n": {"$sum": 1}}},
        doc! {"$sort": {"_id": 1}},
    ];
    let expected = [
        doc! {"_id": null, "n": 4},
        doc! {"_id": "customer", "n": 3},
        doc! {"_id": "order", "n": 6},
    ];
    assert_eq!(shop.run("orders", union).await, expected);
    let facet = vec![doc! {"$facet": {
        "dear": [{"$match": {"price": {"$gte": 50}}}, {"$count": "n"}],
        "names": [
            {"$limit": 2},
            {"$lookup": {"from": "customers", "as": "c", "pipeline": [
                {"$lookup": {"from": "categories", "as": "k", "pipeline": [{"$count": "n"}]}},
                {"$project": {"_id": 0, "k": 1}},
                {"$limit": 1},
            ]}},
            {"$project": {"_id": 0, "c": 1}},
        ],
    }}];
    let name = doc! {"c": [{"k": [{"n": 4}]}]};
    let expected = doc! {"dear": [{"n": 2}], "names": [name.clone(), name]};
    assert_eq!(shop.run("orders", facet).await, [expected]);
}

#[tokio::test]
async fn given_documents_join_the_apps_own() {
    let mut shop = Shop::new().await;
    let command = doc! {
        "aggregate": 1, "cursor": {}, "$db": shop.proxy.database_name(),
        "pipeline": [
            {"$documents": [{"n": 1}, {"n": 7}]},
            {"$lookup": {"from": "customers", "localField": "n", "foreignField": "number", "as": "c"}},
            {"$project": {"n": 1, "c": {"$size": "$c"}}},
        ],
    };
    // Servers before 6.0 have no `$documents` for users.
    if is_since(shared().await, "6.0") {
        assert_eq!(
            batch(&shop.alice.ok(&command).await),
            [doc! {"n": 1, "c": 1}, doc! {"n": 7, "c": 0}]
        );
    } else {
        shop.alice.fails(&command).await;
    }
    let windows = vec![
        doc! {"$setWindowFields": {"sortBy": {"_id": 1}, "output": {"so_far": {"$sum": "$price", "window": {"documents": ["unbounded", "current"]}}}}},
        doc! {"$match": {"_id": 6}},
        doc! {"$project": {"so_far": 1}},
    ];
    assert_eq!(
        shop.run("orders", windows).await,
        [doc! {"_id": 6, "so_far": 210}]
    );
}
