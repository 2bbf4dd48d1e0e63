//! Where the test bed keeps its files: all of them in `<target directory>/mongod`.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Held locked by the process that a deployment's directory belongs to.
const OWNER_LOCK: &str = "owner.lock";

/// The folder for fetched binaries and for running deployments.
pub(crate) fn root() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap_or(Path::new("."));
    // Joining an absolute path replaces the workspace; a relative one is relative to it.
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    workspace.join(target).join("mongod")
}

/// A directory for one deployment, removed when dropped, or else (the process was killed, or kept
/// the deployment in a static) when another deployment starts after the owning process has ended.
#[derive(Debug)]
pub(crate) struct RunDirectory {
    directory: TempDir,
    _owner: File,
}

impl RunDirectory {
    /// Makes a directory below `parent`, after removing those whose owners have ended.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        fs::create_dir_all(parent)?;
        // Held while a directory exists whose owner has not locked it yet, and while sweeping.
        let turn = File::create(parent.join("lock"))?;
        turn.lock()?;
        sweep(parent)?;
        let directory = tempfile::Builder::new().prefix("run-").tempdir_in(parent)?;
        let owner = File::create(directory.path().join(OWNER_LOCK))?;
        owner.lock()?;
        Ok(Self {
            directory,
            _owner: owner,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn sweep(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let path = entry?.path();
        // Without a lock file it is no run directory, or one that is being removed right now.
        let Ok(owner) = File::open(path.join(OWNER_LOCK)) else {
            continue;
        };
        if owner.try_lock().is_ok()
            && let Err(error) = fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove a leftover directory");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owned_directories_stay_and_orphaned_ones_go() {
        let parent = tempfile::tempdir().unwrap();
        let owned = RunDirectory::new(parent.path()).unwrap();
        let orphan = parent.path().join("run-orphan");
        fs::create_dir(&orphan).unwrap();
        File::create(orphan.join(OWNER_LOCK)).unwrap();
        let stranger = parent.path().join("stranger");
        fs::create_dir(&stranger).unwrap();

        let second = RunDirectory::new(parent.path()).unwrap();

        assert!(owned.path().is_dir());
        assert!(second.path().is_dir());
        assert!(stranger.is_dir());
        assert!(!orphan.exists());
        let path = owned.path().to_owned();
        drop(owned);
        assert!(!path.exists());
    }
}
