use std::pin::{Pin, pin};
use std::sync::Mutex;

use bson::doc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::fake;

const ID: i32 = 7;

async fn pair() -> (Connection, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().into();
    let stream = Stream::open(&address, None).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    (Connection::new(stream), server)
}

/// The outcome of an exchange whose answer is `answer`, after which the server closes.
async fn answered(
    connection: &mut Connection,
    mut server: TcpStream,
    answer: &[u8],
) -> Result<Bytes, ExchangeError> {
    let serve = async {
        fake::read_command(&mut server).await.unwrap();
        // Fails when the client has seen enough.
        let _ = server.write_all(answer).await;
        drop(server);
    };
    let frame = fake::command("ping", ID);
    tokio::join!(connection.exchange_frame(&frame, ID), serve).0
}

fn tcp(connection: &Connection) -> &TcpStream {
    match &connection.stream {
        Stream::Plain(tcp) => tcp,
        Stream::Tls(_) => panic!("tests use no TLS here"),
    }
}

#[tokio::test]
async fn a_reply_comes_back_whole() {
    let (mut connection, mut server) = pair().await;
    let expected = fake::reply(&doc! { "ok": 1, "text": "x".repeat(300) }, ID);
    for pieces in [1, 2, 100] {
        let serve = async {
            let (request_id, body) = fake::read_command(&mut server).await.unwrap();
            assert_eq!((request_id, body), (ID, doc! { "ping": 1, "$db": "admin" }));
            for piece in expected.chunks(expected.len().div_ceil(pieces)) {
                server.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let frame = fake::command("ping", ID);
        let (reply, ()) = tokio::join!(connection.exchange_frame(&frame, ID), serve);
        assert_eq!(reply.unwrap(), expected);
        assert!(connection.is_clean());
    }
}

/// Has no room until it is told so; knows what it was asked for.
#[derive(Debug, Default)]
struct Gate {
    asked: Mutex<Vec<usize>>,
    open: tokio::sync::Notify,
}

impl Admission for Gate {
    fn admit<'a>(&'a self, bytes: usize) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.asked.lock().unwrap().push(bytes);
        Box::pin(self.open.notified())
    }
}

#[tokio::test]
async fn a_large_reply_is_not_read_before_there_is_room_for_it() {
    let compressor = Compressor::Zlib;
    let frame = fake::command("ping", ID);
    // At the size up to which nobody is asked, and one beyond; compressed it counts by what it becomes.
    let beyond = TRUSTED_BYTES + 1;
    let cases = [
        (TRUSTED_BYTES, false, vec![]),
        (beyond, false, vec![beyond]),
        (beyond + HEADER_BYTES, true, vec![beyond]),
    ];
    for (bytes, is_compressed, asked) in cases {
        let (mut connection, mut server) = pair().await;
        connection.set_compressor(is_compressed.then_some(compressor));
        let empty = fake::reply(&doc! { "text": "" }, ID).len();
        let plain = fake::reply(&doc! { "text": "x".repeat(bytes - empty) }, ID);
        assert_eq!(plain.len(), bytes);
        let answer = if is_compressed {
            compress(&plain, compressor).unwrap()
        } else {
            plain.clone()
        };
        let gate = Gate::default();
        let serve = async {
            let mut command = vec![0; 1];
            server.read_exact(&mut command).await.unwrap();
            server.write_all(&answer).await.unwrap();
        };
        let mut exchange = pin!(connection.exchange_admitted(&frame, ID, &gate));
        if asked.is_empty() {
            let (reply, ()) = tokio::join!(exchange, serve);
            assert_eq!(reply.unwrap(), plain);
        } else {
            let answering = async {
                serve.await;
                while gate.asked.lock().unwrap().is_empty() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                reply = &mut exchange => panic!("it was read: {reply:?}"),
                () = answering => {}
            }
            gate.open.notify_one();
            // What was compressed carries no ids any more.
            let reply = exchange.await.unwrap();
            assert_eq!(reply[HEADER_BYTES..], plain[HEADER_BYTES..]);
        }
        assert_eq!(*gate.asked.lock().unwrap(), asked);
    }
}

#[tokio::test]
async fn the_largest_reply_passes_and_leaves_no_memory_behind() {
    let (mut connection, mut server) = pair().await;
    let bytes = 48_000_000 + 16 * 1024;
    let mut answer = fake::reply(&doc! {}, ID);
    answer.resize(bytes, 0);
    answer[..4].copy_from_slice(&i32::try_from(bytes).unwrap().to_le_bytes());
    let serve = async {
        fake::read_command(&mut server).await.unwrap();
        server.write_all(&answer).await.unwrap();
    };
    let frame = fake::command("ping", ID);
    let (reply, ()) = tokio::join!(connection.exchange_frame(&frame, ID), serve);
    assert_eq!(reply.unwrap().len(), bytes);
    assert!(connection.is_clean());
    assert!(connection.buffer.capacity() <= TRUSTED_BYTES);
}

#[tokio::test]
async fn replies_that_make_no_sense_spend_the_connection() {
    let good = fake::reply(&doc! { "ok": 1 }, ID);
    let changed = |at: usize, word: i32| {
        let mut answer = good.clone();
        answer[at..at + 4].copy_from_slice(&word.to_le_bytes());
        answer
    };
    let allowed = 48_000_000 + 16 * 1024;
    let cases = [
        (
            changed(0, 48_016_385),
            FrameError::Length {
                claimed: 48_016_385,
                allowed,
            },
        ),
        (
            changed(0, 25),
            FrameError::Length {
                claimed: 25,
                allowed,
            },
        ),
        (
            changed(8, 6),
            FrameError::ResponseTo {
                expected: 7,
                found: 6,
            },
        ),
        (changed(12, 1), FrameError::OpCode(1)),
        (changed(16, 2), FrameError::Flags(2)),
        (
            [good.clone(), good.clone()].concat(),
            FrameError::Surplus(good.len()),
        ),
    ];
    for (answer, expected) in cases {
        let (mut connection, server) = pair().await;
        let error = answered(&mut connection, server, &answer)
            .await
            .unwrap_err();
        match error.kind {
            ExchangeErrorKind::Reply(found) => assert_eq!(found, expected),
            other => panic!("{expected}: {other}"),
        }
        assert_eq!(error.sent, Sent::MaybeSome);
        let again = connection.exchange_frame(b"", ID).await.unwrap_err();
        assert!(matches!(again.kind, ExchangeErrorKind::Spent));
        assert_eq!(again.sent, Sent::Nothing);
    }
}

#[tokio::test]
async fn a_cut_reply_is_a_broken_connection() {
    let good = fake::reply(&doc! { "ok": 1 }, ID);
    for kept in [0, 10, HEADER_BYTES, good.len() - 1] {
        let (mut connection, server) = pair().await;
        let error = answered(&mut connection, server, &good[..kept])
            .await
            .unwrap_err();
        assert!(error.is_network(), "{kept}: {error}");
        assert_eq!(error.sent, Sent::MaybeSome);
        assert!(!connection.is_clean());
    }
}

#[tokio::test]
async fn a_claimed_length_takes_no_memory() {
    let (mut connection, server) = pair().await;
    let mut answer = fake::reply(&doc! { "ok": 1 }, ID);
    answer[..4].copy_from_slice(&48_000_000_i32.to_le_bytes());
    answer.resize(READ_BYTES + 1, 0);
    let error = answered(&mut connection, server, &answer)
        .await
        .unwrap_err();
    assert!(error.is_network(), "{error}");
    assert!(connection.buffer.capacity() <= 2 * (TRUSTED_BYTES + READ_BYTES));
}

#[tokio::test]
async fn an_exchange_given_up_leaves_the_connection_unclean() {
    let (mut connection, mut server) = pair().await;
    let frame = fake::command("ping", ID);
    tokio::select! {
        outcome = connection.exchange_frame(&frame, ID) => panic!("nobody answered: {outcome:?}"),
        received = fake::read_command(&mut server) => assert_eq!(received.unwrap().0, ID),
    }
    assert!(!connection.is_clean());
    // The late reply must not become the reply to the next command.
    server
        .write_all(&fake::reply(&doc! { "ok": 1 }, ID))
        .await
        .unwrap();
    let again = connection.exchange_frame(&frame, ID).await.unwrap_err();
    assert!(matches!(again.kind, ExchangeErrorKind::Spent));
}

#[tokio::test]
async fn a_quiet_connection_is_alive_and_any_other_is_not() {
    let (connection, _server) = pair().await;
    assert!(connection.is_alive());

    let (connection, mut server) = pair().await;
    server.write_all(b"x").await.unwrap();
    tcp(&connection).readable().await.unwrap();
    assert!(!connection.is_alive());

    let (connection, server) = pair().await;
    drop(server);
    tcp(&connection).readable().await.unwrap();
    assert!(!connection.is_alive());
}

#[tokio::test]
async fn nothing_was_sent_over_a_connection_that_was_reset() {
    let (mut connection, server) = pair().await;
    server.set_zero_linger().unwrap();
    drop(server);
    tcp(&connection).readable().await.unwrap();
    let frame = fake::command("ping", ID);
    let error = connection.exchange_frame(&frame, ID).await.unwrap_err();
    assert!(error.is_network());
    assert_eq!(error.sent, Sent::Nothing);
}

#[test]
fn servers_may_raise_the_limit_but_not_lower_it() {
    for (announced, expected) in [
        (48_000_000, 48_016_384),
        (0, 48_016_384),
        (-1, 48_016_384),
        (50_000_000, 50_016_384),
        (i32::MAX, 64 * 1024 * 1024 + 16 * 1024),
    ] {
        assert_eq!(reply_bytes_max(announced), expected);
    }
}
