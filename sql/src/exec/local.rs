//! Statements that are about the session alone.

use super::Answer;
use super::session::{Session, Transaction};
use crate::error::{SqlError, state};
use crate::rows::{Column, ColumnType, Rows, Value};
use crate::syntax::ast::Statement;

/// What a statement about the session gives.
#[derive(Debug, PartialEq)]
pub(crate) struct Local {
    pub(crate) answer: Answer,
    /// Variables that the client is told of.
    pub(crate) reported: Vec<(&'static str, String)>,
}

/// Performs what is about the session alone; `None` if the cluster has to be asked. Whether there are prepared statements, and which, is the server's
/// business.
///
/// # Errors
/// The session's transaction has failed, or a variable cannot be set.
pub(crate) fn perform(
    session: &mut Session,
    statement: &Statement,
) -> Result<Option<Local>, SqlError> {
    let ends = matches!(statement, Statement::Commit | Statement::Rollback);
    if session.transaction == Transaction::Failed && !ends {
        return Err(SqlError::new(
            state::IN_FAILED_TRANSACTION,
            "current transaction is aborted, commands ignored until end of transaction block",
        ));
    }
    let done = |tag: &str| {
        Ok(Some(Local {
            answer: Answer::Done(tag.to_owned()),
            reported: Vec::new(),
        }))
    };
    match statement {
        Statement::Begin => {
            session.transaction = Transaction::Open;
            done("BEGIN")
        }
        Statement::Commit => {
            let failed = session.transaction == Transaction::Failed;
            session.transaction = Transaction::Idle;
            done(if failed { "ROLLBACK" } else { "COMMIT" })
        }
        Statement::Rollback => {
            session.transaction = Transaction::Idle;
            done("ROLLBACK")
        }
        Statement::Set { variable, value } => Ok(Some(Local {
            reported: session.set(variable, value)?.into_iter().collect(),
            answer: Answer::Done("SET".to_owned()),
        })),
        Statement::Reset(variable) => Ok(Some(Local {
            reported: session.reset(variable)?,
            answer: Answer::Done("RESET".to_owned()),
        })),
        Statement::Discard if session.transaction != Transaction::Idle => Err(SqlError::new(
            state::ACTIVE_TRANSACTION,
            "DISCARD ALL cannot run inside a transaction block",
        )),
        Statement::Discard => Ok(Some(Local {
            reported: session.reset("all")?,
            answer: Answer::Done("DISCARD ALL".to_owned()),
        })),
        Statement::Deallocate(None) => done("DEALLOCATE ALL"),
        Statement::Deallocate(Some(_)) => done("DEALLOCATE"),
        Statement::ShowVariable(name) => {
            let value = session.show(name)?.to_owned();
            let mut rows = Rows::new(vec![Column::new(name.as_str(), ColumnType::Text)]);
            rows.push(vec![Value::Text(value)]);
            Ok(Some(Local {
                answer: Answer::Rows { tag: "SHOW", rows },
                reported: Vec::new(),
            }))
        }
        _ => Ok(None),
    }
}
