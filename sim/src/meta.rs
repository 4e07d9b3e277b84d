//! The test of the simulator's own foundation: two processes with one seed give the same trace, line by line. Without it no seed
//! means anything, so CI runs it first.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::outcome::Failure;

/// How many equal lines before a difference are shown.
const CONTEXT: usize = 10;

/// Runs a seed twice and compares; the number of lines if they are the same.
pub(crate) fn run(seed: u64) -> Result<u64, Failure> {
    let mut first = spawn(seed)?;
    let mut second = spawn(seed)?;
    let result = compare(&mut first, &mut second);
    for child in [&mut first, &mut second] {
        // After a difference they still run; after none they have ended.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

fn spawn(seed: u64) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(Failure::harness)?;
    Command::new(program)
        .args(["run", "--trace", "--seed", &seed.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(Failure::harness)
}

fn compare(first: &mut Child, second: &mut Child) -> Result<u64, Failure> {
    let mut readers = [first, second].map(|child| child.stdout.take().map(BufReader::new));
    let [Some(left), Some(right)] = &mut readers else {
        return Err(Failure::harness("a child has no stdout"));
    };
    let mut lines = 0;
    let mut context: Vec<String> = Vec::new();
    loop {
        let (mut one, mut two) = (String::new(), String::new());
        left.read_line(&mut one).map_err(Failure::harness)?;
        right.read_line(&mut two).map_err(Failure::harness)?;
        if one != two {
            return Err(Failure::Harness(format!(
                "two runs differ after {lines} equal lines\n{}  first:  {}\n  second: {}",
                context.concat(),
                one.trim_end(),
                two.trim_end()
            )));
        }
        if one.is_empty() {
            return Ok(lines);
        }
        lines += 1;
        if context.len() == CONTEXT {
            context.remove(0);
        }
        context.push(format!("          {one}"));
    }
}
