//! Which indexes are wanted, and whether there is evidence for them.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Bson, Document, doc};
use mdb_scope::{AppId, Isolation};
use mdb_shape::{Candidate, Probe, Shape, candidates};
use mdb_telemetry::IndexEvent;
use mongodb::error::Error as DriverError;

use crate::evidence::PlanFigures;
use crate::physical::{Existing, Wanted};
use crate::settings::{Mode, millis};
use crate::store::{Decision, FleetShape, IndexRow, count_of, stored};
use crate::table::Namespace;
use crate::worker::Worker;

/// An index that would serve shapes.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) wanted: Wanted,
    /// Ids of the shapes, those seen most first.
    pub(crate) serves: Vec<String>,
    /// Reads of them.
    reads: u64,
    /// Writes to the collection since the first of them was seen.
    writes: u64,
    /// Whether all apps that want it are to get advice only.
    is_advice: bool,
    candidate: Candidate,
}

impl Wish {
    pub(crate) fn row(&self) -> IndexRow {
        IndexRow {
            id: self.wanted.id(),
            namespace: self.wanted.namespace.clone(),
            name: self.wanted.name(),
        }
    }
}

/// A step towards a build.
pub(crate) enum Judged {
    Build(PlanFigures),
    Not(Decision),
    /// Nothing to be said: another proxy may know more.
    Unknown,
}

fn not(verdict: &'static str, reason: &'static str, text: String, figures: Document) -> Judged {
    Judged::Not(Decision {
        verdict,
        reason,
        text,
        figures,
    })
}

impl Worker {
    /// Looks at what is wanted, until one index was built or the round has no commands left.
    pub(crate) async fn consider(&mut self, now: i64) -> Result<(), DriverError> {
        for (namespace, ids) in self.ripe(now) {
            self.advise_special(&namespace, &ids, now).await?;
            let mut wishes = self.wishes(&namespace, &ids);
            wishes.retain(|wish| !self.quiet.contains_key(&wish.wanted.id()));
            if wishes.is_empty() || !self.may_ask() {
                continue;
            }
            let existing = Existing::read(self.store.client(), &namespace).await?;
            for wish in wishes {
                let Some(existing) = &existing else {
                    self.hush(wish.wanted.id(), now);
                    continue;
                };
                if self.consider_one(&wish, existing, now).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Collections with shapes that were seen often, long enough, and of late.
    fn ripe(&self, now: i64) -> BTreeMap<Namespace, Vec<String>> {
        let settings = &self.settings;
        let mut ripe: BTreeMap<Namespace, Vec<String>> = BTreeMap::new();
        for (id, shape) in &self.fleet.shapes {
            let is_long = shape.last_seen - shape.first_seen >= millis(settings.seen_over);
            let is_recent = now - shape.last_seen < millis(settings.unused_for);
            if shape.reads >= settings.seen_min && is_long && is_recent {
                let namespace = shape.placed.namespace.clone();
                ripe.entry(namespace).or_default().push(id.clone());
            }
        }
        ripe
    }

    /// The indexes for shapes of one collection.
    fn wishes(&self, namespace: &Namespace, ids: &[String]) -> Vec<Wish> {
        let known: Vec<(&String, &FleetShape)> = ids
            .iter()
            .filter_map(|id| Some((id, self.fleet.shapes.get(id)?)))
            .collect();
        let shapes: Vec<&Shape> = known.iter().map(|(_, s)| &s.placed.shape).collect();
        let mut wishes = Vec::new();
        for candidate in candidates(&shapes, &self.field) {
            let served: Vec<(&String, &FleetShape)> = candidate
                .serves
                .iter()
                .filter_map(|place| known.get(*place).copied())
                .collect();
            wishes.extend(self.wishes_for(namespace, &candidate, &served));
        }
        wishes
    }

    /// One index for all apps, or one for each.
    fn wishes_for(
        &self,
        namespace: &Namespace,
        candidate: &Candidate,
        known: &[(&String, &FleetShape)],
    ) -> Vec<Wish> {
        let isolation = known
            .first()
            .map_or(Isolation::Shared, |(_, s)| s.placed.isolation);
        let apps = known.iter().flat_map(|(_, s)| s.apps.keys());
        let apps: BTreeSet<&String> = apps.filter(|app| !self.apps.off.contains(*app)).collect();
        let is_one_for_all = isolation == Isolation::Dedicated
            || candidate.key.0.len() == 1
            || apps.len() >= self.settings.shared_from_apps;
        let owners: Vec<Option<AppId>> = if is_one_for_all {
            vec![None]
        } else {
            let slugs = apps.iter().filter_map(|app| AppId::parse(app).ok());
            slugs.map(Some).collect()
        };
        let make = |app: Option<AppId>| {
            let count = |shape: &FleetShape| match &app {
                None => self.reads(shape),
                Some(app) => shape.apps.get(app.as_str()).copied().unwrap_or(0),
            };
            let mut serves: Vec<(u64, &String)> =
                known.iter().map(|(id, s)| (count(s), *id)).collect();
            serves.retain(|(reads, _)| *reads > 0);
            serves.sort_by(|a, b| b.cmp(a));
            let reads = serves.iter().map(|(reads, _)| reads).sum();
            let before = known.iter().map(|(_, s)| s.writes_before).min();
            let writes = self.fleet.writes.get(&namespace.to_string());
            let advised = &self.apps.advise;
            Wish {
                serves: serves.into_iter().map(|(_, id)| id.clone()).collect(),
                reads,
                writes: writes
                    .copied()
                    .unwrap_or(0)
                    .saturating_sub(before.unwrap_or(0)),
                is_advice: match &app {
                    Some(app) => advised.contains(app.as_str()),
                    None => apps.iter().all(|app| advised.contains(*app)),
                },
                wanted: Wanted {
                    namespace: namespace.clone(),
                    isolation,
                    app,
                    key: candidate.key.clone(),
                    collation: candidate.collation.clone(),
                },
                candidate: candidate.clone(),
            }
        };
        let wishes = owners.into_iter().map(make);
        wishes
            .filter(|wish| wish.reads >= self.settings.seen_min)
            .collect()
    }

    /// Reads of a shape, without those of apps that are as if they had not queried.
    fn reads(&self, shape: &FleetShape) -> u64 {
        let off = shape.apps.iter();
        let off = off.filter(|(app, _)| self.apps.off.contains(*app));
        shape
            .reads
            .saturating_sub(off.map(|(_, reads)| reads).sum())
    }

    /// Whether it was built, or another large step was taken.
    async fn consider_one(
        &mut self,
        wish: &Wish,
        existing: &Existing,
        now: i64,
    ) -> Result<bool, DriverError> {
        let row = wish.row();
        let serving = existing.serving(&wish.wanted, &self.field);
        if serving
            .iter()
            .any(|index| wish.candidate.is_served_by(index))
        {
            self.hush(row.id, now);
            return Ok(false);
        }
        let stored = self.store.index(&row.id).await?;
        if let Some(stored) = &stored
            && let Some(done) = self.consider_again(&row, stored, existing, now).await?
        {
            return Ok(done);
        }
        let judged = self.judge(wish, existing, now).await?;
        match judged {
            Judged::Build(before) => {
                self.metrics.index_event(IndexEvent::Candidate);
                self.build(wish, &before, now).await?;
                Ok(true)
            }
            Judged::Not(decision) => {
                if decision.verdict == "advise" {
                    self.keep_advice(wish, &row, now).await?;
                }
                self.decide(&row, decision, now).await?;
                self.hush(row.id, now);
                Ok(false)
            }
            Judged::Unknown => {
                self.lacks_probe = true;
                Ok(false)
            }
        }
    }

    /// One that was tried before: `Some` if that settles it.
    async fn consider_again(
        &mut self,
        row: &IndexRow,
        stored: &Document,
        existing: &Existing,
        now: i64,
    ) -> Result<Option<bool>, DriverError> {
        let is_there = existing.find(&row.name).is_some();
        let is_unused = stored.get_str("why").is_ok_and(|why| why == "unused");
        let since = self.latency_since(stored, "reads_hidden", "micros_hidden");
        let is_wanted = since.is_some_and(|(calls, _)| calls >= self.settings.seen_min);
        match stored.get_str("state").unwrap_or_default() {
            "hidden" if is_there && is_unused && is_wanted => {
                self.show(row, "wanted", now).await?;
                Ok(Some(true))
            }
            // What is hidden and was not proved waits for its end, and what an operator has dropped stays away.
            "hidden" if is_there => Ok(Some(false)),
            "dropped" if !is_wanted => Ok(Some(false)),
            "refused" => {
                self.hush(row.id.clone(), now);
                Ok(Some(false))
            }
            "failed" => {
                let retry_at = stored.get_datetime("retry_at");
                let retry_at = retry_at.map_or(0, |at| at.timestamp_millis());
                if retry_at > now {
                    self.quiet.insert(row.id.clone(), retry_at);
                    return Ok(Some(false));
                }
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether all conditions for a build hold, the cheapest first.
    async fn judge(
        &mut self,
        wish: &Wish,
        existing: &Existing,
        now: i64,
    ) -> Result<Judged, DriverError> {
        let settings = self.settings.clone();
        let (all, automatic) = (existing.all.len(), existing.automatic());
        let counts = doc! {"indexes": stored(all as u64), "automatic": stored(automatic as u64)};
        if all >= settings.indexes_max {
            let text = format!(
                "the collection has {all} indexes; the limit for adding one is {}",
                settings.indexes_max
            );
            return Ok(not("no", "full", text, counts));
        }
        if automatic >= settings.automatic_max {
            let text = format!(
                "the collection has {automatic} automatic indexes; the budget is {}",
                settings.automatic_max
            );
            return Ok(not("no", "budget", text, counts));
        }
        let documents = self.documents(&wish.wanted.namespace).await?;
        if documents < settings.documents_min {
            let text = format!(
                "{documents} documents are too few for an index; {} are the least",
                settings.documents_min
            );
            return Ok(not(
                "wait",
                "small",
                text,
                doc! {"documents": stored(documents)},
            ));
        }
        let load = doc! {"reads": stored(wish.reads), "writes": stored(wish.writes)};
        if wish.writes > wish.reads.saturating_mul(settings.writes_per_read_max) {
            let text = format!(
                "{} writes for {} reads: the index would cost more than it gives",
                wish.writes, wish.reads
            );
            return Ok(not("advise", "write_heavy", text, load));
        }
        let Some(plan) = self.explain_any(wish).await? else {
            return Ok(Judged::Unknown);
        };
        let mut figures = plan.document();
        figures.extend(load);
        if !plan.asks_for_index(&settings) {
            let text = format!(
                "a recent command examined {} documents and returned {}: an index would gain little",
                plan.examined, plan.returned
            );
            return Ok(not("no", "good_enough", text, figures));
        }
        if settings.mode == Mode::Advise || wish.is_advice {
            let text = format!(
                "it would serve commands that examined {} documents and returned {}; the mode is `advise`",
                plan.examined, plan.returned
            );
            return Ok(not("advise", "mode", text, figures));
        }
        if settings
            .build_window
            .is_some_and(|window| !window.holds(now))
        {
            let text = "it waits for the build window".to_owned();
            return Ok(not("wait", "window", text, figures));
        }
        Ok(Judged::Build(plan))
    }

    async fn documents(&mut self, namespace: &Namespace) -> Result<u64, DriverError> {
        self.may_ask();
        let reply = self
            .run_on(namespace, doc! {"count": &namespace.collection})
            .await?;
        Ok(count_of(&reply, "n"))
    }

    /// Explains a recent command of one of the shapes: the first that asks for an index, or else the last.
    async fn explain_any(&mut self, wish: &Wish) -> Result<Option<PlanFigures>, DriverError> {
        const TRIED_MAX: usize = 3;
        let mut last = None;
        for id in wish.serves.iter().take(TRIED_MAX) {
            let plan = self.explain(id, &wish.wanted).await?;
            if plan
                .as_ref()
                .is_some_and(|p| p.asks_for_index(&self.settings))
            {
                return Ok(plan);
            }
            last = plan.or(last);
        }
        Ok(last)
    }

    /// Explains a recent command of a shape as a `find`; `None` if there is none or the upstream does not explain it.
    pub(crate) async fn explain(
        &mut self,
        id: &str,
        wanted: &Wanted,
    ) -> Result<Option<PlanFigures>, DriverError> {
        let Some((app, probe)) = self.table.probe(id, wanted.app.as_ref()) else {
            return Ok(None);
        };
        let (app, probe) = (app.clone(), probe.clone());
        if !self.may_ask() {
            return Ok(None);
        }
        let own = match wanted.isolation {
            Isolation::Shared => Some(doc! {&self.field: app.as_str()}),
            Isolation::Dedicated => None,
        };
        let Some(mut find) = self.as_find(&wanted.namespace, probe, own).await? else {
            return Ok(None);
        };
        if let Some(bytes) = &wanted.collation
            && let Ok(collation) = bson::deserialize_from_slice::<Document>(bytes)
        {
            find.insert("collation", collation);
        }
        find.insert("maxTimeMS", millis(self.settings.explain_timeout));
        let command = doc! {"explain": find, "verbosity": "executionStats"};
        match self.run_on(&wanted.namespace, command).await {
            Ok(reply) => Ok(PlanFigures::read(&reply)),
            Err(error) => {
                // A filter that only makes sense inside its command, or one that takes too long.
                tracing::debug!(
                    code = crate::physical::code_of(&error),
                    "a command was not explained"
                );
                Ok(None)
            }
        }
    }

    async fn as_find(
        &self,
        namespace: &Namespace,
        probe: Probe,
        own: Option<Document>,
    ) -> Result<Option<Document>, DriverError> {
        let bound = |filter: Document| match &own {
            Some(own) => doc! {"$and": [own.clone(), filter]},
            None => filter,
        };
        let collection = namespace.collection.as_str();
        match probe {
            Probe::Query {
                filter,
                sort,
                skip,
                limit,
            } => {
                let Ok(filter) = bson::deserialize_from_slice::<Document>(&filter) else {
                    return Ok(None);
                };
                let mut find = doc! {"find": collection, "filter": bound(filter), "skip": skip, "limit": limit};
                let sort = sort.and_then(|s| bson::deserialize_from_slice::<Document>(&s).ok());
                if let Some(sort) = sort {
                    find.insert("sort", sort);
                }
                Ok(Some(find))
            }
            Probe::Foreign { fields, filter } => {
                let filter = bson::deserialize_from_slice::<Document>(&filter);
                let also =
                    |fields: Document| doc! {"$and": [fields, filter.clone().unwrap_or_default()]};
                let exist = fields
                    .iter()
                    .map(|field| (field.clone(), bson::bson!({"$exists": true})));
                let documents = self.store.client().database(&namespace.database);
                let documents = documents.collection::<Document>(collection);
                let some = documents.find_one(bound(also(exist.collect())));
                let some = some.max_time(self.settings.explain_timeout).await?;
                let values = some.as_ref().and_then(|found| {
                    let value = |field: &String| Some((field.clone(), at_path(found, field)?));
                    fields.iter().map(value).collect::<Option<Document>>()
                });
                Ok(values.map(|values| doc! {"find": collection, "filter": bound(also(values))}))
            }
        }
    }

    /// Text and geo indexes are never made by themselves.
    async fn advise_special(
        &mut self,
        namespace: &Namespace,
        ids: &[String],
        now: i64,
    ) -> Result<(), DriverError> {
        for id in ids {
            let shape = self.fleet.shapes.get(id).map(|known| &known.placed.shape);
            let Some(shape) = shape.filter(|shape| shape.is_special) else {
                continue;
            };
            if self.quiet.contains_key(id) {
                continue;
            }
            let decision = Decision {
                verdict: "advise",
                reason: "special",
                text: format!(
                    "{shape} needs an index of a special kind (text or geo); its app has to create it"
                ),
                figures: doc! {},
            };
            let row = IndexRow {
                id: id.clone(),
                namespace: namespace.clone(),
                name: "(special)".to_owned(),
            };
            self.decide(&row, decision, now).await?;
            self.hush(id.clone(), now);
        }
        Ok(())
    }
}

/// A value at a dotted path, the first of an array.
fn at_path(document: &Document, path: &str) -> Option<Bson> {
    let mut parts = path.split('.');
    let mut value = document.get(parts.next()?)?;
    for part in parts {
        value = match value {
            Bson::Array(items) => items.first()?,
            other => other,
        };
        value = value.as_document()?.get(part)?;
    }
    match value {
        Bson::Array(items) => items.first().cloned(),
        other => Some(other.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_through_arrays() {
        let document = doc! {"a": {"b": [{"c": [5, 6]}]}, "x": null};
        for (path, expected) in [
            ("a.b.c", Some(Bson::Int32(5))),
            ("x", Some(Bson::Null)),
            ("a.y", None),
            ("x.y", None),
        ] {
            assert_eq!(at_path(&document, path), expected, "{path}");
        }
    }
}
