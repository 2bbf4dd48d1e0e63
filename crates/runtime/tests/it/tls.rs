//! TLS for clients, with a driver.

use std::net::SocketAddr;

use bson::doc;
use mdb_testbed::Deployment;
use mongodb::Client;
use mongodb::options::ClientOptions;
use rcgen::DnType;
use rustix::process::Signal;

use crate::authority::Authority;
use crate::program::{Files, Serving, finished};
use crate::service::address;

/// Whether the driver logs in with these options of the connection string.
pub(crate) async fn logs_in(address: SocketAddr, password: &str, options: &str) -> bool {
    let uri =
        format!("mongodb://shop:{password}@{address}/?serverSelectionTimeoutMS=2000{options}");
    let options = ClientOptions::parse(uri).await.unwrap();
    let client = Client::with_options(options).unwrap();
    let database = client.database("shop_db");
    database.run_command(doc! { "ping": 1 }).await.is_ok()
}

#[tokio::test]
async fn listeners_have_settings_of_their_own() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    let files = Files::of_the_contract();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("another"));
    files.write("ca.pem", &authority.pem);
    files.write("stranger.pem", &stranger.pem);
    files.write("proxy.pem", &authority.sign());
    files.write("client.pem", &authority.sign());
    files.write("other-client.pem", &stranger.sign());
    let tls = "tls: { certificate: proxy.pem, client_ca: ca.pem, client_certificates: ";
    files.change_config(
        "  - address: 127.0.0.1:0 ",
        &format!(
            "  - address: 127.0.0.1:0\n  - address: 127.0.0.1:0\n    tls: {{ certificate: proxy.pem }}\n\
             \x20 - address: 127.0.0.1:0\n    {tls}optional }}\n\
             \x20 - address: 127.0.0.1:0\n    {tls}required }}\n  #"
        ),
    );
    let mut serving = Serving::start(&deployment.proxy_uri(), &files);
    let mut listeners = Vec::new();
    for _ in 0..4 {
        listeners.push(address(&serving.logged("listening for clients").await));
    }
    serving.logged("the upstream is reachable: ready").await;

    let option = |name: &str, file: &str| format!("&{name}={}", files.path(file).display());
    let nothing = String::new();
    let encrypted = format!("&tls=true{}", option("tlsCAFile", "ca.pem"));
    let misled = format!("&tls=true{}", option("tlsCAFile", "stranger.pem"));
    let certified = format!(
        "{encrypted}{}",
        option("tlsCertificateKeyFile", "client.pem")
    );
    let forged = format!(
        "{encrypted}{}",
        option("tlsCertificateKeyFile", "other-client.pem")
    );
    // Columns: the plain listener, TLS alone, optional, required.
    let cases = [
        (nothing, [true, false, false, false]),
        (encrypted, [false, true, true, false]),
        (misled, [false, false, false, false]),
        (certified, [false, true, true, true]),
        (forged, [false, true, false, false]),
    ];
    for (options, expected) in cases {
        let all = listeners
            .iter()
            .map(|listener| logs_in(*listener, "shop-secret", &options));
        let mut found = Vec::new();
        for one in all {
            found.push(one.await);
        }
        assert_eq!(found, expected, "{options}");
    }
    serving.send(Signal::TERM);
    assert_eq!(serving.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_ends_with_1() {
    let files = Files::of_the_contract();
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    files.write("proxy.pem", &one.sign());
    files.write("other.pem", &other.sign());
    files.change_config(
        "  - address: 127.0.0.1:0 ",
        "  - address: 127.0.0.1:0\n    tls: { certificate: proxy.pem, key: other.pem }\n  #",
    );
    let config = files.config();
    for command in ["check", "serve"] {
        let arguments = [command, "--config", config.to_str().unwrap()];
        let output = finished("mongodb://127.0.0.1:1/?replicaSet=rs0", &arguments).await;
        assert_eq!(output.status.code(), Some(1), "{command}");
        let text = String::from_utf8(output.stderr).unwrap();
        let problem = "other.pem`: the key is not that of the certificate";
        assert!(text.contains("mdb-runtime.yaml:6: "), "{command}: {text}");
        assert!(text.contains(problem), "{command}: {text}");
    }
}

#[tokio::test]
async fn a_client_logs_in_by_its_certificate_until_its_credential_is_gone() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    let files = Files::of_the_contract();
    let authority = Authority::new("ours");
    files.write("ca.pem", &authority.pem);
    files.write("proxy.pem", &authority.sign());
    let of = |name| {
        authority.sign_as(&[
            (DnType::OrganizationName, "Ex, ample"),
            (DnType::OrganizationalUnitName, "apps"),
            (DnType::CommonName, name),
        ])
    };
    files.write("shop.pem", &of("shop"));
    files.write("nobody.pem", &of("nobody"));
    files.change_config(
        "  - address: 127.0.0.1:0 ",
        "  - address: 127.0.0.1:0\n    tls: { certificate: proxy.pem, client_ca: ca.pem, client_certificates: optional }\n  #",
    );
    let subject = "CN=shop,OU=apps,O=Ex\\, ample";
    let credential = format!("  - {{ certificate_subject: '{subject}', roles: [read] }}\n");
    files.change_app(
        "shop.yaml",
        "credentials:\n",
        &format!("credentials:\n{credential}"),
    );
    let mut serving = Serving::start(&deployment.proxy_uri(), &files);
    let clients = address(&serving.logged("listening for clients").await);
    serving.logged("the upstream is reachable: ready").await;

    let encrypted = format!(
        "serverSelectionTimeoutMS=2000&maxPoolSize=1&tls=true&tlsCAFile={}",
        files.path("ca.pem").display()
    );
    let client = async |user: &str, more: &str| {
        let uri = format!("mongodb://{user}{clients}/?{encrypted}{more}");
        let options = ClientOptions::parse(uri).await.unwrap();
        Client::with_options(options).unwrap().database("shop_db")
    };
    let certified = async |file: &str| {
        let file = files.path(file).display().to_string();
        let more = format!("&authMechanism=MONGODB-X509&tlsCertificateKeyFile={file}");
        client("", &more).await
    };
    let shop = client("shop:shop-secret@", "").await;
    let things = shop.collection("things");
    things.insert_one(doc! {"_id": 1}).await.unwrap();

    let reader = certified("shop.pem").await;
    let found = reader.collection("things").find_one(doc! {}).await;
    assert_eq!(found.unwrap(), Some(doc! {"_id": 1}));
    let status = reader.run_command(doc! {"connectionStatus": 1}).await;
    let info = doc! {
        "authenticatedUsers": [{"user": subject, "db": "$external"}],
        "authenticatedUserRoles": [{"role": "read", "db": "$external"}],
    };
    assert_eq!(status.unwrap().get_document("authInfo").ok(), Some(&info));
    // The role is the credential's own.
    let refused = reader.collection("things").insert_one(doc! {}).await;
    assert!(refused.unwrap_err().to_string().contains("not authorized"));

    // Drivers say no more than that it failed; the log says what to write into a manifest.
    let refused = certified("nobody.pem").await;
    refused.run_command(doc! {"ping": 1}).await.unwrap_err();
    let line = serving.logged("authentication failed").await;
    let text = "Could not find user \"CN=nobody,OU=apps,O=Ex\\, ample\" for db \"$external\"";
    assert_eq!(line["error"], text);
    assert_eq!(line["mechanism"], "MONGODB-X509");

    files.change_app("shop.yaml", &credential, "");
    while serving.logged("reloaded").await["credentials_ended"] != 1 {}
    reader.run_command(doc! {"ping": 1}).await.unwrap_err();
    certified("shop.pem")
        .await
        .run_command(doc! {"ping": 1})
        .await
        .unwrap_err();
    shop.run_command(doc! {"ping": 1}).await.unwrap();
    serving.send(Signal::TERM);
    assert_eq!(serving.exit_code().await, Some(0));
}
