//! Shapes of other sides: what `$lookup` asks of the collection that it joins.

use super::*;

#[tokio::test]
async fn a_pipeline_that_compares_with_variables_gets_its_index() {
    let mut world = world("shared", &[]).await;
    let db = world.db.clone();
    let orders: Vec<Document> = (0..2000)
        .map(|n| doc! {"user": n % 40, "open": n % 2 == 0, "at": n})
        .collect();
    let insert = doc! {"insert": "orders", "documents": orders, "$db": &db};
    world.app.ok(&insert).await;
    let users: Vec<Document> = (0..40).map(|n| doc! {"_id": n}).collect();
    let insert = doc! {"insert": "users", "documents": users, "$db": &db};
    world.app.ok(&insert).await;
    let join = async |world: &mut World| {
        let found = doc! {
            "from": "orders", "let": {"user": "$_id"}, "as": "orders",
            "pipeline": [
                {"$match": {"$expr": {"$eq": ["$user", "$$user"]}}}, {"$match": {"open": true}}, {"$sort": {"at": 1}},
            ],
        };
        let pipeline = [
            doc! {"$match": {"_id": {"$lt": 2}}},
            doc! {"$lookup": found},
        ];
        let aggregate = doc! {"aggregate": "users", "pipeline": pipeline.to_vec(), "cursor": {}, "$db": &world.db};
        let users = batch(&world.app.ok(&aggregate).await);
        let counts = users
            .iter()
            .map(|user| user.get_array("orders").unwrap().len());
        assert_eq!(counts.collect::<Vec<_>>(), [50, 0]);
    };
    for _ in 0..20 {
        join(&mut world).await;
    }
    world.tick().await;
    let name = world.name("open_1_user_1_at_1");
    let decisions = world.decisions("orders").await;
    assert_eq!(
        world.automatic_names("orders").await,
        [name.as_str()],
        "{decisions:?}"
    );
    assert_eq!(decisions, ["build proved"]);
    join(&mut world).await;
}
