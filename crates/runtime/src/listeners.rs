//! Addresses, bound before any of them is served.

use std::io;
use std::net::SocketAddr;

use anyhow::Context;
use mdb_manifest::{Address, Config};
use tokio::net::TcpListener;

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
            clients.push(bind(&listener.address, "for clients").await?);
        }
        let admin = bind(&config.admin.address, "for metrics and health").await?;
        Ok(Self { clients, admin })
    }

    /// The addresses for clients, with the ports that the system has chosen where the configuration says 0.
    pub(crate) fn client_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.clients.iter().map(TcpListener::local_addr).collect()
    }
}

async fn bind(address: &Address, purpose: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind((address.host(), address.port()))
        .await
        .with_context(|| format!("cannot listen on {address} {purpose}"))
}
