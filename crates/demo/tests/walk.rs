//! The demonstration holds what it promises.

use mdb_demo::walk::{Outcome, walk};
use mdb_demo::{Ports, Stage, table};

const ANY: Ports = Ports {
    clients: 0,
    admin: 0,
};

#[tokio::test(flavor = "multi_thread")]
async fn every_expectation_holds() {
    let stage = Stage::start(ANY).await.expect("the stage is set");
    let steps = walk(&stage).await.expect("the apps connect");
    let failed: Vec<_> = steps
        .iter()
        .filter(|step| !matches!(step.outcome, Outcome::Held))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let table = table::sight(&stage).await.expect("all can be read");
    // The stored form carries the field, what the app sees does not.
    assert!(table.contains("_id=milk app_id=notes done=true"), "{table}");
    assert!(table.contains("_id=milk done=true"), "{table}");
    stage.end().await;
}
