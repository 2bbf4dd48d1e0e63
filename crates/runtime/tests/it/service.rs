//! A life of the program, with a real upstream and without one.

use std::net::SocketAddr;

use bson::doc;
use mdb_testbed::Deployment;
use mongodb::Client;
use mongodb::error::ErrorKind;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::program::{Files, Serving, finished};

/// Status and body of an answer.
pub(crate) async fn ask(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let question = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, body.to_owned())
}

pub(crate) fn address(line: &Value) -> SocketAddr {
    line["listener"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_contract_is_served_until_sigterm() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    let files = Files::of_the_contract();
    let mut serving = Serving::start(&deployment.proxy_uri(), &files);
    let clients = address(&serving.logged("listening for clients").await);
    let admin = address(&serving.logged("listening for metrics and health").await);
    serving.logged("the upstream is reachable: ready").await;
    let is_warning = |line: &&Value| line["level"] == "WARN" && line["file"].is_string();
    assert_eq!(serving.read.iter().filter(is_warning).count(), 8);

    let ready = (200, "{\"ready\":true,\"reasons\":[]}\n".to_owned());
    assert_eq!(ask(admin, "/readyz").await, ready);
    assert_eq!(ask(admin, "/healthz").await.0, 200);
    let health = finished("", &["health", "--address", &admin.to_string()]).await;
    assert_eq!(health.status.code(), Some(0));

    let log_in = async |password: &str| {
        let uri = format!("mongodb://shop:{password}@{clients}/shop_db");
        let client = Client::with_uri_str(uri).await.unwrap();
        client
            .database("shop_db")
            .run_command(doc! { "ping": 1 })
            .await
    };
    let pong = log_in("shop-secret").await.unwrap();
    assert_eq!(pong.get("ok"), Some(&bson::Bson::Double(1.0)));
    let refusal = log_in("notes-secret").await.unwrap_err();
    assert!(
        matches!(*refusal.kind, ErrorKind::Authentication { .. }),
        "{refusal}"
    );
    let (status, metrics) = ask(admin, "/metrics").await;
    assert_eq!(status, 200);
    assert!(
        metrics.contains("app=\"shop\",command=\"ping\""),
        "{metrics}"
    );

    serving.send(Signal::TERM);
    serving.logged("ended").await;
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test]
async fn without_an_upstream_the_proxy_lives_and_is_not_ready() {
    let files = Files::of_the_contract();
    let mut serving = Serving::start("mongodb://127.0.0.1:1/?replicaSet=rs0", &files);
    serving.logged("listening for clients").await;
    let admin = address(&serving.logged("listening for metrics and health").await);
    assert_eq!(ask(admin, "/healthz").await.0, 200);
    let (status, body) = ask(admin, "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("upstream_not_reached"), "{body}");
    serving.send(Signal::INT);
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_the_drain_at_once() {
    let files = Files::of_the_contract();
    let mut serving = Serving::start("mongodb://127.0.0.1:1/?replicaSet=rs0", &files);
    let clients = address(&serving.logged("listening for clients").await);
    serving.logged("listening for metrics and health").await;
    // A client that says nothing: the drain waits for it a while.
    let client = TcpStream::connect(clients).await.unwrap();
    serving.send(Signal::TERM);
    serving.send(Signal::INT);
    let code = serving.exit_code().await;
    assert!(matches!(code, Some(130 | 143)), "{code:?}");
    drop(client);
}
