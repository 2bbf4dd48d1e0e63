//! A TCP relay that misbehaves as it is told: between the proxy and a server, or between the members of a set.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::time::sleep;

/// What a relay does to what passes through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Fair,
    /// It refuses connections and has cut those that were there.
    Down,
    /// It takes bytes and passes none on, as a network that loses everything.
    Silent,
    /// Each reply is late by so much.
    Slow(Duration),
    /// Replies are harmed, but those to hello and log-in.
    Replies(Harm),
    /// The next long request is cut after a part of it, and its connection with it. Then it is fair.
    CutRequest,
}

/// What becomes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// It never comes, and its connection stays.
    Withheld,
    /// Its second half is missing, and the connection is cut.
    Cut,
    /// It is bytes that are no message.
    Garbage,
    /// It says that it answers another request.
    WrongRequest,
    /// It claims to be longer than any message.
    TooLong,
    /// It claims to be shorter than it is.
    TooShort,
    /// It is followed by bytes without end, and claims to be as long as the longest message.
    Endless,
    /// It comes twice.
    Twice,
    /// It is an OP_REPLY.
    OldKind,
    /// It says that more replies follow by themselves.
    MoreToCome,
    /// It is compressed, which was not agreed on, into bytes that do not unpack.
    Compressed,
    /// Its document is broken.
    BrokenDocument,
    /// Its document ends before its fields do.
    ShortDocument,
    /// Its document has no fields.
    EmptyDocument,
}

/// A relay to one address. It has a thread of its own, so that a busy test does not make it slow, and ends when its last clone
/// is dropped.
#[derive(Debug, Clone)]
pub struct Relay {
    address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    /// How often all connections were cut.
    cuts: Arc<watch::Sender<u32>>,
}

impl Relay {
    /// Relays to `server`, in fair weather.
    pub fn to(server: SocketAddr) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            weather: Arc::new(watch::Sender::new(Weather::Fair)),
            cuts: Arc::default(),
        };
        let weather = Arc::clone(&relay.weather);
        let cuts = relay.cuts.subscribe();
        std::thread::spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build();
            runtime
                .unwrap()
                .block_on(serve(listener, server, weather, cuts));
        });
        relay
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on. [`Weather::Down`] cuts what is there.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
        if weather == Weather::Down {
            self.cut_all();
        }
    }

    /// Waits until the weather is fair again by itself, as after [`Weather::CutRequest`].
    pub async fn clears_up(&self) {
        let mut weather = self.weather.subscribe();
        let is_fair = |weather: &Weather| *weather == Weather::Fair;
        weather.wait_for(is_fair).await.unwrap();
    }

    /// Cuts all present connections; new ones are let through.
    pub fn cut_all(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

async fn serve(
    listener: std::net::TcpListener,
    server: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    cuts: watch::Receiver<u32>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    let mut end = cuts.clone();
    let accept = async {
        while let Ok((client, _)) = listener.accept().await {
            if *weather.borrow() == Weather::Down {
                continue;
            }
            let passing = connect(client, server, Arc::clone(&weather));
            let mut cuts = cuts.clone();
            cuts.mark_unchanged();
            tokio::spawn(async move {
                tokio::select! {
                    () = passing => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    };
    tokio::select! {
        () = accept => {}
        // Its sender is gone.
        () = async { while end.changed().await.is_ok() {} } => {}
    }
}

async fn connect(client: TcpStream, server: SocketAddr, weather: Arc<watch::Sender<Weather>>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = requests(from_client, to_server, &weather) => {}
        () = replies(from_server, to_client, &weather) => {}
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: &watch::Sender<Weather>,
) {
    while let Some(message) = message(&mut from).await {
        let now = *weather.borrow();
        match now {
            Weather::Silent => fair(weather).await,
            Weather::CutRequest if message.len() > LONG_BYTES => {
                let _ = to.write_all(&message[..message.len() / 2]).await;
                weather.send_if_modified(|weather| {
                    let is_first = *weather == Weather::CutRequest;
                    *weather = Weather::Fair;
                    is_first
                });
                return;
            }
            _ => {}
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

async fn replies(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    weather: &watch::Sender<Weather>,
) {
    while let Some(message) = message(&mut from).await {
        let now = *weather.borrow();
        match now {
            Weather::Silent => fair(weather).await,
            Weather::Slow(by) => sleep(by).await,
            // By hello and log-in the driver and the proxy look at members; they shall go on believing in this one.
            Weather::Replies(Harm::Withheld) if !is_greeting(&message) => continue,
            // By hello and log-in the driver and the proxy look at members; they shall go on believing in this one.
            Weather::Replies(harm) if !is_greeting(&message) => {
                let ends = matches!(harm, Harm::Cut | Harm::Endless);
                let written = to.write_all(&harmed(message, harm)).await;
                while harm == Harm::Endless && to.write_all(&[0; LONG_BYTES]).await.is_ok() {}
                if ends || written.is_err() {
                    return;
                }
                continue;
            }
            _ => {}
        }
        if to.write_all(&message).await.is_err() {
            return;
        }
    }
}

fn harmed(mut message: Vec<u8>, harm: Harm) -> Vec<u8> {
    let length = message.len();
    let as_bytes = |length: usize| i32::try_from(length).unwrap().to_le_bytes();
    match harm {
        Harm::Withheld => message.clear(),
        Harm::Cut => message.truncate(length / 2),
        Harm::Garbage => message = b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        Harm::WrongRequest => message[8] ^= 0x55,
        Harm::TooLong => message[..4].copy_from_slice(&i32::MAX.to_le_bytes()),
        Harm::TooShort => message[..4].copy_from_slice(&as_bytes(length - 1)),
        Harm::Endless => message[..4].copy_from_slice(&as_bytes(MESSAGE_BYTES_MAX)),
        Harm::Twice => message.extend_from_within(..),
        Harm::OldKind => message[12..16].copy_from_slice(&1_i32.to_le_bytes()),
        Harm::MoreToCome => message[16] |= 2,
        Harm::Compressed => message[12..16].copy_from_slice(&2012_i32.to_le_bytes()),
        Harm::BrokenDocument => message[21..25].fill(0xFF),
        Harm::ShortDocument => message[21..25].copy_from_slice(&as_bytes(length - 21 - 4)),
        Harm::EmptyDocument => {
            message.truncate(21);
            message.extend([5, 0, 0, 0, 0]);
            message[..4].copy_from_slice(&as_bytes(26));
        }
    }
    message
}

/// Waits until the relay no longer loses everything.
async fn fair(weather: &watch::Sender<Weather>) {
    let mut weather = weather.subscribe();
    let _ = weather.wait_for(|now| *now != Weather::Silent).await;
}

fn is_greeting(message: &[u8]) -> bool {
    [&b"maxWireVersion"[..], b"versionArray", b"conversationId"]
        .iter()
        .any(|field| message.windows(field.len()).any(|part| part == *field))
}

/// One whole message.
pub(crate) async fn message(from: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = from.read_i32_le().await.ok()?;
    let mut message = length.to_le_bytes().to_vec();
    message.resize(usize::try_from(length).ok()?, 0);
    from.read_exact(&mut message[4..]).await.ok()?;
    Some(message)
}

/// Longer than any hello or step of a log-in.
const LONG_BYTES: usize = 16 * 1024;

/// What every server announces.
const MESSAGE_BYTES_MAX: usize = 48_000_000;
