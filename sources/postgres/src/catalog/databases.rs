//! The databases of a server.

use holdfast_types::Fault;

use crate::layout::Oid;
use crate::session::Session;

/// A database, as `pg_database` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its identity on the server.
    pub oid: Oid,
    /// Its name.
    pub name: String,
    /// Its encoding: `UTF8`.
    pub encoding: String,
    /// Whether it accepts connections at all.
    pub allows_connections: bool,
    /// Whether it is a template for others.
    pub is_template: bool,
    /// Whether the role may connect.
    pub may_connect: bool,
    /// Whether the role may make a publication in it.
    pub may_create: bool,
    /// Bytes on the server's disk; `None` where the role may not ask.
    pub bytes: Option<u64>,
}

impl Database {
    /// Whether it holds data of users: it accepts connections, is no template, and no restore that is under way.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        self.allows_connections
            && !self.is_template
            && !self.name.starts_with(crate::restore::HIDDEN)
    }
}

/// All databases of the server, by name.
///
/// # Errors
/// What the server says.
pub async fn databases(session: &Session) -> Result<Vec<Database>, Fault> {
    let rows = session
        .query(
            "SELECT d.oid, d.datname::text, pg_catalog.pg_encoding_to_char(d.encoding)::text, d.datallowconn, d.datistemplate,
                    coalesce(pg_catalog.has_database_privilege(d.oid, 'CONNECT'), false),
                    coalesce(pg_catalog.has_database_privilege(d.oid, 'CREATE'), false),
                    CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                           OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
                         THEN pg_catalog.pg_database_size(d.oid) END
             FROM pg_catalog.pg_database d ORDER BY d.datname",
            &[],
        )
        .await?;
    Ok(rows
        .iter()
        .map(|row| Database {
            oid: Oid(row.get(0)),
            name: row.get(1),
            encoding: row.get(2),
            allows_connections: row.get(3),
            is_template: row.get(4),
            may_connect: row.get(5),
            may_create: row.get(6),
            bytes: row
                .get::<_, Option<i64>>(7)
                .and_then(|bytes| u64::try_from(bytes).ok()),
        })
        .collect())
}
