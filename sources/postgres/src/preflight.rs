//! The preflight: everything that decides whether, and how, a member can be backed up, looked at before anything is done.
//!
//! Each finding names its object, says what follows from it, and has the statement that mends it where there is one. It changes nothing on the
//! server.

mod database;
mod pooler;
mod provider;
mod relation;
mod report;
mod server;

pub use report::{DatabaseReport, Finding, Mode, RelationReport, Report, Severity};

use futures::{StreamExt, TryStreamExt, stream, try_join};
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, Target};

use crate::catalog::{Database, databases};
use crate::dsn::Dsn;
use crate::session::{Purpose, Session};

/// Connections that a backup with two streams should find free: control, two holders, a change reader and the parts, and their likes.
const CONNECTIONS: usize = 8;

/// Databases that are looked at at once.
const AT_ONCE: usize = 3;

/// What a preflight is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The databases of the backup; `None` for all that hold data of users.
    pub databases: Option<Vec<String>>,
    /// What of them is covered. Findings of relations that are not are nobody's business, but for rights that the whole schema takes.
    pub target: Target,
    /// Snapshot mode is wanted, whatever the server offers.
    pub snapshot_mode: bool,
    /// Sessions that a backup takes at most.
    pub connections: usize,
}

impl Default for Request {
    fn default() -> Self {
        Self {
            databases: None,
            target: Target::Source,
            snapshot_mode: false,
            connections: CONNECTIONS,
        }
    }
}

/// Looks at a member.
///
/// # Errors
/// Only what keeps it from looking: the server cannot be reached, the role is refused, or a database that was asked for does not exist.
/// All else is a finding.
pub async fn check(env: &Env, dsn: &Dsn, request: &Request) -> Result<Report, Fault> {
    let session = Session::connect(env, dsn, Purpose::Control).await?;
    let databases = choose(databases(&session).await?, request)?;
    // By itself: it counts the sessions that there are.
    let of_server = server::look(env, dsn, &session, databases.len(), request).await?;
    let shared = pooler::look(env, dsn, &session);
    let mut looks = Vec::new();
    for database in &databases {
        looks.push(database::look(env, dsn, database, &request.target));
    }
    let looks = stream::iter(looks).buffered(AT_ONCE).try_collect();
    let (mut findings, reports) = try_join!(shared, looks)?;
    findings.extend(of_server);
    let mut report = Report {
        version: session.info().version,
        role: session.info().user.clone(),
        mode: Mode::Log,
        reasons: Vec::new(),
        findings,
        databases: reports,
    };
    report.settle(request.snapshot_mode);
    Ok(report)
}

fn choose(present: Vec<Database>, request: &Request) -> Result<Vec<Database>, Fault> {
    let Some(wanted) = &request.databases else {
        return Ok(present.into_iter().filter(Database::is_ordinary).collect());
    };
    let missing = wanted
        .iter()
        .find(|name| !present.iter().any(|database| database.name == **name));
    if let Some(name) = missing {
        return Err(Fault::new(
            ErrorCode::NotFound,
            format!("there is no database {name}"),
        ));
    }
    Ok(present
        .into_iter()
        .filter(|database| wanted.contains(&database.name))
        .collect())
}
