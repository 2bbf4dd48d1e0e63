use super::*;
use mdb_wire::frame::{HEADER_BYTES, OpCode, header};
use tokio::io::{DuplexStream, duplex};
use tools::{is_pending, message};

/// Small tools of these tests.
mod tools {
    use super::{HEADER_BYTES, OpCode, header};
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    /// A message of `payload_bytes` behind its header.
    pub(super) fn message(request_id: i32, payload_bytes: usize) -> Vec<u8> {
        let length = HEADER_BYTES + payload_bytes;
        let mut out = header(length, request_id, 0, OpCode::Message).to_vec();
        out.resize(length, 7);
        out
    }

    /// Whether one poll does not end it.
    pub(super) fn is_pending(future: impl Future) -> bool {
        pin!(future)
            .poll(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }
}

fn pair(bytes: usize) -> (DuplexStream, Inbox<DuplexStream>) {
    let (client, server) = duplex(bytes);
    (client, Inbox::new(server))
}

#[tokio::test]
async fn messages_come_whole_however_they_are_cut() {
    let (mut client, mut inbox) = pair(1);
    let writer = tokio::spawn(async move {
        for id in 1..=3 {
            client.write_all(&message(id, 40)).await.unwrap();
        }
    });
    for id in 1..=3 {
        let frame = inbox.next(Limits::default()).await.unwrap();
        assert_eq!((frame.request_id, frame.payload().len()), (id, 40));
    }
    writer.await.unwrap();
    assert!(matches!(
        inbox.next(Limits::default()).await,
        Err(Silence::Closed)
    ));
}

#[tokio::test]
async fn a_claimed_length_takes_no_memory() {
    let (mut client, mut inbox) = pair(1024 * 1024);
    let claimed = header(40_000_000, 1, 0, OpCode::Message);
    client.write_all(&claimed).await.unwrap();
    assert!(is_pending(inbox.next(Limits::default())));
    assert!(inbox.buffer.capacity() <= ROOM_BYTES_MIN * 2);
    client.write_all(&vec![0; 300_000]).await.unwrap();
    assert!(is_pending(inbox.next(Limits::default())));
    assert!(inbox.buffer.capacity() <= 300_000 * 4);
}

#[tokio::test]
async fn a_large_buffer_is_given_back_and_a_small_one_kept() {
    let (mut client, mut inbox) = pair(1024 * 1024);
    client.write_all(&message(1, 500_000)).await.unwrap();
    inbox.next(Limits::default()).await.unwrap();
    assert!(inbox.capacity_seen >= 500_000);
    assert!(is_pending(inbox.next(Limits::default())));
    assert_eq!((inbox.buffer.capacity(), inbox.capacity_seen), (0, 0));
    client.write_all(&message(2, 100)).await.unwrap();
    inbox.next(Limits::default()).await.unwrap();
    assert!(is_pending(inbox.next(Limits::default())));
    assert!((1..=IDLE_BYTES_MAX).contains(&inbox.capacity_seen));
}

#[tokio::test]
async fn the_end_is_noticed_unless_messages_wait_before_it() {
    let (client, mut inbox) = pair(1024);
    assert!(is_pending(inbox.closed()));
    drop(client);
    inbox.closed().await;

    let (mut client, mut inbox) = pair(1024);
    client.write_all(&message(1, 10)).await.unwrap();
    drop(client);
    assert!(is_pending(inbox.closed()));
    assert_eq!(inbox.next(Limits::default()).await.unwrap().request_id, 1);
}

#[tokio::test]
async fn what_comes_early_is_kept_within_a_limit() {
    let (mut client, mut inbox) = pair(1024 * 1024);
    client.write_all(&message(1, 400_000)).await.unwrap();
    client.write_all(&message(2, 10)).await.unwrap();
    assert!(is_pending(inbox.closed()));
    assert!(inbox.buffer.len() < EARLY_BYTES_MAX + 2 * ROOM_BYTES_MIN);
    for id in 1..=2 {
        assert_eq!(inbox.next(Limits::default()).await.unwrap().request_id, id);
    }
}

#[tokio::test]
async fn the_limit_in_force_holds() {
    let (mut client, mut inbox) = pair(1024);
    client.write_all(&message(5, 100)).await.unwrap();
    let limits = Limits {
        message_bytes_max: 115,
    };
    let Err(Silence::Malformed(error)) = inbox.next(limits).await else {
        panic!("it is too long");
    };
    assert_eq!(error.request_id, Some(5));
}
