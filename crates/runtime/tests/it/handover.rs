//! One process takes over from another, under load.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bson::{Document, doc};
use mdb_testbed::Deployment;
use mongodb::Client;
use mongodb::options::ClientOptions;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::program::{Files, Serving};
use crate::service::{address, ask};

/// How much the load has done, and whether it is to end.
struct Load {
    is_over: AtomicBool,
    done: watch::Sender<u64>,
}

impl Load {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            is_over: AtomicBool::new(false),
            done: watch::Sender::new(0),
        })
    }

    /// Waits until so much more has been done.
    async fn goes_on(&self, more: u64) {
        let mut done = self.done.subscribe();
        let target = *done.borrow() + more;
        done.wait_for(|done| *done >= target).await.unwrap();
    }

    fn did_one(&self) -> bool {
        self.done.send_modify(|done| *done += 1);
        !self.is_over.load(Ordering::Relaxed)
    }
}

/// Connects, says hello and goes, again and again. Every attempt must get an answer, 91 included.
async fn connect_again_and_again(address: SocketAddr, load: Arc<Load>) {
    let body = bson::serialize_to_vec(&doc! { "hello": 1, "$db": "admin" }).unwrap();
    let length = i32::try_from(16 + 5 + body.len()).unwrap();
    let mut hello = Vec::new();
    for word in [length, 1, 0, 2013, 0] {
        hello.extend_from_slice(&word.to_le_bytes());
    }
    hello.push(0);
    hello.extend_from_slice(&body);
    loop {
        let mut stream = TcpStream::connect(address).await.expect("no refusal");
        stream.write_all(&hello).await.expect("no reset");
        let mut head = [0; 16];
        stream.read_exact(&mut head).await.expect("an answer");
        if !load.did_one() {
            return;
        }
    }
}

/// Inserts one document after the other; gives the number of those that were acknowledged, which are all.
async fn insert_again_and_again(client: Client, name: u32, load: Arc<Load>) -> i64 {
    let documents = client.database("shop_db").collection::<Document>("orders");
    let mut acknowledged = 0;
    loop {
        let document = doc! { "_id": format!("{name}-{acknowledged}") };
        documents
            .insert_one(document)
            .await
            .expect("an insert survives the hand-over");
        acknowledged += 1;
        if !load.did_one() {
            return acknowledged;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_connection_is_refused_and_no_write_is_lost() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    let files = Files::of_the_contract();
    files.change_config(
        "  - address: 127.0.0.1:0 ",
        "  - address: 127.0.0.1:0\n    reuse_port: true\n  #",
    );
    files.change_config(
        "  address: 127.0.0.1:0 ",
        "  address: 127.0.0.1:0\n  reuse_port: true\n  #",
    );
    let mut first = Serving::start(&deployment.proxy_uri(), &files);
    let clients = address(&first.logged("listening for clients").await);
    let admin = address(&first.logged("listening for metrics and health").await);
    first.logged("the upstream is reachable: ready").await;
    files.change_config(
        "  - address: 127.0.0.1:0",
        &format!("  - address: {clients}"),
    );
    files.change_config("  address: 127.0.0.1:0", &format!("  address: {admin}"));

    let load = Load::new();
    let mut strangers = JoinSet::new();
    for _ in 0..4 {
        strangers.spawn(connect_again_and_again(clients, Arc::clone(&load)));
    }
    let mut writers = JoinSet::new();
    for name in 0..4 {
        let uri = format!("mongodb://shop:shop-secret@{clients}/");
        let options = ClientOptions::parse(uri).await.unwrap();
        let client = Client::with_options(options).unwrap();
        writers.spawn(insert_again_and_again(client, name, Arc::clone(&load)));
    }
    load.goes_on(200).await;
    let mut second = Serving::start(&deployment.proxy_uri(), &files);
    second.logged("the upstream is reachable: ready").await;
    load.goes_on(200).await;
    first.send(Signal::TERM);
    first.logged("ended").await;
    assert_eq!(first.exit_code().await, Some(0));
    load.goes_on(400).await;
    assert_eq!(ask(admin, "/readyz").await.0, 200);
    load.is_over.store(true, Ordering::Relaxed);
    strangers.join_all().await;
    let acknowledged: i64 = writers.join_all().await.into_iter().sum();

    let uri = format!("mongodb://shop:shop-secret@{clients}/");
    let orders = Client::with_uri_str(uri).await.unwrap();
    let orders = orders.database("shop_db").collection::<Document>("orders");
    let stored = orders.count_documents(doc! {}).await.unwrap();
    assert_eq!(i64::try_from(stored).unwrap(), acknowledged);
    second.send(Signal::TERM);
    assert_eq!(second.exit_code().await, Some(0));
}
