//! Arguments of commands about backups and jobs.

use clap::{Args, Subcommand};
use holdfast_types::{AsOf, ErrorCode, Fault, Locality, TableName};
use std::convert::Infallible;
use std::str::FromStr;

use super::{KeyArgs, Unread};

/// What `--append` appends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AppendTo {
    Latest,
    Subdir(String),
}

impl FromStr for AppendTo {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text.eq_ignore_ascii_case("latest") {
            Self::Latest
        } else {
            Self::Subdir(text.to_owned())
        })
    }
}

/// What is backed up or restored: everything, unless narrowed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TargetArgs {
    /// Only this database; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "table")]
    pub(crate) database: Vec<String>,
    /// Only this table; may be repeated
    #[arg(long, value_name = "DATABASE.TABLE")]
    pub(crate) table: Vec<TableName>,
}

/// Running a job in this process, without a cluster.
#[derive(Debug, Clone, Args)]
pub(crate) struct OneShotArgs {
    /// The role's password, where the connection string has none; better in the environment than here
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PGPASSWORD",
        hide_env_values = true
    )]
    pub(crate) password: Option<Unread>,
    /// Without a cluster: where what is needed to go on after a crash is kept; a directory in your home if left out
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<String>,
    /// Without a cluster: how many connections read or write at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) streams: u32,
    /// Without a cluster: where pg_dump and pg_restore are looked for first
    #[arg(long, value_name = "DIR", env = "HOLDFAST_PG_TOOLS")]
    pub(crate) pg_tools: Option<String>,
}

impl OneShotArgs {
    /// Only a job in this process has a state that outlives it.
    pub(crate) fn refuse_state(&self) -> Result<(), Fault> {
        match &self.state_dir {
            None => Ok(()),
            Some(_) => Err(Fault::new(
                ErrorCode::InvalidArgument,
                "--state-dir goes with --source of a backup, or --to of a restore",
            )
            .hint("leave it out: a cluster keeps the state of its jobs by itself")),
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The registered source, and the collection unless --into says it
    #[arg(value_name = "SOURCE [INTO URI]", num_args = 0..=3)]
    pub(crate) words: Vec<String>,
    /// The collection's URI: file:///backups/bank; repeated, the stores of several localities, each with its HOLDFAST_LOCALITY
    #[arg(long, value_name = "URI")]
    pub(crate) into: Vec<String>,
    /// Without a cluster: back up this server from this process
    #[arg(
        long = "source",
        value_name = "postgres://ROLE@HOST/DATABASE",
        conflicts_with_all = ["execution_locality", "request_key", "detach", "no_chain"]
    )]
    pub(crate) server: Option<Unread>,
    /// With --source: keep the server's log from now on, so that incrementals can follow
    #[arg(long, requires = "server", conflicts_with = "append")]
    pub(crate) start_chain: bool,
    /// A PostgreSQL full that no incremental will follow: the servers need not keep their log
    #[arg(long, conflicts_with = "append")]
    pub(crate) no_chain: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Encryption: how a key follows from the passphrase of a new chain
    #[arg(long, value_name = "KDF", conflicts_with = "append", value_parser = ["argon2id", "pbkdf2-sha256"])]
    pub(crate) kdf: Option<String>,
    #[command(flatten)]
    pub(crate) one_shot: OneShotArgs,
    /// A new full backup (the default)
    #[arg(long, conflicts_with = "append")]
    pub(crate) full: bool,
    /// An incremental on the newest full, or on the one named
    #[arg(
        long,
        value_name = "SUBDIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "latest"
    )]
    pub(crate) append: Option<AppendTo>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// The backup's end: a time, an exact position, or -10s; now if left out
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) as_of: Option<AsOf>,
    /// Keep every version of every row since the last backup of the chain
    #[arg(long)]
    pub(crate) revision_history: bool,
    /// Only workers in this locality take part
    #[arg(long, value_name = "LOCALITY")]
    pub(crate) execution_locality: Option<Locality>,
    /// The same key never makes two jobs
    #[arg(long, value_name = "KEY")]
    pub(crate) request_key: Option<String>,
    /// Return as soon as the job is accepted
    #[arg(long)]
    pub(crate) detach: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// The collection, unless --from says it
    #[arg(value_name = "FROM URI", num_args = 0..=2)]
    pub(crate) words: Vec<String>,
    /// The collection's URI; repeated, all its stores, that of the default part first
    #[arg(long, value_name = "URI")]
    pub(crate) from: Vec<String>,
    /// Which chain: LATEST, or a subdirectory as listed by `backups list`
    #[arg(long, default_value = "LATEST")]
    pub(crate) subdir: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Any covered instant, or a place in one PostgreSQL server's log, such as 16/B374D848; the chain's end if left out
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub(crate) as_of: Option<AsOf>,
    /// The registered source to write; the one that was backed up if left out
    #[arg(long, value_name = "SOURCE", conflicts_with = "local")]
    pub(crate) into_source: Option<String>,
    /// With --table: put the tables into this database, which must exist
    #[arg(
        long,
        value_name = "NAME",
        requires = "table",
        conflicts_with = "database"
    )]
    pub(crate) into_db: Option<String>,
    /// With one --database: restore it under this name
    #[arg(
        long,
        value_name = "NAME",
        requires = "database",
        conflicts_with = "table"
    )]
    pub(crate) new_db_name: Option<String>,
    /// PostgreSQL, with --table: put the tables into this schema
    #[arg(long, value_name = "NAME", requires = "table")]
    pub(crate) into_schema: Option<String>,
    /// PostgreSQL, with one --table: restore it under this name
    #[arg(long, value_name = "NAME", requires = "table")]
    pub(crate) new_table_name: Option<String>,
    /// Change nothing: say of every object whether it can be restored, and what stands in the way
    #[arg(long, conflicts_with_all = ["local", "detach", "request_key", "state_dir"])]
    pub(crate) dry_run: bool,
    /// PostgreSQL: everything but the rows
    #[arg(long)]
    pub(crate) schema_only: bool,
    /// PostgreSQL, with --schema-only: read and compare all rows as a restore would, and write none
    #[arg(long, requires = "schema_only")]
    pub(crate) verify_backup_table_data: bool,
    /// PostgreSQL: leave out foreign keys to tables that neither are restored nor exist
    #[arg(long)]
    pub(crate) skip_missing_foreign_keys: bool,
    /// PostgreSQL, with --table: leave out defaults that use a sequence which neither is restored nor exists
    #[arg(long, requires = "table")]
    pub(crate) skip_missing_sequences: bool,
    /// PostgreSQL, with --table: let a sequence of another table come along, without its owner
    #[arg(long, requires = "table")]
    pub(crate) skip_missing_sequence_owners: bool,
    /// PostgreSQL: everything belongs to the role that restores
    #[arg(long)]
    pub(crate) no_owner: bool,
    /// PostgreSQL: what belongs to a role that does not exist belongs to the role that restores; policies and user mappings of such roles are left out
    #[arg(long)]
    pub(crate) skip_missing_roles: bool,
    /// PostgreSQL: grant no rights; without, those of roles that exist are granted
    #[arg(long)]
    pub(crate) no_grants: bool,
    /// Only this member of the backup, onto the one of its name or onto MEMBER; may be repeated
    #[arg(long, value_name = "NAME[=MEMBER]")]
    pub(crate) only: Vec<String>,
    /// Only workers in this locality take part
    #[arg(long, value_name = "LOCALITY", conflicts_with = "local")]
    pub(crate) execution_locality: Option<Locality>,
    /// The same key never makes two jobs
    #[arg(long, value_name = "KEY", conflicts_with = "local")]
    pub(crate) request_key: Option<String>,
    /// Return as soon as the job is accepted
    #[arg(long, conflicts_with = "local")]
    pub(crate) detach: bool,
    /// Without a cluster: run the restore in this process, into the given members
    #[arg(long, requires = "member")]
    pub(crate) local: bool,
    /// With --local: a member to write, named as in the backup; may be repeated
    #[arg(long, value_name = "NAME=ADDRESS", requires = "local")]
    pub(crate) member: Vec<Unread>,
    /// Without a cluster: restore the backup of one server onto this one from this process
    #[arg(
        long,
        value_name = "postgres://ROLE@HOST/DATABASE",
        conflicts_with_all = ["local", "into_source", "execution_locality", "request_key", "detach"]
    )]
    pub(crate) to: Option<Unread>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) one_shot: OneShotArgs,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The collection's URI; repeated, all its stores, that of the default part first
    #[arg(long, value_name = "URI", required = true)]
    pub(crate) from: Vec<String>,
    /// Which chain: LATEST, or a subdirectory as listed by `backups list`
    #[arg(long, default_value = "LATEST")]
    pub(crate) subdir: String,
    /// Only the layer that ends at this time, as shown by `backups show`
    #[arg(long, value_name = "TIME")]
    pub(crate) layer_end: Option<String>,
    /// Only workers in this locality take part
    #[arg(long, value_name = "LOCALITY", conflicts_with = "local")]
    pub(crate) execution_locality: Option<Locality>,
    /// The same key never makes two jobs
    #[arg(long, value_name = "KEY", conflicts_with = "local")]
    pub(crate) request_key: Option<String>,
    /// Return as soon as the job is accepted
    #[arg(long, conflicts_with = "local")]
    pub(crate) detach: bool,
    /// Without a cluster: verify in this process
    #[arg(long)]
    pub(crate) local: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
}

/// Which chains expire: those that every given rule lets go.
#[derive(Debug, Args)]
pub(crate) struct ExpireArgs {
    /// The collection's URI
    pub(crate) collection: String,
    /// Another store of the collection; may be repeated
    #[arg(long, value_name = "URI")]
    pub(crate) also: Vec<String>,
    /// Chains that end before this: an age (30d, 2w, 12h) or a time. What could be restored since then stays restorable
    #[arg(long, value_name = "AGE", required_unless_present = "keep_fulls")]
    pub(crate) older_than: Option<String>,
    /// Chains with at least so many newer fulls of the same
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep_fulls: Option<u32>,
    /// Only show what would be removed, and why the others stay
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Return as soon as the job is accepted
    #[arg(long, conflicts_with = "dry_run")]
    pub(crate) detach: bool,
    /// Repeating a request with the same key gives the same job
    #[arg(long, value_name = "KEY")]
    pub(crate) request_key: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupsCommand {
    /// The chains of a collection, newest first
    List {
        /// The collection's URI
        collection: String,
        /// Read the collection directly, without a cluster
        #[arg(long)]
        local: bool,
    },
    /// Remove the chains that have expired: whole chains only, and never the newest of anything that can be restored
    Expire(ExpireArgs),
    /// Which bytes of a chain lie in which store; fails if any lies where it should not
    Residency {
        /// The URIs of all stores of the collection, that of the default part first
        #[arg(required = true, value_name = "COLLECTION")]
        collections: Vec<String>,
        /// Which chain: LATEST, or a subdirectory as listed
        #[arg(long, default_value = "LATEST")]
        subdir: String,
        /// Read the stores directly, without a cluster
        #[arg(long)]
        local: bool,
        #[command(flatten)]
        keys: Box<KeyArgs>,
    },
    /// The layers of a chain, their tables, and what can be restored
    Show {
        /// The collection's URI
        collection: String,
        /// Which chain: LATEST, or a subdirectory as listed
        #[arg(default_value = "LATEST")]
        subdir: String,
        /// Also compare every object's length with the store
        #[arg(long)]
        check_files: bool,
        /// Another store of the collection; may be repeated
        #[arg(long, value_name = "URI")]
        also: Vec<String>,
        /// Read the collection directly, without a cluster
        #[arg(long)]
        local: bool,
        #[command(flatten)]
        keys: Box<KeyArgs>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConnectionCommand {
    /// Keep a URI, with its secrets, under a name that stands for it: external://NAME/path
    Create(ConnectionArgs),
    /// Change the URI: its secrets at any time, where it leads to while no job uses it
    Alter(ConnectionArgs),
    /// Forget a connection; what it leads to stays
    Drop {
        /// Its name
        name: String,
    },
    /// All connections, or one, without their secrets
    Show {
        /// Its name
        name: Option<String>,
    },
    /// Have every worker write, read back and remove something there
    Check {
        /// The connection, or a URI
        connection: String,
        /// How many MiB each worker writes and reads
        #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..=256))]
        transfer_mib: u64,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConnectionArgs {
    /// Its name
    pub(crate) name: String,
    /// The URI of a store, with all parameters; others on this machine can see what stands here
    #[arg(long = "as", value_name = "URI", required_unless_present = "uri_file")]
    pub(crate) uri: Option<String>,
    /// A file that holds the URI
    #[arg(long, value_name = "FILE", conflicts_with = "uri")]
    pub(crate) uri_file: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum JobCommand {
    /// Jobs, unfinished first
    List {
        /// Also those that ended more than 12 hours ago
        #[arg(long)]
        all: bool,
        /// Only this state; may be repeated
        #[arg(long, value_name = "STATE")]
        state: Vec<String>,
        /// Only runs of this schedule; may be repeated
        #[arg(long, value_name = "SCHEDULE")]
        schedule: Vec<u64>,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// One job with its members and tasks
    Show {
        /// The job
        job: u64,
    },
    /// Follow a job to its end
    Watch {
        /// The job
        job: u64,
    },
    /// Stop a job and keep what it has done
    Pause {
        /// The job
        job: u64,
        /// Shown with the job
        #[arg(long, default_value = "")]
        reason: String,
        /// Return when the job is paused
        #[arg(long)]
        wait: bool,
    },
    /// Let a paused job go on where it stopped
    Resume {
        /// The job
        job: u64,
        /// Follow the job to its end
        #[arg(long)]
        wait: bool,
    },
    /// Stop a job and undo what it has done
    Cancel {
        /// The job
        job: u64,
        /// Shown with the job
        #[arg(long, default_value = "")]
        reason: String,
        /// Return when everything is undone
        #[arg(long)]
        wait: bool,
    },
}
