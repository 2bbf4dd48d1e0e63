use mdb_scope::{ReadMode, ReadPreference};
use mdb_testbed::{Deployment, PROXY_PASSWORD};

use super::*;
use crate::{frame, hello::DeploymentKind, lease::Lease};

async fn upstream(uri: String) -> Upstream {
    let options = UpstreamOptions::new(Secret::new(uri));
    Upstream::start(options, Metrics::new()).await.unwrap()
}

async fn lease(upstream: &Upstream, routing: &Routing) -> Lease {
    upstream.lend(routing, &borrower(), soon()).await.unwrap()
}

async fn run(lease: &mut Lease, body: &bson::RawDocument) -> bson::Document {
    let reply = lease
        .exchange_frame(&frame::command(body, 9), 9, &crate::Unbounded)
        .await
        .unwrap();
    frame::body(&reply).unwrap().try_into().unwrap()
}

async fn ping(lease: &mut Lease) {
    let reply = run(lease, &bson::rawdoc! { "ping": 1, "$db": "admin" }).await;
    assert!(crate::hello::is_ok(&reply), "{reply}");
}

fn insert() -> bson::RawDocumentBuf {
    bson::rawdoc! { "insert": "c", "documents": [{ "x": 1 }], "$db": "shop" }
}

#[tokio::test]
async fn commands_follow_the_primary() {
    let deployment = Deployment::replica_set(3)
        .with_auth()
        .start()
        .await
        .unwrap();
    let upstream = upstream(deployment.proxy_uri()).await;
    assert!(upstream.has_authentication());
    let hello = upstream
        .hello()
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(hello.version, deployment.version());
    assert_eq!(hello.kind, DeploymentKind::ReplicaSet);
    assert_eq!(hello.max_bson_object_size, 16 * 1024 * 1024);

    let secondary = Routing::Preference(ReadPreference {
        mode: ReadMode::Secondary,
        tag_sets: Vec::new(),
        max_staleness_seconds: Some(90),
    });
    let mut held = lease(&upstream, &Routing::Primary).await;
    let mut other = lease(&upstream, &secondary).await;
    assert_ne!(held.server(), other.server());
    ping(&mut other).await;
    drop(other);
    let reply = run(&mut held, &insert()).await;
    assert!(crate::hello::is_ok(&reply), "{reply}");

    deployment.step_down().await.unwrap();
    // The old primary keeps its connections, and says what it is no more.
    let reply = run(&mut held, &insert()).await;
    let code = reply.get_i32("code").unwrap();
    assert!(state_change(code).is_some(), "{reply}");
    let (server, generation) = (held.server().clone(), held.generation());
    upstream.report(&server, generation, code);
    drop(held);
    let mut held = lease(&upstream, &Routing::Primary).await;
    assert_ne!(held.server(), &server);
    let reply = run(&mut held, &insert()).await;
    assert!(crate::hello::is_ok(&reply), "{reply}");

    let server = held.server().clone();
    deployment.kill_primary().await.unwrap();
    let error = held
        .exchange_frame(&fake::command("ping", 9), 9, &crate::Unbounded)
        .await
        .unwrap_err();
    assert!(error.is_network(), "{error}");
    let member = Routing::Member(server.clone());
    assert!(upstream.lend(&member, &borrower(), soon()).await.is_err());
    // The one that stepped down may not stand for election yet: this can outlast the wait.
    let mut next = upstream.lend(&Routing::Primary, &borrower(), soon()).await;
    while matches!(next, Err(UpstreamError::NoServer { .. })) {
        next = upstream.lend(&Routing::Primary, &borrower(), soon()).await;
    }
    let mut next = next.unwrap();
    assert_ne!(next.server(), &server);
    ping(&mut next).await;
    upstream.shut_down().await;
    assert_eq!(
        upstream
            .lend(&Routing::Primary, &borrower(), soon())
            .await
            .unwrap_err()
            .code(),
        91
    );
}

#[tokio::test]
async fn wrong_credentials_are_told_apart() {
    let deployment = Deployment::standalone().with_auth().start().await.unwrap();
    let right = upstream(deployment.proxy_uri()).await;
    let mut held = lease(&right, &Routing::Primary).await;
    ping(&mut held).await;
    let hello = right
        .hello()
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(hello.kind, DeploymentKind::Standalone);
    let names = right.control().list_database_names().await.unwrap();
    assert!(names.contains(&"admin".to_owned()), "{names:?}");

    let wrong = deployment
        .proxy_uri()
        .replace(&format!(":{PROXY_PASSWORD}@"), ":mistaken@");
    let wrong = upstream(wrong).await;
    let error = wrong
        .lend(&Routing::Primary, &borrower(), soon())
        .await
        .unwrap_err();
    assert!(
        matches!(error, UpstreamError::Authentication { .. }),
        "{error}"
    );
    assert!(!format!("{error:?}").contains("mistaken"), "{error:?}");
    right.shut_down().await;
    wrong.shut_down().await;
}

#[tokio::test]
async fn a_paused_primary_does_not_stop_the_others() {
    let deployment = Deployment::replica_set(3).start().await.unwrap();
    let upstream = upstream(deployment.proxy_uri()).await;
    let mut held = lease(&upstream, &Routing::Primary).await;
    ping(&mut held).await;
    let paused = deployment.primary().await.unwrap();
    deployment.member(paused).pause().unwrap();
    let secondaries = Routing::Preference(ReadPreference {
        mode: ReadMode::Secondary,
        tag_sets: Vec::new(),
        max_staleness_seconds: None,
    });
    let mut other = lease(&upstream, &secondaries).await;
    ping(&mut other).await;
    assert_ne!(other.server(), held.server());
    // The set elects another, and the proxy hears of it from that one.
    let new = loop {
        let lease = lease(&upstream, &Routing::Primary).await;
        if lease.server() != held.server() {
            break lease;
        }
        upstream.topology().changed().await.unwrap();
    };
    assert_ne!(new.server(), held.server());
    deployment.member(paused).resume().unwrap();
    upstream.shut_down().await;
}
