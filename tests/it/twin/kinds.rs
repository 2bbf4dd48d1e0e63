//! Collections of a special kind: by what they are made, what is written into them, what changes them.

use std::sync::LazyLock;

use bson::{Bson, Document, doc};

use super::definitions::NEVER_SECONDS;
use super::generator::Generator;
use super::pipelines;
use super::step::{Compare, Step};
use super::values;

/// One for each option that cannot be shared.
pub(super) const KINDS: [&str; 5] = ["capped", "strict", "clustered", "collated", "weather"];

/// What no server takes.
static NO_VALIDATORS: LazyLock<[Document; 2]> =
    LazyLock::new(|| [doc! {"$near": 1}, doc! {"a": {"$bad": 1}}]);

fn exact(command: Document) -> Step {
    Step::new(command, Compare::Exact)
}

/// The same commands for another collection.
pub(super) fn aimed_at(mut steps: Vec<Step>, collection: &str) -> Vec<Step> {
    for step in &mut steps {
        if let Some((_, target)) = step.command.iter_mut().next() {
            *target = collection.into();
        }
        if step.command.contains_key("getMore") {
            step.command.insert("getMore", "<cursor>");
            step.command.insert("collection", collection);
        }
    }
    steps
}

impl Generator {
    pub(super) fn kind(&mut self) -> Vec<Step> {
        let collection = self.dice.pick(&KINDS);
        let (creation, is_sound) = self.creation(collection);
        let mut steps = vec![exact(creation)];
        if !is_sound {
            // Written into, it would become one like any other.
            return steps;
        }
        if collection == "weather" {
            for _ in 0..self.dice.between(1, 5) {
                steps.push(self.weather());
            }
            return steps;
        }
        let documents = self.documents(5);
        steps.push(exact(
            doc! {"insert": collection, "documents": documents, "ordered": false},
        ));
        for _ in 0..self.dice.between(1, 5) {
            let inner = match self.dice.between(1, 20) {
                1..=4 => self.insert(),
                5..=8 => self.update(),
                9 => self.delete(),
                10 | 11 => self.find_and_modify(),
                12..=14 => self.find(),
                15 => self.count(),
                16 => self.distinct(),
                17 => self.aggregate(),
                18 => self.create_index(),
                _ => vec![self.of_kind(collection)],
            };
            steps.extend(aimed_at(inner, collection));
        }
        steps.push(exact(doc! {"find": collection, "sort": {"_id": 1}}));
        steps.extend(self.end_of_kind(collection));
        steps
    }

    /// What lists it, what renames it, what ends it.
    fn end_of_kind(&mut self, collection: &str) -> Vec<Step> {
        let listing =
            doc! {"listCollections": 1, "filter": {"name": {"$in": [collection, "renamed"]}}};
        match self.dice.between(1, 8) {
            1 => vec![exact(doc! {"drop": collection})],
            2 => vec![exact(listing)],
            3 => vec![exact(doc! {"listIndexes": collection})],
            4 => {
                let mut steps = self.rename(collection);
                steps.push(Step::new(listing, Compare::Set));
                steps.push(exact(doc! {"find": "renamed", "sort": {"_id": 1}}));
                steps
            }
            _ => Vec::new(),
        }
    }

    fn rename(&mut self, collection: &str) -> Vec<Step> {
        let mut rename = doc! {
            "renameCollection": format!("<database>.{collection}"),
            "to": format!("<database>.{}", self.dice.pick(&["renamed", "renamed", collection, "capped"])),
            "$db": "admin",
        };
        if self.dice.chance(50) {
            rename.insert("dropTarget", self.dice.chance(50));
        }
        vec![exact(rename)]
    }

    /// With whether a server takes it.
    fn creation(&mut self, collection: &str) -> (Document, bool) {
        let mut create = doc! {"create": collection};
        match collection {
            "capped" => {
                create.extend(doc! {"capped": true, "size": self.dice.pick(&[4096, 100_000])});
                if self.dice.chance(60) {
                    create.insert("max", self.dice.between(2, 5));
                }
            }
            "strict" => create.extend(self.validation()),
            "clustered" => {
                let mut index = doc! {"key": {"_id": 1}, "unique": true};
                if self.dice.chance(50) {
                    index.insert("name", "by id");
                }
                create.insert("clusteredIndex", index);
            }
            "collated" => {
                let collation = values::collation(&mut self.dice);
                create.insert("collation", collation);
            }
            _ => {
                let mut series = doc! {"timeField": "at"};
                if self.dice.chance(80) {
                    series.insert("metaField", "b");
                }
                if self.dice.chance(40) {
                    let granularity = self.dice.pick(&["seconds", "minutes", "hours"]);
                    series.insert("granularity", granularity);
                }
                create.insert("timeseries", series);
                if self.dice.chance(20) {
                    create.insert("expireAfterSeconds", NEVER_SECONDS);
                }
            }
        }
        let is_known = !self.dice.chance(5);
        if !is_known {
            create.insert("nonsense", 1);
        }
        let validator = create.get_document("validator").ok();
        let is_sound = validator.is_none_or(|validator| !NO_VALIDATORS.contains(validator));
        (create, is_known && is_sound)
    }

    fn validation(&mut self) -> Document {
        let mut validation = doc! {"validator": self.validator()};
        if self.dice.chance(40) {
            let level = self.dice.pick(&["strict", "moderate", "off"]);
            validation.insert("validationLevel", level);
        }
        if self.dice.chance(40) {
            let action = self.dice.pick(&["error", "error", "warn"]);
            validation.insert("validationAction", action);
        }
        validation
    }

    pub(super) fn validator(&mut self) -> Document {
        let number = self.dice.between(0, 5);
        self.dice.pick(&[
            doc! {"a": {"$type": "int"}},
            doc! {"u": {"$gt": number}, "b": {"$exists": true}},
            doc! {"$or": [{"b": "x"}, {"u": {"$lt": 7}}]},
            doc! {"$expr": {"$gt": ["$u", number]}},
            doc! {"$jsonSchema": {
                "required": ["a", "u"],
                "properties": {"a": {"bsonType": "int", "minimum": number}, "d": {"bsonType": "object", "required": ["f"]}},
            }},
            doc! {"$jsonSchema": {"additionalProperties": false, "properties": {"_id": {}, "a": {}, "b": {}, "u": {}}}},
            doc! {"$jsonSchema": {"title": "a b", "properties": {"b": {"enum": ["x", "y", "ab"], "description": "a letter"}}}},
            doc! {},
            NO_VALIDATORS[0].clone(),
            NO_VALIDATORS[1].clone(),
        ])
    }

    fn of_kind(&mut self, collection: &str) -> Step {
        let own: Document = match collection {
            "capped" => self.dice.pick(&[
                doc! {"find": collection, "sort": {"$natural": -1}},
                doc! {"find": collection, "tailable": true, "batchSize": 1},
                doc! {"find": collection, "tailable": true, "awaitData": true, "batchSize": 10},
                doc! {"collMod": collection, "cappedSize": 8192},
                doc! {"collMod": collection, "cappedMax": 3},
                doc! {"convertToCapped": collection, "size": 8192},
                doc! {"cloneCollectionAsCapped": collection, "toCollection": "cloned", "size": 100_000},
                doc! {"cloneCollectionAsCapped": collection, "toCollection": "capped", "size": 100_000},
                doc! {"cloneCollectionAsCapped": "nowhere", "toCollection": "cloned", "size": 100_000},
            ]),
            "strict" => {
                let mut change = doc! {"collMod": collection};
                change.extend(self.validation());
                self.dice.pick(&[
                    change,
                    doc! {"listCollections": collection, "filter": {"name": collection}},
                    doc! {"validate": collection},
                ])
            }
            "clustered" => self.dice.pick(&[
                doc! {"find": collection, "filter": {"_id": {"$gte": 3}}, "hint": {"_id": 1}},
                doc! {"find": collection, "hint": "_id_"},
                doc! {"find": collection, "sort": {"_id": -1}, "limit": 2},
                doc! {"listIndexes": collection},
                doc! {"dropIndexes": collection, "index": "*"},
                doc! {"collMod": collection, "expireAfterSeconds": NEVER_SECONDS},
            ]),
            _ => self.dice.pick(&[
                doc! {"find": collection, "filter": {"b": "X"}, "sort": {"_id": 1}},
                doc! {"find": collection, "sort": {"b": 1, "_id": 1}},
                doc! {"count": collection, "query": {"b": {"$gt": "x"}}},
                doc! {"aggregate": collection, "pipeline": [{"$group": {"_id": "$b", "n": {"$sum": 1}}}, {"$sort": {"_id": 1}}], "cursor": {}},
                doc! {"aggregate": collection, "pipeline": [{"$sort": {"_id": 1}}, {"$lookup": {"from": "people", "localField": "b", "foreignField": "b", "as": "j", "pipeline": [{"$sort": {"_id": 1}}]}}], "cursor": {}},
                doc! {"create": collection},
            ]),
        };
        exact(own)
    }

    fn weather(&mut self) -> Step {
        let collection = "weather";
        let series = |generator: &mut Self| {
            let mut document = values::document(&mut generator.dice, generator.owner);
            if generator.dice.chance(95) {
                document.insert("at", values::date(&mut generator.dice));
            }
            document
        };
        let documents: Vec<Document> = (0..self.dice.between(1, 4)).map(|_| series(self)).collect();
        let meta = values::text(&mut self.dice);
        let since = values::date(&mut self.dice);
        let projection = pipelines::projection(&mut self.dice);
        let read = match self.dice.between(1, 16) {
            1..=6 => {
                return exact(
                    doc! {"insert": collection, "documents": documents, "ordered": self.dice.chance(50)},
                );
            }
            7 => doc! {"find": collection},
            8 => {
                doc! {"find": collection, "filter": {"b": meta, "at": {"$gte": since}}, "projection": projection}
            }
            9 => {
                doc! {"aggregate": collection, "pipeline": [{"$group": {"_id": "$b", "n": {"$sum": 1}, "m": {"$max": "$u"}}}], "cursor": {}}
            }
            10 => {
                doc! {"aggregate": collection, "pipeline": [{"$match": {"at": {"$lt": since}}}, {"$count": "n"}], "cursor": {}}
            }
            11 => doc! {"count": collection},
            12 => {
                doc! {"delete": collection, "deletes": [{"q": {"b": meta}, "limit": self.dice.pick(&[0, 1])}]}
            }
            13 => {
                doc! {"update": collection, "updates": [{"q": {"b": meta}, "u": {"$set": {"b": "moved"}}, "multi": true}]}
            }
            14 => self.dice.pick(&[
                doc! {"collMod": collection, "timeseries": {"granularity": "hours"}},
                doc! {"collMod": collection, "expireAfterSeconds": NEVER_SECONDS},
                doc! {"collMod": collection, "expireAfterSeconds": "off"},
                doc! {"listCollections": 1, "filter": {"name": collection}},
            ]),
            15 => {
                let key: Document =
                    self.dice
                        .pick(&[doc! {"b": 1, "at": -1}, doc! {"at": 1}, doc! {"u": 1}]);
                doc! {"createIndexes": collection, "indexes": [{"key": key, "name": self.dice.pick(&["one", "two"])}]}
            }
            _ => doc! {"listIndexes": collection},
        };
        let is_read = ["find", "aggregate"]
            .iter()
            .any(|name| read.contains_key(name));
        Step::new(
            read,
            if is_read {
                Compare::Fields
            } else {
                Compare::Exact
            },
        )
    }
}

/// Everything that is in them at the end.
pub(super) fn inventory() -> Vec<Step> {
    let find = |collection: Bson| Step::new(doc! {"find": collection}, Compare::Fields);
    let kinds = KINDS.iter().map(|kind| find((*kind).into()));
    let mut steps: Vec<Step> = kinds.collect();
    steps.extend(["renamed", "cloned"].map(|name| find(name.into())));
    steps
}
