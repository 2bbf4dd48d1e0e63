//! Files with mistakes, and the exact problems that are found in them: `tests/cases/*.yaml`.
//!
//! A case has a `question`, `files` by path, an `environment`, and `problems` as `severity file:line: text`. A case
//! without a configuration gets [`CONFIG`]; one without `apps/` gets [`APP`].

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mdb_manifest::load;
use serde::Deserialize;

const CONFIG: &str = "version: 1\nupstream: { uri: mongodb://localhost }\n";

const APP: &str = "version: \"3.0\"\nslug: quiet\ncredentials:\n  - { username: quiet, password: { env: WORD }, roles: [read] }\n";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    question: String,
    files: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    problems: Vec<String>,
}

#[test]
fn config() {
    run("config.yaml");
}

#[test]
fn secrets() {
    run("secrets.yaml");
}

#[test]
fn apps() {
    run("apps.yaml");
}

#[test]
fn indexes() {
    run("indexes.yaml");
}

#[test]
fn migration() {
    run("migration.yaml");
}

#[test]
fn directories() {
    run("directories.yaml");
}

fn run(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/cases")
        .join(name);
    let text = fs::read_to_string(path).expect("the cases can be read");
    let cases: Vec<Case> = serde_yaml::from_str(&text).expect("the cases are well formed");
    let mut failures = Vec::new();
    for case in &cases {
        let found = problems_of(case);
        if found != case.problems {
            let (expected, found) = (case.problems.join("\n    "), found.join("\n    "));
            failures.push(format!(
                "{}\n  expected:\n    {expected}\n  found:\n    {found}",
                case.question
            ));
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases failed\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
}

fn problems_of(case: &Case) -> Vec<String> {
    let directory = tempfile::tempdir().expect("a directory");
    let base = directory.path();
    let write = |name: &str, text: &str| {
        let path = base.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        // A name that ends with a slash is a directory.
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("a directory");
        } else {
            fs::write(path, text).expect("a file");
        }
    };
    if !case.files.contains_key("config.yaml") {
        write("config.yaml", CONFIG);
    }
    if !case.files.keys().any(|name| name.starts_with("apps")) {
        write("apps/quiet.yaml", APP);
    }
    case.files.iter().for_each(|(name, text)| write(name, text));
    let environment = |name: &str| match name {
        "WORD" => Some("a word".to_owned()),
        _ => case.environment.get(name).cloned(),
    };
    let problems = match load(&base.join("config.yaml"), &environment) {
        Ok(loaded) => loaded.warnings,
        Err(report) => report.problems,
    };
    let base = format!("{}/", base.display());
    problems
        .iter()
        .map(|problem| format!("{} {problem}", problem.severity).replace(&base, ""))
        .collect()
}
