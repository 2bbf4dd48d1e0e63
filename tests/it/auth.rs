//! Logging in.

use bson::{Document, doc};
use mdb_auth::{ClientExchange, ClientStep, Mechanism, Secret};
use mdb_tests::{RawClient, TestProxy, binary, shared};
use mongodb::Client;
use mongodb::error::ErrorKind;

const PASSWORD: &str = "pencil";
const NONCE: &str = "rOprNGfwEbeRWgbNEkqOrOprNGfwEbeR";

#[tokio::test]
async fn both_mechanisms_lead_to_the_app() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let db = proxy.database_name();
    for mechanism in Mechanism::ALL {
        let mut client = proxy.raw_stranger().await;
        let reply = client
            .log_in(mechanism, proxy.slug("alice"), PASSWORD)
            .await;
        assert!(reply.get_bool("done").unwrap(), "{reply}");
        client
            .ok(&doc! {"insert": "c", "documents": [{"x": 1}], "$db": db})
            .await;
        let uri = proxy.uri("alice") + "any_database?authMechanism=" + mechanism.name();
        let client = Client::with_uri_str(uri).await.unwrap();
        client
            .database(db)
            .run_command(doc! {"count": "c"})
            .await
            .unwrap();
    }
}

/// What the server says, without what must differ: conversation, nonce, salt, times.
async fn dialogue(
    client: &mut RawClient,
    mechanism: Mechanism,
    user: &str,
    password: &str,
) -> Vec<String> {
    let secret = Secret::new(password.to_owned());
    let (exchange, payload) = ClientExchange::begin(mechanism, user, &secret, NONCE).unwrap();
    let start = doc! {"saslStart": 1, "mechanism": mechanism.name(), "payload": binary(&payload), "$db": "admin"};
    let first = client.command(&start).await;
    let challenge = first.get_binary_generic("payload").unwrap().clone();
    let text = String::from_utf8(challenge.clone()).unwrap();
    let shape: Vec<usize> = text.split(',').map(str::len).collect();
    let iterations = text.rsplit(',').next().unwrap().to_owned();
    let ClientStep::Respond(_, proof) = exchange.next(&challenge).unwrap() else {
        panic!()
    };
    let go_on = doc! {"saslContinue": 1, "conversationId": first.get_i32("conversationId").unwrap(), "payload": binary(&proof), "$db": "admin"};
    let last = client.command(&go_on).await;
    let keys: Vec<&String> = first.keys().collect();
    vec![
        format!("{keys:?}"),
        format!("{shape:?}"),
        iterations,
        last.to_string(),
    ]
}

#[tokio::test]
async fn a_wrong_password_is_as_an_unknown_user() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let known = proxy.slug("alice").to_owned();
    let unknown = "z".repeat(known.len());
    for mechanism in Mechanism::ALL {
        let wrong = dialogue(&mut proxy.raw_stranger().await, mechanism, &known, "wrong").await;
        let nobody = dialogue(
            &mut proxy.raw_stranger().await,
            mechanism,
            &unknown,
            PASSWORD,
        )
        .await;
        assert_eq!(wrong, nobody);
        let failed = doc! {"ok": 0.0, "errmsg": "Authentication failed.", "code": 18, "codeName": "AuthenticationFailed"};
        assert_eq!(wrong[3], failed.to_string());
    }
    let mechanisms = async |user: &str| {
        let hello =
            doc! {"hello": 1, "saslSupportedMechs": format!("admin.{user}"), "$db": "admin"};
        let reply = proxy.raw_stranger().await.ok(&hello).await;
        reply.get("saslSupportedMechs").cloned()
    };
    assert_eq!(mechanisms(&known).await, mechanisms(&unknown).await);
    // The salt of a name stays, since drivers keep what they derived from it.
    let salt = async |user: &str| {
        let payload = format!("n,,n={user},r={NONCE}");
        let start = doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": binary(payload.as_bytes()), "$db": "admin"};
        let reply = proxy.raw_stranger().await.ok(&start).await;
        let challenge =
            String::from_utf8(reply.get_binary_generic("payload").unwrap().clone()).unwrap();
        challenge.split(',').nth(1).unwrap().to_owned()
    };
    for user in [&known, &unknown] {
        assert_eq!(salt(user).await, salt(user).await);
    }
    assert_ne!(salt(&known).await, salt(&unknown).await);
}

#[tokio::test]
async fn the_driver_is_told_that_the_password_is_wrong() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let uri = format!(
        "mongodb://{}:wrong@{}/?serverSelectionTimeoutMS=5000",
        proxy.slug("alice"),
        proxy.address()
    );
    let client = Client::with_uri_str(uri).await.unwrap();
    let error = client
        .database("db")
        .run_command(doc! {"ping": 1})
        .await
        .unwrap_err();
    assert!(
        matches!(*error.kind, ErrorKind::Authentication { .. }),
        "{error}"
    );
}

fn speculation(user: &str, password: &str) -> (ClientExchange, Document) {
    let secret = Secret::new(password.to_owned());
    let (exchange, payload) =
        ClientExchange::begin(Mechanism::ScramSha256, user, &secret, NONCE).unwrap();
    let start = doc! {
        "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": binary(&payload), "db": "admin",
        "options": {"skipEmptyExchange": true},
    };
    (
        exchange,
        doc! {"hello": 1, "speculativeAuthenticate": start, "$db": "admin"},
    )
}

#[tokio::test]
async fn hello_may_begin_the_login() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut client = proxy.raw_stranger().await;
    let (exchange, hello) = speculation(proxy.slug("alice"), PASSWORD);
    let reply = client.ok(&hello).await;
    let begun = reply.get_document("speculativeAuthenticate").unwrap();
    let ClientStep::Respond(exchange, proof) = exchange
        .next(begun.get_binary_generic("payload").unwrap())
        .unwrap()
    else {
        panic!()
    };
    let go_on = doc! {"saslContinue": 1, "conversationId": begun.get_i32("conversationId").unwrap(), "payload": binary(&proof), "$db": "admin"};
    let last = client.ok(&go_on).await;
    assert!(matches!(
        exchange.next(last.get_binary_generic("payload").unwrap()),
        Ok(ClientStep::Verified)
    ));
    assert!(last.get_bool("done").unwrap());
    client
        .ok(&doc! {"find": "c", "$db": proxy.database_name()})
        .await;
    // One that cannot be is left out.
    let odd = doc! {"hello": 1, "speculativeAuthenticate": {"saslStart": 1, "mechanism": "PLAIN", "payload": binary(b"x")}, "$db": "admin"};
    let reply = proxy.raw_stranger().await.ok(&odd).await;
    assert!(!reply.contains_key("speculativeAuthenticate"), "{reply}");
}

#[tokio::test]
async fn strangers_get_the_hand_shake_and_no_more() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let mut stranger = proxy.raw_stranger().await;
    for command in [
        "hello",
        "isMaster",
        "ping",
        "buildInfo",
        "buildinfo",
        "connectionStatus",
        "whatsmyuri",
        "logout",
    ] {
        stranger.ok(&doc! {command: 1, "$db": "admin"}).await;
    }
    for command in [
        doc! {"find": "c"},
        doc! {"insert": "c", "documents": [{}]},
        doc! {"listDatabases": 1},
        doc! {"listCommands": 1},
        doc! {"getMore": 1_i64, "collection": "c"},
        doc! {"endSessions": []},
        doc! {"startSession": 1},
        doc! {"commitTransaction": 1},
        doc! {"serverStatus": 1},
        doc! {"getLog": "startupWarnings"},
        doc! {"explain": {"find": "c"}},
    ] {
        let mut command = command;
        command.insert("$db", "admin");
        let reply = stranger.command(&command).await;
        assert_eq!(reply.get_i32("code").unwrap(), 13, "{command}: {reply}");
        assert!(
            reply
                .get_str("errmsg")
                .unwrap()
                .ends_with("requires authentication"),
            "{reply}"
        );
    }
    for (command, code) in [
        (
            doc! {"saslStart": 1, "mechanism": "PLAIN", "payload": binary(b"\0u\0p")},
            334,
        ),
        (
            doc! {"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": binary(b"nonsense")},
            18,
        ),
        (
            doc! {"saslContinue": 1, "conversationId": 1, "payload": binary(b"")},
            17,
        ),
    ] {
        let mut command = command;
        command.insert("$db", "admin");
        assert_eq!(stranger.fails(&command).await, code, "{command}");
    }
}

#[tokio::test]
async fn a_connection_is_one_app_for_its_life() {
    let proxy = TestProxy::start(shared().await, &["alice", "bob"]).await;
    let db = proxy.database_name();
    let mut client = proxy.raw("alice").await;
    client
        .ok(&doc! {"insert": "c", "documents": [{"x": 1}], "$db": db})
        .await;
    let again = client
        .log_in(Mechanism::ScramSha1, proxy.slug("alice"), PASSWORD)
        .await;
    assert!(again.get_bool("done").unwrap(), "{again}");
    let other = client
        .log_in(Mechanism::ScramSha256, proxy.slug("bob"), PASSWORD)
        .await;
    assert_eq!(other.get_i32("code").unwrap(), 13, "{other}");
    client.ok(&doc! {"logout": 1, "$db": "admin"}).await;
    assert_eq!(client.fails(&doc! {"find": "c", "$db": db}).await, 13);
    let other = client
        .log_in(Mechanism::ScramSha256, proxy.slug("bob"), PASSWORD)
        .await;
    assert_eq!(other.get_i32("code").unwrap(), 13, "{other}");
    assert_eq!(client.fails(&doc! {"find": "c", "$db": db}).await, 13);
}
