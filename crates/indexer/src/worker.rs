//! The worker: merges, takes the lease, and does one round of work at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bson::{DateTime, Document, doc};
use mdb_shape::Observation;
use mdb_telemetry::Metrics;
use mdb_upstream::wait_until_free;
use mongodb::Client;
use mongodb::error::Error as DriverError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at};
use tokio_util::sync::CancellationToken;

use crate::allowance::Allowance;
use crate::lease::{INDEX_ROUNDS, Lease, Leases};
use crate::settings::{AppModes, Settings, millis};
use crate::store::{Decision, Fleet, IndexRow, Store};
use crate::table::{Namespace, Table};

/// Between two lines that tell of a build.
const TOLD_EVERY: Duration = Duration::from_secs(30);

/// How often observations are taken out: they wait in bounded room.
const COLLECT_EVERY: Duration = Duration::from_millis(100);

/// How often old entries are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(24 * 60 * 60);

/// Works on indexes.
#[derive(Debug)]
pub struct Worker {
    pub(crate) store: Store,
    pub(crate) field: String,
    pub(crate) settings: Settings,
    pub(crate) metrics: Metrics,
    pub(crate) table: Table,
    pub(crate) fleet: Fleet,
    /// Until when a wanted index, or a collection's usage, is not looked at again.
    pub(crate) quiet: BTreeMap<String, i64>,
    /// Whether a shape could be judged only by a proxy that has seen it.
    pub(crate) lacks_probe: bool,
    /// How far the worker may go for apps, in this round.
    pub(crate) apps: AppModes,
    pub(crate) leases: Leases,
    /// Kept between rounds, so that the fleet's work is that of one proxy.
    rounds: Option<Lease>,
    modes: watch::Receiver<AppModes>,
    observations: mpsc::Receiver<Observation>,
    pub(crate) allowance: Allowance,
    /// Indexes that are wanted and cannot be had, by their ids.
    pub(crate) blocked: BTreeSet<String>,
    /// Reads and writes when a wish was found to be of a collection that is written too often.
    pub(crate) heavy: BTreeMap<String, (u64, u64)>,
    /// When collections were looked at last, for commands that would do with an index.
    pub(crate) looked_at: BTreeMap<Namespace, i64>,
    wire_version: Option<i32>,
    forgot_at: i64,
    /// Milliseconds that the last round was ahead of the clock: rounds can be asked for as if it were later.
    ahead: i64,
}

/// What a worker needs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The deployment.
    pub client: Client,
    /// The control database.
    pub control_database: String,
    /// The scope field.
    pub scope_field: String,
}

/// Asks a running worker for a round of work.
#[derive(Debug, Clone)]
pub struct Handle {
    rounds: mpsc::Sender<Round>,
}

#[derive(Debug)]
struct Round {
    now: DateTime,
    done: oneshot::Sender<Result<(), DriverError>>,
}

impl Handle {
    /// One round of work, as if it were this time.
    ///
    /// # Errors
    /// Those of the upstream; and one if the worker has ended.
    pub async fn tick(&self, now: DateTime) -> Result<(), DriverError> {
        let (done, told) = oneshot::channel();
        let sent = self.rounds.send(Round { now, done }).await;
        sent.map_err(|_| ended())?;
        told.await.map_err(|_| ended())?
    }
}

fn ended() -> DriverError {
    DriverError::custom("the worker on indexes has ended")
}

impl Worker {
    /// A worker that gets these observations. `modes` may change at any time, and holds from the next round on.
    pub fn new(
        place: Place,
        settings: Settings,
        modes: watch::Receiver<AppModes>,
        metrics: Metrics,
        observations: mpsc::Receiver<Observation>,
    ) -> Self {
        Self {
            leases: Leases::new(&place.client, &place.control_database),
            store: Store::new(place.client, place.control_database),
            field: place.scope_field,
            settings,
            metrics,
            table: Table::default(),
            fleet: Fleet::default(),
            quiet: BTreeMap::new(),
            lacks_probe: false,
            apps: AppModes::default(),
            rounds: None,
            modes,
            observations,
            allowance: Allowance::default(),
            blocked: BTreeSet::new(),
            heavy: BTreeMap::new(),
            looked_at: BTreeMap::new(),
            wire_version: None,
            forgot_at: 0,
            ahead: 0,
        }
    }

    /// Starts to work, until `stop`.
    pub fn start(self, stop: CancellationToken) -> Handle {
        let (rounds, asked) = mpsc::channel(1);
        tokio::spawn(self.run(asked, stop));
        Handle { rounds }
    }

    async fn run(mut self, mut asked: mpsc::Receiver<Round>, stop: CancellationToken) {
        let mut collect = interval(COLLECT_EVERY);
        collect.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut work = interval_at(
            Instant::now() + self.settings.interval,
            self.settings.interval,
        );
        work.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = collect.tick() => self.collect(),
                _ = work.tick() => {
                    let round = stop.run_until_cancelled(self.tick(DateTime::now())).await;
                    if let Some(Err(error)) = round {
                        tracing::debug!(%error, "a round of work on indexes was not finished");
                    }
                }
                Some(Round { now, done }) = asked.recv() => {
                    let round = stop.run_until_cancelled(self.tick(now)).await;
                    // Whoever asked may have gone.
                    let _ = done.send(round.unwrap_or_else(|| Err(ended())));
                }
            }
        }
        // What was seen last is not lost. The upstream may be gone already, so it is not waited for long.
        let farewell = async {
            self.collect();
            let now = self.now();
            let merged = self.store.merge(&mut self.table, &self.fleet, now).await;
            if let Some(lease) = self.rounds.take() {
                lease.release().await;
            }
            merged
        };
        let _ = tokio::time::timeout(Duration::from_secs(1), farewell).await;
    }

    fn now(&self) -> i64 {
        let now = DateTime::now().timestamp_millis();
        now.saturating_add(self.ahead)
    }

    /// Takes out what has been observed.
    pub(crate) fn collect(&mut self) {
        let now = self.now();
        while let Ok(observation) = self.observations.try_recv() {
            self.table.take(observation, now);
        }
    }

    /// One round: merges with the other proxies and, if no other proxy works, does what is due: at most one build.
    ///
    /// # Errors
    /// Those of the upstream. The next round goes on from there.
    pub async fn tick(&mut self, now: DateTime) -> Result<(), DriverError> {
        let now = now.timestamp_millis();
        self.collect();
        self.ahead = now.saturating_sub(DateTime::now().timestamp_millis());
        self.store.load(&mut self.fleet, &self.table, now).await?;
        self.store.merge(&mut self.table, &self.fleet, now).await?;
        let Some(lease) = self.take_rounds().await? else {
            return Ok(());
        };
        // Known from here on, so that it is given back also if the round is broken off.
        self.rounds = Some(lease.clone());
        let worked = tokio::select! {
            worked = self.work(now) => worked,
            () = lease.lost() => Err(DriverError::custom("another proxy works on indexes now")),
        };
        if self.lacks_probe {
            // Another proxy may have what this one lacks.
            self.rounds = None;
            lease.release().await;
        }
        worked
    }

    /// What is due, under the lease.
    async fn work(&mut self, now: i64) -> Result<(), DriverError> {
        self.apps = self.modes.borrow().clone();
        self.store.load(&mut self.fleet, &self.table, now).await?;
        self.allowance.earn(&self.settings, now);
        self.quiet.retain(|_, until| *until > now);
        self.lacks_probe = false;
        self.go_on(now).await?;
        self.consider(now).await?;
        self.look_at_usage(now).await?;
        if now - self.forgot_at > millis(FORGET_EVERY) {
            self.store.forget_old(now).await?;
            self.forgot_at = now;
        }
        Ok(())
    }

    /// The right to work: that of the last round, or a new one.
    async fn take_rounds(&mut self) -> Result<Option<Lease>, DriverError> {
        if let Some(lease) = self.rounds.take()
            && lease.renew().await?
        {
            return Ok(Some(lease));
        }
        self.leases.take(INDEX_ROUNDS).await
    }

    /// Whether another command may go to the upstream now.
    pub(crate) fn may_ask(&mut self) -> bool {
        self.allowance.take()
    }

    /// Not again for a while.
    pub(crate) fn hush(&mut self, what: String, now: i64) {
        let until = now.saturating_add(millis(self.settings.retry_after));
        self.quiet.insert(what, until);
    }

    pub(crate) async fn decide(
        &self,
        row: &IndexRow,
        decision: Decision,
        now: i64,
    ) -> Result<(), DriverError> {
        self.store.decide(row, &decision, now).await
    }

    /// The same of a change of a collection or of its indexes: nobody is to wait behind it for transactions to end.
    pub(crate) async fn change(
        &self,
        namespace: &Namespace,
        command: Document,
    ) -> Result<Document, DriverError> {
        let database = self.store.client().database(&namespace.database);
        wait_until_free(&database, &namespace.collection).await?;
        database.run_command(command).await
    }

    pub(crate) async fn run_on(
        &self,
        namespace: &Namespace,
        command: Document,
    ) -> Result<Document, DriverError> {
        let database = self.store.client().database(&namespace.database);
        database.run_command(command).await
    }

    /// The newest wire version of the upstream.
    pub(crate) async fn wire_version(&mut self) -> Result<i32, DriverError> {
        if let Some(version) = self.wire_version {
            return Ok(version);
        }
        let admin = self.store.client().database("admin");
        let hello = admin.run_command(doc! {"hello": 1}).await?;
        let version = hello.get_i32("maxWireVersion").unwrap_or(0);
        self.wire_version = Some(version);
        Ok(version)
    }

    /// Runs a build, keeping the right to and taking out observations meanwhile. What the server says is in the inner result.
    ///
    /// # Errors
    /// If the right is lost. What was begun is left to whoever has it then.
    pub(crate) async fn while_building(
        &mut self,
        lease: &Lease,
        namespace: &Namespace,
        definition: &Document,
    ) -> Result<Result<Document, DriverError>, DriverError> {
        let command = doc! {"createIndexes": &namespace.collection, "indexes": [definition]};
        let database = self.store.client().database(&namespace.database);
        let collection = namespace.collection.clone();
        let build = async move {
            wait_until_free(&database, &collection).await?;
            database.run_command(command).await
        };
        let lost = lease.lost();
        tokio::pin!(build, lost);
        let mut collect = interval(COLLECT_EVERY);
        let mut tell = interval_at(Instant::now() + TOLD_EVERY, TOLD_EVERY);
        let begun = Instant::now();
        loop {
            tokio::select! {
                done = &mut build => return Ok(done),
                () = &mut lost => return Err(DriverError::custom("another proxy builds indexes now")),
                _ = collect.tick() => self.collect(),
                _ = tell.tick() => {
                    tracing::info!(%namespace, seconds = begun.elapsed().as_secs(), "an index is being built");
                }
            }
        }
    }
}
