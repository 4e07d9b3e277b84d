//! A node that is a child process of the same binary, killed by `kill -9`.

use holdfast_types::Fault;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{broken, wrong};
use crate::roles::StartedView;

/// How long a process may take until it listens.
const STARTS_WITHIN: Duration = Duration::from_secs(20);

/// See the module. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ChildNode {
    child: Child,
}

impl ChildNode {
    /// Starts the binary with these arguments, its log in a file, and waits until it says on stdout where it listens.
    pub(crate) async fn start(
        name: &str,
        directory: &Path,
        arguments: &[String],
    ) -> Result<(Self, String), Fault> {
        let own = std::env::current_exe().map_err(|error| broken("find this binary", &error))?;
        let log = std::fs::File::create(directory.join(format!("{name}.log")))
            .map_err(|error| broken("make a log file", &error))?;
        let mut child = Command::new(own)
            .args(arguments)
            .arg("--json")
            .env_remove("HOLDFAST_COORDINATOR")
            .env_remove("HOLDFAST_KEY_FILE")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken("start a process", &error))?;
        let stdout = child.stdout.take().map(BufReader::new);
        let line = tokio::time::timeout(STARTS_WITHIN, async {
            match stdout {
                Some(stdout) => stdout.lines().next_line().await.ok().flatten(),
                None => None,
            }
        })
        .await;
        let started = line
            .ok()
            .flatten()
            .and_then(|line| serde_json::from_str::<StartedView>(&line).ok())
            .ok_or_else(|| {
                let log = std::fs::read_to_string(directory.join(format!("{name}.log")));
                let log = log.unwrap_or_default();
                wrong(format!(
                    "{name} did not start: {}",
                    log.lines().last().unwrap_or("it said nothing")
                ))
            })?;
        Ok((Self { child }, started.address.unwrap_or_default()))
    }

    /// The process id, until it is known to be gone.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// `kill -9`; does not wait.
    pub(crate) fn kill(&mut self) {
        // A process that ended by itself is as dead as it was to be.
        let _ = self.child.start_kill();
    }

    /// Waits until the killed process is gone.
    pub(crate) async fn gone(&mut self) {
        let _ = self.child.wait().await;
    }
}
