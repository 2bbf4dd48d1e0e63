//! Whether a command may be sent again.

use std::time::Duration;

use mdb_scope::{Glance, Killed, Retry};
use mdb_upstream::Sent;

use crate::builds;

/// How often an upsert that lost a race on its `_id` is sent again; the server itself tries as often.
pub(crate) const UPSERT_TRIES_MAX: u32 = 3;
/// How often a command is sent again that provably was not begun. Each time the proxy waits for a member that may take it;
/// more than a few mean that members disagree about who is primary.
const UNBEGUN_TRIES_MAX: u32 = 5;
/// How often a command is sent again that may have been executed, and that the server would know again.
const RESEND_TRIES_MAX: u32 = 1;

/// How often a command is sent again whose plan the server gave up since an index went. A read has no choice of plans from the
/// second time on, and no index of another app can end it.
const KILLED_TRIES_MAX: u32 = 3;

/// `NotWritablePrimary`, `NotPrimaryNoSecondaryOk`, `LegacyNotPrimary`: said before a command is begun.
const NOT_PRIMARY: &[i32] = &[10107, 13435, 10058];

/// How often a command was tried, and why.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    resent: u32,
    unbegun: u32,
    upserts: u32,
    killed: u32,
    waits: u32,
    /// Whether the last one was ended since everybody waited behind it.
    pub(crate) stood_still: bool,
}

impl Attempt {
    /// Whether no server can have begun the command so far.
    pub(crate) fn is_unbegun(&self) -> bool {
        self.resent == 0
    }

    /// Whether a command whose exchange failed may be sent again.
    pub(crate) fn after_failure(&mut self, retry: Retry, sent: Sent) -> bool {
        match (retry, sent) {
            (Retry::InTransaction, _) | (Retry::Write | Retry::GetMore, Sent::MaybeSome) => false,
            (_, Sent::Nothing) => again(&mut self.unbegun, UNBEGUN_TRIES_MAX),
            (_, Sent::MaybeSome) => again(&mut self.resent, RESEND_TRIES_MAX),
        }
    }

    /// Whether a reply calls for another attempt instead of being passed on. `upserts_by_id`: one upsert by `_id`, outside
    /// of a transaction.
    pub(crate) fn after_reply(&mut self, retry: Retry, upserts_by_id: bool, seen: &Glance) -> bool {
        if upserts_by_id && seen.is_duplicate_id {
            return again(&mut self.upserts, UPSERT_TRIES_MAX);
        }
        let Some(code) = seen.state_change else {
            return seen
                .killed
                .is_some_and(|killed| self.after_kill(retry, killed));
        };
        let is_unbegun = !seen.is_ok && seen.code == Some(code) && NOT_PRIMARY.contains(&code);
        match (retry, is_unbegun) {
            (Retry::InTransaction | Retry::GetMore, _) | (Retry::Write, false) => false,
            (_, true) => again(&mut self.unbegun, UNBEGUN_TRIES_MAX),
            (_, false) => again(&mut self.resent, RESEND_TRIES_MAX),
        }
    }

    /// A plan that was on trial had done nothing; of one that ran a write may be left, unless the server knows it again.
    fn after_kill(&mut self, retry: Retry, killed: Killed) -> bool {
        match (retry, killed) {
            (Retry::GetMore | Retry::InTransaction | Retry::TransactionEnd, _)
            | (Retry::Write, Killed::Run) => false,
            _ => again(&mut self.killed, KILLED_TRIES_MAX),
        }
    }

    /// How long to wait for the end of a build, or of transactions, that were in the way.
    pub(crate) fn behind_others(&mut self) -> Duration {
        let pause = builds::pause(self.waits);
        self.waits = self.waits.saturating_add(1);
        pause
    }

    /// Whether the next attempt must leave the server no choice of plans.
    pub(crate) fn keeps_to_base(&self) -> bool {
        self.killed > 1
    }
}

fn again(count: &mut u32, max: u32) -> bool {
    let may = *count < max;
    if may {
        *count += 1;
    }
    may
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Retry; 6] = [
        Retry::Read,
        Retry::NumberedWrite,
        Retry::TransactionEnd,
        Retry::Write,
        Retry::GetMore,
        Retry::InTransaction,
    ];

    /// How often `ask` says yes in a row.
    fn times(mut ask: impl FnMut(&mut Attempt) -> bool) -> u32 {
        let mut attempt = Attempt::default();
        (0..100)
            .take_while(|_| ask(&mut attempt))
            .count()
            .try_into()
            .unwrap()
    }

    #[test]
    fn what_may_have_been_executed_is_sent_again_once_if_the_server_would_know_it() {
        let expected = [1, 1, 1, 0, 0, 0];
        for (retry, expected) in ALL.into_iter().zip(expected) {
            assert_eq!(
                times(|a| a.after_failure(retry, Sent::MaybeSome)),
                expected,
                "{retry:?}"
            );
        }
    }

    #[test]
    fn what_was_not_begun_is_sent_again_unless_a_transaction_would_not_notice() {
        let expected = [5, 5, 5, 5, 5, 0];
        for (retry, expected) in ALL.into_iter().zip(expected) {
            assert_eq!(
                times(|a| a.after_failure(retry, Sent::Nothing)),
                expected,
                "{retry:?}"
            );
        }
    }

    #[test]
    fn replies_of_members_that_step_down() {
        let seen = |code, is_ok| Glance {
            is_ok,
            code: (!is_ok).then_some(code),
            state_change: Some(code),
            ..Glance::default()
        };
        // Refused before it was begun; broken off; done, but perhaps to be undone.
        let cases = [
            (seen(10107, false), [5, 5, 5, 5, 0, 0]),
            (seen(11602, false), [1, 1, 1, 0, 0, 0]),
            (seen(91, true), [1, 1, 1, 0, 0, 0]),
        ];
        for (seen, expected) in cases {
            for (retry, expected) in ALL.into_iter().zip(expected) {
                let times = times(|a| a.after_reply(retry, false, &seen));
                assert_eq!(times, expected, "{retry:?} {seen:?}");
            }
        }
    }

    #[test]
    fn plans_that_were_given_up() {
        let cases = [
            (Killed::Trial, [3, 3, 0, 3, 0, 0]),
            (Killed::Run, [3, 3, 0, 0, 0, 0]),
        ];
        for (killed, expected) in cases {
            let seen = Glance {
                killed: Some(killed),
                ..Glance::default()
            };
            for (retry, expected) in ALL.into_iter().zip(expected) {
                let times = times(|a| a.after_reply(retry, false, &seen));
                assert_eq!(times, expected, "{retry:?} {killed:?}");
            }
        }
    }

    #[test]
    fn upserts_that_lost_a_race_are_sent_again() {
        let seen = Glance {
            is_ok: true,
            is_duplicate_id: true,
            ..Glance::default()
        };
        assert_eq!(times(|a| a.after_reply(Retry::Write, true, &seen)), 3);
        assert_eq!(times(|a| a.after_reply(Retry::Write, false, &seen)), 0);
    }
}
