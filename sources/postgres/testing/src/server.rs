//! A running server.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::binaries::install;
use crate::guard::{Guard, User};
use crate::options::Options;

mod recovery;

pub use recovery::ColdCopy;

/// How long a server may take to accept connections, on a machine that does other things too.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a server may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// A server of its own, on a free port of 127.0.0.1 and a socket in [`Server::directory`]. It ends with the value, or with the process.
#[derive(Debug)]
pub struct Server {
    options: Options,
    binaries: PathBuf,
    directory: PathBuf,
    port: u16,
    user: User,
    postmaster: Mutex<Option<Child>>,
    databases: Mutex<u32>,
    // Dropped last: ends what is left and removes the directory.
    _guard: Guard,
}

impl Server {
    /// Makes and starts a server.
    ///
    /// # Panics
    /// With the server's log, if it does not start.
    #[must_use]
    pub fn start(options: Options) -> Self {
        let mut server = Self::place(options);
        server.initialise();
        server.finish_setup();
        server.launch_somewhere();
        server
    }

    /// As [`Server::start`], much faster, but with the system identifier that all servers of the version have that are started so.
    ///
    /// # Panics
    /// As [`Server::start`].
    #[must_use]
    pub fn start_alike(options: Options) -> Self {
        let mut server = Self::place(options);
        server.copy_initialised();
        server.finish_setup();
        server.launch_somewhere();
        server
    }

    /// A hot standby of a server of Debian's version, which follows it as long as both live.
    ///
    /// # Panics
    /// With the tool's or the server's log, if it cannot be made.
    #[must_use]
    pub fn standby_of(primary: &Self) -> Self {
        let standby = Self::place(primary.options.clone());
        let mut command = standby
            .user
            .command(&standby.binaries.join("pg_basebackup"));
        command.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--no-sync",
            "--wal-method=stream",
        ]);
        command
            .arg("--dbname")
            .arg(primary.dsn("postgres"))
            .arg("-D")
            .arg(standby.data());
        let output = command.output().expect("pg_basebackup starts");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "pg_basebackup failed: {error}");
        let file = standby.data().join("postgresql.auto.conf");
        let directory = standby.directory.to_str().expect("a plain path");
        // The last setting of a name counts.
        let mut configuration = fs::read_to_string(&file).expect("configuration");
        configuration.push_str(&standby.options.configuration(standby.port, directory));
        fs::write(&file, configuration).expect("configuration");
        standby.launch();
        standby
    }

    /// A directory with its guard, and a port; nothing runs.
    fn place(options: Options) -> Self {
        let binaries = options.version.binaries();
        let user = User::find();
        let directory = tempfile::Builder::new()
            .prefix("holdfast-pg-")
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .expect("a temporary directory")
            .keep();
        user.own(&directory);
        let guard = Guard::new(user, &directory);
        Self {
            port: free_port(),
            options,
            binaries,
            directory,
            user,
            postmaster: Mutex::new(None),
            databases: Mutex::new(0),
            _guard: guard,
        }
    }

    /// The server of this test binary with the default options, started by whoever asks first.
    #[must_use]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Server> = OnceLock::new();
        SHARED.get_or_init(|| Self::start_alike(Options::default()))
    }

    fn initialise(&self) {
        let data = self.data();
        let mut command = self.user.command(&self.binaries.join("initdb"));
        command.args(["--username=postgres", "--auth=trust", "--no-sync"]);
        // C.UTF-8 is the one locale that every machine has.
        if !self
            .options
            .initdb
            .iter()
            .any(|argument| argument.starts_with("--locale"))
        {
            command.arg("--locale=C.UTF-8");
        }
        if !self
            .options
            .initdb
            .iter()
            .any(|argument| argument.starts_with("--encoding"))
        {
            command.arg("--encoding=UTF8");
        }
        command.args(&self.options.initdb).arg("-D").arg(&data);
        let output = command.output().expect("initdb starts");
        assert!(
            output.status.success(),
            "initdb failed: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Copies what `initdb` made once for all.
    fn copy_initialised(&self) {
        assert!(self.options.initdb.is_empty(), "only the usual one is kept");
        let copy = |from: &Path, to: &Path| {
            let mut command = Command::new("cp");
            let status = command.arg("-a").arg(from).arg(to).status();
            assert!(status.expect("cp starts").success(), "cp failed");
        };
        let name = format!("data-{}", self.options.version.major());
        let kept = install(&name, |directory| {
            self.initialise();
            copy(&self.data(), &directory.join("data"));
        });
        if !self.data().exists() {
            copy(&kept.join("data"), &self.data());
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(self.data(), private).expect("chmod");
        }
    }

    /// Writes the files of the data directory that are this server's own.
    fn finish_setup(&self) {
        let data = self.data();
        if let Some(hba) = &self.options.hba {
            fs::write(data.join("pg_hba.conf"), hba).expect("pg_hba.conf");
        }
        for (name, content) in &self.options.files {
            let path = data.join(name);
            fs::write(&path, content).expect("a file of the data directory");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("chmod");
            self.user.own(&path);
        }
        self.configure();
    }

    fn configure(&self) {
        let directory = self.directory.to_str().expect("a plain path");
        let configuration = self.options.configuration(self.port, directory);
        let file = self.data().join("postgresql.auto.conf");
        fs::write(file, configuration).expect("configuration");
    }

    /// Starts the server; on another port if somebody took the one that was free.
    fn launch_somewhere(&mut self) {
        while let Err(log) = self.try_launch() {
            assert!(
                log.contains("Address already in use"),
                "the server does not start: {log}"
            );
            fs::remove_file(self.directory.join("log")).expect("the log");
            self.port = free_port();
            self.configure();
        }
    }

    /// Starts the server again after [`Server::stop`] or [`Server::kill`], on the same port.
    ///
    /// # Panics
    /// If it is running, or does not start.
    pub fn launch(&self) {
        if let Err(log) = self.try_launch() {
            panic!("the server does not start: {log}");
        }
    }

    /// Starts the server, or gives its log.
    fn try_launch(&self) -> Result<(), String> {
        let mut running = self
            .postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        assert!(running.is_none(), "the server is running");
        let log = fs::File::options()
            .append(true)
            .create(true)
            .open(self.directory.join("log"))
            .expect("a log file");
        let mut command = self.user.command(&self.binaries.join("postgres"));
        command.arg("-D").arg(self.data());
        command
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log);
        let mut child = command.spawn().expect("postgres starts");
        let begun = Instant::now();
        while !self.is_ready(child.id()) {
            let ended = child.try_wait().expect("its state is known");
            if ended.is_some() || begun.elapsed() > START_TIMEOUT {
                return Err(self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        *running = Some(child);
        Ok(())
    }

    /// Whether `postmaster.pid` is this child's and says that connections are accepted.
    fn is_ready(&self, pid: u32) -> bool {
        let status = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let mut lines = status.lines();
        lines.next() == Some(&pid.to_string())
            && lines
                .nth(6)
                .is_some_and(|line| line.trim() == "ready" || line.trim() == "standby")
    }

    /// Stops the server in an orderly way (`fast`).
    ///
    /// # Panics
    /// If it does not stop.
    pub fn stop(&self) {
        self.end("INT");
    }

    /// Kills the server as a crash would: every process of it at once (`kill -9`), nothing is written down.
    ///
    /// # Panics
    /// If it does not end.
    pub fn kill(&self) {
        let children = {
            let running = self
                .postmaster
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            running.as_ref().map(|child| children_of(child.id()))
        };
        // The postmaster first: it makes no new ones then.
        self.end("KILL");
        let children = children.unwrap_or_default();
        for pid in &children {
            // One that has gone by itself is no error.
            let _ = Command::new("kill")
                .args(["-s", "KILL", pid])
                .stderr(Stdio::null())
                .status();
        }
        // A new server does not start while one of them has the shared memory.
        let begun = Instant::now();
        while children.iter().any(|pid| is_alive(pid)) {
            assert!(
                begun.elapsed() < STOP_TIMEOUT,
                "processes of the server do not end"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&self, signal: &str) {
        let mut running = self
            .postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Some(mut child) = running.take() else {
            return;
        };
        let pid = child.id().to_string();
        let status = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(
            status.expect("kill starts").success(),
            "the server is gone already"
        );
        let begun = Instant::now();
        while child.try_wait().expect("its state is known").is_none() {
            assert!(
                begun.elapsed() < STOP_TIMEOUT,
                "the server does not stop: {}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The TCP port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of the socket, of `data` and of `log`.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The directory with `postgres` and, in version 15, all client tools.
    #[must_use]
    pub fn binaries(&self) -> &Path {
        &self.binaries
    }

    /// How to connect as the superuser over TCP.
    #[must_use]
    pub fn dsn(&self, database: &str) -> String {
        self.dsn_as("postgres", database)
    }

    /// How to connect as a role over TCP, without a password.
    #[must_use]
    pub fn dsn_as(&self, role: &str, database: &str) -> String {
        format!("postgres://{role}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database with a name of its own that starts with `prefix`, and gives its name.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn create_database(&self, prefix: &str) -> String {
        // One at a time: the template must not be in use.
        let mut count = self
            .databases
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        let name = format!("{prefix}_{count}");
        self.psql(
            "postgres",
            &format!("CREATE DATABASE \"{name}\" TEMPLATE template0"),
        );
        name
    }

    /// Runs SQL as the superuser through Debian's `psql` and gives what it printed: rows as lines, columns separated by `|`. Several statements run
    /// one by one, each in a transaction of its own.
    ///
    /// # Panics
    /// If a statement fails.
    #[track_caller]
    pub fn psql(&self, database: &str, sql: &str) -> String {
        match self.try_psql(database, sql) {
            Ok(output) => output,
            Err(error) => panic!("{error}\nin: {sql}"),
        }
    }

    /// As [`Server::psql`], but gives the error's text instead of a panic.
    ///
    /// # Errors
    /// What `psql` wrote to its standard error.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        use std::io::Write;
        let psql = Path::new("/usr/lib/postgresql/15/bin/psql");
        let mut child = Command::new(psql)
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-f",
                "-",
                "-d",
            ])
            .arg(self.dsn(database))
            .env("PGCLIENTENCODING", "UTF8")
            .env("PGOPTIONS", "-c client_min_messages=warning")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("psql starts: run `apt-get install postgresql-client-15`");
        let mut input = child.stdin.take().expect("its input is a pipe");
        let sql = sql.to_owned();
        // A thread of its own: the output may fill its pipe before the input is read to the end.
        let writer = std::thread::spawn(move || input.write_all(sql.as_bytes()));
        let output = child.wait_with_output().expect("psql ends");
        // An early end of psql breaks the pipe; its status tells.
        let _ = writer.join();
        if output.status.success() {
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(text.trim_end_matches('\n').to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut running = self
            .postmaster
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = running.take() {
            let _ = Command::new("kill")
                .args(["-s", "QUIT", &child.id().to_string()])
                .status();
            let _ = child.wait();
        }
    }
}

/// Processes whose parent is this one.
fn children_of(parent: u32) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_child = |pid: &String| stat_of(pid).is_some_and(|(_, of)| of == parent);
    pids.filter(is_child).collect()
}

/// Whether a process runs: one that has ended, and waits to be noticed, does not.
fn is_alive(pid: &str) -> bool {
    stat_of(pid).is_some_and(|(state, _)| state != "Z")
}

/// State and parent of a process. Its name, in parentheses, may hold anything.
fn stat_of(pid: &str) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    let state = words.next()?.to_owned();
    Some((state, words.next()?.parse().ok()?))
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it has an address").port()
}

/// A plain connection of tokio-postgres as the superuser, its driver running as a task: the application beside the backup.
///
/// # Panics
/// If the server cannot be reached.
pub async fn connect(server: &Server, database: &str) -> tokio_postgres::Client {
    let socket = tokio::net::TcpStream::connect(("127.0.0.1", server.port()));
    let socket = socket.await.expect("the server listens");
    socket.set_nodelay(true).expect("no delay");
    let mut config = tokio_postgres::Config::new();
    config
        .user("postgres")
        .dbname(database)
        .application_name("holdfast-test");
    let (client, driver) = config
        .connect_raw(socket, tokio_postgres::NoTls)
        .await
        .expect("the server accepts");
    tokio::spawn(driver);
    client
}
