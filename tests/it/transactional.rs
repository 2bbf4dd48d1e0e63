//! Collections and indexes that transactions make: theirs until they are committed, and never if they are aborted.

use bson::{Binary, Bson, Document, doc, spec::BinarySubtype};
use mdb_testbed::Deployment;
use mdb_tests::script::Words;
use mdb_tests::{ProxyBuilder, RawClient, Section, TestProxy, batch, eventually, shared};
use serde_yaml::Value;

const SCENARIOS: &str = include_str!("transactional.yaml");

/// One of the two transactions of a side.
struct Transaction {
    session: u8,
    number: i64,
    is_open: bool,
}

/// A server, or the proxy for one, as one app sees it.
struct Side {
    inside: [(Transaction, RawClient); 2],
    outside: RawClient,
    words: Words,
    db: String,
    /// What NAME stands for.
    name: String,
}

impl Side {
    /// Sessions of servers that are used again have other ids in each `round`.
    async fn new(db: &str, round: u8, connect: impl AsyncFn() -> RawClient) -> Self {
        let transaction = |session| Transaction {
            session: 2 * round + session,
            number: 0,
            is_open: false,
        };
        let mut outside = connect().await;
        outside.ok(&doc! {"create": "OTHER", "$db": db}).await;
        Self {
            inside: [
                (transaction(1), connect().await),
                (transaction(2), connect().await),
            ],
            outside,
            words: Words::default(),
            db: db.to_owned(),
            name: String::new(),
        }
    }

    /// What a step gives, in short.
    async fn run(&mut self, step: &Value) -> String {
        let step = step.as_mapping().unwrap().iter().next().unwrap();
        let (who, what) = (step.0.as_str().unwrap(), step.1);
        if what.as_str() == Some("collections") {
            return self.collections().await;
        }
        let command = self.words.document(what);
        let mut command = Document::try_from(&*command).unwrap();
        if let Ok(name) = command.get_str("count-of").map(str::to_owned) {
            command = doc! {"aggregate": name, "pipeline": [{"$count": "n"}], "cursor": {}};
        }
        let index = ["t", "u"].iter().position(|name| *name == who);
        let client = match index {
            Some(index) => {
                let (transaction, client) = &mut self.inside[index];
                transaction.tie(&mut command);
                client
            }
            None => &mut self.outside,
        };
        if !command.contains_key("$db") {
            command.insert("$db", &self.db);
        }
        let body = mdb_tests::raw(&command);
        let reply = client.try_exchange(&[Section::Body(&body)]).await;
        in_short(&reply.expect("an open connection").document())
    }

    async fn collections(&mut self) -> String {
        let list = doc! {"listCollections": 1, "nameOnly": true, "$db": &self.db};
        let listed = batch(&self.outside.ok(&list).await);
        let names = listed.iter().map(|found| found.get_str("name").unwrap());
        let mut names: Vec<&str> = names.collect();
        names.sort_unstable();
        // Those of scenarios before, where their clearing failed, do not count.
        names.retain(|name| [&self.name, "OTHER"].contains(name));
        names.join(" ")
    }

    fn begin(&mut self, name: &str) {
        self.words.word("NAME", name);
        name.clone_into(&mut self.name);
    }

    /// Takes away what a scenario has made.
    async fn clear(&mut self) {
        for (transaction, client) in &mut self.inside {
            if transaction.is_open {
                let mut abort = doc! {"abortTransaction": 1};
                transaction.tie(&mut abort);
                let body = mdb_tests::raw(&abort);
                client.try_exchange(&[Section::Body(&body)]).await.unwrap();
            }
        }
        let drop = doc! {"drop": self.name.as_str(), "$db": &self.db};
        let body = mdb_tests::raw(&drop);
        let dropped = self.outside.try_exchange(&[Section::Body(&body)]).await;
        dropped.unwrap();
    }
}

impl Transaction {
    fn tie(&mut self, command: &mut Document) {
        let is_end =
            command.contains_key("commitTransaction") || command.contains_key("abortTransaction");
        let id = Binary {
            subtype: BinarySubtype::Uuid,
            bytes: vec![self.session; 16],
        };
        let starts = !is_end && !self.is_open;
        self.number += i64::from(starts);
        self.is_open = !is_end;
        command.extend(doc! {
            "lsid": {"id": Bson::Binary(id)}, "txnNumber": self.number, "autocommit": false,
        });
        if starts {
            command.insert("startTransaction", true);
        }
        if is_end {
            command.insert("$db", "admin");
        }
    }
}

/// `ok`, what is counted and listed; or the code and the labels.
fn in_short(reply: &Document) -> String {
    let failed = reply.get_array("writeErrors").ok();
    let failed = failed.and_then(|errors| errors.first()?.as_document());
    let code = failed.unwrap_or(reply).get_i32("code").ok();
    let mut words: Vec<String> = match code {
        Some(code) => vec![code.to_string()],
        None => vec!["ok".to_owned()],
    };
    let labels = reply.get_array("errorLabels").into_iter().flatten();
    words.extend(labels.map(|label| label.as_str().unwrap().to_owned()));
    for figure in ["n", "numIndexesBefore", "numIndexesAfter"] {
        words.extend(reply.get_i32(figure).map(|n| format!("{figure}={n}")));
    }
    for found in reply
        .get_document("cursor")
        .map(|_| batch(reply))
        .into_iter()
        .flatten()
    {
        let name = found.get_str("name").map(str::to_owned);
        words.extend(name.or_else(|_| found.get_i32("n").map(|n| n.to_string())));
    }
    words.join(" ")
}

async fn app(isolation: &str) -> TestProxy {
    let builder = ProxyBuilder::new(shared().await)
        .app("alice")
        .isolated(isolation);
    builder.app("bob").start().await
}

#[tokio::test]
async fn collections_of_transactions_are_as_on_a_private_server_where_apps_share_them() {
    compare("shared").await;
}

#[tokio::test]
async fn collections_of_transactions_are_as_on_a_private_server_where_they_are_the_apps_own() {
    compare("dedicated").await;
}

/// Each scenario with a name that no other app has, with one that another app has, and with one that the app had before.
async fn compare(isolation: &str) {
    let private = Deployment::replica_set(1).start().await.unwrap();
    let address = private.hosts()[0].parse().unwrap();
    let scenarios: Vec<Value> = serde_yaml::from_str(SCENARIOS).unwrap();
    let mut differences = Vec::new();
    for (round, is_taken) in [(1, false), (2, true)] {
        let proxy = app(isolation).await;
        let db = proxy.database_name();
        let mut through = Side::new(db, round, async || proxy.raw("alice").await).await;
        let mut direct = Side::new(db, round, async || RawClient::connect(address).await).await;
        let mut bob = proxy.raw("bob").await;
        for (index, scenario) in scenarios.iter().enumerate() {
            if is_taken {
                let name = format!("n{index}");
                let bobs = doc! {"insert": name, "documents": [{"_id": "bobs", "x": 1}], "$db": db};
                bob.ok(&bobs).await;
            }
            for side in [&mut through, &mut direct] {
                side.begin(&format!("n{index}"));
            }
            for step in scenario["steps"].as_sequence().unwrap() {
                let found = through.run(step).await;
                let expected = direct.run(step).await;
                let expected = match step["shared"].as_str() {
                    Some(told) if isolation == "shared" => told.to_owned(),
                    _ => expected,
                };
                if found != expected {
                    differences.push(format!(
                        "{}, taken: {is_taken}, {step:?}\n  through: {found}\n  direct:  {expected}",
                        scenario["name"].as_str().unwrap()
                    ));
                }
            }
            for side in [&mut through, &mut direct] {
                side.clear().await;
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What a client that died has made vanishes with its transaction: nobody else sees it, or is in its way for long.
#[tokio::test]
async fn a_client_that_dies_leaves_no_collection() {
    let builder = ProxyBuilder::new(shared().await).limit("abandoned_after: 10ms");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let connect = async |name: &str| {
        let client = doc! {"driver": {"name": name, "version": "1"}, "os": {"type": "x"}};
        let mut connection = proxy.raw_stranger().await;
        let hello = doc! {"hello": 1, "client": client, "$db": "admin"};
        connection.ok(&hello).await;
        let user = proxy.user_name("alice");
        let mechanism = mdb_auth::Mechanism::ScramSha256;
        connection
            .log_in(mechanism, &user, mdb_tests::PASSWORD)
            .await;
        connection
    };
    let index = doc! {"key": {"x": 1}, "name": "x", "unique": true};
    let made = [
        doc! {"create": "c", "$db": db},
        doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db},
        doc! {"createIndexes": "c", "indexes": [index], "$db": db},
    ];
    let mut living = connect("living").await;
    for (round, command) in (1..).zip(made) {
        let mut dying = connect("dying").await;
        let mut transaction = Transaction {
            session: round,
            number: 0,
            is_open: false,
        };
        let mut command = command;
        transaction.tie(&mut command);
        dying.ok(&command).await;
        drop(dying);
        let mut create = doc! {"create": "c", "$db": db};
        let mut transaction = Transaction {
            session: 100 + round,
            number: 0,
            is_open: false,
        };
        // Another transaction conflicts with it until it is over.
        let created = eventually("the end of the transaction", async || {
            transaction.is_open = false;
            transaction.tie(&mut create);
            let body = mdb_tests::raw(&create);
            let reply = living.try_exchange(&[Section::Body(&body)]).await;
            Some(in_short(&reply.unwrap().document())).filter(|reply| !reply.starts_with("112"))
        });
        assert_eq!(created.await, "ok");
        let mut commit = doc! {"commitTransaction": 1};
        transaction.tie(&mut commit);
        living.ok(&commit).await;
        let list = doc! {"listIndexes": "c", "$db": db};
        assert_eq!(batch(&living.ok(&list).await).len(), 1);
        let count = living.ok(&doc! {"count": "c", "$db": db}).await;
        assert_eq!(count.get_i32("n").ok(), Some(0));
        living.ok(&doc! {"drop": "c", "$db": db}).await;
    }
}
