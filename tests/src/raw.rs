//! A client that speaks the protocol by itself.

use std::net::SocketAddr;
use std::time::Duration;

use bson::spec::BinarySubtype;
use bson::{Binary, Bson, Document, RawDocument, RawDocumentBuf, doc};
use mdb_auth::{ClientExchange, ClientStep, Mechanism, Secret};
use mdb_wire::compression::{compress, decompress};
use mdb_wire::frame::{HEADER_BYTES, header};
use mdb_wire::message::CHECKSUM_PRESENT;
use mdb_wire::{Compressor, Limits, OpCode, next_frame};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// One connection.
#[derive(Debug)]
pub struct RawClient {
    stream: TcpStream,
    last_id: i32,
}

/// A part of an OP_MSG.
#[derive(Debug)]
pub enum Section<'a> {
    /// Kind 0.
    Body(&'a RawDocument),
    /// Kind 1: a name, and documents one after another.
    Sequence(&'a str, &'a [RawDocumentBuf]),
    /// Any kind, any bytes.
    Other(u8, &'a [u8]),
}

/// One message from the server.
#[derive(Debug)]
pub struct RawReply {
    /// Number of the opcode.
    pub op_code: i32,
    /// What its sender calls it.
    pub request_id: i32,
    /// Which request it answers.
    pub response_to: i32,
    /// How it was compressed, if it was.
    pub compressor: Option<Compressor>,
    /// OP_MSG's flags, OP_REPLY's response flags.
    pub flags: u32,
    /// Its one document.
    pub body: RawDocumentBuf,
}

impl RawReply {
    /// The body, parsed.
    pub fn document(&self) -> Document {
        document(&self.body)
    }
}

impl RawClient {
    /// To any server.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, last_id: 0 }
    }

    /// Sends these bytes. A server that has closed the connection already is no failure: reading tells.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// Sends an OP_MSG and gives its request id.
    pub async fn send(&mut self, flags: u32, sections: &[Section<'_>]) -> i32 {
        self.last_id += 1;
        let bytes = message(self.last_id, flags, sections);
        self.send_bytes(&bytes).await;
        self.last_id
    }

    /// The same, compressed.
    pub async fn send_compressed(
        &mut self,
        compressor: Compressor,
        flags: u32,
        sections: &[Section<'_>],
    ) -> i32 {
        self.last_id += 1;
        let bytes = message(self.last_id, flags, sections);
        self.send_bytes(&compress(&bytes, compressor).unwrap())
            .await;
        self.last_id
    }

    /// Says hello and agrees on these compressors; gives what was agreed on.
    pub async fn agree(&mut self, names: &[&str]) -> Vec<String> {
        let hello = doc! {"hello": 1, "compression": names, "$db": "admin"};
        let hello = self.ok(&hello).await;
        let agreed = hello.get_array("compression").cloned().unwrap_or_default();
        let names = agreed.iter().map(|name| name.as_str().unwrap().to_owned());
        names.collect()
    }

    /// The next message, or `None` if the server has closed the connection.
    pub async fn receive(&mut self) -> Option<RawReply> {
        let received = timeout(REPLY_MAX, self.receive_at_leisure()).await;
        received.expect("a reply or an end of the connection in time")
    }

    async fn receive_at_leisure(&mut self) -> Option<RawReply> {
        let mut head = [0; HEADER_BYTES];
        self.stream.read_exact(&mut head).await.ok()?;
        let int = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let length = usize::try_from(int(0)).unwrap();
        let mut rest = vec![0; length - HEADER_BYTES];
        self.stream.read_exact(&mut rest).await.ok()?;
        let mut compressor = None;
        if int(12) == OpCode::Compressed.number() {
            let (inner, used) = unpacked(&head, &rest);
            (head, rest) = inner;
            compressor = Some(used);
        }
        let int = |at: usize| i32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        let flags = u32::from_le_bytes(rest[..4].try_into().unwrap());
        let op_code = int(12);
        let body_at = if op_code == OpCode::Reply.number() {
            20
        } else {
            5
        };
        let size: [u8; 4] = rest[body_at..body_at + 4].try_into().unwrap();
        let size = usize::try_from(i32::from_le_bytes(size)).unwrap();
        let end = body_at + size;
        if op_code == OpCode::Message.number() && flags & CHECKSUM_PRESENT != 0 {
            let mut covered = head.to_vec();
            covered.extend_from_slice(&rest[..end]);
            assert_eq!(crc32c::crc32c(&covered).to_le_bytes(), rest[end..]);
        } else {
            assert_eq!(end, rest.len(), "nothing follows the body");
        }
        let body = RawDocumentBuf::from_bytes(rest[body_at..end].to_vec()).unwrap();
        Some(RawReply {
            op_code,
            request_id: int(4),
            response_to: int(8),
            compressor,
            flags,
            body,
        })
    }

    /// Sends an OP_MSG and awaits its reply; `None` if the connection is closed instead.
    pub async fn try_exchange(&mut self, sections: &[Section<'_>]) -> Option<RawReply> {
        let id = self.send(0, sections).await;
        let reply = self.receive().await?;
        assert_eq!(reply.response_to, id);
        Some(reply)
    }

    /// Runs a command given as raw BSON.
    pub async fn raw_command(&mut self, body: &RawDocument) -> RawDocumentBuf {
        let reply = self.try_exchange(&[Section::Body(body)]).await;
        reply.expect("the connection stays").body
    }

    /// Runs a command, which names its `$db` itself.
    pub async fn command(&mut self, body: &Document) -> Document {
        document(&self.raw_command(&raw(body)).await)
    }

    /// Runs a command that must succeed.
    pub async fn ok(&mut self, body: &Document) -> Document {
        let reply = self.command(body).await;
        assert!(is_ok(&reply), "{body}\n{reply}");
        assert!(!reply.contains_key("writeErrors"), "{body}\n{reply}");
        reply
    }

    /// Runs a command that must fail, and gives its code.
    pub async fn fails(&mut self, body: &Document) -> i32 {
        let reply = self.command(body).await;
        assert!(!is_ok(&reply), "{body}\n{reply}");
        reply.get_i32("code").unwrap()
    }

    /// Goes through SCRAM and gives the last reply, be it a success or an error.
    pub async fn log_in(&mut self, mechanism: Mechanism, user: &str, password: &str) -> Document {
        let secret = Secret::new(password.to_owned());
        let (mut exchange, mut payload) =
            ClientExchange::begin(mechanism, user, &secret, NONCE).unwrap();
        let mut command = doc! {
            "saslStart": 1, "mechanism": mechanism.name(), "payload": binary(&payload),
            "options": {"skipEmptyExchange": true}, "$db": "admin",
        };
        loop {
            let reply = self.command(&command).await;
            let Ok(challenge) = reply.get_binary_generic("payload") else {
                return reply;
            };
            match exchange.next(challenge).unwrap() {
                ClientStep::Verified => return reply,
                ClientStep::Respond(next, proof) => (exchange, payload) = (next, proof),
            }
            let conversation = reply.get_i32("conversationId").unwrap();
            command = doc! {
                "saslContinue": 1, "conversationId": conversation,
                "payload": binary(&payload), "$db": "admin",
            };
        }
    }

    /// Whether the server closes the connection without saying more.
    pub async fn is_closed(&mut self) -> bool {
        self.receive().await.is_none()
    }
}

/// Header and rest of the message inside an OP_COMPRESSED.
fn unpacked(head: &[u8], rest: &[u8]) -> (([u8; HEADER_BYTES], Vec<u8>), Compressor) {
    let mut bytes = [head, rest].concat().as_slice().into();
    let frame = next_frame(&mut bytes, Limits::default()).unwrap().unwrap();
    let all = Compressor::ALL.into_iter().collect();
    let (inner, compressor) = decompress(&frame, all, Limits::default()).unwrap();
    let head = inner.bytes[..HEADER_BYTES].try_into().unwrap();
    ((head, inner.payload().to_vec()), compressor)
}

/// An OP_MSG. With the flag of a checksum it gets one.
fn message(request_id: i32, flags: u32, sections: &[Section<'_>]) -> Vec<u8> {
    let mut out = vec![0; HEADER_BYTES];
    out.extend_from_slice(&flags.to_le_bytes());
    for section in sections {
        match section {
            Section::Body(body) => {
                out.push(0);
                out.extend_from_slice(body.as_bytes());
            }
            Section::Sequence(name, documents) => {
                let size: usize = documents.iter().map(|d| d.as_bytes().len()).sum();
                let size = i32::try_from(4 + name.len() + 1 + size).unwrap();
                out.push(1);
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(name.as_bytes());
                out.push(0);
                for document in *documents {
                    out.extend_from_slice(document.as_bytes());
                }
            }
            Section::Other(kind, bytes) => {
                out.push(*kind);
                out.extend_from_slice(bytes);
            }
        }
    }
    let has_checksum = flags & CHECKSUM_PRESENT != 0;
    let length = out.len() + if has_checksum { 4 } else { 0 };
    out[..HEADER_BYTES].copy_from_slice(&header(length, request_id, 0, OpCode::Message));
    if has_checksum {
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
    }
    out
}

/// A document as bytes.
pub fn raw(document: &Document) -> RawDocumentBuf {
    RawDocumentBuf::from_bytes(bson::serialize_to_vec(document).unwrap()).unwrap()
}

fn document(raw: &RawDocument) -> Document {
    bson::deserialize_from_slice(raw.as_bytes()).unwrap()
}

/// Whether a reply says `ok: 1`.
pub fn is_ok(reply: &Document) -> bool {
    reply.get("ok") == Some(&Bson::Double(1.0))
}

/// The documents of a reply with a cursor.
pub fn batch(reply: &Document) -> Vec<Document> {
    let cursor = reply
        .get_document("cursor")
        .unwrap_or_else(|_| panic!("no cursor: {reply}"));
    let batch = cursor
        .get_array("firstBatch")
        .or_else(|_| cursor.get_array("nextBatch"));
    batch
        .unwrap()
        .iter()
        .map(|d| d.as_document().unwrap().clone())
        .collect()
}

/// The id of the cursor in a reply.
pub fn cursor_id(reply: &Document) -> i64 {
    reply.get_document("cursor").unwrap().get_i64("id").unwrap()
}

/// The fields of a document in their order.
pub fn keys(document: &Document) -> Vec<&str> {
    document.keys().map(String::as_str).collect()
}

/// A binary of subtype 0.
pub fn binary(bytes: &[u8]) -> Binary {
    Binary {
        subtype: BinarySubtype::Generic,
        bytes: bytes.to_vec(),
    }
}

/// Tests need no fresh one.
const NONCE: &str = "rOprNGfwEbeRWgbNEkqOrOprNGfwEbeR";

/// Longer than the proxy waits for an upstream.
const REPLY_MAX: Duration = Duration::from_secs(60);
