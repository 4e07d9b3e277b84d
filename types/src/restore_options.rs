//! What a restore makes of a backup besides its rows.

use serde::{Deserialize, Serialize};

/// The options of a restore. Sources that are nothing but rows know none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreOptions {
    /// Whether everything but rows is restored.
    pub schema_only: bool,
    /// With [`Self::schema_only`]: whether all rows are read and compared as if they were restored, and written nowhere.
    pub verify_data: bool,
    /// Whether foreign keys to tables that neither are restored nor exist are left out; otherwise they are an error.
    pub skip_missing_foreign_keys: bool,
    /// Whether defaults that use a sequence which neither is restored nor exists are left out; otherwise they are an error.
    pub skip_missing_sequences: bool,
    /// Whether a sequence comes along without its owner, if that is a column of a table which is not restored.
    pub skip_missing_sequence_owners: bool,
    /// Whether rights are granted, as far as there are roles for them.
    pub grants: bool,
    /// Whether objects get their owners; otherwise all belong to the role that restores.
    pub owners: bool,
    /// Whether what belongs to a role that does not exist belongs to the role that restores, and what is for such a role alone is left out;
    /// otherwise both are errors.
    pub skip_missing_roles: bool,
}

impl Default for RestoreOptions {
    /// Everything as it was, or not at all.
    fn default() -> Self {
        Self {
            schema_only: false,
            verify_data: false,
            skip_missing_foreign_keys: false,
            skip_missing_sequences: false,
            skip_missing_sequence_owners: false,
            grants: true,
            owners: true,
            skip_missing_roles: false,
        }
    }
}

impl RestoreOptions {
    /// Whether rows are read: to be loaded, or only to be compared.
    #[must_use]
    pub fn reads_rows(&self) -> bool {
        !self.schema_only || self.verify_data
    }

    /// The options that are not the usual ones, by the names that they have in the model system or after its manner.
    #[must_use]
    pub fn given(&self) -> Vec<&'static str> {
        let options = [
            (self.schema_only, "schema_only"),
            (self.verify_data, "verify_backup_table_data"),
            (self.skip_missing_foreign_keys, "skip_missing_foreign_keys"),
            (self.skip_missing_sequences, "skip_missing_sequences"),
            (
                self.skip_missing_sequence_owners,
                "skip_missing_sequence_owners",
            ),
            (!self.grants, "grants = false"),
            (!self.owners, "owners = false"),
            (self.skip_missing_roles, "skip_missing_roles"),
        ];
        let given = options
            .into_iter()
            .filter_map(|(is_given, name)| is_given.then_some(name));
        given.collect()
    }
}
