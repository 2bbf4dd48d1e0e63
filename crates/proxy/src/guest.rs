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
    /// Among those who have not logged in.
    pub(crate) unauthenticated: Option<Slot>,
    /// Among all, and among those of its address.
    _places: Option<(Slot, AddressSlot)>,
}

impl Guest {
    /// Takes the places of a connection. Fails with the limit that is reached.
    pub(crate) fn admit(shared: &Shared, peer: SocketAddr) -> Result<Self, LimitName> {
        let limits = &shared.limits;
        let all = shared.connections.take(limits.connections_max);
        let all = all.ok_or(LimitName::Connections)?;
        let of_address = shared
            .addresses
            .take(peer.ip(), limits.connections_per_address_max)
            .ok_or(LimitName::ConnectionsPerAddress)?;
        let unauthenticated = shared
            .unauthenticated
            .take(limits.connections_unauthenticated_max)
            .ok_or(LimitName::ConnectionsUnauthenticated)?;
        Ok(Self {
            peer,
            unauthenticated: Some(unauthenticated),
            _places: Some((all, of_address)),
        })
    }
}

impl From<SocketAddr> for Guest {
    /// One that is not counted.
    fn from(peer: SocketAddr) -> Self {
        Self {
            peer,
            unauthenticated: None,
            _places: None,
        }
    }
}
