//! What the proxy remembers of one client connection.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mdb_telemetry::CloseReason;
use mdb_wire::{Compressors, Document, Limits};
use tokio::time::{Instant, sleep, sleep_until};

use crate::authenticate::Authentication;
use crate::belongings::Belongings;
use crate::clients::Presence;
use crate::dispatch::Call;
use crate::guest::Guest;
use crate::identity::Identity;
use crate::operations::{Registered, Running};
use crate::shared::Shared;
use crate::slots::Slot;
use crate::supervision::session_of;
use crate::unread::Room;

/// How long a connection whose credential has ended may say nothing: a driver that uses it at all does so within seconds.
const REVOKED_SILENCE_MAX: Duration = Duration::from_secs(10);

/// The state of one client connection, apart from its bytes.
#[derive(Debug)]
pub(crate) struct Connection {
    /// `connectionId` in hello, and its name in the log.
    pub(crate) id: i32,
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The places that it takes.
    pub(crate) guest: Guest,
    /// How long it may be idle once it has logged in.
    idle_timeout: Option<Duration>,
    /// When it is closed unless something happens. Monitors have none: they are never closed for idling.
    pub(crate) deadline: Option<Instant>,
    /// Whether it has said hello.
    pub(crate) has_greeted: bool,
    /// What its first hello said of its client.
    pub(crate) client: Option<Box<ClientMetadata>>,
    /// Who it is.
    pub(crate) authentication: Authentication,
    /// What its last hello agreed on.
    pub(crate) compressors: Compressors,
    /// The counter of what its last hello was told.
    pub(crate) announced: i64,
    /// What goes when it goes, if it came by way of a load balancer.
    pub(crate) belongings: Option<Arc<Belongings>>,
    /// Of which client it is, once that can be told; not if it came by way of a load balancer.
    pub(crate) presence: Option<Presence>,
    /// Bytes of the largest message that any of its hellos promised to take.
    message_bytes_max: usize,
    /// Taken while its last command left a transaction open.
    transaction: Option<Slot>,
    /// Where its operations are listed; from its first command that goes upstream.
    operations: Option<Registered>,
    /// Where its replies have room; from its first command that goes upstream.
    pub(crate) room: Option<Arc<Room>>,
}

/// What a driver says of itself, cut to what a log line may carry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ClientMetadata {
    /// `application.name`.
    pub(crate) application: Option<Box<str>>,
    /// `driver.name` and `driver.version`.
    pub(crate) driver: Box<str>,
}

impl Connection {
    pub(crate) fn new(guest: Guest, shared: &Shared) -> Self {
        Self {
            id: shared.next_connection_id(),
            peer: guest.peer,
            guest,
            idle_timeout: shared.limits.idle_timeout,
            deadline: Some(Instant::now() + shared.limits.handshake_timeout),
            has_greeted: false,
            client: None,
            authentication: Authentication::default(),
            compressors: Compressors::default(),
            announced: 0,
            belongings: None,
            presence: None,
            message_bytes_max: shared.hello.now().face.message_bytes_max(),
            transaction: None,
            operations: None,
            room: None,
        }
    }

    /// The connection begins with a command of `identity` that goes upstream.
    pub(crate) fn begin(
        &mut self,
        identity: &Arc<Identity>,
        call: &Call<'_>,
        shared: &Shared,
    ) -> Running {
        let client = self.be_present(shared);
        if let Some(presence) = &self.presence
            && self.operations.is_none()
        {
            presence.acts_as(identity);
        }
        let slot = match self.operations.take() {
            Some(slot) => slot,
            None => shared.operations.slot(self),
        };
        let owner = self.belongings.clone();
        let of_app = || {
            Room::new(
                &identity.app.unread,
                self.id,
                &shared.limits,
                &shared.metrics,
            )
        };
        let room = self.room.get_or_insert_with(|| Arc::new(of_app()));
        let room = Some(Arc::clone(room));
        let running = slot.begin(identity, call.spec, call.command.body, owner, client, room);
        self.operations = Some(slot);
        running
    }

    /// Counts it among the connections of its client, and names that. 0: it came by way of a load balancer, where the address
    /// says nothing and the connection stands for itself.
    pub(crate) fn be_present(&mut self, shared: &Shared) -> u64 {
        if self.belongings.is_some() {
            self.presence = None;
            return 0;
        }
        if self.presence.is_none() {
            self.presence = Some(shared.clients.enter(self));
        }
        self.presence.as_ref().map_or(0, |presence| presence.id)
    }

    /// Who it is, once it has proven it.
    pub(crate) fn identity(&self) -> Option<&Arc<Identity>> {
        self.authentication.identity()
    }

    /// What it may send now.
    pub(crate) fn limits(&self) -> Limits {
        match self.identity() {
            Some(_) => Limits {
                message_bytes_max: self.message_bytes_max,
            },
            None => Limits::UNAUTHENTICATED,
        }
    }

    /// Waits until the client has been silent for too long; says what for.
    pub(crate) async fn patience(&self) -> CloseReason {
        if let Some(deadline) = self.deadline {
            sleep_until(deadline).await;
            return CloseReason::HandshakeTimeout;
        }
        let idle = async {
            match self.idle_timeout.filter(|_| self.identity().is_some()) {
                Some(timeout) => sleep(timeout).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = self.authentication.ended() => {
                // The next command would be told why. Who sends none is not waited for.
                sleep(REVOKED_SILENCE_MAX).await;
                CloseReason::Authentication
            }
            () = idle => CloseReason::Idle,
        }
    }

    /// A hello promised to take messages of this size. Drivers keep to what their hello said, also after the upstream
    /// and with it the promise has changed.
    pub(crate) fn promise(&mut self, message_bytes_max: usize) {
        self.message_bytes_max = self.message_bytes_max.max(message_bytes_max);
    }

    /// Remembers whether a command left a transaction open. Another connection may end it; then this one is thought to
    /// have it until its next command, which only makes a drain wait for its whole grace.
    pub(crate) fn follow_transaction(&mut self, name: &str, body: Document<'_>, shared: &Shared) {
        let is_end = matches!(name, "commitTransaction" | "abortTransaction");
        let is_inside = !is_end
            && body
                .find("autocommit")
                .is_some_and(|flag| flag.as_flag() == Some(false));
        let open = self.identity().filter(|_| is_inside).map(Arc::clone);
        if let Some(slot) = &self.operations {
            slot.set_transaction(open.zip(session_of(body)));
        }
        if !is_inside {
            self.transaction = None;
        } else if self.transaction.is_none() {
            self.transaction = shared.transactions.take(usize::MAX);
        }
    }
}
