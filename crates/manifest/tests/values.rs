//! What loaded values hold beyond those of the contract's files.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mdb_manifest::{IndexMode, LoadedApps, Proof, Role, Severity, Value, load_apps, load_config};

fn nothing(_: &str) -> Option<String> {
    None
}

fn apps_of(name: &str, text: &str) -> LoadedApps {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(name), text).expect("a file");
    fs::write(directory.path().join("word"), "a word\n\n").expect("a file");
    load_apps(directory.path(), &nothing).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn an_owner_who_can_access_gets_every_role() {
    let text = r#"{
        "version": "2.0", "slug": "tasks", "developer_id": "you@example.com",
        "auth_policy": { "owner_can_access": true, "roles": ["admin"] },
        "credentials": [
            { "username": "other", "password": { "file": "word" }, "roles": ["read"] },
            { "username": "you@example.com", "password": { "file": "word" }, "roles": ["read"] }
        ]
    }"#;
    let loaded = apps_of("a.json", text);
    assert_eq!(loaded.warnings, []);
    let app = &loaded.apps[0];
    assert_eq!(app.credentials[0].roles, BTreeSet::from([Role::Read]));
    assert_eq!(app.credentials[1].roles, BTreeSet::from(Role::ALL));
    assert_eq!(app.app_roles, ["admin"]);
    assert_eq!((app.name.as_str(), app.description.as_str()), ("tasks", ""));
}

#[test]
fn one_line_break_at_the_end_of_a_secret_file_is_dropped() {
    let text = "version: \"3.0\"\nslug: a\ncredentials: [{ username: a, password: { file: word }, roles: [read] }]\n";
    let loaded = apps_of("a.yaml", text);
    let Proof::Password(password) = &loaded.apps[0].credentials[0].proof else {
        panic!("it has a password");
    };
    assert_eq!(password.expose(), "a word\n");
}

#[test]
fn indexes_keep_order_and_get_the_servers_names() {
    let text = "
version: \"3.0\"
slug: a
managed_indexes:
  orders:
    - keys: { z: 1, a: -1.0, t: text, h: hashed }
    - keys: { at: 1 }
      partial_filter_expression: { z: [1, null], a: { $gt: 1.5 } }
      expire_after_seconds: 60
";
    let loaded = apps_of("a.yaml", text);
    assert_eq!(
        loaded
            .warnings
            .iter()
            .map(|problem| problem.severity)
            .collect::<Vec<_>>(),
        [Severity::Warning]
    );
    let indexes = &loaded.apps[0].managed_indexes;
    assert_eq!(indexes[0].name, "z_1_a_-1_t_text_h_hashed");
    let list = Value::List(vec![Value::Integer(1), Value::Null]);
    let greater = Value::Mapping(vec![("$gt".to_owned(), Value::Float(1.5))]);
    let filter = Value::Mapping(vec![("z".to_owned(), list), ("a".to_owned(), greater)]);
    let expected = [
        ("partialFilterExpression".to_owned(), filter),
        ("expireAfterSeconds".to_owned(), Value::Integer(60)),
    ];
    assert_eq!(indexes[1].options, expected);
}

#[test]
fn the_bare_word_off_is_a_mode() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.yaml");
    fs::write(
        &path,
        "version: 1\nupstream: { uri: mongodb://localhost }\nindexes: { mode: off }\n",
    )
    .expect("a file");
    let loaded = load_config(&path, &nothing).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(loaded.config.indexes.mode, IndexMode::Off);
}

#[test]
fn a_file_that_is_not_there_is_a_problem() {
    let report = load_config(Path::new("no such file.yaml"), &nothing).expect_err("there is none");
    assert_eq!(
        report.to_string(),
        "no such file.yaml: cannot be read: No such file or directory (os error 2)"
    );
}
