use super::*;
use crate::ClientLimits;
use crate::testing::{Client, LIMITS, PEER, Proxy, SUBJECT, binary, sasl_continue, sasl_start};
use bson::{Document as Doc, doc};
use mdb_auth::{ClientStep, Credentials, Mechanism as Scram, Salts};
use mdb_telemetry::CloseReason;
use std::time::Duration;
use tokio::io::DuplexStream;

async fn user_of(client: &mut Client<DuplexStream>) -> Option<String> {
    let status = client.command(doc! {"connectionStatus": 1}).await;
    let info = status.get_document("authInfo").unwrap();
    let users = info.get_array("authenticatedUsers").unwrap();
    let user = users.first()?.as_document()?.get_str("user").unwrap();
    Some(user.to_owned())
}

#[tokio::test]
async fn both_mechanisms_with_and_without_the_empty_exchange() {
    let proxy = Proxy::new().await;
    for mechanism in Scram::ALL {
        for skips in [true, false] {
            let (mut client, _) = proxy.connect();
            let (exchange, start) = sasl_start(mechanism, "shop", "pencil", skips);
            let challenge = client.command(start).await;
            let keys: Vec<&String> = challenge.keys().collect();
            assert_eq!(keys, ["conversationId", "done", "payload", "ok"]);
            assert_eq!(challenge.get_bool("done").ok(), Some(false));
            let last = client.finish(exchange, challenge).await;
            assert_eq!(last.get_bool("done").ok(), Some(true), "{last}");
            assert_eq!(user_of(&mut client).await.as_deref(), Some("shop"));
        }
    }
    let rendered = proxy.shared.metrics.render();
    assert!(
        rendered.contains("{mechanism=\"SCRAM-SHA-1\",outcome=\"ok\"} 2"),
        "{rendered}"
    );
}

#[tokio::test]
async fn the_empty_exchange_comes_only_if_it_is_not_skipped() {
    let proxy = Proxy::new().await;
    for skips in [true, false] {
        let (mut client, _) = proxy.connect();
        let (exchange, start) = sasl_start(Scram::ScramSha256, "shop", "pencil", skips);
        let challenge = client.command(start).await;
        let payload = challenge.get_binary_generic("payload").unwrap();
        let Ok(ClientStep::Respond(_, proof)) = exchange.next(payload) else {
            panic!("the challenge is in order");
        };
        let proven = client.command(sasl_continue(&proof)).await;
        assert_eq!(proven.get_bool("done").ok(), Some(skips));
        assert_eq!(user_of(&mut client).await.is_some(), skips);
    }
}

#[tokio::test]
async fn a_base64_payload_is_answered_by_one() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let (_, mut start) = sasl_start(Scram::ScramSha256, "shop", "pencil", true);
    let payload = STANDARD.encode(start.get_binary_generic("payload").unwrap());
    start.insert("payload", payload);
    let challenge = client.command(start).await;
    let text = STANDARD
        .decode(challenge.get_str("payload").unwrap())
        .unwrap();
    assert!(text.starts_with(b"r=abcdefghijklmnopqrstuvwx"));
}

#[tokio::test]
async fn speculation_inside_hello() {
    let proxy = Proxy::new().await;
    for mechanism in Scram::ALL {
        let (mut client, _) = proxy.connect();
        let (exchange, mut start) = sasl_start(mechanism, "shop", "pencil", true);
        start.insert("db", "shop");
        let body = doc! {
            "isMaster": 1,
            "saslSupportedMechs": "shop.shop",
            "speculativeAuthenticate": start,
        };
        client.send_query("admin.$cmd", &body).await;
        let hello = client.receive().await.unwrap().body();
        let names = hello.get_array("saslSupportedMechs").unwrap();
        assert_eq!(names, &vec!["SCRAM-SHA-1".into(), "SCRAM-SHA-256".into()]);
        let challenge = hello
            .get_document("speculativeAuthenticate")
            .unwrap()
            .clone();
        let last = client.finish(exchange, challenge).await;
        assert_eq!(last.get_bool("done").ok(), Some(true), "{last}");
        let status = client.command(doc! {"connectionStatus": 1}).await;
        let expected = doc! {
            "authInfo": {
                "authenticatedUsers": [{"user": "shop", "db": "shop"}],
                "authenticatedUserRoles": [
                    {"role": "readWrite", "db": "shop"},
                    {"role": "dbAdmin", "db": "shop"},
                ],
            },
            "ok": 1.0,
        };
        assert_eq!(status, expected);
    }
}

#[tokio::test]
async fn speculation_that_cannot_proceed_is_left_out() {
    let proxy = Proxy::new().await;
    let (_, start) = sasl_start(Scram::ScramSha256, "shop", "pencil", true);
    let mut unknown = start.clone();
    unknown.insert("mechanism", "MONGODB-X509");
    let mut broken = start;
    broken.insert("payload", binary(b"y,,n=shop"));
    for attempt in [unknown, broken, doc! {}] {
        let (mut client, _) = proxy.connect();
        let hello = client
            .command(doc! {"hello": 1, "speculativeAuthenticate": attempt})
            .await;
        assert_eq!(hello.get_f64("ok").ok(), Some(1.0));
        assert!(!hello.contains_key("speculativeAuthenticate"));
    }
}

#[tokio::test]
async fn names_cannot_be_probed() {
    let proxy = Proxy::new().await;
    let mechanisms = doc! {"hello": 1, "saslSupportedMechs": "admin.nobody"};
    let (mut client, _) = proxy.connect();
    let hello = client.command(mechanisms).await;
    assert_eq!(hello.get_array("saslSupportedMechs").unwrap().len(), 2);
    for mechanism in Scram::ALL {
        let mut replies: Vec<Doc> = Vec::new();
        for (user, password) in [("shop", "wrong"), ("nobody", "pencil")] {
            let (mut client, _) = proxy.connect();
            replies.push(client.authenticate(mechanism, user, password).await);
        }
        let expected = doc! {
            "ok": 0.0,
            "errmsg": "Authentication failed.",
            "code": 18,
            "codeName": "AuthenticationFailed",
        };
        assert_eq!(replies, [expected.clone(), expected]);
    }
}

#[tokio::test]
async fn a_dialogue_out_of_order_is_refused() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let (_, start) = sasl_start(Scram::ScramSha256, "shop", "pencil", true);
    let with = |key: &str, value: bson::Bson| {
        let mut body = start.clone();
        body.insert(key, value);
        body
    };
    let without = |key: &str| {
        let mut body = start.clone();
        body.remove(key);
        body
    };
    let cases = [
        (sasl_continue(b""), 17),
        (with("mechanism", "GSSAPI".into()), 334),
        (with("payload", "*".into()), 9),
        (with("payload", 1.into()), 14),
        (with("payload", binary(b"nonsense")), 18),
        (without("payload"), 40414),
        (without("mechanism"), 40414),
        // What failed has left no conversation behind.
        (sasl_continue(b""), 17),
    ];
    for (body, code) in cases {
        let reply = client.command(body.clone()).await;
        assert_eq!(reply.get_i32("code").ok(), Some(code), "{body}");
    }
    client.command(start).await;
    let mut other = sasl_continue(b"");
    other.insert("conversationId", 2);
    assert_eq!(client.command(other).await.get_i32("code").ok(), Some(17));
}

#[tokio::test]
async fn a_connection_belongs_to_one_app_for_ever() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_shop().await;
    let log_in = async |client: &mut Client<DuplexStream>, user: &str| {
        client
            .authenticate(Scram::ScramSha256, user, "pencil")
            .await
            .get_i32("code")
            .ok()
    };
    assert_eq!(log_in(&mut client, "shop").await, None);
    assert_eq!(log_in(&mut client, "shop-reports").await, Some(13));
    assert_eq!(log_in(&mut client, "notes").await, Some(13));
    assert_eq!(user_of(&mut client).await.as_deref(), Some("shop"));
    client.command(doc! {"logout": 1}).await;
    assert_eq!(user_of(&mut client).await, None);
    assert_eq!(
        client
            .command(doc! {"find": "c"})
            .await
            .get_i32("code")
            .ok(),
        Some(13)
    );
    assert_eq!(log_in(&mut client, "notes").await, Some(13));
    assert_eq!(log_in(&mut client, "shop-reports").await, None);
    assert_eq!(user_of(&mut client).await.as_deref(), Some("shop-reports"));
}

#[tokio::test]
async fn roles_decide() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    client
        .authenticate(Scram::ScramSha256, "shop-reports", "pencil")
        .await;
    for name in ["insert", "update", "delete", "createIndexes", "drop"] {
        let mut body = Doc::new();
        body.insert(name, "c");
        let reply = client.command(body).await;
        assert_eq!(reply.get_i32("code").ok(), Some(13), "{name}");
        assert!(
            reply.get_str("errmsg").unwrap().contains("roles"),
            "{reply}"
        );
    }
}

#[tokio::test]
async fn an_app_has_so_many_connections_and_no_more() {
    let limits = ClientLimits {
        connections_per_app_max: 1,
        ..LIMITS
    };
    let proxy = Proxy::with_limits(limits).await;
    let mut first = proxy.connect_shop().await;
    let (mut second, served) = proxy.connect();
    let refused = second
        .authenticate(Scram::ScramSha256, "shop", "pencil")
        .await;
    assert_eq!(refused.get_i32("code").ok(), Some(462));
    let labels = vec!["SystemOverloadedError".into(), "RetryableError".into()];
    assert_eq!(refused.get_array("errorLabels").ok(), Some(&labels));
    assert_eq!(served.await.unwrap(), CloseReason::Limit);
    // Another app has its own; who is in already may prove it again.
    let (mut other, _) = proxy.connect();
    assert_eq!(
        other
            .authenticate(Scram::ScramSha256, "notes", "pencil")
            .await
            .get_f64("ok")
            .ok(),
        Some(1.0)
    );
    assert_eq!(
        first
            .authenticate(Scram::ScramSha256, "shop", "pencil")
            .await
            .get_f64("ok")
            .ok(),
        Some(1.0)
    );
    first.command(doc! {"logout": 1}).await;
    proxy.connect_shop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_dialogue_is_closed() {
    let proxy = Proxy::new().await;
    let (mut client, served) = proxy.connect();
    client.command(doc! {"hello": 1}).await;
    tokio::time::advance(Duration::from_secs(3600)).await;
    client
        .command(sasl_start(Scram::ScramSha256, "shop", "pencil", true).1)
        .await;
    client.command(doc! {"ping": 1}).await;
    assert_eq!(served.await.unwrap(), CloseReason::HandshakeTimeout);
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_whose_credential_has_ended_is_closed_and_others_are_not() {
    let proxy = Proxy::new().await;
    let connect = async |user: &str| {
        let (mut client, served) = proxy.connect();
        client
            .authenticate(Scram::ScramSha256, user, "pencil")
            .await;
        (client, served)
    };
    let (_silent, ended) = connect("shop").await;
    let (mut other, _served) = connect("notes").await;
    let kept = proxy.shared.with_users(|users| {
        let verifier = users.verifier("notes").unwrap().clone();
        (verifier, Arc::clone(users.identity("notes").unwrap()))
    });
    let mut fresh = Credentials::new(Salts::new(b"key"));
    fresh.insert(kept.0, kept.1).unwrap();
    assert_eq!(proxy.shared.replace_users(fresh), 3);
    assert_eq!(ended.await.unwrap(), CloseReason::Authentication);
    assert_eq!(other.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
}

#[tokio::test]
async fn a_password_that_changes_while_it_is_proven_proves_nothing() {
    let proxy = Proxy::new().await;
    let (mut client, _) = proxy.connect();
    let (exchange, start) = sasl_start(Scram::ScramSha256, "shop", "pencil", true);
    let challenge = client.command(start).await;
    proxy
        .shared
        .replace_users(Credentials::new(Salts::new(b"key")));
    let reply = client.finish(exchange, challenge).await;
    assert_eq!(reply.get_i32("code").ok(), Some(18), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn after_so_many_failures_an_address_waits_for_the_next_minute() {
    let proxy = Proxy::new().await;
    let log_in = async |password: &str| {
        let (mut client, served) = proxy.connect();
        let reply = client
            .authenticate(Scram::ScramSha256, "shop", password)
            .await;
        (reply, served)
    };
    for _ in 0..LIMITS.failed_logins_per_address_max {
        assert_eq!(log_in("wrong").await.0.get_i32("code").ok(), Some(18));
    }
    for password in ["wrong", "pencil"] {
        let (reply, served) = log_in(password).await;
        assert_eq!(reply.get_i32("code").ok(), Some(462), "{reply}");
        let text = reply.get_str("errmsg").unwrap();
        assert!(text.contains("failed_logins_per_address_max"), "{text}");
        assert_eq!(served.await.unwrap(), CloseReason::Limit);
    }
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(log_in("pencil").await.0.get_bool("done").ok(), Some(true));
}

/// Codes, texts and replies of mongod 6.0.5.
#[tokio::test]
async fn a_certificate_is_the_proof_of_its_subject_and_of_nobody_else() {
    let proxy = Proxy::new().await;
    let ask = |more: Doc| {
        let mut body = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"};
        body.extend(more);
        body
    };
    let logged_in = doc! {"dbname": "$external", "user": SUBJECT, "ok": 1.0};
    let failed = |code: i32, name: &str, text: &str| doc! {"ok": 0.0, "errmsg": text, "code": code, "codeName": name};
    let other = "There is no x.509 client certificate matching the user.";
    let cases = [
        (Some(SUBJECT), ask(doc! {}), logged_in.clone()),
        (
            Some(SUBJECT),
            ask(doc! {"user": SUBJECT}),
            logged_in.clone(),
        ),
        (Some(SUBJECT), ask(doc! {"user": ""}), logged_in.clone()),
        (
            Some(SUBJECT),
            ask(doc! {"user": "shop"}),
            failed(18, "AuthenticationFailed", other),
        ),
        // A user with a password has no certificate, whatever somebody is called.
        (
            Some("shop"),
            ask(doc! {}),
            failed(
                11,
                "UserNotFound",
                "Could not find user \"shop\" for db \"$external\"",
            ),
        ),
        (
            None,
            ask(doc! {"user": SUBJECT}),
            failed(
                18,
                "AuthenticationFailed",
                "No verified subject name available from client",
            ),
        ),
        (
            Some(SUBJECT),
            ask(doc! {"$db": "admin"}),
            failed(
                17,
                "ProtocolError",
                "X.509 authentication must always use the $external database.",
            ),
        ),
        (
            Some(SUBJECT),
            ask(doc! {"mechanism": "SCRAM-SHA-256"}),
            failed(2, "BadValue", "Unsupported mechanism: SCRAM-SHA-256"),
        ),
        (
            Some(SUBJECT),
            doc! {"authenticate": 1, "$db": "$external"},
            failed(
                40414,
                "Location40414",
                "BSON field 'authenticate.mechanism' is missing but a required field",
            ),
        ),
        (
            Some(SUBJECT),
            ask(doc! {"user": 5}),
            failed(
                14,
                "TypeMismatch",
                "BSON field 'authenticate.user' is the wrong type 'int', expected type 'string'",
            ),
        ),
        (
            Some(SUBJECT),
            ask(doc! {"nonce": "a"}),
            failed(
                40415,
                "Location40415",
                "BSON field 'authenticate.nonce' is an unknown field.",
            ),
        ),
    ];
    for (subject, body, expected) in cases {
        let mut client = match subject {
            Some(subject) => proxy.connect_certified(subject),
            None => proxy.connect().0,
        };
        assert_eq!(client.command(body.clone()).await, expected, "{body}");
        let user = user_of(&mut client).await;
        assert_eq!(user.is_some(), expected == logged_in, "{body}");
    }
    // Wrong proofs count, wrong commands do not.
    assert!(proxy.shared.failures.has(PEER.ip(), 3, Instant::now()));
    assert!(!proxy.shared.failures.has(PEER.ip(), 4, Instant::now()));
    let rendered = proxy.shared.metrics.render();
    for (outcome, count) in [("ok", 3), ("failed", 3), ("refused", 0)] {
        let line = format!("{{mechanism=\"MONGODB-X509\",outcome=\"{outcome}\"}} {count}");
        assert!(rendered.contains(&line), "{line}");
    }
}

#[tokio::test]
async fn a_subject_that_is_no_name_is_told() {
    let proxy = Proxy::new().await;
    let mut client = proxy.connect_unwritable();
    let body = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "$db": "$external"};
    let refused = client.command(body).await;
    assert_eq!(refused.get_i32("code").ok(), Some(18), "{refused}");
    assert!(refused.get_str("errmsg").unwrap().contains("UTF8String"));
    assert_eq!(user_of(&mut client).await, None);
}

#[tokio::test]
async fn a_certificate_logs_in_inside_hello() {
    let proxy = Proxy::new().await;
    let attempt = doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "db": "$external"};
    let hello = doc! {"hello": 1, "speculativeAuthenticate": &attempt, "saslSupportedMechs": format!("$external.{SUBJECT}")};
    let mut client = proxy.connect_certified(SUBJECT);
    let reply = client.command(hello.clone()).await;
    let logged_in = doc! {"dbname": "$external", "user": SUBJECT};
    assert_eq!(
        reply.get_document("speculativeAuthenticate").ok(),
        Some(&logged_in)
    );
    assert_eq!(reply.get_array("saslSupportedMechs").unwrap().len(), 0);
    let status = client.command(doc! {"connectionStatus": 1}).await;
    let info = doc! {
        "authenticatedUsers": [{"user": SUBJECT, "db": "$external"}],
        "authenticatedUserRoles": [{"role": "read", "db": "$external"}],
    };
    assert_eq!(status.get_document("authInfo").ok(), Some(&info));
    let body = doc! {"usersInfo": SUBJECT, "$db": "$external"};
    let users = client.command(body).await;
    let user = users.get_array("users").unwrap()[0].as_document().unwrap();
    assert_eq!(
        user.get_array("mechanisms").unwrap(),
        &vec!["external".into()]
    );
    // What fails is left out, and not counted: the driver asks again, and is told why.
    let refused = [
        (Some("CN=nobody"), attempt.clone()),
        (None, attempt.clone()),
        (
            Some(SUBJECT),
            doc! {"authenticate": 1, "mechanism": "MONGODB-X509", "user": "CN=nobody"},
        ),
    ];
    for (subject, attempt) in refused {
        let mut client = match subject {
            Some(subject) => proxy.connect_certified(subject),
            None => proxy.connect().0,
        };
        let reply = client
            .command(doc! {"hello": 1, "speculativeAuthenticate": &attempt})
            .await;
        assert_eq!(reply.get_f64("ok").ok(), Some(1.0), "{reply}");
        assert!(!reply.contains_key("speculativeAuthenticate"), "{attempt}");
    }
    assert!(!proxy.shared.failures.has(PEER.ip(), 1, Instant::now()));
}

#[tokio::test]
async fn no_password_is_that_of_a_user_with_a_certificate() {
    let proxy = Proxy::new().await;
    for mechanism in Scram::ALL {
        let (mut client, _) = proxy.connect();
        let reply = client.authenticate(mechanism, SUBJECT, "pencil").await;
        assert_eq!(reply.get_i32("code").ok(), Some(18), "{reply}");
    }
}
