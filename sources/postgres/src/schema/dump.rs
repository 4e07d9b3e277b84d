//! Takes the schema of a database with pg_dump.

use super::process::Program;
use super::tools::DumpTool;
use crate::dsn::{Binding, Dsn, Host};
use crate::restore::HIDDEN;
use holdfast_types::{ErrorCode, Fault};

/// Most bytes of an archive: a schema of a million objects is below.
const MOST_ARCHIVE: usize = 1 << 30;

/// What of a schema is taken, and as of when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DumpOptions {
    /// An exported snapshot; without, the schema is as of now.
    pub snapshot: Option<String>,
    /// Only these schemas, each in `pg_dump -n` as an exact name; empty means all. Objects of other schemas that they need are not
    /// taken along.
    pub schemas: Vec<String>,
    /// How long a lock on a table may be waited for, in milliseconds.
    pub lock_timeout: Option<u32>,
}

/// Takes the schema, in pg_dump's custom format. It locks every table against changes of its definition for the duration.
///
/// # Errors
/// What pg_dump says: a table that the role may not read, a lock that was not had in time, a snapshot that is gone.
pub async fn dump(tool: &DumpTool, dsn: &Dsn, options: &DumpOptions) -> Result<Vec<u8>, Fault> {
    let mut program = Program::new(&tool.path)
        .arg("--schema-only")
        .arg("--format=custom")
        .arg("--compress=0")
        // Names come in UTF-8 whatever the database's encoding is.
        .arg("--encoding=UTF8")
        .arg("--quote-all-identifiers")
        .arg("--no-password")
        .envs(environment(dsn)?);
    if let Some(snapshot) = &options.snapshot {
        program = program.arg(format!("--snapshot={snapshot}"));
    }
    if let Some(milliseconds) = options.lock_timeout {
        program = program.arg(format!("--lock-wait-timeout={milliseconds}"));
    }
    if options.schemas.is_empty() {
        // What a restore has under way in the database is not part of it.
        program = program.arg(format!("--exclude-schema={HIDDEN}*"));
    }
    for schema in &options.schemas {
        // Quoted, it is a name and no pattern.
        let exact = crate::identifier::quote(schema);
        program = program.arg(format!("--schema={exact}"));
    }
    program
        .output(MOST_ARCHIVE)
        .await
        .map_err(|fault| fault.context("cannot take the schema"))
}

/// How libpq reaches the server: all by environment, so that no name is taken for a connection string and no password can be seen.
fn environment(dsn: &Dsn) -> Result<Vec<(&'static str, String)>, Fault> {
    let host = match &dsn.host {
        Host::Tcp(host) => host,
        Host::Local(directory) => directory,
    };
    let binding = match dsn.binding {
        Binding::Disable => "disable",
        Binding::Prefer => "prefer",
        Binding::Require => "require",
    };
    let mut list = vec![
        ("PGHOST", host.clone()),
        ("PGPORT", dsn.port.to_string()),
        ("PGUSER", dsn.user.clone()),
        ("PGDATABASE", dsn.database.clone()),
        ("PGSSLMODE", dsn.tls.as_str().to_owned()),
        ("PGCHANNELBINDING", binding.to_owned()),
        ("PGAPPNAME", dsn.application_name.clone()),
        (
            "PGCONNECT_TIMEOUT",
            dsn.connect_timeout.as_secs().to_string(),
        ),
        // Settings of role or database that would end it, or change what it prints.
        (
            "PGOPTIONS",
            "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0 -c row_security=off"
                .to_owned(),
        ),
    ];
    if let Some(password) = &dsn.password {
        list.push(("PGPASSWORD", password.expose().to_owned()));
    }
    let key = dsn.client_key.as_ref().map(|key| key.expose().to_owned());
    for (name, file) in [
        ("PGSSLROOTCERT", dsn.root_certificates.clone()),
        ("PGSSLCERT", dsn.client_certificate.clone()),
        ("PGSSLKEY", key),
    ] {
        let Some(file) = file else {
            continue;
        };
        if file.contains("-----BEGIN") {
            return Err(Fault::new(
                ErrorCode::Unsupported,
                "pg_dump takes certificates and keys from files, not as text",
            )
            .hint("put them into files on every worker and name those in the connection string"));
        }
        list.push((name, file));
    }
    Ok(list)
}
