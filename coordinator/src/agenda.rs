//! Which owed effects to start now: each at most once at a time, again after a growing rest if it failed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a failed effect rests.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rests {
    /// After the first failure; doubled with each further one.
    pub(crate) first: Duration,
    /// At the most.
    pub(crate) most: Duration,
}

#[derive(Debug)]
struct Resting {
    failures: u32,
    until: Duration,
}

/// The effects of one kind.
#[derive(Debug)]
pub(crate) struct Agenda<K> {
    rests: Rests,
    at_once: usize,
    owed: BTreeSet<K>,
    running: BTreeSet<K>,
    resting: BTreeMap<K, Resting>,
}

impl<K: Ord + Clone> Agenda<K> {
    /// Nothing owed; at most `at_once` are run together.
    pub(crate) fn new(rests: Rests, at_once: usize) -> Self {
        Self {
            rests,
            at_once,
            owed: BTreeSet::new(),
            running: BTreeSet::new(),
            resting: BTreeMap::new(),
        }
    }

    /// What is owed at present, in full: failures of what no longer is are forgotten.
    pub(crate) fn set_owed(&mut self, owed: BTreeSet<K>) {
        self.resting.retain(|key, _| owed.contains(key));
        self.owed = owed;
    }

    /// What to start now; it counts as running until [`Agenda::succeeded`] or [`Agenda::failed`].
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<K> {
        let room = self.at_once.saturating_sub(self.running.len());
        let due: Vec<K> = self
            .owed
            .iter()
            .filter(|key| !self.running.contains(key))
            .filter(|key| self.resting.get(key).is_none_or(|rest| rest.until <= now))
            .take(room)
            .cloned()
            .collect();
        self.running.extend(due.iter().cloned());
        due
    }

    /// It is done. It stays out of the way until the owed list is given anew: until then the old list would start it again.
    pub(crate) fn succeeded(&mut self, key: &K) {
        self.running.remove(key);
        self.resting.remove(key);
        self.owed.remove(key);
    }

    /// It was too early for it: again after the first rest, however often.
    pub(crate) fn postponed(&mut self, key: &K, now: Duration) {
        self.running.remove(key);
        let rest = Resting {
            failures: 0,
            until: now.saturating_add(self.rests.first),
        };
        self.resting.insert(key.clone(), rest);
    }

    /// It failed; returns how often in a row.
    pub(crate) fn failed(&mut self, key: &K, now: Duration) -> u32 {
        self.running.remove(key);
        let rest = self.resting.entry(key.clone()).or_insert(Resting {
            failures: 0,
            until: now,
        });
        rest.failures = rest.failures.saturating_add(1);
        let doublings = rest.failures.saturating_sub(1).min(16);
        let pause = self.rests.first.saturating_mul(1 << doublings);
        rest.until = now.saturating_add(pause.min(self.rests.most));
        rest.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn agenda(at_once: usize) -> Agenda<u32> {
        Agenda::new(
            Rests {
                first: SECOND,
                most: 4 * SECOND,
            },
            at_once,
        )
    }

    #[test]
    fn nothing_runs_twice_at_once_and_the_bound_holds() {
        let mut agenda = agenda(2);
        agenda.set_owed([1, 2, 3].into());
        assert_eq!(agenda.take_due(SECOND), [1, 2]);
        agenda.set_owed([1, 2, 3].into());
        assert!(agenda.take_due(SECOND).is_empty());
        agenda.succeeded(&1);
        assert_eq!(agenda.take_due(SECOND), [3]);
    }

    #[test]
    fn failures_rest_longer_and_longer_up_to_the_bound() {
        let mut agenda = agenda(1);
        agenda.set_owed([1].into());
        let mut now = Duration::ZERO;
        for expected in [1, 2, 4, 4, 4] {
            assert_eq!(agenda.take_due(now), [1]);
            agenda.failed(&1, now);
            let almost = now + expected * SECOND - Duration::from_millis(1);
            assert!(agenda.take_due(almost).is_empty());
            now += expected * SECOND;
        }
        agenda.set_owed([].into());
        agenda.set_owed([1].into());
        assert_eq!(agenda.take_due(now), [1], "a new debt starts afresh");
    }
}
