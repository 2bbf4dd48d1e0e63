//! The upstream's members come and go; the driver behind the proxy does not notice.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mdb_testbed::Deployment;
use mdb_tests::{RawClient, TestProxy, eventually, logs};
use mongodb::Collection;
use tokio::task::LocalSet;

/// Writers and readers at work, until they are told to stop.
pub(crate) struct Load {
    stop: Rc<Cell<bool>>,
    acknowledged: Rc<RefCell<Vec<i32>>>,
    errors: Rc<RefCell<Vec<String>>>,
    reads: Rc<Cell<u32>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(documents: &Collection<Document>) -> Self {
        let mut load = Self {
            stop: Rc::default(),
            acknowledged: Rc::default(),
            errors: Rc::default(),
            reads: Rc::default(),
            tasks: Vec::new(),
        };
        for writer in 0..4 {
            let (stop, acknowledged, errors) = (
                Rc::clone(&load.stop),
                Rc::clone(&load.acknowledged),
                Rc::clone(&load.errors),
            );
            let documents = documents.clone();
            load.tasks.push(tokio::task::spawn_local(async move {
                let mut id = writer * 1_000_000;
                while !stop.get() {
                    id += 1;
                    match documents.insert_one(doc! {"_id": id, "n": 0}).await {
                        Ok(_) => acknowledged.borrow_mut().push(id),
                        Err(error) => errors.borrow_mut().push(format!("insert {id}: {error:?}")),
                    }
                    let increment = doc! {"$inc": {"n": 1}};
                    match documents.update_one(doc! {"_id": id}, increment).await {
                        Ok(done) if done.matched_count == 1 => {}
                        other => errors.borrow_mut().push(format!("update {id}: {other:?}")),
                    }
                }
            }));
        }
        for _ in 0..2 {
            let (stop, errors, reads) = (
                Rc::clone(&load.stop),
                Rc::clone(&load.errors),
                Rc::clone(&load.reads),
            );
            let documents = documents.clone();
            load.tasks.push(tokio::task::spawn_local(async move {
                while !stop.get() {
                    match documents.find_one(doc! {"_id": 1}).await {
                        Ok(_) => reads.set(reads.get() + 1),
                        Err(error) => errors.borrow_mut().push(format!("read: {error:?}")),
                    }
                }
            }));
        }
        load
    }

    /// Waits until the load got on since now.
    pub(crate) async fn gets_on(&self) {
        let (writes, reads) = (self.acknowledged.borrow().len(), self.reads.get());
        eventually("the load gets on", async || {
            let got_on =
                self.acknowledged.borrow().len() > writes + 20 && self.reads.get() > reads + 20;
            got_on.then_some(())
        })
        .await;
    }

    /// Ends the load. No error was seen, and everything acknowledged is there once, with its one increment.
    pub(crate) async fn finish(self, upstream: &Collection<Document>) {
        self.stop.set(true);
        for task in self.tasks {
            task.await.unwrap();
        }
        let errors = self.errors.take();
        assert!(
            errors.is_empty(),
            "{} errors: {:#?}",
            errors.len(),
            errors.iter().take(5).collect::<Vec<_>>()
        );
        let stored: Vec<Document> = upstream
            .find(doc! {})
            .sort(doc! {"_id": 1})
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        let mut acknowledged = self.acknowledged.take();
        acknowledged.sort_unstable();
        let ids: Vec<i32> = stored.iter().map(|d| d.get_i32("_id").unwrap()).collect();
        assert_eq!(ids, acknowledged);
        let once = |d: &Document| d.get_i32("n").unwrap() == 1;
        assert!(
            stored.iter().all(once),
            "an increment was lost or done twice"
        );
    }
}

pub(crate) struct Set {
    pub(crate) deployment: Deployment,
    pub(crate) proxy: TestProxy,
    /// Logged in before the failure; it must stay.
    witness: RawClient,
    pub(crate) documents: Collection<Document>,
}

impl Set {
    pub(crate) async fn new() -> Self {
        let deployment = Deployment::replica_set(3)
            .with_auth()
            .start()
            .await
            .unwrap();
        let proxy = TestProxy::start(&deployment, &["alice"]).await;
        logs::expect("mdb_upstream::probe");
        let mut witness = proxy.raw("alice").await;
        let db = proxy.database_name();
        witness.ok(&doc! {"create": "c", "$db": db}).await;
        let documents = proxy.client("alice").await.database(db).collection("c");
        Self {
            deployment,
            proxy,
            witness,
            documents,
        }
    }

    pub(crate) async fn upstream(&self) -> Collection<Document> {
        self.proxy.upstream().await.collection("c")
    }

    pub(crate) async fn check_witness(&mut self) {
        let db = self.proxy.database_name();
        self.witness
            .ok(&doc! {"find": "c", "limit": 1, "$db": db})
            .await;
    }
}

#[tokio::test]
async fn a_killed_primary_is_not_noticed() {
    let run = async {
        let mut set = Set::new().await;
        let load = Load::start(&set.documents);
        load.gets_on().await;
        let killed = set.deployment.kill_primary().await.unwrap();
        load.gets_on().await;
        set.check_witness().await;
        set.deployment.member(killed).restart().await.unwrap();
        load.gets_on().await;
        load.finish(&set.upstream().await).await;
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test]
async fn a_primary_that_steps_down_is_not_noticed() {
    let run = async {
        let mut set = Set::new().await;
        let load = Load::start(&set.documents);
        load.gets_on().await;
        set.deployment.step_down().await.unwrap();
        load.gets_on().await;
        set.check_witness().await;
        load.finish(&set.upstream().await).await;
    };
    LocalSet::new().run_until(run).await;
}

#[tokio::test]
async fn when_all_are_gone_commands_fail_politely_until_they_are_back() {
    let mut set = Set::new().await;
    let db = set.proxy.database_name().to_owned();
    set.witness
        .ok(&doc! {"insert": "c", "documents": [{"_id": 1}], "$db": &db})
        .await;
    for member in set.deployment.members() {
        member.kill().unwrap();
    }
    set.witness.ok(&doc! {"hello": 1, "$db": "admin"}).await;
    let find = doc! {"find": "c", "maxTimeMS": 1500, "$db": &db};
    let reply = set.witness.command(&find).await;
    assert!(matches!(reply.get_i32("code"), Ok(6 | 50 | 133)), "{reply}");
    let lsid =
        doc! {"id": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![3; 16] }};
    let insert = doc! {"insert": "c", "documents": [{"_id": 2}], "maxTimeMS": 1500, "lsid": lsid, "txnNumber": 1_i64, "$db": &db};
    let reply = set.witness.command(&insert).await;
    assert!(matches!(reply.get_i32("code"), Ok(6 | 50 | 133)), "{reply}");
    for text in ["127.0.0.1", "rs0"] {
        assert!(!reply.to_string().contains(text), "{reply}");
    }
    // At once, since none can rejoin alone.
    let restarts = set
        .deployment
        .members()
        .iter()
        .map(mdb_testbed::Member::restart);
    for restarted in futures_util::future::join_all(restarts).await {
        restarted.unwrap();
    }
    set.deployment.all_in_service().await.unwrap();
    let found = eventually("the proxy serves again", async || {
        let found = set.documents.find_one(doc! {"_id": 1}).await;
        found.ok().flatten()
    })
    .await;
    assert_eq!(found, doc! {"_id": 1});
    set.check_witness().await;
}
