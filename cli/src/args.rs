//! The command line.

mod jobs;
mod keys;
mod member;
mod node;
mod schedule;
mod store;
mod user;
mod words;

pub(crate) use jobs::{
    AppendTo, BackupArgs, BackupsCommand, ConnectionArgs, ConnectionCommand, ExpireArgs,
    JobCommand, OneShotArgs, RestoreArgs, TargetArgs, VerifyArgs,
};
pub(crate) use keys::{ChainArgs, KeyArgs, KeysCommand, NewKeyArgs};
pub(crate) use member::{MemberAddress, ServerAddress, Unread};
pub(crate) use node::{
    BenchCommand, DemoArgs, HoldCommand, InitArgs, LimitArgs, MemberCommand, MvccCommand,
    MvccMember, Role, SettingCommand, SourceArgs, SourceCommand, StartArgs,
};
pub(crate) use schedule::{AlterScheduleArgs, CreateScheduleArgs, ScheduleCommand};
pub(crate) use store::{StoreArgs, read as read_file};
pub(crate) use user::{UserArgs, UserCommand};
pub(crate) use words::{Stores, either, read_words, stores};

use clap::{Args, Parser, Subcommand};

/// Where coordinators listen unless told otherwise.
pub(crate) const DEFAULT_COORDINATOR: &str = "127.0.0.1:7420";
/// Where mvcc members listen unless told otherwise.
pub(crate) const DEFAULT_MEMBER: &str = "127.0.0.1:7430";

const AFTER_HELP: &str = "\
Exit codes: 0 done; 1 the job or command failed; 2 bad usage; 3 not found; 4 not in the present state, or against the rules; \
5 unreachable, or the outcome is unknown; 6 corrupted data; 7 storage full; 130 interrupted while waiting (the job goes on).";

/// Distributed backup coordinator: backs up, survives, resumes and restores.
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, propagate_version = true, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// Coordinators to talk to; the next is tried when one does not answer
    #[arg(
        long,
        global = true,
        env = "HOLDFAST_COORDINATOR",
        value_name = "HOST:PORT",
        value_delimiter = ',',
        default_value = DEFAULT_COORDINATOR
    )]
    pub(crate) coordinator: Vec<String>,

    /// Print JSON instead of text: one document, or one a line for watches
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a coordinator, a worker, or both
    Start(StartArgs),
    /// Give a fresh set of coordinators its identity, or make a cluster key file
    Init(InitArgs),
    /// Show coordinators, workers, holds and what is going on
    Status,
    /// Register the databases to protect
    #[command(subcommand)]
    Source(SourceCommand),
    /// Stored URIs of stores: external connections
    #[command(subcommand)]
    Connection(ConnectionCommand),
    /// Users of the SQL port
    #[command(subcommand)]
    User(UserCommand),
    /// What keeps history from being discarded by sources
    #[command(subcommand)]
    Hold(HoldCommand),
    /// Back up a source into a collection
    Backup(BackupArgs),
    /// Restore from a collection into a source
    Restore(RestoreArgs),
    /// Read every object of a backup and compare it with its digest
    Verify(VerifyArgs),
    /// Look at what a collection holds
    #[command(subcommand)]
    Backups(BackupsCommand),
    /// Back up again and again
    #[command(subcommand)]
    Schedule(ScheduleCommand),
    /// Which keys open an encrypted chain
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Look at jobs and control them
    #[command(subcommand)]
    Job(JobCommand),
    /// Run SQL statements, as psql would on a coordinator that listens for SQL
    Sql {
        /// The statements; read from stdin if left out
        #[arg(short = 'e', long = "execute", value_name = "STATEMENTS")]
        execute: Vec<String>,
        /// The source of statements that name none
        #[arg(long, value_name = "NAME", default_value = "")]
        source: String,
    },
    /// Add, remove and list coordinators
    #[command(subcommand)]
    Member(MemberCommand),
    /// Cluster settings
    #[command(subcommand)]
    Setting(SettingCommand),
    /// Serve and use members of the embedded store
    #[command(subcommand)]
    Mvcc(MvccCommand),
    /// Watch a cluster back up, lose processes, resume and restore, on this machine
    Demo(DemoArgs),
    /// Run the simulator, holdfast-sim, that stands beside this binary
    Sim {
        /// Passed to holdfast-sim as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Measure this machine
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Print the version
    Version,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn accepted(line: &str) -> Command {
        parse(line)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .command
    }

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_is_understood() {
        for line in [
            "holdfast start --single --data-dir d --mvcc bank=d/bank",
            "holdfast start --role coordinator --node-id 1 --data-dir d --key-file k --locality region=eu,zone=b",
            "holdfast start --role worker --worker-id w1 --join a:1,b:2 --key-file k --slots 2",
            "holdfast init --members 1=a:1,2=b:1",
            "holdfast start --single --data-dir d --sql-addr 127.0.0.1:26257 --sql-trust-loopback",
            "holdfast start --single --data-dir d --sql-addr 0.0.0.0:26257 --sql-cert c.pem --sql-key k.pem",
            "holdfast start --single --data-dir d --sql-addr 0.0.0.0:26257 --sql-allow-plaintext",
            "holdfast user add ann",
            "holdfast user add ann --password-file -",
            "holdfast user password ann --password-file p",
            "holdfast user drop ann",
            "holdfast user list --json",
            "holdfast sql --source bank -e SHOW",
            "holdfast init --key-file k",
            "holdfast status --json",
            "holdfast schedule create bank INTO file:///b --recurring @hourly --full-backup @daily --label nightly --if-not-exists --first-run now",
            "holdfast schedule create bank --into file:///b --recurring @daily --full-backup ALWAYS --on-execution-failure pause --on-previous-running skip",
            "holdfast schedule alter 7 --recurring @daily --into file:///c --revision-history true",
            "holdfast schedule run 7",
            "holdfast job list --schedule 7",
            "holdfast --coordinator a:1,b:2 source add bank --member m1=a:1@region=eu,zone=b --member m2=b:1",
            "holdfast source add shop --member m1=postgres://u:p@h:1/d?sslmode=require@region=eu",
            "holdfast source update shop --member m1=postgres://u@h:1/d --clear-passwords",
            "holdfast source add shop --member m1=postgres://u@h:1/d --streams 2 --max-rate-mib 10 --wal-budget-gib 4",
            "holdfast source update shop --member m1=postgres://u@h:1/d --max-rate-mib 0",
            "holdfast start --role worker --worker-id w1 --join a:1 --key-file k --pg-tools /opt/pg/bin",
            "holdfast restore FROM file:///b --table a.s.t --skip-missing-foreign-keys --no-grants",
            "holdfast restore FROM file:///b --to postgres://u@h/d --database a --pg-tools /opt/pg/bin",
            "holdfast source check shop --member m1",
            "holdfast hold list",
            "holdfast connection create vault --as s3://b/x?AUTH=implicit",
            "holdfast connection alter vault --uri-file f",
            "holdfast connection show vault",
            "holdfast connection check vault --transfer-mib 1",
            "holdfast connection drop vault",
            "holdfast backup shop --into memory://a?HOLDFAST_LOCALITY=default --into memory://b?HOLDFAST_LOCALITY=region%3Deu",
            "holdfast restore --from memory://a --from memory://b",
            "holdfast verify --from memory://a --from memory://b",
            "holdfast backups residency memory://a memory://b --local",
            "holdfast backups show memory://a --also memory://b",
            "holdfast start --single --data-dir d --external-io-dir x --store-limit s3:write=10MiB --store-ca f --external-io-disable-http",
            "holdfast hold drop 7",
            "holdfast restore FROM file:///b --table a.s.t --into-db d --into-schema s --new-table-name u --schema-only --only m1=m2",
            "holdfast source list",
            "holdfast source drop bank",
            "holdfast backup bank --into file:///b --append --as-of -10s --revision-history --detach",
            "holdfast backup bank --into file:///b --append=2026/11/23-190800.00 --table app.t --request-key k",
            "holdfast restore --from file:///b --subdir LATEST --database a --new-db-name b --as-of -1m",
            "holdfast backup bank INTO file:///b",
            "holdfast backup shop INTO file:///b --no-chain",
            "holdfast backup --source postgres://u:p@h/d INTO file:///b --start-chain --state-dir s --streams 8",
            "holdfast restore FROM file:///b --to postgres://u@h/d --database a --new-db-name b",
            "holdfast restore --local --from file:///b --member m1=a:1@region=eu --member m2=b:2",
            "holdfast verify --local --from file:///b",
            "holdfast backups list file:///b --local",
            "holdfast backups show file:///b 2026/11/23-190800.00 --check-files",
            "holdfast backups expire file:///b --older-than 30d --keep-fulls 8 --dry-run",
            "holdfast backups expire file:///b --also file:///c --keep-fulls 1 --detach --request-key k",
            "holdfast backup bank INTO file:///b --passphrase-file p --kms aws:///k?REGION=r --kms-file k --kdf pbkdf2-sha256",
            "holdfast restore FROM file:///b --passphrase",
            "holdfast verify --from file:///b --kms vault://h/transit/k?AUTH=implicit",
            "holdfast backups show file:///b --passphrase-file -",
            "holdfast keys show file:///b",
            "holdfast keys add file:///b 2026/11/23-190800.00 --kms k --new-kms l --new-passphrase-file p --new-kdf argon2id --local",
            "holdfast keys drop file:///b --id 01020304 --kms k",
            "holdfast job list --all --state running",
            "holdfast job show 1",
            "holdfast job watch 1",
            "holdfast job pause 1 --reason night --wait",
            "holdfast job resume 1",
            "holdfast job cancel 1",
            "holdfast member list",
            "holdfast member add 4=d:1 --replace 2",
            "holdfast member remove 2",
            "holdfast setting set lease_ttl_ms 5000",
            "holdfast setting list",
            "holdfast mvcc serve --data-dir d --listen 127.0.0.1:0",
            "holdfast mvcc put app.t k v --member a:1",
            "holdfast mvcc scan app.t --as-of -5s",
            "holdfast demo --processes",
            "holdfast sim run --seed 42",
            "holdfast bench copy",
            "holdfast bench kills --rounds 3 --size-mib 64",
            "holdfast bench memory --sizes-mib 64,256 --slots 2",
            "holdfast bench spans --spans 1000 --coordinators 3",
            "holdfast version --json",
            "holdfast completions bash",
        ] {
            accepted(line);
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for line in [
            "holdfast backup bank --into file:///b --full --append",
            "holdfast backup bank --into file:///b --database a --table a.t",
            "holdfast backup bank INTO file:///b too much",
            "holdfast restore --local --from file:///b",
            "holdfast restore --from file:///b --member m=a:1",
            "holdfast restore --from file:///b --new-db-name x",
            "holdfast restore --from file:///b --database a --into-db x",
            "holdfast start --single --role worker --data-dir d",
            "holdfast source add bank",
            "holdfast connection create vault",
            "holdfast user add",
            "holdfast start --single --data-dir d --sql-addr a:1 --sql-cert c.pem",
            "holdfast start --single --data-dir d --sql-addr a:1 --sql-key k.pem",
            "holdfast start --single --data-dir d --sql-cert c.pem --sql-key k.pem",
            "holdfast start --single --data-dir d --sql-allow-plaintext",
            "holdfast start --single --data-dir d --store-limit s3:write=0",
            "holdfast verify",
            "holdfast backup --source postgres://u@h/d INTO file:///b --detach",
            "holdfast backup bank --into file:///b --start-chain",
            "holdfast backup bank --into file:///b --no-chain --append",
            "holdfast restore FROM file:///b --to postgres://u@h/d --into-source s",
            "holdfast member add d:1",
            "holdfast setting set lease_ttl_ms soon",
            "holdfast job pause",
            "holdfast backup bank INTO file:///b --passphrase --passphrase-file p",
            "holdfast backup bank INTO file:///b --kdf md5",
            "holdfast keys drop file:///b --kms k",
            "holdfast backups expire file:///b",
            "holdfast backups expire file:///b --keep-fulls 0",
            "holdfast backups expire --older-than 30d",
            "holdfast backups expire file:///b --older-than 30d --dry-run --detach",
        ] {
            let error = parse(line).expect_err(line);
            assert_ne!(error.kind(), ErrorKind::DisplayHelp, "{line}");
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn append_says_which_full() {
        let append = |line: &str| match accepted(line) {
            Command::Backup(backup) => backup.append,
            other => panic!("{other:?}"),
        };
        assert_eq!(append("holdfast backup b --into u"), None);
        assert_eq!(
            append("holdfast backup b --into u --append"),
            Some(AppendTo::Latest)
        );
        assert_eq!(
            append("holdfast backup b --into u --append=2026/01/02-030405.06"),
            Some(AppendTo::Subdir("2026/01/02-030405.06".into()))
        );
    }
}
