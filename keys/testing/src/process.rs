//! Server processes that end with the test.

use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A server. It ends when this is dropped, or when the test process ends: then the shell around it reads the end of its input.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program, with its output in a file of `directory`.
    ///
    /// # Panics
    /// It does not start.
    pub(crate) fn start(
        program: &Path,
        arguments: &[&str],
        variables: &[(&str, String)],
        directory: &Path,
    ) -> Self {
        let log = File::create(directory.join("log")).expect("a log");
        let other = log.try_clone().expect("a second handle");
        let mut command = Command::new("sh");
        command
            .args([
                "-c",
                "\"$@\" </dev/null & server=$!; cat >/dev/null; kill -9 $server",
                "sh",
            ])
            .arg(program)
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (*name, value)))
            .env("HOME", directory)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(other);
        Self(command.spawn().expect("a shell"))
    }

    /// Waits until the server answers.
    ///
    /// # Panics
    /// It does not; the message has what it said.
    pub(crate) fn wait_until(&self, directory: &Path, is_ready: impl Fn() -> bool) {
        let start = Instant::now();
        while !is_ready() {
            if start.elapsed() > READY_WITHIN {
                let log = std::fs::read_to_string(directory.join("log")).unwrap_or_default();
                panic!("the server does not answer; it said:\n{log}");
            }
            sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is what the shell waits for.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
///
/// # Panics
/// There is none.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
