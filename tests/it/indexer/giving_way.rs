//! An automatic index never stands in an app's way.

use super::*;

#[tokio::test]
async fn an_index_gives_way_to_a_document_that_it_does_not_take() {
    for isolation in ["shared", "dedicated"] {
        let mut world = world(isolation, &[]).await;
        world.stock().await;
        world.shop(20).await;
        world.tick().await;
        let physical = match isolation {
            "shared" => "products".to_owned(),
            _ => format!("products@{}", world.proxy.slug("alice")),
        };
        assert_eq!(world.automatic(&physical).await.len(), 1);
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
