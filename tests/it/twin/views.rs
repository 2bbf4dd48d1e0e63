//! Views: defined, read, defined anew, dropped; and what is not done to a view.

use bson::{Document, doc};

use super::generator::Generator;
use super::kinds::{KINDS, aimed_at};
use super::pipelines::{self, COLLECTIONS};
use super::step::{Compare, Step};
use super::values;

/// Its stages leave each document its `_id`.
const SEEN: &str = "seen";
/// It is of any stages.
const SHAPED: &str = "shaped";

impl Generator {
    pub(super) fn view(&mut self) -> Vec<Step> {
        let mut steps = vec![self.definition("create")];
        for _ in 0..self.dice.between(1, 4) {
            let inner = match self.dice.between(1, 16) {
                1..=7 => self.read_seen(),
                8..=10 => self.read_shaped(),
                11 => self.write(),
                12 => vec![self.definition("collMod")],
                13 => vec![self.definition("create")],
                14 => vec![Step::new(
                    doc! {"listCollections": 1, "filter": {"type": "view"}},
                    Compare::Set,
                )],
                15 => self.no_view(),
                _ => vec![Step::new(
                    doc! {"drop": self.dice.pick(&[SEEN, SHAPED])},
                    Compare::Exact,
                )],
            };
            steps.extend(inner);
        }
        steps
    }

    fn definition(&mut self, command: &str) -> Step {
        let name = self.dice.pick(&[SEEN, SHAPED]);
        let on = match self.dice.between(1, 12) {
            1..=8 => self.dice.pick(&COLLECTIONS),
            9 | 10 => self.dice.pick(&KINDS[..4]),
            11 => self.dice.pick(&[SEEN, SHAPED]),
            _ => "nowhere",
        };
        let pipeline = if name == SHAPED {
            pipelines::pipeline(&mut self.dice, self.owner, false).0
        } else {
            self.keeping_stages()
        };
        let mut definition = doc! {command: name, "viewOn": on, "pipeline": pipeline};
        if command == "create" && self.dice.chance(15) {
            let collation = values::collation(&mut self.dice);
            definition.insert("collation", collation);
        }
        Step::new(definition, Compare::Exact)
    }

    fn keeping_stages(&mut self) -> Vec<Document> {
        (0..self.dice.between(0, 2))
            .map(|_| match self.dice.between(1, 7) {
                1 | 2 => doc! {"$match": values::filter(&mut self.dice)},
                3 => doc! {"$project": {"a": 1, "b": 1, "u": 1}},
                4 => doc! {"$set": {"all": "$$ROOT"}},
                5 => doc! {"$unset": "d"},
                6 => doc! {"$lookup": {
                    "from": self.dice.pick(&COLLECTIONS), "let": {"u": "$u"}, "as": "more",
                    "pipeline": [{"$match": {"$expr": {"$eq": ["$_id", "$$u"]}}}, {"$sort": {"_id": 1}}],
                }},
                _ => doc! {"$set": {"n": {"$size": {"$objectToArray": "$$ROOT"}}}},
            })
            .collect()
    }

    fn read_seen(&mut self) -> Vec<Step> {
        // What is behind it may be read by an index.
        let indexed = std::mem::replace(&mut self.indexed, [true; COLLECTIONS.len()]);
        let mut steps = match self.dice.between(1, 8) {
            1..=3 => self.find(),
            4 => self.count(),
            5 => self.distinct(),
            _ => self.aggregate(),
        };
        self.indexed = indexed;
        for step in &mut steps {
            if step.command.contains_key("find") && !step.command.contains_key("sort") {
                step.command.remove("skip");
                step.command.remove("limit");
                step.compare = Compare::Set;
            }
            let is_counted = ["skip", "limit"]
                .iter()
                .any(|key| step.command.contains_key(key));
            if step.command.contains_key("find") && !is_counted {
                step.compare = Compare::Set;
            }
            step.command.remove("returnKey");
        }
        aimed_at(steps, SEEN)
    }

    fn read_shaped(&mut self) -> Vec<Step> {
        let filter = values::filter(&mut self.dice);
        let key = values::field(&mut self.dice);
        let read = match self.dice.between(1, 5) {
            1 | 2 => doc! {"find": SHAPED, "filter": filter},
            3 => doc! {"count": SHAPED, "query": filter},
            4 => doc! {"distinct": SHAPED, "key": key},
            _ => {
                doc! {"aggregate": SHAPED, "pipeline": [{"$match": filter}, {"$group": {"_id": format!("${key}"), "n": {"$sum": 1}}}], "cursor": {}}
            }
        };
        vec![Step::new(read, Compare::Set)]
    }

    fn write(&mut self) -> Vec<Step> {
        let write = match self.dice.between(1, 4) {
            1 => vec![Step::new(
                doc! {"insert": SEEN, "documents": self.documents(2)},
                Compare::Code,
            )],
            2 => self.update(),
            3 => self.delete(),
            _ => self.find_and_modify(),
        };
        let mut write = aimed_at(write, SEEN);
        for step in &mut write {
            step.compare = Compare::Code;
        }
        write
    }

    fn no_view(&mut self) -> Vec<Step> {
        if self.dice.chance(20) {
            let stage = self.dice.pick(&[
                doc! {"$out": "x"},
                doc! {"$merge": "x"},
                doc! {"$facet": {"a": [{"$out": "x"}]}},
                doc! {"$changeStream": {}},
            ]);
            let command = doc! {"create": "new_view", "viewOn": "people", "pipeline": [stage]};
            return vec![Step::new(command, Compare::Exact)];
        }
        let command = self.dice.pick(&[
            doc! {"createIndexes": SEEN, "indexes": [{"key": {"a": 1}, "name": "a_1"}]},
            doc! {"listIndexes": SEEN},
            doc! {"dropIndexes": SEEN, "index": "*"},
            doc! {"collStats": SEEN},
            doc! {"validate": SEEN},
            doc! {"collMod": SEEN, "validator": {"a": 1}},
            doc! {"collMod": COLLECTIONS[0], "viewOn": "tree", "pipeline": []},
            doc! {"create": "new_view", "viewOn": "people", "pipeline": [{"$bad": 1}]},
            doc! {"create": "new_view", "viewOn": "", "pipeline": []},
            doc! {"create": "new_view", "viewOn": "people", "pipeline": 1},
            doc! {"create": "new_view", "pipeline": []},
            doc! {"create": "new_view", "viewOn": "people", "capped": true, "size": 4096},
        ]);
        vec![Step::new(command, Compare::Exact)]
    }
}

/// What they show at the end.
pub(super) fn inventory() -> Vec<Step> {
    let find = |name| Step::new(doc! {"find": name}, Compare::Set);
    vec![find(SEEN), find(SHAPED)]
}
