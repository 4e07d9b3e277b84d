//! A job as people see it: what the ledger says, and what the leader in office knows beyond it.

use holdfast_ledger::{
    ExpiredChain, Job, JobError, JobProgress, Ledger, MemberProgress, RunningTask, Starved,
};
use holdfast_proto::{fault_to_wire, v1};
use holdfast_types::{
    Fault, JobSpec, JobState, Locality, MemberName, Millis, Phase, TaskId, Timestamp,
};
use std::collections::BTreeMap;
use std::time::Duration;

use crate::notes::Rate;
use crate::office::Office;

/// A task that has not moved for this long is named.
const STUCK: Millis = Millis(60_000);

/// When a view is made, and by whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Wall time.
    pub(crate) now: Timestamp,
    /// Monotonic time.
    pub(crate) monotonic: Duration,
    /// The office, on the leader: without it there are no rates, activities and troubles.
    pub(crate) office: Option<&'a Office>,
}

/// The view of a job.
pub(crate) fn job_view(ledger: &Ledger, job: &Job, seen: Seen<'_>) -> v1::Job {
    let counters = job.counters();
    let progress = ledger.progress(job.id());
    let rate = rate_of(job, seen);
    let waiting = progress
        .as_ref()
        .map(|progress| waiting_reasons(ledger, job, progress, seen))
        .unwrap_or_default();
    let spec = job.spec();
    let hold = job.hold().and_then(|hold| ledger.hold(hold));
    let members = progress.iter().flat_map(|progress| &progress.members);
    let leased = members.map(|member| member.running.len() as u64).sum();
    v1::Job {
        id: job.id().0,
        kind: job.kind().to_string(),
        description: spec.describe(),
        state: job.state().to_string(),
        running_status: running_status(job, &waiting),
        created: job.created_at().to_string(),
        started: show_time(job.started_at()),
        finished: show_time(job.finished_at()),
        fraction_completed: progress.as_ref().map_or(0.0, JobProgress::fraction),
        error: job.fault().map(fault_to_wire),
        execution_errors: execution_errors(job, seen),
        pause_reason: job.reason().unwrap_or_default().to_owned(),
        bytes_read: counters.bytes_read.0,
        bytes_written: counters.bytes_written.0,
        bytes_redone: counters.bytes_redone.0,
        rows: counters.rows.0,
        total_weight: counters.weight_total,
        done_weight: counters.weight_done,
        rate: rate.bytes,
        eta_seconds: eta(counters.weight_total, counters.weight_done, rate),
        members: progress
            .iter()
            .flat_map(|progress| &progress.members)
            .map(|member| member_view(ledger, job, member, seen))
            .collect(),
        waiting,
        hold: hold.map_or(0, |hold| hold.id.0),
        hold_age_seconds: hold.map_or(0.0, |hold| seconds(seen.now.since(hold.created_at))),
        path: path_of(spec),
        collection: spec.collection().to_owned(),
        source: spec.source().map(ToString::to_string).unwrap_or_default(),
        as_of: match spec.as_ref() {
            JobSpec::Backup(spec) => job.end(spec).to_string(),
            JobSpec::Restore(spec) => spec.as_of.to_string(),
            JobSpec::Verify(_) | JobSpec::Expire(_) => String::new(),
        },
        tasks_total: u64::from(counters.spans_total),
        tasks_done: u64::from(counters.spans_done),
        tasks_leased: leased,
        applied_index: ledger.applied().index,
        notes: notes(job),
        notes_left_out: job.notes_left_out(),
        hold_standings: (hold.zip(seen.office))
            .map(|(hold, office)| office.standings.of(hold.id))
            .unwrap_or_default(),
        schedule: job.scheduled().map_or(0, |run| run.schedule.0),
        schedule_due: show_time(job.scheduled().map(|run| run.due)),
        expired: job.expired().iter().map(expired_view).collect(),
    }
}

fn expired_view((subdir, removed): (&String, &ExpiredChain)) -> v1::ExpiredChain {
    v1::ExpiredChain {
        subdir: subdir.clone(),
        objects: removed.objects,
        bytes: removed.bytes.0,
        refused: removed.refused,
    }
}

/// Where a backup's layer goes, which chain is read, or which is the first that is removed.
pub(crate) fn path_of(spec: &JobSpec) -> String {
    let head = |layers: &[(holdfast_types::LayerPath, holdfast_types::Digest)]| {
        layers
            .first()
            .map(|(path, _)| path.full.clone())
            .unwrap_or_default()
    };
    match spec {
        JobSpec::Backup(spec) => spec.path.to_string(),
        JobSpec::Restore(spec) => head(&spec.layers),
        JobSpec::Verify(spec) => head(&spec.layers),
        JobSpec::Expire(spec) => spec.chains.first().cloned().unwrap_or_default(),
    }
}

fn show_time(time: Option<Timestamp>) -> String {
    time.map(|time| time.to_string()).unwrap_or_default()
}

fn seconds(millis: Millis) -> f64 {
    millis.0 as f64 / 1000.0
}

fn rate_of(job: &Job, seen: Seen<'_>) -> Rate {
    match seen.office {
        Some(office) if job.state() == JobState::Running => {
            office.notes.rate(job.id(), seen.monotonic)
        }
        _ => Rate::default(),
    }
}

/// Seconds until all weight is done at this rate; negative if that cannot be said.
fn eta(total: u64, done: u64, rate: Rate) -> f64 {
    let left = total.saturating_sub(done) as f64;
    if total > 0 && rate.weight > 0.0 {
        left / rate.weight
    } else {
        -1.0
    }
}

/// What a running job is busy with, or why it is not.
fn running_status(job: &Job, waiting: &[String]) -> String {
    match (job.state(), waiting.first()) {
        (state, _) if state.is_terminal() => String::new(),
        (_, Some(reason)) => reason.clone(),
        (JobState::Pending, None) => "waiting to be taken up".to_owned(),
        (_, None) if job.expiring().is_some() => "removing".to_owned(),
        (JobState::Running, None) => job.phase().to_string(),
        (JobState::Reverting, None) => "undoing what was done".to_owned(),
        (_, None) => String::new(),
    }
}

fn execution_errors(job: &Job, seen: Seen<'_>) -> Vec<String> {
    let past = job.errors().iter().map(|error| {
        let place = error
            .task
            .map(|task| format!("{}: ", job.task_name(task)))
            .unwrap_or_default();
        format!("{} {place}{}", error.at, error.fault)
    });
    let present = seen.office.map(|office| office.notes.troubles(job.id()));
    past.chain(present.into_iter().flatten()).collect()
}

/// What did not go as usual; of a job on several members, on which.
fn notes(job: &Job) -> Vec<String> {
    let members = job.spec().members();
    let notes = job.notes().iter().map(|note| {
        let member = note.member.and_then(|index| members.get(index as usize));
        match member {
            Some(member) if members.len() > 1 => format!("member {}: {}", member.name, note.text),
            _ => note.text.clone(),
        }
    });
    notes.collect()
}

fn member_view(
    ledger: &Ledger,
    job: &Job,
    member: &MemberProgress,
    seen: Seen<'_>,
) -> v1::JobMember {
    let locality = job
        .spec()
        .members()
        .into_iter()
        .find(|record| Some(&record.name) == member.member.as_ref())
        .map(|record| record.locality.to_string())
        .unwrap_or_default();
    v1::JobMember {
        name: member
            .member
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        locality,
        total_weight: member.weight_total,
        done_weight: member.weight_done,
        tasks_total: u64::from(member.spans_total),
        tasks_done: u64::from(member.spans_done),
        running: member
            .running
            .iter()
            .map(|task| running_view(ledger, task, seen))
            .collect(),
    }
}

fn running_view(ledger: &Ledger, task: &RunningTask, seen: Seen<'_>) -> v1::RunningTask {
    let epoch = ledger
        .task(task.task)
        .map(|view| view.epoch)
        .unwrap_or_default();
    let activity = seen
        .office
        .and_then(|office| office.sessions.activity(&task.worker, task.task, epoch));
    let idle_ms = activity
        .as_ref()
        .map_or_else(|| seen.now.since(task.moved_at).0, |said| said.idle_ms);
    v1::RunningTask {
        task: task.task.index,
        worker: task.worker.to_string(),
        epoch: epoch.0,
        relation: task.name.clone(),
        idle_ms,
        step: activity.as_ref().and_then(|said| said.step.clone()),
        doing: activity.map(|said| said.doing).unwrap_or_default(),
    }
}

/// Why the job does not go on, or not everywhere.
fn waiting_reasons(
    ledger: &Ledger,
    job: &Job,
    progress: &JobProgress,
    seen: Seen<'_>,
) -> Vec<String> {
    let mut reasons = Vec::new();
    if job.state().is_terminal() {
        return reasons;
    }
    if let Some(office) = seen.office {
        reasons.extend(office.notes.troubles(job.id()));
    }
    reasons.extend(ledger.starved_members(job.id()).iter().map(starved_text));
    if job.state().may_dispatch() {
        reasons.extend(failing_members(ledger, job));
    }
    let running: usize = progress
        .members
        .iter()
        .map(|member| member.running.len())
        .sum();
    let ready = progress.members.iter().any(|member| member.ready > 0);
    if reasons.is_empty() && ready && running == 0 && job.state().may_dispatch() {
        reasons.push("waiting for a worker with a free slot".to_owned());
    }
    if matches!(
        job.state(),
        JobState::PauseRequested | JobState::CancelRequested
    ) {
        reasons.extend(progress.members.iter().flat_map(|member| {
            member.running.iter().map(|task| {
                format!(
                    "waiting for worker {} to let go of {}",
                    task.worker, task.name
                )
            })
        }));
    }
    let lingering = job.lingering().map(|(task, _, lease)| {
        format!(
            "waiting for worker {} to let go of {}",
            lease.worker,
            job.task_name(task)
        )
    });
    reasons.extend(lingering);
    if job.state() == JobState::Running && job.phase() != Phase::Finishing {
        let stuck = progress
            .members
            .iter()
            .flat_map(|member| &member.running)
            .filter(|task| seen.now.since(task.moved_at) > STUCK)
            .map(|task| {
                format!(
                    "{} has not moved since {} on worker {}",
                    task.name, task.moved_at, task.worker
                )
            });
        reasons.extend(stuck);
    }
    reasons
}

/// A task that fails and has made no progress since.
struct Failing<'a> {
    member: Option<u32>,
    since: Timestamp,
    failures: u32,
    last: &'a JobError,
}

/// Members whose tasks keep failing without progress: since when, and with what.
fn failing_members(ledger: &Ledger, job: &Job) -> Vec<String> {
    let mut tasks: BTreeMap<TaskId, Failing<'_>> = BTreeMap::new();
    for error in job.errors() {
        let Some(task) = error.task.and_then(|task| ledger.task(task)) else {
            continue;
        };
        // Failures before the last progress are over. Full disks pause a job, which says so.
        if task.attempts == 0 || error.at < task.moved_at {
            continue;
        }
        let failing = tasks.entry(task.id).or_insert(Failing {
            member: task.member,
            since: error.at,
            failures: 0,
            last: error,
        });
        failing.failures += 1;
        failing.last = error;
    }
    let mut members: BTreeMap<Option<u32>, (Timestamp, &JobError)> = BTreeMap::new();
    for (task, failing) in tasks {
        let since = match ledger.task(task) {
            // A job keeps its newest errors only: the first ones of a long time are gone.
            Some(task) if failing.failures < task.attempts => task.moved_at,
            _ => failing.since,
        };
        let last = failing.last;
        let member = members.entry(failing.member).or_insert((since, last));
        member.0 = member.0.min(since);
        if last.at > member.1.at {
            member.1 = last;
        }
    }
    let records = job.spec().members();
    members
        .into_iter()
        .map(|(member, (since, error))| {
            let record = member.and_then(|index| records.get(index as usize));
            failing_text(record.map(|record| &record.name), since, &error.fault)
        })
        .collect()
}

fn failing_text(member: Option<&MemberName>, since: Timestamp, fault: &Fault) -> String {
    match member {
        // As the source says of a member that does not answer.
        Some(name) if fault.message.contains("cannot be reached") => {
            format!("member {name} cannot be reached since {since}: {fault}")
        }
        Some(name) => format!("member {name} fails since {since}: {fault}"),
        None => format!("fails since {since}: {fault}"),
    }
}

fn starved_text(starved: &Starved) -> String {
    let (place, execution) = &starved.needs;
    let needs: Vec<String> = [place, execution]
        .into_iter()
        .filter(|locality| !locality.is_empty())
        .map(Locality::to_string)
        .collect();
    let place = if needs.is_empty() {
        String::new()
    } else {
        format!(" in locality {}", needs.join(" and "))
    };
    let member = starved
        .member
        .as_ref()
        .map(|member| format!(" for member {member}"))
        .unwrap_or_default();
    format!("no live worker{place}{member}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starvation_names_the_place_and_the_member() {
        let at = |text: &str| text.parse::<Locality>().expect("a legal locality");
        let starved = |place: &str, execution: &str, member: Option<&str>| {
            starved_text(&Starved {
                member: member.map(|name| name.parse().expect("a legal name")),
                needs: (at(place), at(execution)),
            })
        };
        assert_eq!(
            starved("region=eu", "", Some("m2")),
            "no live worker in locality region=eu for member m2"
        );
        assert_eq!(
            starved("region=eu", "zone=a", Some("m2")),
            "no live worker in locality region=eu and zone=a for member m2"
        );
        assert_eq!(starved("", "", None), "no live worker");
    }

    #[test]
    fn the_eta_is_said_only_when_it_is_known() {
        let rate = |weight| Rate { bytes: 1.0, weight };
        assert!((eta(100, 40, rate(20.0)) - 3.0).abs() < 1e-9);
        assert!(eta(100, 40, rate(0.0)) < 0.0);
        assert!(eta(0, 0, rate(20.0)) < 0.0);
    }
}
