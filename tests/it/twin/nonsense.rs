//! Commands that fail, and plans.

use bson::doc;

use super::generator::Generator;
use super::step::{Compare, Step};

impl Generator {
    pub(super) fn explain(&mut self) -> Vec<Step> {
        let inner = self.find().remove(0).command;
        vec![Step::new(doc! {"explain": inner}, Compare::Code)]
    }

    pub(super) fn nonsense(&mut self) -> Vec<Step> {
        let (_, collection) = self.collection();
        let command = self.dice.pick(&[
            doc! {"nonsense": collection},
            doc! {"find": ""},
            doc! {"find": collection, "filter": 1},
            doc! {"find": collection, "skip": -1},
            doc! {"find": collection, "sort": {"a": 2}},
            doc! {"insert": collection, "documents": []},
            doc! {"insert": collection},
            doc! {"update": collection, "updates": [{"q": {}}]},
            doc! {"update": collection, "updates": [{"q": {}, "u": {"a": 1}, "multi": true}]},
            doc! {"delete": collection, "deletes": [{"q": {}}]},
            doc! {"count": collection, "query": 1},
            doc! {"distinct": collection},
            doc! {"aggregate": collection, "pipeline": []},
            doc! {"findAndModify": collection},
            doc! {"findAndModify": collection, "remove": true, "new": true},
            doc! {"getMore": 1_234_i64, "collection": collection},
            doc! {"killCursors": collection, "cursors": [1_234_i64]},
        ]);
        let is_parsed = ["find", "insert", "update", "delete", "count", "distinct"]
            .iter()
            .any(|name| command.contains_key(name));
        vec![Step::new(
            command,
            if is_parsed {
                Compare::Code
            } else {
                Compare::Exact
            },
        )]
    }
}
