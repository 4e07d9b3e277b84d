//! Schedules as people see them.

use holdfast_ledger::{LastRun, Ledger, ScheduleRecord};
use holdfast_proto::v1;
use holdfast_types::{Fault, OnPrevious, ScheduleId, ScheduledLayer, Timestamp};
use std::cmp::Reverse;

use crate::core::Core;
use crate::submit;

/// What the model system says of incrementals without a full.
const WAITING: &str = "Waiting for initial backup to complete";

/// All schedules: the newest pair first, of a pair the incrementals first.
pub(crate) async fn list(core: &Core) -> Result<v1::ListSchedulesResponse, Fault> {
    submit::catch_up(core).await?;
    let now = core.env.clock.now();
    Ok(core.replica.read(|ledger| {
        let mut listed: Vec<&ScheduleRecord> = ledger.schedules().collect();
        listed.sort_by_key(|record| {
            let pair = record.partner.map_or(record.id, |id| id.min(record.id));
            (Reverse(pair), record.layer == ScheduledLayer::Full)
        });
        v1::ListSchedulesResponse {
            schedules: listed
                .into_iter()
                .map(|record| schedule_view(ledger, record, now))
                .collect(),
        }
    }))
}

/// Those of these schedules that there are, as this node knows them.
pub(super) async fn views_of(core: &Core, ids: &[ScheduleId]) -> Vec<v1::Schedule> {
    let now = core.env.clock.now();
    // The change is made: that its view may not be the newest does not make it undone.
    let _ = submit::catch_up(core).await;
    core.replica.read(|ledger| {
        let records = ids.iter().filter_map(|id| ledger.schedule(*id));
        records
            .map(|record| schedule_view(ledger, record, now))
            .collect()
    })
}

fn schedule_view(ledger: &Ledger, record: &ScheduleRecord, now: Timestamp) -> v1::Schedule {
    let template = &record.template;
    let running: Vec<u64> = ledger
        .runs_under_way(record.id)
        .map(|job| job.id().0)
        .collect();
    v1::Schedule {
        id: record.id.0,
        label: record.label.clone(),
        status: if record.is_active() {
            "ACTIVE"
        } else {
            "PAUSED"
        }
        .to_owned(),
        next_run: shown(record.next_run),
        state: state(record, &running, now),
        recurrence: record.cron.clone(),
        backup_type: record.layer.as_str().to_ascii_uppercase(),
        partner: record.partner.map_or(0, |id| id.0),
        source: template.source.to_string(),
        target: Some(submit::wire_target(&template.target)),
        into: template.collection.clone(),
        revision_history: template.history,
        execution_locality: template.execution_locality.to_string(),
        on_execution_failure: record.on_failure.to_string(),
        on_previous_running: record.on_previous.to_string(),
        created: record.created_at.to_string(),
        last_due: shown(record.last_due),
        last_job: record
            .last
            .as_ref()
            .and_then(|last| last.job)
            .map_or(0, |job| job.0),
        running,
        locality_stores: (template.access.localities.iter())
            .map(|store| (store.tier.to_string(), store.address.clone()))
            .collect(),
        keys: template.keys.as_ref().map(|keys| v1::ScheduleKeys {
            passphrase: keys.passphrase,
            kms: keys.kms.clone(),
            former: !record.former_keys.is_empty(),
        }),
    }
}

fn shown(time: Option<Timestamp>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

/// What a schedule waits for, or how its last run failed.
fn state(record: &ScheduleRecord, running: &[u64], now: Timestamp) -> String {
    if record.waits_for_full {
        return WAITING.to_owned();
    }
    let is_due = record.next_run.is_some_and(|next| next <= now);
    if let (true, OnPrevious::Wait, Some(job)) = (is_due, record.on_previous, running.first()) {
        return format!("waiting for job {job} to end");
    }
    match &record.last {
        Some(LastRun {
            job,
            result: Some(Err(fault)),
        }) => {
            let what = match job {
                Some(job) => format!("job {job} failed: {fault}"),
                None => format!("the run could not be submitted: {fault}"),
            };
            match record.paused {
                true => format!("paused: {what}"),
                false => what,
            }
        }
        _ => String::new(),
    }
}
