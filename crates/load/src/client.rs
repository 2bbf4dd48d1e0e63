//! A client as thin as can be: raw messages over one connection.

use std::net::SocketAddr;

use anyhow::{Context, bail};
use bson::{Document, doc};
use bytes::BytesMut;
use mdb_auth::{ClientExchange, ClientStep, Mechanism, Secret};
use mdb_wire::message::{begin_reply, seal_reply};
use mdb_wire::{Limits, Message, next_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where to connect, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// What the report calls it.
    pub name: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// User name and password.
    pub user: String,
    /// See `user`.
    pub password: Secret,
}

/// One authenticated connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    buffer: BytesMut,
    request_id: i32,
}

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;

impl Client {
    /// Connects and authenticates with SCRAM-SHA-256.
    pub async fn connect(target: &Target) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            buffer: BytesMut::with_capacity(READ_BYTES),
            request_id: 0,
        };
        client.run(&doc! {"hello": 1, "$db": "admin"}).await?;
        client.authenticate(target).await?;
        Ok(client)
    }

    async fn authenticate(&mut self, target: &Target) -> anyhow::Result<()> {
        let nonce = "fyko+d2lbbFgONRv9qkxdawLHo+Vgk7qvUOKUwuWLIWg4l";
        let (exchange, payload) = ClientExchange::begin(
            Mechanism::ScramSha256,
            &target.user,
            &target.password,
            nonce,
        )?;
        let start = doc! {
            "saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": binary(payload),
            "options": {"skipEmptyExchange": true}, "$db": "admin",
        };
        let reply = self.run(&start).await?;
        let conversation = reply.get_i32("conversationId")?;
        let ClientStep::Respond(exchange, payload) = exchange.next(payload_of(&reply)?)? else {
            bail!("the exchange ended too early");
        };
        let step = doc! {
            "saslContinue": 1, "conversationId": conversation, "payload": binary(payload), "$db": "admin",
        };
        let reply = self.run(&step).await?;
        exchange
            .next(payload_of(&reply)?)
            .context("the server's proof")?;
        Ok(())
    }

    /// Sends a command and reads its reply.
    ///
    /// # Errors
    /// If the connection breaks or the reply is not ok.
    pub async fn run(&mut self, command: &Document) -> anyhow::Result<Document> {
        let mut message = encode(command)?;
        let reply = self.exchange(&mut message).await?;
        let reply: Document = bson::deserialize_from_slice(reply.body().bytes())?;
        if reply.get_f64("ok").is_ok_and(|ok| ok > 0.0) {
            Ok(reply)
        } else {
            bail!("{reply}")
        }
    }

    /// Sends a message made beforehand and reads the reply to it.
    pub async fn exchange(&mut self, message: &mut [u8]) -> anyhow::Result<Message> {
        self.request_id = self.request_id.wrapping_add(1);
        message
            .get_mut(4..8)
            .context("a message has a header")?
            .copy_from_slice(&self.request_id.to_le_bytes());
        self.stream.write_all(message).await?;
        loop {
            if let Some(frame) = next_frame(&mut self.buffer, Limits::default())? {
                if frame.response_to != self.request_id {
                    bail!(
                        "reply to {} instead of {}",
                        frame.response_to,
                        self.request_id
                    );
                }
                return Ok(Message::parse(frame)?);
            }
            self.buffer.reserve(READ_BYTES);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("the connection was closed");
            }
        }
    }
}

/// A command as a message, to be sent any number of times.
pub(crate) fn encode(command: &Document) -> anyhow::Result<Vec<u8>> {
    let body = bson::serialize_to_vec(command)?;
    let mut message = begin_reply(body.len());
    message.extend_from_slice(&body);
    seal_reply(&mut message, 0, 0, 0);
    Ok(message)
}

fn binary(bytes: Vec<u8>) -> bson::Binary {
    bson::Binary {
        subtype: bson::spec::BinarySubtype::Generic,
        bytes,
    }
}

fn payload_of(reply: &Document) -> anyhow::Result<&[u8]> {
    Ok(reply.get_binary_generic("payload")?)
}
