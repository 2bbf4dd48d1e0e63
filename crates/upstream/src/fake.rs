//! A server for tests that answers as it is told, over real sockets.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use bson::{Document, RawDocument, doc};
use mdb_scope::ServerAddress;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Semaphore,
};

use tokio_rustls::TlsAcceptor;

use crate::frame;

/// Listens until it is dropped together with its runtime.
#[derive(Clone)]
pub(crate) struct FakeServer {
    pub(crate) address: ServerAddress,
    shared: Arc<Shared>,
}

struct Shared {
    hello: Mutex<Document>,
    /// Connections on which something else than `hello` and `buildInfo` was asked.
    used: AtomicUsize,
    /// One permit for each `hang` received.
    hanging: Semaphore,
}

impl FakeServer {
    pub(crate) async fn start(hello: Document) -> Self {
        Self::start_with(hello, None).await
    }

    pub(crate) async fn start_with(hello: Document, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shared = Arc::new(Shared {
            hello: Mutex::new(hello),
            used: AtomicUsize::new(0),
            hanging: Semaphore::new(0),
        });
        let server = Self {
            address: listener.local_addr().unwrap().to_string().into(),
            shared: Arc::clone(&shared),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                match tls.clone() {
                    None => tokio::spawn(serve(stream, shared)),
                    Some(tls) => tokio::spawn(async move {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, shared).await;
                        }
                    }),
                };
            }
        });
        server
    }

    pub(crate) fn say(&self, hello: Document) {
        *self.shared.hello.lock().unwrap() = hello;
    }

    /// Connections that commands were sent on, so far.
    pub(crate) fn used(&self) -> usize {
        self.shared.used.load(Ordering::SeqCst)
    }

    /// Waits until one more `hang` was received.
    pub(crate) async fn hanging(&self) {
        self.shared.hanging.acquire().await.unwrap().forget();
    }
}

pub(crate) fn primary() -> Document {
    doc! { "ok": 1, "setName": "rs", "isWritablePrimary": true, "maxWireVersion": 17 }
}

pub(crate) fn secondary() -> Document {
    doc! { "ok": 1, "setName": "rs", "secondary": true, "maxWireVersion": 17 }
}

pub(crate) fn standalone() -> Document {
    doc! { "ok": 1, "maxWireVersion": 17 }
}

/// The frame of a reply.
pub(crate) fn reply(body: &Document, response_to: i32) -> Vec<u8> {
    let raw = bson::RawDocumentBuf::try_from(body).unwrap();
    let mut frame = frame::command(&raw, 1_000_000);
    frame[8..12].copy_from_slice(&response_to.to_le_bytes());
    frame
}

/// The frame of a command of one field.
pub(crate) fn command(name: &str, request_id: i32) -> Vec<u8> {
    let raw = bson::RawDocumentBuf::try_from(&doc! { name: 1, "$db": "admin" }).unwrap();
    frame::command(&raw, request_id)
}

/// Reads one frame: its request id and its body.
pub(crate) async fn read_command(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<(i32, Document)> {
    let length = stream.read_i32_le().await?;
    let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
    stream.read_exact(&mut rest).await?;
    let request_id = i32::from_le_bytes(rest[..4].try_into().unwrap());
    let body = RawDocument::from_bytes(&rest[17..]).unwrap();
    Ok((request_id, Document::try_from(body).unwrap()))
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let mut is_used = false;
    while let Ok((request_id, body)) = read_command(&mut stream).await {
        let name = body.keys().next().unwrap().as_str();
        let ok = reply(&doc! { "ok": 1 }, request_id);
        let answer = match name {
            "hello" => reply(&shared.hello.lock().unwrap(), request_id),
            "buildInfo" => reply(
                &doc! { "ok": 1, "version": "6.0.5", "versionArray": [6, 0, 5, 0] },
                request_id,
            ),
            "garbage" => b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            "cut" => ok[..ok.len() - 1].to_vec(),
            "hang" => Vec::new(),
            _ => ok,
        };
        if !matches!(name, "hello" | "buildInfo") && !is_used {
            is_used = true;
            shared.used.fetch_add(1, Ordering::SeqCst);
        }
        if name == "hang" {
            shared.hanging.add_permits(1);
        }
        if stream.write_all(&answer).await.is_err() || name == "cut" {
            return;
        }
    }
}
