//! What the log has done, counted for the metrics page and for the line the server logs when it stops.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Counters written by the log's thread and read by any other.
#[derive(Debug, Default)]
pub struct LogStats {
    batches: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    sync: Histogram,
}

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    /// One more than the bounds: the last counts what is above all of them.
    counts: [AtomicU64; BUCKET_BOUNDS_MICROS.len() + 1],
    sum_nanos: AtomicU64,
    max_nanos: AtomicU64,
}

impl LogStats {
    /// Batches written, each with one write and at most one sync.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    /// Records written.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes written, with framing and padding, without the zeros prepared beforehand.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// How long the syncs of batches took.
    pub fn sync(&self) -> &Histogram {
        &self.sync
    }

    pub(super) fn batch_written(&self, records: u32, bytes: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records
            .fetch_add(u64::from(records), Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn synced(&self, took: Duration) {
        self.sync.observe(took);
    }
}

impl Histogram {
    /// The number of durations at or below each of [`BUCKET_BOUNDS_MICROS`], then the number of all.
    pub fn cumulative(&self) -> [u64; BUCKET_BOUNDS_MICROS.len() + 1] {
        let mut sum = 0;
        std::array::from_fn(|bucket| {
            sum += self.counts[bucket].load(Ordering::Relaxed);
            sum
        })
    }

    /// The sum of all durations.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed))
    }

    /// The longest duration, exactly; zero when there was none.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos.load(Ordering::Relaxed))
    }

    /// A bound that at least `per_mille` thousandths of the durations do not exceed: that of a bucket, or the longest
    /// duration where that is less. Zero when there was none.
    pub fn quantile_bound(&self, per_mille: u32) -> Duration {
        assert!(per_mille <= 1000, "a part is no more than the whole");
        let cumulative = self.cumulative();
        let all = u128::from(cumulative[BUCKET_BOUNDS_MICROS.len()]);
        let wanted = (all * u128::from(per_mille)).div_ceil(1000);
        let bucket = cumulative.partition_point(|&count| u128::from(count) < wanted);
        BUCKET_BOUNDS_MICROS
            .get(bucket)
            .map_or(self.max(), |&bound| {
                Duration::from_micros(bound).min(self.max())
            })
    }

    fn observe(&self, took: Duration) {
        let bucket =
            BUCKET_BOUNDS_MICROS.partition_point(|&bound| Duration::from_micros(bound) < took);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
        self.max_nanos.fetch_max(nanos, Ordering::Relaxed);
    }
}

/// The buckets from a millisecond on are those of etcd's disk metrics, so that its alert rules work; below them are
/// three more, where a good disk is.
pub const BUCKET_BOUNDS_MICROS: [u64; 17] = [
    125, 250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000,
    1_024_000, 2_048_000, 4_096_000, 8_192_000,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_bucket_whose_bound_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [125, 126, 9_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative[..3], [1, 2, 2]);
        assert_eq!(cumulative[16..], [2, 3]);
        assert_eq!(histogram.sum(), Duration::from_micros(9_000_251));
    }
    #[test]
    fn a_quantile_is_bounded_by_its_bucket_and_by_the_longest_duration() {
        let histogram = Histogram::default();
        assert_eq!(histogram.quantile_bound(999), Duration::ZERO);
        for _ in 0..998 {
            histogram.observe(Duration::from_micros(200));
        }
        histogram.observe(Duration::from_micros(5_000));
        histogram.observe(Duration::from_micros(9_000_000));
        assert_eq!(histogram.quantile_bound(500), Duration::from_micros(250));
        assert_eq!(histogram.quantile_bound(998), Duration::from_micros(250));
        assert_eq!(histogram.quantile_bound(999), Duration::from_micros(8_000));
        assert_eq!(histogram.quantile_bound(1000), Duration::from_secs(9));
        assert_eq!(histogram.max(), Duration::from_secs(9));
    }

    #[test]
    fn no_quantile_exceeds_the_longest_duration() {
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(300));
        assert_eq!(histogram.quantile_bound(990), Duration::from_micros(300));
    }
}
