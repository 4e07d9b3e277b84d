//! Repeated measurements, and what they come to.

use holdfast_types::Fault;
use serde::Serialize;

/// One measurement.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sample {
    pub(super) seconds: f64,
    pub(super) client_cpu: Option<f64>,
    /// Unknown if the server is on another machine.
    pub(super) server_cpu: Option<f64>,
    /// Bytes that were left on disk.
    pub(super) stored: Option<u64>,
    /// Bytes of memory that this binary had resident at once.
    pub(super) peak: Option<u64>,
}

impl Sample {
    pub(super) fn stored(&self) -> Option<f64> {
        self.stored.map(|bytes| bytes as f64)
    }

    pub(super) fn server(&self) -> Option<f64> {
        self.server_cpu
    }

    pub(super) fn wall(&self) -> Option<f64> {
        Some(self.seconds)
    }
}

/// The measurements of one way to do something, one of each round.
#[derive(Debug, Clone, Default)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) samples: Vec<Sample>,
}

/// What a series comes to: medians.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) seconds: f64,
    pub(super) client_cpu_seconds: Option<f64>,
    pub(super) server_cpu_seconds: Option<f64>,
    pub(super) stored_bytes: Option<u64>,
    pub(super) peak_bytes: Option<u64>,
}

impl Series {
    pub(super) fn median(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(self.samples.iter().filter_map(of))
    }

    pub(super) fn line(&self) -> Line {
        let bytes = |of: fn(&Sample) -> Option<u64>| {
            let bytes = self.median(|sample| of(sample).map(|bytes| bytes as f64));
            bytes.map(|bytes| bytes as u64)
        };
        Line {
            name: self.name.clone(),
            seconds: self.median(Sample::wall).unwrap_or_default(),
            client_cpu_seconds: self.median(|sample| sample.client_cpu),
            server_cpu_seconds: self.median(Sample::server),
            stored_bytes: bytes(|sample| sample.stored),
            peak_bytes: bytes(|sample| sample.peak),
        }
    }

    /// How many times what the other took this took: the median of the rounds', so that what slowed a whole round slows both.
    pub(super) fn against(&self, other: &Self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        let pairs = self.samples.iter().zip(&other.samples);
        let ratios = pairs.filter_map(|(own, other)| Some(of(own)? / of(other)?));
        median(ratios.filter(|ratio| ratio.is_finite()))
    }
}

/// The middle one, or the mean of the two in the middle.
pub(super) fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(*upper);
    }
    Some(f64::midpoint(*values.get(middle.checked_sub(1)?)?, *upper))
}

/// How a figure grows with the data: 0 if it stays, 1 if it grows as the data does.
pub(super) fn slope(small: f64, large: f64, growth: f64) -> Option<f64> {
    let slope = (large / small - 1.0) / (growth - 1.0);
    slope.is_finite().then_some(slope)
}

/// Measures each of several ways once a round, beginning with another one in each, so that none is always the first.
pub(super) async fn interleave(
    rounds: u32,
    names: Vec<String>,
    measure: impl AsyncFn(usize) -> Result<Sample, Fault>,
) -> Result<Vec<Series>, Fault> {
    let mut series: Vec<Series> = names
        .into_iter()
        .map(|name| Series {
            name,
            samples: Vec::new(),
        })
        .collect();
    for round in 0..rounds as usize {
        let count = series.len();
        for index in (0..count).map(|index| (index + round) % count) {
            let sample = measure(index).await?;
            if let Some(series) = series.get_mut(index) {
                series.samples.push(sample);
            }
        }
    }
    Ok(series)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(seconds: &[f64]) -> Series {
        let sample = |seconds: &f64| Sample {
            seconds: *seconds,
            stored: Some((seconds * 10.0) as u64),
            ..Sample::default()
        };
        Series {
            name: "x".to_owned(),
            samples: seconds.iter().map(sample).collect(),
        }
    }

    #[test]
    fn medians_are_the_middle() {
        assert_eq!(median([]), None);
        assert_eq!(median([3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_round_that_was_slow_for_both_counts_no_more_than_others() {
        let (ours, theirs) = (series(&[1.0, 30.0, 1.2]), series(&[2.0, 60.0, 2.0]));
        assert_eq!(ours.against(&theirs, Sample::wall), Some(0.5));
        assert_eq!(ours.against(&theirs, Sample::server), None);
        assert_eq!(ours.against(&series(&[0.0, 0.0, 0.0]), Sample::wall), None);
        assert_eq!(ours.line().stored_bytes, Some(12));
        assert_eq!(ours.line().peak_bytes, None);
    }

    #[test]
    fn slopes_say_whether_it_grows_with_the_data() {
        assert_eq!(slope(2.0, 2.0, 4.0), Some(0.0));
        assert_eq!(slope(2.0, 8.0, 4.0), Some(1.0));
        assert_eq!(slope(0.0, 8.0, 4.0), None);
    }

    #[tokio::test]
    async fn nobody_is_always_the_first() {
        let order = std::cell::RefCell::new(Vec::new());
        let names = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let measured = interleave(2, names, async |index| {
            order.borrow_mut().push(index);
            Ok(Sample::default())
        });
        let measured = measured.await.expect("nothing fails");
        assert_eq!(order.into_inner(), [0, 1, 2, 1, 2, 0]);
        assert!(measured.iter().all(|series| series.samples.len() == 2));
    }
}
