//! Files that change under a program that serves.

use std::fs;
use std::os::unix::fs::symlink;

use mdb_testbed::Deployment;
use mongodb::Client;
use mongodb::bson::{Document, doc};
use rustix::process::Signal;
use serde_json::Value;

use crate::authority::Authority;
use crate::program::{Files, Serving};
use crate::service::{address, ask};
use crate::tls::logs_in;

async fn ping(client: &Client) -> mongodb::error::Result<Document> {
    let database = client.database("shop_db");
    database.run_command(doc! { "ping": 1 }).await
}

/// Waits for reloads until one has brought about what is expected. Files that were written just before the start are read
/// once more by themselves, so that the next reload may not be the one that is waited for.
async fn reloaded_until(serving: &mut Serving, is_there: impl AsyncFn(&Value) -> bool) {
    loop {
        let line = serving.logged("reloaded").await;
        if is_there(&line).await {
            return;
        }
    }
}

#[tokio::test]
async fn what_changes_is_noticed_with_and_without_a_signal() {
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
    let client_of = async |user: &str, password: &str| {
        let uri = format!("mongodb://{user}:{password}@{clients}/?maxPoolSize=1");
        Client::with_uri_str(uri).await.unwrap()
    };
    let shop = client_of("shop", "shop-secret").await;
    let notes = client_of("notes", "notes-secret").await;
    for client in [&shop, &notes] {
        ping(client).await.unwrap();
    }

    // A new app, without a signal.
    let manifest = "version: \"3.0\"\nslug: late\ncredentials:\n\
        \x20 - { username: late, password: { env: NOTES_PASSWORD }, roles: [readWrite] }\n";
    files.write("apps/late.yaml", manifest);
    serving.logged("files have changed: reloading").await;
    let late = client_of("late", "notes-secret").await;
    reloaded_until(&mut serving, async |_| ping(&late).await.is_ok()).await;

    // A file that is broken.
    files.change_app("shop.yaml", "slug: shop", "slug: Shop!");
    serving
        .logged("the reload failed: what was in force before still is")
        .await;
    let (status, body) = ask(admin, "/readyz").await;
    assert_eq!(status, 200);
    assert!(body.contains("\"warnings\":[\"reload_failed\"]"), "{body}");
    assert!(
        ask(admin, "/metrics")
            .await
            .1
            .contains("\nmdb_runtime_reload_failed 1\n")
    );
    for client in [&shop, &notes, &late] {
        ping(client).await.unwrap();
    }
    files.change_app("shop.yaml", "slug: Shop!", "slug: shop");
    serving.logged("reloaded").await;
    assert_eq!(
        ask(admin, "/readyz").await.1,
        "{\"ready\":true,\"reasons\":[]}\n"
    );

    // An app that is gone, and one whose clients notice nothing.
    files.remove("apps/notes.yaml");
    reloaded_until(&mut serving, async |line| line["credentials_ended"] == 1).await;
    ping(&notes).await.unwrap_err();
    ping(&shop).await.unwrap();
    let opened = |text: &str| {
        let line = text
            .lines()
            .find(|l| l.contains("reason=\"authentication\""));
        line.unwrap().ends_with(" 1")
    };
    assert!(opened(&ask(admin, "/metrics").await.1));

    // By signal, although nothing has changed; and what cannot be changed so.
    files.change_config("connections_max: 20000", "connections_max: 20001");
    serving.send(Signal::HUP);
    serving.logged("SIGHUP: reloading").await;
    let line = serving
        .logged("the configuration has changed: that takes a restart")
        .await;
    assert_eq!(line["keys"], "limits");
    serving.logged("reloaded").await;
    ping(&shop).await.unwrap();
    serving.send(Signal::TERM);
    assert_eq!(serving.exit_code().await, Some(0));
}

/// As orchestrators mount secrets: `data` leads to a directory, and is led to another one by a rename.
#[tokio::test]
async fn mounted_secrets_and_certificates_are_swapped_by_a_link() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    let files = Files::of_the_contract();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    for (name, authority, password) in [("first", &old, "one"), ("second", &new, "two")] {
        fs::create_dir_all(files.path("mounted").join(name)).unwrap();
        files.write(&format!("mounted/{name}/proxy.pem"), &authority.sign());
        files.write(&format!("mounted/{name}/password"), password);
    }
    files.write("old-ca.pem", &old.pem);
    files.write("new-ca.pem", &new.pem);
    symlink("first", files.path("mounted/data")).unwrap();
    for name in ["proxy.pem", "password"] {
        symlink(format!("data/{name}"), files.path("mounted").join(name)).unwrap();
    }
    files.change_app(
        "shop.yaml",
        "{ env: SHOP_PASSWORD }",
        "{ file: ../mounted/password }",
    );
    files.change_config(
        "  - address: 127.0.0.1:0 ",
        "  - address: 127.0.0.1:0\n    tls: { certificate: mounted/proxy.pem }\n  #",
    );
    let mut serving = Serving::start(&deployment.proxy_uri(), &files);
    let clients = address(&serving.logged("listening for clients").await);
    serving.logged("the upstream is reachable: ready").await;
    let opens = async |password: &str, ca: &str| {
        let file = files.path(ca);
        let options = format!("&tls=true&tlsCAFile={}", file.display());
        logs_in(clients, password, &options).await
    };
    assert!(opens("one", "old-ca.pem").await);

    symlink("second", files.path("mounted/next")).unwrap();
    fs::rename(files.path("mounted/next"), files.path("mounted/data")).unwrap();
    reloaded_until(&mut serving, async |_| opens("two", "new-ca.pem").await).await;
    assert!(!opens("two", "old-ca.pem").await);
    assert!(!opens("one", "new-ca.pem").await);

    // A key that does not fit: the certificate in force stays.
    files.write("mounted/second/proxy.pem", "nothing");
    serving
        .logged("the reload failed: what was in force before still is")
        .await;
    assert!(opens("two", "new-ca.pem").await);
    serving.send(Signal::TERM);
    assert_eq!(serving.exit_code().await, Some(0));
}
