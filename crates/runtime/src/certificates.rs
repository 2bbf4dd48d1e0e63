//! From the files of listeners with TLS to what handshakes are made with.

use std::fmt::Display;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mdb_manifest::{
    ClientCertificates, Config, FileReference, ListenerTls, Problem, Report, Severity,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::{Error as TlsError, InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// What one listener's files gave.
#[derive(Debug, Clone)]
pub(crate) struct Certificates {
    /// For handshakes by TLS 1.2 and 1.3.
    pub(crate) config: Arc<ServerConfig>,
    /// When the listener's certificate expires, in seconds since 1970.
    pub(crate) expiry: i64,
}

/// What the files of all listeners gave.
#[derive(Debug)]
pub(crate) struct LoadedCertificates {
    /// In the order of the configuration; `None` for a listener without TLS.
    pub(crate) listeners: Vec<Option<Certificates>>,
    /// What is doubtful.
    pub(crate) warnings: Vec<Problem>,
}

/// Reads the files that the configuration in `file` names. Problems have its line.
pub(crate) fn load(
    file: &Path,
    config: &Config,
    now: SystemTime,
) -> Result<LoadedCertificates, Report> {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut reading = Reading {
        file,
        now: i64::try_from(now).unwrap_or(i64::MAX),
        problems: Vec::new(),
    };
    let mut listeners = Vec::new();
    for listener in &config.listeners {
        let tls = listener.tls.as_ref();
        listeners.push(tls.and_then(|tls| reading.listener(tls)));
    }
    let problems = reading.problems;
    if problems.iter().any(|p| p.severity == Severity::Error) {
        return Err(Report { problems });
    }
    Ok(LoadedCertificates {
        listeners,
        warnings: problems,
    })
}

/// One look at all files, and what was found. What is `None` here has its reason among the problems.
struct Reading<'f> {
    file: &'f Path,
    now: i64,
    problems: Vec<Problem>,
}

impl Reading<'_> {
    fn listener(&mut self, tls: &ListenerTls) -> Option<Certificates> {
        let chain = self.chain(&tls.certificate);
        let expiry = chain.as_ref().and_then(|c| self.judge(&tls.certificate, c));
        let key = self.key(&tls.key);
        let provider = Arc::new(ring::default_provider());
        let verifier = self.verifier(&tls.client_certificates, &provider);
        let (chain, expiry, key, verifier) = (chain?, expiry?, key?, verifier?);
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map(|builder| builder.with_client_cert_verifier(verifier))
            .and_then(|builder| builder.with_single_cert(chain, key));
        match config {
            Ok(config) => Some(Certificates {
                config: Arc::new(config),
                expiry,
            }),
            Err(TlsError::InconsistentKeys(InconsistentKeys::KeyMismatch)) => self.error(
                &tls.key,
                "the key is not that of the certificate; the listener's own certificate is the first in its file",
            ),
            Err(error) => self.error(&tls.certificate, error),
        }
    }

    /// At least one certificate.
    fn chain(&mut self, file: &FileReference) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.bytes(file)?;
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(chain) if chain.is_empty() => self.error(file, "it holds no certificate in PEM"),
            Ok(chain) => Some(chain),
            Err(error) => self.error(file, error),
        }
    }

    fn key(&mut self, file: &FileReference) -> Option<PrivateKeyDer<'static>> {
        let bytes = self.bytes(file)?;
        match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => Some(key),
            Err(pem::Error::NoItemsFound) => self.error(
                file,
                "it holds no private key in PEM; one that is encrypted has to be decrypted first",
            ),
            Err(error) => self.error(file, error),
        }
    }

    /// Looks at what drivers will look at; gives the expiry of the first certificate.
    fn judge(&mut self, file: &FileReference, chain: &[CertificateDer<'_>]) -> Option<i64> {
        let mut expiry = None;
        for (index, der) in chain.iter().enumerate() {
            let Ok((_, certificate)) = X509Certificate::from_der(der) else {
                return self.error(file, format!("certificate {} cannot be read", index + 1));
            };
            let validity = certificate.validity();
            let (from, to) = (validity.not_before, validity.not_after);
            let subject = certificate.subject();
            if to.timestamp() < self.now {
                return self.error(
                    file,
                    format!("the certificate of `{subject}` expired on {to}"),
                );
            }
            if from.timestamp() > self.now {
                let text = format!("the certificate of `{subject}` is not valid before {from}");
                return self.error(file, text);
            }
            if to.timestamp() - self.now < EXPIRY_WARNING_SECONDS {
                let text = format!("the certificate of `{subject}` expires on {to}");
                self.warning(file, &text);
            }
            if index == 0 {
                expiry = Some(to.timestamp());
                let names = certificate.subject_alternative_name();
                if !matches!(names, Ok(Some(_))) {
                    let text = "the certificate names no host (subjectAltName), and drivers will not take it";
                    self.warning(file, text);
                }
            }
        }
        expiry
    }

    fn verifier(
        &mut self,
        wanted: &ClientCertificates,
        provider: &Arc<CryptoProvider>,
    ) -> Option<Arc<dyn ClientCertVerifier>> {
        let Some(file) = wanted.authorities() else {
            return Some(WebPkiClientVerifier::no_client_auth());
        };
        let mut roots = RootCertStore::empty();
        for certificate in self.chain(file)? {
            if let Err(error) = roots.add(certificate) {
                return self.error(file, error);
            }
        }
        let builder =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match wanted {
            ClientCertificates::Optional(_) => builder.allow_unauthenticated(),
            ClientCertificates::Required(_) | ClientCertificates::Off => builder,
        };
        match builder.build() {
            Ok(verifier) => Some(verifier),
            Err(error) => self.error(file, error),
        }
    }

    fn bytes(&mut self, file: &FileReference) -> Option<Vec<u8>> {
        match read(&file.path) {
            Ok(bytes) if bytes.len() as u64 > FILE_BYTES_MAX => {
                self.error(file, format!("it is larger than {FILE_BYTES_MAX} bytes"))
            }
            Ok(bytes) => Some(bytes),
            Err(error) => self.error(file, format!("it cannot be read: {error}")),
        }
    }

    fn error<T>(&mut self, file: &FileReference, text: impl Display) -> Option<T> {
        self.push(file, Severity::Error, &text);
        None
    }

    fn warning(&mut self, file: &FileReference, text: &str) {
        self.push(file, Severity::Warning, &text);
    }

    fn push(&mut self, file: &FileReference, severity: Severity, text: &dyn Display) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            line: Some(file.line),
            column: None,
            severity,
            text: format!("`{}`: {text}", file.path.display()),
        });
    }
}

/// The whole file, or one byte more than is allowed of it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Three hundred authorities fit; what is larger is a mistake.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Two weeks: those who are warned by mail or by a start still have time.
const EXPIRY_WARNING_SECONDS: i64 = 14 * 24 * 60 * 60;

#[cfg(test)]
mod tests;
