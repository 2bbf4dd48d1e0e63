//! Which indexes are wanted, and whether there is evidence for them.

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use mdb_scope::{AppId, Isolation};
use mdb_shape::{Candidate, Shape, candidates};
use mdb_telemetry::IndexEvent;
use mongodb::error::Error as DriverError;

use crate::aftercare::may_come_back;
use crate::physical::{Existing, Wanted};
use crate::sample::{EXPLAINED_MAX, Evidence};
use crate::settings::{Mode, Settings, millis};
use crate::store::{Decision, FleetShape, IndexRow, count_of, stored};
use crate::table::{Namespace, SHAPES_MAX};
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

/// Commands on a collection that a wish may take: a count, explains, and one afterwards.
#[allow(clippy::cast_possible_truncation, reason = "a few")]
const COMMANDS_OF_A_WISH: u32 = 2 + EXPLAINED_MAX as u32;

/// What is quiet of a wish that lacks a command to explain.
fn sample_of(id: &str) -> String {
    format!("sample of {id}")
}

/// A step towards a build.
pub(crate) enum Judged {
    Build(Evidence),
    Not(Decision),
    /// Nothing to be said: another proxy may know more.
    Unknown,
}

/// What the plan of a recent command says, and whether it may be acted on now.
fn judge_plan(
    settings: &Settings,
    wish: &Wish,
    evidence: Evidence,
    figures: Document,
    now: i64,
) -> Judged {
    let plan = &evidence.figures;
    if !plan.asks_for_index(settings) {
        let text = format!(
            "a recent command {}: an index would gain little",
            plan.words()
        );
        return not("no", "good_enough", text, figures);
    }
    if settings.mode == Mode::Advise || wish.is_advice {
        let text = format!(
            "it would serve commands that {}; the mode is `advise`",
            plan.words()
        );
        return not("advise", "mode", text, figures);
    }
    let window = settings.build_window;
    if window.is_some_and(|window| !window.holds(now)) {
        let text = "it waits for the build window".to_owned();
        return not("wait", "window", text, figures);
    }
    Judged::Build(evidence)
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
    /// Looks at what is wanted, until one index was built or there are not enough commands for another look.
    pub(crate) async fn consider(&mut self, now: i64) -> Result<(), DriverError> {
        let ripe = self.ripe(now);
        if ripe.is_empty() {
            return Ok(());
        }
        self.blocked = self.store.blocked().await?;
        self.looked_at.retain(|known, _| ripe.contains_key(known));
        let mut due = Vec::new();
        for (namespace, ids) in ripe {
            self.advise_special(&namespace, &ids, now).await?;
            let wishes = self.wishes_due(&namespace, &ids);
            if !wishes.is_empty() {
                let lacks_sample = !wishes.iter().any(|wish| self.has_sample(wish));
                let looked_at = self.looked_at.get(&namespace).copied();
                // Without the wishes themselves: those of all collections take too much memory.
                due.push((lacks_sample, looked_at, namespace, ids));
            }
        }
        // Where there is nothing to explain, little comes of a look; and nobody waits for ever behind the others.
        due.sort_by(|a, b| (a.0, a.1, &a.2).cmp(&(b.0, b.1, &b.2)));
        for (_, _, namespace, ids) in due {
            if self.allowance.left() <= COMMANDS_OF_A_WISH {
                return Ok(());
            }
            self.may_ask();
            let existing = Existing::read(self.store.client(), &namespace).await?;
            let wishes = self.wishes_due(&namespace, &ids);
            self.looked_at.insert(namespace, now);
            for wish in wishes {
                if self.allowance.left() < COMMANDS_OF_A_WISH {
                    return Ok(());
                }
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

    fn wishes_due(&self, namespace: &Namespace, ids: &[String]) -> Vec<Wish> {
        let mut wishes = self.wishes(namespace, ids);
        wishes.retain(|wish| self.is_due(wish));
        wishes
    }

    /// Whether a wish is to be looked at now: not soon after a "no", and what lacked a command to explain when there is one.
    fn is_due(&self, wish: &Wish) -> bool {
        let id = wish.wanted.id();
        let lacked = self.quiet.contains_key(&sample_of(&id));
        !self.quiet.contains_key(&id) && (!lacked || self.has_sample(wish))
    }

    /// Nothing can be said without a command to explain.
    async fn lacks_sample(&mut self, row: &IndexRow, now: i64) -> Result<(), DriverError> {
        // Another proxy may have what this one lacks.
        self.lacks_probe = true;
        self.hush(sample_of(&row.id), now);
        let decision = Decision {
            verdict: "wait",
            reason: "sample",
            text: "no recent command that would use it is at hand to be explained: none came since the proxy was started, or each is longer than a kilobyte".to_owned(),
            figures: doc! {},
        };
        self.decide(row, decision, now).await
    }

    /// Collections with shapes that were seen often, long enough, and of late.
    fn ripe(&self, now: i64) -> BTreeMap<Namespace, Vec<String>> {
        let settings = &self.settings;
        let mut ripe: BTreeMap<Namespace, Vec<String>> = BTreeMap::new();
        for (id, shape) in &self.fleet.shapes {
            let is_long = shape.last_seen - shape.first_seen >= millis(settings.seen_over);
            let is_recent = now - shape.last_seen < millis(settings.unused_for);
            if shape.calls.reads >= settings.seen_min && is_long && is_recent {
                let namespace = shape.placed.namespace.clone();
                ripe.entry(namespace).or_default().push(id.clone());
            }
        }
        ripe
    }

    /// The indexes for shapes of one collection. Where one cannot be had, the shapes that would do with less get that.
    fn wishes(&self, namespace: &Namespace, ids: &[String]) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let mut left: Vec<(&String, &FleetShape)> = ids
            .iter()
            .filter_map(|id| Some((id, &**self.fleet.shapes.get(id)?)))
            .collect();
        // Of the first time those of all apps; then of those that lack the longer one.
        let mut apps: Option<BTreeSet<Option<AppId>>> = None;
        while !left.is_empty() {
            let shapes: Vec<&Shape> = left.iter().map(|(_, s)| &s.placed.shape).collect();
            let (mut shorter, mut lacking) = (Vec::new(), BTreeSet::new());
            for candidate in candidates(&shapes, &self.field) {
                let served = candidate.serves.iter();
                let served: Vec<_> = served.filter_map(|at| left.get(*at).copied()).collect();
                let mut found = self.wishes_for(namespace, &candidate, &served);
                found.retain(|wish| {
                    apps.as_ref()
                        .is_none_or(|apps| apps.contains(&wish.wanted.app))
                });
                let blocked = found
                    .iter()
                    .filter(|wish| self.blocked.contains(&wish.wanted.id()));
                let blocked: Vec<_> = blocked.map(|wish| wish.wanted.app.clone()).collect();
                if !blocked.is_empty() {
                    let has_less = |shape: &Shape| {
                        let own = candidates(&[shape], &self.field);
                        own.iter()
                            .any(|own| own.key.0.len() < candidate.key.0.len())
                    };
                    shorter.extend(served.iter().filter(|(_, s)| has_less(&s.placed.shape)));
                    lacking.extend(blocked);
                }
                wishes.extend(found);
            }
            left = shorter;
            apps = Some(lacking);
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
        let apps = known.iter().flat_map(|(_, s)| s.apps());
        let apps = apps.map(|of| &*of.slug);
        let apps: BTreeSet<&str> = apps.filter(|app| !self.apps.off.contains(*app)).collect();
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
                Some(app) => shape.calls(Some(app.as_str())).reads,
            };
            let mut serves: Vec<(u64, &String)> =
                known.iter().map(|(id, s)| (count(s), *id)).collect();
            serves.retain(|(reads, _)| *reads > 0);
            serves.sort_by(|a, b| b.cmp(a));
            let reads = serves.iter().map(|(reads, _)| reads).sum();
            let advised = &self.apps.advise;
            Wish {
                serves: serves.into_iter().map(|(_, id)| id.clone()).collect(),
                reads,
                writes: self.writes(namespace, app.as_ref(), known),
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

    /// Writes since the first of these shapes was seen: to the collection, or, for an index of one app, those of that app, since
    /// no others cost it anything.
    fn writes(
        &self,
        namespace: &Namespace,
        app: Option<&AppId>,
        known: &[(&String, &FleetShape)],
    ) -> u64 {
        let Some(writes) = self.fleet.writes.get(&namespace.to_string()) else {
            return 0;
        };
        let shapes = known.iter().map(|(_, shape)| shape);
        let (all, before) = match app {
            None => (writes.all, shapes.map(|shape| shape.writes_before).min()),
            Some(app) => {
                let before = shapes.filter_map(|shape| shape.of_app(app.as_str())?.own_before);
                (writes.of_app(app.as_str()), before.min())
            }
        };
        all.saturating_sub(before.unwrap_or(0))
    }

    /// Reads of a shape, without those of apps that are as if they had not queried.
    fn reads(&self, shape: &FleetShape) -> u64 {
        let off = shape.apps().filter(|of| self.apps.off.contains(&*of.slug));
        let all = shape.calls.reads;
        all.saturating_sub(off.map(|of| of.calls.reads).sum())
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
            && let Some(done) = self.consider_again(wish, stored, existing, now).await?
        {
            return Ok(done);
        }
        if !self.has_sample(wish) {
            self.lacks_sample(&row, now).await?;
            return Ok(false);
        }
        let judged = self.judge(wish, existing, now).await?;
        match judged {
            Judged::Build(evidence) => {
                self.metrics.index_event(IndexEvent::Candidate);
                self.build(wish, &evidence, now).await?;
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
                // Another proxy may have one that is explained.
                self.lacks_probe = true;
                let decision = Decision {
                    verdict: "wait",
                    reason: "unexplained",
                    text: "the server did not explain a recent command as a find, so that nothing is known of its plan".to_owned(),
                    figures: doc! {},
                };
                self.decide(&row, decision, now).await?;
                self.hush(row.id, now);
                Ok(false)
            }
        }
    }

    /// One that was tried before: `Some` if that settles it.
    async fn consider_again(
        &mut self,
        wish: &Wish,
        stored: &Document,
        existing: &Existing,
        now: i64,
    ) -> Result<Option<bool>, DriverError> {
        let row = &wish.row();
        let is_there = existing.find(&row.name).is_some();
        let since = self.latency_since(stored, "reads_hidden", "micros_hidden");
        let is_wanted = since.is_some_and(|(calls, _)| calls >= self.settings.seen_min);
        match stored.get_str("state").unwrap_or_default() {
            "hidden" if is_there && may_come_back(stored) && is_wanted => {
                self.show_if_needed(wish, now).await.map(Some)
            }
            // What is hidden and was not proved waits for its end, and what an operator has dropped stays away.
            "hidden" if is_there => Ok(Some(false)),
            "dropped" if !is_wanted => Ok(Some(false)),
            // The order stands until there is a turn for it.
            "ordered" => Ok(Some(false)),
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

    /// Shows an index again whose shapes come and that nothing has used, unless they do without.
    async fn show_if_needed(&mut self, wish: &Wish, now: i64) -> Result<bool, DriverError> {
        let row = wish.row();
        let without_it = self.explain_any(wish).await?;
        let figures = without_it.map(|evidence| evidence.figures);
        let needless = figures.filter(|figures| !figures.asks_for_index(&self.settings));
        let Some(figures) = needless else {
            self.show(&row, "wanted", now).await?;
            return Ok(true);
        };
        let decision = Decision {
            verdict: "no",
            reason: "good_enough",
            text: format!(
                "it stays hidden: without it, a recent command {}",
                figures.words()
            ),
            figures: figures.document(),
        };
        self.decide(&row, decision, now).await?;
        self.hush(row.id, now);
        Ok(false)
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
        let (reads, writes) = self.load_of(wish);
        let load = doc! {"reads": stored(reads), "writes": stored(writes)};
        if writes > reads.saturating_mul(settings.writes_per_read_max) {
            if self.heavy.len() >= SHAPES_MAX {
                self.heavy.clear();
            }
            let now_at = (wish.reads, wish.writes);
            self.heavy.insert(wish.wanted.id(), now_at);
            let text = format!(
                "{writes} writes for {reads} reads: the index would cost more than it gives"
            );
            return Ok(not("advise", "write_heavy", text, load));
        }
        let Some(evidence) = self.explain_any(wish).await? else {
            return Ok(Judged::Unknown);
        };
        let mut figures = evidence.figures.document();
        figures.extend(load);
        Ok(judge_plan(&settings, wish, evidence, figures, now))
    }

    /// Reads and writes that count: since it was last found that there are too many writes, if there were reads enough, so that
    /// an import is not held against an index for ever; or else all.
    fn load_of(&self, wish: &Wish) -> (u64, u64) {
        let (reads, writes) = (wish.reads, wish.writes);
        let before = self.heavy.get(&wish.wanted.id()).copied();
        let since = before.map(|(r, w)| (reads.saturating_sub(r), writes.saturating_sub(w)));
        let since = since.filter(|(reads, _)| *reads >= self.settings.seen_min);
        since.unwrap_or((reads, writes))
    }

    async fn documents(&mut self, namespace: &Namespace) -> Result<u64, DriverError> {
        self.may_ask();
        let reply = self
            .run_on(namespace, doc! {"count": &namespace.collection})
            .await?;
        Ok(count_of(&reply, "n"))
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
