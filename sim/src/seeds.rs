//! Many seeds, each in a process of its own: tokio's task ids and random seeds follow counters of the process, so that only a fresh one
//! gives the same run again.

use std::collections::VecDeque;
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::mutant::Mutant;
use crate::outcome::Failure;

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

struct Running {
    seed: u64,
    child: Child,
    started: Instant,
}

/// Runs seeds, `jobs` at once; stops at the first failure, whose output is shown. Gives the number of seeds that were run.
pub(crate) fn run(
    seeds: impl IntoIterator<Item = u64>,
    jobs: usize,
    mutant: Option<Mutant>,
) -> Result<usize, (u64, u8)> {
    let mut waiting: VecDeque<u64> = seeds.into_iter().collect();
    let count = waiting.len();
    let mut running: Vec<Running> = Vec::new();
    while !(waiting.is_empty() && running.is_empty()) {
        while running.len() < jobs.max(1)
            && let Some(seed) = waiting.pop_front()
        {
            match spawn(seed, mutant) {
                Ok(child) => running.push(Running {
                    seed,
                    child,
                    started: Instant::now(),
                }),
                Err(error) => {
                    eprintln!("cannot start a child process: {error}");
                    return Err((seed, Failure::harness("").exit_code()));
                }
            }
        }
        std::thread::sleep(POLL_INTERVAL);
        let mut index = 0;
        while index < running.len() {
            match finished(&mut running[index], mutant.is_some()) {
                None => index += 1,
                Some(0) => drop(running.swap_remove(index)),
                Some(code) => {
                    let failed = running.swap_remove(index).seed;
                    for mut other in running {
                        let _ = other.child.kill();
                        let _ = other.child.wait();
                    }
                    return Err((failed, code));
                }
            }
        }
    }
    Ok(count)
}

fn spawn(seed: u64, mutant: Option<Mutant>) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["run", "--seed", &seed.to_string()])
        .args(mutant.map(|mutant| format!("--mutant={}", mutant.name())))
        .stdout(Stdio::piped())
        .stderr(if mutant.is_some() {
            Stdio::null()
        } else {
            Stdio::inherit()
        })
        .spawn()
}

/// The exit code of a child that has ended, or was ended because it took too long. Its report is shown, shortly if all was well: a
/// run without trace says a few lines, which a pipe holds.
fn finished(running: &mut Running, quiet: bool) -> Option<u8> {
    let harness = Failure::harness("").exit_code();
    match running.child.try_wait() {
        Ok(None) if running.started.elapsed() < MOST_TIME => return None,
        Ok(None) => {
            let _ = running.child.kill();
            let _ = running.child.wait();
            eprintln!(
                "seed {} takes more than {MOST_TIME:?}: wedged",
                running.seed
            );
            return Some(harness);
        }
        Ok(Some(_)) => {}
        Err(error) => {
            eprintln!("seed {}: {error}", running.seed);
            return Some(harness);
        }
    }
    let mut report = String::new();
    if let Some(mut stdout) = running.child.stdout.take() {
        let _ = stdout.read_to_string(&mut report);
    }
    let status = running.child.wait().ok()?;
    if status.success() {
        println!("{}", report.lines().last().unwrap_or_default());
        Some(0)
    } else {
        if !quiet {
            println!("{report}");
        }
        Some(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(2),
        )
    }
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
