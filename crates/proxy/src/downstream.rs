//! One client connection, from its first byte to its last.

use std::sync::Arc;
use std::time::Duration;

use mdb_scope::{Duty, Local};
use mdb_telemetry::CloseReason;
use mdb_wire::message::{CHECKSUM_PRESENT, MORE_TO_COME, begin_reply, seal_reply};
use mdb_wire::{Command, Compressor, DecodeError, Frame, Message, OpCode, legacy};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::belongings;
use crate::clients;
use crate::connection::Connection;
use crate::dispatch::{self, Call};
use crate::error::{Error, LegacyError, Limit};
use crate::exhaust::Exhaust;
use crate::guest::Guest;
use crate::inbox::{Inbox, Silence};
use crate::labels;
use crate::observe::{Observed, observe};
use crate::packing;
use crate::reply;
use crate::shared::Shared;

/// Serves one client until it leaves, breaks the protocol or `leave` is cancelled: then the command that runs is
/// answered with 91, and the connection is closed. Says why it ended.
pub async fn serve_client<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    guest: Guest,
    shared: Arc<Shared>,
    leave: CancellationToken,
) -> CloseReason {
    let connection = Connection::new(guest, &shared);
    let mut downstream = Downstream {
        inbox: Inbox::new(stream),
        connection,
        shared,
        leave,
        replies: 0,
    };
    let reason = downstream.serve().await;
    let Downstream {
        inbox,
        mut connection,
        shared,
        ..
    } = downstream;
    // The client learns of its end before what it leaves behind is cleared away.
    drop(inbox);
    clients::leave(&shared, &mut connection);
    belongings::reclaim(&shared, &mut connection).await;
    reason
}

/// One client connection.
struct Downstream<S> {
    inbox: Inbox<S>,
    connection: Connection,
    shared: Arc<Shared>,
    leave: CancellationToken,
    /// Replies sent: names the next one.
    replies: i32,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Downstream<S> {
    /// The life of a client: read a message, do what it says, answer, until one of these ends it.
    async fn serve(&mut self) -> CloseReason {
        loop {
            let answered = match self.receive().await {
                Ok(frame) => self.serve_one(frame).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = answered {
                self.log_end(reason);
                return reason;
            }
        }
    }

    async fn serve_one(&mut self, frame: Frame) -> Result<(), CloseReason> {
        // A client that has sent a whole message is no longer silent.
        if !self.connection.authentication.is_in_dialogue() {
            self.connection.deadline = None;
        }
        let mut request = Request {
            id: frame.request_id,
            bytes: frame.bytes.len(),
            compressor: None,
            has_checksum: false,
            wants_reply: true,
            started_at: Instant::now(),
        };
        let frame = match frame.opcode {
            OpCode::Compressed => self.unpack(frame, &mut request).await?,
            _ => frame,
        };
        match frame.opcode {
            OpCode::Message => self.serve_message(frame, request).await,
            OpCode::Query => self.serve_query(frame, request).await,
            OpCode::GetMore => self.refuse_query(request).await,
            OpCode::Reply | OpCode::Compressed => Err(CloseReason::Protocol),
        }
    }

    /// The message inside an OP_COMPRESSED.
    async fn unpack(&mut self, frame: Frame, request: &mut Request) -> Result<Frame, CloseReason> {
        let limits = self.connection.limits();
        match packing::unpack(frame, self.connection.compressors, limits).await {
            Ok((frame, compressor)) => {
                request.compressor = Some(compressor);
                Ok(frame)
            }
            Err(error) => Err(self.refuse_malformed(error).await),
        }
    }

    /// The next message, however long the client takes for it, unless it has a deadline.
    async fn receive(&mut self) -> Result<Frame, CloseReason> {
        let limits = self.connection.limits();
        let received = tokio::select! {
            biased;
            received = self.inbox.next(limits) => received,
            () = self.leave.cancelled() => return Err(CloseReason::Drain),
            reason = self.connection.patience() => return Err(reason),
            () = released(&self.connection, &self.shared) => return Err(CloseReason::Drain),
        };
        match received {
            Ok(frame) => Ok(frame),
            Err(Silence::Closed) => Err(CloseReason::Client),
            Err(Silence::Io(error)) => {
                tracing::debug!(connection = self.connection.id, %error, "reading failed");
                Err(CloseReason::Io)
            }
            Err(Silence::Malformed(error)) => Err(self.refuse_malformed(error).await),
        }
    }

    /// An OP_MSG: a command, and its reply; where its client takes several, all of them.
    async fn serve_message(
        &mut self,
        frame: Frame,
        mut request: Request,
    ) -> Result<(), CloseReason> {
        let message = match Message::parse(frame) {
            Ok(message) => message,
            Err(error) => return Err(self.refuse_malformed(error).await),
        };
        request.has_checksum = message.has_checksum();
        request.wants_reply = !message.more_to_come();
        let call = Call::of_message(&message);
        let exhaust = match &call {
            Ok(call) if call.exhaust_allowed && request.wants_reply => {
                Exhaust::of(&self.shared, call)
            }
            _ => None,
        };
        let mut goes_on = self.answer(&call, &mut request, exhaust.as_ref()).await?;
        let (Ok(call), Some(exhaust)) = (&call, &exhaust) else {
            return Ok(());
        };
        while goes_on {
            if let Exhaust::Hello { wait, .. } = exhaust
                && !self.awaits_news(*wait).await
            {
                return Ok(());
            }
            request.started_at = Instant::now();
            goes_on = self
                .answer(&exhaust.next(call), &mut request, Some(exhaust))
                .await?;
        }
        Ok(())
    }

    /// Does a command and sends its reply. Says whether the reply promised another one; `request` then names what that one
    /// answers.
    async fn answer(
        &mut self,
        call: &Result<Call<'_>, Error>,
        request: &mut Request,
        exhaust: Option<&Exhaust>,
    ) -> Result<bool, CloseReason> {
        let mut out = begin_reply(REPLY_BYTES_HINT);
        let body_at = out.len();
        let result = match call {
            Ok(call) => self.run(call, !request.wants_reply, &mut out).await?,
            Err(_) => Ok(()),
        };
        let call = call.as_ref();
        let error = call.err().or(result.as_ref().err());
        if let Some(error) = error {
            out = begin_reply(REPLY_BYTES_HINT);
            reply::for_error(error, &mut out);
        }
        let body = out.get(body_at..).unwrap_or_default();
        // A client that has something to say is let speak.
        let goes_on = exhaust.is_some_and(|exhaust| exhaust.goes_on(body)) && self.inbox.is_empty();
        let sent = if request.wants_reply {
            let mut flags = if goes_on { MORE_TO_COME } else { 0 };
            if request.has_checksum {
                flags |= CHECKSUM_PRESENT;
            }
            let id = self.next_id();
            seal_reply(&mut out, id, request.id, flags);
            request.id = id;
            packed(
                out.as_slice(),
                packing::of_reply(call.ok(), request.compressor),
            )
            .await
        } else {
            None
        };
        let message = sent.as_deref().unwrap_or(&out);
        let observed = Observed {
            call: call.ok(),
            error,
            body: out.get(body_at..).unwrap_or_default(),
            started_at: request.started_at,
            received_bytes: request.bytes,
            sent_bytes: if request.wants_reply {
                message.len()
            } else {
                0
            },
        };
        observe(&self.shared, &self.connection, &observed);
        // Of several replies to one message only the first received anything.
        request.bytes = 0;
        let ending = error.and_then(ending);
        if request.wants_reply {
            // Of a reply that has to wait there is one form.
            let message = sent.unwrap_or(out);
            self.send(&message).await?;
        }
        ending.map_or(Ok(goes_on), Err)
    }

    /// Waits until there is something new to say in hello, or for `wait`. False if the client speaks or leaves instead.
    async fn awaits_news(&mut self, wait: Duration) -> bool {
        let known = self.connection.announced;
        let mut announced = self.shared.hello.watch();
        let news = timeout(wait, announced.wait_for(|now| now.counter > known));
        tokio::select! {
            biased;
            () = self.inbox.arrives() => false,
            _ = news => true,
            () = self.leave.cancelled() => true,
        }
    }

    /// An OP_QUERY: hello, or something of the past.
    async fn serve_query(&mut self, frame: Frame, request: Request) -> Result<(), CloseReason> {
        let query = match legacy::Query::parse(frame) {
            Ok(query) => query,
            Err(error) => return Err(self.refuse_malformed(error).await),
        };
        let Some(database) = query.command_database() else {
            return self.refuse_query(request).await;
        };
        let mut out = Vec::new();
        let call = legacy_hello(&query, database);
        let result = match &call {
            Ok(call) => self.run(call, false, &mut out).await?,
            Err(_) => Ok(()),
        };
        if let Some(error) = call.as_ref().err().or(result.as_ref().err()) {
            out.clear();
            reply::for_error(error, &mut out);
        }
        let message = legacy::reply(self.next_id(), request.id, &out);
        let compressor = packing::of_reply(call.as_ref().ok(), request.compressor);
        let packed = packed(&message, compressor).await;
        self.send(packed.as_deref().unwrap_or(&message)).await
    }

    /// Does a command. It is dropped half-way if the client goes, which ends the work upstream as well; one without
    /// reply is not, since its client has no reason to stay.
    async fn run(
        &mut self,
        call: &Call<'_>,
        is_last_word: bool,
        out: &mut Vec<u8>,
    ) -> Result<Result<(), Error>, CloseReason> {
        let Self {
            inbox,
            connection,
            shared,
            leave,
            ..
        } = self;
        if leave.is_cancelled() {
            return Ok(Err(shutting_down(shared, call)));
        }
        let result = tokio::select! {
            biased;
            result = dispatch::answer(shared, connection, call, out) => result,
            () = inbox.closed(), if !is_last_word => return Err(CloseReason::Client),
            () = leave.cancelled() => Err(shutting_down(shared, call)),
        };
        Ok(result)
    }

    /// Answers what is no message, if its sender can be answered. The connection cannot go on.
    async fn refuse_malformed(&mut self, error: DecodeError) -> CloseReason {
        if let Some(withheld) = self.shared.complaints.malformed.line(Instant::now()) {
            tracing::info!(
                connection = self.connection.id,
                client_address = %self.connection.peer,
                %error,
                withheld,
                "malformed message"
            );
        }
        if let Some(request_id) = error.request_id {
            let mut out = begin_reply(REPLY_BYTES_HINT);
            reply::for_error(&error.into(), &mut out);
            seal_reply(&mut out, self.next_id(), request_id, 0);
            if let Err(reason) = self.send(&out).await {
                return reason;
            }
        }
        CloseReason::Protocol
    }

    /// Answers a query on a collection or an OP_GET_MORE.
    async fn refuse_query(&mut self, request: Request) -> Result<(), CloseReason> {
        let body = reply::for_query_failure(&LegacyError::Query.into());
        let message = legacy::failure(self.next_id(), request.id, &body);
        let packed = packed(&message, request.compressor).await;
        self.send(packed.as_deref().unwrap_or(&message)).await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), CloseReason> {
        let room = self.connection.room.as_deref();
        let written = self.inbox.write(message, room).await;
        if let Some(room) = room {
            room.release();
        }
        match written {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => {
                tracing::debug!(connection = self.connection.id, %error, "writing failed");
                Err(CloseReason::Io)
            }
            None => Err(CloseReason::Limit),
        }
    }

    fn next_id(&mut self) -> i32 {
        self.replies = self.replies.wrapping_add(1);
        self.replies
    }

    fn log_end(&self, reason: CloseReason) {
        let connection = &self.connection;
        tracing::debug!(
            connection = connection.id,
            client_address = %connection.peer,
            app = connection.identity().map(|i| i.app.id.as_str()),
            reason = mdb_telemetry::Label::text(reason),
            "connection ended"
        );
    }
}

/// What a message says of the reply that it wants.
#[derive(Debug)]
struct Request {
    /// What the next reply answers: the message, or the reply before it.
    id: i32,
    /// Bytes of the message as it came.
    bytes: usize,
    /// How it was compressed, if it was.
    compressor: Option<Compressor>,
    has_checksum: bool,
    wants_reply: bool,
    /// When its last byte had been read.
    started_at: Instant,
}

/// The message compressed, where it is to be and can be.
async fn packed(message: &[u8], compressor: Option<Compressor>) -> Option<Vec<u8>> {
    packing::pack(message, compressor?).await
}

/// Reads the body of an OP_QUERY as hello; some drivers wrap it into `$query`.
fn legacy_hello<'a>(query: &'a legacy::Query, database: &'a str) -> Result<Call<'a>, Error> {
    if query.flags & legacy::EXHAUST != 0 {
        return Err(LegacyError::Exhaust.into());
    }
    if !matches!(query.number_to_return, 1 | -1) {
        let asked = query.number_to_return;
        return Err(LegacyError::NumberToReturn(asked).into());
    }
    let body = query.body();
    let wrapped = body
        .first()
        .filter(|e| matches!(e.key, b"$query" | b"query"));
    let body = wrapped.and_then(|e| e.as_document()).unwrap_or(body);
    let call = Call::new(Command::inner(body, database)?, false);
    match call {
        Ok(call) if matches!(call.spec.duty, Duty::Local(Local::Hello)) => Ok(call),
        Ok(_) | Err(_) => Err(LegacyError::Command.into()),
    }
}

fn shutting_down(shared: &Shared, call: &Call<'_>) -> Error {
    Error::ShuttingDown {
        version: shared.hello.version(),
        // It may have been sent already.
        labels: labels::when_lost(&call.command, false),
    }
}

/// Whether the connection ends after the reply that says so.
fn ending(error: &Error) -> Option<CloseReason> {
    match error {
        // Drivers close it themselves; a client that does not must not hold a connection for nothing.
        Error::Limit(Limit::ConnectionsOfApp | Limit::FailedLogins) => Some(CloseReason::Limit),
        Error::Revoked => Some(CloseReason::Authentication),
        _ => None,
    }
}

/// Waits until a client behind a load balancer may be let go: it has no monitor that would tell it of the drain, and holds
/// nothing that it could miss.
async fn released(connection: &Connection, shared: &Shared) {
    let is_free = connection.belongings.as_ref().map(|own| own.is_empty());
    if is_free == Some(true) {
        let mut announced = shared.hello.watch();
        if announced.wait_for(|now| now.is_shutting_down).await.is_ok() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

/// Room for most replies that are no batch of documents, so that they are written without moving.
const REPLY_BYTES_HINT: usize = 512;

#[cfg(test)]
mod tests;
