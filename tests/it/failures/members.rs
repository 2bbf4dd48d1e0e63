//! Members that fail, and members that come and go.

use super::*;
use crate::failover::{Load, Set};
use mdb_tests::is_since;
use mongodb::options::{CollectionOptions, WriteConcern};
use tokio::task::LocalSet;

/// Changes the configuration of a replica set. `change` gets its members.
async fn reconfigure(deployment: &Deployment, change: impl Fn(&mut Vec<bson::Bson>)) {
    let primary = deployment.primary().await.unwrap();
    let uri = deployment.direct_uri(primary);
    let admin = Client::with_uri_str(uri).await.unwrap().database("admin");
    let config = admin.run_command(doc! {"replSetGetConfig": 1}).await;
    let config = config.unwrap();
    let mut config = config.get_document("config").unwrap().clone();
    change(config.get_array_mut("members").unwrap());
    let version = config.get_i32("version").unwrap();
    config.insert("version", version + 1);
    // By force, so that one step does not have to wait for the one before.
    let change = doc! {"replSetReconfig": config, "force": true};
    admin.run_command(change).await.unwrap();
}

/// A set of three whose members know each other by relays, and so does the proxy.
pub(crate) async fn relayed() -> (Deployment, Vec<Relay>, [String; 2]) {
    let deployment = Deployment::replica_set(3)
        .with_auth()
        .start()
        .await
        .unwrap();
    let mut relays = Vec::new();
    let mut uris = [deployment.proxy_uri(), deployment.uri()];
    for host in deployment.hosts() {
        let relay = Relay::to(host.parse().unwrap());
        uris = uris.map(|uri| uri.replace(&host, &relay.address().to_string()));
        relays.push(relay);
    }
    let addresses: Vec<String> = relays.iter().map(|r| r.address().to_string()).collect();
    reconfigure(&deployment, |members| {
        for (member, address) in members.iter_mut().zip(&addresses) {
            member.as_document_mut().unwrap().insert("host", address);
        }
    })
    .await;
    deployment.all_in_service().await.unwrap();
    // A driver drops a member that calls itself by another name than the one it is known by.
    for (member, address) in addresses.iter().enumerate() {
        let client = Client::with_uri_str(deployment.direct_uri(member)).await;
        let admin = client.unwrap().database("admin");
        eventually("a member knows its new name", async || {
            let hello = admin.run_command(doc! {"hello": 1}).await.ok()?;
            (hello.get_str("me").ok()? == address).then_some(())
        })
        .await;
    }
    (deployment, relays, uris)
}

/// SIGSTOP: its connections stay, and nothing comes over them.
#[tokio::test]
async fn a_paused_primary_is_not_noticed() {
    let run = async {
        let mut set = Set::new().await;
        let load = Load::start(&set.documents);
        load.gets_on().await;
        let paused = set.deployment.primary().await.unwrap();
        set.deployment.member(paused).pause().unwrap();
        load.gets_on().await;
        set.check_witness().await;
        set.deployment.member(paused).resume().unwrap();
        load.gets_on().await;
        load.finish(&set.upstream().await).await;
    };
    LocalSet::new().run_until(run).await;
}

/// Nothing reaches it any more, neither from the proxy nor from the other members, which elect another.
#[tokio::test]
async fn a_primary_that_is_partitioned_away_is_not_noticed() {
    let run = async {
        let (deployment, relays, [uri, administrator]) = relayed().await;
        logs::expect("mdb_upstream::probe");
        let proxy = ProxyBuilder::at(&uri).app("alice").start().await;
        let db = proxy.database_name();
        let options = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        let documents = proxy.client("alice").await.database(db);
        let documents = documents.collection_with_options("c", options);
        let load = Load::start(&documents);
        load.gets_on().await;
        let cut_off = deployment.primary().await.unwrap();
        relays[cut_off].set(Weather::Silent);
        eventually("the others elect another primary", async || {
            (deployment.primary().await.unwrap() != cut_off).then_some(())
        })
        .await;
        load.gets_on().await;
        relays[cut_off].set(Weather::Fair);
        load.gets_on().await;
        let upstream = Client::with_uri_str(administrator).await.unwrap();
        load.finish(&upstream.database(db).collection("c")).await;
    };
    LocalSet::new().run_until(run).await;
}

/// The driver's own way to run a transaction, while the primary steps down: no error, and every one counts once.
#[tokio::test]
async fn transactions_go_on_while_the_primary_steps_down() {
    let set = Set::new().await;
    let client = set.proxy.client("alice").await;
    let counters = client.database(set.proxy.database_name());
    let counters = counters.collection::<Document>("c");
    let both = [doc! {"_id": 0, "n": 0}, doc! {"_id": 1, "n": 0}];
    counters.insert_many(both).await.unwrap();
    for round in 0..60 {
        // Who has stepped down cannot be elected for 20 seconds, so not more often than there are others.
        if round == 10 || round == 40 {
            set.deployment.step_down().await.unwrap();
        }
        let mut session = client.start_session().await.unwrap();
        let run = session.start_transaction().and_run2(async |session| {
            for id in [0, 1] {
                let raised = counters.update_one(doc! {"_id": id}, doc! {"$inc": {"n": 1}});
                raised.session(&mut *session).await?;
            }
            Ok(())
        });
        run.await.unwrap();
    }
    for id in [0, 1] {
        let found = counters.find_one(doc! {"_id": id}).await.unwrap().unwrap();
        assert_eq!(found.get_i32("n").unwrap(), 60);
    }
}

pub(crate) fn read(db: &str, preference: &Document, comment: &str) -> Document {
    doc! {
        "find": "c", "comment": comment, "maxTimeMS": 30_000, "$readPreference": preference.clone(), "$db": db,
    }
}

/// How many reads with this comment each member has served.
pub(crate) async fn served(deployment: &Deployment, db: &str, comment: &str) -> Vec<u64> {
    let mut all = Vec::new();
    for member in 0..deployment.members().len() {
        let client = Client::with_uri_str(deployment.direct_uri(member)).await;
        let profile = client.unwrap().database(db);
        let profile = profile.collection::<Document>("system.profile");
        let filter = doc! {"command.comment": comment, "command.find": "c"};
        // A member that was removed answers nothing.
        all.push(profile.count_documents(filter).await.unwrap_or_default());
    }
    all
}

/// One secondary has a tag, the other is hidden and an hour behind.
#[tokio::test]
async fn reads_go_where_tags_and_staleness_send_them_and_never_to_hidden_members() {
    let deployment = Deployment::replica_set(3)
        .with_auth()
        .start()
        .await
        .unwrap();
    let primary = deployment.primary().await.unwrap();
    let (tagged, hidden) = ((primary + 1) % 3, (primary + 2) % 3);
    let delay = if is_since(&deployment, "5.0") {
        "secondaryDelaySecs"
    } else {
        "slaveDelay"
    };
    reconfigure(&deployment, |members| {
        let east = doc! {"dc": "east"};
        let member = members[tagged].as_document_mut().unwrap();
        member.insert("tags", east.clone());
        let member = members[hidden].as_document_mut().unwrap();
        member.extend(doc! {"tags": east, "hidden": true, "priority": 0, delay: 3600_i64});
    })
    .await;
    let proxy = ProxyBuilder::new(&deployment)
        .upstream("election_wait: 2s")
        .app("alice");
    let proxy = proxy.start().await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let concern = doc! {"w": "majority"};
    alice
        .ok(&doc! {"insert": "c", "documents": [{}], "writeConcern": concern, "$db": db})
        .await;
    for member in 0..3 {
        let client = Client::with_uri_str(deployment.direct_uri(member)).await;
        let profiled = client.unwrap().database(db);
        profiled.run_command(doc! {"profile": 2}).await.unwrap();
    }
    let only = |member: usize| {
        let mut all = vec![0; 3];
        all[member] = 5;
        all
    };
    let east = || vec![doc! {"dc": "east"}];
    for (comment, preference, expected) in [
        ("plain", doc! {"mode": "secondary"}, only(tagged)),
        (
            "tag",
            doc! {"mode": "nearest", "tags": east()},
            only(tagged),
        ),
        (
            "second tag",
            doc! {"mode": "secondaryPreferred", "tags": [{"dc": "west"}, {"dc": "east"}]},
            only(tagged),
        ),
        (
            "no such tag",
            doc! {"mode": "secondaryPreferred", "tags": [{"dc": "west"}]},
            only(primary),
        ),
        (
            "fresh",
            doc! {"mode": "secondary", "maxStalenessSeconds": 90},
            only(tagged),
        ),
    ] {
        for _ in 0..5 {
            alice.ok(&read(db, &preference, comment)).await;
        }
        assert_eq!(
            served(&deployment, db, comment).await,
            expected,
            "{comment}"
        );
    }
    let nowhere = doc! {"mode": "secondary", "tags": [{"dc": "west"}]};
    assert_eq!(alice.fails(&read(db, &nowhere, "nowhere")).await, 133);
    let too_fresh = doc! {"mode": "secondary", "maxStalenessSeconds": 89};
    assert_eq!(alice.fails(&read(db, &too_fresh, "too fresh")).await, 160);
}

/// A member that is removed is asked nothing more; one that is added again is.
#[tokio::test]
async fn members_come_and_go_while_clients_read() {
    let deployment = Deployment::replica_set(3)
        .with_auth()
        .start()
        .await
        .unwrap();
    logs::expect("mdb_upstream::probe");
    let proxy = TestProxy::start(&deployment, &["alice"]).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let concern = doc! {"w": 3};
    alice
        .ok(&doc! {"insert": "c", "documents": [{}], "writeConcern": concern, "$db": db})
        .await;
    let primary = deployment.primary().await.unwrap();
    let (leaving, staying) = ((primary + 1) % 3, (primary + 2) % 3);
    for member in [leaving, staying] {
        let client = Client::with_uri_str(deployment.direct_uri(member)).await;
        let profiled = client.unwrap().database(db);
        profiled.run_command(doc! {"profile": 2}).await.unwrap();
    }
    let preference = doc! {"mode": "secondary"};
    let removed = std::cell::RefCell::new(None);
    reconfigure(&deployment, |members| {
        *removed.borrow_mut() = Some(members.remove(leaving));
    })
    .await;
    eventually("reads no longer go to the member that left", async || {
        let comment = unique_name("left");
        for _ in 0..10 {
            alice.ok(&read(db, &preference, &comment)).await;
        }
        let served = served(&deployment, db, &comment).await;
        (served[staying] == 10).then_some(())
    })
    .await;
    let back = removed.take().unwrap();
    reconfigure(&deployment, |members| members.push(back.clone())).await;
    eventually("reads go to the member that came back", async || {
        let comment = unique_name("back");
        for _ in 0..10 {
            alice.ok(&read(db, &preference, &comment)).await;
        }
        (served(&deployment, db, &comment).await[leaving] > 0).then_some(())
    })
    .await;
}

/// While nobody is there a command waits as long as it may, and drivers are told what they may do next.
#[tokio::test]
async fn what_has_waited_for_a_member_in_vain_is_labelled() {
    let deployment = Deployment::replica_set(1).with_auth().start();
    let deployment = deployment.await.unwrap();
    logs::expect("mdb_upstream::probe");
    let builder = ProxyBuilder::new(&deployment).upstream("election_wait: 500ms");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let insert = doc! {"insert": "c", "documents": [{}], "$db": db};
    alice.ok(&insert).await;
    deployment.member(0).kill().unwrap();
    let with = |mut command: Document, more: Document| {
        command.extend(more);
        command
    };
    let numbered = doc! {"lsid": session(), "txnNumber": 1_i64};
    let inside = with(numbered.clone(), doc! {"autocommit": false});
    let first = with(inside.clone(), doc! {"startTransaction": true});
    let watch = doc! {"aggregate": "c", "pipeline": [{"$changeStream": {}}], "cursor": {}};
    let commit = doc! {"commitTransaction": 1, "$db": "admin"};
    let cases: [(Document, &[&str]); 6] = [
        (doc! {"find": "c", "$db": db}, &[]),
        (insert.clone(), &[]),
        (
            with(insert.clone(), numbered),
            &["RetryableWriteError", "NoWritesPerformed"],
        ),
        (with(insert, first), &["TransientTransactionError"]),
        (with(commit, inside), &["RetryableWriteError"]),
        (
            with(watch, doc! {"$db": db}),
            &["ResumableChangeStreamError"],
        ),
    ];
    for (command, expected) in cases {
        let reply = alice.command(&command).await;
        let code = reply.get_i32("code").unwrap();
        // 6: the first to come meets the connection that broke.
        assert!(matches!(code, 6 | 133), "{command}: {reply}");
        if code == 133 {
            assert_eq!(labels(&reply), expected, "{command}: {reply}");
        }
        // Its own time is shorter: no label, as from a server.
        let short = with(command, doc! {"maxTimeMS": 100});
        let reply = alice.command(&short).await;
        assert_eq!(reply.get_i32("code").ok(), Some(50), "{short}: {reply}");
        assert_eq!(labels(&reply), [""; 0], "{short}: {reply}");
    }
}

/// What the proxy does in steps of its own holds where the client's write concern says, or the reply tells that it does not.
#[tokio::test]
async fn a_write_concern_is_awaited_by_what_the_proxy_composes() {
    let deployment = Deployment::replica_set(3)
        .with_auth()
        .start()
        .await
        .unwrap();
    deployment.all_in_service().await.unwrap();
    logs::expect("mdb_upstream::probe");
    let proxy = ProxyBuilder::new(&deployment).app("alice").start().await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let insert = doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db};
    alice.ok(&insert).await;
    let primary = deployment.primary().await.unwrap();
    let paused = (primary + 1) % 3;
    deployment.member(paused).pause().unwrap();
    let everywhere = doc! {"w": 3, "wtimeout": 300};
    let to = format!("{db}.renamed");
    for command in [
        doc! {"create": "made", "$db": db},
        doc! {"renameCollection": format!("{db}.c"), "to": to, "$db": "admin"},
        doc! {"collMod": "renamed", "validator": {"a": {"$exists": false}}, "$db": db},
        doc! {"aggregate": "renamed", "pipeline": [{"$out": "made"}], "cursor": {}, "$db": db},
        doc! {"drop": "renamed", "$db": db},
        doc! {"dropDatabase": 1, "$db": db},
    ] {
        let mut command = command;
        command.insert("writeConcern", everywhere.clone());
        let reply = alice.ok(&command).await;
        let error = reply.get_document("writeConcernError");
        let code = error.unwrap_or_else(|_| panic!("{command}: {reply}"));
        assert_eq!(code.get_i32("code").unwrap(), 64, "{command}: {reply}");
    }
    deployment.member(paused).resume().unwrap();
    let create = doc! {"create": "again", "writeConcern": {"w": 3}, "$db": db};
    let reply = alice.ok(&create).await;
    assert!(!reply.contains_key("writeConcernError"), "{reply}");
    let create = doc! {"create": "never", "writeConcern": {"w": -1}, "$db": db};
    assert_eq!(alice.fails(&create).await, 9);
    let listed = alice
        .ok(&doc! {"listCollections": 1, "nameOnly": true, "$db": db})
        .await;
    let listed = listed.get_document("cursor").unwrap();
    let names = listed.get_array("firstBatch").unwrap();
    assert_eq!(names.len(), 1, "{listed}");
}
