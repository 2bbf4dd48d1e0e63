//! A whole proxy in one value: the graph of everything is built here, and taken down here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use axum::Router;
use mdb_auth::Secret;
use mdb_indexer::AppModes;
use mdb_indexer::declared::Declared;
use mdb_manifest::{AppManifest, Config, Limits, Loaded, Report};
use mdb_proxy::{ClientLimits, Forward, ListenerOptions, Presentation, Shared, Shutdown, Tls};
use mdb_scope::{AppId, FieldName};
use mdb_telemetry::Metrics;
use mdb_upstream::{Upstream, UpstreamOptions};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::declared::DeclaredIndexes;
use crate::listeners::Listeners;
use crate::readiness::Readiness;
use crate::reload::{ListenerTls, Reloading};
use crate::{admin, certificates, credentials, indexing, privileges};

/// A proxy that serves. [`Proxy::shut_down`] ends it in order; dropping it does not end it.
#[derive(Debug)]
pub struct Proxy {
    upstream: Upstream,
    indexer: Option<mdb_indexer::Handle>,
    readiness: Readiness,
    reloading: Reloading,
    metrics: Metrics,
    addresses: Vec<SocketAddr>,
    admin_address: SocketAddr,
    clients: JoinSet<()>,
    shutdown: Shutdown,
    grace: Duration,
    admin: JoinHandle<()>,
    stop_admin: CancellationToken,
}

impl Proxy {
    /// Binds all addresses, begins to watch the upstream, derives the keys of all credentials, and serves. Does not
    /// wait for the upstream: until it is reached, [`Proxy::readiness`] says so, and commands wait for it.
    ///
    /// Fails on an address that cannot be bound, a connection string that cannot be used, and, with a
    /// [`mdb_manifest::Report`], on credentials and certificates that cannot.
    pub async fn start(loaded: Loaded) -> anyhow::Result<Self> {
        let Loaded {
            file, config, apps, ..
        } = loaded;
        let certificates = certificates::load(&file, &config, SystemTime::now())?;
        for problem in &certificates.warnings {
            tracing::warn!("{problem}");
        }
        let apps: Arc<[AppManifest]> = apps.into();
        let metrics = Metrics::new();
        let declared = Declared::default();
        let index_modes = watch::Sender::new(indexing::app_modes(&apps));
        let listeners = Listeners::bind(&config).await?;
        let addresses = listeners.client_addresses()?;
        let admin_address = listeners.admin.local_addr()?;
        let upstream = Upstream::start(upstream_options(&config.upstream), metrics.clone()).await?;
        let shutdown = Shutdown::default();
        let shared = share(&config, &apps, &upstream, &metrics, &declared).await?;
        let (shared, indexer) = with_indexer(shared, &config, index_modes.subscribe(), &shutdown);
        let shared = Arc::new(shared);
        let readiness =
            Readiness::new(upstream.hello(), upstream.topology(), shutdown.stop.clone());
        let declared_indexes = DeclaredIndexes::new(Arc::clone(&shared), declared.clone());
        declared_indexes.apply(&apps);
        begin_background(&config, &upstream, &readiness, &declared_indexes, &shutdown);
        let stop_admin = if config.admin.reuse_port {
            // With the beginning of the drain: who asks from then on asks the successor.
            shutdown.stop.child_token()
        } else {
            CancellationToken::new()
        };
        let routes = admin::routes(metrics.clone(), readiness.clone(), declared);
        let admin = tokio::spawn(serve_admin(listeners.admin, routes, stop_admin.clone()));
        let listeners = listeners.clients.into_iter().zip(certificates.listeners);
        let listeners = listeners.zip(config.listeners.iter().map(|l| l.proxy_protocol));
        let (clients, tls) = serve_clients(listeners, &shared, &shutdown)?;
        let grace = config.limits.shutdown_grace;
        let reloading = Reloading {
            shared,
            config: Arc::new(config),
            tls: tls.into(),
            readiness: readiness.clone(),
            indexes: declared_indexes,
            index_modes: index_modes.into(),
        };
        Ok(Self {
            upstream,
            indexer,
            readiness,
            reloading,
            metrics,
            addresses,
            admin_address,
            clients,
            shutdown,
            grace,
            admin,
            stop_admin,
        })
    }

    /// Where clients connect, in the order of the configuration, with the ports that were chosen where it says 0.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where `/metrics`, `/healthz` and `/readyz` are.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Whether the proxy can serve commands.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// What a reload works on.
    pub(crate) fn reloading(&self) -> &Reloading {
        &self.reloading
    }

    /// Puts what was read anew in force: users with their apps, and certificates; all of it, or on an error nothing. Takes
    /// over nothing of the configuration. Needs no upstream.
    ///
    /// `read` is what reading gave. Readiness, metrics and log tell the outcome.
    pub async fn reload(&self, read: Result<Loaded, Report>) {
        self.reloading.reload(read).await;
    }

    /// The proxy's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The worker on indexes; `None` where the mode is `off`.
    pub fn indexer(&self) -> Option<&mdb_indexer::Handle> {
        self.indexer.as_ref()
    }

    /// Drains: not ready, no new clients, and those who are there are served until all is quiet, at most for the
    /// configured grace. Then closes everything.
    pub async fn shut_down(mut self) {
        self.shutdown.stop.cancel();
        if timeout(self.grace, gone(&mut self.clients)).await.is_err() {
            tracing::warn!(grace = ?self.grace, "the grace is over; closing what still runs");
            self.shutdown.kill.cancel();
            gone(&mut self.clients).await;
        }
        self.upstream.shut_down().await;
        self.stop_admin.cancel();
        if timeout(ADMIN_FAREWELL, &mut self.admin).await.is_err() {
            self.admin.abort();
        }
    }
}

/// What all clients have in common: users with derived keys, limits, and the way of commands. Tells `declared` of collections
/// that apps make.
async fn share(
    config: &Config,
    apps: &Arc<[AppManifest]>,
    upstream: &Upstream,
    metrics: &Metrics,
    declared: &Declared,
) -> anyhow::Result<Shared> {
    let told = declared.clone();
    let forward = forward(config)?.with_news(move |app, database, collection| {
        told.made(app.as_str(), database, collection);
    });
    let credentials = {
        let (salts, metrics) = (credentials::salts(&config.upstream.uri), metrics.clone());
        let apps = Arc::clone(apps);
        let derive = move || credentials::build(&apps, &salts, &metrics, None);
        tokio::task::spawn_blocking(derive).await??
    };
    Ok(Shared::new(
        upstream.clone(),
        credentials,
        forward,
        client_limits(&config.limits),
        metrics.clone(),
        presentation_of(&config.upstream.uri),
    ))
}

/// Begins to work on indexes and to tell the worker of commands, unless the configuration says `off`.
fn with_indexer(
    shared: Shared,
    config: &Config,
    modes: watch::Receiver<AppModes>,
    shutdown: &Shutdown,
) -> (Shared, Option<mdb_indexer::Handle>) {
    let Some(settings) = indexing::settings(&config.indexes) else {
        return (shared, None);
    };
    let (observer, worker) =
        indexing::worker(config, settings, modes, &shared.upstream, &shared.metrics);
    let handle = worker.start(shutdown.stop.clone());
    (shared.with_observer(observer), Some(handle))
}

/// Begins what runs beside the clients until the drain: a look at the privileges upstream, and the indexes of manifests.
fn begin_background(
    config: &Config,
    upstream: &Upstream,
    readiness: &Readiness,
    indexes: &DeclaredIndexes,
    shutdown: &Shutdown,
) {
    let control_database = config.control_database.as_str();
    let look = look_at_privileges(
        upstream.clone(),
        readiness.clone(),
        control_database.to_owned(),
    );
    tokio::spawn(shutdown.stop.clone().run_until_cancelled_owned(look));
    let work = work_on_indexes(
        indexes.clone(),
        readiness.clone(),
        control_database.to_owned(),
    );
    tokio::spawn(shutdown.stop.clone().run_until_cancelled_owned(work));
}

/// Begins to serve every listener, with its certificates and whether it speaks the PROXY protocol; gives its address and its
/// certificates.
fn serve_clients(
    listeners: impl Iterator<Item = ((TcpListener, Option<Certificates>), bool)>,
    shared: &Arc<Shared>,
    shutdown: &Shutdown,
) -> anyhow::Result<(JoinSet<()>, Vec<ListenerTls>)> {
    let mut clients = JoinSet::new();
    let mut all_tls = Vec::new();
    for ((listener, certificates), proxy_protocol) in listeners {
        let address = listener.local_addr()?;
        let tls = certificates.map(|certificates| {
            let metrics = &shared.metrics;
            metrics.set_certificate_expiry(&address.to_string(), certificates.expiry);
            Tls::new(certificates.config)
        });
        all_tls.push((address, tls.clone()));
        let (shared, shutdown) = (Arc::clone(shared), shutdown.clone());
        let options = ListenerOptions {
            proxy_protocol,
            tls,
        };
        clients.spawn(mdb_proxy::serve(listener, options, shared, shutdown));
    }
    Ok((clients, all_tls))
}

/// What the configuration says of the upstream, in the upstream's own terms.
pub(crate) fn upstream_options(upstream: &mdb_manifest::Upstream) -> UpstreamOptions {
    UpstreamOptions {
        connections_max: upstream.pool.connections_max,
        connections_per_app_max: upstream.pool.connections_of_app_max(),
        connections_min: upstream.pool.connections_min,
        election_wait: upstream.waiting.election_wait,
        waiting_max: usize::try_from(upstream.waiting.waiting_max).unwrap_or(usize::MAX),
        checkout_timeout: upstream.pool.checkout_timeout,
        idle_timeout: upstream.pool.idle_timeout,
        compressors: upstream
            .compressors
            .iter()
            .map(|c| compressor(*c))
            .collect(),
        proxy_name: env!("CARGO_PKG_NAME").to_owned(),
        proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
        ..UpstreamOptions::new(upstream.uri.clone())
    }
}

/// Fails on a scope field that the rules of scoping do not take.
pub(crate) fn forward(config: &Config) -> anyhow::Result<Forward> {
    let field = FieldName::parse(config.scope_field.as_str()).context("`scope_field`")?;
    let forward = Forward::new(field, config.control_database.as_str().to_owned());
    match &config.canary {
        None => Ok(forward),
        Some(slug) => Ok(forward.with_canary(AppId::parse(slug.as_str()).context("`canary`")?)),
    }
}

fn client_limits(limits: &Limits) -> ClientLimits {
    let count = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
    ClientLimits {
        connections_max: count(limits.connections_max),
        connections_per_app_max: count(limits.connections_per_app_max),
        connections_per_address_max: count(limits.connections_per_address_max),
        connections_unauthenticated_max: count(limits.connections_unauthenticated_max),
        commands_per_app_max: count(limits.commands_per_app_max),
        cursors_per_app_max: count(limits.cursors_per_app_max),
        sessions_per_app_max: count(limits.sessions_per_app_max),
        unread_bytes_per_app_max: count(limits.unread_bytes_per_app_max),
        unread_timeout: limits.unread_timeout,
        failed_logins_per_address_max: count(limits.failed_logins_per_address_max),
        abandoned_after: limits.abandoned_after,
        idle_timeout: limits.idle_timeout,
        handshake_timeout: limits.handshake_timeout,
    }
}

fn compressor(compressor: mdb_manifest::Compressor) -> mdb_wire::Compressor {
    match compressor {
        mdb_manifest::Compressor::Snappy => mdb_wire::Compressor::Snappy,
        mdb_manifest::Compressor::Zlib => mdb_wire::Compressor::Zlib,
        mdb_manifest::Compressor::Zstd => mdb_wire::Compressor::Zstd,
    }
}

/// How the proxy presents itself until the upstream is reached. A connection string of a single host may lead to any
/// kind of deployment; then the proxy begins as a standalone, since drivers take a standalone that turns out to be a
/// mongos, and drop a mongos that turns out to be a standalone (server discovery and monitoring specification).
fn presentation_of(uri: &Secret) -> Presentation {
    let uri = uri.expose();
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let (hosts, options) = rest.split_once('?').unwrap_or((rest, ""));
    let hosts = hosts.rsplit_once('@').map_or(hosts, |(_, hosts)| hosts);
    let names_a_set = options
        .split(['&', ';'])
        .any(|option| option.to_ascii_lowercase().starts_with("replicaset="));
    if uri.starts_with("mongodb+srv://") || hosts.contains(',') || names_a_set {
        Presentation::Mongos
    } else {
        Presentation::Standalone
    }
}

/// Once, when the upstream is reached: what is missing should be known before the first client meets it.
async fn look_at_privileges(upstream: Upstream, readiness: Readiness, control_database: String) {
    readiness.upstream_reachable().await;
    privileges::look(&upstream, &control_database).await;
}

/// What manifests say of indexes, from when the upstream is reached until the drain.
async fn work_on_indexes(indexes: DeclaredIndexes, readiness: Readiness, control_database: String) {
    readiness.upstream_reachable().await;
    indexes.worker(&control_database).run().await;
}

async fn serve_admin(listener: TcpListener, routes: Router, stop: CancellationToken) {
    let served = axum::serve(listener, routes).with_graceful_shutdown(stop.cancelled_owned());
    if let Err(error) = served.await {
        tracing::error!(%error, "metrics and health are no longer served");
    }
}

/// Waits until the clients of all listeners are gone. Nothing is lost if this is dropped half-way.
async fn gone(clients: &mut JoinSet<()>) {
    while let Some(ended) = clients.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener's task broke off");
        }
    }
}

/// An HTTP client that is in the middle of its request at the very end does not get more.
const ADMIN_FAREWELL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connection_string_tells_the_first_presentation() {
        for (uri, expected) in [
            ("mongodb://h", Presentation::Standalone),
            ("mongodb://h:1/db?w=1", Presentation::Standalone),
            ("mongodb://a,b:c@h:1/", Presentation::Standalone),
            ("mongodb://h/?w=1&replicaSet=rs", Presentation::Mongos),
            ("mongodb://h/?replicaset=rs", Presentation::Mongos),
            ("mongodb://u:p@h:1,i:2/?w=1", Presentation::Mongos),
            ("mongodb+srv://cluster.example.net", Presentation::Mongos),
        ] {
            let secret = Secret::new(uri.to_owned());
            assert_eq!(presentation_of(&secret), expected, "{uri}");
        }
    }
}
