//! Clients that fail.

use super::*;

async fn administrator(deployment: &Deployment) -> Client {
    Client::with_uri_str(deployment.uri()).await.unwrap()
}

/// Operations, idle cursors and idle sessions of a server that match.
async fn operations(administrator: &Client, filter: Document) -> usize {
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleCursors": true, "idleSessions": true, "localOps": true}},
        doc! {"$match": filter},
    ];
    let found = administrator.database("admin").aggregate(pipeline).await;
    let found: Vec<Document> = futures_util::TryStreamExt::try_collect(found.unwrap())
        .await
        .unwrap();
    found.len()
}

/// A join of every document with every other, twice: longer than any test.
fn endless(db: &str, comment: &str) -> Document {
    let inner = doc! {"$lookup": {"from": "many", "pipeline": [{"$count": "n"}], "as": "x"}};
    let outer = doc! {"$lookup": {"from": "many", "pipeline": [inner, {"$count": "n"}], "as": "x"}};
    doc! {
        "aggregate": "many", "pipeline": [outer, {"$match": {"x": 0}}], "cursor": {}, "comment": comment, "$db": db,
    }
}

#[tokio::test]
async fn who_vanishes_in_the_middle_of_a_command_leaves_no_work_behind() {
    let proxy = TestProxy::start(shared().await, &["alice"]).await;
    let server = administrator(shared().await).await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let documents: Vec<Document> = (0..3_000).map(|n| doc! {"_id": n}).collect();
    alice
        .ok(&doc! {"insert": "many", "documents": documents, "$db": db})
        .await;
    let comment = unique_name("vanishing");
    alice
        .send(0, &[Section::Body(&raw(&endless(db, &comment)))])
        .await;
    let running = doc! {"command.comment": &comment, "active": true};
    eventually("the command runs upstream", async || {
        (operations(&server, running.clone()).await > 0).then_some(())
    })
    .await;
    drop(alice);
    eventually("the command has ended upstream", async || {
        (operations(&server, running.clone()).await == 0).then_some(())
    })
    .await;
    eventually("no connection is held for it", async || {
        let metrics = proxy.proxy().metrics().render();
        let line = "mdb_runtime_upstream_leases{purpose=\"command\"} 0\n";
        metrics.contains(line).then_some(())
    })
    .await;
}

/// The server does a write, and its client is gone before it is answered. It is done once, as on a mongod; the connection
/// on which the answer may still come is closed and never used again; nothing is left open.
#[tokio::test]
async fn a_write_that_has_begun_is_finished_once_when_its_client_vanishes() {
    let line = Line::new().await;
    let server = administrator(shared().await).await;
    let db = line.db.as_str();
    let lsid = session();
    let given_up = || {
        let metrics = line.proxy.proxy().metrics().render();
        let name = "mdb_runtime_upstream_connections_closed_total{reason=\"poisoned\"} ";
        let found = metrics.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap().parse::<usize>().unwrap()
    };
    let writes = [raise(db, None), raise(db, Some((&lsid, 1)))];
    for (expected, write) in (1..).zip(writes) {
        let before = given_up();
        let mut vanishing = line.proxy.raw("alice").await;
        line.relay.set(Weather::Replies(Harm::Withheld));
        vanishing.send(0, &[Section::Body(&raw(&write))]).await;
        eventually("the server has done it", async || {
            (line.raised().await == expected).then_some(())
        })
        .await;
        drop(vanishing);
        eventually("its connection upstream is given up", async || {
            (given_up() == before + 1).then_some(())
        })
        .await;
        line.relay.set(Weather::Fair);
        // Whoever comes next gets an answer of its own, and sees the write once.
        let mut next = line.proxy.raw("alice").await;
        let found = next.ok(&doc! {"find": "c", "$db": db}).await;
        let found = mdb_tests::batch(&found);
        assert_eq!(found[0].get_i32("n").unwrap(), expected);
    }
    let metrics = line.proxy.proxy().metrics().render();
    assert!(metrics.contains("mdb_runtime_upstream_leases{purpose=\"command\"} 0\n"));
    let of_db = doc! {"$regex": format!("^{db}\\.")};
    for left in [
        doc! {"ns": of_db, "$or": [{"active": true}, {"type": "idleCursor"}]},
        doc! {"lsid.id": lsid.get("id").unwrap(), "transaction": {"$exists": true}},
    ] {
        assert_eq!(operations(&server, left).await, 0);
    }
}

/// What is open on the server: cursors of a database, transactions, and the sessions in question.
#[derive(Debug, PartialEq, Eq)]
struct Open {
    cursors: usize,
    transactions: usize,
    sessions: usize,
}

/// The sessions that have a cursor or a transaction open.
async fn sessions_in_use(server: &Client, db: &str) -> Vec<Document> {
    let of_db = doc! {"type": "idleCursor", "ns": {"$regex": format!("^{db}\\.")}};
    let in_transaction = doc! {"type": "idleSession", "transaction": {"$exists": true}};
    let pipeline = [
        doc! {"$currentOp": {"allUsers": true, "idleCursors": true, "idleSessions": true, "localOps": true}},
        doc! {"$match": {"lsid": {"$exists": true}, "$or": [of_db, in_transaction]}},
        doc! {"$group": {"_id": "$lsid.id"}},
    ];
    let found = server.database("admin").aggregate(pipeline).await;
    futures_util::TryStreamExt::try_collect(found.unwrap())
        .await
        .unwrap()
}

async fn open(server: &Client, db: &str, sessions: &[Document]) -> Open {
    let transactions = doc! {"type": "idleSession", "transaction": {"$exists": true}};
    let cursors = doc! {"type": "idleCursor", "ns": {"$regex": format!("^{db}\\.")}};
    let ids: Vec<_> = sessions.iter().map(|s| s.get("_id").unwrap()).collect();
    let pipeline = [
        doc! {"$listSessions": {"allUsers": true}},
        doc! {"$match": {"_id.id": {"$in": ids}}},
    ];
    let stored = server
        .database("config")
        .collection::<Document>("system.sessions");
    let found = stored.aggregate(pipeline).await;
    let found: Vec<Document> = futures_util::TryStreamExt::try_collect(found.unwrap())
        .await
        .unwrap();
    Open {
        cursors: operations(server, cursors).await,
        transactions: operations(server, transactions).await,
        sessions: found.len(),
    }
}

/// Leaves a cursor with a session, one without, and a transaction.
async fn open_some(client: &mut RawClient, db: &str) {
    let documents: Vec<Document> = (0..10).map(|_| doc! {}).collect();
    client
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let find = doc! {"find": "c", "batchSize": 1, "$db": db};
    client.ok(&find).await;
    client
        .ok(&doc! {"find": "c", "batchSize": 1, "lsid": session(), "$db": db})
        .await;
    client
        .ok(&doc! {
            "insert": "c", "documents": [{}], "lsid": session(), "txnNumber": 1_i64,
            "autocommit": false, "startTransaction": true, "$db": db,
        })
        .await;
}

/// On a server of the test's own, whose sessions are all the proxy's.
#[tokio::test]
async fn what_a_client_that_died_left_open_is_ended() {
    // The server writes down sessions in use and takes off ended ones at each refresh, as a rule after five minutes.
    let deployment = Deployment::replica_set(1)
        .with_auth()
        .mongod_args(&["--setParameter", "logicalSessionRefreshMillis=500"])
        .start()
        .await
        .unwrap();
    let server = administrator(&deployment).await;
    let builder = ProxyBuilder::new(&deployment).limit("abandoned_after: 10ms");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let hello = |name: &str| {
        let driver = doc! {"name": name, "version": "1"};
        let client = doc! {"driver": driver, "os": {"type": "x"}};
        doc! {"hello": 1, "client": client, "$db": "admin"}
    };
    let connect = async |name: &str| {
        let mut client = proxy.raw_stranger().await;
        client.ok(&hello(name)).await;
        let user = proxy.user_name("alice");
        let mechanism = mdb_auth::Mechanism::ScramSha256;
        client.log_in(mechanism, &user, mdb_tests::PASSWORD).await;
        client
    };
    let mut warm = connect("warm").await;
    warm.ok(&doc! {"insert": "c", "documents": [{}], "$db": db})
        .await;
    let nothing = Open {
        cursors: 0,
        transactions: 0,
        sessions: 0,
    };
    assert_eq!(open(&server, db, &[]).await, nothing);

    // It lives as long as its monitor does, whatever becomes of its other connections.
    let mut monitor = proxy.raw_stranger().await;
    monitor.ok(&hello("living")).await;
    let mut living = connect("living").await;
    open_some(&mut living, db).await;
    drop(living);
    let mut dead = connect("dead").await;
    let other = connect("dead").await;
    open_some(&mut dead, db).await;
    let sessions = sessions_in_use(&server, db).await;
    let of_both = Open {
        cursors: 4,
        transactions: 2,
        sessions: 4,
    };
    eventually("the sessions are written down", async || {
        (open(&server, db, &sessions).await == of_both).then_some(())
    })
    .await;
    drop((dead, other));
    let becomes = async |expected: Open| {
        eventually("what a dead client left is ended", async || {
            let now = open(&server, db, &sessions).await;
            let is_more = now.cursors > expected.cursors
                || now.transactions > expected.transactions
                || now.sessions > expected.sessions;
            (!is_more).then(|| assert_eq!(now, expected))
        })
        .await;
    };
    let of_the_living = Open {
        cursors: 2,
        transactions: 1,
        sessions: 2,
    };
    becomes(of_the_living).await;
    drop(monitor);
    becomes(nothing).await;
    let metrics = proxy.proxy().metrics().render();
    let idle = "mdb_runtime_upstream_connections{state=\"in_use\"} 0\n";
    assert!(metrics.contains(idle), "no upstream connection is held");
}

/// A cursor of which nobody knows: the member opened it, and the reply was on its way when the client died. The session leads to
/// it, on whichever member it is; a member that cannot be reached is asked again.
#[tokio::test]
async fn what_a_client_that_died_left_open_on_a_secondary_is_ended() {
    let (deployment, relays, [uri, _]) = relayed().await;
    logs::expect("mdb_upstream::probe");
    let builder = ProxyBuilder::at(&uri).limit("abandoned_after: 10ms");
    let proxy = builder.app("alice").start().await;
    let db = proxy.database_name();
    let documents: Vec<Document> = (0..10).map(|n| doc! {"_id": n}).collect();
    let insert = doc! {"insert": "c", "documents": documents, "writeConcern": {"w": 3}, "$db": db};
    let mut living = proxy.raw("alice").await;
    living.ok(&insert).await;
    let primary = deployment.primary().await.unwrap();
    let secondaries = (0..3).filter(|member| *member != primary);
    let mut servers = Vec::new();
    for member in secondaries {
        let uri = deployment.direct_uri(member);
        servers.push((member, Client::with_uri_str(uri).await.unwrap()));
    }
    let cursors = doc! {"type": "idleCursor", "ns": format!("{db}.c")};
    let holder = async || {
        for (member, server) in &servers {
            if operations(server, cursors.clone()).await > 0 {
                return Some(*member);
            }
        }
        None
    };
    for is_cut_off in [false, true] {
        let mut dying = proxy.raw_stranger().await;
        let driver = doc! {"name": format!("dying-{is_cut_off}"), "version": "1"};
        let client = doc! {"driver": driver, "os": {"type": "x"}};
        dying
            .ok(&doc! {"hello": 1, "client": client, "$db": "admin"})
            .await;
        let mechanism = mdb_auth::Mechanism::ScramSha256;
        dying
            .log_in(mechanism, &proxy.user_name("alice"), mdb_tests::PASSWORD)
            .await;
        let find = doc! {
            "find": "c", "batchSize": 1, "lsid": session(), "$db": db,
            "$readPreference": {"mode": "secondary"},
        };
        // Nothing is to be learned of the collection when replies are withheld.
        let whole = cursor_id(&dying.ok(&find).await);
        let kill = doc! {"killCursors": "c", "cursors": [whole], "$db": db};
        dying.ok(&kill).await;
        for (member, _) in &servers {
            relays[*member].set(Weather::Replies(Harm::Withheld));
        }
        dying.send(0, &[Section::Body(&raw(&find))]).await;
        let member = eventually("a secondary has opened a cursor", holder).await;
        for (member, _) in &servers {
            relays[*member].set(Weather::Fair);
        }
        if is_cut_off {
            relays[member].set(Weather::Down);
        }
        drop(dying);
        if is_cut_off {
            // Somebody else is served; the kills go out meanwhile, and the member does not get its own.
            let poisoned = "mdb_runtime_upstream_connections_closed_total{reason=\"poisoned\"} 2\n";
            eventually("the command is given up", async || {
                let metrics = proxy.proxy().metrics().render();
                metrics.contains(poisoned).then_some(())
            })
            .await;
            living.ok(&doc! {"find": "c", "$db": db}).await;
            assert_eq!(holder().await, Some(member));
            relays[member].set(Weather::Fair);
        }
        eventually("the cursor is closed", async || {
            holder().await.is_none().then_some(())
        })
        .await;
    }
}

/// `killSessions` ends what a session has open on any member, as a mongos sees to it: the cursor of a read on a secondary is
/// gone when the client is answered. It is answered also while a member says nothing.
#[tokio::test]
async fn what_a_killed_session_has_open_on_a_secondary_is_ended() {
    let (deployment, relays, [uri, _]) = relayed().await;
    let proxy = ProxyBuilder::at(&uri).app("alice").app("bob").start().await;
    let db = proxy.database_name();
    let (mut alice, mut bob) = (proxy.raw("alice").await, proxy.raw("bob").await);
    let primary = deployment.primary().await.unwrap();
    let mut secondaries = Vec::new();
    for member in (0..3).filter(|member| *member != primary) {
        let uri = deployment.direct_uri(member);
        secondaries.push(Client::with_uri_str(uri).await.unwrap());
    }
    let id = session();
    for (client, first) in [(&mut alice, 0), (&mut bob, 100)] {
        let documents: Vec<Document> = (first..first + 10).map(|n| doc! {"_id": n}).collect();
        let insert =
            doc! {"insert": "c", "documents": documents, "writeConcern": {"w": 3}, "$db": db};
        client.ok(&insert).await;
    }
    let find = doc! {
        "find": "c", "batchSize": 1, "lsid": &id, "$readPreference": {"mode": "secondary"}, "$db": db,
    };
    let more = |cursor: i64| doc! {"getMore": cursor, "collection": "c", "lsid": &id, "batchSize": 1, "$db": db};
    let open = async || {
        let mut count = 0;
        for server in &secondaries {
            count += operations(server, doc! {"type": "idleCursor", "ns": format!("{db}.c")}).await;
        }
        count
    };
    // Another app knows its own session by the same id.
    let others = cursor_id(&bob.ok(&find).await);
    let kill_one = doc! {"killSessions": [&id], "$db": "admin"};
    let kill_all = doc! {"killAllSessions": [], "$db": "admin"};
    for kill in [&kill_one, &kill_all] {
        let own = cursor_id(&alice.ok(&find).await);
        assert_eq!(open().await, 2);
        proxy.raw("alice").await.ok(kill).await;
        assert_eq!(open().await, 1, "{kill}");
        assert_eq!(alice.fails(&more(own)).await, 43);
    }
    let own = cursor_id(&alice.ok(&find).await);
    let mut killer = proxy.raw("alice").await;
    for member in (0..3).filter(|member| *member != primary) {
        relays[member].set(Weather::Replies(Harm::Withheld));
    }
    killer.ok(&kill_one).await;
    for relay in &relays {
        relay.set(Weather::Fair);
    }
    assert_eq!(alice.fails(&more(own)).await, 43);
    bob.ok(&more(others)).await;
}

/// Its replies wait in the proxy, one at a time, and hold no connection to the server: the only one is free for others.
#[tokio::test]
async fn who_stops_reading_holds_nothing_that_others_need() {
    let builder = ProxyBuilder::new(shared().await)
        .upstream("pool: { connections_max: 1, checkout_timeout: 1h }");
    let proxy = builder.app("alice").app("bob").start().await;
    let db = proxy.database_name();
    let mut alice = proxy.raw("alice").await;
    let long = "x".repeat(1_000_000);
    let documents: Vec<Document> = (0..8).map(|n| doc! {"_id": n, "long": &long}).collect();
    alice
        .ok(&doc! {"insert": "c", "documents": documents, "$db": db})
        .await;
    let find = raw(&doc! {"find": "c", "$db": db});
    for _ in 0..8 {
        alice.send(0, &[Section::Body(&find)]).await;
    }
    let mut bob = proxy.raw("bob").await;
    for n in 0..20 {
        // Other ids than alice's, as they share a collection.
        bob.ok(&doc! {"insert": "c", "documents": [{"_id": 100 + n}], "$db": db})
            .await;
    }
    // It gets all of them when it reads again.
    for _ in 0..8 {
        assert!(is_ok(&alice.receive().await.unwrap().document()));
    }
}

/// A reply of 15 MB waits in the proxy where its client does not read: sockets take less.
const LARGE_BYTES: usize = 15_000_000;

/// Two apps, the first with documents that one `find` gives in a reply of [`LARGE_BYTES`].
async fn with_large_replies(unread_timeout: &str) -> TestProxy {
    let builder = ProxyBuilder::new(shared().await)
        .limit("unread_bytes_per_app_max: 31000000")
        .limit(&format!("unread_timeout: {unread_timeout}"));
    let proxy = builder.app("alice").app("bob").start().await;
    let long = "x".repeat(LARGE_BYTES / 15);
    let documents: Vec<Document> = (0..15).map(|n| doc! {"_id": n, "long": &long}).collect();
    let mut alice = proxy.raw("alice").await;
    for documents in documents.chunks(5) {
        let insert = doc! {"insert": "c", "documents": documents, "$db": proxy.database_name()};
        alice.ok(&insert).await;
    }
    proxy
}

/// Sends the `find` and does not read. Its reply has come from the server when this returns; `nth` such reply it is.
async fn ask(proxy: &TestProxy, client: &mut RawClient, nth: usize) {
    send_find(proxy, client).await;
    eventually("the reply waits", async || {
        has_found(proxy, nth).then_some(())
    })
    .await;
}

/// Whether alice's `find` has been answered so often.
fn has_found(proxy: &TestProxy, times: usize) -> bool {
    let app = proxy.user_name("alice");
    let metrics = proxy.proxy().metrics().render();
    metrics.lines().any(|line| {
        line.starts_with("mdb_runtime_commands_total{")
            && line.contains(&app)
            && line.ends_with(&format!("command=\"find\",outcome=\"ok\"}} {times}"))
    })
}

async fn send_find(proxy: &TestProxy, client: &mut RawClient) {
    let find = raw(&doc! {"find": "c", "$db": proxy.database_name()});
    client.send(0, &[Section::Body(&find)]).await;
}

fn closed_for_room(proxy: &TestProxy) -> usize {
    let name = "mdb_runtime_limits_reached_total{limit=\"unread_bytes_per_app_max\"} ";
    let metrics = proxy.proxy().metrics().render();
    let found = metrics.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap().parse().unwrap()
}

/// At the limit nobody is closed, whoever reads gets its reply, and one beyond waits until there is room.
#[tokio::test]
async fn replies_beyond_the_limit_wait_for_those_that_are_read() {
    let proxy = with_large_replies("24h").await;
    let (mut first, mut second) = (proxy.raw("alice").await, proxy.raw("alice").await);
    ask(&proxy, &mut first, 1).await;
    ask(&proxy, &mut second, 2).await;
    let mut beyond = proxy.raw("alice").await;
    send_find(&proxy, &mut beyond).await;
    // Neither small replies nor other apps are held up.
    let mut other = proxy.raw("alice").await;
    let one = doc! {"find": "c", "projection": {"_id": 1}, "$db": proxy.database_name()};
    other.ok(&one).await;
    proxy.raw("bob").await.ok(&one).await;
    assert!(has_found(&proxy, 3), "the one beyond has not come");
    for client in [&mut first, &mut beyond, &mut second] {
        let reply = client.receive().await.unwrap().document();
        assert_eq!(mdb_tests::batch(&reply).len(), 15);
    }
    assert_eq!(closed_for_room(&proxy), 0);
}

/// Who takes nothing while others need the room loses its connection, the longest silent first.
#[tokio::test]
async fn who_does_not_read_makes_room_for_others() {
    let proxy = with_large_replies("10ms").await;
    let (mut first, mut second) = (proxy.raw("alice").await, proxy.raw("alice").await);
    ask(&proxy, &mut first, 1).await;
    ask(&proxy, &mut second, 2).await;
    assert_eq!(closed_for_room(&proxy), 0);
    let mut beyond = proxy.raw("alice").await;
    ask(&proxy, &mut beyond, 3).await;
    assert_eq!(closed_for_room(&proxy), 1);
    for client in [&mut beyond, &mut second] {
        let reply = client.receive().await.unwrap().document();
        assert_eq!(mdb_tests::batch(&reply).len(), 15);
    }
    assert!(first.receive().await.is_none());
}
