//! Jobs are accepted or refused.

use std::collections::BTreeSet;
use std::sync::Arc;

use holdfast_types::{
    BackupSpec, ErrorCode, Fault, Hlc, HoldId, JobId, JobSpec, JobState, MemberRecord, Phase,
    RequestKey, SourceKind, SourceName,
};

use super::Apply;
use crate::file_list::FileList;
use crate::job::{Counters, Job};
use crate::outcome::Outcome;
use crate::settings::Setting;

impl Apply<'_> {
    pub(super) fn submit_job(
        &mut self,
        id: JobId,
        hold: HoldId,
        spec: &JobSpec,
        request: Option<&RequestKey>,
    ) -> Result<Outcome, Fault> {
        if let Some(&job) = request.and_then(|key| self.ledger.requests.get(key)) {
            return Ok(Outcome::Job { job, existed: true });
        }
        self.check_ids(id, hold)?;
        self.check_room()?;
        self.check_connections(spec)?;
        let hold_position = match spec {
            JobSpec::Backup(spec) => Some(self.check_backup(spec)?),
            JobSpec::Restore(spec) => {
                self.check_members(
                    &spec.source,
                    spec.kind,
                    spec.members.iter().map(|m| &m.member),
                )?;
                check_layers(spec.layers.len())?;
                None
            }
            JobSpec::Verify(spec) => {
                check_layers(spec.layers.len())?;
                None
            }
            JobSpec::Expire(spec) => {
                self.check_expiry(spec)?;
                None
            }
        };
        self.check_not_expiring(spec)?;
        let hold = match (spec, hold_position) {
            (JobSpec::Backup(spec), Some(position)) => {
                Some(self.take_hold(id, hold, spec, position))
            }
            _ => None,
        };
        if let Some(key) = request {
            self.ledger.requests.insert(key.clone(), id);
        }
        let job = Job {
            id,
            spec: Arc::new(spec.clone()),
            request: request.cloned(),
            scheduled: None,
            hold,
            state: JobState::Pending,
            phase: Phase::Planning,
            doom: None,
            reason: None,
            created_at: self.at,
            started_at: None,
            finished_at: None,
            transitions: Vec::new(),
            errors: Vec::new(),
            errors_total: 0,
            counters: Counters::default(),
            lanes: Vec::new(),
            tasks: Default::default(),
            lingering: Default::default(),
            list: FileList::default(),
            committing: false,
            committed: false,
            finish_results: Vec::new(),
            swept: None,
            expiring: None,
            expired: Default::default(),
            layer_expired: false,
            notes: Vec::new(),
            notes_left_out: false,
        };
        self.ledger.jobs.insert(id, job);
        self.ledger.attention.insert(id);
        self.moved.insert(id);
        Ok(Outcome::Job {
            job: id,
            existed: false,
        })
    }

    fn check_ids(&self, id: JobId, hold: HoldId) -> Result<(), Fault> {
        let taken = |what: String| {
            Err(Fault::new(ErrorCode::AlreadyExists, what).hint("draw new ids and try again"))
        };
        // A hold may outlive the job that needed it, and still names it.
        let remembered = self.ledger.holds.values().any(|hold| hold.job == id);
        if self.ledger.jobs.contains_key(&id) || remembered {
            return taken(format!("there is a job {id} already"));
        }
        if self.ledger.holds.contains_key(&hold) {
            return taken(format!("there is a hold {hold} already"));
        }
        Ok(())
    }

    fn check_room(&self) -> Result<(), Fault> {
        let limit = self.ledger.settings.get(Setting::MaxJobs);
        let live = self.live_jobs().count() as u64;
        if live >= limit {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("{live} jobs are under way, and no more than {limit} may be"),
            )
            .hint("wait for one to end, cancel one, or raise the setting max_jobs"));
        }
        Ok(())
    }

    fn live_jobs(&self) -> impl Iterator<Item = &Job> {
        self.ledger
            .unsettled_jobs()
            .filter(|job| !job.state.is_terminal())
    }

    fn check_members<'a>(
        &self,
        source: &SourceName,
        kind: SourceKind,
        members: impl Iterator<Item = &'a MemberRecord>,
    ) -> Result<(), Fault> {
        let record = self.registered(source)?;
        if record.kind != kind {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("source {source} is of kind {}, not {kind}", record.kind),
            ));
        }
        let mut seen = BTreeSet::new();
        for member in members {
            if !record.members.iter().any(|known| known.name == member.name) {
                return Err(Fault::new(
                    ErrorCode::NotFound,
                    format!("source {source} has no member {}", member.name),
                )
                .hint(format!(
                    "see its members with: holdfast source show {source}"
                )));
            }
            if !seen.insert(&member.name) {
                return Err(Fault::new(
                    ErrorCode::InvalidArgument,
                    format!("member {} is named twice", member.name),
                ));
            }
        }
        if seen.is_empty() {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!("no member of source {source} is named"),
            ));
        }
        Ok(())
    }

    /// Checks a backup against the other jobs and against the chain that it continues. Returns the position of its hold.
    fn check_backup(&self, spec: &BackupSpec) -> Result<Hlc, Fault> {
        self.check_members(
            &spec.source,
            spec.kind,
            spec.members.iter().map(|m| &m.member),
        )?;
        if spec.path.incremental.is_some() != spec.parent.is_some() {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "'{}' is the place of {}",
                    spec.path,
                    if spec.parent.is_some() {
                        "a full backup, and this one is incremental"
                    } else {
                        "an incremental backup, and this one is full"
                    }
                ),
            ));
        }
        self.check_target_free(spec)?;
        self.check_chain(spec)?;
        self.check_hold(spec)?;
        Ok(spec.parent.as_ref().map_or(spec.end, |parent| parent.end))
    }

    fn check_target_free(&self, spec: &BackupSpec) -> Result<(), Fault> {
        let catalogue = &self.ledger.catalogue;
        if let Some(layer) = catalogue.layer(&spec.collection, &spec.path) {
            return Err(Fault::new(
                ErrorCode::AlreadyExists,
                format!(
                    "'{}' already contains a backup in '{}', made by job {}",
                    spec.path, spec.collection, layer.job
                ),
            )
            .hint("layers are never overwritten: back up as of another time"));
        }
        for job in self.ledger.unsettled_jobs() {
            let JobSpec::Backup(other) = job.spec.as_ref() else {
                continue;
            };
            if other.collection != spec.collection || other.path.full != spec.path.full {
                continue;
            }
            if job.state.is_terminal() {
                if job.may_have_manifest() {
                    return Err(Fault::new(
                        ErrorCode::FailedPrecondition,
                        format!(
                            "job {} ended while it was writing the manifest of '{}' in '{}'",
                            job.id, other.path, spec.collection
                        ),
                    )
                    .hint(
                        "wait until the job is swept: then it is known whether the layer exists",
                    ));
                }
                continue;
            }
            let what = if other.path == spec.path {
                format!("'{}' in '{}'", spec.path, spec.collection)
            } else {
                format!("the chain '{}' in '{}'", spec.path.full, spec.collection)
            };
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("job {} is writing to {what}", job.id),
            )
            .hint("wait for that job, or cancel it"));
        }
        Ok(())
    }

    fn check_chain(&self, spec: &BackupSpec) -> Result<(), Fault> {
        let refuse = |what: String, hint: &str| {
            Err(Fault::new(ErrorCode::ChainRule, what).hint(hint.to_owned()))
        };
        let catalogue = &self.ledger.catalogue;
        let newest = catalogue.newest(&spec.collection, &spec.path.full);
        let Some(parent) = &spec.parent else {
            // A full at the head of a chain that is known without its full cannot come later.
            return match newest {
                None => Ok(()),
                Some(layer) => refuse(
                    format!(
                        "the chain '{}' in '{}' already has the layer '{}'",
                        spec.path.full, spec.collection, layer.path
                    ),
                    "back up as of another time, so that the new chain has a directory of its own",
                ),
            };
        };
        if spec.end <= parent.end {
            return refuse(
                format!(
                    "AS OF SYSTEM TIME '{}' must be greater than the previous backup's end time '{}'",
                    spec.end, parent.end
                ),
                "back up as of a later time",
            );
        }
        let Some(newest) = newest else {
            // The chain was made by another cluster, or before this one lost its memory: the collection is the truth.
            return Ok(());
        };
        if newest.source != spec.source {
            return refuse(
                format!(
                    "the chain '{}' in '{}' is of source {}, not {}",
                    spec.path.full, spec.collection, newest.source, spec.source
                ),
                "start a chain of its own with a full backup",
            );
        }
        let continues = newest.path == parent.path
            && newest.end == parent.end
            && newest.manifest == parent.manifest;
        if !continues {
            return refuse(
                format!(
                    "the newest layer of the chain '{}' in '{}' is '{}', not '{}'",
                    spec.path.full, spec.collection, newest.path, parent.path
                ),
                "submit the backup again: it will continue the newest layer",
            );
        }
        Ok(())
    }
}

fn check_layers(layers: usize) -> Result<(), Fault> {
    if layers == 0 {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "the job names no layer to read",
        ));
    }
    Ok(())
}
