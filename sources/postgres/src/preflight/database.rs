//! A database: the way in, the right to publish, large objects, and its relations.

use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault, TableName, Target};

use super::relation;
use super::report::{DatabaseReport, Finding, Severity};
use crate::catalog::{self, Database};
use crate::dsn::Dsn;
use crate::identifier::quote;
use crate::sequences;
use crate::session::{Purpose, Session};

pub(super) async fn look(
    env: &Env,
    dsn: &Dsn,
    database: &Database,
    target: &Target,
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
    let dsn = dsn.with_database(&database.name);
    match inside(env, &dsn, target, &mut report).await {
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

async fn inside(
    env: &Env,
    dsn: &Dsn,
    target: &Target,
    report: &mut DatabaseReport,
) -> Result<(), Fault> {
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
    let role = session.info().user.clone();
    for facts in catalog::read(&session).await? {
        if !is_covered(target, &report.name, &facts.layout.display_name()) {
            report.findings.extend(relation::rights(&facts, &role));
        }
        report.relations.push(relation::look(&session, facts));
    }
    sequences(&session, target, report).await?;
    session.execute("COMMIT").await
}

fn is_covered(target: &Target, database: &str, table: &str) -> bool {
    target.covers(&TableName {
        database: database.to_owned(),
        table: table.to_owned(),
    })
}

/// Sequences that cannot be read: those of tables that are covered, and those that are covered themselves.
async fn sequences(
    session: &Session,
    target: &Target,
    report: &mut DatabaseReport,
) -> Result<(), Fault> {
    for facts in sequences::list(session).await? {
        let covers = |name: &str| is_covered(target, &report.name, name);
        if !covers(&facts.display_name()) && !facts.serves(covers) {
            continue;
        }
        let (schema, name) = facts.name();
        let role = &session.info().user;
        let of = ("SEQUENCE", schema, name);
        report
            .findings
            .extend(relation::missing(of, facts.schema, facts.select, role));
        if facts.is_elsewhere {
            let what = "it is unlogged, and its value is on the primary alone: it begins anew in a restore from a backup of a standby";
            let finding = Finding::new(Severity::Warning, facts.display_name(), what);
            report.findings.push(finding);
        }
    }
    Ok(())
}
