use std::sync::{Arc, Mutex};

use mdb_telemetry::LeasePurpose;

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

fn of(app: &str) -> Borrower {
    Borrower {
        app: AppId::parse(app).unwrap(),
        purpose: LeasePurpose::Command,
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
                per_app_max: connections_max,
                connections_min: 0,
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
            self.pool
                .check_in(self.wire(number), 0, &of("a"), self.at(seconds));
        }
    }

    fn take(&self, seconds: u64) -> String {
        match self.pool.check_out(&of("a"), self.at(seconds)) {
            CheckOut::Granted(grant) => describe(&grant),
            CheckOut::Wait(_) => "wait".to_owned(),
            CheckOut::Closed => "closed".to_owned(),
        }
    }

    fn turn(&self) -> Turn<'_, Wire> {
        match self.pool.check_out(&of("a"), self.start) {
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
    bench.pool.check_in(bench.wire(3), 0, &of("a"), bench.at(1));
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
    bench.pool.connect_failed(&of("a"));
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
    bench
        .pool
        .check_in(bench.wire(1), 0, &of("a"), bench.at(30));
    bench.pool.check_in(
        Wire {
            is_alive: false,
            ..bench.wire(2)
        },
        0,
        &of("a"),
        bench.at(40),
    );
    assert_eq!(bench.take(50), "wire 1 0");
    assert_eq!(bench.closed(), [(2, UpstreamCloseReason::Error)]);
    bench
        .pool
        .check_in(bench.wire(1), 0, &of("a"), bench.at(50));
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
    bench.pool.check_in(bench.wire(1), 0, &of("a"), bench.start);
    assert_eq!(granted(&mut first).await, "wire 1 0");
    bench.pool.check_in(bench.wire(1), 0, &of("a"), bench.start);
    assert_eq!(granted(&mut second).await, "wire 1 0");
    // Its connection broke: the next may make a new one.
    bench.pool.discard(&of("a"));
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
    assert_eq!(bench.pool.lock().queue.waiting(), 0);
    // Given up after it was granted, unseen.
    let second = bench.turn();
    bench.pool.check_in(bench.wire(1), 0, &of("a"), bench.start);
    assert_eq!(bench.counts(), [0, 1, 0, 0]);
    drop(second);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    // The same with leave to connect.
    bench.take(0);
    let third = bench.turn();
    bench.pool.discard(&of("a"));
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
    bench.pool.check_in(bench.wire(2), 0, &of("a"), bench.start);
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
    bench.pool.check_in(bench.wire(1), 0, &of("a"), bench.start);
    assert_eq!(granted(&mut turn).await, "wire 1 0");
    bench.pool.close();
    assert_eq!(bench.take(0), "closed");
    bench.pool.check_in(bench.wire(2), 0, &of("a"), bench.start);
    assert_eq!(bench.closed(), [(2, UpstreamCloseReason::PoolClosed)]);
}

/// One app holds its share and waits for more; what is left is another's at once.
#[tokio::test]
async fn an_app_cannot_take_the_last_connections() {
    let mut bench = Bench::new(4);
    bench.pool = Pool::new(PoolLimits {
        per_app_max: 3,
        ..bench.pool.limits
    });
    bench.fill(&[(1, 0), (2, 0), (3, 0)]);
    for _ in 0..3 {
        assert!(bench.take(0).starts_with("wire"));
    }
    let mut greedy = bench.turn();
    assert_eq!(bench.pool.held(&of("a").app).1.total(), 3);
    let other = bench.pool.check_out(&of("b"), bench.start);
    assert!(matches!(other, CheckOut::Granted(Grant::Connect { .. })));
    bench.pool.connected();
    bench.pool.check_in(bench.wire(4), 0, &of("b"), bench.start);
    // What the other gave back is still not for the app that has its share.
    assert_eq!(bench.counts(), [1, 3, 0, 1]);
    bench.pool.discard(&of("a"));
    assert_eq!(granted(&mut greedy).await, "wire 4 0");
}

#[tokio::test]
async fn what_comes_free_goes_to_each_app_in_turn() {
    let bench = Bench::new(1);
    assert_eq!(bench.take(0), "connect 0");
    bench.pool.connected();
    let (mut first, mut second) = (bench.turn(), bench.turn());
    let CheckOut::Wait(mut other) = bench.pool.check_out(&of("b"), bench.start) else {
        panic!("no need to wait");
    };
    bench.pool.check_in(bench.wire(1), 0, &of("a"), bench.start);
    assert_eq!(granted(&mut first).await, "wire 1 0");
    bench.pool.check_in(bench.wire(1), 0, &of("a"), bench.start);
    assert_eq!(granted(&mut other).await, "wire 1 0");
    bench.pool.check_in(bench.wire(1), 0, &of("b"), bench.start);
    assert_eq!(granted(&mut second).await, "wire 1 0");
}

#[test]
fn a_cold_pool_is_warmed_up_to_its_least() {
    let mut bench = Bench::new(5);
    bench.pool = Pool::new(PoolLimits {
        connections_min: 2,
        ..bench.pool.limits
    });
    assert_eq!((bench.pool.warm(), bench.pool.warm()), (Some(0), Some(0)));
    assert_eq!(bench.pool.warm(), None);
    bench.pool.warmed(Some(bench.wire(1)), 0, bench.start);
    bench.pool.warmed(None, 0, bench.start);
    assert_eq!(bench.counts(), [1, 0, 0, 0]);
    assert_eq!(bench.pool.warm(), Some(0));
    bench.pool.clear(0);
    bench.pool.warmed(Some(bench.wire(2)), 0, bench.start);
    let stale = UpstreamCloseReason::Stale;
    assert_eq!(bench.closed(), [(1, stale), (2, stale)]);
    assert_eq!(bench.take(0), "connect 1");
}

#[test]
fn what_is_given_up_is_replaced_while_little_is_idle() {
    let bench = Bench::new(6);
    bench.fill(&[(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (6, 0)]);
    let give_up = |generation| bench.pool.give_up(&of("a"), generation);
    for number in (1..=6).rev() {
        assert_eq!(bench.take(0), format!("wire {number} 0"));
    }
    // As many as are made at one time, and each in the place of one.
    assert_eq!(
        [(); 5].map(|()| give_up(0)),
        [true, true, true, true, false]
    );
    assert_eq!(bench.counts(), [0, 1, 4, 0]);
    for number in 7..=10 {
        bench.pool.warmed(Some(bench.wire(number)), 0, bench.start);
    }
    assert_eq!(bench.counts(), [4, 1, 0, 0]);
    assert!(!give_up(0), "enough are idle");
    assert_eq!(bench.take(0), "wire 10 0");
    bench.pool.clear(0);
    assert!(!give_up(0), "it was of another generation");
    assert_eq!(bench.counts(), [0, 0, 0, 0]);
}
