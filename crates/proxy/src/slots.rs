//! A count with a limit: so many of something at the same time, and no more.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are taken. The limit comes with each [`Slots::take`], since it may differ by the taker.
#[derive(Debug, Default)]
pub struct Slots(AtomicUsize);

/// One that is taken; free again when dropped.
#[derive(Debug)]
pub struct Slot(Arc<Slots>);

impl Slots {
    /// Takes one, unless `max` are taken already.
    pub fn take(self: &Arc<Self>, max: usize) -> Option<Slot> {
        let one_more = |taken: usize| (taken < max).then_some(taken.saturating_add(1));
        self.0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more)
            .ok()
            .map(|_| Slot(Arc::clone(self)))
    }

    /// How many are taken now.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_limit() {
        let slots = Arc::new(Slots::default());
        assert!(slots.take(0).is_none());
        let first = slots.take(2);
        let second = slots.take(2);
        assert!(first.is_some() && second.is_some());
        assert!(slots.take(2).is_none());
        drop(first);
        assert_eq!(slots.taken(), 1);
        assert!(slots.take(2).is_some());
    }
}
