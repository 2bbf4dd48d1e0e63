//! In front of several mongoses. They are stand-ins ([`Mongos`]) before one real server.

use std::time::Duration;

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_testbed::Deployment;
use mdb_tests::{
    Mongos, ProxyBuilder, RawClient, TestProxy, batch, cursor_id, eventually, is_ok, logs, shared,
};
use mongodb::error::TRANSIENT_TRANSACTION_ERROR;

/// No distance, but for how busy the machine is: within [`WINDOW`].
const NEAR: Duration = Duration::ZERO;
/// Out of [`WINDOW`].
const FAR: Duration = Duration::from_secs(2);
/// `localThresholdMS` of the proxy's connection string. The default of 15 ms is too little for a busy machine.
const WINDOW: Duration = Duration::from_secs(1);

struct Cluster {
    /// Ends before the mongoses do, which it would complain about.
    proxy: TestProxy,
    routers: [Mongos; 2],
    alice: RawClient,
    db: String,
}

impl Cluster {
    /// Two mongoses at these distances before the server of all tests, a proxy, and a collection `c` of 100 documents.
    async fn new(distances: [Duration; 2]) -> Self {
        Self::before(shared().await, distances).await
    }

    async fn before(deployment: &Deployment, distances: [Duration; 2]) -> Self {
        let server = deployment.member(0).address().parse().unwrap();
        let routers = [
            Mongos::before(server, distances[0]).await,
            Mongos::before(server, distances[1]).await,
        ];
        let uri = deployment.proxy_uri();
        let (credentials, _) = uri.split_once('@').unwrap();
        let addresses = routers.each_ref().map(Mongos::address);
        let uri = format!(
            "{credentials}@{},{}/?authSource=admin&localThresholdMS={}",
            addresses[0],
            addresses[1],
            WINDOW.as_millis()
        );
        let proxy = ProxyBuilder::at(&uri).app("alice").start().await;
        eventually("the proxy knows both", async || {
            let are_known = routers.iter().all(|router| router.count("buildInfo") > 0);
            are_known.then_some(())
        })
        .await;
        let mut alice = proxy.raw("alice").await;
        let db = proxy.database_name().to_owned();
        let documents: Vec<Document> = (0..100).map(|n| doc! {"_id": n, "n": 0}).collect();
        alice
            .ok(&doc! {"insert": "c", "documents": documents, "$db": &db})
            .await;
        Self {
            proxy,
            routers,
            alice,
            db,
        }
    }

    fn counts(&self, command: &str) -> [usize; 2] {
        self.routers.each_ref().map(|router| router.count(command))
    }

    /// What the document is by now.
    async fn value(&mut self, id: i32) -> i32 {
        let find = doc! {"find": "c", "filter": {"_id": id}, "$db": &self.db};
        let found = batch(&self.alice.ok(&find).await);
        found[0].get_i32("n").unwrap()
    }

    fn raise(&self, id: i32) -> Document {
        let update = doc! {"q": {"_id": id}, "u": {"$inc": {"n": 1}}};
        doc! {"update": "c", "updates": [update], "$db": &self.db}
    }

    /// Begins a transaction that raises a document; where it is, and the token that the client was given.
    async fn begin(&mut self, session: u8, id: i32) -> (usize, Document) {
        let before = self.routers.each_ref().map(Mongos::transactions);
        let begun = self
            .alice
            .ok(&statement(self.raise(id), session, true))
            .await;
        let after = self.routers.each_ref().map(Mongos::transactions);
        let place = (0..2).find(|at| after[*at] > before[*at]).unwrap();
        (place, begun.get_document("recoveryToken").unwrap().clone())
    }
}

/// A command as a statement of transaction 1 of a session.
fn statement(mut command: Document, session: u8, starts: bool) -> Document {
    let bytes = vec![session; 16];
    let id = Binary {
        subtype: BinarySubtype::Uuid,
        bytes,
    };
    command
        .extend(doc! {"lsid": {"id": Bson::Binary(id)}, "txnNumber": 1_i64, "autocommit": false});
    if starts {
        command.insert("startTransaction", true);
    }
    command
}

fn ending(name: &str, session: u8, token: &Document) -> Document {
    let body = doc! {name: 1, "recoveryToken": token, "$db": "admin"};
    statement(body, session, false)
}

#[tokio::test]
async fn commands_are_spread_over_those_within_the_latency_window() {
    // Of the first proxy, which ends with its mongoses.
    logs::expect("mdb_upstream::probe");
    for (distances, both) in [([NEAR, NEAR], true), ([NEAR, FAR], false)] {
        let mut cluster = Cluster::new(distances).await;
        let find = doc! {"find": "c", "limit": 1, "$db": &cluster.db};
        let before = cluster.counts("find");
        for _ in 0..40 {
            cluster.alice.ok(&find).await;
        }
        let after = cluster.counts("find");
        assert!(after[0] > before[0], "{before:?} {after:?}");
        assert_eq!(after[1] > before[1], both, "{before:?} {after:?}");
    }
}

#[tokio::test]
async fn a_transaction_stays_on_the_mongos_that_it_began_on() {
    let mut cluster = Cluster::new([NEAR, NEAR]).await;
    for session in 1..=20 {
        let id = i32::from(session);
        let (place, token) = cluster.begin(session, id).await;
        let router = cluster.routers[place].address().to_string();
        assert_eq!(token, doc! {"recoveryShardId": router});
        for _ in 0..3 {
            let raise = statement(cluster.raise(id), session, false);
            cluster.alice.ok(&raise).await;
            // What is outside of the transaction goes anywhere.
            assert_eq!(cluster.value(id).await, 0);
        }
        let find =
            doc! {"find": "c", "filter": {"_id": {"$lt": 10}}, "batchSize": 2, "$db": &cluster.db};
        let found = cluster.alice.ok(&statement(find, session, false)).await;
        let more = doc! {"getMore": cursor_id(&found), "collection": "c", "$db": &cluster.db};
        cluster.alice.ok(&statement(more, session, false)).await;
        let (end, value) = match session % 2 {
            0 => ("commitTransaction", 4),
            _ => ("abortTransaction", 0),
        };
        cluster.alice.ok(&ending(end, session, &token)).await;
        assert_eq!(cluster.value(id).await, value);
    }
    for router in &cluster.routers {
        assert_eq!((router.refused(), router.recovered()), (0, 0));
        assert!(router.transactions() > 0);
    }
}

/// The official driver takes the proxy for a mongos: it gives the token back by itself.
#[tokio::test]
async fn the_drivers_own_transactions_go_through() {
    let cluster = Cluster::new([NEAR, NEAR]).await;
    let client = cluster.proxy.client("alice").await;
    let things = client.database(&cluster.db).collection::<Document>("c");
    let mut session = client.start_session().await.unwrap();
    for id in 0..20 {
        session.start_transaction().await.unwrap();
        for _ in 0..2 {
            things
                .update_one(doc! {"_id": id}, doc! {"$inc": {"n": 1}})
                .session(&mut session)
                .await
                .unwrap();
        }
        session.commit_transaction().await.unwrap();
        // A commit may be asked for again.
        session.commit_transaction().await.unwrap();
    }
    let raised = things.count_documents(doc! {"n": 2}).await.unwrap();
    assert_eq!(raised, 20);
    for router in &cluster.routers {
        assert_eq!((router.refused(), router.recovered()), (0, 0));
    }
}

#[tokio::test]
async fn a_commit_goes_to_another_mongos_when_its_own_is_gone() {
    for end in ["commitTransaction", "abortTransaction"] {
        let mut cluster = Cluster::new([NEAR, NEAR]).await;
        logs::expect("mdb_upstream::probe");
        let (place, token) = cluster.begin(1, 5).await;
        cluster.routers[place].go();
        let reply = cluster.alice.ok(&ending(end, 1, &token)).await;
        let other = &cluster.routers[1 - place];
        assert_eq!(other.recovered(), 1, "{reply}");
        let commits = end == "commitTransaction";
        if commits {
            // And again: the other one knows it by the token only.
            cluster.alice.ok(&ending(end, 1, &token)).await;
        }
        assert_eq!(cluster.value(5).await, i32::from(commits));
    }
}

#[tokio::test]
async fn a_transaction_whose_mongos_is_gone_may_be_tried_again() {
    let deployment = Deployment::replica_set(1).with_auth();
    let deployment = deployment.start().await.unwrap();
    let mut cluster = Cluster::before(&deployment, [NEAR, NEAR]).await;
    logs::expect("mdb_upstream::probe");
    let (place, _) = cluster.begin(1, 5).await;
    cluster.routers[place].go();
    let raise = statement(cluster.raise(5), 1, false);
    let lost = cluster.alice.command(&raise).await;
    let labels = lost.get_array("errorLabels").unwrap();
    assert!(
        labels.contains(&TRANSIENT_TRANSACTION_ERROR.into()),
        "{lost}"
    );
    assert_eq!(cluster.routers[1 - place].refused(), 0);
    // The server ends what the mongos left open; until then another transaction conflicts with it.
    end_all_sessions(&deployment).await;
    let (again, token) = cluster.begin(2, 5).await;
    assert_eq!(again, 1 - place);
    cluster
        .alice
        .ok(&ending("commitTransaction", 2, &token))
        .await;
    assert_eq!(cluster.value(5).await, 1);
}

/// Ends all transactions of the proxy's user, as a shard does with those of a router that is gone: not on the server of all
/// tests, whose commands it would end as well.
async fn end_all_sessions(deployment: &Deployment) {
    let server = mongodb::Client::with_uri_str(deployment.uri()).await;
    let user = doc! {"user": mdb_testbed::PROXY_USER, "db": "admin"};
    let open = doc! {"killAllSessions": [user]};
    let admin = server.unwrap().database("admin");
    admin.run_command(open).await.unwrap();
}

#[tokio::test]
async fn cursors_stay_on_their_mongos_and_end_with_it() {
    let mut cluster = Cluster::new([NEAR, NEAR]).await;
    logs::expect("mdb_upstream::probe");
    let find = doc! {"find": "c", "batchSize": 10, "$db": &cluster.db};
    let mut cursors = [None, None];
    while cursors.contains(&None) {
        let before = cluster.counts("find");
        let id = cursor_id(&cluster.alice.ok(&find).await);
        let after = cluster.counts("find");
        let place = (0..2).find(|at| after[*at] > before[*at]).unwrap();
        cursors[place] = Some(id);
    }
    let more = |cursor: Option<i64>, db: &str| doc! {"getMore": cursor.unwrap(), "collection": "c", "batchSize": 10, "$db": db};
    for cursor in cursors {
        for _ in 0..3 {
            let more = more(cursor, &cluster.db);
            assert_eq!(batch(&cluster.alice.ok(&more).await).len(), 10);
        }
    }
    assert_eq!(cluster.routers.each_ref().map(Mongos::refused), [0, 0]);
    cluster.routers[0].go();
    let lost = cluster.alice.command(&more(cursors[0], &cluster.db)).await;
    assert!(!is_ok(&lost), "{lost}");
    assert_eq!(cluster.routers[1].refused(), 0, "{lost}");
    let kept = cluster.alice.ok(&more(cursors[1], &cluster.db)).await;
    assert_eq!(batch(&kept).len(), 10);
}

#[tokio::test]
async fn one_mongos_that_is_gone_is_not_noticed() {
    let mut cluster = Cluster::new([NEAR, NEAR]).await;
    logs::expect("mdb_upstream::probe");
    let client = cluster.proxy.client("alice").await;
    let things = client.database(&cluster.db).collection::<Document>("c");
    for id in 0..100 {
        if id == 20 {
            cluster.routers[0].go();
        }
        things
            .update_one(doc! {"_id": id}, doc! {"$inc": {"n": 1}})
            .await
            .unwrap();
        assert!(things.find_one(doc! {"_id": id}).await.unwrap().is_some());
    }
    let raised = things.count_documents(doc! {"n": 1}).await.unwrap();
    assert_eq!(raised, 100);
    let (place, token) = cluster.begin(1, 5).await;
    assert_eq!(place, 1);
    cluster
        .alice
        .ok(&ending("abortTransaction", 1, &token))
        .await;
}

/// As a driver with a timeout of its own does with its way to the proxy.
#[tokio::test]
async fn the_way_to_the_server_is_taken_off_the_time_of_a_command() {
    const ASKED: i32 = 3_600_000;
    let mut cluster = Cluster::new([FAR, FAR]).await;
    let find = doc! {"find": "c", "limit": 1, "maxTimeMS": ASKED, "$db": &cluster.db};
    // Known once it was measured twice.
    eventually("the way is taken off", async || {
        cluster.alice.ok(&find).await;
        let given = cluster.routers.iter().filter_map(Mongos::last_max_time);
        let far = i32::try_from(FAR.as_millis()).unwrap();
        given.min().filter(|given| *given <= ASKED - far)
    })
    .await;
}
