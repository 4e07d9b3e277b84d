//! Tells whoever asked for a restore what comes out otherwise, and how far it is.

use holdfast_source::{LoggedRestore, Notes, Steps};

use crate::restore::Progress;

/// Tells of one database.
#[derive(Debug)]
pub(super) struct Told {
    notes: Notes,
    steps: Steps,
    /// Its name at the target.
    database: String,
}

impl Told {
    pub(super) fn of(restore: &LoggedRestore, database: &str) -> Self {
        Self {
            notes: restore.notes.clone(),
            steps: restore.steps.clone(),
            database: database.to_owned(),
        }
    }
}

impl Progress for Told {
    fn phase(&self, phase: &'static str, steps: usize, bytes: u64) {
        tracing::debug!(phase, steps, bytes, database = self.database, "restore");
        let phase = format!("{phase} of database {}", self.database.escape_debug());
        self.steps.begin(phase, steps as u64, bytes);
    }

    fn started(&self, name: &str) {
        self.steps.started(name);
    }

    fn ended(&self, name: &str, bytes: u64) {
        self.steps.ended(name, bytes);
    }

    fn given_up(&self, name: &str) {
        self.steps.given_up(name);
    }

    fn warning(&self, text: &str) {
        let database = self.database.escape_debug();
        self.notes.add(format!("database {database}: {text}"));
    }
}
