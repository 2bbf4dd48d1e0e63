//! Indexes, collections and what lists them.

use bson::{Bson, Document, doc};

use super::dice::Dice;
use super::kinds;
use super::outputs;
use super::pipelines::COLLECTIONS;
use super::step::{Compare, Step};
use super::values::Owner;
use super::views;

/// Every app uses the same names, for definitions of its own.
const NAMES: [&str; 6] = ["a_1", "b_1", "u_1", "c_1", "one", "two"];

/// Longer than the time since 1970: no date of these tests expires.
pub(super) const NEVER_SECONDS: i32 = 2_000_000_000;

fn definition(dice: &mut Dice, owner: Owner) -> Document {
    let name = dice.pick(&NAMES);
    let mut key = dice.pick(&[
        doc! {"a": 1},
        doc! {"a": -1},
        doc! {"b": 1},
        doc! {"u": 1},
        doc! {"u": 1, "_id": -1},
        doc! {"a": 1, "b": -1},
        doc! {"c": 1},
        doc! {"c.k": 1, "u": 1},
        doc! {"d.e": 1},
        doc! {"d.app_id": 1},
        doc! {"b": "hashed"},
        doc! {"loc": "2dsphere"},
        doc! {"flat": "2d"},
    ]);
    let mut options = Document::new();
    match dice.between(1, 16) {
        1..=3 => {
            options.insert("unique", true);
        }
        4 => {
            options.insert("sparse", true);
        }
        5 => {
            options.insert(
                "partialFilterExpression",
                doc! {"u": {"$gt": dice.between(1, 8)}},
            );
        }
        6 => {
            options.insert("unique", true);
            options.insert("partialFilterExpression", doc! {"a": {"$exists": true}});
        }
        7 => {
            key = doc! {"at": 1};
            options.insert("expireAfterSeconds", NEVER_SECONDS);
        }
        8 => {
            options.insert("hidden", true);
        }
        9 => {
            options.insert("collation", doc! {"locale": "en", "strength": 2});
        }
        10 => key = dice.pick(&[doc! {"$**": 1}, doc! {"d.$**": 1}]),
        11 if owner == Owner::Subject => key = doc! {"b": "text"},
        12 => {
            options.insert("unique", true);
            options.insert("sparse", true);
        }
        _ => {}
    }
    let mut definition = doc! {"key": key, "name": name};
    definition.extend(options);
    definition
}

pub(super) fn create(dice: &mut Dice, owner: Owner, collection: &str) -> Vec<Step> {
    let definitions = match dice.between(1, 12) {
        1 => vec![definition(dice, owner), definition(dice, owner)],
        2 => vec![dice.pick(&[
            doc! {"key": {"a": 1}},
            doc! {"name": "x"},
            doc! {"key": {}, "name": "x"},
            doc! {"key": {"a": 0}, "name": "x"},
            doc! {"key": {"a": "nonsense"}, "name": "x"},
            doc! {"key": {"a": 1}, "name": "x", "nonsense": 1},
            doc! {"key": {"_id": 1}, "name": "_id_"},
            doc! {"key": {"a": 1, "b": 1}, "name": "x", "expireAfterSeconds": 5},
        ])],
        _ => vec![definition(dice, owner)],
    };
    let create = doc! {"createIndexes": collection, "indexes": definitions};
    let mut steps = vec![Step::new(create, Compare::Exact)];
    if dice.chance(40) {
        steps.push(Step::new(doc! {"listIndexes": collection}, Compare::Exact));
        steps.push(Step::new(
            doc! {"find": format!("{collection}_moved")},
            Compare::Exact,
        ));
    }
    steps
}

pub(super) fn drop(dice: &mut Dice, collection: &str) -> Vec<Step> {
    let index: Bson = match dice.between(1, 10) {
        1 => "*".into(),
        2 => "_id_".into(),
        3 => doc! {"a": 1}.into(),
        4 => vec![dice.pick(&NAMES), dice.pick(&NAMES)].into(),
        5 => "nowhere".into(),
        _ => dice.pick(&NAMES).into(),
    };
    vec![Step::new(
        doc! {"dropIndexes": collection, "index": index},
        Compare::Exact,
    )]
}

/// By name or key; it may well name nothing.
pub(super) fn hint(dice: &mut Dice) -> Option<Bson> {
    match dice.between(1, 8) {
        1 => Some("_id_".into()),
        2 => Some(doc! {"_id": 1}.into()),
        3 => Some(doc! {"$natural": 1}.into()),
        4 => Some(doc! {"a": 1}.into()),
        5 => Some(doc! {"nope": 1}.into()),
        6 => None,
        _ => Some(dice.pick(&NAMES).into()),
    }
}

pub(super) fn catalog(dice: &mut Dice) -> Vec<Step> {
    let (command, compare) = match dice.between(1, 10) {
        1 => (doc! {"listCollections": 1}, Compare::Set),
        2 => (
            doc! {"listCollections": 1, "nameOnly": true, "filter": {"name": {"$regex": "^p"}}},
            Compare::Set,
        ),
        3 => (doc! {"listDatabases": 1}, Compare::Exact),
        4 => (
            doc! {"listIndexes": dice.pick(&COLLECTIONS)},
            Compare::Exact,
        ),
        5 => (doc! {"listIndexes": "nowhere"}, Compare::Exact),
        6 => (
            doc! {"create": dice.pick(&["made", "other"])},
            Compare::Exact,
        ),
        7 => (doc! {"create": COLLECTIONS[0]}, Compare::Exact),
        8 => (doc! {"drop": "made"}, Compare::Exact),
        9 => (
            doc! {"createIndexes": "fresh", "indexes": [{"key": {"x": 1}, "name": "x_1"}]},
            Compare::Exact,
        ),
        _ => (
            doc! {"listCollections": 1, "filter": {"name": "people"}},
            Compare::Exact,
        ),
    };
    vec![Step::new(command, compare)]
}

/// Everything that is there at the end.
pub(super) fn inventory() -> Vec<Step> {
    let mut steps = vec![Step::new(doc! {"listCollections": 1}, Compare::Set)];
    for collection in COLLECTIONS {
        steps.push(Step::new(doc! {"find": collection}, Compare::Exact));
        steps.push(Step::new(doc! {"count": collection}, Compare::Exact));
        steps.push(Step::new(doc! {"listIndexes": collection}, Compare::Exact));
    }
    steps.extend(kinds::inventory());
    steps.extend(views::inventory());
    steps.extend(outputs::inventory());
    steps
}
