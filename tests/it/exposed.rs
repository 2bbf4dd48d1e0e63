//! An app whose manifest says `expose_scope_field: true`.

use bson::{Document, doc};
use mdb_tests::{ProxyBuilder, batch, shared};

#[tokio::test]
async fn the_field_is_shown_and_still_guarded() {
    let builder = ProxyBuilder::new(shared().await);
    let proxy = builder.app("open").exposing().app("bob").start().await;
    let db = proxy.database_name();
    let slug = proxy.slug("open");
    let (mut open, mut bob) = (proxy.raw("open").await, proxy.raw("bob").await);
    bob.ok(&doc! {"insert": "c", "documents": [{"_id": 9, "x": 1}], "$db": db})
        .await;
    open.ok(&doc! {"insert": "c", "documents": [{"_id": 1, "x": 1}], "$db": db})
        .await;
    open.ok(&doc! {"insert": "c", "documents": [{"_id": 2, "x": 1, "app_id": slug}], "$db": db})
        .await;
    let shown = |id: i32| doc! {"_id": id, "app_id": slug, "x": 1};
    let found = batch(
        &open
            .ok(&doc! {"find": "c", "sort": {"_id": 1}, "$db": db})
            .await,
    );
    assert_eq!(found, [shown(1), shown(2)]);
    let pipeline = vec![
        doc! {"$sort": {"_id": 1}},
        doc! {"$set": {"y": 1}},
        doc! {"$unset": "y"},
    ];
    let aggregate = doc! {"aggregate": "c", "pipeline": pipeline, "cursor": {}, "$db": db};
    assert_eq!(batch(&open.ok(&aggregate).await), [shown(1), shown(2)]);
    let join = doc! {"$lookup": {"from": "c", "pipeline": [{"$sort": {"_id": 1}}], "as": "all"}};
    let aggregate = doc! {"aggregate": "c", "pipeline": [{"$match": {"_id": 1}}, join], "cursor": {}, "$db": db};
    let all = batch(&open.ok(&aggregate).await)[0]
        .get_array("all")
        .unwrap()
        .clone();
    assert_eq!(all, [shown(1).into(), shown(2).into()] as [bson::Bson; 2]);
    let modify =
        doc! {"findAndModify": "c", "query": {"_id": 1}, "update": {"$set": {"x": 1}}, "$db": db};
    assert_eq!(
        open.ok(&modify).await.get_document("value").unwrap(),
        &shown(1)
    );
    let projected =
        doc! {"find": "c", "filter": {"_id": 1}, "projection": {"app_id": 1, "_id": 0}, "$db": db};
    assert_eq!(batch(&open.ok(&projected).await), [doc! {"app_id": slug}]);
    for (command, code) in [
        (
            doc! {"insert": "c", "documents": [{"app_id": proxy.slug("bob")}]},
            13,
        ),
        (
            doc! {"update": "c", "updates": [{"q": {}, "u": {"$set": {"app_id": "x"}}}]},
            66,
        ),
        (
            doc! {"update": "c", "updates": [{"q": {}, "u": {"$unset": {"app_id": 1}}}]},
            66,
        ),
        (
            doc! {"find": "c", "filter": {"app_id": proxy.slug("bob")}},
            2,
        ),
    ] {
        let mut command: Document = command;
        command.insert("$db", db);
        assert_eq!(open.fails(&command).await, code, "{command}");
    }
    assert_eq!(
        batch(&bob.ok(&doc! {"find": "c", "$db": db}).await),
        [doc! {"_id": 9, "x": 1}]
    );
}
