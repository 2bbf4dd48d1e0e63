use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;

const GOOD_URI: &str = "mongodb://127.0.0.1:1/?replicaSet=rs";

/// A configuration with these apps, by file name.
fn files(config: &str, apps: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("apps")).unwrap();
    for (name, text) in apps {
        fs::write(directory.path().join("apps").join(name), text).unwrap();
    }
    let path = directory.path().join("mdb-runtime.yaml");
    fs::write(&path, config).unwrap();
    (directory, path)
}

/// The ending, standard output and standard error, without the directory.
fn checked(config: &str, apps: &[(&str, &str)], uri: &str) -> (Ending, String, String) {
    let (directory, path) = files(config, apps);
    let uri = uri.to_owned();
    let environment = move |name: &str| match name {
        "URI" => Some(uri.clone()),
        "PASSWORD" => Some("pencil".to_owned()),
        "FORBIDDEN" => Some("\u{7}".to_owned()),
        _ => None,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ending = check(&path, &environment, &mut out, &mut err);
    let base = format!("{}/", directory.path().display());
    let text = |bytes| String::from_utf8(bytes).unwrap().replace(&base, "");
    (ending, text(out), text(err))
}

fn app(slug: &str, password: &str) -> String {
    format!(
        "version: \"3.0\"\nslug: {slug}\ncredentials:\n  - username: {slug}\n    \
         password: {password}\n    roles: [readWrite]\n"
    )
}

const CONFIG: &str = "version: 1\nupstream: { uri: { env: URI } }\nmanifests: apps\n";

#[test]
fn all_is_well_in_one_line() {
    let (a, b) = (app("a", "{ env: PASSWORD }"), app("b", "{ env: PASSWORD }"));
    let (ending, out, err) = checked(CONFIG, &[("a.yaml", &a), ("b.yaml", &b)], GOOD_URI);
    assert_eq!(err, "");
    assert_eq!(
        out,
        "mdb-runtime.yaml: good: 2 apps, 2 credentials, 0 warnings\n"
    );
    assert_eq!(ending, Ending::Success);
}

#[test]
fn warnings_are_marked_and_are_no_errors() {
    let literal = app("a", "pencil");
    let (ending, out, err) = checked(CONFIG, &[("a.yaml", &literal)], GOOD_URI);
    assert!(
        err.starts_with("apps/a.yaml:5: warning: ") && err.contains("literal secret"),
        "{err}"
    );
    assert!(!err.contains("pencil"));
    assert!(out.ends_with("1 app, 1 credential, 1 warning\n"), "{out}");
    assert_eq!(ending, Ending::Success);
}

#[test]
fn problems_of_all_files_are_printed_with_their_lines() {
    let config = "version: 1\nupstream: { uri: { env: NOT_SET } }\nmanifests: apps\nlisten: 5\n";
    let bad_slug = app("A b", "{ env: PASSWORD }");
    let no_secret = app("b", "{ env: NOT_SET }");
    let apps = [("a.yaml", &*bad_slug), ("b.yaml", &*no_secret)];
    let (ending, out, err) = checked(config, &apps, GOOD_URI);
    for begin in [
        "mdb-runtime.yaml:2: ",
        "mdb-runtime.yaml:4: ",
        "apps/a.yaml:2: ",
        "apps/b.yaml:5: ",
    ] {
        assert!(
            err.lines().any(|line| line.starts_with(begin)),
            "{begin}\n{err}"
        );
    }
    assert_eq!(out, "");
    assert_eq!(ending, Ending::Failure);
}

#[test]
fn what_fails_only_in_use_is_found_too() {
    let good = app("a", "{ env: PASSWORD }");
    let forbidden = app("b", "{ env: FORBIDDEN }");
    let apps = [("a.yaml", &*good), ("b.yaml", &*forbidden)];
    let uri = "mongodb://user:pen/cil@127.0.0.1:1/";
    let (ending, _, err) = checked(CONFIG, &apps, uri);
    let has = |begin: &str| err.lines().any(|line| line.starts_with(begin));
    assert!(has("apps/b.yaml: the user `b`: "), "{err}");
    assert!(has("mdb-runtime.yaml: `upstream.uri`: "), "{err}");
    assert!(!err.contains("cil"), "{err}");
    assert_eq!(ending, Ending::Failure);
}
