//! One connection to one server: one message out, one reply back.

use std::io;
use std::net::SocketAddr;

use bson::{Document, RawDocument};
use bytes::{Bytes, BytesMut};
use mdb_telemetry::{ConnectionState, Metrics, UpstreamCloseReason};
use mdb_wire::{Compressor, compression::compress};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

use crate::{
    admission::{Admission, Unbounded},
    error::{ExchangeError, ExchangeErrorKind, Sent},
    frame::{self, FrameError, HEADER_BYTES},
    pool::Pooled,
    stream::Stream,
};

/// A connection to a server.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: Stream,
    local_address: Option<SocketAddr>,
    buffer: BytesMut,
    request_id: i32,
    reply_bytes_max: usize,
    /// How messages are compressed from now on, both ways.
    compressor: Option<Compressor>,
    /// No exchange is under way, and none has failed or was given up half-way.
    is_clean: bool,
    /// Cancelled when the server is known to have fallen silent.
    interrupt: CancellationToken,
    tally: Option<Tally>,
}

impl Connection {
    /// Wraps a stream over which nothing was sent yet.
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            local_address: stream.local_address(),
            stream,
            buffer: BytesMut::new(),
            request_id: 0,
            reply_bytes_max: reply_bytes_max(DEFAULT_MESSAGE_BYTES_MAX),
            compressor: None,
            is_clean: true,
            interrupt: CancellationToken::new(),
            tally: None,
        }
    }

    /// The proxy's own end.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.local_address
    }

    /// Takes over the server's `maxMessageSizeBytes`.
    pub(crate) fn set_message_bytes_max(&mut self, message_bytes_max: i32) {
        self.reply_bytes_max = reply_bytes_max(message_bytes_max);
    }

    /// What hello and the log-in had to say is said: later messages are compressed.
    pub(crate) fn set_compressor(&mut self, compressor: Option<Compressor>) {
        self.compressor = compressor;
    }

    /// Cancelling `interrupt` breaks the connection off, whatever it waits for.
    pub(crate) fn set_interrupt(&mut self, interrupt: CancellationToken) {
        self.interrupt = interrupt;
    }

    /// Whether the next reply will be the reply to the next message.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_clean
    }

    /// Sends a command of the proxy's own and reads its reply.
    pub(crate) async fn run(&mut self, body: &RawDocument) -> Result<Document, ExchangeError> {
        let request_id = self.next_request_id();
        let frame = frame::command(body, request_id);
        let reply = self.exchange_frame(&frame, request_id).await?;
        frame::body(&reply)
            .and_then(|body| Document::try_from(body).map_err(|_| FrameError::Body))
            .map_err(unusable)
    }

    /// [`Connection::exchange_admitted`] of what has a small reply.
    pub(crate) async fn exchange_frame(
        &mut self,
        frame: &[u8],
        request_id: i32,
    ) -> Result<Bytes, ExchangeError> {
        self.exchange_admitted(frame, request_id, &Unbounded).await
    }

    /// Sends a frame with `request_id` in its header and reads the reply; a large one not before there is room for it. When
    /// this future is dropped half-way, the connection stays unclean for good.
    pub(crate) async fn exchange_admitted(
        &mut self,
        frame: &[u8],
        request_id: i32,
        admission: &dyn Admission,
    ) -> Result<Bytes, ExchangeError> {
        if !std::mem::replace(&mut self.is_clean, false) {
            return Err(ExchangeError {
                kind: ExchangeErrorKind::Spent,
                sent: Sent::Nothing,
            });
        }
        let interrupt = self.interrupt.clone();
        let exchange = async {
            let packed = match self.compressor {
                Some(compressor) => pack(frame, compressor).await,
                None => None,
            };
            self.send(packed.as_deref().unwrap_or(frame)).await?;
            self.receive(request_id, admission).await
        };
        let reply = interrupt
            .run_until_cancelled(exchange)
            .await
            .unwrap_or_else(|| Err(broken(io::ErrorKind::TimedOut.into())))?;
        self.is_clean = true;
        Ok(reply)
    }

    pub(crate) fn next_request_id(&mut self) -> i32 {
        self.request_id = self.request_id.wrapping_add(1);
        self.request_id
    }

    /// Counts it in the metrics from now on until its end, as in use.
    pub(crate) fn count(&mut self, metrics: Metrics) {
        self.tally = Some(Tally::new(metrics));
    }

    /// Tells the metrics that it is now idle, or in use.
    pub(crate) fn enter(&mut self, state: ConnectionState) {
        if let Some(tally) = &mut self.tally {
            tally.enter(state);
        }
    }

    async fn send(&mut self, frame: &[u8]) -> Result<(), ExchangeError> {
        let mut rest = frame;
        while !rest.is_empty() {
            let written = match self.stream.write(rest).await {
                Ok(0) => Err(io::Error::from(io::ErrorKind::WriteZero)),
                other => other,
            };
            let written = written.map_err(|error| {
                let is_untouched = rest.len() == frame.len() && !self.stream.keeps_bytes_back();
                ExchangeError {
                    kind: ExchangeErrorKind::Network(error),
                    sent: if is_untouched {
                        Sent::Nothing
                    } else {
                        Sent::MaybeSome
                    },
                }
            })?;
            rest = &rest[written..];
        }
        self.stream.flush().await.map_err(broken)
    }

    async fn receive(
        &mut self,
        request_id: i32,
        admission: &dyn Admission,
    ) -> Result<Bytes, ExchangeError> {
        self.buffer.reserve(READ_BYTES);
        self.read_until(HEADER_BYTES).await?;
        let mut header = [0; HEADER_BYTES];
        header.copy_from_slice(&self.buffer[..HEADER_BYTES]);
        let max = self.reply_bytes_max;
        let claim = frame::claim(header, request_id, max).map_err(unusable)?;
        let bytes = claim.bytes;
        let room = if claim.is_compressed {
            self.read_until(bytes.min(frame::COMPRESSED_HEAD_BYTES))
                .await?;
            bytes.max(frame::claimed_bytes(&self.buffer)).min(max)
        } else {
            bytes
        };
        if room > TRUSTED_BYTES {
            admission.admit(room).await;
        }
        while self.buffer.len() < bytes {
            if self.buffer.len() == self.buffer.capacity() {
                // The length is only a claim: memory grows with what has really arrived.
                let missing = bytes - self.buffer.len();
                self.buffer
                    .reserve(missing.min(self.buffer.len().max(TRUSTED_BYTES)));
            }
            self.read_some().await?;
        }
        let surplus = self.buffer.len() - bytes;
        if surplus > 0 {
            return Err(unusable(FrameError::Surplus(surplus)));
        }
        let reply = if bytes > TRUSTED_BYTES {
            // Its memory shall not stay with an idle connection.
            std::mem::take(&mut self.buffer)
        } else {
            self.buffer.split_to(bytes)
        };
        let reply = if claim.is_compressed {
            unpack(reply.freeze(), self.compressor, max).await?
        } else {
            reply.freeze()
        };
        frame::check_flags(&reply).map_err(unusable)?;
        Ok(reply)
    }

    /// Reads the head of a reply.
    async fn read_until(&mut self, bytes: usize) -> Result<(), ExchangeError> {
        while self.buffer.len() < bytes {
            self.read_some().await?;
        }
        Ok(())
    }

    async fn read_some(&mut self) -> Result<(), ExchangeError> {
        match self.stream.read(&mut self.buffer).await {
            Ok(0) => Err(broken(io::Error::from(io::ErrorKind::UnexpectedEof))),
            Ok(_) => Ok(()),
            Err(error) => Err(broken(error)),
        }
    }
}

impl Pooled for Connection {
    fn is_alive(&self) -> bool {
        self.stream.is_quiet()
    }

    fn close(mut self, reason: UpstreamCloseReason) {
        if let Some(tally) = &mut self.tally {
            tally.reason = reason;
        }
    }
}

/// Keeps the gauges of connections right, whichever way a connection ends.
#[derive(Debug)]
struct Tally {
    metrics: Metrics,
    state: ConnectionState,
    reason: UpstreamCloseReason,
}

impl Tally {
    fn new(metrics: Metrics) -> Self {
        metrics.upstream_connection_created();
        metrics.upstream_connection_entered(ConnectionState::InUse);
        Self {
            metrics,
            state: ConnectionState::InUse,
            reason: UpstreamCloseReason::Error,
        }
    }

    fn enter(&mut self, state: ConnectionState) {
        self.metrics.upstream_connection_left(self.state);
        self.metrics.upstream_connection_entered(state);
        self.state = state;
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.metrics.upstream_connection_left(self.state);
        self.metrics.upstream_connection_closed(self.reason);
    }
}

/// The message as an OP_COMPRESSED; `None` where it has to be sent as it is.
async fn pack(frame: &[u8], compressor: Compressor) -> Option<Vec<u8>> {
    if frame.len() <= AT_ONCE_BYTES_MAX {
        return compress(frame, compressor);
    }
    let frame = frame.to_vec();
    let work = spawn_blocking(move || compress(&frame, compressor));
    work.await.ok()?
}

/// The message inside an OP_COMPRESSED.
async fn unpack(
    reply: Bytes,
    agreed: Option<Compressor>,
    bytes_max: usize,
) -> Result<Bytes, ExchangeError> {
    let unpacked = if frame::claimed_bytes(&reply) <= AT_ONCE_BYTES_MAX {
        frame::unpack(reply, agreed, bytes_max)
    } else {
        let work = spawn_blocking(move || frame::unpack(reply, agreed, bytes_max));
        // It ends early only with the runtime.
        work.await.unwrap_or(Err(FrameError::Body))
    };
    unpacked.map_err(unusable)
}

fn broken(error: io::Error) -> ExchangeError {
    ExchangeError {
        kind: ExchangeErrorKind::Network(error),
        sent: Sent::MaybeSome,
    }
}

fn unusable(error: FrameError) -> ExchangeError {
    ExchangeError {
        kind: ExchangeErrorKind::Reply(error),
        sent: Sent::MaybeSome,
    }
}

fn reply_bytes_max(message_bytes_max: i32) -> usize {
    let bytes = usize::try_from(message_bytes_max).unwrap_or_default();
    bytes.clamp(DEFAULT_REPLY_BYTES_MAX, REPLY_BYTES_CEILING) + REPLY_SURPLUS_BYTES
}

/// What every supported server announces; until its hello was read, the assumption.
const DEFAULT_MESSAGE_BYTES_MAX: i32 = 48_000_000;
const DEFAULT_REPLY_BYTES_MAX: usize = 48_000_000;
/// No server announces more, and a limit that another sets is none.
const REPLY_BYTES_CEILING: usize = 64 * 1024 * 1024;
/// Servers allow themselves this much above their own limit, for the fields around the documents.
const REPLY_SURPLUS_BYTES: usize = 16 * 1024;
/// Room for the first read: the usual reply comes whole.
const READ_BYTES: usize = 16 * 1024;
/// Up to how many bytes are compressed or decompressed by the thread that serves others as well: by the slowest compressor
/// it takes one or two milliseconds.
const AT_ONCE_BYTES_MAX: usize = 64 * 1024;
/// Memory given for a claimed length before its bytes have arrived, and kept between replies.
const TRUSTED_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests;
