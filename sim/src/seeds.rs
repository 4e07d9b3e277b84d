//! Many seeds, each in a process of its own: tokio's task ids and random seeds follow counters of the process, so that only a fresh one
//! gives the same run again.

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::outcome::Failure;
use crate::summary::Summary;
use crate::variant::Variant;

/// Real time that one seed may take before it is taken for wedged: many times what the slowest takes in a debug build.
const MOST_TIME: Duration = Duration::from_secs(900);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A range of seeds: `7` or `1..=500`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeedRange {
    /// The first.
    pub(crate) first: u64,
    /// The last.
    pub(crate) last: u64,
}

impl FromStr for SeedRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            text.parse::<u64>()
                .map_err(|error| format!("\"{text}\" is no seed: {error}"))
        };
        let (first, last) = match text.split_once("..=") {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        if first > last {
            return Err(format!("{first}..={last} is empty"));
        }
        Ok(Self { first, last })
    }
}

/// One run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// Its seed.
    pub(crate) seed: u64,
    /// What it is beside that.
    pub(crate) variant: Variant,
}

impl Order {
    /// A seed as it is.
    pub(crate) fn plain(seed: u64) -> Self {
        Self {
            seed,
            variant: Variant::PLAIN,
        }
    }

    /// The command that does it again.
    pub(crate) fn reproduction(self) -> String {
        let words = [
            "cargo xtask sim run --seed".to_owned(),
            self.seed.to_string(),
        ];
        let words: Vec<_> = words
            .into_iter()
            .chain(self.variant.arguments())
            .chain(["--trace".to_owned()])
            .collect();
        words.join(" ")
    }
}

struct Running {
    order: Order,
    child: Child,
    started: Instant,
}

/// Runs seeds, `jobs` at once. What went well is told as it ends. Stops at the first failure, whose output is shown, or goes on; gives the
/// failures with their exit codes.
pub(crate) fn run(
    orders: Vec<Order>,
    jobs: usize,
    keep_going: bool,
    well: &mut dyn FnMut(&Summary),
) -> Vec<(Order, u8)> {
    let mut waiting = VecDeque::from(orders);
    let mut running: Vec<Running> = Vec::new();
    let mut failed = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < jobs.max(1)
            && let Some(order) = waiting.pop_front()
        {
            match spawn(order) {
                Ok(child) => running.push(Running {
                    order,
                    child,
                    started: Instant::now(),
                }),
                Err(error) => {
                    eprintln!("cannot start a child process: {error}");
                    failed.push((order, Failure::harness("").exit_code()));
                    return failed;
                }
            }
        }
        std::thread::sleep(POLL_INTERVAL);
        let mut index = 0;
        while index < running.len() {
            match finished(&mut running[index]) {
                None => index += 1,
                Some(Ok(summary)) => {
                    well(&summary);
                    running.swap_remove(index);
                }
                Some(Err(code)) => {
                    failed.push((running.swap_remove(index).order, code));
                    if !keep_going {
                        for mut other in running {
                            let _ = other.child.kill();
                            let _ = other.child.wait();
                        }
                        return failed;
                    }
                }
            }
        }
    }
    failed
}

fn spawn(order: Order) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["run", "--json", "--seed", &order.seed.to_string()])
        .args(order.variant.arguments())
        .stdout(Stdio::piped())
        .stderr(match order.variant.mutant {
            Some(_) => Stdio::null(),
            None => Stdio::inherit(),
        })
        .spawn()
}

/// What a child that has ended said, or the exit code of one that failed, or was ended because it took too long. A run without trace says
/// one line, which a pipe holds.
fn finished(running: &mut Running) -> Option<Result<Summary, u8>> {
    let harness = Failure::harness("").exit_code();
    let seed = running.order.seed;
    match running.child.try_wait() {
        Ok(None) if running.started.elapsed() < MOST_TIME => return None,
        Ok(None) => {
            let _ = running.child.kill();
            let _ = running.child.wait();
            eprintln!("seed {seed} takes more than {MOST_TIME:?}: wedged");
            return Some(Err(harness));
        }
        Ok(Some(_)) => {}
        Err(error) => {
            eprintln!("seed {seed}: {error}");
            return Some(Err(harness));
        }
    }
    let mut report = String::new();
    if let Some(mut stdout) = running.child.stdout.take() {
        let _ = stdout.read_to_string(&mut report);
    }
    let status = running.child.wait().ok()?;
    if !status.success() {
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        return Some(Err(code.unwrap_or(2)));
    }
    let line = report.lines().last().unwrap_or_default();
    Some(Summary::from_json(line).ok_or_else(|| {
        eprintln!("seed {seed} ended well, and said \"{line}\"");
        harness
    }))
}

/// The seeds of a file: one a line, anything after it is a remark.
pub(crate) fn in_file(text: &str) -> Result<Vec<u64>, Failure> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let seed = line.split_whitespace().next().unwrap_or_default();
            seed.parse()
                .map_err(|_| Failure::Harness(format!("\"{seed}\" is no seed")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_inclusive() {
        assert_eq!("3".parse(), Ok(SeedRange { first: 3, last: 3 }));
        assert_eq!("1..=9".parse(), Ok(SeedRange { first: 1, last: 9 }));
        assert!("9..=1".parse::<SeedRange>().is_err());
        assert!("x".parse::<SeedRange>().is_err());
    }

    #[test]
    fn files_name_seeds_with_remarks() {
        assert_eq!(in_file("# why\n\n7 lost answer\n9\n"), Ok(vec![7, 9]));
        assert!(in_file("seven\n").is_err());
    }
}
