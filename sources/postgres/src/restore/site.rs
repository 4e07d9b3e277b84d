//! The database in which a restore makes its things, and how steps run there.

use super::indexes::{IndexLanes, Refusal, lanes_over};
use super::marks::Marks;
use super::progress::Progress;
use super::target::Target;
use crate::answer::ask;
use crate::identifier::literal;
use crate::schema::{OrderedStep, Step};
use crate::session::Session;
use holdfast_types::Fault;
use std::collections::{BTreeMap, BTreeSet};

/// Tables asked about in one query.
const ASK_BATCH: usize = 500;

/// A database that is being filled, alone or beside an application.
#[derive(Debug, Clone)]
pub(super) struct Site {
    pub(super) target: Target,
    pub(super) database: String,
    pub(super) marks: Marks,
    /// Whether nobody else is in the database.
    pub(super) is_hidden: bool,
    /// The schemas that are the restore's own; none where the whole database is.
    pub(super) stages: Vec<String>,
    /// The search path of the application, for functions that count on it.
    pub(super) search_path: Option<String>,
}

/// What is known of a table before its indexes are built.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableFacts {
    pub(super) bytes: u64,
    pub(super) is_partitioned: bool,
    /// Whether it inherits columns, other than as a partition.
    pub(super) is_heir: bool,
}

impl Site {
    /// A session for definitions: names are qualified in them.
    pub(super) async fn open(&self) -> Result<Session, Fault> {
        if self.is_hidden {
            self.target.hidden_session(&self.database, None).await
        } else {
            self.target.session(&self.database).await
        }
    }

    /// A session for what runs functions of the application.
    pub(super) async fn open_as_application(&self) -> Result<Session, Fault> {
        let path = self.search_path.as_deref();
        if self.is_hidden {
            return self.target.hidden_session(&self.database, path).await;
        }
        let session = self.target.session(&self.database).await?;
        Target::find_as(&session, path).await?;
        Ok(session)
    }

    /// Runs steps one after the other, without those that were run before.
    pub(super) async fn in_order(
        &self,
        session: &Session,
        phase: &'static str,
        steps: &[Step],
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let done = self.marks.with_prefix(session, "entry/").await?;
        progress.phase(phase, steps.len(), 0);
        for step in steps {
            if !done.contains(&step.mark) {
                progress.started(&step.name);
                self.marks.run_once(session, step).await?;
            }
            progress.ended(&step.name, 0);
        }
        self.marks.flush(session, phase).await
    }

    /// Runs what comes after rows and indexes; foreign keys are added first and validated in parallel at the end. A foreign key
    /// that the rows do not satisfy stays without validation, with a warning: the source held them so.
    pub(super) async fn after(
        &self,
        steps: &[OrderedStep],
        lanes: IndexLanes,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        let session = self.open().await?;
        let tables: BTreeSet<String> = steps
            .iter()
            .filter_map(|step| step.validated.as_ref())
            .map(|validated| validated.table.clone())
            .collect();
        let facts = table_facts(&session, &tables).await?;
        let (mut ordered, mut checks) = (Vec::new(), Vec::new());
        for step in steps {
            match &step.validated {
                // Before version 18 a partitioned table cannot have a foreign key that is not valid.
                Some(split) if !facts.get(&split.table).is_some_and(|f| f.is_partitioned) => {
                    ordered.push(split.add.clone());
                    let bytes = facts.get(&split.table).map_or(0, |facts| facts.bytes);
                    checks.push((bytes, split.validate.clone()));
                }
                _ => ordered.push(step.step.clone()),
            }
        }
        self.in_order(
            &session,
            "foreign keys, triggers and rules",
            &ordered,
            progress,
        )
        .await?;
        let phase = "validating foreign keys";
        lanes_over(self, lanes, &checks, phase, progress, Refusal::Warns).await
    }

    /// Turns a refusal that would come again into a warning, and marks the step as done with.
    pub(super) async fn or_warn(
        &self,
        session: &Session,
        step: &Step,
        outcome: Result<(), Fault>,
        progress: &dyn Progress,
    ) -> Result<(), Fault> {
        match outcome {
            Err(fault) if !fault.is_retryable() => {
                progress.warning(&format!("put back NOT VALID: {fault}"));
                let skipped = Step {
                    sql: ";".to_owned(),
                    ..step.clone()
                };
                self.marks.run_once(session, &skipped).await
            }
            other => other,
        }
    }
}

/// Sizes and kinds of tables, by their qualified and quoted names.
pub(super) async fn table_facts(
    session: &Session,
    tables: &BTreeSet<String>,
) -> Result<BTreeMap<String, TableFacts>, Fault> {
    let mut facts = BTreeMap::new();
    let names: Vec<String> = tables.iter().map(|name| literal(name)).collect();
    for batch in names.chunks(ASK_BATCH) {
        let sql = format!(
            "SELECT t.name, pg_catalog.pg_table_size(c.oid), c.relkind IN ('p', 'I'), \
             NOT c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhrelid = c.oid) \
             FROM pg_catalog.unnest(ARRAY[{}]::text[]) AS t(name) \
             JOIN pg_catalog.pg_class AS c ON c.oid = pg_catalog.to_regclass(t.name)",
            batch.join(", ")
        );
        for row in ask(session, "cannot read sizes of tables", &sql).await? {
            let known = TableFacts {
                bytes: row.number(1)?,
                is_partitioned: row.flag(2),
                is_heir: row.flag(3),
            };
            facts.insert(row.text(0), known);
        }
    }
    Ok(facts)
}
