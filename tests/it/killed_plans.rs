//! Indexes that go while a command runs: those of another app end nothing.

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, batch, cursor_id, is_ok, is_since};

/// Makes a command wait for a millisecond each time that it lets others go first: after each document that it has looked at.
const YIELD: &str = "setYieldAllLocksWait";
/// What the metric of commands that were sent again begins with.
const RETRIES: &str = "mdb_runtime_retries_total ";
/// More than end what the proxy tries.
const INDEXES: i32 = 30;

async fn deployment() -> Deployment {
    let deployment = Deployment::replica_set(1).with_auth();
    let deployment = deployment.mongod_args(&[
        "--setParameter",
        "enableTestCommands=1",
        "--setParameter",
        "internalQueryExecYieldIterations=1",
    ]);
    deployment.start().await.unwrap()
}

struct World {
    proxy: TestProxy,
    admin: mongodb::Database,
    alice: RawClient,
    bob: RawClient,
    db: String,
}

impl World {
    async fn new(deployment: &Deployment) -> Self {
        let proxy = ProxyBuilder::new(deployment).app("alice").app("bob");
        let proxy = proxy.start().await;
        let db = proxy.database_name().to_owned();
        let [mut alice, bob] = [proxy.raw("alice").await, proxy.raw("bob").await];
        let documents: Vec<Document> = (0..2000).map(|n| doc! {"x": n % 7}).collect();
        alice
            .ok(&doc! {"insert": "c", "documents": documents, "$db": &db})
            .await;
        let x = doc! {"key": {"x": 1}, "name": "x_1"};
        alice
            .ok(&doc! {"createIndexes": "c", "indexes": [x], "$db": &db})
            .await;
        let admin = proxy.upstream().await.client().database("admin");
        Self {
            proxy,
            admin,
            alice,
            bob,
            db,
        }
    }

    /// Runs a command of alice's, slowly, while bob drops his indexes one by one. Gives the reply, and how often the proxy sent
    /// the command again.
    async fn run(&mut self, command: Document) -> (Document, u32) {
        let mut command = command;
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        let indexes: Vec<Document> = (0..INDEXES)
            .map(|n| doc! {"key": {format!("f{n}"): 1}, "name": format!("f{n}")})
            .collect();
        let create = doc! {"createIndexes": "c", "indexes": indexes, "$db": &self.db};
        self.bob.ok(&create).await;
        let before = self.retries();
        let slow = doc! {"namespace": format!("{}.c", self.db), "waitForMillis": 1};
        self.set(doc! {"mode": "alwaysOn", "data": slow}).await;
        let drops = async {
            for n in 0..INDEXES {
                let drop = doc! {"dropIndexes": "c", "index": format!("f{n}"), "$db": &self.db};
                self.bob.ok(&drop).await;
            }
        };
        let (reply, ()) = tokio::join!(self.alice.command(&command), drops);
        self.set(doc! {"mode": "off"}).await;
        (reply, self.retries() - before)
    }

    fn retries(&self) -> u32 {
        let metrics = self.proxy.proxy().metrics().render();
        let line = metrics.lines().find_map(|line| line.strip_prefix(RETRIES));
        line.unwrap().parse().unwrap()
    }

    async fn set(&self, how: Document) {
        let mut command = doc! {"configureFailPoint": YIELD};
        command.extend(how);
        self.admin.run_command(command).await.unwrap();
    }
}

#[tokio::test]
async fn indexes_of_another_app_end_no_command() {
    let deployment = deployment().await;
    let mut world = World::new(&deployment).await;
    let by_x = doc! {"$group": {"_id": "$x", "n": {"$sum": 1}}};
    let merge = doc! {"$merge": {"into": "merged"}};
    let sorted = doc! {"$sort": {"_id": 1}};
    let aggregate = |collection: &str, stages: &[&Document]| {
        let pipeline: Vec<Document> = stages.iter().copied().cloned().collect();
        doc! {"aggregate": collection, "pipeline": pipeline, "cursor": {}}
    };
    // A plan with a $group was ended twice; then it had no choice of plans. Servers before 6.0 try it in another way.
    let ended = if is_since(&deployment, "6.0") {
        1..=2
    } else {
        0..=0
    };
    let groups = (0..7).map(|n| doc! {"_id": n, "n": if n < 5 { 286 } else { 285 }});
    let groups: Vec<Document> = groups.collect();
    let (reply, retries) = world.run(aggregate("c", &[&by_x, &sorted])).await;
    assert_eq!(batch(&reply), groups, "{reply}");
    assert!(ended.contains(&retries), "{retries}");

    let (reply, retries) = world.run(aggregate("c", &[&by_x, &merge])).await;
    assert!(is_ok(&reply), "{reply}");
    assert!(ended.contains(&retries), "{retries}");
    let mut merged = aggregate("merged", &[&sorted]);
    merged.insert("$db", &world.db);
    assert_eq!(batch(&world.alice.ok(&merged).await), groups);

    let [from, to] = ["c", "d"].map(|name| format!("{}.{name}", world.db));
    let rename = doc! {"renameCollection": from, "to": to, "$db": "admin"};
    let (reply, _) = world.run(rename).await;
    assert!(is_ok(&reply), "{reply}");
}

#[tokio::test]
async fn an_index_of_ones_own_is_named_as_the_app_knows_it() {
    let deployment = deployment().await;
    let mut world = World::new(&deployment).await;
    let db = world.db.clone();
    let find = doc! {"find": "c", "filter": {"x": 1}, "hint": "x_1", "batchSize": 2, "$db": &db};
    let reply = world.alice.ok(&find).await;
    let drop = doc! {"dropIndexes": "c", "index": "x_1", "$db": &db};
    world.alice.ok(&drop).await;
    let more = doc! {"getMore": cursor_id(&reply), "collection": "c", "$db": &db};
    let reply = world.alice.command(&more).await;
    assert_eq!(reply.get("code"), Some(&Bson::Int32(175)), "{reply}");
    let text = "query plan killed :: index 'x_1' dropped";
    assert_eq!(reply.get_str("errmsg").unwrap(), text);
}
