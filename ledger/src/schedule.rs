//! Schedules, as the ledger keeps them.

use std::sync::Arc;

use holdfast_types::{
    BackupTemplate, Fault, FormerKeys, JobId, Millis, OnFailure, OnPrevious, ScheduleId,
    ScheduleKeys, ScheduledLayer, Timestamp,
};
use serde::{Deserialize, Serialize};

/// How soon a run that failed is tried again where that is wished; doubled with each further failure.
const FIRST_RETRY: Millis = Millis(60_000);
/// The longest that is waited for another try.
const LAST_RETRY: Millis = Millis(3_600_000);
/// Keys from before that incrementals keep at most.
pub(crate) const MAX_FORMER_KEYS: usize = 8;
/// Failures in a row after which the wait grows no more.
const MAX_DOUBLINGS: u32 = 6;

/// A schedule: of fulls, or of the incrementals on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    /// Its id.
    pub id: ScheduleId,
    /// What people call it.
    pub label: String,
    /// What it backs up.
    pub template: Arc<BackupTemplate>,
    /// As which layers.
    pub layer: ScheduledLayer,
    /// When: five-field cron, in UTC.
    pub cron: String,
    /// The other half of a pair.
    pub partner: Option<ScheduleId>,
    /// What becomes of a failure.
    pub on_failure: OnFailure,
    /// What becomes of a run that is due while the one before is under way.
    pub on_previous: OnPrevious,
    /// Whether an operator, or a failure, has stopped it.
    pub paused: bool,
    /// Of incrementals: whether there is no full yet where they go.
    pub waits_for_full: bool,
    /// When it runs next. `None` while it does not run, and until the leader has found the next regular time.
    pub next_run: Option<Timestamp>,
    /// When the last run was due.
    pub last_due: Option<Timestamp>,
    /// The last run.
    pub last: Option<LastRun>,
    /// Failures since the last success.
    pub failures_in_a_row: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// How often the keys of its chains were changed.
    pub keys_version: u32,
    /// Of incrementals: the keys from before, the newest first, as long as the newest chain may be one that was begun with them.
    pub former_keys: Vec<FormerKeys>,
}

/// A run of a schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// The job, if one was submitted.
    pub job: Option<JobId>,
    /// How it ended, if it did.
    pub result: Option<Result<(), Fault>>,
}

impl ScheduleRecord {
    /// Whether it runs, or would if the leader had found its next time.
    #[must_use]
    pub fn is_active(&self) -> bool {
        !self.paused && !self.waits_for_full
    }

    /// Whether its next regular time is still to be found.
    #[must_use]
    pub fn needs_next(&self) -> bool {
        self.is_active() && self.next_run.is_none()
    }

    /// Makes it run at a time, though never twice for one.
    pub(crate) fn run_at(&mut self, time: Timestamp) {
        let after_last = self.last_due.map(|due| due.plus(Millis(1)));
        self.next_run = Some(after_last.map_or(time, |floor| floor.max(time)));
    }

    /// Applies what is wished for a failure.
    pub(crate) fn failed(&mut self, at: Timestamp) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        match self.on_failure {
            OnFailure::Reschedule => {}
            OnFailure::Pause => self.pause(),
            OnFailure::Retry if self.is_active() => {
                let doublings = self.failures_in_a_row.saturating_sub(1).min(MAX_DOUBLINGS);
                let rest = Millis((FIRST_RETRY.0 << doublings).min(LAST_RETRY.0));
                let soon = at.plus(rest);
                // A regular time that is sooner stays.
                if self.next_run.is_none_or(|next| soon < next) {
                    self.run_at(soon);
                }
            }
            OnFailure::Retry => {}
        }
    }

    /// Stops it.
    pub(crate) fn pause(&mut self) {
        self.paused = true;
        self.next_run = None;
    }

    /// Takes other keys for the chains to come. Incrementals keep those of the chain that they go on with.
    pub(crate) fn change_keys(&mut self, keys: &ScheduleKeys) {
        let mut template = self.template.as_ref().clone();
        let before = template.keys.replace(keys.clone());
        self.template = Arc::new(template);
        let former = FormerKeys {
            version: self.keys_version,
            keys: before,
        };
        self.keys_version = self.keys_version.saturating_add(1);
        if self.layer == ScheduledLayer::Incremental {
            self.former_keys.insert(0, former);
        }
    }

    /// Forgets the keys from before those that opened the newest chain.
    pub(crate) fn forget_keys_before(&mut self, version: u32) {
        self.former_keys.retain(|former| former.version >= version);
    }

    /// Makes it wait for a full.
    pub(crate) fn wait_for_full(&mut self) {
        self.waits_for_full = true;
        self.next_run = None;
    }
}
