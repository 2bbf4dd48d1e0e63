//! A mongod, and the proxy in front of it.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use mdb_manifest::{Address, Listener, load};
use mdb_runtime::Proxy;
use mdb_testbed::Deployment;
use mongodb::Client;
use mongodb::options::ClientOptions;
use tokio::time::timeout;

/// Ports on 127.0.0.1; 0 lets the system choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// Where apps connect.
    pub clients: u16,
    /// Where metrics and health are.
    pub admin: u16,
}

impl Ports {
    /// Fails if one of the ports is taken, with what to do about it: before a mongod is started for nothing.
    pub fn check_free(self) -> anyhow::Result<()> {
        for (port, flag) in [(self.clients, "--port"), (self.admin, "--admin-port")] {
            TcpListener::bind((LOCALHOST, port)).with_context(|| {
                format!("port {port} cannot be used; choose another with {flag}, as in `cargo demo {flag} 0`")
            })?;
        }
        Ok(())
    }
}

/// The mongod and the proxy, both running.
#[derive(Debug)]
pub struct Stage {
    proxy: Proxy,
    deployment: Deployment,
}

impl Stage {
    /// Starts both: a replica set of one member with access control in a directory of its own, and the proxy with the
    /// configuration and the example apps of `config/`. Fetches a mongod if the machine has none.
    pub async fn start(ports: Ports) -> anyhow::Result<Self> {
        let deployment = Deployment::replica_set(1).with_auth().start().await?;
        let uri = deployment.proxy_uri();
        let environment = |name: &str| match name {
            "MDB_UPSTREAM_URI" => Some(uri.clone()),
            name => PASSWORDS
                .iter()
                .find(|(_, variable, _)| *variable == name)
                .map(|(_, _, password)| (*password).to_owned()),
        };
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join(CONFIG);
        let mut loaded = load(&config, &environment)?;
        loaded.config.listeners = vec![Listener {
            address: local(ports.clients)?,
            ..Listener::default()
        }];
        loaded.config.admin.address = local(ports.admin)?;
        let proxy = Proxy::start(loaded).await?;
        timeout(READY_MAX, proxy.readiness().upstream_reachable())
            .await
            .map_err(|_| anyhow!("the proxy does not reach the mongod"))?;
        Ok(Self { proxy, deployment })
    }

    /// Ends the proxy, then the mongod, and removes its files.
    pub async fn end(self) {
        self.proxy.shut_down().await;
        // Ends a process and waits for it.
        let dropped = tokio::task::spawn_blocking(move || drop(self.deployment));
        // Only a panic in there could be told.
        let _ = dropped.await;
    }

    /// Where the proxy listens.
    pub fn address(&self) -> SocketAddr {
        self.proxy.addresses()[0]
    }

    /// Where metrics and health are.
    pub fn admin_address(&self) -> SocketAddr {
        self.proxy.admin_address()
    }

    /// The mongod's version.
    pub fn mongod_version(&self) -> &str {
        self.deployment.version()
    }

    /// The connection string of an app, through the proxy.
    pub fn app_uri(&self, app: &str) -> String {
        let password = PASSWORDS
            .iter()
            .find(|(user, _, _)| *user == app)
            .map_or("", |(_, _, password)| password);
        self.uri(app, password)
    }

    /// The connection string of a user of the proxy with any password.
    pub fn uri(&self, user: &str, password: &str) -> String {
        format!("mongodb://{user}:{password}@{}/", self.address())
    }

    /// The connection string of the mongod itself, past the proxy, for an administrator.
    pub fn upstream_uri(&self) -> String {
        self.deployment.uri()
    }
}

/// A client of the official driver that gives up soon when nothing answers.
pub async fn connect(uri: &str) -> Result<Client, mongodb::error::Error> {
    let mut options = ClientOptions::parse(uri).await?;
    options.server_selection_timeout = Some(SELECTION_MAX);
    Client::with_options(options)
}

fn local(port: u16) -> anyhow::Result<Address> {
    Ok(Address::parse(&format!("{LOCALHOST}:{port}"))?)
}

/// User, environment variable in the manifests, password.
const PASSWORDS: [(&str, &str, &str); 3] = [
    ("shop", "SHOP_PASSWORD", "shop-secret"),
    (
        "shop-reports",
        "SHOP_REPORTS_PASSWORD",
        "shop-reports-secret",
    ),
    ("notes", "NOTES_PASSWORD", "notes-secret"),
];

const LOCALHOST: &str = "127.0.0.1";

/// From this crate's directory.
const CONFIG: &str = "../../config/mdb-runtime.yaml";

/// The mongod serves already: this is a matter of milliseconds, or something is wrong.
const READY_MAX: Duration = Duration::from_secs(30);

/// Everything is on this machine.
const SELECTION_MAX: Duration = Duration::from_secs(10);
