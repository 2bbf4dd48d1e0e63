//! Building an index, and the proof afterwards.

use bson::{DateTime, Document, doc};
use mdb_scope::AppId;
use mdb_telemetry::IndexEvent;
use mongodb::error::Error as DriverError;

use crate::consider::Wish;
use crate::evidence::PlanFigures;
use crate::sample::Evidence;
use crate::settings::millis;
use crate::store::{Decision, IndexRow, count_of, stored};
use crate::worker::Worker;

/// The longest cool-down after failures, as a power of two times the shortest: a week and more.
const DOUBLINGS_MAX: u32 = 10;

/// Whether an operator has dropped it.
pub(crate) fn is_refused(known: &Document) -> bool {
    known.get_str("state").is_ok_and(|state| state == "refused")
}

impl Worker {
    /// Builds an index, and proves it with the command that asked for it.
    pub(crate) async fn build(
        &mut self,
        wish: &Wish,
        evidence: &Evidence,
        now: i64,
    ) -> Result<(), DriverError> {
        let before = &evidence.figures;
        let row = wish.row();
        let on = std::slice::from_ref(&row.namespace);
        let Some(lease) = self.leases.take_to_build(on).await? else {
            let decision = Decision {
                verdict: "wait",
                reason: "turn",
                text: "another index is being built".to_owned(),
                figures: before.document(),
            };
            return self.decide(&row, decision, now).await;
        };
        let wire_version = self.wire_version().await?;
        let definition = wish.wanted.definition(&self.field, wire_version);
        let at = DateTime::from_millis(now);
        let mut entry = self.entry(wish, &definition);
        entry.extend(doc! {
            "state": "building", "state_at": at, "created_at": at, "used_at": at, "ops": 0_i64,
            "before": before.document(),
        });
        self.store.set_index(&row, entry).await?;
        tracing::info!(namespace = %row.namespace, index = row.name, examined = before.examined,
            returned = before.returned, "building an index");
        let built = self.while_building(&lease, &row.namespace, &definition);
        let built = built.await?;
        lease.release().await;
        if let Err(error) = built {
            return self.build_failed(&row, &error, now).await;
        }
        self.metrics.index_event(IndexEvent::Build);
        tracing::info!(namespace = %row.namespace, index = row.name, "an index is built");
        self.store.tell(&row.namespace).await?;
        self.may_ask();
        let after = self.explain(&row.namespace, &evidence.explain).await;
        self.judge_proof(&row, before, after.as_ref(), now).await
    }

    /// What is entered of an index whether it is built or only advised.
    fn entry(&self, wish: &Wish, definition: &Document) -> Document {
        let main = wish.serves.first().and_then(|id| self.fleet.shapes.get(id));
        let app = wish.wanted.app.as_ref().map(AppId::as_str);
        let calls = main.map(|shape| shape.calls(app)).unwrap_or_default();
        doc! {
            "definition": definition, "serves": &wish.serves,
            "reads_before": stored(calls.reads), "micros_before": stored(calls.micros),
        }
    }

    /// Remembers advice, so that an operator can apply it.
    pub(crate) async fn keep_advice(
        &mut self,
        wish: &Wish,
        row: &IndexRow,
        now: i64,
    ) -> Result<(), DriverError> {
        let wire_version = self.wire_version().await?;
        let definition = wish.wanted.definition(&self.field, wire_version);
        let mut entry = self.entry(wish, &definition);
        entry.extend(doc! {"state": "advised", "state_at": DateTime::from_millis(now)});
        self.store.set_index(row, entry).await
    }

    async fn build_failed(
        &mut self,
        row: &IndexRow,
        error: &DriverError,
        now: i64,
    ) -> Result<(), DriverError> {
        let known = self.store.index(&row.id).await?.unwrap_or_default();
        if is_refused(&known) {
            // An operator dropped it meanwhile, which ends the build.
            return Ok(());
        }
        self.metrics.index_event(IndexEvent::Failure);
        let failures = count_of(&known, "failures").saturating_add(1);
        let doublings = u32::try_from(failures)
            .unwrap_or(u32::MAX)
            .min(DOUBLINGS_MAX);
        let pause = millis(self.settings.retry_after).saturating_mul(1 << doublings);
        let retry_at = now.saturating_add(pause);
        let code = crate::physical::code_of(error).unwrap_or(0);
        tracing::warn!(namespace = %row.namespace, index = row.name, code, failures, "an index was not built");
        let state = doc! {
            "state": "failed", "state_at": DateTime::from_millis(now), "failures": stored(failures),
            "retry_at": DateTime::from_millis(retry_at),
        };
        self.store.set_index(row, state).await?;
        self.quiet.insert(row.id.clone(), retry_at);
        let decision = Decision {
            verdict: "fail",
            reason: "build",
            text: format!("the server did not build it (code {code}); it is tried again later"),
            figures: doc! {"code": code, "failures": stored(failures)},
        };
        self.decide(row, decision, now).await
    }

    /// Keeps an index that does what was promised; hides any other.
    pub(crate) async fn judge_proof(
        &mut self,
        row: &IndexRow,
        before: &PlanFigures,
        after: Option<&PlanFigures>,
        now: i64,
    ) -> Result<(), DriverError> {
        let figures = doc! {"before": before.document(), "after": after.map(PlanFigures::document)};
        let state = doc! {"state": "watched", "state_at": DateTime::from_millis(now), "after": after.map(PlanFigures::document)};
        self.store.set_index(row, state).await?;
        match after {
            Some(after) if !after.proves(&row.name, before) => {
                let text = format!(
                    "it was built and did not prove itself: {} documents examined before, {} afterwards, by {}",
                    before.examined,
                    after.examined,
                    if after.indexes.is_empty() {
                        "no index".to_owned()
                    } else {
                        after.indexes.join(", ")
                    }
                );
                self.hide(row, "unproved", text, figures, now).await
            }
            _ => {
                let decision = Decision {
                    verdict: "build",
                    reason: if after.is_some() {
                        "proved"
                    } else {
                        "unexplained"
                    },
                    text: format!(
                        "{} documents were examined for {} before, {} afterwards",
                        before.examined,
                        before.returned,
                        after.map_or_else(
                            || "not known".to_owned(),
                            |after| after.examined.to_string()
                        )
                    ),
                    figures,
                };
                self.decide(row, decision, now).await
            }
        }
    }
}
