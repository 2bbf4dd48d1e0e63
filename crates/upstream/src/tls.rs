//! TLS towards the upstream, as the connection string asks for it.

use std::{path::Path, sync::Arc};

use mongodb::options::TlsOptions;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use crate::error::UpstreamError;

/// The connector for `tls=true`: TLS 1.2 and 1.3, the roots of `tlsCAFile` or else those of Mozilla,
/// and the client certificate of `tlsCertificateKeyFile`.
pub(crate) fn connector(options: &TlsOptions) -> Result<TlsConnector, UpstreamError> {
    if options.allow_invalid_certificates == Some(true) {
        return Err(UpstreamError::Unsupported {
            what: "tlsAllowInvalidCertificates or tlsInsecure (name the CA in tlsCAFile instead)",
        });
    }
    let roots = match &options.ca_file_path {
        Some(path) => roots_of_file(path)?,
        None => webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect(),
    };
    // The versions and the provider come from the same library: they always fit.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|_| UpstreamError::Unsupported {
            what: "a TLS version",
        })?
        .with_root_certificates(roots);
    let config = match &options.cert_key_file_path {
        Some(path) => {
            let key = PrivateKeyDer::from_pem_file(path).map_err(|error| bad_file(path, &error))?;
            builder
                .with_client_auth_cert(certificates(path)?, key)
                .map_err(|error| bad_file(path, &error))?
        }
        None => builder.with_no_client_auth(),
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, UpstreamError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| bad_file(path, &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, UpstreamError> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad_file(path, &error))?;
    if all.is_empty() {
        return Err(bad_file(path, &"it holds no certificate"));
    }
    Ok(all)
}

fn bad_file(path: &Path, reason: &dyn std::fmt::Display) -> UpstreamError {
    UpstreamError::TlsFile {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use mdb_auth::Secret;
    use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};

    use super::*;
    use crate::{
        fake::{self, FakeServer},
        pool::Pooled,
        upstream::UpstreamOptions,
        uri,
    };

    fn options() -> TlsOptions {
        TlsOptions::builder().build()
    }

    #[test]
    fn the_usual_roots_serve_without_a_file() {
        assert!(connector(&options()).is_ok());
    }

    #[test]
    fn unchecked_certificates_are_refused() {
        let mut options = options();
        options.allow_invalid_certificates = Some(true);
        let error = connector(&options).err().map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("tlsCAFile")));
    }

    #[test]
    fn a_file_that_is_missing_or_empty_is_named() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for path in [file, "no-such-file.pem"] {
            let mut options = options();
            options.ca_file_path = Some(path.into());
            let error = connector(&options).err().map(|error| error.to_string());
            assert!(error.is_some_and(|text| text.contains(path)), "{path}");
        }
    }

    /// A server with a certificate of its own making, and that certificate.
    async fn server() -> (FakeServer, String) {
        let own = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = FakeServer::start_with(fake::standalone(), Some(acceptor)).await;
        (server, own.cert.pem())
    }

    #[tokio::test]
    async fn only_a_server_of_the_named_authority_is_believed() {
        let (server, certificate) = server().await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(certificate.as_bytes()).unwrap();
        let named = format!("&tlsCAFile={}", file.path().display());
        for (ca_file, is_believed) in [(named.as_str(), true), ("", false)] {
            let uri = format!("mongodb://{}/?tls=true{ca_file}", server.address);
            let (_, connector) = uri::read(&UpstreamOptions::new(Secret::new(uri)))
                .await
                .unwrap();
            match connector.connect(&server.address).await {
                Ok(mut connection) => {
                    assert!(is_believed);
                    assert!(connection.is_alive());
                    connection.run(&bson::rawdoc! { "ping": 1 }).await.unwrap();
                    assert!(connection.is_alive());
                }
                Err(UpstreamError::Tls { .. }) => assert!(!is_believed),
                Err(other) => panic!("{other}"),
            }
        }
    }
}
