//! The hold watch: has holds on members looked after while nobody reads them.
//!
//! A hold of a source whose history is a log costs the member's disk for as long as it stands still, and a paused job, or a chain that nobody
//! appends to, does not look. The member itself gives up a hold that keeps more than it may; here it is noticed, and a chain's hold is
//! given up everywhere, so that its next incremental is refused at once. What is seen is shown with the cluster's status.

use actix::{Actor, ActorFutureExt, AsyncContext, Context, WrapFuture};
use futures::{StreamExt, stream};
use holdfast_ledger::{Action, HoldRecord, Ledger, Outcome};
use holdfast_node::{Backoff, Supervised, supervise};
use holdfast_proto::CheckWhat;
use holdfast_types::{ErrorCode, HoldId, MemberName, MemberRecord, SourceKind};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::asking::ask_member;
use crate::core::Core;
use crate::office::Office;

/// Looks under way at once: fewer than one worker takes on, so that there is room for people's questions.
const AT_ONCE: usize = 4;
/// For one look; a worker's own deadline is shorter.
const LOOK_TIMEOUT: Duration = Duration::from_secs(45);

/// The hold watch, alive as long as this is.
pub(crate) struct HoldWatch {
    _actor: Supervised<HoldWatchActor>,
}

impl HoldWatch {
    /// Starts the hold watch of an office.
    pub(crate) fn start(core: Arc<Core>, office: Arc<Office>) -> Self {
        let over = office.over.clone();
        Self {
            _actor: supervise("hold watch", Backoff::default(), over, move || {
                HoldWatchActor {
                    core: Arc::clone(&core),
                    office: Arc::clone(&office),
                }
            }),
        }
    }
}

/// See the module.
struct HoldWatchActor {
    core: Arc<Core>,
    office: Arc<Office>,
}

impl Actor for HoldWatchActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        crate::core::stop_when_over(&self.office, context);
        context.run_later(self.core.config.hold_look_every, Self::round);
    }
}

impl HoldWatchActor {
    /// One round over all holds, and the next one a while after it.
    fn round(&mut self, context: &mut Context<Self>) {
        let pause = self.core.config.hold_look_every;
        let work = look_round(Arc::clone(&self.core), Arc::clone(&self.office));
        let work = work
            .into_actor(self)
            .map(move |(), _, context: &mut Context<Self>| {
                context.run_later(pause, Self::round);
            });
        context.spawn(work);
    }
}

/// A hold on one member.
struct Watched {
    hold: HoldId,
    kind: SourceKind,
    member: MemberRecord,
}

async fn look_round(core: Arc<Core>, office: Arc<Office>) {
    let (holds, watched) = core.replica.read(|ledger| {
        let holds: BTreeSet<HoldId> = ledger.holds().map(|hold| hold.id).collect();
        let watched: Vec<Watched> = ledger.holds().flat_map(|hold| of(ledger, hold)).collect();
        (holds, watched)
    });
    office.standings.retain(&holds);
    stream::iter(watched)
        .for_each_concurrent(AT_ONCE, |watched| look(&core, &office, watched))
        .await;
}

/// Where a hold is to be looked for: on the members that are still registered, and only while it is to stay.
fn of(ledger: &Ledger, hold: &HoldRecord) -> Vec<Watched> {
    let source = ledger.source(&hold.source);
    let source = source.filter(|source| source.kind.is_logged() && hold.releasing.is_none());
    let members: BTreeSet<MemberName> = match &hold.chain {
        Some(chain) => chain.members.clone(),
        None => {
            let job = ledger.job(hold.job);
            let members = job.into_iter().flat_map(|job| {
                let names = job.spec().members().into_iter();
                names.map(|member| member.name.clone()).collect::<Vec<_>>()
            });
            members.collect()
        }
    };
    let Some(source) = source else {
        return Vec::new();
    };
    let placed = source.members.iter();
    placed
        .filter(|member| members.contains(&member.name))
        .map(|member| Watched {
            hold: hold.id,
            kind: source.kind,
            member: member.clone(),
        })
        .collect()
}

async fn look(core: &Core, office: &Office, watched: Watched) {
    let Watched { hold, kind, member } = watched;
    let asking = ask_member(core, office, kind, &member, CheckWhat::Hold(hold));
    let Ok((_, outcome)) = tokio::time::timeout(LOOK_TIMEOUT, asking).await else {
        tracing::warn!(%hold, member = %member.name, "there is no word of how a hold stands");
        return;
    };
    let fault = match outcome {
        Ok(report) => return office.standings.note(hold, &member.name, report.holds),
        Err(fault) => fault,
    };
    if fault.code != ErrorCode::HistoryGone {
        // It will be looked at again; that nobody can look is told where it matters, with the jobs.
        tracing::debug!(%hold, member = %member.name, %fault, "cannot look how a hold stands");
        return;
    }
    tracing::warn!(%hold, member = %member.name, %fault, "a hold was given up");
    office.standings.note(hold, &member.name, Vec::new());
    match core.replica.propose(Action::DropHold { hold }).await {
        // A job that needs it fails by itself, with the member's own words.
        Ok(Outcome::Refused(refusal)) => tracing::debug!(%hold, %refusal, "it stays in the books"),
        Ok(_) => {}
        Err(fault) => tracing::warn!(%hold, %fault, "that a hold is gone is not noted"),
    }
}
