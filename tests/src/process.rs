//! Child processes: started, watched, killed.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::binary::holdfast_binary;

/// What a command that ran to its end gave.
#[derive(Debug)]
pub struct Output {
    /// Its exit code; negative: the signal that ended it.
    pub code: i32,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Output {
    /// stdout as JSON.
    ///
    /// # Panics
    /// It is not JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}\n{}", self.stdout, self.stderr))
    }
}

/// Runs `holdfast` with these arguments to its end.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run(arguments: &[&str]) -> Output {
    run_with(arguments, "")
}

/// The same with something on its standard input.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run_with(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(holdfast_binary())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without having read everything breaks the pipe.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().expect("a child can be waited for");
    Output {
        code: code(output.status),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| -status.signal().unwrap_or(0))
}

/// Free loopback ports. They are all held until the last is found, so that none is given twice.
///
/// # Panics
/// The machine has no free ports.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    listeners
        .iter()
        .map(|listener| listener.local_addr().expect("a bound listener").port())
        .collect()
}

/// A running process of the binary, with its log in a file. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Starts `holdfast` with these arguments.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(name: &str, directory: &Path, arguments: Vec<String>) -> Self {
        let log = directory.join(format!("{name}.log"));
        let mut process = Self {
            name: name.to_owned(),
            arguments,
            log,
            child: None,
        };
        process.restart();
        process
    }

    /// Starts it (again) with the same arguments.
    ///
    /// # Panics
    /// It is running, or cannot be started.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "{} is running", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .expect("a log file in the test's directory");
        let child = Command::new(holdfast_binary())
            .args(&self.arguments)
            .env("HOLDFAST_LOG", "info")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle of the log"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.child = Some(child);
    }

    /// The name it was started with.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    ///
    /// # Panics
    /// It is not running.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a started process").id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        match &mut self.child {
            Some(child) => child.try_wait().expect("a child can be asked").is_none(),
            None => false,
        }
    }

    /// `kill -9`, and waits until it is gone. One that is gone already stays gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // An error means that it ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Stops it in the middle of whatever it does (SIGSTOP), or lets it go on (SIGCONT). One that is gone stays gone.
    pub fn freeze(&self, is_frozen: bool) {
        if let Some(child) = &self.child {
            let signal = if is_frozen { "-STOP" } else { "-CONT" };
            let pid = child.id().to_string();
            // An error means that it ended by itself.
            let _ = Command::new("kill").args([signal, &pid]).status();
        }
    }

    /// SIGTERM, and waits for an orderly end; its exit code.
    ///
    /// # Panics
    /// It does not end within the deadline.
    pub fn terminate(&mut self, deadline: Duration) -> i32 {
        let Some(mut child) = self.child.take() else {
            return 0;
        };
        let pid = child.id().to_string();
        let sent = Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs");
        assert!(sent.success(), "{} was gone already", self.name);
        let until = Instant::now() + deadline;
        while Instant::now() < until {
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                return code(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        panic!(
            "{} did not end within {deadline:?} after SIGTERM:\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Waits for it to end by itself; its exit code.
    ///
    /// # Panics
    /// It does not end within the deadline.
    pub fn wait(&mut self, deadline: Duration) -> i32 {
        let until = Instant::now() + deadline;
        while Instant::now() < until {
            let child = self.child.as_mut().expect("a started process");
            if let Some(status) = child.try_wait().expect("a child can be asked") {
                self.child = None;
                return code(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!(
            "{} did not end within {deadline:?}:\n{}",
            self.name,
            self.log_tail()
        );
    }

    /// Everything it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The end of its log, for messages.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(30);
        lines.get(from..).unwrap_or_default().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log_tail());
        }
    }
}
