use std::time::Duration;

use mdb_auth::Secret;
use mdb_scope::Routing;
use mdb_telemetry::Metrics;

use super::*;
use crate::{
    fake::{self, FakeServer},
    pool::Counts,
    queue::borrower,
    topology::TopologyKind,
    upstream::{Core, UpstreamOptions},
    uri,
    view::News,
};

struct Bench {
    core: Core,
    server: FakeServer,
    metrics: Metrics,
}

impl Bench {
    async fn new() -> Self {
        let server = FakeServer::start(fake::standalone()).await;
        let metrics = Metrics::new();
        let options = UpstreamOptions::new(Secret::new(format!("mongodb://{}", server.address)));
        let (_, connector) = uri::read(&options).await.unwrap();
        let core = Core::start(&options, connector, metrics.clone());
        core.board.publish(News::Members {
            kind: TopologyKind::Single,
            addresses: vec![server.address.clone()],
        });
        Self {
            core,
            server,
            metrics,
        }
    }

    async fn lease(&self) -> Lease {
        let deadline = Instant::now() + Duration::from_secs(60);
        self.core
            .lend(&Routing::Primary, &borrower(), deadline)
            .await
            .unwrap()
    }

    fn counts(&self) -> Counts {
        self.core.pools.member(&self.server.address).pool.counts()
    }

    /// A connection that was given up is gone, and another one is there that nobody asked for.
    async fn replaced(&self) {
        assert_eq!(self.counts(), MAKING);
        while self.counts() == MAKING {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.counts(), IDLE);
    }

    fn is_counted(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|found| found == line)
    }
}

async fn send(lease: &mut Lease, name: &str) -> Result<Bytes, ExchangeError> {
    lease
        .exchange_frame(&fake::command(name, 5), 5, &crate::Unbounded)
        .await
}

const IDLE: Counts = Counts {
    idle: 1,
    lent: 0,
    connecting: 0,
    waiting: 0,
};
const EMPTY: Counts = Counts { idle: 0, ..IDLE };
const MAKING: Counts = Counts {
    connecting: 1,
    ..EMPTY
};

#[tokio::test]
async fn a_connection_returns_after_complete_exchanges() {
    let bench = Bench::new().await;
    for _ in 0..3 {
        let mut lease = bench.lease().await;
        assert_eq!(lease.server(), &bench.server.address);
        send(&mut lease, "ping").await.unwrap();
        send(&mut lease, "ping").await.unwrap();
        drop(lease);
        assert_eq!(bench.counts(), IDLE);
    }
    // Never used: as good as new.
    drop(bench.lease().await);
    assert_eq!(bench.counts(), IDLE);
    assert_eq!(bench.server.used(), 1);
    assert!(bench.is_counted("mdb_runtime_upstream_connections_created_total 1"));
    assert!(bench.is_counted(r#"mdb_runtime_upstream_connections{state="idle"} 1"#));
}

#[tokio::test]
async fn a_connection_dropped_half_way_never_returns() {
    let bench = Bench::new().await;
    let mut lease = bench.lease().await;
    tokio::select! {
        outcome = send(&mut lease, "hang") => panic!("nobody answered: {outcome:?}"),
        () = bench.server.hanging() => {}
    }
    let generation = lease.generation();
    drop(lease);
    bench.replaced().await;
    assert!(
        bench.is_counted(r#"mdb_runtime_upstream_connections_closed_total{reason="poisoned"} 1"#)
    );
    let mut lease = bench.lease().await;
    send(&mut lease, "ping").await.unwrap();
    assert_eq!(bench.server.used(), 2);
    // The server did nothing wrong.
    assert_eq!(lease.generation(), generation);
}

#[tokio::test]
async fn a_task_that_is_aborted_half_way_poisons_its_connection() {
    let bench = Bench::new().await;
    let mut lease = bench.lease().await;
    let task = tokio::spawn(async move { send(&mut lease, "hang").await });
    bench.server.hanging().await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    bench.replaced().await;
}

/// Nobody connects to a member that is not known to serve.
#[tokio::test]
async fn a_member_that_is_lost_gets_no_connection_in_place_of_another() {
    let bench = Bench::new().await;
    let mut lease = bench.lease().await;
    tokio::select! {
        outcome = send(&mut lease, "hang") => panic!("nobody answered: {outcome:?}"),
        () = bench.server.hanging() => {}
    }
    bench.core.board.publish(News::Lost {
        address: bench.server.address.clone(),
        is_silent: false,
    });
    drop(lease);
    assert_eq!(bench.counts(), EMPTY);
}

#[tokio::test]
async fn nonsense_ends_one_connection_only() {
    let bench = Bench::new().await;
    let (mut first, second) = (bench.lease().await, bench.lease().await);
    drop(second);
    let error = send(&mut first, "garbage").await.unwrap_err();
    assert!(matches!(error.kind, ExchangeErrorKind::Reply(_)), "{error}");
    let again = send(&mut first, "ping").await.unwrap_err();
    assert!(matches!(again.kind, ExchangeErrorKind::Spent));
    drop(first);
    assert_eq!(bench.counts(), IDLE);
    assert!(bench.is_counted(r#"mdb_runtime_upstream_exchange_errors_total{kind="protocol"} 1"#));
}

#[tokio::test]
async fn a_broken_connection_makes_the_others_stale() {
    let bench = Bench::new().await;
    let (mut first, second, third) = (
        bench.lease().await,
        bench.lease().await,
        bench.lease().await,
    );
    drop(second);
    let error = send(&mut first, "cut").await.unwrap_err();
    assert!(error.is_network(), "{error}");
    assert_eq!(error.sent, Sent::MaybeSome);
    assert_eq!(bench.counts().idle, 0);
    // What happens to the others of the old generation is no more news.
    let mut third = third;
    send(&mut third, "cut").await.unwrap_err();
    drop((first, third));
    assert_eq!(bench.counts(), EMPTY);
    // The probe finds the server in good health.
    let mut lease = bench.lease().await;
    assert_eq!(lease.generation(), 1);
    send(&mut lease, "ping").await.unwrap();
}

#[tokio::test]
async fn a_silent_server_keeps_nobody_waiting() {
    let bench = Bench::new().await;
    let mut lease = bench.lease().await;
    let lose = |is_silent| {
        bench.core.board.publish(News::Lost {
            address: bench.server.address.clone(),
            is_silent,
        });
    };
    {
        let mut exchange = std::pin::pin!(send(&mut lease, "hang"));
        tokio::select! {
            outcome = &mut exchange => panic!("nobody answered: {outcome:?}"),
            () = bench.server.hanging() => {}
        }
        // One that cannot be reached any more may well answer what it was asked before.
        lose(false);
        let mut next = std::pin::pin!(bench.lease());
        tokio::select! {
            outcome = &mut exchange => panic!("nobody answered: {outcome:?}"),
            lease = &mut next => drop(lease),
        }
        lose(true);
        let error = exchange.await.unwrap_err();
        assert!(error.is_network(), "{error}");
        assert_eq!(error.sent, Sent::MaybeSome);
    }
    drop(lease);
    send(&mut bench.lease().await, "ping").await.unwrap();
}
