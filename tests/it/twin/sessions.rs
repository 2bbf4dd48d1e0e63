//! Sessions, transactions and retryable writes.

use bson::{Bson, doc};

use super::generator::Generator;
use super::step::{Compare, Step};

const SESSION: &str = "<session 1>";

impl Generator {
    pub(super) fn transaction(&mut self) -> Vec<Step> {
        let number = self.transaction_number();
        let mut steps = Vec::new();
        for _ in 0..self.dice.between(1, 4) {
            let inner = match self.dice.between(1, 6) {
                1 => self.insert(),
                2 => self.find(),
                3 => self.find_and_modify(),
                4 => self.aggregate(),
                _ => self.update(),
            };
            steps.extend(inner);
        }
        if self.dice.chance(10) {
            steps.push(Step::new(doc! {"count": "people"}, Compare::Code));
        }
        if self.dice.chance(10) {
            steps.push(Step::new(doc! {"listIndexes": "people"}, Compare::Code));
        }
        self.bracketed(steps, &number)
    }

    /// Writes alone, as a change stream shows them.
    pub(super) fn transaction_of_writes(&mut self) -> Vec<Step> {
        let number = self.transaction_number();
        let steps = (0..self.dice.between(1, 3))
            .flat_map(|_| self.insert())
            .collect();
        self.bracketed(steps, &number)
    }

    /// In a transaction, with its end.
    fn bracketed(&mut self, mut steps: Vec<Step>, number: &Bson) -> Vec<Step> {
        let end = if self.dice.chance(70) {
            doc! {"commitTransaction": 1}
        } else {
            doc! {"abortTransaction": 1}
        };
        let times = self.dice.weighted(&[(8, 1), (2, 2)]);
        steps.extend((0..times).map(|_| Step::new(end.clone(), Compare::Exact)));
        for (at, step) in steps.iter_mut().enumerate() {
            step.command.extend(
                doc! {"lsid": {"id": SESSION}, "txnNumber": number.clone(), "autocommit": false},
            );
            if at == 0 {
                step.command.insert("startTransaction", true);
            }
        }
        for step in steps.iter_mut().filter(|step| step.ends_transaction()) {
            step.command.insert("$db", "admin");
        }
        steps
    }

    /// The same write twice: the second time the server answers from memory.
    pub(super) fn retry(&mut self) -> Vec<Step> {
        let number = self.transaction_number();
        let mut write = match self.dice.between(1, 3) {
            1 => self.insert(),
            2 => self.update(),
            _ => self.find_and_modify(),
        };
        let mut step = write.remove(0);
        step.command
            .extend(doc! {"lsid": {"id": SESSION}, "txnNumber": number});
        vec![step.clone(), step]
    }

    pub(super) fn session(&mut self) -> Vec<Step> {
        let other = "<session 2>";
        let command = match self.dice.between(1, 6) {
            1 => doc! {"startSession": 1},
            2 => doc! {"endSessions": [{"id": other}]},
            3 => doc! {"refreshSessions": [{"id": other}]},
            4 => doc! {"find": "people", "sort": {"_id": 1}, "lsid": {"id": other}},
            5 => {
                doc! {"commitTransaction": 1, "lsid": {"id": SESSION}, "txnNumber": 999_i64, "autocommit": false, "$db": "admin"}
            }
            _ => doc! {"ping": 1, "lsid": {"id": other}},
        };
        vec![Step::new(command, Compare::Exact)]
    }
}
