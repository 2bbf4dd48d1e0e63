use std::fs;
use std::time::Duration;

use mdb_manifest::load_config;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;

use super::*;

/// In the middle of 2030.
fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_909_000_000)
}

/// Certificate and key in PEM, valid from January of one year to December of another.
fn pair(first: i32, last: i32, names: &[&str]) -> (String, String) {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "proxy");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(first, 1, 1);
    params.not_after = date_time_ymd(last, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

/// What comes of a configuration with one listener whose `tls` is this; the problems without their directory.
fn problems(directory: &TempDir, tls: &str) -> Vec<String> {
    let path = directory.path().join("config.yaml");
    let text = format!(
        "version: 1\nupstream: {{ uri: mongodb://localhost }}\nlisten:\n  - address: 127.0.0.1:0\n    tls: {tls}\n"
    );
    fs::write(&path, text).unwrap();
    let config = load_config(&path, &|_| None).unwrap().config;
    let problems = match load(&path, &config, now()) {
        Ok(loaded) => {
            assert!(loaded.listeners[0].is_some());
            loaded.warnings
        }
        Err(report) => report.problems,
    };
    let directory = format!("{}/", directory.path().display());
    let shown = |problem: &Problem| format!("{} {problem}", problem.severity);
    problems
        .iter()
        .map(|problem| shown(problem).replace(&directory, ""))
        .collect()
}

#[test]
fn what_is_wrong_with_files_is_told_with_the_line() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let (good, key) = pair(2029, 2035, &["localhost"]);
    let (other, other_key) = pair(2029, 2035, &["localhost"]);
    let (past, past_key) = pair(2020, 2029, &["localhost"]);
    let (future, future_key) = pair(2031, 2035, &["localhost"]);
    let (nameless, nameless_key) = pair(2029, 2035, &[]);
    for (name, text) in [
        ("good.pem", format!("{good}{key}")),
        ("chain.pem", format!("{good}{other}")),
        ("chain.key", key.clone()),
        ("other.key", other_key),
        ("past.pem", format!("{past}{past_key}")),
        ("past-chain.pem", format!("{good}{past}{key}")),
        ("future.pem", format!("{future}{future_key}")),
        ("nameless.pem", format!("{nameless}{nameless_key}")),
        ("text.pem", "no certificate".to_owned()),
        ("broken.pem", good.replace("MII", "!!!")),
        ("large.pem", " ".repeat(1024 * 1024 + 1)),
    ] {
        write(name, &text);
    }
    let place = "error config.yaml:5: ";
    let expired = "expired on Dec 31 00:00:00 2029 +00:00";
    let cases = [
        ("{ certificate: good.pem }", String::new()),
        ("{ certificate: chain.pem, key: chain.key }", String::new()),
        (
            "{ certificate: good.pem, client_ca: good.pem, client_certificates: required }",
            String::new(),
        ),
        (
            "{ certificate: missing.pem, key: chain.key }",
            format!("{place}`missing.pem`: it cannot be read: No such file"),
        ),
        (
            "{ certificate: chain.pem, key: missing.key }",
            format!("{place}`missing.key`: it cannot be read: No such file"),
        ),
        (
            "{ certificate: chain.pem }",
            format!("{place}`chain.pem`: it holds no private key in PEM; one that is encrypted"),
        ),
        (
            "{ certificate: text.pem, key: chain.key }",
            format!("{place}`text.pem`: it holds no certificate in PEM"),
        ),
        (
            "{ certificate: broken.pem, key: chain.key }",
            format!("{place}`broken.pem`: "),
        ),
        (
            "{ certificate: large.pem, key: chain.key }",
            format!("{place}`large.pem`: it is larger than 1048576 bytes"),
        ),
        (
            "{ certificate: good.pem, key: other.key }",
            format!("{place}`other.key`: the key is not that of the certificate"),
        ),
        (
            "{ certificate: past.pem }",
            format!("{place}`past.pem`: the certificate of `CN=proxy` {expired}"),
        ),
        (
            "{ certificate: past-chain.pem }",
            format!("{place}`past-chain.pem`: the certificate of `CN=proxy` {expired}"),
        ),
        (
            "{ certificate: future.pem }",
            format!(
                "{place}`future.pem`: the certificate of `CN=proxy` is not valid before Jan  1"
            ),
        ),
        (
            "{ certificate: nameless.pem }",
            "warning config.yaml:5: `nameless.pem`: the certificate names no host".to_owned(),
        ),
        (
            "{ certificate: good.pem, client_ca: text.pem, client_certificates: optional }",
            format!("{place}`text.pem`: it holds no certificate in PEM"),
        ),
    ];
    for (tls, expected) in cases {
        let found = problems(&directory, tls);
        match expected.as_str() {
            "" => assert!(found.is_empty(), "{tls}: {found:?}"),
            start => {
                assert_eq!(found.len(), 1, "{tls}: {found:?}");
                assert!(found[0].starts_with(start), "{tls}: {found:?}");
            }
        }
    }
}

#[test]
fn two_weeks_before_the_end_it_is_told() {
    let directory = tempfile::tempdir().unwrap();
    // 2030-06-30 is some days after `now`.
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2029, 1, 1);
    params.not_after = date_time_ymd(2030, 7, 5);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let text = format!("{}{}", certificate.pem(), key.serialize_pem());
    fs::write(directory.path().join("short.pem"), text).unwrap();
    let found = problems(&directory, "{ certificate: short.pem }");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("warning config.yaml:5: "), "{found:?}");
    assert!(
        found[0].ends_with("expires on Jul  5 00:00:00 2030 +00:00"),
        "{found:?}"
    );
}
