//! Who needs a chain, so that it cannot be removed now.

use std::collections::BTreeMap;
use std::fmt;

use holdfast_types::{HoldId, JobId, JobKind, SourceName};

use crate::job::Job;
use crate::ledger::Ledger;

/// What keeps a chain from being removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainUse {
    /// A job that writes, reads or removes it, or whose rests in it are not swept yet.
    Job(JobId, JobKind),
    /// A hold that keeps the history of a source for the next incremental on it.
    Hold(HoldId, SourceName),
}

impl fmt::Display for ChainUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(job, kind) => write!(f, "job {job} ({kind}) needs it"),
            Self::Hold(hold, source) => write!(
                f,
                "hold {hold} keeps the history of source {source} for incrementals on it"
            ),
        }
    }
}

impl Ledger {
    /// The chains of a collection that are needed at present, by the directories of their fulls.
    #[must_use]
    pub fn chains_in_use(&self, collection: &str) -> BTreeMap<&str, ChainUse> {
        let mut used = BTreeMap::new();
        for hold in self.holds.values().filter(|hold| hold.releasing.is_none()) {
            if let Some(chain) = &hold.chain
                && chain.collection == collection
            {
                let what = ChainUse::Hold(hold.id, hold.source.clone());
                used.insert(chain.layer.full.as_str(), what);
            }
        }
        // What a job does is more to the point, and is over sooner.
        for job in self.unsettled_jobs() {
            if job.spec.collection() == collection && (job.needs_sweep() || !job.is_over()) {
                for chain in job.chains_in_use() {
                    used.insert(chain, ChainUse::Job(job.id, job.kind()));
                }
            }
        }
        used
    }
}

impl Job {
    fn is_over(&self) -> bool {
        self.state.is_terminal()
    }

    /// The chains that it has to do with and that are still there.
    fn chains_in_use(&self) -> impl Iterator<Item = &str> {
        (self.spec.chains()).filter(|chain| !self.expired.contains_key(*chain))
    }

    /// Whether it is to remove a chain, and has not done so yet.
    pub(crate) fn is_to_expire(&self, collection: &str, chain: &str) -> bool {
        self.kind() == JobKind::Expire
            && !self.is_over()
            && self.spec.collection() == collection
            && self.chains_in_use().any(|wanted| wanted == chain)
    }
}
