//! What the proxy does for an app by its own driver: looks at collections, makes and drops them, moves documents. So many at
//! a time for one app, so that those which wait upstream for a lock, or take long, leave connections for other apps.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At the same time for one app. A fifth of the driver's connections: four apps that use up theirs leave four.
const ERRANDS_PER_APP_MAX: usize = 4;

/// Those of one app. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Errands(Arc<Semaphore>);

impl Default for Errands {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ERRANDS_PER_APP_MAX)))
    }
}

impl Errands {
    /// Waits until the app may have one more, first come, first served. It counts until what is given is dropped.
    ///
    /// Whoever has one must not ask for another before it is over, or waits for itself.
    pub(crate) async fn begin(&self) -> Option<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.0).acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn so_many_at_a_time_and_no_more() {
        let errands = Errands::default();
        let begin = || errands.clone().begin().now_or_never().flatten();
        let mut held: Vec<_> = (0..ERRANDS_PER_APP_MAX).map(|_| begin()).collect();
        assert!(held.iter().all(Option::is_some));
        assert!(begin().is_none());
        held.pop();
        assert!(begin().is_some());
    }
}
