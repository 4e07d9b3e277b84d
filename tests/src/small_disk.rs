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
    /// Mounts one of each size, in bytes. `None` where mounting is not permitted, and the test that needs it may be left out: that is
    /// so on a developer's machine only.
    ///
    /// # Panics
    /// Mounting is not permitted and `CI` is set: there, what is not tested has failed. There is no temporary directory.
    #[must_use]
    pub fn mount_all<const N: usize>(sizes: [usize; N]) -> Option<[Self; N]> {
        let mut disks = Vec::new();
        for size in sizes {
            match Self::mount(size) {
                Ok(disk) => disks.push(disk),
                Err(refusal) => {
                    left_out(&refusal, std::env::var_os("CI").is_some());
                    return None;
                }
            }
        }
        disks.try_into().ok()
    }

    /// Mounts one of this many bytes; the error is what `mount` says.
    fn mount(size: usize) -> Result<Self, String> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(directory.path())
            .output()
            .map_err(|error| format!("mount cannot be run: {error}"))?;
        if output.status.success() {
            Ok(Self { directory, size })
        } else {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(said.trim().to_owned())
        }
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

/// Says that a test is left out, or fails it where nothing may be.
fn left_out(refusal: &str, in_ci: bool) {
    let needs = "this test mounts small tmpfs file systems: it needs root with CAP_SYS_ADMIN (a container must be started with \
                 `--cap-add SYS_ADMIN`, or `--privileged`)";
    assert!(!in_ci, "not tested: {refusal}; {needs}");
    eprintln!("not tested: {refusal}; {needs}");
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a process that is just ending may still have a file open. What cannot be unmounted is a leftover, not a failure.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_developer_may_do_without_mounting() {
        left_out("permission denied", false);
    }

    #[test]
    #[should_panic(
        expected = "permission denied; this test mounts small tmpfs file systems: it needs root with CAP_SYS_ADMIN"
    )]
    fn ci_may_not() {
        left_out("permission denied", true);
    }
}
