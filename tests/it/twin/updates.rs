//! Updates: operators, replacements, pipelines.

use bson::{Bson, Document, doc};

use super::dice::Dice;
use super::expressions;
use super::values::{self, Owner};

/// An update and what goes with it (`arrayFilters`).
#[derive(Debug)]
pub(super) struct Update {
    pub(super) change: Bson,
    pub(super) array_filters: Option<Bson>,
}

pub(super) fn update(dice: &mut Dice, owner: Owner) -> Update {
    let mut array_filters = None;
    let change = match dice.between(1, 20) {
        1..=3 => replacement(dice, owner).into(),
        4..=6 => pipeline(dice),
        7 => {
            let threshold = dice.between(0, 3);
            array_filters = Some(vec![doc! {"e.k": {"$gte": threshold}}].into());
            doc! {"$set": {"c.$[e].v": values::scalar(dice)}}.into()
        }
        8 => {
            array_filters = Some(vec![doc! {"e": {"$lt": 3}}].into());
            doc! {"$inc": {"c.$[e]": 10}}.into()
        }
        9 => doc! {"$set": {"c.$[].k": 9}}.into(),
        10 => doc! {"$set": {"c.$": 7}}.into(),
        11 => bad(dice, owner).into(),
        _ => operators(dice).into(),
    };
    Update {
        change,
        array_filters,
    }
}

fn replacement(dice: &mut Dice, owner: Owner) -> Document {
    if dice.chance(20) {
        values::document(dice, owner)
    } else {
        values::content(dice)
    }
}

fn operators(dice: &mut Dice) -> Document {
    let mut update = Document::new();
    // Each on fields of its own, so that they do not conflict.
    if dice.chance(60) {
        let field = dice.pick(&["a", "d.e", "b", "new.x"]);
        let value = values::value_of(dice, field);
        let operator = dice.pick(&["$set", "$set", "$min", "$max", "$setOnInsert", "$unset"]);
        update.insert(operator, doc! {field: value});
    }
    if dice.chance(40) {
        let operator = dice.pick(&["$inc", "$mul", "$min", "$max"]);
        update.insert(operator, doc! {"u": dice.between(1, 4)});
    }
    if dice.chance(30) || update.is_empty() {
        update.extend(of_array(dice));
    }
    if dice.chance(10) {
        update.insert(
            "$currentDate",
            doc! {"when": dice.pick(&[Bson::Boolean(true), doc! {"$type": "timestamp"}.into()])},
        );
    }
    if dice.chance(8) {
        update.insert("$rename", doc! {"at": "was"});
    }
    if dice.chance(5) {
        update.insert("$bit", doc! {"flags": {"or": dice.between(1, 7)}});
    }
    update
}

fn of_array(dice: &mut Dice) -> Document {
    let item = dice.between(0, 5);
    match dice.between(1, 12) {
        1 => doc! {"$push": {"c": item}},
        2 => {
            doc! {"$push": {"c": {"$each": [item, 3], "$slice": dice.pick(&[-3, 3]), "$sort": dice.pick(&[1, -1])}}}
        }
        3 => doc! {"$push": {"c": {"$each": [item], "$position": 0}}},
        4 => doc! {"$addToSet": {"c": {"$each": [item, 1]}}},
        5 => doc! {"$pull": {"c": {"$gt": item}}},
        6 => doc! {"$pull": {"c": {"k": item}}},
        7 => doc! {"$pullAll": {"c": [item, 1]}},
        8 => doc! {"$pop": {"c": dice.pick(&[1, -1])}},
        9 => {
            doc! {"$push": {"c": {"$each": [{"k": item, "v": 1}], "$sort": {"k": 1}, "$slice": 4}}}
        }
        10 => doc! {"$pull": {"c": {"$in": [item, 2]}}},
        11 => doc! {"$pull": {"c": {"$elemMatch": {"k": {"$gte": item}}}}},
        _ => doc! {"$addToSet": {"c": item}},
    }
}

fn pipeline(dice: &mut Dice) -> Bson {
    let expression = expressions::any(dice, 2);
    let stages: Vec<Document> = match dice.between(1, 7) {
        1 => vec![doc! {"$set": {"a": expression, "n": {"$add": ["$u", 1]}}}],
        2 => vec![doc! {"$unset": ["d", "at"]}],
        3 => {
            vec![doc! {"$replaceWith": {"$mergeObjects": ["$$ROOT", {"was": expression}]}}]
        }
        4 => vec![doc! {"$project": {"a": 1, "u": 1, "x": expression}}],
        5 => vec![
            doc! {"$set": {"size": {"$size": {"$objectToArray": "$$ROOT"}}}},
            doc! {"$unset": "b"},
        ],
        6 => vec![doc! {"$replaceRoot": {"newRoot": {"a": "$u", "all": "$d"}}}],
        _ => vec![doc! {"$set": {"d": {"e": "$u", "app_id": "$b"}}}],
    };
    stages.into()
}

fn bad(dice: &mut Dice, owner: Owner) -> Document {
    let id = values::id(dice, owner);
    dice.pick(&[
        doc! {"$inc": {"b": 1}},
        doc! {"$inc": {"u": "x"}},
        doc! {"$set": {"_id": id}},
        doc! {"$set": {"a": 1}, "$inc": {"a": 1}},
        doc! {"$push": {"b": 1}},
        doc! {"$set": {}},
        doc! {"$set": {"a.b.c": 1}},
        doc! {"$rename": {"a": "a"}},
        doc! {"$unset": {"_id": 1}},
        doc! {"$pop": {"c": 3}},
        doc! {"$set": {"c.$[e]": 1}},
        doc! {"$set": {"$bad": 1}},
        doc! {"$set": {"a": 1}, "b": 2},
        doc! {"a": 2, "$set": {"a": 1}},
        doc! {"$set": {"": 1}},
    ])
}
