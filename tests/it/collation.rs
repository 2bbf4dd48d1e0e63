//! Collations under which the names of apps look alike.
//!
//! The manifests refuse slugs that fold together, so documents of look-alikes are planted upstream: also under names
//! that no app can have.

use bson::{Document, doc};
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, shared};

/// A slug, and what some collation takes for the same.
const LOOK_ALIKES: [(&str, &[&str]); 6] = [
    ("ccs", &["cscs", "CCS", "çcs"]),
    ("app1", &["app01", "APP1", "app-1", "àpp1", "app1\u{200b}"]),
    (
        "task_manager",
        &[
            "taskmanager",
            "task-manager",
            "Task_Manager",
            "task_mänager",
        ],
    ),
    ("yi", &["ii", "yy", "YI"]),
    ("vw", &["vv", "ww", "VW"]),
    (
        "shop",
        &[
            "SHOP", "shöp", "s-h-o-p", "shop ", "shop\n", "\nshop", "shop\0",
        ],
    ),
];

/// Sources of equality.
fn collations() -> Vec<Document> {
    vec![
        doc! {"locale": "en"},
        doc! {"locale": "en", "strength": 1},
        doc! {"locale": "en", "strength": 2},
        doc! {"locale": "en", "strength": 3},
        doc! {"locale": "en", "strength": 1, "caseLevel": true},
        doc! {"locale": "en", "alternate": "shifted"},
        doc! {"locale": "en", "alternate": "shifted", "strength": 1, "maxVariable": "punct"},
        doc! {"locale": "en", "numericOrdering": true},
        doc! {"locale": "lt", "strength": 1},
        doc! {"locale": "lv", "strength": 1},
        doc! {"locale": "hu", "strength": 1},
        doc! {"locale": "hu", "strength": 2},
        doc! {"locale": "sv@collation=search", "strength": 1},
        doc! {"locale": "fi@collation=search", "strength": 1},
    ]
}

struct Look {
    proxy: TestProxy,
    own: RawClient,
    upstream: mongodb::Collection<Document>,
    slug: &'static str,
}

impl Look {
    async fn new(slug: &'static str, others: &[&str]) -> Self {
        let proxy = ProxyBuilder::new(shared().await)
            .app_with_slug("own", slug)
            .start()
            .await;
        let db = proxy.database_name();
        let mut own = proxy.raw("own").await;
        let ids: Vec<Document> = own_ids();
        own.ok(&doc! {"insert": "c", "documents": ids, "$db": db})
            .await;
        let upstream = proxy.upstream().await.collection::<Document>("c");
        for other in others {
            let planted = (0..3)
                .map(|n| doc! {"_id": format!("{other}{n}"), "app_id": *other, "k": "K", "n": n});
            upstream.insert_many(planted).await.unwrap();
        }
        Self {
            proxy,
            own,
            upstream,
            slug,
        }
    }

    async fn planted(&self) -> Vec<String> {
        use futures_util::TryStreamExt as _;
        let found = self
            .upstream
            .find(doc! {"app_id": {"$ne": self.slug}})
            .sort(doc! {"_id": 1})
            .await;
        let found: Vec<Document> = found.unwrap().try_collect().await.unwrap();
        found.iter().map(Document::to_string).collect()
    }

    async fn refill(&mut self) {
        let db = self.proxy.database_name();
        self.own
            .ok(&doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0}], "$db": db})
            .await;
        self.own
            .ok(&doc! {"insert": "c", "documents": own_ids(), "$db": db})
            .await;
    }
}

fn own_ids() -> Vec<Document> {
    (0..2)
        .map(|n| doc! {"_id": format!("own{n}"), "k": "k", "n": n})
        .collect()
}

async fn reads(look: &mut Look, collation: &Document) {
    let db = look.proxy.database_name().to_owned();
    let what = format!("{}: {collation}", look.slug);
    let with = |mut command: Document| {
        command.extend(doc! {"collation": collation.clone(), "$db": &db});
        command
    };
    for filter in [
        doc! {},
        doc! {"k": "k"},
        doc! {"$or": [{"k": "K"}, {"n": {"$gte": 0}}]},
    ] {
        let found = batch(
            &look
                .own
                .ok(&with(doc! {"find": "c", "filter": filter.clone()}))
                .await,
        );
        assert!(
            found
                .iter()
                .all(|d| d.get_str("_id").unwrap().starts_with("own")),
            "{what}: {found:?}"
        );
        let counted = look
            .own
            .ok(&with(doc! {"count": "c", "query": filter.clone()}))
            .await;
        assert!(counted.get_i32("n").unwrap() <= 2, "{what}: {counted}");
        let ids = look
            .own
            .ok(&with(doc! {"distinct": "c", "key": "_id", "query": filter}))
            .await;
        assert!(ids.get_array("values").unwrap().len() <= 2, "{what}: {ids}");
    }
    let all = batch(&look.own.ok(&with(doc! {"find": "c"})).await);
    assert_eq!(all.len(), 2, "{what}");
    let count = doc! {"$count": "n"};
    for (stages, expected) in [
        (vec![doc! {"$match": {}}], 2),
        (vec![doc! {"$unionWith": "c"}], 4),
        (
            vec![
                doc! {"$lookup": {"from": "c", "pipeline": [], "as": "x"}},
                doc! {"$unwind": "$x"},
            ],
            4,
        ),
        (
            vec![
                doc! {"$lookup": {"from": "c", "localField": "no", "foreignField": "no", "as": "x"}},
                doc! {"$unwind": "$x"},
            ],
            4,
        ),
        (
            vec![
                doc! {"$graphLookup": {"from": "c", "startWith": ["k"], "connectFromField": "no", "connectToField": "k", "as": "x"}},
                doc! {"$unwind": "$x"},
            ],
            4,
        ),
        (
            vec![
                doc! {"$facet": {"f": [{"$unionWith": {"coll": "c", "pipeline": [{"$match": {"k": "k"}}]}}]}},
                doc! {"$unwind": "$f"},
            ],
            4,
        ),
    ] {
        let pipeline: Vec<Document> = stages.into_iter().chain([count.clone()]).collect();
        let command = with(doc! {"aggregate": "c", "pipeline": pipeline.clone(), "cursor": {}});
        let found = batch(&look.own.ok(&command).await);
        assert_eq!(found, [doc! {"n": expected}], "{what}: {pipeline:?}");
    }
}

async fn writes(look: &mut Look, collation: &Document) {
    let db = look.proxy.database_name().to_owned();
    let what = format!("{}: {collation}", look.slug);
    let before = look.planted().await;
    let many = |q: Document, u: bson::Bson| {
        doc! {"update": "c", "updates": [{"q": q, "u": u, "multi": true, "collation": collation.clone()}], "$db": &db}
    };
    let set = doc! {"$set": {"touched": true}};
    for update in [
        many(doc! {}, set.clone().into()),
        many(doc! {}, vec![set.clone()].into()),
    ] {
        let reply = look.own.ok(&update).await;
        assert_eq!(reply.get_i32("n").unwrap(), 2, "{what}: {reply}");
    }
    let modify = doc! {
        "findAndModify": "c", "query": {"k": "K"}, "sort": {"n": -1}, "collation": collation.clone(),
        "update": {"$set": {"touched": 2}}, "$db": &db,
    };
    for _ in 0..4 {
        look.own.ok(&modify).await;
    }
    let upsert = doc! {
        "update": "c", "$db": &db,
        "updates": [{"q": {"_id": "own9", "k": "k"}, "u": {"$set": {"n": 9}}, "upsert": true, "collation": collation.clone()}],
    };
    let reply = look.own.ok(&upsert).await;
    assert!(reply.contains_key("upserted"), "{what}: {reply}");
    let stored = look
        .upstream
        .find_one(doc! {"_id": "own9"})
        .await
        .unwrap()
        .unwrap();
    assert_eq!(stored.get_str("app_id").unwrap(), look.slug, "{what}");
    let delete = doc! {"delete": "c", "deletes": [{"q": {}, "limit": 0, "collation": collation.clone()}], "$db": &db};
    let reply = look.own.ok(&delete).await;
    assert_eq!(reply.get_i32("n").unwrap(), 3, "{what}: {reply}");
    let remove = doc! {"findAndModify": "c", "query": {}, "remove": true, "collation": collation.clone(), "$db": &db};
    let reply = look.own.ok(&remove).await;
    assert_eq!(
        reply.get("value"),
        Some(&bson::Bson::Null),
        "{what}: {reply}"
    );
    assert_eq!(look.planted().await, before, "{what}");
}

#[tokio::test]
async fn look_alikes_are_neither_read_nor_written() {
    for (slug, others) in LOOK_ALIKES {
        let mut look = Look::new(slug, others).await;
        for collation in collations() {
            reads(&mut look, &collation).await;
            writes(&mut look, &collation).await;
            look.refill().await;
        }
    }
}

#[tokio::test]
async fn a_drop_takes_no_look_alike() {
    for (slug, others) in LOOK_ALIKES {
        let mut look = Look::new(slug, others).await;
        let before = look.planted().await;
        let drop = doc! {"drop": "c", "$db": look.proxy.database_name()};
        look.own.ok(&drop).await;
        assert_eq!(look.planted().await, before);
    }
}

/// The collation still does what the app wants of it.
#[tokio::test]
async fn collations_apply_to_the_apps_own_values() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let words = ["b", "A", "a", "á", "C"];
    let documents: Vec<Document> = words.iter().map(|w| doc! {"_id": *w}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let find = doc! {"find": "c", "sort": {"_id": 1}, "collation": {"locale": "en"}, "$db": db};
    let found = batch(&alice.ok(&find).await);
    let ids: Vec<&str> = found.iter().map(|d| d.get_str("_id").unwrap()).collect();
    assert_eq!(ids, ["a", "A", "á", "b", "C"]);
    let count = doc! {"count": "c", "query": {"_id": "a"}, "collation": {"locale": "en", "strength": 1}, "$db": db};
    assert_eq!(alice.ok(&count).await.get_i32("n").unwrap(), 3);
    // With other members it is simple all the same (6.0.5).
    let simple = doc! {"count": "c", "query": {"_id": "a"}, "collation": {"locale": "simple", "strength": 1}, "$db": db};
    assert_eq!(alice.ok(&simple).await.get_i32("n").unwrap(), 1);
    for bad in [
        doc! {"locale": "nowhere"},
        doc! {"locale": ""},
        doc! {"strength": 1},
    ] {
        let find = doc! {"find": "c", "collation": bad, "$db": db};
        alice.fails(&find).await;
    }
}
