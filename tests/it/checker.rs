//! A checker: clients write through the proxy while members are stopped, killed and paused and connections are cut. Then every
//! acknowledged write is there exactly once, and every other at most once.
//!
//! ```sh
//! CHECKER_OPERATIONS=100000 cargo test -p mdb-tests --test it checker -- --nocapture
//! ```

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bson::{Document, doc};
use futures_util::TryStreamExt as _;
use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, Relay, TestProxy, eventually, logs};
use mongodb::error::Result;
use mongodb::options::{CollectionOptions, WriteConcern};
use mongodb::{Client, Collection};
use tokio::task::LocalSet;
use tokio::time::Instant;

use crate::failures::relayed;

/// Unless `CHECKER_OPERATIONS` says another number.
const OPERATIONS: u32 = 3_000;
/// Between two faults, at least. A long run has a hundred of them.
const OPERATIONS_PER_FAULT: u32 = 500;
const FAULTS: u32 = 100;
/// Of faults.
const KINDS: u32 = 4;
const CLIENTS: u32 = 16;
/// A document collects the names of so many operations, and then another is begun.
const NAMES_PER_DOCUMENT: u32 = 200;

/// What became of each operation, as its client knows it.
#[derive(Debug, Default)]
struct Ledger {
    begun: Cell<u32>,
    is_over: Cell<bool>,
    /// By the name of the operation: whether it was acknowledged, and how many marks it leaves.
    outcomes: RefCell<HashMap<i64, (bool, u32)>>,
    errors: RefCell<Vec<String>>,
}

struct Writer {
    number: u32,
    client: Client,
    documents: Collection<Document>,
    ledger: Rc<Ledger>,
}

impl Writer {
    /// Writes until it is over.
    async fn run(self) {
        let mut count = 0_u32;
        while !self.ledger.is_over.get() {
            self.ledger.begun.set(self.ledger.begun.get() + 1);
            let name = i64::from(self.number) << 32 | i64::from(count);
            let marks = if count % 4 == 3 { 3 } else { 1 };
            let done = match count % 4 {
                0 => self.insert(name).await,
                1 => self.update(count, name).await,
                2 => self.modify(count, name).await,
                _ => self.transact(count, name).await,
            };
            if let Err(error) = &done {
                let mut errors = self.ledger.errors.borrow_mut();
                errors.push(format!("{} {error}", count % 4));
            }
            let mut outcomes = self.ledger.outcomes.borrow_mut();
            outcomes.insert(name, (done.is_ok(), marks));
            drop(outcomes);
            count += 1;
        }
    }

    /// The document that collects names now; `part` tells several of them apart.
    fn place(&self, count: u32, part: &str) -> Document {
        doc! {"_id": format!("{part}-{}-{}", self.number, count / NAMES_PER_DOCUMENT)}
    }

    async fn insert(&self, name: i64) -> Result<()> {
        let document = doc! {"_id": name, "n": 1, "names": [name]};
        self.documents.insert_one(document).await.map(|_| ())
    }

    async fn update(&self, count: u32, name: i64) -> Result<()> {
        let place = self.place(count, "update");
        let update = self.documents.update_one(place, mark(name)).upsert(true);
        update.await.map(|_| ())
    }

    async fn modify(&self, count: u32, name: i64) -> Result<()> {
        let place = self.place(count, "modify");
        let modify = self.documents.find_one_and_update(place, mark(name));
        modify.upsert(true).await.map(|_| ())
    }

    /// Three marks, or none.
    async fn transact(&self, count: u32, name: i64) -> Result<()> {
        let mut session = self.client.start_session().await?;
        let transaction = session.start_transaction();
        let run = transaction.and_run2(async |session| {
            let document = doc! {"_id": name, "n": 1, "names": [name]};
            let insert = self.documents.insert_one(document);
            insert.session(&mut *session).await?;
            for part in ["from", "to"] {
                let place = self.place(count, part);
                let update = self.documents.update_one(place, mark(name)).upsert(true);
                update.session(&mut *session).await?;
            }
            Ok(())
        });
        run.await
    }
}

/// Leaves the name of an operation in a document and counts it: done twice, both show.
fn mark(name: i64) -> Document {
    doc! {"$inc": {"n": 1}, "$push": {"names": name}}
}

/// One fault after another, each after some operations since the one before, until enough operations were begun and each
/// fault has come.
async fn disturb(
    deployment: &Deployment,
    relays: &[Relay],
    ledger: &Ledger,
    operations: u32,
) -> u32 {
    let mut faults = 0;
    let pause = OPERATIONS_PER_FAULT.max(operations / FAULTS);
    while ledger.begun.get() < operations || faults < KINDS {
        let next = ledger.begun.get() + pause;
        eventually("the clients get on", async || {
            (ledger.begun.get() >= next).then_some(())
        })
        .await;
        let primary = deployment.primary().await.unwrap();
        match faults % KINDS {
            0 => drop(deployment.step_down().await),
            1 => relays.iter().for_each(Relay::cut_all),
            2 => {
                deployment.member(primary).kill().unwrap();
                gets_on(ledger).await;
                deployment.member(primary).restart().await.unwrap();
            }
            _ => {
                deployment.member(primary).pause().unwrap();
                gets_on(ledger).await;
                deployment.member(primary).resume().unwrap();
            }
        }
        faults += 1;
    }
    ledger.is_over.set(true);
    faults
}

/// Waits for another primary, as the clients see it.
async fn gets_on(ledger: &Ledger) {
    let enough = ledger.begun.get() + 50;
    eventually("the clients get on without a member", async || {
        (ledger.begun.get() >= enough).then_some(())
    })
    .await;
}

/// How often each operation has left its mark.
async fn marks(documents: &Collection<Document>) -> HashMap<i64, u32> {
    let mut marks: HashMap<i64, u32> = HashMap::new();
    let mut all = documents.find(doc! {}).await.unwrap();
    while let Some(document) = all.try_next().await.unwrap() {
        let names = document.get_array("names").unwrap();
        let n = usize::try_from(document.get_i32("n").unwrap()).unwrap();
        assert_eq!(n, names.len(), "{:?}", document.get("_id"));
        for name in names {
            *marks.entry(name.as_i64().unwrap()).or_default() += 1;
        }
    }
    marks
}

/// Compares what clients were told with what is there: the numbers of operations lost, done twice, and done in part.
fn compare(ledger: &Ledger, marks: &HashMap<i64, u32>) -> [Vec<i64>; 3] {
    let [mut lost, mut twice, mut partly] = [const { Vec::new() }; 3];
    for (&name, &(is_acknowledged, whole)) in &*ledger.outcomes.borrow() {
        match marks.get(&name).copied().unwrap_or_default() {
            0 if is_acknowledged => lost.push(name),
            0 => {}
            found if found == whole => {}
            found if found > whole => twice.push(name),
            _ => partly.push(name),
        }
    }
    [lost, twice, partly]
}

#[tokio::test]
async fn checker_no_acknowledged_write_is_lost_and_none_is_applied_twice() {
    let operations =
        std::env::var("CHECKER_OPERATIONS").map_or(OPERATIONS, |number| number.parse().unwrap());
    LocalSet::new().run_until(check(operations)).await;
}

/// Tells what was found; gives the number of acknowledged operations.
#[expect(clippy::print_stdout, reason = "what a long run is for")]
fn report(ledger: &Ledger, faults: u32, seconds: u64, wrong: [&Vec<i64>; 3]) -> usize {
    let outcomes = ledger.outcomes.borrow();
    let acknowledged = outcomes.values().filter(|(done, _)| *done).count();
    let errors = ledger.errors.borrow();
    println!(
        "checker: {} operations in {seconds} s, {faults} faults, {acknowledged} acknowledged, {} errors; lost, twice, in part: {:?}",
        outcomes.len(),
        errors.len(),
        wrong.map(Vec::len),
    );
    for error in errors.iter().take(10) {
        println!("checker: {error}");
    }
    acknowledged
}

async fn check(operations: u32) {
    let (deployment, relays, [uri, administrator]) = relayed().await;
    logs::expect("mdb_upstream::probe");
    let proxy: TestProxy = ProxyBuilder::at(&uri).app("alice").start().await;
    let db = proxy.database_name();
    let ledger = Rc::new(Ledger::default());
    let started_at = Instant::now();
    let mut writers = Vec::new();
    for number in 0..CLIENTS {
        let client = proxy.client("alice").await;
        let majority = CollectionOptions::builder()
            .write_concern(WriteConcern::majority())
            .build();
        let documents = client.database(db);
        let writer = Writer {
            number,
            documents: documents.collection_with_options("c", majority),
            client,
            ledger: Rc::clone(&ledger),
        };
        writers.push(tokio::task::spawn_local(writer.run()));
    }
    let faults = disturb(&deployment, &relays, &ledger, operations).await;
    for writer in writers {
        writer.await.unwrap();
    }
    let seconds = started_at.elapsed().as_secs();
    deployment.all_in_service().await.unwrap();
    let upstream = Client::with_uri_str(administrator).await.unwrap();
    let marks = marks(&upstream.database(db).collection("c")).await;
    let [lost, twice, partly] = compare(&ledger, &marks);
    let acknowledged = report(&ledger, faults, seconds, [&lost, &twice, &partly]);
    assert_eq!((lost, twice, partly), (vec![], vec![], vec![]));
    let all = ledger.outcomes.borrow().len();
    assert!(acknowledged * 10 > all * 9, "most are acknowledged");
}
