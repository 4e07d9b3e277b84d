//! Arguments of commands about processes, clusters and sources.

use clap::{Args, Subcommand, ValueEnum};
use holdfast_types::{AsOf, Locality, SourceName, TableName, WorkerId};
use std::str::FromStr;

use super::{DEFAULT_COORDINATOR, DEFAULT_MEMBER, StoreArgs, Unread};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    Coordinator,
    Worker,
    Both,
}

/// A coordinator on the command line: `ID=HOST:PORT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeAddress {
    pub(crate) node: u64,
    pub(crate) address: String,
}

impl FromStr for NodeAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (node, address) = text.split_once('=').ok_or("write ID=HOST:PORT")?;
        let node = node
            .parse()
            .ok()
            .filter(|node| *node > 0)
            .ok_or_else(|| format!("\"{node}\" is not a node id: a number from 1"))?;
        if !address.contains(':') {
            return Err(format!("\"{address}\" is not HOST:PORT"));
        }
        Ok(Self {
            node,
            address: address.to_owned(),
        })
    }
}

/// An mvcc member to serve: `NAME=DIR[@HOST:PORT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MvccMember {
    pub(crate) name: SourceName,
    pub(crate) directory: String,
    pub(crate) listen: String,
}

impl FromStr for MvccMember {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or("write NAME=DIR[@HOST:PORT]")?;
        let (directory, listen) = rest.rsplit_once('@').unwrap_or((rest, DEFAULT_MEMBER));
        if directory.is_empty() {
            return Err("the directory is missing: write NAME=DIR[@HOST:PORT]".to_owned());
        }
        Ok(Self {
            name: SourceName::new(name).map_err(|fault| fault.to_string())?,
            directory: directory.to_owned(),
            listen: listen.to_owned(),
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct StartArgs {
    /// What this process does
    #[arg(long, value_enum, default_value = "both")]
    pub(crate) role: Role,
    /// A whole cluster in this one process: coordinator, worker, and a key file if there is none
    #[arg(long, conflicts_with_all = ["role", "join", "node_id"])]
    pub(crate) single: bool,
    /// This coordinator's number, never used twice in a cluster
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) node_id: u64,
    /// Where the coordinator listens; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_COORDINATOR)]
    pub(crate) listen: String,
    /// How others reach the coordinator, if not by what it listens on
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// The coordinators, for a process that is a worker only
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) join: Vec<String>,
    /// Where the coordinator keeps its log; needed by coordinators
    #[arg(long, value_name = "DIR", required_if_eq_any = [("role", "coordinator"), ("role", "both")])]
    pub(crate) data_dir: Option<String>,
    /// The cluster key that all processes share; with --single, made in the data directory if left out
    #[arg(long, value_name = "FILE", env = "HOLDFAST_KEY_FILE")]
    pub(crate) key_file: Option<String>,
    /// Where this process is: region=eu,zone=b
    #[arg(long, value_name = "LOCALITY", default_value = "")]
    pub(crate) locality: Locality,
    /// How many tasks the worker does at once
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) slots: u32,
    /// The worker's name, unique in the cluster; with a coordinator in the process, w and its number if left out
    #[arg(long, value_name = "NAME", required_if_eq("role", "worker"))]
    pub(crate) worker_id: Option<WorkerId>,
    /// Where the worker puts what does not fit into memory; emptied at its start. Below --data-dir, or a temporary directory, if left out
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<String>,
    /// Where the worker looks for pg_dump and pg_restore first
    #[arg(long, value_name = "DIR", env = "HOLDFAST_PG_TOOLS")]
    pub(crate) pg_tools: Option<String>,
    #[command(flatten)]
    pub(crate) stores: StoreArgs,
    /// Also serve a member of the embedded store; with --single it is registered as a source of that name
    #[arg(long, value_name = "NAME=DIR[@HOST:PORT]")]
    pub(crate) mvcc: Vec<MvccMember>,
    /// Where the coordinator listens for SQL, as PostgreSQL's clients speak it; port 0 takes a free one. Nowhere if left out
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) sql_addr: Option<String>,
    /// Let everybody who connects from this machine run SQL, under any name and without a password; all others need a user's password
    #[arg(long, requires = "sql_addr")]
    pub(crate) sql_trust_loopback: bool,
    /// The certificate, as PEM, that SQL is encrypted with; it is read again when it changes
    #[arg(long, value_name = "FILE", requires = "sql_addr", requires = "sql_key")]
    pub(crate) sql_cert: Option<String>,
    /// The private key of --sql-cert, as PEM
    #[arg(long, value_name = "FILE", requires = "sql_cert")]
    pub(crate) sql_key: Option<String>,
    /// Let users of other machines run SQL without encryption: whoever is on the way reads and changes statements, URIs with secrets among them
    #[arg(long, requires = "sql_addr")]
    pub(crate) sql_allow_plaintext: bool,
    /// Log as JSON lines
    #[arg(long)]
    pub(crate) log_json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// All coordinators of the new cluster; the one that is asked, alone, if left out
    #[arg(long, value_name = "ID=HOST:PORT", value_delimiter = ',')]
    pub(crate) members: Vec<NodeAddress>,
    /// Make a new cluster key file at this path, and nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "members")]
    pub(crate) key_file: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// Its name
    pub(crate) name: String,
    /// Its kind, mvcc or postgres; what the addresses of its members are if left out
    #[arg(long)]
    pub(crate) kind: Option<String>,
    /// One of its members; may be repeated. ADDRESS is HOST:PORT, or postgres://ROLE[:PASSWORD]@HOST[:PORT]/DATABASE
    #[arg(long, required = true, value_name = "NAME=ADDRESS[@LOCALITY]")]
    pub(crate) member: Vec<Unread>,
    /// The password of members whose connection string has none; better in the environment than here
    #[arg(
        long,
        value_name = "PASSWORD",
        env = "PGPASSWORD",
        hide_env_values = true
    )]
    pub(crate) password: Option<Unread>,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
}

/// What backups may take of each member of the command, where that is a PostgreSQL server.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct LimitArgs {
    /// PostgreSQL: how many sessions of one worker read rows at once; 0 for as many as usual
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=64))]
    pub(crate) streams: Option<u32>,
    /// PostgreSQL: how many MiB of rows one worker reads a second; 0 for no limit
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub(crate) max_rate_mib: Option<u64>,
    /// PostgreSQL: how many GiB of log a hold may keep on the server before it is given up; 0 for what is usual
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(0..=1_048_576))]
    pub(crate) wal_budget_gib: Option<u64>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Register a source
    Add(SourceArgs),
    /// Replace the members of a source; a member of the same server and role keeps its password
    Update {
        #[command(flatten)]
        source: SourceArgs,
        /// Forget the passwords of all members
        #[arg(long)]
        clear_passwords: bool,
    },
    /// Look at the members: what a backup gets, what keeps it from being made, and what mends that
    Check {
        /// Its name
        name: String,
        /// Only this member; may be repeated
        #[arg(long, value_name = "NAME")]
        member: Vec<String>,
    },
    /// All sources
    List,
    /// Forget a source; its backups stay
    Drop {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum HoldCommand {
    /// All holds on the history of sources
    List,
    /// Give up the hold of a chain: nothing can be appended to it any more
    Drop {
        /// The hold
        hold: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MemberCommand {
    /// The coordinators
    List,
    /// Add a coordinator that was started and waits
    Add {
        /// Its number and address
        #[arg(value_name = "ID=HOST:PORT")]
        node: NodeAddress,
        /// Remove this coordinator in the same step
        #[arg(long, value_name = "ID")]
        replace: Option<u64>,
    },
    /// Remove a coordinator
    Remove {
        /// Its number
        #[arg(value_name = "ID")]
        node: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum SettingCommand {
    /// All settings and their values
    List,
    /// Change a setting
    Set {
        /// Its name, as listed
        name: String,
        /// Its new value
        value: u64,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum MvccCommand {
    /// Serve a member until SIGTERM or Ctrl-C
    Serve {
        /// Where its data is; made if it is not there
        #[arg(long, value_name = "DIR")]
        data_dir: String,
        /// Where it listens; port 0 takes a free one
        #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_MEMBER)]
        listen: String,
        /// How long history is kept, in seconds
        #[arg(long, value_name = "SECONDS")]
        ttl_s: Option<u64>,
    },
    /// What a member holds
    Status {
        #[command(flatten)]
        member: MemberArg,
    },
    /// Make a database
    CreateDatabase {
        /// Its name
        name: String,
        #[command(flatten)]
        member: MemberArg,
    },
    /// Make a table, and its database if it is not there
    CreateTable {
        /// The table
        #[arg(value_name = "DATABASE.TABLE")]
        table: TableName,
        #[command(flatten)]
        member: MemberArg,
    },
    /// Write a row
    Put {
        /// The table
        #[arg(value_name = "DATABASE.TABLE")]
        table: TableName,
        /// Its key
        key: String,
        /// Its value
        value: String,
        #[command(flatten)]
        member: MemberArg,
    },
    /// Delete a row
    Delete {
        /// The table
        #[arg(value_name = "DATABASE.TABLE")]
        table: TableName,
        /// Its key
        key: String,
        #[command(flatten)]
        member: MemberArg,
    },
    /// Read a row
    Get {
        /// The table
        #[arg(value_name = "DATABASE.TABLE")]
        table: TableName,
        /// Its key
        key: String,
        /// As it was then: a time, an exact position, or -10s
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        as_of: Option<AsOf>,
        #[command(flatten)]
        member: MemberArg,
    },
    /// Read all rows of a table
    Scan {
        /// The table
        #[arg(value_name = "DATABASE.TABLE")]
        table: TableName,
        /// As it was then: a time, an exact position, or -10s
        #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
        as_of: Option<AsOf>,
        /// At most this many
        #[arg(long, default_value_t = 1000)]
        limit: usize,
        #[command(flatten)]
        member: MemberArg,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MemberArg {
    /// The member
    #[arg(long, value_name = "HOST:PORT", default_value = DEFAULT_MEMBER)]
    pub(crate) member: String,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Real child processes, killed by kill -9, instead of threads of this one
    #[arg(long)]
    pub(crate) processes: bool,
    /// How many accounts each of the three members has
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1000..))]
    pub(crate) accounts: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Backup and restore of an embedded store, against copying the same bytes
    Copy {
        /// Size of the data, in MiB
        #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..))]
        size_mib: u64,
        /// Where the data and the collection go; a temporary directory if left out
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
    },
    /// Kill -9 of leaders and workers in the middle of backups: how long a job is idle, and what is done again
    Kills {
        /// How often each is killed
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Size of the data, in MiB
        #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..))]
        size_mib: u64,
        /// Size of a part, in KiB
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
        part_kib: u64,
        /// Where everything goes; a temporary directory if left out
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
    },
    /// Peak memory of a worker process against the size of the table that it backs up and restores
    Memory {
        /// Sizes of the table, in MiB
        #[arg(long, value_delimiter = ',', default_values_t = [64, 256, 1024], value_parser = clap::value_parser!(u64).range(1..))]
        sizes_mib: Vec<u64>,
        /// How many tasks the worker does at once
        #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1024))]
        slots: u32,
        /// Where everything goes; a temporary directory if left out
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
    },
    /// Backup and restore of a PostgreSQL server, against COPY, pg_dump, pg_restore and pgBackRest, on databases made for it
    Postgres {
        /// A server on which the role may make databases
        #[arg(long, value_name = "postgres://ROLE@HOST/DATABASE")]
        server: Unread,
        /// The role's password, where the connection string has none; better in the environment than here
        #[arg(
            long,
            value_name = "PASSWORD",
            env = "PGPASSWORD",
            hide_env_values = true
        )]
        password: Option<Unread>,
        /// Size of the data, in MiB
        #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..))]
        size_mib: u64,
        /// How often each is measured; what is shown are medians
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
        rounds: u32,
        /// Where dumps and collections go; a temporary directory if left out
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
    },
    /// A job of very many spans: coordinators as processes of their own, workers that only say that they did it
    Spans {
        /// How many spans the job has
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=4_000_000))]
        spans: u32,
        /// How many coordinators there are
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=5))]
        coordinators: u64,
        /// How many workers there are
        #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1024))]
        workers: u32,
        /// How many tasks each worker does at once
        #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1024))]
        slots: u32,
        /// Where everything goes; a temporary directory if left out
        #[arg(long, value_name = "DIR")]
        directory: Option<String>,
    },
}
