//! Configuration and manifests: files, [`BETWEEN`] between them. The first is the configuration, the others are apps; a
//! single one is tried as either.

use std::fs;
use std::path::Path;

use mdb_manifest::{Report, Severity, load, load_apps, load_config};

/// The line between files.
pub const BETWEEN: &str = "\n=====\n";

const CONFIG: &str = "version: 1\nupstream: { uri: mongodb://localhost }\n";

/// Loads files: whatever they hold, values or a report that says where.
///
/// # Panics
/// Where a promise is broken.
pub fn check(input: &[u8]) {
    let files = split(input);
    match files.as_slice() {
        [only] => {
            loaded(only, &[]);
            loaded(CONFIG.as_bytes(), &[only]);
        }
        [config, apps @ ..] => loaded(config, apps),
        [] => {}
    }
}

fn split(input: &[u8]) -> Vec<&[u8]> {
    let between = BETWEEN.as_bytes();
    let mut files = Vec::new();
    let mut rest = input;
    while let Some(end) = rest.windows(between.len()).position(|w| w == between) {
        files.push(&rest[..end]);
        rest = &rest[end + between.len()..];
    }
    files.push(rest);
    files
}

fn loaded(config: &[u8], apps: &[&[u8]]) {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path();
    let path = base.join("config.yaml");
    let manifests = base.join("apps");
    fs::create_dir(&manifests).expect("a directory");
    fs::write(&path, config).expect("a file");
    for (index, app) in apps.iter().enumerate() {
        fs::write(manifests.join(format!("app{index}.yaml")), app).expect("a file");
    }
    let environment =
        |name: &str| (!name.is_empty() && !name.contains("NO")).then(|| "hush-hush".to_owned());
    let whole = load(&path, &environment);
    let config_alone = load_config(&path, &environment);
    let apps_alone = load_apps(&manifests, &environment);
    match &whole {
        // The configuration may name another directory.
        Ok(loaded) => assert!(config_alone.is_ok() && loaded.apps.len() <= apps.len().max(1)),
        Err(report) => reported(report, base),
    }
    for report in [config_alone.err(), apps_alone.err()].iter().flatten() {
        reported(report, base);
    }
}

/// A report has an error, and each problem its place in a file that was named.
fn reported(report: &Report, base: &Path) {
    let is_error = |p: &mdb_manifest::Problem| p.severity == Severity::Error;
    assert!(report.problems.iter().any(is_error), "{report}");
    assert!(!report.to_string().contains("hush-hush"), "{report}");
    for problem in &report.problems {
        assert!(!problem.text.is_empty());
        if !problem.file.starts_with(base) || problem.line.is_none() {
            continue;
        }
        let text = fs::read(&problem.file).unwrap_or_default();
        // A place may be that of the end: behind the last line.
        let lines = text.iter().filter(|&&b| b == b'\n' || b == b'\r').count() + 2;
        assert!(problem.line <= Some(lines), "{problem}");
    }
}
