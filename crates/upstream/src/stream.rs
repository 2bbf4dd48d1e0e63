//! The bytes to and from one server, with TLS or without.

use std::{io, mem::MaybeUninit, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use mdb_scope::ServerAddress;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, Interest},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream, rustls::pki_types::ServerName};

use crate::error::UpstreamError;

/// An open connection's bytes.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Connects to `address` (`host:port`), with TLS if there is a connector.
    pub(crate) async fn open(
        address: &ServerAddress,
        tls: Option<&TlsConnector>,
    ) -> Result<Self, UpstreamError> {
        let unreachable = |source| UpstreamError::Connect {
            server: address.clone(),
            source,
        };
        let (host, port) = host_and_port(address)
            .ok_or_else(|| unreachable(io::Error::from(io::ErrorKind::InvalidInput)))?;
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(unreachable)?;
        prepare(&tcp).map_err(unreachable)?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(tcp));
        };
        let no_session = |source| UpstreamError::Tls {
            server: address.clone(),
            source,
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| no_session(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let stream = tls.connect(name, tcp).await.map_err(no_session)?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// The proxy's own end; `None` if the socket is broken.
    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.tcp().local_addr().ok()
    }

    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Writes some of `bytes`.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes).await,
            Self::Tls(tls) => tls.write(bytes).await,
        }
    }

    /// Makes sure that everything written leaves.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        match self {
            // A socket keeps nothing back.
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.flush().await,
        }
    }

    /// Reads what is there, at least one byte, into the free capacity of `buffer`; 0 at the end.
    pub(crate) async fn read(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read_buf(buffer).await,
            Self::Tls(tls) => tls.read_buf(buffer).await,
        }
    }

    /// Whether a failed first write may nevertheless have sent something.
    pub(crate) fn keeps_bytes_back(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// Whether nothing was received and nothing closed. Costs no system call unless the reactor has
    /// seen something happen on the socket.
    pub(crate) fn is_quiet(&self) -> bool {
        let tcp = self.tcp();
        let peeked = tcp.try_io(Interest::READABLE, || {
            SockRef::from(tcp).peek(&mut [MaybeUninit::uninit()])
        });
        matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// `host:port`, where the host may be an IPv6 address with or without brackets.
fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    Some((bare.unwrap_or(host), port.parse().ok()?))
}

fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let socket = SockRef::from(tcp);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_RETRIES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))?;
    Ok(())
}

// A command may run for hours without a byte, so only the kernel can tell a busy server from one that
// is gone. These find the latter after 35 seconds, whether or not anything was on its way.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_RETRIES: u32 = 3;
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(35);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split_at_the_last_colon() {
        for (address, expected) in [
            ("db.example:27017", Some(("db.example", 27017))),
            ("::1:27018", Some(("::1", 27018))),
            ("[::1]:27018", Some(("::1", 27018))),
            ("db.example", None),
            ("db.example:x", None),
        ] {
            assert_eq!(host_and_port(address), expected);
        }
    }
}
