//! The client's bytes: whole messages off a stream, without holding memory for what has not arrived.

use std::future::{pending, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use futures_util::FutureExt as _;
use mdb_wire::frame::{Frame, missing_bytes};
use mdb_wire::{DecodeError, Limits, next_frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use crate::unread::{Room, Wait};

/// A stream, and what was read of it and not taken yet.
#[derive(Debug)]
pub(crate) struct Inbox<S> {
    stream: S,
    buffer: BytesMut,
    /// Bytes of the largest allocation since the buffer was released.
    capacity_seen: usize,
}

/// Why there is no next message.
#[derive(Debug)]
pub(crate) enum Silence {
    /// The client closed its side.
    Closed,
    /// The socket failed.
    Io(io::Error),
    /// What came is no message.
    Malformed(DecodeError),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Inbox<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: BytesMut::new(),
            capacity_seen: 0,
        }
    }

    /// The next whole message. Nothing is lost if the future is dropped.
    pub(crate) async fn next(&mut self, limits: Limits) -> Result<Frame, Silence> {
        loop {
            if let Some(frame) = next_frame(&mut self.buffer, limits).map_err(Silence::Malformed)? {
                return Ok(frame);
            }
            self.release();
            match self.fill().await {
                Ok(0) => return Err(Silence::Closed),
                Ok(_) => {}
                Err(error) => return Err(Silence::Io(error)),
            }
        }
    }

    /// Waits until the client closes its side. What arrives meanwhile is kept for [`Inbox::next`]; a client that has
    /// sent more before it closed still gets its answers, so its end is not noticed here.
    pub(crate) async fn closed(&mut self) {
        while self.buffer.len() < EARLY_BYTES_MAX {
            match self.fill().await {
                Ok(0) | Err(_) if self.buffer.is_empty() => return,
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        pending::<()>().await;
    }

    /// Waits until the client says something more, or closes its side. What arrives is kept for [`Inbox::next`].
    pub(crate) async fn arrives(&mut self) {
        if self.buffer.is_empty() {
            // However it ends: the next read tells.
            let _ = self.fill().await;
        }
    }

    /// Whether nothing has arrived that was not taken yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Writes a whole message. Waits for as long as the client does not read, but `None` once others of its app need the room.
    pub(crate) async fn write(
        &mut self,
        message: &[u8],
        room: Option<&Room>,
    ) -> Option<io::Result<()>> {
        let mut rest = message;
        let mut wait: Option<Wait<'_>> = None;
        loop {
            let written = match (room, &wait) {
                (None, _) => self.write_part(rest).await,
                // Most messages are taken at once, and are never among those that wait.
                (Some(room), None) => {
                    let Some(written) = self.write_part(rest).now_or_never() else {
                        wait = Some(room.wait(message.len()));
                        continue;
                    };
                    written
                }
                (Some(_), Some(wait)) => tokio::select! {
                    written = self.write_part(rest) => {
                        wait.goes_on();
                        written
                    }
                    () = wait.ended() => return None,
                },
            };
            match written {
                Ok(0) => return Some(Ok(())),
                Ok(bytes) => rest = rest.get(bytes..).unwrap_or_default(),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Writes as much as the client takes; 0 when nothing is left of it. Nothing is lost if the future is dropped.
    async fn write_part(&mut self, rest: &[u8]) -> io::Result<usize> {
        if rest.is_empty() {
            self.stream.flush().await?;
            return Ok(0);
        }
        match self.stream.write(rest).await? {
            0 => Err(io::ErrorKind::WriteZero.into()),
            bytes => Ok(bytes),
        }
    }

    /// Reads what is there; 0 at the end.
    async fn fill(&mut self) -> io::Result<usize> {
        let missing = missing_bytes(&self.buffer);
        let read = if missing > CHUNK_BYTES {
            // Grows with what has arrived, whatever length the header claims.
            let room = missing.min(self.buffer.len().max(ROOM_BYTES_MIN));
            self.buffer.reserve(room);
            self.stream.read_buf(&mut self.buffer).await
        } else {
            poll_fn(|context| self.poll_chunk(context)).await
        };
        self.capacity_seen = self.capacity_seen.max(self.buffer.capacity());
        read
    }

    /// Reads by way of the stack: while nothing comes, no buffer is held for it.
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut chunk = [MaybeUninit::uninit(); CHUNK_BYTES];
        let mut chunk = ReadBuf::uninit(&mut chunk);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut chunk))?;
        self.buffer.extend_from_slice(chunk.filled());
        Poll::Ready(Ok(chunk.filled().len()))
    }

    /// Gives back a large buffer that holds nothing.
    fn release(&mut self) {
        if self.buffer.is_empty() && self.capacity_seen > IDLE_BYTES_MAX {
            self.buffer = BytesMut::new();
            self.capacity_seen = 0;
        }
    }
}

/// Read at once by way of the stack: most commands whole, and no more than a small part of a task's stack.
const CHUNK_BYTES: usize = 8 * 1024;
/// The least that is made room for when a large message comes, so that its first part is not read in small pieces.
const ROOM_BYTES_MIN: usize = 64 * 1024;
/// What an idle client's buffer may keep: enough for the usual command, so that busy clients do not allocate each time.
const IDLE_BYTES_MAX: usize = 4 * 1024;
/// What is read ahead while a command runs, to notice that the client is gone; the rest waits in the socket.
const EARLY_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
