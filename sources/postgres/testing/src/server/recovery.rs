//! What a server was at an exact position of its log, by PostgreSQL's own recovery: the truth that backups are compared with.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::{START_TIMEOUT, Server};

/// The files of a server that was stopped in an orderly way.
///
/// As long as the server keeps its log (`wal_keep_size`), and once what is asked for has been flushed, [`ColdCopy::recovered_to`] gives the server as it was then.
#[derive(Debug)]
pub struct ColdCopy {
    directory: tempfile::TempDir,
}

impl ColdCopy {
    /// Stops the server, copies its files, and starts it again.
    ///
    /// # Panics
    /// If it does not stop or start, or the disk is full.
    #[must_use]
    pub fn of(server: &Server) -> Self {
        let directory = tempfile::Builder::new().prefix("holdfast-cold-").tempdir();
        let directory = directory.expect("a temporary directory");
        server.stop();
        copy(&server.data(), &directory.path().join("data"));
        server.launch();
        Self { directory }
    }

    /// A server of its own that has done all of `origin`'s log whose records begin before `lsn`, and nothing else: a transaction is in
    /// it if its commit record lies before.
    ///
    /// # Panics
    /// If it does not start, or the log does not reach as far.
    #[must_use]
    pub fn recovered_to(&self, origin: &Server, lsn: &str) -> Server {
        let restore = format!("cp {}/%f %p", origin.data().join("pg_wal").display());
        let options = origin
            .options
            .clone()
            .set("restore_command", &restore)
            .set("recovery_target_lsn", lsn)
            .set("recovery_target_inclusive", "off")
            .set("recovery_target_action", "promote")
            // Nobody is let in before it is there.
            .set("hot_standby", "off");
        let mut server = Server::place(options);
        copy(&self.directory.path().join("data"), &server.data());
        let signal = server.data().join("recovery.signal");
        std::fs::write(&signal, "").expect("a signal file");
        server.user.own(&signal);
        server.finish_setup();
        server.launch_somewhere();
        // It runs before it has got there.
        let begun = Instant::now();
        while let Err(error) = server.try_psql("postgres", "SELECT 1") {
            assert!(
                begun.elapsed() < START_TIMEOUT,
                "the server does not recover: {error}\n{}",
                server.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("cp starts").success(), "cp failed");
}

impl Server {
    /// Runs a program of the server's as its user, on its data directory (`-D`), while it is stopped: `pg_resetwal` and its like.
    ///
    /// # Panics
    /// With the program's error, if it fails.
    pub fn run_on_data(&self, program: &str, arguments: &[&str]) {
        let mut command = self.user.command(&self.binaries.join(program));
        command.args(arguments).arg("-D").arg(self.data());
        let output = command
            .output()
            .unwrap_or_else(|error| panic!("{program} does not start: {error}"));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} failed: {error}");
    }

    /// Puts a file into the data directory, as the server's user.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn put_file(&self, name: &str, content: &[u8]) {
        let path = self.data().join(name);
        std::fs::write(&path, content).expect("a file of the data directory");
        self.user.own(&path);
    }
}
