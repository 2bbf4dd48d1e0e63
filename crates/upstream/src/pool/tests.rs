use std::sync::{Arc, Mutex};

use super::*;

type Closed = Arc<Mutex<Vec<(u32, UpstreamCloseReason)>>>;

/// A connection that is only a number.
#[derive(Debug)]
struct Wire {
    number: u32,
    is_alive: bool,
    closed: Closed,
}

impl Pooled for Wire {
    fn is_alive(&self) -> bool {
        self.is_alive
    }

    fn close(self, reason: UpstreamCloseReason) {
        self.closed.lock().unwrap().push((self.number, reason));
    }
}

struct Bench {
    pool: Pool<Wire>,
    closed: Closed,
    start: Instant,
}

impl Bench {
    fn new(connections_max: u32) -> Self {
        Self {
            pool: Pool::new(PoolLimits {
                connections_max,
                idle_timeout: Duration::from_secs(60),
            }),
            closed: Closed::default(),
            start: Instant::now(),
        }
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn wire(&self, number: u32) -> Wire {
        Wire {
            number,
            is_alive: true,
            closed: Arc::clone(&self.closed),
        }
    }

    /// Makes new connections with these numbers, and returns them all at these seconds.
    fn fill(&self, numbers_and_seconds: &[(u32, u64)]) {
        for _ in numbers_and_seconds {
            assert_eq!(self.take(0), "connect 0");
            self.pool.connected();
        }
        for &(number, seconds) in numbers_and_seconds {
            self.pool.check_in(self.wire(number), 0, self.at(seconds));
        }
    }

    fn take(&self, seconds: u64) -> String {
        match self.pool.check_out(self.at(seconds)) {
            CheckOut::Granted(grant) => describe(&grant),
            CheckOut::Wait(_) => "wait".to_owned(),
            CheckOut::Closed => "closed".to_owned(),
        }
    }

    fn turn(&self) -> Turn<'_, Wire> {
        match self.pool.check_out(self.start) {
            CheckOut::Wait(turn) => turn,
            other => panic!("no need to wait: {other:?}"),
        }
    }

    fn counts(&self) -> [u32; 4] {
        let counts = self.pool.counts();
        [counts.idle, counts.lent, counts.connecting, counts.waiting]
    }

    fn closed(&self) -> Vec<(u32, UpstreamCloseReason)> {
        self.closed.lock().unwrap().drain(..).collect()
    }
}

fn describe(grant: &Grant<Wire>) -> String {
    match grant {
        Grant::Connection {
            connection,
            generation,
        } => format!("wire {} {generation}", connection.number),
        Grant::Connect { generation } => format!("connect {generation}"),
    }
}

async fn granted(turn: &mut Turn<'_, Wire>) -> String {
    turn.granted()
        .await
        .as_ref()
        .map_or("none".to_owned(), describe)
}

#[test]
fn the_warmest_connection_is_reused() {
    let bench = Bench::new(10);
    bench.fill(&[(1, 0), (2, 0), (3, 0)]);
    assert_eq!(bench.take(1), "wire 3 0");
    assert_eq!(bench.take(1), "wire 2 0");
    bench.pool.check_in(bench.wire(3), 0, bench.at(1));
    assert_eq!(bench.take(1), "wire 3 0");
    assert_eq!(bench.counts(), [1, 2, 0, 0]);
}

#[test]
fn all_states_count_against_the_limit() {
    let bench = Bench::new(3);
    assert_eq!(bench.take(0), "connect 0");
    assert_eq!(bench.take(0), "connect 0");
    bench.pool.connected();
    assert_eq!(bench.take(0), "connect 0");
    assert_eq!(bench.take(0), "wait");
    assert_eq!(bench.counts(), [0, 1, 2, 0]);
    bench.pool.connect_failed();
    assert_eq!(bench.take(0), "connect 0");
}

#[test]
fn only_so_many_connect_at_one_time() {
    let bench = Bench::new(100);
    for _ in 0..CONNECTING_MAX {
        assert_eq!(bench.take(0), "connect 0");
    }
    assert_eq!(bench.take(0), "wait");
    bench.pool.connected();
    assert_eq!(bench.take(0), "connect 0");
}

#[test]
fn dead_and_old_connections_are_passed_over() {
    let bench = Bench::new(10);
    bench.fill(&[(1, 0), (2, 30)]);
    for _ in 0..2 {
        bench.take(30);
    }
    bench.pool.check_in(bench.wire(1), 0, bench.at(30));
    bench.pool.check_in(
        Wire {
            is_alive: false,
            ..bench.wire(2)
        },
        0,
        bench.at(40),
    );
    assert_eq!(bench.take(50), "wire 1 0");
    assert_eq!(bench.closed(), [(2, UpstreamCloseReason::Error)]);
    bench.pool.check_in(bench.wire(1), 0, bench.at(50));
    assert_eq!(bench.take(110), "connect 0");
    assert_eq!(bench.closed(), [(1, UpstreamCloseReason::Idle)]);
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
}

#[test]
fn reaping_closes_only_what_is_old() {
    let bench = Bench::new(10);
    bench.fill(&[(1, 0), (2, 10), (3, 20)]);
    bench.pool.reap(bench.at(59));
    assert_eq!(bench.closed(), []);
    bench.pool.reap(bench.at(70));
    assert_eq!(
        bench.closed(),
        [
            (1, UpstreamCloseReason::Idle),
            (2, UpstreamCloseReason::Idle)
        ]
    );
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
}

#[tokio::test]
async fn the_queue_is_served_in_order() {
    let bench = Bench::new(1);
    assert_eq!(bench.take(0), "connect 0");
    bench.pool.connected();
    let (mut first, mut second, mut third) = (bench.turn(), bench.turn(), bench.turn());
    assert_eq!(bench.counts(), [0, 1, 0, 3]);
    bench.pool.check_in(bench.wire(1), 0, bench.start);
    assert_eq!(granted(&mut first).await, "wire 1 0");
    bench.pool.check_in(bench.wire(1), 0, bench.start);
    assert_eq!(granted(&mut second).await, "wire 1 0");
    // Its connection broke: the next may make a new one.
    bench.pool.discard();
    assert_eq!(granted(&mut third).await, "connect 0");
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
}

#[test]
fn who_gives_up_waiting_loses_nothing() {
    let bench = Bench::new(1);
    assert_eq!(bench.take(0), "connect 0");
    bench.pool.connected();
    // Given up before it was granted.
    let first = bench.turn();
    drop(first);
    assert_eq!(bench.pool.lock().waiters.len(), 0);
    // Given up after it was granted, unseen.
    let second = bench.turn();
    bench.pool.check_in(bench.wire(1), 0, bench.start);
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    drop(second);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    // The same with leave to connect.
    bench.take(0);
    let third = bench.turn();
    bench.pool.discard();
    assert_eq!(bench.counts(), [0, 0, 1, 0]);
    drop(third);
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}

#[tokio::test]
async fn clearing_makes_connections_stale_once() {
    let bench = Bench::new(2);
    bench.fill(&[(1, 0), (2, 0)]);
    assert_eq!(bench.take(0), "wire 2 0");
    bench.pool.clear(0);
    assert_eq!(bench.closed(), [(1, UpstreamCloseReason::Stale)]);
    bench.pool.clear(0);
    assert_eq!(bench.pool.generation(), 1);
    bench.pool.check_in(bench.wire(2), 0, bench.start);
    assert_eq!(bench.closed(), [(2, UpstreamCloseReason::Stale)]);
    assert_eq!(bench.take(0), "connect 1");
    assert_eq!(bench.take(0), "connect 1");
    let mut turn = bench.turn();
    bench.pool.clear(1);
    assert_eq!(granted(&mut turn).await, "none");
}

#[tokio::test]
async fn a_closed_pool_lends_nothing() {
    let bench = Bench::new(2);
    bench.fill(&[(1, 0), (2, 0)]);
    bench.take(0);
    bench.take(0);
    let mut turn = bench.turn();
    bench.pool.check_in(bench.wire(1), 0, bench.start);
    assert_eq!(granted(&mut turn).await, "wire 1 0");
    bench.pool.close();
    assert_eq!(bench.take(0), "closed");
    bench.pool.check_in(bench.wire(2), 0, bench.start);
    assert_eq!(bench.closed(), [(2, UpstreamCloseReason::PoolClosed)]);
}
