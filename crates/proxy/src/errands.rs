//! What the proxy does for an app by its own driver: looks at collections, makes and drops them, moves documents. So many at
//! a time for one app, and so many beyond the first of each for all apps together, so that those which wait upstream for a
//! lock, or take long, leave connections for other apps.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::forward::Journey;

/// At the same time for one app.
const ERRANDS_PER_APP_MAX: usize = 4;
/// At the same time for all apps together, beyond the first of each. So of the driver's 32 connections the first errand of
/// an app finds one while some twenty other apps use up what they may.
const SURPLUS_ERRANDS_MAX: usize = 8;

/// Those of one app. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Errands {
    all: Arc<Semaphore>,
    first: Arc<Semaphore>,
}

impl Default for Errands {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(ERRANDS_PER_APP_MAX)),
            first: Arc::new(Semaphore::new(1)),
        }
    }
}

/// Those of all apps beyond the first of each. Clones count together.
#[derive(Debug, Clone)]
pub(crate) struct Surplus(Arc<Semaphore>);

impl Default for Surplus {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(SURPLUS_ERRANDS_MAX)))
    }
}

/// Where an app waits for its turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turns<'a> {
    pub(crate) own: &'a Errands,
    pub(crate) surplus: &'a Surplus,
}

/// An errand that has begun, until it is dropped.
#[derive(Debug)]
pub(crate) struct Errand {
    _places: [OwnedSemaphorePermit; 2],
}

impl Turns<'_> {
    /// Waits until the app may have one more, first come, first served. It counts until what is given is dropped.
    ///
    /// Whoever has one must not ask for another before it is over, or waits for itself.
    pub(crate) async fn begin(self) -> Option<Errand> {
        // None of them is ever closed.
        let one_of_app = Arc::clone(&self.own.all).acquire_owned().await.ok()?;
        let place = tokio::select! {
            biased;
            first = Arc::clone(&self.own.first).acquire_owned() => first,
            other = Arc::clone(&self.surplus.0).acquire_owned() => other,
        };
        Some(Errand {
            _places: [one_of_app, place.ok()?],
        })
    }
}

impl<'a> Journey<'a> {
    /// Where the app waits when the proxy does something for it.
    pub(crate) fn errands(&self) -> Turns<'a> {
        Turns {
            own: &self.identity.app.errands,
            surplus: &self.shared.surplus,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn begin(own: &Errands, surplus: &Surplus) -> Option<Errand> {
        Turns { own, surplus }.begin().now_or_never().flatten()
    }

    /// As many as begin at once.
    fn begin_all(own: &Errands, surplus: &Surplus) -> Vec<Errand> {
        std::iter::from_fn(|| begin(own, surplus)).collect()
    }

    #[test]
    fn so_many_of_an_app_at_a_time_and_no_more() {
        let (errands, surplus) = (Errands::default(), Surplus::default());
        let mut held = begin_all(&errands, &surplus);
        assert_eq!(held.len(), ERRANDS_PER_APP_MAX);
        held.pop();
        assert!(begin(&errands.clone(), &surplus).is_some());
    }

    #[test]
    fn beyond_the_first_of_each_app_so_many_for_all() {
        let surplus = Surplus::default();
        let apps: Vec<Errands> = (0..SURPLUS_ERRANDS_MAX)
            .map(|_| Errands::default())
            .collect();
        let mut held: Vec<_> = apps.iter().map(|app| begin_all(app, &surplus)).collect();
        let count = held.iter().map(Vec::len).sum::<usize>();
        assert_eq!(count, apps.len() + SURPLUS_ERRANDS_MAX);
        assert!(held.iter().all(|of_app| !of_app.is_empty()));
        let last = apps.last().unwrap();
        assert!(begin(last, &surplus).is_none());
        held.first_mut().unwrap().clear();
        assert_eq!(begin_all(last, &surplus).len(), ERRANDS_PER_APP_MAX - 1);
    }
}
