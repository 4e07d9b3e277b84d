//! Changing schedules.

use holdfast_ledger::{Action, Ledger, ScheduleRecord};
use holdfast_proto::v1;
use holdfast_types::{
    Cadence, ErrorCode, Fault, Pairing, ScheduleChange, ScheduleId, ScheduledLayer, Timestamp,
};

use super::create::next_of;
use super::cron::Cron;
use super::pace::{Fulls, Pace};
use super::view::views_of;
use crate::core::Core;
use crate::encryption::for_schedule;
use crate::submit;

/// Changes a schedule, and what it shares with its pair.
///
/// # Errors
/// `NotFound` if there is none; what a change is refused with.
pub(crate) async fn alter(
    core: &Core,
    request: v1::AlterScheduleRequest,
) -> Result<v1::ListSchedulesResponse, Fault> {
    submit::catch_up(core).await?;
    let now = core.env.clock.now();
    let id = ScheduleId(request.schedule);
    let Pair { full, incremental } = core.replica.read(|ledger| Pair::find(ledger, id))?;
    let mut change = ScheduleChange {
        label: request.label,
        history: request.revision_history,
        on_failure: given(request.on_execution_failure.as_deref())?,
        on_previous: given(request.on_previous_running.as_deref())?,
        ..ScheduleChange::default()
    };
    let partner = incremental.as_ref().map(|record| record.cron.as_str());
    let cadences = Cadences {
        full: &full.cron,
        incremental: partner,
    };
    let mut new_id = || ScheduleId::from(core.ids.next(now));
    cadences.change(
        request.recurring.as_deref(),
        request.full_backup.as_deref(),
        now,
        &mut new_id,
        &mut change,
    )?;
    change.keys = for_schedule(core, request.encryption).await?;
    if let Some(into) = request.into {
        let template = &full.template;
        let backup = v1::SubmitBackupRequest {
            source: template.source.to_string(),
            target: Some(submit::wire_target(&template.target)),
            into,
            more_into: request.more_into,
            layer: Some(v1::submit_backup_request::Layer::Full(true)),
            ..v1::SubmitBackupRequest::default()
        };
        // A move to where backups are already is no accident: the schedule goes on with a full there.
        let moved = submit::read_template(core, backup, true).await?;
        change.collection = Some((moved.collection, moved.access));
    }
    let action = Action::AlterSchedule {
        schedule: id,
        change: Box::new(change),
    };
    core.replica.make(action).await?;
    let pair = core
        .replica
        .read(|ledger| Pair::find(ledger, full.id))
        .map(|pair| pair.ids())
        .unwrap_or_default();
    Ok(v1::ListSchedulesResponse {
        schedules: views_of(core, &pair).await,
    })
}

fn given<T>(text: Option<&str>) -> Result<Option<T>, Fault>
where
    T: std::str::FromStr<Err = Fault>,
{
    text.map(str::parse).transpose()
}

/// A schedule of fulls, and that of its incrementals.
struct Pair {
    full: ScheduleRecord,
    incremental: Option<ScheduleRecord>,
}

impl Pair {
    fn find(ledger: &Ledger, id: ScheduleId) -> Result<Self, Fault> {
        let record = ledger.schedule(id).ok_or_else(|| no_such_schedule(id))?;
        let partner = record.partner.and_then(|id| ledger.schedule(id));
        match (record.layer, partner) {
            (ScheduledLayer::Incremental, Some(full)) => Ok(Self {
                full: full.clone(),
                incremental: Some(record.clone()),
            }),
            _ => Ok(Self {
                full: record.clone(),
                incremental: partner.cloned(),
            }),
        }
    }

    fn ids(&self) -> Vec<ScheduleId> {
        let incremental = self.incremental.as_ref().map(|record| record.id);
        incremental.into_iter().chain([self.full.id]).collect()
    }
}

pub(super) fn no_such_schedule(id: ScheduleId) -> Fault {
    Fault::new(ErrorCode::NotFound, format!("there is no schedule {id}"))
        .hint("list the schedules with `holdfast schedule list`")
}

/// The present cadences.
struct Cadences<'a> {
    full: &'a str,
    incremental: Option<&'a str>,
}

impl Cadences<'_> {
    /// What new cadences amount to: SET RECURRING is that of the incrementals if there are any, and SET FULL BACKUP makes or drops their
    /// schedule, as in the model system.
    fn change(
        &self,
        recurring: Option<&str>,
        full: Option<&str>,
        now: Timestamp,
        new_id: &mut dyn FnMut() -> ScheduleId,
        change: &mut ScheduleChange,
    ) -> Result<(), Fault> {
        if recurring.is_none() && full.is_none() {
            return Ok(());
        }
        let recurring = Cron::read(recurring.unwrap_or(self.incremental.unwrap_or(self.full)))?;
        let fulls = match (full, self.incremental) {
            (Some(full), _) => match Fulls::read(full)? {
                Fulls::Fitting => {
                    return Err(Fault::new(
                        ErrorCode::InvalidArgument,
                        "when fulls are taken is empty",
                    )
                    .hint("give a cadence, or ALWAYS"));
                }
                fulls => fulls,
            },
            (None, Some(_)) => Fulls::At(Box::new(Cron::read(self.full)?)),
            (None, None) => Fulls::Always,
        };
        let pace = Pace::of(recurring, fulls, now)?;
        let cadence = |cron: &Cron| {
            Ok::<_, Fault>(Cadence {
                cron: cron.to_string(),
                next: next_of(cron, now)?,
            })
        };
        if pace.full.to_string() != self.full {
            change.full = Some(cadence(&pace.full)?);
        }
        match (&pace.incremental, self.incremental) {
            (None, Some(_)) => change.pairing = Some(Pairing::Single),
            (Some(cron), None) => change.pairing = Some(Pairing::Pair(new_id(), cron.to_string())),
            (Some(cron), Some(before)) if cron.to_string() != before => {
                change.incremental = Some(cadence(cron)?);
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_cadences_make_and_drop_the_incrementals_schedule() {
        /// The cadences before, what is set, and the cadences after.
        type Case = (
            (&'static str, Option<&'static str>),
            (Option<&'static str>, Option<&'static str>),
            Result<(&'static str, Option<&'static str>), &'static str>,
        );
        let cases: [Case; 8] = [
            (
                ("@daily", Some("@hourly")),
                (Some("*/5 * * * *"), None),
                Ok(("@daily", Some("*/5 * * * *"))),
            ),
            (
                ("@daily", None),
                (Some("@weekly"), None),
                Ok(("@weekly", None)),
            ),
            (
                ("@daily", Some("@hourly")),
                (None, Some("ALWAYS")),
                Ok(("@hourly", None)),
            ),
            (
                ("@hourly", None),
                (None, Some("@daily")),
                Ok(("@daily", Some("@hourly"))),
            ),
            (
                ("@daily", Some("@hourly")),
                (None, Some("@weekly")),
                Ok(("@weekly", Some("@hourly"))),
            ),
            (
                ("@daily", Some("@hourly")),
                (Some("@weekly"), None),
                Err("more often"),
            ),
            (
                ("@daily", None),
                (Some("@hourly"), Some("@weekly")),
                Ok(("@weekly", Some("@hourly"))),
            ),
            (("@daily", None), (None, Some("")), Err("empty")),
        ];
        let now = "2026-12-01T08:00:00Z".parse().expect("a time");
        for ((full, incremental), (recurring, set_full), expected) in cases {
            let cadences = Cadences { full, incremental };
            let mut change = ScheduleChange::default();
            let mut new_id = || ScheduleId(9);
            let outcome = cadences.change(recurring, set_full, now, &mut new_id, &mut change);
            let found = outcome.map(|()| {
                let full = change
                    .full
                    .as_ref()
                    .map_or(full, |cadence| cadence.cron.as_str());
                let incremental = match &change.pairing {
                    Some(Pairing::Single) => None,
                    Some(Pairing::Pair(_, cron)) => Some(cron.as_str()),
                    None => change
                        .incremental
                        .as_ref()
                        .map(|cadence| cadence.cron.as_str())
                        .or(incremental),
                };
                (full, incremental)
            });
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(fault), Err(text)) => assert!(fault.message.contains(text), "{fault}"),
                (found, expected) => panic!("{expected:?}: {found:?}"),
            }
        }
    }
}
