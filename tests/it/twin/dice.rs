//! Choices that a seed decides.

/// A small generator of numbers: the same seed gives the same choices.
#[derive(Debug)]
pub(super) struct Dice(fastrand::Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    pub(super) fn between(&mut self, low: i32, high: i32) -> i32 {
        self.0.i32(low..=high)
    }

    pub(super) fn chance(&mut self, percent: i32) -> bool {
        self.between(1, 100) <= percent
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.0.usize(..from.len())].clone()
    }

    /// One of these, the higher its number the more often.
    pub(super) fn weighted<T: Copy>(&mut self, from: &[(i32, T)]) -> T {
        let total = from.iter().map(|(weight, _)| weight).sum();
        let mut left = self.between(1, total);
        for (weight, choice) in from {
            left -= weight;
            if left <= 0 {
                return *choice;
            }
        }
        unreachable!("the weights sum up to the total")
    }
}
