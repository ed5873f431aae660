//! What a phase showed: its puts in order of latency, beside what the log waited for the disk.

use std::{fmt::Write, time::Duration};

use metastore::disk::log_stats::BUCKET_BOUNDS_MICROS;
use serde_json::Value;

use crate::open_loop::Put;

/// A time in which something went on, since the origin of the phase.
pub(crate) type Window = (Duration, Duration);

/// One phase.
pub(crate) struct Findings {
    name: &'static str,
    /// How long that which is named went on.
    busy: Duration,
    checkpoints: usize,
    /// Those that were due while it went on, quickest first.
    puts: Vec<Put>,
    syncs: Syncs,
}

/// What the log thread's counters said when the server stopped.
struct Syncs {
    batches: u64,
    p50: Duration,
    p99: Duration,
    max: Duration,
}

impl Findings {
    /// `stderr` is all that the server of this phase has said until its end.
    pub(crate) fn of(
        name: &'static str,
        windows: &[Window],
        mut puts: Vec<Put>,
        stderr: &str,
    ) -> Self {
        puts.retain(|put| {
            windows
                .iter()
                .any(|(begin, end)| put.due + put.latency >= *begin && put.due <= *end)
        });
        puts.sort_unstable_by_key(|put| put.latency);
        Self {
            name,
            busy: windows.iter().map(|(begin, end)| *end - *begin).sum(),
            checkpoints: stderr.matches(CHECKPOINT_LINE).count(),
            puts,
            syncs: Syncs::in_log(stderr),
        }
    }

    /// What went on.
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Checkpoints written in the life of the server of this phase.
    pub(crate) fn checkpoints(&self) -> usize {
        self.checkpoints
    }

    /// How far the puts at this quantile exceed the slowest fdatasync.
    pub(crate) fn beyond_the_disk(&self, per_mille: usize) -> Duration {
        self.quantile(per_mille).saturating_sub(self.syncs.max)
    }

    pub(crate) fn busy(&self) -> Duration {
        self.busy
    }

    fn quantile(&self, per_mille: usize) -> Duration {
        let rank = (self.puts.len() * per_mille).div_ceil(1000);
        assert!(rank > 0, "{}: no put fell into it", self.name);
        self.puts[rank - 1].latency
    }

    fn row(&self) -> String {
        let latest = self.puts.iter().map(|put| put.sent_late).max();
        let syncs = &self.syncs;
        format!(
            "| {} | {:.1} s | {} | {} | {} | {} | {} | {} | {} | {} | ≤ {} | ≤ {} | {} | {} | {} |",
            self.name,
            self.busy.as_secs_f64(),
            self.checkpoints,
            self.puts.len(),
            millis(self.quantile(500)),
            millis(self.quantile(990)),
            millis(self.quantile(999)),
            millis(self.quantile(1000)),
            millis(latest.unwrap_or_default()),
            syncs.batches,
            millis(syncs.p50),
            millis(syncs.p99),
            millis(syncs.max),
            millis(self.beyond_the_disk(999)),
            millis(self.beyond_the_disk(1000)),
        )
    }

    /// Puts in each of the buckets the server uses for its syncs.
    fn counts(&self) -> Vec<usize> {
        let below = |micros| {
            self.puts
                .partition_point(|put| put.latency <= Duration::from_micros(micros))
        };
        let mut before = 0;
        BUCKET_BOUNDS_MICROS
            .iter()
            .map(|bound| below(*bound))
            .chain([self.puts.len()])
            .map(|upto| upto - std::mem::replace(&mut before, upto))
            .collect()
    }

    fn slowest(&self) -> String {
        let mut text = format!("{}:", self.name);
        for put in self.puts.iter().rev().take(SLOWEST_SHOWN) {
            let (due, late) = (put.due.as_secs_f64(), millis(put.sent_late));
            write!(
                text,
                " {} (due at {due:.3} s, sent {late} late);",
                millis(put.latency)
            )
            .expect("a string takes everything");
        }
        text
    }
}

impl Syncs {
    fn in_log(stderr: &str) -> Self {
        let line = stderr
            .lines()
            .rfind(|line| line.contains(WRITTEN_LINE))
            .expect("the server says at its end what its log did");
        let line: Value = serde_json::from_str(line).expect("a line of JSON");
        let number = |field: &str| {
            line[field]
                .as_u64()
                .unwrap_or_else(|| panic!("{field} is a number in {line}"))
        };
        Self {
            batches: number("batches"),
            p50: Duration::from_micros(number("sync_p50_us")),
            p99: Duration::from_micros(number("sync_p99_us")),
            max: Duration::from_micros(number("sync_max_us")),
        }
    }
}

/// Three parts in Markdown: quantiles, histogram, the slowest. Times are in milliseconds where no unit is named.
pub(crate) fn report(phases: &[Findings]) -> String {
    let mut lines = vec![QUANTILES_HEAD.to_owned()];
    lines.extend(phases.iter().map(Findings::row));
    let names: Vec<_> = phases.iter().map(|phase| phase.name).collect();
    lines.push(format!("\n| puts up to, ms | {} |", names.join(" | ")));
    lines.push(format!("|---|{}", "---|".repeat(phases.len())));
    let counts: Vec<_> = phases.iter().map(Findings::counts).collect();
    for bucket in 0..=BUCKET_BOUNDS_MICROS.len() {
        let of_each: Vec<_> = counts.iter().map(|c| c[bucket].to_string()).collect();
        if of_each.iter().all(|count| count == "0") {
            continue;
        }
        let bound = BUCKET_BOUNDS_MICROS.get(bucket);
        let bound = bound.map_or("more".to_owned(), |b| millis(Duration::from_micros(*b)));
        lines.push(format!("| {bound} | {} |", of_each.join(" | ")));
    }
    lines.push("\nThe slowest puts:".to_owned());
    lines.extend(phases.iter().map(|phase| format!("- {}", phase.slowest())));
    lines.join("\n")
}

fn millis(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e3)
}

const QUANTILES_HEAD: &str = "\
| while | for | checkpoints | puts | p50 | p99 | p99.9 | max | sent late, max | batches | fdatasync p50 | p99 | max | put p99.9 − fdatasync max | put max − fdatasync max |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";
const CHECKPOINT_LINE: &str = "wrote a checkpoint";
const WRITTEN_LINE: &str = r#""log written""#;
const SLOWEST_SHOWN: usize = 8;
