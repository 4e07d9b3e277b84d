//! A cluster of one process that listens for SQL, and `psql` beside it.

use holdfast_tests::{Output, Process, free_ports, run, run_with};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Place {
    directory: TempDir,
    coordinator: String,
    sql_port: String,
    process: Process,
}

impl Place {
    /// One process with a worker and a member of the embedded store, in which there are three accounts.
    pub(crate) fn with_everything() -> Self {
        let place = Self::start(&["--sql-addr", "127.0.0.1:0", "--sql-trust-loopback"]);
        let member = place.log_address("mvcc member listens on ");
        for line in [
            "create-table app.accounts",
            "put app.accounts alice 100",
            "put app.accounts bob 50",
            "put app.accounts carol 25",
        ] {
            let mut arguments = vec!["mvcc"];
            arguments.extend(line.split_whitespace());
            arguments.extend(["--member", &member]);
            let output = run(&arguments);
            assert_eq!(output.code, 0, "{line}: {}", output.stderr);
        }
        place
    }

    /// One process with a coordinator, a worker, and a member.
    pub(crate) fn start(more: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| directory.path().join(name).to_string_lossy().into_owned();
        let mvcc = format!("bank={}@127.0.0.1:0", path("bank"));
        let mut arguments = vec!["start".to_owned(), "--single".to_owned()];
        arguments.extend(["--mvcc".to_owned(), mvcc]);
        Self::launch(directory, arguments, more)
    }

    /// A coordinator alone: jobs wait for ever.
    pub(crate) fn without_workers() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let key = directory.path().join("cluster.key");
        let key = key.to_string_lossy().into_owned();
        assert_eq!(run(&["init", "--key-file", &key]).code, 0);
        let arguments = ["start", "--role", "coordinator", "--key-file", &key];
        let arguments = arguments.map(ToOwned::to_owned).to_vec();
        let more = ["--sql-addr", "127.0.0.1:0", "--sql-trust-loopback"];
        let place = Self::launch(directory, arguments, &more);
        let deadline = Instant::now() + PATIENCE;
        while place.holdfast(&["init"]).code != 0 {
            assert!(Instant::now() < deadline, "the cluster takes no identity");
            std::thread::sleep(Duration::from_millis(100));
        }
        place
    }

    fn launch(directory: TempDir, mut arguments: Vec<String>, more: &[&str]) -> Self {
        let coordinator = format!("127.0.0.1:{}", free_ports(1)[0]);
        let data = directory.path().join("data").to_string_lossy().into_owned();
        arguments.extend(["--listen".to_owned(), coordinator.clone()]);
        arguments.extend(["--data-dir".to_owned(), data]);
        arguments.extend(more.iter().map(ToString::to_string));
        let process = Process::start("node", directory.path(), arguments);
        let mut place = Self {
            directory,
            coordinator,
            sql_port: String::new(),
            process,
        };
        let address = place.log_address("SQL is spoken on ");
        place.sql_port = address.rsplit(':').next().expect("a port").to_owned();
        place
    }

    /// What the process says after these words.
    fn log_address(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.process.log();
            if let Some(line) = log.lines().find_map(|line| line.strip_prefix(words)) {
                return line.trim().to_owned();
            }
            assert!(Instant::now() < deadline, "\"{words}\" is not said:\n{log}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The collection's URI.
    pub(crate) fn collection(&self) -> String {
        format!("file://{}", self.directory.path().join("backups").display())
    }

    /// `psql` with these statements, each sent by itself.
    pub(crate) fn command(&self, statements: &[&str]) -> Command {
        let mut command = Command::new("psql");
        command
            .args([
                "-X",
                "-h",
                "127.0.0.1",
                "-p",
                &self.sql_port,
                "-U",
                "ann",
                "-d",
                "bank",
            ])
            .env("PGCONNECT_TIMEOUT", "20")
            .env("PAGER", "cat")
            .env("LC_ALL", "C")
            .env_remove("PGOPTIONS")
            .stdin(Stdio::null());
        for statement in statements {
            command.args(["-c", statement]);
        }
        command
    }

    /// What `psql` says of statements: notices first, an error last, as they come.
    pub(crate) fn psql(&self, statements: &[&str]) -> String {
        let output = self.command(statements).output();
        let output = output.expect("psql starts: run `apt-get install postgresql-15`");
        let stderr = String::from_utf8_lossy(&output.stderr);
        let (notices, error) = match stderr.find("ERROR:") {
            Some(at) => stderr.split_at(at),
            None => (stderr.as_ref(), ""),
        };
        format!(
            "{notices}{}{error}",
            String::from_utf8_lossy(&output.stdout)
        )
    }

    /// The only value of a statement, or its command tag.
    pub(crate) fn ask(&self, statement: &str) -> String {
        let mut command = self.command(&[statement]);
        let output = command.arg("-At").output().expect("psql starts");
        let said = match output.stdout.is_empty() {
            true => output.stderr,
            false => output.stdout,
        };
        String::from_utf8_lossy(&said).trim().to_owned()
    }

    /// `kill -9`, and the same process again. The port of SQL must have been chosen.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        self.process.restart();
    }

    /// Waits until a client is served again.
    pub(crate) fn until_psql(&self, attempt: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !attempt() {
            assert!(Instant::now() < deadline, "{}", self.process.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the process has said.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Where everything of the cluster is, its log included.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until a statement gives this.
    pub(crate) fn until(&self, statement: &str, expected: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = self.ask(statement);
            if said == expected {
                return;
            }
            assert!(Instant::now() < deadline, "{statement}: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// The port that SQL is spoken on.
    pub(crate) fn sql_port(&self) -> &str {
        &self.sql_port
    }

    /// The binary, as an operator of this cluster runs it.
    pub(crate) fn holdfast(&self, arguments: &[&str]) -> Output {
        self.holdfast_with(arguments, "")
    }

    /// The same with something on its standard input.
    pub(crate) fn holdfast_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut all = vec!["--coordinator", &self.coordinator];
        all.extend(arguments);
        run_with(&all, input)
    }
}
