//! From a request to a job's specification: everything that can be checked without a worker is checked here, before there is a job.

mod backup;
mod restore;
mod schedulable;
mod server_address;
mod sources;
mod target;
mod verify;

use holdfast_ledger::{Action, Outcome, Setting};
use holdfast_proto::v1;
use holdfast_types::{ErrorCode, Fault, HoldId, JobId, JobSpec, Locality, RequestKey, Timestamp};

use crate::api::path_of;
use crate::core::Core;

pub(crate) use backup::{submit_backup, submit_scheduled};
pub(crate) use restore::{restore_spec, submit_restore};
pub(crate) use schedulable::read_template;
pub(crate) use sources::{read_source, source_view};
pub(crate) use target::wire_target;
pub(crate) use verify::submit_verify;

/// Ids that are drawn for one submission before it is given up: two in a row that are taken mean a clock far in the past.
const ID_ATTEMPTS: usize = 3;

/// An idempotency key, if there is one.
fn request_key(text: &str) -> Result<Option<RequestKey>, Fault> {
    if text.is_empty() {
        Ok(None)
    } else {
        text.parse().map(Some)
    }
}

/// A client's own idempotency key: none of those that belong to runs of schedules.
pub(crate) fn own_key(text: &str) -> Result<Option<RequestKey>, Fault> {
    let key = request_key(text)?;
    match key.as_ref().is_some_and(RequestKey::is_of_a_run) {
        false => Ok(key),
        true => Err(Fault::new(
            ErrorCode::InvalidArgument,
            format!("request key {text} is of the form that belongs to runs of schedules"),
        )
        .hint("choose one that begins with something else")),
    }
}

fn execution_locality(text: &str) -> Result<Locality, Fault> {
    text.parse::<Locality>()
        .map_err(|error| Fault::new(ErrorCode::InvalidArgument, error.to_string()))
}

/// The job that this request key made before.
pub(crate) fn earlier_job(core: &Core, key: Option<&RequestKey>) -> Option<v1::SubmitJobResponse> {
    core.replica.read(|ledger| {
        let job = ledger.job_of_request(key?)?;
        Some(v1::SubmitJobResponse {
            job: job.0,
            existed: true,
            path: ledger
                .job(job)
                .map(|job| path_of(job.spec()))
                .unwrap_or_default(),
        })
    })
}

/// Brings this node's state up to date, so that a source or a job that was acknowledged to anybody before is seen.
pub(crate) async fn catch_up(core: &Core) -> Result<(), Fault> {
    core.replica.linearizable().await
}

fn part_size(core: &Core) -> u64 {
    core.replica
        .read(|ledger| ledger.settings().get(Setting::PartSize))
}

/// Proposes a job.
pub(crate) async fn propose(
    core: &Core,
    spec: JobSpec,
    request: Option<RequestKey>,
    now: Timestamp,
) -> Result<v1::SubmitJobResponse, Fault> {
    let path = path_of(&spec);
    let mut refusal = None;
    for _ in 0..ID_ATTEMPTS {
        let job = core.ids.next(now);
        let action = Action::SubmitJob {
            job,
            hold: HoldId(job.0),
            spec: Box::new(spec.clone()),
            request: request.clone(),
        };
        match core.replica.propose(action).await? {
            Outcome::Job { job, existed } => {
                return Ok(v1::SubmitJobResponse {
                    job: job.0,
                    existed,
                    path: if existed {
                        path_of_job(core, job)
                    } else {
                        path
                    },
                });
            }
            Outcome::Refused(fault) => {
                let taken = core.replica.read(|ledger| ledger.job(job).is_some());
                if !taken {
                    return Err(fault);
                }
                refusal = Some(fault);
            }
            other => return Err(crate::replica::unexpected(&other)),
        }
    }
    Err(refusal.unwrap_or_else(|| Fault::new(ErrorCode::Internal, "no job id could be drawn")))
}

fn path_of_job(core: &Core, job: JobId) -> String {
    core.replica.read(|ledger| {
        ledger
            .job(job)
            .map(|job| path_of(job.spec()))
            .unwrap_or_default()
    })
}
