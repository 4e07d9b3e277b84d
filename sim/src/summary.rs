//! What runs amounted to, for people and for programs.

use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

use crate::world::Report;

/// What one run amounted to.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Summary {
    seed: u64,
    simulated_seconds: f64,
    cpu_seconds: f64,
    events: u64,
    trace: String,
    marks: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
    /// Count, median, 99th percentile and maximum in milliseconds of simulated time.
    latencies: BTreeMap<String, [u64; 4]>,
}

fn owned<T: Copy>(map: &BTreeMap<&'static str, T>) -> BTreeMap<String, T> {
    map.iter()
        .map(|(key, value)| ((*key).to_owned(), *value))
        .collect()
}

fn listed(map: &BTreeMap<String, u64>) -> String {
    let words = map.iter().filter(|(_, count)| **count > 0);
    let words: Vec<_> = words
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    words.join(", ")
}

/// CPU seconds that this thread has used; zero where the system does not say.
fn cpu_seconds() -> f64 {
    let nanos = std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanos.unwrap_or_default() / 1e9
}

impl Summary {
    /// Of a run that went well. Called on the world's thread.
    pub(crate) fn new(seed: u64, run: &Report, events: u64, hash: u64) -> Self {
        Self {
            seed,
            simulated_seconds: run.elapsed.as_secs_f64(),
            cpu_seconds: cpu_seconds(),
            events,
            trace: format!("{hash:016x}"),
            marks: owned(&run.marks),
            faults: owned(&run.faults),
            latencies: run
                .latencies
                .rows()
                .into_iter()
                .map(|(what, count, [half, most, longest])| {
                    (what.to_owned(), [count, half, most, longest])
                })
                .collect(),
        }
    }

    /// As one line of JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// From a line of JSON.
    pub(crate) fn from_json(line: &str) -> Option<Self> {
        serde_json::from_str(line).ok()
    }

    /// All of it that is the same whenever the seed is run.
    pub(crate) fn simulated(&self) -> String {
        let latencies: Vec<_> = self
            .latencies
            .iter()
            .map(|(what, [count, half, most, longest])| {
                format!("{what} {half}/{most}/{longest} ms of {count}")
            })
            .collect();
        format!(
            "seed {}: ok, {:.1} s simulated, {} events, trace {}; {}; faults: {}; latencies: {}",
            self.seed,
            self.simulated_seconds,
            self.events,
            self.trace,
            listed(&self.marks),
            listed(&self.faults),
            latencies.join(", ")
        )
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {:.1} s of CPU", self.simulated(), self.cpu_seconds)
    }
}

/// What many runs amounted to.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    runs: u64,
    simulated_seconds: f64,
    cpu_seconds: f64,
    marks: BTreeMap<String, u64>,
    faults: BTreeMap<String, u64>,
}

impl Totals {
    /// Adds a run.
    pub(crate) fn add(&mut self, run: &Summary) {
        self.runs += 1;
        self.simulated_seconds += run.simulated_seconds;
        self.cpu_seconds += run.cpu_seconds;
        for (total, part) in [
            (&mut self.marks, &run.marks),
            (&mut self.faults, &run.faults),
        ] {
            for (what, count) in part {
                *total.entry(what.clone()).or_default() += count;
            }
        }
    }

    /// Marks that no run reached.
    fn missed(&self) -> Vec<&str> {
        let never = self.marks.iter().filter(|(_, count)| **count == 0);
        never.map(|(mark, _)| mark.as_str()).collect()
    }

    /// As one line of JSON.
    pub(crate) fn json(&self, real_seconds: f64) -> String {
        json!({
            "runs": self.runs,
            "simulated_seconds": self.simulated_seconds,
            "cpu_seconds": self.cpu_seconds,
            "real_seconds": real_seconds,
            "marks": self.marks,
            "faults": self.faults,
            "never": self.missed(),
        })
        .to_string()
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs went well, {:.0} s simulated in {:.0} s of CPU ({:.1} a second); {}; faults: {}",
            self.runs,
            self.simulated_seconds,
            self.cpu_seconds,
            self.simulated_seconds / self.cpu_seconds.max(0.001),
            listed(&self.marks),
            listed(&self.faults)
        )?;
        match self.missed() {
            missed if missed.is_empty() => Ok(()),
            missed => write!(f, "; never: {}", missed.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latencies::Latencies;
    use std::time::Duration;

    #[test]
    fn what_a_process_says_is_read_by_the_one_that_started_it() {
        let run = Report {
            elapsed: Duration::from_secs(9),
            marks: BTreeMap::from([("backups", 2), ("hold lost", 0)]),
            faults: BTreeMap::from([("crash", 1)]),
            latencies: Latencies::default(),
        };
        let summary = Summary::new(5, &run, 10, 0xab);
        let read = Summary::from_json(&summary.json()).expect("its own line");
        assert_eq!(read.simulated(), summary.simulated());
        let mut totals = Totals::default();
        totals.add(&read);
        totals.add(&read);
        assert_eq!(totals.marks["backups"], 4);
        assert_eq!(totals.missed(), ["hold lost"]);
    }
}
