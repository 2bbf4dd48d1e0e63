//! Whatever way a deployment ends, nothing is left running.

use std::net::TcpStream;
use std::path::Path;

use mdb_testbed::Deployment;

fn assert_gone(hosts: &[String], directory: &Path) {
    for host in hosts {
        assert!(TcpStream::connect(host).is_err(), "{host} still listens");
    }
    assert!(!directory.exists());
}

#[tokio::test]
async fn dropping_ends_all_members_and_removes_their_files() {
    let deployment = Deployment::replica_set(3).start().await.unwrap();
    let (hosts, directory) = (deployment.hosts(), deployment.directory().to_owned());
    // Neither a member that is paused nor one that is down may stand in the way.
    deployment.member(0).pause().unwrap();
    deployment.member(1).kill().unwrap();
    assert!(directory.exists());
    TcpStream::connect(&hosts[2]).unwrap();
    drop(deployment);
    assert_gone(&hosts, &directory);
}

#[tokio::test]
async fn a_panic_ends_it_too() {
    let deployment = Deployment::standalone().start().await.unwrap();
    let (hosts, directory) = (deployment.hosts(), deployment.directory().to_owned());
    let panicking = tokio::spawn(async move {
        assert_eq!(
            deployment.hosts().len(),
            0,
            "this panic is part of the test"
        );
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_gone(&hosts, &directory);
}
