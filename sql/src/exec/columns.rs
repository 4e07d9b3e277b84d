//! The columns of what statements give: the model system's names and types where it has them.

use super::session::Session;
use crate::error::SqlError;
use crate::query::columns_of_select;
use crate::rows::ColumnType::{Bool, Float, Int, Json, Text, TextArray, Time};
use crate::rows::{Column, ColumnType, columns};
use crate::syntax::ast::{BackupDetail, ShowBackup, ShowJobs, Statement};
use crate::syntax::expression::{Query, RowSource, Select};

/// The columns that a statement gives; `None` if it gives no rows.
pub(super) fn columns_of(
    session: &Session,
    statement: &Statement,
) -> Result<Option<Vec<Column>>, SqlError> {
    let fixed = |list: &[(&str, ColumnType)]| Ok(Some(columns(list)));
    match statement {
        Statement::Backup(backup) => Ok(Some(columns_of_job(backup.options.has("detached")))),
        Statement::Restore(restore) => Ok(Some(columns_of_job(restore.options.has("detached")))),
        Statement::Verify(verify) => Ok(Some(columns_of_job(verify.options.has("detached")))),
        Statement::Expire(_) => fixed(&[
            ("path", Text),
            ("end_time", Time),
            ("layers", Int),
            ("expires", Bool),
            ("reason", Text),
            ("objects", Int),
            ("bytes", Int),
            ("job_id", Int),
        ]),
        Statement::ShowJobs(show) => Ok(Some(columns_of_jobs(show))),
        Statement::ShowBackups(_) => fixed(&[("path", Text)]),
        Statement::ShowBackup(show) => Ok(Some(columns_of_backup(show))),
        Statement::CreateSchedule(_) | Statement::AlterSchedule(_) => {
            Ok(Some(columns_of_made_schedules()))
        }
        Statement::ShowSchedules(show) => Ok(Some(columns_of_schedules(show.is_for_backup))),
        Statement::ShowSchedule(_) => Ok(Some(columns_of_schedules(false))),
        Statement::ShowCreateSchedules(_) => {
            fixed(&[("schedule_id", Int), ("create_statement", Text)])
        }
        Statement::ShowConnections(_) => fixed(&[
            ("connection_name", Text),
            ("connection_uri", Text),
            ("connection_type", Text),
        ]),
        Statement::ShowCreateConnections(_) => {
            fixed(&[("connection_name", Text), ("create_statement", Text)])
        }
        Statement::CheckConnection { .. } => fixed(&[
            ("node", Text),
            ("locality", Text),
            ("ok", Bool),
            ("error", Text),
            ("transferred", Text),
            ("read_speed", Text),
            ("write_speed", Text),
            ("can_delete", Bool),
            // Workers of a directory on several machines may see different ones.
            ("unseen", TextArray),
        ]),
        Statement::ShowUsers => fixed(&[
            ("username", Text),
            ("created", Time),
            ("password_changed", Time),
        ]),
        Statement::ShowSources(None) => fixed(&[
            ("source_name", Text),
            ("kind", Text),
            ("members", TextArray),
            ("created", Time),
        ]),
        Statement::ShowSources(Some(_)) => fixed(&[
            ("source_name", Text),
            ("kind", Text),
            ("member", Text),
            ("locality", Text),
            ("address", Text),
            ("has_password", Bool),
            ("streams", Int),
            ("bytes_per_second", Int),
            ("wal_budget", Int),
        ]),
        Statement::ShowCreateSource(_) => {
            fixed(&[("source_name", Text), ("create_statement", Text)])
        }
        Statement::CheckSource { .. } => fixed(&[
            ("member", Text),
            ("locality", Text),
            ("worker", Text),
            ("object", Text),
            ("level", Text),
            ("finding", Text),
            ("remedy", Text),
            ("error", Text),
        ]),
        Statement::ShowHolds => fixed(&[
            ("hold_id", Int),
            ("job_id", Int),
            ("source_name", Text),
            ("position", Text),
            ("age_seconds", Float),
            ("state", Text),
            ("collection", Text),
            ("chain", Text),
        ]),
        Statement::ShowWorkers => fixed(&[
            ("worker_id", Text),
            ("locality", Text),
            ("slots", Int),
            ("leases", Int),
            ("version", Text),
            ("connected", Bool),
        ]),
        Statement::ShowCluster => fixed(&[
            ("cluster_id", Text),
            ("version", Text),
            ("node_id", Int),
            ("leader_id", Int),
            ("leader_address", Text),
            ("coordinators", Int),
            ("workers", Int),
            ("jobs_running", Int),
            ("jobs_paused", Int),
            ("storage_full", Bool),
        ]),
        Statement::ShowCoordinators => fixed(&[
            ("node_id", Int),
            ("address", Text),
            ("is_leader", Bool),
            ("is_voter", Bool),
            ("matched_index", Int),
        ]),
        Statement::ShowClusterSettings(None) => fixed(&[("variable", Text), ("value", Int)]),
        Statement::ShowClusterSettings(Some(name)) => {
            Ok(Some(vec![Column::new(name.as_str(), Int)]))
        }
        Statement::ShowVariable(name) => Ok(Some(vec![Column::new(name.as_str(), Text)])),
        Statement::Query(query) => columns_of_query(session, query, &[]).map(Some),
        Statement::Explain(_) => fixed(&[("info", Text)]),
        Statement::AlterBackup(_)
        | Statement::ControlJobs(_)
        | Statement::AlterJobOwner { .. }
        | Statement::ControlSchedules { .. }
        | Statement::CreateConnection(_)
        | Statement::AlterConnection(_)
        | Statement::DropConnection(_)
        | Statement::CreateSource(_)
        | Statement::AlterSource(_)
        | Statement::DropSource { .. }
        | Statement::DropHold(_)
        | Statement::SetClusterSetting { .. }
        | Statement::CreateUser(_)
        | Statement::AlterUser(_)
        | Statement::DropUser { .. }
        | Statement::Set { .. }
        | Statement::Reset(_)
        | Statement::Begin
        | Statement::Commit
        | Statement::Rollback
        | Statement::Discard
        | Statement::Deallocate(_) => Ok(None),
    }
}

/// The first words of the command tag of a statement that shows something.
pub(super) fn tag_of(statement: &Statement) -> &'static str {
    match statement {
        Statement::CheckSource { .. } | Statement::CheckConnection { .. } => "CHECK",
        _ => "SHOW",
    }
}

/// Of BACKUP, RESTORE and VERIFY.
pub(super) fn columns_of_job(is_detached: bool) -> Vec<Column> {
    match is_detached {
        true => columns(&[("job_id", Int)]),
        false => columns(&[
            ("job_id", Int),
            ("status", Text),
            ("fraction_completed", Float),
            ("rows", Int),
        ]),
    }
}

/// Of CREATE SCHEDULE and ALTER BACKUP SCHEDULE.
pub(super) fn columns_of_made_schedules() -> Vec<Column> {
    columns(&[
        ("schedule_id", Int),
        ("label", Text),
        ("status", Text),
        ("first_run", Time),
        ("schedule", Text),
        ("backup_stmt", Text),
    ])
}

fn columns_of_schedules(is_for_backup: bool) -> Vec<Column> {
    let mut list = vec![
        ("id", Int),
        ("label", Text),
        ("schedule_status", Text),
        ("next_run", Time),
        ("state", Text),
        ("recurrence", Text),
        ("jobsrunning", Int),
        ("owner", Text),
        ("created", Time),
        ("on_previous_running", Text),
        ("on_execution_failure", Text),
    ];
    match is_for_backup {
        true => list.extend([("command", Text), ("backup_type", Text)]),
        false => list.push(("command", Json)),
    }
    columns(&list)
}

fn columns_of_jobs(_show: &ShowJobs) -> Vec<Column> {
    columns(&[
        ("job_id", Int),
        ("job_type", Text),
        ("description", Text),
        ("statement", Text),
        ("user_name", Text),
        ("status", Text),
        ("running_status", Text),
        ("created", Time),
        ("started", Time),
        ("finished", Time),
        ("modified", Time),
        ("fraction_completed", Float),
        ("error", Text),
        ("coordinator_id", Int),
        ("trace_id", Int),
        ("last_run", Time),
        ("next_run", Time),
        ("num_runs", Int),
        ("execution_errors", TextArray),
    ])
}

fn columns_of_backup(show: &ShowBackup) -> Vec<Column> {
    if show.options.has("as_json") {
        return columns(&[("manifest", Json)]);
    }
    if show.detail == BackupDetail::Validate {
        return columns(&[("validation", Text)]);
    }
    let mut list = vec![
        ("database_name", Text),
        ("parent_schema_name", Text),
        ("object_name", Text),
        ("object_type", Text),
        ("backup_type", Text),
        ("start_time", Time),
        ("end_time", Time),
        ("size_bytes", Int),
        ("rows", Int),
        ("is_full_cluster", Bool),
        ("regions", Text),
    ];
    if show.options.has("check_files") {
        list.push(("file_bytes", Int));
    }
    // What only a source with several members has.
    list.push(("member", Text));
    columns(&list)
}

/// The columns of a query; `with` are the names that are known where it stands.
pub(super) fn columns_of_query(
    session: &Session,
    query: &Query,
    with: &[(String, Vec<Column>)],
) -> Result<Vec<Column>, SqlError> {
    match query {
        Query::Values(rows) => {
            let known = session.known(holdfast_types::Timestamp::default(), &[]);
            crate::query::columns_of_values(&known, rows)
        }
        Query::Select(select) => {
            let from = columns_of_from(session, select, with)?;
            columns_of_select(select, &from)
        }
    }
}

fn columns_of_from(
    session: &Session,
    select: &Select,
    with: &[(String, Vec<Column>)],
) -> Result<Vec<Column>, SqlError> {
    let mut with = with.to_vec();
    for (name, rows) in &select.with {
        let columns = columns_of_rows(session, rows, &with)?;
        // The innermost counts.
        with.insert(0, (name.clone(), columns));
    }
    match &select.from {
        Some(from) => columns_of_rows(session, &from.rows, &with),
        None => Ok(Vec::new()),
    }
}

fn columns_of_rows(
    session: &Session,
    rows: &RowSource,
    with: &[(String, Vec<Column>)],
) -> Result<Vec<Column>, SqlError> {
    match rows {
        RowSource::Statement(statement) => Ok(columns_of(session, statement)?.unwrap_or_default()),
        RowSource::Query(query) => columns_of_query(session, query, with),
        RowSource::Named(name) => match with.iter().find(|(known, _)| known == name) {
            Some((_, columns)) => Ok(columns.clone()),
            None => Err(super::queries::no_such_table(name)),
        },
    }
}
