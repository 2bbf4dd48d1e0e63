//! An automatic index never stands in an app's way.

use super::*;

#[tokio::test]
async fn an_index_gives_way_to_a_document_that_it_does_not_take() {
    for isolation in ["shared", "dedicated"] {
        let (mut world, physical) = indexed(isolation).await;
        let db = world.db.clone();
        let arrays = doc! {"category": ["a", "b"], "price": [1, 2]};
        let insert = doc! {"insert": "products", "documents": [arrays], "$db": &db};
        let reply = world.app.ok(&insert).await;
        assert_eq!(reply.get_i32("n").unwrap(), 1, "{reply}");
        assert!(world.automatic(&physical).await.is_empty());
        assert_eq!(
            world.decisions(&physical).await,
            ["build proved", "drop in_the_way"]
        );
    }
}

/// Where the promised index of alice is.
async fn indexed(isolation: &str) -> (World, String) {
    let mut world = world(isolation, &[]).await;
    world.stock().await;
    world.shop(20).await;
    world.tick().await;
    let physical = world.physical(isolation);
    assert_eq!(world.automatic(&physical).await.len(), 1);
    (world, physical)
}

#[tokio::test]
async fn an_index_stays_when_another_one_refuses_a_document() {
    for isolation in ["shared", "dedicated"] {
        let (mut world, physical) = indexed(isolation).await;
        let db = world.db.clone();
        let own = |fields: &[&str]| {
            let key: Document = fields.iter().map(|f| ((*f).to_owned(), 1.into())).collect();
            let index = doc! {"key": key, "name": fields.join("_")};
            doc! {"createIndexes": "products", "indexes": [index], "$db": &db}
        };
        world.app.ok(&own(&["price", "tags"])).await;
        let insert = |document: Document| {
            let documents = [document].to_vec();
            doc! {"insert": "products", "documents": documents, "$db": &db}
        };
        // The app's own index does not take it, the automatic one would.
        let refused = insert(doc! {"category": "a", "price": [1, 2], "tags": [1, 2]});
        let reply = world.app.command(&refused).await.to_string();
        assert!(reply.contains("171"), "{reply}");
        assert_eq!(world.automatic(&physical).await.len(), 1);
        // Both refuse: dropping the automatic one would gain nothing.
        world.app.ok(&own(&["price", "category"])).await;
        let refused = insert(doc! {"category": ["a", "b"], "price": [1, 2]});
        let reply = world.app.command(&refused).await.to_string();
        assert!(reply.contains("171"), "{reply}");
        assert_eq!(world.automatic(&physical).await.len(), 1);
    }
}

/// A write of several documents: those that the index does not take, and what else of it was not done, come behind.
#[tokio::test]
async fn what_was_not_stored_is_stored_after_all() {
    let arrays = |id: i32| doc! {"_id": id, "category": ["a", "b"], "price": [1, 2]};
    let plain = |id: i32| doc! {"_id": id};
    let upsert = |id: i32| {
        let set = doc! {"$set": {"category": ["a", "b"], "price": [1, 2]}};
        doc! {"q": {"_id": id}, "u": set, "upsert": true}
    };
    let error = |index: i32| (index, 11000);
    let insert = |ordered: bool, documents: Vec<Document>| {
        doc! {"insert": "products", "documents": documents, "ordered": ordered}
    };
    let batch = || vec![plain(-1), arrays(-2), arrays(-3), plain(-1), plain(-4)];
    let update = doc! {
        "update": "products", "updates": [{"q": {"_id": -1}, "u": {"$set": {"x": 1}}}, upsert(-5), upsert(-6)],
    };
    let cases = [
        (insert(false, batch()), 4, vec![error(3)], None),
        (insert(true, batch()), 3, vec![error(3)], None),
        (update, 2, vec![], Some(0)),
    ];
    for (command, n, errors, modified) in cases {
        for (isolation, number) in [("shared", None), ("dedicated", Some(1_i64))] {
            let (mut world, physical) = indexed(isolation).await;
            let mut command = command.clone();
            command.insert("$db", &world.db);
            if let Some(number) = number {
                let id = bson::Uuid::from_bytes([9; 16]);
                command.extend(doc! {"lsid": {"id": id}, "txnNumber": number});
            }
            let reply = world.app.command(&command).await;
            assert_eq!(reply.get_i32("n").ok(), Some(n), "{reply}");
            assert_eq!(reply.get_i32("nModified").ok(), modified, "{reply}");
            let told = reply.get_array("writeErrors").into_iter().flatten();
            let told = told.map(|error| error.as_document().unwrap());
            let number = |error: &Document, field| error.get_i32(field).unwrap();
            let told = told.map(|error| (number(error, "index"), number(error, "code")));
            assert_eq!(told.collect::<Vec<_>>(), errors, "{reply}");
            assert!(world.automatic(&physical).await.is_empty());
            let count = doc! {"count": "products", "query": {"_id": {"$lt": 0}}, "$db": &world.db};
            let count = world.app.ok(&count).await;
            assert_eq!(count.get_i32("n").unwrap(), n, "{count}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_sent_again_finds_the_index_gone_the_next_time() {
    let arrays = |id: i32| doc! {"_id": id, "category": ["a", "b"], "price": [1, 2]};
    // An update of many, of which some may be done.
    let (mut world, _) = indexed("shared").await;
    let db = world.db.clone();
    let set = doc! {"$set": {"category": ["a", "b"], "price": [1, 2]}};
    let many = doc! {"q": {"category": "c1"}, "u": set, "multi": true};
    let update = doc! {"update": "products", "updates": [many], "$db": &db};
    let reply = world.app.command(&update).await;
    assert!(reply.contains_key("writeErrors"), "{reply}");
    assert!(world.automatic("products").await.is_empty());
    // The documents have another category now, where the first attempt got so far.
    world.app.ok(&update).await;
    // In a transaction, which the server has ended.
    let (world, _) = indexed("shared").await;
    let client = world.proxy.client("alice").await;
    let products = client.database(&world.db).collection("products");
    for is_taken in [false, true] {
        let mut session = client.start_session().await.unwrap();
        session.start_transaction().await.unwrap();
        let insert = products.insert_one(arrays(-3)).session(&mut session).await;
        assert_eq!(insert.is_ok(), is_taken, "{insert:?}");
        if is_taken {
            session.commit_transaction().await.unwrap();
        }
        assert!(world.automatic("products").await.is_empty());
    }
}

#[tokio::test]
async fn an_index_gives_way_to_the_sixty_fourth_of_an_app() {
    for isolation in ["shared", "dedicated"] {
        let (mut world, physical) = indexed(isolation).await;
        let list = doc! {"listIndexes": &physical};
        let cursor = world.upstream.run_cursor_command(list).await.unwrap();
        let there: Vec<Document> = cursor.try_collect().await.unwrap();
        let db = world.db.clone();
        let create = |from: usize, to: usize| {
            let indexes: Vec<Document> = (from..to)
                .map(|n| doc! {"key": {format!("f{n}"): 1}, "name": format!("f{n}")})
                .collect();
            doc! {"createIndexes": "products", "indexes": indexes, "$db": &db}
        };
        let room = 64 - there.len();
        world.app.ok(&create(0, room)).await;
        assert_eq!(world.automatic(&physical).await.len(), 1);
        world.app.ok(&create(room, room + 1)).await;
        assert!(world.automatic(&physical).await.is_empty());
        // The next one is too many, whatever goes.
        let full = world.app.command(&create(room + 1, room + 2)).await;
        assert_eq!(full.get_i32("code").unwrap(), 67, "{full}");
        let text = full.get_str("errmsg").unwrap();
        assert!(
            text.starts_with("add index fails, too many indexes for") && !text.contains("app_id"),
            "{text}"
        );
    }
}
