//! Pipelines that write: `$merge` and `$out`.

use bson::{Bson, Document, doc};

use super::expressions;
use super::generator::Generator;
use super::pipelines::{self, COLLECTIONS};
use super::step::{Compare, Step};
use super::values::Owner;

/// Only `$out` makes it, so that it is never a shared one.
const COPY: &str = "copy";

const JOINED: &str = "joined";

impl Generator {
    pub(super) fn output(&mut self) -> Vec<Step> {
        let (at, source) = self.collection();
        let (mut pipeline, compare) =
            pipelines::pipeline(&mut self.dice, self.owner, !self.indexed[at]);
        // Documents that come in any order are written in any order. Another app writes no `_id`s that a pipeline makes: they
        // are not its own.
        let is_plain = compare != Compare::Exact || self.dice.chance(50);
        if is_plain || matches!(self.owner, Owner::Neighbour(_)) {
            pipeline.truncate(0);
            pipeline.push(doc! {"$sort": {"_id": 1}});
        }
        if !self.is_dedicated {
            // The scope field is the proxy's in what is written.
            pipeline.push(doc! {"$unset": "app_id"});
        }
        let (told, (target, stage)) = match self.dice.between(1, 20) {
            1 => (Compare::Code, (COPY, self.no_output())),
            2..=7 => (Compare::Exact, self.out()),
            _ => (Compare::Exact, self.merge(source)),
        };
        pipeline.push(stage);
        let aggregate = doc! {"aggregate": source, "pipeline": pipeline, "cursor": {}};
        let mut steps = vec![
            Step::new(aggregate, told),
            Step::new(doc! {"find": target}, Compare::Set),
        ];
        if target == JOINED {
            // One into which nothing is written may be made all the same.
            steps.insert(0, Step::new(doc! {"create": JOINED}, Compare::Exact));
        }
        steps
    }

    fn out(&mut self) -> (&'static str, Document) {
        let target = if self.is_dedicated {
            self.dice.pick(&[COPY, COLLECTIONS[1], COLLECTIONS[2]])
        } else {
            COPY
        };
        let stage = if self.dice.chance(12) {
            doc! {"$out": {"db": "<database>", "coll": target}}
        } else {
            doc! {"$out": target}
        };
        (target, stage)
    }

    fn no_output(&mut self) -> Document {
        self.dice.pick(&[
            doc! {"$out": 1},
            doc! {"$out": {"coll": COPY}},
            doc! {"$out": ""},
            doc! {"$merge": 1},
            doc! {"$merge": {"into": COLLECTIONS[0], "whenMatched": "nonsense"}},
            doc! {"$merge": {"on": "_id"}},
        ])
    }

    fn merge(&mut self, source: &'static str) -> (&'static str, Document) {
        let target = match self.dice.between(1, 6) {
            1 => JOINED,
            2 => source,
            _ => self.dice.pick(&COLLECTIONS),
        };
        let mut merge = doc! {"into": target};
        if self.dice.chance(15) {
            merge.insert("into", doc! {"db": "<database>", "coll": target});
        }
        if self.dice.chance(20) {
            merge.insert(
                "on",
                self.dice.pick(&[Bson::from("_id"), vec!["_id"].into()]),
            );
        }
        if self.is_dedicated && self.dice.chance(10) {
            merge.insert("on", self.dice.pick(&["a", "u"]));
        }
        let value = expressions::any(&mut self.dice, 1);
        let matched: Option<Bson> = match self.dice.between(1, 8) {
            1 => Some("replace".into()),
            2 => Some("keepExisting".into()),
            3 => Some("merge".into()),
            4 => Some("fail".into()),
            5 => Some(vec![doc! {"$set": {"x": "$$new.a", "y": value}}].into()),
            6 => {
                merge.insert("let", doc! {"mine": "$u"});
                Some(
                    vec![
                        doc! {"$set": {"x": "$$mine", "n": {"$add": ["$u", 1]}}},
                        doc! {"$unset": "b"},
                    ]
                    .into(),
                )
            }
            7 => Some(vec![doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", "$$new"]}}].into()),
            _ => None,
        };
        if let Some(matched) = matched {
            merge.insert("whenMatched", matched);
        }
        if self.dice.chance(40) {
            let otherwise = self.dice.pick(&["insert", "discard", "fail"]);
            merge.insert("whenNotMatched", otherwise);
        }
        let stage = if self.dice.chance(5) {
            doc! {"$merge": target}
        } else {
            doc! {"$merge": merge}
        };
        (target, stage)
    }
}

/// What was written.
pub(super) fn inventory() -> Vec<Step> {
    let find = |name| Step::new(doc! {"find": name}, Compare::Set);
    vec![find(COPY), find(JOINED)]
}
