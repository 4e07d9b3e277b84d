//! A process of a bench's cluster, and what it has used.

use holdfast_types::{ByteCount, ErrorCode, Fault};
use std::path::{Path, PathBuf};

use super::broken;
use crate::demo::ChildNode;

/// Where a process listens until it has told its address.
pub(super) const ANY_PORT: &str = "127.0.0.1:0";
/// Ticks of a second in `/proc/<pid>/stat`: what Linux shows to programs, whatever its own timer is.
const TICKS_PER_SECOND: f64 = 100.0;

/// A child process of this binary. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    name: String,
    directory: PathBuf,
    arguments: Vec<String>,
    address: String,
    child: ChildNode,
}

/// What a process has used since it started.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// The most memory that was resident at once.
    pub(super) peak: ByteCount,
    /// Of all its threads, in user and kernel mode.
    pub(super) cpu_seconds: f64,
}

impl Process {
    /// Starts one, and waits until it says that it has.
    pub(super) async fn start(
        name: &str,
        directory: &Path,
        arguments: &[&str],
    ) -> Result<Self, Fault> {
        let mut arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let (child, address) = ChildNode::start(name, directory, &arguments).await?;
        // Should it be started again, it is found where it was.
        for argument in &mut arguments {
            if argument == ANY_PORT {
                argument.clone_from(&address);
            }
        }
        Ok(Self {
            name: name.to_owned(),
            directory: directory.to_owned(),
            arguments,
            address,
            child,
        })
    }

    /// Where it listens; empty if it does not.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// `kill -9`, and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        self.child.kill();
        self.child.gone().await;
    }

    /// Starts it again after it was killed, at the same address.
    pub(super) async fn restart(&mut self) -> Result<(), Fault> {
        let (child, _) = ChildNode::start(&self.name, &self.directory, &self.arguments).await?;
        self.child = child;
        Ok(())
    }

    /// What it has used so far.
    pub(super) fn usage(&self) -> Result<Usage, Fault> {
        let id = self
            .child
            .id()
            .ok_or_else(|| Fault::new(ErrorCode::Internal, format!("{} has ended", self.name)))?;
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{id}/{file}"))
                .map_err(|error| broken("read what a process uses", &error))
        };
        usage_of(&read("status")?, &read("stat")?).ok_or_else(|| {
            Fault::new(
                ErrorCode::Unsupported,
                "this system does not say what a process uses",
            )
        })
    }
}

/// Reads `/proc/<pid>/status` and `/proc/<pid>/stat`.
fn usage_of(status: &str, stat: &str) -> Option<Usage> {
    let peak: u64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?
        .split_whitespace()
        .next()?
        .parse()
        .ok()?;
    // The name of the program is in parentheses and may contain anything; the 14th and 15th fields are the times.
    let mut fields = stat.rsplit_once(") ")?.1.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    let cpu_seconds = (ticks()? + ticks()?) / TICKS_PER_SECOND;
    Some(Usage {
        peak: ByteCount(peak * 1024),
        cpu_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_whatever_the_program_is_called() {
        let status = "Name:\tx\nVmPeak:\t 9 kB\nVmHWM:\t  2048 kB\n";
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let usage = usage_of(status, stat).expect("is read");
        assert_eq!(usage.peak, ByteCount(2 << 20));
        assert!((usage.cpu_seconds - 2.0).abs() < 1e-9);
        assert!(usage_of("Name:\tx\n", stat).is_none());
    }
}
