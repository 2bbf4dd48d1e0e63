//! The worker on indexes, as the configuration wants it.

use mdb_indexer::{AppModes, BuildWindow, Mode, Place, Settings, Worker};
use mdb_manifest::{AppManifest, Config, IndexMode, Indexes};
use mdb_proxy::Observer;
use mdb_telemetry::Metrics;
use mdb_upstream::Upstream;
use tokio::sync::watch;

/// What the worker may do; `None` where nothing is to be observed.
pub(crate) fn settings(indexes: &Indexes) -> Option<Settings> {
    let mode = match indexes.mode {
        IndexMode::Off => return None,
        IndexMode::Advise => Mode::Advise,
        IndexMode::Auto => Mode::Auto,
    };
    let count = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    let defaults = Settings::default();
    let in_one = indexes.interval.as_secs() / defaults.command_every.as_secs().max(1);
    Some(Settings {
        mode,
        interval: indexes.interval,
        seen_min: u64::from(indexes.seen_min),
        seen_over: indexes.seen_over,
        documents_min: u64::from(indexes.documents_min),
        excess_min: u64::from(indexes.excess_min),
        writes_per_read_max: u64::from(indexes.writes_per_read_max),
        automatic_max: count(indexes.automatic_max),
        indexes_max: count(indexes.indexes_max),
        build_window: indexes
            .build_window
            .map(|(from_minute, to_minute)| BuildWindow {
                from_minute,
                to_minute,
            }),
        unused_for: indexes.unused_for,
        soak_for: indexes.soak_for,
        // Those of an interval, however long it is; in a short one those of several, since a look takes some.
        commands_max: u32::try_from(in_one)
            .unwrap_or(u32::MAX)
            .max(defaults.commands_max),
        ..defaults
    })
}

/// What manifests say of single apps.
pub(crate) fn app_modes(apps: &[AppManifest]) -> AppModes {
    let of = |mode| {
        let apps = apps.iter().filter(move |app| app.index_mode == Some(mode));
        apps.map(|app| app.slug.to_string()).collect()
    };
    AppModes {
        advise: of(IndexMode::Advise),
        off: of(IndexMode::Off),
    }
}

/// A worker, and who tells it of commands.
pub(crate) fn worker(
    config: &Config,
    settings: Settings,
    modes: watch::Receiver<AppModes>,
    upstream: &Upstream,
    metrics: &Metrics,
) -> (Observer, Worker) {
    let (observer, observations) = Observer::new(metrics.clone());
    let place = Place {
        client: upstream.control().clone(),
        control_database: config.control_database.as_str().to_owned(),
        scope_field: config.scope_field.as_str().to_owned(),
    };
    let worker = Worker::new(place, settings, modes, metrics.clone(), observations);
    (observer, worker)
}
