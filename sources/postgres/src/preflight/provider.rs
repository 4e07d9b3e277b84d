//! How managed PostgreSQL differs in what mends a finding.

use holdfast_types::Fault;

use crate::identifier::quote;
use crate::session::Session;

/// Who runs the server, as far as its settings tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Provider {
    /// The user.
    Own,
    /// Amazon RDS or Aurora.
    Amazon,
    /// Google Cloud SQL or AlloyDB.
    Google,
    /// Azure Database.
    Azure,
}

impl Provider {
    pub(super) async fn find(session: &Session) -> Result<Self, Fault> {
        let rows = session
            .query(
                "SELECT DISTINCT split_part(s.name, '.', 1) FROM pg_catalog.pg_settings s
                 WHERE s.name LIKE 'rds.%' OR s.name LIKE 'cloudsql.%' OR s.name LIKE 'alloydb.%' OR s.name LIKE 'azure.%'",
                &[],
            )
            .await?;
        let prefixes: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        let has = |prefix: &str| prefixes.iter().any(|found| found == prefix);
        Ok(if has("rds") {
            Self::Amazon
        } else if has("cloudsql") || has("alloydb") {
            Self::Google
        } else if has("azure") {
            Self::Azure
        } else {
            Self::Own
        })
    }

    /// How to get `wal_level = logical`.
    pub(super) fn logical_log(self) -> &'static str {
        match self {
            Self::Own => "ALTER SYSTEM SET wal_level = 'logical'; -- then restart the server",
            Self::Amazon => {
                "set rds.logical_replication = 1 in the parameter group, then reboot the instance"
            }
            Self::Google => {
                "set the flag cloudsql.logical_decoding (AlloyDB: alloydb.logical_decoding) to on; the instance restarts"
            }
            Self::Azure => "set the server parameter wal_level to logical, then restart the server",
        }
    }

    /// How to raise a setting that needs a restart.
    pub(super) fn raise(self, setting: &str, value: i64) -> String {
        match self {
            Self::Own => {
                format!("ALTER SYSTEM SET {setting} = {value}; -- then restart the server")
            }
            Self::Amazon => {
                format!("set {setting} = {value} in the parameter group, then reboot the instance")
            }
            Self::Google => format!("set the flag {setting} to {value}; the instance restarts"),
            Self::Azure => {
                format!("set the server parameter {setting} to {value}, then restart the server")
            }
        }
    }

    /// How a role gets to make replication slots.
    pub(super) fn replication_right(self, role: &str) -> String {
        match self {
            Self::Amazon => format!("GRANT rds_replication TO {};", quote(role)),
            Self::Own | Self::Google | Self::Azure => {
                format!("ALTER ROLE {} REPLICATION;", quote(role))
            }
        }
    }
}
