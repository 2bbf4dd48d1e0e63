//! Manifests, credentials and certificates read again while the proxy runs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use mdb_indexer::AppModes;
use mdb_manifest::{AppManifest, Config, Loaded, Problem, Report, load};
use mdb_proxy::{Shared, Tls};
use mdb_telemetry::ReloadOutcome;
use tokio::sync::watch;

use crate::certificates::{self, LoadedCertificates};
use crate::credentials::{self, Users};
use crate::declared::DeclaredIndexes;
use crate::indexing;
use crate::readiness::Readiness;
use crate::signals::HangUps;
use crate::watch::{Files, Watch};

/// A listener's address, and its certificates if it has TLS.
pub(crate) type ListenerTls = (SocketAddr, Option<Tls>);

/// What a reload works on.
#[derive(Debug, Clone)]
pub(crate) struct Reloading {
    pub(crate) shared: Arc<Shared>,
    /// What the proxy was started with.
    pub(crate) config: Arc<Config>,
    /// In the order of the configuration.
    pub(crate) tls: Arc<[ListenerTls]>,
    pub(crate) readiness: Readiness,
    pub(crate) indexes: DeclaredIndexes,
    /// How far automatic indexes may go for single apps.
    pub(crate) index_modes: Arc<watch::Sender<AppModes>>,
}

/// Everything that a reload puts in force.
struct Fresh {
    users: Users,
    certificates: LoadedCertificates,
    apps: Vec<AppManifest>,
    warnings: Vec<Problem>,
    /// Keys of the configuration that have other values in the file now.
    restart_needed: Vec<&'static str>,
}

impl Reloading {
    /// All of it is put in force, or nothing.
    pub(crate) async fn reload(&self, read: Result<Loaded, Report>) {
        let this = self.clone();
        let prepared = tokio::task::spawn_blocking(move || this.prepare(read?));
        match prepared.await {
            Ok(Ok(fresh)) => return self.put_in_force(fresh),
            Ok(Err(report)) => {
                for problem in &report.problems {
                    tracing::error!("cannot reload: {problem}");
                }
            }
            Err(error) => tracing::error!(%error, "cannot reload"),
        }
        self.note(ReloadOutcome::Failed);
        tracing::error!("the reload failed: what was in force before still is");
    }

    fn note(&self, outcome: ReloadOutcome) {
        self.shared.metrics.reload(outcome);
        self.readiness
            .set_failed_reload(outcome == ReloadOutcome::Failed);
    }

    /// Blocks for as long as keys are derived.
    fn prepare(&self, loaded: Loaded) -> Result<Fresh, Report> {
        let restart_needed = self.config.differences(&loaded.config);
        // Listeners stay as they are: their certificates are looked for where the start has found them.
        let certificates = certificates::load(&loaded.file, &self.config, SystemTime::now())?;
        let salts = credentials::salts(&self.config.upstream.uri);
        let metrics = &self.shared.metrics;
        let users = self
            .shared
            .with_users(|before| credentials::build(&loaded.apps, &salts, metrics, Some(before)))?;
        Ok(Fresh {
            users,
            certificates,
            apps: loaded.apps,
            warnings: loaded.warnings,
            restart_needed,
        })
    }

    fn put_in_force(&self, fresh: Fresh) {
        let problems = fresh.warnings.iter().chain(&fresh.certificates.warnings);
        for problem in problems {
            tracing::warn!("{problem}");
        }
        for ((address, tls), certificates) in self.tls.iter().zip(fresh.certificates.listeners) {
            if let (Some(tls), Some(certificates)) = (tls, certificates) {
                let metrics = &self.shared.metrics;
                metrics.set_certificate_expiry(&address.to_string(), certificates.expiry);
                tls.replace(certificates.config);
            }
        }
        let ended = self.shared.replace_users(fresh.users);
        self.indexes.apply(&fresh.apps);
        self.index_modes
            .send_replace(indexing::app_modes(&fresh.apps));
        if !fresh.restart_needed.is_empty() {
            let keys = fresh.restart_needed.join(", ");
            tracing::warn!(keys, "the configuration has changed: that takes a restart");
        }
        self.note(ReloadOutcome::Ok);
        tracing::info!(
            apps = fresh.apps.len(),
            credentials_ended = ended,
            "reloaded"
        );
    }
}

/// Reloads with every SIGHUP, and when a file that counts has changed. Never returns.
pub(crate) async fn follow(
    reloading: &Reloading,
    file: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
    hang_ups: &mut HangUps,
    mut watch: Watch,
) -> Infallible {
    loop {
        tokio::select! {
            () = hang_ups.next() => tracing::info!("SIGHUP: reloading"),
            () = watch.changed() => tracing::info!("files have changed: reloading"),
        }
        let read_at = SystemTime::now();
        let read = load(file, environment);
        watch.begin(read.as_ref().ok().map(Files::of), read_at);
        reloading.reload(read).await;
    }
}
