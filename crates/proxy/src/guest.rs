//! A connection that was let in, before it has said anything.

use std::net::SocketAddr;

use mdb_telemetry::LimitName;

use crate::shared::Shared;
use crate::slots::{AddressSlot, Slot};

/// Who has connected, with the places that it takes.
#[derive(Debug)]
pub struct Guest {
    /// The client's address.
    pub peer: SocketAddr,
    /// The certificate that it has shown.
    pub(crate) certificate: Shown,
    /// Among those who have not logged in.
    pub(crate) unauthenticated: Option<Slot>,
    /// Among all.
    _place: Option<Slot>,
    /// Among those of its address.
    of_address: Option<AddressSlot>,
}

/// What a client has shown of itself.
#[derive(Debug)]
pub(crate) enum Shown {
    /// No certificate.
    Nothing,
    /// One with this subject, as MongoDB writes it.
    Subject(Box<str>),
    /// One whose subject is empty, or not to be written as MongoDB would.
    Unwritable,
}

impl Guest {
    /// Takes the places of a connection, that among those of its address unless another address is still to be told. Fails with
    /// the limit that is reached.
    pub(crate) fn admit(
        shared: &Shared,
        peer: SocketAddr,
        counts_address: bool,
    ) -> Result<Self, LimitName> {
        let limits = &shared.limits;
        let all = shared.connections.take(limits.connections_max);
        let all = all.ok_or(LimitName::Connections)?;
        let unauthenticated = shared
            .unauthenticated
            .take(limits.connections_unauthenticated_max)
            .ok_or(LimitName::ConnectionsUnauthenticated)?;
        let mut guest = Self {
            peer,
            certificate: Shown::Nothing,
            unauthenticated: Some(unauthenticated),
            _place: Some(all),
            of_address: None,
        };
        if counts_address {
            guest.come_from(peer, shared)?;
        }
        Ok(guest)
    }

    /// The client turns out to come from there. Fails with the limit that is reached.
    pub(crate) fn come_from(&mut self, peer: SocketAddr, shared: &Shared) -> Result<(), LimitName> {
        let max = shared.limits.connections_per_address_max;
        let place = shared.addresses.take(peer.ip(), max);
        self.of_address = Some(place.ok_or(LimitName::ConnectionsPerAddress)?);
        self.peer = peer;
        Ok(())
    }
}

impl From<SocketAddr> for Guest {
    /// One that is not counted.
    fn from(peer: SocketAddr) -> Self {
        Self {
            peer,
            certificate: Shown::Nothing,
            unauthenticated: None,
            _place: None,
            of_address: None,
        }
    }
}
