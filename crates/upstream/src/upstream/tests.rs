use super::*;
use crate::{
    fake::{self, FakeServer},
    pool::Counts,
    queue::borrower,
};

/// Tests against real servers.
mod deployment;
/// Tests against real servers with TLS.
mod encrypted;

struct Bench {
    core: Arc<Core>,
    server: FakeServer,
}

impl Bench {
    /// A replica set of one member that is the fake server.
    async fn new(hello: bson::Document, change: impl FnOnce(&mut UpstreamOptions)) -> Self {
        let server = FakeServer::start(hello).await;
        let core = start(change).await;
        core.board.publish(News::Members {
            kind: TopologyKind::ReplicaSet,
            addresses: vec![server.address.clone()],
        });
        Self { core, server }
    }

    fn counts(&self) -> Counts {
        self.core.pools.member(&self.server.address).pool.counts()
    }

    async fn until(&self, kind: MemberKind) {
        let is_it = |topology: &Arc<Topology>| {
            topology
                .member(&self.server.address)
                .is_some_and(|member| member.kind == kind)
        };
        self.core
            .board
            .watch_topology()
            .wait_for(is_it)
            .await
            .unwrap();
    }
}

async fn start(change: impl FnOnce(&mut UpstreamOptions)) -> Arc<Core> {
    let mut options = UpstreamOptions::new(Secret::new("mongodb://unused:1".to_owned()));
    change(&mut options);
    let (_, connector) = uri::read(&options).await.unwrap();
    Arc::new(Core::start(&options, connector, Metrics::new()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

#[tokio::test]
async fn a_waiting_command_goes_on_when_a_primary_appears() {
    let bench = Bench::new(fake::secondary(), |_| {}).await;
    let core = Arc::clone(&bench.core);
    let waiting =
        tokio::spawn(async move { core.lend(&Routing::Primary, &borrower(), soon()).await });
    bench.until(MemberKind::Secondary).await;
    assert!(!waiting.is_finished());
    bench.server.say(fake::primary());
    let lease = waiting.await.unwrap().unwrap();
    assert_eq!(lease.server(), &bench.server.address);
    assert!(!bench.core.board.has_waiting());
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_server_ends() {
    let core = start(|_| {}).await;
    let now = Instant::now();
    for (routing, seconds, expected) in [
        (Routing::Primary, 3, "Deadline"),
        (Routing::Primary, 60, "NoServer"),
        (Routing::Member("a:1".into()), 60, "NoServer"),
    ] {
        let deadline = Instant::now() + Duration::from_secs(seconds);
        let error = core
            .lend(&routing, &borrower(), deadline)
            .await
            .unwrap_err();
        assert!(format!("{error:?}").starts_with(expected), "{error:?}");
    }
    // 3 of the first, 20 of the second, 5 of the third.
    assert_eq!(now.elapsed().as_secs(), 28);
}

#[tokio::test(start_paused = true)]
async fn so_many_wait_for_a_server_and_no_more() {
    let core = start(|options| {
        options.waiting_max = 1;
        options.election_wait = Duration::from_secs(3);
    })
    .await;
    let now = Instant::now();
    let borrower = borrower();
    let waits = core.lend(&Routing::Primary, &borrower, soon());
    let shed = core.lend(&Routing::Primary, &borrower, soon());
    let (waits, shed) = tokio::join!(waits, shed);
    assert!(matches!(waits, Err(UpstreamError::NoServer { .. })));
    assert!(matches!(
        shed,
        Err(UpstreamError::TooManyWaiting { waiting: 1 })
    ));
    assert_eq!(now.elapsed().as_secs(), 3);
    assert!(!core.board.has_waiting());
    let metrics = core.metrics.render();
    for line in [
        "mdb_runtime_limits_reached_total{limit=\"waiting_max\"} 1",
        "mdb_runtime_upstream_waiting{for=\"member\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test]
async fn connections_are_ready_before_they_are_needed() {
    let bench = Bench::new(fake::primary(), |options| options.connections_min = 3).await;
    bench.until(MemberKind::Primary).await;
    let ready = async {
        while bench.counts().idle < 3 {
            tokio::task::yield_now().await;
        }
    };
    ready.await;
    assert_eq!(bench.server.used(), 0);
    assert_eq!((bench.counts().lent, bench.counts().connecting), (0, 0));
}

#[tokio::test]
async fn nobody_waits_for_a_member_that_left() {
    let bench = Bench::new(fake::primary(), |_| {}).await;
    let error = bench
        .core
        .lend(&Routing::Member("left:1".into()), &borrower(), soon())
        .await
        .unwrap_err();
    assert!(matches!(error, UpstreamError::NoServer { .. }));
    assert_eq!(
        (error.code(), error.code_name()),
        (133, "FailedToSatisfyReadPreference")
    );
}

#[tokio::test]
async fn an_exhausted_pool_says_so() {
    let bench = Bench::new(fake::primary(), |options| {
        options.connections_max = 1;
        options.checkout_timeout = Duration::from_millis(1);
    })
    .await;
    let lease = bench
        .core
        .lend(&Routing::Primary, &borrower(), soon())
        .await
        .unwrap();
    let error = bench
        .core
        .lend(&Routing::Primary, &borrower(), soon())
        .await
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(
            "1 in use (0 by getMore, 0 in transactions, 1 by other commands; 0 of them connecting)"
        ) && text.contains(&*bench.server.address),
        "{text}"
    );
    let text = error.client_text();
    assert!(
        text.contains("this app holds 1 of at most 75, 0 by getMore")
            && !text.contains("127.0.0.1"),
        "{text}"
    );
    assert_eq!((error.code(), error.is_overload()), (462, true));
    let error = bench
        .core
        .lend(&Routing::Primary, &borrower(), Instant::now())
        .await
        .unwrap_err();
    assert!(matches!(error, UpstreamError::Deadline { .. }), "{error}");
    drop(lease);
    assert!(
        bench
            .core
            .lend(&Routing::Primary, &borrower(), soon())
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_report_of_a_step_down_stops_commands_until_the_member_answers() {
    let bench = Bench::new(fake::primary(), |_| {}).await;
    let lease = bench
        .core
        .lend(&Routing::Primary, &borrower(), soon())
        .await
        .unwrap();
    let generation = lease.generation();
    drop(lease);
    let server = &bench.server.address;
    let kind = || bench.core.board.topology().member(server).unwrap().kind;
    for (generation, code) in [(generation + 1, 10_107), (generation, 11_000)] {
        bench.core.report(server, generation, code);
        assert_eq!(kind(), MemberKind::Primary, "{generation} {code}");
    }
    bench.server.say(fake::secondary());
    bench.core.report(server, generation, 10_107);
    assert_eq!(kind(), MemberKind::Unknown);
    bench.until(MemberKind::Secondary).await;
    // Its connections stay, and a second report tells nothing new.
    assert_eq!(bench.counts().idle, 1);
    bench.core.report(server, generation, 10_107);
    assert_eq!(kind(), MemberKind::Secondary);
    // A server that stops takes its connections with it.
    bench.core.report(server, generation, 91);
    assert_eq!(kind(), MemberKind::Unknown);
    assert_eq!(bench.counts().idle, 0);
}

#[tokio::test]
async fn what_is_promised_to_clients_outlives_the_connection() {
    let bench = Bench::new(fake::primary(), |_| {}).await;
    let mut hello = bench.core.board.watch_hello();
    let known = hello
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!(
        (known.version.as_str(), known.wire_version_max),
        ("6.0.5", 17)
    );
    bench.core.board.publish(News::Lost {
        address: bench.server.address.clone(),
        is_silent: false,
    });
    assert!(hello.borrow().is_some());
}

#[tokio::test]
async fn a_stopped_upstream_lends_nothing() {
    let bench = Bench::new(fake::secondary(), |_| {}).await;
    let core = Arc::clone(&bench.core);
    let waiting =
        tokio::spawn(async move { core.lend(&Routing::Primary, &borrower(), soon()).await });
    bench.until(MemberKind::Secondary).await;
    bench.core.stop.cancel();
    for error in [
        waiting.await.unwrap().unwrap_err(),
        bench
            .core
            .lend(&Routing::Primary, &borrower(), soon())
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), 91, "{error}");
    }
}

#[test]
fn turns_are_scattered_evenly() {
    let mut hits = [0; 3];
    for turn in 0..3000 {
        hits[scattered(turn) % 3] += 1;
    }
    assert!(
        hits.iter().all(|hits| (900..1100).contains(hits)),
        "{hits:?}"
    );
}
