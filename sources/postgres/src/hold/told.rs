//! Tells the log who is waited for.

use std::sync::{Mutex, PoisonError};

use super::{Blocker, Waiting};

/// Tells the log, once for each list of transactions: waits are looked at several times a second, and last for an hour.
#[derive(Debug, Default)]
pub(crate) struct Told(Mutex<Option<Vec<u32>>>);

impl Told {
    /// Who is waited for now.
    pub(crate) fn tell(&self, waiting: &Waiting) {
        let (what, blockers) = match waiting {
            Waiting::ForWriters(blockers) => ("transactions that write", blockers),
            Waiting::ForVisibility(blockers) => ("transactions in commit", blockers),
        };
        if self.is_news(blockers)
            && let Some(first) = blockers.first()
        {
            tracing::info!(count = blockers.len(), %first, "waits for {what}");
        }
    }

    fn is_news(&self, blockers: &[Blocker]) -> bool {
        let xids = Some(blockers.iter().map(|blocker| blocker.xid).collect());
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = *told != xids;
        *told = xids;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_told_once() {
        let told = Told::default();
        let blocker = |xid, who: &str| Blocker {
            xid,
            pid: Some(1),
            who: who.to_owned(),
        };
        assert!(told.is_news(&[blocker(7, "open for 00:00:01")]));
        assert!(!told.is_news(&[blocker(7, "open for 00:00:02")]));
        assert!(told.is_news(&[blocker(7, "open for 00:00:02"), blocker(8, "")]));
    }
}
