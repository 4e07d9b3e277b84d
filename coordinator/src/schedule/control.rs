//! Pausing, resuming, running and dropping schedules.

use holdfast_ledger::{Action, Outcome};
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, ScheduleId, ScheduleVerb};

use super::alter::no_such_schedule;
use super::create::next_of;
use super::cron::Cron;
use super::view::views_of;
use crate::core::Core;
use crate::replica::unexpected;
use crate::submit;

/// Does what an operator wishes.
///
/// # Errors
/// `NotFound` if there is no such schedule; `FailedPrecondition` to run one that is paused.
pub(crate) async fn control(
    core: &Core,
    request: v1::ControlScheduleRequest,
) -> Result<v1::ControlScheduleResponse, Fault> {
    submit::catch_up(core).await?;
    let id = ScheduleId(request.schedule);
    let now = core.env.clock.now();
    let cron = core
        .replica
        .read(|ledger| ledger.schedule(id).map(|record| record.cron.clone()))
        .ok_or_else(|| no_such_schedule(id))?;
    let verb = match request.verb.as_str() {
        "pause" => ScheduleVerb::Pause,
        "resume" => ScheduleVerb::Resume {
            next: next_of(&Cron::read(&cron)?, now)?,
        },
        "run" => ScheduleVerb::RunNow,
        "drop" => ScheduleVerb::Drop,
        other => {
            return Err(Fault::new(
                ErrorCode::InvalidArgument,
                format!(
                    "\"{}\" is nothing a schedule can be asked for",
                    other.escape_debug()
                ),
            )
            .hint("ask for pause, resume, run or drop"));
        }
    };
    let before = views_of(core, &[id]).await.into_iter().next();
    let action = Action::ControlSchedule { schedule: id, verb };
    let no_op = match core.replica.propose(action).await? {
        Outcome::Done => false,
        Outcome::NoOp => true,
        Outcome::Refused(fault) => return Err(fault),
        other => return Err(unexpected(&other)),
    };
    let after = views_of(core, &[id]).await.into_iter().next();
    Ok(v1::ControlScheduleResponse {
        schedule: after.or(before),
        no_op,
    })
}
