//! The hold keeper: has holds on members moved when a chain grows, and ended when nothing needs them. Only workers reach members, so one
//! near the member is asked.

use futures::future::LocalBoxFuture;
use holdfast_ledger::{Action, Ledger, Outcome};
use holdfast_proto::{HoldOrder, v1};
use holdfast_types::{
    ErrorCode, Fault, HoldId, JobId, LayerPath, MemberName, MemberRecord, Position, SourceKind,
    SourceName,
};
use std::sync::Arc;
use std::time::Duration;

use super::effect_runner::{Perform, Setback};
use crate::core::Core;
use crate::office::Office;

/// How long a worker may take to end or move a hold.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// What is to become of a hold on one member.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberHold {
    /// The hold.
    pub(crate) hold: HoldId,
    /// The source.
    pub(crate) source: SourceName,
    /// The member.
    pub(crate) member: MemberName,
    /// The layer up to whose end history may go, and that end; `None`: the hold ends.
    pub(crate) advance: Option<(LayerPath, Position)>,
}

/// See the module.
pub(crate) struct HoldKeeper {
    core: Arc<Core>,
    office: Arc<Office>,
}

impl HoldKeeper {
    pub(crate) fn new(core: Arc<Core>, office: Arc<Office>) -> Self {
        Self { core, office }
    }
}

impl Perform for HoldKeeper {
    type Key = MemberHold;

    const AT_ONCE: usize = 64;

    fn describe(key: &MemberHold) -> &'static str {
        match key.advance {
            None => "releasing a hold",
            Some(_) => "moving a hold",
        }
    }

    fn job(_: &MemberHold) -> Option<JobId> {
        None
    }

    fn perform(&self, key: MemberHold) -> LocalBoxFuture<'static, Result<(), Setback>> {
        let (core, office) = (Arc::clone(&self.core), Arc::clone(&self.office));
        Box::pin(async move { carry_out(&core, &office, key).await })
    }
}

async fn carry_out(core: &Core, office: &Office, key: MemberHold) -> Result<(), Setback> {
    if let Some((kind, member)) = core.replica.read(|ledger| find_member(ledger, &key)) {
        let worker = core
            .replica
            .read(|ledger| office.nearest(ledger, &member.locality));
        let Some((worker, incarnation)) = worker else {
            return Err(Setback::Later);
        };
        let advance_to = key.advance.as_ref().map(|(_, position)| *position);
        let answer = office.await_hold(key.hold, key.member.clone(), advance_to);
        let request = HoldOrder {
            hold: key.hold,
            source: key.source.clone(),
            kind,
            member,
            advance_to,
        };
        let body = v1::leader_message::Body::HoldOrder((&request).into());
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
                        "worker {worker} did not see to hold {} on member {} in time",
                        key.hold, key.member
                    ),
                )));
            }
        }
    }
    let action = match key.advance {
        None => Action::HoldReleased {
            hold: key.hold,
            member: key.member,
        },
        Some((layer, _)) => Action::HoldAdvanced {
            hold: key.hold,
            member: key.member,
            layer,
        },
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
            holdfast_types::JobSpec::Verify(_) | holdfast_types::JobSpec::Expire(_) => {
                return None;
            }
        };
        Some((kind, member.clone()))
    })
}
