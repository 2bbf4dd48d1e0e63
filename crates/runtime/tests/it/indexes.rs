//! `mdb-runtime indexes` as an operator runs it, beside a program that serves.

use std::process::Output;

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mongodb::{Client, Database};
use rustix::process::Signal;

use crate::program::{Files, Serving, finished};
use crate::service::address;

/// A deployment, and the contract's files with rounds of work that come soon. Nothing is built by itself.
struct Place {
    deployment: Deployment,
    files: Files,
}

/// What a run has printed, and how it has ended.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Place {
    async fn new() -> Self {
        let deployment = Deployment::replica_set(1).with_auth();
        let deployment = deployment.start().await.unwrap();
        let files = Files::of_the_contract();
        let often = "mode: advise\n  interval: 200ms\n  seen_over: 0s\n  #";
        files.change_config("mode: auto ", often);
        Self { deployment, files }
    }

    async fn run_at(&self, upstream_uri: &str, order: &[&str]) -> Said {
        let config = self.files.config();
        let mut arguments = vec!["indexes", "--config", config.to_str().unwrap()];
        arguments.extend(order);
        finished(upstream_uri, &arguments).await.into()
    }

    async fn run(&self, order: &[&str]) -> Said {
        self.run_at(&self.deployment.proxy_uri(), order).await
    }

    /// Runs it again and again until it prints this.
    async fn prints(&self, order: &[&str], part: &str) -> String {
        const PATIENCE: std::time::Duration = std::time::Duration::from_secs(90);
        let printed = async {
            loop {
                let said = self.run(order).await;
                if said.out.contains(part) {
                    assert_eq!(said.code, Some(0), "{said:?}");
                    return said.out;
                }
            }
        };
        let printed = tokio::time::timeout(PATIENCE, printed).await;
        printed.unwrap_or_else(|_| panic!("{order:?} does not print {part}"))
    }

    async fn automatic(&self) -> Vec<String> {
        let client = self.deployment.client().await.unwrap();
        let products = client
            .database("shop_db")
            .collection::<Document>("products");
        let names = products.list_index_names().await.unwrap();
        names
            .into_iter()
            .filter(|n| n.starts_with("_auto"))
            .collect()
    }
}

/// 1500 products of 15 categories, and the promised query 25 times.
async fn shop(database: &Database) {
    let products = database.collection::<Document>("products");
    let documents = (0..1500).map(|n| doc! {"category": n % 15, "price": n});
    products.insert_many(documents).await.unwrap();
    ask(database).await;
}

async fn ask(database: &Database) {
    let products = database.collection::<Document>("products");
    for n in 0..25 {
        let found = products
            .find(doc! {"category": n % 15})
            .sort(doc! {"price": 1});
        assert!(found.await.unwrap().advance().await.unwrap());
    }
}

const NAME: &str = "shop_db.products/_auto:shop.category_1_price_1";

#[tokio::test]
async fn an_operator_sees_and_decides() {
    let place = Place::new().await;
    let mut serving = Serving::start(&place.deployment.proxy_uri(), &place.files);
    let clients = address(&serving.logged("listening for clients").await);
    serving.logged("the upstream is reachable: ready").await;
    // Nothing is known yet.
    for (order, text) in [
        (
            &["list"][..],
            "no index is known: no proxy has made one, or advised one\n",
        ),
        (&["advise"], "no index is advised\n"),
        (
            &["apply"],
            "no index is advised: there is nothing to apply\n",
        ),
    ] {
        let said = place.run(order).await;
        assert_eq!(
            (said.code, said.out.as_str(), said.err.as_str()),
            (Some(0), "", text)
        );
    }
    let uri = format!("mongodb://shop:shop-secret@{clients}/?maxPoolSize=1");
    let app = Client::with_uri_str(uri).await.unwrap().database("shop_db");
    shop(&app).await;
    // Advice.
    let advice = place.prints(&["advise"], NAME).await;
    let line = format!("{NAME}  {{app_id: 1, category: 1, price: 1");
    assert!(
        advice.starts_with(&line) && advice.contains("}  advised  20"),
        "{advice}"
    );
    assert_eq!(advice.lines().count(), 1, "{advice}");
    assert_eq!(place.run(&["list"]).await.out, advice);
    let text = "_auto:shop.category_1_price_1  advise  it would serve commands that examined 1500 documents and returned 100; \
                the mode is `advise`  {";
    // The reason is written behind the state.
    let why = place.prints(&["why", "shop_db.products"], text).await;
    assert!(why.contains("\"reads\":"), "{why}");
    assert!(place.automatic().await.is_empty());
    // It is applied.
    let applied = place.run(&["apply", NAME]).await;
    let text = format!("{NAME}  will be built by a proxy in its next round\n");
    assert_eq!((applied.code, applied.out), (Some(0), text));
    place.prints(&["list"], "watched").await;
    assert_eq!(place.automatic().await.len(), 1);
    place
        .prints(
            &["why", "shop_db.products"],
            "built because an operator asked for it",
        )
        .await;
    let again = place.run(&["apply", NAME]).await;
    let text = format!("`{NAME}` is `watched`: there is nothing to apply\n");
    assert_eq!((again.code, again.err), (Some(1), text));
    // It is dropped, and stays away until it is applied again.
    let dropped = place.run(&["drop", NAME]).await;
    let text = format!("{NAME}  dropped; it is not made again unless it is applied\n");
    assert_eq!((dropped.code, dropped.out), (Some(0), text));
    assert!(place.automatic().await.is_empty());
    ask(&app).await;
    let list = place.prints(&["list"], "refused").await;
    assert_eq!(list.lines().count(), 1, "{list}");
    assert_eq!(place.run(&["apply", NAME]).await.code, Some(0));
    place.prints(&["list"], "watched").await;
    assert_eq!(place.automatic().await.len(), 1);
    // What nobody has heard of.
    let other = "shop_db.products/_auto.price_1";
    for (order, text) in [
        (
            &["drop", other][..],
            format!(
                "no automatic index `{other}` is known; `mdb-runtime indexes list` names them\n"
            ),
        ),
        (
            &["apply", other],
            format!(
                "no automatic index `{other}` is known; `mdb-runtime indexes list` names them\n"
            ),
        ),
        (
            &["why", "shop_db.prodcuts"],
            "nothing was decided on `shop_db.prodcuts`, as collections are called upstream; \
             there are decisions on shop_db.products\n"
                .to_owned(),
        ),
    ] {
        let said = place.run(order).await;
        assert_eq!(
            (said.code, said.err, said.out.as_str()),
            (Some(1), text, ""),
            "{order:?}"
        );
    }
    serving.send(Signal::TERM);
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test]
async fn an_index_of_an_app_is_none_of_the_operators_concern() {
    let place = Place::new().await;
    let client = place.deployment.client().await.unwrap();
    let products = client
        .database("shop_db")
        .collection::<Document>("products");
    products.insert_one(doc! {"x": 1}).await.unwrap();
    let index = doc! {"createIndexes": "products", "indexes": [{"key": {"x": 1}, "name": "x_1"}]};
    client.database("shop_db").run_command(index).await.unwrap();
    // Whatever the control database says.
    let row = doc! {
        "_id": "shop_db.products/x_1", "database": "shop_db", "collection": "products", "name": "x_1", "state": "kept",
    };
    let rows = client
        .database("mdb_runtime")
        .collection::<Document>("indexes");
    rows.insert_one(row).await.unwrap();
    let said = place.run(&["drop", "shop_db.products/x_1"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert_eq!(products.list_index_names().await.unwrap(), ["_id_", "x_1"]);
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let place = Place::new().await;
    let nobody = "mongodb://127.0.0.1:1/?replicaSet=rs0&serverSelectionTimeoutMS=300";
    let good = place.deployment.proxy_uri();
    let stranger = good.replacen("mdb-runtime:", "somebody:", 1);
    let unsuitable = "mongodb://127.0.0.1:1/?nonsense=1";
    for (uri, order, code, text) in [
        (
            nobody,
            &["list"][..],
            1,
            "the upstream: no server for this in time; look whether it runs, and where `upstream.uri` leads (",
        ),
        (
            nobody,
            &["drop", NAME],
            1,
            "the upstream: no server for this in time; ",
        ),
        (
            &stranger,
            &["list"],
            1,
            "the upstream: it does not let the user of `upstream.uri` log in (",
        ),
        (unsuitable, &["list"], 1, "nonsense"),
        (
            &good,
            &["why", "products"],
            2,
            "it is written `database.collection`",
        ),
        (
            &good,
            &["drop", "x"],
            2,
            "it is written `database.collection/name`, as `mdb-runtime indexes list` prints it",
        ),
        (
            &good,
            &["apply", "shop_db.products"],
            2,
            "it is written `database.collection/name`",
        ),
        (&good, &["show"], 2, "unrecognized subcommand"),
    ] {
        let said = place.run_at(uri, order).await;
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(code), ""),
            "{order:?}: {said:?}"
        );
        assert!(said.err.contains(text), "{order:?}: {said:?}");
        for secret in ["shop-secret", "upstream@", ":upstream"] {
            assert!(!said.err.contains(secret), "{said:?}");
        }
    }
    // No configuration, a bad one, and one under which nobody would build.
    let without = finished(&good, &["indexes", "list"]).await;
    let without = Said::from(without);
    assert_eq!(without.code, Some(2), "{without:?}");
    assert!(
        without.err.contains("`--config FILE` is missing: "),
        "{without:?}"
    );
    place.files.change_config("mode: advise", "mode: off");
    let said = place.run(&["apply"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err
            .contains("mdb-runtime.yaml: `indexes.mode` is `off`, so that no proxy would build it"),
        "{said:?}"
    );
    assert_eq!(place.run(&["list"]).await.code, Some(0));
    place.files.change_config("mode: off", "mode: perhaps");
    let said = place.run(&["list"]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(
        said.err
            .contains("mdb-runtime.yaml:29: `indexes.mode`: expected one of off, advise, auto")
            && said.err.ends_with("the configuration cannot be used\n"),
        "{said:?}"
    );
}
