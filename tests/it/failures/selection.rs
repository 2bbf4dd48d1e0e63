//! Which secondaries are read from, by how far they are behind and how long they take to answer.

use std::time::Duration;

use bson::{Binary, Bson, Document, Timestamp, doc, spec::BinarySubtype};
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, Weather, eventually, unique_name};
use mongodb::Client;

use super::members::{read, relayed, served};

/// Reads of one look.
const READS: u64 = 12;

/// Every member writes down what it serves.
async fn profile(deployment: &Deployment, db: &str) {
    for member in 0..deployment.members().len() {
        let client = Client::with_uri_str(deployment.direct_uri(member)).await;
        let profiled = client.unwrap().database(db);
        profiled.run_command(doc! {"profile": 2}).await.unwrap();
    }
}

/// Who served some reads.
async fn shares(
    deployment: &Deployment,
    db: &str,
    client: &mut RawClient,
    preference: &Document,
) -> Vec<u64> {
    let comment = unique_name("look");
    for _ in 0..READS {
        client.ok(&read(db, preference, &comment)).await;
    }
    served(deployment, db, &comment).await
}

/// The primary's clock of the cluster goes ahead, as it does where any client or member says a later time; what it writes
/// from then on is so much later than what a member has that does not follow.
async fn go_ahead(deployment: &Deployment, db: &str, seconds: u32) {
    let primary = deployment.primary().await.unwrap();
    let address = deployment.hosts()[primary].parse().unwrap();
    let mut primary = RawClient::connect(address).await;
    let hello = primary.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    let time = hello.get_document("$clusterTime").unwrap();
    let now = time.get_timestamp("clusterTime").unwrap();
    let later = Timestamp {
        time: now.time + seconds,
        increment: 1,
    };
    let hash = Binary {
        subtype: BinarySubtype::Generic,
        bytes: vec![0; 20],
    };
    let signature = doc! {"hash": hash, "keyId": 0_i64};
    let insert = doc! {
        "insert": "later", "documents": [{}], "writeConcern": {"w": 2}, "$db": db,
        "$clusterTime": {"clusterTime": later, "signature": signature},
    };
    let reply = primary.ok(&insert).await;
    let time = reply.get("operationTime").and_then(Bson::as_timestamp);
    assert!(time.unwrap() > now, "{reply}");
}

#[tokio::test]
async fn reads_pass_by_a_member_that_is_too_far_behind() {
    // Members with a delay by their configuration are hidden from drivers, as if by `hidden`.
    let deployment =
        Deployment::replica_set(3).mongod_args(&["--setParameter", "enableTestCommands=1"]);
    let deployment = deployment.start().await.unwrap();
    let primary = deployment.primary().await.unwrap();
    let (fresh, behind) = ((primary + 1) % 3, (primary + 2) % 3);
    let proxy = TestProxy::start(&deployment, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let insert = doc! {"insert": "c", "documents": [{}], "writeConcern": {"w": 3}, "$db": db};
    alice.ok(&insert).await;
    let stop = doc! {"configureFailPoint": "rsSyncApplyStop", "mode": "alwaysOn", "$db": "admin"};
    let address = deployment.hosts()[behind].parse().unwrap();
    RawClient::connect(address).await.ok(&stop).await;
    profile(&deployment, db).await;
    go_ahead(&deployment, db, 600).await;

    let at_most = |seconds: i32| doc! {"mode": "secondary", "maxStalenessSeconds": seconds};
    eventually("reads pass by the member that is behind", async || {
        let shares = shares(&deployment, db, &mut alice, &at_most(90)).await;
        (shares[fresh] == READS).then_some(())
    })
    .await;
    for preference in [doc! {"mode": "secondary"}, at_most(3600)] {
        eventually("reads go to both", async || {
            let shares = shares(&deployment, db, &mut alice, &preference).await;
            (shares[fresh] > 0 && shares[behind] > 0).then_some(())
        })
        .await;
    }
    let mut nearest = at_most(90);
    nearest.insert("mode", "nearest");
    let shares = shares(&deployment, db, &mut alice, &nearest).await;
    assert_eq!(shares[behind], 0, "{shares:?}");
}

#[tokio::test]
async fn reads_pass_by_a_member_that_is_slow_until_it_is_no_more() {
    let (deployment, relays, [uri, _]) = relayed().await;
    let proxy = ProxyBuilder::at(&uri).app("alice").start().await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let insert = doc! {"insert": "c", "documents": [{}], "writeConcern": {"w": 3}, "$db": db};
    alice.ok(&insert).await;
    profile(&deployment, db).await;
    let slow = (deployment.primary().await.unwrap() + 1) % 3;
    let nearest = doc! {"mode": "nearest"};
    relays[slow].set(Weather::Slow(Duration::from_millis(100)));
    eventually("reads pass by the slow member", async || {
        let shares = shares(&deployment, db, &mut alice, &nearest).await;
        (shares[slow] == 0).then_some(())
    })
    .await;
    relays[slow].set(Weather::Fair);
    eventually("reads go to it again", async || {
        let shares = shares(&deployment, db, &mut alice, &nearest).await;
        (shares[slow] > 0).then_some(())
    })
    .await;
}
