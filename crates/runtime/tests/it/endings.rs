//! Every exit code that needs no upstream.

use std::net::TcpListener;

use crate::program::{Files, finished};

/// Nobody listens on this reserved port.
const NOBODY: &str = "mongodb://127.0.0.1:1/?replicaSet=rs0";

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn arguments_that_are_not_understood_end_with_2() {
    for arguments in [
        &["serve"][..],
        &["frobnicate"],
        &["health", "--address", "x"],
    ] {
        let output = finished(NOBODY, arguments).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage") || text(&output.stderr).contains("error"));
    }
    let output = finished(NOBODY, &["--version"]).await;
    assert_eq!(output.status.code(), Some(0));
    let expected = format!("mdb-runtime {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(text(&output.stdout), expected);
}

#[tokio::test]
async fn a_bad_configuration_ends_with_1_and_all_its_problems() {
    let files = Files::of_the_contract();
    files.change_config("scope_field: app_id", "scope_field: _id");
    files.change_app("shop.yaml", "slug: shop", "slug: Shop!");
    files.change_app("notes.yaml", "NOTES_PASSWORD", "NOT_SET");
    let config = files.config();
    let config = config.to_str().unwrap();
    for command in ["serve", "check"] {
        let output = finished(NOBODY, &[command, "--config", config]).await;
        assert_eq!(output.status.code(), Some(1), "{command}");
        let problems = text(&output.stderr);
        for place in [
            "mdb-runtime.yaml:17: ",
            "apps/shop.yaml:2: ",
            "apps/notes.yaml:6: ",
        ] {
            assert!(problems.contains(place), "{command}: {place}\n{problems}");
        }
        let marked = "apps/task_manager.json:8: warning: ";
        assert!(problems.contains(marked), "{problems}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[tokio::test]
async fn check_finds_the_contract_good() {
    let files = Files::of_the_contract();
    let config = files.config();
    let output = finished(NOBODY, &["check", "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(0));
    let summary = text(&output.stdout);
    assert!(
        summary.ends_with(": good: 3 apps, 4 credentials, 8 warnings\n"),
        "{summary}"
    );
    assert_eq!(text(&output.stderr).lines().count(), 8);
}

#[tokio::test]
async fn an_address_that_is_taken_ends_with_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let files = Files::of_the_contract();
    files.change_config("127.0.0.1:0", &address);
    let config = files.config();
    let output = finished(NOBODY, &["serve", "--config", config.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("cannot listen on {address} for clients: ");
    assert!(text(&output.stderr).contains(&expected), "{expected}");
}

#[tokio::test]
async fn an_upstream_that_is_not_reached_in_time_ends_with_3() {
    let files = Files::of_the_contract();
    let config = files.config();
    let arguments = [
        "serve",
        "--wait-for-upstream",
        "1s",
        "--config",
        config.to_str().unwrap(),
    ];
    let output = finished(NOBODY, &arguments).await;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("upstream_not_reached"));
}
