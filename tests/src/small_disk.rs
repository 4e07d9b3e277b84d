//! A file system that can be filled up.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A tmpfs of its own. Dropping it unmounts it.
#[derive(Debug)]
pub struct SmallDisk {
    directory: TempDir,
    size: usize,
}

impl SmallDisk {
    /// Mounts one of this many bytes; `None` where mounting is not permitted.
    ///
    /// # Panics
    /// There is no temporary directory.
    #[must_use]
    pub fn mount(size: usize) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .status();
        status
            .is_ok_and(|status| status.success())
            .then_some(Self { directory, size })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes space away until so many bytes are left.
    ///
    /// # Panics
    /// The disk fails otherwise than by being full.
    pub fn fill_up_to(&self, left: usize) {
        let mut ballast = File::create(self.ballast()).expect("a file");
        let block = vec![0; 64 << 10];
        let mut written = 0;
        while written < self.size {
            match ballast.write(&block) {
                Ok(length) => written += length,
                Err(error) if error.kind() == std::io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        let keep = written.saturating_sub(left);
        ballast.set_len(keep as u64).expect("a shorter file");
    }

    /// Gives the space back.
    ///
    /// # Panics
    /// The disk fails.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("the ballast goes");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still have a file open. What cannot be unmounted is a leftover, not a failure.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}
