use bson::doc;
use mdb_wire::Writer;

use super::*;
use crate::app::AppId;

fn scope(slug: &str) -> Scope {
    let field = FieldName::parse("app_id").unwrap();
    Scope::new(AppId::parse(slug).unwrap(), field, true, [7; 16])
}

fn clause(
    slug: &str,
    validator: &bson::Document,
    is_enforced: bool,
) -> Result<bson::Document, i32> {
    let bytes = validator.to_vec().unwrap();
    let validator = Document::parse(&bytes).unwrap();
    let clause = scope(slug).validator_clause(validator, is_enforced, 17);
    clause
        .map(|bytes| bson::deserialize_from_slice(&bytes).unwrap())
        .map_err(|refusal| refusal.code)
}

#[test]
fn a_clause_holds_for_every_document_but_the_apps() {
    let other = || doc! {"app_id": {"$ne": "shop"}};
    let own = |rule: bson::Document| doc! {"$or": [other(), rule]};
    let guard = |expression: bson::Document| {
        let is_own = doc! {"$eq": ["$app_id", {"$literal": "shop"}]};
        doc! {"$expr": {"$cond": [is_own, expression, false]}}
    };
    let divide = || doc! {"$gt": [{"$divide": [1, "$x"]}, 0]};
    for (validator, expected) in [
        (doc! {"x": 1, "y": 2}, own(doc! {"x": 1, "y": 2})),
        (doc! {"$or": [{"x": 1}]}, own(doc! {"$or": [{"x": 1}]})),
        (doc! {"$expr": divide()}, own(guard(divide()))),
        (
            doc! {"$jsonSchema": {"additionalProperties": false}},
            own(
                doc! {"$jsonSchema": {"additionalProperties": false, "properties": {"app_id": {}}}},
            ),
        ),
        (
            doc! {"$jsonSchema": {"properties": {"x": {}}, "additionalProperties": {"bsonType": "int"}}},
            own(doc! {"$jsonSchema": {
                "properties": {"x": {}, "app_id": {}}, "additionalProperties": {"bsonType": "int"},
            }}),
        ),
    ] {
        assert_eq!(
            clause("shop", &validator, true),
            Ok(expected),
            "{validator}"
        );
    }
    let idle = doc! {"$or": [other(), {"app_id": "shop"}, {"x": 1}]};
    assert_eq!(clause("shop", &doc! {"x": 1}, false), Ok(idle));
}

#[test]
fn what_would_observe_the_scope_field_is_refused() {
    for (validator, code) in [
        (doc! {"app_id": "other"}, 2),
        (doc! {"app_id.x": 1}, 2),
        (doc! {"$where": "1"}, 2),
        (doc! {"$expr": {"$function": {}}}, 168),
        (doc! {"$expr": {"$eq": ["$app_id", "other"]}}, 72),
        (
            doc! {"$nor": [{"$expr": {"$gt": [{"$bsonSize": "$$ROOT"}, 9]}}]},
            72,
        ),
        (doc! {"$jsonSchema": {"required": ["app_id"]}}, 2),
        (
            doc! {"$jsonSchema": {"properties": {"app_id": {"enum": ["other"]}}}},
            2,
        ),
        (
            doc! {"$jsonSchema": {"properties": {"app_id": {}}, "additionalProperties": false}},
            2,
        ),
        (
            doc! {"$jsonSchema": {"patternProperties": {"a": {}}, "additionalProperties": false}},
            2,
        ),
        (doc! {"$jsonSchema": {"maxProperties": 3}}, 2),
        (
            doc! {"$jsonSchema": {"not": {"additionalProperties": false}}},
            2,
        ),
    ] {
        assert_eq!(clause("shop", &validator, true), Err(code), "{validator}");
    }
}

#[test]
fn whose_rules_they_are_is_read_from_the_clauses() {
    let of = |slug: &str| {
        clause(slug, &doc! {"x": 1}, true)
            .unwrap()
            .to_vec()
            .unwrap()
    };
    let joined = |clauses: &[Vec<u8>]| -> bson::Document {
        bson::deserialize_from_slice(&joined_clauses(clauses)).unwrap()
    };
    let (shop, blog) = (of("shop"), of("blog"));
    let mut mixed = joined(std::slice::from_ref(&shop));
    mixed.insert("y", 1);
    for (validator, expected) in [
        (doc! {}, SharedValidator::Others),
        (joined(&[]), SharedValidator::Others),
        (joined(std::slice::from_ref(&blog)), SharedValidator::Others),
        (joined(std::slice::from_ref(&shop)), SharedValidator::Own),
        (joined(&[blog, shop]), SharedValidator::Own),
        (mixed, SharedValidator::Foreign),
        (doc! {"x": 1}, SharedValidator::Foreign),
        (
            doc! {"$and": [{"$or": [{"app_id": "shop"}, {"x": 1}]}]},
            SharedValidator::Foreign,
        ),
        (doc! {"$and": [{"$or": []}]}, SharedValidator::Foreign),
    ] {
        let bytes = validator.to_vec().unwrap();
        let read = SharedValidator::read(&scope("shop"), Document::parse(&bytes).unwrap());
        assert_eq!(read, expected, "{validator}");
    }
}

#[test]
fn a_broken_rule_is_told_without_the_clause_around_it() {
    let told = |info: &bson::Document| {
        let info = doc! {"errInfo": info.clone()}.to_vec().unwrap();
        let info = Document::parse(&info).unwrap().find("errInfo").unwrap();
        let mut w = Writer::default();
        let mark = w.begin();
        let is_told = scope("shop").own_rule(&mut w, &info);
        w.end(mark);
        let written: bson::Document = bson::deserialize_from_slice(&w.into_bytes()).unwrap();
        is_told.then_some(written)
    };
    let owner = |slug: &str| {
        doc! {"index": 0, "details": {"operatorName": "$ne", "specifiedAs": {"app_id": {"$ne": slug}}}}
    };
    let guarded = |e: bson::Document| {
        doc! {"$expr": {"$cond": [{"$eq": ["$app_id", {"$literal": "shop"}]}, e, false]}}
    };
    let rule = |expr: bson::Document| doc! {"operatorName": "$expr", "specifiedAs": expr};
    let clause = doc! {"operatorName": "$or", "clausesNotSatisfied": [
        owner("shop"), {"index": 1, "details": rule(guarded(doc! {"$sqrt": "$x"}))},
    ]};
    let expected = doc! {"errInfo": {"failingDocumentId": 1, "details": rule(doc! {"$expr": {"$sqrt": "$x"}})}};
    let all = doc! {"operatorName": "$and", "clausesNotSatisfied": [{"index": 0, "details": clause.clone()}]};
    for details in [all, clause] {
        let info = doc! {"failingDocumentId": 1, "details": details};
        assert_eq!(told(&info), Some(expected.clone()));
    }
    // An operator's rule is not the app's to know.
    assert_eq!(
        told(&doc! {"failingDocumentId": 1, "details": {"operatorName": "$eq"}}),
        None
    );
    assert_eq!(told(&doc! {"failingDocumentId": 1}), None);
}
