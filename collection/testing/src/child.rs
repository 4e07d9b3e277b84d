//! Server processes.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a server may take to answer, on a machine that does other things too.
pub(crate) const START_TIMEOUT: Duration = Duration::from_secs(90);
const GLANCE: Duration = Duration::from_millis(50);
/// Some servers take a second port, so far above the first.
const SECOND_PORT: u16 = 10_000;

/// Where servers are installed.
pub(crate) fn installed(program: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/servers");
    let path = root.join(program);
    assert!(
        path.exists(),
        "{} is not installed: run `cargo xtask servers`",
        path.display()
    );
    path
}

/// A process in a directory of its own. Both go with the value, or with the test process.
#[derive(Debug)]
pub(crate) struct Server {
    directory: PathBuf,
    child: Mutex<Option<Child>>,
    // Dropped last: ends what is left and removes the directory.
    _guard: Guard,
}

impl Server {
    /// A directory with its guard; nothing runs.
    pub(crate) fn place(prefix: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(prefix)
            .tempdir()
            .expect("a temporary directory")
            .keep();
        Self {
            child: Mutex::new(None),
            _guard: Guard::new(&directory),
            directory,
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Starts the process, in a process group of its own, so that Ctrl-C reaches the tests alone.
    pub(crate) fn launch(&self, command: &mut Command) {
        let log = fs::File::create(self.directory.join("log")).expect("a log");
        command
            .process_group(0)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log);
        let child = command.spawn().expect("the server starts");
        fs::write(self.directory.join("pid"), child.id().to_string()).expect("a file");
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// Waits until a port takes connections and `ready` says yes.
    pub(crate) fn wait(&self, port: u16, ready: impl Fn() -> bool) {
        let deadline = Instant::now() + START_TIMEOUT;
        while Instant::now() < deadline {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() && ready() {
                return;
            }
            let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            let ended = child
                .as_mut()
                .map(|child| child.try_wait().expect("a child"));
            drop(child);
            assert!(
                matches!(ended, Some(None)),
                "the server ended: {}",
                self.log()
            );
            std::thread::sleep(GLANCE);
        }
        panic!("the server does not answer: {}", self.log());
    }

    fn log(&self) -> String {
        let log = fs::read(self.directory.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Ends the process at once, as `kill -9` does.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A shell that waits for its input to end, which it does when this process is gone, and then ends the server and removes its
/// directory.
#[derive(Debug)]
struct Guard {
    shell: Child,
}

const SCRIPT: &str = r#"
cat > /dev/null
pid=$(cat "$1/pid" 2> /dev/null)
if [ -n "$pid" ]; then kill -KILL "$pid" 2> /dev/null; sleep 0.1; fi
rm -rf "$1"
"#;

impl Guard {
    fn new(directory: &Path) -> Self {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", SCRIPT, "guard"])
            .arg(directory)
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self {
            shell: command.spawn().expect("a shell starts"),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        // The shell ends by itself at once.
        let _ = self.shell.wait();
    }
}

/// Ports that nobody listens on, nor on those 10,000 above them.
pub(crate) fn free_ports<const N: usize>() -> [u16; N] {
    // All are held until all are found, so that they differ.
    let mut held = Vec::new();
    let mut ports = Vec::new();
    while ports.len() < N {
        let first = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = first.local_addr().expect("an address").port();
        // What the system gives out is above: the second one is below then.
        let base = match port.checked_add(SECOND_PORT) {
            Some(_) => port,
            None => port - SECOND_PORT,
        };
        let both = (
            TcpListener::bind(("127.0.0.1", base)),
            TcpListener::bind(("127.0.0.1", base + SECOND_PORT)),
        );
        match (both, base == port) {
            ((_, Ok(second)), true) => {
                ports.push(base);
                held.extend([first, second]);
            }
            ((Ok(own), _), false) => {
                ports.push(base);
                held.extend([first, own]);
            }
            _ => held.push(first),
        }
    }
    ports.try_into().expect("as many as were asked for")
}
