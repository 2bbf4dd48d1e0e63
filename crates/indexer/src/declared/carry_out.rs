//! Doing what a plan says, one step after the other. After each of them is looked again: whoever else works on the collection
//! meanwhile is seen.

use bson::{Bson, Document, doc};
use mdb_telemetry::IndexChange;
use mongodb::error::Error as DriverError;

use crate::declared::plan::{Listed, Record, Step};
use crate::declared::reason::{CANNOT_CREATE_INDEX, Reason, is_conflict};
use crate::declared::wish::{Wish, stand_in_name};
use crate::declared::worker::{Failures, Worker};
use crate::declared::{Apps, Place, Unanswered};

/// Steps about one collection in one go: far more than 63 indexes with their stand-ins need. It ends what would otherwise go
/// round in circles with somebody who undoes each step.
const STEPS_MAX: usize = 500;

/// Why a look at a collection broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Unanswered(#[from] Unanswered),
    #[error("the control database: {}", .0.kind)]
    Control(#[from] DriverError),
    #[error("another proxy has taken the lease over")]
    Lost,
}

/// A step that was done, or that the deployment did not let be done.
type Done = Result<Result<(), Reason>, Trouble>;

impl<A: Apps> Worker<A> {
    /// Does all that can be done about a collection, under a lease. Gives what could not.
    pub(crate) async fn carry_out(&self, place: &Place, fence: i64) -> Result<Failures, Trouble> {
        let mut failures = Failures::new();
        for _ in 0..STEPS_MAX {
            let Some(plan) = self.plan(place).await? else {
                return Ok(Failures::new());
            };
            let Some(step) = plan.next(&failures) else {
                break;
            };
            let index = step.name().to_owned();
            if let Err(reason) = self.step(place, step, fence).await? {
                self.metrics.index_change(IndexChange::Failed);
                failures.insert(index, reason);
            }
        }
        Ok(failures)
    }

    async fn step(&self, place: &Place, step: Step, fence: i64) -> Done {
        match step {
            Step::Build(wish) => self.build(place, wish, fence).await,
            Step::Confirm(wish) => self.confirm(place, wish, fence).await,
            Step::Modify(wish) => self.modify(place, wish, fence).await,
            Step::Replace { wish, old } => self.replace(place, &wish, &old, fence).await,
            Step::Differs(_) => Ok(Err(Reason::differs())),
            Step::Drop { name, is_stand_in } => {
                let dropped = self.drop_index(place, &name).await?;
                if dropped.is_ok() && !is_stand_in {
                    self.changed(place, &name, IndexChange::Dropped);
                }
                Ok(dropped)
            }
            Step::Forget(name) => {
                self.records.forget(place, &name).await?;
                Ok(Ok(()))
            }
        }
    }

    /// The app's indexes, without that on `_id`; `None` if it does not have the collection.
    pub(crate) async fn listed(&self, place: &Place) -> Result<Option<Listed>, Trouble> {
        let command = doc! {"listIndexes": &place.collection, "cursor": {"batchSize": INDEXES_MAX}};
        let reply = self.apps.run(place, command).await?;
        if !is_ok(&reply) {
            return match code_of(&reply) {
                // No such collection; a view, which has no indexes.
                26 | 166 => Ok(None),
                _ => Err(Unanswered(Reason::of_reply(&reply).to_string()).into()),
            };
        }
        let batch = reply.get_document("cursor");
        let batch = batch.and_then(|cursor| cursor.get_array("firstBatch"));
        let specs = batch
            .into_iter()
            .flatten()
            .filter_map(|spec| spec.as_document());
        let named = specs.filter_map(|spec| Some((spec.get_str("name").ok()?.to_owned(), spec)));
        let own = named.filter(|(name, _)| name != "_id_");
        Ok(Some(own.map(|(name, spec)| (name, spec.clone())).collect()))
    }

    async fn create(&self, place: &Place, wish: &Wish) -> Result<Document, Trouble> {
        let command = doc! {"createIndexes": &place.collection, "indexes": [wish.definition()]};
        Ok(self.apps.run(place, command).await?)
    }

    /// Builds what is not there. It is recorded first, so that one whose builder has gone is known for the proxy's own.
    async fn build(&self, place: &Place, wish: Wish, fence: i64) -> Done {
        let before = self.records.of(place).await?.remove(&wish.name);
        let was_begun = before.is_some_and(|record| record.is_made && record.wish == wish);
        let mut record = Record {
            wish,
            spec: None,
            is_made: true,
            is_stand_in: false,
        };
        self.records.save(place, &record, fence).await?;
        let index = record.wish.name.clone();
        tracing::info!(
            app = place.app,
            namespace = place.namespace(),
            index,
            "an index of a manifest is being built"
        );
        let mut reply = self.create(place, &record.wish).await?;
        if is_conflict(&reply) && self.take_stand_in(place, &index).await? {
            reply = self.create(place, &record.wish).await?;
        }
        if !is_ok(&reply) {
            self.records.forget(place, &index).await?;
            return Ok(Err(Reason::of_reply(&reply)));
        }
        record.is_made = was_begun || has_grown(&reply);
        self.settle(place, record, fence).await?;
        self.changed(place, &index, IndexChange::Built);
        Ok(Ok(()))
    }

    /// Asks the server whether what is there is what is asked for. It builds nothing then.
    async fn confirm(&self, place: &Place, wish: Wish, fence: i64) -> Done {
        let before = self.records.of(place).await?.remove(&wish.name);
        let reply = self.create(place, &wish).await?;
        let is_made = before.is_some_and(|record| record.is_made);
        if is_ok(&reply) {
            let record = Record {
                wish,
                spec: None,
                is_made: is_made || has_grown(&reply),
                is_stand_in: false,
            };
            self.settle(place, record, fence).await?;
            return Ok(Ok(()));
        }
        if is_made && is_conflict(&reply) {
            let name = wish.name.clone();
            return self.replace(place, &wish, &name, fence).await;
        }
        Ok(Err(Reason::of_reply(&reply)))
    }

    /// Changes in place what the server changes in place.
    async fn modify(&self, place: &Place, wish: Wish, fence: i64) -> Done {
        let hidden = doc! {"name": &wish.name, "hidden": wish.has("hidden")};
        let expiry = wish.option("expireAfterSeconds");
        let expiry =
            expiry.map(|after| doc! {"name": &wish.name, "expireAfterSeconds": after.clone()});
        // One after the other: 4.4 takes one of them only.
        for index in [Some(hidden), expiry].into_iter().flatten() {
            let command = doc! {"collMod": &place.collection, "index": index};
            let reply = self.apps.run(place, command).await?;
            if !is_ok(&reply) {
                return Ok(Err(Reason::of_reply(&reply)));
            }
        }
        let name = wish.name.clone();
        let record = Record {
            wish,
            spec: None,
            is_made: true,
            is_stand_in: false,
        };
        self.settle(place, record, fence).await?;
        self.changed(place, &name, IndexChange::Modified);
        Ok(Ok(()))
    }

    /// Builds the new index and drops the old one. A server renames no index and takes no two of one name: while the old one
    /// is dropped and the new one built, another one stands in. Where none can, the old one goes first.
    async fn replace(&self, place: &Place, wish: &Wish, old: &str, fence: i64) -> Done {
        if let Err(reason) = self.let_stand_in(place, wish, fence).await? {
            return Ok(Err(reason));
        }
        if let Err(reason) = self.drop_index(place, old).await? {
            return Ok(Err(reason));
        }
        if let Err(reason) = self.build(place, wish.clone(), fence).await? {
            return Ok(Err(reason));
        }
        self.changed(place, &wish.name, IndexChange::Replaced);
        Ok(Ok(()))
    }

    /// Builds the index that stands in for this one. An error means that this one cannot be built: the old one stays then.
    async fn let_stand_in(&self, place: &Place, wish: &Wish, fence: i64) -> Done {
        let told = |why: &str| {
            tracing::info!(
                app = place.app,
                namespace = place.namespace(),
                index = wish.name,
                why,
                "an index is dropped before the one that replaces it is built"
            );
        };
        let Some(stand_in) = wish.stand_in() else {
            told("no other index does its work beside it");
            return Ok(Ok(()));
        };
        let taken = self.listed(place).await?.unwrap_or_default();
        let record = Record {
            wish: stand_in,
            spec: None,
            is_made: true,
            is_stand_in: true,
        };
        let name = stand_in_name(&wish.name);
        let known = self.records.of(place).await?;
        let is_ours = known.get(&name).is_some_and(|record| record.is_stand_in);
        if taken.contains_key(&name) && !is_ours {
            told("the name of a stand-in is taken");
            return Ok(Ok(()));
        }
        self.records.save(place, &record, fence).await?;
        let reply = self.create(place, &record.wish).await?;
        if is_ok(&reply) {
            return Ok(Ok(()));
        }
        self.records.forget(place, &name).await?;
        let reason = Reason::of_reply(&reply);
        // A conflict with another index, or no room for one more.
        if is_conflict(&reply) || reason.code == CANNOT_CREATE_INDEX {
            told(&reason.text);
            return Ok(Ok(()));
        }
        Ok(Err(reason))
    }

    /// Drops what stands in for an index and cannot stand beside it: before 5.0 the key pattern alone tells indexes apart. Gives
    /// whether there was such a one.
    async fn take_stand_in(&self, place: &Place, index: &str) -> Result<bool, Trouble> {
        let name = stand_in_name(index);
        let record = self.records.of(place).await?.remove(&name);
        if !record.is_some_and(|record| record.is_stand_in) {
            return Ok(false);
        }
        Ok(self.drop_index(place, &name).await?.is_ok())
    }

    async fn drop_index(&self, place: &Place, name: &str) -> Done {
        let command = doc! {"dropIndexes": &place.collection, "index": name};
        let reply = self.apps.run(place, command).await?;
        if !is_ok(&reply) && code_of(&reply) != INDEX_NOT_FOUND {
            return Ok(Err(Reason::of_reply(&reply)));
        }
        self.records.forget(place, name).await?;
        Ok(Ok(()))
    }

    /// Records what the server made of a wish.
    async fn settle(&self, place: &Place, record: Record, fence: i64) -> Result<(), Trouble> {
        let listed = self.listed(place).await?.unwrap_or_default();
        let spec = listed.get(&record.wish.name).cloned();
        let record = Record { spec, ..record };
        Ok(self.records.save(place, &record, fence).await?)
    }

    fn changed(&self, place: &Place, index: &str, change: IndexChange) {
        use mdb_telemetry::Label;
        self.metrics.index_change(change);
        tracing::info!(
            app = place.app,
            namespace = place.namespace(),
            index,
            change = change.text(),
            "an index of a manifest"
        );
    }
}

const INDEX_NOT_FOUND: i32 = 27;

/// A collection has at most 64.
const INDEXES_MAX: i32 = 100;

fn code_of(reply: &Document) -> i32 {
    reply.get_i32("code").unwrap_or_default()
}

fn is_ok(reply: &Document) -> bool {
    reply.get("ok") == Some(&Bson::Double(1.0))
}

/// Whether a `createIndexes` has built something.
fn has_grown(reply: &Document) -> bool {
    let count = |field| reply.get_i32(field).unwrap_or_default();
    count("numIndexesAfter") > count("numIndexesBefore")
}
