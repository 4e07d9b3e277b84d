//! A small client of the replication protocol, for the one thing that SQL cannot do: making a logical slot whose consistent point has an exported
//! snapshot. Changes are read over SQL.

mod login;
mod wire;

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

use crate::dsn::Dsn;
use crate::identifier::quote;
use crate::layout::Lsn;
use wire::{BackendKey, Wire};

/// How long a command other than making a slot may take.
const COMMAND_DEADLINE: Duration = Duration::from_secs(30);

/// A limit that is new in version 17, and that older ones would not let a connection begin with.
const NO_LIMIT: &str = "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = 'transaction_timeout'";

/// Which server this is, and which of its histories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SystemIdentity {
    /// The number that `initdb` gave the cluster; copies and standbys share it.
    pub system_id: u64,
    /// The timeline: it changes with every promotion.
    pub timeline: u32,
    /// The end of what is flushed.
    pub flushed: Lsn,
}

/// A slot that was just made, with the snapshot of its consistent point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedSlot {
    /// Changes of transactions whose commit record lies here or later come out of the slot; the snapshot holds all others.
    pub consistent_point: Lsn,
    /// The exported snapshot. It can be imported until the next command on the connection, or its end.
    pub snapshot: String,
}

/// A connection that speaks the replication protocol, to one database.
///
/// Dropped while a command runs, it cancels the command: a slot in the making would go on waiting, and keep log, unseen.
pub struct ReplicationSession {
    wire: Wire,
    env: Env,
    dsn: Dsn,
    key: BackendKey,
    busy: bool,
}

impl ReplicationSession {
    /// Connects with `replication=database`.
    ///
    /// # Errors
    /// `Unavailable` if the server cannot be reached or has no free WAL sender, `FailedPrecondition` if it refuses the role.
    pub async fn connect(env: &Env, dsn: &Dsn) -> Result<Self, Fault> {
        let opened = tokio::time::timeout(dsn.connect_timeout, async {
            let mut wire = Wire::open(env, dsn).await?;
            let startup = [
                ("user", dsn.user.as_str()),
                ("database", dsn.database.as_str()),
                ("replication", "database"),
                ("application_name", dsn.application_name.as_str()),
                ("client_encoding", "UTF8"),
                // A role's own limits must not end a slot that waits for old transactions.
                ("statement_timeout", "0"),
                ("lock_timeout", "0"),
                ("idle_in_transaction_session_timeout", "0"),
                ("idle_session_timeout", "0"),
            ];
            let key = login::log_in(&mut wire, dsn, &startup).await?;
            wire.command(NO_LIMIT).await?;
            Ok(Self {
                wire,
                env: env.clone(),
                dsn: dsn.clone(),
                key,
                busy: false,
            })
        });
        match opened.await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(fault)) => Err(Fault::context(fault, dsn)),
            Err(_) => Err(Fault::new(
                ErrorCode::Unavailable,
                format!("{dsn} did not answer within {:?}", dsn.connect_timeout),
            )),
        }
    }

    /// The process of the connection's backend, as the server told it.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.key.pid
    }

    /// Which server this is. Ends the use of a snapshot that was exported.
    ///
    /// # Errors
    /// What the server says, or `DeadlineExceeded`.
    pub async fn identify(&mut self) -> Result<SystemIdentity, Fault> {
        let row = self.command(COMMAND_DEADLINE, "IDENTIFY_SYSTEM").await?;
        let field = |index: usize| {
            row.get(index)
                .and_then(Option::as_deref)
                .unwrap_or_default()
        };
        let malformed = |_| {
            Fault::new(
                ErrorCode::Internal,
                "IDENTIFY_SYSTEM answered in another form",
            )
        };
        Ok(SystemIdentity {
            system_id: field(0).parse().map_err(|_| malformed(()))?,
            timeline: field(1).parse().map_err(|_| malformed(()))?,
            flushed: field(2).parse().map_err(|_| malformed(()))?,
        })
    }

    /// Makes a logical slot for `pgoutput` and exports the snapshot of its consistent point. Waits until every transaction that is writing
    /// now, in any database of the server, has ended.
    ///
    /// # Errors
    /// What the server says (`AlreadyExists`, no free slot, no right), or `DeadlineExceeded`; the server's own wait is then cut with the
    /// connection, and the slot does not exist.
    pub async fn create_slot(
        &mut self,
        name: &str,
        temporary: bool,
        deadline: Duration,
    ) -> Result<CreatedSlot, Fault> {
        let kind = if temporary { "TEMPORARY " } else { "" };
        // The old grammar, which every version from 14 to 18 reads.
        let sql = format!(
            "CREATE_REPLICATION_SLOT {} {kind}LOGICAL pgoutput EXPORT_SNAPSHOT",
            quote(name)
        );
        let row = self.command(deadline, &sql).await?;
        let field = |index: usize| row.get(index).and_then(Option::clone).unwrap_or_default();
        let consistent_point = field(1).parse().map_err(|_| {
            Fault::new(
                ErrorCode::Internal,
                "CREATE_REPLICATION_SLOT answered in another form",
            )
        })?;
        Ok(CreatedSlot {
            consistent_point,
            snapshot: field(2),
        })
    }

    /// Drops a slot that nobody uses.
    ///
    /// # Errors
    /// What the server says (`NotFound`, `Unavailable` while it is in use), or `DeadlineExceeded`.
    pub async fn drop_slot(&mut self, name: &str) -> Result<(), Fault> {
        let sql = format!("DROP_REPLICATION_SLOT {}", quote(name));
        self.command(COMMAND_DEADLINE, &sql).await.map(drop)
    }

    /// Runs a command that gives at most one row.
    async fn command(
        &mut self,
        deadline: Duration,
        sql: &str,
    ) -> Result<Vec<Option<String>>, Fault> {
        self.busy = true;
        match tokio::time::timeout(deadline, self.wire.command(sql)).await {
            Ok(row) => {
                self.busy = false;
                row.map_err(|fault| fault.context(&self.dsn))
            }
            Err(_) => Err(Fault::new(
                ErrorCode::DeadlineExceeded,
                format!("{} did not answer within {deadline:?}", self.dsn),
            )),
        }
    }
}

impl Drop for ReplicationSession {
    fn drop(&mut self) {
        if !self.busy {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let (env, dsn, key) = (self.env.clone(), self.dsn.clone(), self.key);
            runtime.spawn(async move {
                let asked = tokio::time::timeout(COMMAND_DEADLINE, wire::cancel(&env, &dsn, key));
                if !matches!(asked.await, Ok(Ok(()))) {
                    tracing::warn!(server = %dsn, "a replication command could not be cancelled");
                }
            });
        }
    }
}

impl fmt::Debug for ReplicationSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReplicationSession({})", self.dsn)
    }
}
