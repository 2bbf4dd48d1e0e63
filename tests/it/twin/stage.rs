//! The servers, the proxy, and the other apps at work.

use std::cell::RefCell;

use mdb_testbed::Deployment;
use mdb_tests::{ProxyBuilder, RawClient, TestProxy, shared, unique_name};
use tokio::sync::Notify;

use super::generator::Generator;
use super::runner::Twins;
use super::side::Side;
use super::values::Owner;

#[derive(Debug)]
pub(super) struct Stage {
    proxy: TestProxy,
    private: Deployment,
    /// Says to the other apps of a worker that it is their turn.
    turns: Vec<Notify>,
    /// What went wrong so far.
    pub(super) failures: RefCell<Vec<String>>,
}

/// After so many the rest says nothing new.
const FAILURES_MAX: usize = 12;

impl Stage {
    pub(super) async fn start(isolation: &str, workers: usize) -> Self {
        let builder = ProxyBuilder::new(shared().await);
        // As alike as manifests allow.
        let stem = unique_name("twin");
        let apps = [
            ("alice", stem.clone()),
            ("bob", format!("{stem}-a")),
            ("carol", format!("a-{stem}")),
        ];
        let builder = apps.iter().fold(builder, |builder, (app, slug)| {
            let builder = builder.app_with_slug(app, slug);
            let is_subject = *app == "alice";
            if is_subject {
                builder.isolated(isolation)
            } else {
                builder
            }
        });
        Self {
            proxy: builder.start().await,
            private: Deployment::replica_set(1).start().await.unwrap(),
            turns: (0..workers).map(|_| Notify::new()).collect(),
            failures: RefCell::default(),
        }
    }

    pub(super) async fn twins(&self, worker: usize) -> Twins {
        let address = self.private.hosts()[0].parse().unwrap();
        let direct = RawClient::connect(address).await;
        Twins::new(
            self.proxy.raw("alice").await,
            direct,
            self.database(worker),
            worker,
        )
    }

    pub(super) fn has_failed_enough(&self) -> bool {
        self.failures.borrow().len() >= FAILURES_MAX
    }

    fn database(&self, worker: usize) -> String {
        format!("{}w{worker}", self.proxy.database_name())
    }

    /// Lets the other apps of a worker act, who do so while the worker goes on.
    pub(super) fn turn(&self, worker: usize) {
        self.turns[worker].notify_one();
    }

    /// Two other apps at work in the database of a worker, without end.
    pub(super) async fn disturb(&self, worker: usize) {
        let database = self.database(worker);
        let seed = u64::try_from(worker).unwrap();
        let run = u64::MAX - seed;
        let mut neighbours = Vec::new();
        for (app, letter) in [("bob", 'b'), ("carol", 'c')] {
            let generator = Generator::new(seed, Owner::Neighbour(letter));
            neighbours.push((Side::new(self.proxy.raw(app).await), generator));
        }
        for (side, generator) in &mut neighbours {
            for step in generator.sequence(0) {
                side.run(&step, &database, run, 0).await;
            }
        }
        loop {
            for (side, generator) in &mut neighbours {
                self.turns[worker].notified().await;
                for step in generator.unit() {
                    side.run(&step, &database, run, 0).await;
                }
            }
        }
    }
}
