//! Text search and geometry, with their indexes.

use bson::{Bson, Document, doc};

use super::generator::Generator;
use super::step::{Compare, Step};
use super::values::{self, Owner};

const WORDS: [&str; 7] = [
    "red",
    "cat x",
    "\"big red\"",
    "red -cat",
    "ab y",
    "",
    "nothing",
];

impl Generator {
    pub(super) fn text(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let mut steps = Vec::new();
        // A shared collection has one text index for all apps.
        if self.owner == Owner::Subject && self.dice.chance(80) {
            self.indexed[at] = true;
            steps.push(self.text_index(collection));
        }
        for _ in 0..self.dice.between(1, 3) {
            steps.push(self.text_read(collection));
        }
        steps
    }

    fn text_index(&mut self, collection: &str) -> Step {
        let mut index = match self.dice.between(1, 5) {
            1 => doc! {"key": {"u": 1, "b": "text"}},
            2 => doc! {"key": {"b": "text", "d.f": "text"}, "weights": {"b": 3}},
            3 => doc! {"key": {"b": "text"}, "default_language": "none"},
            _ => doc! {"key": {"b": "text"}},
        };
        index.insert("name", "words");
        Step::new(
            doc! {"createIndexes": collection, "indexes": [index]},
            Compare::Exact,
        )
    }

    fn text_read(&mut self, collection: &str) -> Step {
        let mut text = doc! {"$search": self.dice.pick(&WORDS)};
        if self.dice.chance(15) {
            text.insert("$language", self.dice.pick(&["none", "en", "nonsense"]));
        }
        if self.dice.chance(15) {
            text.insert("$caseSensitive", true);
        }
        if self.dice.chance(10) {
            text.insert("$diacriticSensitive", true);
        }
        let mut filter = doc! {"$text": text};
        if self.dice.chance(30) {
            filter.insert("u", self.dice.between(0, 8));
        } else if self.dice.chance(20) {
            filter.insert("a", doc! {"$gte": 1});
        }
        let score = doc! {"$meta": "textScore"};
        let (command, compare) = match self.dice.between(1, 8) {
            1 | 2 => (doc! {"find": collection, "filter": filter}, Compare::Set),
            3 => (
                doc! {"find": collection, "filter": filter, "projection": {"b": 1, "s": score.clone()}, "sort": {"s": score, "_id": 1}},
                Compare::Exact,
            ),
            4 => (
                doc! {"find": collection, "filter": filter, "sort": {"s": score, "_id": 1}, "limit": 2},
                Compare::Exact,
            ),
            5 => (doc! {"count": collection, "query": filter}, Compare::Exact),
            6 => (
                doc! {"aggregate": collection, "pipeline": [{"$match": filter}, {"$sort": {"s": score.clone(), "_id": 1}}, {"$project": {"b": 1, "s": score}}], "cursor": {}},
                Compare::Exact,
            ),
            7 => (
                doc! {"aggregate": collection, "pipeline": [{"$match": filter}, {"$set": {"s": score}}, {"$group": {"_id": "$b", "n": {"$sum": "$s"}}}, {"$sort": {"_id": 1}}], "cursor": {}},
                Compare::Exact,
            ),
            _ => (
                doc! {"update": collection, "updates": [{"q": filter, "u": {"$set": {"found": true}}, "multi": true}]},
                Compare::Exact,
            ),
        };
        Step::new(command, compare)
    }

    pub(super) fn geo(&mut self) -> Vec<Step> {
        let (at, collection) = self.collection();
        let mut steps = Vec::new();
        if self.dice.chance(70) {
            self.indexed[at] = true;
            let index = self.dice.pick(&[
                doc! {"key": {"loc": "2dsphere"}, "name": "loc"},
                doc! {"key": {"loc": "2dsphere", "u": 1}, "name": "loc u"},
                doc! {"key": {"flat": "2d"}, "name": "flat"},
                doc! {"key": {"flat": "2d"}, "name": "flat", "min": -20, "max": 20, "bits": 12},
                doc! {"key": {"flat": "2dsphere"}, "name": "round"},
            ]);
            steps.push(Step::new(
                doc! {"createIndexes": collection, "indexes": [index]},
                Compare::Exact,
            ));
        }
        for _ in 0..self.dice.between(1, 3) {
            steps.push(self.geo_read(collection));
        }
        steps
    }

    fn point(&mut self) -> Bson {
        let (x, y) = (self.dice.between(-9, 9), self.dice.between(-9, 9));
        doc! {"type": "Point", "coordinates": [x, y]}.into()
    }

    fn geo_read(&mut self, collection: &str) -> Step {
        if self.dice.chance(25) {
            return self.geo_stage(collection);
        }
        let is_near = self.dice.chance(45);
        let field = self.dice.pick(&["loc", "flat"]);
        let condition = if is_near { self.near() } else { self.within() };
        let mut filter = doc! {field: condition};
        if self.dice.chance(30) {
            filter.insert("u", doc! {"$lt": self.dice.between(2, 9)});
        }
        match self.dice.between(1, 5) {
            1..=3 => Step::new(doc! {"find": collection, "filter": filter}, Compare::Set),
            4 => Step::new(doc! {"count": collection, "query": filter}, Compare::Exact),
            _ => Step::new(
                doc! {"aggregate": collection, "pipeline": [{"$match": filter}, {"$sort": {"_id": 1}}], "cursor": {}},
                Compare::Exact,
            ),
        }
    }

    fn near(&mut self) -> Document {
        let point = self.point();
        let (x, y) = (self.dice.between(-9, 9), self.dice.between(-9, 9));
        match self.dice.between(1, 6) {
            1 => doc! {"$near": {"$geometry": point, "$maxDistance": 900_000}},
            2 => doc! {"$near": {"$geometry": point, "$minDistance": 300_000}},
            3 => doc! {"$nearSphere": {"$geometry": point}},
            4 => doc! {"$near": [x, y], "$maxDistance": 8},
            5 => doc! {"$nearSphere": [x, y], "$maxDistance": 0.1},
            _ => doc! {"$near": [x, y]},
        }
    }

    fn within(&mut self) -> Document {
        let (x, y) = (self.dice.between(-9, 5), self.dice.between(-9, 5));
        let ring = vec![[x, y], [x + 7, y], [x + 7, y + 7], [x, y + 7], [x, y]];
        let ring: Vec<Bson> = ring.into_iter().map(|at| at.to_vec().into()).collect();
        let polygon = doc! {"type": "Polygon", "coordinates": [ring.clone()]};
        match self.dice.between(1, 8) {
            1 => doc! {"$geoWithin": {"$box": [[x, y], [x + 7, y + 7]]}},
            2 => doc! {"$geoWithin": {"$polygon": ring}},
            3 => doc! {"$geoWithin": {"$center": [[x, y], 6]}},
            4 => doc! {"$geoWithin": {"$centerSphere": [[x, y], 0.1]}},
            5 => doc! {"$geoWithin": {"$geometry": polygon}},
            6 => doc! {"$geoIntersects": {"$geometry": polygon}},
            7 => {
                doc! {"$geoIntersects": {"$geometry": {"type": "LineString", "coordinates": [[x, y], [x + 3, y + 3]]}}}
            }
            _ => self.dice.pick(&[
                doc! {"$geoWithin": {"$geometry": {"type": "Point", "coordinates": [x, y]}}},
                doc! {"$geoWithin": {"$bad": 1}},
                doc! {"$geoIntersects": {"$geometry": {"type": "Polygon", "coordinates": [[[x, y]]]}}},
                doc! {"$near": "nonsense"},
            ]),
        }
    }

    fn geo_stage(&mut self, collection: &str) -> Step {
        let point = self.point();
        let mut near = doc! {"near": point, "distanceField": "far", "spherical": true};
        if self.dice.chance(30) {
            near.insert("key", self.dice.pick(&["loc", "flat"]));
        }
        if self.dice.chance(30) {
            near.insert("maxDistance", 900_000);
        }
        if self.dice.chance(20) {
            near.insert("minDistance", 200_000);
        }
        if self.dice.chance(30) {
            near.insert("query", values::filter(&mut self.dice));
        }
        if self.dice.chance(20) {
            near.insert("includeLocs", "where");
        }
        if self.dice.chance(20) {
            near.insert("distanceMultiplier", 0.001);
        }
        if self.dice.chance(15) {
            near.insert("near", vec![self.dice.between(-9, 9), 3]);
            near.insert("spherical", self.dice.chance(50));
            near.remove("minDistance");
            near.remove("maxDistance");
        }
        let pipeline = vec![
            doc! {"$geoNear": near},
            doc! {"$sort": {"far": 1, "_id": 1}},
        ];
        Step::new(
            doc! {"aggregate": collection, "pipeline": pipeline, "cursor": {}},
            Compare::Exact,
        )
    }
}
