//! A session: statements in, results out, one after the other.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use pgwire::messages::data::{NoData, ParameterDescription};
use pgwire::messages::extendedquery::{
    Bind, BindComplete, Close, CloseComplete, Describe, Execute, Parse, ParseComplete,
    PortalSuspended, TARGET_TYPE_BYTE_PORTAL, TARGET_TYPE_BYTE_STATEMENT,
};
use pgwire::messages::response::TransactionStatus;
use pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::Shared;
use super::codec::WireError;
use super::encode::{Formats, description, row};
use super::registry::Place;
use super::startup::Started;
use super::statement::{Portal, Prepared, Progress, Sending};
use super::timeout::{after, statement_timeout};
use super::wire::{Lost, Sent, Severity, Wire};
use crate::error::{SqlError, state};
use crate::exec::{self, Answer, Transaction, local};
use crate::rows::{Column, Rows, Value};
use crate::syntax::ast::Statement;
use crate::syntax::parse;

/// Messages that are read ahead while a statement runs, to notice that the client has gone.
const READ_AHEAD: usize = 32;
/// Prepared statements, and portals, of a session.
const MAX_NAMED: usize = 1000;
/// Notices that wait to be sent.
const NOTICES: usize = 16;

/// Why something was not done.
enum Trouble {
    /// The client is told.
    Sql(SqlError),
    /// Nobody is there to be told.
    Lost,
}

impl From<SqlError> for Trouble {
    fn from(error: SqlError) -> Self {
        Self::Sql(error)
    }
}

impl From<Lost> for Trouble {
    fn from(_: Lost) -> Self {
        Self::Lost
    }
}

pub(super) struct Session {
    wire: Wire,
    shared: Arc<Shared>,
    session: exec::Session,
    place: Place,
    _permit: OwnedSemaphorePermit,
    /// Messages that were read while a statement ran.
    ahead: VecDeque<PgWireFrontendMessage>,
    prepared: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    /// After an error everything up to the next Sync is passed over.
    skips: bool,
}

impl Session {
    pub(super) fn new(wire: Wire, shared: Arc<Shared>, started: Started) -> Self {
        Self {
            wire,
            shared,
            session: started.session,
            place: started.place,
            _permit: started.permit,
            ahead: VecDeque::new(),
            prepared: HashMap::new(),
            portals: HashMap::new(),
            skips: false,
        }
    }

    /// Serves until the client or the server ends it.
    pub(super) async fn run(mut self) {
        while let Some(message) = self.next().await {
            if matches!(message, PgWireFrontendMessage::Terminate(_)) {
                return;
            }
            if self.message(message).await.is_err() {
                return;
            }
        }
    }

    async fn next(&mut self) -> Option<PgWireFrontendMessage> {
        if let Some(message) = self.ahead.pop_front() {
            return Some(message);
        }
        let next = tokio::select! {
            biased;
            () = self.shared.closing.cancelled() => {
                self.wire.fatal(shutting_down()).await;
                return None;
            }
            next = self.wire.next() => next?,
        };
        match next {
            Ok(message) => Some(message),
            Err(WireError::Io | WireError::Handshake) => None,
            Err(WireError::Broken(error)) => {
                self.wire.fatal(error).await;
                None
            }
        }
    }

    async fn message(&mut self, message: PgWireFrontendMessage) -> Sent {
        use PgWireFrontendMessage as Message;
        match message {
            Message::Sync(_) => {
                self.skips = false;
                self.portals.remove("");
                let status = self.status();
                return self.wire.ready(status).await;
            }
            Message::Query(query) => {
                self.skips = false;
                return self.simple_query(&query.query).await;
            }
            _ if self.skips => return Ok(()),
            _ => {}
        }
        let done = match message {
            Message::Parse(message) => self.parse(&message).await,
            Message::Bind(message) => self.bind(&message).await,
            Message::Describe(message) => self.describe(&message).await,
            Message::Execute(message) => self.execute(&message).await,
            Message::Close(message) => self.close(&message).await,
            Message::Flush(_) => self.wire.flush().await.map_err(Trouble::from),
            // What was meant for a COPY that has failed.
            Message::CopyData(_) | Message::CopyDone(_) | Message::CopyFail(_) => Ok(()),
            _ => {
                let error = SqlError::new(state::PROTOCOL_VIOLATION, "unexpected message");
                self.wire.fatal(error).await;
                return Err(Lost);
            }
        };
        match done {
            Ok(()) => Ok(()),
            Err(Trouble::Lost) => Err(Lost),
            Err(Trouble::Sql(error)) => {
                self.skips = true;
                self.failed(error).await
            }
        }
    }

    /// Tells of an error; a transaction block has failed by it.
    async fn failed(&mut self, error: SqlError) -> Sent {
        if self.session.transaction == Transaction::Open {
            self.session.transaction = Transaction::Failed;
        }
        self.wire.error(Severity::Error, error).await
    }

    fn status(&self) -> TransactionStatus {
        match self.session.transaction {
            Transaction::Idle => TransactionStatus::Idle,
            Transaction::Open => TransactionStatus::Transaction,
            Transaction::Failed => TransactionStatus::Error,
        }
    }

    /// All statements of a text, up to the first that fails.
    async fn simple_query(&mut self, sql: &str) -> Sent {
        self.portals.remove("");
        match self.statements(sql).await {
            Ok(()) => {}
            Err(Trouble::Lost) => return Err(Lost),
            Err(Trouble::Sql(error)) => self.failed(error).await?,
        }
        let status = self.status();
        self.wire.ready(status).await
    }

    async fn statements(&mut self, sql: &str) -> Result<(), Trouble> {
        let statements = parse(sql)?;
        if statements.is_empty() {
            return Ok(self.wire.empty().await?);
        }
        for statement in &statements {
            let answer = self.perform(statement, &[]).await?;
            match answer {
                Answer::Done(tag) => self.wire.complete(tag).await?,
                Answer::Rows { tag, rows } => {
                    let formats = Formats::default();
                    let description = description(&rows.columns, &formats);
                    self.wire
                        .feed(PgWireBackendMessage::RowDescription(description))
                        .await?;
                    let mut sending = sending(tag, rows);
                    self.send_rows(&mut sending, &formats, usize::MAX).await?;
                    self.wire
                        .complete(format!("{tag} {}", sending.sent))
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// Sends at most so many rows; whether there are more.
    async fn send_rows(
        &mut self,
        sending: &mut Sending,
        formats: &Formats,
        most: usize,
    ) -> Result<bool, Trouble> {
        sending.sent = 0;
        while sending.sent < most {
            let Some(values) = sending.rows.next() else {
                return Ok(false);
            };
            let row = row(&sending.columns, formats, &values)?;
            self.wire.feed(PgWireBackendMessage::DataRow(row)).await?;
            sending.sent += 1;
        }
        Ok(sending.rows.len() > 0)
    }

    async fn parse(&mut self, message: &Parse) -> Result<(), Trouble> {
        let name = message.name.clone().unwrap_or_default();
        if !name.is_empty() && self.prepared.contains_key(&name) {
            return Err(SqlError::new(
                state::DUPLICATE_STATEMENT,
                format!("prepared statement \"{name}\" already exists"),
            )
            .into());
        }
        if self.prepared.len() >= MAX_NAMED && !name.is_empty() {
            return Err(too_many("prepared statements").into());
        }
        // What the unnamed one was before is gone, also if this one fails.
        self.prepared.remove(&name);
        let prepared = Prepared::read(message)?;
        self.prepared.insert(name, prepared);
        let complete = PgWireBackendMessage::ParseComplete(ParseComplete::new());
        Ok(self.wire.feed(complete).await?)
    }

    fn statement(&self, name: &str) -> Result<&Prepared, SqlError> {
        self.prepared.get(name).ok_or_else(|| {
            SqlError::new(
                state::INVALID_STATEMENT_NAME,
                format!("prepared statement \"{name}\" does not exist"),
            )
        })
    }

    async fn bind(&mut self, message: &Bind) -> Result<(), Trouble> {
        let name = message.portal_name.clone().unwrap_or_default();
        if !name.is_empty() && self.portals.contains_key(&name) {
            let message = format!("portal \"{name}\" already exists");
            return Err(SqlError::new(state::DUPLICATE_CURSOR, message).into());
        }
        if self.portals.len() >= MAX_NAMED && !name.is_empty() {
            return Err(too_many("portals").into());
        }
        let prepared = message.statement_name.as_deref().unwrap_or_default();
        let portal = self.statement(prepared)?.bind(message)?;
        let columns = self.columns(portal.statement.as_ref())?;
        portal
            .formats
            .check(columns.map_or(0, |columns| columns.len()))?;
        self.portals.insert(name, portal);
        let complete = PgWireBackendMessage::BindComplete(BindComplete::new());
        Ok(self.wire.feed(complete).await?)
    }

    fn columns(&self, statement: Option<&Statement>) -> Result<Option<Vec<Column>>, SqlError> {
        match statement {
            Some(statement) => self.shared.executor.columns(&self.session, statement),
            None => Ok(None),
        }
    }

    async fn describe(&mut self, message: &Describe) -> Result<(), Trouble> {
        let name = message.name.as_deref().unwrap_or_default();
        let (columns, formats) = match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => {
                let prepared = self.statement(name)?;
                let columns = self.columns(prepared.statement.as_ref())?;
                let types = ParameterDescription::new(prepared.types.clone());
                self.wire
                    .feed(PgWireBackendMessage::ParameterDescription(types))
                    .await?;
                (columns, Formats::default())
            }
            TARGET_TYPE_BYTE_PORTAL => {
                let portal = self.portals.get(name).ok_or_else(|| no_portal(name))?;
                let columns = self.columns(portal.statement.as_ref())?;
                (columns, portal.formats.clone())
            }
            _ => return Err(broken_target().into()),
        };
        let description = match columns {
            Some(columns) => PgWireBackendMessage::RowDescription(description(&columns, &formats)),
            None => PgWireBackendMessage::NoData(NoData::new()),
        };
        Ok(self.wire.feed(description).await?)
    }

    async fn execute(&mut self, message: &Execute) -> Result<(), Trouble> {
        let name = message.name.clone().unwrap_or_default();
        let mut portal = self.portals.remove(&name).ok_or_else(|| no_portal(&name))?;
        let most = match usize::try_from(message.max_rows) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(most) => most,
        };
        let executed = self.execute_portal(&mut portal, most).await;
        self.portals.insert(name, portal);
        executed
    }

    async fn execute_portal(&mut self, portal: &mut Portal, most: usize) -> Result<(), Trouble> {
        let Some(statement) = &portal.statement else {
            return Ok(self.wire.empty().await?);
        };
        if matches!(portal.progress, Progress::Bound) {
            portal.progress = Progress::Over;
            match self.perform(statement, &portal.parameters).await? {
                Answer::Done(tag) => return Ok(self.wire.complete(tag).await?),
                Answer::Rows { tag, rows } => {
                    portal.progress = Progress::Sending(sending(tag, rows))
                }
            }
        }
        match &mut portal.progress {
            Progress::Sending(sending) => {
                let tag = sending.tag;
                if self.send_rows(sending, &portal.formats, most).await? {
                    let suspended = PgWireBackendMessage::PortalSuspended(PortalSuspended::new());
                    return Ok(self.wire.feed(suspended).await?);
                }
                let sent = sending.sent;
                portal.progress = Progress::Over;
                Ok(self.wire.complete(format!("{tag} {sent}")).await?)
            }
            Progress::Bound | Progress::Over => {
                let error = SqlError::new(
                    state::NOT_IN_PREREQUISITE_STATE,
                    "the portal cannot be run any more: bind it again",
                );
                Err(error.into())
            }
        }
    }

    async fn close(&mut self, message: &Close) -> Result<(), Trouble> {
        let name = message.name.as_deref().unwrap_or_default();
        match message.target_type {
            TARGET_TYPE_BYTE_STATEMENT => drop(self.prepared.remove(name)),
            TARGET_TYPE_BYTE_PORTAL => drop(self.portals.remove(name)),
            _ => return Err(broken_target().into()),
        }
        let complete = PgWireBackendMessage::CloseComplete(CloseComplete::new());
        Ok(self.wire.feed(complete).await?)
    }

    /// Performs a statement.
    async fn perform(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
    ) -> Result<Answer, Trouble> {
        let Some(done) = local::perform(&mut self.session, statement)? else {
            return self.run_on_cluster(statement, parameters).await;
        };
        match statement {
            Statement::Commit | Statement::Rollback => self.portals.clear(),
            Statement::Discard => {
                self.prepared.clear();
                self.portals.clear();
            }
            Statement::Deallocate(None) => self.prepared.clear(),
            Statement::Deallocate(Some(name)) => {
                self.statement(name)?;
                self.prepared.remove(name);
            }
            _ => {}
        }
        for (name, value) in done.reported {
            self.wire.parameter(name, value).await?;
        }
        Ok(done.answer)
    }

    /// Performs what the cluster is asked for, sends notices meanwhile, and notices when the client goes or waits no more.
    async fn run_on_cluster(
        &mut self,
        statement: &Statement,
        parameters: &[Value],
    ) -> Result<Answer, Trouble> {
        let cancelled = self.place.begin();
        let (sender, mut notices) = mpsc::channel(NOTICES);
        let Self {
            wire,
            shared,
            session,
            ahead,
            ..
        } = self;
        let timeout = statement_timeout(session);
        let running = shared
            .executor
            .run(session, statement, parameters, &sender, &cancelled);
        let mut running = std::pin::pin!(running);
        let mut late = std::pin::pin!(after(timeout));
        let (mut is_late, mut is_closing) = (false, false);
        let answer = loop {
            tokio::select! {
                biased;
                Some(notice) = notices.recv() => {
                    wire.notice(notice).await?;
                    wire.flush().await?;
                }
                answer = &mut running => break answer,
                () = &mut late, if !is_late => {
                    is_late = true;
                    cancelled.cancel();
                }
                () = shared.closing.cancelled(), if !is_closing => {
                    is_closing = true;
                    cancelled.cancel();
                }
                read = wire.next(), if ahead.len() < READ_AHEAD => match read {
                    Some(Ok(message)) => ahead.push_back(message),
                    // The client has gone. A job that was submitted goes on.
                    Some(Err(_)) | None => return Err(Trouble::Lost),
                },
            }
        };
        while let Ok(notice) = notices.try_recv() {
            wire.notice(notice).await?;
        }
        answer.map_err(|mut error| {
            if error.state == state::QUERY_CANCELED && is_late {
                error.message = "canceling statement due to statement timeout".to_owned();
            }
            if error.state == state::QUERY_CANCELED && is_closing {
                error.message =
                    "canceling statement because this coordinator shuts down".to_owned();
            }
            Trouble::Sql(error)
        })
    }
}

fn sending(tag: &'static str, rows: Rows) -> Sending {
    Sending {
        tag,
        columns: rows.columns,
        rows: rows.rows.into_iter(),
        sent: 0,
    }
}

fn shutting_down() -> SqlError {
    SqlError::new(state::ADMIN_SHUTDOWN, "this coordinator shuts down")
        .hint("jobs go on: connect to another coordinator")
}

fn no_portal(name: &str) -> SqlError {
    SqlError::new(
        state::INVALID_CURSOR_NAME,
        format!("portal \"{name}\" does not exist"),
    )
}

fn broken_target() -> SqlError {
    SqlError::new(
        state::PROTOCOL_VIOLATION,
        "neither a statement nor a portal",
    )
}

fn too_many(what: &str) -> SqlError {
    SqlError::new(
        state::PROGRAM_LIMIT_EXCEEDED,
        format!("a session has at most {MAX_NAMED} {what}"),
    )
}
