//! A PKCS#11 token in software.

use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Where Debian has the library.
const MODULES: [&str; 2] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
];
/// The user's PIN, which must be seen nowhere.
const PIN: &str = "8642097531";

fn module() -> &'static str {
    let module = MODULES.into_iter().find(|path| Path::new(path).exists());
    module.expect("SoftHSM2 is not installed: run `apt-get install softhsm2`")
}

/// A token of SoftHSM2, in a directory of its own. A process whose environment names its configuration in `SOFTHSM2_CONF` can use it.
#[derive(Debug)]
pub struct SoftToken {
    /// Of the one who made it.
    directory: Option<TempDir>,
    configuration: PathBuf,
    module: &'static str,
}

impl SoftToken {
    /// The one that this process was started with.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn made() -> Self {
        let configuration = std::env::var_os("SOFTHSM2_CONF").expect("is set");
        Self {
            directory: None,
            configuration: configuration.into(),
            module: module(),
        }
    }

    /// Makes one.
    ///
    /// # Panics
    /// SoftHSM2 is not installed.
    #[must_use]
    pub fn make(label: &str) -> Self {
        let module = module();
        let directory = tempfile::tempdir().expect("a directory");
        let tokens = directory.path().join("tokens");
        std::fs::create_dir(&tokens).expect("a directory");
        let configuration = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            tokens.display()
        );
        let file = directory.path().join("conf");
        std::fs::write(&file, configuration).expect("a file");
        let token = Self {
            directory: Some(directory),
            configuration: file,
            module,
        };
        let arguments = [
            "--init-token",
            "--free",
            "--label",
            label,
            "--so-pin",
            "0000",
            "--pin",
            PIN,
        ];
        let status = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", token.configuration())
            .status();
        assert!(
            status.is_ok_and(|status| status.success()),
            "softhsm2-util fails"
        );
        token
    }

    /// The file that `SOFTHSM2_CONF` is to name.
    #[must_use]
    pub fn configuration(&self) -> &Path {
        &self.configuration
    }

    /// Whether this process made it, and takes it away.
    #[must_use]
    pub fn is_own(&self) -> bool {
        self.directory.is_some()
    }

    /// The library.
    #[must_use]
    pub fn module(&self) -> &'static str {
        self.module
    }

    /// The PIN.
    #[must_use]
    pub fn pin(&self) -> &'static str {
        PIN
    }
}
