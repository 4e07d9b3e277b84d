//! What the leader knows of jobs beyond the ledger: how fast they go, and what keeps failing. Volatile: a new leader starts with
//! a blank page.

use holdfast_types::{Fault, JobId};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Over how long a rate is taken.
const RATE_WINDOW: Duration = Duration::from_secs(10);
/// The shortest stretch that a rate is computed from: anything shorter is noise.
const SHORTEST_STRETCH: Duration = Duration::from_millis(500);
/// Samples kept per job: the window at four samples a second, with room.
const MAX_SAMPLES: usize = 64;

/// How far a job was at some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// On the monotonic clock.
    pub(crate) at: Duration,
    /// Bytes read.
    pub(crate) bytes: u64,
    /// Weight done, in estimated bytes.
    pub(crate) weight: u64,
}

/// How fast a job goes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Rate {
    /// Bytes a second.
    pub(crate) bytes: f64,
    /// Weight a second.
    pub(crate) weight: f64,
}

#[derive(Debug, Default)]
struct JobNotes {
    samples: VecDeque<Sample>,
    /// Effects that fail at present, by name, with what they fail with.
    troubles: BTreeMap<&'static str, Fault>,
}

/// All notes.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<BTreeMap<JobId, JobNotes>>);

impl Notes {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<JobId, JobNotes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a sample.
    pub(crate) fn sample(&self, job: JobId, sample: Sample) {
        let mut notes = self.lock();
        let samples = &mut notes.entry(job).or_default().samples;
        samples.push_back(sample);
        while samples.len() > MAX_SAMPLES
            || samples
                .front()
                .is_some_and(|first| sample.at.saturating_sub(first.at) > RATE_WINDOW)
        {
            samples.pop_front();
        }
    }

    /// Forgets every job that is not in the list: they no longer move.
    pub(crate) fn retain(&self, jobs: &BTreeSet<JobId>) {
        self.lock().retain(|job, _| jobs.contains(job));
    }

    /// How fast a job went over the last while; zero if it did not move, or if too little is known.
    pub(crate) fn rate(&self, job: JobId, now: Duration) -> Rate {
        let notes = self.lock();
        let Some(samples) = notes.get(&job).map(|notes| &notes.samples) else {
            return Rate::default();
        };
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
            return Rate::default();
        };
        let stretch = now.saturating_sub(first.at);
        if stretch < SHORTEST_STRETCH {
            return Rate::default();
        }
        let per_second =
            |from: u64, to: u64| to.saturating_sub(from) as f64 / stretch.as_secs_f64();
        Rate {
            bytes: per_second(first.bytes, last.bytes),
            weight: per_second(first.weight, last.weight),
        }
    }

    /// An effect of a job failed and will be tried again.
    pub(crate) fn trouble(&self, job: JobId, effect: &'static str, fault: Fault) {
        let mut notes = self.lock();
        notes.entry(job).or_default().troubles.insert(effect, fault);
    }

    /// An effect of a job works again.
    pub(crate) fn settled(&self, job: JobId, effect: &'static str) {
        if let Some(notes) = self.lock().get_mut(&job) {
            notes.troubles.remove(effect);
        }
    }

    /// What keeps failing for a job, as lines for people.
    pub(crate) fn troubles(&self, job: JobId) -> Vec<String> {
        let notes = self.lock();
        let Some(notes) = notes.get(&job) else {
            return Vec::new();
        };
        notes
            .troubles
            .iter()
            .map(|(effect, fault)| format!("{effect}: {fault}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_types::ErrorCode;

    fn sample(seconds: u64, bytes: u64) -> Sample {
        Sample {
            at: Duration::from_secs(seconds),
            bytes,
            weight: bytes * 2,
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_while() {
        let notes = Notes::default();
        let job = JobId(1);
        assert_eq!(notes.rate(job, Duration::ZERO), Rate::default());
        for second in 0..30 {
            let bytes = if second < 15 { 0 } else { (second - 15) * 100 };
            notes.sample(job, sample(second, bytes));
        }
        let rate = notes.rate(job, Duration::from_secs(29));
        assert!((rate.bytes - 100.0).abs() < 1.0, "{rate:?}");
        assert!((rate.weight - 200.0).abs() < 2.0, "{rate:?}");
    }

    #[test]
    fn a_job_that_stands_still_slows_down() {
        let notes = Notes::default();
        let job = JobId(1);
        notes.sample(job, sample(0, 0));
        notes.sample(job, sample(1, 1000));
        let soon = notes.rate(job, Duration::from_secs(2)).bytes;
        let late = notes.rate(job, Duration::from_secs(9)).bytes;
        assert!(soon > late && late > 0.0);
    }

    #[test]
    fn troubles_are_shown_until_they_are_settled() {
        let notes = Notes::default();
        let job = JobId(1);
        let fault = Fault::new(ErrorCode::Unavailable, "the store is down");
        notes.trouble(job, "writing the manifest", fault);
        assert_eq!(
            notes.troubles(job),
            ["writing the manifest: the store is down"]
        );
        notes.settled(job, "writing the manifest");
        assert!(notes.troubles(job).is_empty());
    }
}
