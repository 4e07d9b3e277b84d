//! Statements without a wire in between: what the `holdfast sql` command runs.

use std::sync::Arc;

use holdfast_client::ControlApi;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::SqlError;
use crate::exec::{Answer, Executor, Session, Transaction, local};
use crate::rows::Value;
use crate::syntax::ast::Statement;
use crate::syntax::parse;
use crate::times::{show_interval, show_time};

/// Notices that wait to be told.
const NOTICES: usize = 16;

/// What statements tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqlEvent {
    /// Something beside a result.
    Notice {
        /// What.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The rows of a statement; `None` is NULL.
    Rows {
        /// The columns' names.
        columns: Vec<String>,
        /// The rows, as texts.
        rows: Vec<Vec<Option<String>>>,
    },
    /// A statement without rows is done.
    Done {
        /// Its command tag: `PAUSE JOBS 1`.
        tag: String,
    },
}

/// A session without a wire.
#[derive(Debug)]
pub struct SqlConsole {
    executor: Executor,
    session: Session,
}

impl SqlConsole {
    /// A session whose default source is `source`; with an empty one statements must name theirs, unless there is only one.
    pub fn new(api: Arc<dyn ControlApi>, env: Env, source: &str) -> Self {
        Self {
            executor: Executor::new(api, env),
            session: Session::new("holdfast", source),
        }
    }

    /// Performs all statements of a text, up to the first that fails. A wait that is cancelled leaves its job alone.
    ///
    /// # Errors
    /// A statement cannot be read or done.
    pub async fn run(
        &mut self,
        sql: &str,
        cancelled: &CancellationToken,
        mut tell: impl FnMut(SqlEvent),
    ) -> Result<(), Fault> {
        for statement in parse(sql).map_err(fault)? {
            let answer = self.perform(&statement, cancelled, &mut tell).await;
            match answer {
                Ok(Answer::Done(tag)) => tell(SqlEvent::Done { tag }),
                Ok(Answer::Rows { rows, .. }) => tell(SqlEvent::Rows {
                    columns: rows.columns.into_iter().map(|column| column.name).collect(),
                    rows: (rows.rows.into_iter())
                        .map(|row| row.into_iter().map(shown).collect())
                        .collect(),
                }),
                Err(error) => {
                    if self.session.transaction == Transaction::Open {
                        self.session.transaction = Transaction::Failed;
                    }
                    return Err(fault(error));
                }
            }
        }
        Ok(())
    }

    async fn perform(
        &mut self,
        statement: &Statement,
        cancelled: &CancellationToken,
        tell: &mut impl FnMut(SqlEvent),
    ) -> Result<Answer, SqlError> {
        if let Some(local) = local::perform(&mut self.session, statement)? {
            return Ok(local.answer);
        }
        let (sender, mut notices) = mpsc::channel(NOTICES);
        let running = self
            .executor
            .run(&self.session, statement, &[], &sender, cancelled);
        let mut running = std::pin::pin!(running);
        let mut tell = |notice: crate::exec::Notice| {
            tell(SqlEvent::Notice {
                message: notice.message,
                hint: notice.hint,
            });
        };
        let answer = loop {
            tokio::select! {
                biased;
                Some(notice) = notices.recv() => tell(notice),
                answer = &mut running => break answer,
            }
        };
        while let Ok(notice) = notices.try_recv() {
            tell(notice);
        }
        answer
    }
}

fn shown(value: Value) -> Option<String> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(value) => value.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Text(text) | Value::Json(text) => text,
        Value::Time(time) => show_time(time),
        Value::Interval(micros) => show_interval(micros),
        Value::TextArray(texts) => texts.join(", "),
    })
}

/// The error as all other commands show theirs.
fn fault(error: SqlError) -> Fault {
    use crate::error::state as sql;
    let code = match error.state {
        sql::UNDEFINED_OBJECT | sql::UNDEFINED_FILE | sql::UNDEFINED_TABLE => ErrorCode::NotFound,
        sql::DUPLICATE_OBJECT => ErrorCode::AlreadyExists,
        sql::NOT_IN_PREREQUISITE_STATE | sql::ACTIVE_TRANSACTION | sql::IN_FAILED_TRANSACTION => {
            ErrorCode::FailedPrecondition
        }
        sql::CANNOT_CONNECT_NOW => ErrorCode::NoLeader,
        sql::UNKNOWN_OUTCOME => ErrorCode::Unknown,
        sql::SYSTEM_ERROR => ErrorCode::Unavailable,
        sql::INSUFFICIENT_RESOURCES => ErrorCode::ResourceExhausted,
        sql::DISK_FULL => ErrorCode::StorageFull,
        sql::DATA_CORRUPTED => ErrorCode::Corrupted,
        sql::QUERY_CANCELED => ErrorCode::Cancelled,
        sql::FEATURE_NOT_SUPPORTED => ErrorCode::Unsupported,
        sql::INTERNAL_ERROR => ErrorCode::Internal,
        _ => ErrorCode::InvalidArgument,
    };
    let mut message = error.message;
    if let Some(position) = error.position {
        message.push_str(&format!(" (character {position})"));
    }
    if let Some(detail) = error.detail {
        message.push_str(&format!(": {detail}"));
    }
    let fault = Fault::new(code, message);
    match error.hint {
        Some(hint) => fault.hint(hint),
        None => fault,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::fake::FakeCluster;

    #[tokio::test]
    async fn statements_are_performed_and_told_of_one_after_the_other() {
        let cluster = Arc::new(FakeCluster::new());
        let mut console = SqlConsole::new(cluster, Env::system(), "bank");
        let cancelled = CancellationToken::new();
        let mut events = Vec::new();
        let sql =
            "SET application_name = 'x'; SELECT source_name, NULL FROM [SHOW SOURCES]; SHOW JBOS";
        let fault = console
            .run(sql, &cancelled, |event| events.push(event))
            .await;
        // The text is read as a whole before anything is done.
        assert!(events.is_empty());
        let fault = fault.expect_err("a typing error");
        assert_eq!(fault.code, ErrorCode::InvalidArgument);
        assert!(fault.message.contains("(character 80)"), "{fault}");

        let sql = "SET application_name = 'x'; SELECT source_name, NULL AS n FROM [SHOW SOURCES]; PAUSE JOB 9";
        let fault = console
            .run(sql, &cancelled, |event| events.push(event))
            .await;
        assert_eq!(fault.expect_err("no such job").code, ErrorCode::NotFound);
        let name = |name: &str| vec![Some(name.to_owned()), None];
        assert_eq!(
            events,
            [
                SqlEvent::Done {
                    tag: "SET".to_owned()
                },
                SqlEvent::Rows {
                    columns: vec!["source_name".to_owned(), "n".to_owned()],
                    rows: vec![name("bank"), name("shop")],
                },
            ]
        );
    }
}
