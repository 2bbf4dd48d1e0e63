use std::io;

use bson::doc;
use mdb_auth::Mechanism;
use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream as ClientStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, version};

use super::*;
use crate::testing::{Client, LIMITS, PEER, Proxy};

/// An authority, and what it has signed.
struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

type Pair = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let issuer = Issuer::new(params, key);
        Self {
            certificate,
            issuer,
        }
    }

    fn sign(&self, name: &str) -> Pair {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (vec![certificate.der().clone()], key)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }

    /// Of a server; with `asks`, one that wants clients of this authority.
    fn server(&self, asks: bool) -> Arc<ServerConfig> {
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if asks {
            let roots = Arc::new(self.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let (chain, key) = self.sign("localhost");
        Arc::new(builder.with_single_cert(chain, key).unwrap())
    }

    fn client(
        &self,
        pair: Option<Pair>,
        version: &'static tokio_rustls::rustls::SupportedProtocolVersion,
    ) -> ClientConfig {
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(self.roots());
        match pair {
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
            None => builder.with_no_client_auth(),
        }
    }
}

fn serve(proxy: &Proxy, tls: &Tls) -> (DuplexStream, JoinHandle<CloseReason>) {
    let (near, far) = duplex(64 * 1024);
    let (shared, leave) = (Arc::clone(&proxy.shared), proxy.leave.clone());
    let served = serve_encrypted(far, tls.clone(), PEER.into(), shared, leave);
    (near, tokio::spawn(served))
}

async fn connect(
    stream: DuplexStream,
    config: ClientConfig,
) -> io::Result<ClientStream<DuplexStream>> {
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

#[tokio::test]
async fn a_client_logs_in_over_both_versions_and_hears_the_end() {
    let proxy = Proxy::new().await;
    let authority = Authority::new();
    let tls = Tls::new(authority.server(false));
    for version in [&version::TLS12, &version::TLS13] {
        let (stream, served) = serve(&proxy, &tls);
        let config = authority.client(None, version);
        let mut client = Client::new(connect(stream, config).await.unwrap());
        let reply = client
            .authenticate(Mechanism::ScramSha256, "shop", "pencil")
            .await;
        assert_eq!(reply.get_bool("done").ok(), Some(true), "{reply}");
        // No message is that long.
        client.stream.write_all(&[0xff; 16]).await.unwrap();
        assert!(matches!(served.await.unwrap(), CloseReason::Protocol));
        // A stream that was cut off would be an error.
        assert_eq!(client.stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn only_clients_of_the_authority_where_certificates_are_required() {
    let proxy = Proxy::new().await;
    let (authority, stranger) = (Authority::new(), Authority::new());
    let tls = Tls::new(authority.server(true));
    let cases = [
        (Some(authority.sign("app")), true),
        (Some(stranger.sign("app")), false),
        (None, false),
    ];
    for (pair, is_welcome) in cases {
        let (stream, served) = serve(&proxy, &tls);
        // With 1.2 the client knows the outcome when its handshake ends.
        let config = authority.client(pair, &version::TLS12);
        if let Ok(stream) = connect(stream, config).await {
            assert!(is_welcome);
            let pong = Client::new(stream).command(doc! {"ping": 1}).await;
            assert_eq!(pong, doc! {"ok": 1.0});
        } else {
            assert!(!is_welcome);
            assert_eq!(served.await.unwrap(), CloseReason::Tls);
        }
    }
}

#[tokio::test]
async fn what_is_replaced_holds_for_the_next_handshake_and_not_for_those_who_are_there() {
    let proxy = Proxy::new().await;
    let (old, new) = (Authority::new(), Authority::new());
    let tls = Tls::new(old.server(false));
    let (stream, _served) = serve(&proxy, &tls);
    let stream = connect(stream, old.client(None, &version::TLS13)).await;
    let mut early = Client::new(stream.unwrap());
    tls.clone().replace(new.server(false));
    let (stream, _) = serve(&proxy, &tls);
    assert!(
        connect(stream, old.client(None, &version::TLS13))
            .await
            .is_err()
    );
    let (stream, _served) = serve(&proxy, &tls);
    let stream = connect(stream, new.client(None, &version::TLS13)).await;
    let mut late = Client::new(stream.unwrap());
    for client in [&mut early, &mut late] {
        assert_eq!(client.command(doc! {"ping": 1}).await, doc! {"ok": 1.0});
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_does_not_come_ends_in_time() {
    let proxy = Proxy::new().await;
    let tls = Tls::new(Authority::new().server(false));
    let started_at = tokio::time::Instant::now();
    let (_silent, served) = serve(&proxy, &tls);
    assert_eq!(served.await.unwrap(), CloseReason::HandshakeTimeout);
    assert!(started_at.elapsed() >= LIMITS.handshake_timeout);
}

#[tokio::test]
async fn a_client_without_tls_is_told_goodbye() {
    let proxy = Proxy::new().await;
    let tls = Tls::new(Authority::new().server(false));
    let (stream, served) = serve(&proxy, &tls);
    let mut client = Client::new(stream);
    client.send(0, doc! {"hello": 1}).await;
    assert_eq!(served.await.unwrap(), CloseReason::Tls);
}

#[tokio::test]
async fn a_drain_does_not_wait_for_a_handshake() {
    let proxy = Proxy::new().await;
    let tls = Tls::new(Authority::new().server(false));
    let (_silent, served) = serve(&proxy, &tls);
    proxy.leave.cancel();
    assert_eq!(served.await.unwrap(), CloseReason::Drain);
}
