//! Too few connections, too many commands.

use super::*;
use mdb_tests::cursor_id;

const OVERLOADED: [&str; 2] = ["SystemOverloadedError", "RetryableError"];

/// Clients of an app that each wait for documents which never come.
async fn wait_for_documents(proxy: &TestProxy, app: &str, count: usize) -> Vec<RawClient> {
    let db = proxy.database_name();
    let mut first = proxy.raw(app).await;
    let create = doc! {"create": "log", "capped": true, "size": 4096, "$db": db};
    first.ok(&create).await;
    first
        .ok(&doc! {"insert": "log", "documents": [{}], "$db": db})
        .await;
    let mut waiting = Vec::new();
    for _ in 0..count {
        let mut client = proxy.raw(app).await;
        let tail = doc! {"find": "log", "tailable": true, "awaitData": true, "$db": db};
        let id = cursor_id(&client.ok(&tail).await);
        waiting.push((client, id));
    }
    let mut clients = Vec::new();
    for (mut client, id) in waiting {
        let more = doc! {"getMore": id, "collection": "log", "maxTimeMS": 3_600_000, "$db": db};
        client.send(0, &[Section::Body(&raw(&more))]).await;
        clients.push(client);
    }
    clients
}

async fn is_counted(proxy: &TestProxy, line: &str) {
    let what = format!("the metric {line}");
    eventually(&what, async || {
        let metrics = proxy.proxy().metrics().render();
        metrics.lines().any(|found| found == line).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_exhausted_pool_tells_why_and_what_drivers_may_do() {
    let builder = ProxyBuilder::new(shared().await)
        .upstream("pool: { connections_max: 1, checkout_timeout: 50ms }");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let mut other = proxy.raw("alice").await;
    other
        .ok(&doc! {"insert": "c", "documents": [{}], "$db": db})
        .await;
    let held = wait_for_documents(&proxy, "alice", 1).await;
    is_counted(&proxy, "mdb_runtime_upstream_leases{purpose=\"cursor\"} 1").await;
    let number = doc! {"lsid": session(), "txnNumber": 1_i64};
    let mut insert = doc! {"insert": "c", "documents": [{}]};
    let mut in_transaction = insert.clone();
    insert.extend(number.clone());
    in_transaction.extend(number);
    in_transaction.extend(doc! {"startTransaction": true, "autocommit": false});
    for (mut command, more) in [
        (doc! {"find": "c"}, vec![]),
        (insert, vec!["RetryableWriteError", "NoWritesPerformed"]),
        (in_transaction, vec!["TransientTransactionError"]),
    ] {
        command.insert("$db", db);
        let reply = other.command(&command).await;
        assert_eq!(reply.get_i32("code").unwrap(), 462, "{reply}");
        assert_eq!(labels(&reply), [&OVERLOADED[..], &more].concat());
        let text = reply.get_str("errmsg").unwrap();
        let own =
            "this app holds 1 of at most 1, 1 by getMore, 0 in transactions, 0 by other commands";
        assert!(text.contains(own), "{text}");
    }
    drop(held);
    is_counted(&proxy, "mdb_runtime_upstream_leases{purpose=\"cursor\"} 0").await;
    other.ok(&doc! {"find": "c", "$db": db}).await;
}

/// One app's commands that never end take three of four connections, and wait for the fourth in vain.
#[tokio::test]
async fn an_app_that_takes_all_it_can_does_not_stop_another() {
    let builder = ProxyBuilder::new(shared().await)
        .upstream("pool: { connections_max: 4, checkout_timeout: 1h }");
    let proxy = builder.app("alice").app("bob").start().await;
    let db = proxy.database_name();
    let mut bob = proxy.raw("bob").await;
    bob.ok(&doc! {"insert": "c", "documents": [{}], "$db": db})
        .await;
    let held = wait_for_documents(&proxy, "alice", 10).await;
    is_counted(&proxy, "mdb_runtime_upstream_leases{purpose=\"cursor\"} 3").await;
    is_counted(&proxy, "mdb_runtime_upstream_waiting{for=\"connection\"} 7").await;
    for _ in 0..50 {
        bob.ok(&doc! {"find": "c", "$db": db}).await;
    }
    drop(held);
}

/// While there is no primary, so many commands wait, and are done when there is one again.
#[tokio::test]
async fn so_many_commands_wait_for_a_primary_and_no_more() {
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .start()
        .await
        .unwrap();
    logs::expect("mdb_upstream::probe");
    let builder = ProxyBuilder::new(&deployment)
        .upstream("waiting_max: 2")
        .upstream("election_wait: 1h");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(proxy.raw("alice").await);
    }
    clients[0]
        .ok(&doc! {"insert": "c", "documents": [{"_id": 0}], "$db": db})
        .await;
    deployment.member(0).kill().unwrap();
    let insert = |id: i32| {
        let documents = [doc! {"_id": id}];
        doc! {"insert": "c", "documents": documents, "lsid": session(), "txnNumber": 1_i64, "$db": db}
    };
    for (id, client) in (1..).zip(&mut clients[..2]) {
        client.send(0, &[Section::Body(&raw(&insert(id)))]).await;
    }
    is_counted(&proxy, "mdb_runtime_upstream_waiting{for=\"member\"} 2").await;
    let reply = clients[2].command(&insert(3)).await;
    assert_eq!(reply.get_i32("code").unwrap(), 462, "{reply}");
    assert!(
        reply
            .get_str("errmsg")
            .unwrap()
            .contains("upstream.waiting_max")
    );
    let more = ["RetryableWriteError", "NoWritesPerformed"];
    assert_eq!(labels(&reply), [OVERLOADED, more].concat());
    let limit = "mdb_runtime_limits_reached_total{limit=\"waiting_max\"} 1";
    is_counted(&proxy, limit).await;
    deployment.member(0).restart().await.unwrap();
    for client in &mut clients[..2] {
        assert!(is_ok(&client.receive().await.unwrap().document()));
    }
    let found = clients[2].ok(&doc! {"count": "c", "$db": db}).await;
    assert_eq!(found.get_i32("n").unwrap(), 3);
}
