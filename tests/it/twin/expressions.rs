//! Expressions of the aggregation language.

use bson::{Bson, Document, doc};

use super::dice::Dice;
use super::functions;
use super::values;

/// `levels` deep at most. Where its value is wanted.
pub(super) fn any(dice: &mut Dice, levels: i32) -> Bson {
    if levels == 0 {
        return leaf(dice);
    }
    match dice.between(1, 10) {
        1..=2 => leaf(dice),
        3 => number(dice, levels).into(),
        4 => text(dice, levels).into(),
        5 => array(dice, levels).into(),
        6 => object(dice, levels).into(),
        7 => logic(dice, levels).into(),
        8 => date(dice).into(),
        _ => functions::any(dice).into(),
    }
}

fn leaf(dice: &mut Dice) -> Bson {
    match dice.between(1, 10) {
        1 => Bson::from("$_id"),
        2 => "$$ROOT".into(),
        3 => doc! {"$literal": values::scalar(dice)}.into(),
        4 => dice.between(0, 5).into(),
        5 => "$$CURRENT.d".into(),
        6 => "$$REMOVE".into(),
        _ => format!("${}", values::field(dice)).into(),
    }
}

fn int(dice: &mut Dice) -> Bson {
    doc! {"$convert": {"input": dice.pick(&["$a", "$u", "$d.e"]), "to": "int", "onError": 0, "onNull": 1}}
        .into()
}

fn list() -> Document {
    doc! {"$cond": [{"$isArray": "$c"}, "$c", [1, 2, 3]]}
}

pub(super) fn number(dice: &mut Dice, levels: i32) -> Document {
    let inner = any(dice, levels - 1);
    match dice.between(1, 16) {
        1 => doc! {"$add": ["$u", int(dice)]},
        2 => doc! {"$subtract": [int(dice), 2]},
        3 => doc! {"$multiply": [int(dice), int(dice)]},
        4 => doc! {"$divide": [int(dice), dice.pick(&[0, 1, 2])]},
        5 => doc! {"$mod": [int(dice), 3]},
        6 => doc! {"$abs": {"$subtract": [int(dice), 3]}},
        7 => doc! {"$round": [{"$divide": [int(dice), 3]}, 1]},
        8 => doc! {"$sum": ["$u", "$d.e", inner]},
        9 => doc! {"$avg": "$c.k"},
        10 => doc! {"$max": ["$u", inner]},
        11 => doc! {"$size": list()},
        12 => doc! {"$bsonSize": "$$ROOT"},
        13 => doc! {"$strLenCP": {"$toString": int(dice)}},
        14 => doc! {"$cmp": ["$a", inner]},
        15 => doc! {"$indexOfArray": [list(), 2]},
        _ => doc! {"$add": [inner, 1]},
    }
}

fn text(dice: &mut Dice, levels: i32) -> Document {
    let inner = any(dice, levels - 1);
    match dice.between(1, 11) {
        1 => doc! {"$concat": ["$b", "-", {"$toString": "$u"}]},
        2 => doc! {"$toUpper": "$b"},
        3 => doc! {"$type": inner},
        4 => doc! {"$substrCP": [{"$ifNull": ["$b", "none"]}, 0, 2]},
        5 => doc! {"$trim": {"input": "$b", "chars": "x"}},
        6 => doc! {"$replaceAll": {"input": "$b", "find": "a", "replacement": "o"}},
        7 => {
            doc! {"$dateToString": {"date": "$at", "format": "%Y-%m", "onNull": "never"}}
        }
        8 => doc! {"$toString": inner},
        9 => {
            doc! {"$switch": {"branches": [{"case": {"$eq": ["$a", inner]}, "then": "same"}], "default": "$b"}}
        }
        10 => {
            doc! {"$getField": {"field": dice.pick(&["b", "a", "d"]), "input": "$$ROOT"}}
        }
        _ => doc! {"$getField": dice.pick(&["b", "a", "u"])},
    }
}

fn array(dice: &mut Dice, levels: i32) -> Document {
    let inner = any(dice, levels - 1);
    match dice.between(1, 15) {
        1 => doc! {"$map": {"input": list(), "as": "item", "in": ["$$item", inner]}},
        2 => doc! {"$filter": {"input": list(), "cond": {"$gt": ["$$this", 1]}}},
        3 => {
            doc! {"$reduce": {"input": list(), "initialValue": [], "in": {"$concatArrays": [["$$this"], "$$value"]}}}
        }
        4 => doc! {"$concatArrays": [list(), [inner]]},
        5 => doc! {"$slice": [list(), dice.pick(&[-1, 1, 2])]},
        6 => doc! {"$range": [0, int(dice)]},
        7 => doc! {"$zip": {"inputs": [list(), ["a", "b"]], "useLongestLength": true}},
        8 => doc! {"$objectToArray": dice.pick(&["$$ROOT", "$d", "$$CURRENT"])},
        9 => doc! {"$setUnion": [list(), [1]]},
        10 => doc! {"$setDifference": [list(), [1]]},
        11 => doc! {"$reverseArray": list()},
        12 => doc! {"$arrayElemAt": [list(), dice.pick(&[0, -1, 9])]},
        13 => doc! {"$sortArray": {"input": list(), "sortBy": -1}},
        14 => doc! {"$split": ["$b", " "]},
        _ => doc! {"$firstN": {"input": list(), "n": 2}},
    }
}

fn object(dice: &mut Dice, levels: i32) -> Document {
    let inner = any(dice, levels - 1);
    match dice.between(1, 7) {
        1 => doc! {"$mergeObjects": ["$d", {"more": inner}]},
        2 => {
            doc! {"$arrayToObject": [[{"k": "a", "v": inner}, {"k": "app_id", "v": 1}]]}
        }
        3 => doc! {"$setField": {"field": "new", "input": "$$ROOT", "value": inner}},
        4 => doc! {"$unsetField": {"field": "d", "input": "$$ROOT"}},
        5 => {
            doc! {"$let": {"vars": {"it": inner}, "in": {"one": "$$it", "all": "$$ROOT._id"}}}
        }
        6 => doc! {"$arrayToObject": {"$objectToArray": "$$ROOT"}},
        _ => doc! {"p": inner, "q": "$a"},
    }
}

pub(super) fn logic(dice: &mut Dice, levels: i32) -> Document {
    let inner = any(dice, levels - 1);
    match dice.between(1, 10) {
        1 => doc! {"$eq": ["$a", inner]},
        2 => doc! {"$and": [{"$gt": ["$u", 1]}, inner]},
        3 => doc! {"$or": ["$nope", inner]},
        4 => doc! {"$not": [inner]},
        5 => doc! {"$in": [inner, list()]},
        6 => doc! {"$cond": [{"$lt": ["$u", 6]}, inner, "$b"]},
        7 => doc! {"$ifNull": ["$nope", inner]},
        8 => doc! {"$isNumber": inner},
        9 => doc! {"$regexMatch": {"input": "$b", "regex": "^x", "options": "i"}},
        _ => dice.pick(&[
            doc! {"$bad": 1},
            doc! {"$eq": [1]},
            doc! {"$literal": {"$bad": 1}},
            doc! {"$eq": ["$$nope", 1]},
            doc! {"$convert": {"input": "$b", "to": "int"}},
        ]),
    }
}

fn date(dice: &mut Dice) -> Document {
    match dice.between(1, 5) {
        1 => doc! {"$year": "$at"},
        2 => doc! {"$dateTrunc": {"date": "$at", "unit": "month"}},
        3 => doc! {"$dateAdd": {"startDate": "$at", "unit": "day", "amount": 3}},
        4 => doc! {"$dateToParts": {"date": "$at"}},
        _ => doc! {"$dateDiff": {"startDate": "$at", "endDate": values::date(dice), "unit": "day"}},
    }
}

pub(super) fn accumulator(dice: &mut Dice) -> Document {
    if dice.chance(30) {
        return functions::accumulator(dice);
    }
    let inner = any(dice, 1);
    dice.pick(&[
        doc! {"$sum": 1},
        doc! {"$sum": inner.clone()},
        doc! {"$avg": "$u"},
        doc! {"$min": inner.clone()},
        doc! {"$max": inner.clone()},
        doc! {"$first": inner.clone()},
        doc! {"$last": inner.clone()},
        doc! {"$push": inner.clone()},
        doc! {"$mergeObjects": "$d"},
        doc! {"$stdDevPop": "$u"},
        doc! {"$count": {}},
        doc! {"$top": {"sortBy": {"u": 1, "_id": 1}, "output": inner}},
        doc! {"$maxN": {"input": "$u", "n": 2}},
    ])
}
