//! Which app holds how many connections of a member, and who waits for one: fair between apps.
//!
//! Each app holds at most its share, and those that wait are served app by app in turn: an app with a thousand commands in
//! the queue delays another's single one by one place, not by a thousand.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
};

use mdb_scope::AppId;
use mdb_telemetry::{Label, LeasePurpose};
use tokio::sync::oneshot::Sender;

/// Who borrows a connection, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Borrower {
    /// The app whose command it is.
    pub app: AppId,
    /// What the connection is held for.
    pub purpose: LeasePurpose,
}

/// How many connections are held, by what for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Held([u32; LeasePurpose::ALL.len()]);

impl Held {
    /// So many for one purpose.
    #[must_use]
    pub fn with(mut self, purpose: LeasePurpose, count: u32) -> Self {
        *self.of_mut(purpose) = count;
        self
    }

    /// Of all purposes.
    pub fn total(self) -> u32 {
        self.0.iter().sum()
    }

    fn of_mut(&mut self, purpose: LeasePurpose) -> &mut u32 {
        &mut self.0[purpose.position()]
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, purpose) in LeasePurpose::ALL.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let words = match purpose {
                LeasePurpose::Cursor => "by getMore",
                LeasePurpose::Transaction => "in transactions",
                LeasePurpose::Command => "by other commands",
            };
            write!(f, "{separator}{} {words}", self.0[purpose.position()])?;
        }
        Ok(())
    }
}

/// The apps that hold connections or wait for them. `T` is what a wait brings.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    per_app_max: u32,
    apps: HashMap<AppId, Entry<T>>,
    /// The apps with commands that wait, each once; whose turn is next is first.
    turns: VecDeque<AppId>,
    held: Held,
}

#[derive(Debug)]
struct Entry<T> {
    held: Held,
    /// First come, first served.
    waiters: VecDeque<(LeasePurpose, Sender<T>)>,
}

impl<T> Queue<T> {
    pub(crate) fn new(per_app_max: u32) -> Self {
        Self {
            per_app_max,
            apps: HashMap::new(),
            turns: VecDeque::new(),
            held: Held::default(),
        }
    }

    /// Whether the app may hold one more.
    pub(crate) fn may_hold(&self, app: &AppId) -> bool {
        self.held_by(app).total() < self.per_app_max
    }

    pub(crate) fn held_by(&self, app: &AppId) -> Held {
        self.apps.get(app).map(|e| e.held).unwrap_or_default()
    }

    pub(crate) fn held(&self) -> Held {
        self.held
    }

    pub(crate) fn per_app_max(&self) -> u32 {
        self.per_app_max
    }

    /// One more is held.
    pub(crate) fn take(&mut self, borrower: &Borrower) {
        let entry = self.entry(&borrower.app);
        *entry.held.of_mut(borrower.purpose) += 1;
        *self.held.of_mut(borrower.purpose) += 1;
    }

    /// One fewer is held.
    pub(crate) fn give_back(&mut self, borrower: &Borrower) {
        *self.held.of_mut(borrower.purpose) -= 1;
        if let Some(entry) = self.apps.get_mut(&borrower.app) {
            *entry.held.of_mut(borrower.purpose) -= 1;
            if entry.held.total() == 0 && entry.waiters.is_empty() {
                self.apps.remove(&borrower.app);
            }
        }
    }

    /// Takes a place at the end of the app's own queue.
    pub(crate) fn wait(&mut self, borrower: &Borrower, sender: Sender<T>) {
        let entry = self.entry(&borrower.app);
        entry.waiters.push_back((borrower.purpose, sender));
        if entry.waiters.len() == 1 {
            self.turns.push_back(borrower.app.clone());
        }
    }

    /// Takes out the next that still waits and may hold one more, which counts as held from now on.
    pub(crate) fn next(&mut self) -> Option<(Borrower, Sender<T>)> {
        // An app that has its share keeps its turn; there are few such.
        let mut place = 0;
        while let Some(app) = self.turns.get(place).cloned() {
            if !self.may_hold(&app) {
                place += 1;
                continue;
            }
            self.turns.remove(place);
            let found = self.apps.get_mut(&app).and_then(|entry| {
                let alive = entry.waiters.iter().position(|(_, w)| !w.is_closed());
                entry.waiters.drain(..alive.unwrap_or(entry.waiters.len()));
                let found = entry.waiters.pop_front();
                if !entry.waiters.is_empty() {
                    self.turns.push_back(app.clone());
                }
                found
            });
            if let Some((purpose, sender)) = found {
                let borrower = Borrower { app, purpose };
                self.take(&borrower);
                return Some((borrower, sender));
            }
            self.forget_if_empty(&app);
        }
        None
    }

    /// Drops the places at the head of an app's queue whose commands wait no longer.
    pub(crate) fn forget_closed(&mut self, app: &AppId) {
        let Some(entry) = self.apps.get_mut(app) else {
            return;
        };
        while entry.waiters.front().is_some_and(|(_, w)| w.is_closed()) {
            entry.waiters.pop_front();
        }
        if entry.waiters.is_empty() {
            self.turns.retain(|turn| turn != app);
            self.forget_if_empty(app);
        }
    }

    /// Takes out all that wait; dropping them sends them away.
    pub(crate) fn take_waiters(&mut self) -> Vec<Sender<T>> {
        self.turns.clear();
        let entries = self.apps.values_mut();
        let waiters = entries.flat_map(|entry| entry.waiters.drain(..));
        let waiters = waiters.map(|(_, sender)| sender).collect();
        self.apps.retain(|_, entry| entry.held.total() > 0);
        waiters
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        let entries = self.turns.iter().filter_map(|app| self.apps.get(app));
        let alive = |entry: &Entry<T>| entry.waiters.iter().filter(|(_, w)| !w.is_closed()).count();
        entries.map(alive).sum()
    }

    fn entry(&mut self, app: &AppId) -> &mut Entry<T> {
        if !self.apps.contains_key(app) {
            let entry = Entry {
                held: Held::default(),
                waiters: VecDeque::new(),
            };
            self.apps.insert(app.clone(), entry);
        }
        self.apps.get_mut(app).expect("it was put there")
    }

    fn forget_if_empty(&mut self, app: &AppId) {
        let is_empty = |e: &Entry<T>| e.held.total() == 0 && e.waiters.is_empty();
        if self.apps.get(app).is_some_and(is_empty) {
            self.apps.remove(app);
        }
    }
}

/// A command of some app.
#[cfg(test)]
pub(crate) fn borrower() -> Borrower {
    Borrower {
        app: AppId::parse("shop").unwrap(),
        purpose: LeasePurpose::Command,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::{Receiver, channel};

    fn borrower(app: &str) -> Borrower {
        Borrower {
            app: AppId::parse(app).unwrap(),
            purpose: LeasePurpose::Command,
        }
    }

    fn wait(queue: &mut Queue<()>, app: &str) -> Receiver<()> {
        let (sender, receiver) = channel();
        queue.wait(&borrower(app), sender);
        receiver
    }

    fn served(queue: &mut Queue<()>) -> Vec<String> {
        std::iter::from_fn(|| queue.next())
            .map(|(borrower, _)| borrower.app.to_string())
            .collect()
    }

    #[test]
    fn apps_take_turns_however_many_commands_each_has() {
        let mut queue = Queue::new(10);
        let _a: Vec<_> = (0..4).map(|_| wait(&mut queue, "a")).collect();
        let _b = wait(&mut queue, "b");
        let _c: Vec<_> = (0..2).map(|_| wait(&mut queue, "c")).collect();
        assert_eq!(queue.waiting(), 7);
        assert_eq!(served(&mut queue), ["a", "b", "c", "a", "c", "a", "a"]);
        assert_eq!(queue.held_by(&borrower("a").app).total(), 4);
    }

    #[test]
    fn an_app_with_its_share_lets_others_pass_and_keeps_its_turn() {
        let mut queue = Queue::new(2);
        for _ in 0..2 {
            queue.take(&borrower("a"));
        }
        assert!(!queue.may_hold(&borrower("a").app));
        let _a = wait(&mut queue, "a");
        let _b: Vec<_> = (0..2).map(|_| wait(&mut queue, "b")).collect();
        assert_eq!(served(&mut queue), ["b", "b"]);
        queue.give_back(&borrower("a"));
        assert_eq!(served(&mut queue), ["a"]);
    }

    #[test]
    fn who_waits_no_longer_is_passed_over_and_nothing_is_kept() {
        let mut queue = Queue::new(2);
        let (first, second) = (wait(&mut queue, "a"), wait(&mut queue, "a"));
        let other = wait(&mut queue, "b");
        drop((first, other));
        assert_eq!(served(&mut queue), ["a"]);
        drop(second);
        queue.give_back(&borrower("a"));
        assert!(queue.apps.is_empty() && queue.turns.is_empty());
        drop(wait(&mut queue, "c"));
        queue.forget_closed(&borrower("c").app);
        assert!(queue.apps.is_empty() && queue.turns.is_empty());
        let _d = wait(&mut queue, "d");
        assert_eq!(queue.take_waiters().len(), 1);
        assert!(queue.apps.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn what_is_held_is_told_by_what_for() {
        let held = Held::default()
            .with(LeasePurpose::Cursor, 3)
            .with(LeasePurpose::Command, 71);
        assert_eq!(held.total(), 74);
        let text = "3 by getMore, 0 in transactions, 71 by other commands";
        assert_eq!(held.to_string(), text);
    }
}
