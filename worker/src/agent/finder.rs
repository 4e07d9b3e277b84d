//! Which coordinator to try next.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::bounds::{RECONNECT_FIRST, RECONNECT_MOST, REDIRECTS};
use crate::config::is_address;

/// The most coordinators that are kept in mind; a cluster has three or five.
const MAX_COORDINATORS: usize = 32;

/// Where the leader may be. Pure: it decides, and somebody else connects and waits.
#[derive(Debug)]
pub(crate) struct LeaderFinder {
    configured: Vec<String>,
    learned: Vec<String>,
    /// Where somebody said the leader is.
    hint: Option<String>,
    redirects: u32,
    /// Place in the list of all addresses.
    next: usize,
    /// Addresses tried since the last pause.
    tried: usize,
    /// Rounds in vain.
    rounds: u32,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NextTry {
    /// Connect.
    Address(String),
    /// Wait this long, then ask again.
    Pause(Duration),
}

impl LeaderFinder {
    /// A finder that starts at a random one of the configured coordinators, so that workers do not all ask the same one.
    pub(crate) fn new(configured: Vec<String>, random: u64) -> Self {
        let count = configured.len().max(1) as u64;
        Self {
            configured,
            learned: Vec::new(),
            hint: None,
            redirects: 0,
            next: usize::try_from(random % count).unwrap_or(0),
            tried: 0,
            rounds: 0,
        }
    }

    fn addresses(&self) -> Vec<&String> {
        let mut seen = BTreeSet::new();
        self.configured
            .iter()
            .chain(&self.learned)
            .filter(|address| seen.insert(*address))
            .collect()
    }

    /// What to do next; `random` jitters a pause.
    pub(crate) fn next(&mut self, random: u64) -> NextTry {
        if let Some(hint) = self.hint.take() {
            return NextTry::Address(hint);
        }
        let addresses = self.addresses();
        let count = addresses.len().max(1);
        if self.tried >= count {
            let pause = pause(self.rounds, random);
            self.tried = 0;
            self.redirects = 0;
            self.rounds = self.rounds.saturating_add(1);
            return NextTry::Pause(pause);
        }
        let chosen = addresses.get(self.next % count).map(ToString::to_string);
        self.tried += 1;
        self.next = self.next.wrapping_add(1);
        // The configuration is never empty: `WorkerConfig::check` sees to it.
        NextTry::Address(chosen.unwrap_or_default())
    }

    /// A coordinator said that it does not lead, and perhaps who does.
    pub(crate) fn redirected(&mut self, leader: &str, coordinators: &[String]) {
        self.learn(coordinators);
        if is_address(leader) && self.redirects < REDIRECTS {
            self.redirects += 1;
            self.hint = Some(leader.to_owned());
        }
    }

    /// A leader has taken the worker on.
    pub(crate) fn welcomed(&mut self, coordinators: &[String]) {
        self.learn(coordinators);
    }

    /// The stream to a leader has ended after a while. The next try comes at once, unless streams end as soon as they begin.
    pub(crate) fn lost(&mut self, lasted: Duration) {
        if lasted >= RECONNECT_MOST {
            self.redirects = 0;
            self.tried = 0;
            self.rounds = 0;
        }
    }

    fn learn(&mut self, coordinators: &[String]) {
        let legal: Vec<String> = coordinators
            .iter()
            .filter(|address| is_address(address))
            .take(MAX_COORDINATORS)
            .cloned()
            .collect();
        if !legal.is_empty() {
            self.learned = legal;
        }
    }
}

/// Between half and all of a time that doubles with every round.
fn pause(rounds: u32, random: u64) -> Duration {
    let whole = RECONNECT_FIRST
        .saturating_mul(1 << rounds.min(8))
        .min(RECONNECT_MOST);
    let half = whole / 2;
    let span = u64::try_from(half.as_micros())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    half + Duration::from_micros(random % span)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finder(names: &[&str]) -> LeaderFinder {
        LeaderFinder::new(names.iter().map(ToString::to_string).collect(), 0)
    }

    fn address(finder: &mut LeaderFinder) -> String {
        match finder.next(0) {
            NextTry::Address(address) => address,
            NextTry::Pause(pause) => panic!("a pause of {pause:?}"),
        }
    }

    #[test]
    fn every_coordinator_is_tried_once_between_two_pauses() {
        let mut finder = finder(&["a:1", "b:1", "c:1"]);
        for round in 0..5 {
            let tried: BTreeSet<String> = (0..3).map(|_| address(&mut finder)).collect();
            assert_eq!(tried.len(), 3, "round {round}");
            assert!(matches!(finder.next(0), NextTry::Pause(_)));
        }
    }

    #[test]
    fn pauses_start_short_and_stay_bounded() {
        for random in [0, 1, u64::MAX, 1 << 40] {
            assert!(pause(0, random) <= Duration::from_millis(500));
            assert!(pause(0, random) >= RECONNECT_FIRST / 2);
            for rounds in [1, 7, 100, u32::MAX] {
                assert!(pause(rounds, random) <= RECONNECT_MOST);
            }
        }
        assert_ne!(pause(3, 17), pause(3, 170_000), "jitter");
    }

    #[test]
    fn a_redirect_is_followed_but_not_for_ever() {
        let mut finder = finder(&["a:1", "b:1"]);
        let mut pauses = 0;
        for _ in 0..100 {
            match finder.next(0) {
                NextTry::Address(address) => {
                    let other = if address == "a:1" { "b:1" } else { "a:1" };
                    finder.redirected(other, &[]);
                }
                NextTry::Pause(_) => pauses += 1,
            }
        }
        assert!(
            pauses >= 10,
            "two coordinators that name each other: {pauses} pauses"
        );
    }

    #[test]
    fn a_leader_that_drops_every_stream_is_not_asked_without_pause() {
        let mut finder = finder(&["a:1", "b:1", "c:1"]);
        let mut pauses = 0;
        for _ in 0..100 {
            match finder.next(0) {
                NextTry::Address(_) => {
                    finder.welcomed(&[]);
                    finder.lost(Duration::from_millis(10));
                }
                NextTry::Pause(_) => pauses += 1,
            }
        }
        assert!(pauses >= 24, "{pauses} pauses");
        for _ in 0..100 {
            assert!(matches!(finder.next(0), NextTry::Address(_)));
            finder.lost(Duration::from_secs(60));
        }
    }

    #[test]
    fn what_the_leader_tells_is_learned_and_what_was_configured_stays() {
        let mut finder = finder(&["a:1"]);
        assert_eq!(address(&mut finder), "a:1");
        finder.redirected("nonsense", &["b:1".to_owned(), "c:1".to_owned()]);
        let rest: BTreeSet<String> = (0..2).map(|_| address(&mut finder)).collect();
        assert_eq!(rest, BTreeSet::from(["b:1".to_owned(), "c:1".to_owned()]));
        finder.welcomed(&["garbage".to_owned()]);
        finder.lost(Duration::from_secs(60));
        let all: BTreeSet<String> = (0..3).map(|_| address(&mut finder)).collect();
        assert_eq!(all.len(), 3);
    }
}
