//! Documents and filters: few fields, few values, so that they meet.

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, Regex, doc};

use super::dice::Dice;

/// Whose commands are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The app whose replies are compared.
    Subject,
    /// Another one. It has `_id`s of its own, since clashes between apps show.
    Neighbour(char),
}

pub(super) fn id(dice: &mut Dice, owner: Owner) -> Bson {
    let number = dice.between(1, 14);
    if let Owner::Neighbour(letter) = owner {
        return format!("{letter}-{number}").into();
    }
    match dice.between(1, 30) {
        1 => dice.pick(&["a", "b", "c"]).into(),
        2 => Bson::Int64(number.into()),
        3 => Bson::Double(number.into()),
        4 => doc! {"k": number, "app_id": "x"}.into(),
        5 => ObjectId::from_bytes([u8::try_from(number).unwrap(); 12]).into(),
        6 => date(dice),
        7 => Bson::Boolean(true),
        _ => number.into(),
    }
}

/// Before the year 2000: what is later is a server's own clock.
pub(super) fn date(dice: &mut Dice) -> Bson {
    DateTime::from_millis(i64::from(dice.between(0, 9)) * 40_000_000_000).into()
}

pub(super) fn text(dice: &mut Dice) -> Bson {
    let texts = [
        "x", "X", "y", "ab", "aB", "", "10", "9", "é", "e", "big red", "red cat",
    ];
    dice.pick(&texts).into()
}

pub(super) fn scalar(dice: &mut Dice) -> Bson {
    match dice.between(1, 20) {
        1 => Bson::Null,
        2 => Bson::Boolean(dice.chance(50)),
        3 => Bson::Double(f64::from(dice.between(0, 9)) / 2.0),
        4 => Bson::Int64(dice.between(0, 5).into()),
        5 | 6 => date(dice),
        7 | 8 => text(dice),
        _ => dice.between(0, 5).into(),
    }
}

fn array(dice: &mut Dice) -> Bson {
    let size = dice.between(0, 4);
    let of_documents = dice.chance(40);
    let item = |dice: &mut Dice| {
        if of_documents {
            Bson::from(doc! {"k": dice.between(0, 3), "v": scalar(dice)})
        } else {
            dice.between(0, 5).into()
        }
    };
    Bson::Array((0..size).map(|_| item(dice)).collect())
}

fn inner(dice: &mut Dice) -> Bson {
    let mut inner = doc! {"e": dice.between(0, 5)};
    if dice.chance(50) {
        inner.insert("f", text(dice));
    }
    if dice.chance(20) {
        inner.insert("app_id", text(dice));
    }
    inner.into()
}

fn place(dice: &mut Dice) -> Bson {
    let (x, y) = (dice.between(-9, 9), dice.between(-9, 9));
    match dice.between(1, 10) {
        1 => doc! {"type": "LineString", "coordinates": [[x, y], [x + 2, y + 1]]}.into(),
        2 => {
            doc! {"type": "Polygon", "coordinates": [[[x, y], [x + 2, y], [x + 2, y + 2], [x, y]]]}
                .into()
        }
        _ => doc! {"type": "Point", "coordinates": [x, y]}.into(),
    }
}

/// What a field holds, mostly.
pub(super) fn value_of(dice: &mut Dice, field: &str) -> Bson {
    match field {
        "b" => text(dice),
        "c" => array(dice),
        "d" => inner(dice),
        "d.e" | "u" => dice.between(0, 12).into(),
        "at" => date(dice),
        "loc" => place(dice),
        "flat" => vec![dice.between(-9, 9), dice.between(-9, 9)].into(),
        _ if dice.chance(5) => array(dice),
        _ if dice.chance(3) => inner(dice),
        _ => scalar(dice),
    }
}

pub(super) const FIELDS: [&str; 8] = ["a", "b", "c", "d", "at", "loc", "flat", "u"];
pub(super) const PATHS: [&str; 10] = [
    "a", "b", "c", "d", "d.e", "d.app_id", "at", "u", "c.k", "nope",
];

pub(super) fn field(dice: &mut Dice) -> &'static str {
    dice.pick(&PATHS)
}

/// A document without `_id`.
pub(super) fn content(dice: &mut Dice) -> Document {
    let mut content = Document::new();
    for field in FIELDS {
        if dice.chance(60) {
            content.insert(field, value_of(dice, field));
        }
    }
    content
}

pub(super) fn document(dice: &mut Dice, owner: Owner) -> Document {
    let mut document = doc! {"_id": id(dice, owner)};
    document.extend(content(dice));
    if dice.chance(5) {
        // `_id` need not be the first.
        let id = document.remove("_id").unwrap();
        document.insert("_id", id);
    }
    document
}

/// A filter that says nothing of `_id`; often the empty one.
pub(super) fn filter(dice: &mut Dice) -> Document {
    match dice.between(1, 20) {
        1..=6 => Document::new(),
        7..=14 => condition(dice),
        15 => doc! {"$and": [condition(dice), condition(dice)]},
        16 => doc! {"$or": [condition(dice), condition(dice)]},
        17 => doc! {"$nor": [condition(dice), condition(dice)]},
        18 => special(dice),
        _ => {
            let mut filter = condition(dice);
            filter.extend(condition(dice));
            filter
        }
    }
}

pub(super) fn id_filter(dice: &mut Dice, owner: Owner) -> Document {
    let first = id(dice, owner);
    match dice.between(1, 8) {
        1 => doc! {"_id": {"$in": [first, id(dice, owner)]}},
        2 => doc! {"_id": {"$gt": first}},
        3 => doc! {"_id": {"$lte": first}},
        4 => doc! {"_id": {"$ne": first}},
        _ => doc! {"_id": first},
    }
}

fn condition(dice: &mut Dice) -> Document {
    let field = field(dice);
    let value = value_of(dice, field);
    let other = value_of(dice, field);
    let test: Bson = match dice.between(1, 24) {
        1..=6 => value,
        7 => doc! {"$gt": value}.into(),
        8 => doc! {"$gte": value, "$lt": other}.into(),
        9 => doc! {"$in": [value, other, regex("^a")]}.into(),
        10 => doc! {"$nin": [value, other]}.into(),
        11 => doc! {"$ne": value}.into(),
        12 | 13 => doc! {"$exists": dice.chance(50)}.into(),
        14 => {
            doc! {"$type": dice.pick(&["int", "string", "array", "object", "number", "nonsense"])}
                .into()
        }
        15 => doc! {"$mod": [dice.between(1, 3), 0]}.into(),
        16 => regex("^[xa]"),
        17 => doc! {"$all": [value, other]}.into(),
        18 => doc! {"$size": dice.between(0, 3)}.into(),
        19 => doc! {"$elemMatch": {"k": {"$gt": dice.between(0, 2)}}}.into(),
        20 => doc! {"$elemMatch": {"$gte": dice.between(0, 3)}}.into(),
        21 => doc! {"$not": {"$gt": value}}.into(),
        22 => doc! {"$bitsAnySet": dice.between(1, 5)}.into(),
        23 => Bson::Null,
        _ => bad(dice),
    };
    doc! {field: test}
}

fn regex(pattern: &str) -> Bson {
    Bson::RegularExpression(Regex {
        pattern: pattern.try_into().unwrap(),
        options: "i".try_into().unwrap(),
    })
}

/// What the server refuses.
fn bad(dice: &mut Dice) -> Bson {
    dice.pick(&[
        doc! {"$in": 5},
        doc! {"$bad": 1},
        doc! {"$size": -1},
        doc! {"$mod": [0, 0]},
        doc! {"$regex": "("},
        doc! {"$elemMatch": 1},
        doc! {"$type": "xx"},
        doc! {"$not": 3},
    ])
    .into()
}

fn special(dice: &mut Dice) -> Document {
    let circle = doc! {"$centerSphere": [[dice.between(-5, 5), 0], 0.1]};
    match dice.between(1, 9) {
        1 => doc! {"$expr": {"$gt": ["$u", dice.between(0, 9)]}},
        2 => doc! {"$expr": {"$eq": [{"$type": "$a"}, "int"]}},
        3 => doc! {"$expr": {"$lt": [{"$size": {"$objectToArray": "$$ROOT"}}, dice.between(3, 7)]}},
        4 => doc! {"loc": {"$geoWithin": circle}},
        5 => {
            doc! {"$jsonSchema": {"required": ["a"], "properties": {"a": {"bsonType": ["int", "long"]}}}}
        }
        6 => doc! {"$comment": "why", "a": {"$gte": 1}},
        7 => doc! {"$or": []},
        8 => doc! {"$nonsense": 1},
        _ => doc! {"$expr": {"$add": ["$b", 1]}},
    }
}

pub(super) fn collation(dice: &mut Dice) -> Document {
    match dice.between(1, 4) {
        1 => doc! {"locale": "en", "strength": 1},
        2 => doc! {"locale": "de", "strength": 2, "caseLevel": true},
        3 => doc! {"locale": "en", "numericOrdering": true},
        _ => doc! {"locale": "simple"},
    }
}

/// A sort in which no two documents are equal, since `_id` decides.
pub(super) fn total_sort(dice: &mut Dice) -> Document {
    let direction = |dice: &mut Dice| dice.pick(&[1, -1]);
    let mut sort = Document::new();
    if dice.chance(60) {
        // One path into arrays at most: the server sorts by no two parallel ones.
        sort.insert(
            dice.pick(&["a", "b", "d.e", "u", "at", "nope"]),
            direction(dice),
        );
    }
    sort.insert("_id", direction(dice));
    sort
}
