//! Every place of many commands where a name has a meaning: there an unknown name, or one that stands twice, is refused.

use std::collections::{BTreeMap, BTreeSet};

use mdb_scope::Refusal;
use proptest::prelude::*;

use super::{apply, config, structure};
use crate::notation::{Text, Value, read_text};

/// Commands that an app may send, between them with every place that is read by name. Those that are answered from a catalog
/// are among them: their fields are checked all the same.
pub(super) const COMMANDS: &[&str] = &[
    r#"{find: "c", filter: {x: {$gt: 1}, $or: [{y: 1}, {$expr: {$eq: ["$x", "$y"]}}]}, projection: {x: 1, y: {z: 1}}, sort: {x: 1}, hint: {x: 1}, let: {v: 1}, collation: {locale: "en"}, lsid: {id: UUID("00000000000000000000000000000001")}, $db: "d"}"#,
    r#"{find: "c", filter: {a: {$elemMatch: {x: 1, $or: [{y: 1}]}}}, projection: {a: {$slice: [{$concatArrays: ["$a"]}, 1]}}, readConcern: {level: "local"}, $db: "d"}"#,
    r#"{find: "c", filter: {a: {$all: [{$elemMatch: {x: {$gt: 1}}}]}, b: {$not: {$elemMatch: {$gt: 1}}}, $nor: [{$and: [{x: {$nin: [1]}}]}]}, projection: {a: {$elemMatch: {x: 1}}, b: {$add: [1, {$abs: "$b"}]}}, $db: "d"}"#,
    r#"{find: "c", filter: {x: 1}, min: {x: 1}, max: {x: 2}, hint: {x: 1}, sort: {t: {$meta: "textScore"}}, $readPreference: {mode: "primary"}, $db: "d"}"#,
    r#"{find: "c", filter: {g: {$geoWithin: {$centerSphere: [[1, 1], 1]}}, $text: {$search: "a"}}, $db: "d"}"#,
    r#"{count: "c", query: {x: {$not: {$gt: 1}}}, hint: {x: 1}, collation: {locale: "en"}, $db: "d"}"#,
    r#"{distinct: "c", key: "x", query: {$nor: [{x: 1}]}, collation: {locale: "en"}, $db: "d"}"#,
    r#"{findAndModify: "c", query: {x: 1}, update: {$set: {y: 1}, $pull: {a: {x: {$gt: 1}}}, $push: {b: {$each: [1], $slice: 2}}}, arrayFilters: [{e: 1, $or: [{e: {$gt: 1}}]}], sort: {y: 1}, fields: {x: 1}, writeConcern: {w: 1}, $db: "d"}"#,
    r#"{findAndModify: "c", query: {x: 1}, update: [{$set: {y: "$$v"}}, {$unset: "z"}, {$project: {y: {$add: [1, 2]}}}], let: {v: 1}, upsert: true, $db: "d"}"#,
    r#"{update: "c", $db: "d"} + updates [{q: {x: 1}, u: {$set: {y: 1, z: 2}, $unset: {w: 1}, $inc: {n: 1}, $currentDate: {t: true}}, hint: {x: 1}}, {q: {}, u: [{$replaceWith: {a: "$x"}}], c: {v: 1}, collation: {locale: "en"}}]"#,
    r#"{update: "c", updates: [{q: {x: {$in: [1]}}, u: {$setOnInsert: {y: 1}, $rename: {a: "b"}, $bit: {m: {and: 1}}}, upsert: true, arrayFilters: [{e: {$gt: 1}}]}], let: {v: 1}, $db: "d"}"#,
    r#"{delete: "c", let: {v: 1}, $db: "d"} + deletes [{q: {x: 1}, limit: 1, hint: {x: 1}}, {q: {$and: [{y: 1}]}, limit: 0, collation: {locale: "en"}}]"#,
    r#"{insert: "c", ordered: true, $db: "d"} + documents [{x: 1}]"#,
    r#"{aggregate: "c", pipeline: [{$match: {x: 1}}, {$sort: {x: 1}}, {$group: {_id: {a: "$x"}, n: {$sum: {$add: [1, 2]}}}}], cursor: {batchSize: 1}, let: {v: 1}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$lookup: {from: "f", let: {v: "$x"}, pipeline: [{$match: {$expr: {$eq: ["$y", "$$v"]}}}], as: "z"}}, {$facet: {a: [{$unionWith: {coll: "g", pipeline: [{$project: {x: 1}}]}}]}}], cursor: {}, collation: {locale: "en"}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$lookup: {from: "f", localField: "x", foreignField: "y", as: "z"}}, {$graphLookup: {from: "f", startWith: {$abs: "$x"}, connectFromField: "x", connectToField: "y", as: "w", restrictSearchWithMatch: {k: {$gt: 1}}}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$bucket: {groupBy: {$abs: "$x"}, boundaries: [1, 2], output: {n: {$sum: 1}}}}, {$bucketAuto: {groupBy: "$x", buckets: 2}}, {$sortByCount: {$abs: "$x"}}, {$unwind: {path: "$x"}}, {$sample: {size: 1}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$setWindowFields: {sortBy: {x: 1}, output: {n: {$sum: {$abs: "$x"}, window: {documents: [0, 1]}}}}}, {$fill: {sortBy: {x: 1}, output: {y: {method: "linear"}}}}, {$densify: {field: "x", range: {step: 1, bounds: "full"}}}], cursor: {}, $db: "d"}"#,
    r#"{aggregate: "c", pipeline: [{$addFields: {a: {$let: {vars: {v: 1}, in: {$add: ["$$v", 1]}}}, b: {$map: {input: "$x", in: {$abs: "$$this"}}}, c: {$cond: {if: 1, then: 2, else: 3}}, d: {$switch: {branches: [{case: 1, then: 2}], default: 3}}}}, {$redact: {$cond: [1, "$$KEEP", "$$PRUNE"]}}, {$replaceRoot: {newRoot: {a: {$abs: "$x"}}}}], cursor: {}, $db: "d"}"#,
    r#"{explain: {find: "c", filter: {x: {$gt: 1}}, sort: {x: 1}}, verbosity: "queryPlanner", $db: "d"}"#,
    r#"{explain: {update: "c", updates: [{q: {x: 1}, u: {$set: {x: 1}}}]}, $db: "d"}"#,
    r#"{createIndexes: "c", indexes: [{key: {y: 1, z: -1}, name: "y_1", sparse: false, partialFilterExpression: {y: {$gt: 1}}, collation: {locale: "en"}}], $db: "d"}"#,
    r#"{createIndexes: "c", indexes: [{key: {$**: 1}, name: "w", wildcardProjection: {a: 1}}], $db: "d"}"#,
    r#"{dropIndexes: "c", index: "x_1", $db: "d"}"#,
    r#"{listIndexes: "c", cursor: {batchSize: 1}, $db: "d"}"#,
    r#"{listCollections: 1, filter: {name: "c"}, nameOnly: true, cursor: {}, $db: "d"}"#,
    r#"{create: "c", $db: "d"}"#,
    r#"{drop: "c", $db: "d"}"#,
    r#"{endSessions: [{id: UUID("00000000000000000000000000000001")}], $db: "admin"}"#,
    r#"{commitTransaction: 1, lsid: {id: UUID("00000000000000000000000000000001")}, txnNumber: Long(1), autocommit: false, $db: "admin"}"#,
];

#[test]
fn the_commands_are_valid() {
    for text in COMMANDS {
        if let Err(refusal) = apply(&read_text(text)) {
            panic!("{refusal}: {text}");
        }
    }
}

/// Where any name is let through, also one that looks like an operator: it names a field of a document or a key, which is data;
/// the server refuses it by itself, in the one statement of many; or the document does not go upstream.
const OPEN_TO_ALL: &[&str] = &[
    "createIndexes.indexes[].key",
    "createIndexes.indexes[].wildcardProjection",
    "explain.explain.updates[].u.$set",
    "find.$readPreference",
    "find.max",
    "find.min",
    "findAndModify.update.$pull",
    "findAndModify.update.$push",
    "findAndModify.update.$set",
    "insert.documents[]",
    "listCollections.cursor",
    "listCollections.filter",
    "listIndexes.cursor",
    "update.updates[].u.$bit",
    "update.updates[].u.$bit.m",
    "update.updates[].u.$currentDate",
    "update.updates[].u.$inc",
    "update.updates[].u.$rename",
    "update.updates[].u.$set",
    "update.updates[].u.$setOnInsert",
    "update.updates[].u.$unset",
];

/// Where any other name is let through: it is the path of a field, a variable, or the argument of an expression, whose value
/// is checked as an expression whatever it is called.
const OPEN_TO_NAMES: &[&str] = &[
    "aggregate.let",
    "aggregate.pipeline[].$addFields",
    "aggregate.pipeline[].$addFields.a",
    "aggregate.pipeline[].$addFields.a.$let",
    "aggregate.pipeline[].$addFields.a.$let.in",
    "aggregate.pipeline[].$addFields.a.$let.vars",
    "aggregate.pipeline[].$addFields.b",
    "aggregate.pipeline[].$addFields.b.$map",
    "aggregate.pipeline[].$addFields.b.$map.in",
    "aggregate.pipeline[].$addFields.c",
    "aggregate.pipeline[].$addFields.c.$cond",
    "aggregate.pipeline[].$addFields.d",
    "aggregate.pipeline[].$addFields.d.$switch",
    "aggregate.pipeline[].$addFields.d.$switch.branches[]",
    "aggregate.pipeline[].$bucket.groupBy",
    "aggregate.pipeline[].$bucket.output",
    "aggregate.pipeline[].$bucket.output.n",
    "aggregate.pipeline[].$densify.range",
    "aggregate.pipeline[].$facet.a[].$unionWith.pipeline[].$project",
    "aggregate.pipeline[].$fill.output",
    "aggregate.pipeline[].$fill.output.y",
    "aggregate.pipeline[].$fill.sortBy",
    "aggregate.pipeline[].$graphLookup.restrictSearchWithMatch",
    "aggregate.pipeline[].$graphLookup.startWith",
    "aggregate.pipeline[].$group",
    "aggregate.pipeline[].$group._id",
    "aggregate.pipeline[].$group.n",
    "aggregate.pipeline[].$group.n.$sum",
    "aggregate.pipeline[].$lookup.let",
    "aggregate.pipeline[].$lookup.pipeline[].$match",
    "aggregate.pipeline[].$lookup.pipeline[].$match.$expr",
    "aggregate.pipeline[].$match",
    "aggregate.pipeline[].$redact",
    "aggregate.pipeline[].$replaceRoot.newRoot",
    "aggregate.pipeline[].$replaceRoot.newRoot.a",
    "aggregate.pipeline[].$setWindowFields.output",
    "aggregate.pipeline[].$setWindowFields.output.n",
    "aggregate.pipeline[].$setWindowFields.output.n.$sum",
    "aggregate.pipeline[].$setWindowFields.output.n.window",
    "aggregate.pipeline[].$setWindowFields.sortBy",
    "aggregate.pipeline[].$sort",
    "aggregate.pipeline[].$sortByCount",
    "count.query",
    "createIndexes.indexes[].partialFilterExpression",
    "delete.deletes[].q",
    "delete.deletes[].q.$and[]",
    "delete.let",
    "distinct.query",
    "distinct.query.$nor[]",
    "explain.explain.filter",
    "explain.explain.sort",
    "explain.explain.updates[].q",
    "find.filter",
    "find.filter.$nor[]",
    "find.filter.$nor[].$and[]",
    "find.filter.$or[]",
    "find.filter.$or[].$expr",
    "find.filter.a.$all[].$elemMatch",
    "find.filter.a.$elemMatch",
    "find.filter.a.$elemMatch.$or[]",
    "find.filter.b.$not.$elemMatch",
    "find.let",
    "find.projection",
    "find.projection.a.$elemMatch",
    "find.projection.a.$slice[]",
    "find.projection.b",
    "find.projection.b.$add[]",
    "find.projection.y",
    "find.sort",
    "findAndModify.arrayFilters[]",
    "findAndModify.arrayFilters[].$or[]",
    "findAndModify.fields",
    "findAndModify.let",
    "findAndModify.query",
    "findAndModify.sort",
    "findAndModify.update.$pull.a",
    "findAndModify.update[].$project",
    "findAndModify.update[].$project.y",
    "findAndModify.update[].$set",
    "update.let",
    "update.updates[].arrayFilters[]",
    "update.updates[].c",
    "update.updates[].q",
    "update.updates[].u[].$replaceWith",
];

/// Where a name may stand twice: in data, and where nothing goes upstream.
const OPEN_TO_REPEATS: &[&str] = &[
    "insert.documents[]",
    "listCollections.filter",
    "listIndexes.cursor",
];

/// The places where a change is not refused, by their paths, each with what was sent; `see` is shown the refusals.
fn taken(
    change: &dyn Fn(&mut Text, usize),
    see: &dyn Fn(&Refusal, &Text),
) -> BTreeMap<String, Text> {
    let mut taken = BTreeMap::new();
    for command in COMMANDS.iter().map(|text| read_text(text)) {
        for (number, path) in structure::places_of_names(&command).into_iter().enumerate() {
            let mut text = command.clone();
            change(&mut text, number);
            if text == command {
                continue;
            }
            match apply(&text) {
                Ok(_) => drop(taken.insert(path, text)),
                Err(refusal) => see(&refusal, &text),
            }
        }
    }
    taken
}

/// The places that are open are the listed ones, no more and no fewer.
fn assert_open(taken: &BTreeMap<String, Text>, expected: &[&[&str]]) {
    let expected: BTreeSet<&str> = expected.iter().copied().flatten().copied().collect();
    for (path, text) in taken {
        assert!(expected.contains(path.as_str()), "{path} is open: {text}");
    }
    for path in expected {
        assert!(taken.contains_key(path), "{path} is not open");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..config() })]

    /// A name that nothing has, added to any document of a command.
    #[test]
    fn unknown_fields_are_refused(name in "\\$?[a-z]{2,4}Zz[A-Z]?", is_first in any::<bool>()) {
        let taken = taken(&|text, number| {
            structure::change_at(text, number, &|is_body, fields| {
                // The first field of a body is the command.
                let place = if is_first && !is_body { 0 } else { fields.len() };
                fields.insert(place, (name.clone(), Value::int(1)));
            });
        }, &|_, _| {});
        if name.starts_with('$') && !is_first {
            assert_open(&taken, &[OPEN_TO_ALL]);
        } else if !is_first {
            assert_open(&taken, &[OPEN_TO_ALL, OPEN_TO_NAMES]);
        }
    }

    /// A name that nothing has in place of an operator, a stage or a command.
    #[test]
    fn unknown_operators_are_refused(name in "\\$[a-z]{2,4}Zz[A-Z]?") {
        let taken = taken(&|text, number| {
            structure::change_at(text, number, &|is_body, fields| {
                let is_operator = |f: &&mut (String, Value)| f.0.starts_with('$') && f.0 != "$db";
                fields.iter_mut().filter(is_operator).for_each(|f| f.0.clone_from(&name));
                if is_body {
                    fields[0].0.clone_from(&name);
                }
            });
        }, &|_, _| {});
        // A wildcard is a key, `$each` makes modifiers out of data.
        assert_open(&taken, &[&["createIndexes.indexes[].key", "findAndModify.update.$push.b"]]);
    }

    /// A field that stands twice, with the same value or another.
    #[test]
    fn fields_twice_are_refused(value in prop::option::of(0..3_i32), place in any::<prop::sample::Index>()) {
        let taken = taken(&|text, number| {
            structure::change_at(text, number, &|_, fields| {
                if fields.is_empty() {
                    return;
                }
                let (name, same) = fields[place.index(fields.len())].clone();
                fields.push((name, value.map_or(same, Value::int)));
            });
        }, &|refusal, text| {
            // A stage with two fields is none, a hint no index; another value may be refused for what it is.
            let is_other = refusal.code == 40323 || refusal.text.contains("hint");
            assert!(value.is_some() || is_other || refusal.code == 40413, "{refusal}: {text}");
        });
        assert_open(&taken, &[OPEN_TO_REPEATS]);
    }
}
