//! How many commands the worker may send on collections of apps.

use crate::settings::{Settings, millis};

/// Commands that may still be sent. More come with time, however often the worker works.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    left: u32,
    /// Until when time was turned into commands, in milliseconds since 1970.
    earned_until: i64,
}

impl Allowance {
    /// Adds those for the time that has gone by; at first, as many as may come together.
    pub(crate) fn earn(&mut self, settings: &Settings, now: i64) {
        let every = millis(settings.command_every).max(1);
        let earned = now.saturating_sub(self.earned_until).max(0) / every;
        let many = u32::try_from(earned).unwrap_or(u32::MAX);
        self.left = self.left.saturating_add(many).min(settings.commands_max);
        let until = self.earned_until;
        self.earned_until = until.saturating_add(earned.saturating_mul(every));
    }

    /// How many are left.
    pub(crate) fn left(&self) -> u32 {
        self.left
    }

    /// Takes one. Whether there was one.
    pub(crate) fn take(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_come_with_time_and_not_with_rounds() {
        let settings = Settings::default();
        let mut allowance = Allowance::default();
        let mut now = 1_800_000_000_000;
        allowance.earn(&settings, now);
        assert_eq!(allowance.left(), 20);
        let take_all = |allowance: &mut Allowance| {
            let mut taken = 0;
            while allowance.take() {
                taken += 1;
            }
            taken
        };
        assert_eq!(take_all(&mut allowance), 20);
        // Three minutes of rounds that are a tenth of a second apart.
        let mut taken = 0;
        for _ in 0..1800 {
            now += 100;
            allowance.earn(&settings, now);
            taken += take_all(&mut allowance);
        }
        assert_eq!(taken, 60);
        // What is not used does not add up without end, and time that goes back takes nothing.
        now += 3_600_000;
        allowance.earn(&settings, now);
        allowance.earn(&settings, now - 60_000);
        assert_eq!(take_all(&mut allowance), 20);
    }
}
