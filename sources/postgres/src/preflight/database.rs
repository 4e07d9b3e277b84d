//! A database: the way in, the right to publish, large objects, and its relations.

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};

use super::relation;
use super::report::{DatabaseReport, Finding, Severity};
use crate::catalog::{self, Database};
use crate::dsn::Dsn;
use crate::identifier::quote;
use crate::session::{Purpose, Session};

pub(super) async fn look(
    env: &Env,
    dsn: &Dsn,
    database: &Database,
) -> Result<DatabaseReport, Fault> {
    let mut report = DatabaseReport {
        name: database.name.clone(),
        findings: Vec::new(),
        relations: Vec::new(),
    };
    let about = format!("database {}", database.name);
    let name = quote(&database.name);
    let role = quote(&dsn.user);
    if !database.allows_connections {
        report.findings.push(
            Finding::new(Severity::Blocks, about, "it accepts no connections")
                .mend(format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true;")),
        );
        return Ok(report);
    }
    if !database.may_connect {
        report.findings.push(
            Finding::new(Severity::Blocks, about, "the role may not connect to it")
                .mend(format!("GRANT CONNECT ON DATABASE {name} TO {role};")),
        );
        return Ok(report);
    }
    if !database.may_create {
        report.findings.push(
            Finding::new(
                Severity::NoLog,
                about.clone(),
                "the role may not make a publication in it",
            )
            .mend(format!("GRANT CREATE ON DATABASE {name} TO {role};")),
        );
    }
    if database.encoding == "SQL_ASCII" {
        report.findings.push(Finding::new(
            Severity::Note,
            about.clone(),
            "its encoding is SQL_ASCII: text is kept as the bytes it is",
        ));
    }
    match inside(env, &dsn.with_database(&database.name), &mut report).await {
        Ok(()) => {}
        // Catalog names that are not UTF-8 can be told by this state, and by nothing else before they are read.
        Err(fault) if fault.message.contains("22021") => report.findings.push(
            Finding::new(
                Severity::Blocks,
                about,
                "a name in its catalogs is not valid UTF-8",
            )
            .mend("rename the object"),
        ),
        Err(fault) if fault.code == ErrorCode::Unavailable => return Err(fault),
        Err(fault) => report.findings.push(Finding::new(
            Severity::Blocks,
            about,
            format!("it cannot be looked at: {}", fault.message),
        )),
    }
    Ok(report)
}

async fn inside(env: &Env, dsn: &Dsn, report: &mut DatabaseReport) -> Result<(), Fault> {
    let session = Session::connect(env, dsn, Purpose::Control).await?;
    session
        .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let row = session
        .query_one(
            "SELECT count(*), count(*) FILTER (WHERE NOT pg_catalog.pg_has_role(m.lomowner, 'USAGE'))
             FROM pg_catalog.pg_largeobject_metadata m",
            &[],
        )
        .await?;
    let (objects, foreign): (i64, i64) = (row.get(0), row.get(1));
    let superuser = session.info().superuser;
    if objects > 0 {
        report.findings.push(Finding::new(
            Severity::Note,
            "large objects",
            format!("{objects} are copied whole by every backup: their changes are not in the log"),
        ));
    }
    if foreign > 0 && !superuser {
        report.findings.push(
            Finding::new(
                Severity::Warning,
                "large objects",
                format!("{foreign} belong to other roles, and may not be readable"),
            )
            .mend(format!(
                "ALTER ROLE {} SET lo_compat_privileges = on; -- as a superuser",
                quote(&dsn.user)
            )),
        );
    }
    for facts in catalog::read(&session).await? {
        report.relations.push(relation::look(&session, facts));
    }
    session.execute("COMMIT").await
}
