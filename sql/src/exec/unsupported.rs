//! Statements that are read and that the cluster cannot do yet. They say so; none is silently done by half.

use crate::error::SqlError;
use crate::syntax::ast::Statement;

/// Why a statement is not performed, if it is not.
pub(super) fn refusal(statement: &Statement) -> Option<SqlError> {
    let what = match statement {
        Statement::AlterJobOwner { .. } => "ALTER JOB … OWNER TO: jobs have no owners",
        Statement::ShowJobs(show) if show.options.has("execution details") => {
            "option execution details"
        }
        Statement::ShowJobs(show) if show.options.has("resolved timestamp") => {
            "option resolved timestamp"
        }
        _ => return None,
    };
    Some(SqlError::unsupported(what))
}
