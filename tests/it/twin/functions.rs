//! Functions of one or two arguments, kind by kind.

use bson::{Bson, Document, doc};

use super::dice::Dice;
use super::values;

/// An expression whose kind is fixed, whatever the document holds.
fn number(dice: &mut Dice) -> Bson {
    doc! {"$convert": {"input": dice.pick(&["$a", "$u", "$d.e"]), "to": dice.pick(&["int", "double", "long"]), "onError": 4, "onNull": 1}}
        .into()
}

fn text(dice: &mut Dice) -> Bson {
    match dice.between(1, 4) {
        1 => values::text(dice),
        2 => doc! {"$ifNull": ["$d.f", "big red"]}.into(),
        _ => doc! {"$ifNull": ["$b", "none"]}.into(),
    }
}

fn list(dice: &mut Dice) -> Bson {
    match dice.between(1, 4) {
        1 => vec![3, 1, 2].into(),
        2 => doc! {"$ifNull": ["$nope", [1, "x", null]]}.into(),
        _ => doc! {"$cond": [{"$isArray": "$c"}, "$c", [2, 1]]}.into(),
    }
}

fn date(dice: &mut Dice) -> Bson {
    doc! {"$ifNull": ["$at", values::date(dice)]}.into()
}

const OF_NUMBER: [&str; 19] = [
    "$ceil",
    "$floor",
    "$trunc",
    "$exp",
    "$abs",
    "$sqrt",
    "$ln",
    "$log10",
    "$sin",
    "$cos",
    "$tanh",
    "$atan",
    "$degreesToRadians",
    "$radiansToDegrees",
    "$toInt",
    "$toLong",
    "$toDouble",
    "$toBool",
    "$toDecimal",
];

const OF_TEXT: [&str; 10] = [
    "$toLower",
    "$toUpper",
    "$strLenBytes",
    "$strLenCP",
    "$toString",
    "$toInt",
    "$toDouble",
    "$toDate",
    "$toObjectId",
    "$binarySize",
];

const OF_LIST: [&str; 9] = [
    "$size",
    "$first",
    "$last",
    "$anyElementTrue",
    "$allElementsTrue",
    "$reverseArray",
    "$isArray",
    "$max",
    "$stdDevPop",
];

const OF_DATE: [&str; 14] = [
    "$year",
    "$month",
    "$dayOfMonth",
    "$dayOfYear",
    "$dayOfWeek",
    "$hour",
    "$minute",
    "$second",
    "$millisecond",
    "$week",
    "$isoWeek",
    "$isoWeekYear",
    "$isoDayOfWeek",
    "$toLong",
];

/// Any of them; some fail for some documents, on both sides alike.
pub(super) fn any(dice: &mut Dice) -> Document {
    match dice.between(1, 9) {
        1 => doc! {dice.pick(&OF_NUMBER): number(dice)},
        2 => doc! {dice.pick(&OF_TEXT): text(dice)},
        3 => doc! {dice.pick(&OF_LIST): list(dice)},
        4 => doc! {dice.pick(&OF_DATE): date(dice)},
        5 => of_two_numbers(dice),
        6 => of_texts(dice),
        7 => of_sets(dice),
        8 => of_dates(dice),
        _ => of_parts(dice),
    }
}

fn of_two_numbers(dice: &mut Dice) -> Document {
    let (one, two) = (number(dice), number(dice));
    let operator = dice.pick(&[
        "$pow",
        "$log",
        "$mod",
        "$atan2",
        "$subtract",
        "$divide",
        "$gt",
        "$lte",
        "$ne",
        "$min",
    ]);
    doc! {operator: [one, two]}
}

fn of_texts(dice: &mut Dice) -> Document {
    let (one, two) = (text(dice), text(dice));
    match dice.between(1, 11) {
        1 => doc! {"$strcasecmp": [one, two]},
        2 => doc! {"$indexOfCP": [one, two]},
        3 => doc! {"$indexOfBytes": [one, two, 1]},
        4 => doc! {"$substrBytes": [one, 0, 1]},
        5 => doc! {"$ltrim": {"input": one, "chars": "b "}},
        6 => doc! {"$rtrim": {"input": one}},
        7 => doc! {"$regexFind": {"input": one, "regex": "(r)(e)"}},
        8 => doc! {"$regexFindAll": {"input": one, "regex": "[a-e]", "options": "i"}},
        9 => doc! {"$replaceOne": {"input": one, "find": "e", "replacement": two}},
        10 => doc! {"$split": [one, "e"]},
        _ => doc! {"$concat": [one, two]},
    }
}

fn of_sets(dice: &mut Dice) -> Document {
    let (one, two) = (list(dice), list(dice));
    match dice.between(1, 10) {
        1 => doc! {"$setEquals": [one, two]},
        // In the order of a hash.
        2 => doc! {"$size": {"$setIntersection": [one, two]}},
        3 => doc! {"$setIsSubset": [one, two]},
        4 => doc! {"$in": [2, one]},
        5 => doc! {"$maxN": {"input": one, "n": 2}},
        6 => doc! {"$minN": {"input": one, "n": 1}},
        7 => doc! {"$lastN": {"input": one, "n": 2}},
        8 => doc! {"$sortArray": {"input": one, "sortBy": {"k": 1, "v": -1}}},
        9 => doc! {"$indexOfArray": [one, 2, 0, 3]},
        _ => doc! {"$concatArrays": [one, two]},
    }
}

fn of_dates(dice: &mut Dice) -> Document {
    let date = date(dice);
    let zone = dice.pick(&["UTC", "+02:00", "Europe/Paris", "nowhere"]);
    match dice.between(1, 7) {
        1 => {
            doc! {"$dateSubtract": {"startDate": date, "unit": "hour", "amount": 5, "timezone": zone}}
        }
        2 => {
            doc! {"$dateToString": {"date": date, "format": "%G-%V %H:%M:%S.%L", "timezone": zone}}
        }
        3 => doc! {"$dateFromString": {"dateString": "1990-02-03T04:05", "timezone": zone}},
        4 => {
            doc! {"$dateFromString": {"dateString": text(dice), "onError": "no date", "onNull": 0}}
        }
        5 => doc! {"$hour": {"date": date, "timezone": zone}},
        6 => {
            doc! {"$dateTrunc": {"date": date, "unit": "week", "binSize": 2, "startOfWeek": "monday"}}
        }
        _ => doc! {"$dateToParts": {"date": date, "iso8601": true}},
    }
}

fn of_parts(dice: &mut Dice) -> Document {
    let number = number(dice);
    match dice.between(1, 6) {
        1 => doc! {"$dateFromParts": {"year": 1990, "month": number, "day": 3}},
        2 => doc! {"$toDate": {"$toLong": number}},
        3 => doc! {"$tsSecond": "$at"},
        4 => doc! {"$convert": {"input": "$a", "to": "objectId", "onError": {"$type": "$a"}}},
        5 => {
            doc! {"$convert": {"input": "$b", "to": dice.pick(&["bool", "date", "decimal", "nonsense"]), "onError": "no"}}
        }
        _ => doc! {"$toHashedIndexKey": "$b"},
    }
}

/// Accumulators of `$group` besides the simple ones.
pub(super) fn accumulator(dice: &mut Dice) -> Document {
    let n = dice.between(1, 3);
    let sort = dice.pick(&[doc! {"u": 1, "_id": 1}, doc! {"b": -1, "_id": 1}]);
    match dice.between(1, 8) {
        1 => doc! {"$firstN": {"input": "$u", "n": n}},
        2 => doc! {"$lastN": {"input": "$a", "n": n}},
        3 => doc! {"$minN": {"input": "$u", "n": n}},
        4 => doc! {"$bottom": {"sortBy": sort, "output": ["$u", "$_id"]}},
        5 => doc! {"$topN": {"sortBy": sort, "output": "$_id", "n": n}},
        6 => doc! {"$bottomN": {"sortBy": sort, "output": "$b", "n": n}},
        7 => doc! {"$stdDevSamp": "$u"},
        _ => doc! {"$max": any(dice)},
    }
}

/// One field of `$setWindowFields`, sorted by `_id` or by `at`.
pub(super) fn window(dice: &mut Dice) -> Document {
    let documents = doc! {"documents": [dice.between(-3, 0), dice.between(0, 3)]};
    match dice.between(1, 14) {
        1 => doc! {"$rank": {}},
        2 => doc! {"$denseRank": {}},
        3 => doc! {"$documentNumber": {}},
        4 => doc! {"$expMovingAvg": {"input": "$u", "N": 2}},
        5 => doc! {"$covariancePop": ["$u", "$d.e"], "window": documents},
        6 => doc! {"$covarianceSamp": ["$u", "$d.e"]},
        7 => doc! {"$locf": "$a"},
        8 => doc! {"$first": "$a", "window": documents},
        9 => doc! {"$avg": "$u", "window": documents},
        10 => doc! {"$shift": {"output": "$u", "by": -1}},
        11 => doc! {"$min": "$b", "window": {"documents": ["unbounded", "unbounded"]}},
        12 => doc! {"$stdDevPop": "$u", "window": documents},
        13 => doc! {"$count": {}, "window": documents},
        _ => {
            doc! {"$topN": {"n": 2, "sortBy": {"u": 1, "_id": 1}, "output": "$u"}, "window": documents}
        }
    }
}
