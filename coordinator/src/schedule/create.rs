//! Making schedules.

use holdfast_ledger::{Action, Outcome};
use holdfast_proto::v1;
use holdfast_types::{
    BackupTemplate, Cadence, ErrorCode, Fault, NewSchedule, ScheduleId, Timestamp,
};

use super::cron::Cron;
use super::pace::{Fulls, Pace};
use super::view::views_of;
use crate::core::Core;
use crate::replica::unexpected;
use crate::submit;

/// A word, or what is usual without one.
pub(super) fn word<T>(text: &str) -> Result<T, Fault>
where
    T: std::str::FromStr<Err = Fault> + Default,
{
    match text {
        "" => Ok(T::default()),
        text => text.parse(),
    }
}

/// Makes a schedule, or a pair.
///
/// # Errors
/// What a backup submitted now would be refused with; `InvalidArgument` for cadences and words that are none; `AlreadyExists` for a
/// collection with backups.
pub(crate) async fn create(
    core: &Core,
    request: v1::CreateScheduleRequest,
) -> Result<v1::CreateScheduleResponse, Fault> {
    let now = core.env.clock.now();
    if request.if_not_exists && request.label.is_empty() {
        return Err(Fault::new(
            ErrorCode::InvalidArgument,
            "whether a schedule exists is told by its label, and none is given",
        )
        .hint("give the schedule a label, or leave IF NOT EXISTS out"));
    }
    let recurring = Cron::read(&request.recurring)?;
    let fulls = Fulls::read(&request.full_backup)?;
    let pace = Pace::of(recurring, fulls, now)?;
    let first = first_run(&request.first_run, &pace, now)?;
    let (on_failure, on_previous) = (
        word(&request.on_execution_failure)?,
        word(&request.on_previous_running)?,
    );
    let ignores_existing = request.ignore_existing_backups;
    let label = match request.label.as_str() {
        "" => format!("BACKUP {}", now.as_millis() / 1000),
        label => label.to_owned(),
    };
    let if_not_exists = request.if_not_exists;
    let template = template(core, request, ignores_existing).await?;
    let full = ScheduleId::from(core.ids.next(now));
    let incremental = pace
        .incremental
        .map(|cron| (ScheduleId::from(core.ids.next(now)), cron.to_string()));
    let ids: Vec<ScheduleId> = incremental
        .iter()
        .map(|(id, _)| *id)
        .chain([full])
        .collect();
    let schedule = NewSchedule {
        label,
        template,
        full,
        full_cadence: Cadence {
            cron: pace.full.to_string(),
            next: first,
        },
        incremental,
        on_failure,
        on_previous,
    };
    let action = Action::CreateSchedule {
        schedule: Box::new(schedule),
        if_not_exists,
    };
    match core.replica.propose(action).await? {
        Outcome::Done => Ok(v1::CreateScheduleResponse {
            schedules: views_of(core, &ids).await,
            existed: false,
        }),
        Outcome::NoOp => Ok(v1::CreateScheduleResponse {
            schedules: Vec::new(),
            existed: true,
        }),
        Outcome::Refused(fault) => Err(fault),
        other => Err(unexpected(&other)),
    }
}

/// Reads what is backed up.
async fn template(
    core: &Core,
    request: v1::CreateScheduleRequest,
    ignores_existing: bool,
) -> Result<BackupTemplate, Fault> {
    submit::catch_up(core).await?;
    let backup = v1::SubmitBackupRequest {
        source: request.source,
        target: request.target,
        into: request.into,
        more_into: request.more_into,
        layer: Some(v1::submit_backup_request::Layer::Full(true)),
        revision_history: request.revision_history,
        execution_locality: request.execution_locality,
        encryption: request.encryption,
        ..v1::SubmitBackupRequest::default()
    };
    submit::read_template(core, backup, ignores_existing).await
}

/// When the first full is taken.
fn first_run(text: &str, pace: &Pace, now: Timestamp) -> Result<Timestamp, Fault> {
    match text {
        "" if pace.is_chosen => Ok(now),
        "" => next_of(&pace.full, now),
        word if word.eq_ignore_ascii_case("now") => Ok(now),
        time => time.parse().map_err(|error| {
            Fault::new(ErrorCode::InvalidArgument, format!("first_run: {error}"))
                .hint("give a time, or `now`")
        }),
    }
}

/// The next time of a cadence.
pub(super) fn next_of(cron: &Cron, now: Timestamp) -> Result<Timestamp, Fault> {
    cron.next_after(now).ok_or_else(|| {
        Fault::new(
            ErrorCode::InvalidArgument,
            format!("'{cron}' does not come again"),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_full_is_taken_when_it_was_said() {
        let now: Timestamp = "2026-12-01T08:00:00Z".parse().expect("a time");
        let pace = |full: &str| {
            let fulls = Fulls::read(full).expect("a wish");
            Pace::of(Cron::read("@hourly").expect("a cadence"), fulls, now).expect("a pace")
        };
        let cases = [
            ("", "", "2026-12-01T08:00:00Z"),
            ("", "@daily", "2026-12-02T00:00:00Z"),
            ("", "ALWAYS", "2026-12-01T09:00:00Z"),
            ("now", "@daily", "2026-12-01T08:00:00Z"),
            ("2026-12-05 10:00:00Z", "", "2026-12-05T10:00:00Z"),
        ];
        for (first, full, expected) in cases {
            let found = first_run(first, &pace(full), now).expect("a time");
            assert_eq!(found.to_string(), expected, "{first} {full}");
        }
        let fault = first_run("soon", &pace(""), now).expect_err("no time");
        assert!(fault.message.contains("soon"), "{fault}");
    }
}
