//! What becomes of automatic indexes: compared, hidden, shown again, dropped.

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures_util::TryStreamExt;
use mdb_scope::{automatic_index_app, automatic_index_shown};
use mdb_telemetry::IndexEvent;
use mongodb::ServerInfo;
use mongodb::error::Error as DriverError;
use mongodb::options::SelectionCriteria;

use crate::build::is_refused;
use crate::physical::{Existing, code_of, is_being_built, is_covered};
use crate::settings::millis;
use crate::store::{Decision, IndexRow, count_of, stored};
use crate::table::{Calls, Namespace};
use crate::worker::Worker;

/// Between two looks at the usage of a collection's indexes.
const USAGE_EVERY_MILLIS: i64 = 60 * 60 * 1000;

/// What is quiet after a member has not told how indexes are used.
const USAGE: &str = "usage";

/// Calls of a shape while its index is hidden, before a rise of its latency counts.
const MISSED_CALLS_MIN: u64 = 20;

/// Why an index is hidden that may be missed: nothing spoke against it.
const HARMLESS: [&str; 2] = ["unused", "redundant"];

/// Whether a hidden index comes back when its shapes need it.
pub(crate) fn may_come_back(found: &Document) -> bool {
    found
        .get_str("why")
        .is_ok_and(|why| HARMLESS.contains(&why))
}

/// States of an index that stands.
const STANDING: [&str; 2] = ["watched", "kept"];

/// How an index is used, and what it is.
#[derive(Debug, Default)]
struct Used {
    ops: u64,
    definition: Document,
}

/// An index of the collection that serves whatever this automatic one serves: one of an app, or an automatic one that is kept.
fn covering(
    used: &Used,
    all: &BTreeMap<String, Used>,
    automatic: &[(IndexRow, Document)],
) -> Option<String> {
    let is_sure = |name: &str| {
        let kept = |found: &Document| found.get_str("state").is_ok_and(|state| state == "kept");
        let known = automatic.iter().find(|(row, _)| row.name == name);
        automatic_index_shown(name).is_none() || known.is_some_and(|(_, found)| kept(found))
    };
    let mut others = all.iter().filter(|(name, _)| is_sure(name));
    let found = others.find(|(_, other)| is_covered(&used.definition, &other.definition));
    found.map(|(name, _)| name.clone())
}

impl Worker {
    /// Goes on with what was begun: by this process, or by one that is gone.
    pub(crate) async fn go_on(&mut self, now: i64) -> Result<(), DriverError> {
        for found in self
            .store
            .indexes(&["building", "ordered", "watched", "hidden"])
            .await?
        {
            let Some(row) = IndexRow::read(&found) else {
                continue;
            };
            // Nothing else is ever touched, whatever is written in the control database.
            if automatic_index_shown(&row.name).is_none() {
                continue;
            }
            match found.get_str("state").unwrap_or_default() {
                "building" => self.recover(&row, now).await?,
                "ordered" => self.build_ordered(&row, &found, now).await?,
                "watched" => self.compare(&row, &found, now).await?,
                _ => self.soak(&row, &found, now).await?,
            }
        }
        Ok(())
    }

    /// A build that nobody has finished: it is either there, or not.
    async fn recover(&mut self, row: &IndexRow, now: i64) -> Result<(), DriverError> {
        self.may_ask();
        if is_being_built(self.store.client(), &row.namespace).await? {
            let decision = Decision {
                verdict: "wait",
                reason: "unfinished",
                text: "whoever began to build has gone; the server goes on".to_owned(),
                figures: doc! {},
            };
            return self.decide(row, decision, now).await;
        }
        self.may_ask();
        let existing = Existing::read(self.store.client(), &row.namespace).await?;
        let is_there = existing.is_some_and(|existing| existing.find(&row.name).is_some());
        let at = DateTime::from_millis(now);
        let (state, text) = if is_there {
            self.store.tell(&row.namespace).await?;
            ("watched", "whoever built it has gone; it stands")
        } else {
            (
                "failed",
                "whoever built it has gone, and it is not there; it may be tried again",
            )
        };
        let fields = doc! {"state": state, "state_at": at, "retry_at": at};
        self.store.set_index(row, fields).await?;
        let decision = Decision {
            verdict: if is_there { "keep" } else { "wait" },
            reason: "recovered",
            text: text.to_owned(),
            figures: doc! {},
        };
        self.decide(row, decision, now).await
    }

    /// What an operator has asked for, without evidence.
    async fn build_ordered(
        &mut self,
        row: &IndexRow,
        found: &Document,
        now: i64,
    ) -> Result<(), DriverError> {
        let Ok(definition) = found.get_document("definition") else {
            return Ok(());
        };
        let on = std::slice::from_ref(&row.namespace);
        let Some(lease) = self.leases.take_to_build(on).await? else {
            return Ok(());
        };
        let at = DateTime::from_millis(now);
        tracing::info!(namespace = %row.namespace, index = row.name, "building an index that an operator asked for");
        let built = self.while_building(&lease, &row.namespace, definition);
        let built = built.await?;
        lease.release().await;
        let known = self.store.index(&row.id).await?.unwrap_or_default();
        if built.is_err() && is_refused(&known) {
            // An operator has thought better of it meanwhile.
            return Ok(());
        }
        let calls = self.calls_until_now(found).unwrap_or_default();
        let (state, verdict, event, text) = match &built {
            Ok(_) => {
                tracing::info!(namespace = %row.namespace, index = row.name, "an index is built");
                let text = "built because an operator asked for it".to_owned();
                ("watched", "build", IndexEvent::Build, text)
            }
            Err(error) => {
                let code = code_of(error).unwrap_or(0);
                tracing::warn!(namespace = %row.namespace, index = row.name, code, "an index was not built");
                let text = format!("the server did not build it (code {code})");
                ("failed", "fail", IndexEvent::Failure, text)
            }
        };
        let fields = doc! {
            "state": state, "state_at": at, "created_at": at, "used_at": at, "retry_at": at, "ops": 0_i64,
            "reads_before": stored(calls.reads), "micros_before": stored(calls.micros),
        };
        self.store.set_index(row, fields).await?;
        self.store.tell(&row.namespace).await?;
        self.metrics.index_event(event);
        let decision = Decision {
            verdict,
            reason: "ordered",
            text,
            figures: doc! {},
        };
        self.decide(row, decision, now).await
    }

    /// Calls and their mean latency since counters stood at these, of the shape that an index serves first, by the app whose
    /// documents it holds.
    pub(crate) fn latency_since(
        &self,
        found: &Document,
        reads: &str,
        micros: &str,
    ) -> Option<(u64, u64)> {
        let now = self.calls_until_now(found)?;
        let calls = now.reads.saturating_sub(count_of(found, reads));
        let micros = now.micros.saturating_sub(count_of(found, micros));
        Some((calls, micros.checked_div(calls).unwrap_or(0)))
    }

    /// Calls until now of the shape that an index serves first, by the app whose documents it holds.
    fn calls_until_now(&self, found: &Document) -> Option<Calls> {
        let first = found.get_array("serves").ok()?.first()?.as_str()?;
        let shape = self.fleet.shapes.get(first)?;
        Some(shape.calls(automatic_index_app(found.get_str("name").ok()?)))
    }

    /// The live latency before and after.
    async fn compare(
        &mut self,
        row: &IndexRow,
        found: &Document,
        now: i64,
    ) -> Result<(), DriverError> {
        let Some((calls, after)) = self.latency_since(found, "reads_before", "micros_before")
        else {
            return Ok(());
        };
        if calls < self.settings.calls_min {
            return Ok(());
        }
        let before = count_of(found, "micros_before");
        let before = before
            .checked_div(count_of(found, "reads_before"))
            .unwrap_or(after);
        let figures = doc! {"micros_before": stored(before), "micros_after": stored(after), "calls": stored(calls)};
        let text = format!(
            "{before} µs a call before it was built, {after} µs over {calls} calls afterwards"
        );
        if after.saturating_mul(100) > before.saturating_mul(self.settings.slower_percent) {
            return self.hide(row, "slower", text, figures, now).await;
        }
        let state = doc! {"state": "kept", "state_at": DateTime::from_millis(now)};
        self.store.set_index(row, state).await?;
        let decision = Decision {
            verdict: "keep",
            reason: "latency",
            text,
            figures,
        };
        self.decide(row, decision, now).await
    }

    /// A hidden index: missed, or dropped in the end.
    async fn soak(
        &mut self,
        row: &IndexRow,
        found: &Document,
        now: i64,
    ) -> Result<(), DriverError> {
        if may_come_back(found)
            && let Some((calls, after)) = self.latency_since(found, "reads_hidden", "micros_hidden")
        {
            let before = count_of(found, "micros_per_call_hidden");
            let is_missed = calls >= MISSED_CALLS_MIN
                && before > 0
                && after.saturating_mul(100) > before.saturating_mul(self.settings.slower_percent);
            if is_missed {
                return self.show(row, "missed", now).await;
            }
        }
        let hidden_at = found.get_datetime("state_at");
        let hidden_at = hidden_at.map_or(now, |at| at.timestamp_millis());
        if now - hidden_at < millis(self.settings.soak_for) {
            return Ok(());
        }
        self.may_ask();
        let command = doc! {"dropIndexes": &row.namespace.collection, "index": &row.name};
        match self.change(&row.namespace, command).await {
            Ok(_) => {}
            // Gone already, with its collection perhaps.
            Err(error) if matches!(code_of(&error), Some(26 | 27)) => {}
            Err(error) => return Err(error),
        }
        self.metrics.index_event(IndexEvent::Drop);
        tracing::info!(namespace = %row.namespace, index = row.name, "an index is dropped that was not missed");
        self.mark_dropped(
            row,
            "soaked",
            "it was hidden for long and nothing missed it",
            now,
        )
        .await
    }

    async fn mark_dropped(
        &mut self,
        row: &IndexRow,
        reason: &'static str,
        text: &str,
        now: i64,
    ) -> Result<(), DriverError> {
        let known = self.store.index(&row.id).await?.unwrap_or_default();
        let calls = self.calls_until_now(&known).unwrap_or_default();
        let state = doc! {
            "state": "dropped", "state_at": DateTime::from_millis(now),
            "reads_hidden": stored(calls.reads), "micros_hidden": stored(calls.micros),
        };
        self.store.set_index(row, state).await?;
        self.store.tell(&row.namespace).await?;
        let decision = Decision {
            verdict: "drop",
            reason,
            text: text.to_owned(),
            figures: doc! {},
        };
        self.decide(row, decision, now).await
    }

    /// Hides an index: the planner does not see it, and showing it again takes no build.
    pub(crate) async fn hide(
        &mut self,
        row: &IndexRow,
        why: &'static str,
        text: String,
        figures: Document,
        now: i64,
    ) -> Result<(), DriverError> {
        self.set_hidden(row, true).await?;
        let known = self.store.index(&row.id).await?.unwrap_or_default();
        let calls = self.calls_until_now(&known).unwrap_or_default();
        let per_call = self
            .latency_since(&known, "reads_before", "micros_before")
            .map_or(0, |(_, mean)| mean);
        let state = doc! {
            "state": "hidden", "state_at": DateTime::from_millis(now), "why": why,
            "reads_hidden": stored(calls.reads), "micros_hidden": stored(calls.micros),
            "micros_per_call_hidden": stored(per_call),
        };
        self.store.set_index(row, state).await?;
        self.metrics.index_event(if HARMLESS.contains(&why) {
            IndexEvent::Hide
        } else {
            IndexEvent::Revert
        });
        tracing::info!(namespace = %row.namespace, index = row.name, why, "an index is hidden");
        let decision = Decision {
            verdict: "hide",
            reason: why,
            text,
            figures,
        };
        self.decide(row, decision, now).await
    }

    /// Shows a hidden index again.
    pub(crate) async fn show(
        &mut self,
        row: &IndexRow,
        reason: &'static str,
        now: i64,
    ) -> Result<(), DriverError> {
        self.set_hidden(row, false).await?;
        let at = DateTime::from_millis(now);
        let state = doc! {"state": "kept", "state_at": at, "used_at": at};
        self.store.set_index(row, state).await?;
        self.metrics.index_event(IndexEvent::Readopt);
        tracing::info!(namespace = %row.namespace, index = row.name, reason, "a hidden index is shown again");
        let decision = Decision {
            verdict: "show",
            reason,
            text: "a shape that it serves needs it".to_owned(),
            figures: doc! {},
        };
        self.decide(row, decision, now).await
    }

    async fn set_hidden(&mut self, row: &IndexRow, is_hidden: bool) -> Result<(), DriverError> {
        self.may_ask();
        let command = doc! {
            "collMod": &row.namespace.collection, "index": {"name": &row.name, "hidden": is_hidden},
        };
        match self.change(&row.namespace, command).await {
            Ok(_) => {}
            // Gone: whoever dropped it has done more than hide it.
            Err(error) if matches!(code_of(&error), Some(26 | 27)) => {}
            Err(error) => return Err(error),
        }
        self.store.tell(&row.namespace).await
    }

    /// Which automatic indexes are used, by what every data-bearing member counts.
    pub(crate) async fn look_at_usage(&mut self, now: i64) -> Result<(), DriverError> {
        let mut by_namespace: BTreeMap<Namespace, Vec<(IndexRow, Document)>> = BTreeMap::new();
        for found in self.store.indexes(&STANDING).await? {
            if let Some(row) = IndexRow::read(&found)
                && automatic_index_shown(&row.name).is_some()
            {
                let rows = by_namespace.entry(row.namespace.clone()).or_default();
                rows.push((row, found));
            }
        }
        for (namespace, rows) in by_namespace {
            if self.quiet.contains_key(USAGE) {
                break;
            }
            let quiet = format!("{USAGE} of {namespace}");
            if self.quiet.contains_key(&quiet) || !self.may_ask() {
                continue;
            }
            let Some(usage) = self.usage(&namespace).await? else {
                // It would not tell of the next collection either, and is waited for each time.
                self.hush(USAGE.to_owned(), now);
                return self.usage_is_unknown(&rows, now).await;
            };
            self.quiet.insert(quiet, now + USAGE_EVERY_MILLIS);
            for (row, found) in &rows {
                let used = usage.get(&row.name);
                if let Some(used) = used
                    && let Some(by) = covering(used, &usage, &rows)
                {
                    let text = format!("`{by}` serves whatever it serves");
                    let figures = doc! {"by": by};
                    self.hide(row, "redundant", text, figures, now).await?;
                    continue;
                }
                let ops = used.map(|used| used.ops);
                self.judge_usage(row, found, ops, now).await?;
            }
        }
        Ok(())
    }

    async fn usage_is_unknown(
        &self,
        rows: &[(IndexRow, Document)],
        now: i64,
    ) -> Result<(), DriverError> {
        for (row, _) in rows {
            let text = "a member of the replica set does not tell how its indexes are used: none is taken back meanwhile";
            let decision = Decision {
                verdict: "wait",
                reason: "usage",
                text: text.to_owned(),
                figures: doc! {},
            };
            self.decide(row, decision, now).await?;
        }
        Ok(())
    }

    async fn judge_usage(
        &mut self,
        row: &IndexRow,
        found: &Document,
        ops: Option<u64>,
        now: i64,
    ) -> Result<(), DriverError> {
        let Some(ops) = ops else {
            return self
                .mark_dropped(row, "gone", "somebody else has dropped it", now)
                .await;
        };
        let known = count_of(found, "ops");
        // A member that was started anew counts from zero.
        if ops > known || (ops < known && ops > 0) {
            let used = doc! {"ops": stored(ops), "used_at": DateTime::from_millis(now)};
            return self.store.set_index(row, used).await;
        }
        let used_at = found.get_datetime("used_at");
        let used_at = used_at.map_or(now, |at| at.timestamp_millis());
        if now - used_at < millis(self.settings.unused_for) {
            return Ok(());
        }
        let text = format!(
            "no command has used it for {} hours",
            (now - used_at) / 3_600_000
        );
        self.hide(row, "unused", text, doc! {"ops": stored(ops)}, now)
            .await
    }

    /// Uses by name, of all members together; `None` if a member does not answer.
    async fn usage(
        &mut self,
        namespace: &Namespace,
    ) -> Result<Option<BTreeMap<String, Used>>, DriverError> {
        let mut uses: BTreeMap<String, Used> = BTreeMap::new();
        for member in self.members().await? {
            self.may_ask();
            let counted = self.usage_at(namespace, member).await;
            let counted = match counted {
                Ok(counted) => counted,
                Err(error) => {
                    tracing::debug!(%error, %namespace, "a member did not tell how indexes are used");
                    return Ok(None);
                }
            };
            for (name, used) in counted {
                let sum = uses.entry(name).or_default();
                sum.ops = sum.ops.saturating_add(used.ops);
                sum.definition = used.definition;
            }
        }
        Ok(Some(uses))
    }

    /// The data-bearing members of a replica set; one without a name for anything else.
    async fn members(&mut self) -> Result<Vec<Option<String>>, DriverError> {
        let admin = self.store.client().database("admin");
        let hello = admin.run_command(doc! {"hello": 1}).await?;
        let mut members = Vec::new();
        for list in ["hosts", "passives"] {
            let names = hello.get_array(list).into_iter().flatten();
            members.extend(names.filter_map(|name| Some(Some(name.as_str()?.to_owned()))));
        }
        Ok(if members.is_empty() {
            vec![None]
        } else {
            members
        })
    }

    async fn usage_at(
        &self,
        namespace: &Namespace,
        member: Option<String>,
    ) -> Result<Vec<(String, Used)>, DriverError> {
        let database = self.store.client().database(&namespace.database);
        let collection = database.collection::<Document>(&namespace.collection);
        let mut aggregate = collection.aggregate([doc! {"$indexStats": {}}]);
        if let Some(member) = member {
            let is_it = move |server: &ServerInfo<'_>| server.address().to_string() == member;
            aggregate = aggregate.selection_criteria(SelectionCriteria::Predicate(Arc::new(is_it)));
        }
        let found: Vec<Document> = aggregate.await?.try_collect().await?;
        let one = |index: &Document| {
            let accesses = index.get_document("accesses").ok()?;
            let is_building = index.get_bool("building").unwrap_or(false);
            let definition = index.get_document("spec").ok().filter(|_| !is_building);
            let used = Used {
                ops: count_of(accesses, "ops"),
                definition: definition.cloned().unwrap_or_default(),
            };
            Some((index.get_str("name").ok()?.to_owned(), used))
        };
        Ok(found.iter().filter_map(one).collect())
    }
}
