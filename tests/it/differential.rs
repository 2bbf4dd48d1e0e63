//! The same commands through the proxy and on a private server: the replies are the same.

use bson::{Bson, Document, doc};
use mdb_testbed::Deployment;
use mdb_tests::script::{Words, with};
use mdb_tests::{ProxyBuilder, RawClient, Section, is_for, shared};
use serde_yaml::Value;

const SCRIPT: &str = include_str!("differential.yaml");

/// What says when and where, or names a thing that each server names for itself.
const APART: [&str; 6] = [
    "$clusterTime",
    "operationTime",
    "electionId",
    "opTime",
    "lastCommittedOpTime",
    "uuid",
];

struct Side {
    client: RawClient,
    words: Words,
}

impl Side {
    async fn run(&mut self, step: &Value, db: &str) -> Document {
        let db = step["db"].as_str().unwrap_or(db);
        let body = with(&self.words.document(&step["c"]), "$db", db);
        let reply = self.client.try_exchange(&[Section::Body(&body)]).await;
        let reply = reply
            .unwrap_or_else(|| panic!("closed by {step:?}"))
            .document();
        if step["cursor"].as_bool() == Some(true) {
            let id = mdb_tests::cursor_id(&reply);
            assert_ne!(id, 0, "{reply}");
            self.words.value("cursor", id);
        }
        if step["differs"].is_string() {
            let is_good = mdb_tests::is_ok(&reply) && !reply.contains_key("writeErrors");
            return doc! {"succeeded": is_good};
        }
        comparable(reply, step["compare"].as_str())
    }
}

fn comparable(mut reply: Document, how: Option<&str>) -> Document {
    if how == Some("code") {
        let errors = reply.get_array("writeErrors").ok();
        let statement = errors.and_then(|e| e.first()?.as_document()?.get("code").cloned());
        return doc! {"ok": reply.get("ok"), "code": reply.get("code"), "statement": statement};
    }
    let sorts = how == Some("set");
    strip(&mut reply, sorts);
    reply
}

fn strip(document: &mut Document, sorts: bool) {
    for key in APART {
        document.remove(key);
    }
    for (key, value) in document.iter_mut() {
        match value {
            Bson::Document(inner) => strip(inner, sorts),
            Bson::Array(items) => {
                items
                    .iter_mut()
                    .filter_map(Bson::as_document_mut)
                    .for_each(|d| strip(d, sorts));
                if sorts {
                    items.sort_by_key(Bson::to_string);
                }
            }
            Bson::Int64(id) if key == "id" && *id != 0 => *value = "a cursor".into(),
            Bson::Timestamp(_) | Bson::DateTime(_) if key == "x" => *value = "now".into(),
            _ => {}
        }
    }
}

/// Another app with documents, indexes and names of its own in every collection.
async fn disturb(client: &mut RawClient, db: &str) {
    for collection in [
        "people", "tree", "odd", "fresh", "made", "nowhere", "theirs", "stock", "merged", "places",
        "absent", "hinted",
    ] {
        let documents: Vec<Document> = (0..20)
            .map(|n| {
                doc! {
                    "_id": format!("{collection}-{n}"), "name": "Ann", "age": n + 20, "tags": ["a", "b"],
                    "up": "a", "x": n, "home": {"town": "X", "zip": n},
                }
            })
            .collect();
        client
            .ok(&doc! {"insert": collection, "documents": documents, "$db": db})
            .await;
        let indexes = vec![
            doc! {"key": {"age": -1}, "name": "age_1"},
            doc! {"key": {"name": 1}, "name": "name_u"},
            doc! {"key": {"up": 1}, "name": "up"},
        ];
        client
            .ok(&doc! {"createIndexes": collection, "indexes": indexes, "$db": db})
            .await;
    }
    // Other kinds of indexes, which the server would take for the only ones of their kind.
    let indexes = vec![
        doc! {"key": {"theirs": "2dsphere"}, "name": "theirs"},
        doc! {"key": {"flat": "2dsphere"}, "name": "at"},
        doc! {"key": {"at": "2d"}, "name": "flat"},
        doc! {"key": {"text": "text"}, "name": "words"},
    ];
    client
        .ok(&doc! {"createIndexes": "places", "indexes": indexes, "$db": db})
        .await;
}

#[tokio::test]
async fn an_app_believes_that_it_is_alone_in_shared_collections() {
    compare("shared").await;
}

#[tokio::test]
async fn an_app_believes_that_it_is_alone_in_dedicated_collections() {
    compare("dedicated").await;
}

async fn compare(isolation: &str) {
    let private = Deployment::replica_set(1).start().await.unwrap();
    let builder = ProxyBuilder::new(shared().await)
        .app("alice")
        .isolated(isolation);
    let proxy = builder.app("bob").start().await;
    let db = proxy.database_name().to_owned();
    disturb(&mut proxy.raw("bob").await, &db).await;
    let mut through = Side {
        client: proxy.raw("alice").await,
        words: Words::default(),
    };
    let address = private.hosts()[0].parse().unwrap();
    let mut direct = Side {
        client: RawClient::connect(address).await,
        words: Words::default(),
    };
    let steps: Vec<Value> = serde_yaml::from_str(SCRIPT).unwrap();
    assert!(steps.len() >= 150, "{}", steps.len());
    let mut differences = Vec::new();
    for step in &steps {
        let (found, expected) = (through.run(step, &db).await, direct.run(step, &db).await);
        if found != expected && is_for(&private, step) {
            let command = serde_yaml::to_string(&step["c"])
                .unwrap()
                .replace('\n', " ");
            differences.push(format!(
                "{command}\n  through: {found}\n  direct:  {expected}"
            ));
        }
    }
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{count} of {}:\n{}",
        steps.len(),
        differences.join("\n")
    );
}
