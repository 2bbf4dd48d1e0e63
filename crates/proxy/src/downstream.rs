//! One client connection, from its first byte to its last.

use std::sync::Arc;

use mdb_scope::{Duty, Local};
use mdb_telemetry::CloseReason;
use mdb_wire::message::{begin_reply, seal_reply};
use mdb_wire::{Command, DecodeError, Document, Frame, Message, OpCode, legacy};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::Connection;
use crate::dispatch::{self, Call};
use crate::error::{Error, LegacyError, Limit};
use crate::guest::Guest;
use crate::inbox::{Inbox, Silence};
use crate::labels;
use crate::observe::{Observed, observe};
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
    let downstream = Downstream {
        inbox: Inbox::new(stream),
        connection,
        shared,
        leave,
        replies: 0,
    };
    downstream.serve().await
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
    async fn serve(mut self) -> CloseReason {
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
        match frame.opcode {
            OpCode::Message => self.serve_message(frame).await,
            OpCode::Query => self.serve_query(frame).await,
            OpCode::GetMore => self.refuse_query(frame.request_id).await,
            OpCode::Reply => Err(CloseReason::Protocol),
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

    /// An OP_MSG: a command.
    async fn serve_message(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let started_at = Instant::now();
        let message = match Message::parse(frame) {
            Ok(message) => message,
            Err(error) => return Err(self.refuse_malformed(error).await),
        };
        let mut out = begin_reply(REPLY_BYTES_HINT);
        let body_at = out.len();
        let call = Call::of_message(&message);
        let result = match &call {
            Ok(call) => self.run(call, message.more_to_come(), &mut out).await?,
            Err(_) => Ok(()),
        };
        let error = call.as_ref().err().or(result.as_ref().err());
        if let Some(error) = error {
            out = begin_reply(REPLY_BYTES_HINT);
            reply::for_error(error, &mut out);
        }
        let sent_bytes = if message.more_to_come() {
            0
        } else {
            seal_reply(
                &mut out,
                self.next_id(),
                message.request_id(),
                message.has_checksum(),
            );
            out.len()
        };
        let observed = Observed {
            call: call.as_ref().ok(),
            error,
            body: out.get(body_at..).unwrap_or_default(),
            started_at,
            received_bytes: message.len(),
            sent_bytes,
        };
        observe(&self.shared, &self.connection, &observed);
        let ending = error.and_then(ending);
        if !message.more_to_come() {
            self.send(&out).await?;
        }
        ending.map_or(Ok(()), Err)
    }

    /// An OP_QUERY: hello, or something of the past.
    async fn serve_query(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let query = match legacy::Query::parse(frame) {
            Ok(query) => query,
            Err(error) => return Err(self.refuse_malformed(error).await),
        };
        let Some(database) = query.command_database() else {
            return self.refuse_query(query.request_id).await;
        };
        let mut out = Vec::new();
        let result = match legacy_hello(query.body(), database) {
            Ok(call) => self.run(&call, false, &mut out).await?,
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            out.clear();
            reply::for_error(&error, &mut out);
        }
        let message = legacy::reply(self.next_id(), query.request_id, &out);
        self.send(&message).await
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
        tracing::info!(
            connection = self.connection.id,
            client_address = %self.connection.peer,
            %error,
            "malformed message"
        );
        if let Some(request_id) = error.request_id {
            let mut out = begin_reply(REPLY_BYTES_HINT);
            reply::for_error(&error.into(), &mut out);
            seal_reply(&mut out, self.next_id(), request_id, false);
            if let Err(reason) = self.send(&out).await {
                return reason;
            }
        }
        CloseReason::Protocol
    }

    /// Answers a query on a collection or an OP_GET_MORE.
    async fn refuse_query(&mut self, request_id: i32) -> Result<(), CloseReason> {
        let body = reply::for_query_failure(&LegacyError::Query.into());
        let message = legacy::failure(self.next_id(), request_id, &body);
        self.send(&message).await
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), CloseReason> {
        self.inbox.write(message).await.map_err(|error| {
            tracing::debug!(connection = self.connection.id, %error, "writing failed");
            CloseReason::Io
        })
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

/// Reads the body of an OP_QUERY as hello; some drivers wrap it into `$query`.
fn legacy_hello<'a>(body: Document<'a>, database: &'a str) -> Result<Call<'a>, Error> {
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

/// Room for most replies that are no batch of documents, so that they are written without moving.
const REPLY_BYTES_HINT: usize = 512;

#[cfg(test)]
mod tests;
