//! Change streams: opened, fed by some commands, and read up to a marker.

use bson::{Document, doc};

use super::generator::Generator;
use super::step::{Compare, Step};
use super::values::{self, Owner};

/// The `_id` of the document with which a stream ends.
pub(super) const MARKER: &str = "the last";

impl Generator {
    pub(super) fn stream(&mut self) -> Vec<Step> {
        // Other apps need not read; what they write is what must not be seen.
        if self.owner != Owner::Subject {
            return self.insert();
        }
        let (_, collection) = self.collection();
        let of_database = self.dice.chance(35);
        let mut pipeline = vec![doc! {"$changeStream": self.stream_options()}];
        pipeline.extend(self.stream_stages());
        let mut open = doc! {"aggregate": collection, "pipeline": pipeline, "cursor": {}};
        if of_database {
            open.insert("aggregate", 1);
        }
        let mut steps = vec![Step::new(open, Compare::Code)];
        for _ in 0..self.dice.between(1, 5) {
            steps.extend(self.event(collection));
        }
        // There only for the stream: it must be new each time.
        for command in [
            doc! {"delete": collection, "deletes": [{"q": {"_id": MARKER}, "limit": 1}]},
            doc! {"insert": collection, "documents": [{"_id": MARKER}]},
        ] {
            steps.push(Step::new(command, Compare::Exact));
        }
        let of = if of_database {
            "$cmd.aggregate"
        } else {
            collection
        };
        steps.push(Step::new(
            doc! {"getMore": "<cursor>", "collection": of, "maxTimeMS": 500},
            Compare::Stream,
        ));
        steps
    }

    fn event(&mut self, collection: &str) -> Vec<Step> {
        let id = values::id(&mut self.dice, self.owner);
        match self.dice.between(1, 12) {
            1..=4 => self.insert(),
            5..=7 => {
                let content = values::content(&mut self.dice);
                let change = self.dice.pick(&[
                    doc! {"$set": content.clone()},
                    doc! {"$unset": {"a": 1, "d.e": 1}},
                    doc! {"$inc": {"u": 1}},
                    doc! {"$push": {"more": 3}},
                    content,
                ]);
                let update = doc! {"update": collection, "updates": [{"q": {"_id": id}, "u": change, "upsert": self.dice.chance(50)}]};
                vec![Step::new(update, Compare::Exact)]
            }
            8 => self.delete(),
            9 | 10 => {
                let delete =
                    doc! {"delete": collection, "deletes": [{"q": {"_id": id}, "limit": 1}]};
                vec![Step::new(delete, Compare::Exact)]
            }
            11 if self.dice.chance(40) => {
                vec![Step::new(doc! {"drop": collection}, Compare::Exact)]
            }
            _ => self.transaction_of_writes(),
        }
    }

    fn stream_options(&mut self) -> Document {
        let mut options = Document::new();
        match self.dice.between(1, 6) {
            1 | 2 => drop(options.insert("fullDocument", "updateLookup")),
            3 => drop(options.insert("fullDocument", "default")),
            _ => {}
        }
        options
    }

    fn stream_stages(&mut self) -> Vec<Document> {
        // An event of the marker must come through all of them.
        let stage = match self.dice.between(1, 6) {
            1 => {
                doc! {"$match": {"operationType": {"$in": ["insert", "delete", "drop", "invalidate"]}}}
            }
            2 => doc! {"$set": {"kind": {"$concat": ["a ", "$operationType"]}}},
            3 => doc! {"$project": {"documentKey": 1, "operationType": 1, "fullDocument": 1}},
            4 => doc! {"$unset": "updateDescription"},
            _ => return Vec::new(),
        };
        vec![stage]
    }
}
