//! An index that another app builds is in no command's way.

use bson::{Document, doc};
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
