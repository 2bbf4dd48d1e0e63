//! Changes of a collection by another app, and the locks they take, are in nobody's way for long.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use futures_util::TryStreamExt as _;
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, eventually, is_ok, is_since};

/// Where builds wait.
const HANG: &str = "hangAfterStartingIndexBuild";

struct World {
    proxy: TestProxy,
    upstream: mongodb::Database,
    alice: RawClient,
    bob: RawClient,
    db: String,
}

impl World {
    async fn new(deployment: &Deployment) -> Self {
        let proxy = ProxyBuilder::new(deployment).app("alice").app("bob");
        let proxy = proxy.start().await;
        Self {
            upstream: proxy.upstream().await,
            alice: proxy.raw("alice").await,
            bob: proxy.raw("bob").await,
            db: proxy.database_name().to_owned(),
            proxy,
        }
    }

    async fn hang(&self, mode: &str) {
        let admin = self.upstream.client().database("admin");
        let point = doc! {"configureFailPoint": HANG, "mode": mode};
        admin.run_command(point).await.unwrap();
    }

    /// How often the server has refused a command of this name.
    async fn refused(&self, command: &str) -> i64 {
        let admin = self.upstream.client().database("admin");
        let status = admin.run_command(doc! {"serverStatus": 1}).await.unwrap();
        let metrics = status.get_document("metrics").unwrap();
        let commands = metrics.get_document("commands").unwrap();
        let command = commands.get_document(command).unwrap();
        command.get_i64("failed").unwrap()
    }

    /// Waits for a build.
    async fn is_building(&self) {
        eventually("bob's build", async || {
            let list = doc! {"listIndexes": "c", "includeBuildUUIDs": true};
            let cursor = self.upstream.run_cursor_command(list).await.unwrap();
            let all: Vec<Document> = cursor.try_collect().await.unwrap();
            let builds = all.iter().any(|index| index.contains_key("buildUUID"));
            builds.then_some(())
        })
        .await;
    }

    /// Alice's reply to a command that she sends while bob builds an index of `c`. The build goes on once she has the reply,
    /// or, where it `waits` for the end of the build, the server has refused such a command twice.
    async fn meanwhile(&mut self, mut command: Document, waits: Option<&str>) -> Document {
        let documents: Vec<Document> = (0..20).map(|n| doc! {"x": n}).collect();
        for client in [&mut self.alice, &mut self.bob] {
            let insert = doc! {"insert": "c", "documents": &documents, "$db": &self.db};
            client.ok(&insert).await;
            let index = doc! {"key": {"x": 1}, "name": "x_1"};
            let create = doc! {"createIndexes": "c", "indexes": [index], "$db": &self.db};
            client.ok(&create).await;
        }
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        self.hang("alwaysOn").await;
        let mut bob = self.proxy.raw("bob").await;
        let index = doc! {"key": {"y": 1}, "name": "y_1"};
        let create = doc! {"createIndexes": "c", "indexes": [index], "$db": &self.db};
        let mut alice = self.proxy.raw("alice").await;
        let alice = async {
            self.is_building().await;
            let waited = async {
                if let Some(refused) = waits {
                    let before = self.refused(refused).await;
                    let again = async || (self.refused(refused).await >= before + 2).then_some(());
                    eventually("the proxy to try again", again).await;
                    self.hang("off").await;
                }
            };
            let (reply, ()) = tokio::join!(alice.command(&command), waited);
            self.hang("off").await;
            reply
        };
        let (_, reply) = tokio::join!(bob.ok(&create), alice);
        let drop = doc! {"dropIndexes": "c", "index": "y_1", "$db": &self.db};
        self.bob.ok(&drop).await;
        reply
    }
}

#[tokio::test]
async fn a_build_of_another_app_is_waited_for() {
    let deployment = Deployment::replica_set(1).with_auth();
    let deployment = deployment.mongod_args(&["--setParameter", "enableTestCommands=1"]);
    let deployment = deployment.start().await.unwrap();
    let mut world = World::new(&deployment).await;
    // Servers since 5.2 drop an index beside the build of another one.
    let to_drop = (!is_since(&deployment, "5.2")).then_some("dropIndexes");
    let [from, to] = ["c", "d"].map(|name| format!("{}.{name}", world.db));
    let cases = [
        (
            doc! {"collMod": "c", "index": {"name": "x_1", "hidden": true}},
            Some("collMod"),
        ),
        (doc! {"dropIndexes": "c", "index": "x_1"}, to_drop),
        (
            doc! {"renameCollection": from, "to": to, "$db": "admin"},
            to_drop,
        ),
        (doc! {"drop": "c"}, to_drop),
        (doc! {"dropDatabase": 1}, to_drop),
    ];
    for (command, waits) in cases {
        let reply = world.meanwhile(command.clone(), waits).await;
        assert!(is_ok(&reply), "{command}: {reply}");
    }
}

/// A statement of the first transaction of a session.
fn statement(mut command: Document, starts: bool) -> Document {
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes: vec![7; 16],
    };
    command.extend(doc! {"lsid": {"id": id}, "txnNumber": 1_i64, "autocommit": false});
    if starts {
        command.insert("startTransaction", true);
    }
    command
}

#[tokio::test]
async fn a_transaction_does_not_wait_for_one_who_waits_for_it() {
    let deployment = Deployment::replica_set(1).with_auth();
    let deployment = deployment.start().await.unwrap();
    let mut world = World::new(&deployment).await;
    let db = world.db.clone();
    for client in [&mut world.alice, &mut world.bob] {
        let insert = doc! {"insert": "c", "documents": [{"x": 1}], "$db": &db};
        client.ok(&insert).await;
    }
    let update = doc! {"u": {"$set": {"x": 2}}, "q": {}};
    let update = doc! {"update": "c", "updates": [update], "$db": &db};
    world.alice.ok(&statement(update, true)).await;
    // Bob wants the database for himself, as `$out` did before 5.0, while alice's transaction has a lock. It goes on with a
    // collection that the proxy does not know yet.
    let out = doc! {"aggregate": "c", "pipeline": [{"$out": "o"}], "cursor": {}, "$db": &db};
    let admin = world.upstream.client().database("admin");
    let has_fine_locks = is_since(&deployment, "5.0");
    let goes_on = async {
        if !has_fine_locks {
            eventually("bob to wait for a lock", async || {
                let current = doc! {"currentOp": 1, "waitingForLock": true};
                let current = admin.run_command(current).await.unwrap();
                let waiting = current.get_array("inprog").unwrap();
                (!waiting.is_empty()).then_some(())
            })
            .await;
        }
        let find = doc! {"find": "unknown", "$db": &db};
        let reply = world.alice.command(&statement(find, false)).await;
        if is_ok(&reply) {
            let end = doc! {"commitTransaction": 1, "$db": "admin"};
            world.alice.ok(&statement(end, false)).await;
        }
        reply
    };
    let (_, reply) = tokio::join!(world.bob.ok(&out), goes_on);
    if has_fine_locks {
        assert!(is_ok(&reply), "{reply}");
    } else {
        let labels = Bson::from(vec!["TransientTransactionError"]);
        assert_eq!(reply.get("errorLabels"), Some(&labels), "{reply}");
        assert_eq!(reply.get("code"), Some(&Bson::Int32(24)), "{reply}");
    }
}
