//! One command over a connection of its own, without a driver: it needs no credentials (which is what
//! the localhost exception is about), leaves nothing running, and tells at once when nobody listens.

use std::io;

use bson::Document;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use crate::error::DeploymentError;

/// Four numbers of four bytes: length of the message, its id, the id answered, the op code.
const HEADER_BYTES: usize = 16;

/// The header, four bytes of flags and the kind of the section.
const BEFORE_BODY_BYTES: usize = HEADER_BYTES + 5;

const OP_MSG: u32 = 2013;

/// The server's own limit for a message, `maxMessageSizeBytes`.
const MESSAGE_BYTES_MAX: usize = 48_000_000;

/// Sends `command` to `address`; an answer without `ok: 1` is an error.
pub(crate) async fn run(
    address: &str,
    command: &Document,
    deadline: Instant,
) -> Result<Document, DeploymentError> {
    let name = || command.keys().next().cloned().unwrap_or_default();
    let outcome = timeout_at(deadline, exchange(address, command)).await;
    let reply = outcome
        .unwrap_or_else(|elapsed| Err(elapsed.into()))
        .map_err(|source| DeploymentError::Unreachable {
            command: name(),
            address: address.to_owned(),
            source,
        })?;
    let ok = reply.get("ok").and_then(bson::Bson::as_f64);
    if ok == Some(1.0) {
        return Ok(reply);
    }
    Err(DeploymentError::Refused {
        command: name(),
        address: address.to_owned(),
        reply: Box::new(reply),
    })
}

async fn exchange(address: &str, command: &Document) -> io::Result<Document> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&message(command)?).await?;
    let length = usize::try_from(stream.read_u32_le().await?).unwrap_or(usize::MAX);
    if !(BEFORE_BODY_BYTES..=MESSAGE_BYTES_MAX).contains(&length) {
        return Err(io::Error::other(format!("an answer of {length} bytes")));
    }
    let mut rest = vec![0; length - 4];
    stream.read_exact(&mut rest).await?;
    Document::from_reader(&rest[BEFORE_BODY_BYTES - 4..]).map_err(io::Error::other)
}

/// An `OP_MSG` with a body and no flags.
fn message(command: &Document) -> io::Result<Vec<u8>> {
    let body = command.to_vec().map_err(io::Error::other)?;
    let length = u32::try_from(BEFORE_BODY_BYTES + body.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(BEFORE_BODY_BYTES + body.len());
    for number in [length, 1, 0, OP_MSG, 0] {
        message.extend(number.to_le_bytes());
    }
    message.push(0);
    message.extend(body);
    Ok(message)
}
