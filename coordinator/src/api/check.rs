//! Looking at a source's members: each is asked for by a worker near it, through the leader, who alone has the workers' streams.

use futures::StreamExt;
use futures::stream;
use holdfast_proto::{CheckWhat, fault_to_wire, v1};
use holdfast_types::{ErrorCode, Fault, JobSpec, MemberName, MemberRecord, SourceKind, SourceName};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::asking::ask_member;
use crate::core::Core;
use crate::location::for_worker;
use crate::office::Office;
use crate::submit::restore_spec;

/// Members that are looked at at once: no more than one worker takes on.
const AT_ONCE: usize = 8;
/// For all members of a request. Longer than a worker takes for one, shorter than a client waits.
const ALL_TIMEOUT: Duration = Duration::from_secs(50);
/// For the leader's answer to a request that is passed on to it.
pub(super) const PASSED_TIMEOUT: Duration = Duration::from_secs(55);
/// Bytes of reports in one answer: a message holds them, and what is around them.
const REPORT_BYTES: usize = 12 << 20;

/// Has the members looked at. Only in office.
pub(super) async fn check_source(
    core: &Core,
    request: &v1::CheckSourceRequest,
) -> Result<v1::CheckSourceResponse, Fault> {
    let Some(present) = core.desk.present() else {
        return Err(no_leader());
    };
    let office = &present.office;
    core.replica.linearizable().await?;
    let (kind, members) = find(core, request)?;
    let questions = members
        .into_iter()
        .map(|member| (member, CheckWhat::Backup))
        .collect();
    let members = look_at_all(core, office, kind, questions).await?;
    Ok(v1::CheckSourceResponse { members })
}

/// Has the members that a restore would write looked at. Only in office.
pub(super) async fn check_restore(
    core: &Core,
    request: v1::SubmitRestoreRequest,
) -> Result<v1::CheckRestoreResponse, Fault> {
    let Some(present) = core.desk.present() else {
        return Err(no_leader());
    };
    let spec = restore_spec(core, request).await?;
    if !spec.kind.is_logged() {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "a restore onto a source of kind {} has no dry run: a table of it is nothing but its rows",
                spec.kind
            ),
        )
        .hint("verify the backup with `holdfast verify`; a restore that fails leaves nothing behind"));
    }
    // Workers know no connections.
    let key = &core.config.cluster_key;
    let told =
        (core.replica).read(|ledger| for_worker(ledger, key, &JobSpec::Restore(spec.clone())))?;
    let JobSpec::Restore(told) = told else {
        return Err(Fault::new(ErrorCode::Internal, "a restore is no restore"));
    };
    let questions = (spec.members.iter().zip(0..))
        .map(|(member, index)| {
            let what = CheckWhat::Restore(Box::new(told.clone()), index);
            (member.member.clone(), what)
        })
        .collect();
    let members = look_at_all(core, &present.office, spec.kind, questions).await?;
    Ok(v1::CheckRestoreResponse {
        description: JobSpec::Restore(spec).describe(),
        members,
    })
}

/// Asks all members at once, as far as that goes: an answer for each, in their order.
async fn look_at_all(
    core: &Core,
    office: &Office,
    kind: SourceKind,
    questions: Vec<(MemberRecord, CheckWhat)>,
) -> Result<Vec<v1::CheckedMember>, Fault> {
    let members: Vec<MemberRecord> = questions.iter().map(|(member, _)| member.clone()).collect();
    let asking = questions.into_iter();
    let asking = asking.map(|(member, what)| look(core, office, kind, member, what));
    let mut asking = stream::iter(asking).buffer_unordered(AT_ONCE);
    let mut found: BTreeMap<MemberName, v1::CheckedMember> = BTreeMap::new();
    let late = tokio::time::sleep(ALL_TIMEOUT);
    tokio::pin!(late);
    loop {
        tokio::select! {
            biased;
            () = office.over.cancelled() => return Err(no_leader()),
            next = asking.next() => match next {
                Some((name, checked)) => {
                    found.insert(name, checked);
                }
                None => break,
            },
            () = &mut late => break,
        }
    }
    drop(asking);
    let mut room = REPORT_BYTES;
    let checked = members.iter().map(|member| {
        let found = found.remove(&member.name);
        shortened(found.unwrap_or_else(|| unasked(member)), &mut room)
    });
    Ok(checked.collect())
}

fn no_leader() -> Fault {
    Fault::new(
        ErrorCode::NoLeader,
        "members are looked at through the leader, and there is none that can be reached",
    )
    .hint("try again in a moment, or see `holdfast status`")
}

fn find(
    core: &Core,
    request: &v1::CheckSourceRequest,
) -> Result<(SourceKind, Vec<MemberRecord>), Fault> {
    let name: SourceName = request.name.parse()?;
    let mut wanted = BTreeSet::new();
    for member in &request.members {
        wanted.insert(member.parse::<MemberName>()?);
    }
    let found = core.replica.read(|ledger| {
        let source = ledger.source(&name)?;
        Some((source.kind, source.members.clone()))
    });
    let (kind, mut members) = found.ok_or_else(|| {
        Fault::new(ErrorCode::NotFound, format!("there is no source {name}"))
            .hint("list the sources with `holdfast source list`")
    })?;
    if !wanted.is_empty() {
        members.retain(|member| wanted.remove(&member.name));
    }
    match wanted.first() {
        None => Ok((kind, members)),
        Some(missing) => Err(Fault::new(
            ErrorCode::NotFound,
            format!("source {name} has no member {missing}"),
        )
        .hint("list the sources with `holdfast source list`")),
    }
}

async fn look(
    core: &Core,
    office: &Office,
    kind: SourceKind,
    member: MemberRecord,
    what: CheckWhat,
) -> (MemberName, v1::CheckedMember) {
    let (worker, outcome) = ask_member(core, office, kind, &member, what).await;
    let outcome = outcome.and_then(|report| {
        String::from_utf8(report.report.into()).map_err(|_| {
            Fault::new(
                ErrorCode::Internal,
                format!("what worker {worker} says of it cannot be read"),
            )
        })
    });
    let checked = view(&member, worker, outcome);
    (member.name, checked)
}

fn view(
    member: &MemberRecord,
    worker: String,
    outcome: Result<String, Fault>,
) -> v1::CheckedMember {
    let (report, fault) = match outcome {
        Ok(report) => (report, None),
        Err(fault) => (String::new(), Some(fault_to_wire(&fault))),
    };
    v1::CheckedMember {
        name: member.name.to_string(),
        locality: member.locality.to_string(),
        worker,
        fault,
        report,
    }
}

/// One whose turn did not come, or whose worker did not answer in time.
fn unasked(member: &MemberRecord) -> v1::CheckedMember {
    let fault = Fault::new(
        ErrorCode::DeadlineExceeded,
        format!(
            "there was no word of member {} within {} s",
            member.name,
            ALL_TIMEOUT.as_secs()
        ),
    )
    .hint("ask for single members by name");
    view(member, String::new(), Err(fault))
}

/// The same, but without its report if that does not fit into the message any more.
fn shortened(checked: v1::CheckedMember, room: &mut usize) -> v1::CheckedMember {
    match room.checked_sub(checked.report.len()) {
        Some(rest) => {
            *room = rest;
            checked
        }
        None => v1::CheckedMember {
            fault: Some(fault_to_wire(
                &Fault::new(
                    ErrorCode::ResourceExhausted,
                    "the reports of all members are too long for one answer",
                )
                .hint("ask for single members by name"),
            )),
            report: String::new(),
            ..checked
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_has_room_for_so_many_reports() {
        let checked = |bytes: usize| v1::CheckedMember {
            name: "m".to_owned(),
            report: "x".repeat(bytes),
            ..v1::CheckedMember::default()
        };
        let mut room = 10;
        assert_eq!(shortened(checked(8), &mut room), checked(8));
        let refused = shortened(checked(3), &mut room);
        assert!(refused.report.is_empty() && refused.fault.is_some());
        assert_eq!(shortened(checked(2), &mut room), checked(2));
    }
}
