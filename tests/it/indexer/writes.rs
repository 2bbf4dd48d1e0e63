//! What writes say against an index.

use super::*;

impl World {
    /// So many documents, of 100 to a category.
    async fn write(&mut self, documents: i32) {
        let all: Vec<Document> = (0..documents)
            .map(|n| doc! {"category": format!("c{}", n % (documents / 100)), "price": n})
            .collect();
        let insert = doc! {"insert": "products", "documents": all, "$db": &self.db};
        self.app.ok(&insert).await;
    }

    async fn look(&mut self, times: i32) {
        for n in 0..times {
            let category = format!("c{}", n % 40);
            self.find(doc! {"category": category}, doc! {"price": 1})
                .await;
        }
    }
}

#[tokio::test]
async fn an_import_is_not_held_against_an_index_for_ever() {
    let mut world = world("shared", &[]).await;
    // Somebody has looked before there was much.
    world.write(100).await;
    world.look(1).await;
    world.write(4000).await;
    world.look(30).await;
    world.tick().await;
    assert_eq!(world.decisions("products").await, ["advise write_heavy"]);
    // It goes on like that.
    world.write(1000).await;
    world.look(20).await;
    world.tick_after(11 * 60).await;
    assert!(world.automatic("products").await.is_empty());
    // Nineteen calls without a write say nothing yet.
    world.look(19).await;
    world.tick_after(22 * 60).await;
    assert!(world.automatic("products").await.is_empty());
    world.look(20).await;
    world.tick_after(33 * 60).await;
    let name = world.name("category_1_price_1");
    assert_eq!(world.automatic_names("products").await, [name.as_str()]);
    assert_eq!(
        world.decisions("products").await,
        ["advise write_heavy", "build proved"]
    );
}

/// An index of several fields is of one app, whose writes alone it costs; one of a single field is of all.
#[tokio::test]
async fn what_others_write_is_not_held_against_an_apps_own_index() {
    let mut world = world("shared", &[]).await;
    world.write(2000).await;
    world.look(1).await;
    let price = async |world: &mut World, times: i32| {
        for n in 0..times {
            world.find(doc! {"price": n}, doc! {}).await;
        }
    };
    price(&mut world, 1).await;
    world.tick().await;
    let alice = std::mem::replace(&mut world.app, world.proxy.raw("bob").await);
    world.write(4000).await;
    world.look(1).await;
    world.write(4000).await;
    world.look(25).await;
    world.app = alice;
    world.look(25).await;
    price(&mut world, 25).await;
    for _ in 0..2 {
        world.tick().await;
    }
    let name = world.name("category_1_price_1");
    let decisions = world.decisions("products").await;
    assert_eq!(
        world.automatic_names("products").await,
        [name.as_str()],
        "{decisions:?}"
    );
    // In the order of names: that of all, alice's own, and bob's.
    assert_eq!(
        decisions,
        ["advise write_heavy", "build proved", "advise write_heavy"]
    );
}
