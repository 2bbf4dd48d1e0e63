//! Whether the proxy can serve commands now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mdb_upstream::{ServerHello, Topology};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A reason not to send clients here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unready {
    /// The proxy is about to end.
    Draining,
    /// No server of the deployment was reached since the start.
    UpstreamNotReached,
    /// The deployment was reached before, but has no usable server now.
    UpstreamDown,
}

impl Unready {
    /// The word in `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::UpstreamNotReached => "upstream_not_reached",
            Self::UpstreamDown => "upstream_down",
        }
    }
}

/// Watches what readiness depends on. Clones watch the same.
#[derive(Debug, Clone)]
pub struct Readiness {
    hello: watch::Receiver<Option<Arc<ServerHello>>>,
    topology: watch::Receiver<Arc<Topology>>,
    drain: CancellationToken,
    reload_failed: Arc<AtomicBool>,
}

impl Readiness {
    /// From what the upstream tells, and the token that begins the drain.
    pub fn new(
        hello: watch::Receiver<Option<Arc<ServerHello>>>,
        topology: watch::Receiver<Arc<Topology>>,
        drain: CancellationToken,
    ) -> Self {
        Self {
            hello,
            topology,
            drain,
            reload_failed: Arc::default(),
        }
    }

    /// Whether the last reload failed. It is no reason not to send clients here: they are served by what was read before.
    pub fn has_failed_reload(&self) -> bool {
        self.reload_failed.load(Ordering::Relaxed)
    }

    /// How the last reload ended.
    pub(crate) fn set_failed_reload(&self, has_failed: bool) {
        self.reload_failed.store(has_failed, Ordering::Relaxed);
    }

    /// Why the proxy is not ready; empty when it is.
    pub fn reasons(&self) -> Vec<Unready> {
        let mut reasons = Vec::new();
        if self.drain.is_cancelled() {
            reasons.push(Unready::Draining);
        }
        if self.hello.borrow().is_none() {
            reasons.push(Unready::UpstreamNotReached);
        } else if !self.topology.borrow().is_up() {
            reasons.push(Unready::UpstreamDown);
        }
        reasons
    }

    /// Waits until the upstream is reachable; for ever if the upstream has been shut down.
    pub async fn upstream_reachable(&self) {
        let (mut hello, mut topology) = (self.hello.clone(), self.topology.clone());
        let both = async {
            hello.wait_for(Option::is_some).await?;
            topology.wait_for(|topology| topology.is_up()).await?;
            Ok::<(), watch::error::RecvError>(())
        };
        if both.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use mdb_upstream::{DeploymentKind, Member, MemberKind, TopologyKind};

    use super::*;

    /// A readiness whose causes the test decides.
    pub(crate) struct Causes {
        pub(crate) hello: watch::Sender<Option<Arc<ServerHello>>>,
        pub(crate) topology: watch::Sender<Arc<Topology>>,
        pub(crate) drain: CancellationToken,
    }

    impl Causes {
        pub(crate) fn new() -> Self {
            Self {
                hello: watch::Sender::new(None),
                topology: watch::Sender::new(Arc::default()),
                drain: CancellationToken::new(),
            }
        }

        pub(crate) fn readiness(&self) -> Readiness {
            let (hello, topology) = (self.hello.subscribe(), self.topology.subscribe());
            Readiness::new(hello, topology, self.drain.clone())
        }

        pub(crate) fn reach(&self) {
            self.hello.send_replace(Some(Arc::new(hello())));
        }

        pub(crate) fn set_member(&self, kind: MemberKind) {
            self.topology.send_replace(Arc::new(topology(kind)));
        }
    }

    fn hello() -> ServerHello {
        ServerHello {
            kind: DeploymentKind::ReplicaSet,
            max_bson_object_size: 1,
            max_message_size_bytes: 1,
            max_write_batch_size: 1,
            wire_version_min: 0,
            wire_version_max: 17,
            logical_session_timeout_minutes: Some(30),
            version: "6.0.5".to_owned(),
            version_array: [6, 0, 5, 0],
            build_info: bson::Document::new(),
        }
    }

    fn topology(kind: MemberKind) -> Topology {
        let member = Member {
            address: "localhost:27017".into(),
            kind,
            tags: Vec::new(),
            rtt: None,
            rtt_min: std::time::Duration::ZERO,
            wire_version_min: 0,
            wire_version_max: 17,
            last_write_millis: None,
            updated_millis: 0,
        };
        Topology {
            kind: TopologyKind::ReplicaSet,
            members: vec![member],
        }
    }

    #[tokio::test]
    async fn ready_with_a_known_hello_and_a_usable_server_until_the_drain() {
        let causes = Causes::new();
        let readiness = causes.readiness();
        assert_eq!(readiness.reasons(), [Unready::UpstreamNotReached]);
        let reachable = readiness.upstream_reachable();
        tokio::pin!(reachable);
        causes.set_member(MemberKind::Primary);
        assert_eq!(readiness.reasons(), [Unready::UpstreamNotReached]);
        causes.reach();
        reachable.await;
        assert_eq!(readiness.reasons(), []);
        causes.set_member(MemberKind::Secondary);
        assert_eq!(readiness.reasons(), []);
        for useless in [MemberKind::Unknown, MemberKind::Other] {
            causes.set_member(useless);
            assert_eq!(readiness.reasons(), [Unready::UpstreamDown]);
        }
        causes.drain.cancel();
        assert_eq!(
            readiness.reasons(),
            [Unready::Draining, Unready::UpstreamDown]
        );
    }
}
