//! Statements that are read and that the cluster cannot do yet. They say so; none is silently done by half.

use crate::error::SqlError;
use crate::syntax::ast::{JobSet, Statement};

/// Why a statement is not performed, if it is not.
pub(super) fn refusal(statement: &Statement) -> Option<SqlError> {
    let what = match statement {
        Statement::AlterBackup(_) => "ALTER BACKUP: encryption keys",
        Statement::AlterJobOwner { .. } => "ALTER JOB … OWNER TO: jobs have no owners",
        Statement::CreateSchedule(_)
        | Statement::AlterSchedule(_)
        | Statement::ShowSchedules(_)
        | Statement::ShowSchedule(_)
        | Statement::ShowCreateSchedules(_)
        | Statement::ControlSchedules { .. } => "schedules",
        Statement::CreateConnection(_)
        | Statement::AlterConnection(_)
        | Statement::DropConnection(_)
        | Statement::ShowConnections(_)
        | Statement::ShowCreateConnections(_)
        | Statement::CheckConnection { .. } => "external connections",
        Statement::CreateUser(_)
        | Statement::AlterUser(_)
        | Statement::DropUser { .. }
        | Statement::ShowUsers => "users",
        Statement::ShowJobs(show) => match &show.jobs {
            Some(JobSet::ForSchedules(_)) => "schedules",
            _ if show.options.has("execution details") => "option execution details",
            _ if show.options.has("resolved timestamp") => "option resolved timestamp",
            _ => return None,
        },
        Statement::ControlJobs(control) => match control.jobs {
            JobSet::ForSchedules(_) => "schedules",
            _ => return None,
        },
        _ => return None,
    };
    Some(SqlError::unsupported(what))
}
