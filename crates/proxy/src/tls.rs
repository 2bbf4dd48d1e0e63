//! TLS of a listener's clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use mdb_telemetry::CloseReason;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::downstream::serve_client;
use crate::guest::{Guest, Shown};
use crate::shared::Shared;
use crate::sparing::Complaints;

/// The certificates in force, and what is asked of clients. Clones share them: what is replaced in one is replaced in all.
#[derive(Clone)]
pub struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    /// With these to begin with.
    pub fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(ArcSwap::new(config)))
    }

    /// For handshakes that begin from now on. Connections that are there keep what they were made with.
    pub fn replace(&self, config: Arc<ServerConfig>) {
        self.0.store(config);
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.load_full())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// Serves one client like [`serve_client`], after a handshake that may take as long as an authentication may.
pub(crate) async fn serve_encrypted<S: AsyncRead + AsyncWrite + Unpin + Send>(
    stream: S,
    tls: Tls,
    mut guest: Guest,
    shared: Arc<Shared>,
    leave: CancellationToken,
) -> CloseReason {
    let limit = shared.limits.handshake_timeout;
    let mut stream = match shake_hands(
        stream,
        (&tls, limit),
        guest.peer,
        &shared.complaints,
        &leave,
    )
    .await
    {
        Ok(stream) => stream,
        Err(reason) => return reason,
    };
    let chain = stream.get_ref().1.peer_certificates();
    if let Some(certificate) = chain.and_then(<[_]>::first) {
        let subject = subject::of(certificate);
        guest.certificate = subject.map_or(Shown::Unwritable, |name| Shown::Subject(name.into()));
    }
    let reason = serve_client(&mut stream, guest, shared, leave).await;
    // Tells the client that nothing was cut off. One that does not read is not waited for.
    let _ = timeout(FAREWELL, stream.shutdown()).await;
    reason
}

async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    (tls, limit): (&Tls, Duration),
    peer: SocketAddr,
    complaints: &Complaints,
    leave: &CancellationToken,
) -> Result<TlsStream<S>, CloseReason> {
    let handshake = timeout(limit, tls.acceptor().accept(stream));
    let shaken = tokio::select! {
        shaken = handshake => shaken,
        () = leave.cancelled() => return Err(CloseReason::Drain),
    };
    match shaken {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            if let Some(withheld) = complaints.greetings.line(Instant::now()) {
                tracing::info!(client_address = %peer, %error, withheld, "the TLS handshake failed");
            }
            Err(CloseReason::Tls)
        }
        Err(_) => {
            tracing::debug!(client_address = %peer, "the TLS handshake took too long");
            Err(CloseReason::HandshakeTimeout)
        }
    }
}

/// Long enough for a last record on any network.
const FAREWELL: Duration = Duration::from_secs(1);

mod subject;

#[cfg(test)]
mod tests;
