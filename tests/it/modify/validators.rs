//! `collMod` with a validator, also of a collection that apps share: the same as on a private server for the app, nothing for others.

use bson::{Document, doc};

use super::World;
use mdb_tests::batch;

/// Validators, and documents with which each is tried. Those of the other app break all of them.
fn rules() -> Vec<Document> {
    vec![
        doc! {"n": {"$gt": 1}},
        doc! {"n": {"$gt": 1}, "s": {"$type": "string"}},
        doc! {"$or": [{"n": {"$gt": 1}}, {"s": "a"}]},
        doc! {"$and": [{"n": {"$gt": 1}}, {"$nor": [{"s": "b"}]}]},
        doc! {"n": {"$not": {"$in": [0, 1]}}, "s": {"$exists": true}},
        doc! {"$jsonSchema": {"required": ["n"], "properties": {"n": {"bsonType": "int", "minimum": 2, "description": "at least two"}}}},
        doc! {"$jsonSchema": {
            "title": "closed", "additionalProperties": false, "required": ["n", "s"],
            "properties": {"_id": {}, "n": {"bsonType": "int"}, "s": {"enum": ["a", "b"]}, "x": {}, "d": {}},
        }},
        doc! {"$jsonSchema": {"additionalProperties": false}},
        doc! {"$jsonSchema": {"additionalProperties": {"bsonType": "int"}, "properties": {"_id": {}}}},
        doc! {"$jsonSchema": {"properties": {"n": {"additionalProperties": false, "minProperties": 1}}}, "n": {"$ne": 3}},
        doc! {"$expr": {"$gt": ["$n", 1]}},
        doc! {"$expr": {"$gt": [{"$divide": [4, "$n"]}, 1]}, "s": {"$ne": "b"}},
        doc! {"$nor": [{"$expr": {"$eq": [{"$strLenBytes": "$s"}, 2]}}]},
    ]
}

fn writes() -> Vec<Document> {
    let merge = |into: Document| {
        doc! {"aggregate": "source", "pipeline": [{"$merge": into}], "cursor": {}}
    };
    vec![
        doc! {"insert": "c", "documents": [
            {"_id": 10, "n": 0}, {"_id": 11, "n": 3, "s": "a"}, {"_id": 12, "s": "bb"}, {"_id": 13, "n": "x"},
            {"_id": 14, "n": {"a": 1}}, {"_id": 15, "n": 2, "s": "b", "o": {"p": 1}}, {"_id": 16},
        ], "ordered": false},
        doc! {"update": "c", "updates": [
            {"q": {"_id": 11}, "u": {"$set": {"n": 0}}},
            {"q": {"_id": 11}, "u": {"$set": {"n": 5, "s": "b"}}},
            {"q": {"_id": 11}, "u": [{"$set": {"n": {"$add": ["$n", 1]}}}]},
            {"q": {"_id": 17}, "u": {"$set": {"n": 1}}, "upsert": true},
            {"q": {"_id": 11}, "u": {"n": 1}},
            {"q": {}, "u": {"$unset": {"n": 1, "s": 1}}, "multi": true},
        ], "ordered": false},
        doc! {"findAndModify": "c", "query": {"_id": 11}, "update": {"$set": {"n": 1}}},
        doc! {"findAndModify": "c", "query": {"_id": 18}, "update": {"$set": {"n": 7, "s": "a"}}, "upsert": true},
        merge(doc! {"into": "c"}),
        doc! {"find": "c", "sort": {"_id": 1}, "projection": {"d": 0}},
        doc! {"aggregate": "source", "pipeline": [{"$out": "c"}], "cursor": {}},
        doc! {"find": "c", "sort": {"_id": 1}, "projection": {"d": 0}},
        doc! {"aggregate": "source", "pipeline": [{"$match": {"n": 9}}, {"$out": "c"}], "cursor": {}},
        doc! {"find": "c", "sort": {"_id": 1}, "projection": {"d": 0}},
    ]
}

async fn fresh(world: &mut World) {
    for client in [&mut world.alice, &mut world.private] {
        let drop = doc! {"drop": "c", "$db": &world.db};
        client.command(&drop).await;
        for (collection, documents) in [
            (
                "c",
                vec![doc! {"_id": 1, "n": 5, "s": "a"}, doc! {"_id": 2, "n": 0}],
            ),
            (
                "source",
                vec![doc! {"_id": 20, "n": 0}, doc! {"_id": 21, "n": 9, "s": "a"}],
            ),
        ] {
            let clear =
                doc! {"delete": collection, "deletes": [{"q": {}, "limit": 0}], "$db": &world.db};
            client.ok(&clear).await;
            let insert = doc! {"insert": collection, "documents": documents, "$db": &world.db};
            client.ok(&insert).await;
        }
    }
}

/// Options as lists show them.
async fn listed(world: &mut World) -> Vec<Document> {
    let list =
        doc! {"listCollections": 1, "filter": {"name": {"$in": ["c", "e"]}}, "$db": &world.db};
    let mut shown = Vec::new();
    for client in [&mut world.alice, &mut world.private] {
        let all = batch(&client.ok(&list).await);
        let options = |c: &Document| doc! {"name": c.get_str("name").unwrap(), "options": c.get_document("options").unwrap()};
        let mut all: Vec<Document> = all.iter().map(options).collect();
        all.sort_by_key(|c| c.get_str("name").unwrap().to_owned());
        shown.push(all);
    }
    // By their texts: a number that is none is not equal to itself.
    assert_eq!(format!("{:?}", shown[0]), format!("{:?}", shown[1]));
    shown.remove(0)
}

/// Writes of the other app that break every rule.
async fn bob_is_free(world: &mut World, round: i32) {
    let insert = doc! {
        "insert": "c", "documents": [{"_id": format!("bob{round}"), "n": 0, "s": "zz"}, {"_id": format!("b{round}")}],
        "$db": &world.db,
    };
    world.bob.ok(&insert).await;
    let update = doc! {"update": "c", "updates": [{"q": {}, "u": {"$set": {"n": 0}}, "multi": true}], "$db": &world.db};
    world.bob.ok(&update).await;
}

#[tokio::test]
async fn rules_are_kept_by_the_app_alone() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        for (round, rule) in (0..).zip(rules()) {
            fresh(&mut world).await;
            let change = doc! {"collMod": "c", "validator": &rule};
            let reply = world.same(change).await;
            assert!(
                reply.contains_key("ok") && !reply.contains_key("code"),
                "{rule}: {reply}"
            );
            listed(&mut world).await;
            for write in writes() {
                world.same(write).await;
            }
            bob_is_free(&mut world, round).await;
            world.same(doc! {"collMod": "c", "validator": {}}).await;
            listed(&mut world).await;
            world
                .same(doc! {"insert": "c", "documents": [{"_id": 90, "n": 0}]})
                .await;
        }
    }
}

/// One document that keeps to `{n: {$gt: 1}}` and one that does not, under other `_id`s each time.
fn two(round: i32) -> Document {
    doc! {"insert": "c", "documents": [{"_id": round, "n": 5}, {"_id": -round, "n": 0}], "ordered": false}
}

#[tokio::test]
async fn levels_and_actions_are_those_of_a_server() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        let changes = [
            doc! {"validationLevel": "off"},
            doc! {"validator": {"n": {"$gt": 1}}},
            doc! {"validationLevel": "strict"},
            doc! {"validationAction": "warn"},
            doc! {"validationAction": "error", "validationLevel": "off"},
            doc! {"validationLevel": "strict"},
            doc! {"validator": {"n": {"$gt": 4}}},
            doc! {"validator": {"n": {"$ne": f64::NAN}}},
            doc! {"validator": {}, "validationLevel": "moderate"},
            doc! {"validationLevel": "strict", "validationAction": "warn"},
        ];
        for (round, change) in (10..).zip(changes) {
            let mut command = doc! {"collMod": "c"};
            command.extend(change);
            world.same(command).await;
            listed(&mut world).await;
            world.same(two(round)).await;
        }
        for validator in [
            doc! {"n": {"$foo": 1}},
            doc! {"$expr": {"$foo": 1}},
            doc! {"$expr": {"$gt": ["$n", "$$x"]}},
            doc! {"$jsonSchema": {"foo": 1}},
            doc! {"$jsonSchema": {"additionalProperties": 1}},
            doc! {"$jsonSchema": {"additionalProperties": false, "properties": 1}},
            doc! {"$and": 1},
            doc! {"n": {"$near": [1, 2]}},
        ] {
            world
                .same(doc! {"collMod": "c", "validator": validator})
                .await;
            listed(&mut world).await;
        }
        // Beside the change of an index.
        let both = doc! {"collMod": "c", "index": {"name": "x_1", "hidden": true}, "validator": {"n": {"$gt": 1}}};
        world.same(both).await;
        listed(&mut world).await;
        world.same(two(30)).await;
        world
            .same(doc! {"collMod": "none", "validator": {"n": 1}})
            .await;
    }
}

#[tokio::test]
async fn rules_go_with_their_collection() {
    for mode in ["shared", "dedicated"] {
        let mut world = World::new(mode).await;
        fresh(&mut world).await;
        let rule = || doc! {"collMod": "c", "validator": {"n": {"$gt": 1}}};
        world.same(rule()).await;
        // A rename takes it along, documents that do not keep to it as well.
        world.rename("c", "e", doc! {}).await;
        listed(&mut world).await;
        world
            .same(doc! {"insert": "e", "documents": [{"_id": 40, "n": 0}]})
            .await;
        world
            .same(doc! {"insert": "c", "documents": [{"_id": 41, "n": 0}]})
            .await;
        world.same(doc! {"find": "e", "sort": {"_id": 1}}).await;
        // What comes in the place of another collection has the rule that it had before.
        world
            .same(doc! {"collMod": "c", "validator": {"k": 1}})
            .await;
        world.rename("e", "c", doc! {"dropTarget": true}).await;
        listed(&mut world).await;
        world.same(doc! {"insert": "c", "documents": [{"_id": 42, "n": 0}, {"_id": 43, "n": 9}], "ordered": false}).await;
        // And with a drop it goes.
        for drop in [doc! {"drop": "c"}, doc! {"dropDatabase": 1}] {
            world
                .alice
                .command(&{
                    let mut d = drop.clone();
                    d.insert("$db", &world.db);
                    d
                })
                .await;
            world
                .private
                .command(&{
                    let mut d = drop.clone();
                    d.insert("$db", &world.db);
                    d
                })
                .await;
            world
                .same(doc! {"insert": "c", "documents": [{"_id": 44, "n": 0}]})
                .await;
            listed(&mut world).await;
            world.same(rule()).await;
        }
        bob_is_free(&mut world, 50).await;
    }
}

#[tokio::test]
async fn each_app_has_its_own_rule() {
    let mut world = World::new("shared").await;
    let db = world.db.clone();
    let rule = |rule: Document| doc! {"collMod": "c", "validator": rule, "$db": &db};
    let insert =
        |id: i32, n: i32| doc! {"insert": "c", "documents": [{"_id": id, "n": n}], "$db": &db};
    world.alice.ok(&rule(doc! {"n": {"$gt": 5}})).await;
    world
        .bob
        .ok(&rule(
            doc! {"n": {"$lt": 5}, "$expr": {"$gte": [{"$sqrt": "$n"}, 0]}},
        ))
        .await;
    for (client, good, bad) in [(&mut world.alice, 6, 4), (&mut world.bob, 4, 6)] {
        client.ok(&insert(100 + good, good)).await;
        let refused = client.command(&insert(200, bad)).await;
        let error = batch_of_errors(&refused);
        assert_eq!(error.get_i32("code").ok(), Some(121), "{refused}");
        let text = refused.to_string();
        assert!(
            !text.contains("app_id") && !text.contains("alice") && !text.contains("bob"),
            "{text}"
        );
        if mdb_tests::is_since(&world.server, "5.0") {
            assert!(
                text.contains("considered") || text.contains("expressionResult"),
                "{text}"
            );
        }
    }
    // What the other app's rule would fail at is never computed for the app's documents.
    world
        .alice
        .ok(&doc! {"insert": "c", "documents": [{"_id": 300, "n": 7, "x": "text"}], "$db": &db})
        .await;
    // It may be passed over by those who may.
    let mut past = insert(301, 0);
    past.insert("bypassDocumentValidation", true);
    world.alice.ok(&past).await;
    let dropped = doc! {"drop": "c", "$db": &db};
    world.alice.ok(&dropped).await;
    world.alice.ok(&insert(400, 0)).await;
    let refused = world.bob.command(&insert(401, 9)).await;
    assert_eq!(batch_of_errors(&refused).get_i32("code").ok(), Some(121));
    world.bob.ok(&rule(doc! {})).await;
    world.bob.ok(&insert(401, 9)).await;
}

fn batch_of_errors(reply: &Document) -> Document {
    let errors = reply.get_array("writeErrors").unwrap();
    errors[0].as_document().unwrap().clone()
}

#[tokio::test]
async fn what_servers_know_for_a_whole_collection_is_refused() {
    let mut world = World::new("shared").await;
    let moderate = doc! {"collMod": "c", "validator": {"n": 1}, "validationLevel": "moderate"};
    assert_eq!(world.alice_fails(moderate).await, 72);
    let whole =
        doc! {"collMod": "c", "validator": {"$expr": {"$lt": [{"$bsonSize": "$$ROOT"}, 1000]}}};
    // What takes the scope field out of an expression is there since 5.0.
    assert!([2, 72].contains(&world.alice_fails(whole).await));
    let hidden = doc! {"collMod": "c", "validator": {"app_id": {"$ne": "bob"}}};
    assert_eq!(world.alice_fails(hidden).await, 2);
    let of_operator = doc! {"collMod": "c", "validator": {"operator": {"$exists": false}}};
    world
        .proxy
        .upstream()
        .await
        .run_command(of_operator)
        .await
        .unwrap();
    let beside = doc! {"collMod": "c", "validator": {"n": 1}};
    assert_eq!(world.alice_fails(beside).await, 72);
}
