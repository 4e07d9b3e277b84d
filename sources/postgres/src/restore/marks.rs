//! The marks of a restore: which steps and parts are done. A mark is committed with what it speaks of, or not at all.

use super::name::RestoreName;
use crate::answer::{ask, run};
use crate::identifier::{literal, qualified, quote};
use crate::schema::Step;
use crate::session::Session;
use holdfast_types::Fault;
use std::collections::BTreeSet;

/// Before the name of a part that has a note.
const NOTED: &str = "noted/";

/// Where the marks of one restored database are. They are in that database, and go with the end of the restore.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marks {
    schema: String,
}

impl Marks {
    /// The marks of a restore.
    #[must_use]
    pub fn of(name: &RestoreName) -> Self {
        Self {
            schema: name.schema().to_owned(),
        }
    }

    fn table(&self) -> String {
        qualified(&self.schema, "marks")
    }

    /// Marks of what a crash of the server empties: it takes them along.
    fn fleeting_table(&self) -> String {
        qualified(&self.schema, "fleeting_marks")
    }

    /// Makes the table of marks; that it exists already is no error.
    ///
    /// # Errors
    /// What the server says.
    pub async fn create(&self, session: &Session) -> Result<(), Fault> {
        let sql = format!(
            "CREATE SCHEMA IF NOT EXISTS {}; REVOKE ALL ON SCHEMA {} FROM PUBLIC; \
             CREATE TABLE IF NOT EXISTS {} (mark text PRIMARY KEY, note text); \
             CREATE UNLOGGED TABLE IF NOT EXISTS {} (mark text PRIMARY KEY)",
            quote(&self.schema),
            quote(&self.schema),
            self.table(),
            self.fleeting_table()
        );
        run(session, "cannot prepare the restore", &sql).await
    }

    /// Whether the table of marks is there: a restore of this name is under way in this database.
    ///
    /// # Errors
    /// What the server says.
    pub async fn exist(&self, session: &Session) -> Result<bool, Fault> {
        let sql = format!("SELECT to_regclass({}) IS NOT NULL", literal(&self.table()));
        let rows = ask(session, "cannot read the restore's marks", &sql).await?;
        Ok(rows.first().is_some_and(|row| row.flag(0)))
    }

    /// The statement that takes the marks away.
    #[must_use]
    pub fn drop_statement(&self) -> String {
        format!("DROP SCHEMA IF EXISTS {} CASCADE;", quote(&self.schema))
    }

    /// All marks that begin with `prefix`: `part/` for loaded parts. After a crash of the server this is the truth about parts, whatever
    /// was reported before: unlogged tables are empty then.
    ///
    /// # Errors
    /// What the server says.
    pub async fn with_prefix(
        &self,
        session: &Session,
        prefix: &str,
    ) -> Result<BTreeSet<String>, Fault> {
        let sql = format!(
            "SELECT m.mark FROM (SELECT mark FROM {} UNION ALL SELECT mark FROM {}) AS m WHERE starts_with(m.mark, {})",
            self.table(),
            self.fleeting_table(),
            literal(prefix)
        );
        let rows = ask(session, "cannot read the restore's marks", &sql).await?;
        Ok(rows.into_iter().map(|row| row.text(0)).collect())
    }

    /// The notes of marks that begin with `prefix`, by mark.
    pub(super) async fn notes(
        &self,
        session: &Session,
        prefix: &str,
    ) -> Result<Vec<(String, String)>, Fault> {
        let sql = format!(
            "SELECT mark, note FROM {} WHERE starts_with(mark, {}) ORDER BY mark COLLATE \"C\"",
            self.table(),
            literal(prefix)
        );
        let rows = ask(session, "cannot read the restore's marks", &sql).await?;
        Ok(rows
            .into_iter()
            .map(|row| (row.text(0), row.text(1)))
            .collect())
    }

    /// The statement that leaves a note on a part, in the place of an older one: a part of an unlogged table may be loaded anew.
    pub(super) fn note_statement(&self, part: &str, note: &str) -> String {
        format!(
            "INSERT INTO {} VALUES ({}, {}) ON CONFLICT (mark) DO UPDATE SET note = excluded.note;",
            self.table(),
            literal(&format!("{NOTED}{part}")),
            literal(note)
        )
    }

    /// The notes on all parts that have one, by part.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn part_notes(
        &self,
        session: &Session,
    ) -> Result<Vec<(String, String)>, Fault> {
        let mut notes = self.notes(session, NOTED).await?;
        for (mark, _) in &mut notes {
            mark.drain(..NOTED.len());
        }
        Ok(notes)
    }

    /// The statement that leaves a mark; it fails if the mark is there, after waiting for whoever is just leaving it.
    pub(super) fn statement(&self, mark: &str, note: Option<&str>) -> String {
        format!(
            "INSERT INTO {} VALUES ({}, {});",
            self.table(),
            literal(mark),
            note.map_or("NULL".to_owned(), literal)
        )
    }

    /// Begins a transaction with a mark. `false`, and no transaction, if the mark was there already. A transaction that an earlier,
    /// cancelled call left behind in the session is rolled back first.
    ///
    /// # Errors
    /// What the server says.
    pub(crate) async fn begin(&self, session: &Session, mark: &str) -> Result<bool, Fault> {
        begin_in(session, &self.table(), mark).await
    }

    /// As [`begin`](Self::begin), for rows of an unlogged table: a crash of the server that empties it takes the mark along.
    ///
    /// # Errors
    /// What the server says.
    pub(super) async fn begin_fleeting(
        &self,
        session: &Session,
        mark: &str,
    ) -> Result<bool, Fault> {
        begin_in(session, &self.fleeting_table(), mark).await
    }

    /// Runs a step and leaves its mark, in one transaction. Doing it again changes nothing.
    ///
    /// # Errors
    /// What the server says, naming the step.
    pub async fn run_once(&self, session: &Session, step: &Step) -> Result<(), Fault> {
        if !self.begin(session, &step.mark).await? {
            return Ok(());
        }
        let context = format!("cannot restore {}", step.name);
        let done = run(session, &context, &format!("{}\nCOMMIT", step.sql)).await;
        if done.is_err() {
            // The session is to be of use again; if it is lost, so is the transaction.
            let _ = run(session, &context, "ROLLBACK").await;
        }
        done
    }

    /// Makes everything committed so far durable, whatever the session's `synchronous_commit` is.
    ///
    /// # Errors
    /// What the server says.
    pub async fn flush(&self, session: &Session, phase: &str) -> Result<(), Fault> {
        let sql = format!(
            "BEGIN; SET LOCAL synchronous_commit = on; INSERT INTO {} VALUES ({}, now()::text) \
             ON CONFLICT (mark) DO UPDATE SET note = excluded.note; COMMIT",
            self.table(),
            literal(&format!("phase/{phase}"))
        );
        run(session, "cannot end a phase of the restore", &sql).await
    }
}

async fn begin_in(session: &Session, table: &str, mark: &str) -> Result<bool, Fault> {
    let context = "cannot mark a part as loaded";
    let sql = format!(
        "ROLLBACK; BEGIN; INSERT INTO {table} VALUES ({}) ON CONFLICT DO NOTHING RETURNING mark",
        literal(mark)
    );
    if ask(session, context, &sql).await?.is_empty() {
        run(session, context, "ROLLBACK").await?;
        return Ok(false);
    }
    Ok(true)
}
