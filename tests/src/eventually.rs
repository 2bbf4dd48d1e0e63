//! Waiting for what must come, without guessing how long it takes.

use std::time::Duration;

use tokio::time::{sleep, timeout};

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// Longer than anything takes on a machine that still gets anywhere.
const PATIENCE: Duration = Duration::from_secs(90);

/// Looks again and again until `look` gives something; `what` names it should it never come.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = timeout(PATIENCE, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(POLL).await;
        }
    });
    let Ok(found) = found.await else {
        panic!("{what}: not within {PATIENCE:?}");
    };
    found
}
