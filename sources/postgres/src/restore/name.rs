//! What a restore calls the things that nobody is to see before it is done.

use holdfast_types::JobId;

/// The names of one restored database's hidden things. Made from the job alone, so that any worker knows them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoreName {
    base: String,
}

/// Hidden databases and schemas begin like this; backups leave them out.
pub(crate) const HIDDEN: &str = "holdfast_restore_";

impl RestoreName {
    /// The names for the database with this number in a job.
    #[must_use]
    pub fn new(job: JobId, number: u32) -> Self {
        Self {
            base: format!("{HIDDEN}{job}_{number}"),
        }
    }

    /// The database while it is being filled.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.base
    }

    /// The database in which a table's definition is renamed, without rows.
    #[must_use]
    pub fn workshop(&self) -> String {
        format!("{}_names", self.base)
    }

    /// The schema with the marks.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.base
    }

    /// The schema in which the things of the `number`th schema wait until they are published.
    #[must_use]
    pub fn stage(&self, number: usize) -> String {
        format!("{}_s{number}", self.base)
    }
}
