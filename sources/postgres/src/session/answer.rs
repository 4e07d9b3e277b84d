//! What a server says about itself.

use holdfast_types::{ErrorCode, Fault};

use super::Session;

/// The oldest version that is served: TID range scans and `binary` in `pgoutput` begin there.
pub(crate) const OLDEST: u32 = 14;

/// The newest version that the tests run against.
pub(crate) const NEWEST: u32 = 18;

/// What a server says about itself and a session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerInfo {
    /// `server_version_num`: 150018.
    pub version: u32,
    /// `server_encoding` of the database: `UTF8`.
    pub server_encoding: String,
    /// `client_encoding` of the session.
    pub client_encoding: String,
    /// The database.
    pub database: String,
    /// The role.
    pub user: String,
    /// The backend's process.
    pub pid: i32,
    /// Whether the server is a standby.
    pub in_recovery: bool,
    /// Whether the role is a superuser.
    pub superuser: bool,
    /// `block_size`: bytes of a page.
    pub page_bytes: u64,
}

impl ServerInfo {
    /// The major version: 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.version / 10_000
    }
}

/// Asks; the first statement of a session.
pub(super) async fn ask(session: &Session) -> Result<ServerInfo, Fault> {
    let row = session
        .query_one(
            "SELECT pg_catalog.current_setting('server_version_num')::int8,
                    pg_catalog.current_setting('server_encoding'),
                    pg_catalog.current_setting('client_encoding'),
                    pg_catalog.current_database()::text, current_user::text, pg_catalog.pg_backend_pid(),
                    pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('is_superuser') = 'on',
                    pg_catalog.current_setting('block_size')::int8",
            &[],
        )
        .await?;
    let info = ServerInfo {
        version: u32::try_from(row.get::<_, i64>(0)).unwrap_or(0),
        server_encoding: row.get(1),
        client_encoding: row.get(2),
        database: row.get(3),
        user: row.get(4),
        pid: row.get(5),
        in_recovery: row.get(6),
        superuser: row.get(7),
        page_bytes: u64::try_from(row.get::<_, i64>(8)).unwrap_or(0),
    };
    if info.major() < OLDEST {
        return Err(Fault::new(
            ErrorCode::Unsupported,
            format!(
                "the server is PostgreSQL {}, and {OLDEST} is the oldest that can be backed up",
                info.major()
            ),
        )
        .hint("upgrade the server"));
    }
    Ok(info)
}
