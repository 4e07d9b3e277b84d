//! Statistics for the planner, of several tables at once.

use futures::future::try_join_all;
use holdfast_types::Fault;
use std::sync::{Mutex, PoisonError};

use super::indexes::IndexLanes;
use super::progress::Progress;
use super::site::Site;
use crate::answer::{ask, run};
use crate::identifier::literal;
use crate::session::Session;

/// All tables, the largest last. Partitions come with the table that they are of; of the catalogs only those that grew much are worth it, the others were
/// analyzed when their template was made.
const TABLES: &str = "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), pg_catalog.pg_table_size(c.oid) \
     FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
     WHERE c.relkind IN ('r', 'p', 'm') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname NOT IN ('information_schema', 'pg_toast') \
       AND NOT (n.nspname = 'pg_catalog' AND (c.relisshared OR pg_catalog.pg_relation_size(c.oid) < 1048576)) \
     ORDER BY c.relkind = 'p', 2, 1 DESC";

impl Site {
    /// Gathers statistics. Those of an index on an expression run its function: that one table's fail is no reason to fail, nor to leave the others
    /// without.
    pub(super) async fn analyze(
        &self,
        lanes: IndexLanes,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let session = self.open().await?;
        let mut tables = Vec::new();
        let mut all = 0;
        for row in ask(&session, "cannot list tables", TABLES).await? {
            let bytes: u64 = row.number(1)?;
            tables.push((row.text(0), bytes));
            all += bytes;
        }
        drop(session);
        progress.phase("statistics for the planner", tables.len(), all);
        let count = lanes.lanes.clamp(1, tables.len().max(1));
        let queue = Mutex::new(tables);
        let next = || {
            let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
            queue.pop()
        };
        let lane = || async {
            let Some(mut sized) = next() else {
                return Ok(());
            };
            let session = self.open_as_application().await?;
            loop {
                let (table, bytes) = sized;
                progress.started(&table);
                analyze_all_of(&session, &table, progress).await?;
                progress.ended(&table, bytes);
                match next() {
                    Some(another) => sized = another,
                    None => return Ok(()),
                }
            }
        };
        try_join_all((0..count).map(|_| lane())).await.map(drop)
    }
}

/// Analyzes a table and its partitions.
async fn analyze_all_of(
    session: &Session,
    table: &str,
    progress: &dyn Progress,
) -> Result<(), Fault> {
    let Some(refusal) = analyze_one(session, table).await? else {
        return Ok(());
    };
    progress.warning(&format!("not analyzed: {refusal}"));
    // One partition ends the whole statement.
    let sql = format!(
        "SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname) \
         FROM pg_catalog.pg_partition_tree(pg_catalog.to_regclass({})) AS t \
         JOIN pg_catalog.pg_class AS c ON c.oid = t.relid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace WHERE t.isleaf",
        literal(table)
    );
    for row in ask(session, "cannot list partitions", &sql).await? {
        if let Some(refusal) = analyze_one(session, &row.text(0)).await? {
            progress.warning(&format!("not analyzed: {refusal}"));
        }
    }
    Ok(())
}

/// Gives why the server refuses, if it does and would do so again.
async fn analyze_one(session: &Session, table: &str) -> Result<Option<Fault>, Fault> {
    let context = format!("cannot gather statistics of {table}");
    match run(session, &context, &format!("ANALYZE {table}")).await {
        Err(fault) if !fault.is_retryable() => Ok(Some(fault)),
        other => other.map(|()| None),
    }
}
