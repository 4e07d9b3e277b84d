//! Arguments of commands about backups and jobs.

use clap::{Args, Subcommand};
use holdfast_types::{AsOf, Locality, MemberName, TableName};
use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

/// A member on the command line: `NAME=HOST:PORT[@LOCALITY]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberAddress {
    pub(crate) name: MemberName,
    pub(crate) address: String,
    pub(crate) locality: Locality,
}

impl FromStr for MemberAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text
            .split_once('=')
            .ok_or("write NAME=HOST:PORT[@LOCALITY]")?;
        let (address, locality) = rest.split_once('@').unwrap_or((rest, ""));
        if !address.contains(':') {
            return Err(format!("\"{address}\" is not HOST:PORT"));
        }
        Ok(Self {
            name: MemberName::new(name).map_err(|fault| fault.to_string())?,
            address: address.to_owned(),
            locality: locality
                .parse()
                .map_err(|error| format!("locality: {error}"))?,
        })
    }
}

impl fmt::Display for MemberAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.address)?;
        if self.locality.is_empty() {
            return Ok(());
        }
        write!(f, "@{}", self.locality)
    }
}

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

#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// The registered source
    pub(crate) source: String,
    /// The collection's URI: file:///backups/bank
    #[arg(long, value_name = "URI")]
    pub(crate) into: String,
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
    /// The collection's URI
    #[arg(long, value_name = "URI")]
    pub(crate) from: String,
    /// Which chain: LATEST, or a subdirectory as listed by `backups list`
    #[arg(long, default_value = "LATEST")]
    pub(crate) subdir: String,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Any covered instant; the chain's end if left out
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
    #[arg(long, value_name = "NAME=HOST:PORT[@LOCALITY]", requires = "local")]
    pub(crate) member: Vec<MemberAddress>,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// The collection's URI
    #[arg(long, value_name = "URI")]
    pub(crate) from: String,
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
        /// Read the collection directly, without a cluster
        #[arg(long)]
        local: bool,
    },
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
