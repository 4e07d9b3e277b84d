//! The one place that starts a program: PostgreSQL's own pg_dump. The simulator never comes here.

use holdfast_types::{ErrorCode, Fault};
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

/// Most bytes kept of what a program says about its failure.
const MOST_ERROR_BYTES: usize = 16 * 1024;

/// What of our own environment a program gets. No `PG…` variable of the operator's changes what is dumped.
const PASSED_ON: [&str; 5] = ["PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "SYSTEMROOT"];

/// A program with its arguments and environment. It is killed when the future that runs it is dropped.
pub(super) struct Program {
    path: String,
    arguments: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Program {
    pub(super) fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    pub(super) fn arg(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Variables of its environment: the place for credentials, which everybody can read in arguments.
    pub(super) fn envs(mut self, environment: Vec<(&'static str, String)>) -> Self {
        self.environment.extend(environment);
        self
    }

    /// Runs it to its end and gives what it wrote, at most `limit` bytes.
    ///
    /// # Errors
    /// `NotFound` if there is no such program, `ResourceExhausted` beyond the limit, `FailedPrecondition` with what it said if
    /// it failed.
    pub(super) async fn output(self, limit: usize) -> Result<Vec<u8>, Fault> {
        let failed = |error: std::io::Error| {
            let code = match error.kind() {
                std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                    ErrorCode::NotFound
                }
                _ => ErrorCode::Unavailable,
            };
            Fault::new(code, format!("cannot run {}: {error}", self.path))
        };
        let mut command = Command::new(&self.path);
        command.args(&self.arguments).env_clear();
        command.envs(PASSED_ON.into_iter().filter_map(|name| {
            let value = std::env::var_os(name)?;
            Some((name, value))
        }));
        command
            .env("LC_ALL", "C")
            .envs(self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(failed)?;
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(Fault::new(ErrorCode::Internal, "a program without pipes"));
        };
        let (written, said) = tokio::join!(
            read_up_to(stdout, limit),
            read_up_to(stderr, MOST_ERROR_BYTES)
        );
        let (written, said) = (written.map_err(failed)?, said.map_err(failed)?);
        if written.len() > limit {
            return Err(Fault::new(
                ErrorCode::ResourceExhausted,
                format!("{} wrote more than {limit} bytes", self.path),
            ));
        }
        let status = child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(written);
        }
        let said = String::from_utf8_lossy(&said);
        Err(Fault::new(
            ErrorCode::FailedPrecondition,
            format!("{} failed ({status}): {}", self.path, said.trim()),
        ))
    }
}

/// Reads to the end, or one byte beyond the limit. The rest stays in the pipe: the program then fails to write on, and ends.
async fn read_up_to(pipe: impl AsyncRead + Unpin, limit: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    pipe.take(most).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Program {
        Program::new("/bin/sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn a_program_gives_what_it_wrote_and_says_why_it_failed() {
        let written = shell("printf hello").output(100).await.expect("runs");
        assert_eq!(written, b"hello");
        let fault = shell("echo no disk >&2; exit 3")
            .output(100)
            .await
            .expect_err("it fails");
        assert_eq!(fault.code, ErrorCode::FailedPrecondition);
        assert!(fault.message.contains("no disk"), "{fault}");
        let fault = shell("yes").output(1000).await.expect_err("too much");
        assert_eq!(fault.code, ErrorCode::ResourceExhausted);
        let fault = Program::new("/nowhere/pg_dump").output(1).await;
        assert_eq!(fault.expect_err("not there").code, ErrorCode::NotFound);
    }

    #[tokio::test]
    async fn the_operators_settings_do_not_leak_in() {
        let written = shell("env")
            .envs(vec![("PGUSER", "alice".to_owned())])
            .output(10_000)
            .await
            .expect("runs");
        let text = String::from_utf8(written).expect("text");
        assert!(text.contains("PGUSER=alice"), "{text}");
        assert!(!text.contains("CARGO"), "{text}");
    }
}
