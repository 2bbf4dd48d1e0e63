use std::path::PathBuf;

use bson::doc;
use mdb_testbed::{Deployment, PROXY_PASSWORD, PROXY_USER};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;

use super::*;
use crate::{frame, lease::Lease};

/// An authority, certificates that it signed, and a server that takes TLS from clients with one of them.
struct Secure {
    files: TempDir,
    deployment: Deployment,
}

fn params(name: &str, organization: &str) -> CertificateParams {
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, organization);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params
}

impl Secure {
    async fn start() -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut authority = params("authority", "tests");
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = authority.self_signed(&key).unwrap().pem();
        std::fs::write(files.path().join("ca.pem"), ca).unwrap();
        let issuer = Issuer::new(authority, key);
        for (name, organization) in [("server", "servers"), ("proxy", "proxies")] {
            let key = KeyPair::generate().unwrap();
            let signed = params(name, organization).signed_by(&key, &issuer);
            let pem = format!("{}{}", signed.unwrap().pem(), key.serialize_pem());
            std::fs::write(files.path().join(name).with_extension("pem"), pem).unwrap();
        }
        let path = |name: &str| files.path().join(name).display().to_string();
        let (ca, server) = (path("ca.pem"), path("server.pem"));
        // The test bed itself speaks without TLS.
        let deployment = Deployment::replica_set(1)
            .with_auth()
            .mongod_args(&["--tlsMode", "preferTLS"])
            .mongod_args(&["--tlsCAFile", &ca, "--tlsCertificateKeyFile", &server])
            .start();
        Self {
            deployment: deployment.await.unwrap(),
            files,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn uri(&self, user: &str, options: &str) -> String {
        let host = self.deployment.member(0).address();
        format!("mongodb://{user}{host}/?replicaSet=rs0&tls=true{options}")
    }

    fn authority(&self) -> String {
        format!("&tlsCAFile={}", self.path("ca.pem").display())
    }

    fn certificate(&self) -> String {
        let file = self.path("proxy.pem");
        format!("&tlsCertificateKeyFile={}", file.display())
    }
}

async fn lend(uri: String) -> Result<Lease, UpstreamError> {
    let mut options = UpstreamOptions::new(Secret::new(uri));
    options.election_wait = Duration::from_secs(10);
    let upstream = Upstream::start(options, Metrics::new()).await?;
    upstream.lend(&Routing::Primary, &borrower(), soon()).await
}

/// As whom the lent connection is logged in.
async fn user_of(lease: &mut Lease) -> String {
    let status = bson::rawdoc! { "connectionStatus": 1, "$db": "admin" };
    let reply = lease
        .exchange_frame(&frame::command(&status, 9), 9, &crate::Unbounded)
        .await;
    let reply = bson::Document::try_from(frame::body(&reply.unwrap()).unwrap()).unwrap();
    let users = reply.get_document("authInfo").unwrap();
    let users = users.get_array("authenticatedUsers").unwrap();
    let user = users[0].as_document().unwrap();
    user.get_str("user").unwrap().to_owned()
}

#[tokio::test]
async fn a_server_with_tls_is_logged_in_to_by_password_and_by_certificate() {
    let secure = Secure::start().await;
    let (authority, certificate) = (secure.authority(), secure.certificate());
    let password = format!("{PROXY_USER}:{PROXY_PASSWORD}@");
    let by_password = secure.uri(&password, &format!("{authority}{certificate}"));
    let mut lease = lend(by_password).await.unwrap();
    assert_eq!(user_of(&mut lease).await, PROXY_USER);

    // No certificate of the proxy, none of the authority: neither side lets the other in.
    for (options, why) in [(&authority, "client"), (&certificate, "server")] {
        let refused = lend(secure.uri(&password, options)).await;
        assert!(refused.is_err(), "without the certificate of the {why}");
    }

    let by_certificate =
        format!("{authority}{certificate}&authMechanism=MONGODB-X509&authSource=%24external");
    let uri = secure.uri("", &by_certificate);
    let unknown = lend(uri.clone()).await.unwrap_err();
    assert!(
        matches!(unknown, UpstreamError::Authentication { .. }),
        "{unknown}"
    );
    let subject = "CN=proxy,O=proxies";
    let administrator = secure.deployment.client().await.unwrap();
    let roles = [doc! {"role": "readWrite", "db": "shop"}];
    let create = doc! {"createUser": subject, "roles": roles.to_vec()};
    let external = administrator.database("$external");
    external.run_command(create).await.unwrap();
    let mut lease = lend(uri).await.unwrap();
    assert_eq!(user_of(&mut lease).await, subject);
}
