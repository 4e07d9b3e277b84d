//! The hold releaser: has holds on members ended once their job is over. Only workers reach members, so one near the member is asked.

use futures::future::LocalBoxFuture;
use holdfast_ledger::{Action, Ledger, Outcome};
use holdfast_proto::{HoldRelease, v1};
use holdfast_types::{
    ErrorCode, Fault, HoldId, Incarnation, JobId, Locality, MemberName, MemberRecord, SourceKind,
    SourceName, WorkerId,
};
use std::sync::Arc;
use std::time::Duration;

use super::effect_runner::{Perform, Setback};
use crate::core::Core;
use crate::office::Office;
use crate::plan::{Score, may_run};

/// How long a worker may take to end a hold.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// A hold on one member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberHold {
    /// The hold.
    pub(crate) hold: HoldId,
    /// The source.
    pub(crate) source: SourceName,
    /// The member.
    pub(crate) member: MemberName,
}

/// See the module.
pub(crate) struct HoldReleaser {
    core: Arc<Core>,
    office: Arc<Office>,
}

impl HoldReleaser {
    pub(crate) fn new(core: Arc<Core>, office: Arc<Office>) -> Self {
        Self { core, office }
    }
}

impl Perform for HoldReleaser {
    type Key = MemberHold;

    const AT_ONCE: usize = 64;

    fn describe(_: &MemberHold) -> &'static str {
        "releasing a hold"
    }

    fn job(_: &MemberHold) -> Option<JobId> {
        None
    }

    fn perform(&self, key: MemberHold) -> LocalBoxFuture<'static, Result<(), Setback>> {
        let (core, office) = (Arc::clone(&self.core), Arc::clone(&self.office));
        Box::pin(async move { release(&core, &office, key).await })
    }
}

async fn release(core: &Core, office: &Office, key: MemberHold) -> Result<(), Setback> {
    if let Some((kind, member)) = core.replica.read(|ledger| find_member(ledger, &key)) {
        let worker = core
            .replica
            .read(|ledger| nearest(ledger, office, &member.locality));
        let Some((worker, incarnation)) = worker else {
            return Err(Setback::Later);
        };
        let answer = office.await_hold(key.hold, key.member.clone());
        let request = HoldRelease {
            hold: key.hold,
            source: key.source.clone(),
            kind,
            member,
        };
        let body = v1::leader_message::Body::ReleaseHold((&request).into());
        if office.sessions.send(&worker, incarnation, body).is_none() {
            return Err(Setback::Later);
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(fault))) => return Err(fault.into()),
            Ok(Err(_)) => return Err(Setback::Later),
            Err(_) => {
                return Err(Setback::Retry(Fault::new(
                    ErrorCode::Unavailable,
                    format!(
                        "worker {worker} did not end hold {} on member {} in time",
                        key.hold, key.member
                    ),
                )));
            }
        }
    }
    let action = Action::HoldReleased {
        hold: key.hold,
        member: key.member,
    };
    match core.replica.propose(action).await? {
        Outcome::Refused(fault) => Err(fault.into()),
        _ => Ok(()),
    }
}

/// The member as it is registered now, or as the job knew it. Without either there is nobody left to ask, and nothing to end.
fn find_member(ledger: &Ledger, key: &MemberHold) -> Option<(SourceKind, MemberRecord)> {
    let registered = ledger.source(&key.source).and_then(|source| {
        let member = source
            .members
            .iter()
            .find(|member| member.name == key.member)?;
        Some((source.kind, member.clone()))
    });
    registered.or_else(|| {
        let hold = ledger.hold(key.hold)?;
        let spec = ledger.job(hold.job)?.spec();
        let member = spec
            .members()
            .into_iter()
            .find(|member| member.name == key.member)?;
        let kind = match spec.as_ref() {
            holdfast_types::JobSpec::Backup(spec) => spec.kind,
            holdfast_types::JobSpec::Restore(spec) => spec.kind,
            holdfast_types::JobSpec::Verify(_) => return None,
        };
        Some((kind, member.clone()))
    })
}

/// The best connected worker for a member.
fn nearest(ledger: &Ledger, office: &Office, place: &Locality) -> Option<(WorkerId, Incarnation)> {
    let connected = office.sessions.connected();
    ledger
        .workers()
        .filter(|worker| connected.get(&worker.id) == Some(&worker.incarnation))
        .filter(|worker| may_run(&worker.locality, place, &Locality::default()))
        .min_by_key(|worker| {
            let busy = worker.slots.saturating_sub(worker.free_slots());
            Score::new(&worker.id, &worker.locality, busy, worker.slots, place)
        })
        .map(|worker| (worker.id.clone(), worker.incarnation))
}
