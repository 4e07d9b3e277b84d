//! Tells whoever asked for a job who is waited for.

use holdfast_env::Clock;
use holdfast_source::{Notes, Steps};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Blocker, Waiting};

/// A transaction that is waited for this long is noted: on a busy server there is always one for a moment.
const LONG: Duration = Duration::from_secs(10);

/// Transactions that are named at once.
const NAMED: usize = 4;

/// Shows who is waited for now, and notes once who is waited for long: waits are looked at several times a second, and last for an hour.
#[derive(Debug)]
pub(crate) struct Told {
    clock: Arc<dyn Clock>,
    notes: Notes,
    steps: Steps,
    /// Transactions that are waited for: since when, and whether that was noted.
    waited: Mutex<BTreeMap<u32, (Duration, bool)>>,
}

impl Told {
    pub(crate) fn new(clock: Arc<dyn Clock>, notes: &Notes, steps: &Steps) -> Self {
        Self {
            clock,
            notes: notes.clone(),
            steps: steps.clone(),
            waited: Mutex::default(),
        }
    }

    /// Who is waited for now.
    pub(crate) fn tell(&self, waiting: &Waiting) {
        let (what, blockers) = match waiting {
            Waiting::ForWriters(blockers) => ("transactions that write", blockers),
            Waiting::ForVisibility(blockers) => {
                ("transactions that are committed and not visible", blockers)
            }
        };
        if blockers.is_empty() {
            return;
        }
        self.steps.begin(format!("waiting for {what}"), 0, 0);
        for blocker in blockers.iter().take(NAMED) {
            self.steps.started(&blocker.to_string());
        }
        for blocker in self.long(blockers).take(NAMED) {
            self.notes.add(format!("had to wait for {what}: {blocker}"));
        }
    }

    /// Those that are waited for long, each once.
    fn long<'a>(&self, blockers: &'a [Blocker]) -> impl Iterator<Item = &'a Blocker> {
        let now = self.clock.monotonic();
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let mut still = BTreeMap::new();
        let mut long = Vec::new();
        for blocker in blockers {
            let (since, mut is_noted) = waited.remove(&blocker.xid).unwrap_or((now, false));
            if !is_noted && now.saturating_sub(since) >= LONG {
                is_noted = true;
                long.push(blocker);
            }
            still.insert(blocker.xid, (since, is_noted));
        }
        *waited = still;
        long.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_env::Env;

    #[derive(Debug)]
    struct At(Arc<dyn Clock>, Mutex<Duration>);

    impl Clock for At {
        fn now(&self) -> holdfast_types::Timestamp {
            self.0.now()
        }

        fn monotonic(&self) -> Duration {
            *self.1.lock().expect("not poisoned")
        }
    }

    #[test]
    fn who_is_waited_for_long_is_noted_once() {
        let clock = Arc::new(At(Env::system().clock, Mutex::default()));
        let (notes, steps) = (Notes::default(), Steps::default());
        let told = Told::new(Arc::clone(&clock) as Arc<dyn Clock>, &notes, &steps);
        let blocker = |xid| Blocker {
            xid,
            pid: Some(1),
            who: format!("role r{xid}"),
        };
        let tell = |second, xids: &[u32]| {
            *clock.1.lock().expect("not poisoned") = Duration::from_secs(second);
            told.tell(&Waiting::ForWriters(
                xids.iter().copied().map(blocker).collect(),
            ));
            notes.take()
        };
        assert!(tell(0, &[7]).is_empty());
        let shown = steps.look().0.expect("what is waited for");
        assert_eq!(
            (shown.phase.as_str(), shown.now),
            (
                "waiting for transactions that write",
                vec!["process 1 (role r7)".to_owned()]
            )
        );
        assert!(tell(9, &[7, 8]).is_empty());
        assert_eq!(
            tell(10, &[7, 8]),
            ["had to wait for transactions that write: process 1 (role r7)"]
        );
        assert!(tell(18, &[7, 8]).is_empty());
        // One that had gone begins anew.
        assert!(tell(18, &[7]).is_empty() && tell(19, &[7, 8]).is_empty());
        assert!(tell(28, &[7, 8]).is_empty());
        assert_eq!(tell(29, &[7, 8]).len(), 1);
    }
}
