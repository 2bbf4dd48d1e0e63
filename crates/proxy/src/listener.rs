//! Accepting clients, and letting them go.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use mdb_telemetry::{CloseReason, Label as _, LimitName, ListenerMeter};
use mdb_upstream::ServerHello;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::downstream::serve_client;
use crate::drain::{Shutdown, quiet_or_killed};
use crate::guest::Guest;
use crate::proxy_protocol;
use crate::shared::Shared;
use crate::tls::{Tls, serve_encrypted};

/// Serves clients until `shutdown`: then no more are accepted, hellos are answered with 91, and those who are there are
/// served until all is quiet or the grace is over. Returns when all are gone.
pub async fn serve(
    listener: TcpListener,
    options: ListenerOptions,
    shared: Arc<Shared>,
    shutdown: Shutdown,
) {
    let name = listener
        .local_addr()
        .map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let mut reception = Reception {
        meter: shared.metrics.listener_meter(&name),
        clients: JoinSet::new(),
        leave: CancellationToken::new(),
        options,
        shared,
    };
    reception.accept_until(&listener, &shutdown.stop).await;
    reception.close(listener);
    tracing::info!(
        listener = name,
        clients = reception.clients.len(),
        "draining"
    );
    reception.drain(&shutdown.kill).await;
    tracing::info!(listener = name, "drained");
}

/// What one listener does otherwise than another.
#[derive(Debug, Clone, Default)]
pub struct ListenerOptions {
    /// Whether every connection begins with the PROXY protocol, which tells the client's address.
    pub proxy_protocol: bool,
    /// With which every client begins with a TLS handshake, behind the PROXY protocol.
    pub tls: Option<Tls>,
}

impl ListenerOptions {
    fn is_plain(&self) -> bool {
        !self.proxy_protocol && self.tls.is_none()
    }
}

/// The clients of one listener.
struct Reception {
    options: ListenerOptions,
    shared: Arc<Shared>,
    meter: ListenerMeter,
    clients: JoinSet<CloseReason>,
    /// Sends all clients home.
    leave: CancellationToken,
}

impl Reception {
    async fn accept_until(&mut self, listener: &TcpListener, stop: &CancellationToken) {
        let shared = Arc::clone(&self.shared);
        let mut upstream = shared.upstream.hello();
        learn(&shared, &mut upstream);
        let mut reaping = interval(REAP_INTERVAL);
        reaping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.welcome(stream, peer),
                    Err(error) => {
                        // Without file descriptors the next attempt fails as well.
                        tracing::warn!(%error, "accepting a connection failed");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(ended) = self.clients.join_next() => self.take_leave(ended),
                Ok(()) = upstream.changed() => learn(&shared, &mut upstream),
                _ = reaping.tick() => {
                    shared.cursors.reap(Instant::now());
                }
            }
        }
    }

    /// Closes the socket: new clients go elsewhere at once. Those who wait in its queue would be reset by that: they are
    /// taken in first, and hear from their hello that they should go elsewhere.
    fn close(&mut self, listener: TcpListener) {
        let waiting = match listener.into_std() {
            Ok(listener) => {
                // Nothing is done between the last of them and the end of the socket.
                let waiting: Vec<_> = std::iter::from_fn(|| listener.accept().ok()).collect();
                drop(listener);
                waiting
            }
            Err(error) => {
                tracing::warn!(%error, "clients that wait to be accepted are lost");
                Vec::new()
            }
        };
        for (stream, peer) in waiting {
            match stream
                .set_nonblocking(true)
                .and_then(|()| TcpStream::from_std(stream))
            {
                Ok(stream) => self.welcome(stream, peer),
                Err(error) => tracing::debug!(client_address = %peer, %error, "lost"),
            }
        }
    }

    /// Takes a client in, if there is room. One too many is closed before its hello, which drivers take for overload.
    fn welcome(&mut self, stream: TcpStream, peer: SocketAddr) {
        self.meter.opened();
        let guest = match Guest::admit(&self.shared, peer, !self.options.proxy_protocol) {
            Ok(guest) => guest,
            Err(limit) => {
                self.meter.closed(CloseReason::Limit);
                refused(&self.shared, peer, limit);
                return;
            }
        };
        if let Err(error) = set_options(&stream) {
            tracing::debug!(client_address = %peer, %error, "the socket's options cannot be set");
        }
        // A token of its own: waiting on one that all share would take one lock for all.
        let leave = self.leave.child_token();
        let shared = Arc::clone(&self.shared);
        let options = self.options.clone();
        if options.is_plain() {
            let served = serve_client(stream, guest, shared, leave);
            self.clients.spawn(served);
        } else {
            // A task has room for what it runs, and TLS takes more of it: hence two kinds of tasks.
            let served = serve_prefaced(stream, options, guest, shared, leave);
            self.clients.spawn(served);
        }
    }

    fn take_leave(&self, ended: Result<CloseReason, JoinError>) {
        let reason = match ended {
            Ok(reason) => reason,
            Err(error) if error.is_panic() => {
                self.shared.metrics.panic();
                tracing::error!(%error, "the task of a client panicked");
                CloseReason::Panic
            }
            Err(_) => CloseReason::Drain,
        };
        self.meter.closed(reason);
    }

    async fn drain(&mut self, kill: &CancellationToken) {
        let shared = Arc::clone(&self.shared);
        shared.hello.shut_down();
        {
            let all_may_go = quiet_or_killed(&shared, kill);
            tokio::pin!(all_may_go);
            while !self.clients.is_empty() {
                tokio::select! {
                    () = &mut all_may_go => break,
                    Some(ended) = self.clients.join_next() => self.take_leave(ended),
                }
            }
        }
        self.leave.cancel();
        let farewell = async {
            while let Some(ended) = self.clients.join_next().await {
                self.take_leave(ended);
            }
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            self.clients.abort_all();
            while let Some(ended) = self.clients.join_next().await {
                self.take_leave(ended);
            }
        }
    }
}

/// Serves a client whose connection begins with something else than a message.
async fn serve_prefaced(
    mut stream: TcpStream,
    options: ListenerOptions,
    mut guest: Guest,
    shared: Arc<Shared>,
    leave: CancellationToken,
) -> CloseReason {
    if options.proxy_protocol
        && let Err(reason) = learn_origin(&mut stream, &mut guest, &shared).await
    {
        return reason;
    }
    match options.tls {
        None => serve_client(stream, guest, shared, leave).await,
        Some(tls) => serve_encrypted(stream, tls, guest, shared, leave).await,
    }
}

/// The client's address, as the PROXY protocol says it, takes the place of that of the load balancer.
async fn learn_origin(
    stream: &mut TcpStream,
    guest: &mut Guest,
    shared: &Shared,
) -> Result<(), CloseReason> {
    let limit = shared.limits.handshake_timeout;
    match timeout(limit, proxy_protocol::read(stream)).await {
        Ok(Ok(told)) => {
            let peer = told.unwrap_or(guest.peer);
            guest.come_from(peer, shared).map_err(|limit| {
                refused(shared, peer, limit);
                CloseReason::Limit
            })
        }
        Ok(Err(error)) => {
            if let Some(withheld) = shared.complaints.greetings.line(Instant::now()) {
                tracing::info!(client_address = %guest.peer, %error, withheld, "closed a connection");
            }
            Err(CloseReason::Protocol)
        }
        Err(_) => Err(CloseReason::HandshakeTimeout),
    }
}

/// Counts a connection that is one too many, and writes it into the log.
fn refused(shared: &Shared, peer: SocketAddr, limit: LimitName) {
    shared.metrics.limit_reached(limit);
    let limit = limit.text();
    if let Some(withheld) = shared.complaints.limits.line(Instant::now()) {
        tracing::warn!(client_address = %peer, limit, withheld, "too many connections: closed one");
    }
}

fn learn(shared: &Shared, upstream: &mut watch::Receiver<Option<Arc<ServerHello>>>) {
    if let Some(hello) = upstream.borrow_and_update().as_deref() {
        shared.hello.learn(hello);
    }
}

fn set_options(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// How often cursors are looked over that their server has closed by now: a tenth of the shortest such time.
const REAP_INTERVAL: Duration = Duration::from_secs(60);
/// Long enough not to burn a core while there are no file descriptors, short enough that clients do not notice.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for the last replies after all were sent home. A client that does not read them is cut off.
const FAREWELL: Duration = Duration::from_secs(1);
/// mongod's own: a client that is silent for so long is asked whether it lives.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);
/// Time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests;
