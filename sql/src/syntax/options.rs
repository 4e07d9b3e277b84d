//! Options: `WITH a, b = 'x'`. One table for each statement says which there are, what they take, and in which order they are printed.

use std::collections::BTreeMap;

use super::expression::Str;

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OptionKind {
    /// Nothing.
    Flag,
    /// Nothing, `= TRUE`, or `= FALSE`, which is as if it were not there.
    Switch,
    /// A truth value, which may be left out.
    Bool,
    /// A text.
    Text,
    /// A text that is not shown.
    Secret,
    /// A URI or several. They are not shown.
    Uris,
}

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionSpec {
    /// Its words, as they are printed.
    pub(crate) name: &'static str,
    pub(crate) kind: OptionKind,
}

/// What can no longer, or never could, be said here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoOption {
    pub(crate) name: &'static str,
    /// Why not, and what to do instead.
    pub(crate) why: &'static str,
}

/// The options of a statement, in the order in which they are printed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionTable {
    pub(crate) options: &'static [OptionSpec],
    /// Other words for the same: from, to.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
    pub(crate) refused: &'static [NoOption],
}

/// What an option was given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OptionValue {
    /// Of a flag or switch: that it is there.
    On,
    /// Of a truth value.
    Bool(Truth),
    /// Of a text or secret.
    Text(Str),
    /// Of URIs.
    Uris(Vec<Str>),
}

/// A truth value, or the placeholder of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    /// As it was written.
    Value(bool),
    /// `$1`
    Placeholder(u16),
}

/// The options that were given.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Options {
    pub(crate) table: &'static OptionTable,
    /// By their place in the table.
    pub(crate) given: BTreeMap<usize, OptionValue>,
}

impl Options {
    /// None of a table.
    pub(crate) fn none(table: &'static OptionTable) -> Self {
        Self {
            table,
            given: BTreeMap::new(),
        }
    }

    /// What an option was given.
    pub(crate) fn get(&self, name: &str) -> Option<&OptionValue> {
        let place = self.table.options.iter().position(|o| o.name == name);
        debug_assert!(place.is_some(), "the table has no option {name}");
        self.given.get(&place?)
    }

    /// Whether a flag or switch is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// In the order in which they are printed.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static OptionSpec, &OptionValue)> {
        let table = self.table;
        let spec = |place: &usize| table.options.get(*place);
        (self.given.iter()).filter_map(move |(place, value)| Some((spec(place)?, value)))
    }
}

const fn option(name: &'static str, kind: OptionKind) -> OptionSpec {
    OptionSpec { name, kind }
}

use OptionKind::{Bool, Flag, Secret, Switch, Text, Uris};

const NO_LOCATION: NoOption = NoOption {
    name: "incremental_location",
    why: "option incremental_location was removed: the incrementals of a chain are always in its collection; leave it out",
};
const NO_TENANTS: NoOption = NoOption {
    name: "include_all_virtual_clusters",
    why: "option include_all_virtual_clusters has no meaning here: there are no virtual clusters; a source is backed up as a whole when no target is named",
};
const NO_SECONDARY_TENANTS: NoOption = NoOption {
    name: "include_all_secondary_tenants",
    why: NO_TENANTS.why,
};

/// Of BACKUP and CREATE SCHEDULE FOR BACKUP.
pub(crate) static BACKUP: OptionTable = OptionTable {
    options: &[
        option("revision_history", Bool),
        option("encryption_passphrase", Secret),
        option("detached", Switch),
        option("kms", Uris),
        option("execution locality", Text),
        option("strict storage locality", Flag),
        option("updates_cluster_monitoring_metrics", Bool),
        option("start_chain", Bool),
    ],
    aliases: &[
        ("coordinator_locality", "execution locality"),
        ("strict", "strict storage locality"),
    ],
    refused: &[
        NO_LOCATION,
        NO_TENANTS,
        NO_SECONDARY_TENANTS,
        NoOption {
            name: "revision stream",
            why: "option revision stream is not offered: use revision_history",
        },
    ],
};

/// Of RESTORE.
pub(crate) static RESTORE: OptionTable = OptionTable {
    options: &[
        option("encryption_passphrase", Secret),
        option("kms", Uris),
        option("into_db", Text),
        option("into_schema", Text),
        option("skip_missing_foreign_keys", Flag),
        option("skip_missing_sequence_owners", Flag),
        option("skip_missing_sequences", Flag),
        option("skip_missing_views", Flag),
        option("skip_missing_udfs", Flag),
        option("skip_missing_roles", Flag),
        option("detached", Switch),
        option("skip_localities_check", Flag),
        option("new_db_name", Text),
        option("schema_only", Flag),
        option("verify_backup_table_data", Flag),
        option("unsafe_restore_incompatible_version", Flag),
        option("execution locality", Text),
        option("remove_regions", Flag),
        option("grants", Bool),
        option("owners", Bool),
        option("members", Text),
    ],
    aliases: &[
        ("coordinator_locality", "execution locality"),
        ("strip_localities", "remove_regions"),
    ],
    refused: &[
        NO_LOCATION,
        NO_TENANTS,
        NO_SECONDARY_TENANTS,
        NoOption {
            name: "virtual_cluster_name",
            why: "option virtual_cluster_name has no meaning here: there are no virtual clusters; INTO SOURCE says where to restore to",
        },
        NoOption {
            name: "virtual_cluster",
            why: "option virtual_cluster has no meaning here: there are no virtual clusters; INTO SOURCE says where to restore to",
        },
        NoOption {
            name: "experimental deferred copy",
            why: "option experimental deferred copy is not offered: rows are always copied before a restore ends",
        },
        NoOption {
            name: "experimental copy",
            why: "option experimental copy is not offered: rows are always copied before a restore ends",
        },
        NoOption {
            name: "debug_pause_on",
            why: "option debug_pause_on was removed: PAUSE JOB pauses a job",
        },
    ],
};

/// Of SHOW BACKUP.
pub(crate) static SHOW_BACKUP: OptionTable = OptionTable {
    options: &[
        option("as_json", Flag),
        option("check_files", Flag),
        option("debug_ids", Flag),
        option("encryption_passphrase", Secret),
        option("kms", Uris),
        option("privileges", Flag),
        option("skip size", Flag),
    ],
    aliases: &[],
    refused: &[
        NO_LOCATION,
        NoOption {
            name: "encryption_info_dir",
            why: "option encryption_info_dir was removed: where keys are kept is known from the chain",
        },
        NoOption {
            name: "debug_dump_metadata_sst",
            why: "option debug_dump_metadata_sst has no meaning here: manifests are no SSTs; as_json shows them",
        },
    ],
};

/// Of VERIFY BACKUP.
pub(crate) static VERIFY: OptionTable = OptionTable {
    options: &[
        option("encryption_passphrase", Secret),
        option("kms", Uris),
        option("detached", Switch),
        option("execution locality", Text),
    ],
    aliases: &[],
    refused: &[],
};

/// Of EXPIRE BACKUPS.
pub(crate) static EXPIRE: OptionTable = OptionTable {
    options: &[option("detached", Switch)],
    aliases: &[],
    refused: &[],
};

/// Of SHOW JOBS and SHOW JOB.
pub(crate) static SHOW_JOBS: OptionTable = OptionTable {
    options: &[
        option("execution details", Flag),
        option("resolved timestamp", Flag),
    ],
    aliases: &[],
    refused: &[],
};

/// Of CHECK EXTERNAL CONNECTION.
pub(crate) static CHECK_CONNECTION: OptionTable = OptionTable {
    options: &[
        option("transfer", Text),
        option("time", Text),
        option("concurrently", Text),
    ],
    aliases: &[],
    refused: &[],
};

/// Of a member of a source.
pub(crate) static MEMBER: OptionTable = OptionTable {
    options: &[
        option("locality", Text),
        option("password", Secret),
        option("streams", Text),
        option("max_rate", Text),
        option("wal_budget", Text),
    ],
    aliases: &[],
    refused: &[],
};

/// Every table, for tests.
#[cfg(test)]
pub(crate) static ALL: [&OptionTable; 8] = [
    &BACKUP,
    &RESTORE,
    &SHOW_BACKUP,
    &VERIFY,
    &EXPIRE,
    &SHOW_JOBS,
    &CHECK_CONNECTION,
    &MEMBER,
];
