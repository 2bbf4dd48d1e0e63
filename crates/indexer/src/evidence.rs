//! What a plan says, and what follows from it.

use bson::{Bson, Document};

use crate::settings::Settings;

/// What an explain with `executionStats` told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PlanFigures {
    pub(crate) examined: u64,
    pub(crate) returned: u64,
    pub(crate) scans_collection: bool,
    pub(crate) sorts: bool,
    pub(crate) indexes: Vec<String>,
    /// It had not ended when its time was over: the figures are those until then.
    pub(crate) is_late: bool,
}

/// `MaxTimeMSExpired`.
pub(crate) const LATE: i32 = 50;

impl PlanFigures {
    /// Reads a reply to `explain`; `None` if it has no such figures. Seen: 5.0.4 and 6.0.5 tell them also of a command whose
    /// time was over, 4.4.2 says nothing but that.
    pub(crate) fn read(reply: &Document) -> Option<Self> {
        let stats = reply.get_document("executionStats").ok()?;
        let number = |name: &str| match stats.get(name) {
            Some(Bson::Int32(n)) => u64::try_from(*n).ok(),
            Some(Bson::Int64(n)) => u64::try_from(*n).ok(),
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a count of documents, as a double by mongos"
            )]
            Some(Bson::Double(n)) => Some(*n as u64),
            _ => None,
        };
        let mut figures = Self {
            examined: number("totalDocsExamined")?,
            returned: number("nReturned")?,
            is_late: number("errorCode") == u64::try_from(LATE).ok(),
            ..Self::default()
        };
        figures.read_plan(reply)?;
        Some(figures)
    }

    /// Reads the plan of a command whose time was over, from a reply without figures.
    pub(crate) fn of_late(reply: &Document) -> Option<Self> {
        let mut figures = Self {
            is_late: true,
            ..Self::default()
        };
        figures.read_plan(reply)?;
        Some(figures)
    }

    fn read_plan(&mut self, reply: &Document) -> Option<()> {
        let planner = reply.get_document("queryPlanner").ok()?;
        self.walk(planner.get("winningPlan")?);
        Some(())
    }

    /// For people.
    pub(crate) fn words(&self) -> String {
        let late = if self.is_late {
            " when its time was over"
        } else {
            ""
        };
        let Self {
            examined, returned, ..
        } = self;
        format!("examined {examined} documents and returned {returned}{late}")
    }

    fn walk(&mut self, part: &Bson) {
        match part {
            Bson::Document(stage) => {
                match stage.get_str("stage") {
                    Ok("COLLSCAN") => self.scans_collection = true,
                    Ok("SORT") => self.sorts = true,
                    _ => {}
                }
                self.indexes
                    .extend(stage.get_str("indexName").ok().map(str::to_owned));
                // Plans that lost, in shards' parts, do not count.
                let inner = stage.iter().filter(|(name, _)| *name != "rejectedPlans");
                inner.for_each(|(_, part)| self.walk(part));
            }
            Bson::Array(parts) => parts.iter().for_each(|part| self.walk(part)),
            _ => {}
        }
    }

    /// Documents examined in vain.
    pub(crate) fn excess(&self) -> u64 {
        self.examined.saturating_sub(self.returned)
    }

    /// Whether an index would help.
    pub(crate) fn asks_for_index(&self, settings: &Settings) -> bool {
        let is_wasteful = self.excess() >= settings.excess_min
            && self.excess() >= self.returned.saturating_mul(settings.excess_ratio);
        self.is_late || is_wasteful || (self.sorts && self.examined >= settings.sorted_min)
    }

    /// Whether these, with the index, are as much better as was promised by those before it.
    pub(crate) fn proves(&self, index: &str, before: &Self) -> bool {
        let is_chosen = self.indexes.iter().any(|name| name == index);
        let is_less = self.examined.saturating_mul(2) <= before.examined;
        let is_better = before.is_late || is_less || (before.sorts && !self.sorts);
        is_chosen && is_better && !self.is_late
    }

    /// As it is stored beside a decision.
    pub(crate) fn document(&self) -> Document {
        let count = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        bson::doc! {
            "examined": count(self.examined), "returned": count(self.returned),
            "scans_collection": self.scans_collection, "sorts": self.sorts, "indexes": &self.indexes,
            "late": self.is_late,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn figures(examined: u64, returned: u64, sorts: bool) -> PlanFigures {
        PlanFigures {
            examined,
            returned,
            sorts,
            ..PlanFigures::default()
        }
    }

    fn late(examined: u64) -> PlanFigures {
        PlanFigures {
            is_late: true,
            ..figures(examined, 0, false)
        }
    }

    #[test]
    fn plans_are_read() {
        let reply = doc! {
            "queryPlanner": {
                "winningPlan": {"stage": "SORT", "inputStage": {"stage": "FETCH", "inputStages": [{"stage": "IXSCAN", "indexName": "a_1"}]}},
                "rejectedPlans": [{"stage": "COLLSCAN"}],
            },
            "executionStats": {"nReturned": 3, "totalDocsExamined": 2000_i64},
        };
        let expected = PlanFigures {
            indexes: vec!["a_1".to_owned()],
            ..figures(2000, 3, true)
        };
        assert_eq!(PlanFigures::read(&reply), Some(expected));
        assert_eq!(PlanFigures::read(&doc! {"ok": 1}), None);
        let mut over = reply;
        let stats = over.get_document_mut("executionStats").unwrap();
        stats.extend(doc! {"executionSuccess": false, "errorMessage": "operation exceeded time limit", "errorCode": 50});
        let read = PlanFigures::read(&over).unwrap();
        assert!(read.is_late, "{over}");
        assert_eq!(
            read.words(),
            "examined 2000 documents and returned 3 when its time was over"
        );
        over.remove("executionStats");
        let read = PlanFigures::of_late(&over).unwrap();
        assert_eq!((read.is_late, read.sorts), (true, true));
    }

    #[test]
    fn what_asks_for_an_index() {
        let settings = Settings::default();
        for (plan, expected) in [
            (figures(550, 50, false), true),
            (figures(549, 50, false), false),
            (figures(600, 60, false), false),
            (figures(10_000, 9000, false), false),
            (figures(499, 0, false), false),
            (figures(100, 100, true), true),
            (figures(99, 99, true), false),
            (late(0), true),
        ] {
            assert_eq!(plan.asks_for_index(&settings), expected, "{plan:?}");
        }
    }

    #[test]
    fn what_proves_an_index() {
        let with = |mut plan: PlanFigures, index: &str| {
            plan.indexes.push(index.to_owned());
            plan
        };
        for (after, before, expected) in [
            (
                with(figures(50, 50, false), "i"),
                figures(1000, 50, false),
                true,
            ),
            (
                with(figures(500, 50, false), "i"),
                figures(1000, 50, false),
                true,
            ),
            (
                with(figures(501, 50, false), "i"),
                figures(1000, 50, false),
                false,
            ),
            (
                with(figures(50, 50, false), "other"),
                figures(1000, 50, false),
                false,
            ),
            (
                with(figures(500, 500, false), "i"),
                figures(500, 500, true),
                true,
            ),
            (
                with(figures(500, 500, true), "i"),
                figures(500, 500, true),
                false,
            ),
            (with(figures(900, 9, false), "i"), late(1000), true),
            (with(figures(900, 9, false), "other"), late(1000), false),
            (with(late(9), "i"), figures(1000, 50, false), false),
            (with(late(9), "i"), late(1000), false),
        ] {
            assert_eq!(after.proves("i", &before), expected, "{after:?} {before:?}");
        }
    }
}
