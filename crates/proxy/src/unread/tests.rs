use super::*;
use crate::testing::LIMITS;
use futures_util::FutureExt as _;
use tokio::time::advance;

const TIMEOUT: Duration = LIMITS.unread_timeout;
const MAX: usize = LIMITS.unread_bytes_per_app_max;

/// Rooms of some connections of one app.
fn rooms(metrics: &Metrics) -> [Room; 4] {
    let home = Arc::default();
    [1, 2, 3, 4].map(|id| Room::new(&home, id, &LIMITS, metrics))
}

fn reached(metrics: &Metrics) -> usize {
    let name = "mdb_runtime_limits_reached_total{limit=\"unread_bytes_per_app_max\"} ";
    let text = metrics.render();
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn there_is_room_up_to_the_limit_and_again_when_a_reply_is_gone() {
    let metrics = Metrics::new();
    let [a, b, c, d] = rooms(&metrics);
    a.admit(MAX - 1).await;
    b.admit(1).await;
    let mut beyond = c.admit(1);
    assert!((&mut beyond).now_or_never().is_none());
    b.release();
    beyond.await;
    // A connection has one reply at a time, and one that is too large for all has the room for itself.
    a.admit(MAX - 1).await;
    drop((a, c));
    d.admit(MAX * 2).await;
    assert!(b.admit(1).now_or_never().is_none());
    assert_eq!(reached(&metrics), 0);
}

#[tokio::test(start_paused = true)]
async fn who_is_silent_goes_the_oldest_first_and_who_reads_stays() {
    let metrics = Metrics::new();
    let [reader, old, young, next] = rooms(&metrics);
    for (room, bytes) in [(&reader, 20), (&old, 40), (&young, 40)] {
        room.admit(bytes).await;
    }
    let reading = reader.wait(20);
    let old_waits = old.wait(40);
    advance(Duration::from_secs(1)).await;
    let young_waits = young.wait(40);
    advance(TIMEOUT).await;
    // All have been silent for long enough, but one has just taken some.
    reading.goes_on();
    let mut admitted = next.admit(40);
    assert!((&mut admitted).now_or_never().is_none());
    assert!(old_waits.ended().now_or_never().is_some());
    assert!(young_waits.ended().now_or_never().is_none());
    assert!(reading.ended().now_or_never().is_none());
    assert_eq!(reached(&metrics), 1);
    drop(old_waits);
    old.release();
    admitted.await;
}

#[tokio::test(start_paused = true)]
async fn nobody_goes_before_the_time_is_over_nor_without_need() {
    let metrics = Metrics::new();
    let [a, b, ..] = rooms(&metrics);
    a.admit(MAX).await;
    let waits = a.wait(MAX);
    advance(TIMEOUT * 100).await;
    assert!(waits.ended().now_or_never().is_none());
    waits.goes_on();
    let mut admitted = b.admit(1);
    advance(TIMEOUT / 2).await;
    assert!((&mut admitted).now_or_never().is_none());
    assert!(waits.ended().now_or_never().is_none());
    tokio::select! {
        () = &mut admitted => panic!("there is no room yet"),
        () = waits.ended() => {}
    }
    assert_eq!(reached(&metrics), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reply_is_refused_when_only_slow_readers_are_left() {
    let metrics = Metrics::new();
    let [a, b, ..] = rooms(&metrics);
    a.admit(MAX).await;
    let waits = a.wait(MAX);
    let reading = async {
        loop {
            tokio::time::sleep(TIMEOUT / 2).await;
            waits.goes_on();
        }
    };
    tokio::select! {
        () = b.admit(1) => panic!("there is no room"),
        () = waits.ended() => panic!("it reads"),
        () = reading => {}
        () = b.refused() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn small_replies_are_counted_when_they_wait() {
    let metrics = Metrics::new();
    let [a, b, c, d] = rooms(&metrics);
    let first = a.wait(MAX);
    assert!(b.admit(1).now_or_never().is_none());
    // There is no room to count it, but it is told to the silent.
    advance(TIMEOUT).await;
    let second = c.wait(1);
    assert!(first.ended().now_or_never().is_some());
    drop(first);
    a.release();
    drop(second);
    d.admit(MAX).await;
}
