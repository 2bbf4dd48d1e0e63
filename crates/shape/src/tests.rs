//! Cases as data: a command, its shapes, and the indexes that would serve them.

use bson::{Document as Bson, doc};
use mdb_wire::{Command, Document};
use proptest::prelude::*;

use crate::{
    Direction, ExistingIndex, IndexKey, Probe, Seen, Shape, candidates, collections_of, shapes_of,
    sketch_of,
};

fn with<T>(command: &Bson, read: impl FnOnce(&Command<'_>) -> T) -> T {
    let bytes = bson::serialize_to_vec(command).unwrap();
    let document = Document::parse(&bytes).unwrap();
    read(&Command::inner(document, "shop").unwrap())
}

fn seen(command: &Bson) -> Vec<Seen> {
    with(command, shapes_of)
}

fn find(filter: Bson, sort: Bson) -> Bson {
    doc! {"find": "c", "filter": filter, "sort": sort}
}

/// Shapes in words and the keys of the candidates of all of them together.
fn told(command: &Bson) -> (Vec<String>, Vec<String>) {
    let seen = seen(command);
    let shapes: Vec<&Shape> = seen.iter().map(|seen| &seen.shape).collect();
    let keys = candidates(&shapes, "app_id");
    (
        shapes.iter().map(ToString::to_string).collect(),
        keys.iter().map(|c| c.key.to_string()).collect(),
    )
}

#[test]
fn predicates_become_fields() {
    let many: Vec<i32> = (0..201).collect();
    let few: Vec<i32> = (0..200).collect();
    let none = doc! {};
    let regex = |pattern: &str, options: &str| bson::Regex {
        pattern: pattern.try_into().unwrap(),
        options: options.try_into().unwrap(),
    };
    let cases = [
        (
            find(doc! {"category": "x"}, doc! {"price": 1}),
            "find {category} sort {price: 1}",
            "category_1_price_1",
        ),
        (find(doc! {"a": null}, none.clone()), "find {a}", "a_1"),
        (
            find(
                doc! {"a": {"$eq": 1}, "b": {"$gt": 1, "$lt": 5}},
                none.clone(),
            ),
            "find {a, b: range}",
            "a_1_b_1",
        ),
        (find(doc! {"a": {"x": 1}}, none.clone()), "find {a}", "a_1"),
        (
            find(doc! {"a": {"$in": [1, 2]}}, none.clone()),
            "find {a: in}",
            "a_1",
        ),
        (
            find(doc! {"a": {"$in": [1, 2]}}, doc! {"s": -1}),
            "find {a: in} sort {s: -1}",
            "s_-1_a_1",
        ),
        (
            find(doc! {"a": {"$in": few}}, none.clone()),
            "find {a: in}",
            "a_1",
        ),
        (
            find(doc! {"b": 1, "a": {"$in": many}}, none.clone()),
            "find {b, a: range}",
            "b_1_a_1",
        ),
        (
            find(doc! {"a": regex("^x", "")}, none.clone()),
            "find {a: range}",
            "a_1",
        ),
        (
            find(doc! {"a": regex("^x", "i"), "b": 1}, none.clone()),
            "find {b} and 1 that no index serves",
            "b_1",
        ),
        (
            find(doc! {"a": {"$regex": "x"}, "b": 1}, none.clone()),
            "find {b} and 1 that no index serves",
            "b_1",
        ),
        (
            find(doc! {"a": {"$type": "string"}}, none.clone()),
            "find {a: range}",
            "a_1",
        ),
        (
            find(doc! {"a": {"$exists": true}}, none.clone()),
            "find {a: range}",
            "a_1",
        ),
        (
            find(
                doc! {"$and": [{"a": 1}, {"$and": [{"b": {"$gte": 1}}]}]},
                none.clone(),
            ),
            "find {a, b: range}",
            "a_1_b_1",
        ),
        (
            find(doc! {"a": {"$gt": 1}, "$and": [{"a": 5}]}, none.clone()),
            "find {a}",
            "a_1",
        ),
        (
            find(
                doc! {"l": {"$elemMatch": {"x": 1, "y": {"$gt": 2}}}},
                none.clone(),
            ),
            "find {l.x, l.y: range}",
            "l.x_1_l.y_1",
        ),
        (
            find(
                doc! {"l": {"$elemMatch": {"x": 1}}, "m": {"$elemMatch": {"y": 1}}},
                none.clone(),
            ),
            "find {l.x, m.y}",
            "l.x_1",
        ),
        (
            find(doc! {"l": {"$elemMatch": {"$gt": 1}}}, none.clone()),
            "find {l: range}",
            "l_1",
        ),
        (
            find(
                doc! {"a": 1, "b": {"$ne": 1}, "c": {"$nin": [1]}, "d": {"$not": {"$gt": 1}}, "e": {"$exists": false}},
                none.clone(),
            ),
            "find {a} and 4 that no index serves",
            "a_1",
        ),
        (
            find(
                doc! {"a": 1, "b": {"$size": 1}, "c": {"$mod": [2, 0]}, "$expr": {"$eq": ["$x", 1]}, "$nor": [{"z": 1}]},
                none.clone(),
            ),
            "find {a} and 4 that no index serves",
            "a_1",
        ),
        (
            find(doc! {"a": 1, "place": {"$near": [0, 0]}}, none.clone()),
            "find {a}",
            "",
        ),
        (
            find(doc! {"$text": {"$search": "x"}, "a": 1}, none.clone()),
            "find {a}",
            "",
        ),
        (
            find(doc! {"_id": 5, "a": 1}, none.clone()),
            "find {_id, a}",
            "",
        ),
        (
            find(doc! {"_id": {"$gt": 5}}, none.clone()),
            "find {_id: range}",
            "",
        ),
        (
            find(doc! {"a": 1}, doc! {"_id": 1}),
            "find {a} sort {_id: 1}",
            "a_1__id_1",
        ),
        (
            find(doc! {"a": 1}, doc! {"a": 1, "b": -1}),
            "find {a} sort {a: 1, b: -1}",
            "a_1_b_-1",
        ),
        (
            find(doc! {}, doc! {"b": -1, "$natural": 1}),
            "find {} sort {b: -1}",
            "b_-1",
        ),
        (
            find(doc! {"app_id": "shop", "a": 1}, none.clone()),
            "find {a, app_id}",
            "a_1",
        ),
        (
            find(doc! {"list.0": 1, "a": 1}, none.clone()),
            "find {a} and 1 that no index serves",
            "a_1",
        ),
        (
            find(
                doc! {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1, "h": 1, "i": 1},
                none.clone(),
            ),
            "find {a, b, c, d, e, f, g, h, i}",
            "a_1_b_1_c_1_d_1_e_1_f_1_g_1_h_1",
        ),
        (doc! {"count": "c", "query": {"a": 1}}, "count {a}", "a_1"),
        (
            doc! {"distinct": "c", "key": "k", "query": {"a": 1}},
            "distinct {a}",
            "a_1",
        ),
        (
            doc! {"findAndModify": "c", "query": {"a": 1}, "sort": {"b": 1}, "remove": true},
            "findAndModify {a} sort {b: 1}",
            "a_1_b_1",
        ),
        (
            doc! {"aggregate": "c", "pipeline": [{"$match": {"a": 1}}, {"$match": {"b": {"$gt": 1}}}, {"$sort": {"s": 1}}, {"$match": {"z": 1}}]},
            "aggregate {a, b: range} sort {s: 1}",
            "a_1_s_1_b_1",
        ),
        (
            doc! {"aggregate": "c", "pipeline": [{"$group": {"_id": "$x"}}, {"$match": {"a": 1}}]},
            "",
            "",
        ),
        (doc! {"aggregate": 1, "pipeline": []}, "", ""),
        (doc! {"insert": "c", "documents": [{"a": 1}]}, "", ""),
        (find(doc! {}, doc! {}), "", ""),
        (find(doc! {"a": {"$ne": 1}}, doc! {}), "", ""),
    ];
    for (command, shapes, keys) in cases {
        let (told_shapes, told_keys) = told(&command);
        assert_eq!(told_shapes.join("; "), shapes, "{command}");
        assert_eq!(told_keys.join("; "), keys, "{command}");
    }
}

#[test]
fn one_command_can_have_several_shapes() {
    let cases = [
        (
            find(doc! {"t": 1, "$or": [{"a": 1}, {"b": {"$gt": 1}}]}, doc! {}),
            "find {a, t}; find {t, b: range}",
        ),
        (
            doc! {"update": "c", "updates": [{"q": {"a": 1}, "u": {"$set": {"x": 1}}}, {"q": {"b": 1}, "u": {}}]},
            "update {a}; update {b}",
        ),
        (
            doc! {"delete": "c", "deletes": [{"q": {"a": 1}, "limit": 0}]},
            "delete {a}",
        ),
        // What names its index needs no other.
        (doc! {"find": "c", "filter": {"a": 1}, "hint": "a_1"}, ""),
        (
            doc! {"count": "c", "query": {"a": 1}, "hint": {"$natural": 1}},
            "",
        ),
        (
            doc! {"update": "c", "updates": [{"q": {"a": 1}, "u": {}, "hint": {"a": 1}}, {"q": {"b": 1}, "u": {}}]},
            "update {b}",
        ),
        (
            doc! {"aggregate": "c", "hint": "a_1", "pipeline": [
                {"$match": {"a": 1}}, {"$lookup": {"from": "d", "localField": "x", "foreignField": "y", "as": "z"}},
            ]},
            "lookup {y}",
        ),
        (
            doc! {"aggregate": "c", "pipeline": [
                {"$match": {"a": 1}},
                {"$lookup": {"from": "d", "localField": "x", "foreignField": "y", "as": "z", "pipeline": [{"$match": {"p": {"$gt": 1}}}]}},
            ]},
            "lookup {y, p: range}; aggregate {a}",
        ),
        (
            lookup_of(bson::bson!([
                {"$match": {"$expr": {"$and": [{"$eq": ["$owner", "$$user"]}, {"$eq": ["$$kind", "$kind"]}]}}},
                {"$match": {"state": "open"}},
                {"$sort": {"at": -1}},
                {"$match": {"late": 1}},
            ])),
            "lookup {kind, owner, state} sort {at: -1}",
        ),
        (
            lookup_of(
                bson::bson!([{"$match": {"$and": [{"$expr": {"$eq": ["$owner", "$$user"]}}, {"n": {"$gt": 1}}]}}]),
            ),
            "lookup {owner, n: range}",
        ),
        (
            lookup_of(
                bson::bson!([{"$match": {"$expr": {"$and": [{"$eq": ["$a", "$$x"]}, {"$gt": ["$b", "$$x"]}]}}}]),
            ),
            "lookup {a} and 1 that no index serves",
        ),
        (
            lookup_of(
                bson::bson!([{"$match": {"$expr": {"$eq": ["$a", "$b"]}}}, {"$match": {"c": 1}}]),
            ),
            "lookup {c} and 1 that no index serves",
        ),
        (
            lookup_of(bson::bson!([{"$match": {"$expr": {"$eq": ["$a", "$$ROOT"]}}}])),
            "",
        ),
        (
            lookup_of(bson::bson!([{"$project": {"a": 1}}, {"$match": {"a": 1}}])),
            "",
        ),
        (
            doc! {"aggregate": "c", "pipeline": [{"$graphLookup": {
                "from": "d", "startWith": "$x", "connectFromField": "x", "connectToField": "y", "as": "z",
                "restrictSearchWithMatch": {"live": true},
            }}]},
            "lookup {live, y}",
        ),
        (
            doc! {"bulkWrite": 1, "nsInfo": [{"ns": "shop.a"}, {"ns": "other.b.c"}], "ops": [
                {"insert": 0, "document": {"x": 1}},
                {"update": 1, "filter": {"k": 1}, "updateMods": {"$set": {"y": 1}}, "collation": {"locale": "de"}},
                {"delete": 0, "filter": {"n": {"$lt": 1}}, "multi": true},
                {"delete": 7, "filter": {"m": 1}},
            ]},
            "update {k}; delete {n: range}",
        ),
    ];
    for (command, expected) in cases {
        assert_eq!(told(&command).0.join("; "), expected, "{command}");
    }
    let lookup = doc! {"aggregate": "c", "pipeline": [{"$lookup": {"from": "d", "localField": "x", "foreignField": "y", "as": "z"}}]};
    assert_eq!(seen(&lookup)[0].shape.collection, "d");
    let named = |command: &Bson| {
        with(command, |c| {
            let named = collections_of(c).into_iter();
            named
                .map(|(db, name)| format!("{db}.{name}"))
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(named(&lookup), ["shop.c", "shop.d"]);
    let bulk = doc! {"bulkWrite": 1, "nsInfo": [{"ns": "other.b.c"}], "ops": [{"update": 0, "filter": {"k": 1}}]};
    assert_eq!(named(&bulk), ["other.b.c"]);
    let shape = &seen(&bulk)[0].shape;
    assert_eq!(
        (shape.database.as_str(), shape.collection.as_str()),
        ("other", "b.c")
    );
}

fn lookup_of(pipeline: bson::Bson) -> Bson {
    let lookup = doc! {"from": "d", "let": {"user": "$u", "kind": "$k", "x": "$x"}, "pipeline": pipeline, "as": "z"};
    doc! {"aggregate": "c", "pipeline": [{"$lookup": lookup}]}
}

#[test]
fn what_a_lookup_asks_is_tried_with_values_of_the_foreign_documents() {
    let seen = seen(&lookup_of(bson::bson!([
        {"$match": {"$and": [{"$expr": {"$eq": ["$owner", "$$user"]}}, {"n": 1}]}},
        {"$match": {"$expr": {"$eq": ["$kind", "$$kind"]}}},
    ])));
    let Probe::Foreign { fields, filter } = &seen[0].probe else {
        panic!("a foreign side");
    };
    assert_eq!(fields, &["kind", "owner"]);
    let filter: Bson = bson::deserialize_from_slice(filter).unwrap();
    assert_eq!(filter, doc! {"$and": [{"$and": [{"n": 1}]}]});
}

#[test]
fn sketches_tell_the_new_shapes_apart() {
    let expr = |field: &str| {
        lookup_of(bson::bson!([{"$match": {"$expr": {"$eq": [format!("${field}"), "$$x"]}}}]))
    };
    let sorted =
        |field: &str| lookup_of(bson::bson!([{"$match": {"a": 1}}, {"$sort": {field: 1}}]));
    let bulk = |ns: &str, field: &str, value: i32| {
        let op = doc! {"update": 0, "filter": {field: value}, "updateMods": {}};
        doc! {"bulkWrite": 1, "nsInfo": [{"ns": ns}], "ops": [op]}
    };
    let sketch = |command: &Bson| with(command, sketch_of).unwrap();
    let plain = find(doc! {"a": 1}, doc! {});
    let mut hinted = plain.clone();
    hinted.insert("hint", "a_1");
    for (one, other) in [
        (plain, hinted),
        (expr("a"), expr("b")),
        (sorted("a"), sorted("b")),
        (bulk("x.a", "f", 1), bulk("x.b", "f", 1)),
        (bulk("x.a", "f", 1), bulk("x.a", "g", 1)),
    ] {
        assert_ne!(sketch(&one), sketch(&other), "{one} {other}");
    }
    assert_eq!(sketch(&bulk("x.a", "f", 1)), sketch(&bulk("x.a", "f", 2)));
}

#[test]
fn a_branch_is_tried_by_itself() {
    let seen = seen(&find(doc! {"t": 1, "$or": [{"a": 1}, {"b": 2}]}, doc! {}));
    let Probe::Query { filter, .. } = &seen[1].probe else {
        panic!("a query");
    };
    let filter: Bson = bson::deserialize_from_slice(filter).unwrap();
    let whole = doc! {"t": 1, "$or": [{"a": 1}, {"b": 2}]};
    assert_eq!(filter, doc! {"$and": [whole, {"b": 2}]});
}

#[test]
fn longer_indexes_serve_several_shapes() {
    let all = [
        find(doc! {"a": 1}, doc! {}),
        find(doc! {"a": 1, "b": 1}, doc! {}),
        find(doc! {"b": 1}, doc! {"s": -1}),
        find(doc! {"b": 1}, doc! {"s": 1}),
        find(doc! {"b": 1, "c": 1}, doc! {}),
    ];
    let seen: Vec<Seen> = all.iter().flat_map(seen).collect();
    let shapes: Vec<&Shape> = seen.iter().map(|seen| &seen.shape).collect();
    let told: Vec<_> = candidates(&shapes, "app_id")
        .iter()
        .map(|c| (c.key.to_string(), c.serves.clone()))
        .collect();
    let expected = [
        ("b_1_a_1", vec![1]),
        ("b_1_c_1", vec![4]),
        ("b_1_s_1", vec![3]),
        ("b_1_s_-1", vec![2]),
        ("a_1", vec![0]),
    ];
    let expected = expected.map(|(key, serves)| (key.to_owned(), serves));
    assert_eq!(told, expected);
}

#[test]
fn what_is_there_serves_its_beginnings() {
    let key = |fields: &[(&str, i32)]| {
        IndexKey(
            fields
                .iter()
                .map(|(f, d)| ((*f).to_owned(), Direction::of(i64::from(*d))))
                .collect(),
        )
    };
    let cases = [
        (key(&[("a", 1)]), key(&[("a", 1)]), true),
        (key(&[("a", 1)]), key(&[("a", -1), ("b", 1)]), true),
        (
            key(&[("a", 1), ("b", -1)]),
            key(&[("a", -1), ("b", 1)]),
            true,
        ),
        (
            key(&[("a", 1), ("b", 1)]),
            key(&[("a", -1), ("b", 1)]),
            false,
        ),
        (key(&[("a", 1), ("b", 1)]), key(&[("a", 1)]), false),
        (key(&[("b", 1)]), key(&[("a", 1), ("b", 1)]), false),
    ];
    for (wanted, there, expected) in cases {
        let candidate = crate::Candidate {
            key: wanted,
            collation: None,
            serves: Vec::new(),
        };
        let existing = ExistingIndex {
            key: there,
            collation: None,
        };
        assert_eq!(
            candidate.is_served_by(&existing),
            expected,
            "{candidate:?} {existing:?}"
        );
        let collated = ExistingIndex {
            collation: Some(vec![5, 0, 0, 0, 0]),
            ..existing
        };
        assert!(!candidate.is_served_by(&collated));
    }
}

#[test]
fn a_stored_fingerprint_stays_valid() {
    // Another value would make every proxy count anew.
    let seen = seen(&find(doc! {"category": "x"}, doc! {"price": 1}));
    assert_eq!(seen[0].shape.fingerprint().to_string(), "8c61e4d9f8b25af6");
}

/// A value of any kind whose text can be told.
fn value() -> impl Strategy<Value = bson::Bson> {
    prop_oneof![
        "SECRET[a-z]{3}".prop_map(bson::Bson::String),
        (77_000_000..77_999_999_i32).prop_map(bson::Bson::Int32),
        Just(bson::Bson::Null),
        "SECRET[a-z]{3}".prop_map(|s| bson::bson!({"x": s})),
    ]
}

fn predicate() -> impl Strategy<Value = bson::Bson> {
    let operators = [
        "$eq", "$gt", "$lte", "$ne", "$size", "$type", "$all", "$madeUp",
    ];
    prop_oneof![
        value(),
        (prop::sample::select(operators.to_vec()), value())
            .prop_map(|(operator, value)| bson::Bson::Document(doc! {operator: value})),
        prop::collection::vec(value(), 0..5)
            .prop_map(|values| bson::Bson::Document(doc! {"$in": values})),
    ]
}

fn filter() -> impl Strategy<Value = Bson> {
    let fields = prop::collection::btree_map("[a-d](\\.[a-c])?", predicate(), 0..6);
    let flat = fields.prop_map(|fields| fields.into_iter().collect::<Bson>());
    flat.prop_recursive(3, 12, 3, |inner| {
        (
            inner.clone(),
            prop::sample::select(vec!["$and", "$or", "$nor", "list"]),
            prop::collection::vec(inner, 1..3),
        )
            .prop_map(|(mut filter, key, parts)| {
                if key == "list" {
                    filter.insert(key, doc! {"$elemMatch": parts[0].clone()});
                } else {
                    filter.insert(key, parts);
                }
                filter
            })
    })
}

proptest! {
    #[test]
    fn a_shape_holds_no_value(filter in filter()) {
        for seen in seen(&find(filter, doc! {})) {
            let told = format!("{seen:?} {}", seen.shape);
            prop_assert!(!told.contains("SECRET") && !told.contains("77"), "{told}");
        }
    }

    #[test]
    fn other_values_make_the_same_sketch_and_shapes(filter in filter()) {
        let other = changed(&filter);
        let (one, other) = (find(filter, doc! {}), find(other, doc! {}));
        let prints = |command: &Bson| -> Vec<_> {
            seen(command).iter().map(|seen| seen.shape.fingerprint()).collect()
        };
        prop_assert_eq!(with(&one, sketch_of), with(&other, sketch_of));
        prop_assert_eq!(prints(&one), prints(&other));
    }

    #[test]
    fn candidates_do_not_depend_on_order(filters in prop::collection::vec(filter(), 1..6)) {
        let seen: Vec<Seen> = filters.into_iter().flat_map(|f| seen(&find(f, doc! {"s": 1}))).collect();
        let mut shapes: Vec<&Shape> = seen.iter().map(|seen| &seen.shape).collect();
        let keys = |shapes: &[&Shape]| -> Vec<_> {
            candidates(shapes, "app_id").into_iter().map(|c| c.key).collect()
        };
        let forward = keys(&shapes);
        shapes.reverse();
        prop_assert_eq!(&forward, &keys(&shapes));
        for (place, key) in forward.iter().enumerate() {
            prop_assert!(key.0.len() <= crate::KEY_FIELDS_MAX && !key.0.is_empty());
            let others = forward.iter().enumerate().filter(|(other, _)| *other != place);
            for (_, other) in others {
                prop_assert!(!key.is_prefix_of(other), "{key} begins {other}");
            }
        }
    }
}

/// The same filter with other values of the same kinds.
fn changed(filter: &Bson) -> Bson {
    let change = |value: &bson::Bson| match value {
        bson::Bson::String(_) => "SECRETzzz".into(),
        bson::Bson::Int32(n) => bson::Bson::Int32(n ^ 1),
        bson::Bson::Document(inner) => bson::Bson::Document(changed(inner)),
        bson::Bson::Array(items) => items
            .iter()
            .map(|item| match item {
                bson::Bson::Document(inner) => bson::Bson::Document(changed(inner)),
                other => other.clone(),
            })
            .collect::<Vec<_>>()
            .into(),
        other => other.clone(),
    };
    filter
        .iter()
        .map(|(key, value)| (key.clone(), change(value)))
        .collect()
}
