//! Addresses, bound before any of them is served.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use mdb_manifest::{Address, Config};
use tokio::net::{TcpListener, TcpSocket, lookup_host};

/// Every address of a configuration, bound.
pub(crate) struct Listeners {
    /// For clients, in the order of the configuration.
    pub(crate) clients: Vec<TcpListener>,
    /// For HTTP.
    pub(crate) admin: TcpListener,
}

impl Listeners {
    /// Fails, and binds none, if any of the addresses cannot be bound.
    pub(crate) async fn bind(config: &Config) -> anyhow::Result<Self> {
        let mut clients = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            clients.push(bind(&listener.address, listener.reuse_port, "for clients").await?);
        }
        let admin = &config.admin;
        let admin = bind(&admin.address, admin.reuse_port, "for metrics and health").await?;
        Ok(Self { clients, admin })
    }

    /// The addresses for clients, with the ports that the system has chosen where the configuration says 0.
    pub(crate) fn client_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.clients.iter().map(TcpListener::local_addr).collect()
    }
}

async fn bind(address: &Address, shares: bool, purpose: &str) -> anyhow::Result<TcpListener> {
    listen(address, shares)
        .await
        .with_context(|| format!("cannot listen on {address} {purpose}"))
}

/// On the first address that the host stands for and that can be had.
async fn listen(address: &Address, shares: bool) -> io::Result<TcpListener> {
    let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in lookup_host((address.host(), address.port())).await? {
        outcome = listen_at(address, shares);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn listen_at(address: SocketAddr, shares: bool) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Connections of an earlier process that are not quite over are not in the way.
    socket.set_reuseaddr(true)?;
    if shares {
        socket.set_reuseport(true)?;
    }
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Clients that may wait to be accepted. The system has its own, lower limit on most machines.
const BACKLOG: u32 = 1024;
