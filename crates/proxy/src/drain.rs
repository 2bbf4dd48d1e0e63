//! When the proxy may go.

use std::time::Duration;

use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::shared::Shared;

/// How the proxy is told to go.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Begins the drain.
    pub stop: CancellationToken,
    /// The grace is over: what still runs is answered with 91.
    pub kill: CancellationToken,
}

/// Waits until nobody would miss the proxy, or until the grace is over.
pub(crate) async fn quiet_or_killed(shared: &Shared, kill: &CancellationToken) {
    tokio::select! {
        () = kill.cancelled() => {}
        () = quiet(shared) => {}
    }
}

async fn quiet(shared: &Shared) {
    let mut looks = interval(LOOK_INTERVAL);
    let mut quiet_looks = 0;
    while quiet_looks < QUIET_LOOKS {
        looks.tick().await;
        quiet_looks = if shared.is_quiet() {
            quiet_looks + 1
        } else {
            0
        };
    }
}

/// How often is looked whether all is quiet.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// So many quiet looks in a row: half a second, in which the answers to waiting hellos reach their drivers and these
/// stop sending commands here.
const QUIET_LOOKS: u32 = 6;
