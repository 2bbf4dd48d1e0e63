//! Collections that are an app's own: asked for by the manifest, or made so by options that cannot be shared.

use bson::{Document, doc};
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, shared};

async fn world(isolation: &str) -> (TestProxy, RawClient, RawClient) {
    let builder = ProxyBuilder::new(shared().await);
    let builder = builder.app("alice").isolated(isolation).app("bob");
    let proxy = builder.start().await;
    let (alice, bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    (proxy, alice, bob)
}

async fn found(client: &mut RawClient, db: &str, collection: &str) -> Vec<Document> {
    let find = doc! {"find": collection, "sort": {"_id": 1}, "$db": db};
    batch(&client.ok(&find).await)
}

async fn listed(client: &mut RawClient, db: &str) -> Vec<Document> {
    batch(&client.ok(&doc! {"listCollections": 1, "$db": db}).await)
}

#[tokio::test]
async fn the_same_id_in_two_apps() {
    let (proxy, mut alice, mut bob) = world("dedicated").await;
    let db = proxy.database_name();
    for (client, x) in [(&mut bob, "b"), (&mut alice, "a")] {
        let insert = doc! {"insert": "c", "documents": [{"_id": 1, "x": x}], "$db": db};
        assert_eq!(client.ok(&insert).await.get_i32("n").unwrap(), 1);
    }
    assert_eq!(
        found(&mut alice, db, "c").await,
        [doc! {"_id": 1, "x": "a"}]
    );
    assert_eq!(found(&mut bob, db, "c").await, [doc! {"_id": 1, "x": "b"}]);
    let physical = format!("c@{}", proxy.slug("alice"));
    let upstream = proxy.upstream().await;
    let stored = upstream.collection::<Document>(&physical);
    let stored = stored.find_one(doc! {}).await.unwrap().unwrap();
    assert_eq!(stored, doc! {"_id": 1, "x": "a"});
    alice.ok(&doc! {"drop": "c", "$db": db}).await;
    assert!(listed(&mut alice, db).await.is_empty());
    assert_eq!(found(&mut bob, db, "c").await.len(), 1);
}

#[tokio::test]
async fn single_collections_of_an_app() {
    let (proxy, mut alice, _) = world("{ default: shared, collections: { own: dedicated } }").await;
    let db = proxy.database_name();
    for collection in ["own", "shared"] {
        let insert = doc! {"insert": collection, "documents": [{"_id": 1, "k": 5}], "$db": db};
        alice.ok(&insert).await;
    }
    let upstream = proxy.upstream().await;
    let mut names = upstream.list_collection_names().await.unwrap();
    names.sort();
    assert_eq!(
        names,
        [format!("own@{}", proxy.slug("alice")), "shared".to_owned()]
    );
    for (from, with) in [("own", "shared"), ("shared", "own")] {
        let join =
            doc! {"$lookup": {"from": with, "localField": "k", "foreignField": "k", "as": "j"}};
        let aggregate = doc! {"aggregate": from, "pipeline": [join], "cursor": {}, "$db": db};
        assert_eq!(
            batch(&alice.ok(&aggregate).await),
            [doc! {"_id": 1, "k": 5, "j": [{"_id": 1, "k": 5}]}],
            "{from}"
        );
    }
    let dropped = alice.ok(&doc! {"dropDatabase": 1, "$db": db}).await;
    assert!(!dropped.contains_key("errmsg"));
    assert!(listed(&mut alice, db).await.is_empty());
}

#[tokio::test]
async fn what_is_shared_stays_so_when_the_manifest_changes() {
    let deployment = shared().await;
    let before = TestProxy::start(deployment, &["alice"]).await;
    let (db, slug) = (
        before.database_name().to_owned(),
        before.slug("alice").to_owned(),
    );
    let insert = doc! {"insert": "c", "documents": [{"_id": 1}], "$db": &db};
    before.raw("alice").await.ok(&insert).await;
    let builder = ProxyBuilder::new(deployment);
    let builder = builder.app_with_slug("alice", &slug).isolated("dedicated");
    let after = builder.start().await;
    let mut alice = after.raw("alice").await;
    assert_eq!(found(&mut alice, &db, "c").await, [doc! {"_id": 1}]);
    let insert = doc! {"insert": "c", "documents": [{"_id": 2}], "$db": &db};
    alice.ok(&insert).await;
    assert_eq!(
        found(&mut before.raw("alice").await, &db, "c").await.len(),
        2
    );
}

#[tokio::test]
async fn options_that_cannot_be_shared_make_a_collection_the_apps_own() {
    let (proxy, mut alice, mut bob) = world("shared").await;
    let db = proxy.database_name();
    for (name, options) in [
        ("capped", doc! {"capped": true, "size": 4096, "max": 2}),
        (
            "series",
            doc! {"timeseries": {"timeField": "t", "metaField": "m"}},
        ),
        (
            "french",
            doc! {"collation": {"locale": "fr", "strength": 1}},
        ),
        ("checked", doc! {"validator": {"x": {"$type": "int"}}}),
        (
            "clustered",
            doc! {"clusteredIndex": {"key": {"_id": 1}, "unique": true}},
        ),
    ] {
        let mut create = doc! {"create": name, "$db": db};
        create.extend(options);
        alice.ok(&create).await;
        assert_eq!(alice.fails(&create).await, 48, "{name}");
        bob.ok(&doc! {"insert": name, "documents": [{"_id": 9, "x": "no int", "t": 1}], "$db": db})
            .await;
    }
    for id in 1..=3 {
        let insert = doc! {"insert": "capped", "documents": [{"_id": id}], "$db": db};
        alice.ok(&insert).await;
    }
    assert_eq!(
        found(&mut alice, db, "capped").await,
        [doc! {"_id": 2}, doc! {"_id": 3}]
    );
    let bad = doc! {"insert": "checked", "documents": [{"x": "a"}], "$db": db};
    let refused = alice.command(&bad).await;
    let error = refused.get_array("writeErrors").unwrap()[0]
        .as_document()
        .unwrap();
    assert_eq!(error.get_i32("code").unwrap(), 121, "{refused}");
    // Which rule, in the app's own words.
    assert!(error.get_document("errInfo").is_ok(), "{refused}");
    let kinds: Vec<String> = listed(&mut alice, db)
        .await
        .iter()
        .map(|c| {
            format!(
                "{} {}",
                c.get_str("name").unwrap(),
                c.get_str("type").unwrap()
            )
        })
        .collect();
    assert_eq!(
        kinds,
        [
            "capped collection",
            "checked collection",
            "clustered collection",
            "french collection",
            "series timeseries"
        ]
    );
    assert_eq!(found(&mut bob, db, "capped").await.len(), 1);
    for (filter, expected) in [
        (doc! {"options.capped": true}, vec!["capped"]),
        (doc! {"options.collation.locale": "fr"}, vec!["french"]),
        (
            doc! {"options.timeseries": {"$exists": true}},
            vec!["series"],
        ),
        (doc! {"info.readOnly": true}, vec![]),
    ] {
        let list = doc! {"listCollections": 1, "filter": &filter, "$db": db};
        let listed = batch(&alice.ok(&list).await);
        let names: Vec<&str> = listed.iter().map(|c| c.get_str("name").unwrap()).collect();
        assert_eq!(names, expected, "{filter}");
    }
}

#[tokio::test]
async fn views_show_the_apps_own_documents() {
    let (proxy, mut alice, mut bob) =
        world("{ default: shared, collections: { own: dedicated } }").await;
    let db = proxy.database_name();
    for (client, id) in [(&mut alice, "a"), (&mut bob, "b")] {
        for collection in ["c", "own"] {
            let insert = doc! {"insert": collection, "documents": [{"_id": format!("{id}{collection}"), "k": 1}], "$db": db};
            client.ok(&insert).await;
        }
    }
    let pipeline = vec![doc! {"$match": {"k": 1}}, doc! {"$unionWith": "own"}];
    for view in ["on_c", "on_own", "on_view"] {
        let create = doc! {"create": view, "viewOn": view.trim_start_matches("on_").replace("view", "on_c"), "pipeline": &pipeline, "$db": db};
        alice.ok(&create).await;
    }
    let ids = |documents: Vec<Document>| -> Vec<String> {
        let id = |d: &Document| d.get_str("_id").unwrap().to_owned();
        documents.iter().map(id).collect()
    };
    assert_eq!(ids(found(&mut alice, db, "on_c").await), ["ac", "aown"]);
    assert_eq!(ids(found(&mut alice, db, "on_own").await), ["aown", "aown"]);
    assert_eq!(
        ids(found(&mut alice, db, "on_view").await),
        ["ac", "aown", "aown"]
    );
    assert!(found(&mut bob, db, "on_c").await.is_empty());
    let view = listed(&mut alice, db)
        .await
        .into_iter()
        .find(|c| c.get_str("name").unwrap() == "on_c")
        .unwrap();
    assert_eq!(
        view,
        doc! {"name": "on_c", "type": "view", "options": {"viewOn": "c", "pipeline": pipeline}, "info": {"readOnly": true}}
    );
    let write = doc! {"insert": "on_c", "documents": [{}], "$db": db};
    let refused = alice.command(&write).await;
    let error = refused.get_array("writeErrors").unwrap()[0]
        .as_document()
        .unwrap();
    assert_eq!(error.get_i32("code").unwrap(), 166, "{refused}");
    assert!(!refused.to_string().contains('@'), "{refused}");
    alice.ok(&doc! {"drop": "on_view", "$db": db}).await;
    assert!(found(&mut alice, db, "on_view").await.is_empty());
}
