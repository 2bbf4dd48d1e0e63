//! Noticing that files have changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mdb_manifest::Loaded;
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// The files that a reload reads, apart from the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The directory of the manifests: what comes and goes in it counts.
    manifests: PathBuf,
    /// Secrets of manifests, and certificates.
    single: BTreeSet<PathBuf>,
}

impl Files {
    /// Those that a configuration and its manifests name.
    pub(crate) fn of(loaded: &Loaded) -> Self {
        let mut single = loaded.secret_files.clone();
        let all_tls = loaded.config.listeners.iter().flat_map(|l| &l.tls);
        for tls in all_tls {
            let authorities = tls.client_certificates.authorities();
            let files = [&tls.certificate, &tls.key].into_iter().chain(authorities);
            single.extend(files.map(|file| file.path.clone()));
        }
        Self {
            manifests: loaded.config.manifests.clone(),
            single,
        }
    }

    /// The directories in which a change of the files shows. A file is replaced in its directory; a directory is replaced
    /// in the one above it, as mounted secrets are, by a link that leads elsewhere.
    fn directories(&self) -> BTreeSet<PathBuf> {
        let parents = self.single.iter().filter_map(|file| file.parent());
        let mut all = BTreeSet::new();
        for directory in parents.chain([&*self.manifests]) {
            all.insert(or_here(directory));
            all.extend(directory.parent().map(or_here));
            // Where the links lead to.
            all.extend(fs::canonicalize(or_here(directory)));
        }
        let real = self
            .single
            .iter()
            .filter_map(|file| fs::canonicalize(file).ok());
        all.extend(real.filter_map(|file| file.parent().map(Path::to_owned)));
        all
    }

    fn look(&self) -> Look {
        let entries = fs::read_dir(&self.manifests).into_iter().flatten();
        let manifests = entries.filter_map(|entry| Some(entry.ok()?.path()));
        let single = self.single.iter().cloned();
        // The directory itself: a file that goes changes it.
        let all = manifests.chain(single).chain([self.manifests.clone()]);
        all.map(|path| (path.clone(), Seen::of(&path))).collect()
    }
}

fn or_here(directory: &Path) -> PathBuf {
    if directory.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        directory.to_owned()
    }
}

/// What the system says of each file; `None`: it is not there.
type Look = BTreeMap<PathBuf, Option<Seen>>;

/// A file that was written to, or that another has come in place of, differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    place: (u64, u64),
    bytes: u64,
    /// Since 1970.
    changed: Duration,
}

impl Seen {
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let seconds = u64::try_from(metadata.ctime()).unwrap_or_default();
        let nanos = u32::try_from(metadata.ctime_nsec()).unwrap_or_default();
        Some(Self {
            place: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            changed: Duration::new(seconds, nanos),
        })
    }
}

/// Watches files for changes.
#[derive(Debug)]
pub(crate) struct Watch {
    files: Files,
    last: Look,
    /// What may have changed while it was read.
    doubtful: Look,
    /// Ends the watching when it is dropped.
    watcher: Option<RecommendedWatcher>,
    events: mpsc::Receiver<()>,
}

impl Watch {
    /// Begins to watch what was read from `read_at` on. A system that refuses is warned about; then nothing is noticed.
    pub(crate) fn new(files: Files, read_at: SystemTime) -> Self {
        let mut watch = Self {
            files,
            last: Look::new(),
            doubtful: Look::new(),
            watcher: None,
            events: mpsc::channel(1).1,
        };
        watch.begin(None, read_at);
        watch
    }

    /// Begins anew after the files were read from `read_at` on: directories may have been replaced, and with them what is
    /// watched. `files`, if they are others now.
    pub(crate) fn begin(&mut self, files: Option<Files>, read_at: SystemTime) {
        if let Some(files) = files {
            self.files = files;
        }
        let (again, events) = mpsc::channel(1);
        self.watcher = watch(&self.files, again.clone());
        self.events = events;
        let read_at = read_at.duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = read_at.saturating_sub(CLOCK_STEP);
        let is_doubtful = |path: &PathBuf, seen: Option<Seen>| {
            seen.is_some_and(|seen| seen.changed >= since)
                // A clock that is ahead is not asked twice.
                && self.doubtful.get(path) != Some(&seen)
        };
        let look = self.files.look().into_iter();
        let (doubtful, last) = look.partition(|(path, seen)| is_doubtful(path, *seen));
        (self.doubtful, self.last) = (doubtful, last);
        if !self.doubtful.is_empty() {
            let _ = again.try_send(());
        }
    }

    /// Waits until the files differ from what was read, and have been left alone for a moment.
    pub(crate) async fn changed(&mut self) {
        loop {
            if self.events.recv().await.is_none() {
                pending::<()>().await;
            }
            self.settle().await;
            if self.files.look() != self.last {
                return;
            }
        }
    }

    /// Whoever writes a file, or several, is given time to end.
    async fn settle(&mut self) {
        let patience = Instant::now() + SETTLE_MAX;
        loop {
            let quiet = patience.min(Instant::now() + QUIET);
            match timeout_at(quiet, self.events.recv()).await {
                Ok(Some(())) if Instant::now() < patience => {}
                _ => return,
            }
        }
    }
}

fn watch(files: &Files, sender: mpsc::Sender<()>) -> Option<RecommendedWatcher> {
    // One event that waits says as much as many.
    let tell = move |event: notify::Result<Event>| {
        if !event.is_ok_and(|event| event.kind.is_access()) {
            let _ = sender.try_send(());
        }
    };
    let begun = RecommendedWatcher::new(tell, notify::Config::default()).and_then(|mut watcher| {
        let mut outcome = Ok(());
        let mut watched = 0;
        for directory in files.directories() {
            // One that is missing shows in the one above it.
            match watcher.watch(&directory, RecursiveMode::NonRecursive) {
                Ok(()) => watched += 1,
                Err(error) => outcome = Err(error),
            }
        }
        if watched > 0 {
            Ok(watcher)
        } else {
            outcome.map(|()| watcher)
        }
    });
    begun
        .inspect_err(|error| {
            tracing::warn!(%error, "changes of files are not noticed; SIGHUP reloads them");
        })
        .ok()
}

/// Long enough for the writes of one save or one copy to be over, short enough that nobody waits for it.
const QUIET: Duration = Duration::from_millis(300);

/// The clock of files may be so much behind that of processes.
const CLOCK_STEP: Duration = Duration::from_millis(20);

/// A directory in which something changes all the time is reloaded all the same.
const SETTLE_MAX: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;
