//! Commands, right ones and wrong ones.

use mdb_scope::ReplyRule;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::matcher::{self, OWNERS};
use crate::notation::{Fields, Text, Value, read_document, read_text};
use crate::proxy::{FIELD, SLUG};

/// A change of one field of one document of a command.
#[derive(Debug, Clone)]
pub(super) struct Mutation {
    pub(super) place: Index,
    pub(super) field: Index,
    pub(super) renames: bool,
    pub(super) name: String,
    pub(super) value: Value,
}

/// Names that have a meaning somewhere, and that the rules have something against elsewhere.
const NAMES: &[&str] = &[
    "app_id",
    "app_id.x",
    "app_id2",
    "x",
    "y",
    "_id",
    "",
    "$and",
    "$or",
    "$nor",
    "$not",
    "$expr",
    "$where",
    "$function",
    "$accumulator",
    "$literal",
    "$eq",
    "$gt",
    "$in",
    "$elemMatch",
    "$all",
    "$match",
    "$lookup",
    "$unionWith",
    "$graphLookup",
    "$facet",
    "$out",
    "$merge",
    "$documents",
    "$project",
    "$set",
    "$unset",
    "$rename",
    "$pull",
    "$getField",
    "$let",
    "$_internalX",
    "$jsonSchema",
    "$slice",
    "from",
    "pipeline",
    "as",
    "let",
    "coll",
    "filter",
    "query",
    "q",
    "u",
    "c",
    "collation",
    "hint",
    "min",
    "max",
    "sort",
    "projection",
    "explain",
    "documents",
    "updates",
    "deletes",
    "lsid",
    "CURRENT",
    "vars",
    "in",
    "input",
    "field",
    "restrictSearchWithMatch",
    "$db",
    "arrayFilters",
    "multi",
    "limit",
];

const TEXTS: &[&str] = &[
    "shop",
    "b",
    "SHOP",
    "",
    "app_id",
    "$app_id",
    "$x",
    "$$ROOT",
    "$$CURRENT",
    "$$ROOT.app_id",
    "$$v",
    "$$USER_ROLES",
    "f",
    "system.users",
    "en",
    "simple",
    "x_1",
    "shop.x_1",
    "_id_",
    "app_id_1",
];

fn texts(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    select(texts).prop_map(str::to_owned)
}

fn leaf() -> impl Strategy<Value = Value> + Clone {
    prop_oneof![
        (0..3_i32).prop_map(Value::int),
        texts(TEXTS).prop_map(|t| Value::string(&t)),
        Just(Value::symbol(SLUG)),
        Just(Value::null()),
        any::<bool>().prop_map(Value::boolean),
        Just(Value::regex("^s", "")),
    ]
}

/// Any value, names and texts with a meaning sprinkled over it.
pub(super) fn value() -> impl Strategy<Value = Value> + Clone {
    leaf().prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::Array),
            vec((texts(NAMES), inner), 0..3).prop_map(Value::Document),
        ]
    })
}

pub(super) fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let mutation = (
        any::<Index>(),
        any::<Index>(),
        any::<bool>(),
        texts(NAMES),
        value(),
    );
    let mutation = mutation.prop_map(|(place, field, renames, name, value)| Mutation {
        place,
        field,
        renames,
        name,
        value,
    });
    vec(mutation, 0..3)
}

/// A document to write: it carries the app, or no owner at all.
pub(super) fn data() -> impl Strategy<Value = Fields> {
    let names = select(&["_id", "x", "y", "o", "app_id2", "$set"][..]);
    let fields = vec((names.prop_map(str::to_owned), value()), 0..4);
    (fields, any::<Option<Index>>()).prop_map(|(mut fields, own)| {
        if let Some(place) = own {
            let place = place.index(fields.len() + 1);
            fields.insert(place, (FIELD.to_owned(), Value::string(SLUG)));
        }
        fields
    })
}

pub(super) fn foreign_owner() -> impl Strategy<Value = Value> {
    value().prop_filter("the app's own", |v| v.as_str() != Some(SLUG))
}

/// Data of a document: numbers, texts, arrays and documents under few names, so that filters take some of them.
fn stored_value() -> impl Strategy<Value = Value> {
    let leaf = || {
        prop_oneof![
            3 => (0..3_i32).prop_map(Value::int),
            1 => select(&["shop", "a"][..]).prop_map(Value::string),
        ]
    };
    let inner = vec(
        (select(&["x", "y"][..]).prop_map(str::to_owned), leaf()),
        0..3,
    )
    .prop_map(first_of_each);
    prop_oneof![
        4 => leaf(),
        2 => vec(leaf(), 0..3).prop_map(Value::Array),
        1 => inner.clone().prop_map(Value::Document),
        2 => vec(inner.prop_map(Value::Document), 0..3).prop_map(Value::Array),
    ]
}

fn first_of_each(fields: Fields) -> Fields {
    let mut kept = Fields::new();
    for field in fields {
        if !kept.iter().any(|f| f.0 == field.0) {
            kept.push(field);
        }
    }
    kept
}

/// A collection of the documents of several owners.
pub(super) fn documents() -> impl Strategy<Value = Vec<Fields>> {
    let names = select(&["x", "y"][..]).prop_map(str::to_owned);
    let data = vec((names, stored_value()), 0..3).prop_map(first_of_each);
    vec((select(OWNERS), data), 8..24).prop_map(|documents| {
        let stored = |(id, (owner, data))| matcher::stored(id, owner, &data);
        (0..).zip(documents).map(stored).collect()
    })
}

fn comparison() -> impl Strategy<Value = Value> + Clone {
    let number = || (0..3_i32).prop_map(Value::int);
    let list = vec(number(), 0..3).prop_map(Value::Array);
    let one = select(&["$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$size"][..]);
    let operator = prop_oneof![
        3 => (one, number()).prop_map(|(o, v)| (o.to_owned(), v)),
        2 => (select(&["$in", "$nin", "$all"][..]), list).prop_map(|(o, v)| (o.to_owned(), v)),
        1 => any::<bool>().prop_map(|b| ("$exists".to_owned(), Value::boolean(b))),
    ];
    let operators = vec(operator, 1..3)
        .prop_map(first_of_each)
        .prop_map(Value::Document);
    let named = |name: &'static str| move |o| Value::Document(vec![(name.to_owned(), o)]);
    let inner = select(&["x", "y"][..]).prop_map(str::to_owned);
    let inner =
        (inner, prop_oneof![number(), operators.clone()]).prop_map(|f| Value::Document(vec![f]));
    let elements = prop_oneof![operators.clone(), inner.clone()];
    let branches = (select(&["$and", "$or", "$nor"][..]), vec(inner, 1..3))
        .prop_map(|(o, b)| Value::Document(vec![(o.to_owned(), Value::Array(b))]));
    let elements = prop_oneof![3 => elements, 1 => branches].prop_map(named("$elemMatch"));
    let positive = prop_oneof![2 => operators, 1 => elements];
    let negated = positive.clone().prop_map(named("$not"));
    prop_oneof![2 => number(), 4 => positive, 1 => negated]
}

/// A path: of a field, or below one.
fn path() -> impl Strategy<Value = String> {
    select(&["x", "y", "x", "y", "x.x", "x.y", "y.y"][..]).prop_map(str::to_owned)
}

/// A filter as an app writes it that knows of no other.
pub(super) fn private_filter() -> impl Strategy<Value = Fields> {
    filter((path(), comparison()).prop_map(|field| vec![field]).boxed())
}

/// A filter as an app writes it that knows its own name.
pub(super) fn plain_filter() -> impl Strategy<Value = Fields> {
    let own = select(
        &[
            r#"{app_id: "shop"}"#,
            r#"{app_id: {$eq: "shop"}}"#,
            r#"{app_id: {$in: ["shop"]}}"#,
        ][..],
    );
    let field = prop_oneof![
        3 => (path(), comparison()).prop_map(|field| vec![field]),
        1 => own.prop_map(read_document),
    ];
    filter(field.boxed())
}

fn filter(field: BoxedStrategy<Fields>) -> impl Strategy<Value = Fields> {
    let empty = Just(Fields::new());
    prop_oneof![1 => empty, 9 => field].prop_recursive(3, 16, 3, |inner| {
        let operator = select(&["$and", "$or", "$nor"][..]);
        let branches = vec(inner.prop_map(Value::Document), 1..3);
        (operator, branches).prop_map(|(o, b)| vec![(o.to_owned(), Value::Array(b))])
    })
}

type Form = fn(&Fields) -> Text;

fn put(text: &str, name: &str, filter: &Fields) -> Text {
    let mut text = read_text(text);
    let field = (name.to_owned(), Value::Document(filter.clone()));
    match text.sequences.first_mut() {
        Some((_, statements)) => statements[0].insert(0, field),
        None => text.body.insert(1, field),
    }
    text
}

/// Commands with a place for a filter.
pub(super) fn filtered_command() -> impl Strategy<Value = Form> {
    select(
        &[
            (|f| put(r#"{find: "c", $db: "d"}"#, "filter", f)) as Form,
            |f| {
                put(
                    r#"{find: "c", collation: {locale: "en"}, $db: "d"}"#,
                    "filter",
                    f,
                )
            },
            |f| put(r#"{count: "c", $db: "d"}"#, "query", f),
            |f| put(r#"{distinct: "c", key: "x", $db: "d"}"#, "query", f),
            |f| {
                put(
                    r#"{findAndModify: "c", remove: true, $db: "d"}"#,
                    "query",
                    f,
                )
            },
            |f| put(r#"{delete: "c", $db: "d"} + deletes [{limit: 0}]"#, "q", f),
            |f| {
                put(
                    r#"{update: "c", $db: "d"} + updates [{u: {$set: {x: 1}}, collation: {locale: "en"}}]"#,
                    "q",
                    f,
                )
            },
        ][..],
    )
}

fn stage() -> impl Strategy<Value = Value> + Clone {
    let fixed = select(
        &[
            r"{$match: {x: 1}}",
            r#"{$match: {app_id: "b"}}"#,
            r#"{$match: {$expr: {$eq: ["$x", "$$ROOT"]}}}"#,
            r"{$sort: {x: 1, app_id: 1}}",
            r"{$sort: {y: 1}}",
            r"{$limit: 1}",
            r#"{$group: {_id: "$x", n: {$sum: 1}}}"#,
            r#"{$group: {_id: "$app_id", n: {$push: "$$ROOT"}}}"#,
            r#"{$project: {x: 1, z: {$add: ["$x", 1]}}}"#,
            r"{$project: {app_id: 0}}",
            r#"{$addFields: {z: {$let: {vars: {v: "$$ROOT"}, in: "$$v"}}}}"#,
            r#"{$unset: "app_id"}"#,
            r#"{$replaceWith: {a: "$$CURRENT"}}"#,
            r#"{$unionWith: "f"}"#,
            r#"{$lookup: {from: "f", localField: "x", foreignField: "y", as: "z"}}"#,
            r#"{$graphLookup: {from: "f", startWith: "$x", connectFromField: "x", connectToField: "y", as: "z", restrictSearchWithMatch: {x: 1}}}"#,
        ][..],
    );
    let fixed = fixed.prop_map(|text| Value::Document(read_document(text)));
    fixed.prop_recursive(3, 12, 3, |inner| {
        let pipeline = vec(inner, 0..3).prop_map(Value::Array);
        let form = select(&["lookup", "union", "facet"][..]);
        (form, pipeline).prop_map(|(form, pipeline)| {
            let (name, mut fields) = match form {
                "lookup" => ("$lookup", read_document(r#"{from: "f", as: "z"}"#)),
                "union" => ("$unionWith", read_document(r#"{coll: "f"}"#)),
                _ => ("$facet", Fields::new()),
            };
            fields.push(("pipeline".to_owned(), pipeline));
            Value::Document(vec![(name.to_owned(), Value::Document(fields))])
        })
    })
}

fn pipeline() -> impl Strategy<Value = Text> {
    vec(stage(), 0..4).prop_map(|stages| {
        let mut text = read_text(r#"{aggregate: "c", cursor: {}, $db: "d"}"#);
        text.body
            .insert(1, ("pipeline".to_owned(), Value::Array(stages)));
        text
    })
}

pub(super) fn valid_command() -> impl Strategy<Value = Text> {
    select(super::positions::COMMANDS).prop_map(read_text)
}

/// Commands with and without mistakes: fixed ones, pipelines, and those whose filter, update or document is anything.
pub(super) fn command() -> impl Strategy<Value = Text> {
    let filtered = (filtered_command(), value()).prop_map(|(form, value)| match value {
        Value::Document(filter) => form(&filter),
        other => form(&vec![("x".to_owned(), other)]),
    });
    let updated = value().prop_map(|u| {
        let mut text = read_text(r#"{update: "c", $db: "d"} + updates [{q: {x: 1}}]"#);
        text.sequences[0].1[0].push(("u".to_owned(), u));
        text
    });
    let inserted = vec(data(), 0..3).prop_map(|documents| {
        let mut text = read_text(r#"{insert: "c", $db: "d"}"#);
        text.sequences.push(("documents".to_owned(), documents));
        text
    });
    let projected = value().prop_map(|projection| {
        let mut text = read_text(r#"{find: "c", $db: "d"}"#);
        text.body.push(("projection".to_owned(), projection));
        text
    });
    prop_oneof![
        3 => valid_command(),
        3 => pipeline(),
        2 => filtered,
        2 => updated,
        1 => inserted,
        1 => projected,
    ]
}

/// Commands with `@` where a name stands that has a meaning.
pub(super) fn place_for_a_name() -> impl Strategy<Value = &'static str> {
    select(
        &[
            r#"{@: "c", $db: "d"}"#,
            r#"{find: "c", @: 1, $db: "d"}"#,
            r#"{find: "c", filter: {@: 1}, $db: "d"}"#,
            r#"{find: "c", filter: {x: {@: 1}}, $db: "d"}"#,
            r#"{find: "c", filter: {x: {$not: {@: 1}}}, $db: "d"}"#,
            r#"{find: "c", filter: {x: {$elemMatch: {@: 1}}}, $db: "d"}"#,
            r#"{find: "c", filter: {$or: [{x: 1}, {$nor: [{@: 1}]}]}, $db: "d"}"#,
            r#"{find: "c", filter: {$expr: {@: 1}}, $db: "d"}"#,
            r#"{find: "c", filter: {$expr: {$and: [1, {x: {@: 1}}]}}, $db: "d"}"#,
            r#"{find: "c", projection: {x: {@: 1}}, $db: "d"}"#,
            r#"{find: "c", projection: {@: 1}, $db: "d"}"#,
            r#"{find: "c", projection: {x: {$slice: [{@: 1}, 1]}}, $db: "d"}"#,
            r#"{find: "c", projection: {x: {$meta: "@"}}, $db: "d"}"#,
            r#"{find: "c", sort: {x: {@: 1}}, $db: "d"}"#,
            r#"{find: "c", let: {v: {@: 1}}, $db: "d"}"#,
            r#"{find: "c", readConcern: {@: 1}, $db: "d"}"#,
            r#"{find: "c", lsid: {@: 1}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{@: 1}], cursor: {}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$limit: 1}, {$facet: {a: [{@: 1}]}}], cursor: {}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$lookup: {from: "f", @: 1, as: "z"}}], cursor: {}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$lookup: {from: "f", pipeline: [{@: 1}], as: "z"}}], cursor: {}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$unionWith: {coll: "f", @: 1}}], cursor: {}, $db: "d"}"#,
            r#"{aggregate: "c", pipeline: [{$group: {_id: 1, n: {@: 1}}}], cursor: {}, $db: "d"}"#,
            r#"{update: "c", $db: "d"} + updates [{q: {@: 1}, u: {$set: {x: 1}}}]"#,
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: {@: {x: 1}}}]"#,
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: {$set: {x: 1}, @: {x: 1}}}]"#,
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: [{@: 1}]}]"#,
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: {$pull: {x: {@: 1}}}}]"#,
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: {}, arrayFilters: [{e: {@: 1}}]}]"#,
            r#"{update: "c", $db: "d"} + updates [{q: {}, u: {}, @: 1}]"#,
            r#"{delete: "c", $db: "d"} + deletes [{q: {}, limit: 0, @: 1}]"#,
            r#"{delete: "c", $db: "d"} + @ [{q: {}, limit: 0}]"#,
            r#"{explain: {find: "c", @: 1}, $db: "d"}"#,
            r#"{explain: {@: "c"}, $db: "d"}"#,
        ][..],
    )
}

pub(super) fn reply_rule() -> impl Strategy<Value = ReplyRule> {
    prop_oneof![
        Just(ReplyRule::Plain),
        any::<bool>().prop_map(|strips| ReplyRule::Cursor { strips }),
        any::<bool>().prop_map(|strips| ReplyRule::Value { strips }),
        (any::<bool>(), any::<bool>())
            .prop_map(|(has_sessions, ends)| ReplyRule::Events { has_sessions, ends }),
        Just(ReplyRule::Explain),
        Just(ReplyRule::KeptPlans),
    ]
}

/// A reply: names that replies have over anything.
pub(super) fn reply() -> impl Strategy<Value = Fields> {
    let names = &[
        "cursor",
        "firstBatch",
        "nextBatch",
        "id",
        "ns",
        "ok",
        "n",
        "value",
        "values",
        "writeErrors",
        "writeConcernError",
        "errmsg",
        "code",
        "codeName",
        "keyPattern",
        "keyValue",
        "errorLabels",
        "app_id",
        "queryPlanner",
        "winningPlan",
        "inputStage",
        "stage",
        "filter",
        "indexName",
        "parsedQuery",
        "$and",
        "$cursor",
        "stages",
        "x",
    ][..];
    let names = select(names).prop_map(str::to_owned);
    let text = select(
        &[
            "error processing query planner returned error :: caused by :: x",
            "Index build failed :: caused by :: app_id",
            "E11000 duplicate key error collection: d.c index: shop.x_1 dup key: { app_id: \"shop\" }",
            "found existing text index \"b.x\"",
            "FETCH",
            "app_id_1",
            "\u{e9}",
        ][..],
    );
    let leaf = prop_oneof![
        leaf(),
        text.prop_map(Value::string),
        (0..20_000_i32).prop_map(Value::int)
    ];
    let value = leaf.prop_recursive(4, 24, 4, {
        let names = names.clone();
        move |inner| {
            prop_oneof![
                vec(inner.clone(), 0..3).prop_map(Value::Array),
                vec((names.clone(), inner), 0..4).prop_map(Value::Document),
            ]
        }
    });
    vec((names, value), 0..6)
}
