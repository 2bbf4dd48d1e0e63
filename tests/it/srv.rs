//! `mongodb+srv://` as the upstream's address.

use std::net::SocketAddr;
use std::time::Duration;

use bson::doc;
use mdb_runtime::{Ending, check};
use mdb_testbed::{Deployment, PROXY_PASSWORD, PROXY_USER};
use mdb_tests::{
    DOMAIN, Mongos, Names, ProxyBuilder, RawClient, TestProxy, batch, eventually, logs, with_names,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::time::{sleep, timeout};

const SERVICE: &str = "_mongodb._tcp.cluster.example.test";

/// The database in the path is where users are looked for that nothing else is said of.
fn uri(options: &str) -> String {
    format!("mongodb+srv://{PROXY_USER}:{PROXY_PASSWORD}@cluster.{DOMAIN}/shop?{options}")
}

async fn write_and_read(client: &mut RawClient, db: &str) {
    let insert = doc! {"insert": "c", "documents": [{"_id": 1}], "$db": db};
    client.ok(&insert).await;
    let find = doc! {"find": "c", "$db": db};
    assert_eq!(batch(&client.ok(&find).await).len(), 1);
}

/// SRV names one member of three, TXT the set and where the user is; the rest the member tells.
#[test]
fn a_replica_set_is_found_by_its_service() {
    with_names(
        "srv::a_replica_set_is_found_by_its_service",
        async |names| {
            let deployment = Deployment::replica_set(3).with_auth().start().await;
            let deployment = deployment.unwrap();
            let port = |member: usize| port_of(&deployment, member);
            let texts = ["authSource=admin&replicaSet=rs0"];
            names.set_texts("cluster.example.test", &texts);
            names.set_service(SERVICE, &[("db0.example.test", port(0))]);
            let other = SERVICE.replace("mongodb", "documents");
            names.set_service(&other, &[("db1.example.test", port(1))]);
            for options in ["tls=false", "tls=false&srvServiceName=documents"] {
                let proxy = ProxyBuilder::at(&uri(options)).app("alice").start().await;
                let mut alice = proxy.raw("alice").await;
                write_and_read(&mut alice, proxy.database_name()).await;
                let reads = doc! {"find": "c", "$db": proxy.database_name(), "$readPreference": {"mode": "secondary"}};
                alice.ok(&reads).await;
            }
            assert_eq!(
                [SERVICE, &other].map(|service| names.asked(service) > 0),
                [true; 2]
            );
        },
    );
}

fn port_of(deployment: &Deployment, member: usize) -> u16 {
    let address: SocketAddr = deployment.member(member).address().parse().unwrap();
    address.port()
}

/// `tls=true` need not be said, and the certificate is to be that of the host that SRV names.
#[test]
fn tls_is_the_default() {
    with_names("srv::tls_is_the_default", async |names| {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("server.pem");
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["db0.example.test".to_owned()]).unwrap();
        let pem = format!("{}{}", cert.pem(), signing_key.serialize_pem());
        std::fs::write(&path, pem).unwrap();
        let path = path.to_str().unwrap();
        let deployment = Deployment::standalone()
            .with_auth()
            // The test bed itself speaks without TLS.
            .mongod_args(&["--tlsMode", "preferTLS", "--tlsCertificateKeyFile", path])
            .mongod_args(&[
                "--tlsCAFile",
                path,
                "--tlsAllowConnectionsWithoutCertificates",
            ])
            .start();
        let deployment = deployment.await.unwrap();
        let uri = uri(&format!("authSource=admin&tlsCAFile={path}"));
        names.set_service(SERVICE, &[("db0.example.test", port_of(&deployment, 0))]);
        let proxy = ProxyBuilder::at(&uri).app("alice").start().await;
        write_and_read(&mut proxy.raw("alice").await, proxy.database_name()).await;
        names.set_service(SERVICE, &[("db1.example.test", port_of(&deployment, 0))]);
        let _proxy = ProxyBuilder::at(&uri)
            .app("alice")
            .without_waiting()
            .start()
            .await;
        let complaint = "no TLS session with db1.example.test";
        eventually("a host by another name is refused", async || {
            let lines = logs::unexpected();
            lines
                .iter()
                .any(|line| line.contains(complaint))
                .then_some(())
        })
        .await;
        logs::expect(complaint);
    });
}

/// Texts of `check` for connection strings that lead nowhere.
#[test]
fn what_the_name_servers_say_wrong_is_told() {
    with_names(
        "srv::what_the_name_servers_say_wrong_is_told",
        async |names| {
            let at = |name: &str| format!("_mongodb._tcp.{name}.example.test");
            names.set_service(&at("empty"), &[]);
            names.set_service(
                &at("foreign"),
                &[("db.example.test", 1), ("db.elsewhere.test", 1)],
            );
            for name in ["option", "two", "pair", "balanced"] {
                names.set_service(&at(name), &[("db.example.test", 1)]);
            }
            let own = [("example.test", 1)];
            names.set_service("_mongodb._tcp.example.test", &own);
            names.set_texts("option.example.test", &["authSource=admin&tls=false"]);
            names.set_texts("two.example.test", &["authSource=admin", "replicaSet=rs0"]);
            names.set_texts("pair.example.test", &["authSource"]);
            names.set_texts("balanced.example.test", &["loadBalanced=true"]);
            names.refuse("_mongodb._tcp.broken.example.test");
            for (name, parts) in WRONG {
                let text = complaint(format!("mongodb+srv://user:pencil@{name}")).await;
                for part in *parts {
                    assert!(text.contains(part), "{name}: {part} is missing in: {text}");
                }
                assert!(!text.contains("pencil"), "{text}");
            }
        },
    );
}

const WRONG: &[(&str, &[&str])] = &[
    (
        "nowhere.example.test",
        &[
            "no SRV records of _mongodb._tcp.nowhere.example.test",
            "correct the host's name",
        ],
    ),
    (
        "nowhere.example.test/?srvServiceName=other",
        &["_other._tcp.nowhere.example.test", "or srvServiceName"],
    ),
    (
        "empty.example.test",
        &["no SRV records of _mongodb._tcp.empty.example.test"],
    ),
    (
        "broken.example.test",
        &["could not be asked for", "/etc/resolv.conf"],
    ),
    (
        "foreign.example.test",
        &[
            "hosts of the SRV records of _mongodb._tcp.foreign.example.test",
            "db.elsewhere.test",
        ],
    ),
    // A name of two labels is a domain itself.
    (
        "example.test",
        &["result example.test, which does not match domain name example.test"],
    ),
    (
        "option.example.test",
        &[
            "option.example.test may have one TXT record",
            "option 'tls'",
        ],
    ),
    (
        "two.example.test",
        &[
            "two.example.test may have one TXT record",
            "more than one record",
        ],
    ),
    (
        "pair.example.test",
        &["pair.example.test may have one TXT record", "'authSource'"],
    ),
    (
        "balanced.example.test",
        &["loadBalanced=true, which is not supported"],
    ),
    ("two.example.test:27017", &["a port cannot be specified"]),
    ("two.example.test,pair.example.test", &["exactly one host"]),
    (
        "db.example.test/?srvMaxHosts=1&replicaSet=rs0",
        &["srvMaxHosts and replicaSet"],
    ),
];

/// What `mdb-runtime check` prints of a configuration with this connection string.
async fn complaint(uri: String) -> String {
    let files = tempfile::tempdir().unwrap();
    std::fs::create_dir(files.path().join("apps")).unwrap();
    let path = files.path().join("mdb-runtime.yaml");
    let config =
        "version: 1\nlisten:\n  - address: 127.0.0.1:0\nupstream:\n  uri: { env: UPSTREAM }\n";
    std::fs::write(&path, config).unwrap();
    let checked = tokio::task::spawn_blocking(move || {
        let environment = |name: &str| (name == "UPSTREAM").then(|| uri.clone());
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ending = check::check(&path, &environment, &mut out, &mut err);
        assert_eq!(ending, Ending::Failure);
        String::from_utf8(err).unwrap()
    });
    checked.await.unwrap()
}

/// The drivers' specification of SRV polling: in front of mongoses the service is asked for again, at most each minute.
#[test]
fn mongoses_come_and_go_with_the_records() {
    with_names(
        "srv::mongoses_come_and_go_with_the_records",
        async |names| {
            let deployment = Deployment::replica_set(1)
                .with_auth()
                .start()
                .await
                .unwrap();
            let server = deployment.member(0).address().parse().unwrap();
            let mut routers = Vec::new();
            for _ in 0..3 {
                routers.push(Mongos::before(server, Duration::ZERO).await);
            }
            let tell = |names: &Names, which: &[usize]| {
                let port = |router: usize| routers[router].address().port();
                let hosts = which.iter().map(|&router| (HOSTS[router], port(router)));
                names.set_service(SERVICE, &hosts.collect::<Vec<_>>());
            };
            tell(&names, &[0, 1]);
            let string = uri("tls=false&authSource=admin&localThresholdMS=10000");
            let proxy = ProxyBuilder::at(&string).app("alice").start().await;
            let mut alice = proxy.raw("alice").await;
            let find = doc! {"find": "c", "$db": proxy.database_name()};
            // Time leaps: who was waited for is looked at again.
            logs::expect("mdb_upstream::probe");
            let follows = async |alice: &mut RawClient, which: &[usize]| {
                eventually(
                    "commands go to all that are named and no others",
                    async || {
                        let before: Vec<usize> = routers.iter().map(|r| r.count("find")).collect();
                        for _ in 0..20 {
                            alice.ok(&find).await;
                        }
                        let has_worked = |at: &usize| routers[*at].count("find") > before[*at];
                        let serving: Vec<usize> = (0..3).filter(has_worked).collect();
                        (serving == which).then_some(())
                    },
                )
                .await;
            };
            one_is_used(&routers).await;
            for which in [&[0, 1][..], &[1, 2], &[2], &[0, 2]] {
                tell(&names, which);
                a_minute_later(&names).await;
                follows(&mut alice, which).await;
            }
            // Records of which nothing can be made change nothing, and are told of once.
            assert_eq!(failures(&proxy), 0);
            let foreign = [("db.elsewhere.test", 1)];
            for (hosts, complaint) in [
                (
                    &[][..],
                    "no SRV records of _mongodb._tcp.cluster.example.test",
                ),
                (&foreign, "must be of its own domain"),
            ] {
                names.set_service(SERVICE, hosts);
                are_complained_of(&proxy, complaint).await;
                follows(&mut alice, &[0, 2]).await;
            }
            names.refuse(SERVICE);
            are_complained_of(&proxy, "look at the name servers in /etc/resolv.conf").await;
            follows(&mut alice, &[0, 2]).await;
            names.answer_again(SERVICE);
            tell(&names, &[0, 2]);
            let failed = failures(&proxy);
            a_minute_later(&names).await;
            follows(&mut alice, &[0, 2]).await;
            assert_eq!(failures(&proxy), failed);
        },
    );
}

/// `srvMaxHosts`, of two hosts that are named.
async fn one_is_used(routers: &[Mongos]) {
    let uri = uri("tls=false&authSource=admin&srvMaxHosts=1");
    let mut proxy = ProxyBuilder::at(&uri).app("bob").start().await;
    let mut bob = proxy.raw("bob").await;
    let counts = || routers.iter().map(|router| router.count("find"));
    let before: Vec<usize> = counts().collect();
    for _ in 0..20 {
        bob.ok(&doc! {"find": "c", "$db": proxy.database_name()})
            .await;
    }
    let used = counts().zip(before).filter(|(now, before)| now > before);
    assert_eq!(used.count(), 1);
    drop(bob);
    // The driver sleeps until it looks at the records again, for a minute.
    let ending = timeout(Duration::from_secs(40), proxy.shut_down());
    assert!(ending.await.is_ok(), "the proxy does not end");
}

const HOSTS: [&str; 3] = ["a.example.test", "b.example.test", "c.example.test"];

/// Each minute is counted, the first one logged.
async fn are_complained_of(proxy: &TestProxy, complaint: &str) {
    for _ in 0..3 {
        let failed = failures(proxy);
        leap_until("a failure is counted", || failures(proxy) > failed).await;
    }
    let lines = logs::unexpected();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("WARN mdb_upstream::records"), "{lines:?}");
    assert!(lines[0].contains(complaint), "{lines:?}");
    logs::expect(complaint);
}

fn failures(proxy: &TestProxy) -> u64 {
    let metrics = proxy.proxy().metrics().render();
    let name = "mdb_runtime_upstream_records_failures_total ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(name));
    value.unwrap().parse().unwrap()
}

/// The driver and the proxy ask for the records once more.
async fn a_minute_later(names: &Names) {
    let asked = names.asked(SERVICE);
    leap_until("both ask for the records", || {
        names.asked(SERVICE) > asked + 1
    })
    .await;
}

/// What is to happen within the next minute happens now, whatever it takes.
async fn leap_until(what: &str, has_come: impl Fn() -> bool) {
    // Who was still asking when time leapt begins to wait only then.
    for _ in 0..30 {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(61)).await;
        tokio::time::resume();
        let come = async {
            while !has_come() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        if timeout(Duration::from_secs(2), come).await.is_ok() {
            return;
        }
    }
    panic!("{what}: never");
}
