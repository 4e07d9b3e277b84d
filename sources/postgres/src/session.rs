//! Sessions: one connection each, over a stream from `env.net`, with every setting pinned that changes what the server
//! sends or how long it may take.
//!
//! A session that is dropped while a statement runs stops that statement: a cancel request goes to the server, and the connection is cut.

mod answer;
mod cancel;
mod copy_out;
mod error;
mod locks;
mod pinned;
mod tap;
mod tls;
mod transport;

pub(crate) use answer::NEWEST;
pub use answer::ServerInfo;
pub use cancel::Canceller;
pub use copy_out::CopyOut;
pub(crate) use error::server_fault;
pub use error::{describe, fault};
pub(crate) use locks::name_holders;
pub use pinned::Purpose;
pub(crate) use transport::{Channel, Stream, open};

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, config};

use crate::dsn::{Binding, Dsn};
use crate::identifier::Spelling;
use tap::{Tap, TapReader};

/// How long a catalog query or a small statement may take before it is cancelled.
pub const STATEMENT_DEADLINE: Duration = Duration::from_secs(60);

/// How long the server may send nothing while data is read. A part is at most some minutes of work even on a slow disk; a filter may skip
/// much.
pub const STALL_DEADLINE: Duration = Duration::from_secs(600);

/// How long a session waits for a lock before it gives up and lets the application pass.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to one database.
#[derive(Debug)]
pub struct Session {
    client: Client,
    driver: tokio::task::JoinHandle<()>,
    canceller: Canceller,
    tap: Tap,
    /// Statements whose end was not seen yet.
    running: Arc<AtomicUsize>,
    info: ServerInfo,
}

impl Session {
    /// Opens a session and pins its settings.
    ///
    /// # Errors
    /// `Unavailable` if the server cannot be reached or has no free connection, `FailedPrecondition` if it refuses the role, `NotFound`
    /// without such a database, `Unsupported` for a version below 14 or a connection that does not keep its settings (a pooler).
    pub async fn connect(env: &Env, dsn: &Dsn, purpose: Purpose) -> Result<Self, Fault> {
        let opened = tokio::time::timeout(dsn.connect_timeout, Self::start(env, dsn, purpose));
        match opened.await {
            Ok(session) => session,
            Err(_) => Err(Fault::new(
                ErrorCode::Unavailable,
                format!("{dsn} did not answer within {:?}", dsn.connect_timeout),
            )),
        }
    }

    async fn start(env: &Env, dsn: &Dsn, purpose: Purpose) -> Result<Self, Fault> {
        let transport = open(env, dsn).await?;
        let (socket, channel) = transport.into_parts();
        let tap = socket.tap();
        let mut config = Config::new();
        config
            .user(&dsn.user)
            .dbname(&dsn.database)
            .application_name(&dsn.application_name)
            .channel_binding(match dsn.binding {
                Binding::Disable => config::ChannelBinding::Disable,
                Binding::Prefer => config::ChannelBinding::Prefer,
                Binding::Require => config::ChannelBinding::Require,
            });
        if let Some(password) = &dsn.password {
            config.password(password.expose());
        }
        transport::announce(&mut config, &channel);
        let (client, driver) = config
            .connect_raw(socket, channel)
            .await
            .map_err(|error| fault(&error).context(dsn))?;
        let driver = tokio::spawn(async move {
            // A broken connection shows as an error of the statement that runs, or of the next one.
            if let Err(error) = driver.await {
                tracing::debug!(error = %describe(&error), "a connection to PostgreSQL ended");
            }
        });
        let canceller = Canceller::new(env.clone(), dsn.clone(), client.cancel_token());
        let mut session = Self {
            client,
            driver,
            canceller,
            tap,
            running: Arc::default(),
            info: ServerInfo::default(),
        };
        session.info = answer::ask(&session)
            .await
            .map_err(|fault| fault.context(dsn))?;
        pinned::pin(&mut session, purpose)
            .await
            .map_err(|fault| fault.context(dsn))?;
        Ok(session)
    }

    /// What the server said about itself and the session.
    #[must_use]
    pub fn info(&self) -> &ServerInfo {
        &self.info
    }

    /// How names are spelt in this session's statements.
    #[must_use]
    pub fn spelling(&self) -> Spelling {
        Spelling::of(&self.info.client_encoding)
    }

    /// The client itself, for what this type does not wrap. Statements sent through it are not cancelled when the session is dropped.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Stops a statement of this session from outside.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Runs a query within [`STATEMENT_DEADLINE`].
    ///
    /// # Errors
    /// What the server says, or `DeadlineExceeded`.
    pub async fn query(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, Fault> {
        self.within(STATEMENT_DEADLINE, self.client.query(sql, parameters))
            .await
    }

    /// Runs a query that gives exactly one row.
    ///
    /// # Errors
    /// What the server says, `DeadlineExceeded`, or `Internal` if there is not exactly one row.
    pub async fn query_one(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, Fault> {
        self.within(STATEMENT_DEADLINE, self.client.query_one(sql, parameters))
            .await
    }

    /// Runs statements without parameters, within [`STATEMENT_DEADLINE`].
    ///
    /// # Errors
    /// What the server says, or `DeadlineExceeded`.
    pub async fn execute(&self, sql: &str) -> Result<(), Fault> {
        self.execute_within(STATEMENT_DEADLINE, sql).await
    }

    /// Runs statements without parameters, within a deadline of the caller's.
    ///
    /// # Errors
    /// What the server says, or `DeadlineExceeded`.
    pub async fn execute_within(&self, deadline: Duration, sql: &str) -> Result<(), Fault> {
        self.within(deadline, self.client.batch_execute(sql)).await
    }

    /// Starts a `COPY … TO STDOUT`. Data comes as it is read: a slow reader slows the server, and nothing piles up here.
    ///
    /// # Errors
    /// What the server says; `DeadlineExceeded` if it sends nothing for [`STALL_DEADLINE`].
    pub async fn copy_out(&self, sql: &str) -> Result<CopyOut, Fault> {
        self.copy_out_within(STALL_DEADLINE, sql).await
    }

    /// As [`Session::copy_out`], for a statement that may send nothing for longer: one that computes its whole result first.
    ///
    /// # Errors
    /// What the server says; `DeadlineExceeded` if it sends nothing for `stall`.
    pub async fn copy_out_within(&self, stall: Duration, sql: &str) -> Result<CopyOut, Fault> {
        self.start_copy(stall, sql, None).await
    }

    /// As [`Session::copy_out`], in blocks of many rows: for what is read through from its first byte to its last. A row that is
    /// kept keeps its block in memory.
    ///
    /// # Errors
    /// As [`Session::copy_out`].
    pub async fn copy_out_blocks(&self, sql: &str) -> Result<CopyOut, Fault> {
        let tap = self.tap.open();
        self.start_copy(STALL_DEADLINE, sql, Some(tap)).await
    }

    async fn start_copy(
        &self,
        stall: Duration,
        sql: &str,
        tap: Option<TapReader>,
    ) -> Result<CopyOut, Fault> {
        let running = Running::new(&self.running);
        // The server's "it begins" comes with the first data, not before.
        match tokio::time::timeout(stall, self.client.copy_out(sql)).await {
            Ok(Ok(stream)) => {
                let canceller = self.canceller();
                Ok(CopyOut::new(stream, tap, running, canceller, stall))
            }
            Ok(Err(error)) => {
                running.ended();
                Err(fault(&error))
            }
            Err(_) => Err(self.overdue(stall).await),
        }
    }

    /// Runs a statement of tokio-postgres as one of this session: within a deadline, and stopped if the session is dropped.
    ///
    /// # Errors
    /// What the server says, or `DeadlineExceeded`.
    pub async fn within<T>(
        &self,
        deadline: Duration,
        statement: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, Fault> {
        let running = Running::new(&self.running);
        match tokio::time::timeout(deadline, statement).await {
            Ok(result) => {
                running.ended();
                result.map_err(|error| fault(&error))
            }
            Err(_) => Err(self.overdue(deadline).await),
        }
    }

    async fn overdue(&self, deadline: Duration) -> Fault {
        self.canceller.cancel().await;
        Fault::new(
            ErrorCode::DeadlineExceeded,
            format!("a statement did not end within {deadline:?} and was cancelled"),
        )
    }

    /// Whether a statement was given up before its end: the session is then not to be used again.
    #[must_use]
    pub fn is_spoilt(&self) -> bool {
        self.client.is_closed() || self.running.load(Ordering::Acquire) > 0
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.running.load(Ordering::Acquire) > 0 {
            self.canceller.cancel_in_background();
            self.driver.abort();
        }
    }
}

/// Counts as a running statement until [`Running::ended`]; one that is dropped before counts for ever, for nobody knows
/// what the server is doing then.
#[derive(Debug)]
struct Running(Arc<AtomicUsize>);

impl Running {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count.clone())
    }

    fn ended(self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
