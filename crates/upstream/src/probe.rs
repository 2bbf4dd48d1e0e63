//! The proxy's own look at the members, beside the driver's monitors: at once after something
//! unexpected, each half second while somebody waits for a server, and else now and then to measure
//! round trips. One task for the whole deployment.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use mdb_scope::ServerAddress;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    error::UpstreamError,
    handshake::Connector,
    member::Pools,
    view::News,
    watch::{Board, now_millis},
};

/// Looks at members until it is stopped.
pub(crate) struct Prober {
    connector: Arc<Connector>,
    board: Arc<Board>,
    pools: Arc<Pools>,
    probes: JoinSet<Finding>,
    under_way: HashSet<ServerAddress>,
    /// What was logged last of each member that fails.
    complaints: HashMap<ServerAddress, String>,
    last_round: Option<Instant>,
    is_round_asked: bool,
}

struct Finding {
    address: ServerAddress,
    failure: Option<UpstreamError>,
}

impl Prober {
    pub(crate) fn new(connector: Arc<Connector>, board: Arc<Board>, pools: Arc<Pools>) -> Self {
        Self {
            connector,
            board,
            pools,
            probes: JoinSet::new(),
            under_way: HashSet::new(),
            complaints: HashMap::new(),
            last_round: None,
            is_round_asked: false,
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let board = Arc::clone(&self.board);
        loop {
            let next_round = self.next_round();
            tokio::select! {
                () = stop.cancelled() => return,
                Some(finding) = self.probes.join_next() => self.note(finding.ok()),
                () = board.signals.lost.notified() => self.pools.clear(board.take_lost()),
                () = board.signals.all.notified() => self.is_round_asked = true,
                () = board.signals.suspects.notified() => {
                    self.look_at(board.suspects());
                    // A connection that breaks again and again must not make this spin.
                    sleep(SUSPECT_PAUSE).await;
                }
                () = sleep_until(next_round) => {
                    self.last_round = Some(Instant::now());
                    self.is_round_asked = false;
                    self.pools.sweep(&board.addresses());
                    self.look_at(board.addresses());
                }
            }
        }
    }

    fn next_round(&self) -> Instant {
        let is_urgent = self.is_round_asked || self.board.has_waiting();
        match self.last_round {
            None if is_urgent => Instant::now(),
            None => Instant::now() + ROUND_INTERVAL,
            Some(last) if is_urgent => last + URGENT_INTERVAL,
            Some(last) => last + ROUND_INTERVAL,
        }
    }

    fn look_at(&mut self, addresses: Vec<ServerAddress>) {
        for address in addresses {
            if self.under_way.insert(address.clone()) {
                let connector = Arc::clone(&self.connector);
                let board = Arc::clone(&self.board);
                self.probes.spawn(async move {
                    let failure = probe(&connector, &board, &address).await.err();
                    Finding { address, failure }
                });
            }
        }
    }

    /// Logs a failure when it is not the one that was logged before.
    fn note(&mut self, finding: Option<Finding>) {
        let Some(Finding { address, failure }) = finding else {
            // A probe that panicked does not say which; none may stay blocked by it.
            self.under_way.clear();
            return;
        };
        self.under_way.remove(&address);
        if failure.is_none() {
            self.pools.warm(&address);
        }
        let complaint = failure.map(|failure| failure.to_string());
        if self.complaints.get(&address) == complaint.as_ref() {
            return;
        }
        match complaint {
            Some(complaint) => {
                tracing::warn!(server = &*address, "{complaint}");
                self.complaints.insert(address, complaint);
            }
            None => {
                self.complaints.remove(&address);
            }
        }
    }
}

async fn probe(
    connector: &Connector,
    board: &Board,
    address: &ServerAddress,
) -> Result<(), UpstreamError> {
    let greeted = match connector.probe(address).await {
        Ok(greeted) => greeted,
        Err(error) => {
            board.publish(News::Lost {
                address: address.clone(),
                // Not even a connection that was good told this.
                is_silent: false,
            });
            return Err(error);
        }
    };
    board.publish(News::Hello {
        address: address.clone(),
        hello: greeted.hello.clone(),
        rtt: Some(greeted.rtt),
        at_millis: now_millis(),
    });
    if board.lacks_build(address) {
        let build_info = connector.build_info(address, greeted).await?;
        board.publish(News::Build {
            address: address.clone(),
            build_info,
        });
    }
    Ok(())
}

/// The drivers' `minHeartbeatFrequencyMS`.
const URGENT_INTERVAL: Duration = Duration::from_millis(500);
/// The drivers' default `heartbeatFrequencyMS`.
const ROUND_INTERVAL: Duration = Duration::from_secs(10);
/// Between two looks at suspects. A command waits for at most one such pause.
const SUSPECT_PAUSE: Duration = Duration::from_millis(20);
