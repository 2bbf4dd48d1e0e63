//! A connection in use by one command.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use mdb_scope::{Scoped, ServerAddress};
use mdb_telemetry::{ConnectionState, ExchangeErrorKind as MetricKind, UpstreamCloseReason};
use tokio::time::Instant;

use crate::{
    admission::Admission,
    conn::Connection,
    error::{ExchangeError, ExchangeErrorKind, Sent},
    member::MemberPool,
    pool::Pooled,
    queue::Borrower,
};

/// A connection to a server, lent until it is dropped. It returns to its pool only if every exchange on
/// it was completed: one that failed or was given up half-way ends it.
#[derive(Debug)]
pub struct Lease {
    home: Arc<MemberPool>,
    generation: u64,
    borrower: Borrower,
    /// `Some` until the lease ends.
    connection: Option<Connection>,
    has_failed: bool,
}

impl Lease {
    pub(crate) fn new(
        home: Arc<MemberPool>,
        generation: u64,
        borrower: Borrower,
        connection: Connection,
    ) -> Self {
        home.shared.metrics.lease_begun(borrower.purpose);
        Self {
            home,
            generation,
            borrower,
            connection: Some(connection),
            has_failed: false,
        }
    }

    /// The server at the other end.
    pub fn server(&self) -> &ServerAddress {
        &self.home.address
    }

    /// The proxy's own end of the connection, by which the server knows it.
    pub fn local_address(&self) -> Option<SocketAddr> {
        self.connection.as_ref()?.local_address()
    }

    /// How long a message to the server and back takes at least; zero while that is not known.
    pub fn round_trip(&self) -> Duration {
        let topology = self.home.shared.board.topology();
        let member = topology.member(&self.home.address);
        member.map(|member| member.rtt_min).unwrap_or_default()
    }

    /// The generation of the pool that this connection belongs to, for [`crate::Upstream::report`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Sends a command and reads its whole reply: one OP_MSG frame, header included, that answers this
    /// command, with neither checksum nor more to come. No timeout: drop the future to give it up, which
    /// closes the connection. A large reply is read when `admission` has room for it.
    ///
    /// On an error the server is looked at anew before it is chosen again, and this lease is spent.
    pub async fn exchange(
        &mut self,
        command: &mut Scoped,
        admission: &dyn Admission,
    ) -> Result<Bytes, ExchangeError> {
        let request_id = self
            .connection
            .as_mut()
            .map_or(0, Connection::next_request_id);
        self.exchange_frame(command.message(request_id), request_id, admission)
            .await
    }

    /// [`Lease::exchange`] of a frame that carries `request_id`.
    pub(crate) async fn exchange_frame(
        &mut self,
        frame: &[u8],
        request_id: i32,
        admission: &dyn Admission,
    ) -> Result<Bytes, ExchangeError> {
        let outcome = match &mut self.connection {
            Some(connection) => {
                connection
                    .exchange_admitted(frame, request_id, admission)
                    .await
            }
            None => Err(spent()),
        };
        outcome.inspect_err(|error| self.note(error))
    }

    fn note(&mut self, error: &ExchangeError) {
        self.has_failed = true;
        let kind = match &error.kind {
            ExchangeErrorKind::Network(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                MetricKind::Closed
            }
            ExchangeErrorKind::Network(_) => MetricKind::Io,
            ExchangeErrorKind::Reply(_) => MetricKind::Protocol,
            ExchangeErrorKind::Spent => return,
        };
        self.home.shared.metrics.exchange_error(kind);
        if error.is_network() {
            self.home.suspect(self.generation);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.home.shared.metrics.lease_ended(self.borrower.purpose);
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if connection.is_clean() {
            connection.enter(ConnectionState::Idle);
            self.home
                .pool
                .check_in(connection, self.generation, &self.borrower, Instant::now());
            return;
        }
        if self.has_failed {
            self.home.pool.discard(&self.borrower);
            connection.close(UpstreamCloseReason::Error);
        } else {
            self.home.give_up(&self.borrower, self.generation);
            connection.close(UpstreamCloseReason::Poisoned);
        }
    }
}

fn spent() -> ExchangeError {
    ExchangeError {
        kind: ExchangeErrorKind::Spent,
        sent: Sent::Nothing,
    }
}

#[cfg(test)]
mod tests;
