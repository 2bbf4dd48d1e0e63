use bson::{Bson, Document as Doc, doc};

use super::*;

fn message(body: &Doc, sequence: Option<(&str, Vec<Doc>)>) -> Vec<u8> {
    let bytes = |d: &Doc| d.to_vec().unwrap();
    let mut out = vec![0; 12];
    out.extend_from_slice(&2013_i32.to_le_bytes());
    out.extend_from_slice(&[0; 5]);
    out.extend_from_slice(&bytes(body));
    if let Some((name, documents)) = sequence {
        let documents: Vec<u8> = documents.iter().flat_map(bytes).collect();
        let size = i32::try_from(4 + name.len() + 1 + documents.len()).unwrap();
        out.push(1);
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(name.as_bytes());
        out.push(0);
        out.extend_from_slice(&documents);
    }
    let length = i32::try_from(out.len()).unwrap();
    out[..4].copy_from_slice(&length.to_le_bytes());
    out
}

fn verdict(mut body: Doc) -> Result<(), Violation> {
    body.insert("$db", "d");
    verify(&message(&body, None), "app_id", "shop")
}

fn own() -> Doc {
    doc! { "app_id": "shop" }
}

fn regex(pattern: &str, options: &str) -> Bson {
    Bson::RegularExpression(bson::Regex {
        pattern: pattern.try_into().unwrap(),
        options: options.try_into().unwrap(),
    })
}

#[test]
fn guarded_commands_pass() {
    let exact = doc! { "$and": [own(), { "app_id": regex("\\Ashop\\z", "") }, { "x": 1 }] };
    for body in [
        doc! { "find": "c", "filter": own() },
        doc! { "find": "c", "filter": { "$and": [own(), { "$or": [{ "x": 1 }] }] } },
        doc! { "find": "c", "filter": exact, "collation": { "locale": "en" } },
        doc! { "find": "c", "filter": own(), "collation": { "locale": "simple" } },
        doc! { "find": "c", "filter": own(), "hint": "shop.x_1", "min": { "app_id": "shop", "x": 1 } },
        doc! { "count": "c", "query": own() },
        doc! { "aggregate": "c", "pipeline": [{ "$match": own() }, { "$limit": 1 }] },
        doc! { "aggregate": 1, "pipeline": [{ "$documents": [{ "x": 1 }] }] },
        doc! { "explain": { "count": "c", "query": own() } },
    ] {
        assert_eq!(verdict(body.clone()), Ok(()), "{body}");
    }
}

#[test]
fn filters_that_are_not_bound_are_found() {
    for filter in [
        doc! {},
        doc! { "x": 1 },
        doc! { "app_id": "b" },
        doc! { "app_id": ["shop"] },
        doc! { "app_id": Bson::Symbol("shop".into()) },
        doc! { "app_id": { "$eq": "shop" } },
        doc! { "app_id.x": "shop" },
        doc! { "$or": [own()] },
        doc! { "$nor": [own()] },
        doc! { "$and": [{ "$or": [own(), { "x": 1 }] }] },
        doc! { "$and": [own(), { "$where": "1" }] },
        doc! { "$and": [own(), { "x": { "$not": { "$where": "1" } } }] },
        doc! { "$and": [own(), { "x": { "$elemMatch": { "$where": "1" } } }] },
        doc! { "$and": [own(), { "$expr": { "$function": {} } }] },
        doc! { "$and": [own(), { "$expr": "$$USER_ROLES" }] },
    ] {
        for body in [
            doc! { "find": "c", "filter": filter.clone() },
            doc! { "count": "c", "query": filter.clone() },
            doc! { "distinct": "c", "key": "x", "query": filter.clone() },
            doc! { "findAndModify": "c", "query": filter.clone(), "remove": true },
            doc! { "aggregate": "c", "pipeline": [{ "$match": filter.clone() }] },
            doc! { "explain": { "find": "c", "filter": filter.clone() } },
        ] {
            assert!(verdict(body.clone()).is_err(), "{body}");
        }
        for (name, sequence) in [("delete", "deletes"), ("update", "updates")] {
            let statement = doc! { "q": filter.clone() };
            let bytes = message(
                &doc! { name: "c", "$db": "d" },
                Some((sequence, vec![statement])),
            );
            assert!(verify(&bytes, "app_id", "shop").is_err(), "{name} {filter}");
        }
    }
}

#[test]
fn collations_need_the_anchored_pattern() {
    for condition in [
        own(),
        doc! { "$and": [own(), { "app_id": regex("^shop$", "") }] },
        doc! { "$and": [own(), { "app_id": regex("\\Ashop\\z", "i") }] },
        doc! { "$and": [own(), { "x": regex("\\Ashop\\z", "") }] },
    ] {
        let body = doc! { "find": "c", "filter": condition, "collation": { "locale": "en" } };
        assert!(verdict(body.clone()).is_err(), "{body}");
    }
}

#[test]
fn figures_that_tell_of_servers_are_found() {
    let stage = doc! { "$collStats": { "storageStats": {} } };
    let set = doc! { "$set": { "host": "x" } };
    let project = |fields: bson::Document| doc! { "$project": fields };
    let verdict = |collection: &str, stages: Vec<bson::Document>| {
        verdict(doc! { "aggregate": collection, "pipeline": stages, "cursor": {} })
    };
    let good = vec![stage.clone(), set.clone(), project(doc! { "count": 1 })];
    assert_eq!(verdict("c@shop", good.clone()), Ok(()));
    assert!(verdict("c", good.clone()).is_err());
    for bad in [
        vec![stage.clone()],
        vec![stage.clone(), set.clone()],
        vec![stage.clone(), project(doc! { "count": 1 }), set.clone()],
        vec![
            stage.clone(),
            set.clone(),
            project(doc! { "wiredTiger": 0 }),
        ],
        vec![
            stage.clone(),
            set.clone(),
            project(doc! { "storageStats": 1 }),
        ],
        vec![stage.clone(), set.clone(), project(doc! {})],
        vec![
            stage.clone(),
            doc! { "$set": { "host": "$host" } },
            project(doc! { "count": 1 }),
        ],
        vec![
            doc! { "$match": {} },
            stage.clone(),
            set,
            project(doc! { "count": 1 }),
        ],
        vec![doc! { "$facet": { "a": good } }],
    ] {
        assert!(verdict("c@shop", bad.clone()).is_err(), "{bad:?}");
    }
}

#[test]
fn pipelines_that_leave_the_app_are_found() {
    let bound = doc! { "$match": own() };
    for stages in [
        vec![],
        vec![doc! { "$limit": 1 }, bound.clone()],
        vec![bound.clone(), doc! { "$out": "x" }],
        vec![bound.clone(), doc! { "$indexStats": {} }],
        vec![bound.clone(), doc! { "$documents": [] }],
        vec![bound.clone(), doc! { "$limit": 1, "$skip": 1 }],
        vec![
            bound.clone(),
            doc! { "$lookup": { "from": "c", "as": "x" } },
        ],
        vec![
            bound.clone(),
            doc! { "$lookup": { "from": "c", "as": "x", "pipeline": [] } },
        ],
        vec![
            bound.clone(),
            doc! { "$lookup": { "from": { "db": "local" }, "as": "x", "pipeline": [bound.clone()] } },
        ],
        vec![
            bound.clone(),
            doc! { "$lookup": { "as": "x", "pipeline": [bound.clone()] } },
        ],
        vec![
            bound.clone(),
            doc! { "$lookup": { "from": "c", "as": "app_id", "pipeline": [bound.clone()] } },
        ],
        vec![
            bound.clone(),
            doc! { "$lookup": { "from": "c", "as": "x", "let": { "CURRENT": 1 }, "pipeline": [bound.clone()] } },
        ],
        vec![bound.clone(), doc! { "$unionWith": "c" }],
        vec![bound.clone(), doc! { "$unionWith": { "coll": "c" } }],
        vec![
            bound.clone(),
            doc! { "$graphLookup": { "from": "c", "as": "x" } },
        ],
        vec![
            bound.clone(),
            doc! { "$graphLookup": { "from": "c", "as": "x", "restrictSearchWithMatch": {} } },
        ],
        vec![
            bound.clone(),
            doc! { "$facet": { "a": [{ "$unionWith": "c" }] } },
        ],
        vec![
            bound.clone(),
            doc! { "$group": { "_id": null, "n": { "$accumulator": {} } } },
        ],
        vec![bound.clone(), doc! { "$match": { "$where": "1" } }],
    ] {
        let body = doc! { "aggregate": "c", "pipeline": stages };
        assert!(verdict(body.clone()).is_err(), "{body}");
    }
    assert!(verdict(doc! { "aggregate": "c" }).is_err());
    assert!(verdict(doc! { "aggregate": 1, "pipeline": [bound] }).is_err());
}

#[test]
fn writes_that_touch_the_owner_are_found() {
    let back = doc! { "$set": { "app_id": { "$literal": "shop" } } };
    let out = doc! { "$unset": "app_id" };
    for update in [
        Bson::from(doc! {}),
        doc! { "x": 1 }.into(),
        doc! { "app_id": "b" }.into(),
        doc! { "$set": { "app_id": "b" } }.into(),
        doc! { "$set": { "app_id.x": "shop" } }.into(),
        doc! { "$unset": { "app_id": "shop" } }.into(),
        doc! { "$rename": { "x": "app_id" } }.into(),
        doc! { "$rename": { "app_id": "x" } }.into(),
        doc! { "$where": { "x": 1 } }.into(),
        doc! { "$pull": { "x": { "$where": 1 } } }.into(),
        vec![back.clone()].into(),
        vec![out.clone()].into(),
        vec![out.clone(), back.clone(), out.clone()].into(),
        vec![out.clone(), doc! { "$set": { "app_id": "shop" } }].into(),
        vec![out.clone(), doc! { "$set": { "app_id": { "$literal": "b" } } }].into(),
        vec![out.clone(), doc! { "$lookup": {} }, back.clone()].into(),
        vec![out.clone(), doc! { "$replaceWith": "$x" }, doc! { "$replaceWith": { "$mergeObjects": [{ "app_id": { "$literal": "shop" } }, "$$ROOT"] } }].into(),
        Bson::Int32(1),
    ] {
        let statement = doc! { "q": own(), "u": update.clone() };
        let bytes = message(
            &doc! { "update": "c", "$db": "d" },
            Some(("updates", vec![statement])),
        );
        assert!(verify(&bytes, "app_id", "shop").is_err(), "{update}");
        let body = doc! { "findAndModify": "c", "query": own(), "update": update };
        assert!(verdict(body.clone()).is_err(), "{body}");
    }
    for document in [doc! {}, doc! { "app_id": "b" }, doc! { "x": own() }] {
        let bytes = message(
            &doc! { "insert": "c", "$db": "d" },
            Some(("documents", vec![document.clone()])),
        );
        assert!(verify(&bytes, "app_id", "shop").is_err(), "{document}");
    }
}

#[test]
fn upserts_without_the_app_are_found() {
    for (update, is_bound) in [
        (doc! { "$set": { "x": 1 } }, false),
        (doc! { "$setOnInsert": { "x": 1 } }, false),
        (doc! { "$setOnInsert": { "app_id": "shop" } }, true),
        (doc! { "$set": { "app_id": "shop" } }, true),
        (doc! { "$setOnInsert": 1 }, true),
    ] {
        let statement = doc! { "q": own(), "u": update.clone(), "upsert": true };
        let bytes = message(
            &doc! { "update": "c", "$db": "d" },
            Some(("updates", vec![statement])),
        );
        assert_eq!(
            verify(&bytes, "app_id", "shop").is_ok(),
            is_bound,
            "{update}"
        );
        let body = doc! { "findAndModify": "c", "query": own(), "update": update, "upsert": true };
        assert_eq!(verdict(body.clone()).is_ok(), is_bound, "{body}");
    }
}

#[test]
fn arguments_that_leave_the_app_are_found() {
    for body in [
        doc! { "mapReduce": "c" },
        doc! { "find": "c", "filter": own(), "showRecordId": true },
        doc! { "find": "c", "filter": own(), "hint": "b.x_1" },
        doc! { "find": "c", "filter": own(), "hint": { "x": 1 } },
        doc! { "find": "c", "filter": own(), "min": { "x": 1 } },
        doc! { "find": "c", "filter": own(), "min": { "app_id": "b" } },
        doc! { "find": "c", "filter": own(), "max": { "app_id": "shoq" } },
        doc! { "find": "c", "filter": own(), "let": { "CURRENT": 1 } },
        doc! { "find": "c", "filter": own(), "projection": { "x": { "$slice": [{ "$function": {} }, 1] } } },
        doc! { "find": "c", "filter": own(), "lsid": { "uid": 1 } },
        doc! { "explain": { "explain": { "find": "c", "filter": own() } } },
        doc! { "explain": { "find": "c", "filter": own(), "shardVersion": 1 } },
    ] {
        assert!(verdict(body.clone()).is_err(), "{body}");
    }
    let elsewhere = message(&doc! { "find": "c", "filter": own(), "$db": "local" }, None);
    assert!(verify(&elsewhere, "app_id", "shop").is_err());
    let sequence = Some(("filter", vec![own()]));
    let beside = message(&doc! { "find": "c", "filter": own(), "$db": "d" }, sequence);
    assert!(verify(&beside, "app_id", "shop").is_err());
    assert!(verify(&elsewhere[..20], "app_id", "shop").is_err());
    assert!(verify(&[], "app_id", "shop").is_err());
}

fn owner_back() -> Vec<Doc> {
    let head = doc! { "_id": "$_id", "app_id": { "$literal": "shop" } };
    vec![
        doc! { "$unset": "app_id" },
        doc! { "$replaceWith": { "$mergeObjects": [head, "$$ROOT"] } },
    ]
}

fn pipeline_of(stages: &[Vec<Doc>]) -> Doc {
    let bound = vec![doc! { "$match": own() }];
    let stages: Vec<Doc> = [vec![bound], stages.to_vec()].concat().concat();
    doc! { "aggregate": "c", "pipeline": stages }
}

#[test]
fn stages_that_write_need_the_owner() {
    let merge = |m: Doc| vec![doc! { "$merge": m }];
    let on = ["_id", "app_id"];
    let good = merge(doc! { "into": "t", "on": on });
    for stages in [
        vec![owner_back(), good.clone()],
        vec![merge(doc! { "into": { "db": "e", "coll": "t@shop" } })],
        vec![vec![doc! { "$merge": "t@shop" }]],
        vec![vec![doc! { "$out": "t@shop" }]],
        vec![vec![doc! { "$out": { "db": "e", "coll": "t@shop" } }]],
    ] {
        assert_eq!(verdict(pipeline_of(&stages)), Ok(()), "{stages:?}");
    }
    let back = owner_back();
    for stages in [
        vec![good.clone()],
        vec![vec![back[1].clone()], good.clone()],
        vec![vec![back[0].clone()], good.clone()],
        vec![
            back.clone(),
            vec![doc! { "$set": { "app_id": "b" } }],
            good.clone(),
        ],
        vec![back.clone(), good.clone(), vec![doc! { "$limit": 1 }]],
        vec![back.clone(), merge(doc! { "into": "t" })],
        vec![back.clone(), merge(doc! { "into": "t", "on": ["_id"] })],
        vec![
            back.clone(),
            merge(doc! { "into": "t", "on": ["_id", "x"] }),
        ],
        vec![back.clone(), merge(doc! { "into": "t@b", "on": on })],
        vec![
            back.clone(),
            merge(doc! { "into": { "db": "admin", "coll": "t" }, "on": on }),
        ],
        vec![
            back.clone(),
            merge(doc! { "into": { "db": "admin.x", "coll": "t" }, "on": on }),
        ],
        vec![
            back.clone(),
            merge(doc! { "into": "t", "on": on, "whenMatched": [{ "$set": { "x": 1 } }] }),
        ],
        vec![
            back.clone(),
            merge(doc! { "into": "t", "on": on, "let": { "CURRENT": 1 } }),
        ],
        vec![
            back.clone(),
            merge(doc! { "into": "t", "on": on, "other": 1 }),
        ],
        vec![vec![doc! { "$merge": "t" }]],
        vec![vec![doc! { "$out": "t" }]],
        vec![vec![doc! { "$out": "t@b" }]],
        vec![vec![doc! { "$out": { "db": "local", "coll": "t@shop" } }]],
        vec![vec![doc! { "$facet": { "a": [{ "$out": "t@shop" }] } }]],
    ] {
        assert!(verdict(pipeline_of(&stages)).is_err(), "{stages:?}");
    }
    let mut collated = pipeline_of(&[owner_back(), good]);
    collated.insert("collation", doc! { "locale": "en" });
    assert!(verdict(collated).is_err());
}

#[test]
fn a_search_by_distance_needs_its_query_and_its_key() {
    let near = |n: Doc| doc! { "aggregate": "c", "pipeline": [{ "$geoNear": n }] };
    let good = doc! { "near": [0, 0], "distanceField": "d", "key": "l", "query": own() };
    assert_eq!(verdict(near(good.clone())), Ok(()));
    for (field, value) in [
        ("query", Bson::from(doc! {})),
        ("query", doc! { "app_id": "b" }.into()),
        ("distanceField", "app_id".into()),
        ("includeLocs", "app_id.x".into()),
        ("near", doc! { "$function": {} }.into()),
        ("other", 1.into()),
    ] {
        let mut bad = good.clone();
        bad.insert(field, value);
        assert!(verdict(near(bad.clone())).is_err(), "{bad}");
    }
    for field in ["query", "key"] {
        let mut bad = good.clone();
        bad.remove(field);
        assert!(verdict(near(bad.clone())).is_err(), "{bad}");
    }
    let late = vec![doc! { "$match": own() }, doc! { "$geoNear": good }];
    assert!(verdict(doc! { "aggregate": "c", "pipeline": late }).is_err());
}

/// A `bulkWrite` of one statement in one collection.
fn bulk(database: &str, ns: Doc, statement: Doc) -> Result<(), Violation> {
    let bytes = message(
        &doc! { "bulkWrite": 1, "$db": database },
        Some(("ops", vec![statement])),
    );
    let names = message(&doc! {}, Some(("nsInfo", vec![ns])));
    let mut all = [bytes, names[26..].to_vec()].concat();
    let length = i32::try_from(all.len()).unwrap();
    all[..4].copy_from_slice(&length.to_le_bytes());
    verify(&all, "app_id", "shop")
}

#[test]
fn statements_of_a_bulk_write_are_bound() {
    let shared = doc! { "ns": "d.c" };
    let delete = doc! { "delete": 0, "filter": own() };
    assert_eq!(bulk("admin", shared.clone(), delete.clone()), Ok(()));
    assert_eq!(
        bulk(
            "admin",
            doc! { "ns": "d.c@shop" },
            doc! { "delete": 0, "filter": {} }
        ),
        Ok(())
    );
    assert!(bulk("d", shared.clone(), delete.clone()).is_err());
    for ns in [
        doc! { "ns": "admin.c" },
        doc! { "ns": "d.c@b" },
        doc! { "ns": "d.system.users" },
        doc! { "ns": "d" },
        doc! { "ns": "d.c", "collectionUUID": 1 },
    ] {
        assert!(bulk("admin", ns.clone(), delete.clone()).is_err(), "{ns}");
    }
    for statement in [
        doc! {},
        doc! { "delete": 1, "filter": own() },
        doc! { "delete": 0, "filter": {} },
        doc! { "delete": 0 },
        doc! { "delete": 0, "filter": own(), "hint": "b.x" },
        doc! { "insert": 0, "document": {} },
        doc! { "insert": 0, "document": { "app_id": "b" } },
        doc! { "insert": 0 },
        doc! { "update": 0, "filter": own(), "updateMods": { "x": 1 } },
        doc! { "update": 0, "filter": own(), "updateMods": { "$set": { "app_id": "b" } } },
        doc! { "update": 0, "filter": {}, "updateMods": { "$set": { "x": 1 } } },
        doc! { "update": 0, "filter": own(), "updateMods": { "$set": { "x": 1 } }, "upsertSupplied": true },
        doc! { "update": 0, "filter": own(), "updateMods": { "$set": { "x": 1 } }, "constants": { "x": { "$function": 1 } } },
    ] {
        assert!(
            bulk("admin", shared.clone(), statement.clone()).is_err(),
            "{statement}"
        );
    }
}
