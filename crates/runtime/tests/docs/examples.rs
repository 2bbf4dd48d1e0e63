//! Examples of configuration and manifests load.

use std::fs;
use std::path::Path;

use mdb_manifest::{load_apps, load_config};

use crate::root;

/// The blocks of code that begin with "```FORMAT KIND", with their format and text.
fn blocks(kind: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for file in ["README.md", "docs/configuration.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for block in text.split("\n```").skip(1) {
            let (first, body) = block.split_once('\n').unwrap_or((block, ""));
            if let Some((format, found_kind)) = first.split_once(' ')
                && found_kind == kind
            {
                found.push((format.to_owned(), body.to_owned()));
            }
        }
    }
    found
}

/// Makes the files that `{ file: PATH }` names.
fn make_secrets(directory: &Path, text: &str) {
    for rest in text.split("file: ").skip(1) {
        let path = rest.split([' ', '}', '\n']).next().unwrap_or_default();
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mongodb://localhost\n").unwrap();
    }
}

/// Every environment variable has a value that serves as a password and as a connection string.
#[allow(
    clippy::unnecessary_wraps,
    reason = "the signature is that of a look-up"
)]
fn environment(_name: &str) -> Option<String> {
    Some("mongodb://localhost".to_owned())
}

#[test]
fn examples_of_configuration_load() {
    let blocks = blocks("config");
    assert!(!blocks.is_empty());
    for (format, text) in blocks {
        let directory = tempfile::tempdir().unwrap();
        make_secrets(directory.path(), &text);
        let path = directory.path().join(format!("config.{format}"));
        fs::write(&path, &text).unwrap();
        let loaded = load_config(&path, &environment);
        assert!(loaded.is_ok(), "{}\n{text}", loaded.unwrap_err());
    }
}

#[test]
fn examples_of_manifests_load() {
    let blocks = blocks("manifest");
    assert!(!blocks.is_empty());
    for (format, text) in blocks {
        let directory = tempfile::tempdir().unwrap();
        make_secrets(directory.path(), &text);
        fs::write(directory.path().join(format!("app.{format}")), &text).unwrap();
        let loaded = load_apps(directory.path(), &environment);
        assert!(loaded.is_ok(), "{}\n{text}", loaded.unwrap_err());
    }
}
