use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

struct Watched {
    directory: TempDir,
    watch: Watch,
}

impl Watched {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in ["apps", "secrets", "mounted/one", "mounted/two"] {
            fs::create_dir_all(directory.path().join(name)).unwrap();
        }
        for name in ["apps/a.yaml", "secrets/a", "mounted/one/b", "mounted/two/b"] {
            fs::write(directory.path().join(name), name).unwrap();
        }
        symlink("one", directory.path().join("mounted/data")).unwrap();
        let files = Files {
            manifests: directory.path().join("apps"),
            single: ["secrets/a", "mounted/data/b"]
                .map(|name| directory.path().join(name))
                .into(),
        };
        let mut watch = Watch::new(files, SystemTime::now());
        // They were written just now, so that they are doubtful for once.
        watch.begin(None, SystemTime::now());
        Self { directory, watch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Waits for the change, and takes it as read.
    async fn notices(&mut self) {
        self.watch.changed().await;
        self.watch.begin(None, SystemTime::now());
        self.watch.begin(None, SystemTime::now());
        assert_eq!(self.watch.files.look(), self.watch.last);
    }
}

#[tokio::test]
async fn whatever_way_a_file_changes_it_is_noticed() {
    let mut watched = Watched::new();
    fs::write(watched.path("apps/b.yaml"), "new").unwrap();
    watched.notices().await;
    fs::write(watched.path("apps/a.yaml"), "other").unwrap();
    watched.notices().await;
    fs::rename(watched.path("apps/a.yaml"), watched.path("apps/c.yaml")).unwrap();
    watched.notices().await;
    fs::remove_file(watched.path("apps/b.yaml")).unwrap();
    watched.notices().await;
    fs::write(watched.path("secrets/a"), "another").unwrap();
    watched.notices().await;
    // A link that is led elsewhere.
    symlink("two", watched.path("mounted/next")).unwrap();
    fs::rename(watched.path("mounted/next"), watched.path("mounted/data")).unwrap();
    watched.notices().await;
    // The directory itself is replaced, and then something in the new one.
    fs::create_dir(watched.path("next")).unwrap();
    fs::rename(watched.path("apps"), watched.path("gone")).unwrap();
    fs::rename(watched.path("next"), watched.path("apps")).unwrap();
    watched.notices().await;
    fs::write(watched.path("apps/d.yaml"), "new").unwrap();
    watched.notices().await;
}

#[tokio::test]
async fn what_stands_beside_does_not_count() {
    let watched = Watched::new();
    for name in ["secrets/other", "other", "mounted/two/b"] {
        fs::write(watched.path(name), "text").unwrap();
    }
    assert_eq!(watched.watch.files.look(), watched.watch.last);
}

#[tokio::test]
async fn what_changed_while_it_was_read_is_read_once_more_and_only_once() {
    let mut watched = Watched::new();
    let read_at = SystemTime::now();
    fs::write(watched.path("secrets/a"), "late").unwrap();
    watched.watch.begin(None, read_at);
    watched.watch.changed().await;
    // As by a clock that is ahead for ever.
    watched.watch.begin(None, read_at);
    assert_eq!(watched.watch.files.look(), watched.watch.last);
}
