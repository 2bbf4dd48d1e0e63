//! Figures of collections and databases, and what only administrators ask.

use bson::doc;

use super::generator::Generator;
use super::kinds::KINDS;
use super::step::{Compare, Step};

impl Generator {
    pub(super) fn figures(&mut self) -> Vec<Step> {
        let (_, plain) = self.collection();
        let collection = match self.dice.between(1, 10) {
            1 | 2 => self.dice.pick(&KINDS),
            3 => "nowhere",
            _ => plain,
        };
        let scale = self.dice.pick(&[1, 1, 10, 1024]);
        let stage = |stage| {
            doc! {"aggregate": collection, "pipeline": [stage], "cursor": {}}
        };
        let command = match self.dice.between(1, 10) {
            1 | 2 => doc! {"collStats": collection, "scale": scale},
            3 => doc! {"dbStats": 1, "scale": scale},
            4 => doc! {"dataSize": format!("<database>.{collection}")},
            5 => stage(doc! {"$collStats": {"count": {}}}),
            6 => stage(doc! {"$collStats": {"storageStats": {"scale": scale}}}),
            7 => {
                let mut stages = stage(doc! {"$indexStats": {}});
                if let Ok(pipeline) = stages.get_array_mut("pipeline") {
                    pipeline.push(doc! {"$sort": {"name": 1}}.into());
                    pipeline.push(doc! {"$project": {"name": 1, "key": 1, "spec": 1}}.into());
                }
                stages
            }
            8 => self.dice.pick(&[
                doc! {"collStats": collection, "scale": 0},
                doc! {"collStats": collection, "scale": "x"},
                doc! {"collStats": 1},
                doc! {"collStats": ""},
                doc! {"dbStats": 1, "scale": 0},
                doc! {"dbStats": 1, "scale": "x"},
                stage(doc! {"$collStats": 1}),
                stage(doc! {"$indexStats": 1}),
                stage(doc! {"$collStats": {"nonsense": {}}}),
            ]),
            9 => doc! {"validate": collection},
            _ => return vec![self.plans()],
        };
        // Definitions come with their options in any order.
        let compare = match command.get_array("pipeline") {
            Ok(stages) if stages.len() > 1 => Compare::Fields,
            _ => Compare::Exact,
        };
        vec![Step::new(command, compare)]
    }

    /// Filters are set on collections that are the app's own: on others it is refused.
    fn plans(&mut self) -> Step {
        let (_, plain) = self.collection();
        let own = if self.is_dedicated {
            plain
        } else {
            self.dice.pick(&KINDS)
        };
        let collection = self.dice.pick(&[plain, plain, own, "nowhere"]);
        let command = self.dice.pick(&[
            doc! {"planCacheClear": collection},
            doc! {"planCacheClear": collection, "query": {"a": 1}},
            doc! {"planCacheListFilters": collection},
            doc! {"planCacheSetFilter": own, "query": {"u": 1}, "indexes": [{"u": 1}]},
            doc! {"planCacheClearFilters": collection},
            doc! {"planCacheClear": collection, "sort": {"a": 1}},
        ]);
        Step::new(command, Compare::Exact)
    }

    /// A shared collection under another name and back. Nothing of the app's own is ever called so.
    fn moved(&mut self, collection: &str) -> Vec<Step> {
        let there = format!("{collection}_moved");
        let (from, to) = self.dice.pick(&[
            (collection, there.as_str()),
            (there.as_str(), collection),
            (there.as_str(), there.as_str()),
            ("nowhere", there.as_str()),
        ]);
        let mut rename = doc! {
            "renameCollection": format!("<database>.{from}"), "to": format!("<database>.{to}"), "$db": "admin",
        };
        if self.dice.chance(60) {
            rename.insert("dropTarget", self.dice.chance(70));
        }
        let exact = |command| Step::new(command, Compare::Exact);
        vec![
            exact(rename),
            exact(doc! {"find": to}),
            exact(doc! {"listIndexes": to}),
            exact(doc! {"find": from}),
        ]
    }

    /// Other definitions of what is there, and other names for it.
    pub(super) fn change(&mut self) -> Vec<Step> {
        let (_, collection) = self.collection();
        let name = self.dice.pick(&["a_1", "b_1", "u_1", "one"]);
        let command = match self.dice.between(1, 10) {
            1 | 2 => {
                doc! {"collMod": collection, "index": {"name": name, "hidden": self.dice.chance(60)}}
            }
            3 => {
                doc! {"collMod": collection, "index": {"keyPattern": {"a": 1}, "hidden": self.dice.chance(50)}}
            }
            4 => {
                doc! {"collMod": collection, "index": {"keyPattern": {"at": 1}, "expireAfterSeconds": 1_900_000_000}}
            }
            5 => self.dice.pick(&[
                doc! {"collMod": collection},
                doc! {"collMod": "nowhere"},
                doc! {"collMod": "nowhere", "index": {"name": name, "hidden": true}},
                doc! {"collMod": collection, "index": {"hidden": true}},
                doc! {"collMod": collection, "index": {"name": "_id_", "hidden": true}},
                doc! {"collMod": collection, "index": {"name": "no", "hidden": true}},
            ]),
            6..=8 if !self.is_dedicated => return self.moved(collection),
            9 if !self.is_dedicated => {
                let mut change = doc! {"collMod": collection, "validator": self.validator()};
                change.extend(self.dice.pick(&[
                    doc! {},
                    doc! {"validationLevel": "strict"},
                    doc! {"validationLevel": "off"},
                    doc! {"validationAction": "warn"},
                    doc! {"validationAction": "error"},
                ]));
                change
            }
            _ if !self.is_dedicated => doc! {"collMod": collection, "validator": {}},
            6 => {
                doc! {"collMod": collection, "validator": {"u": {"$lt": 11}}, "validationLevel": "moderate"}
            }
            7 => doc! {"collMod": collection, "validator": {}},
            8 => self.dice.pick(&[
                doc! {"convertToCapped": "odd", "size": 100_000},
                doc! {"cloneCollectionAsCapped": collection, "toCollection": "cloned", "size": 100_000},
                doc! {"collMod": collection, "validationLevel": "moderate"},
            ]),
            9 => {
                doc! {"renameCollection": format!("<database>.{collection}"), "to": "<database>.renamed", "dropTarget": true, "$db": "admin"}
            }
            _ => {
                doc! {"renameCollection": "<database>.renamed", "to": format!("<database>.{collection}"), "dropTarget": self.dice.chance(70), "$db": "admin"}
            }
        };
        vec![
            Step::new(command, Compare::Exact),
            Step::new(doc! {"listIndexes": collection}, Compare::Exact),
        ]
    }
}
