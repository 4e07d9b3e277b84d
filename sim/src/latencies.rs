//! How long things took, in simulated time.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::Duration;

/// The longest time that is told apart from longer ones: an hour.
const MOST_MILLIS: u64 = 3_600_000;

/// A histogram for each kind of thing, in milliseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Latencies(BTreeMap<&'static str, Histogram<u64>>);

impl Latencies {
    /// Something took so long.
    pub(crate) fn add(&mut self, what: &'static str, time: Duration) {
        let histogram = self.0.entry(what).or_insert_with(|| {
            Histogram::new_with_bounds(1, MOST_MILLIS, 3).expect("the bounds are in order")
        });
        let millis = u64::try_from(time.as_millis()).unwrap_or(MOST_MILLIS);
        histogram.saturating_record(millis.clamp(1, MOST_MILLIS));
    }

    /// Adds those of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (what, histogram) in &other.0 {
            match self.0.get_mut(what) {
                Some(known) => known.add(histogram).expect("the same bounds"),
                None => drop(self.0.insert(what, histogram.clone())),
            }
        }
    }

    /// For each kind: how many there were, and the median, the 99th percentile and the longest, in milliseconds.
    pub(crate) fn rows(&self) -> Vec<(&'static str, u64, [u64; 3])> {
        self.0
            .iter()
            .map(|(what, histogram)| {
                let at = |quantile| histogram.value_at_quantile(quantile);
                (*what, histogram.len(), [at(0.5), at(0.99), histogram.max()])
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_kind() {
        let mut latencies = Latencies::default();
        for millis in 1..=100 {
            latencies.add("job", Duration::from_millis(millis));
        }
        latencies.add("failover", Duration::from_secs(7_200));
        let mut all = Latencies::default();
        all.merge(&latencies);
        all.merge(&latencies);
        assert_eq!(all.rows()[1].1, 200);
        assert_eq!(
            latencies.rows(),
            [
                ("failover", 1, [3_600_383, 3_600_383, 3_600_383]),
                ("job", 100, [50, 99, 100])
            ]
        );
    }
}
