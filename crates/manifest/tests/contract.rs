//! The files of the contract load unchanged, with exactly the warnings that are due.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use mdb_manifest::{
    AppManifest, Config, Credential, Direction, IndexMode, Isolation, LogFormat, LogLevel, Problem,
    Proof, Role, Value, load, load_apps, load_config,
};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/contract")
}

/// Every variable of the acceptance runs, with its own name as its value.
fn environment(name: &str) -> Option<String> {
    match name {
        "MDB_UPSTREAM_URI" => Some("mongodb://127.0.0.1:27017/?replicaSet=rs".to_owned()),
        "SHOP_PASSWORD" | "SHOP_REPORTS_PASSWORD" | "NOTES_PASSWORD" | "TASK_MANAGER_PASSWORD" => {
            Some(name.to_owned())
        }
        _ => None,
    }
}

fn shown(problems: &[Problem]) -> Vec<String> {
    let base = format!("{}/", directory().display());
    problems
        .iter()
        .map(|problem| format!("{} {problem}", problem.severity).replace(&base, ""))
        .collect()
}

fn app<'a>(apps: &'a [AppManifest], slug: &str) -> &'a AppManifest {
    apps.iter()
        .find(|app| app.slug.as_str() == slug)
        .expect("the app is loaded")
}

#[test]
fn every_file_loads_with_exactly_these_warnings() {
    let loaded =
        load(&directory().join("mdb-runtime.yaml"), &environment).expect("the contract loads");
    let expected = [
        "apps/task_manager.json:7: `developer_id`: has no effect: no credential has the user name `you@example.com`",
        "apps/task_manager.json:8: `auth_required`: has no effect in a proxy; remove it",
        "apps/task_manager.json:18: `managed_indexes.tasks[0].background`: has no effect in a proxy; remove it",
        "apps/task_manager.json:23: `sub_auth.enabled`: has no effect in a proxy; remove it",
        "apps/task_manager.json:24: `sub_auth.strategy`: has no effect in a proxy; remove it",
        "apps/task_manager.json:25: `sub_auth.users_collection`: has no effect in a proxy; remove it",
        "apps/task_manager.json:26: `sub_auth.session_cookie_name`: has no effect in a proxy; remove it",
        "apps/task_manager.json:27: `sub_auth.session_ttl_seconds`: has no effect in a proxy; remove it",
    ];
    assert_eq!(
        shown(&loaded.warnings),
        expected.map(|text| format!("warning {text}"))
    );
    let slugs: Vec<_> = loaded.apps.iter().map(|app| app.slug.as_str()).collect();
    assert_eq!(slugs, ["notes", "shop", "task_manager"]);
}

#[test]
fn the_configuration_has_the_values_shown() {
    let config = load_config(&directory().join("mdb-runtime.yaml"), &environment)
        .expect("it loads")
        .config;
    assert_eq!(
        config.upstream.uri.expose(),
        "mongodb://127.0.0.1:27017/?replicaSet=rs"
    );
    assert_eq!(config.manifests, directory().join("apps"));
    check_values(&config);
}

/// The values shown in the contract are the defaults.
#[test]
fn the_defaults_are_the_values_shown() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("config.yaml");
    std::fs::write(
        &path,
        "version: 1\nupstream: { uri: mongodb://localhost }\n",
    )
    .expect("a file");
    let loaded = load_config(&path, &environment).expect("it loads");
    assert_eq!(shown(&loaded.warnings), [""; 0]);
    assert_eq!(loaded.config.manifests, directory.path().join("apps"));
    check_values(&loaded.config);
}

fn check_values(config: &Config) {
    let addresses: Vec<_> = config
        .listeners
        .iter()
        .map(|listener| (listener.address.host(), listener.address.port()))
        .collect();
    assert_eq!(addresses, [("127.0.0.1", 27_018)]);
    assert_eq!(config.upstream.compressors, []);
    assert_eq!(config.upstream.pool.connections_max, 100);
    assert_eq!(
        config.upstream.pool.checkout_timeout,
        Duration::from_secs(5)
    );
    assert_eq!(config.upstream.pool.idle_timeout, Duration::from_secs(600));
    assert_eq!(config.control_database.as_str(), "mdb_runtime");
    assert_eq!(config.scope_field.as_str(), "app_id");
    assert_eq!(
        (config.admin.address.host(), config.admin.address.port()),
        ("127.0.0.1", 9464)
    );
    assert_eq!(config.limits.connections_max, 20_000);
    assert_eq!(config.limits.connections_per_app_max, 5000);
    assert_eq!(config.limits.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.shutdown_grace, Duration::from_secs(15));
    assert_eq!(config.indexes.mode, IndexMode::Auto);
    assert_eq!(
        (config.log.format, config.log.level),
        (LogFormat::Text, LogLevel::Info)
    );
}

fn password(credential: &Credential) -> &str {
    match &credential.proof {
        Proof::Password(password) => password.expose(),
        Proof::Certificate => panic!("no password: {credential:?}"),
    }
}

#[test]
fn the_apps_have_what_their_manifests_say() {
    let apps = load_apps(&directory().join("apps"), &environment)
        .expect("they load")
        .apps;
    let shop = app(&apps, "shop");
    assert_eq!(shop.name, "Shop");
    assert_eq!(shop.description, "Products and orders of a small shop");
    assert_eq!(
        (shop.isolation, shop.expose_scope_field),
        (Isolation::Shared, false)
    );
    let credentials: Vec<_> = shop
        .credentials
        .iter()
        .map(|credential| {
            (
                credential.username.as_str(),
                password(credential),
                credential.roles.clone(),
            )
        })
        .collect();
    let expected = [
        (
            "shop",
            "SHOP_PASSWORD",
            BTreeSet::from([Role::ReadWrite, Role::DbAdmin]),
        ),
        (
            "shop-reports",
            "SHOP_REPORTS_PASSWORD",
            BTreeSet::from([Role::Read]),
        ),
    ];
    assert_eq!(credentials, expected);
    let index = &shop.managed_indexes[0];
    assert_eq!(
        (index.collection.as_str(), index.name.as_str()),
        ("orders", "status_created")
    );
    let keys: Vec<_> = index
        .keys
        .iter()
        .map(|key| (key.field.as_str(), key.direction))
        .collect();
    assert_eq!(
        keys,
        [
            ("status", Direction::Ascending),
            ("created_at", Direction::Descending)
        ]
    );
    assert_eq!(
        shop.managed_indexes[1].options,
        [("unique".to_owned(), Value::Boolean(true))]
    );

    assert_eq!(app(&apps, "notes").managed_indexes, []);
    let tasks = app(&apps, "task_manager");
    assert_eq!(tasks.app_roles, ["admin", "user"]);
    assert_eq!(tasks.managed_indexes[0].options, []);
    assert_eq!(
        tasks.credentials[0].roles,
        BTreeSet::from([Role::ReadWrite, Role::DbAdmin])
    );
}

#[test]
fn no_secret_shows_in_debug_text() {
    let loaded =
        load(&directory().join("mdb-runtime.yaml"), &environment).expect("the contract loads");
    let text = format!("{loaded:?}");
    assert!(
        !text.contains("SHOP_PASSWORD") && !text.contains("replicaSet"),
        "{text}"
    );
}

#[test]
fn the_examples_of_the_repository_load_without_a_warning() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/mdb-runtime.yaml");
    let loaded = load(&path, &environment).expect("the examples load");
    assert_eq!(shown(&loaded.warnings), [""; 0]);
    let slugs: Vec<_> = loaded.apps.iter().map(|app| app.slug.as_str()).collect();
    assert_eq!(slugs, ["notes", "shop"]);
}
