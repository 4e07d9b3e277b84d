//! Throws away what a restore made and did not publish: all of it is named by the job.

use holdfast_types::{Fault, JobId};

use super::Restorer;
use crate::answer::{ask, run};
use crate::identifier::{literal, quote};
use crate::restore::HIDDEN;

const CONTEXT: &str = "cannot throw a restore away";

impl Restorer {
    /// See [`holdfast_source::LoggedSource::discard_restore`].
    ///
    /// # Errors
    /// What the server says.
    pub async fn discard(&self, job: JobId) -> Result<(), Fault> {
        self.forget(job);
        let prefix = literal(&format!("{HIDDEN}{job}_"));
        let maintenance = self.target.maintenance().await?;
        let hidden = format!(
            "SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname::text, {prefix})"
        );
        for row in ask(&maintenance, CONTEXT, &hidden).await? {
            let name = quote(&row.text(0));
            let template = format!("ALTER DATABASE {name} WITH IS_TEMPLATE false");
            run(&maintenance, CONTEXT, &template).await?;
            let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
            run(&maintenance, CONTEXT, &drop).await?;
        }
        // Tables wait in hidden schemas of the database that they go to, which the job's number does not tell. Where the role may not
        // connect it has made nothing.
        let databases = "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate \
             AND has_database_privilege(oid, 'CONNECT') ORDER BY 1";
        for row in ask(&maintenance, CONTEXT, databases).await? {
            self.discard_schemas(&row.text(0), &prefix).await?;
        }
        Ok(())
    }

    async fn discard_schemas(&self, database: &str, prefix: &str) -> Result<(), Fault> {
        let session = match self.target.session(database).await {
            Ok(session) => session,
            // Dropped meanwhile, or closed to us by other means.
            Err(fault) if !fault.is_retryable() => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let schemas = format!(
            "SELECT nspname FROM pg_catalog.pg_namespace WHERE starts_with(nspname::text, {prefix}) ORDER BY 1"
        );
        let schemas = ask(&session, CONTEXT, &schemas).await?;
        if schemas.is_empty() {
            return Ok(());
        }
        let drops: Vec<String> = schemas
            .into_iter()
            .map(|row| format!("DROP SCHEMA IF EXISTS {} CASCADE;", quote(&row.text(0))))
            .collect();
        let sql = format!("BEGIN; {} COMMIT", drops.join(" "));
        let dropped = run(&session, CONTEXT, &sql).await;
        if dropped.is_err() {
            let _ = run(&session, CONTEXT, "ROLLBACK").await;
        }
        dropped
    }
}
