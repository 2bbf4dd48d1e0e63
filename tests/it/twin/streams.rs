//! Change streams: opened, fed by some commands, and read up to a marker.

use bson::{Document, doc};

use super::generator::Generator;
use super::step::{Compare, Step};
use super::values::{self, Owner};

/// The `_id` of the document with which a stream ends.
pub(super) const MARKER: &str = "the last";

/// What a stream is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Collection,
    Database,
    Deployment,
}

fn opened(reach: Reach, collection: &str, mut options: Document, stages: &[Document]) -> Step {
    if reach == Reach::Deployment {
        options.insert("allChangesForCluster", true);
    }
    let mut pipeline = vec![doc! {"$changeStream": options}];
    if reach == Reach::Deployment {
        // Others are at work in databases of their own.
        pipeline.push(doc! {"$match": {"ns.db": "<database>"}});
    }
    pipeline.extend_from_slice(stages);
    let mut open = doc! {"aggregate": collection, "pipeline": pipeline, "cursor": {}};
    if reach != Reach::Collection {
        open.insert("aggregate", 1);
    }
    Step::new(of(reach, open), Compare::Code)
}

fn read(reach: Reach, collection: &str) -> Step {
    let name = match reach {
        Reach::Collection => collection,
        Reach::Database | Reach::Deployment => "$cmd.aggregate",
    };
    let more = doc! {"getMore": "<cursor>", "collection": name, "maxTimeMS": 500};
    Step::new(of(reach, more), Compare::Stream)
}

fn of(reach: Reach, mut command: Document) -> Document {
    if reach == Reach::Deployment {
        command.insert("$db", "admin");
    }
    command
}

impl Generator {
    pub(super) fn stream(&mut self) -> Vec<Step> {
        // Other apps need not read; what they write is what must not be seen.
        if self.owner != Owner::Subject {
            return self.insert();
        }
        let (_, collection) = self.collection();
        let reach = self.dice.weighted(&[
            (12, Reach::Collection),
            (5, Reach::Database),
            (3, Reach::Deployment),
        ]);
        let options = self.stream_options();
        let stages = self.stream_stages();
        let mut steps = vec![opened(reach, collection, options.clone(), &stages)];
        for _ in 0..self.dice.between(1, 5) {
            steps.extend(self.event(collection));
        }
        // There only for the stream: it must be new each time. What is looked up for an event is what a majority has,
        // so all of the sequence must have come there before it is read.
        for command in [
            doc! {"delete": collection, "deletes": [{"q": {"_id": MARKER}, "limit": 1}]},
            doc! {"insert": collection, "documents": [{"_id": MARKER}], "writeConcern": {"w": "majority"}},
        ] {
            steps.push(Step::new(command, Compare::Exact));
        }
        steps.push(read(reach, collection));
        if self.dice.chance(40) {
            // From its first event on once more.
            let (name, place) = self.dice.pick(&[
                ("resumeAfter", "<event>"),
                ("startAfter", "<event>"),
                ("startAtOperationTime", "<event time>"),
            ]);
            let mut options = options;
            options.insert(name, place);
            steps.push(opened(reach, collection, options, &stages));
            steps.push(read(reach, collection));
        }
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
