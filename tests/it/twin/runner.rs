//! One sequence on both sides.

use std::fmt;

use bson::{Document, doc};
use mdb_tests::RawClient;

use super::comparable::comparable;
use super::differences::DIFFERENCES;
use super::side::{ATTEMPTS_MAX, Side};
use super::step::{Compare, Step};

/// A connection through the proxy and one to a server of one's own, with the same database on both.
#[derive(Debug)]
pub(super) struct Twins {
    through: Side,
    direct: Side,
    database: String,
    /// Which sessions these are: each run has its own.
    run: u64,
}

/// The first reply that is not the same.
#[derive(Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) at: usize,
    through: Document,
    direct: Document,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "through: {}\ndirect:  {}", self.through, self.direct)
    }
}

impl Twins {
    pub(super) fn new(
        through: RawClient,
        direct: RawClient,
        database: String,
        worker: usize,
    ) -> Self {
        Self {
            through: Side::new(through),
            direct: Side::new(direct),
            database,
            run: u64::try_from(worker).unwrap() << 32,
        }
    }

    /// Runs the steps, calling `after` behind each, up to the first difference. Leaves the database empty.
    pub(super) async fn run(
        &mut self,
        steps: &[Step],
        mut after: impl FnMut(),
    ) -> Option<Difference> {
        self.run += 1;
        for side in [&mut self.through, &mut self.direct] {
            side.forget();
        }
        let (mut at, mut begun, mut attempt) = (0, None, 0);
        let mut difference = None;
        while let (Some(step), None) = (steps.get(at), &difference) {
            if step.starts_transaction() && begun != Some(at) {
                (begun, attempt) = (Some(at), 0);
            }
            let (through, direct) = self.exchange(step, attempt).await;
            after();
            if let (Some(begin), true) = (begun, attempt < ATTEMPTS_MAX && step.is_in_transaction())
                && is_disturbed(&through, &direct)
            {
                self.abort(step, attempt).await;
                attempt += 1;
                at = begin;
                continue;
            }
            let (through, direct) = self.even(step, through, direct);
            // As texts: documents are equal in any order of their fields.
            if through.to_string() != direct.to_string() {
                difference = Some(Difference {
                    at,
                    through,
                    direct,
                });
            }
            at += 1;
        }
        self.clean(&steps[..at], attempt).await;
        difference
    }

    async fn exchange(&mut self, step: &Step, attempt: i64) -> (Document, Document) {
        let through = self.through.run(step, &self.database, self.run, attempt);
        let direct = self.direct.run(step, &self.database, self.run, attempt);
        tokio::join!(through, direct)
    }

    fn even(
        &mut self,
        step: &Step,
        mut through: Document,
        mut direct: Document,
    ) -> (Document, Document) {
        for difference in DIFFERENCES {
            (difference.even)(&step.command, [&mut through, &mut direct]);
        }
        let through = comparable(step, through, &mut self.through.names);
        let direct = comparable(step, direct, &mut self.direct.names);
        (through, direct)
    }

    async fn abort(&mut self, step: &Step, attempt: i64) {
        let Some(number) = step.command.get("txnNumber") else {
            return;
        };
        let abort = doc! {
            "abortTransaction": 1, "lsid": step.command.get("lsid"), "txnNumber": number, "autocommit": false, "$db": "admin",
        };
        let abort = Step::new(abort, step.compare);
        self.exchange(&abort, attempt).await;
    }

    async fn clean(&mut self, steps: &[Step], attempt: i64) {
        if let Some(last) = steps.iter().rev().find(|step| step.is_in_transaction()) {
            self.abort(last, attempt).await;
        }
        let clean = Step::new(doc! {"dropDatabase": 1}, Compare::Code);
        self.exchange(&clean, 0).await;
    }
}

/// Whether one side alone says that the transaction may be tried again: that with other apps, or a server before 5.0 whose
/// snapshots do not reach the collection made just now (246). What differs always still does in the last attempt.
fn is_disturbed(through: &Document, direct: &Document) -> bool {
    is_transient(through) != is_transient(direct)
}

fn is_transient(reply: &Document) -> bool {
    let labels = reply.get_array("errorLabels");
    labels.is_ok_and(|labels| labels.contains(&"TransientTransactionError".into()))
}
