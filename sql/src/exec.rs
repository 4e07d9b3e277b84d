//! What statements do: calls of `ControlApi`, and rows of what it answers.

mod arguments;
mod backups;
mod columns;
mod connections;
mod expire;
mod explain;
mod jobs;
pub(crate) mod local;
mod objects;
mod queries;
mod schedules;
mod session;
mod submit;
mod targets;
mod unsupported;
mod users;
mod wait;

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use holdfast_client::ControlApi;
use holdfast_env::Env;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{SqlError, state};
use crate::query::Known;
use crate::rows::{Column, Rows, Value};
use crate::syntax::ast::Statement;
pub(crate) use session::{Session, Transaction};

/// What a statement gives.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// Rows, and the first words of the command tag; the count follows.
    Rows { tag: &'static str, rows: Rows },
    /// No rows; the whole command tag.
    Done(String),
}

/// Something to tell the user beside a statement's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// Performs statements.
#[derive(Debug, Clone)]
pub(crate) struct Executor {
    api: Arc<dyn ControlApi>,
    env: Env,
}

/// One statement being performed.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    executor: &'a Executor,
    session: &'a Session,
    /// The values of its placeholders.
    parameters: &'a [Value],
    notices: &'a mpsc::Sender<Notice>,
    /// The user does not want to wait any longer.
    cancelled: &'a CancellationToken,
    /// Whether it is a part of another statement, beside whose rows nothing is told.
    is_part: bool,
}

impl Executor {
    pub(crate) fn new(api: Arc<dyn ControlApi>, env: Env) -> Self {
        Self { api, env }
    }

    /// The columns that a statement gives; `None` if it gives no rows.
    ///
    /// # Errors
    /// It names what there is not.
    pub(crate) fn columns(
        &self,
        session: &Session,
        statement: &Statement,
    ) -> Result<Option<Vec<Column>>, SqlError> {
        columns::columns_of(session, statement)
    }

    /// Performs a statement that changes more than the session.
    ///
    /// # Errors
    /// It cannot be done, or the user waits no more.
    pub(crate) async fn run(
        &self,
        session: &Session,
        statement: &Statement,
        parameters: &[Value],
        notices: &mpsc::Sender<Notice>,
        cancelled: &CancellationToken,
    ) -> Result<Answer, SqlError> {
        let run = Run {
            executor: self,
            session,
            parameters,
            notices,
            cancelled,
            is_part: false,
        };
        match statement {
            // A job that is being submitted is not let go: afterwards it would not be known whether there is one.
            Statement::Backup(_)
            | Statement::Restore(_)
            | Statement::Verify(_)
            | Statement::Expire(_) => run.statement(statement).await,
            _ => tokio::select! {
                biased;
                answer = run.statement(statement) => answer,
                () = cancelled.cancelled() => Err(canceled()),
            },
        }
    }
}

/// What a cancelled statement ends with.
pub(crate) fn canceled() -> SqlError {
    SqlError::new(
        state::QUERY_CANCELED,
        "canceling statement due to user request",
    )
}

impl Run<'_> {
    fn api(&self) -> &dyn ControlApi {
        self.executor.api.as_ref()
    }

    fn known(&self) -> Known<'_> {
        self.session
            .known(self.executor.env.clock.now(), self.parameters)
    }

    async fn notice(&self, message: impl Into<String>, hint: Option<&str>) {
        if self.is_part {
            return;
        }
        let notice = Notice {
            message: message.into(),
            hint: hint.map(str::to_owned),
        };
        // Nobody is there to be told when the receiver is gone.
        let _ = self.notices.send(notice).await;
    }

    async fn statement(&self, statement: &Statement) -> Result<Answer, SqlError> {
        if let Some(error) = unsupported::refusal(statement) {
            return Err(error);
        }
        match statement {
            Statement::Backup(backup) => self.backup(backup).await,
            Statement::Restore(restore) => self.restore(restore).await,
            Statement::Verify(verify) => self.verify(verify).await,
            Statement::Expire(expire) => self.expire(expire).await,
            Statement::CreateConnection(create) => self.create_connection(create).await,
            Statement::AlterConnection(alter) => self.alter_connection(alter).await,
            Statement::DropConnection(name) => self.drop_connection(name).await,
            Statement::CreateSchedule(create) => self.create_schedule(create).await,
            Statement::AlterSchedule(alter) => self.alter_schedule(alter).await,
            Statement::ControlSchedules { verb, schedules } => {
                self.control_schedules(*verb, schedules).await
            }
            Statement::AlterBackup(alter) => self.alter_backup(alter).await,
            Statement::ControlJobs(control) => self.control_jobs(control).await,
            Statement::CreateSource(create) => self.create_source(create).await,
            Statement::AlterSource(alter) => self.alter_source(alter).await,
            Statement::DropSource { name, if_exists } => self.drop_source(name, *if_exists).await,
            Statement::CreateUser(user) => self.create_user(user).await,
            Statement::AlterUser(user) => self.alter_user(user).await,
            Statement::DropUser { name, if_exists } => self.drop_user(name, *if_exists).await,
            Statement::DropHold(hold) => self.drop_hold(hold).await,
            Statement::SetClusterSetting { name, value } => {
                self.set_cluster_setting(name, value).await
            }
            Statement::Query(query) => {
                let rows = Box::pin(self.query(query)).await?;
                Ok(Answer::Rows {
                    tag: "SELECT",
                    rows,
                })
            }
            Statement::Explain(inner) => self.explain(inner).await,
            other => Ok(Answer::Rows {
                tag: columns::tag_of(other),
                rows: self.show(other).await?,
            }),
        }
    }

    /// The rows of a statement that only looks.
    async fn show(&self, statement: &Statement) -> Result<Rows, SqlError> {
        if let Some(error) = unsupported::refusal(statement) {
            return Err(error);
        }
        let columns = columns::columns_of(self.session, statement)?.unwrap_or_default();
        let rows = Rows::new(columns);
        match statement {
            Statement::ShowJobs(show) => self.show_jobs(show, rows).await,
            Statement::ShowBackups(show) => self.show_backups(show, rows).await,
            Statement::ShowBackup(show) => self.show_backup(show, rows).await,
            Statement::ShowConnections(name) => self.show_connections(name.as_ref(), rows).await,
            Statement::ShowCreateConnections(name) => {
                self.show_create_connections(name.as_ref(), rows).await
            }
            Statement::CheckConnection { name, options } => {
                self.check_connection(name, options, rows).await
            }
            Statement::ShowSchedules(show) => self.show_schedules(show, rows).await,
            Statement::ShowSchedule(id) => self.show_schedule(id, rows).await,
            Statement::ShowCreateSchedules(id) => {
                self.show_create_schedules(id.as_ref(), rows).await
            }
            Statement::ShowSources(name) => self.show_sources(name.as_deref(), rows).await,
            Statement::ShowCreateSource(name) => self.show_create_source(name, rows).await,
            Statement::CheckSource { name, members } => {
                self.check_source(name, members, rows).await
            }
            Statement::ShowUsers => self.show_users(rows).await,
            Statement::ShowHolds => self.show_holds(rows).await,
            Statement::ShowWorkers => self.show_workers(rows).await,
            Statement::ShowCluster => self.show_cluster(rows).await,
            Statement::ShowCoordinators => self.show_coordinators(rows).await,
            Statement::ShowClusterSettings(name) => {
                self.show_cluster_settings(name.as_deref(), rows).await
            }
            _ => Err(SqlError::new(
                state::INTERNAL_ERROR,
                "this statement is performed by nobody",
            )),
        }
    }
}
