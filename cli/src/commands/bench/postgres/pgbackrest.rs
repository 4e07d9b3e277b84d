//! pgBackRest, where it can be compared: it reads the server's files, so both must be on this machine.

use holdfast_types::{ErrorCode, Fault};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use tempfile::TempDir;

use super::super::{broken, scratch};
use super::data::STREAMS;
use super::figures::Sample;
use super::program::Program;
use super::server::Server;
use super::{Bench, removed, size_of};

/// See the module.
#[derive(Debug)]
pub(super) struct PgBackRest {
    data: String,
    port: String,
    socket: String,
    role: String,
    /// Who owns the server's files, and who it therefore runs as; `None` if that is whoever runs this.
    owner: Option<(u32, u32)>,
    /// Of that user.
    directory: TempDir,
}

impl PgBackRest {
    /// Finds it, or says why it cannot be compared.
    pub(super) async fn find(
        server: &Server,
        is_local: bool,
        parent: Option<String>,
    ) -> Result<Result<Self, String>, Fault> {
        if Program::new("pgbackrest")
            .args(["version"])
            .run()
            .await
            .is_err()
        {
            return Ok(Err("not installed".to_owned()));
        }
        if !is_local {
            return Ok(Err("the server's files are not on this machine".to_owned()));
        }
        let question = "SELECT concat_ws(E'\\n', current_setting('data_directory'), current_setting('port'), \
            split_part(current_setting('unix_socket_directories'), ',', 1), current_user)";
        let Ok(answer) = server.ask(None, &[question.to_owned()]).await else {
            return Ok(Err(
                "the role may not see where the server's files are".to_owned()
            ));
        };
        let mut answer = answer.lines().map(ToOwned::to_owned);
        let mut next = || answer.next().unwrap_or_default();
        let (data, port, socket, role) = (next(), next(), next(), next());
        let (Ok(files), Ok(own)) = (std::fs::metadata(&data), std::fs::metadata("/proc/self"))
        else {
            return Ok(Err("the server's files cannot be read".to_owned()));
        };
        let owner = (files.uid() != own.uid()).then_some((files.uid(), files.gid()));
        if owner.is_some() && own.uid() != 0 {
            return Ok(Err("the server's files are another user's".to_owned()));
        }
        let directory = scratch(parent)?;
        if let Some((uid, gid)) = owner {
            chown(directory.path(), Some(uid), Some(gid))
                .map_err(|error| broken("give a directory to the server's user", &error))?;
        }
        Ok(Ok(Self {
            data,
            port,
            socket,
            role,
            owner,
            directory,
        }))
    }

    fn program(&self, command: &str, more: &[&str]) -> Program {
        let path = |name: &str| self.directory.path().join(name).display().to_string();
        let program = Program::new("pgbackrest").args([
            "--no-config".to_owned(),
            "--stanza=holdfast-bench".to_owned(),
            format!("--pg1-path={}", self.data),
            format!("--pg1-port={}", self.port),
            format!("--pg1-socket-path={}", self.socket),
            format!("--pg1-user={}", self.role),
            format!("--repo1-path={}", path("repository")),
            format!("--lock-path={}", path("lock")),
            format!("--log-path={}", path("log")),
            "--log-level-file=off".to_owned(),
            "--log-level-console=off".to_owned(),
            "--log-level-stderr=error".to_owned(),
        ]);
        let program = program.args(more).args([command]);
        match self.owner {
            Some((uid, gid)) => program.owner(uid, gid),
            None => program,
        }
    }

    /// A full backup into a new repository.
    pub(super) async fn full(&self, bench: &Bench<'_>) -> Result<Sample, Fault> {
        let repository = self.directory.path().join("repository");
        removed(&repository)?;
        let named = |fault: Fault| Fault::new(ErrorCode::Internal, fault.message);
        let create = self.program("stanza-create", &[]);
        bench.server.sealed(create).run().await.map_err(named)?;
        let processes = format!("--process-max={STREAMS}");
        let backup = self.program(
            "backup",
            &[
                "--type=full",
                "--compress-type=zst",
                "--compress-level=1",
                "--no-archive-check",
                "--start-fast",
                "--repo1-retention-full=1",
                &processes,
            ],
        );
        let sample = bench
            .meter
            .measure(vec![bench.server.sealed(backup)])
            .await?;
        Ok(Sample {
            stored: Some(stored(&repository)),
            ..sample
        })
    }
}

fn stored(repository: &Path) -> u64 {
    size_of(&repository.join("backup"))
}
