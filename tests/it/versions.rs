//! The suites that judge isolation, and what else older servers do otherwise, on these as well: this program is started again for
//! each series.

use mdb_testbed::{Binary, BinaryError};
use tokio::process::Command;

/// What is repeated.
const SUITES: [&str; 5] = [
    "attacks::",
    "differential::",
    "privileges::",
    "twin::named",
    "declared::a_changed_definition",
];

async fn repeat(series: &str) {
    let mongod = {
        let series = series.to_owned();
        let found = tokio::task::spawn_blocking(move || Binary::of_series(&series));
        found.await.unwrap()
    };
    let mongod = match mongod {
        Ok(mongod) => mongod,
        // There is none for this system. `MONGOD_VERSION` asks for one by all means.
        Err(BinaryError::NotFetched { .. }) => return,
        Err(error) => panic!("{error}"),
    };
    let output = Command::new(std::env::current_exe().unwrap())
        .args(SUITES)
        .env("MONGOD_BIN", mongod.path())
        .env_remove("MONGOD_VERSION")
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}: {said}", mongod.version());
    assert!(!said.contains("running 0 tests"), "{said}");
}

#[tokio::test]
async fn isolation_holds_on_5_0() {
    repeat("5.0").await;
}

#[tokio::test]
async fn isolation_holds_on_4_4() {
    repeat("4.4").await;
}
