//! Every way in which a collection comes to be brings its indexes with it.

use super::*;

#[tokio::test]
async fn collections_come_to_be_in_many_ways() {
    let index = at("[{ keys: { a: 1 } }]");
    let builder = alone(shared().await);
    let proxy = builder
        .app("alice")
        .saying(&index)
        .app("own")
        .isolated("dedicated")
        .saying(&index);
    let proxy = proxy.start().await;
    let db = proxy.database_name();
    let wanted = [id(), doc! {"key": {"a": 1}, "name": "a_1"}];
    let upsert = doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": {"$set": {"a": 1}}, "upsert": true}]};
    let stage =
        |last| doc! {"aggregate": 1, "pipeline": [{"$documents": [{"a": 1}]}, last], "cursor": {}};
    for app in ["alice", "own"] {
        let mut client = proxy.raw(app).await;
        for (way, make) in [
            ("create", doc! {"create": "c"}),
            ("upsert", upsert.clone()),
            ("capped", doc! {"create": "c", "capped": true, "size": 4096}),
            (
                "indexes",
                doc! {"createIndexes": "c", "indexes": [{"key": {"_id": 1}, "name": "_id_"}]},
            ),
            ("out", stage(doc! {"$out": "c"})),
            ("merge", stage(doc! {"$merge": "c"})),
        ] {
            if ["out", "merge"].contains(&way) && !is_since(shared().await, "5.1") {
                continue;
            }
            let mut make = make;
            let db = format!("{db}{app}{way}");
            make.insert("$db", &db);
            let reply = client.command(&make).await;
            assert!(is_ok(&reply), "{way}: {reply}");
            has(&mut client, &db, &wanted).await;
            client.ok(&doc! {"dropDatabase": 1, "$db": &db}).await;
        }
    }
}
