//! Sessions, transactions and retryable writes.

use bson::{Bson, Document, doc};

use super::generator::Generator;
use super::step::{Compare, Step};

const SESSION: &str = "<session 1>";

/// Whether its pipeline ends with a stage that has the shape of one and a name that servers know.
fn can_be_read(step: &Step) -> bool {
    let stages = step.command.get_array("pipeline").ok();
    let last = stages.and_then(|stages| stages.last()?.as_document());
    last.is_none_or(|stage| stage.len() == 1 && !stage.contains_key("$bad"))
}

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
        // What a server cannot read ends no transaction there.
        steps.retain(can_be_read);
        if steps.is_empty() {
            steps = self.insert();
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

    /// What a session has open ends with it.
    fn killed_session(&mut self) -> Vec<Step> {
        let lsid = doc! {"id": "<session 4>"};
        let (_, collection) = self.collection();
        let of_session = |mut command: Document| {
            command.insert("lsid", lsid.clone());
            Step::new(command, Compare::Exact)
        };
        let kill = Step::new(
            doc! {"killSessions": [lsid.clone()], "$db": "admin"},
            Compare::Exact,
        );
        if self.dice.chance(50) {
            let find = doc! {"find": collection, "sort": {"_id": 1}, "batchSize": 1};
            let more = doc! {"getMore": "<cursor>", "collection": collection};
            return vec![of_session(find), kill, of_session(more)];
        }
        let number = self.transaction_number();
        let mut write = self.insert().remove(0).command;
        let mut end = doc! {"commitTransaction": 1, "$db": "admin"};
        for command in [&mut write, &mut end] {
            command.extend(doc! {"txnNumber": number.clone(), "autocommit": false});
        }
        write.insert("startTransaction", true);
        vec![of_session(write), kill, of_session(end)]
    }

    pub(super) fn session(&mut self) -> Vec<Step> {
        let other = "<session 2>";
        if self.dice.chance(30) {
            return self.killed_session();
        }
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
