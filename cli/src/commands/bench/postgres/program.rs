//! Programs that are run for the bench, and what they used.

use futures::future::try_join_all;
use holdfast_env::Env;
use holdfast_types::{ErrorCode, Fault};
use std::ffi::OsStr;
use std::path::Path;
use std::pin::pin;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::{Child, Command};

use super::super::broken;
use super::figures::Sample;
use super::processor;

/// Between two looks at the memory of a program.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long a server's session may take to be gone, with its times added to the postmaster's, after its client is.
const SESSION_ENDS_WITHIN: Duration = Duration::from_millis(300);
/// How much of what a failed program said is shown.
const SHOWN_LINES: usize = 5;

/// A program that is to be run. What it prints is thrown away, unless told otherwise.
#[derive(Debug)]
pub(super) struct Program {
    name: String,
    command: Command,
    /// Whether it is this binary, which does all in one process: of others a part's memory would say nothing.
    is_own: bool,
}

impl Program {
    pub(super) fn new(program: impl AsRef<OsStr>) -> Self {
        let name = Path::new(&program).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self {
            name,
            command,
            is_own: false,
        }
    }

    /// This binary.
    pub(super) fn own() -> Result<Self, Fault> {
        let own = std::env::current_exe().map_err(|error| broken("find this binary", &error))?;
        let mut program = Self::new(own);
        program.is_own = true;
        program
            .command
            .env_remove("HOLDFAST_COORDINATOR")
            .env_remove("HOLDFAST_KEY_FILE");
        Ok(program)
    }

    pub(super) fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(super) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs it as another user.
    pub(super) fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.command.uid(uid).gid(gid);
        self
    }

    /// Keeps what it prints in a file.
    pub(super) fn output_to(mut self, path: &Path) -> Result<Self, Fault> {
        let file = std::fs::File::create(path).map_err(|error| broken("make a file", &error))?;
        self.command.stdout(file);
        Ok(self)
    }

    /// Runs it; gives what it printed.
    pub(super) async fn text(mut self) -> Result<String, Fault> {
        self.command.stdout(Stdio::piped());
        let running = self.start()?;
        let output = running.end().await?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs it.
    pub(super) async fn run(self) -> Result<(), Fault> {
        self.start()?.end().await.map(drop)
    }

    fn start(mut self) -> Result<Running, Fault> {
        let child = self.command.spawn().map_err(|error| {
            let missing = error.kind() == std::io::ErrorKind::NotFound;
            let fault = broken(&format!("start {}", self.name), &error);
            match missing {
                true => {
                    fault.hint("it comes with PostgreSQL's client programs; put it on the PATH")
                }
                false => fault,
            }
        })?;
        Ok(Running {
            name: self.name,
            child,
            is_own: self.is_own,
        })
    }
}

/// A program that runs. Dropping it kills it.
struct Running {
    name: String,
    child: Child,
    is_own: bool,
}

impl Running {
    async fn end(self) -> Result<Output, Fault> {
        let output = self.child.wait_with_output().await;
        let output = output.map_err(|error| broken(&format!("wait for {}", self.name), &error))?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let said: Vec<&str> = said.lines().rev().take(SHOWN_LINES).collect();
        let said: Vec<&str> = said.into_iter().rev().collect();
        Err(Fault::new(
            ErrorCode::Internal,
            format!(
                "{} failed ({}): {}",
                self.name,
                output.status,
                said.join("; ")
            ),
        ))
    }
}

/// Measures programs.
#[derive(Debug, Clone)]
pub(super) struct Meter {
    pub(super) env: Env,
    /// The server's first process, if the server is on this machine.
    pub(super) postmaster: Option<u32>,
}

impl Meter {
    /// Runs programs side by side; gives what all of them used, and the most memory that one of this binary had.
    pub(super) async fn measure(&self, programs: Vec<Program>) -> Result<Sample, Fault> {
        let server = || self.postmaster.and_then(processor::of_server);
        let (server_before, client_before) = (server(), processor::of_ended_children());
        let started = self.env.clock.monotonic();
        let mut running = Vec::new();
        for program in programs {
            running.push(program.start()?);
        }
        let own = running.iter().filter(|one| one.is_own);
        let own: Vec<u32> = own.filter_map(|one| one.child.id()).collect();
        let mut ended = pin!(try_join_all(running.into_iter().map(Running::end)));
        let mut peak = None;
        loop {
            peak = peak.max(own.iter().filter_map(|id| processor::peak(*id)).max());
            tokio::select! {
                biased;
                done = &mut ended => {
                    done?;
                    break;
                }
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
        let seconds = (self.env.clock.monotonic() - started).as_secs_f64();
        let client_after = processor::of_ended_children();
        tokio::time::sleep(SESSION_ENDS_WITHIN).await;
        Ok(Sample {
            seconds,
            client_cpu: difference(client_before, client_after),
            server_cpu: difference(server_before, server()),
            stored: None,
            peak,
        })
    }
}

fn difference(before: Option<f64>, after: Option<f64>) -> Option<f64> {
    Some(after? - before?)
}
