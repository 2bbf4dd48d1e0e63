//! When which collection is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mdb_telemetry::Metrics;
use mongodb::Client;
use tokio::time::{Instant, sleep, sleep_until};

use crate::declared::carry_out::Trouble;
use crate::declared::plan::{Plan, Step, plan};
use crate::declared::reason::Reason;
use crate::declared::records::Records;
use crate::declared::{Apps, Declaration, Declared, Place};
use crate::lease::Leases;

/// Between two rounds over all collections. A collection that this proxy's clients make is looked at when it is made; a round
/// finds those that another proxy did not get to, and indexes that somebody has dropped.
const ROUND: Duration = Duration::from_secs(600);
/// Between two collections of a later round, each of which costs two commands.
const PACE: Duration = Duration::from_secs(2);
/// The first cool-down after a failure; each further one is twice as long.
const COOL_DOWN_MIN: Duration = Duration::from_secs(5);
/// The longest.
const COOL_DOWN_MAX: Duration = Duration::from_secs(3600);
/// Waits for the lease, while another worker builds.
const LEASE_POLL_MIN: Duration = Duration::from_secs(1);
const LEASE_POLL_MAX: Duration = Duration::from_secs(4);

/// Does in the background what manifests ask for. One for each proxy; those of a fleet take turns.
#[derive(Debug)]
pub struct Worker<A> {
    pub(crate) declared: Declared,
    pub(crate) apps: A,
    pub(crate) records: Records,
    pub(crate) metrics: Metrics,
    leases: Leases,
    due: BTreeMap<Place, Due>,
    /// When the collections of the apps in `sought` are looked for.
    seek_at: Instant,
    sought: BTreeSet<String>,
    is_round: bool,
    /// What was told of each collection's indexes that are asked for no more.
    absent: BTreeMap<Place, Vec<String>>,
    failures: u32,
}

#[derive(Debug, Clone, Copy)]
struct Due {
    at: Instant,
    failures: u32,
}

/// What could not be done about the indexes of one collection.
pub(crate) type Failures = BTreeMap<String, Reason>;

impl<A: Apps> Worker<A> {
    /// Works with what `declared` is told, by a client of the deployment of its own for what it keeps in the control database.
    pub fn new(
        declared: Declared,
        apps: A,
        client: &Client,
        control_database: &str,
        metrics: Metrics,
    ) -> Self {
        Self {
            declared,
            apps,
            records: Records::new(client, control_database),
            leases: Leases::new(client, control_database),
            metrics,
            due: BTreeMap::new(),
            seek_at: Instant::now(),
            sought: BTreeSet::new(),
            is_round: false,
            absent: BTreeMap::new(),
            failures: 0,
        }
    }

    /// Works for ever. Dropped at any moment, it leaves nothing wrong: what it was at is found and finished by the next one.
    pub async fn run(mut self) {
        loop {
            self.hear();
            let next = self.due.iter().min_by_key(|(_, due)| due.at);
            let next = next.map(|(place, due)| (place.clone(), *due));
            let now = Instant::now();
            match next {
                _ if !self.sought.is_empty() && self.seek_at <= now => self.seek().await,
                Some((place, due)) if due.at <= now => self.look(place, due.failures).await,
                next => {
                    let look_at = next.map_or(self.seek_at, |(_, due)| due.at);
                    tokio::select! {
                        () = self.declared.news.notified() => {}
                        () = sleep_until(look_at.min(self.seek_at)) => self.begin_round(),
                    }
                }
            }
        }
    }

    /// Takes over what is new.
    fn hear(&mut self) {
        let mut state = self.declared.state();
        let changed = std::mem::take(&mut state.changed);
        let made = std::mem::take(&mut state.made);
        let is_known = |place: &Place| state.apps.contains_key(&place.app);
        self.due.retain(|place, _| is_known(place));
        self.absent.retain(|place, _| is_known(place));
        drop(state);
        let now = Instant::now();
        if !changed.is_empty() {
            self.seek_at = now;
            self.is_round = false;
            self.sought.extend(changed);
        }
        for place in made {
            self.due.insert(
                place,
                Due {
                    at: now,
                    failures: 0,
                },
            );
        }
    }

    /// If it is time for it.
    fn begin_round(&mut self) {
        if self.seek_at <= Instant::now() && self.sought.is_empty() {
            self.sought.extend(self.declared.apps());
            self.is_round = true;
            if self.sought.is_empty() {
                self.seek_at = Instant::now() + ROUND;
            }
        }
    }

    /// Looks for the collections of apps.
    async fn seek(&mut self) {
        let sought = std::mem::take(&mut self.sought);
        match self.places_of(&sought).await {
            Ok(places) => {
                self.failures = 0;
                self.schedule(places);
                self.seek_at = Instant::now() + ROUND;
            }
            Err(error) => {
                tracing::info!(%error, "the collections whose indexes manifests ask for could not be looked for");
                self.sought.extend(sought);
                self.seek_at = Instant::now() + cool_down(self.failures);
                self.failures = self.failures.saturating_add(1);
            }
        }
    }

    async fn places_of(&self, apps: &BTreeSet<String>) -> Result<BTreeSet<Place>, Trouble> {
        let mut wanted = Vec::new();
        let mut places = self.records.places(apps).await?;
        for app in apps {
            let Some(declaration) = self.declaration(app) else {
                continue;
            };
            let collections = declaration.collections();
            if !collections.is_empty() {
                wanted.push((app.clone(), collections.into_iter().collect()));
            }
        }
        if !wanted.is_empty() {
            places.extend(self.apps.find(wanted).await?);
        }
        Ok(places)
    }

    fn schedule(&mut self, places: BTreeSet<Place>) {
        let now = Instant::now();
        let mut at = now;
        for place in places {
            if self.is_round {
                at += PACE;
                self.due.entry(place).or_insert(Due { at, failures: 0 });
            } else {
                self.due.insert(place, Due { at, failures: 0 });
            }
        }
    }

    pub(crate) fn declaration(&self, app: &str) -> Option<Arc<Declaration>> {
        self.declared.state().apps.get(app).cloned()
    }

    /// Looks at one collection and does what is to be done about it.
    async fn look(&mut self, place: Place, failures: u32) {
        self.due.remove(&place);
        let failed = match self.attend(&place).await {
            Ok(None) => {
                self.tell(&place, Failures::new());
                false
            }
            Ok(Some(mut failed)) => {
                let has_failed = !failed.is_empty();
                // Not to be tried again: that would change nothing.
                failed.extend(self.cannot_be_had(&place));
                self.tell(&place, failed);
                has_failed
            }
            Err(trouble) => {
                tracing::info!(app = place.app, namespace = place.namespace(), error = %trouble,
                    "the indexes of a manifest could not be looked after");
                true
            }
        };
        if failed {
            let at = Instant::now() + cool_down(failures);
            let failures = failures.saturating_add(1);
            self.due.insert(place, Due { at, failures });
        }
    }

    /// The search indexes that are asked for.
    fn cannot_be_had(&self, place: &Place) -> Failures {
        let declaration = self.declaration(&place.app).unwrap_or_default();
        let names = declaration.search.get(&place.collection).into_iter();
        let names = names.flatten().cloned();
        names.map(|name| (name, Reason::no_search())).collect()
    }

    /// Does what is to be done about a collection, and gives what could not; `None` if the app does not have it.
    async fn attend(&mut self, place: &Place) -> Result<Option<Failures>, Trouble> {
        let mut wait = LEASE_POLL_MIN;
        loop {
            let Some(plan) = self.plan(place).await? else {
                return Ok(None);
            };
            self.tell_absent(place, &plan.absent);
            if plan.steps.is_empty() {
                return Ok(Some(Failures::new()));
            }
            let physical = self.apps.physical(place).await?;
            if let Some(lease) = self.leases.take_to_build(&physical).await? {
                let done = tokio::select! {
                    done = self.carry_out(place, lease.fence()) => done,
                    () = lease.lost() => Err(Trouble::Lost),
                };
                lease.release().await;
                return done.map(Some);
            }
            sleep(wait).await;
            wait = (wait * 2).min(LEASE_POLL_MAX);
        }
    }

    /// What is to be done about a collection now; `None` if the app does not have it, or is not served any more.
    pub(crate) async fn plan(&self, place: &Place) -> Result<Option<Plan>, Trouble> {
        let Some(declaration) = self.declaration(&place.app) else {
            return Ok(None);
        };
        let none = Vec::new();
        let wishes = declaration.indexes.get(&place.collection).unwrap_or(&none);
        let recorded = self.records.of(place).await?;
        let Some(listed) = self.listed(place).await? else {
            if !recorded.is_empty() {
                self.records.forget_all(place).await?;
            }
            return Ok(None);
        };
        Ok(Some(plan(wishes, &listed, &recorded, declaration.prune)))
    }

    fn tell_absent(&mut self, place: &Place, absent: &[String]) {
        let before = self.absent.insert(place.clone(), absent.to_vec());
        if !absent.is_empty() && before.is_none_or(|before| before != absent) {
            tracing::info!(
                app = place.app,
                namespace = place.namespace(),
                indexes = absent.join(", "),
                "the manifest asks for these indexes no more; they stay, unless it says `prune: true`"
            );
        }
    }

    /// Tells of a change, once.
    fn tell(&self, place: &Place, failures: Failures) {
        let mut state = self.declared.state();
        let before = state.degraded.remove(place).unwrap_or_default();
        let (app, namespace) = (&place.app, place.namespace());
        for (index, reason) in &failures {
            if before.get(index) != Some(reason) {
                tracing::warn!(
                    app,
                    namespace,
                    index,
                    code = reason.code,
                    reason = reason.text,
                    "an index of a manifest cannot be built"
                );
            }
        }
        for index in before.keys().filter(|index| !failures.contains_key(*index)) {
            tracing::info!(
                app,
                namespace,
                index,
                "an index of a manifest is no longer missing"
            );
        }
        if !failures.is_empty() {
            state.degraded.insert(place.clone(), failures);
        }
        let of_app = state.degraded.iter().filter(|(of, _)| of.app == *app);
        let count = of_app.map(|(_, indexes)| indexes.len()).sum();
        self.metrics.set_degraded_indexes(app, count);
    }
}

impl Plan {
    /// The next thing to do that was not tried in vain.
    pub(crate) fn next(self, failures: &Failures) -> Option<Step> {
        let mut steps = self.steps.into_iter();
        steps.find(|step| !failures.contains_key(step.name()))
    }
}

fn cool_down(failures: u32) -> Duration {
    let factor = 2_u32.saturating_pow(failures);
    COOL_DOWN_MIN.saturating_mul(factor).min(COOL_DOWN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cool_downs_grow_up_to_an_hour() {
        let seconds = [0, 1, 2, 9, 10, 40].map(|failures| cool_down(failures).as_secs());
        assert_eq!(seconds, [5, 10, 20, 2560, 3600, 3600]);
    }
}
