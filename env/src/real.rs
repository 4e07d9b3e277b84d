//! The real world. The only file of the workspace's libraries where the banned calls are allowed.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "this is the door that the bans lead to"
)]

use async_trait::async_trait;
use holdfast_types::Timestamp;
use rustix::process::{Resource, getrlimit, setrlimit};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::{BlockFile, Clock, Compute, Connection, Disk, Entropy, Listener, Net};

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose monotonic reading starts at zero now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// The operating system's randomness.
#[derive(Debug)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) {
        rand::Rng::fill_bytes(&mut rand::rng(), buffer);
    }
}

/// Tokio's pool of blocking threads.
#[derive(Debug)]
pub struct SystemCompute;

impl Compute for SystemCompute {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        // The task is not awaited: `Env::blocking` waits for the answer that `work` sends.
        drop(tokio::task::spawn_blocking(work));
    }
}

/// The machine's network.
#[derive(Debug)]
pub struct SystemNet;

#[async_trait]
impl Net for SystemNet {
    async fn connect(&self, address: &str) -> io::Result<Connection> {
        let socket = tokio::net::TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        Ok(Connection {
            socket: Box::new(socket),
            peer: address.to_owned(),
        })
    }

    async fn connect_local(&self, path: &str) -> io::Result<Connection> {
        let socket = tokio::net::UnixStream::connect(path).await?;
        Ok(Connection {
            socket: Box::new(socket),
            peer: path.to_owned(),
        })
    }

    async fn listen(&self, address: &str) -> io::Result<Box<dyn Listener>> {
        raise_descriptor_limit();
        let listener = tokio::net::TcpListener::bind(address).await?;
        Ok(Box::new(SystemListener {
            address: listener.local_addr()?.to_string(),
            listener,
        }))
    }
}

/// Of the process's file descriptors, one listener takes at most this part for its connections: a process that cannot open its own
/// files stops, and nobody from outside may bring that about.
const LISTENER_SHARE: u64 = 3;

/// Raises the number of files that may be open as far as an unprivileged process can: shells and service managers start with a low one.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // What the system refuses stays as it was; the share above follows what there is.
        let _ = setrlimit(Resource::Nofile, limit);
    }
}

#[derive(Debug)]
struct SystemListener {
    listener: tokio::net::TcpListener,
    address: String,
}

#[async_trait]
impl Listener for SystemListener {
    fn local_address(&self) -> String {
        self.address.clone()
    }

    fn most_connections(&self) -> usize {
        let limit = getrlimit(Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit / LISTENER_SHARE).unwrap_or(usize::MAX)
        })
    }

    async fn accept(&mut self) -> io::Result<Connection> {
        let (socket, peer) = self.listener.accept().await?;
        socket.set_nodelay(true)?;
        Ok(Connection {
            socket: Box::new(socket),
            peer: peer.to_string(),
        })
    }
}

/// The machine's file system.
#[derive(Debug)]
pub struct SystemDisk;

#[derive(Debug)]
struct SystemFile(fs::File);

impl BlockFile for SystemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

/// Makes a change of names in a file's directory durable.
fn sync_parent(path: &str) -> io::Result<()> {
    match Path::new(path).parent() {
        Some(parent) if !parent.as_os_str().is_empty() => fs::File::open(parent)?.sync_all(),
        _ => fs::File::open(".")?.sync_all(),
    }
}

impl Disk for SystemDisk {
    fn open(&self, path: &str) -> io::Result<Arc<dyn BlockFile>> {
        let is_new = !Path::new(path).exists();
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        file.try_lock().map_err(|error| match error {
            fs::TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{path} is in use by another process"),
            ),
            fs::TryLockError::Error(error) => error,
        })?;
        if is_new {
            sync_parent(path)?;
        }
        Ok(Arc::new(SystemFile(file)))
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        Path::new(path).try_exists()
    }

    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort();
        Ok(names)
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write_atomically(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = format!("{path}.draft");
        let mut file = fs::File::create(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        sync_parent(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(from, to)?;
        sync_parent(to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn available(&self, path: &str) -> io::Result<u64> {
        rustix::fs::statvfs(path)
            .map(|stat| stat.f_bavail.saturating_mul(stat.f_frsize))
            .map_err(io::Error::from)
    }
}
