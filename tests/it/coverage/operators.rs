//! Operators, one by one.

use bson::{Bson, Document, doc};
use mdb_scope::{
    EXPRESSIONS, FILTER_FIELD, FILTER_TOP, GEOMETRY, META, Operator, SYSTEM_VARIABLES, TEXT,
    UPDATE_MODIFIERS, UPDATE_OPERATORS, Versions,
};

use super::{Flaws, Server, text};

fn find(filter: Document) -> Document {
    doc! {"find": "c", "filter": filter, "$db": "d"}
}

fn aggregate(stage: Document) -> Document {
    doc! {"aggregate": "c", "pipeline": [stage], "cursor": {}, "$db": "d"}
}

fn update(update: Document) -> Document {
    doc! {"update": "c", "updates": [{"q": {"_id": 1}, "u": update}], "$db": "d"}
}

/// One table in one place: how a name is sent, and how the server says that it does not know it.
struct Probe {
    what: &'static str,
    table: &'static [Operator],
    place: fn(&Operator) -> Option<Versions>,
    /// Commands with the name in several contexts: the server knows it if it takes it for one in any.
    commands: fn(&str) -> Vec<Document>,
    /// Parts of its texts.
    unknown: &'static [&'static str],
}

const ORDINARY: fn(&Operator) -> Option<Versions> = |row| row.versions;

const PROBES: &[Probe] = &[
    Probe {
        what: "filter",
        table: FILTER_TOP,
        place: ORDINARY,
        commands: |name| vec![find(doc! {name: 1})],
        unknown: &["unknown top level operator"],
    },
    Probe {
        what: "predicate",
        table: FILTER_FIELD,
        place: ORDINARY,
        commands: |name| {
            if ["$ref", "$id", "$db"].contains(&name) {
                // Known together only: beside them any other name is data.
                return vec![find(doc! {"a": {"$ref": "c", "$id": 1, "$db": "d"}})];
            }
            vec![
                find(doc! {"a": {name: 1}}),
                find(doc! {"a": {"$near": [0, 0], name: 1}}),
                find(doc! {"a": {"$elemMatch": {name: 1, "b": 1}}}),
            ]
        },
        unknown: &["unknown operator", "invalid argument in geo near query"],
    },
    Probe {
        what: "geometry",
        table: GEOMETRY,
        place: ORDINARY,
        commands: |name| {
            vec![
                find(doc! {"a": {"$geoWithin": {name: []}}}),
                find(doc! {"a": {"$geoWithin": {name: 1}}}),
                find(
                    doc! {"a": {"$near": {"$geometry": {"type": "Point", "coordinates": [0, 0]}, name: 1}}},
                ),
            ]
        },
        unknown: &[
            "unknown geo specifier",
            "invalid argument in geo near query",
        ],
    },
    Probe {
        what: "expression",
        table: EXPRESSIONS,
        place: ORDINARY,
        commands: |name| vec![aggregate(doc! {"$addFields": {"x": {name: []}}})],
        unknown: &["Unrecognized expression"],
    },
    Probe {
        what: "accumulator",
        table: EXPRESSIONS,
        place: |row| row.accumulator,
        commands: |name| vec![aggregate(doc! {"$group": {"_id": 1, "x": {name: 1}}})],
        unknown: &["unknown group operator"],
    },
    Probe {
        what: "window function",
        table: EXPRESSIONS,
        place: |row| row.window,
        commands: |name| {
            vec![aggregate(
                doc! {"$setWindowFields": {"output": {"x": {name: 1}}}},
            )]
        },
        unknown: &["Unrecognized window function"],
    },
    Probe {
        what: "$meta",
        table: META,
        place: ORDINARY,
        commands: |name| vec![aggregate(doc! {"$addFields": {"x": {"$meta": name}}})],
        unknown: &["Unsupported argument to $meta"],
    },
    Probe {
        what: "variable",
        table: SYSTEM_VARIABLES,
        place: ORDINARY,
        commands: |name| {
            let value = format!("$${name}");
            vec![
                aggregate(doc! {"$addFields": {"x": &value}}),
                aggregate(doc! {"$redact": &value}),
                aggregate(doc! {"$addFields": {"x": {"$map": {"input": [], "in": value}}}}),
            ]
        },
        unknown: &["undefined variable"],
    },
    Probe {
        what: "update operator",
        table: UPDATE_OPERATORS,
        place: ORDINARY,
        commands: |name| vec![update(doc! {name: {"x": 1}})],
        unknown: &["Unknown modifier"],
    },
    Probe {
        what: "modifier",
        table: UPDATE_MODIFIERS,
        place: ORDINARY,
        commands: |name| {
            let mut push = doc! {"$each": []};
            push.insert(name, Bson::Null);
            vec![update(doc! {"$push": {"x": push}})]
        },
        unknown: &["Unrecognized clause"],
    },
    Probe {
        what: "$text",
        table: TEXT,
        place: ORDINARY,
        commands: |name| {
            let mut search = doc! {"$search": "x"};
            search.insert(
                name,
                if name == "$language" {
                    "en".into()
                } else {
                    Bson::Boolean(true)
                },
            );
            if name == "$search" {
                search.insert(name, "y");
            }
            vec![find(doc! {"$text": search})]
        },
        unknown: &["extra fields"],
    },
];

#[tokio::test]
async fn operators_are_of_the_servers_that_their_rows_state() {
    let server = Server::start().await;
    let mut root = server.root().await;
    let mut flaws = Flaws::default();
    for probe in PROBES {
        // The probe itself must be able to fail.
        let is_operator = probe.table[0].name.starts_with('$');
        let nobody = if is_operator { "$nobody" } else { "NOBODY" };
        let is_known = probe.is_known(&mut root, nobody).await;
        assert!(!is_known, "{}: the probe finds {nobody}", probe.what);
        for row in probe.table {
            let stated = (probe.place)(row).unwrap_or(NEVER);
            let knows = probe.is_known(&mut root, row.name).await;
            flaws.compare(&server, probe.what, row.name, knows, stated);
        }
    }
    flaws.none();
}

/// Of no server that a test can have.
const NEVER: Versions = Versions::ALL.until(mdb_scope::V4_2);

impl Probe {
    async fn is_known(&self, root: &mut mdb_tests::RawClient, name: &str) -> bool {
        for command in (self.commands)(name) {
            let reply = root.command(&command).await;
            let is_unknown = self.unknown.iter().any(|part| text(&reply).contains(part));
            if !is_unknown {
                return true;
            }
        }
        false
    }
}
