//! Holds pass from job to chain and from job to job; in the end they are released member by member, and then forgotten.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_types::{
    BackupSpec, ErrorCode, Fault, Hlc, HoldId, HoldUse, JobId, JobSpec, JobState, LayerPath,
    MemberName, Position,
};

use super::Apply;
use crate::hold::{ChainHold, HoldRecord};
use crate::outcome::Outcome;

impl Apply<'_> {
    /// The hold of a new backup: one of its own, or its chain's.
    pub(super) fn take_hold(
        &mut self,
        job: JobId,
        new: HoldId,
        spec: &BackupSpec,
        position: Hlc,
    ) -> HoldId {
        let at = self.at;
        match spec.hold {
            HoldUse::Chain(hold) => {
                if let Some(record) = self.ledger.holds.get_mut(&hold) {
                    record.job = job;
                }
                hold
            }
            HoldUse::Job | HoldUse::StartChain => {
                self.ledger.holds.insert(
                    new,
                    HoldRecord {
                        id: new,
                        job,
                        source: spec.source.clone(),
                        position,
                        created_at: at,
                        chain: None,
                        releasing: None,
                    },
                );
                new
            }
        }
    }

    /// Whether a backup may go on with its chain's hold. The hold may be behind the chain's newest layer: one whose job was cancelled while its
    /// manifest was written.
    pub(super) fn check_hold(&self, spec: &BackupSpec) -> Result<(), Fault> {
        let HoldUse::Chain(id) = spec.hold else {
            return Ok(());
        };
        let full = &spec.path.full;
        let start = spec.parent.as_ref().map(|parent| parent.end);
        let held = self.ledger.holds.get(&id).filter(|hold| {
            hold.source == spec.source
                && hold.releasing.is_none()
                && hold.is_of_chain(&spec.collection, full)
                && start.is_some_and(|start| hold.position <= start)
        });
        if held.is_some() {
            return Ok(());
        }
        Err(Fault::new(
            ErrorCode::HistoryGone,
            format!(
                "source {} does not keep the history that the chain '{full}' in '{}' goes on with",
                spec.source, spec.collection
            ),
        )
        .hint("take a full backup: it starts a new chain"))
    }

    /// The job is terminal: its hold is the chain's from now on, or it is to be released.
    pub(super) fn end_hold_of(&mut self, id: JobId) {
        let Some(job) = self.known(id) else { return };
        let Some(hold) = job.hold else { return };
        let spec = std::sync::Arc::clone(&job.spec);
        let JobSpec::Backup(spec) = spec.as_ref() else {
            return;
        };
        let succeeded = job.state == JobState::Succeeded;
        let end = job.end(spec);
        let placed = job.placed_on();
        // A member that had nothing of what was backed up has no end of its own, and nothing to let go of.
        let reached: BTreeMap<MemberName, Position> = (0u32..)
            .zip(&spec.members)
            .filter_map(|(index, member)| {
                let position = match job.settled(index) {
                    Some(settled) => settled.position,
                    None if spec.kind.is_logged() => return None,
                    None => end.into(),
                };
                Some((member.member.name.clone(), position))
            })
            .collect();
        let can_follow = job.keeps_history();
        match spec.hold {
            HoldUse::Job => self.begin_release(hold, placed),
            HoldUse::StartChain if !succeeded || !can_follow => self.begin_release(hold, placed),
            HoldUse::StartChain | HoldUse::Chain(_) => {
                job.hold = None;
                if succeeded {
                    self.pass_to_chain(hold, spec, end, reached);
                }
                if succeeded && !can_follow {
                    self.release_chain_hold(hold);
                }
                self.release_superseded(hold);
            }
        }
    }

    /// The chain has a new layer, up to whose end history may go.
    fn pass_to_chain(
        &mut self,
        hold: HoldId,
        spec: &BackupSpec,
        end: Hlc,
        reached: BTreeMap<MemberName, Position>,
    ) {
        if let Some(record) = self.ledger.holds.get_mut(&hold) {
            record.position = end;
            record.chain = Some(ChainHold {
                collection: spec.collection.clone(),
                layer: spec.path.clone(),
                members: (spec.members.iter())
                    .map(|member| member.member.name.clone())
                    .collect(),
                behind: reached,
            });
        }
        self.holds.insert(hold);
    }

    /// A source keeps history for one chain in each collection: the one that was started last. Holds of earlier chains go, as soon as
    /// no job uses them.
    fn release_superseded(&mut self, of: HoldId) {
        let Some(record) = self.ledger.holds.get(&of) else {
            return;
        };
        let Some(chain) = &record.chain else { return };
        let collection = chain.collection.clone();
        let source = record.source.clone();
        let kin = |hold: &&HoldRecord| {
            let same = |chain: &ChainHold| chain.collection == collection;
            hold.source == source && hold.chain.as_ref().is_some_and(same)
        };
        let newest = (self.ledger.holds.values())
            .filter(kin)
            .max_by_key(|hold| (hold.created_at, hold.id))
            .map(|hold| hold.id);
        let superseded: Vec<HoldId> = (self.ledger.holds.values())
            .filter(kin)
            .filter(|hold| Some(hold.id) != newest && hold.releasing.is_none())
            .filter(|hold| !self.is_used(hold))
            .map(|hold| hold.id)
            .collect();
        for hold in superseded {
            self.release_chain_hold(hold);
        }
    }

    fn is_used(&self, hold: &HoldRecord) -> bool {
        let job = self.ledger.jobs.get(&hold.job);
        job.is_some_and(|job| !job.state.is_terminal())
    }

    fn release_chain_hold(&mut self, id: HoldId) {
        let members = (self.ledger.holds.get(&id))
            .and_then(|hold| Some(hold.chain.as_ref()?.members.clone()));
        self.begin_release(id, members.unwrap_or_default());
    }

    fn begin_release(&mut self, id: HoldId, members: BTreeSet<MemberName>) {
        if let Some(record) = self.ledger.holds.get_mut(&id) {
            record.releasing = Some(members);
        }
        self.holds.insert(id);
        self.forget_released_hold(id);
    }

    /// An operator gives a chain's hold up.
    pub(super) fn drop_hold(&mut self, id: HoldId) -> Result<Outcome, Fault> {
        let Some(hold) = self.ledger.holds.get(&id) else {
            return Err(
                Fault::new(ErrorCode::NotFound, format!("there is no hold {id}"))
                    .hint("list the holds with: holdfast hold list"),
            );
        };
        if self.is_used(hold) {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("hold {id} is needed by job {}", hold.job),
            )
            .hint("wait for the job, or cancel it"));
        }
        if hold.releasing.is_some() {
            return Ok(Outcome::NoOp);
        }
        self.release_chain_hold(id);
        Ok(Outcome::Done)
    }

    /// A member knows that a chain's layer is durable.
    pub(super) fn hold_advanced(
        &mut self,
        id: HoldId,
        member: &MemberName,
        layer: &LayerPath,
    ) -> Result<Outcome, Fault> {
        let chain = (self.ledger.holds.get_mut(&id)).and_then(|hold| hold.chain.as_mut());
        let told = chain
            .filter(|chain| chain.layer == *layer)
            .is_some_and(|chain| chain.behind.remove(member).is_some());
        Ok(if told { Outcome::Done } else { Outcome::NoOp })
    }

    pub(super) fn hold_released(
        &mut self,
        id: HoldId,
        member: &MemberName,
    ) -> Result<Outcome, Fault> {
        let Some(hold) = self.ledger.holds.get_mut(&id) else {
            return Ok(Outcome::NoOp);
        };
        let Some(releasing) = &mut hold.releasing else {
            return Err(Fault::new(
                ErrorCode::FailedPrecondition,
                format!("hold {id} is still needed by job {}", hold.job),
            ));
        };
        if !releasing.remove(member) {
            return Ok(Outcome::NoOp);
        }
        self.forget_released_hold(id);
        Ok(Outcome::Done)
    }

    /// Forgets a hold that no member keeps any more.
    pub(super) fn forget_released_hold(&mut self, id: HoldId) {
        let Some(hold) = self.ledger.holds.get(&id) else {
            return;
        };
        if hold.releasing.as_ref().is_some_and(BTreeSet::is_empty) {
            let job = hold.job;
            self.ledger.holds.remove(&id);
            if let Some(job) = self.known(job)
                && job.hold == Some(id)
            {
                job.hold = None;
            }
        }
    }
}
