use super::*;
use crate::app::AppId;
use crate::facts::CollectionFacts;
use crate::scope::FieldName;
use crate::scoped::ReplyRule;

fn scope() -> Scope {
    let app = AppId::parse("shop").unwrap();
    Scope::new(app, FieldName::parse("app_id").unwrap(), true, [0; 16])
}

#[test]
fn texts() {
    let cases = [
        ("plain", "plain"),
        (
            "on session 5 - c15ZMRBuIElF7gpzbd6e0E9c7qI+dx19K6ViiSBLwOs= because",
            "on session 5 - 47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU= because",
        ),
        (
            "'y' was not used in the update { $set: { x: 1 }, $setOnInsert: { app_id: \"shop\" } }",
            "'y' was not used in the update { $set: { x: 1 } }",
        ),
        (
            "'y' was not used in the update { $setOnInsert: { x: 1, app_id: \"shop\" } }",
            "'y' was not used in the update { $setOnInsert: { x: 1 } }",
        ),
        (
            "Failed to optimize expression :: caused by :: Failed to optimize expression :: caused by :: $abs only",
            "Failed to optimize expression :: caused by :: $abs only",
        ),
        (
            "point not in interval of [ -1, 1 ] :: caused by :: { _id: 1, app_id: \"shop\", loc: [ 9, 9 ] }",
            "point not in interval of [ -1, 1 ] :: caused by :: { _id: 1, loc: [ 9, 9 ] }",
        ),
        (
            "E11000 duplicate key error collection: d.c index: shop.e_1 dup key: { app_id: \"shop\", e: 1 }",
            "E11000 duplicate key error collection: d.c index: e_1 dup key: { e: 1 }",
        ),
        (
            "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: 1 }",
            "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: 1 }",
        ),
        (
            "E11000 duplicate key error collection: d.c index: app_id_1__id_1 dup key: { app_id: \"shop\", _id: 1 }",
            "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: 1 }",
        ),
        (
            "error processing query: ns=d.cTree: $and\n app_id $eq \"shop\"\nSort: {}\nProj: {}\n planner returned error :: caused by :: unable to find index",
            "unable to find index",
        ),
        (
            "error processing query: ns=d.cTree: app_id $eq \"shop\"\nSort: {}\nProj: {}\n tailable cursor requested",
            "tailable cursor requested",
        ),
        (
            "Requested index: { v: 2, key: { app_id: 1, a: 1 }, name: \"shop.x\", partialFilterExpression: { app_id: \"shop\" }, unique: true }, existing index: { v: 2, key: { app_id: 1, a: -1 }, name: \"shop.x\", partialFilterExpression: { $and: [ { app_id: \"shop\" }, { u: { $gt: 1 } } ] } }",
            "Requested index: { v: 2, key: { a: 1 }, name: \"x\", unique: true }, existing index: { v: 2, key: { a: -1 }, name: \"x\", partialFilterExpression: { u: { $gt: 1 } } }",
        ),
        (
            "Index spec: { key: { loc: \"2d\", app_id: 1 }, name: \"shop.x\", partialFilterExpression: { app_id: \"shop\", loc: { $exists: true } } }.",
            "Index spec: { key: { loc: \"2d\" }, name: \"x\", sparse: true }.",
        ),
        (
            "index: d.app_id_1 dup key: { d.app_id: null }",
            "index: d.app_id_1 dup key: { d.app_id: null }",
        ),
        (
            "error while multiplanner was selecting best plan :: caused by :: $add only supports",
            "$add only supports",
        ),
        (
            "Caught exception during index builder initialization d.c (9f2e): bits must be > 0. 1 provided. First index spec: { v: 2, key: { g: \"2d\", app_id: 1 }, name: \"shop.x\" }",
            "bits must be > 0",
        ),
        (
            "index build on empty collection failed: 0c523f39-20c2-43c4-97b4-5d868ef46cc2 :: caused by :: Index must have unique name.The existing index: { v: 2, unique: true, key: { g: \"2d\", app_id: 1, ~shop: 1 }, name: \"shop.a\", partialFilterExpression: { app_id: \"shop\" } } has the same name",
            "Index must have unique name.The existing index: { v: 2, unique: true, key: { g: \"2d\" }, name: \"a\" } has the same name",
        ),
        (
            "Index with name: shop.x already exists with a different name",
            "Index with name: x already exists with a different name",
        ),
        (
            "Index already exists with a different name: shop.x",
            "Index already exists with a different name: x",
        ),
        (
            "Can't extract geo keys: { _id: 1, app_id: \"shop\" }",
            WITHHELD,
        ),
        (
            "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: { app_id: \"x\" } }",
            "E11000 duplicate key error collection: d.c index: _id_ dup key: { _id: { app_id: \"x\" } }",
        ),
        (
            "E11000 duplicate key error collection: d.c index: shop.e_1 dup key: { app_id: \"other\", e: 1 }",
            WITHHELD,
        ),
        (
            "After applying the update, the (immutable) field '_id' was found to have been altered to _id: { app_id: \"x\" }",
            "After applying the update, the (immutable) field '_id' was found to have been altered to _id: { app_id: \"x\" }",
        ),
        (
            "After applying the update, the (immutable) field '_id' was found to have been altered to _id: { app_id: \"shop\" }",
            WITHHELD,
        ),
        (
            "my_app_id and app_idx are other words",
            "my_app_id and app_idx are other words",
        ),
    ];
    for (message, expected) in cases {
        let (scope, none) = (scope(), CollectionFacts::default());
        assert_eq!(rewrite(&view(&scope, &none), message), expected);
    }
}

fn view<'a>(scope: &'a Scope, collection: &'a CollectionFacts) -> ReplyView<'a> {
    ReplyView {
        scope,
        rule: ReplyRule::Plain,
        collection,
        database: "d",
        dedicated: &[("d", "c")],
        continues: None,
        shares: !collection.is_dedicated(),
    }
}

#[test]
fn names_of_own_collections() {
    let cases = [
        ("ns: d.c@shop exists", "ns: d.c exists"),
        ("c@shop", "c"),
        (
            "Collection 'd.system.buckets.c@shop'",
            "Collection 'd.system.buckets.c'",
        ),
        (
            "dup key: { e: \"abc@shop\" }",
            "dup key: { e: \"abc@shop\" }",
        ),
        (
            "E11000 duplicate key error collection: d.before@shop index: e_1 dup key: { e: 1 }",
            "E11000 duplicate key error collection: d.before index: e_1 dup key: { e: 1 }",
        ),
        (
            "E11000 duplicate key error collection: d.c index: e_1 dup key: { e: \"x@shop index: \" }",
            "E11000 duplicate key error collection: d.c index: e_1 dup key: { e: \"x@shop index: \" }",
        ),
        ("d.c@shop2", "d.c@shop2"),
        (
            "error processing query: ns=d.c@shopTree: $and\nSort: {}",
            "error processing query: ns=d.cTree: $and\nSort: {}",
        ),
        (
            "app_id is a field like any other",
            "app_id is a field like any other",
        ),
    ];
    let (scope, own) = (scope(), CollectionFacts::dedicated());
    for (message, expected) in cases {
        assert_eq!(rewrite(&view(&scope, &own), message), expected);
    }
}
