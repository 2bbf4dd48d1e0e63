//! Pipelines whose results have an order that every server agrees on, or that say so.

use bson::{Bson, Document, doc};

use super::dice::Dice;
use super::expressions;
use super::functions;
use super::step::Compare;
use super::values::{self, Owner};

/// A pipeline in the making.
#[derive(Debug)]
struct Pipeline {
    stages: Vec<Document>,
    compare: Compare,
    /// Each document has an `_id` of its own.
    has_ids: bool,
    is_ended: bool,
}

pub(super) const COLLECTIONS: [&str; 3] = ["people", "tree", "odd"];

/// What is joined: now and then a view, or a collection of a kind that is the app's own.
fn source(dice: &mut Dice) -> &'static str {
    if dice.chance(85) {
        return dice.pick(&COLLECTIONS);
    }
    dice.pick(&["seen", "strict", "collated", "capped", "copy", "nowhere"])
}

/// `is_ordered`: without a sort the documents come in the order of their records.
pub(super) fn pipeline(
    dice: &mut Dice,
    owner: Owner,
    is_ordered: bool,
) -> (Vec<Document>, Compare) {
    let mut pipeline = Pipeline {
        stages: Vec::new(),
        compare: Compare::Exact,
        has_ids: true,
        is_ended: false,
    };
    if dice.chance(50) {
        let filter = if dice.chance(25) {
            values::id_filter(dice, owner)
        } else {
            values::filter(dice)
        };
        let is_safe = filter.is_empty() || is_ordered && !filter.contains_key("_id");
        pipeline.stages.push(doc! {"$match": filter});
        if !is_safe {
            pipeline
                .stages
                .push(doc! {"$sort": values::total_sort(dice)});
        }
    }
    if !is_ordered || dice.chance(25) {
        pipeline
            .stages
            .push(doc! {"$sort": values::total_sort(dice)});
    }
    for _ in 0..dice.between(0, 3) {
        pipeline.stage(dice, owner);
    }
    if dice.chance(3) {
        pipeline.stages.push(dice.pick(&[
            doc! {"$bad": 1},
            doc! {"$limit": 0},
            doc! {"$sort": {}},
            doc! {"$group": {"n": 1}},
            doc! {"$match": {"$bad": 1}},
            doc! {"$project": {"a": 1, "b": 0}},
            doc! {"$lookup": {"from": "tree"}},
            doc! {"$unwind": "c"},
            doc! {"a": 1, "b": 2},
            doc! {},
        ]));
    }
    (pipeline.stages, pipeline.compare)
}

impl Pipeline {
    fn push(&mut self, stage: Document) {
        self.stages.push(stage);
    }

    fn stage(&mut self, dice: &mut Dice, owner: Owner) {
        if self.is_ended {
            return;
        }
        match dice.between(1, 26) {
            1 => self.push(doc! {"$match": values::filter(dice)}),
            2 => self.push(doc! {"$limit": dice.between(1, 6)}),
            3 => self.push(doc! {"$skip": dice.between(0, 3)}),
            4 => {
                let projection = projection(dice);
                self.has_ids &= !projection.contains_key("_id");
                self.push(doc! {"$project": projection});
            }
            5 | 6 => {
                self.push(doc! {"$set": {"x": expressions::any(dice, 2), "y": "$d.app_id"}});
            }
            7 => self.push(doc! {"$addFields": {"d.new": expressions::any(dice, 2)}}),
            8 => self.push(doc! {"$unset": ["d.e", "b"]}),
            9..=11 => self.group(dice),
            12 => self.lookup(dice),
            13 => self.correlated(dice, owner),
            14 => self.search(dice),
            15 => self.union(dice, owner),
            16 => self.facet(dice),
            17 => self.window(dice),
            18 => {
                self.push(doc! {"$unwind": {"path": "$c", "includeArrayIndex": "at", "preserveNullAndEmptyArrays": dice.chance(50)}});
                self.has_ids = false;
            }
            19 => {
                self.push(doc! {"$replaceWith": {"$mergeObjects": [{"k": 1}, "$$ROOT"]}});
            }
            20 => {
                let kept = dice.pick(&["$$KEEP", "$$DESCEND"]);
                self.push(
                    doc! {"$redact": {"$cond": [expressions::logic(dice, 1), kept, "$$PRUNE"]}},
                );
            }
            21 if self.has_ids => {
                self.push(doc! {"$sample": {"size": 1000}});
                self.push(doc! {"$sort": {"_id": 1}});
            }
            22 => self.push(doc! {"$count": dice.pick(&["n", "app_id"])}),
            23 => {
                let densify = dice.pick(&[
                    doc! {"field": "u", "range": {"step": 5, "bounds": [0, 10]}},
                    doc! {"field": "u", "partitionByFields": ["b"], "range": {"step": 6, "bounds": "partition"}},
                    doc! {"field": "at", "range": {"step": 4, "unit": "year", "bounds": "full"}},
                ]);
                self.push(doc! {"$densify": densify});
                // Equal values of it are in any order.
                self.compare = Compare::Set;
                self.has_ids = false;
                self.is_ended = true;
            }
            24 if self.has_ids => {
                let fill = dice.pick(&[
                    doc! {"sortBy": {"_id": 1}, "output": {"a": {"value": 0}, "u": {"method": "locf"}}},
                    doc! {"sortBy": {"_id": 1}, "partitionBy": "$b", "output": {"u": {"method": "locf"}}},
                    doc! {"sortBy": {"_id": 1}, "output": {"u": {"method": "linear"}}},
                    doc! {"output": {"a": {"value": {"$add": [1, 2]}}, "nope": {"value": "$_id"}}},
                ]);
                self.push(doc! {"$fill": fill});
            }
            25 => {
                self.has_ids = false;
                self.push(
                    doc! {"$replaceRoot": {"newRoot": {"$ifNull": ["$d", {"none": "$_id"}]}}},
                );
            }
            _ if self.has_ids => self.push(doc! {"$sort": values::total_sort(dice)}),
            _ => self.push(doc! {"$match": {}}),
        }
    }

    fn group(&mut self, dice: &mut Dice) {
        // Groups by `$push`, `$first` and `$last` are of an order.
        if self.has_ids {
            self.push(doc! {"$sort": {"_id": 1}});
        }
        match dice.between(1, 5) {
            1 => {
                self.push(doc! {"$sortByCount": "$b"});
                self.push(doc! {"$sort": {"count": -1, "_id": 1}});
            }
            2 => self.push(doc! {
                "$bucket": {"groupBy": "$u", "boundaries": [0, 4, 8], "default": "rest", "output": {"n": expressions::accumulator(dice)}}
            }),
            3 => {
                let mut auto = doc! {"groupBy": dice.pick(&["$_id", "$u", "$at"]), "buckets": dice.between(1, 4)};
                if dice.chance(40) {
                    auto.insert("output", doc! {"n": {"$sum": "$u"}, "least": {"$min": "$a"}});
                }
                self.push(doc! {"$bucketAuto": auto});
            }
            _ => {
                let by = match dice.between(1, 4) {
                    1 => Bson::Null,
                    2 => doc! {"b": "$b", "more": expressions::any(dice, 1)}.into(),
                    _ => format!("${}", values::field(dice)).into(),
                };
                let (one, two) = (expressions::accumulator(dice), expressions::accumulator(dice));
                self.push(doc! {"$group": {"_id": by, "one": one, "two": two}});
                self.push(doc! {"$sort": {"_id": 1}});
            }
        }
        self.has_ids = true;
    }

    fn lookup(&mut self, dice: &mut Dice) {
        let from = source(dice);
        let (local, foreign) = dice.pick(&[
            ("u", "_id"),
            ("a", "a"),
            ("c", "u"),
            ("_id", "d.e"),
            ("d.app_id", "b"),
        ]);
        let mut lookup =
            doc! {"from": from, "localField": local, "foreignField": foreign, "as": "down"};
        if dice.chance(30) {
            lookup.insert(
                "pipeline",
                vec![
                    doc! {"$sort": {"_id": 1}},
                    doc! {"$project": {"all": "$$ROOT"}},
                ],
            );
        } else {
            // Which way the server joins is its own choice.
            self.compare = self.compare.max(Compare::Set);
        }
        self.push(doc! {"$lookup": lookup});
        if dice.chance(20) {
            self.push(doc! {"$unwind": "$down"});
            self.has_ids = false;
        }
    }

    fn correlated(&mut self, dice: &mut Dice, owner: Owner) {
        let mut inner = vec![
            doc! {"$match": {"$expr": {"$gte": ["$u", "$$mine"]}}},
            doc! {"$sort": {"_id": 1}},
        ];
        match dice.between(1, 4) {
            1 => inner.push(doc! {"$set": {"n": {"$size": {"$objectToArray": "$$ROOT"}}}}),
            2 => inner.insert(0, doc! {"$match": values::id_filter(dice, owner)}),
            3 => inner.push(doc! {"$group": {"_id": null, "n": {"$sum": 1}}}),
            _ => inner.push(doc! {"$limit": 2}),
        }
        self.push(doc! {"$lookup": {
            "from": source(dice), "let": {"mine": "$u"}, "pipeline": inner, "as": dice.pick(&["down", "d", "d.in"]),
        }});
    }

    fn search(&mut self, dice: &mut Dice) {
        let mut search = doc! {
            "from": source(dice), "startWith": "$u", "connectFromField": "u", "connectToField": dice.pick(&["_id", "d.e", "c"]), "as": "way",
        };
        if dice.chance(50) {
            search.insert("maxDepth", dice.between(0, 3));
            search.insert("depthField", "deep");
        }
        if dice.chance(40) {
            search.insert("restrictSearchWithMatch", doc! {"u": {"$gt": 2}});
        }
        self.push(doc! {"$graphLookup": search});
        self.compare = self.compare.max(Compare::Set);
    }

    fn union(&mut self, dice: &mut Dice, owner: Owner) {
        let other = dice.pick(&COLLECTIONS);
        let pipeline = vec![
            doc! {"$match": values::filter(dice)},
            doc! {"$sort": {"_id": 1}},
            doc! {"$set": {"from": other}},
        ];
        self.push(match dice.between(1, 5) {
            5 => doc! {"$unionWith": {"pipeline": [{"$documents": [{"_id": "made", "u": 3}]}]}},
            1 => doc! {"$unionWith": {"coll": other, "pipeline": [{"$match": values::id_filter(dice, owner)}, {"$sort": {"_id": 1}}, {"$count": "n"}]}},
            2 => doc! {"$unionWith": other},
            _ => doc! {"$unionWith": {"coll": other, "pipeline": pipeline}},
        });
        self.has_ids = false;
    }

    fn facet(&mut self, dice: &mut Dice) {
        self.push(doc! {"$facet": {
            "n": [{"$count": "n"}],
            "some": [{"$limit": 2}, {"$set": {"x": expressions::any(dice, 1)}}],
            "wide": [{"$match": values::filter(dice)}, {"$lookup": {"from": dice.pick(&COLLECTIONS), "pipeline": [{"$count": "n"}], "as": "all"}}, {"$project": {"all": 1}}],
            "sums": [{"$group": {"_id": null, "v": expressions::accumulator(dice)}}],
        }});
    }

    fn window(&mut self, dice: &mut Dice) {
        if !self.has_ids {
            return;
        }
        // One field: the order of several is the server's hash.
        let mut output = dice.pick(&[
            doc! {"$sum": "$u", "window": {"documents": ["unbounded", "current"]}},
            doc! {"$push": "$a", "window": {"documents": [-1, 1]}},
            doc! {"$documentNumber": {}},
            doc! {"$shift": {"output": "$b", "by": 1, "default": "none"}},
        ]);
        if dice.chance(60) {
            output = functions::window(dice);
        }
        let mut window = doc! {"sortBy": {"_id": 1}, "output": {"new": output}};
        if dice.chance(30) {
            window.insert("partitionBy", "$b");
        }
        self.push(doc! {"$setWindowFields": window});
    }
}

/// Of `find` and of `$project`.
pub(super) fn projection(dice: &mut Dice) -> Document {
    match dice.between(1, 13) {
        1 => doc! {},
        2 => doc! {"a": 1, "b": 1},
        3 => doc! {"_id": 0, "u": 1, "d.e": 1},
        4 => doc! {"d": 0},
        5 => doc! {"_id": 0},
        6 => doc! {"a": 1, "x": expressions::any(dice, 2)},
        7 => doc! {"d": {"e": 1, "app_id": 1}},
        8 => doc! {"app_id": 0},
        9 => doc! {"a": 1, "all": "$$ROOT"},
        10 => doc! {"c.k": 0, "d.f": 0},
        11 => doc! {"n": {"$size": {"$objectToArray": "$$ROOT"}}},
        12 => doc! {"a": 1, "b": 0},
        _ => doc! {"u": 1, "fixed": {"$literal": 1}, "_id": 1},
    }
}
