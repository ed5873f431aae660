//! Latencies in fixed memory: log-linear buckets, so that a quantile is at most 0.8 % off its true value.

use std::time::Duration;

/// Counts durations from 0 ns to 18 minutes with a relative error of at most 1/128; longer ones count as the longest.
#[derive(Clone)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
    max_ns: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS].into_boxed_slice(),
            total: 0,
            max_ns: 0,
        }
    }

    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        let ns = u64::try_from(duration.as_nanos())
            .unwrap_or(u64::MAX)
            .min(NS_MAX);
        self.counts[bucket(ns)] += 1;
        self.total += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// How many durations were counted.
    pub(crate) fn count(&self) -> u64 {
        self.total
    }

    /// The longest duration, exactly.
    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// The smallest duration that at least the share `quantile` (0 to 1) of all does not exceed; zero when empty.
    pub(crate) fn quantile(&self, quantile: f64) -> Duration {
        assert!(
            (0.0..=1.0).contains(&quantile),
            "a quantile is a share of the whole"
        );
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let rank = ((self.total as f64 * quantile).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                // The upper edge of the bucket, but never beyond what was really seen.
                return Duration::from_nanos(upper_edge(index).min(self.max_ns));
            }
        }
        Duration::ZERO
    }
}

/// Values below `LINEAR` have a bucket each; above, every power of two is cut into `HALF` equal buckets.
fn bucket(ns: u64) -> usize {
    let scale = ns.max(LINEAR).ilog2() - LINEAR_BITS + u32::from(ns >= LINEAR);
    let offset = usize::try_from(ns >> scale).expect("a mantissa is below LINEAR");
    scale as usize * HALF + offset
}

/// The largest value of the bucket `index`.
fn upper_edge(index: usize) -> u64 {
    let scale = (index / HALF).saturating_sub(1);
    let offset = (index - scale * HALF) as u64;
    ((offset + 1) << scale) - 1
}

const LINEAR_BITS: u32 = 8;
const LINEAR: u64 = 1 << LINEAR_BITS;
const HALF: usize = 1 << (LINEAR_BITS - 1);
const NS_BITS: u32 = 40;
const NS_MAX: u64 = (1 << NS_BITS) - 1;
const BUCKETS: usize = (NS_BITS - LINEAR_BITS + 2) as usize * HALF;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{BUCKETS, Histogram, LINEAR, NS_MAX, bucket, upper_edge};
    use crate::random::Random;

    fn exact(sorted: &[u64], quantile: f64) -> u64 {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let rank = (sorted.len() as f64 * quantile).ceil() as usize;
        sorted[rank.max(1) - 1]
    }

    #[test]
    fn quantiles_agree_with_an_exact_sort_within_one_bucket() {
        let mut random = Random::new(7);
        let mut histogram = Histogram::new();
        // Durations of every magnitude, from nanoseconds to minutes.
        let mut all: Vec<u64> = (0..100_000)
            .map(|_| random.next() >> (24 + random.below(40)))
            .collect();
        for ns in &all {
            histogram.record(Duration::from_nanos(*ns));
        }
        all.sort_unstable();
        for quantile in [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (measured, truth) = (histogram.quantile(quantile), exact(&all, quantile));
            let measured = u64::try_from(measured.as_nanos()).expect("fits, as all values do");
            assert!(
                measured >= truth,
                "quantile {quantile}: {measured} is below {truth}"
            );
            assert!(
                measured - truth <= truth / 128,
                "quantile {quantile}: {measured} is not near {truth}"
            );
        }
        assert_eq!(histogram.total, 100_000);
        assert_eq!(u128::from(all[99_999]), histogram.max().as_nanos());
    }

    #[test]
    fn every_bucket_ends_where_the_next_begins() {
        for index in 0..BUCKETS - 1 {
            let edge = upper_edge(index);
            assert_eq!(bucket(edge), index, "upper edge {edge}");
            assert_eq!(bucket(edge + 1), index + 1, "one above {edge}");
        }
        assert_eq!(bucket(NS_MAX), BUCKETS - 1);
        assert_eq!(bucket(LINEAR - 1) + 1, bucket(LINEAR));
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::new().quantile(0.99), Duration::ZERO);
    }

    #[test]
    fn durations_beyond_the_range_count_as_the_longest() {
        let mut histogram = Histogram::new();
        histogram.record(Duration::from_secs(100_000));
        assert_eq!(histogram.quantile(0.5), Duration::from_nanos(NS_MAX));
    }
}
