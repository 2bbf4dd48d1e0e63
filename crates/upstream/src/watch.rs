//! The view of the upstream, kept current: news come in from the driver's monitors, the proxy's probes
//! and its connections; whoever waits for a server watches what comes out.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use mdb_scope::ServerAddress;
use mdb_telemetry::{Counted, LimitName, Metrics, WaitsFor};
use mongodb::{
    ServerType, TopologyType,
    error::ErrorKind,
    event::sdam::{SdamEvent, TopologyDescription},
};
use tokio::sync::{Notify, watch};

use crate::{
    error::UpstreamError,
    hello::{Hello, ServerHello},
    topology::{MemberKind, Topology, TopologyKind},
    view::{News, View},
};

/// The current view and all who watch it.
#[derive(Debug)]
pub(crate) struct Board {
    state: Mutex<State>,
    topology: watch::Sender<Arc<Topology>>,
    hello: watch::Sender<Option<Arc<ServerHello>>>,
    waiting: AtomicUsize,
    waiting_max: usize,
    pub(crate) signals: Signals,
    metrics: Metrics,
}

/// What the prober listens to.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// Members came or went, or somebody began to wait: look at all of them.
    pub(crate) all: Notify,
    /// A member became suspect: look at it.
    pub(crate) suspects: Notify,
    /// A member was lost: its connections are stale.
    pub(crate) lost: Notify,
}

/// Members that were lost, and whether they fell silent.
pub(crate) type LostMembers = HashMap<ServerAddress, bool>;

#[derive(Debug, Default)]
struct State {
    view: View,
    lost: LostMembers,
}

impl Board {
    /// `waiting_max` commands may wait for a server at the same time.
    pub(crate) fn new(metrics: Metrics, waiting_max: usize) -> Self {
        metrics.set_upstream_up(false);
        Self {
            state: Mutex::default(),
            topology: watch::Sender::default(),
            hello: watch::Sender::default(),
            waiting: AtomicUsize::new(0),
            waiting_max,
            signals: Signals::default(),
            metrics,
        }
    }

    pub(crate) fn topology(&self) -> Arc<Topology> {
        self.topology.borrow().clone()
    }

    pub(crate) fn watch_topology(&self) -> watch::Receiver<Arc<Topology>> {
        self.topology.subscribe()
    }

    pub(crate) fn watch_hello(&self) -> watch::Receiver<Option<Arc<ServerHello>>> {
        self.hello.subscribe()
    }

    /// Takes in news and tells everybody what they change.
    pub(crate) fn publish(&self, news: News) {
        let signal = match &news {
            News::Members { .. } => Some(&self.signals.all),
            News::Suspect { .. } => Some(&self.signals.suspects),
            News::Lost { .. } => Some(&self.signals.lost),
            News::Hello { .. } | News::Build { .. } => None,
        };
        let mut state = self.lock();
        if let News::Lost { address, is_silent } = &news {
            *state.lost.entry(address.clone()).or_default() |= is_silent;
        }
        state.view.apply(news);
        // Told under the lock, so that nobody hears the older news last.
        self.tell(&state.view);
        drop(state);
        if let Some(signal) = signal {
            signal.notify_one();
        }
    }

    pub(crate) fn suspects(&self) -> Vec<ServerAddress> {
        self.lock().view.suspects()
    }

    pub(crate) fn addresses(&self) -> Vec<ServerAddress> {
        self.lock().view.addresses()
    }

    pub(crate) fn lacks_build(&self, address: &ServerAddress) -> bool {
        self.lock().view.lacks_build(address)
    }

    /// The members lost since the last call.
    pub(crate) fn take_lost(&self) -> LostMembers {
        std::mem::take(&mut self.lock().lost)
    }

    /// Counts as waiting for a server until it is dropped. Fails when as many wait as may.
    pub(crate) fn wait(&self) -> Result<Waiting<'_>, UpstreamError> {
        let one_more = |waiting: usize| (waiting < self.waiting_max).then_some(waiting + 1);
        let before = self
            .waiting
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .map_err(|waiting| {
                self.metrics.limit_reached(LimitName::Waiting);
                UpstreamError::TooManyWaiting { waiting }
            })?;
        if before == 0 {
            self.signals.all.notify_one();
        }
        Ok(Waiting {
            board: self,
            _counted: self.metrics.waits(WaitsFor::Member),
        })
    }

    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn tell(&self, view: &View) {
        let topology = view.topology();
        let is_up = topology.is_up();
        self.topology.send_if_modified(|known| {
            if **known == topology {
                return false;
            }
            if log_changes(known, &topology) {
                self.metrics.topology_change();
                self.metrics.set_upstream_up(is_up);
            }
            *known = Arc::new(topology);
            true
        });
        // While nobody is reached, what was known stays.
        if let Some(hello) = view.server_hello() {
            self.hello.send_if_modified(|known| {
                let is_new = known.as_deref() != Some(&hello);
                if is_new {
                    *known = Some(Arc::new(hello));
                }
                is_new
            });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody waits for a server.
#[derive(Debug)]
pub(crate) struct Waiting<'b> {
    board: &'b Board,
    _counted: Counted,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.board.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What an error code of a reply says of the member that sent it, by the drivers' server discovery
/// and monitoring specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StateChange {
    /// It is no primary (any more).
    NotPrimary,
    /// It changes its state, or recovers.
    Recovering,
    /// It stops; its connections will break.
    ShuttingDown,
}

/// Reads an error code.
pub(crate) fn state_change(code: i32) -> Option<StateChange> {
    match code {
        // NotWritablePrimary, NotPrimaryNoSecondaryOk, LegacyNotPrimary
        10_107 | 13_435 | 10_058 => Some(StateChange::NotPrimary),
        // InterruptedDueToReplStateChange, NotPrimaryOrSecondary, PrimarySteppedDown
        11_602 | 13_436 | 189 => Some(StateChange::Recovering),
        // InterruptedAtShutdown, ShutdownInProgress
        11_600 | 91 => Some(StateChange::ShuttingDown),
        _ => None,
    }
}

/// What an event of the driver's monitors tells.
pub(crate) fn news_of(event: SdamEvent) -> Option<News> {
    match event {
        SdamEvent::TopologyDescriptionChanged(event) => Some(members(&event.new_description)),
        SdamEvent::ServerDescriptionChanged(event) => {
            let description = &event.new_description;
            // Not its first description, which knows nothing yet.
            let is_lost = description.server_type() == ServerType::Unknown
                && event.previous_description.server_type() != ServerType::Unknown;
            is_lost.then(|| News::Lost {
                address: address_of(&event.address),
                is_silent: false,
            })
        }
        SdamEvent::ServerHeartbeatSucceeded(event) => Some(News::Hello {
            address: address_of(&event.server_address),
            hello: Hello::read(&event.reply),
            rtt: None,
            at_millis: now_millis(),
        }),
        SdamEvent::ServerHeartbeatFailed(event) => Some(News::Lost {
            address: address_of(&event.server_address),
            is_silent: is_timeout(&event.failure.kind),
        }),
        _ => None,
    }
}

fn is_timeout(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Wall-clock time, in milliseconds since 1970.
pub(crate) fn now_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| i64::try_from(elapsed.as_millis()).ok())
        .unwrap_or_default()
}

fn members(description: &TopologyDescription) -> News {
    let kind = match description.topology_type() {
        TopologyType::Single => TopologyKind::Single,
        TopologyType::ReplicaSetNoPrimary | TopologyType::ReplicaSetWithPrimary => {
            TopologyKind::ReplicaSet
        }
        TopologyType::Sharded => TopologyKind::Sharded,
        _ => TopologyKind::Unknown,
    };
    News::Members {
        kind,
        addresses: description.servers().into_keys().map(address_of).collect(),
    }
}

fn address_of(address: &mongodb::options::ServerAddress) -> ServerAddress {
    address.to_string().into()
}

/// Logs what members became, and says whether anything but measurements changed.
fn log_changes(known: &Topology, topology: &Topology) -> bool {
    let mut is_changed =
        known.kind != topology.kind || known.members.len() != topology.members.len();
    for member in &topology.members {
        let before = known.member(&member.address).map(|member| member.kind);
        if before != Some(member.kind) {
            is_changed = true;
            tracing::info!(
                server = &*member.address,
                kind = ?member.kind,
                before = ?before.unwrap_or(MemberKind::Unknown),
                "a member of the upstream changed"
            );
        }
    }
    is_changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_change_codes_are_all_known() {
        for (codes, expected) in [
            (&[10_107, 13_435, 10_058][..], Some(StateChange::NotPrimary)),
            (&[11_602, 13_436, 189], Some(StateChange::Recovering)),
            (&[11_600, 91], Some(StateChange::ShuttingDown)),
            (&[0, 6, 18, 11_000, 112], None),
        ] {
            for &code in codes {
                assert_eq!(state_change(code), expected, "{code}");
            }
        }
    }

    #[test]
    fn only_real_changes_are_told() {
        let metrics = Metrics::new();
        let board = Board::new(metrics.clone(), 2);
        let mut topology = board.watch_topology();
        let members = || News::Members {
            kind: TopologyKind::Single,
            addresses: vec!["a:1".into()],
        };
        board.publish(members());
        assert!(topology.has_changed().unwrap());
        topology.mark_unchanged();
        board.publish(members());
        assert!(!topology.has_changed().unwrap());
        assert!(
            metrics
                .render()
                .contains("mdb_runtime_topology_changes_total 1")
        );
        for is_silent in [true, false] {
            board.publish(News::Lost {
                address: "a:1".into(),
                is_silent,
            });
        }
        assert_eq!(board.take_lost(), HashMap::from([("a:1".into(), true)]));
        assert!(board.take_lost().is_empty());
    }

    #[test]
    fn who_waits_is_counted() {
        let board = Board::new(Metrics::new(), 2);
        let first = board.wait();
        let second = board.wait();
        let error = board.wait().unwrap_err();
        assert!(error.is_overload(), "{error}");
        assert_eq!(
            (error.code(), error.to_string().contains("2 commands")),
            (462, true)
        );
        drop(first);
        drop(board.wait().unwrap());
        assert!(board.has_waiting());
        drop(second);
        assert!(!board.has_waiting());
    }
}
